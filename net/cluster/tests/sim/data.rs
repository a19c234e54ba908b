//! A small model of the data plane: enough to see what a wrong decision does to items.
//!
//! Eight of the ranges are modelled. A range's copy is a log of writes, each named by a number that no
//! other write has. A primary appends, sends its whole log to the followers, and counts their
//! acknowledgements; a follower takes over the log as it is, which is what a rewind and a sync come to.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use fulmar_cluster::coordinator::SealedPosition;
use fulmar_cluster::message::HandOver;
use fulmar_cluster::topology::Branch;
use fulmar_cluster::{
    Copies, Epoch, Incarnation, NodeId, RANGES_COUNT, Range, Seq, Term, Topology,
};

/// Every so many ranges one is modelled.
const MODELLED_EVERY: u16 = 256;
/// A copy is whole after so many logs of its primary.
const SYNCS: u32 = 3;

pub(crate) type Log = Rc<Vec<u64>>;

/// The ranges with a model.
pub(crate) fn modelled() -> impl Iterator<Item = Range> {
    let indices = (0..RANGES_COUNT).step_by(usize::from(MODELLED_EVERY));
    indices.filter_map(Range::from_index)
}

/// Marks a write of an heir in a branch: of a primary that no decision made one. It doesn't count in
/// a position once the branch is void: logs that part there have the same term, and their lengths
/// can't be compared.
const OF_HEIR: u64 = 1 << 63;

/// What is switched off in the data plane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faithless {
    /// Terms and epochs of data messages are not compared.
    pub(crate) ignores_terms: bool,
    /// Positions are reported, and streams are not sealed.
    pub(crate) never_seals: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct DataMessage {
    pub(crate) from: NodeId,
    pub(crate) from_incarnation: Incarnation,
    pub(crate) to: NodeId,
    pub(crate) to_incarnation: Incarnation,
    pub(crate) epoch: Epoch,
    pub(crate) branch: Option<Branch>,
    /// Counts what the sender's process sent.
    pub(crate) serial: u64,
    pub(crate) body: DataBody,
}

#[derive(Clone, Debug)]
pub(crate) enum DataBody {
    Logs(Vec<(Range, Term, Log)>),
    Acks(Vec<(Range, Term, usize)>),
}

/// One node's copy of a modelled range.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    pub(crate) log: Log,
    /// The term of the decided reign that the log is of; an heir in a branch has none of its own.
    pub(crate) term: Term,
    pub(crate) is_complete: bool,
    syncs: u32,
    /// Of the primary: how much each follower has.
    acked: BTreeMap<NodeId, usize>,
    is_held: bool,
    /// Acknowledgements don't count until the next topology.
    is_in_doubt: bool,
}

/// What the data plane did that a checker must know.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A copy, that had this log, was given up or filled from another log.
    Lost { range: Range, had: Log, has: Log },
    /// A primary of a decided term began.
    Began { range: Range, term: Term, log: Log },
    /// A follower that counts for WAIT acknowledged these writes.
    Acknowledged {
        range: Range,
        term: Term,
        by: NodeId,
        incarnation: Incarnation,
        writes: Vec<u64>,
    },
    /// A log of this process was applied.
    Applied {
        from: NodeId,
        incarnation: Incarnation,
    },
}

#[derive(Debug)]
pub(crate) struct Data {
    me: NodeId,
    incarnation: Incarnation,
    pub(crate) topology: Option<Arc<Topology>>,
    /// What the topology is a branch of, or itself.
    decided: Option<Arc<Topology>>,
    pub(crate) copies: BTreeMap<Range, Copy>,
    sealed: BTreeSet<NodeId>,
    hand_overs: Vec<HandOver>,
    heard_serials: BTreeMap<(NodeId, Incarnation), u64>,
    serial: u64,
    ticks_since_install: u32,
    /// Learners of this node that weren't reported whole since the last topology.
    unreported: Vec<Range>,
    faithless: Faithless,
    ignores_incarnations: bool,
    pub(crate) deeds: Vec<Deed>,
}

impl Data {
    pub(crate) fn new(
        me: NodeId,
        incarnation: Incarnation,
        faithless: Faithless,
        ignores_incarnations: bool,
    ) -> Self {
        Self {
            me,
            incarnation,
            topology: None,
            decided: None,
            copies: BTreeMap::new(),
            sealed: BTreeSet::new(),
            hand_overs: Vec::new(),
            heard_serials: BTreeMap::new(),
            serial: 0,
            ticks_since_install: 0,
            unreported: Vec::new(),
            faithless,
            ignores_incarnations,
            deeds: Vec::new(),
        }
    }

    pub(crate) fn is_of(&self, node: NodeId) -> bool {
        self.me == node
    }

    fn is_named(&self, topology: &Topology) -> bool {
        topology.member(self.me).is_some_and(|member| {
            member.incarnation == self.incarnation || self.ignores_incarnations
        })
    }

    pub(crate) fn install(&mut self, topology: Arc<Topology>, decided: Arc<Topology>) {
        self.decided = Some(decided);
        let before = self.topology.replace(Arc::clone(&topology));
        self.sealed.clear();
        self.hand_overs.clear();
        self.ticks_since_install = 0;
        let learned = topology
            .ranges()
            .filter(|(_, copies)| copies.learners.contains(&self.me));
        self.unreported = learned.map(|(range, _)| range).collect();
        for range in modelled() {
            let copies = topology.copies(range);
            let is_held = self.is_named(&topology) && copies.is_held_by(self.me);
            if !is_held {
                if let Some(copy) = self.copies.remove(&range) {
                    self.deeds.push(Deed::Lost {
                        range,
                        had: copy.log,
                        has: Log::default(),
                    });
                }
                continue;
            }
            let old = before
                .as_ref()
                .map(|before| (before.copies(range), before.branch()));
            self.take_role(range, copies, old, &topology);
        }
    }

    fn take_role(
        &mut self,
        range: Range,
        copies: &Copies,
        old: Option<(&Copies, Option<Branch>)>,
        topology: &Topology,
    ) {
        let me = self.me;
        let is_heir = !self.is_decided(range, me);
        let copy = self.copies.entry(range).or_default();
        copy.is_held = false;
        copy.is_in_doubt = false;
        let was_primary = old.is_some_and(|(old, _)| old.primary == me);
        let was_learner = old.is_some_and(|(old, _)| old.learners.contains(&me));
        if copies.primary == me {
            let is_same = was_primary && old.is_some_and(|(old, _)| old.term == copies.term);
            copy.is_complete = true;
            if !is_heir {
                copy.term = copies.term;
            }
            if !is_same {
                copy.acked.clear();
                if topology.branch().is_none() {
                    let writes = Rc::make_mut(&mut copy.log).iter_mut();
                    writes.for_each(|write| *write &= !OF_HEIR);
                    self.deeds.push(Deed::Began {
                        range,
                        term: copies.term,
                        log: Rc::clone(&copy.log),
                    });
                }
            }
            return;
        }
        copy.acked.clear();
        if copies.learners.contains(&me) && !was_learner {
            let had = Rc::clone(&copy.log);
            copy.is_complete = false;
            copy.syncs = 0;
            self.deeds.push(Deed::Lost {
                range,
                had,
                has: Log::default(),
            });
        }
    }

    /// Whether a decision made this node the range's primary.
    fn is_decided(&self, range: Range, primary: NodeId) -> bool {
        let decided = self.decided.as_ref();
        decided.is_some_and(|decided| decided.copies(range).primary == primary)
    }

    /// Positions of copies, and no more from these nodes.
    pub(crate) fn seal(&mut self, nodes: &[NodeId], ranges: &[Range]) -> Vec<SealedPosition> {
        if !self.faithless.never_seals {
            self.sealed = nodes.iter().copied().collect();
        }
        let position = |&range: &Range| {
            let topology = self.topology.as_ref().expect("a sealed range is in one");
            let modelled = range.index() / MODELLED_EVERY * MODELLED_EVERY;
            let modelled = Range::from_index(modelled).expect("below the count");
            let copies = topology.copies(range);
            let is_alike = topology.copies(modelled) == copies;
            let copy = self.copies.get(&modelled).filter(|_| is_alike);
            let is_heir = topology.branch().is_some() && copies.primary == self.me;
            let counted = |copy: &Copy| {
                let parted = copy.log.iter().position(|write| write & OF_HEIR != 0);
                parted.filter(|_| !is_heir).unwrap_or(copy.log.len()) as u64
            };
            SealedPosition {
                range,
                term: copy.map_or(copies.term, |copy| copy.term),
                seq: Seq(copy.map_or(0, counted)),
                is_complete: copy
                    .map_or_else(|| !copies.learners.contains(&self.me), |c| c.is_complete),
            }
        };
        ranges.iter().map(position).collect()
    }

    pub(crate) fn hold(&mut self, hand_overs: Vec<HandOver>) {
        for hand_over in &hand_overs {
            if let Some(copy) = self.copies.get_mut(&hand_over.range) {
                copy.is_held = true;
            }
        }
        self.hand_overs = hand_overs;
    }

    pub(crate) fn release(&mut self, ranges: &[Range]) {
        self.hand_overs.clear();
        for range in ranges {
            if let Some(copy) = self.copies.get_mut(range) {
                copy.is_held = false;
                copy.is_in_doubt = true;
            }
        }
    }

    /// Hand-overs whose next primary has everything.
    pub(crate) fn poll_held(&mut self) -> Vec<Range> {
        let copies = &self.copies;
        let is_ready = |hand_over: &HandOver| {
            copies
                .get(&hand_over.range)
                .is_none_or(|copy| copy.acked.get(&hand_over.to) == Some(&copy.log.len()))
        };
        let ready = self
            .hand_overs
            .extract_if(.., |hand_over| is_ready(hand_over));
        ready.map(|hand_over| hand_over.range).collect()
    }

    /// Ranges of which this node is the primary in its topology.
    pub(crate) fn primaries(&self) -> impl Iterator<Item = (Range, Term)> + '_ {
        let topology = self
            .topology
            .as_ref()
            .filter(|topology| self.is_named(topology));
        let rows = topology
            .into_iter()
            .flat_map(|topology| modelled().map(|range| (range, topology.copies(range))));
        rows.filter(|(_, copies)| copies.primary == self.me)
            .map(|(range, copies)| (range, copies.term))
    }

    /// Executes a write, unless writes are held.
    pub(crate) fn write(&mut self, range: Range, write: u64) -> bool {
        let is_heir = !self.is_decided(range, self.me);
        let write = if is_heir { write | OF_HEIR } else { write };
        let Some(copy) = self.copies.get_mut(&range).filter(|copy| !copy.is_held) else {
            return false;
        };
        Rc::make_mut(&mut copy.log).push(write);
        true
    }

    /// The logs for the followers.
    pub(crate) fn poll_logs(&mut self) -> Vec<DataMessage> {
        let Some(topology) = self.topology.clone() else {
            return Vec::new();
        };
        let mut logs: BTreeMap<NodeId, Vec<(Range, Term, Log)>> = BTreeMap::new();
        let primaries: Vec<(Range, Term)> = self.primaries().collect();
        for (range, term) in primaries {
            let Some(copy) = self.copies.get(&range) else {
                continue;
            };
            for follower in topology.copies(range).followers() {
                let log = (range, term, Rc::clone(&copy.log));
                logs.entry(follower).or_default().push(log);
            }
        }
        let logs = logs.into_iter();
        logs.filter_map(|(to, logs)| self.message(&topology, to, DataBody::Logs(logs)))
            .collect()
    }

    fn message(&mut self, topology: &Topology, to: NodeId, body: DataBody) -> Option<DataMessage> {
        self.serial += 1;
        Some(DataMessage {
            from: self.me,
            from_incarnation: self.incarnation,
            to,
            to_incarnation: topology.member(to)?.incarnation,
            epoch: topology.epoch(),
            branch: topology.branch(),
            serial: self.serial,
            body,
        })
    }

    /// Whole copies that weren't reported since the last topology.
    pub(crate) fn poll_complete(&mut self) -> Vec<Range> {
        self.ticks_since_install += 1;
        let Some(topology) = self.topology.clone() else {
            return Vec::new();
        };
        if self.ticks_since_install < SYNCS || !self.is_named(&topology) {
            return Vec::new();
        }
        let copies = &self.copies;
        let is_whole = |range: &Range| copies.get(range).is_none_or(|copy| copy.is_complete);
        self.unreported
            .extract_if(.., |range| is_whole(range))
            .collect()
    }

    /// Handles a message; answers with another. `counts`: whether acknowledgements count now.
    pub(crate) fn receive(&mut self, message: DataMessage, counts: bool) -> Option<DataMessage> {
        let topology = self.topology.clone()?;
        let sender = topology
            .member(message.from)
            .map(|member| member.incarnation);
        let is_current = message.epoch == topology.epoch() && message.branch == topology.branch();
        let is_known = sender == Some(message.from_incarnation);
        let checks = !self.faithless.ignores_terms;
        let is_mine = message.to == self.me && message.to_incarnation == self.incarnation;
        if !is_mine || !is_known || !self.is_named(&topology) || (checks && !is_current) {
            return None;
        }
        match message.body {
            DataBody::Logs(logs) => {
                let from = (message.from, message.from_incarnation);
                let last = self.heard_serials.entry(from).or_default();
                if self.sealed.contains(&message.from) || message.serial <= *last {
                    return None;
                }
                *last = message.serial;
                let acks: Vec<_> = logs
                    .into_iter()
                    .filter_map(|(range, term, log)| self.apply(&topology, from, range, term, log))
                    .collect();
                let mut answer = self.message(&topology, message.from, DataBody::Acks(acks))?;
                answer.to_incarnation = message.from_incarnation;
                Some(answer)
            }
            DataBody::Acks(acks) => {
                for (range, term, length) in acks {
                    self.count(&topology, message.from, (range, term, length), counts);
                }
                None
            }
        }
    }

    fn apply(
        &mut self,
        topology: &Topology,
        (from, incarnation): (NodeId, Incarnation),
        range: Range,
        term: Term,
        log: Log,
    ) -> Option<(Range, Term, usize)> {
        let copies = topology.copies(range);
        let is_current = copies.primary == from && copies.term == term;
        if !is_current && !self.faithless.ignores_terms {
            return None;
        }
        let is_heirs = !self.is_decided(range, from);
        let copy = self.copies.get_mut(&range)?;
        if !log.starts_with(&copy.log) {
            let had = Rc::clone(&copy.log);
            let has = Rc::clone(&log);
            self.deeds.push(Deed::Lost { range, had, has });
        }
        let length = log.len();
        copy.log = log;
        if !is_heirs {
            copy.term = term;
        }
        copy.syncs += 1;
        copy.is_complete |= copy.syncs >= SYNCS;
        self.deeds.push(Deed::Applied { from, incarnation });
        Some((range, term, length))
    }

    fn count(
        &mut self,
        topology: &Topology,
        from: NodeId,
        (range, term, length): (Range, Term, usize),
        counts: bool,
    ) {
        let copies = topology.copies(range);
        let is_current = copies.primary == self.me && copies.term == term;
        let checks = !self.faithless.ignores_terms;
        let Some(copy) = self.copies.get_mut(&range) else {
            return;
        };
        if (checks && !is_current) || length > copy.log.len() {
            return;
        }
        let acked = copy.acked.entry(from).or_default();
        let before = std::mem::replace(acked, length.max(*acked));
        let is_replica = copies.replicas.contains(&from);
        if counts && is_replica && !copy.is_in_doubt && length > before {
            self.deeds.push(Deed::Acknowledged {
                range,
                term,
                by: from,
                incarnation: topology
                    .member(from)
                    .map_or(Incarnation(0), |m| m.incarnation),
                writes: copy.log[before..length].to_vec(),
            });
        }
    }
}
