//! Who lives, as far as this node can tell.
//!
//! A heartbeat counts as a sign of life only if it echoes a nonce that this node sent lately: a node
//! that can be heard and can't hear would otherwise keep its ranges for ever, and serve nobody.

use std::collections::BTreeMap;

use super::timing::{ASK_MS, QUIET_MS, SILENT_MS};
use crate::message::{Heartbeat, Nonce};
use crate::topology::{Branch, MEMBERS_MAX};
use crate::{Epoch, Incarnation, NodeId, Time, Topology};

/// Most nodes that are remembered beside the members.
const STRANGERS_MAX: usize = 64;

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    /// The newest start that was heard of.
    pub(super) incarnation: Incarnation,
    /// Its last sign of life.
    heard: Option<Time>,
    /// It is not thought dead before this time and `SILENT_MS`.
    grace: Time,
    /// When it was last asked because it was quiet.
    asked: Time,
    /// Its newest nonce.
    pub(super) nonce: Nonce,
    /// When the newest nonce was sent that it echoed from the epoch of this node.
    echoed: Option<Time>,
    /// The newest decided epoch that it showed.
    pub(super) epoch: Epoch,
    /// The branch that it showed.
    pub(super) branch: Option<Branch>,
    /// Whether it has a quorum.
    pub(super) has_quorum: bool,
}

/// All nodes that this one knows about.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    contacts: BTreeMap<NodeId, Contact>,
    /// Nobody is thought dead before this time and `SILENT_MS`: the node slept, or just started.
    grace: Time,
}

impl Liveness {
    pub(super) fn get(&self, id: NodeId) -> Option<&Contact> {
        self.contacts.get(&id)
    }

    /// Starts all waits for silence again.
    pub(super) fn forgive(&mut self, now: Time) {
        self.grace = now;
    }

    /// Another member heard a node at that time: it is thought dead `SILENT_MS` later, not before.
    pub(super) fn vouch(&mut self, id: NodeId, heard: Time) {
        if let Some(contact) = self.contacts.get_mut(&id) {
            contact.grace = contact.grace.max(heard);
        }
    }

    /// For how many ms, at most `SILENT_MS`, nothing was heard of one that is not silent yet.
    pub(super) fn heard_ms_ago(&self, id: NodeId, now: Time) -> Option<u16> {
        let heard = self.contacts.get(&id)?.heard?;
        let ms = u16::try_from(now.ms_since(heard)).ok()?;
        (u64::from(ms) <= SILENT_MS).then_some(ms)
    }

    /// Keeps those who matter for `topology`, and gives new members their time.
    pub(super) fn handle_topology(
        &mut self,
        before: Option<&Topology>,
        topology: &Topology,
        now: Time,
    ) {
        let mut strangers = 0;
        self.contacts.retain(|&id, _| {
            let is_member = topology.member(id).is_some();
            strangers += usize::from(!is_member);
            is_member || strangers <= STRANGERS_MAX
        });
        for member in topology.members() {
            let contact = self.contacts.entry(member.id).or_default();
            if before.is_none_or(|before| before.member(member.id).is_none()) {
                contact.grace = now;
            }
            contact.incarnation = contact.incarnation.max(member.incarnation);
        }
    }

    /// Whether a sender is the newest start that is known of its node. A newer one than known is
    /// remembered, and what was known of the older is forgotten.
    pub(super) fn admits(&mut self, id: NodeId, incarnation: Incarnation, now: Time) -> bool {
        if !self.contacts.contains_key(&id) && self.contacts.len() >= self.count_max() {
            return true;
        }
        let contact = self.contacts.entry(id).or_default();
        if incarnation > contact.incarnation {
            *contact = Contact {
                incarnation,
                grace: now,
                ..Contact::default()
            };
        }
        incarnation == contact.incarnation
    }

    fn count_max(&self) -> usize {
        MEMBERS_MAX + STRANGERS_MAX
    }

    /// A heartbeat of the newest start. `is_for_me`: it was meant for this start of this node.
    pub(super) fn handle_heartbeat(
        &mut self,
        from: NodeId,
        heartbeat: Heartbeat,
        epoch: Epoch,
        branch: Option<Branch>,
        (mine, is_for_me, now): (Epoch, bool, Time),
    ) {
        let Some(contact) = self.contacts.get_mut(&from) else {
            return;
        };
        if heartbeat.nonce >= contact.nonce {
            contact.nonce = heartbeat.nonce;
            contact.epoch = contact.epoch.max(epoch);
            contact.branch = branch;
            contact.has_quorum = heartbeat.has_quorum;
        }
        let echo = Time(heartbeat.echo);
        if !is_for_me || heartbeat.echo == 0 || echo > now {
            return;
        }
        if now.ms_since(echo) <= SILENT_MS {
            contact.heard = Some(now);
        }
        if epoch == mine {
            contact.echoed = contact.echoed.max(Some(echo));
        }
    }

    /// Whether there was a sign of life of it lately.
    pub(super) fn is_heard(&self, id: NodeId, now: Time) -> bool {
        self.heard_ms_ago(id, now).is_some()
    }

    /// Whether it is thought dead.
    pub(super) fn is_silent(&self, id: NodeId, now: Time) -> bool {
        self.silent_at(id) < now
    }

    /// When it will be thought dead if nothing is heard.
    pub(super) fn silent_at(&self, id: NodeId) -> Time {
        let contact = self.contacts.get(&id);
        let heard = contact.and_then(|contact| contact.heard);
        let grace = contact.map_or(self.grace, |contact| contact.grace.max(self.grace));
        grace.max(heard.unwrap_or(grace)).plus_ms(SILENT_MS)
    }

    /// When it is to be asked for an answer, if nothing is heard: it is quiet, and not silent yet.
    /// `None`: no more, it is silent then, or by now.
    fn ask_at(&self, id: NodeId, now: Time) -> Option<Time> {
        let silent_at = self.silent_at(id);
        let quiet_at = Time(silent_at.0.saturating_sub(SILENT_MS - QUIET_MS));
        let asked = self.contacts.get(&id).map_or(Time(0), |one| one.asked);
        let at = quiet_at.max(asked.plus_ms(ASK_MS));
        (at <= silent_at && now <= silent_at).then_some(at)
    }

    /// When the first of these members is to be asked.
    pub(super) fn next_ask(
        &self,
        members: impl Iterator<Item = NodeId>,
        now: Time,
    ) -> Option<Time> {
        members.filter_map(|id| self.ask_at(id, now)).min()
    }

    /// Whether to ask a member for an answer now; it is asked then.
    pub(super) fn asks(&mut self, id: NodeId, now: Time) -> bool {
        let is_due = self.ask_at(id, now).is_some_and(|at| at <= now);
        if let Some(contact) = self.contacts.get_mut(&id).filter(|_| is_due) {
            contact.asked = now;
        }
        is_due
    }

    /// The newest start known.
    pub(super) fn incarnation(&self, id: NodeId) -> Option<Incarnation> {
        self.contacts.get(&id).map(|contact| contact.incarnation)
    }

    /// The latest time after which a quorum of `topology` answered `me`: nonces sent then came back.
    pub(super) fn contact(&self, topology: &Topology, me: NodeId, now: Time) -> Option<Time> {
        let echoed = |id| {
            if id == me {
                return Some(now);
            }
            self.contacts.get(&id).and_then(|contact| contact.echoed)
        };
        let members = topology.members().iter();
        let mut times: Vec<Time> = members.filter_map(|member| echoed(member.id)).collect();
        times.sort_unstable();
        times.dedup();
        let is_enough = |&time: &Time| topology.is_quorum(|id| echoed(id) >= Some(time));
        times.into_iter().rev().find(is_enough)
    }
}

#[cfg(test)]
mod tests {
    use super::{ASK_MS, Liveness, QUIET_MS, SILENT_MS};
    use crate::decision::samples::topology;
    use crate::message::Heartbeat;
    use crate::{Epoch, Incarnation, NodeId, Time};

    fn beat(nonce: u64, echo: u64) -> Heartbeat {
        Heartbeat {
            nonce,
            echo,
            is_asking: false,
            has_quorum: true,
        }
    }

    fn liveness() -> Liveness {
        let mut liveness = Liveness::default();
        liveness.handle_topology(None, &topology(1, &[1, 2, 3]), Time(1_000));
        liveness
    }

    fn hear(liveness: &mut Liveness, from: u64, echo: u64, now: u64) {
        let context = (Epoch(1), true, Time(now));
        liveness.handle_heartbeat(NodeId(from), beat(now, echo), Epoch(1), None, context);
    }

    #[test]
    fn only_an_answer_is_a_sign_of_life() {
        let mut liveness = liveness();
        hear(&mut liveness, 2, 0, 1_100);
        assert!(!liveness.is_heard(NodeId(2), Time(1_100)));
        hear(&mut liveness, 2, 1_050, 1_200);
        assert!(liveness.is_heard(NodeId(2), Time(1_200 + SILENT_MS)));
        assert!(!liveness.is_silent(NodeId(2), Time(1_200 + SILENT_MS)));
        assert!(liveness.is_silent(NodeId(2), Time(1_201 + SILENT_MS)));
        // It is heard, and can't hear: its echo gets old.
        hear(&mut liveness, 2, 1_050, 1_060 + SILENT_MS);
        assert!(liveness.is_silent(NodeId(2), Time(1_201 + SILENT_MS)));
    }

    #[test]
    fn who_is_quiet_is_asked_until_it_is_silent() {
        let mut liveness = liveness();
        hear(&mut liveness, 2, 1_050, 1_100);
        let node = NodeId(2);
        let (quiet, silent) = (1_100 + QUIET_MS, 1_100 + SILENT_MS);
        let next_ask = |liveness: &Liveness, now| liveness.next_ask([node].into_iter(), Time(now));
        assert_eq!(next_ask(&liveness, 1_100), Some(Time(quiet)));
        // One that was not asked in time is not asked for ever.
        assert_eq!(next_ask(&liveness, silent + 1), None);
        assert!(!liveness.asks(node, Time(quiet - 1)));
        let mut asked = Vec::new();
        for now in quiet..silent + 1_000 {
            if liveness.asks(node, Time(now)) {
                asked.push(now);
                let next = Some(Time(now + ASK_MS)).filter(|at| at.0 <= silent);
                assert_eq!(next_ask(&liveness, now), next);
            }
        }
        let expected: Vec<u64> = (0..=8).map(|count| quiet + count * ASK_MS).collect();
        assert_eq!(asked, expected);
        // It answers, and is not asked for a while.
        hear(&mut liveness, 2, silent, silent + 10);
        assert!(!liveness.asks(node, Time(silent + 10)));
    }

    #[test]
    fn a_quorum_counts_from_its_slowest_answer() {
        let mut liveness = liveness();
        let topology = topology(1, &[1, 2, 3]);
        let contact = |liveness: &Liveness| liveness.contact(&topology, NodeId(1), Time(2_000));
        assert_eq!(contact(&liveness), None);
        hear(&mut liveness, 2, 1_500, 1_900);
        hear(&mut liveness, 3, 1_600, 1_900);
        assert_eq!(contact(&liveness), Some(Time(1_600)));
        // Answers from another epoch prove nothing about this one.
        let context = (Epoch(1), true, Time(2_000));
        liveness.handle_heartbeat(NodeId(3), beat(9_999, 1_950), Epoch(2), None, context);
        assert_eq!(contact(&liveness), Some(Time(1_600)));
    }

    #[test]
    fn who_was_heard_by_another_is_silent_when_it_is_for_both() {
        let mut liveness = liveness();
        hear(&mut liveness, 2, 1_050, 1_100);
        let now = Time(1_100 + SILENT_MS + 1);
        assert_eq!(liveness.heard_ms_ago(NodeId(2), Time(1_150)), Some(50));
        assert_eq!(liveness.heard_ms_ago(NodeId(2), now), None);
        liveness.vouch(NodeId(2), Time(1_300));
        assert!(!liveness.is_silent(NodeId(2), Time(1_300 + SILENT_MS)));
        assert!(liveness.is_silent(NodeId(2), Time(1_301 + SILENT_MS)));
        // Who heard it earlier shortens nothing.
        liveness.vouch(NodeId(2), Time(1_200));
        assert!(!liveness.is_silent(NodeId(2), Time(1_300 + SILENT_MS)));
    }

    #[test]
    fn a_later_start_makes_a_stranger_of_the_older() {
        let mut liveness = liveness();
        hear(&mut liveness, 2, 1_050, 1_200);
        assert!(liveness.admits(NodeId(2), Incarnation(2), Time(1_300)));
        assert!(!liveness.admits(NodeId(2), Incarnation(1), Time(1_300)));
        assert!(!liveness.is_heard(NodeId(2), Time(1_300)));
        assert!(!liveness.is_silent(NodeId(2), Time(1_300 + SILENT_MS)));
    }
}
