//! When this node proposes, and how an attempt goes on.
//!
//! ```text
//! reason seen --k x TURN_MS--> attempt --quorum promises--> primaries hold --> proposed --> decided
//!                  |              | refused, outbid, late     (hand-overs)
//!                  +--> no moves  +--> again, later
//! ```
//! k counts the more senior members that are heard: they should have done it before.

use std::sync::Arc;

use super::Coordinator;
use super::timing::{
    ATTEMPT_MS, BACKOFF_MAX_MS, EPOCH_GAP_MS, JOIN_GAP_MAX_MS, JOIN_GAP_MS, RESEND_MS,
    RESTART_WAIT_MS, TURN_MS,
};
use crate::decision::{Ballot, Change, HOLDERS_WAIT_MS, Proposer, successor};
use crate::message::{Accused, Message};
use crate::{Epoch, Incarnation, Member, NodeId, Time, Topology};

/// What a node remembers from one attempt to the next.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Since when there is a reason to decide.
    since: Option<Time>,
    /// No attempt before this.
    not_before: Time,
    /// No moves before this.
    no_moves_before: Time,
    /// When the first of those joined who came one soon after the other.
    joined_at: Time,
    /// No copies for lost ones before this.
    rebuild_at: Time,
    resend_at: Time,
    /// The highest counter of a ballot that was seen or used.
    counter: u64,
    /// Where a look for moves found nothing to do.
    idle_at: Option<(Epoch, u64, bool)>,
    /// What the attempt is to change, and what that loses.
    change: Change,
    lost_ranges: u32,
    wake: Option<Time>,
}

/// Why a topology is to be decided.
#[derive(Debug, Default)]
struct Case {
    accused: Vec<Accused>,
    removed: Vec<NodeId>,
    reborn: Vec<Member>,
    joiners: Vec<Member>,
    is_stale: bool,
    is_healing: bool,
    has_moves: bool,
}

impl Case {
    fn is_urgent(&self) -> bool {
        !self.accused.is_empty() || self.is_stale || self.is_healing
    }

    fn is_reason(&self) -> bool {
        self.is_urgent() || !self.joiners.is_empty() || self.has_moves
    }
}

impl Turn {
    pub(super) fn deadline(&self, now: Time) -> Option<Time> {
        self.wake.filter(|&wake| wake > now)
    }

    /// No attempt before the members had time to be heard again.
    pub(super) fn postpone(&mut self, now: Time) {
        self.not_before = now.plus_ms(TURN_MS);
    }

    /// A ballot was seen: the next one of this node is higher.
    pub(super) fn note_ballot(&mut self, ballot: Ballot) {
        self.counter = self.counter.max(ballot.counter);
    }

    /// No attempt beside another's before that had its time. If nothing comes of it, those who promised
    /// have their turns one after the other, as always.
    pub(super) fn yield_to(&mut self, ballot: Ballot, me: NodeId, now: Time) {
        if ballot.id != me {
            let end = now.plus_ms(HOLDERS_WAIT_MS);
            self.not_before = self.not_before.max(end.plus_ms(TURN_MS));
            if let Some(since) = &mut self.since {
                *since = end.max(*since);
            }
        }
    }

    pub(super) fn no_moves_for(&mut self, ms: u64, now: Time) {
        self.no_moves_before = now.plus_ms(ms);
    }

    /// Copies for lost ones may be made at once.
    pub(super) fn rebuild_now(&mut self, now: Time) {
        self.rebuild_at = self.rebuild_at.min(now);
    }

    pub(super) fn may_rebuild(&self, now: Time) -> bool {
        now >= self.rebuild_at
    }

    pub(super) fn handle_topology(
        &mut self,
        before: Option<&Topology>,
        topology: &Topology,
        now: Time,
        rebuild_delay_ms: u64,
    ) {
        self.since = None;
        self.not_before = now.plus_ms(EPOCH_GAP_MS);
        let Some(before) = before else {
            return;
        };
        let are_all_in = |one: &Topology, other: &Topology| {
            let mut members = one.members().iter();
            members.all(|member| other.member(member.id).is_some())
        };
        if !are_all_in(topology, before) {
            // Nodes that come and go again and again must not stop all moves.
            if now.ms_since(self.joined_at) > JOIN_GAP_MAX_MS {
                self.joined_at = now;
            }
            let latest = self.joined_at.plus_ms(JOIN_GAP_MAX_MS);
            self.rebuild_at = now.plus_ms(JOIN_GAP_MS).min(latest);
        } else if !are_all_in(before, topology) {
            self.rebuild_at = now.plus_ms(rebuild_delay_ms);
        }
    }
}

impl Coordinator {
    pub(super) fn proposer_deadline(&self) -> Option<Time> {
        self.proposer.as_ref()?;
        Some(self.plan_deadline().unwrap_or(self.turn.resend_at))
    }

    /// The attempt of this ballot, if it is still going on.
    pub(super) fn attempt(&mut self, ballot: Ballot) -> Option<&mut Proposer> {
        let attempt = self.proposer.as_mut();
        attempt.filter(|attempt| attempt.ballot() == ballot)
    }

    pub(super) fn receive_nack(&mut self, ballot: Ballot, promised: Ballot) {
        self.turn.note_ballot(promised);
        if self.attempt(ballot).is_some() {
            self.back_off();
        }
    }

    pub(super) fn receive_alive(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        node: NodeId,
        heard_ms_ago: u16,
    ) {
        let heard = Time(self.now.0.saturating_sub(heard_ms_ago.into()));
        if let Some(attempt) = self.attempt(ballot) {
            attempt.handle_refusal(from);
            if attempt.accused().iter().any(|accused| accused.id == node) {
                self.liveness.vouch(node, heard);
            }
        }
    }

    pub(super) fn advance_turn(&mut self) {
        self.turn.wake = None;
        let Some(topology) = self.decided.clone().filter(|_| self.is_voter()) else {
            return;
        };
        if self.proposer.is_some() {
            self.advance_attempt();
            return;
        }
        let case = self.case(&topology);
        if !case.is_reason() {
            self.turn.since = None;
            self.turn.wake = self.next_silence(&topology);
            return;
        }
        let since = *self.turn.since.get_or_insert(self.now);
        let due = self.due(&topology, since);
        if due > self.now {
            self.turn.wake = Some(due);
            return;
        }
        if !self.hears_quorum(&topology) || !self.may_propose(&topology) {
            return;
        }
        if case.is_urgent() {
            let change = Change {
                removed: case.removed,
                reborn: case.reborn,
                table: self.take_up_bases(&topology, &case.joiners, None),
                joiners: case.joiners,
            };
            self.begin_attempt(&topology, case.accused, change);
        } else {
            self.look_for_moves(&topology, case.joiners);
        }
    }

    fn look_for_moves(&mut self, topology: &Arc<Topology>, joiners: Vec<Member>) {
        let looked = self.looked_at(topology);
        let Some((change, hand_overs)) = self.moves_wanted(topology, joiners) else {
            self.turn.idle_at = Some(looked);
            self.turn.since = None;
            return;
        };
        if let Some(table) = change.table.as_ref().filter(|_| !hand_overs.is_empty()) {
            self.plan_hand_overs(topology, table, hand_overs);
        }
        self.begin_attempt(topology, Vec::new(), change);
    }

    /// When it is this node's turn, if nobody before it acts.
    fn due(&self, topology: &Topology, since: Time) -> Time {
        if self.is_hold_late() {
            // Nobody else knows.
            return since.max(self.turn.not_before);
        }
        let rank = topology.rank(self.me).unwrap_or(0);
        let seniors = topology.members()[..rank].iter();
        let heard = seniors.filter(|member| self.is_heard(member.id)).count();
        let turn = since.plus_ms(TURN_MS * heard as u64);
        turn.max(self.turn.not_before)
    }

    /// A node that was just started waits for the others of a cluster that was restarted as a whole:
    /// who proposes without them empties their ranges.
    fn may_propose(&self, topology: &Topology) -> bool {
        let are_all_heard = || {
            let mut members = topology.members().iter();
            members.all(|member| self.is_heard(member.id))
        };
        self.is_current() || self.now.ms_since(self.started) >= RESTART_WAIT_MS || are_all_heard()
    }

    fn next_silence(&self, topology: &Topology) -> Option<Time> {
        let others = topology.members().iter().filter(|m| m.id != self.me);
        let silences = others.map(|member| self.liveness.silent_at(member.id).plus_ms(1));
        silences.filter(|&at| at > self.now).min()
    }

    fn looked_at(&self, topology: &Topology) -> (Epoch, u64, bool) {
        (topology.epoch(), self.requests.version(), self.may_move())
    }

    fn case(&self, topology: &Topology) -> Case {
        let now = self.now;
        let mut case = Case {
            is_stale: self.acceptor.is_stale(now) || self.is_hold_late(),
            is_healing: self.is_healing(topology),
            ..Case::default()
        };
        for member in topology.members() {
            self.judge(member, &mut case);
        }
        let joiners = self.requests.joiners(now);
        let new = joiners.filter(|joiner| topology.member(joiner.id).is_none());
        case.joiners = new.cloned().collect();
        let is_idle = self.turn.idle_at == Some(self.looked_at(topology));
        let waits = !self.requests.leaving(now).is_empty();
        case.has_moves =
            (!is_idle || waits) && now >= self.turn.no_moves_before && self.branch.is_none();
        case
    }

    /// Adds a member to the accused if it is silent or was started again.
    fn judge(&self, member: &Member, case: &mut Case) {
        let known = self.newest_incarnation(member.id);
        let is_me = member.id == self.me;
        let is_silent = !is_me && self.liveness.is_silent(member.id, self.now);
        let reborn = known.filter(|known| *known > member.incarnation);
        if reborn.is_none() && !is_silent {
            return;
        }
        case.accused.push(Accused {
            id: member.id,
            incarnation: member.incarnation,
            reborn,
        });
        let Some(incarnation) = reborn else {
            case.removed.push(member.id);
            return;
        };
        let hello = self.requests.joiner(member.id, self.now);
        let hello = hello.filter(|hello| hello.incarnation == incarnation);
        match hello {
            _ if is_me => case.reborn.push(self.config.member.clone()),
            Some(hello) => case.reborn.push(hello.clone()),
            None if self.is_heard(member.id) => case.reborn.push(Member {
                incarnation,
                ..member.clone()
            }),
            None => case.removed.push(member.id),
        }
    }

    fn newest_incarnation(&self, id: NodeId) -> Option<Incarnation> {
        if id == self.me {
            return Some(self.incarnation());
        }
        self.liveness.incarnation(id)
    }

    fn is_healing(&self, topology: &Topology) -> bool {
        let shows_branch = |member: &Member| {
            let contact = self.liveness.get(member.id);
            contact.is_some_and(|c| c.branch.is_some() && c.epoch == topology.epoch())
                && self.is_heard(member.id)
        };
        self.branch.is_some() || topology.members().iter().any(shows_branch)
    }

    fn begin_attempt(&mut self, topology: &Arc<Topology>, accused: Vec<Accused>, change: Change) {
        let promised = self.acceptor.vote().promised.counter;
        self.turn.counter = self.turn.counter.max(promised) + 1;
        let ballot = Ballot {
            counter: self.turn.counter,
            id: self.me,
            incarnation: self.incarnation(),
        };
        self.turn.change = change;
        self.turn.lost_ranges = 0;
        self.turn.resend_at = self.now.plus_ms(RESEND_MS);
        let message = Message::Prepare {
            ballot,
            accused: accused.clone(),
        };
        let attempt = Proposer::new(Arc::clone(topology), ballot, accused, self.now);
        #[cfg(feature = "sabotage")]
        let attempt = attempt.with_smaller_quorum(self.config.sabotage.quorum_less);
        self.proposer = Some(attempt);
        self.send_all(topology.members().iter().map(|member| member.id), &message);
    }

    fn advance_attempt(&mut self) {
        let Some(mut attempt) = self.proposer.take() else {
            return;
        };
        if let Some(topology) = attempt.decided().cloned() {
            self.commit(&attempt, topology);
            return;
        }
        if attempt.is_hopeless() {
            self.abandon(RESEND_MS);
            return;
        }
        if self.now.ms_since(attempt.started()) >= ATTEMPT_MS {
            self.back_off();
            return;
        }
        if attempt.is_prepared(self.now) {
            if attempt.is_inherited() || !self.waits_for_holds(attempt.ballot()) {
                self.propose(&mut attempt);
            }
        } else if self.now >= self.turn.resend_at {
            let missing: Vec<NodeId> = attempt.missing().collect();
            self.send_phase(&attempt, missing);
        }
        self.proposer = Some(attempt);
    }

    fn propose(&mut self, attempt: &mut Proposer) {
        let mut change = std::mem::take(&mut self.turn.change);
        self.drop_late_hand_overs(attempt.base(), &mut change);
        let lost = &mut self.turn.lost_ranges;
        attempt.propose(|attempt| {
            let outcome = successor(attempt.base(), &change, attempt.positions());
            *lost = outcome.lost_ranges;
            Arc::new(outcome.topology)
        });
        let members: Vec<NodeId> = attempt.missing().collect();
        self.send_phase(attempt, members);
    }

    /// Sends the message of the current phase.
    fn send_phase(&mut self, attempt: &Proposer, nodes: Vec<NodeId>) {
        self.turn.resend_at = self.now.plus_ms(RESEND_MS);
        let ballot = attempt.ballot();
        let message = match attempt.value() {
            Some(topology) => Message::Accept {
                ballot,
                topology: Arc::clone(topology),
            },
            None => Message::Prepare {
                ballot,
                accused: attempt.accused().to_vec(),
            },
        };
        self.send_all(nodes, &message);
    }

    fn commit(&mut self, attempt: &Proposer, topology: Arc<Topology>) {
        if !attempt.is_inherited() && !attempt.accused().is_empty() {
            self.counters.elections += 1;
            self.counters.lost_ranges += u64::from(self.turn.lost_ranges);
        }
        let old = attempt.base().members().iter();
        let all = old.chain(topology.members()).map(|member| member.id);
        let all: Vec<NodeId> = all.collect();
        self.install(Arc::clone(&topology));
        self.send_others(all, &Message::Commit(topology));
    }

    /// Gives an attempt up that another's stood in the way of. Members with different ranks try again
    /// at different times.
    fn back_off(&mut self) {
        let rank = self.decided.as_ref().and_then(|t| t.rank(self.me));
        let wait_ms = TURN_MS * (1 + rank.unwrap_or(0) as u64);
        self.abandon(wait_ms.min(BACKOFF_MAX_MS));
    }

    /// Gives an attempt up; there is no other for so long.
    pub(super) fn abandon(&mut self, wait_ms: u64) {
        self.proposer = None;
        self.give_up_plan();
        self.counters.abandoned_attempts += 1;
        let end = self.now.plus_ms(wait_ms);
        self.turn.not_before = end.max(self.turn.not_before);
    }
}
