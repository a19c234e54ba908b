//! A node's data plane: the replication of two of its cores, and what the server does around it.
//!
//! A node says that it has many cores, of which two are here, with the ranges at home there: eight of all.
//! The others are as these are, wherever the coordinator asks for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter;
use std::sync::Arc;

use fulmar_cluster::coordinator::SealedPosition;
use fulmar_cluster::decision::Ballot;
use fulmar_cluster::message::HandOver;
use fulmar_cluster::replication::{
    Address, Control, ControlEncoder, ControlSink, Entry, EntryEncoder, EntryKind, Header, Limits,
    Replication, Verdict, Write, decode_control, decode_entry,
};
use fulmar_cluster::{
    Epoch, HomeTable, Incarnation, NodeId, RANGES_COUNT, Range, Seq, ShardIndex, Term, Time,
    Topology,
};

use crate::items::{Held, Items, key_of};

/// Cores that each node says it has, and those that are here.
pub(crate) const CORES: u16 = 512;
const CORES_HERE: u16 = 2;
/// Writes of a range whose acknowledgements are looked for.
const OUTSTANDING_MAX: usize = 32;
/// What is of a newer topology waits for it so long.
const AHEAD_MS_MAX: u64 = 2_000;
/// A stream that broke is opened again after this.
const PAUSE_MS: u64 = 50;
/// Batches to one core in a turn.
const BATCHES_PER_TURN: usize = 4;
/// The log is so short that it does not reach back over every fault.
const LIMITS: Limits = Limits {
    log_bytes_max: 140_000,
    log_age_ms_max: 6_000,
    window_bytes_max: 4 << 20,
    sync_bytes_per_second: 100_000,
};

/// The ranges whose items are here.
pub(crate) fn modelled() -> impl Iterator<Item = Range> {
    let firsts = (0..RANGES_COUNT).step_by(usize::from(CORES));
    let indices = firsts.flat_map(|first| first..first + CORES_HERE);
    indices.filter_map(Range::from_index)
}

/// The range that stands for another one.
fn stand_in(range: Range) -> Range {
    let index = range.index() / CORES * CORES + range.index() % CORES_HERE;
    Range::from_index(index).expect("below the count")
}

/// What is switched off in the data plane.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faithless {
    /// Followers take entries of any primary and term.
    pub(crate) ignores_terms: bool,
    /// Positions are reported, and streams are not sealed.
    pub(crate) never_seals: bool,
    /// Writes that are to be held are executed.
    pub(crate) never_holds: bool,
}

/// What one node's cores say to another's by one stream, in order.
#[derive(Clone, Debug)]
pub(crate) struct DataMessage {
    pub(crate) stream: u64,
    header: Header,
    is_batch: bool,
    bytes: Vec<u8>,
}

impl DataMessage {
    fn batch(stream: u64, header: Header, bytes: Vec<u8>) -> Self {
        Self {
            stream,
            header,
            is_batch: true,
            bytes,
        }
    }

    fn told(stream: u64, header: Header, bytes: Vec<u8>) -> Self {
        Self {
            is_batch: false,
            ..Self::batch(stream, header, bytes)
        }
    }

    pub(crate) fn from(&self) -> NodeId {
        self.header.from.core.node
    }

    pub(crate) fn to(&self) -> NodeId {
        self.header.to.core.node
    }
}

/// What the data plane did that a checker must know.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A copy does not have a write any more.
    Lost { range: Range, write: u64 },
    /// A primary of a decided term began.
    Began { range: Range, term: Term, has: Held },
    /// A primary of a decided term, which lives, learnt of the next one.
    Gave { range: Range, term: Term, had: Held },
    /// A follower with a whole copy acknowledged a write, by the topology of `said`.
    Acknowledged {
        range: Range,
        term: Term,
        by: NodeId,
        incarnation: Incarnation,
        said: Epoch,
        write: u64,
    },
    /// What this process sent was applied.
    Applied {
        from: NodeId,
        incarnation: Incarnation,
    },
}

/// One core.
struct Core {
    replication: Replication,
    items: Items,
}

/// A stream to another node.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Open(u64),
    /// Not before this.
    Broken(Time),
}

/// A write that nobody, or not everybody, has acknowledged.
struct Outstanding {
    number: u64,
    write: Write,
    by: BTreeSet<(NodeId, Epoch)>,
}

pub(crate) struct Data {
    me: NodeId,
    incarnation: Incarnation,
    /// The start that its cores take this one for.
    taken_for: Incarnation,
    pub(crate) topology: Option<Arc<Topology>>,
    /// The newest that is no branch.
    decided: Option<Arc<Topology>>,
    /// The ranges that it learns in it.
    learned: Vec<Range>,
    cores: Vec<Core>,
    streams: BTreeMap<NodeId, Stream>,
    streams_count: u64,
    /// By sender: what waits for a newer topology, and what came behind it.
    waiting: BTreeMap<NodeId, VecDeque<(Time, DataMessage)>>,
    outstanding: BTreeMap<Range, VecDeque<Outstanding>>,
    hand_overs: Option<(Ballot, Vec<HandOver>)>,
    is_held: BTreeSet<Range>,
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
            learned: Vec::new(),
            taken_for: incarnation,
            cores: cores(me, incarnation, faithless),
            streams: BTreeMap::new(),
            streams_count: 0,
            waiting: BTreeMap::new(),
            outstanding: BTreeMap::new(),
            hand_overs: None,
            is_held: BTreeSet::new(),
            faithless,
            ignores_incarnations,
            deeds: Vec::new(),
        }
    }

    pub(crate) fn is_of(&self, node: NodeId) -> bool {
        self.me == node
    }

    /// What the copy of a range has here.
    pub(crate) fn held(&self, range: Range) -> Held {
        self.core(range).items.held(range)
    }

    pub(crate) fn has(&self, range: Range, write: u64) -> bool {
        self.core(range).items.has(range, write)
    }

    /// Whether writes of a range wait for a hand-over.
    pub(crate) fn is_held(&self, range: Range) -> bool {
        self.is_held.contains(&range)
    }

    /// How far the copy of a range is: term, number and whether it is whole.
    pub(crate) fn position(&self, range: Range) -> Option<(Term, Seq, bool)> {
        let position = self.core(range).replication.position(range)?;
        Some((position.term, position.seq, position.is_complete))
    }

    fn core(&self, range: Range) -> &Core {
        &self.cores[usize::from(range.index() % CORES)]
    }

    fn is_named(&self, topology: &Topology) -> bool {
        topology.member(self.me).is_some_and(|member| {
            member.incarnation == self.incarnation || self.ignores_incarnations
        })
    }

    pub(crate) fn install(&mut self, topology: Arc<Topology>) {
        let before = self.topology.replace(Arc::clone(&topology));
        let decided = self.decided.clone();
        if topology.branch().is_none() {
            self.decided = Some(Arc::clone(&topology));
        }
        let ranges = topology.ranges();
        let learned = ranges.filter(|(_, copies)| copies.learners.contains(&self.me));
        self.learned = learned.map(|(range, _)| range).collect();
        self.hand_overs = None;
        self.is_held.clear();
        if self.ignores_incarnations
            && let Some(member) = topology.member(self.me)
            && self.taken_for != member.incarnation
        {
            self.taken_for = member.incarnation;
            self.cores = cores(self.me, member.incarnation, self.faithless);
        }
        self.note_given(&topology, before.as_deref());
        for core in &mut self.cores {
            core.replication.handle_topology(&topology, &mut core.items);
        }
        self.note_lost();
        for range in modelled() {
            let copies = topology.copies(range);
            self.note_base(range, &topology, [before.as_deref(), decided.as_deref()]);
            let is_mine = copies.primary == self.me && self.is_named(&topology);
            let was_mine = before.as_ref().is_some_and(|before| {
                let old = before.copies(range);
                before.branch().is_none()
                    && self.is_named(before)
                    && (old.primary, old.term) == (self.me, copies.term)
            });
            if is_mine && !was_mine {
                self.outstanding.remove(&range);
                if topology.branch().is_none() {
                    let (term, has) = (copies.term, self.held(range));
                    self.deeds.push(Deed::Began { range, term, has });
                }
            }
        }
    }

    fn note_given(&mut self, topology: &Topology, before: Option<&Topology>) {
        let is_next = |before: &&Topology| {
            let are_decided = before.branch().is_none() && topology.branch().is_none();
            are_decided && before.epoch().next() == topology.epoch()
        };
        let lives = |before: &&Topology| self.is_named(before) && self.is_named(topology);
        let Some(before) = before.filter(is_next).filter(lives) else {
            return;
        };
        for range in modelled() {
            let next = topology.copies(range);
            if before.copies(range).primary == self.me && next.primary != self.me {
                let (term, had) = (next.term, self.held(range));
                self.deeds.push(Deed::Gave { range, term, had });
            }
        }
    }

    /// A base counts for nothing, though it has what it had. `before`: the last topology, and the last decided one,
    /// after which a branch may have left a copy alone.
    fn note_base(&mut self, range: Range, topology: &Topology, before: [Option<&Topology>; 2]) {
        let copies = topology.copies(range);
        let mut before = before.into_iter().flatten().map(|one| one.copies(range));
        let held = before.find(|copies| copies.is_held_by(self.me));
        let goes_on = held.is_some_and(|held| {
            let is_kept = topology.branch().is_some() || copies.is_held_by(self.me);
            let is_demoted =
                copies.learners.contains(&self.me) && !held.learners.contains(&self.me);
            is_kept && !is_demoted
        });
        if !goes_on {
            let lost = self.held(range).into_iter();
            let lost = lost.map(|write| Deed::Lost { range, write });
            self.deeds.extend(lost);
        }
    }

    fn note_lost(&mut self) {
        for core in &mut self.cores {
            let lost = core.items.lost.drain(..);
            let lost = lost.map(|(range, write)| Deed::Lost { range, write });
            self.deeds.extend(lost);
        }
    }

    /// Positions of copies, and no more from these nodes.
    pub(crate) fn seal(&mut self, nodes: &[NodeId], ranges: &[Range]) -> Vec<SealedPosition> {
        if !self.faithless.never_seals {
            for core in &mut self.cores {
                core.replication.seal(nodes);
            }
        }
        let position = |&range: &Range| {
            let topology = self.topology.as_ref().expect("a sealed range is in one");
            let copies = topology.copies(range);
            if topology.copies(stand_in(range)) != copies {
                return Some(SealedPosition {
                    range,
                    term: copies.term,
                    seq: Seq(0),
                    is_complete: !copies.learners.contains(&self.me),
                });
            }
            let stand_in = stand_in(range);
            let replication = &self.core(stand_in).replication;
            let position = replication.positions(iter::once(stand_in)).next()?;
            Some(SealedPosition {
                range,
                term: position.term,
                seq: position.seq,
                is_complete: position.is_complete,
            })
        };
        ranges.iter().filter_map(position).collect()
    }

    pub(crate) fn hold(&mut self, ballot: Ballot, hand_overs: Vec<HandOver>) {
        if !self.faithless.never_holds {
            self.is_held.extend(hand_overs.iter().map(|one| one.range));
        }
        self.hand_overs = Some((ballot, hand_overs));
    }

    pub(crate) fn release(&mut self) {
        self.hand_overs = None;
        self.is_held.clear();
    }

    /// Hand-overs whose next primary has everything, if there are some.
    pub(crate) fn poll_held(&mut self) -> Option<(Ballot, Vec<Range>)> {
        let (ballot, hand_overs) = self.hand_overs.as_mut()?;
        let cores = &self.cores;
        let is_ready = |hand_over: &HandOver| {
            let core = usize::from(hand_over.range.index() % CORES);
            let core = cores.get(core);
            core.is_none_or(|core| core.replication.is_caught_up(hand_over.range, hand_over.to))
        };
        let ready = hand_overs.extract_if(.., |hand_over| is_ready(hand_over));
        let ready: Vec<Range> = ready.map(|hand_over| hand_over.range).collect();
        (!ready.is_empty()).then_some((*ballot, ready))
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
    pub(crate) fn write(&mut self, range: Range, number: u64, now: Time) -> bool {
        let core = &mut self.cores[usize::from(range.index() % CORES)];
        if self.is_held.contains(&range) || !core.replication.is_primary(range) {
            return false;
        }
        core.items.add(range, number);
        core.replication.log_change(range, &key_of(number), now);
        let write = core.replication.last_write().expect("it was logged");
        let outstanding = self.outstanding.entry(range).or_default();
        outstanding.push_back(Outstanding {
            number,
            write,
            by: BTreeSet::new(),
        });
        if outstanding.len() > OUTSTANDING_MAX {
            outstanding.pop_front();
        }
        true
    }

    /// What there is to say to other nodes.
    pub(crate) fn poll(&mut self, now: Time) -> Vec<DataMessage> {
        let mut messages = Vec::new();
        for index in 0..self.cores.len() {
            let core = &mut self.cores[index];
            core.replication.advance(&mut core.items, now);
            let followers: Vec<Address> = core.replication.followers().collect();
            let sources: Vec<Address> = core.replication.sources().collect();
            for to in followers {
                let Some(stream) = self.stream(to.core.node, now) else {
                    continue;
                };
                self.poll_batches(index, to, stream, now, &mut messages);
            }
            for from in sources {
                let Some(stream) = self.stream(from.core.node, now) else {
                    continue;
                };
                let core = &mut self.cores[index];
                let mut bytes = Vec::new();
                let mut sink = ControlEncoder(&mut bytes);
                if let Some(header) = core.replication.poll_control(from.core, &mut sink) {
                    messages.push(DataMessage::told(stream, header, bytes));
                }
            }
        }
        self.note_lost();
        messages
    }

    fn poll_batches(
        &mut self,
        index: usize,
        to: Address,
        stream: u64,
        now: Time,
        messages: &mut Vec<DataMessage>,
    ) {
        let replication = &mut self.cores[index].replication;
        if !replication.is_connected(to) && !replication.handle_connected(to) {
            return;
        }
        for _ in 0..BATCHES_PER_TURN {
            let Core { replication, items } = &mut self.cores[index];
            let mut bytes = Vec::new();
            let mut sink = EntryEncoder(&mut bytes);
            let Some(header) = replication.poll_batch(to.core, items, now, &mut sink) else {
                return;
            };
            messages.push(DataMessage::batch(stream, header, bytes));
        }
    }

    /// The number of the stream to a node, which is opened if need be.
    fn stream(&mut self, to: NodeId, now: Time) -> Option<u64> {
        match self.streams.get(&to) {
            Some(Stream::Open(number)) => return Some(*number),
            Some(Stream::Broken(until)) if now < *until => return None,
            Some(Stream::Broken(_)) | None => {}
        }
        self.streams_count += 1;
        self.streams.insert(to, Stream::Open(self.streams_count));
        Some(self.streams_count)
    }

    /// A stream to a node broke.
    pub(crate) fn handle_broken(&mut self, to: NodeId, stream: u64, now: Time) {
        if !matches!(self.streams.get(&to), Some(Stream::Open(number)) if *number == stream) {
            return;
        }
        self.streams
            .insert(to, Stream::Broken(now.plus_ms(PAUSE_MS)));
        for core in &mut self.cores {
            let is_there = |address: &Address| address.core.node == to;
            let followers = core.replication.followers().filter(is_there);
            for follower in followers.collect::<Vec<_>>() {
                core.replication.handle_disconnected(follower.core);
            }
            let sources = core.replication.sources().filter(is_there);
            for source in sources.collect::<Vec<_>>() {
                core.replication
                    .handle_source_closed(source.core, &mut core.items);
            }
        }
        self.note_lost();
    }

    /// Learners whose copies are whole.
    pub(crate) fn poll_complete(&self) -> Vec<Range> {
        let Some(topology) = &self.topology else {
            return Vec::new();
        };
        if !self.is_named(topology) {
            return Vec::new();
        }
        let is_whole = |range: Range| {
            let copies = topology.copies(range);
            let stand_in = stand_in(range);
            if topology.copies(stand_in) != copies {
                return true;
            }
            let position = self.position(stand_in);
            position.is_some_and(|(term, _, is_complete)| is_complete && term == copies.term)
        };
        let learned = self.learned.iter().copied();
        learned.filter(|&range| is_whole(range)).collect()
    }

    /// Handles a message, and those that waited behind it or before. `counts`: whether acknowledgements
    /// count now.
    pub(crate) fn receive(&mut self, message: DataMessage, counts: bool, now: Time) {
        let from = message.from();
        self.waiting
            .entry(from)
            .or_default()
            .push_back((now, message));
        self.receive_waiting(from, counts, now);
    }

    /// Handles what waited for a topology.
    pub(crate) fn receive_all(&mut self, counts: bool, now: Time) {
        for from in self.waiting.keys().copied().collect::<Vec<_>>() {
            self.receive_waiting(from, counts, now);
        }
    }

    fn receive_waiting(&mut self, from: NodeId, counts: bool, now: Time) {
        while let Some((since, message)) = self.waiting.get_mut(&from).and_then(VecDeque::pop_front)
        {
            let is_done = self.handle(&message, now);
            if !is_done && now.ms_since(since) < AHEAD_MS_MAX {
                let waiting = self.waiting.entry(from).or_default();
                waiting.push_front((since, message));
                return;
            }
            self.note_lost();
            if counts && !message.is_batch {
                self.note_acknowledged();
            }
        }
    }

    /// False if it must wait for a topology.
    fn handle(&mut self, message: &DataMessage, now: Time) -> bool {
        let header = &message.header;
        let Some(core) = self.cores.get_mut(header.to.core.core.index()) else {
            return true;
        };
        let Core { replication, items } = core;
        let mut input = message.bytes.as_slice();
        if message.is_batch {
            match replication.begin_batch(header, items) {
                Verdict::Apply => {}
                Verdict::Ahead => return false,
                Verdict::Old | Verdict::Gap | Verdict::Sealed | Verdict::Stale => return true,
            }
            let mut has_items = false;
            let mut apply = |entry: &Entry<'_>| {
                has_items |= matches!(entry.kind, EntryKind::Set { .. } | EntryKind::Delete { .. });
                replication.handle_entry(entry, items, now);
            };
            while !input.is_empty() {
                decode_entry(&mut input, &mut apply).expect("it was encoded");
            }
            replication.end_batch();
            if has_items {
                self.deeds.push(Deed::Applied {
                    from: header.from.core.node,
                    incarnation: header.from.incarnation,
                });
            }
        } else if replication.begin_control(header, now) {
            while !input.is_empty() {
                decode_control(&mut input, &mut Follower(replication)).expect("it was encoded");
            }
        }
        true
    }

    /// Looks who has acknowledged what.
    fn note_acknowledged(&mut self) {
        for (&range, outstanding) in &mut self.outstanding {
            let core = &self.cores[usize::from(range.index() % CORES)];
            for one in outstanding {
                for (by, said) in core.replication.acknowledgers(one.write) {
                    if one.by.insert((by.core.node, said)) {
                        self.deeds.push(Deed::Acknowledged {
                            range,
                            term: one.write.term,
                            by: by.core.node,
                            incarnation: by.incarnation,
                            said,
                            write: one.number,
                        });
                    }
                }
            }
        }
    }

    /// The newest topology that this data plane acts on.
    pub(crate) fn epoch(&self) -> Epoch {
        let topology = self.topology.as_ref();
        topology.map_or(Epoch(0), |topology| topology.epoch())
    }
}

fn cores(me: NodeId, incarnation: Incarnation, faithless: Faithless) -> Vec<Core> {
    let homes = HomeTable::even(CORES);
    let core = |index| {
        let index = ShardIndex(index);
        let mut replication = Replication::new(me, incarnation, index, &homes, LIMITS);
        if faithless.ignores_terms {
            replication.ignore_terms();
        }
        let items = Items::default();
        Core { replication, items }
    };
    (0..CORES_HERE).map(core).collect()
}

struct Follower<'r>(&'r mut Replication);

impl ControlSink for Follower<'_> {
    fn control(&mut self, control: &Control<'_>) {
        self.0.handle_control(control);
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let positions: Vec<_> = modelled().map(|range| self.position(range)).collect();
        out.debug_struct("Data")
            .field("epoch", &self.epoch())
            .field("positions", &positions)
            .finish_non_exhaustive()
    }
}
