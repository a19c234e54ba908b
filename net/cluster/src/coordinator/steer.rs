//! What operators ask: moves now, fewer at a time or none; and primaryships for this node.
//!
//! None of it is decided by a quorum, because none of it can do harm: it is said to all members, and
//! who proposes follows the newest that it heard of. It is said for a while by whom the
//! operator asked, and again by the most senior members after each change of the topology, so that
//! new ones hear of it. A cluster that is restarted as a whole has forgotten it.

use std::collections::BTreeMap;

use super::Coordinator;
use super::handover::hand_over;
use super::timing::{JOINER_MS, REPEAT_MS, REPORT_FANOUT, STEER_MS};
use crate::message::{Message, Moves, Steering};
use crate::placement::{Limits, Step};
use crate::{Copies, NodeId, Range, Time, Topology};

/// What was asked, here or elsewhere.
#[derive(Debug, Default)]
pub(super) struct Steer {
    newest: Option<Steering>,
    /// This node says the newest until then.
    say_until: Option<Time>,
    /// This node asks for primaryships until then.
    claim_until: Option<Time>,
    /// Who asks for primaryships, and until when that counts.
    claims: BTreeMap<NodeId, Time>,
    /// No balance before this: it would undo what was asked for.
    keep_until: Time,
    repeat_at: Time,
}

impl Steer {
    pub(super) fn deadline(&self) -> Option<Time> {
        let is_speaking = self.say_until.is_some() || self.claim_until.is_some();
        is_speaking.then_some(self.repeat_at)
    }

    /// New members are to hear of it.
    pub(super) fn handle_topology(&mut self, now: Time) {
        if self.newest.is_some() {
            self.say_until = Some(now.plus_ms(STEER_MS));
            self.repeat_at = now;
        }
    }

    fn moves(&self) -> Moves {
        self.newest.map(|newest| newest.moves).unwrap_or_default()
    }

    fn claimants(&self, now: Time) -> impl Iterator<Item = NodeId> {
        let fresh = self.claims.iter().filter(move |(_, until)| now < **until);
        fresh.map(|(&node, _)| node)
    }
}

impl Coordinator {
    /// The operator wants moves so, in the whole cluster.
    pub fn handle_steer(&mut self, now: Time, moves: Moves) {
        self.begin(now);
        let count = self.steer.newest.map_or(0, |newest| newest.count) + 1;
        let by = self.me;
        self.receive_steer(Steering { count, by, moves });
        self.steer.say_until = Some(now.plus_ms(STEER_MS));
        self.steer.repeat_at = now;
        self.settle();
    }

    /// The operator wants this node to be the primary of the ranges that it has replicas of. Returns
    /// whether there are any.
    pub fn handle_fail_over(&mut self, now: Time) -> bool {
        self.begin(now);
        let has_replicas = self.has_replicas();
        if has_replicas {
            self.steer.claim_until = Some(now.plus_ms(STEER_MS));
            self.steer.repeat_at = now;
        }
        self.settle();
        has_replicas
    }

    /// What was asked of moves last.
    #[must_use]
    pub fn moves(&self) -> Moves {
        self.steer.moves()
    }

    /// Whether primaryships that were asked for are still elsewhere.
    #[must_use]
    pub fn is_failing_over(&self) -> bool {
        self.steer.claim_until.is_some()
    }

    pub(super) fn receive_steer(&mut self, steering: Steering) {
        let rank = |one: &Steering| (one.count, one.by);
        if self.steer.newest.as_ref().map(rank) >= Some(rank(&steering)) {
            return;
        }
        if !steering.moves.is_paused {
            self.turn.rebuild_now(self.now);
            self.steer.keep_until = self.now;
        }
        self.steer.newest = Some(steering);
        self.requests.note_change();
    }

    pub(super) fn receive_claim(&mut self, from: NodeId) {
        let until = self.now.plus_ms(JOINER_MS);
        let before = self.steer.claims.insert(from, until);
        if before.is_none_or(|before| before <= self.now) {
            self.requests.note_change();
        }
        let delay_ms = self.config.rebuild_delay_ms;
        self.steer.keep_until = self.now.plus_ms(delay_ms);
        let now = self.now;
        self.steer.claims.retain(|_, until| now < *until);
    }

    /// Says again what was asked for here.
    pub(super) fn advance_steer(&mut self) {
        if self.steer.deadline().is_none_or(|at| self.now < at) {
            return;
        }
        self.steer.repeat_at = self.now.plus_ms(REPEAT_MS);
        let now = self.now;
        self.steer.say_until.take_if(|until| now >= *until);
        self.steer.claim_until.take_if(|until| now >= *until);
        if !self.has_replicas() {
            self.steer.claim_until = None;
        }
        let Some(topology) = self.decided.clone().filter(|_| self.is_current()) else {
            return;
        };
        let members: Vec<NodeId> = topology.members().iter().map(|member| member.id).collect();
        let newest = self.steer.newest.filter(|_| self.steer.say_until.is_some());
        let heard = members.iter().filter(|id| self.is_heard(**id));
        let is_senior = heard.take(REPORT_FANOUT).any(|&id| id == self.me);
        if let Some(newest) = newest.filter(|newest| is_senior || newest.by == self.me) {
            self.send_all(members.iter().copied(), &Message::Steer(newest));
        }
        if self.steer.claim_until.is_some() {
            self.send_all(members, &Message::Claim);
        }
    }

    fn has_replicas(&self) -> bool {
        let topology = self.decided.as_ref().filter(|_| self.branch.is_none());
        let is_mine = |copies: &Copies| copies.replicas.contains(&self.me);
        topology.is_some_and(|topology| topology.ranges().any(|(_, copies)| is_mine(copies)))
    }

    /// Whether ranges may move now, as far as operators and deaths are concerned.
    pub(super) fn may_move(&self) -> bool {
        let is_kept = self.now < self.steer.keep_until;
        self.turn.may_rebuild(self.now) && !is_kept && !self.steer.moves().is_paused
    }

    pub(super) fn is_paused(&self) -> bool {
        self.steer.moves().is_paused
    }

    pub(super) fn limits(&self) -> Limits {
        let mut limits = self.config.limits;
        if let Some(count) = self.steer.moves().learners_per_node_max {
            limits.learners_per_node_max = usize::from(count.get());
        }
        limits
    }

    /// The table that gives claimants the primaryships of the ranges that they have whole copies of.
    pub(super) fn claimed(&self, topology: &Topology) -> Option<Step> {
        let claimants: Vec<NodeId> = self.steer.claimants(self.now).collect();
        if claimants.is_empty() {
            return None;
        }
        let mut handovers: Vec<Range> = Vec::new();
        let mut table = Vec::new();
        for (range, copies) in topology.ranges() {
            let mut copies = copies.clone();
            let has_room = handovers.len() < self.config.limits.handovers_max;
            let is_claimed = has_room && !claimants.contains(&copies.primary);
            let mut heirs = copies.replicas.iter().copied();
            let heir = heirs.find(|node| is_claimed && claimants.contains(node));
            if let Some(heir) = heir {
                hand_over(&mut copies, heir, topology.epoch().next());
                handovers.push(range);
            }
            table.push(copies);
        }
        (!handovers.is_empty()).then_some(Step { table, handovers })
    }
}
