//! The bytes of what a node must not forget. Integers are little-endian.
//!
//! ```text
//! magic 8 B | node id u64 | incarnation u64
//! | 0 u8, or 1 u8 and the newest decided topology
//! | 0 u8, or 1 u8 and the vote: epoch u64 | promised ballot | 0 u8, or 1 u8 and the accepted ballot
//!   and topology
//! ballot: counter u64 | node id u64 | incarnation u64
//! ```

use std::sync::Arc;

use bytes::{Buf, BufMut};
use fulmar_cluster::coordinator::Saved;
use fulmar_cluster::decision::{Ballot, Vote};
use fulmar_cluster::{Epoch, Incarnation, NodeId, Topology};

/// Names the format and its version.
const MAGIC: &[u8; 8] = b"FULMAR\0\x01";

/// What a node keeps on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) saved: Saved,
}

impl State {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_slice(MAGIC);
        out.put_u64_le(self.node.0);
        out.put_u64_le(self.incarnation.0);
        let saved = &self.saved;
        out.put_u8(u8::from(saved.topology.is_some()));
        if let Some(topology) = &saved.topology {
            topology.encode(&mut out);
        }
        out.put_u8(u8::from(saved.vote.is_some()));
        if let Some(vote) = &saved.vote {
            out.put_u64_le(vote.epoch.0);
            put_ballot(vote.promised, &mut out);
            out.put_u8(u8::from(vote.accepted.is_some()));
            if let Some((ballot, topology)) = &vote.accepted {
                put_ballot(*ballot, &mut out);
                topology.encode(&mut out);
            }
        }
        out
    }

    /// `None` if these bytes are no state: of another format, or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = bytes.strip_prefix(MAGIC)?;
        let input = &mut bytes;
        let node = NodeId(input.try_get_u64_le().ok()?);
        let incarnation = Incarnation(input.try_get_u64_le().ok()?);
        let mut saved = Saved::default();
        if take_flag(input)? {
            saved.topology = Some(take_topology(input)?);
        }
        if take_flag(input)? {
            let epoch = Epoch(input.try_get_u64_le().ok()?);
            let promised = take_ballot(input)?;
            let accepted = if take_flag(input)? {
                Some((take_ballot(input)?, take_topology(input)?))
            } else {
                None
            };
            saved.vote = Some(Vote {
                epoch,
                promised,
                accepted,
            });
        }
        input.is_empty().then_some(Self {
            node,
            incarnation,
            saved,
        })
    }
}

fn put_ballot(ballot: Ballot, out: &mut Vec<u8>) {
    out.put_u64_le(ballot.counter);
    out.put_u64_le(ballot.id.0);
    out.put_u64_le(ballot.incarnation.0);
}

fn take_ballot(input: &mut &[u8]) -> Option<Ballot> {
    Some(Ballot {
        counter: input.try_get_u64_le().ok()?,
        id: NodeId(input.try_get_u64_le().ok()?),
        incarnation: Incarnation(input.try_get_u64_le().ok()?),
    })
}

fn take_flag(input: &mut &[u8]) -> Option<bool> {
    match input.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_topology(input: &mut &[u8]) -> Option<Arc<Topology>> {
    Topology::decode(input).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fulmar_cluster::coordinator::Saved;
    use fulmar_cluster::decision::{Ballot, Vote};
    use fulmar_cluster::{ClusterId, Epoch, Incarnation, Member, NodeId, Topology, Zone};

    use super::State;

    #[test]
    fn a_state_survives_and_a_damaged_one_is_none() {
        let member = Member {
            id: NodeId(1),
            incarnation: Incarnation(1),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let topology = Arc::new(Topology::founded(ClusterId(1), member, 1));
        let ballot = Ballot {
            counter: 3,
            id: NodeId(4),
            incarnation: Incarnation(5),
        };
        let vote = |accepted| Vote {
            epoch: Epoch(1),
            promised: ballot,
            accepted,
        };
        for saved in [
            Saved::default(),
            Saved {
                topology: Some(Arc::clone(&topology)),
                vote: Some(vote(None)),
            },
            Saved {
                topology: None,
                vote: Some(vote(Some((ballot, Arc::clone(&topology))))),
            },
        ] {
            let state = State {
                node: NodeId(9),
                incarnation: Incarnation(7),
                saved,
            };
            let bytes = state.encode();
            assert_eq!(State::decode(&bytes), Some(state));
            for end in 0..bytes.len() {
                assert_eq!(State::decode(&bytes[..end]), None, "{end}");
            }
            assert_eq!(State::decode(&[&bytes[..], b"x"].concat()), None);
        }
    }
}
