//! The bytes of batches and of followers' messages. Integers are little-endian.
//!
//! ```text
//! batch:    header | entry*          told: header | message*
//! header:   epoch u64 | from address | to address | session u64 | number u64 | group u64
//! address:  node u64 | core u16 | incarnation u64
//! entry:    kind u8 | range u16 | term u64 | seq u64 | what the kind has
//! message:  kind u8 | what the kind has
//! key:      length u16, bytes       value: length u32, bytes       ttl: ms u64, 0: none
//! ```

use arrayvec::ArrayVec;
use bytes::{Buf, BufMut, TryGetError};
use thiserror::Error;

use super::history::{Fork, Reign};
use super::limits::{ACK_POSITIONS_MAX, FORKS_MAX, PART_BYTES_MAX, SET_BYTES_MAX};
use super::message::{
    Address, Control, ControlSink, CopyPosition, Entry, EntryKind, EntrySink, Header, RemoteCore,
    StartFrom,
};
use crate::{Epoch, Incarnation, NodeId, Range, Seq, ShardIndex};

const OFFER: u8 = 1;
const FOLLOW: u8 = 2;
const RESYNC: u8 = 3;
const SYNC_BEGIN: u8 = 4;
const SYNC_END: u8 = 5;
const SET: u8 = 6;
const VALUE_BEGIN: u8 = 7;
const VALUE_PART: u8 = 8;
const VALUE_END: u8 = 9;
const VALUE_ABORT: u8 = 10;
const DELETE: u8 = 11;
const FLUSH: u8 = 12;
const REACHED: u8 = 13;
const FETCHED: u8 = 14;
const TOUCH: u8 = 15;

const ACK: u8 = 1;
const START: u8 = 2;
const FETCH: u8 = 3;
const FETCH_END: u8 = 4;
const REFUSE: u8 = 5;
const RESET: u8 = 6;

const FROM_NOTHING: u8 = 0;
const FROM_SEQ: u8 = 1;
const FROM_SYNC: u8 = 2;

/// Bytes of an encoded header.
pub const HEADER_BYTES: usize = 8 + 2 * (8 + 2 + 8) + 8 + 8 + 8;

/// Why bytes are no batch, or no messages. What came before in them may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReplicationError {
    /// They end early.
    #[error("a batch ends early")]
    Truncated,
    /// A kind, a range, a count or a length is beyond its bound.
    #[error("a batch has a field out of range")]
    OutOfRange,
}

impl From<TryGetError> for ReplicationError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

type Decoded<T> = Result<T, ReplicationError>;

impl Header {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.epoch.0);
        for address in [self.from, self.to] {
            out.put_u64_le(address.core.node.0);
            out.put_u16_le(address.core.core.0);
            out.put_u64_le(address.incarnation.0);
        }
        out.put_u64_le(self.session);
        out.put_u64_le(self.number);
        out.put_u64_le(self.group);
    }

    /// Reads one from the front of `input`.
    ///
    /// # Errors
    /// [`ReplicationError::Truncated`].
    pub fn decode(input: &mut &[u8]) -> Result<Self, ReplicationError> {
        Ok(Self {
            epoch: Epoch(input.try_get_u64_le()?),
            from: decode_address(input)?,
            to: decode_address(input)?,
            session: input.try_get_u64_le()?,
            number: input.try_get_u64_le()?,
            group: input.try_get_u64_le()?,
        })
    }
}

fn decode_address(input: &mut &[u8]) -> Decoded<Address> {
    Ok(Address {
        core: RemoteCore {
            node: NodeId(input.try_get_u64_le()?),
            core: ShardIndex(input.try_get_u16_le()?),
        },
        incarnation: Incarnation(input.try_get_u64_le()?),
    })
}

/// Appends entries to a buffer, as they are given to it.
#[derive(Debug)]
pub struct EntryEncoder<'a>(pub &'a mut Vec<u8>);

impl EntrySink for EntryEncoder<'_> {
    fn entry(&mut self, entry: &Entry<'_>) {
        let out = &mut *self.0;
        out.put_u8(kind_of(&entry.kind));
        out.put_u16_le(entry.range.index());
        out.put_u64_le(entry.term.0);
        out.put_u64_le(entry.seq.0);
        match entry.kind {
            EntryKind::Offer { history } => encode_history(history, out),
            EntryKind::SyncBegin { sync, history } => {
                out.put_u64_le(sync);
                encode_history(history, out);
            }
            EntryKind::Set { key, value, ttl_ms } => {
                encode_key(key, out);
                out.put_u64_le(ttl_ms.unwrap_or(0));
                let bytes_count: usize = value.iter().map(|part| part.len()).sum();
                out.put_u32_le(u32::try_from(bytes_count).expect("at most SET_BYTES_MAX"));
                value.iter().for_each(|part| out.put_slice(part));
            }
            EntryKind::ValueBegin {
                key,
                value_bytes,
                ttl_ms,
            } => {
                encode_key(key, out);
                out.put_u64_le(ttl_ms.unwrap_or(0));
                out.put_u64_le(value_bytes);
            }
            EntryKind::ValuePart { bytes } => {
                out.put_u32_le(u32::try_from(bytes.len()).expect("at most PART_BYTES_MAX"));
                out.put_slice(bytes);
            }
            EntryKind::Delete { key } | EntryKind::Touch { key } => encode_key(key, out),
            EntryKind::Follow
            | EntryKind::Resync
            | EntryKind::SyncEnd
            | EntryKind::ValueEnd
            | EntryKind::ValueAbort
            | EntryKind::Flush
            | EntryKind::Reached
            | EntryKind::Fetched => {}
        }
    }
}

const fn kind_of(kind: &EntryKind<'_>) -> u8 {
    match kind {
        EntryKind::Offer { .. } => OFFER,
        EntryKind::Follow => FOLLOW,
        EntryKind::Resync => RESYNC,
        EntryKind::SyncBegin { .. } => SYNC_BEGIN,
        EntryKind::SyncEnd => SYNC_END,
        EntryKind::Set { .. } => SET,
        EntryKind::ValueBegin { .. } => VALUE_BEGIN,
        EntryKind::ValuePart { .. } => VALUE_PART,
        EntryKind::ValueEnd => VALUE_END,
        EntryKind::ValueAbort => VALUE_ABORT,
        EntryKind::Delete { .. } => DELETE,
        EntryKind::Flush => FLUSH,
        EntryKind::Reached => REACHED,
        EntryKind::Fetched => FETCHED,
        EntryKind::Touch { .. } => TOUCH,
    }
}

/// Reads one entry from the front of `input`, and gives it to `sink`.
///
/// # Errors
/// See [`ReplicationError`].
pub fn decode_entry(
    input: &mut &[u8],
    sink: &mut (impl EntrySink + ?Sized),
) -> Result<(), ReplicationError> {
    let kind = input.try_get_u8()?;
    let range = decode_range(input)?;
    let term = Epoch(input.try_get_u64_le()?);
    let seq = Seq(input.try_get_u64_le()?);
    let mut give = |kind: EntryKind<'_>| {
        sink.entry(&Entry {
            range,
            term,
            seq,
            kind,
        });
    };
    match kind {
        OFFER => give(EntryKind::Offer {
            history: &decode_history(input)?,
        }),
        FOLLOW => give(EntryKind::Follow),
        RESYNC => give(EntryKind::Resync),
        SYNC_BEGIN => give(EntryKind::SyncBegin {
            sync: input.try_get_u64_le()?,
            history: &decode_history(input)?,
        }),
        SYNC_END => give(EntryKind::SyncEnd),
        SET => {
            let key = decode_key(input)?;
            let ttl_ms = decode_ttl(input)?;
            let value = decode_value(input, SET_BYTES_MAX)?;
            give(EntryKind::Set {
                key,
                value: &[value],
                ttl_ms,
            });
        }
        VALUE_BEGIN => give(EntryKind::ValueBegin {
            key: decode_key(input)?,
            ttl_ms: decode_ttl(input)?,
            value_bytes: input.try_get_u64_le()?,
        }),
        VALUE_PART => give(EntryKind::ValuePart {
            bytes: decode_value(input, PART_BYTES_MAX)?,
        }),
        VALUE_END => give(EntryKind::ValueEnd),
        VALUE_ABORT => give(EntryKind::ValueAbort),
        DELETE => give(EntryKind::Delete {
            key: decode_key(input)?,
        }),
        FLUSH => give(EntryKind::Flush),
        REACHED => give(EntryKind::Reached),
        FETCHED => give(EntryKind::Fetched),
        TOUCH => give(EntryKind::Touch {
            key: decode_key(input)?,
        }),
        _ => return Err(ReplicationError::OutOfRange),
    }
    Ok(())
}

/// Appends followers' messages to a buffer, as they are given to it.
#[derive(Debug)]
pub struct ControlEncoder<'a>(pub &'a mut Vec<u8>);

impl ControlSink for ControlEncoder<'_> {
    fn control(&mut self, control: &Control<'_>) {
        let out = &mut *self.0;
        match control {
            Control::Ack { positions } => {
                out.put_u8(ACK);
                out.put_u16_le(u16::try_from(positions.len()).expect("at most ACK_POSITIONS_MAX"));
                for position in *positions {
                    out.put_u16_le(position.range.index());
                    out.put_u64_le(position.term.0);
                    out.put_u64_le(position.seq.0);
                    out.put_u8(u8::from(position.is_complete));
                }
            }
            Control::Start { range, term, from } => {
                out.put_u8(START);
                out.put_u16_le(range.index());
                out.put_u64_le(term.0);
                match from {
                    StartFrom::Nothing => out.put_u8(FROM_NOTHING),
                    StartFrom::Seq(seq) => {
                        out.put_u8(FROM_SEQ);
                        out.put_u64_le(seq.0);
                    }
                    StartFrom::Sync { sync, seq } => {
                        out.put_u8(FROM_SYNC);
                        out.put_u64_le(*sync);
                        out.put_u64_le(seq.0);
                    }
                }
            }
            Control::Fetch { range, term, key } => {
                out.put_u8(FETCH);
                out.put_u16_le(range.index());
                out.put_u64_le(term.0);
                encode_key(key, out);
            }
            Control::FetchEnd => out.put_u8(FETCH_END),
            Control::Refuse { range, term } => {
                out.put_u8(REFUSE);
                out.put_u16_le(range.index());
                out.put_u64_le(term.0);
            }
            Control::Reset => out.put_u8(RESET),
        }
    }
}

/// Reads one message from the front of `input`, and gives it to `sink`.
///
/// # Errors
/// See [`ReplicationError`].
pub fn decode_control(
    input: &mut &[u8],
    sink: &mut (impl ControlSink + ?Sized),
) -> Result<(), ReplicationError> {
    let kind = input.try_get_u8()?;
    match kind {
        ACK => {
            let count = usize::from(input.try_get_u16_le()?);
            if count > ACK_POSITIONS_MAX {
                return Err(ReplicationError::OutOfRange);
            }
            let positions = (0..count).map(|_| decode_position(input));
            let positions = positions.collect::<Decoded<Vec<_>>>()?;
            sink.control(&Control::Ack {
                positions: &positions,
            });
        }
        START => {
            let range = decode_range(input)?;
            let term = Epoch(input.try_get_u64_le()?);
            let from = match input.try_get_u8()? {
                FROM_NOTHING => StartFrom::Nothing,
                FROM_SEQ => StartFrom::Seq(Seq(input.try_get_u64_le()?)),
                FROM_SYNC => StartFrom::Sync {
                    sync: input.try_get_u64_le()?,
                    seq: Seq(input.try_get_u64_le()?),
                },
                _ => return Err(ReplicationError::OutOfRange),
            };
            sink.control(&Control::Start { range, term, from });
        }
        FETCH => {
            let range = decode_range(input)?;
            let term = Epoch(input.try_get_u64_le()?);
            let key = decode_key(input)?;
            sink.control(&Control::Fetch { range, term, key });
        }
        FETCH_END => sink.control(&Control::FetchEnd),
        REFUSE => {
            let range = decode_range(input)?;
            let term = Epoch(input.try_get_u64_le()?);
            sink.control(&Control::Refuse { range, term });
        }
        RESET => sink.control(&Control::Reset),
        _ => return Err(ReplicationError::OutOfRange),
    }
    Ok(())
}

fn decode_position(input: &mut &[u8]) -> Decoded<CopyPosition> {
    Ok(CopyPosition {
        range: decode_range(input)?,
        term: Epoch(input.try_get_u64_le()?),
        seq: Seq(input.try_get_u64_le()?),
        is_complete: decode_bool(input)?,
    })
}

fn decode_bool(input: &mut &[u8]) -> Decoded<bool> {
    match input.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ReplicationError::OutOfRange),
    }
}

fn encode_history(history: &[Fork], out: &mut Vec<u8>) {
    out.put_u8(u8::try_from(history.len()).expect("at most FORKS_MAX"));
    history.iter().for_each(|fork| encode_fork(fork, out));
}

fn decode_history(input: &mut &[u8]) -> Decoded<ArrayVec<Fork, FORKS_MAX>> {
    let count = usize::from(input.try_get_u8()?);
    if count > FORKS_MAX {
        return Err(ReplicationError::OutOfRange);
    }
    (0..count).map(|_| decode_fork(input)).collect()
}

fn encode_fork(fork: &Fork, out: &mut Vec<u8>) {
    out.put_u64_le(fork.reign.term.0);
    out.put_u64_le(fork.reign.primary.0);
    out.put_u64_le(fork.reign.incarnation.0);
    out.put_u64_le(fork.reign.number);
    out.put_u64_le(fork.seq.0);
    out.put_u64_le(fork.start.0);
    out.put_u8(u8::from(fork.is_branch));
}

fn decode_fork(input: &mut &[u8]) -> Decoded<Fork> {
    Ok(Fork {
        reign: Reign {
            term: Epoch(input.try_get_u64_le()?),
            primary: NodeId(input.try_get_u64_le()?),
            incarnation: Incarnation(input.try_get_u64_le()?),
            number: input.try_get_u64_le()?,
        },
        seq: Seq(input.try_get_u64_le()?),
        start: Seq(input.try_get_u64_le()?),
        is_branch: decode_bool(input)?,
    })
}

fn decode_range(input: &mut &[u8]) -> Decoded<Range> {
    Range::from_index(input.try_get_u16_le()?).ok_or(ReplicationError::OutOfRange)
}

fn encode_key(key: &[u8], out: &mut Vec<u8>) {
    out.put_u16_le(u16::try_from(key.len()).expect("keys are below 16 KiB"));
    out.put_slice(key);
}

fn decode_key<'a>(input: &mut &'a [u8]) -> Decoded<&'a [u8]> {
    let length = usize::from(input.try_get_u16_le()?);
    take(input, length)
}

fn decode_ttl(input: &mut &[u8]) -> Decoded<Option<u64>> {
    let ttl_ms = input.try_get_u64_le()?;
    Ok((ttl_ms > 0).then_some(ttl_ms))
}

fn decode_value<'a>(input: &mut &'a [u8], bytes_max: usize) -> Decoded<&'a [u8]> {
    let length = input.try_get_u32_le()? as usize;
    if length > bytes_max {
        return Err(ReplicationError::OutOfRange);
    }
    take(input, length)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> Decoded<&'a [u8]> {
    let (taken, rest) = input
        .split_at_checked(length)
        .ok_or(ReplicationError::Truncated)?;
    *input = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::{
        Address, Control, ControlEncoder, ControlSink, CopyPosition, Entry, EntryEncoder,
        EntryKind, EntrySink, Fork, Header, Reign, RemoteCore, ReplicationError, StartFrom, TOUCH,
        decode_control, decode_entry,
    };
    use crate::{Epoch, Incarnation, NodeId, Range, Seq, ShardIndex};

    const FORK: Fork = Fork {
        reign: Reign {
            term: Epoch(3),
            primary: NodeId(4),
            incarnation: Incarnation(5),
            number: 8,
        },
        seq: Seq(6),
        start: Seq(7),
        is_branch: true,
    };

    fn range(index: u16) -> Range {
        Range::from_index(index).expect("a range")
    }

    fn kinds() -> Vec<EntryKind<'static>> {
        vec![
            EntryKind::Offer { history: &[] },
            EntryKind::Offer {
                history: &[FORK, FORK],
            },
            EntryKind::Follow,
            EntryKind::Resync,
            EntryKind::SyncBegin {
                sync: 9,
                history: &[FORK],
            },
            EntryKind::SyncEnd,
            EntryKind::Set {
                key: b"key",
                value: &[b"value"],
                ttl_ms: None,
            },
            EntryKind::Set {
                key: b"",
                value: &[b""],
                ttl_ms: Some(1),
            },
            EntryKind::ValueBegin {
                key: b"long",
                value_bytes: 1 << 29,
                ttl_ms: Some(u64::MAX),
            },
            EntryKind::ValuePart { bytes: b"part" },
            EntryKind::ValueEnd,
            EntryKind::ValueAbort,
            EntryKind::Delete { key: b"gone" },
            EntryKind::Touch { key: b"read" },
            EntryKind::Flush,
            EntryKind::Reached,
            EntryKind::Fetched,
        ]
    }

    fn entry(kind: EntryKind<'_>) -> Entry<'_> {
        Entry {
            range: range(2_047),
            term: Epoch(1 << 40),
            seq: Seq(u64::MAX),
            kind,
        }
    }

    fn controls() -> Vec<Control<'static>> {
        const POSITION: CopyPosition = CopyPosition {
            range: match Range::from_index(1) {
                Some(range) => range,
                None => unreachable!(),
            },
            term: Epoch(2),
            seq: Seq(3),
            is_complete: true,
        };
        let (range, term) = (range(7), Epoch(8));
        let start = |from| Control::Start { range, term, from };
        vec![
            Control::Ack { positions: &[] },
            Control::Ack {
                positions: &[POSITION, POSITION],
            },
            start(StartFrom::Nothing),
            start(StartFrom::Seq(Seq(5))),
            start(StartFrom::Sync {
                sync: 6,
                seq: Seq(7),
            }),
            Control::Fetch {
                range,
                term,
                key: b"key",
            },
            Control::FetchEnd,
            Control::Refuse { range, term },
            Control::Reset,
        ]
    }

    #[test]
    fn entries_survive_and_their_prefixes_are_truncated() {
        for kind in kinds() {
            let original = entry(kind);
            let mut bytes = Vec::new();
            EntryEncoder(&mut bytes).entry(&original);
            let mut seen = 0;
            let mut rest = bytes.as_slice();
            let mut check = |decoded: &Entry<'_>| {
                assert_eq!(*decoded, original);
                seen += 1;
            };
            assert_eq!(decode_entry(&mut rest, &mut check), Ok(()));
            assert!(rest.is_empty());
            assert_eq!(seen, 1);
            for end in 0..bytes.len() {
                let result = decode_entry(&mut &bytes[..end], &mut |_: &Entry<'_>| {
                    panic!("half an entry");
                });
                assert_eq!(result, Err(ReplicationError::Truncated), "{kind:?} {end}");
            }
        }
    }

    #[test]
    fn a_value_in_parts_arrives_whole() {
        let value: &[&[u8]] = &[b"some ", b"", b"parts"];
        let mut bytes = Vec::new();
        EntryEncoder(&mut bytes).entry(&entry(EntryKind::Set {
            key: b"k",
            value,
            ttl_ms: None,
        }));
        let mut check = |decoded: &Entry<'_>| {
            assert!(matches!(
                decoded.kind,
                EntryKind::Set {
                    value: [b"some parts"],
                    ..
                }
            ));
        };
        assert_eq!(decode_entry(&mut bytes.as_slice(), &mut check), Ok(()));
    }

    struct Seen(Vec<String>);

    impl ControlSink for Seen {
        fn control(&mut self, control: &Control<'_>) {
            self.0.push(format!("{control:?}"));
        }
    }

    #[test]
    fn messages_survive_and_their_prefixes_are_truncated() {
        for control in controls() {
            let mut bytes = Vec::new();
            ControlEncoder(&mut bytes).control(&control);
            let mut seen = Seen(Vec::new());
            let mut rest = bytes.as_slice();
            assert_eq!(decode_control(&mut rest, &mut seen), Ok(()));
            assert!(rest.is_empty());
            assert_eq!(seen.0, [format!("{control:?}")]);
            for end in 0..bytes.len() {
                let result = decode_control(&mut &bytes[..end], &mut Seen(Vec::new()));
                assert_eq!(result, Err(ReplicationError::Truncated));
            }
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let mut bytes = Vec::new();
        EntryEncoder(&mut bytes).entry(&entry(EntryKind::Flush));
        let mut nothing = |_: &Entry<'_>| panic!("no entry");
        for (at, value) in [(0, 0), (0, TOUCH + 1), (2, 8)] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let result = decode_entry(&mut damaged.as_slice(), &mut nothing);
            assert_eq!(result, Err(ReplicationError::OutOfRange), "byte {at}");
        }
        for bytes in [&[0u8][..], &[7], &[1, 255, 255], &[4 + 1, 255, 255]] {
            let result = decode_control(&mut &*bytes, &mut Seen(Vec::new()));
            assert_eq!(result, Err(ReplicationError::OutOfRange), "{bytes:?}");
        }
    }

    #[test]
    fn headers_survive() {
        let address = |node| Address {
            core: RemoteCore {
                node: NodeId(node),
                core: ShardIndex(3),
            },
            incarnation: Incarnation(node + 1),
        };
        let header = Header {
            epoch: Epoch(1),
            from: address(5),
            to: address(8),
            session: 9,
            number: 10,
            group: 11,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        assert_eq!(bytes.len(), super::HEADER_BYTES);
        assert_eq!(Header::decode(&mut bytes.as_slice()), Ok(header));
        let short = &bytes[..bytes.len() - 1];
        assert_eq!(
            Header::decode(&mut &*short),
            Err(ReplicationError::Truncated)
        );
    }
}
