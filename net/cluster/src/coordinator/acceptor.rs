//! Votes: a promise leaves when it is on disk and the streams of the accused are sealed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::timing::SEAL_MS;
use super::{Coordinator, Event, SealedPosition};
use crate::decision::{Ballot, Vote};
use crate::message::{Accused, Message, Position};
use crate::{NodeId, Range, Time, Topology};

/// The vote, and what it did to this node.
#[derive(Debug)]
pub(super) struct Acceptor {
    vote: Vote,
    /// Since when something is promised or sealed that only the next epoch ends.
    unsettled_since: Option<Time>,
    sealed: BTreeSet<NodeId>,
    serial: u64,
    promise: Option<Promise>,
    gather: Option<Gather>,
}

/// A promise that is given, or will be when the cores have sealed.
#[derive(Debug)]
struct Promise {
    ballot: Ballot,
    to: NodeId,
    serial: u64,
    positions: Option<Vec<Position>>,
}

/// An answer to the founder of a branch.
#[derive(Debug)]
struct Gather {
    to: NodeId,
    count: u64,
    serial: u64,
}

impl Acceptor {
    pub(super) fn new(vote: Vote) -> Self {
        Self {
            vote,
            unsettled_since: None,
            sealed: BTreeSet::new(),
            serial: 0,
            promise: None,
            gather: None,
        }
    }

    pub(super) fn vote(&self) -> &Vote {
        &self.vote
    }

    /// Whether only another decision can end what an attempt left.
    pub(super) fn is_stale(&self, now: Time) -> bool {
        let since = self.unsettled_since;
        since.is_some_and(|since| now.ms_since(since) > SEAL_MS)
    }
}

impl Coordinator {
    pub(super) fn receive_prepare(&mut self, from: NodeId, ballot: Ballot, accused: &[Accused]) {
        self.turn.note_ballot(ballot);
        let promised = self.acceptor.vote.promised;
        if ballot < promised {
            self.send(from, Message::Nack { ballot, promised });
            return;
        }
        let given = self.acceptor.promise.as_ref();
        if given.is_some_and(|promise| promise.ballot == ballot) {
            self.give_promise();
            return;
        }
        if self.resumed.is_some() && !accused.is_empty() {
            // Who slept has heard nobody, and asks just now. The proposer repeats itself.
            return;
        }
        if let Some((node, heard_ms_ago)) = self.living(accused) {
            let alive = Message::Alive {
                ballot,
                node,
                heard_ms_ago,
            };
            self.send(from, alive);
            return;
        }
        let promised = self.acceptor.vote.prepare(ballot);
        promised.expect("the ballot isn't lower");
        self.acceptor.unsettled_since.get_or_insert(self.now);
        self.turn.yield_to(ballot, self.me, self.now);
        let attempt = self.proposer.as_ref().filter(|_| from != self.me);
        if attempt.is_some_and(|attempt| attempt.value().is_none()) {
            self.abandon(0);
        }
        self.persist();
        let dead = accused.iter().map(|accused| accused.id);
        let ranges = self.ranges_of(&dead.clone().collect());
        self.acceptor.sealed.extend(dead);
        let serial = self.seal(ranges);
        self.acceptor.promise = Some(Promise {
            ballot,
            to: from,
            serial: serial.unwrap_or(0),
            positions: serial.is_none().then(Vec::new),
        });
        self.give_promise();
    }

    /// An accused that this node knows to live, and how many ms ago it was heard. Learns of later
    /// starts from the accusation.
    fn living(&mut self, accused: &[Accused]) -> Option<(NodeId, u16)> {
        for accused in accused {
            if let Some(reborn) = accused.reborn
                && accused.id != self.me
            {
                self.liveness.admits(accused.id, reborn, self.now);
            }
        }
        let heard_ms_ago = |accused: &Accused| {
            if accused.id == self.me {
                return (accused.incarnation == self.incarnation()).then_some(0);
            }
            let contact = self.liveness.get(accused.id)?;
            let lives = contact.incarnation == accused.incarnation && contact.has_quorum;
            lives.then(|| self.liveness.heard_ms_ago(accused.id, self.now))?
        };
        // The one that was heard last: the others are silent when it is.
        let living = accused
            .iter()
            .filter_map(|one| Some((one.id, heard_ms_ago(one)?)));
        living.min_by_key(|&(_, ms)| ms)
    }

    fn give_promise(&mut self) {
        let accepted = self.acceptor.vote.accepted.clone();
        let Some(promise) = &self.acceptor.promise else {
            return;
        };
        let (to, ballot) = (promise.to, promise.ballot);
        if let Some(positions) = promise.positions.clone() {
            let message = Message::Promise {
                ballot,
                accepted,
                positions,
            };
            self.send_durable(to, message);
        }
    }

    pub(super) fn receive_accept(&mut self, from: NodeId, ballot: Ballot, topology: Arc<Topology>) {
        let is_next = self.decided.as_ref().is_some_and(|mine| {
            mine.cluster() == topology.cluster() && mine.epoch().next() == topology.epoch()
        });
        if !is_next || topology.branch().is_some() {
            return;
        }
        let accepted = &self.acceptor.vote.accepted;
        let is_again = accepted.as_ref().is_some_and(|(last, _)| *last == ballot);
        if !is_again {
            if let Err(promised) = self.acceptor.vote.accept(ballot, topology) {
                self.send(from, Message::Nack { ballot, promised });
                return;
            }
            self.acceptor.unsettled_since.get_or_insert(self.now);
            self.persist();
        }
        self.send_durable(from, Message::Accepted { ballot });
    }

    /// The ranges of these primaries of which this node should have a copy.
    fn ranges_of(&self, nodes: &BTreeSet<NodeId>) -> Vec<Range> {
        let Some(topology) = self.decided.as_ref().filter(|_| self.is_current()) else {
            return Vec::new();
        };
        if nodes.is_empty() {
            return Vec::new();
        }
        let is_in_branch = |range| {
            let branch = self.branch.as_ref();
            branch.is_some_and(|branch| branch.copies(range).is_held_by(self.me))
        };
        let held = topology.ranges().filter(|(range, copies)| {
            nodes.contains(&copies.primary) && (copies.is_held_by(self.me) || is_in_branch(*range))
        });
        held.map(|(range, _)| range).collect()
    }

    /// Asks the cores to seal, unless nothing here is concerned.
    fn seal(&mut self, ranges: Vec<Range>) -> Option<u64> {
        if ranges.is_empty() {
            return None;
        }
        Some(self.push_seal(ranges))
    }

    fn push_seal(&mut self, ranges: Vec<Range>) -> u64 {
        self.acceptor.serial += 1;
        let serial = self.acceptor.serial;
        let nodes = self.acceptor.sealed.iter().copied().collect();
        self.outbox.push(Event::Seal {
            serial,
            nodes,
            ranges,
        });
        serial
    }

    /// A branch ends the cores' seals. What was promised stays sealed.
    pub(super) fn seal_again(&mut self) {
        if !self.acceptor.sealed.is_empty() {
            self.push_seal(Vec::new());
        }
    }

    pub(super) fn receive_sealed(&mut self, serial: u64, sealed: &[SealedPosition]) {
        let branch = self.branch.as_ref();
        let position = |sealed: &SealedPosition| Position {
            range: sealed.range,
            term: sealed.term,
            seq: sealed.seq,
            is_complete: sealed.is_complete,
            is_branch_primary: branch
                .is_some_and(|branch| branch.copies(sealed.range).primary == self.me),
        };
        let positions: Vec<Position> = sealed.iter().map(position).collect();
        if let Some(promise) = &mut self.acceptor.promise
            && promise.serial == serial
            && promise.positions.is_none()
        {
            promise.positions = Some(positions);
            self.give_promise();
        } else if let Some(gather) = self
            .acceptor
            .gather
            .take_if(|gather| gather.serial == serial)
        {
            let count = gather.count;
            self.send(gather.to, Message::Gathered { count, positions });
        }
    }

    /// Tells the founder of a branch what is here. Nothing is sealed for it: a branch promises nothing,
    /// and if none comes of it, nothing would end the seal.
    pub(super) fn answer_gather(&mut self, to: NodeId, count: u64, silent: &[NodeId]) {
        let silent: BTreeSet<NodeId> = silent.iter().copied().collect();
        let ranges = self.ranges_of(&silent);
        match self.seal(ranges) {
            Some(serial) => self.acceptor.gather = Some(Gather { to, count, serial }),
            None => {
                let positions = Vec::new();
                self.send(to, Message::Gathered { count, positions });
            }
        }
    }
}
