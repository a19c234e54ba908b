//! One coordinator alone, its surroundings by hand; whole clusters are in `tests/sim`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::timing::{HOLD_MS, PAUSE_MS, QUORUM_LOST_MS, SILENT_MS, TURN_MS};
use super::{Config, Coordinator, Event, Minority, Saved, SealedPosition, Serving, Start};
use crate::decision::samples::{copies, member, topology_of};
use crate::decision::{Ballot, HOLDERS_WAIT_MS};
use crate::message::{Accused, Envelope, HandOver, Heartbeat, Message, Position};
use crate::{ClusterId, Epoch, Incarnation, NodeId, Range, RangeSet, Seq, Time, Topology};

const START: Time = Time(100_000);

fn ballot(counter: u64, id: u64) -> Ballot {
    Ballot {
        counter,
        id: NodeId(id),
        incarnation: Incarnation(1),
    }
}

/// Node 2 of three, a replica of all ranges.
fn follower(minority: Minority) -> Coordinator {
    member_of(
        topology_of(5, &[1, 2, 3], copies(1, &[2], &[], 4)),
        minority,
    )
}

fn member_of(topology: Topology, minority: Minority) -> Coordinator {
    let (coordinator, _) = started(topology, minority);
    coordinator
}

/// Node 2, and what it does at first.
fn started(topology: Topology, minority: Minority) -> (Coordinator, Vec<Event>) {
    let saved = Saved {
        topology: Some(Arc::new(topology)),
        vote: None,
    };
    let mut config = Config::new(member(2), saved, Start::Join { targets: 0 });
    config.minority = minority;
    let mut coordinator = Coordinator::new(config, START);
    let first = events(&mut coordinator);
    (coordinator, first)
}

fn events(coordinator: &mut Coordinator) -> Vec<Event> {
    std::iter::from_fn(|| coordinator.poll_event()).collect()
}

/// The messages among the events, with their targets.
fn sent(events: &[Event]) -> Vec<(u64, Message)> {
    let send = |event: &Event| match event {
        Event::Send { to, envelope } => Some((to.0, envelope.message.clone())),
        _ => None,
    };
    events.iter().filter_map(send).collect()
}

fn envelope(from: u64, message: Message) -> Envelope {
    Envelope {
        cluster: Some(ClusterId(7)),
        from: NodeId(from),
        from_incarnation: Incarnation(1),
        to: Some(NodeId(2)),
        to_incarnation: Some(Incarnation(1)),
        epoch: Epoch(5),
        branch: None,
        message,
    }
}

/// A heartbeat that answers what the coordinator sent at `echo`.
fn hear(coordinator: &mut Coordinator, from: u64, now: Time, echo: Time) {
    let heartbeat = Heartbeat {
        nonce: now.0,
        echo: echo.0,
        is_asking: false,
        has_quorum: true,
    };
    let mut bytes = Vec::new();
    envelope(from, Message::Heartbeat(heartbeat)).encode(&mut bytes);
    coordinator.handle_datagram(now, &bytes);
}

fn accuse(id: u64) -> Message {
    let accused = Accused {
        id: NodeId(id),
        incarnation: Incarnation(1),
        reborn: None,
    };
    Message::Prepare {
        ballot: ballot(9, 3),
        accused: vec![accused],
    }
}

#[test]
fn a_founder_serves_when_its_cluster_is_on_disk() {
    let start = Start::Found(ClusterId(7));
    let config = Config::new(member(1), Saved::default(), start);
    let mut coordinator = Coordinator::new(config, START);
    let first = events(&mut coordinator);
    let [Event::Persist { serial, .. }] = first.as_slice() else {
        panic!("not only a topology to persist: {first:?}");
    };
    assert_eq!(coordinator.serves(START), Serving::Outside);
    coordinator.handle_persisted(START, *serial);
    let second = events(&mut coordinator);
    assert!(
        second
            .iter()
            .any(|event| matches!(event, Event::Install(_)))
    );
    assert_eq!(coordinator.serves(START), Serving::Decided);
    let topology = coordinator.topology().expect("founded");
    assert_eq!(topology.members(), [member(1)]);
}

#[test]
fn a_promise_waits_for_the_disk_and_for_the_seal() {
    let mut coordinator = follower(Minority::Serve);
    let now = START.plus_ms(1);
    coordinator.handle_message(now, envelope(3, accuse(1)));
    let asked = events(&mut coordinator);
    assert_eq!(sent(&asked), []);
    let persist = asked.iter().find_map(|event| match event {
        Event::Persist { serial, saved } => Some((*serial, saved.clone())),
        _ => None,
    });
    let (serial, saved) = persist.expect("a vote is to be persisted");
    assert_eq!(saved.vote.expect("a vote").promised, ballot(9, 3));
    let seal = asked.iter().find_map(|event| match event {
        Event::Seal {
            serial,
            nodes,
            ranges,
        } => Some((*serial, nodes.clone(), ranges.len())),
        _ => None,
    });
    let (seal, nodes, ranges_count) = seal.expect("streams are to be sealed");
    assert_eq!((nodes, ranges_count), (vec![NodeId(1)], 2_048));

    let position = SealedPosition {
        range: Range::of(b"key"),
        term: Epoch(4),
        seq: Seq(9),
        is_complete: true,
    };
    coordinator.handle_sealed(now, seal, &[position]);
    assert_eq!(sent(&events(&mut coordinator)), []);
    coordinator.handle_persisted(now, serial);
    let promised = sent(&events(&mut coordinator));
    let [(3, Message::Promise { positions, .. })] = promised.as_slice() else {
        panic!("not a promise to node 3: {promised:?}");
    };
    assert_eq!(positions[0].seq, Seq(9));
}

#[test]
fn who_is_heard_is_not_given_up() {
    let mut coordinator = follower(Minority::Serve);
    let heard = START.plus_ms(100);
    hear(&mut coordinator, 1, heard, START);
    coordinator.handle_message(heard.plus_ms(20), envelope(3, accuse(1)));
    let alive = Message::Alive {
        ballot: ballot(9, 3),
        node: NodeId(1),
        heard_ms_ago: 20,
    };
    assert_eq!(sent(&events(&mut coordinator)), [(3, alive)]);
}

#[test]
fn who_just_woke_promises_nothing_before_a_fresh_answer() {
    let mut coordinator = follower(Minority::Serve);
    let before = START.plus_ms(200);
    hear(&mut coordinator, 1, before, START.plus_ms(150));
    let after = before.plus_ms(PAUSE_MS + SILENT_MS);
    coordinator.handle_message(after, envelope(3, accuse(1)));
    let seals = |event: &Event| matches!(event, Event::Seal { .. });
    assert!(!events(&mut coordinator).iter().any(seals));
    let answered = after.plus_ms(3);
    hear(&mut coordinator, 3, answered, after);
    coordinator.handle_message(answered, envelope(3, accuse(1)));
    assert!(events(&mut coordinator).iter().any(seals), "it promises");
}

#[test]
fn only_for_one_who_is_accused_can_another_vouch() {
    let mut coordinator = follower(Minority::Serve);
    hear(&mut coordinator, 1, START, START);
    let accused = next_attempt(&mut coordinator, START);
    let ballot = coordinator.proposer().expect("an attempt").ballot();
    let alive = Message::Alive {
        ballot,
        node: NodeId(3),
        heard_ms_ago: 0,
    };
    let later = accused.plus_ms(90);
    coordinator.handle_message(later, envelope(3, alive));
    let silent = coordinator.silent_members(accused.plus_ms(SILENT_MS + 1));
    assert_eq!(silent.collect::<Vec<_>>(), [NodeId(1), NodeId(3)]);
}

/// Lets node 2 hear node 3 until it begins an attempt; when.
fn next_attempt(coordinator: &mut Coordinator, mut now: Time) -> Time {
    for _ in 0..1_000 {
        now = coordinator.next_deadline().min(now.plus_ms(50));
        hear(coordinator, 3, now, now);
        coordinator.handle_timeout(now);
        for event in events(coordinator) {
            match event {
                Event::Persist { serial, .. } => coordinator.handle_persisted(now, serial),
                Event::Send {
                    to: NodeId(3),
                    envelope,
                } => {
                    if let Message::Prepare { .. } = envelope.message {
                        return now;
                    }
                }
                _ => {}
            }
        }
    }
    panic!("nobody is accused");
}

#[test]
fn who_promised_lets_the_other_have_its_time() {
    let mut coordinator = follower(Minority::Serve);
    hear(&mut coordinator, 1, START, START);
    // In small steps: a pause would begin the wait for silence again.
    for ms in (0..=SILENT_MS).step_by(50) {
        let now = START.plus_ms(ms);
        hear(&mut coordinator, 3, now, now);
    }
    let silent = START.plus_ms(SILENT_MS + 1);
    coordinator.handle_message(silent, envelope(3, accuse(1)));
    // What it asked for moves before.
    events(&mut coordinator);
    let accused = next_attempt(&mut coordinator, silent);
    assert!(
        accused >= silent.plus_ms(HOLDERS_WAIT_MS + TURN_MS),
        "{accused:?}"
    );
}

#[test]
fn messages_for_an_earlier_start_are_not_handled() {
    let mut coordinator = follower(Minority::Serve);
    let mut late = envelope(3, accuse(1));
    late.to_incarnation = Some(Incarnation(0));
    coordinator.handle_message(START, late);
    let answers = events(&mut coordinator);
    assert!(matches!(
        answers.as_slice(),
        [Event::Datagram { to: NodeId(3), .. }]
    ));
}

#[test]
fn a_minority_refuses_or_founds_a_branch() {
    for minority in [Minority::Refuse, Minority::Serve] {
        let mut coordinator = follower(minority);
        let mut now = START;
        while now < START.plus_ms(QUORUM_LOST_MS + 500) {
            now = coordinator.next_deadline();
            coordinator.handle_timeout(now);
            for event in events(&mut coordinator) {
                if let Event::Seal { serial, .. } = event {
                    coordinator.handle_sealed(now, serial, &[]);
                }
            }
        }
        let is_serving = minority == Minority::Serve;
        let expected = [Serving::Refused, Serving::Provisional][usize::from(is_serving)];
        assert_eq!(coordinator.serves(now), expected);
        assert_eq!(coordinator.is_provisional(), is_serving);
        let primary = coordinator
            .topology()
            .expect("saved")
            .copies(Range::of(b"key"));
        assert_eq!(primary.primary, NodeId(1 + u64::from(is_serving)));
    }
}

#[test]
fn who_has_not_noticed_that_it_is_cut_off_tells_its_positions() {
    for (minority, is_told) in [(Minority::Serve, true), (Minority::Refuse, false)] {
        let mut coordinator = follower(minority);
        hear(&mut coordinator, 1, START, START);
        hear(&mut coordinator, 3, START, START);
        events(&mut coordinator);
        let gather = Message::Gather {
            count: 1,
            silent: vec![NodeId(3)],
        };
        coordinator.handle_message(START, envelope(1, gather));
        let sent = sent(&events(&mut coordinator));
        let is_answer =
            |(to, message): &(u64, _)| *to == 1 && matches!(message, Message::Gathered { .. });
        assert_eq!(sent.iter().any(is_answer), is_told);
    }
}

#[test]
fn who_is_late_for_a_branch_follows_nobody_there() {
    for is_late in [false, true] {
        let table = copies(1, &[2], &[3], 4);
        let mut coordinator = member_of(topology_of(5, &[1, 2, 3, 4, 5], table), Minority::Serve);
        let sealed = |range| SealedPosition {
            range,
            term: Epoch(4),
            seq: Seq(9),
            is_complete: true,
        };
        let told = |range| Position {
            range,
            term: Epoch(4),
            seq: Seq(7),
            is_complete: true,
            is_branch_primary: false,
        };
        let mut now = START;
        while !coordinator.is_provisional() {
            now = now.plus_ms(50);
            assert!(now < START.plus_ms(QUORUM_LOST_MS + 2_000));
            hear(&mut coordinator, 3, now, now);
            coordinator.handle_timeout(now);
            let happened = events(&mut coordinator);
            for event in &happened {
                if let Event::Seal { serial, .. } = event {
                    let all: Vec<_> = Range::all().map(sealed).collect();
                    coordinator.handle_sealed(now, *serial, &all);
                }
            }
            for (_, message) in sent(&happened) {
                if let Message::Gather { count, .. } = message
                    && !is_late
                {
                    let positions = Range::all().map(told).collect();
                    let answer = Message::Gathered { count, positions };
                    coordinator.handle_message(now, envelope(3, answer));
                }
            }
        }
        let branch = coordinator.topology().expect("a branch");
        for (_, copies) in branch.ranges() {
            assert_eq!(copies.primary, NodeId(2));
            assert_eq!(copies.followers().eq([NodeId(3)]), !is_late);
            assert_eq!(copies.followers().count(), usize::from(!is_late));
        }
    }
}

#[test]
fn after_a_pause_nothing_executes_before_a_fresh_answer() {
    let mut coordinator = follower(Minority::Refuse);
    let before = START.plus_ms(200);
    hear(&mut coordinator, 1, before, START.plus_ms(150));
    assert_eq!(coordinator.serves(before), Serving::Decided);
    let after = before.plus_ms(PAUSE_MS + 1);
    assert_eq!(coordinator.serves(after), Serving::Unconfirmed);
    // An answer that was queued while it slept.
    hear(&mut coordinator, 3, after, before);
    assert_eq!(coordinator.serves(after), Serving::Unconfirmed);
    let later = after.plus_ms(3);
    hear(&mut coordinator, 1, later, after);
    assert_eq!(coordinator.serves(later), Serving::Decided);
}

fn hold_writes(ballot: Ballot, to: u64) -> (Envelope, HandOver) {
    let hand_over = HandOver {
        range: Range::of(b"key"),
        to: NodeId(to),
    };
    let hand_overs = vec![hand_over];
    let from = ballot.id.0;
    (
        envelope(from, Message::HoldWrites { ballot, hand_overs }),
        hand_over,
    )
}

/// Node 2 of three, which holds a range's writes for an attempt of node 1, and has told it so.
fn holder(ballot: Ballot) -> Coordinator {
    let topology = topology_of(5, &[1, 2, 3], copies(2, &[1, 3], &[], 4));
    let mut coordinator = member_of(topology, Minority::Serve);
    let (message, hand_over) = hold_writes(ballot, 1);
    coordinator.handle_message(START, message);
    let hand_overs = vec![hand_over];
    let hold = Event::Hold { ballot, hand_overs };
    assert_eq!(events(&mut coordinator), [hold]);
    let ranges = vec![hand_over.range];
    coordinator.handle_held(START, ballot, &ranges);
    let ready = Message::HandOverReady { ballot, ranges };
    assert_eq!(sent(&events(&mut coordinator)), [(1, ready)]);
    coordinator
}

/// What was held for the first may still be decided, and must not end with the second.
#[test]
fn one_attempt_at_a_time_has_writes_held() {
    let mut coordinator = holder(ballot(7, 1));
    let (second, _) = hold_writes(ballot(8, 3), 3);
    coordinator.handle_message(START, second);
    let release = Message::ReleaseWrites {
        ballot: ballot(8, 3),
    };
    coordinator.handle_message(START, envelope(3, release));
    assert_eq!(events(&mut coordinator), []);
}

#[test]
fn what_the_cores_held_for_an_attempt_before_is_not_ready_for_this_one() {
    let mut coordinator = holder(ballot(7, 1));
    let release = Message::ReleaseWrites {
        ballot: ballot(7, 1),
    };
    coordinator.handle_message(START, envelope(1, release));
    let (second, hand_over) = hold_writes(ballot(8, 3), 3);
    coordinator.handle_message(START, second);
    events(&mut coordinator);
    coordinator.handle_held(START, ballot(7, 1), &[hand_over.range]);
    assert_eq!(sent(&events(&mut coordinator)), []);
}

#[test]
fn writes_are_held_until_their_attempt_is_given_up() {
    let mut coordinator = holder(ballot(7, 1));
    let release = |counter| {
        let ballot = ballot(counter, 1);
        envelope(1, Message::ReleaseWrites { ballot })
    };
    coordinator.handle_message(START, release(6));
    assert_eq!(events(&mut coordinator), [], "another attempt");
    coordinator.handle_message(START, release(7));
    assert_eq!(events(&mut coordinator), [Event::Release]);
}

/// The hand-over may be decided however late: a primary that does not know makes a decision.
#[test]
fn a_primary_that_holds_for_long_decides_an_epoch_itself() {
    let mut coordinator = holder(ballot(7, 1));
    for id in [1, 3] {
        hear(&mut coordinator, id, START, START);
    }
    events(&mut coordinator);
    coordinator.handle_timeout(START.plus_ms(HOLD_MS - 1));
    assert_eq!(sent(&events(&mut coordinator)), []);
    assert_eq!(coordinator.next_deadline(), START.plus_ms(HOLD_MS));
    coordinator.handle_timeout(START.plus_ms(HOLD_MS));
    let events = events(&mut coordinator);
    assert!(!events.contains(&Event::Release));
    let asked = sent(&events).into_iter().filter_map(|(to, message)| {
        let is_plain =
            matches!(message, Message::Prepare { ref accused, .. } if accused.is_empty());
        is_plain.then_some(to)
    });
    assert_eq!(asked.collect::<Vec<_>>(), [1, 3]);
}

/// Node 2, the senior of two, which has its own vote for taking over primaryships of node 1.
fn heir() -> Coordinator {
    let base = topology_of(5, &[2, 1], copies(1, &[2], &[], 4));
    let (mut coordinator, first) = started(base, Minority::Serve);
    let is_hold = |(_, message): &(u64, Message)| matches!(message, Message::HoldWrites { .. });
    assert!(!sent(&first).iter().any(is_hold), "a quorum comes first");
    let persist = first.iter().rev().find_map(|event| match event {
        Event::Persist { serial, .. } => Some(*serial),
        _ => None,
    });
    coordinator.handle_persisted(START, persist.expect("a vote"));
    coordinator
}

/// What node 2 says to node 1 but heartbeats and the first phase.
fn said(coordinator: &mut Coordinator) -> Vec<Message> {
    let mine = sent(&events(coordinator)).into_iter();
    let mine = mine.filter(|(to, _)| *to == 1);
    let is_other =
        |message: &Message| !matches!(message, Message::Heartbeat(_) | Message::Prepare { .. });
    mine.map(|(_, message)| message).filter(is_other).collect()
}

/// What it asks node 1 to hold.
fn asked(coordinator: &mut Coordinator) -> (Ballot, Vec<HandOver>) {
    match said(coordinator).as_slice() {
        [Message::HoldWrites { ballot, hand_overs }] => (*ballot, hand_overs.clone()),
        other => panic!("not a hold: {other:?}"),
    }
}

/// Whom it proposes as these ranges' primary.
fn proposed(coordinator: &mut Coordinator, hand_overs: &[HandOver]) -> BTreeSet<NodeId> {
    match said(coordinator).as_slice() {
        [Message::Accept { topology, .. }] => {
            let primary = |one: &HandOver| topology.copies(one.range).primary;
            hand_overs.iter().map(primary).collect()
        }
        other => panic!("no topology: {other:?}"),
    }
}

#[test]
fn a_hand_over_is_proposed_when_it_is_ready_for_this_attempt() {
    let mut coordinator = heir();
    let (ballot, hand_overs) = asked(&mut coordinator);
    let ready = |counter| {
        let ballot = Ballot { counter, ..ballot };
        let ranges = hand_overs.iter().map(|one| one.range).collect();
        envelope(1, Message::HandOverReady { ballot, ranges })
    };
    coordinator.handle_message(START, ready(ballot.counter + 1));
    assert_eq!(said(&mut coordinator), [], "another attempt");
    coordinator.handle_message(START, ready(ballot.counter));
    assert_eq!(
        proposed(&mut coordinator, &hand_overs),
        BTreeSet::from([NodeId(2)])
    );
}

#[test]
fn a_hand_over_that_is_late_is_left_out() {
    let mut coordinator = heir();
    let (_, hand_overs) = asked(&mut coordinator);
    let late = START.plus_ms(HOLD_MS / 2);
    assert_eq!(coordinator.next_deadline(), late);
    coordinator.handle_timeout(late);
    assert_eq!(
        proposed(&mut coordinator, &hand_overs),
        BTreeSet::from([NodeId(1)])
    );
    assert_eq!(
        coordinator.counters().aborted_hand_overs,
        hand_overs.len() as u64
    );
}

#[test]
fn an_attempt_that_is_given_up_releases_what_it_asked_to_hold() {
    let mut coordinator = heir();
    let (ballot, _) = asked(&mut coordinator);
    let nack = Message::Nack {
        ballot,
        promised: Ballot {
            counter: ballot.counter + 1,
            ..ballot
        },
    };
    coordinator.handle_message(START, envelope(1, nack));
    assert_eq!(said(&mut coordinator), [Message::ReleaseWrites { ballot }]);
}

#[test]
fn a_joiner_is_given_what_it_had_before() {
    let base = topology_of(5, &[1, 2], copies(1, &[], &[], 4));
    let mut coordinator = member_of(base.clone(), Minority::Serve);
    let bases: RangeSet = Range::all().filter(|range| range.index() < 700).collect();
    let hello = Message::Hello {
        member: member(9),
        bases: Box::new(bases.clone()),
    };
    coordinator.handle_message(START, envelope(9, hello));
    let wanted = coordinator.moves_wanted(&base, vec![member(9)]);
    let table = wanted
        .and_then(|(change, _)| change.table)
        .expect("a table");
    let taken = table.iter().zip(Range::all());
    let taken = taken.filter(|(copies, _)| copies.learners.contains(&NodeId(9)));
    let taken: RangeSet = taken.map(|(_, range)| range).collect();
    assert_eq!(taken, bases);
    // A range that has its copies needs none of it.
    let whole = topology_of(5, &[1, 2], copies(1, &[2], &[], 4));
    let wanted = coordinator.moves_wanted(&whole, vec![member(9)]);
    assert_eq!(wanted.map(|(change, _)| change.table), Some(None));
}

#[test]
fn a_node_that_was_removed_tells_what_it_had() {
    let mut coordinator = follower(Minority::Serve);
    let removed = topology_of(6, &[1, 3], copies(1, &[3], &[], 4));
    let commit = Message::TopologyIs(Arc::new(removed));
    coordinator.handle_message(START, envelope(1, commit));
    coordinator.handle_timeout(START.plus_ms(1));
    let all: RangeSet = Range::all().collect();
    let mut messages = sent(&events(&mut coordinator)).into_iter();
    assert!(
        messages
            .any(|(_, message)| matches!(message, Message::Hello { bases, .. } if *bases == all))
    );
}
