//! Which nodes should hold which ranges.
//!
//! [`Transfers`] proposes what changes hands; then two rounds of an [`Assignment`] make it exact:
//! 1. Copies that exist or are under way are kept, as many as the quotas allow, those that were not
//!    proposed to be given first. The ranges with too few copies get new ones, as proposed, else by
//!    the ring. No table within the quotas has fewer new copies; among those that have as few,
//!    copies of a range are apart in zones as far as exchanges can get them.
//! 2. Of the copies of each range one is its primary: who is it stays it, within the quotas.
//!
//! # Invariants
//! 1. After a step the plan needs fewer new copies by those that the step added, at least: they can
//!    be kept, and what was dropped was not wanted. So the steps come to an end, whatever else the
//!    next plan decides differently.

use crate::{Member, Range, Topology};

use super::Rank;
use super::assignment::{Assignment, Ranks};
use super::exchange::Cost;
use super::held::{AllHeld, Held};
use super::quota::Quotas;
use super::ring::Ring;
use super::transfers::{Transfer, Transfers};
use super::zones::Zones;

/// Number of copies that each range should have.
pub(super) fn copies_wanted(topology: &Topology) -> usize {
    (usize::from(topology.replicas_wanted()) + 1).min(topology.members().len())
}

/// The nodes that should hold each range, by range, the primary first.
///
/// O(ranges * nodes) for each run that changes hands, and for each path of the flows.
pub(super) fn plan(topology: &Topology) -> Vec<Ranks> {
    let planner = Planner::new(topology);
    let copies = planner.deal_copies();
    let primaries = planner.deal_primaries(&copies);
    Range::all()
        .map(|range| {
            let primary = primaries.nodes(range)[0];
            let mut others = copies.nodes(range).clone();
            others.retain(|node| *node != primary);
            others.sort_unstable();
            std::iter::once(primary).chain(others).collect()
        })
        .collect()
}

struct Planner<'a> {
    members: &'a [Member],
    zones: Zones,
    held: Vec<Held>,
    ring: Ring,
    copies_wanted: usize,
    copies_quotas: Quotas,
    primary_quotas: Quotas,
}

impl<'a> Planner<'a> {
    fn new(topology: &'a Topology) -> Self {
        let members = topology.members();
        let weights: Vec<u16> = members.iter().map(|member| member.weight).collect();
        let copies_wanted = copies_wanted(topology);
        Self {
            members,
            zones: Zones::new(members),
            held: Held::all_of(topology),
            ring: Ring::new(members),
            copies_wanted,
            copies_quotas: Quotas::new(&weights, copies_wanted),
            primary_quotas: Quotas::new(&weights, 1),
        }
    }

    fn deal_copies(&self) -> Assignment {
        let (transfers, replaced) = self.transfers();
        let mut copies = Assignment::new(self.copies_quotas.clone(), self.copies_wanted);
        let given: Vec<(Range, Rank)> = transfers
            .iter()
            .map(|transfer| (transfer.range, transfer.from))
            .chain(replaced)
            .collect();
        let mut is_given = vec![Ranks::new(); self.held.len()];
        for &(range, node) in &given {
            is_given[usize::from(range.index())].push(node);
        }
        // Who should hold everything takes its place first: nothing that is kept may be in its way.
        let is_full = |node: Rank| self.copies_quotas.is_full(node);
        for node in ranks(self.members).filter(|&node| is_full(node)) {
            for range in Range::all() {
                copies.offer(range, node);
            }
        }
        for ((range, held), given) in Range::all().zip(&self.held).zip(&is_given) {
            let kept = held.learners.iter().copied().chain(held.complete());
            for node in kept.filter(|node| !given.contains(node)) {
                copies.offer(range, node);
            }
        }
        for &(range, node) in given.iter().rev() {
            copies.offer(range, node);
        }
        let all: Vec<_> = self.held.iter().map(Held::all).collect();
        let is_there = |range: Range, node| all[usize::from(range.index())].contains(&node);
        copies.complete(is_there, |_, node| !is_full(node));
        for transfer in transfers {
            copies.offer(transfer.range, transfer.to);
        }
        for range in Range::all() {
            while copies.missing(range) > 0 {
                let Some(node) = self.receiver(range, &copies) else {
                    break;
                };
                copies.offer(range, node);
            }
        }
        // What is new can go elsewhere for nothing; what is there only if that isn't enough.
        let is_new = |range, node| !is_there(range, node) && !is_full(node);
        copies.complete(|_, _| true, is_new);
        copies.complete(|_, _| true, |_, node| !is_full(node));
        let cost = CopiesCost {
            zones: &self.zones,
            held: &all,
        };
        copies.cheapen(|_, _| true, &cost);
        copies
    }

    fn transfers(&self) -> (Vec<Transfer>, Vec<(Range, Rank)>) {
        let mut loads = vec![0; self.members.len()];
        let mut primaries = vec![0; self.members.len()];
        for held in &self.held {
            for node in held.all() {
                loads[usize::from(node)] += 1;
            }
            primaries[usize::from(held.primary)] += 1;
        }
        let shares = self.copies_quotas.nearest(&loads);
        let primary_shares = self.primary_quotas.nearest(&primaries);
        let transfers = Transfers::new(
            &self.zones,
            &self.held,
            &self.ring,
            &shares,
            &primary_shares,
        );
        transfers.choose(self.copies_wanted)
    }

    /// Who gets a new copy of a range: a zone without one first, then by the ring.
    fn receiver(&self, range: Range, copies: &Assignment) -> Option<Rank> {
        let holders = copies.nodes(range);
        ranks(self.members)
            .filter(|&node| copies.is_open(node) && !holders.contains(&node))
            .min_by_key(|&node| {
                let mut others = holders.iter();
                let shares_zone = others.any(|&other| self.zones.are_mates(node, other));
                (shares_zone, self.ring.distance(range, node), node)
            })
    }

    fn deal_primaries(&self, copies: &Assignment) -> Assignment {
        let mut primaries = Assignment::new(self.primary_quotas.clone(), 1);
        for (range, held) in Range::all().zip(&self.held) {
            if copies.nodes(range).contains(&held.primary) {
                primaries.offer(range, held.primary);
            }
        }
        for range in Range::all() {
            let mut holders = copies.nodes(range).clone();
            holders.sort_by_key(|&node| (self.ring.distance(range, node), node));
            for node in holders {
                primaries.offer(range, node);
            }
        }
        let is_holder = |range, node| copies.nodes(range).contains(&node);
        primaries.complete(is_holder, |_, _| true);
        primaries.cheapen(is_holder, &PrimariesCost { held: &self.held });
        for range in Range::all() {
            if primaries.missing(range) > 0 {
                primaries.force(range, copies.nodes(range)[0]);
            }
        }
        primaries
    }
}

/// New copies cost, and copies in one zone.
struct CopiesCost<'a> {
    zones: &'a Zones,
    held: &'a [AllHeld],
}

impl Cost for CopiesCost<'_> {
    fn is_there(&self, range: Range, node: Rank) -> bool {
        self.held[usize::from(range.index())].contains(&node)
    }

    fn are_close(&self, one: Rank, other: Rank) -> bool {
        self.zones.are_mates(one, other)
    }
}

/// Primary changes cost.
struct PrimariesCost<'a> {
    held: &'a [Held],
}

impl Cost for PrimariesCost<'_> {
    fn is_there(&self, range: Range, node: Rank) -> bool {
        self.held[usize::from(range.index())].primary == node
    }

    fn are_close(&self, _: Rank, _: Rank) -> bool {
        false
    }
}

/// The ranks of all members.
fn ranks(members: &[Member]) -> std::ops::Range<Rank> {
    0..Rank::try_from(members.len()).expect("at most MEMBERS_MAX")
}
