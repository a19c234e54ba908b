//! A message's bytes. Integers are little-endian, node ids and incarnations u64.
//!
//! ```text
//! envelope: version u8 | flags u8 | cluster | from | from incarnation | to | to incarnation
//!           | epoch u64 | branch: count u64, founder | kind u8 | body
//! flags:    1 cluster is known | 2 target is known | 4 its incarnation is known | 8 in a branch
//!           what isn't known is 0
//! lists:    count u16, elements
//! ballot:   counter u64 | id | incarnation
//! ```

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::{Buf, BufMut, TryGetError};
use thiserror::Error;

use super::{
    Accused, Completion, Envelope, HandOver, Heartbeat, Message, Moves, Position, Steering,
};
use crate::decision::Ballot;
use crate::topology::{Branch, MEMBERS_MAX, TopologyError, decode_member, encode_member};
use crate::{
    ClusterId, Epoch, Incarnation, NodeId, RANGE_SET_BYTES, RANGES_COUNT, Range, RangeSet, Seq,
    Topology,
};

const VERSION: u8 = 2;

const HAS_CLUSTER: u8 = 1;
const HAS_TARGET: u8 = 2;
const HAS_TARGET_INCARNATION: u8 = 4;
const HAS_BRANCH: u8 = 8;
const FLAGS: u8 = HAS_CLUSTER | HAS_TARGET | HAS_TARGET_INCARNATION | HAS_BRANCH;

const IS_ASKING: u8 = 1;
const HAS_QUORUM: u8 = 2;

const IS_COMPLETE: u8 = 1;
const IS_BRANCH_PRIMARY: u8 = 2;

const HEARTBEAT: u8 = 1;
const HELLO: u8 = 2;
const HELLO_REPLY: u8 = 3;
const FETCH_TOPOLOGY: u8 = 4;
const TOPOLOGY_IS: u8 = 5;
const PREPARE: u8 = 6;
const PROMISE: u8 = 7;
const NACK: u8 = 8;
const ALIVE: u8 = 9;
const ACCEPT: u8 = 10;
const ACCEPTED: u8 = 11;
const COMMIT: u8 = 12;
const COMPLETE: u8 = 13;
const LEAVE: u8 = 14;
const HOLD_WRITES: u8 = 15;
const HAND_OVER_READY: u8 = 16;
const GATHER: u8 = 17;
const GATHERED: u8 = 18;
const BRANCH_IS: u8 = 19;
const ADOPTED_IS: u8 = 20;
const STEER: u8 = 21;
const CLAIM: u8 = 22;
const RELEASE_WRITES: u8 = 23;

/// Why bytes are no message. Nothing was changed; whoever sent them is broken, hostile or of another
/// version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It ends early.
    #[error("a message ends early")]
    Truncated,
    /// A kind, a flag, a count or a position is beyond its bound.
    #[error("a message has a field out of range")]
    OutOfRange,
    /// Another version of the protocol.
    #[error("a message has version {0}")]
    Version(u8),
    /// Bytes behind its end.
    #[error("a message has bytes behind its end")]
    Trailing,
    /// The topology or member in it is none.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

impl From<TryGetError> for MessageError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

impl Envelope {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.put_u8(VERSION);
        out.put_u8(
            flag(self.cluster.is_some(), HAS_CLUSTER)
                | flag(self.to.is_some(), HAS_TARGET)
                | flag(self.to_incarnation.is_some(), HAS_TARGET_INCARNATION)
                | flag(self.branch.is_some(), HAS_BRANCH),
        );
        out.put_u64_le(self.cluster.map_or(0, |cluster| cluster.0));
        out.put_u64_le(self.from.0);
        out.put_u64_le(self.from_incarnation.0);
        out.put_u64_le(self.to.map_or(0, |to| to.0));
        out.put_u64_le(self.to_incarnation.map_or(0, |incarnation| incarnation.0));
        out.put_u64_le(self.epoch.0);
        out.put_u64_le(self.branch.map_or(0, |branch| branch.count));
        out.put_u64_le(self.branch.map_or(0, |branch| branch.founder.0));
        encode_message(&self.message, out);
    }

    /// Reads the one that `bytes` are.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, MessageError> {
        let input = &mut bytes;
        let version = input.try_get_u8()?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let flags = input.try_get_u8()?;
        if flags & !FLAGS != 0 {
            return Err(MessageError::OutOfRange);
        }
        let cluster = ClusterId(input.try_get_u64_le()?);
        let from = NodeId(input.try_get_u64_le()?);
        let from_incarnation = Incarnation(input.try_get_u64_le()?);
        let to = NodeId(input.try_get_u64_le()?);
        let to_incarnation = Incarnation(input.try_get_u64_le()?);
        let epoch = Epoch(input.try_get_u64_le()?);
        let branch = Branch {
            count: input.try_get_u64_le()?,
            founder: NodeId(input.try_get_u64_le()?),
        };
        let message = decode_message(input)?;
        if !input.is_empty() {
            return Err(MessageError::Trailing);
        }
        Ok(Self {
            cluster: (flags & HAS_CLUSTER != 0).then_some(cluster),
            from,
            from_incarnation,
            to: (flags & HAS_TARGET != 0).then_some(to),
            to_incarnation: (flags & HAS_TARGET_INCARNATION != 0).then_some(to_incarnation),
            epoch,
            branch: (flags & HAS_BRANCH != 0).then_some(branch),
            message,
        })
    }
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Heartbeat(heartbeat) => {
            out.put_u8(HEARTBEAT);
            out.put_u64_le(heartbeat.nonce);
            out.put_u64_le(heartbeat.echo);
            let asking = if heartbeat.is_asking { IS_ASKING } else { 0 };
            let quorum = if heartbeat.has_quorum { HAS_QUORUM } else { 0 };
            out.put_u8(asking | quorum);
        }
        Message::Hello { member, bases } => {
            out.put_u8(HELLO);
            encode_member(member, out);
            out.put_u8(u8::from(!bases.is_empty()));
            if !bases.is_empty() {
                out.put_slice(&bases.encode());
            }
        }
        Message::HelloReply(topology) => {
            out.put_u8(HELLO_REPLY);
            out.put_u8(u8::from(topology.is_some()));
            if let Some(topology) = topology {
                topology.encode(out);
            }
        }
        Message::FetchTopology => out.put_u8(FETCH_TOPOLOGY),
        Message::TopologyIs(topology) => encode_topology(TOPOLOGY_IS, topology, out),
        Message::Commit(topology) => encode_topology(COMMIT, topology, out),
        Message::BranchIs(topology) => encode_topology(BRANCH_IS, topology, out),
        Message::AdoptedIs { base, topology } => {
            out.put_u8(ADOPTED_IS);
            out.put_u64_le(base.0);
            topology.encode(out);
        }
        Message::Complete(completions) => {
            out.put_u8(COMPLETE);
            encode_list(completions, out, |completion, out| {
                out.put_u16_le(completion.range.index());
                out.put_u64_le(completion.term.0);
            });
        }
        Message::Leave => out.put_u8(LEAVE),
        Message::Steer(steering) => {
            out.put_u8(STEER);
            out.put_u64_le(steering.count);
            out.put_u64_le(steering.by.0);
            out.put_u8(u8::from(steering.moves.is_paused));
            let limit = steering.moves.learners_per_node_max;
            out.put_u16_le(limit.map_or(0, NonZeroU16::get));
        }
        Message::Claim => out.put_u8(CLAIM),
        Message::HoldWrites { ballot, hand_overs } => {
            out.put_u8(HOLD_WRITES);
            encode_ballot(*ballot, out);
            encode_list(hand_overs, out, |hand_over, out| {
                out.put_u16_le(hand_over.range.index());
                out.put_u64_le(hand_over.to.0);
            });
        }
        Message::HandOverReady { ballot, ranges } => {
            out.put_u8(HAND_OVER_READY);
            encode_ballot(*ballot, out);
            encode_list(ranges, out, |range, out| out.put_u16_le(range.index()));
        }
        Message::ReleaseWrites { ballot } => {
            out.put_u8(RELEASE_WRITES);
            encode_ballot(*ballot, out);
        }
        Message::Gather { count, silent } => {
            out.put_u8(GATHER);
            out.put_u64_le(*count);
            encode_list(silent, out, |node, out| out.put_u64_le(node.0));
        }
        Message::Gathered { count, positions } => {
            out.put_u8(GATHERED);
            out.put_u64_le(*count);
            encode_list(positions, out, encode_position);
        }
        Message::Prepare { .. }
        | Message::Promise { .. }
        | Message::Nack { .. }
        | Message::Alive { .. }
        | Message::Accept { .. }
        | Message::Accepted { .. } => encode_decision(message, out),
    }
}

/// The messages of one instance; nothing for the others.
fn encode_decision(message: &Message, out: &mut Vec<u8>) {
    match message {
        Message::Prepare { ballot, accused } => {
            out.put_u8(PREPARE);
            encode_ballot(*ballot, out);
            encode_list(accused, out, |accused, out| {
                out.put_u64_le(accused.id.0);
                out.put_u64_le(accused.incarnation.0);
                out.put_u8(u8::from(accused.reborn.is_some()));
                out.put_u64_le(accused.reborn.map_or(0, |incarnation| incarnation.0));
            });
        }
        Message::Promise {
            ballot,
            accepted,
            positions,
        } => {
            out.put_u8(PROMISE);
            encode_ballot(*ballot, out);
            encode_list(positions, out, encode_position);
            out.put_u8(u8::from(accepted.is_some()));
            if let Some((ballot, topology)) = accepted {
                encode_ballot(*ballot, out);
                topology.encode(out);
            }
        }
        Message::Nack { ballot, promised } => {
            out.put_u8(NACK);
            encode_ballot(*ballot, out);
            encode_ballot(*promised, out);
        }
        Message::Alive {
            ballot,
            node,
            heard_ms_ago,
        } => {
            out.put_u8(ALIVE);
            encode_ballot(*ballot, out);
            out.put_u64_le(node.0);
            out.put_u16_le(*heard_ms_ago);
        }
        Message::Accept { ballot, topology } => {
            out.put_u8(ACCEPT);
            encode_ballot(*ballot, out);
            topology.encode(out);
        }
        Message::Accepted { ballot } => {
            out.put_u8(ACCEPTED);
            encode_ballot(*ballot, out);
        }
        _ => {}
    }
}

fn decode_message(input: &mut &[u8]) -> Result<Message, MessageError> {
    let kind = input.try_get_u8()?;
    Ok(match kind {
        HEARTBEAT => {
            let nonce = input.try_get_u64_le()?;
            let echo = input.try_get_u64_le()?;
            let flags = decode_flags(input, IS_ASKING | HAS_QUORUM)?;
            Message::Heartbeat(Heartbeat {
                nonce,
                echo,
                is_asking: flags & IS_ASKING != 0,
                has_quorum: flags & HAS_QUORUM != 0,
            })
        }
        HELLO => {
            let member = decode_member(input)?;
            let has_bases = decode_flags(input, 1)? != 0;
            let bases = has_bases.then(|| decode_bases(input)).transpose()?;
            Message::Hello {
                member,
                bases: Box::new(bases.unwrap_or_default()),
            }
        }
        HELLO_REPLY => {
            let is_there = decode_flags(input, 1)? != 0;
            Message::HelloReply(is_there.then(|| decode_topology(input)).transpose()?)
        }
        FETCH_TOPOLOGY => Message::FetchTopology,
        TOPOLOGY_IS => Message::TopologyIs(decode_topology(input)?),
        COMMIT => Message::Commit(decode_topology(input)?),
        BRANCH_IS => Message::BranchIs(decode_topology(input)?),
        ADOPTED_IS => Message::AdoptedIs {
            base: Epoch(input.try_get_u64_le()?),
            topology: decode_topology(input)?,
        },
        COMPLETE => Message::Complete(decode_list(input, RANGES_MAX, |input| {
            let range = decode_range(input)?;
            let term = Epoch(input.try_get_u64_le()?);
            Ok(Completion { range, term })
        })?),
        LEAVE => Message::Leave,
        STEER => Message::Steer(Steering {
            count: input.try_get_u64_le()?,
            by: decode_node(input)?,
            moves: Moves {
                is_paused: decode_flags(input, 1)? != 0,
                learners_per_node_max: NonZeroU16::new(input.try_get_u16_le()?),
            },
        }),
        CLAIM => Message::Claim,
        HOLD_WRITES => Message::HoldWrites {
            ballot: decode_ballot(input)?,
            hand_overs: decode_list(input, RANGES_MAX, |input| {
                let range = decode_range(input)?;
                let to = decode_node(input)?;
                Ok(HandOver { range, to })
            })?,
        },
        HAND_OVER_READY => Message::HandOverReady {
            ballot: decode_ballot(input)?,
            ranges: decode_list(input, RANGES_MAX, decode_range)?,
        },
        RELEASE_WRITES => Message::ReleaseWrites {
            ballot: decode_ballot(input)?,
        },
        GATHER => Message::Gather {
            count: input.try_get_u64_le()?,
            silent: decode_list(input, MEMBERS_MAX, decode_node)?,
        },
        GATHERED => Message::Gathered {
            count: input.try_get_u64_le()?,
            positions: decode_list(input, RANGES_MAX, decode_position)?,
        },
        _ => decode_decision(kind, input)?,
    })
}

fn decode_decision(kind: u8, input: &mut &[u8]) -> Result<Message, MessageError> {
    let is_decision = (PREPARE..=ACCEPTED).contains(&kind);
    if !is_decision {
        return Err(MessageError::OutOfRange);
    }
    let ballot = decode_ballot(input)?;
    Ok(match kind {
        PREPARE => Message::Prepare {
            ballot,
            accused: decode_list(input, MEMBERS_MAX, decode_accused)?,
        },
        PROMISE => {
            let positions = decode_list(input, RANGES_MAX, decode_position)?;
            let is_there = decode_flags(input, 1)? != 0;
            let mut accepted = None;
            if is_there {
                accepted = Some((decode_ballot(input)?, decode_topology(input)?));
            }
            Message::Promise {
                ballot,
                accepted,
                positions,
            }
        }
        NACK => Message::Nack {
            ballot,
            promised: decode_ballot(input)?,
        },
        ALIVE => Message::Alive {
            ballot,
            node: decode_node(input)?,
            heard_ms_ago: input.try_get_u16_le()?,
        },
        ACCEPT => Message::Accept {
            ballot,
            topology: decode_topology(input)?,
        },
        _ => Message::Accepted { ballot },
    })
}

/// Most elements of a list with one for each range.
const RANGES_MAX: usize = RANGES_COUNT as usize;

fn encode_list<T>(list: &[T], out: &mut Vec<u8>, mut encode: impl FnMut(&T, &mut Vec<u8>)) {
    out.put_u16_le(u16::try_from(list.len()).expect("at most one for each range or member"));
    for element in list {
        encode(element, out);
    }
}

fn decode_list<T>(
    input: &mut &[u8],
    count_max: usize,
    mut decode: impl FnMut(&mut &[u8]) -> Result<T, MessageError>,
) -> Result<Vec<T>, MessageError> {
    let count = usize::from(input.try_get_u16_le()?);
    if count > count_max {
        return Err(MessageError::OutOfRange);
    }
    (0..count).map(|_| decode(input)).collect()
}

fn decode_bases(input: &mut &[u8]) -> Result<RangeSet, MessageError> {
    let mut bytes = [0; RANGE_SET_BYTES];
    input.try_copy_to_slice(&mut bytes)?;
    RangeSet::decode(&bytes).ok_or(MessageError::OutOfRange)
}

fn decode_flags(input: &mut &[u8], known: u8) -> Result<u8, MessageError> {
    let flags = input.try_get_u8()?;
    if flags & !known != 0 {
        return Err(MessageError::OutOfRange);
    }
    Ok(flags)
}

fn encode_topology(kind: u8, topology: &Topology, out: &mut Vec<u8>) {
    out.put_u8(kind);
    topology.encode(out);
}

fn decode_topology(input: &mut &[u8]) -> Result<Arc<Topology>, MessageError> {
    Ok(Arc::new(Topology::decode(input)?))
}

fn encode_ballot(ballot: Ballot, out: &mut Vec<u8>) {
    out.put_u64_le(ballot.counter);
    out.put_u64_le(ballot.id.0);
    out.put_u64_le(ballot.incarnation.0);
}

fn decode_ballot(input: &mut &[u8]) -> Result<Ballot, MessageError> {
    Ok(Ballot {
        counter: input.try_get_u64_le()?,
        id: NodeId(input.try_get_u64_le()?),
        incarnation: Incarnation(input.try_get_u64_le()?),
    })
}

fn encode_position(position: &Position, out: &mut Vec<u8>) {
    out.put_u16_le(position.range.index());
    out.put_u64_le(position.term.0);
    out.put_u64_le(position.seq.0);
    let complete = if position.is_complete { IS_COMPLETE } else { 0 };
    let primary = if position.is_branch_primary {
        IS_BRANCH_PRIMARY
    } else {
        0
    };
    out.put_u8(complete | primary);
}

fn decode_position(input: &mut &[u8]) -> Result<Position, MessageError> {
    let range = decode_range(input)?;
    let term = Epoch(input.try_get_u64_le()?);
    let seq = Seq(input.try_get_u64_le()?);
    let flags = decode_flags(input, IS_COMPLETE | IS_BRANCH_PRIMARY)?;
    Ok(Position {
        range,
        term,
        seq,
        is_complete: flags & IS_COMPLETE != 0,
        is_branch_primary: flags & IS_BRANCH_PRIMARY != 0,
    })
}

fn decode_accused(input: &mut &[u8]) -> Result<Accused, MessageError> {
    let id = decode_node(input)?;
    let incarnation = Incarnation(input.try_get_u64_le()?);
    let is_reborn = decode_flags(input, 1)? != 0;
    let reborn = Incarnation(input.try_get_u64_le()?);
    Ok(Accused {
        id,
        incarnation,
        reborn: is_reborn.then_some(reborn),
    })
}

fn decode_node(input: &mut &[u8]) -> Result<NodeId, MessageError> {
    Ok(NodeId(input.try_get_u64_le()?))
}

fn decode_range(input: &mut &[u8]) -> Result<Range, MessageError> {
    Range::from_index(input.try_get_u16_le()?).ok_or(MessageError::OutOfRange)
}
