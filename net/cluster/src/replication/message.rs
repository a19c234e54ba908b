//! What cores of different nodes tell each other about copies: plain data, borrowed.
//!
//! ```text
//! primary's core                                        follower's core
//!    Offer ------------------------------------------>     may rewind, may empty its copy
//!    <------------------------------------ Start, Fetch
//!    Follow, or SyncBegin .. SyncEnd ---------------->
//!    Set, Delete, Flush, Reached -------------------->
//!    <---------------------------------------------- Ack
//! ```
//! Entries travel in numbered batches of a session; a session is begun by the primary's core whenever
//! a connection is new, or when the follower asks for it ([`Control::Reset`]).

use crate::{Epoch, Incarnation, NodeId, Range, Seq, ShardIndex, Term};

use super::Fork;

/// A core of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteCore {
    /// The node.
    pub node: NodeId,
    /// The index of its shard.
    pub core: ShardIndex,
}

/// A core of one start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Which core.
    pub core: RemoteCore,
    /// Which start of its node.
    pub incarnation: Incarnation,
}

/// What a batch and a control message begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The newest topology that the sender acts on.
    pub epoch: Epoch,
    /// Who sends.
    pub from: Address,
    /// For whom it is meant.
    pub to: Address,
    /// The session, numbered by the primary's core, rising.
    pub session: u64,
    /// Of a batch: its number in the session, from 1. Of control messages: that of the last batch applied,
    /// which acknowledges it.
    pub number: u64,
    /// Of control messages: the number, in the session, of the group that they were told in, from 1. Of a
    /// batch: 0.
    pub group: u64,
}

/// One step of a range's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The range.
    pub range: Range,
    /// The term in which it is sent. Another one than the receiver's topology names is refused.
    pub term: Term,
    /// See [`EntryKind`]. Of a change: the range's last write when the value was read, which is the
    /// change's own write or a later one.
    pub seq: Seq,
    /// What it says.
    pub kind: EntryKind<'a>,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// The sender is the range's primary, and has come here by these forks, the oldest first. Asks
    /// for a [`Control::Start`].
    Offer {
        /// At most `FORKS_MAX`.
        history: &'a [Fork],
    },
    /// The changes after `seq` follow, as `Start` asked.
    Follow,
    /// The log does not reach back to what `Start` asked for: empty the copy, and start from nothing.
    Resync,
    /// A full sync begins; `seq` is the last write before it.
    SyncBegin {
        /// Names this sync, to go on with it in another session.
        sync: u64,
        /// As in `Offer`.
        history: &'a [Fork],
    },
    /// All items that were there are sent, and all changes up to `seq`.
    SyncEnd,
    /// A key's value.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value, piece by piece; at most `SET_PARTS_MAX`, together `SET_BYTES_MAX`.
        value: &'a [&'a [u8]],
        /// Milliseconds that it has left, if it expires.
        ttl_ms: Option<u64>,
    },
    /// A long value begins. Its parts come in order, in this and later batches, perhaps with entries of
    /// other keys in between. One at a time in a session.
    ValueBegin {
        /// The key.
        key: &'a [u8],
        /// Its length.
        value_bytes: u64,
        /// Milliseconds that it has left, if it expires.
        ttl_ms: Option<u64>,
    },
    /// The next bytes of the long value; at most `PART_BYTES_MAX`.
    ValuePart {
        /// The bytes; not empty.
        bytes: &'a [u8],
    },
    /// The long value is complete.
    ValueEnd,
    /// The long value changed: forget what came of it.
    ValueAbort,
    /// The key is not there.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// The whole range was emptied.
    Flush,
    /// The key was read at its primary. Part of no position: what was not told is lost.
    Touch {
        /// The key.
        key: &'a [u8],
    },
    /// All writes up to `seq` are sent: what a follower acknowledges and holds as its position.
    Reached,
    /// All keys asked for with [`Control::Fetch`] up to the last [`Control::FetchEnd`] are sent.
    Fetched,
}

/// What a follower's core says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// Positions that were reached. The header's number alone is an acknowledgement, too.
    Ack {
        /// At most `ACK_POSITIONS_MAX`; only those that changed.
        positions: &'a [CopyPosition],
    },
    /// Answers an offer: what this copy has.
    Start {
        /// The range.
        range: Range,
        /// The term of the offer.
        term: Term,
        /// What to start from.
        from: StartFrom,
    },
    /// Asks for the value of a key that the follower wrote, or was sent, after the fork.
    Fetch {
        /// The range.
        range: Range,
        /// The term of the offer.
        term: Term,
        /// The key.
        key: &'a [u8],
    },
    /// Ends a group of fetches.
    FetchEnd,
    /// By the receiver's newer topology the sender is not the range's primary in that term.
    Refuse {
        /// The range.
        range: Range,
        /// The term that was refused.
        term: Term,
    },
    /// A batch is missing: begin a new session.
    Reset,
}

/// What a copy has, as it answers an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// Nothing: it is empty, and needs a full sync.
    Nothing,
    /// Everything up to here.
    Seq(Seq),
    /// Part of a full sync, and the changes up to here.
    Sync {
        /// The sync.
        sync: u64,
        /// The last position that was reached.
        seq: Seq,
    },
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPosition {
    /// The range.
    pub range: Range,
    /// The term in which its primary numbered `seq`.
    pub term: Term,
    /// The last write that it has; it may have some later ones, too.
    pub seq: Seq,
    /// Whether it is a whole copy, not one that is being filled.
    pub is_complete: bool,
}

/// Takes a batch's entries, in order.
pub trait EntrySink {
    /// The next entry.
    fn entry(&mut self, entry: &Entry<'_>);
}

/// Takes a follower's messages, in order.
pub trait ControlSink {
    /// The next message.
    fn control(&mut self, control: &Control<'_>);
}

impl<F: FnMut(&Entry<'_>)> EntrySink for F {
    fn entry(&mut self, entry: &Entry<'_>) {
        self(entry);
    }
}
