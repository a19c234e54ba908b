//! What nodes say to each other about the topology.
//!
//! Every message travels in an [`Envelope`] that names the sender's and the target's incarnation and
//! the newest decided topology that the sender knows, so that a receiver can tell what is meant for
//! a life that is over, who is behind, and who is ahead. Heartbeats are datagrams; everything else
//! goes over a stream, may be lost with it, and is sent again until it has done its work.
//!
//! | message | from, to | answer |
//! |---|---|---|
//! | `Heartbeat` | every member to every member | `Heartbeat`, at once if asked for |
//! | `Hello` | a node that wants to be a member | `HelloReply` |
//! | `FetchTopology` | who is behind, to who is ahead | `TopologyIs` |
//! | `Prepare` | proposer to members | `Promise`, `Nack`, `Alive`, `TopologyIs` |
//! | `Accept` | proposer to members | `Accepted`, `Nack`, `TopologyIs` |
//! | `Commit` | proposer to old and new members | - |
//! | `Complete`, `Leave` | a member to the most senior ones | - |
//! | `Steer`, `Claim` | a member to all | - |
//! | `HoldWrites` | proposer to a primary | `HandOverReady` |
//! | `ReleaseWrites` | proposer to a primary | - |
//! | `Gather` | founder of a branch to its side | `Gathered` |
//! | `BranchIs`, `AdoptedIs` | founder of a branch to its side | - |

mod codec;
mod envelope;
#[cfg(test)]
mod tests;

use std::num::NonZeroU16;
use std::sync::Arc;

use crate::decision::Ballot;
use crate::topology::{MEMBERS_MAX, TOPOLOGY_BYTES_MAX};
use crate::{
    Epoch, Incarnation, Member, NodeId, RANGES_COUNT, Range, RangeSet, Seq, Term, Topology,
};

pub use codec::MessageError;
pub use envelope::{Envelope, HEARTBEAT_BYTES_MAX};

/// Most bytes of an encoded envelope: a promise with an accepted topology and a position in every
/// range.
pub const ENVELOPE_BYTES_MAX: usize =
    256 + TOPOLOGY_BYTES_MAX + RANGES_COUNT as usize * POSITION_BYTES + MEMBERS_MAX * 24;

/// Bytes of an encoded [`Position`].
const POSITION_BYTES: usize = 2 + 8 + 8 + 1;

/// The sender's clock in milliseconds, echoed as it came. It means nothing to whoever echoes it; to
/// the sender it tells that the way there and back was open after that time.
pub type Nonce = u64;

/// Sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// To be echoed.
    pub nonce: Nonce,
    /// The newest nonce that came from the target's incarnation, 0 for none.
    pub echo: Nonce,
    /// Whether the sender can't wait for the target's next heartbeat.
    pub is_asking: bool,
    /// Whether a quorum has answered the sender lately.
    pub has_quorum: bool,
}

/// A member that a proposal is to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accused {
    /// Its name.
    pub id: NodeId,
    /// The start that is thought dead.
    pub incarnation: Incarnation,
    /// A later start of it that was heard, which proves it.
    pub reborn: Option<Incarnation>,
}

/// How far a holder's copy of a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The range.
    pub range: Range,
    /// The term of the last decided primary that it is a copy of; 0 if it started empty in a branch.
    pub term: Term,
    /// The last write that it has; once a branch is void, the last before it.
    pub seq: Seq,
    /// Whether it is a whole copy, not one that is being filled.
    pub is_complete: bool,
    /// Whether the holder is the range's primary in a branch.
    pub is_branch_primary: bool,
}

/// A primaryship that is to be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The range.
    pub range: Range,
    /// Its next primary.
    pub to: NodeId,
}

/// A copy that its holder found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The range.
    pub range: Range,
    /// The term of the primary that it was filled from.
    pub term: Term,
}

/// How ranges are to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Not at all: what is being filled goes on, nothing new begins.
    pub is_paused: bool,
    /// Copies that a node fills at a time, other than by default.
    pub learners_per_node_max: Option<NonZeroU16>,
}

/// What an operator asked of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steering {
    /// Counts what was asked, in the cluster: the highest is the newest.
    pub count: u64,
    /// The node that was asked. Among equal counts the higher one is taken for the newer.
    pub by: NodeId,
    /// How.
    pub moves: Moves,
}

/// A message; topologies are shared, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Sign of life, the only datagram.
    Heartbeat(Heartbeat),
    /// "I am this, and want to be a member."
    Hello {
        /// Who it is.
        member: Member,
        /// Ranges that it had copies of when it was a member before: they are cheap to fill.
        bases: Box<RangeSet>,
    },
    /// "I heard you, and know this decided topology", or none.
    HelloReply(Option<Arc<Topology>>),
    /// "Send me the decided topology that your envelope names."
    FetchTopology,
    /// A decided topology, for one who is behind.
    TopologyIs(Arc<Topology>),
    /// First phase of a decision about the epoch that follows the envelope's.
    Prepare {
        /// The attempt.
        ballot: Ballot,
        /// Members that are thought dead.
        accused: Vec<Accused>,
    },
    /// "I take part in nothing below this ballot, and nothing from the accused any more."
    Promise {
        /// The attempt that is promised.
        ballot: Ballot,
        /// What this acceptor accepted last.
        accepted: Option<(Ballot, Arc<Topology>)>,
        /// Its copies of the ranges whose primary is accused.
        positions: Vec<Position>,
    },
    /// "I promised a higher one."
    Nack {
        /// The attempt that is refused.
        ballot: Ballot,
        /// The one that was promised.
        promised: Ballot,
    },
    /// "I hear one whom you accuse."
    Alive {
        /// The attempt that is refused.
        ballot: Ballot,
        /// Who was heard.
        node: NodeId,
        /// How long ago, in ms.
        heard_ms_ago: u16,
    },
    /// Second phase.
    Accept {
        /// The attempt.
        ballot: Ballot,
        /// The topology of the next epoch.
        topology: Arc<Topology>,
    },
    /// "Accepted, and on my disk."
    Accepted {
        /// The attempt.
        ballot: Ballot,
    },
    /// The decided topology.
    Commit(Arc<Topology>),
    /// "These copies of mine are whole."
    Complete(Vec<Completion>),
    /// "I want to stop. Hand over what I have."
    Leave,
    /// "An operator wants moves so."
    Steer(Steering),
    /// "Make me the primary of the ranges that I have replicas of."
    Claim,
    /// "Hold the writes of these ranges, until their next primaries have everything."
    HoldWrites {
        /// The attempt that is to hand them over.
        ballot: Ballot,
        /// The ranges.
        hand_overs: Vec<HandOver>,
    },
    /// "Their next primaries have everything, and writes are held."
    HandOverReady {
        /// The attempt.
        ballot: Ballot,
        /// The ranges.
        ranges: Vec<Range>,
    },
    /// "Nothing will be proposed."
    ReleaseWrites {
        /// The attempt that is given up.
        ballot: Ballot,
    },
    /// "No quorum answers me. What do you have of the ranges of those whom I can't hear?"
    Gather {
        /// Counts the sender's branches from this epoch.
        count: u64,
        /// Whom it can't hear.
        silent: Vec<NodeId>,
    },
    /// The answer of one who has no quorum either.
    Gathered {
        /// As it was asked for.
        count: u64,
        /// Its copies of their ranges.
        positions: Vec<Position>,
    },
    /// A branch, dictated by its founder.
    BranchIs(Arc<Topology>),
    /// A branch that an operator made a cluster of its own.
    AdoptedIs {
        /// The epoch that the branch grew from.
        base: Epoch,
        /// The decided topology of the new cluster.
        topology: Arc<Topology>,
    },
}
