//! Moves: where the next table comes from, and how a primary hands a range over.
//!
//! ```text
//! proposer                      primary (maybe the same node)
//!   HoldWrites(range, to) ----> holds writes, until `to` has everything
//!   <---- HandOverReady(range)
//!   decides the next epoch ---> forwards what it held
//!   or ReleaseWrites ---------> executes what it held
//! ```
//! A primary that has heard neither after `HOLD_MS` can't know whether the hand-over is still decided:
//! what it executed then might be lost with nobody at fault. So it holds on, and decides an epoch itself.

use std::collections::{BTreeMap, BTreeSet};

use super::timing::HOLD_MS;
use super::{Coordinator, Event};
use crate::decision::{Ballot, Change};
use crate::message::{HandOver, Message};
use crate::placement::Step;
use crate::topology::{COPIES_MAX, CopyList};
use crate::{Copies, Member, NodeId, RANGES_COUNT, Range, Term, Time, Topology};

/// How long a proposer waits for primaries; the rest of `HOLD_MS` is for the decision.
const READY_MS: u64 = HOLD_MS / 2;

/// A proposal that waits for primaries to hold writes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: Ballot,
    change: Change,
    /// Who was asked to hold.
    primaries: Vec<NodeId>,
    waiting: BTreeSet<Range>,
    ready: BTreeSet<Range>,
    until: Time,
}

/// Writes that this primary holds.
#[derive(Debug)]
pub(super) struct Hold {
    plan: Ballot,
    ranges: Vec<Range>,
    /// From then on the plan is late.
    until: Time,
}

impl Hold {
    pub(super) fn ranges(&self) -> &[Range] {
        &self.ranges
    }
}

impl Coordinator {
    pub(super) fn hold_deadline(&self) -> Option<Time> {
        let hold = self.hold.as_ref();
        hold.map(|hold| hold.until)
            .filter(|&until| until > self.now)
    }

    /// Whether writes have been held for so long that this node is to find out what comes of it.
    pub(super) fn is_hold_late(&self) -> bool {
        let hold = self.hold.as_ref();
        hold.is_some_and(|hold| self.now >= hold.until)
    }

    pub(super) fn plan_deadline(&self) -> Option<Time> {
        self.plan.as_ref().map(|plan| plan.until)
    }

    /// What is to change if nobody died; starts the hand-overs that it needs.
    pub(super) fn make_plan(
        &mut self,
        topology: &Topology,
        joiners: Vec<Member>,
    ) -> Option<Change> {
        let leaving = self.requests.leaving(self.now);
        let mut change = Change {
            joiners,
            ..Change::default()
        };
        let handovers = if leaving.is_empty() {
            let claimed = self.claimed(topology);
            let step = claimed.or_else(|| self.next_step(topology, &change.joiners));
            let handovers = step.as_ref().map(|step| step.handovers.clone());
            change.table = step.map(|step| step.table);
            handovers.unwrap_or_default()
        } else {
            self.evacuate(topology, &leaving, &mut change)
        };
        change.table = self.take_up_bases(topology, &change.joiners, change.table.take());
        let is_nothing =
            change.table.is_none() && change.joiners.is_empty() && change.removed.is_empty();
        if is_nothing || handovers.is_empty() {
            return (!is_nothing).then_some(change);
        }
        self.hold_writes(topology, change, handovers);
        None
    }

    fn next_step(&self, topology: &Topology, joiners: &[Member]) -> Option<Step> {
        let is_complete =
            |range: Range, node: NodeId| self.requests.is_complete(topology, range, node);
        // Moves come when all who join have joined.
        if self.is_paused() || !self.may_move() || !joiners.is_empty() {
            return promotions(topology, &is_complete);
        }
        let place = self.config.place;
        place(topology, &is_complete, self.limits())
    }

    /// Gives copies that are missing to joiners that had them before, all at once: they need no full
    /// sync, and what a member is not named for it drops. `table` is what is to change else.
    pub(super) fn take_up_bases(
        &self,
        topology: &Topology,
        joiners: &[Member],
        table: Option<Vec<Copies>>,
    ) -> Option<Vec<Copies>> {
        if joiners.is_empty() {
            return table;
        }
        let mut is_changed = table.is_some();
        let copies = || topology.ranges().map(|(_, copies)| copies.clone());
        let mut table = table.unwrap_or_else(|| copies().collect());
        let copies_wanted = 1 + usize::from(topology.replicas_wanted());
        for (range, copies) in Range::all().zip(&mut table) {
            for joiner in joiners {
                if copies.nodes().count() < copies_wanted
                    && self.requests.has_base(joiner.id, range)
                    && !copies.is_held_by(joiner.id)
                {
                    is_changed |= copies.learners.try_push(joiner.id).is_ok();
                }
            }
        }
        is_changed.then_some(table)
    }

    /// The table that takes everything from members that leave: their primaryships go to complete
    /// copies; where there is none, one is started. Those that hold nothing alone any more are
    /// removed, and so are those that waited too long.
    fn evacuate(
        &self,
        topology: &Topology,
        leaving: &BTreeMap<NodeId, bool>,
        change: &mut Change,
    ) -> Vec<Range> {
        let mut shares: BTreeMap<NodeId, usize> = BTreeMap::new();
        for member in topology.members() {
            if !leaving.contains_key(&member.id) {
                shares.insert(member.id, 0);
            }
        }
        if shares.is_empty() {
            // All want to stop: nobody is left to take anything over, and nothing to wait for.
            let others = leaving.keys().filter(|&&id| id != self.me);
            change.removed = others.copied().collect();
            return Vec::new();
        }
        for (_, copies) in topology.ranges() {
            shares.entry(copies.primary).and_modify(|count| *count += 1);
        }
        let mut handovers = Vec::new();
        let mut needed = BTreeSet::new();
        let mut table = Vec::new();
        for (range, copies) in topology.ranges() {
            let mut copies = copies.clone();
            if leaving.contains_key(&copies.primary) {
                let is_whole = |node: NodeId| {
                    copies.replicas.contains(&node)
                        || self.requests.is_complete(topology, range, node)
                };
                let heirs = copies.followers().filter(|node| shares.contains_key(node));
                let heirs = heirs.filter(|&node| is_whole(node));
                if let Some(heir) = heirs.min_by_key(|node| shares[node]) {
                    *shares.entry(heir).or_default() += 1;
                    hand_over(&mut copies, heir, topology.epoch().next());
                    handovers.push(range);
                } else {
                    needed.insert(copies.primary);
                    let has_learner = copies.learners.iter().any(|node| shares.contains_key(node));
                    let fewest = shares.iter().min_by_key(|(_, count)| **count);
                    if let Some((&node, _)) = fewest.filter(|_| !has_learner)
                        && copies.learners.try_push(node).is_ok()
                    {
                        *shares.entry(node).or_default() += 1;
                    }
                }
            }
            table.push(copies);
        }
        let is_done =
            |(id, waited): (&NodeId, &bool)| (*waited || !needed.contains(id)).then_some(*id);
        change.removed = leaving.iter().filter_map(is_done).collect();
        let mut ranges = topology.ranges().zip(&table);
        if ranges.any(|((_, copies), next)| copies != next) {
            change.table = Some(table);
        }
        handovers
    }

    fn hold_writes(&mut self, topology: &Topology, change: Change, handovers: Vec<Range>) {
        let table = change.table.as_ref().expect("hand-overs are in a table");
        let mut by_primary: BTreeMap<NodeId, Vec<HandOver>> = BTreeMap::new();
        for &range in &handovers {
            let to = table[usize::from(range.index())].primary;
            let hand_overs = by_primary
                .entry(topology.copies(range).primary)
                .or_default();
            hand_overs.push(HandOver { range, to });
        }
        let id = self.next_ballot();
        self.plan = Some(Plan {
            id,
            change,
            primaries: by_primary.keys().copied().collect(),
            waiting: handovers.into_iter().collect(),
            ready: BTreeSet::new(),
            until: self.now.plus_ms(READY_MS),
        });
        for (primary, hand_overs) in by_primary {
            let plan = id;
            self.send(primary, Message::HoldWrites { plan, hand_overs });
        }
    }

    pub(super) fn receive_ready(&mut self, id: Ballot, ranges: &[Range]) {
        if let Some(plan) = self.plan.as_mut().filter(|plan| plan.id == id) {
            for range in ranges {
                if plan.waiting.remove(range) {
                    plan.ready.insert(*range);
                }
            }
        }
    }

    /// Whether hand-overs are waited for no longer: they are ready, or had their time.
    pub(super) fn is_plan_ripe(&self) -> bool {
        let plan = self.plan.as_ref();
        plan.is_some_and(|plan| plan.waiting.is_empty() || self.now >= plan.until)
    }

    /// The change of the plan without the hand-overs that are not ready, if anything is left of it.
    pub(super) fn take_plan(&mut self, topology: &Topology) -> Option<Change> {
        let plan = self.plan.take()?;
        self.counters.aborted_hand_overs += plan.waiting.len() as u64;
        let mut change = plan.change;
        if let Some(table) = &mut change.table {
            for range in plan.waiting {
                let copies = topology.copies(range);
                change.removed.retain(|&node| node != copies.primary);
                table[usize::from(range.index())] = copies.clone();
            }
        }
        let is_same = |table: &Vec<Copies>| {
            let mut ranges = topology.ranges().zip(table);
            ranges.all(|((_, copies), next)| copies == next)
        };
        let is_nothing = change.joiners.is_empty()
            && change.removed.is_empty()
            && change.table.as_ref().is_none_or(is_same);
        if is_nothing {
            self.send_all(plan.primaries, &Message::ReleaseWrites { plan: plan.id });
        }
        (!is_nothing).then_some(change)
    }

    /// Proposes nothing of what was planned.
    pub(super) fn give_up_plan(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.send_all(plan.primaries, &Message::ReleaseWrites { plan: plan.id });
        }
    }

    pub(super) fn receive_hold_writes(
        &mut self,
        from: NodeId,
        plan: Ballot,
        hand_overs: Vec<HandOver>,
    ) {
        let Some(topology) = &self.decided else {
            return;
        };
        let is_mine = |hand_over: &HandOver| {
            let copies = topology.copies(hand_over.range);
            copies.primary == self.me && copies.is_held_by(hand_over.to)
        };
        let can_hold = self.hold.is_none() && self.branch.is_none() && self.is_current();
        if !can_hold || plan.id != from || !hand_overs.iter().all(is_mine) {
            return;
        }
        self.hold = Some(Hold {
            plan,
            ranges: hand_overs.iter().map(|hand_over| hand_over.range).collect(),
            until: self.now.plus_ms(HOLD_MS),
        });
        self.outbox.push(Event::Hold(hand_overs));
    }

    pub(super) fn receive_held(&mut self, ranges: &[Range]) {
        let Some(hold) = &self.hold else {
            return;
        };
        let is_held = |range: &Range| hold.ranges.contains(range);
        let ready = ranges.iter().copied().filter(is_held).collect();
        let plan = hold.plan;
        self.send(
            plan.id,
            Message::HandOverReady {
                plan,
                ranges: ready,
            },
        );
    }

    pub(super) fn receive_release_writes(&mut self, plan: Ballot) {
        if self.hold.take_if(|hold| hold.plan == plan).is_some() {
            self.outbox.push(Event::Release);
        }
    }
}

/// Learners whose copies are whole become replicas; nothing else changes.
fn promotions(topology: &Topology, is_complete: &dyn Fn(Range, NodeId) -> bool) -> Option<Step> {
    let mut is_changed = false;
    let mut table = Vec::with_capacity(RANGES_COUNT.into());
    for (range, copies) in topology.ranges() {
        let mut copies = copies.clone();
        let room = COPIES_MAX - 1 - copies.replicas.len();
        let learners = copies.learners.iter().copied();
        let whole: CopyList = learners
            .filter(|&node| is_complete(range, node))
            .take(room)
            .collect();
        is_changed |= !whole.is_empty();
        copies.learners.retain(|node| !whole.contains(node));
        copies.replicas.extend(whole);
        table.push(copies);
    }
    is_changed.then(|| Step {
        table,
        handovers: Vec::new(),
    })
}

/// Makes a follower the primary, and the primary a replica.
pub(super) fn hand_over(copies: &mut Copies, heir: NodeId, term: Term) {
    let before = std::mem::replace(&mut copies.primary, heir);
    copies.replicas.retain(|node| *node != heir);
    copies.learners.retain(|node| *node != heir);
    // If there is no room, the heir was one too many, and the leaving member is not needed.
    let _ = copies.replicas.try_push(before);
    copies.term = term;
}
