//! One attempt of a proposer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Ballot;
use crate::message::{Accused, Position};
use crate::{NodeId, Time, Topology};

/// How long a prepared proposer waits for holders of orphaned ranges that haven't promised yet.
pub const HOLDERS_WAIT_MS: u64 = 200;

/// An attempt to decide the topology after `base`.
///
/// Call `handle_promise` and `handle_refusal` until `is_prepared`, then `propose`, then
/// `handle_accepted` until `is_decided`.
#[derive(Debug)]
pub struct Proposer {
    base: Arc<Topology>,
    ballot: Ballot,
    accused: Vec<Accused>,
    started: Time,
    promises: BTreeMap<NodeId, Vec<Position>>,
    refused: BTreeSet<NodeId>,
    inherited: Option<(Ballot, Arc<Topology>)>,
    value: Option<Arc<Topology>>,
    accepted: BTreeSet<NodeId>,
    quorum_less: usize,
}

impl Proposer {
    /// Starts one at `now`.
    #[must_use]
    pub fn new(base: Arc<Topology>, ballot: Ballot, accused: Vec<Accused>, now: Time) -> Self {
        Self {
            base,
            ballot,
            accused,
            started: now,
            promises: BTreeMap::new(),
            refused: BTreeSet::new(),
            inherited: None,
            value: None,
            accepted: BTreeSet::new(),
            quorum_less: 0,
        }
    }

    /// Lets quorums be smaller by so many members: not Paxos any more, for tests of the checkers.
    #[cfg(feature = "sabotage")]
    #[must_use]
    pub fn with_smaller_quorum(mut self, by: usize) -> Self {
        self.quorum_less = by;
        self
    }

    /// The topology whose members decide.
    #[must_use]
    pub fn base(&self) -> &Arc<Topology> {
        &self.base
    }

    /// Its number.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Whom it accuses.
    #[must_use]
    pub fn accused(&self) -> &[Accused] {
        &self.accused
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Time {
        self.started
    }

    /// What it proposes, once it is prepared.
    #[must_use]
    pub fn value(&self) -> Option<&Arc<Topology>> {
        self.value.as_ref()
    }

    /// Whether it proposes what another one may have proposed before it.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.inherited.is_some()
    }

    /// The members that promised.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.promises.keys().copied()
    }

    /// The positions of those who promised.
    pub fn positions(&self) -> impl Iterator<Item = (NodeId, &Position)> {
        let all = self.promises.iter();
        all.flat_map(|(&node, positions)| positions.iter().map(move |position| (node, position)))
    }

    /// A member promised this ballot. Promises that come after the value was chosen don't count.
    pub fn handle_promise(
        &mut self,
        from: NodeId,
        accepted: Option<(Ballot, Arc<Topology>)>,
        positions: Vec<Position>,
    ) {
        if self.value.is_some() || self.base.member(from).is_none() {
            return;
        }
        let is_higher = |(ballot, _): &(Ballot, Arc<Topology>)| {
            self.inherited
                .as_ref()
                .is_none_or(|(highest, _)| ballot > highest)
        };
        if accepted.as_ref().is_some_and(is_higher) {
            self.inherited = accepted;
        }
        self.refused.remove(&from);
        self.promises.insert(from, positions);
    }

    /// A member hears an accused, and does not promise.
    pub fn handle_refusal(&mut self, from: NodeId) {
        if !self.promises.contains_key(&from) {
            self.refused.insert(from);
        }
    }

    /// Whether those who refuse leave no quorum. Who is accused and was not started again doesn't promise either.
    #[must_use]
    pub fn is_hopeless(&self) -> bool {
        let is_dead = |node| {
            let mut accused = self.accused.iter();
            accused.any(|accused| accused.id == node && accused.reborn.is_none())
        };
        self.value.is_none()
            && !self.is_quorum(|node| !self.refused.contains(&node) && !is_dead(node))
    }

    /// Whether the value can be chosen: a quorum promised, and so did all members that hold an
    /// orphaned range and are not accused, or they had their time.
    #[must_use]
    pub fn is_prepared(&self, now: Time) -> bool {
        if self.value.is_some() || !self.is_quorum(|node| self.promises.contains_key(&node)) {
            return false;
        }
        now.ms_since(self.started) >= HOLDERS_WAIT_MS || !self.is_a_holder_missing()
    }

    /// When `is_prepared` should be asked again, whatever comes.
    #[must_use]
    pub fn holders_deadline(&self) -> Time {
        self.started.plus_ms(HOLDERS_WAIT_MS)
    }

    /// Chooses the value: the accepted one of the highest ballot, else what `build` makes.
    pub fn propose(&mut self, build: impl FnOnce(&Self) -> Arc<Topology>) -> &Arc<Topology> {
        let value = match &self.inherited {
            Some((_, topology)) => Arc::clone(topology),
            None => build(self),
        };
        assert_eq!(value.epoch(), self.base.epoch().next());
        self.value.insert(value)
    }

    /// A member accepted this ballot's value.
    pub fn handle_accepted(&mut self, from: NodeId) {
        if self.value.is_some() {
            self.accepted.insert(from);
        }
    }

    /// The value, if a quorum accepted it.
    #[must_use]
    pub fn decided(&self) -> Option<&Arc<Topology>> {
        let is_decided = self.is_quorum(|node| self.accepted.contains(&node));
        self.value.as_ref().filter(|_| is_decided)
    }

    /// The members whose answer to the current phase is missing.
    pub fn missing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let members = self.base.members().iter().map(|member| member.id);
        members.filter(|member| match self.value {
            None => !self.promises.contains_key(member),
            Some(_) => !self.accepted.contains(member),
        })
    }

    fn is_quorum(&self, nodes: impl Fn(NodeId) -> bool) -> bool {
        if self.quorum_less > 0 {
            let count = self.base.members().iter().filter(|member| nodes(member.id));
            return (count.count() + self.quorum_less) * 2 > self.base.members().len();
        }
        self.base.is_quorum(nodes)
    }

    fn is_a_holder_missing(&self) -> bool {
        let is_accused = |node| self.accused.iter().any(|accused| accused.id == node);
        let is_missing = |node| !is_accused(node) && !self.promises.contains_key(&node);
        let mut missing = self.base.members().iter().map(|member| member.id);
        if self.accused.is_empty() || !missing.any(is_missing) {
            return false;
        }
        let orphaned = self.base.ranges().map(|(_, copies)| copies);
        orphaned
            .filter(|copies| is_accused(copies.primary))
            .any(|copies| copies.followers().any(is_missing))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{HOLDERS_WAIT_MS, Proposer};
    use crate::decision::samples::{copies, topology, topology_of};
    use crate::decision::{Ballot, Vote};
    use crate::message::Accused;
    use crate::{Epoch, Incarnation, NodeId, Time, Topology};

    fn ballot(counter: u64, id: u64) -> Ballot {
        Ballot {
            counter,
            id: NodeId(id),
            incarnation: Incarnation(1),
        }
    }

    fn accused(id: u64) -> Accused {
        Accused {
            id: NodeId(id),
            incarnation: Incarnation(1),
            reborn: None,
        }
    }

    fn next(base: &Topology, shuffle: bool) -> Arc<Topology> {
        let mut parts = base.to_parts();
        parts.epoch = parts.epoch.next();
        if shuffle {
            parts.members.reverse();
        }
        Arc::new(Topology::new(parts).expect("consistent"))
    }

    #[test]
    fn a_quorum_of_both_phases_decides() {
        let base = Arc::new(topology(1, &[1, 2, 3]));
        let mut proposer = Proposer::new(Arc::clone(&base), ballot(1, 1), vec![], Time(0));
        proposer.handle_promise(NodeId(1), None, vec![]);
        assert!(!proposer.is_prepared(Time(0)));
        proposer.handle_promise(NodeId(3), None, vec![]);
        proposer.handle_promise(NodeId(9), None, vec![]);
        assert!(proposer.is_prepared(Time(0)));
        let value = next(&base, false);
        proposer.propose(|_| Arc::clone(&value));
        assert_eq!(proposer.missing().count(), 3);
        proposer.handle_accepted(NodeId(2));
        proposer.handle_accepted(NodeId(2));
        assert_eq!(proposer.decided(), None);
        proposer.handle_accepted(NodeId(1));
        assert_eq!(proposer.decided(), Some(&value));
    }

    #[test]
    fn the_accepted_value_of_the_highest_ballot_is_proposed_again() {
        let base = Arc::new(topology(1, &[1, 2, 3]));
        let low = next(&base, false);
        let high = next(&base, true);
        let mut proposer = Proposer::new(base, ballot(9, 1), vec![], Time(0));
        proposer.handle_promise(NodeId(1), Some((ballot(3, 3), Arc::clone(&high))), vec![]);
        proposer.handle_promise(NodeId(2), Some((ballot(2, 2), low)), vec![]);
        let value = proposer.propose(|_| unreachable!("a value is inherited"));
        assert_eq!(value, &high);
        assert!(proposer.is_inherited());
    }

    #[test]
    fn holders_are_waited_for_but_not_for_long() {
        let base = Arc::new(topology_of(1, &[1, 2, 3], copies(3, &[2], &[], 1)));
        let mut proposer = Proposer::new(base, ballot(1, 1), vec![accused(3)], Time(50));
        proposer.handle_promise(NodeId(1), None, vec![]);
        proposer.handle_promise(NodeId(3), None, vec![]);
        assert!(!proposer.is_prepared(Time(50 + HOLDERS_WAIT_MS - 1)));
        assert!(proposer.is_prepared(proposer.holders_deadline()));
        proposer.handle_promise(NodeId(2), None, vec![]);
        assert!(proposer.is_prepared(Time(51)));
    }

    #[test]
    fn refusals_that_leave_no_quorum_end_it() {
        let base = Arc::new(topology(1, &[1, 2, 3, 4, 5]));
        let reborn = Accused {
            reborn: Some(Incarnation(2)),
            ..accused(5)
        };
        // One that was started again may promise, one that is dead may not.
        for (accused, refusals) in [(accused(5), 2), (reborn, 3)] {
            let mut proposer =
                Proposer::new(Arc::clone(&base), ballot(1, 1), vec![accused], Time(0));
            for id in 2..2 + refusals {
                assert!(!proposer.is_hopeless());
                proposer.handle_refusal(NodeId(id));
            }
            assert!(proposer.is_hopeless());
        }
    }

    /// Two proposers and three acceptors, all interleavings of who reaches whom in which order: they
    /// never decide two values.
    #[test]
    fn two_proposers_never_decide_two_values() {
        let base = Arc::new(topology(1, &[1, 2, 3]));
        let values = [next(&base, false), next(&base, true)];
        // Each step: which proposer, which acceptor, which phase; a schedule is a number in base 12.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut both = 0;
        for _ in 0..20_000 {
            let mut votes = vec![Vote::new(Epoch(1)); 3];
            let mut proposers = [1, 2].map(|id| {
                let ballot = ballot(id, id);
                Proposer::new(Arc::clone(&base), ballot, vec![], Time(0))
            });
            for _ in 0..24 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let step = (state >> 33) % 12;
                let proposer = &mut proposers[(step % 2) as usize];
                let at = (step / 2 % 3) as usize;
                let member = NodeId(at as u64 + 1);
                match (step / 6, proposer.value().cloned()) {
                    (0, None) if votes[at].prepare(proposer.ballot()).is_ok() => {
                        let accepted = votes[at].accepted.clone();
                        proposer.handle_promise(member, accepted, vec![]);
                        if proposer.is_prepared(Time(0)) {
                            proposer.propose(|_| Arc::clone(&values[(step % 2) as usize]));
                        }
                    }
                    (1, Some(value))
                        if votes[at]
                            .accept(proposer.ballot(), Arc::clone(&value))
                            .is_ok() =>
                    {
                        proposer.handle_accepted(member);
                    }
                    _ => {}
                }
            }
            if let [Some(one), Some(two)] = proposers.each_ref().map(Proposer::decided) {
                assert_eq!(one, two);
                both += 1;
            }
        }
        assert!(both > 100, "{both} schedules let both decide");
    }
}
