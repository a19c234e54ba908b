//! The number of an attempt to decide.

use crate::{Incarnation, NodeId};

/// Orders attempts of one instance; no two are equal.
///
/// The incarnation is part of it because a proposer that restarts may not know which counters it
/// used: without it, two values could carry the same ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Higher than all that the proposer has seen.
    pub counter: u64,
    /// The proposer.
    pub id: NodeId,
    /// Its start.
    pub incarnation: Incarnation,
}

impl Ballot {
    /// Below every ballot that a proposer uses.
    pub const NONE: Self = Self {
        counter: 0,
        id: NodeId(0),
        incarnation: Incarnation(0),
    };
}
