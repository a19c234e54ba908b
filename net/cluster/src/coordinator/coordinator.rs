//! The state machine's state, its calls, and what it does with each message.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::acceptor::Acceptor;
use super::branch::{Branches, Gathering};
use super::handover::{Hold, Plan};
use super::liveness::Liveness;
use super::outbox::Outbox;
use super::requests::Requests;
use super::steer::Steer;
use super::timing::{HEARTBEAT_MS, PAUSE_MS, QUORUM_LOST_MS};
use super::turn::Turn;
use super::{Config, Counters, Event, Minority, Saved, SealedPosition, Serving, Start};
use crate::decision::{Ballot, Proposer, Vote};
use crate::message::{Envelope, Heartbeat, Message};
use crate::{ClusterId, Epoch, Incarnation, Member, NodeId, Range, Time, Topology};

/// See the module's documentation for who calls what.
#[derive(Debug)]
pub struct Coordinator {
    pub(super) config: Config,
    pub(super) me: NodeId,
    /// The newest decided topology.
    pub(super) decided: Option<Arc<Topology>>,
    /// The branch of it that this side lives in.
    pub(super) branch: Option<Arc<Topology>>,
    /// A topology that this node founds, until it is on disk.
    founded: Option<Arc<Topology>>,
    pub(super) liveness: Liveness,
    pub(super) outbox: Outbox,
    pub(super) acceptor: Acceptor,
    pub(super) requests: Requests,
    pub(super) steer: Steer,
    pub(super) turn: Turn,
    pub(super) proposer: Option<Proposer>,
    pub(super) plan: Option<Plan>,
    pub(super) hold: Option<Hold>,
    pub(super) gathering: Option<Gathering>,
    pub(super) branches: Branches,
    pub(super) counters: Counters,
    pub(super) now: Time,
    pub(super) started: Time,
    pub(super) installed: Time,
    /// When this node found that it had slept, until a quorum answered.
    pub(super) resumed: Option<Time>,
    /// A newer epoch that was seen, and when.
    pub(super) ahead: Option<(Epoch, Time)>,
    pub(super) heartbeat_at: Time,
    pub(super) fetch_at: Time,
}

impl Coordinator {
    /// Starts a node at `now`.
    #[must_use]
    pub fn new(config: Config, now: Time) -> Self {
        let me = config.member.id;
        let saved = config.saved.clone();
        let epoch = saved.topology.as_ref().map_or(Epoch(0), |t| t.epoch());
        let vote = saved.vote.filter(|vote| vote.epoch == epoch);
        let mut coordinator = Self {
            me,
            decided: None,
            branch: None,
            founded: None,
            liveness: Liveness::default(),
            outbox: Outbox::new(me),
            acceptor: Acceptor::new(vote.unwrap_or_else(|| Vote::new(epoch))),
            requests: Requests::default(),
            steer: Steer::default(),
            turn: Turn::default(),
            proposer: None,
            plan: None,
            hold: None,
            gathering: None,
            branches: Branches::default(),
            counters: Counters::default(),
            now,
            started: now,
            installed: now,
            resumed: None,
            ahead: None,
            heartbeat_at: now,
            fetch_at: now,
            config,
        };
        coordinator.liveness.forgive(now);
        if let Some(topology) = saved.topology {
            coordinator.liveness.handle_topology(None, &topology, now);
            coordinator
                .outbox
                .push(Event::Install(Arc::clone(&topology)));
            coordinator.decided = Some(topology);
        } else if let Start::Found(cluster) = coordinator.config.start {
            coordinator.found(cluster);
        }
        coordinator.settle();
        coordinator
    }

    /// A message arrived over a stream. Who sent it has proven that it knows the secret.
    pub fn handle_message(&mut self, now: Time, envelope: Envelope) {
        self.begin(now);
        self.receive(envelope);
        self.settle();
    }

    /// A datagram arrived. What isn't a heartbeat is dropped.
    pub fn handle_datagram(&mut self, now: Time, bytes: &[u8]) {
        self.begin(now);
        if let Ok(envelope) = Envelope::decode(bytes)
            && envelope.heartbeat().is_some()
        {
            self.receive(envelope);
        }
        self.settle();
    }

    /// The time of `next_deadline` came.
    pub fn handle_timeout(&mut self, now: Time) {
        self.begin(now);
        self.settle();
    }

    /// What `Event::Persist` with this serial asked for, and all before, is on disk.
    pub fn handle_persisted(&mut self, now: Time, serial: u64) {
        self.begin(now);
        self.outbox.handle_persisted(serial);
        if self.outbox.is_durable()
            && let Some(topology) = self.founded.take_if(|_| self.decided.is_none())
        {
            self.install(topology);
        }
        self.settle();
    }

    /// The cores did what `Event::Seal` with this serial asked for; these are their copies of its
    /// ranges.
    pub fn handle_sealed(&mut self, now: Time, serial: u64, positions: &[SealedPosition]) {
        self.begin(now);
        self.receive_sealed(serial, positions);
        self.settle();
    }

    /// These ranges' writes are held for this attempt, and their next primaries have everything.
    pub fn handle_held(&mut self, now: Time, ballot: Ballot, ranges: &[Range]) {
        self.begin(now);
        self.receive_held(ballot, ranges);
        self.settle();
    }

    /// The copies of these ranges, of which this node is a learner in the installed topology, have
    /// become whole.
    pub fn handle_complete(&mut self, now: Time, ranges: &[Range]) {
        self.begin(now);
        self.receive_complete(ranges);
        self.settle();
    }

    /// This node is to stop: others take over what it holds, then `Event::Left` tells so.
    pub fn handle_leave(&mut self, now: Time) {
        self.begin(now);
        self.requests.leave(now);
        if !self.is_current() {
            self.outbox.push(Event::Left);
        }
        self.settle();
    }

    /// The operator says that the quorum is gone for good: the branch that this node founded becomes
    /// a cluster of its own, of this new name. Returns whether there is such a branch.
    pub fn handle_adopt(&mut self, now: Time, cluster: ClusterId) -> bool {
        self.begin(now);
        let is_adopted = self.adopt(cluster);
        self.settle();
        is_adopted
    }

    /// Asks all members for an answer now. A core that finds that it got no turn for
    /// [`PAUSE_MS`] calls this, and executes nothing before `contact` is at or after that
    /// time, or `serves` says that this node is in the minority.
    pub fn confirm(&mut self, now: Time) {
        self.begin(now);
        self.send_heartbeats(true);
        self.settle();
    }

    /// What to do next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.poll()
    }

    /// When to call `handle_timeout`, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        let wakes = [
            Some(self.heartbeat_at),
            self.liveness.next_ask(self.others(), self.now),
            self.requests.deadline(),
            self.steer.deadline(),
            self.hold_deadline(),
            self.gathering_deadline(),
            self.proposer_deadline(),
            self.turn.deadline(self.now),
        ];
        let earliest = wakes.into_iter().flatten().min();
        earliest
            .expect("the heartbeat is one")
            .max(self.now.plus_ms(1))
    }

    /// Whether this node may execute commands now.
    #[must_use]
    pub fn serves(&self, now: Time) -> Serving {
        if !self.is_current() {
            return Serving::Outside;
        }
        if self.branch.is_some() {
            return Serving::Provisional;
        }
        if self.is_quorum_lost(now) {
            return match self.config.minority {
                Minority::Refuse => Serving::Refused,
                Minority::Serve => Serving::Unconfirmed,
            };
        }
        let is_asleep = now.ms_since(self.now) > PAUSE_MS;
        let is_confirmed = self.resumed.is_none_or(|time| self.contact() >= Some(time));
        if is_asleep || !is_confirmed {
            return Serving::Unconfirmed;
        }
        Serving::Decided
    }

    /// The latest time such that a quorum answered what was sent then.
    #[must_use]
    pub fn contact(&self) -> Option<Time> {
        let topology = self.decided.as_ref()?;
        self.liveness.contact(topology, self.me, self.now)
    }

    /// The installed topology: the branch, or the newest decided one.
    #[must_use]
    pub fn topology(&self) -> Option<&Arc<Topology>> {
        self.branch.as_ref().or(self.decided.as_ref())
    }

    /// The newest decided topology.
    #[must_use]
    pub fn decided(&self) -> Option<&Arc<Topology>> {
        self.decided.as_ref()
    }

    /// Whether this node lives in a branch.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.branch.is_some()
    }

    /// The members that aren't heard.
    pub fn silent_members(&self, now: Time) -> impl Iterator<Item = NodeId> + '_ {
        self.others()
            .filter(move |&id| self.liveness.is_silent(id, now))
    }

    /// Whether a member has said that it acts on `topology`, or on a later one.
    #[must_use]
    pub fn has_shown(&self, member: NodeId, topology: &Topology) -> bool {
        let contact = self.liveness.get(member);
        member == self.me
            || contact.is_some_and(|contact| {
                let (shown, wanted) = (contact.epoch, topology.epoch());
                shown > wanted || shown == wanted && contact.branch == topology.branch()
            })
    }

    /// Numbers for INFO and metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The attempt that this node is making, for status and tests.
    #[must_use]
    pub fn proposer(&self) -> Option<&Proposer> {
        self.proposer.as_ref()
    }

    /// Whether the newest decided topology names this process.
    pub(super) fn is_current(&self) -> bool {
        let named = self.decided.as_ref().and_then(|t| t.member(self.me));
        let is_mine =
            |incarnation| incarnation == self.incarnation() || !self.config.checks_incarnations();
        named.is_some_and(|member| is_mine(member.incarnation))
    }

    /// Whether the newest decided topology names this node, in whatever incarnation: it has a vote.
    pub(super) fn is_voter(&self) -> bool {
        let topology = self.decided.as_ref();
        topology.is_some_and(|topology| topology.member(self.me).is_some())
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.decided.as_ref().map_or(Epoch(0), |t| t.epoch())
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.config.member.incarnation
    }

    /// Whether no quorum answered for too long. Who slept could not hear, and gets as long again.
    pub(super) fn is_quorum_lost(&self, now: Time) -> bool {
        let since = self.contact().max(Some(self.installed)).max(self.resumed);
        since.is_some_and(|since| now.ms_since(since) > QUORUM_LOST_MS)
    }

    /// Whether a newer decided topology exists that can't be fetched yet.
    pub(super) fn is_behind(&self) -> bool {
        self.ahead.is_some_and(|(epoch, seen)| {
            epoch > self.epoch() && self.now.ms_since(seen) <= QUORUM_LOST_MS
        })
    }

    /// Whether the members that this node hears are a quorum, itself among them.
    pub(super) fn hears_quorum(&self, topology: &Topology) -> bool {
        topology.is_quorum(|id| self.is_heard(id))
    }

    pub(super) fn is_heard(&self, id: NodeId) -> bool {
        id == self.me || self.liveness.is_heard(id, self.now)
    }

    pub(super) fn begin(&mut self, now: Time) {
        if now.ms_since(self.now) > PAUSE_MS {
            self.resumed = Some(now);
            self.liveness.forgive(now);
            self.turn.postpone(now);
            self.now = now;
            self.send_heartbeats(true);
        }
        self.now = self.now.max(now);
        if self
            .resumed
            .is_some_and(|time| self.contact() >= Some(time))
        {
            self.resumed = None;
        }
    }

    /// Does all that time and the last message made possible.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(envelope) = self.outbox.poll_loopback() {
                self.receive(envelope);
            }
            if self.now >= self.heartbeat_at {
                self.send_heartbeats(false);
            }
            self.ask_the_quiet();
            self.advance_requests();
            self.advance_steer();
            self.advance_branch();
            self.advance_turn();
            if !self.outbox.has_loopback() {
                return;
            }
        }
    }

    /// Acts on a decided topology.
    pub(super) fn install(&mut self, topology: Arc<Topology>) {
        let (me, incarnation) = (self.me, self.incarnation());
        let before = self.decided.replace(Arc::clone(&topology));
        if self.branch.take().is_some() {
            self.counters.divergences += 1;
        }
        self.acceptor = Acceptor::new(Vote::new(topology.epoch()));
        self.proposer = None;
        self.plan = None;
        self.hold = None;
        self.gathering = None;
        self.branches.handle_topology();
        self.installed = self.now;
        self.liveness
            .handle_topology(before.as_deref(), &topology, self.now);
        if let Some(before) = before.as_deref()
            && before.is_life_of(me, incarnation)
            && !topology.is_life_of(me, incarnation)
        {
            let held = before.ranges().filter(|(_, copies)| copies.is_held_by(me));
            self.requests
                .note_bases(held.map(|(range, _)| range).collect());
        }
        self.requests.handle_topology(&topology);
        self.steer.handle_topology(self.now);
        let delay_ms = self.config.rebuild_delay_ms;
        self.turn
            .handle_topology(before.as_deref(), &topology, self.now, delay_ms);
        self.persist();
        self.outbox.push(Event::Install(Arc::clone(&topology)));
        if self.requests.is_leaving() && before.is_some() && topology.member(self.me).is_none() {
            self.requests.let_go();
        }
        self.send_heartbeats(false);
    }

    /// Founds a cluster, which begins when it is on disk: else a node that forgets that it founded
    /// one would found another.
    pub(super) fn found(&mut self, cluster: ClusterId) {
        if self.founded.is_some() {
            return;
        }
        let member = self.config.member.clone();
        let topology = Topology::founded(cluster, member, self.config.replicas_wanted);
        let topology = Arc::new(topology);
        self.outbox.persist(Saved {
            topology: Some(Arc::clone(&topology)),
            vote: Some(Vote::new(topology.epoch())),
        });
        self.founded = Some(topology);
    }

    pub(super) fn persist(&mut self) {
        let saved = Saved {
            topology: self.decided.clone(),
            vote: Some(self.acceptor.vote().clone()),
        };
        self.outbox.persist(saved);
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(Some(to), message);
        self.outbox.send(to, envelope);
    }

    pub(super) fn send_durable(&mut self, to: NodeId, message: Message) {
        let envelope = self.envelope(Some(to), message);
        self.outbox.send_durable(to, envelope);
    }

    pub(super) fn send_all(&mut self, nodes: impl IntoIterator<Item = NodeId>, message: &Message) {
        let distinct: BTreeSet<NodeId> = nodes.into_iter().collect();
        for to in distinct {
            self.send(to, message.clone());
        }
    }

    /// Sends to those of `nodes` that are not this one.
    pub(super) fn send_others(
        &mut self,
        nodes: impl IntoIterator<Item = NodeId>,
        message: &Message,
    ) {
        let me = self.me;
        self.send_all(nodes.into_iter().filter(|&id| id != me), message);
    }

    pub(super) fn envelope(&self, to: Option<NodeId>, message: Message) -> Envelope {
        let to_incarnation = match to {
            Some(to) if to == self.me => Some(self.incarnation()),
            Some(to) => self.liveness.incarnation(to),
            None => None,
        };
        Envelope {
            cluster: self.decided.as_ref().map(|topology| topology.cluster()),
            from: self.me,
            from_incarnation: self.incarnation(),
            to,
            to_incarnation: to_incarnation.filter(|incarnation| incarnation.0 > 0),
            epoch: self.epoch(),
            branch: self.branch.as_ref().and_then(|branch| branch.branch()),
            message,
        }
    }

    /// Sends one to every other member, and sets the time of the next.
    pub(super) fn send_heartbeats(&mut self, is_asking: bool) {
        self.heartbeat_at = self.now.plus_ms(HEARTBEAT_MS);
        let Some(topology) = self.decided.clone() else {
            return;
        };
        for Member { id, .. } in topology.members() {
            if *id != self.me {
                self.send_heartbeat(*id, is_asking);
            }
        }
    }

    /// The other members of the decided topology.
    fn others(&self) -> impl Iterator<Item = NodeId> {
        let members = self.decided.iter().flat_map(|topology| topology.members());
        members.map(|member| member.id).filter(|&id| id != self.me)
    }

    /// Asks members for an answer before they are thought dead.
    fn ask_the_quiet(&mut self) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        for Member { id, .. } in topology.members() {
            if *id != self.me && self.liveness.asks(*id, self.now) {
                self.send_heartbeat(*id, true);
            }
        }
    }

    pub(super) fn send_heartbeat(&mut self, to: NodeId, is_asking: bool) {
        let heartbeat = Heartbeat {
            nonce: self.now.0,
            echo: self.liveness.get(to).map_or(0, |contact| contact.nonce),
            is_asking,
            has_quorum: !self.is_quorum_lost(self.now),
        };
        let envelope = self.envelope(Some(to), Message::Heartbeat(heartbeat));
        let mut bytes = Vec::new();
        envelope.encode(&mut bytes);
        self.outbox.push(Event::Datagram { to, bytes });
    }
}
