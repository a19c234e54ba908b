//! A few coordinators on a perfect network: what operators ask of them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use super::timing::EPOCH_GAP_MS;
use super::{Config, Coordinator, Event, Saved, SealedPosition, Start};
use crate::decision::samples::member;
use crate::message::Moves;
use crate::placement::Limits;
use crate::topology::Copies;
use crate::{ClusterId, NodeId, Range, Seq, Time, Topology};

const STEP_MS: u64 = 10;

/// Nodes whose copies become whole as soon as they are learners, and who catch up at once.
struct Network {
    nodes: BTreeMap<NodeId, Coordinator>,
    left: Vec<NodeId>,
    now: Time,
}

impl Network {
    /// Nodes 1 to `count`, the first of which founds; runs until all is in balance.
    fn new(count: u64) -> Self {
        let mut network = Self {
            nodes: BTreeMap::new(),
            left: Vec::new(),
            now: Time(1_000),
        };
        (1..=count).for_each(|id| network.start(id));
        network.run(30_000);
        network
    }

    fn start(&mut self, id: u64) {
        let start = match id {
            1 => Start::Found(ClusterId(7)),
            _ => Start::Join { targets: 1 },
        };
        let mut config = Config::new(member(id), Saved::default(), start);
        config.limits = Limits {
            learners_per_node_max: 2_048,
            handovers_max: 2_048,
        };
        let coordinator = Coordinator::new(config, self.now);
        self.nodes.insert(NodeId(id), coordinator);
    }

    fn run(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while self.now < until {
            self.now = self.now.plus_ms(STEP_MS);
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                let now = self.now;
                let node = self.node(id);
                if now >= node.next_deadline() {
                    node.handle_timeout(now);
                }
                while let Some(event) = self.node(id).poll_event() {
                    self.carry_out(id, event);
                }
            }
        }
    }

    fn carry_out(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        match event {
            Event::Send { to, envelope } => {
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.handle_message(now, envelope);
                }
            }
            Event::Hello { envelope, .. } => self.node(NodeId(1)).handle_message(now, envelope),
            Event::Datagram { to, bytes } => {
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.handle_datagram(now, &bytes);
                }
            }
            Event::Persist { serial, .. } => self.node(id).handle_persisted(now, serial),
            Event::Install(topology) => {
                let is_learned = |copies: &Copies| copies.learners.contains(&id);
                let learned = topology.ranges().filter(|(_, copies)| is_learned(copies));
                let learned: Vec<Range> = learned.map(|(range, _)| range).collect();
                self.node(id).handle_complete(now, &learned);
            }
            Event::Seal { serial, ranges, .. } => {
                let topology = self.topology();
                let position = |range| SealedPosition {
                    range,
                    term: topology.copies(range).term,
                    seq: Seq(1),
                    is_complete: true,
                };
                let positions: Vec<_> = ranges.into_iter().map(position).collect();
                self.node(id).handle_sealed(now, serial, &positions);
            }
            Event::Hold { ballot, hand_overs } => {
                let ranges: Vec<Range> = hand_overs.iter().map(|one| one.range).collect();
                self.node(id).handle_held(now, ballot, &ranges);
            }
            Event::Release => {}
            Event::Left => self.left.push(id),
        }
    }

    fn node(&mut self, id: NodeId) -> &mut Coordinator {
        self.nodes.get_mut(&id).expect("started")
    }

    /// The newest decided one.
    fn topology(&self) -> Topology {
        let decided = self.nodes.values().filter_map(|node| node.decided());
        let newest = decided.max_by_key(|topology| topology.epoch());
        (**newest.expect("one was founded")).clone()
    }

    fn primaries(&self, id: u64) -> usize {
        let topology = self.topology();
        let ranges = topology.ranges();
        ranges
            .filter(|(_, copies)| copies.primary == NodeId(id))
            .count()
    }

    fn learners(&self, id: u64) -> usize {
        let topology = self.topology();
        let ranges = topology.ranges();
        let learned = ranges.filter(|(_, copies)| copies.learners.contains(&NodeId(id)));
        learned.count()
    }
}

#[test]
fn a_node_that_leaves_hands_everything_over_at_once() {
    let mut network = Network::new(3);
    assert!(network.primaries(2) >= 682);
    let epoch = network.topology().epoch();
    let now = network.now;
    network.node(NodeId(2)).handle_leave(now);
    network.run(1_000);
    assert_eq!(network.left, [NodeId(2)]);
    let topology = network.topology();
    assert_eq!(topology.epoch(), epoch.next());
    assert!(topology.member(NodeId(2)).is_none());
    assert_eq!(network.primaries(1) + network.primaries(3), 2_048);
    let kept = topology
        .ranges()
        .filter(|(_, copies)| !copies.replicas.is_empty());
    assert!(kept.count() >= 682, "what did not touch it is as it was");
}

#[test]
fn the_last_node_leaves_at_once() {
    let mut network = Network::new(1);
    let now = network.now;
    network.node(NodeId(1)).handle_leave(now);
    network.run(STEP_MS);
    assert_eq!(network.left, [NodeId(1)]);
}

#[test]
fn when_all_leave_nobody_waits_for_the_others() {
    let mut network = Network::new(3);
    let now = network.now;
    for id in 1..=3 {
        network.node(NodeId(id)).handle_leave(now);
    }
    network.run(2_000);
    let mut left = network.left.clone();
    left.sort_unstable();
    left.dedup();
    assert_eq!(left, [NodeId(1), NodeId(2), NodeId(3)]);
}

#[test]
fn a_claim_makes_primaries_of_replicas_and_is_not_undone_at_once() {
    let mut network = Network::new(3);
    let now = network.now;
    let replicas = {
        let topology = network.topology();
        let ranges = topology.ranges();
        ranges
            .filter(|(_, copies)| copies.replicas.contains(&NodeId(3)))
            .count()
    };
    let before = network.primaries(3);
    assert!(network.node(NodeId(3)).handle_fail_over(now));
    network.run(5_000);
    assert_eq!(network.primaries(3), before + replicas);
    assert!(!network.node(NodeId(3)).is_failing_over());
    network.run(40_000);
    assert_eq!(network.primaries(3), before + replicas);
    network.run(60_000);
    assert!(
        network.primaries(3) <= 683,
        "in the end balance is worth more"
    );
}

#[test]
fn moves_rest_until_they_are_resumed() {
    let mut network = Network::new(2);
    let paused = Moves {
        is_paused: true,
        learners_per_node_max: None,
    };
    let now = network.now;
    network.node(NodeId(2)).handle_steer(now, paused);
    network.run(1_000);
    assert!(network.nodes.values().all(|node| node.moves().is_paused));
    network.start(3);
    network.run(20_000);
    assert_eq!(network.topology().members().len(), 3);
    assert_eq!((network.primaries(3), network.learners(3)), (0, 0));
    let now = network.now;
    network.node(NodeId(1)).handle_steer(now, Moves::default());
    network.run(30_000);
    assert!((682..=683).contains(&network.primaries(3)));
}

#[test]
fn moves_go_as_fast_as_the_operator_says() {
    let mut network = Network::new(2);
    let slow = Moves {
        is_paused: false,
        learners_per_node_max: NonZeroU16::new(2),
    };
    let now = network.now;
    network.node(NodeId(1)).handle_steer(now, slow);
    network.run(1_000);
    network.start(3);
    for _ in 0..100 {
        network.run(EPOCH_GAP_MS);
        assert!(network.learners(3) <= 2);
    }
    assert_eq!(network.topology().members().len(), 3);
}

#[test]
fn copies_are_made_at_once_instead_of_after_the_delay() {
    let mut network = Network::new(3);
    network.nodes.remove(&NodeId(3));
    network.run(5_000);
    let missing = |network: &Network| {
        let topology = network.topology();
        let ranges = topology.ranges();
        ranges
            .filter(|(_, copies)| copies.replicas.is_empty())
            .count()
    };
    assert!(missing(&network) > 600);
    let now = network.now;
    network.node(NodeId(2)).handle_steer(now, Moves::default());
    network.run(30_000);
    assert_eq!(missing(&network), 0);
}
