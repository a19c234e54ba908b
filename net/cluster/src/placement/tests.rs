//! Clusters that nodes join and leave, driven step by step to their targets.

use std::time::Instant;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::{LEARNERS_PER_NODE_MAX, Limits, Shortage, next_table, target};
use crate::topology::Parts;
use crate::{ClusterId, Copies, Incarnation, Member, NodeId, RANGES_COUNT, Range, Topology, Zone};

/// Far more steps than any change of these tests should take.
const STEPS_MAX: usize = 2_000;

/// A cluster whose topologies follow one another.
struct Cluster {
    topology: Topology,
    /// Names are dealt out once.
    joined_count: u64,
}

/// What the steps to a target did.
#[derive(Default)]
struct Moved {
    steps: usize,
    learners: usize,
    handovers: usize,
}

impl Cluster {
    fn founded(replicas_wanted: u8, weight: u16, zone: u8) -> Self {
        let founder = member(1, weight, zone);
        Self {
            topology: Topology::founded(ClusterId(1), founder, replicas_wanted),
            joined_count: 1,
        }
    }

    /// One of `nodes` members of weight 1 in two zones and none. They joined one after the other, or
    /// five at a time where planning isn't optimized.
    fn grown(nodes: usize, replicas_wanted: u8) -> Self {
        let batch = if cfg!(debug_assertions) { 5 } else { 1 };
        let mut cluster = Self::founded(replicas_wanted, 1, 0);
        for joined in 1..nodes {
            cluster.join(1, u8::try_from(joined % 3).expect("small"));
            if joined % batch == 0 || joined + 1 == nodes {
                cluster.jump();
            }
        }
        cluster
    }

    fn decide(&mut self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.topology.to_parts();
        parts.epoch = parts.epoch.next();
        change(&mut parts);
        self.topology = Topology::new(parts).expect("consistent");
    }

    fn join(&mut self, weight: u16, zone: u8) {
        self.joined_count += 1;
        let joiner = member(self.joined_count, weight, zone);
        self.decide(|parts| parts.members.push(joiner));
    }

    /// Removes a member as a failover does: the first replica of its ranges takes over, and what has
    /// none starts empty on the most senior.
    fn lose(&mut self, rank: usize) {
        self.decide(|parts| {
            let lost = parts.members.remove(rank).id;
            let heir = parts.members[0].id;
            for copies in &mut parts.table {
                copies.replicas.retain(|node| *node != lost);
                copies.learners.retain(|node| *node != lost);
                if copies.primary != lost {
                    continue;
                }
                copies.term = parts.epoch;
                copies.primary = match copies.replicas.pop_at(0) {
                    Some(replica) => replica,
                    None => {
                        copies.learners.retain(|node| *node != heir);
                        heir
                    }
                };
            }
        });
    }

    /// Puts the target in place at once.
    fn jump(&mut self) {
        let wanted = target(&self.topology);
        self.decide(|parts| parts.table = wanted);
    }

    /// Takes one step, with learners complete where `coin` says so, and checks it.
    fn step(&mut self, limits: Limits, mut coin: impl FnMut() -> bool, moved: &mut Moved) -> bool {
        let is_complete: Vec<bool> = Range::all().map(|_| coin()).collect();
        let complete = |range: Range, _| is_complete[usize::from(range.index())];
        let Some(step) = next_table(&self.topology, &complete, limits) else {
            return false;
        };
        let epoch = self.topology.epoch().next();
        let wanted = copies_wanted(&self.topology);
        let mut handovers = Vec::new();
        for ((range, before), after) in self.topology.ranges().zip(&step.table) {
            let was_held = |node| {
                let is_learner = before.learners.contains(&node);
                before.is_held_by(node) && (!is_learner || complete(range, node))
            };
            let all_complete = after.replicas.iter().all(|&node| was_held(node));
            assert!(
                all_complete && was_held(after.primary),
                "{before:?} {after:?}"
            );
            let count = 1 + after.replicas.len();
            let count_before = 1 + before.replicas.len();
            assert!(count >= count_before.min(wanted), "{before:?} {after:?}");
            if after.primary == before.primary {
                assert_eq!(after.term, before.term);
            } else {
                assert_eq!(after.term, epoch);
                handovers.push(range);
            }
            let is_new = |node: &&NodeId| !before.learners.contains(node);
            moved.learners += after.learners.iter().filter(is_new).count();
        }
        assert_eq!(step.handovers, handovers);
        assert!(handovers.len() <= limits.handovers_max);
        moved.handovers += handovers.len();
        moved.steps += 1;
        assert!(moved.steps < STEPS_MAX, "no end");
        self.decide(|parts| parts.table = step.table);
        for member in self.topology.members() {
            let all = self.topology.ranges();
            let learning = all.filter(|(_, copies)| copies.learners.contains(&member.id));
            assert!(learning.count() <= limits.learners_per_node_max);
        }
        true
    }

    fn settle(&mut self, limits: Limits) -> Moved {
        let mut moved = Moved::default();
        while self.step(limits, || true, &mut moved) {}
        moved
    }

    /// By rank: primaries, and all complete copies.
    fn loads(&self, table: &[Copies]) -> Vec<(u32, u32)> {
        let count = |member: &Member| {
            let primaries = table.iter().filter(|copies| copies.primary == member.id);
            let replicas = table
                .iter()
                .filter(|copies| copies.replicas.contains(&member.id));
            let primaries = primaries.count();
            let all = primaries + replicas.count();
            (
                u32::try_from(primaries).expect("few"),
                u32::try_from(all).expect("few"),
            )
        };
        self.topology.members().iter().map(count).collect()
    }

    fn check_target(&self) {
        let wanted = target(&self.topology);
        self.check(&wanted);
        let least = self.least_moves();
        let moved = new_copies(&self.topology, &wanted);
        let spare = self.topology.members().len();
        // With learners of an earlier target about, counting doesn't tell the least any more.
        let is_settled = Shortage::of(&self.topology).ranges_moving == 0;
        assert!(
            !is_settled || moved <= least + spare,
            "planned {moved}, the least is {least}"
        );
    }

    /// Checks a table for all that a target promises.
    fn check(&self, table: &[Copies]) {
        let wanted = copies_wanted(&self.topology);
        for copies in table {
            assert_eq!(1 + copies.replicas.len(), wanted);
            assert!(copies.learners.is_empty());
        }
        let loads = self.loads(table);
        let members = self.topology.members();
        let check = |loads: &dyn Fn(usize) -> u32| {
            for one in 0..members.len() {
                for two in 0..members.len() {
                    let is_full = loads(one) == u32::from(RANGES_COUNT);
                    let (one_weight, two_weight) = (
                        u32::from(members[one].weight),
                        u32::from(members[two].weight),
                    );
                    let (a, b) = (loads(one) * two_weight, loads(two) * one_weight);
                    let unit = one_weight * two_weight;
                    assert!(is_full || b <= a + unit, "{:?} {:?}", members, loads(one));
                }
            }
        };
        check(&|rank| loads[rank].1);
        if wanted < members.len() {
            check(&|rank| loads[rank].0);
        }
    }

    /// The least number of new copies that any table within the quotas needs, by counting alone.
    fn least_moves(&self) -> usize {
        let held = |copies: &Copies| copies.nodes().count();
        let wanted = copies_wanted(&self.topology);
        let missing = self
            .topology
            .ranges()
            .map(|(_, copies)| wanted.saturating_sub(held(copies)));
        let members = self.topology.members();
        let shares = naive_shares(members, wanted);
        let mut below = 0;
        let mut above = 0;
        let mut floors = 0;
        for (member, share) in members.iter().zip(shares) {
            let ranges = self.topology.ranges();
            let load = ranges
                .filter(|(_, copies)| copies.is_held_by(member.id))
                .count();
            let floor = (share + 1e-6).floor();
            let is_whole = share - floor < 1e-6;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let floor = floor as usize;
            floors += floor;
            below += floor.saturating_sub(load);
            above += usize::from(!is_whole && load > floor);
        }
        let all = usize::from(RANGES_COUNT) * wanted;
        let by_nodes = below + (all - floors).saturating_sub(above);
        by_nodes.max(missing.sum())
    }
}

/// The shares of all copies, by pouring them out until each node is full or nothing is left.
fn naive_shares(members: &[Member], copies: usize) -> Vec<f64> {
    let full = f64::from(RANGES_COUNT);
    #[expect(clippy::cast_precision_loss, reason = "at most 4")]
    let mut left = full * copies as f64;
    let mut shares = vec![0.0; members.len()];
    while left > 1e-9 {
        let open = |share: f64| share < full - 1e-9;
        let weights = members
            .iter()
            .zip(&shares)
            .filter(|(_, share)| open(**share));
        let weight: f64 = weights.map(|(member, _)| f64::from(member.weight)).sum();
        let mut poured = 0.0;
        for (member, share) in members
            .iter()
            .zip(&mut shares)
            .filter(|(_, share)| open(**share))
        {
            let more = (left * f64::from(member.weight) / weight).min(full - *share);
            *share += more;
            poured += more;
        }
        left -= poured;
    }
    shares
}

fn member(id: u64, weight: u16, zone: u8) -> Member {
    Member {
        id: NodeId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        incarnation: Incarnation(1),
        cores: 2,
        weight,
        zone: Zone::new(["", "a", "b", "c"][usize::from(zone)]).expect("short"),
    }
}

fn copies_wanted(topology: &Topology) -> usize {
    (usize::from(topology.replicas_wanted()) + 1).min(topology.members().len())
}

fn new_copies(before: &Topology, table: &[Copies]) -> usize {
    let pairs = before.ranges().zip(table);
    let count = |((_, before), after): ((Range, &Copies), &Copies)| {
        after
            .nodes()
            .filter(|&node| !before.is_held_by(node))
            .count()
    };
    pairs.map(count).sum()
}

fn handovers(before: &Topology, table: &[Copies]) -> usize {
    let pairs = before.ranges().zip(table);
    pairs
        .filter(|((_, before), after)| before.primary != after.primary)
        .count()
}

#[derive(Clone, Debug)]
enum Change {
    Join { weight: u16, zone: u8 },
    Lose(prop::sample::Index),
    Steps(usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => (1..=4u16, 0..=3u8).prop_map(|(weight, zone)| Change::Join { weight, zone }),
        2 => any::<prop::sample::Index>().prop_map(Change::Lose),
        2 => (1..=6usize).prop_map(Change::Steps),
    ];
    prop::collection::vec(change, 1..12)
}

fn limits() -> impl Strategy<Value = Limits> {
    (
        prop_oneof![Just(20usize), Just(200)],
        prop_oneof![Just(64usize), Just(2_048)],
    )
        .prop_map(|(learners_per_node_max, handovers_max)| Limits {
            learners_per_node_max,
            handovers_max,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 8 } else { 64 }))]

    #[test]
    fn any_sequence_of_changes_ends_balanced_with_the_least_moves(
        replicas_wanted in 0..=3u8,
        founder in (1..=4u16, 0..=3u8),
        changes in changes(),
        limits in limits(),
        seed in any::<u64>(),
    ) {
        let mut cluster = Cluster::founded(replicas_wanted, founder.0, founder.1);
        let mut coin = coin(seed);
        let mut moved = Moved::default();
        for change in changes {
            match change {
                Change::Join { weight, zone } => cluster.join(weight, zone),
                Change::Lose(index) if cluster.topology.members().len() > 1 => {
                    cluster.lose(index.index(cluster.topology.members().len()));
                }
                Change::Lose(_) => {}
                Change::Steps(count) => {
                    for _ in 0..count {
                        cluster.step(limits, &mut coin, &mut moved);
                    }
                }
            }
            cluster.check_target();
        }
        let planned = new_copies(&cluster.topology, &target(&cluster.topology));
        let moved = cluster.settle(limits);
        assert!(moved.learners <= planned, "{} moved, {planned} planned", moved.learners);
        let table = cluster.topology.to_parts().table;
        cluster.check(&table);
        assert_eq!(target(&cluster.topology), sorted(&cluster.topology));
        assert_eq!(next_table(&cluster.topology, &|_, _| true, limits), None);
        // Each step fills every receiver or ends what it waits for, and there are two after that.
        let rounds = planned.div_ceil(limits.learners_per_node_max);
        let handing = usize::from(RANGES_COUNT).div_ceil(limits.handovers_max);
        assert!(moved.steps <= rounds + handing + 8, "{} steps", moved.steps);
    }
}

/// At 3, 5, 10 and 50 nodes, what one more and one less move, and what the table looks like then.
#[test]
fn joins_and_leaves_move_the_least_at_any_size() {
    println!(
        "nodes copies change  least moved handed steps  primaries     copies  runs  maps zones"
    );
    let all = [(3, 1), (5, 1), (10, 1), (50, 1), (50, 0), (50, 2)];
    // Not optimized, the last two would take half a minute.
    let count = if cfg!(debug_assertions) { 4 } else { 6 };
    for (nodes, replicas_wanted) in all.into_iter().take(count) {
        let mut cluster = Cluster::grown(nodes, replicas_wanted);
        for change in ["join", "leave"] {
            if change == "join" {
                cluster.join(1, 1);
            } else {
                cluster.lose(nodes / 2);
            }
            let least = cluster.least_moves();
            let planned = handovers(&cluster.topology, &target(&cluster.topology));
            let moved = cluster.settle(Limits::default());
            let table = cluster.topology.to_parts().table;
            cluster.check(&table);
            let loads = cluster.loads(&table);
            let (mut primaries, mut copies): (Vec<_>, Vec<_>) = loads.into_iter().unzip();
            primaries.sort_unstable();
            copies.sort_unstable();
            let runs = table
                .chunk_by(|one, next| one.primary == next.primary)
                .count();
            let same = |one: &Copies, next: &Copies| one.nodes().eq(next.nodes());
            let maps = table.chunk_by(same).count();
            let zones = Shortage::of(&cluster.topology).ranges_sharing_a_zone;
            println!(
                "{nodes:5} {:6} {change:6} {least:6} {:5} {:6} {:5} {:4} .. {:4} {:4} .. {:4} {runs:5} {maps:5} {zones:5}",
                replicas_wanted + 1,
                moved.learners,
                moved.handovers,
                moved.steps,
                primaries[0],
                primaries[primaries.len() - 1],
                copies[0],
                copies[copies.len() - 1],
            );
            assert_eq!(moved.learners, least);
            assert!(moved.handovers <= planned + planned / 4 + 4, "{planned}");
            assert!(primaries[primaries.len() - 1] - primaries[0] <= 1);
            assert!(copies[copies.len() - 1] - copies[0] <= 1);
            assert!(runs < 1_000);
        }
    }
}

#[test]
fn a_join_to_fifty_nodes_is_planned_in_milliseconds() {
    let mut cluster = Cluster::grown(50, 1);
    cluster.join(1, 1);
    let start = Instant::now();
    let step = next_table(&cluster.topology, &|_, _| true, Limits::default());
    let took = start.elapsed();
    assert!(step.is_some());
    println!("a join to 50 nodes: {took:?}");
    // 4 ms when optimized; else it is a hundred times slower, and the machine may be busy.
    assert!(took.as_millis() < if cfg!(debug_assertions) { 5_000 } else { 20 });
}

/// What docs/scale.md says of the size of a topology at fifty nodes.
#[test]
fn a_topology_of_fifty_nodes_is_a_few_dozen_kilobytes() {
    let bytes = |replicas_wanted| {
        let cluster = Cluster::grown(50, replicas_wanted);
        let mut bytes = Vec::new();
        cluster.topology.encode(&mut bytes);
        let runs = cluster.topology.ranges().map(|(_, copies)| copies.clone());
        let runs: Vec<Copies> = runs.collect();
        let runs = runs.chunk_by(|one, next| one == next).count();
        println!(
            "{replicas_wanted} replicas: {} bytes, {runs} runs",
            bytes.len()
        );
        bytes.len()
    };
    assert!(bytes(1) < 40_000);
    assert!(bytes(2) < 60_000);
}

#[test]
fn a_complete_replica_is_promoted_before_anything_is_copied() {
    // Two nodes that both have everything: the primaries are spread without a new copy.
    let mut cluster = Cluster::founded(1, 1, 0);
    cluster.join(1, 0);
    cluster.decide(|parts| {
        let second = parts.members[1].id;
        for copies in &mut parts.table {
            copies.replicas.push(second);
        }
    });
    let limits = Limits {
        handovers_max: 100,
        ..Limits::default()
    };
    let moved = cluster.settle(limits);
    assert_eq!(
        (moved.learners, moved.handovers, moved.steps),
        (0, 1_024, 11)
    );
}

#[test]
fn nothing_is_handed_over_to_a_copy_that_is_not_complete() {
    let mut cluster = Cluster::founded(0, 1, 0);
    let founder = cluster.topology.members()[0].id;
    cluster.join(1, 0);
    let mut moved = Moved::default();
    assert!(cluster.step(Limits::default(), || false, &mut moved));
    assert_eq!(
        (moved.learners, moved.handovers),
        (LEARNERS_PER_NODE_MAX, 0)
    );
    assert!(!cluster.step(Limits::default(), || false, &mut moved));
    let mut ranges = cluster.topology.ranges();
    assert!(ranges.all(|(_, copies)| copies.primary == founder));
    let first = LEARNERS_PER_NODE_MAX;
    assert_eq!(Shortage::of(&cluster.topology).ranges_moving, first);
    drop(ranges);
    assert!(cluster.step(Limits::default(), || true, &mut moved));
    assert_eq!((moved.learners, moved.handovers), (2 * first, first));
}

#[test]
fn copies_are_spread_over_zones() {
    let mut cluster = Cluster::founded(1, 1, 1);
    cluster.join(1, 1);
    cluster.jump();
    assert_eq!(Shortage::of(&cluster.topology).ranges_sharing_a_zone, 2_048);
    for joined in 0..4 {
        cluster.join(1, 2 + joined % 2);
        cluster.jump();
    }
    let shortage = Shortage::of(&cluster.topology);
    assert_eq!(shortage.ranges_short_of_copies, 0);
    assert_eq!(shortage.ranges_sharing_a_zone, 0);
}

#[test]
fn a_shortage_is_counted() {
    let cluster = Cluster::founded(2, 1, 0);
    let shortage = Shortage::of(&cluster.topology);
    assert_eq!(shortage.ranges_short_of_copies, 2_048);
    assert_eq!(target(&cluster.topology), cluster.topology.to_parts().table);
}

/// Heads three times of four.
fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 62 != 0
    }
}

/// The table as a target has it: replicas by seniority.
fn sorted(topology: &Topology) -> Vec<Copies> {
    let mut table = topology.to_parts().table;
    for copies in &mut table {
        copies.replicas.sort_by_key(|&node| topology.rank(node));
    }
    table
}
