//! The copies of a topology by the ranks of their nodes.

use arrayvec::ArrayVec;

use crate::topology::COPIES_MAX;
use crate::{Copies, NodeId, Topology};

use super::Rank;

/// Most copies of a range, complete ones and learners.
const HELD_MAX: usize = 1 + 2 * COPIES_MAX;

/// All nodes of a range.
pub(super) type AllHeld = ArrayVec<Rank, HELD_MAX>;

/// The copies of a range that are there or on the way.
pub(super) struct Held {
    pub(super) primary: Rank,
    pub(super) replicas: ArrayVec<Rank, COPIES_MAX>,
    pub(super) learners: ArrayVec<Rank, COPIES_MAX>,
}

impl Held {
    /// Those of every range, by range.
    pub(super) fn all_of(topology: &Topology) -> Vec<Self> {
        let members = topology.members().iter().zip(0..);
        let mut ids: Vec<(NodeId, Rank)> =
            members.map(|(member, rank)| (member.id, rank)).collect();
        ids.sort_unstable();
        let rank = |id: NodeId| {
            let found = ids.binary_search_by_key(&id, |&(id, _)| id);
            ids[found.expect("a copy's node is a member")].1
        };
        let held = |copies: &Copies| Self {
            primary: rank(copies.primary),
            replicas: copies.replicas.iter().map(|&id| rank(id)).collect(),
            learners: copies.learners.iter().map(|&id| rank(id)).collect(),
        };
        topology.ranges().map(|(_, copies)| held(copies)).collect()
    }

    /// The nodes with complete copies, the primary first.
    pub(super) fn complete(&self) -> impl Iterator<Item = Rank> + '_ {
        std::iter::once(self.primary).chain(self.replicas.iter().copied())
    }

    /// All nodes, the primary first.
    pub(super) fn all(&self) -> AllHeld {
        self.complete()
            .chain(self.learners.iter().copied())
            .collect()
    }
}
