//! What nodes want of the next topology: to join, to leave, to have a full copy counted.

use std::collections::BTreeMap;

use super::timing::{JOINER_MS, JOINERS_MAX, LEAVE_MS, REPEAT_MS, REPORT_FANOUT, RESEND_MS};
use super::{Coordinator, Event, Start};
use crate::message::{Completion, Message};
use crate::{Incarnation, Member, NodeId, Range, RangeSet, Term, Time, Topology};

/// What others asked of this node, and what this node asks of others.
#[derive(Debug, Default)]
pub(super) struct Requests {
    joiners: BTreeMap<NodeId, Joiner>,
    leaving: BTreeMap<NodeId, Time>,
    complete: BTreeMap<(NodeId, Range), (Incarnation, Term)>,
    /// Counts changes of the above.
    version: u64,
    /// Nodes without a cluster that answered.
    met: BTreeMap<NodeId, Time>,
    own_complete: BTreeMap<Range, Term>,
    /// What this node had copies of when it was a member last, in this life.
    bases: RangeSet,
    leave_since: Option<Time>,
    /// This node was let go; the others are being told.
    is_let_go: bool,
    repeat_at: Time,
}

/// A node that wants to be a member.
#[derive(Debug)]
struct Joiner {
    member: Member,
    /// Ranges of which it has a copy from before.
    bases: RangeSet,
    heard: Time,
}

impl Joiner {
    fn is_fresh(&self, now: Time) -> bool {
        now.ms_since(self.heard) <= JOINER_MS
    }
}

impl Requests {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// There is something new to look at.
    pub(super) fn note_change(&mut self) {
        self.version += 1;
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        Some(self.repeat_at)
    }

    /// Joiners that were heard lately.
    pub(super) fn joiners(&self, now: Time) -> impl Iterator<Item = &Member> {
        let all = self.joiners.values();
        let fresh = all.filter(move |joiner| joiner.is_fresh(now));
        fresh.map(|joiner| &joiner.member)
    }

    /// Whether a joiner has a copy of `range` from before.
    pub(super) fn has_base(&self, id: NodeId, range: Range) -> bool {
        let joiner = self.joiners.get(&id);
        joiner.is_some_and(|joiner| joiner.bases.contains(range))
    }

    pub(super) fn joiner(&self, id: NodeId, now: Time) -> Option<&Member> {
        self.joiners(now).find(|member| member.id == id)
    }

    /// Members that want to leave, and whether they waited long enough.
    pub(super) fn leaving(&self, now: Time) -> BTreeMap<NodeId, bool> {
        let all = self.leaving.iter();
        all.map(|(&id, since)| (id, now.ms_since(*since) > LEAVE_MS))
            .collect()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave_since.is_some()
    }

    pub(super) fn let_go(&mut self) {
        self.is_let_go = true;
    }

    fn has_waited(&self, now: Time) -> bool {
        let since = self.leave_since;
        since.is_some_and(|since| now.ms_since(since) > LEAVE_MS)
    }

    pub(super) fn leave(&mut self, now: Time) {
        self.leave_since.get_or_insert(now);
        self.repeat_at = now;
    }

    pub(super) fn meet(&mut self, node: NodeId, now: Time) {
        if self.met.len() < JOINERS_MAX || self.met.contains_key(&node) {
            self.met.insert(node, now);
        }
    }

    pub(super) fn note_leaving(&mut self, node: NodeId, now: Time) {
        let count = self.leaving.len();
        self.leaving.entry(node).or_insert(now);
        self.version += u64::from(self.leaving.len() > count);
    }

    pub(super) fn complete(&mut self, from: NodeId, incarnation: Incarnation, all: &[Completion]) {
        for Completion { range, term } in all {
            let before = self.complete.insert((from, *range), (incarnation, *term));
            self.version += u64::from(before != Some((incarnation, *term)));
        }
    }

    /// Whether a learner's copy was reported whole, by the process and in the term of `topology`.
    pub(super) fn is_complete(&self, topology: &Topology, range: Range, node: NodeId) -> bool {
        let incarnation = topology.member(node).map(|member| member.incarnation);
        let reported = self.complete.get(&(node, range));
        let wanted = incarnation.map(|incarnation| (incarnation, topology.copies(range).term));
        reported.is_some() && reported.copied() == wanted
    }

    /// Forgets what this topology did, and what it makes pointless.
    pub(super) fn handle_topology(&mut self, topology: &Topology) {
        self.joiners.retain(|&id, joiner| {
            let member = topology.member(id);
            member.is_none_or(|member| member.incarnation < joiner.member.incarnation)
        });
        self.leaving.retain(|&id, _| topology.member(id).is_some());
        self.complete.retain(|&(node, range), (_, term)| {
            let copies = topology.copies(range);
            copies.term == *term && copies.learners.contains(&node)
        });
        self.met.clear();
        self.repeat_at = Time(0);
    }

    /// This node was a member, with these copies, and is none any more.
    pub(super) fn note_bases(&mut self, bases: RangeSet) {
        self.own_complete.clear();
        self.bases = bases;
    }

    fn join(&mut self, member: Member, bases: RangeSet, now: Time) {
        let id = member.id;
        if self.joiners.len() >= JOINERS_MAX && !self.joiners.contains_key(&id) {
            self.joiners.retain(|_, joiner| joiner.is_fresh(now));
            if self.joiners.len() >= JOINERS_MAX {
                return;
            }
        }
        let joiner = Joiner {
            member,
            bases,
            heard: now,
        };
        let before = self.joiners.insert(id, joiner);
        let is_known = before.is_some_and(|before| before.is_fresh(now));
        self.version += u64::from(!is_known);
    }
}

impl Coordinator {
    pub(super) fn receive_hello(&mut self, from: NodeId, member: Member, bases: RangeSet) {
        if member.id != from {
            return;
        }
        self.send(from, Message::HelloReply(self.decided.clone()));
        let Some(topology) = &self.decided else {
            self.requests.meet(from, self.now);
            return;
        };
        let known = topology.member(from).map(|member| member.incarnation);
        if known.is_none_or(|known| known < member.incarnation) {
            self.requests.join(member, bases, self.now);
        }
    }

    pub(super) fn receive_complete(&mut self, ranges: &[Range]) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        for &range in ranges {
            let term = topology.copies(range).term;
            if self.requests.own_complete.insert(range, term) != Some(term) {
                self.requests.repeat_at = self.now;
            }
        }
    }

    /// Says again what this node wants, until a topology has it.
    pub(super) fn advance_requests(&mut self) {
        if self.now < self.requests.repeat_at {
            return;
        }
        self.requests.repeat_at = self.now.plus_ms(REPEAT_MS);
        if self.requests.is_let_go {
            self.say_goodbye();
            return;
        }
        if !self.is_current() {
            self.say_hello();
            return;
        }
        let Some(topology) = self.decided.clone() else {
            return;
        };
        let me = self.me;
        self.requests.own_complete.retain(|&range, term| {
            let copies = topology.copies(range);
            copies.term == *term && copies.learners.contains(&me)
        });
        let own = self.requests.own_complete.iter();
        let completions: Vec<Completion> = own
            .map(|(&range, &term)| Completion { range, term })
            .collect();
        if !completions.is_empty() {
            self.report(&topology, &Message::Complete(completions));
        }
        if self.requests.is_leaving() {
            // Without a quorum, or if all are leaving, nobody lets it go.
            if topology.members().len() == 1 || self.requests.has_waited(self.now) {
                self.outbox.push(Event::Left);
            }
            self.report(&topology, &Message::Leave);
        }
    }

    /// Tells the others of the topology without this node, which may have decided it alone, until a
    /// quorum of them shows that it knows.
    fn say_goodbye(&mut self) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        let knows = |id| {
            let contact = self.liveness.get(id);
            contact.is_some_and(|contact| contact.epoch >= topology.epoch())
        };
        if topology.is_quorum(knows) || self.requests.has_waited(self.now) {
            self.requests.is_let_go = false;
            self.outbox.push(Event::Left);
            return;
        }
        self.requests.repeat_at = self.now.plus_ms(RESEND_MS);
        let members: Vec<NodeId> = topology.members().iter().map(|member| member.id).collect();
        self.send_others(members, &Message::TopologyIs(topology));
        self.send_heartbeats(true);
    }

    /// Sends to the most senior members that are heard.
    fn report(&mut self, topology: &Topology, message: &Message) {
        let members = topology.members().iter().map(|member| member.id);
        let heard = members.filter(|&id| self.is_heard(id)).take(REPORT_FANOUT);
        let heard: Vec<NodeId> = heard.collect();
        self.send_all(heard, message);
    }

    fn say_hello(&mut self) {
        if self.requests.is_leaving() {
            return;
        }
        let hello = Message::Hello {
            member: self.config.member.clone(),
            bases: Box::new(self.requests.bases.clone()),
        };
        if let Some(topology) = self.decided.clone() {
            let members = topology.members().iter().map(|member| member.id);
            self.send_others(members, &hello);
        }
        let targets = match self.config.start {
            Start::Found(_) => 0,
            Start::Join { targets } | Start::Bootstrap { targets, .. } => targets,
        };
        for target in 0..targets {
            let envelope = self.envelope(None, hello.clone());
            self.outbox.push(Event::Hello { target, envelope });
        }
        if let Start::Bootstrap {
            cluster, expect, ..
        } = self.config.start
            && self.decided.is_none()
        {
            let met = self.requests.met.values();
            let fresh = met.filter(|met| self.now.ms_since(**met) <= JOINER_MS);
            if fresh.count() + 1 >= usize::from(expect) {
                self.found(cluster);
            }
        }
    }
}
