//! What a coordinator asks of its node.

use std::sync::Arc;

use super::Saved;
use crate::decision::Ballot;
use crate::message::{Envelope, HandOver};
use crate::{NodeId, Range, Seq, Term, Topology};

/// Something to do. In the order in which they are polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send over the stream to this node; if there is none, drop it.
    Send {
        /// The target.
        to: NodeId,
        /// What to send.
        envelope: Envelope,
    },
    /// Send to the join target with this index, a `Hello`. What comes back tells who it is.
    Hello {
        /// Index of the address.
        target: u16,
        /// What to send.
        envelope: Envelope,
    },
    /// Send a heartbeat as a datagram.
    Datagram {
        /// The target.
        to: NodeId,
        /// The envelope's bytes.
        bytes: Vec<u8>,
    },
    /// Write this to disk, then call `handle_persisted`. A later one replaces an earlier one.
    Persist {
        /// To be given back.
        serial: u64,
        /// What to keep.
        saved: Saved,
    },
    /// Act on this topology. It ends seals and holds; writes that were held are executed or forwarded.
    /// If it names another incarnation of this node or none, this node holds nothing.
    Install(Arc<Topology>),
    /// Apply and acknowledge nothing more of what these nodes sent, until the next `Install`; then
    /// call `handle_sealed` with the positions of this node's copies of `ranges`.
    Seal {
        /// To be given back.
        serial: u64,
        /// All that are sealed now; perhaps none, if only positions are asked for.
        nodes: Vec<NodeId>,
        /// The ranges whose positions are wanted.
        ranges: Vec<Range>,
    },
    /// Hold the writes of these ranges, of which this node is the primary, and call `handle_held` once
    /// their next primaries have everything.
    Hold {
        /// To be given back.
        ballot: Ballot,
        /// The ranges.
        hand_overs: Vec<HandOver>,
    },
    /// Execute what was held: there is no hand-over.
    Release,
    /// The cluster let this node go: everything it held is elsewhere. It may stop.
    Left,
}

/// How far a copy is, as a core knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPosition {
    /// The range.
    pub range: Range,
    /// The term of the last decided primary that it is a copy of; 0 if it started empty in a branch.
    pub term: Term,
    /// The last write that it has; once a branch is void, the last before it.
    pub seq: Seq,
    /// Whether it is a whole copy.
    pub is_complete: bool,
}

/// Whether this node may execute commands on ranges that its installed topology gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It is not a member, or not with this incarnation: it only forwards.
    Outside,
    /// It may have slept or been cut off: not before a quorum answered.
    Unconfirmed,
    /// A member with a quorum behind it.
    Decided,
    /// A member of a branch: it executes, but WAIT answers 0.
    Provisional,
    /// It is in the minority and told to refuse: reads of what it holds, no writes.
    Refused,
}

impl Serving {
    /// Whether writes may be executed.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Decided | Self::Provisional)
    }
}

/// Numbers of what happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Decisions of this node that removed or replaced a member that had died.
    pub elections: u64,
    /// Ranges that such decisions started with a part of their items or none.
    pub lost_ranges: u64,
    /// Branches that this node lived in and that were given up.
    pub divergences: u64,
    /// Attempts of this node that others prevented.
    pub abandoned_attempts: u64,
    /// Hand-overs of primaryships that did not come about in time.
    pub aborted_hand_overs: u64,
}
