//! One step from the table of a topology to its target.
//!
//! A copy moves by: learner added -> complete, made a replica -> primaryship handed over, if it is to
//! be the primary -> the copy that it replaces dropped. Each arrow is a step, and the steps of
//! different ranges go together.
//!
//! # Invariants
//! 1. A range never has fewer complete copies than before, except above the number that is wanted.
//! 2. Only a complete copy becomes the primary.
//! 3. A range has one primary change at a time, and a learner is dropped only if the target doesn't
//!    have it.

use std::collections::HashMap;

use crate::topology::{COPIES_MAX, CopyList};
use crate::{Copies, NodeId, Range, Topology};

use super::target;

/// Most learners that a node has at a time, by default.
pub const LEARNERS_PER_NODE_MAX: usize = 128;
/// Most ranges that change their primary in one step, by default: their writes are held meanwhile.
pub const HANDOVERS_PER_STEP_MAX: usize = 128;

/// How much one step may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most learners that a receiving node has at a time, at least 1.
    pub learners_per_node_max: usize,
    /// Most ranges that change their primary, at least 1.
    pub handovers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            learners_per_node_max: LEARNERS_PER_NODE_MAX,
            handovers_max: HANDOVERS_PER_STEP_MAX,
        }
    }
}

/// The table of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// By range.
    pub table: Vec<Copies>,
    /// The ranges whose primary changes, by rising index: before this is decided, the writes of each
    /// are held and its next primary catches up.
    pub handovers: Vec<Range>,
}

/// The next table on the way to the target, or `None` if nothing can be done now: the target is
/// reached, or copies are not complete yet. `is_complete` tells of a learner whether its copy is.
#[must_use]
pub fn next_table(
    topology: &Topology,
    is_complete: &dyn Fn(Range, NodeId) -> bool,
    limits: Limits,
) -> Option<Step> {
    let wanted = target(topology);
    let mut handovers = Vec::new();
    let mut table = Vec::with_capacity(wanted.len());
    for ((range, copies), wanted) in topology.ranges().zip(&wanted) {
        let can_hand_over = handovers.len() < limits.handovers_max;
        let is_complete = |node| is_complete(range, node);
        let next = settle(copies, wanted, is_complete, can_hand_over);
        if next.primary != copies.primary {
            handovers.push(range);
        }
        table.push(next);
    }
    add_learners(&mut table, &wanted, limits.learners_per_node_max);
    let mut ranges = topology.ranges().zip(&table);
    let is_changed = ranges.any(|((_, copies), next)| copies != next);
    is_changed.then_some(Step { table, handovers })
}

/// What can be done with the copies of one range that are there.
fn settle(
    copies: &Copies,
    wanted: &Copies,
    is_complete: impl Fn(NodeId) -> bool,
    can_hand_over: bool,
) -> Copies {
    let is_learner = |node: NodeId| copies.learners.contains(&node);
    let holds_all =
        |node: NodeId| copies.is_held_by(node) && (!is_learner(node) || is_complete(node));
    let is_handed_over =
        wanted.primary != copies.primary && can_hand_over && holds_all(wanted.primary);
    let (primary, term) = if is_handed_over {
        (wanted.primary, wanted.term)
    } else {
        (copies.primary, copies.term)
    };
    let mut replicas: CopyList = wanted
        .nodes()
        .filter(|&node| node != primary && holds_all(node))
        .collect();
    let copies_wanted = 1 + wanted.replicas.len();
    let others = copies
        .nodes()
        .filter(|&node| !is_learner(node) && node != primary);
    for node in others.filter(|&node| !wanted.is_held_by(node)) {
        if 1 + replicas.len() < copies_wanted {
            replicas.push(node);
        }
    }
    let learners = copies.learners.iter().copied();
    let next = Copies {
        primary,
        replicas,
        learners: learners
            .filter(|&node| wanted.is_held_by(node) && !holds_all(node))
            .collect(),
        term,
    };
    if next.is_same_as(copies) {
        copies.clone()
    } else {
        next
    }
}

/// Starts the copies that are wanted and not there, within the limit of each node.
fn add_learners(table: &mut [Copies], wanted: &[Copies], per_node_max: usize) {
    let mut counts: HashMap<NodeId, usize> = HashMap::new();
    for &learner in table.iter().flat_map(|copies| &copies.learners) {
        *counts.entry(learner).or_default() += 1;
    }
    for (copies, wanted) in table.iter_mut().zip(wanted) {
        for node in wanted
            .nodes()
            .filter(|&node| !copies.is_held_by(node))
            .collect::<CopyList>()
        {
            let count = counts.entry(node).or_default();
            if *count < per_node_max && copies.learners.len() < COPIES_MAX {
                copies.learners.push(node);
                *count += 1;
            }
        }
    }
}

impl Copies {
    /// Whether the same nodes have the same roles, in whatever order.
    fn is_same_as(&self, other: &Self) -> bool {
        let are_same = |one: &CopyList, two: &CopyList| {
            one.len() == two.len() && one.iter().all(|node| two.contains(node))
        };
        self.primary == other.primary
            && are_same(&self.replicas, &other.replicas)
            && are_same(&self.learners, &other.learners)
    }
}
