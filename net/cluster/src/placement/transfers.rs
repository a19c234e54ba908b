//! Which copies change hands, where nodes have too many and others too few.
//!
//! A receiver takes ranges that lie side by side, from whoever has one to give there, and starts
//! anew at the place that cuts the fewest runs, the nearest on the ring among those. So each change
//! adds a run for about two donors instead of two runs for each range.

use crate::{RANGES_COUNT, Range};

use super::Rank;
use super::held::Held;
use super::ring::Ring;
use super::zones::Zones;

/// A copy that goes from one node to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) range: Range,
    pub(super) from: Rank,
    pub(super) to: Rank,
}

/// What a receiver looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Ranges whose primaries have too many primaries.
    Primary,
    /// Ranges with replicas on nodes that have more to give than primaries.
    Replica,
    /// Ranges with any copy on a node that has one to give.
    Any,
}

/// Chooses. O(ranges * nodes for each run that is taken).
pub(super) struct Transfers<'a> {
    zones: &'a Zones,
    held: &'a [Held],
    ring: &'a Ring,
    /// By rank: copies above the share, negative below it.
    excess: Vec<i64>,
    /// By rank: primaries above the share.
    primary_excess: Vec<i64>,
    /// By range: who would hold it, the primary first, then by rank.
    next: Vec<Vec<Rank>>,
    /// By range: whether a copy has changed hands.
    is_given: Vec<bool>,
    chosen: Vec<Transfer>,
    /// Copies that are given because others have replaced them already.
    replaced: Vec<(Range, Rank)>,
}

impl<'a> Transfers<'a> {
    /// With how many copies and primaries each node should have, by rank.
    pub(super) fn new(
        zones: &'a Zones,
        held: &'a [Held],
        ring: &'a Ring,
        shares: &[u32],
        primary_shares: &[u32],
    ) -> Self {
        let mut excess: Vec<i64> = shares.iter().map(|&share| -i64::from(share)).collect();
        let mut primary_excess: Vec<i64> = primary_shares
            .iter()
            .map(|&share| -i64::from(share))
            .collect();
        for held in held {
            for node in held.all() {
                excess[usize::from(node)] += 1;
            }
            primary_excess[usize::from(held.primary)] += 1;
        }
        Self {
            zones,
            held,
            ring,
            excess,
            primary_excess,
            next: held.iter().map(|held| sorted(held.all())).collect(),
            is_given: vec![false; held.len()],
            chosen: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// The transfers, and the copies that are not needed because others replace them already.
    pub(super) fn choose(mut self, copies_wanted: usize) -> (Vec<Transfer>, Vec<(Range, Rank)>) {
        self.give_replaced(copies_wanted);
        for index in 0..self.excess.len() {
            let to = Rank::try_from(index).expect("at most MEMBERS_MAX");
            for role in [Role::Primary, Role::Replica, Role::Any] {
                self.fill(to, role);
            }
        }
        (self.chosen, self.replaced)
    }

    /// Settles who gives up the ranges that have more copies than they need, as learners have come.
    fn give_replaced(&mut self, copies_wanted: usize) {
        for range in Range::all() {
            let held = &self.held[index(range)];
            for _ in copies_wanted..held.all().len() {
                let gives = |&node: &Rank| self.excess[usize::from(node)] > 0;
                let is_primary = gives(&held.primary)
                    && self.primary_excess[usize::from(held.primary)] > 0
                    && self.next[index(range)].contains(&held.primary);
                let from = if is_primary {
                    Some(held.primary)
                } else {
                    let next = &self.next[index(range)];
                    let replicas = held.replicas.iter().copied();
                    replicas.filter(|node| next.contains(node)).find(gives)
                };
                let Some(from) = from else { continue };
                self.excess[usize::from(from)] -= 1;
                if let Some(&learner) = held.learners.first().filter(|_| is_primary) {
                    self.primary_excess[usize::from(from)] -= 1;
                    self.primary_excess[usize::from(learner)] += 1;
                }
                self.next[index(range)].retain(|&node| node != from);
                self.is_given[index(range)] = true;
                self.replaced.push((range, from));
            }
        }
    }

    /// Takes what `to` needs and others have, run by run.
    fn fill(&mut self, to: Rank, role: Role) {
        while self.needs(to, role) {
            let Some((seed, keeps_zones)) = self.seed(to, role) else {
                return;
            };
            self.take(seed, to, role);
            let (before, after) = (0..seed.index(), seed.index() + 1..RANGES_COUNT);
            self.extend(after, to, role, keeps_zones);
            self.extend(before.rev(), to, role, keeps_zones);
        }
    }

    fn extend(
        &mut self,
        indices: impl Iterator<Item = u16>,
        to: Rank,
        role: Role,
        keeps_zones: bool,
    ) {
        for range in indices.filter_map(Range::from_index) {
            let is_good = self
                .donor(range, to, role)
                .is_some_and(|from| !keeps_zones || !self.loses_zones(range, from, to));
            if !is_good || !self.needs(to, role) {
                return;
            }
            self.take(range, to, role);
        }
    }

    fn needs(&self, to: Rank, role: Role) -> bool {
        let is_below = self.excess[usize::from(to)] < 0;
        is_below && (role != Role::Primary || self.primary_excess[usize::from(to)] < 0)
    }

    /// The best range to begin a run with, and whether its zones stay as different as they are.
    fn seed(&self, to: Rank, role: Role) -> Option<(Range, bool)> {
        let rated = Range::all().filter_map(|range| {
            let from = self.donor(range, to, role)?;
            let loses_zones = self.loses_zones(range, from, to);
            let gains_zones = self.gains_zones(range, from, to);
            let cuts = self.cuts(range, role);
            let distance = self.ring.distance(range, to);
            Some((loses_zones, !gains_zones, cuts, distance, range))
        });
        rated
            .min()
            .map(|(loses_zones, _, _, _, range)| (range, !loses_zones))
    }

    /// Who gives a copy of `range` to `to`, if anybody does.
    fn donor(&self, range: Range, to: Rank, role: Role) -> Option<Rank> {
        let held = &self.held[index(range)];
        if self.is_given[index(range)] || self.next[index(range)].contains(&to) {
            return None;
        }
        let excess = |node: Rank| self.excess[usize::from(node)];
        let primary_excess = |node: Rank| self.primary_excess[usize::from(node)].max(0);
        let primary = held.primary;
        match role {
            Role::Primary => {
                (excess(primary) > 0 && primary_excess(primary) > 0).then_some(primary)
            }
            Role::Replica => {
                let mut replicas = held.replicas.iter().copied();
                replicas.find(|&node| excess(node) > primary_excess(node))
            }
            Role::Any => held.complete().find(|&node| excess(node) > 0),
        }
    }

    fn take(&mut self, range: Range, to: Rank, role: Role) {
        let from = self.donor(range, to, role).expect("it was found to give");
        let is_primary = from == self.held[index(range)].primary;
        for (excess, is_counted) in [
            (&mut self.excess, true),
            (&mut self.primary_excess, is_primary),
        ] {
            excess[usize::from(from)] -= i64::from(is_counted);
            excess[usize::from(to)] += i64::from(is_counted);
        }
        self.is_given[index(range)] = true;
        let next = &mut self.next[index(range)];
        for node in next.iter_mut().filter(|node| **node == from) {
            *node = to;
        }
        next[1..].sort_unstable();
        self.chosen.push(Transfer { range, from, to });
    }

    /// How many runs would be cut, 0 to 2.
    fn cuts(&self, range: Range, role: Role) -> u8 {
        let place = index(range);
        let next = &self.next[place];
        let is_same = |other: Option<&Vec<Rank>>| {
            let is_same = |other: &Vec<Rank>| match role {
                Role::Primary => other.first() == next.first(),
                Role::Replica | Role::Any => other == next,
            };
            other.is_some_and(is_same)
        };
        let before = place.checked_sub(1).and_then(|place| self.next.get(place));
        u8::from(is_same(before)) + u8::from(is_same(self.next.get(place + 1)))
    }

    fn loses_zones(&self, range: Range, from: Rank, to: Rank) -> bool {
        self.shares_zone(range, to, from) && !self.shares_zone(range, from, from)
    }

    fn gains_zones(&self, range: Range, from: Rank, to: Rank) -> bool {
        self.shares_zone(range, from, from) && !self.shares_zone(range, to, from)
    }

    /// Whether `node` has the zone of another holder than `but`.
    fn shares_zone(&self, range: Range, node: Rank, but: Rank) -> bool {
        let mut others = self.next[index(range)]
            .iter()
            .filter(|&&other| other != but);
        others.any(|&other| self.zones.are_mates(node, other))
    }
}

fn index(range: Range) -> usize {
    usize::from(range.index())
}

fn sorted(nodes: impl IntoIterator<Item = Rank>) -> Vec<Rank> {
    let mut nodes: Vec<Rank> = nodes.into_iter().collect();
    nodes[1..].sort_unstable();
    nodes
}
