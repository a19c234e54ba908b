//! A seeded simulation: commands, connections that break, late and repeated messages, failovers,
//! partitions with writes on both sides, restarts; in the end all copies are equal.
//!
//! `FULMAR_SEED=7 cargo test -p fulmar-shard --test replication` runs one seed alone, `7..100` many.

use fulmar_cluster::replication::Limits;
use fulmar_cluster::{Copies, NodeId, Range};

use crate::commands::{Client, version_of};
use crate::random::Random;
use crate::world::{ROOMY, Sizes, World};

/// Copies of a range while the simulation runs.
const COPIES: usize = 3;

struct Simulation {
    world: World,
    client: Client,
    random: Random,
    /// A node that the others cannot reach, and that does not know.
    isolated: Option<usize>,
    /// What happened.
    acknowledged: u64,
    failovers: u64,
}

impl Simulation {
    fn new(seed: u64, cores: &[u16], sizes: Sizes) -> Self {
        let mut simulation = Self {
            world: World::new(cores, sizes),
            client: Client::new(),
            random: Random(seed),
            isolated: None,
            acknowledged: 0,
            failovers: 0,
        };
        simulation.world.decide_copies(&[1, 2]);
        simulation.world.learn_all();
        simulation
    }

    fn run(&mut self, steps: usize, faults: bool) {
        for _ in 0..steps {
            self.world.advance_ms(self.random.next() % 4);
            match self.random.below(100) {
                0..35 => self.client.run_one(&mut self.world, &mut self.random),
                35..60 => self.send(),
                60..90 => self.deliver(),
                90..96 => {
                    self.world.advance();
                }
                96 if faults => self.deliver_late(),
                97 if faults => self.cut(),
                98 if faults && self.random.one_in(4) => self.fault(),
                _ => self.learn_one(),
            }
            if self.random.one_in(20) {
                self.check_acknowledged();
            }
        }
    }

    fn is_reachable(&self, one: NodeId, other: NodeId) -> bool {
        let is_isolated = |id| self.isolated == Some(self.world.index_of(id));
        is_isolated(one) == is_isolated(other)
    }

    fn send(&mut self) {
        let wanted = self.world.wanted();
        let Some(&(from, to)) = self.random.pick(&wanted) else {
            return;
        };
        if !self.is_reachable(from.node, to.node) {
            return;
        }
        self.world.connect(from, to);
        for _ in 0..self.random.below(4) {
            self.world.send_batch(from, to);
        }
        if self.world.pipes[&(from, to)].is_open {
            self.world.send_reply(from, to);
        }
    }

    fn deliver(&mut self) {
        let all: Vec<_> = self.world.pipes.keys().copied().collect();
        let Some(&(from, to)) = self.random.pick(&all) else {
            return;
        };
        let repeats = self.random.one_in(20);
        let pipe = self.world.pipes.get_mut(&(from, to)).expect("it is there");
        if self.random.one_in(2) {
            if let Some(batch) = pipe.batches.pop_front() {
                if repeats {
                    pipe.late_batches.push(batch.clone());
                }
                self.world.deliver_batch(&batch);
            }
        } else if let Some(reply) = pipe.replies.pop_front() {
            if repeats {
                pipe.late_replies.push(reply.clone());
            }
            self.world.deliver_reply(&reply);
        }
    }

    /// Something of an earlier connection, or a repeated message, arrives.
    fn deliver_late(&mut self) {
        let all: Vec<_> = self.world.pipes.keys().copied().collect();
        let Some(&pair) = self.random.pick(&all) else {
            return;
        };
        let pipe = self.world.pipes.get_mut(&pair).expect("it is there");
        if !pipe.late_batches.is_empty() {
            let at = self.random.below(pipe.late_batches.len());
            let batch = pipe.late_batches.swap_remove(at);
            self.world.deliver_batch(&batch);
        } else if !pipe.late_replies.is_empty() {
            let at = self.random.below(pipe.late_replies.len());
            let reply = pipe.late_replies.swap_remove(at);
            self.world.deliver_reply(&reply);
        }
    }

    fn cut(&mut self) {
        let all: Vec<_> = self.world.pipes.keys().copied().collect();
        if let Some(&(from, to)) = self.random.pick(&all) {
            let kept = self.random.below(6);
            if self.random.one_in(3) {
                self.world.cut_back(from, to);
            } else {
                self.world.cut(from, to, kept);
            }
        }
    }

    fn learn_one(&mut self) {
        let index = self.random.below(self.world.nodes.len());
        if self.isolated != Some(index) {
            self.world.learn(index);
        }
    }

    fn fault(&mut self) {
        match self.random.below(5) {
            0 => {
                let index = self.random.below(self.world.nodes.len());
                if self.isolated.is_none() {
                    self.world.restart(index);
                    self.fail_over(index);
                }
            }
            1 => {
                if self.isolated.is_none() {
                    let index = self.random.below(self.world.nodes.len());
                    self.isolated = Some(index);
                    self.fail_over(index);
                }
            }
            2 => self.isolated = None,
            3 => self.hand_over(),
            _ => self.complete(),
        }
    }

    /// The others decide without the accused: seals, positions, the best holder takes over.
    fn fail_over(&mut self, accused: usize) {
        self.failovers += 1;
        let accused_id = self.world.nodes[accused].id;
        let voters: Vec<usize> = (0..self.world.nodes.len())
            .filter(|&index| index != accused)
            .collect();
        for &index in &voters {
            self.world.learn(index);
            let now = self.world.now;
            for shard in &mut self.world.nodes[index].shards {
                shard.replicate(now, |replication, _| replication.seal(&[accused_id]));
            }
        }
        self.world.decide(|world, range, copies| {
            let is_voter = |id: &NodeId| *id != accused_id;
            let mut holders: Vec<NodeId> = copies.nodes().filter(is_voter).collect();
            if !is_voter(&copies.primary) {
                let rank = |id: &NodeId| {
                    let position = world.nodes[world.index_of(*id)].position(range)?;
                    Some((position.is_complete, position.term, position.seq))
                };
                let best = holders.iter().copied().max_by_key(rank);
                copies.primary = best.unwrap_or(world.nodes[voters[0]].id);
            }
            let primary = copies.primary;
            holders.retain(|id| *id != primary);
            copies.replicas = holders.into_iter().collect();
            copies.learners.clear();
        });
    }

    /// Primaries move to followers that have everything.
    fn hand_over(&mut self) {
        self.world.decide(|world, range, copies| {
            let replication = world.nodes[world.index_of(copies.primary)].replication(range);
            let caught_up = copies
                .replicas
                .iter()
                .copied()
                .find(|&id| replication.is_caught_up(range, id));
            if let Some(next) = caught_up {
                copies.replicas.retain(|id| *id != next);
                copies.replicas.push(copies.primary);
                copies.primary = next;
            }
        });
    }

    /// Whole learners become replicas, and ranges with too few copies get learners.
    fn complete(&mut self) {
        let isolated = self.isolated;
        self.world
            .decide(|world, range, copies| add_copies(world, range, copies, COPIES, isolated));
    }

    /// Whoever is said to have acknowledged a write has it, or a later one of the key.
    fn check_acknowledged(&mut self) {
        let world = &self.world;
        let newest = world.newest.epoch();
        let knows = |index: usize| {
            let topology = world.nodes[index].topology.as_ref();
            topology.is_some_and(|topology| topology.epoch() == newest)
        };
        if !(0..world.nodes.len()).all(knows) {
            return;
        }
        for recorded in &self.client.recorded {
            let (write, range) = (recorded.write, recorded.write.range);
            let copies = world.newest.copies(range);
            let primary = &world.nodes[world.index_of(copies.primary)];
            let count = primary.replication(range).acknowledged_by(write);
            if count == 0 {
                continue;
            }
            assert_eq!(write.term, copies.term);
            self.acknowledged += 1;
            let has_it = |id: NodeId| {
                let node = &world.nodes[world.index_of(id)];
                let mut version = 0;
                let held = crate::check::items(node, range, world.now.time);
                if let Some((value, _)) = held.get(&recorded.key) {
                    version = version_of(value);
                }
                version >= recorded.version
                    || self.client.absent_from(&recorded.key) >= recorded.version
            };
            let holders = copies.followers().filter(|&id| has_it(id)).count();
            assert!(
                holders >= count,
                "{write:?}: {count} acknowledged, {holders} have it"
            );
        }
    }

    /// Faults end: everything is passed on, and all copies are equal.
    fn finish(&mut self) {
        self.isolated = None;
        for _ in 0..2 {
            self.world.settle();
            let count = self.world.nodes.len();
            self.world
                .decide(|world, range, copies| add_copies(world, range, copies, count, None));
        }
        self.world.settle();
        // What was to expire soon has expired everywhere.
        self.world.advance_ms(100_000);
        self.world.settle();
        self.world.assert_integrity();
    }
}

fn add_copies(
    world: &World,
    range: Range,
    copies: &mut Copies,
    wanted: usize,
    isolated: Option<usize>,
) {
    let primary = world.nodes[world.index_of(copies.primary)].replication(range);
    let is_whole = |id: NodeId| primary.complete_copies().any(|one| one == (range, id));
    let whole: Vec<NodeId> = copies
        .learners
        .iter()
        .copied()
        .filter(|&id| is_whole(id))
        .collect();
    for id in whole {
        copies.learners.retain(|other| *other != id);
        copies.replicas.push(id);
    }
    for (index, node) in world.nodes.iter().enumerate() {
        let is_wanted = node.is_alive && isolated != Some(index) && !copies.is_held_by(node.id);
        if is_wanted && copies.nodes().count() < wanted {
            copies.learners.push(node.id);
        }
    }
}

fn seeds(count: u64) -> Vec<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match std::env::var("FULMAR_SEED") {
        Ok(seeds) => match seeds.split_once("..") {
            Some((first, end)) => (number(first)..number(end)).collect(),
            None => vec![number(&seeds)],
        },
        Err(_) => (0..count).collect(),
    }
}

fn simulate(seeds_count: u64, cores: &[u16], sizes: Sizes, adjust: impl Fn(&mut Client)) {
    let (mut acknowledged, mut failovers, mut syncs) = (0, 0, 0);
    for seed in seeds(seeds_count) {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed, cores, sizes);
        adjust(&mut simulation.client);
        simulation.run(4_000, true);
        simulation.finish();
        simulation.world.assert_copies_equal(100_000);
        acknowledged += simulation.acknowledged;
        failovers += simulation.failovers;
        syncs += simulation.world.syncs;
    }
    println!("{acknowledged} acknowledged, {failovers} failovers, {syncs} full syncs");
    assert!(acknowledged > 0 && failovers > 0 && syncs > 0);
}

#[test]
fn copies_are_equal_after_faults() {
    simulate(10, &[1, 1, 1], ROOMY, |_| {});
}

#[test]
fn copies_are_equal_between_nodes_of_different_cores() {
    simulate(6, &[2, 1, 3, 2], ROOMY, |_| {});
}

#[test]
fn copies_are_equal_when_the_log_is_short() {
    let sizes = Sizes {
        limits: Limits {
            log_bytes_max: 140_000,
            log_age_ms_max: 500,
            window_bytes_max: 100_000,
            sync_bytes_per_second: u64::MAX,
        },
        ..ROOMY
    };
    simulate(6, &[1, 1, 1], sizes, |client| client.key_bytes_max = 3_000);
}

#[test]
fn copies_are_equal_between_two_nodes() {
    simulate(6, &[1, 1], ROOMY, |_| {});
}

#[test]
fn little_memory_loses_items_but_no_order() {
    let sizes = Sizes {
        memory_bytes: 3 << 20,
        ..ROOMY
    };
    for seed in seeds(6) {
        println!("seed {seed}");
        let mut simulation = Simulation::new(seed, &[1, 1, 1], sizes);
        simulation.client.value_bytes_max = 300_000;
        // What is evicted is not acknowledged less.
        simulation.client.recorded.clear();
        for _ in 0..4_000 {
            simulation.run(1, true);
            simulation.client.recorded.clear();
        }
        simulation.finish();
        for &range in &simulation.world.ranges.clone() {
            simulation.assert_no_item_is_older(range);
        }
    }
}

impl Simulation {
    /// What a follower has, the primary has had as well: no version is newer than the primary's, and
    /// none older, where both have the key.
    fn assert_no_item_is_older(&self, range: Range) {
        let world = &self.world;
        let copies = world.newest.copies(range);
        let of = |id| crate::check::items(&world.nodes[world.index_of(id)], range, world.now.time);
        let expected = of(copies.primary);
        for id in copies.followers() {
            for (key, (value, _)) in of(id) {
                if let Some((other, _)) = expected.get(&key) {
                    assert!(*other == value, "{}", key.escape_ascii());
                }
            }
        }
    }
}
