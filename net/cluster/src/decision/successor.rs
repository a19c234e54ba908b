//! The topology that follows another: who is a member of it, and who takes over orphaned ranges.

use std::collections::BTreeMap;

use crate::message::Position;
use crate::topology::{COPIES_MAX, CopyList, MEMBERS_MAX};
use crate::{Copies, Epoch, Member, NodeId, RANGES_COUNT, Topology};

/// What is to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Members that are dropped.
    pub removed: Vec<NodeId>,
    /// Members that are back with a later incarnation: last in seniority, their copies being filled
    /// again.
    pub reborn: Vec<Member>,
    /// New members, last in seniority. Those beyond the bound of members are left out.
    pub joiners: Vec<Member>,
    /// The table to start from instead of the last one, for moves.
    pub table: Option<Vec<Copies>>,
}

/// A topology, and what it costs.
#[derive(Debug)]
pub struct Outcome {
    /// The next topology.
    pub topology: Topology,
    /// Ranges that start with a part of their items or none.
    pub lost_ranges: u32,
}

/// Builds the topology after `base`. `positions` are those of sealed holders.
///
/// The new primary of an orphaned range is the sealed holder with the greatest (complete, term, primary
/// in a branch, seq); among equals, the one with the fewest ranges. A copy that is being filled counts only if it is
/// filled from the last term. Without any, a holder that did not answer in time takes over with whatever it has;
/// without that, one that started empty in a branch (term 0). Else the range starts empty: on its reborn primary,
/// or on the member with the fewest ranges.
#[must_use]
pub fn successor<'a>(
    base: &Topology,
    change: &Change,
    positions: impl Iterator<Item = (NodeId, &'a Position)>,
) -> Outcome {
    let epoch = base.epoch().next();
    let members = next_members(base, change);
    let mut heirs = Heirs::new(&members, change, positions);
    let mut parts = base.to_parts();
    if let Some(table) = &change.table {
        parts.table.clone_from(table);
    }
    heirs.count_primaries(&parts.table);
    let mut lost_ranges = 0;
    for (index, copies) in parts.table.iter_mut().enumerate() {
        if heirs.is_unchanged(copies) {
            continue;
        }
        let (next, is_lost) = heirs.next_copies(index, copies, epoch);
        *copies = next;
        lost_ranges += u32::from(is_lost);
    }
    parts.epoch = epoch;
    parts.branch = None;
    parts.members = members;
    let topology = Topology::new(parts).expect("all copies are on members");
    Outcome {
        topology,
        lost_ranges,
    }
}

fn next_members(base: &Topology, change: &Change) -> Vec<Member> {
    let is_back = |id| change.reborn.iter().any(|member| member.id == id);
    let stays = |id: NodeId| !change.removed.contains(&id) && !is_back(id);
    let all = base.members().iter();
    let mut members: Vec<Member> = all.filter(|member| stays(member.id)).cloned().collect();
    members.extend(change.reborn.iter().cloned());
    for joiner in &change.joiners {
        let is_there = members.iter().any(|member| member.id == joiner.id);
        if !is_there && members.len() < MEMBERS_MAX {
            members.push(joiner.clone());
        }
    }
    members
}

/// Who can take over what.
struct Heirs {
    /// What members are: whether their copies are still there, and the number of their primaries.
    members: BTreeMap<NodeId, Heir>,
    /// The sealed holders' positions, by range.
    positions: Vec<Vec<(NodeId, Position)>>,
}

struct Heir {
    is_reborn: bool,
    primaries_count: u32,
}

impl Heirs {
    fn new<'a>(
        members: &[Member],
        change: &Change,
        positions: impl Iterator<Item = (NodeId, &'a Position)>,
    ) -> Self {
        let is_new = |id| {
            let new = change.reborn.iter().chain(&change.joiners);
            new.into_iter().any(|member| member.id == id)
        };
        let heir = |member: &Member| Heir {
            is_reborn: is_new(member.id),
            primaries_count: 0,
        };
        let mut heirs = Self {
            members: members.iter().map(|m| (m.id, heir(m))).collect(),
            positions: vec![Vec::new(); usize::from(RANGES_COUNT)],
        };
        for (node, position) in positions {
            if heirs.has_copies(node) {
                heirs.positions[usize::from(position.range.index())].push((node, *position));
            }
        }
        heirs
    }

    fn count_primaries(&mut self, table: &[Copies]) {
        for copies in table {
            if let Some(heir) = self.members.get_mut(&copies.primary) {
                heir.primaries_count += 1;
            }
        }
    }

    /// Whether a node is a member, and the same process as before.
    fn has_copies(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|heir| !heir.is_reborn)
    }

    fn is_unchanged(&self, copies: &Copies) -> bool {
        copies.nodes().all(|node| self.has_copies(node))
    }

    /// The copies of a range of which some are gone, and whether items are.
    fn next_copies(&mut self, index: usize, copies: &Copies, epoch: Epoch) -> (Copies, bool) {
        let (primary, is_lost) = if self.has_copies(copies.primary) {
            (copies.primary, false)
        } else {
            let (heir, is_lost) = self.heir(index, copies);
            if let Some(heir) = self.members.get_mut(&heir) {
                heir.primaries_count += 1;
            }
            (heir, is_lost)
        };
        let is_kept = copies.primary == primary && !is_lost;
        let replicas = copies.replicas.iter().copied();
        let others = copies
            .nodes()
            .filter(|node| self.members.contains_key(node));
        let replicas: CopyList = replicas
            .filter(|&node| node != primary && self.has_copies(node))
            .collect();
        let learners = others.filter(|node| *node != primary && !replicas.contains(node));
        let next = Copies {
            primary,
            learners: learners.take(COPIES_MAX).collect(),
            replicas,
            term: if is_kept { copies.term } else { epoch },
        };
        (next, is_lost)
    }

    /// The next primary of an orphaned range, and whether items are lost.
    fn heir(&self, index: usize, copies: &Copies) -> (NodeId, bool) {
        let sealed = self.positions[index].iter();
        let fewest = |node| std::cmp::Reverse((self.primaries_count(node), node));
        let best = sealed
            .filter(|(_, p)| p.is_complete || p.is_branch_primary || p.term == copies.term)
            .max_by_key(|(node, p)| {
                let rank = (p.is_complete, p.term, p.is_branch_primary, p.seq);
                (rank, fewest(*node))
            });
        let started_empty = |position: &Position| position.term == Epoch(0);
        if let Some((node, position)) = best.filter(|(_, position)| !started_empty(position)) {
            return (*node, !position.is_complete);
        }
        let mut silent = copies.replicas.iter().copied();
        if let Some(node) = silent.find(|&node| self.has_copies(node)) {
            return (node, false);
        }
        if let Some((node, _)) = best {
            return (*node, true);
        }
        if self.members.contains_key(&copies.primary) {
            return (copies.primary, true);
        }
        let all = self.members.keys().copied();
        let node = all.max_by_key(|&node| fewest(node));
        (node.expect("there is a member"), true)
    }

    fn primaries_count(&self, node: NodeId) -> u32 {
        self.members
            .get(&node)
            .map_or(u32::MAX, |heir| heir.primaries_count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Outcome, successor};
    use crate::decision::samples::{copies, member, topology_of};
    use crate::message::Position;
    use crate::{Epoch, Incarnation, Member, NodeId, Range, Seq, Topology};

    fn position(node: u64, term: u64, seq: u64, is_complete: bool) -> (NodeId, Position) {
        let position = Position {
            range: first(),
            term: Epoch(term),
            seq: Seq(seq),
            is_complete,
            is_branch_primary: false,
        };
        (NodeId(node), position)
    }

    fn first() -> Range {
        Range::from_index(0).expect("the first")
    }

    fn removing(base: &Topology, id: u64, positions: &[(NodeId, Position)]) -> Outcome {
        let change = Change {
            removed: vec![NodeId(id)],
            ..Change::default()
        };
        successor(base, &change, positions.iter().map(|(node, p)| (*node, p)))
    }

    #[test]
    fn the_most_complete_and_farthest_holder_takes_over() {
        let base = topology_of(5, &[1, 2, 3, 4], copies(1, &[2, 3], &[4], 4));
        let cases = [
            (vec![position(2, 4, 7, true), position(3, 4, 8, true)], 3),
            (vec![position(2, 4, 9, true), position(3, 3, 99, true)], 2),
            (vec![position(2, 4, 7, true), position(4, 4, 9, false)], 2),
            (vec![position(2, 4, 7, true)], 2),
            (vec![position(4, 4, 9, false)], 4),
        ];
        for (positions, heir) in cases {
            let outcome = removing(&base, 1, &positions);
            let copies = outcome.topology.copies(first());
            assert_eq!(copies.primary, NodeId(heir), "{positions:?}");
            assert_eq!(copies.term, Epoch(6));
            assert!(!copies.is_held_by(NodeId(1)));
            assert_eq!(outcome.lost_ranges, u32::from(heir == 4), "{positions:?}");
        }
    }

    #[test]
    fn a_branch_primary_goes_before_other_holders_of_its_term() {
        let base = topology_of(5, &[1, 2, 3], copies(1, &[2], &[], 4));
        let mut in_branch = position(3, 4, 1, true);
        in_branch.1.is_branch_primary = true;
        let outcome = removing(&base, 1, &[position(2, 4, 70, true), in_branch]);
        assert_eq!(outcome.topology.copies(first()).primary, NodeId(3));
        assert_eq!(outcome.topology.copies(first()).replicas[0], NodeId(2));
        // One that started empty does not, nor before one that may have it all.
        in_branch.1.term = Epoch(0);
        for positions in [&[position(2, 4, 70, true), in_branch][..], &[in_branch]] {
            let outcome = removing(&base, 1, positions);
            assert_eq!(outcome.topology.copies(first()).primary, NodeId(2));
        }
        let alone = topology_of(5, &[1, 2, 3], copies(1, &[], &[2], 4));
        let outcome = removing(&alone, 1, &[in_branch]);
        assert_eq!(outcome.topology.copies(first()).primary, NodeId(3));
        assert_eq!(outcome.lost_ranges, 2_048);
    }

    #[test]
    fn a_holder_that_did_not_answer_goes_before_an_empty_start() {
        let base = topology_of(5, &[1, 2, 3], copies(1, &[2], &[], 4));
        // What an old base of a copy has does not count.
        let outcome = removing(&base, 1, &[position(3, 2, 70, false)]);
        assert_eq!(outcome.topology.copies(first()).primary, NodeId(2));
        assert_eq!(outcome.lost_ranges, 0);
    }

    #[test]
    fn ranges_without_a_holder_are_spread_and_counted() {
        let base = topology_of(5, &[1, 2, 3], copies(1, &[], &[], 4));
        let outcome = removing(&base, 1, &[]);
        assert_eq!(outcome.lost_ranges, 2_048);
        let of_two = outcome.topology.ranges();
        let count = of_two
            .filter(|(_, copies)| copies.primary == NodeId(2))
            .count();
        assert_eq!(count, 1_024);
    }

    #[test]
    fn a_reborn_member_is_last_and_fills_its_copies_again() {
        let base = topology_of(5, &[1, 2, 3], copies(1, &[2], &[], 4));
        let mut back = member(1);
        back.incarnation = Incarnation(2);
        let change = Change {
            reborn: vec![back.clone()],
            joiners: vec![member(9)],
            ..Change::default()
        };
        let held = [position(2, 4, 7, true)];
        let outcome = successor(&base, &change, held.iter().map(|(node, p)| (*node, p)));
        let ids: Vec<u64> = outcome.topology.members().iter().map(|m| m.id.0).collect();
        assert_eq!(ids, [2, 3, 1, 9]);
        assert_eq!(outcome.topology.member(NodeId(1)), Some(&back));
        assert_eq!(*outcome.topology.copies(first()), copies(2, &[], &[1], 6));
    }

    #[test]
    fn when_all_are_reborn_ranges_stay_where_they_were() {
        let base = topology_of(5, &[1, 2], copies(1, &[2], &[], 4));
        let back = |id| Member {
            incarnation: Incarnation(2),
            ..member(id)
        };
        let change = Change {
            reborn: vec![back(1), back(2)],
            ..Change::default()
        };
        let outcome = successor(&base, &change, std::iter::empty());
        assert_eq!(*outcome.topology.copies(first()), copies(1, &[], &[2], 6));
        assert_eq!(outcome.lost_ranges, 2_048);
    }

    #[test]
    fn copies_of_living_primaries_keep_their_term() {
        let base = topology_of(5, &[1, 2, 3], copies(1, &[2, 3], &[], 4));
        let outcome = removing(&base, 3, &[]);
        assert_eq!(*outcome.topology.copies(first()), copies(1, &[2], &[], 4));
        assert_eq!(outcome.lost_ranges, 0);
    }
}
