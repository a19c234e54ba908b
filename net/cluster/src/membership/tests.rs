//! Nodes on a network that loses, delays and repeats datagrams.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::datagram::{DATAGRAM_BYTES_MAX, DatagramKind, seal_datagram};
use crate::{ClusterId, ClusterSecret, Incarnation, NodeId, Time, Zone};

use super::random::SplitMix;
use super::{Config, Event, Host, Identity, Membership, PeerState};

const CLUSTER: ClusterId = ClusterId(77);

/// A network, and the nodes on it by their addresses.
struct Network {
    now: Time,
    next_join: Time,
    nodes: BTreeMap<SocketAddr, Membership>,
    /// By the time of arrival.
    flying: BTreeMap<(Time, u64), (SocketAddr, Vec<u8>)>,
    sent_count: u64,
    random: SplitMix,
    loss_percent: u64,
    /// Never sends or receives, though it runs.
    silent: Option<SocketAddr>,
    events: Vec<(NodeId, Event)>,
}

impl Network {
    fn new(seed: u64, loss_percent: u64) -> Self {
        println!("seed {seed}");
        Self {
            now: Time(1_000),
            next_join: Time(1_000),
            nodes: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent_count: 0,
            random: SplitMix(seed),
            loss_percent,
            silent: None,
            events: Vec::new(),
        }
    }

    /// So many nodes of which the first founded the cluster, and that the others know by address.
    fn of(nodes: u64, seed: u64, loss_percent: u64) -> Self {
        let mut network = Self::new(seed, loss_percent);
        for id in 1..=nodes {
            let cluster = (id == 1).then_some(CLUSTER);
            network.start(identity(id, 1, address(id)), cluster);
        }
        network
    }

    fn start(&mut self, identity: Identity, cluster: Option<ClusterId>) {
        let at = identity.cluster_address;
        let config = Config::new(ClusterSecret::new(b"secret"), cluster);
        let seed = self.random(u64::MAX);
        self.nodes
            .insert(at, Membership::new(identity, config, seed));
    }

    fn random(&mut self, below: u64) -> u64 {
        let mut bytes = [0; 8];
        let Ok(()) = rand_core::TryRng::try_fill_bytes(&mut self.random, &mut bytes);
        u64::from_le_bytes(bytes) % below
    }

    /// Lets time pass. Whoever knows nobody announces itself to the first each second.
    fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            if self.now >= self.next_join {
                self.join_lonely();
                self.next_join = self.now.plus_ms(1_000);
            }
            self.send_all();
            let deadlines = self.nodes.values().filter_map(Membership::next_deadline);
            let arrivals = self.flying.keys().map(|(at, _)| *at);
            let next = deadlines.chain(arrivals).min().unwrap_or(end);
            self.now = next.max(self.now).min(self.next_join).min(end);
            self.deliver();
            for node in self.nodes.values_mut() {
                if node.next_deadline().is_some_and(|due| due <= self.now) {
                    node.handle_timeout(self.now);
                }
            }
        }
        self.send_all();
    }

    fn join_lonely(&mut self) {
        for node in self.nodes.values_mut() {
            let first = address(1);
            if node.peers().next().is_none() && node.identity().cluster_address != first {
                node.join(first, self.now);
            }
        }
    }

    fn send_all(&mut self) {
        let mut sent = Vec::new();
        for (&from, node) in &mut self.nodes {
            while let Some((to, bytes)) = node.poll_datagram() {
                assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                sent.push((from, to, bytes));
            }
            while let Some(event) = node.poll_event() {
                self.events.push((node.identity().node, event));
            }
        }
        for (from, to, bytes) in sent {
            let is_silent = self.silent == Some(from) || self.silent == Some(to);
            if is_silent || self.random(100) < self.loss_percent {
                continue;
            }
            for _ in 0..1 + self.random(50) / 49 {
                self.sent_count += 1;
                let at = self.now.plus_ms(1 + self.random(40));
                self.flying
                    .insert((at, self.sent_count), (to, bytes.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        let later = self.flying.split_off(&(self.now.plus_ms(1), 0));
        for (to, bytes) in std::mem::replace(&mut self.flying, later).into_values() {
            if let Some(node) = self.nodes.get_mut(&to) {
                node.handle_datagram(&bytes, self.now);
            }
        }
    }

    /// Whether every node knows exactly the others, and their newest identities.
    fn is_complete(&self) -> bool {
        self.nodes
            .iter()
            .filter(|(at, _)| Some(**at) != self.silent)
            .all(|(_, node)| {
                let known = node.peers().filter(|(peer, _)| {
                    let other = self.nodes.get(&peer.cluster_address);
                    other.is_some_and(|other| other.identity() == *peer)
                });
                let others = self.nodes.len() - 1 - usize::from(self.silent.is_some());
                known.count() == others && node.peers().count() == others
            })
    }

    /// Runs until that is so, and tells how long it took.
    fn complete_within_ms(&mut self, ms: u64) -> u64 {
        let start = self.now;
        while !self.is_complete() {
            assert!(self.now.ms_since(start) < ms, "not complete after {ms} ms");
            self.run_ms(100);
        }
        self.now.ms_since(start)
    }
}

fn address(id: u64) -> SocketAddr {
    let low = u8::try_from(id % 250).expect("below 250");
    SocketAddr::from(([10, 0, 0, low], 7_000))
}

fn identity(id: u64, incarnation: u64, at: SocketAddr) -> Identity {
    Identity {
        node: NodeId(id),
        incarnation: Incarnation(incarnation),
        revision: 0,
        cluster_address: at,
        announce_host: Host::new("cache.example.org").expect("short"),
        resp_port: 6_379,
        replica_read_port: 6_380,
        http_port: (id.is_multiple_of(2)).then_some(8_080),
        cores: 4,
        weight: 1,
        zone: Zone::new("a").expect("short"),
    }
}

#[test]
fn all_find_each_other_though_datagrams_are_lost() {
    for (nodes, loss_percent, within_ms) in [(5, 0, 3_000), (5, 20, 20_000), (50, 10, 40_000)] {
        let mut network = Network::of(nodes, nodes + loss_percent, loss_percent);
        let took = network.complete_within_ms(within_ms);
        println!("{nodes} nodes, {loss_percent} % lost: complete after {took} ms");
        assert!(
            network
                .nodes
                .values()
                .all(|node| node.cluster() == Some(CLUSTER))
        );
        let refused = |node: &Membership| {
            let counters = node.counters();
            counters.datagrams_refused + counters.datagrams_malformed + counters.datagrams_foreign
        };
        assert_eq!(network.nodes.values().map(refused).sum::<u64>(), 0);
    }
}

#[test]
fn a_silent_node_is_found_down_and_comes_back() {
    for nodes in [5, 50] {
        let mut network = Network::of(nodes, nodes, 0);
        network.complete_within_ms(40_000);
        let silent = address(nodes);
        network.silent = Some(silent);
        network.events.clear();
        let took = network.complete_within_ms(60_000);
        println!("{nodes} nodes: the silent one is down everywhere after {took} ms");
        let is_down = |(_, event): &&(NodeId, Event)| matches!(event, Event::Down(identity) if identity.cluster_address == silent);
        let told = network.events.iter().filter(is_down).count();
        assert_eq!(u64::try_from(told).expect("few"), nodes - 1);
        // It hears that it was taken for gone, and takes a new revision.
        network.silent = None;
        network.complete_within_ms(120_000);
        assert!(network.nodes[&silent].identity().revision > 0);
    }
}

#[test]
fn suspects_are_known_as_such() {
    let mut network = Network::of(3, 3, 0);
    network.complete_within_ms(10_000);
    network.silent = Some(address(3));
    let mut is_suspect = false;
    for _ in 0..60 {
        network.run_ms(100);
        let state = network.nodes[&address(1)].peer(NodeId(3));
        is_suspect |= state.is_some_and(|(_, state)| state == PeerState::Suspect);
    }
    assert!(is_suspect);
}

#[test]
fn a_restarted_node_replaces_its_former_self() {
    let mut network = Network::of(5, 1, 5);
    network.complete_within_ms(20_000);
    network.events.clear();
    // At another address, before anybody missed it.
    network.nodes.remove(&address(3));
    network.start(identity(3, 2, address(103)), None);
    let took = network.complete_within_ms(20_000);
    println!("a restart is known everywhere after {took} ms");
    assert!(took < 3_000);
    let is_changed = |(_, event): &&(NodeId, Event)| matches!(event, Event::Changed(identity) if identity.incarnation == Incarnation(2));
    assert_eq!(network.events.iter().filter(is_changed).count(), 4);
    let is_down = |(_, event): &(NodeId, Event)| matches!(event, Event::Down(_));
    assert!(!network.events.iter().any(is_down));
}

#[test]
fn a_changed_address_is_taken_over() {
    let mut network = Network::of(5, 2, 5);
    network.complete_within_ms(20_000);
    let mut node = network.nodes.remove(&address(2)).expect("it runs");
    let moved = Identity {
        cluster_address: address(102),
        resp_port: 7_777,
        ..Identity::clone(node.identity())
    };
    node.change(moved, network.now);
    network.nodes.insert(address(102), node);
    network.complete_within_ms(20_000);
    for (at, node) in network.nodes.iter().filter(|(at, _)| **at != address(102)) {
        let (peer, _) = node.peer(NodeId(2)).expect("it is known");
        assert_eq!(peer.resp_port, 7_777, "{at}");
        assert_eq!((peer.incarnation, peer.revision), (Incarnation(1), 1));
    }
}

#[test]
fn one_that_leaves_is_gone_sooner_than_one_that_fails() {
    let mut network = Network::of(5, 4, 0);
    network.complete_within_ms(20_000);
    let leaver = network.nodes.get_mut(&address(4)).expect("it runs");
    leaver.leave(network.now);
    network.silent = None;
    network.send_all();
    network.nodes.remove(&address(4));
    let took = network.complete_within_ms(2_000);
    println!("one that left is gone everywhere after {took} ms");
}

#[test]
fn datagrams_of_other_clusters_and_secrets_are_dropped() {
    let mut network = Network::of(3, 5, 0);
    let other = Config::new(ClusterSecret::new(b"secret"), Some(ClusterId(78)));
    let stranger = Config::new(ClusterSecret::new(b"guess"), Some(CLUSTER));
    for (id, config) in [(10, other), (11, stranger)] {
        let node = Membership::new(identity(id, 1, address(id)), config, id);
        network.nodes.insert(address(id), node);
    }
    network.run_ms(10_000);
    for id in 1..=3 {
        assert_eq!(network.nodes[&address(id)].peers().count(), 2, "{id}");
    }
    let counters = network.nodes[&address(1)].counters();
    assert!(counters.datagrams_foreign > 0);
    assert!(counters.datagrams_refused > 0);
    assert_eq!(network.nodes[&address(10)].peers().count(), 0);
    assert_eq!(network.nodes[&address(11)].peers().count(), 0);
}

#[test]
fn a_node_takes_on_a_cluster_only_from_what_is_addressed_to_it() {
    let mut member = Membership::new(
        identity(1, 1, address(1)),
        Config::new(ClusterSecret::new(b"secret"), Some(CLUSTER)),
        1,
    );
    // The member probes a node that had the address before.
    let mut former = Membership::new(
        identity(2, 1, address(2)),
        Config::new(ClusterSecret::new(b"secret"), None),
        2,
    );
    former.join(address(1), Time(0));
    let (_, announcement) = former.poll_datagram().expect("an announcement");
    member.handle_datagram(&announcement, Time(0));
    let (_, answer) = member.poll_datagram().expect("an answer");
    let mut newcomer = Membership::new(
        identity(3, 1, address(2)),
        Config::new(ClusterSecret::new(b"secret"), None),
        3,
    );
    newcomer.handle_datagram(&answer, Time(0));
    assert_eq!((newcomer.cluster(), newcomer.peers().count()), (None, 0));
    former.handle_datagram(&answer, Time(0));
    assert_eq!(
        (former.cluster(), former.peers().count()),
        (Some(CLUSTER), 1)
    );
    assert_eq!(former.poll_event(), Some(Event::ClusterLearnt(CLUSTER)));
}

#[test]
fn forged_and_damaged_datagrams_change_nothing() {
    let mut network = Network::of(2, 6, 0);
    let secret = ClusterSecret::new(b"secret");
    network
        .nodes
        .get_mut(&address(2))
        .expect("it runs")
        .join(address(1), network.now);
    let joiner = network.nodes.get_mut(&address(2)).expect("it runs");
    let (_, datagram) = joiner.poll_datagram().expect("an announcement");
    let member = network.nodes.get_mut(&address(1)).expect("it runs");
    let mut refused = 0;
    for bit in 0..datagram.len() * 8 {
        let mut damaged = datagram.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        member.handle_datagram(&damaged, Time(2_000));
        refused += 1;
    }
    for end in 0..datagram.len() {
        member.handle_datagram(&datagram[..end], Time(2_000));
        refused += 1;
    }
    let mut heartbeat = Vec::new();
    seal_datagram(
        &secret,
        Some(CLUSTER),
        DatagramKind::Heartbeat,
        b"",
        &mut heartbeat,
    );
    member.handle_datagram(&heartbeat, Time(2_000));
    refused += 1;
    let mut empty = Vec::new();
    seal_datagram(
        &secret,
        Some(CLUSTER),
        DatagramKind::Gossip,
        b"",
        &mut empty,
    );
    member.handle_datagram(&empty, Time(2_000));
    assert_eq!(member.counters().datagrams_refused, refused);
    assert_eq!(member.counters().datagrams_malformed, 1);
    assert_eq!(member.peers().count(), 0);
    assert_eq!(member.poll_event(), None);
    assert_eq!(member.poll_datagram(), None);
    member.handle_datagram(&datagram, Time(2_000));
    assert_eq!(member.peers().count(), 1);
}

#[test]
fn the_same_seed_does_the_same() {
    let run = |seed| {
        let mut network = Network::of(5, seed, 10);
        network.run_ms(10_000);
        (network.sent_count, network.events)
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9).0, run(10).0);
}
