//! Every kind of message: whole, cut at each byte, damaged, and at its bounds.

use std::num::NonZeroU16;
use std::sync::Arc;

use proptest::prelude::{any, prop, proptest};

use super::{Accused, Completion, ENVELOPE_BYTES_MAX, Envelope, HEARTBEAT_BYTES_MAX, HandOver};
use super::{Heartbeat, Message, MessageError, Moves, Position, Steering};
use crate::decision::Ballot;
use crate::decision::samples::{copies, member, topology, topology_of};
use crate::topology::Branch;
use crate::{ClusterId, Epoch, Incarnation, NodeId, Range, Seq};

fn ballot(counter: u64) -> Ballot {
    Ballot {
        counter,
        id: NodeId(u64::MAX - counter),
        incarnation: Incarnation(counter + 1),
    }
}

fn range(index: u16) -> Range {
    Range::from_index(index).expect("below the count")
}

fn position(index: u16) -> Position {
    Position {
        range: range(index),
        term: Epoch(4),
        seq: Seq(u64::from(index) << 40),
        is_complete: index.is_multiple_of(2),
        is_branch_primary: index.is_multiple_of(3),
    }
}

fn heartbeat() -> Message {
    Message::Heartbeat(Heartbeat {
        nonce: 17,
        echo: u64::MAX,
        is_asking: true,
        has_quorum: false,
    })
}

fn steering(learners_per_node_max: Option<NonZeroU16>) -> Steering {
    Steering {
        count: 3,
        by: NodeId(2),
        moves: Moves {
            is_paused: learners_per_node_max.is_none(),
            learners_per_node_max,
        },
    }
}

/// At least one of each kind.
fn messages() -> Vec<Message> {
    let topology = Arc::new(topology_of(9, &[1, 2, 3], copies(1, &[2], &[3], 4)));
    let accused = |reborn| Accused {
        id: NodeId(3),
        incarnation: Incarnation(7),
        reborn,
    };
    let completion = Completion {
        range: range(2_047),
        term: Epoch(3),
    };
    let hand_over = HandOver {
        range: range(5),
        to: NodeId(2),
    };
    let ballot_accepted = (ballot(2), Arc::clone(&topology));
    vec![
        heartbeat(),
        Message::Hello {
            member: member(4),
            bases: Box::default(),
        },
        Message::Hello {
            member: member(4),
            bases: Box::new([range(0), range(2_047)].into_iter().collect()),
        },
        Message::HelloReply(None),
        Message::HelloReply(Some(Arc::clone(&topology))),
        Message::FetchTopology,
        Message::TopologyIs(Arc::clone(&topology)),
        Message::Prepare {
            ballot: ballot(1),
            accused: vec![accused(None), accused(Some(Incarnation(8)))],
        },
        Message::Promise {
            ballot: ballot(1),
            accepted: Some(ballot_accepted),
            positions: (0..6).map(position).collect(),
        },
        Message::Promise {
            ballot: ballot(1),
            accepted: None,
            positions: vec![],
        },
        Message::Nack {
            ballot: ballot(1),
            promised: ballot(2),
        },
        Message::Alive {
            ballot: ballot(1),
            node: NodeId(3),
            heard_ms_ago: 300,
        },
        Message::Accept {
            ballot: ballot(1),
            topology: Arc::clone(&topology),
        },
        Message::Accepted { ballot: ballot(1) },
        Message::Commit(Arc::clone(&topology)),
        Message::Complete(vec![completion]),
        Message::Leave,
        Message::Steer(steering(None)),
        Message::Steer(steering(NonZeroU16::new(8))),
        Message::Claim,
        Message::HoldWrites {
            ballot: ballot(1),
            hand_overs: vec![hand_over],
        },
        Message::HandOverReady {
            ballot: ballot(1),
            ranges: vec![range(5), range(6)],
        },
        Message::ReleaseWrites { ballot: ballot(1) },
        Message::Gather {
            count: 2,
            silent: vec![NodeId(3)],
        },
        Message::Gathered {
            count: 2,
            positions: vec![position(1)],
        },
        Message::BranchIs(Arc::clone(&topology)),
        Message::AdoptedIs {
            base: Epoch(9),
            topology,
        },
    ]
}

fn envelope(message: Message) -> Envelope {
    Envelope {
        cluster: Some(ClusterId(5)),
        from: NodeId(1),
        from_incarnation: Incarnation(2),
        to: Some(NodeId(2)),
        to_incarnation: Some(Incarnation(3)),
        epoch: Epoch(9),
        branch: Some(Branch {
            count: 1,
            founder: NodeId(1),
        }),
        message,
    }
}

fn encoded(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes);
    bytes
}

/// What docs/scale.md and the capacity planner count with.
#[test]
fn a_heartbeat_has_84_bytes() {
    assert_eq!(encoded(&envelope(heartbeat())).len(), 84);
}

#[test]
fn messages_survive_encoding() {
    for message in messages() {
        let known = envelope(message);
        let unknown = Envelope {
            cluster: None,
            to: None,
            to_incarnation: None,
            branch: None,
            ..known.clone()
        };
        for envelope in [known, unknown] {
            let bytes = encoded(&envelope);
            assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }
    }
}

#[test]
fn prefixes_are_truncated_and_longer_ones_refused() {
    for message in messages() {
        let mut bytes = encoded(&envelope(message));
        for end in 0..bytes.len() {
            let result = Envelope::decode(&bytes[..end]);
            let is_truncated = matches!(
                result,
                Err(MessageError::Truncated | MessageError::Topology(_))
            );
            assert!(is_truncated, "{end} of {bytes:?}");
        }
        bytes.push(0);
        assert_eq!(Envelope::decode(&bytes), Err(MessageError::Trailing));
    }
}

proptest! {
    #[test]
    fn damaged_messages_do_not_panic(
        kind in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let all = messages();
        let mut bytes = encoded(&envelope(all[kind.index(all.len())].clone()));
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Envelope::decode(&bytes);
    }
}

#[test]
fn fields_beyond_their_bounds_are_refused() {
    let mut bytes = encoded(&envelope(Message::Leave));
    let kind_at = bytes.len() - 1;
    bytes[kind_at] = 200;
    assert_eq!(Envelope::decode(&bytes), Err(MessageError::OutOfRange));
    bytes[0] = 3;
    assert_eq!(Envelope::decode(&bytes), Err(MessageError::Version(3)));

    let too_far = 2_048u16.to_le_bytes();
    let ready = Message::HandOverReady {
        ballot: ballot(1),
        ranges: vec![range(2_047)],
    };
    let mut bytes = encoded(&envelope(ready));
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&too_far);
    assert_eq!(Envelope::decode(&bytes), Err(MessageError::OutOfRange));

    let silent = |count: u64| {
        envelope(Message::Gather {
            count: 1,
            silent: (0..count).map(NodeId).collect(),
        })
    };
    assert!(Envelope::decode(&encoded(&silent(256))).is_ok());
    let result = Envelope::decode(&encoded(&silent(257)));
    assert_eq!(result, Err(MessageError::OutOfRange));
}

#[test]
fn sizes_are_bounded() {
    assert!(encoded(&envelope(heartbeat())).len() <= HEARTBEAT_BYTES_MAX);
    let widest = Arc::new(topology(9, &(1..=256).collect::<Vec<_>>()));
    let promise = Message::Promise {
        ballot: ballot(1),
        accepted: Some((ballot(1), widest)),
        positions: (0..2_048).map(position).collect(),
    };
    assert!(encoded(&envelope(promise)).len() <= ENVELOPE_BYTES_MAX);
}
