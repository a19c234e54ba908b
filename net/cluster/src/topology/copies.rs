//! Who holds one range.

use arrayvec::ArrayVec;

use crate::{NodeId, Term};

/// Most replicas of a range.
pub const REPLICAS_MAX: u8 = 3;

/// Most copies of a range: its primary and its replicas; and most learners beside them.
pub const COPIES_MAX: usize = REPLICAS_MAX as usize + 1;

/// Nodes that hold a range in one role.
pub type CopyList = ArrayVec<NodeId, COPIES_MAX>;

/// The copies of one range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The one that executes writes, and whose order counts.
    pub primary: NodeId,
    /// Complete copies.
    pub replicas: CopyList,
    /// Copies that are being filled: they follow the primary, but may not take over before they are
    /// complete.
    pub learners: CopyList,
    /// The epoch in which the primary became it.
    pub term: Term,
}

impl Copies {
    /// One copy, that of `primary`.
    #[must_use]
    pub fn alone(primary: NodeId, term: Term) -> Self {
        Self {
            primary,
            replicas: CopyList::new(),
            learners: CopyList::new(),
            term,
        }
    }

    /// All nodes that hold or are to hold it, the primary first.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        let others = self.replicas.iter().chain(&self.learners);
        std::iter::once(self.primary).chain(others.copied())
    }

    /// The nodes that follow the primary.
    pub fn followers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.replicas.iter().chain(&self.learners).copied()
    }

    /// Whether `node` holds a copy in any role.
    #[must_use]
    pub fn is_held_by(&self, node: NodeId) -> bool {
        self.nodes().any(|holder| holder == node)
    }

    /// Whether no node holds two.
    pub(super) fn are_distinct(&self) -> bool {
        let is_again = |(position, node)| self.nodes().take(position).any(|other| other == node);
        !self.nodes().enumerate().any(is_again)
    }
}
