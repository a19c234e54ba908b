//! A simple placement for the simulation: by turns, quick to compute.

use fulmar_cluster::placement::{Limits, Step};
use fulmar_cluster::topology::{CopyList, REPLICAS_MAX};
use fulmar_cluster::{Copies, NodeId, RANGES_COUNT, Range, Topology};

/// Most hand-overs in one step: few, so that moves go on for a while.
const HANDOVERS_MAX: usize = 700;

/// Ranges go to the members in turn, ordered by name, in runs of 256.
pub(crate) fn by_turns(
    topology: &Topology,
    is_complete: &dyn Fn(Range, NodeId) -> bool,
    _limits: Limits,
) -> Option<Step> {
    let mut ids: Vec<NodeId> = topology.members().iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let count = (1 + usize::from(topology.replicas_wanted())).min(ids.len());
    let mut step = Step {
        table: Vec::with_capacity(RANGES_COUNT.into()),
        handovers: Vec::new(),
    };
    let mut is_changed = false;
    for (range, copies) in topology.ranges() {
        let turn = usize::from(range.index() / 256);
        let wanted = (0..count).map(|by| ids[(turn + by) % ids.len()]);
        let wanted: CopyList = wanted.collect();
        let next = settle(range, copies, &wanted, is_complete, &mut step.handovers);
        let next = Copies {
            term: if next.primary == copies.primary {
                copies.term
            } else {
                topology.epoch().next()
            },
            ..next
        };
        is_changed |= next != *copies;
        step.table.push(next);
    }
    is_changed.then_some(step)
}

fn settle(
    range: Range,
    copies: &Copies,
    wanted: &CopyList,
    is_complete: &dyn Fn(Range, NodeId) -> bool,
    handovers: &mut Vec<Range>,
) -> Copies {
    let mut next = copies.clone();
    for learner in copies.learners.clone() {
        if is_complete(range, learner) && wanted.contains(&learner) {
            if next.replicas.len() == usize::from(REPLICAS_MAX) {
                let surplus = next.replicas.iter().position(|node| !wanted.contains(node));
                next.replicas.remove(surplus.expect("one is not wanted"));
            }
            next.replicas.push(learner);
            next.learners.retain(|node| *node != learner);
        }
    }
    let has_all = wanted
        .iter()
        .all(|node| next.primary == *node || next.replicas.contains(node));
    if has_all {
        if next.primary != wanted[0] && handovers.len() < HANDOVERS_MAX {
            handovers.push(range);
            next.replicas.retain(|node| *node != wanted[0]);
            let before = std::mem::replace(&mut next.primary, wanted[0]);
            next.replicas.push(before);
        } else if next.primary == wanted[0] {
            next.replicas.retain(|node| wanted.contains(node));
        }
        next.learners.clear();
        return next;
    }
    next.learners.retain(|node| wanted.contains(node));
    for node in wanted {
        if !next.is_held_by(*node) && next.learners.len() < 4 {
            next.learners.push(*node);
        }
    }
    next
}
