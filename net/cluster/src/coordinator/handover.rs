//! Moves: where the next table comes from, and how a primary hands a range over.
//!
//! ```text
//! proposer                      primary (maybe the same node)
//!   a quorum promised
//!   HoldWrites(range, to) ----> holds writes, until `to` has everything
//!   <---- HandOverReady(range)
//!   a quorum accepts: Commit -> forwards what it held
//!   or ReleaseWrites ---------> executes what it held
//! ```
//! Writes are held for the second phase of the decision only.
//!
//! A primary that has heard neither after `HOLD_MS` can't know whether the hand-over is still decided:
//! what it executed then might be lost with nobody at fault. So it holds on, and decides an epoch itself.

use std::collections::{BTreeMap, BTreeSet};

use super::timing::{HOLD_MS, REPEAT_MS};
use super::{Coordinator, Event};
use crate::decision::{Ballot, Change};
use crate::message::{HandOver, Message};
use crate::placement::Step;
use crate::topology::{COPIES_MAX, CopyList};
use crate::{Copies, Member, NodeId, RANGES_COUNT, Range, Term, Time, Topology};

/// How long a proposer waits for primaries; the rest of `HOLD_MS` is for the second phase.
const READY_MS: u64 = HOLD_MS / 2;

/// The hand-overs of an attempt, until it proposes.
#[derive(Debug)]
pub(super) struct Plan {
    by_primary: BTreeMap<NodeId, Vec<HandOver>>,
    /// Those that are not ready.
    waiting: BTreeSet<Range>,
    /// Once the primaries are asked to hold writes: for which attempt, and how long they are waited for.
    asked: Option<(Ballot, Time)>,
}

/// Writes that this primary holds.
#[derive(Debug)]
pub(super) struct Hold {
    ballot: Ballot,
    ranges: Vec<Range>,
    /// From then on the decision is late.
    until: Time,
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
        let asked = self.plan.as_ref().and_then(|plan| plan.asked);
        asked.map(|(_, until)| until)
    }

    /// What is to change if nobody died, and the hand-overs among it.
    pub(super) fn moves_wanted(
        &self,
        topology: &Topology,
        joiners: Vec<Member>,
    ) -> Option<(Change, Vec<Range>)> {
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
        (!is_nothing).then_some((change, handovers))
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

    /// These ranges have other primaries in the table that the attempt is to propose.
    pub(super) fn plan_hand_overs(
        &mut self,
        topology: &Topology,
        table: &[Copies],
        ranges: Vec<Range>,
    ) {
        let mut by_primary: BTreeMap<NodeId, Vec<HandOver>> = BTreeMap::new();
        for &range in &ranges {
            let to = table[usize::from(range.index())].primary;
            let primary = topology.copies(range).primary;
            let hand_overs = by_primary.entry(primary).or_default();
            hand_overs.push(HandOver { range, to });
        }
        self.plan = Some(Plan {
            by_primary,
            waiting: ranges.into_iter().collect(),
            asked: None,
        });
    }

    /// Whether an attempt that may propose waits for writes to be held. Asks for that at first.
    pub(super) fn waits_for_holds(&mut self, ballot: Ballot) -> bool {
        let Some(plan) = &mut self.plan else {
            return false;
        };
        if let Some((_, until)) = plan.asked {
            return !plan.waiting.is_empty() && self.now < until;
        }
        plan.asked = Some((ballot, self.now.plus_ms(READY_MS)));
        for (primary, hand_overs) in plan.by_primary.clone() {
            self.send(primary, Message::HoldWrites { ballot, hand_overs });
        }
        true
    }

    pub(super) fn receive_ready(&mut self, ballot: Ballot, ranges: &[Range]) {
        let asked = |plan: &&mut Plan| plan.asked.is_some_and(|(asked, _)| asked == ballot);
        if let Some(plan) = self.plan.as_mut().filter(asked) {
            for range in ranges {
                plan.waiting.remove(range);
            }
        }
    }

    /// Takes what is not ready out of a change that is about to be proposed. It may leave nothing: the
    /// epoch that is decided then ends the holds.
    pub(super) fn drop_late_hand_overs(&mut self, topology: &Topology, change: &mut Change) {
        let Some(plan) = self.plan.take() else {
            return;
        };
        if plan.asked.is_some() && !plan.waiting.is_empty() {
            self.counters.aborted_hand_overs += plan.waiting.len() as u64;
            self.turn.no_moves_for(REPEAT_MS, self.now);
        }
        if let Some(table) = &mut change.table {
            for range in plan.waiting {
                let copies = topology.copies(range);
                change.removed.retain(|&node| node != copies.primary);
                table[usize::from(range.index())] = copies.clone();
            }
        }
    }

    /// Nothing is proposed: what is held for it may be executed.
    pub(super) fn give_up_plan(&mut self) {
        if let Some(plan) = self.plan.take()
            && let Some((ballot, _)) = plan.asked
        {
            let primaries = plan.by_primary.into_keys();
            self.send_all(primaries, &Message::ReleaseWrites { ballot });
        }
    }

    pub(super) fn receive_hold_writes(
        &mut self,
        from: NodeId,
        ballot: Ballot,
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
        if !can_hold || ballot.id != from || !hand_overs.iter().all(is_mine) {
            return;
        }
        self.hold = Some(Hold {
            ballot,
            ranges: hand_overs.iter().map(|hand_over| hand_over.range).collect(),
            until: self.now.plus_ms(HOLD_MS),
        });
        self.outbox.push(Event::Hold { ballot, hand_overs });
    }

    pub(super) fn receive_held(&mut self, ballot: Ballot, ranges: &[Range]) {
        // The cores may be behind: what they held for another attempt says nothing of this one.
        let hold = self.hold.as_ref().filter(|hold| hold.ballot == ballot);
        let Some(hold) = hold else {
            return;
        };
        let is_held = |range: &Range| hold.ranges.contains(range);
        let ready = ranges.iter().copied().filter(is_held).collect();
        self.send(
            ballot.id,
            Message::HandOverReady {
                ballot,
                ranges: ready,
            },
        );
    }

    pub(super) fn receive_release_writes(&mut self, ballot: Ballot) {
        if self.hold.take_if(|hold| hold.ballot == ballot).is_some() {
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
