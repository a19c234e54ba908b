//! A range's writes for its replicas, in order, and what these say to them.
//!
//! A stream carries the writes of one core. After an entry whose value comes in parts, nothing but
//! these parts comes in its stream until the last.

use super::blob::Blob;
use super::items::{Item, Items};
use super::varint::Reader;
use super::{INLINE_BYTES_MAX, RANGES_COUNT, WireError, varint};

/// What the sender knows, and whom it means: a message of an older epoch or incarnation is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The sender's epoch.
    pub epoch: u64,
    /// Which start of the sender speaks.
    pub sender_incarnation: u64,
    /// Which start of the receiver is meant.
    pub target_incarnation: u64,
}

/// A place in a range's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the range, below [`RANGES_COUNT`].
    pub range: u16,
    /// The epoch in which its primary became it.
    pub term: u64,
    /// Number of the write. 0: an item of a full sync, which has none.
    pub seq: u64,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write<'a> {
    /// It is gone.
    Delete,
    /// It has this value.
    Set {
        /// In parts: the frame ends with this entry.
        value: Blob<'a>,
        /// What remained of its time to live when this was encoded, at least 1; none: it has no end.
        ttl_ms: Option<u64>,
    },
}

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it stands.
    pub position: Position,
    /// At most [`INLINE_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// What became of the key.
    pub write: Write<'a>,
}

/// Writes, in order.
#[derive(Debug, PartialEq)]
pub struct Replicate<'a> {
    /// Whose parts follow, if the last value comes in parts.
    pub stream: u32,
    /// Who means whom.
    pub fence: Fence,
    /// At least one.
    pub entries: Items<'a, Entry<'a>>,
}

/// How far a replica has come, in several ranges.
#[derive(Debug, PartialEq)]
pub struct Ack<'a> {
    /// The stream that is acknowledged.
    pub stream: u32,
    /// Who means whom.
    pub fence: Fence,
    /// At least one: all up to it is applied.
    pub positions: Items<'a, Position>,
}

/// Why a replica does not apply what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectReason {
    /// The sender's epoch is older than the replica's, which the fence names.
    OldEpoch = 1,
    /// The range's term is not the sender's.
    OtherTerm = 2,
    /// One of the incarnations is not the newest.
    OtherIncarnation = 3,
    /// The replica holds no copy of the range.
    NoCopy = 4,
    /// Writes are missing behind the position.
    Gap = 5,
    /// The replica has sealed the stream: the sender is accused.
    Sealed = 6,
}

/// A replica does not apply what it was sent, and stands at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The stream that is rejected.
    pub stream: u32,
    /// Who means whom.
    pub fence: Fence,
    /// Why.
    pub reason: RejectReason,
    /// Where the replica stands in the range.
    pub position: Position,
}

/// Something that happens to a whole range, in order with its writes: a full sync begins, a full sync
/// ends, or all keys are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The stream whose order counts.
    pub stream: u32,
    /// Who means whom.
    pub fence: Fence,
    /// Of a sync: what its items are as old as, at least. Of a flush: its own.
    pub position: Position,
}

/// An item was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Its key's range.
    pub range: u16,
    /// Its key's hash.
    pub hash: u64,
}

/// Items that were read of late: a hint for eviction.
#[derive(Debug, PartialEq)]
pub struct Touches<'a> {
    /// The stream of their core.
    pub stream: u32,
    /// At least one.
    pub touches: Items<'a, Touch>,
}

impl Fence {
    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        varint::encode(self.epoch, out);
        varint::encode(self.sender_incarnation, out);
        varint::encode(self.target_incarnation, out);
    }

    #[inline]
    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            epoch: body.varint()?,
            sender_incarnation: body.varint()?,
            target_incarnation: body.varint()?,
        })
    }
}

impl Position {
    /// Appends it.
    ///
    /// # Panics
    /// If there is no such range.
    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_range(self.range, out);
        varint::encode(self.term, out);
        varint::encode(self.seq, out);
    }

    const fn wire_bytes(&self) -> usize {
        varint::bytes_count(self.range as u64)
            + varint::bytes_count(self.term)
            + varint::bytes_count(self.seq)
    }
}

impl<'a> Item<'a> for Position {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            range: decode_range(reader)?,
            term: reader.varint()?,
            seq: reader.varint()?,
        })
    }
}

fn encode_range(range: u16, out: &mut Vec<u8>) {
    assert!(range < RANGES_COUNT);
    varint::encode(range.into(), out);
}

fn decode_range(reader: &mut Reader<'_>) -> Result<u16, WireError> {
    match u16::try_from(reader.varint()?) {
        Ok(range @ 0..RANGES_COUNT) => Ok(range),
        _ => Err(WireError::Malformed),
    }
}

/// First byte of an entry: what became of the key.
const DELETE: u8 = 0;
const SET: u8 = 1;
const SET_WITH_TTL: u8 = 2;

impl Entry<'_> {
    /// Bytes that it takes in a frame.
    pub(super) fn wire_bytes(&self) -> usize {
        let write = match self.write {
            Write::Delete => 0,
            Write::Set { value, ttl_ms } => {
                value.wire_bytes() + ttl_ms.map_or(0, varint::bytes_count)
            }
        };
        1 + self.position.wire_bytes() + Blob::Whole(self.key).wire_bytes() + write
    }

    /// Appends it, except for the bytes of a value that is encoded in pieces.
    ///
    /// # Panics
    /// If the key is too long, or the time to live is 0.
    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.write {
            Write::Delete => DELETE,
            Write::Set { ttl_ms: None, .. } => SET,
            Write::Set {
                ttl_ms: Some(_), ..
            } => SET_WITH_TTL,
        });
        self.position.encode(out);
        Blob::Whole(self.key).encode(out);
        if let Write::Set { value, ttl_ms } = self.write {
            if let Some(ms) = ttl_ms {
                assert!(ms > 0);
                varint::encode(ms, out);
            }
            value.encode(out);
        }
    }
}

impl<'a> Item<'a> for Entry<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let kind = reader.byte()?;
        let position = Position::decode(reader)?;
        let key = reader.prefixed(INLINE_BYTES_MAX)?;
        let write = match kind {
            DELETE => Write::Delete,
            SET => Write::Set {
                ttl_ms: None,
                value: Blob::decode(reader)?,
            },
            SET_WITH_TTL => Write::Set {
                ttl_ms: match reader.varint()? {
                    0 => return Err(WireError::Malformed),
                    ms => Some(ms),
                },
                value: Blob::decode(reader)?,
            },
            _ => return Err(WireError::Malformed),
        };
        Ok(Self {
            position,
            key,
            write,
        })
    }
}

impl<'a> Replicate<'a> {
    pub(super) fn decode(stream: u32, mut body: Reader<'a>) -> Result<Self, WireError> {
        let fence = Fence::decode(&mut body)?;
        let entries = Items::decode_some(body, |entry: &Entry<'_>, has_next| {
            let is_in_parts = matches!(
                entry.write,
                Write::Set {
                    value: Blob::InParts(_),
                    ..
                }
            );
            !(is_in_parts && has_next)
        })?;
        Ok(Self {
            stream,
            fence,
            entries,
        })
    }
}

impl<'a> Ack<'a> {
    pub(super) fn decode(stream: u32, mut body: Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            stream,
            fence: Fence::decode(&mut body)?,
            positions: Items::decode_some(body, |_, _| true)?,
        })
    }
}

impl Reject {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.fence.encode(out);
        out.push(self.reason as u8);
        self.position.encode(out);
    }

    pub(super) fn decode(stream: u32, mut body: Reader<'_>) -> Result<Self, WireError> {
        let fence = Fence::decode(&mut body)?;
        let reason = match body.byte()? {
            1 => RejectReason::OldEpoch,
            2 => RejectReason::OtherTerm,
            3 => RejectReason::OtherIncarnation,
            4 => RejectReason::NoCopy,
            5 => RejectReason::Gap,
            6 => RejectReason::Sealed,
            _ => return Err(WireError::Malformed),
        };
        let position = Position::decode(&mut body)?;
        body.finish()?;
        Ok(Self {
            stream,
            fence,
            reason,
            position,
        })
    }
}

impl Mark {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.fence.encode(out);
        self.position.encode(out);
    }

    pub(super) fn decode(stream: u32, mut body: Reader<'_>) -> Result<Self, WireError> {
        let fence = Fence::decode(&mut body)?;
        let position = Position::decode(&mut body)?;
        body.finish()?;
        Ok(Self {
            stream,
            fence,
            position,
        })
    }
}

impl Touch {
    /// Most bytes that one takes in a frame.
    pub(super) const WIRE_BYTES_MAX: usize = 2 + 8;

    /// Appends it.
    ///
    /// # Panics
    /// If there is no such range.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_range(self.range, out);
        out.extend_from_slice(&self.hash.to_le_bytes());
    }
}

const _: () = assert!(varint::bytes_count(RANGES_COUNT as u64 - 1) == 2);

impl<'a> Item<'a> for Touch {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            range: decode_range(reader)?,
            hash: u64::from_le_bytes(reader.array()?),
        })
    }
}

impl<'a> Touches<'a> {
    pub(super) fn decode(stream: u32, body: Reader<'a>) -> Result<Self, WireError> {
        Ok(Self {
            stream,
            touches: Items::decode_some(body, |_, _| true)?,
        })
    }
}
