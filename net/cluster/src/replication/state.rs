//! One core's replication: its copies, its log, and its two sides.

use super::copies::{Copies, RangeCopy, Role};
use super::key_set::KeySet;
use super::link::{Link, Scene, Turn};
use super::source::{Bench, Source};
use super::touches::Touches;
use super::{Address, Control, ControlSink, CopyPosition, Entry, EntrySink, Header, Limits, Log};
use super::{LogEntry, LogKind, LogOffset, RemoteCore, Store, Verdict};
use crate::{Epoch, HomeTable, Incarnation, NodeId, Range, RangeSet, Seq, ShardIndex, Term, Time};

/// A write, as its range's primary numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The range.
    pub range: Range,
    /// The primary's term.
    pub term: Term,
    /// Its number.
    pub seq: Seq,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that this node wrote as a primary and that the winner's values replaced.
    pub divergent_keys: u64,
    /// Batches of others that were not applied because a topology says so.
    pub refused_batches: u64,
    /// Full syncs begun.
    pub full_syncs: u64,
}

/// One core's replication. See the module for the order of calls.
pub struct Replication {
    pub(super) own: Address,
    pub(super) epoch: Epoch,
    pub(super) limits: Limits,
    pub(super) copies: Copies,
    pub(super) log: Log,
    pub(super) touches: Touches,
    pub(super) links: Vec<Link>,
    pub(super) sources: Vec<Source>,
    pub(super) sealed: Vec<NodeId>,
    pub(super) turn: Turn,
    pub(super) last_session: u64,
    pub(super) reigns_count: u64,
    last_write: Option<Write>,
    keys: KeySet,
    counts: Counts,
    ignores_terms: bool,
    /// The source whose batch is being applied, and the link whose messages are being taken.
    pub(super) applying: Option<usize>,
    pub(super) hearing: Option<usize>,
    /// The topology that these messages were said by.
    heard_epoch: Epoch,
}

impl Replication {
    /// A core that holds nothing yet. `homes` says which ranges of the node are at home on `core`.
    #[must_use]
    pub fn new(
        node: NodeId,
        incarnation: Incarnation,
        core: ShardIndex,
        homes: &HomeTable,
        limits: Limits,
    ) -> Self {
        Self {
            own: Address {
                core: RemoteCore { node, core },
                incarnation,
            },
            epoch: Epoch(0),
            limits,
            copies: Copies::new(homes, core),
            log: Log::new(limits.log_bytes_max, limits.log_age_ms_max),
            touches: Touches::new(),
            links: Vec::new(),
            sources: Vec::new(),
            sealed: Vec::new(),
            turn: Turn::default(),
            last_session: 0,
            reigns_count: 0,
            last_write: None,
            keys: KeySet::new(),
            counts: Counts::default(),
            ignores_terms: false,
            applying: None,
            hearing: None,
            heard_epoch: Epoch(0),
        }
    }

    /// Notes that a key was written or deleted by a command. Nothing if this node is not the range's
    /// primary.
    #[inline]
    pub fn log_change(&mut self, range: Range, key: &[u8], now: Time) {
        self.log(range, LogKind::Changed(key), now);
    }

    /// Notes that a command read a key, of which this is a hash. Nothing unless others follow its range.
    #[inline]
    pub fn note_read(&mut self, range: Range, key: &[u8], hash: u64) {
        if !self.links.is_empty() && self.role(range) == Role::Primary {
            self.touches.note_read(range, key, hash);
        }
    }

    /// Notes that all ranges of this core are emptied by a command. Those of which this node is the
    /// primary become so everywhere; what it holds of others' ranges is filled again by their primaries.
    pub fn log_flush_all(&mut self, now: Time) {
        for place in 0..self.copies.count() {
            let range = self.copies.at(place).range;
            self.log(range, LogKind::Flushed, now);
        }
        // Those of which this node is named for nothing are no base any more.
        for copy in self
            .copies
            .iter_mut()
            .filter(|copy| copy.role != Role::Primary)
        {
            copy.set_empty();
        }
        self.note_dues();
    }

    #[inline]
    fn log(&mut self, range: Range, kind: LogKind<'_>, now: Time) {
        let Some(copy) = self.copies.get_mut(range) else {
            return;
        };
        if copy.role != Role::Primary {
            return;
        }
        copy.seq = copy.seq.next();
        copy.head = copy.seq;
        let (seq, term) = (copy.seq, copy.term);
        self.touches.note_write();
        let copies = &mut self.copies;
        let entry = LogEntry { range, seq, kind };
        self.log
            .append(&entry, now, |range, seq| copies.note_dropped(range, seq));
        self.last_write = Some(Write { range, term, seq });
    }

    /// The last write of a range whose primary this node is.
    #[must_use]
    pub fn last_write(&self) -> Option<Write> {
        self.last_write
    }

    /// Where the log ends: taken before a command, it gives the command's writes afterwards.
    #[inline]
    #[must_use]
    pub fn log_head(&self) -> LogOffset {
        self.log.head()
    }

    /// The writes after `offset`, a `log_head` of the same turn.
    pub fn writes_since(&self, offset: LogOffset) -> impl Iterator<Item = Write> + '_ {
        let mut at = offset.max(self.log.oldest());
        std::iter::from_fn(move || {
            let (entry, next) = self.log.at(at)?;
            at = next;
            let copy = self.copies.get(entry.range)?;
            Some(Write {
                range: entry.range,
                term: copy.term,
                seq: entry.seq,
            })
        })
    }

    /// Whether this node is the primary of a range at home on this core.
    #[inline]
    #[must_use]
    pub fn is_primary(&self, range: Range) -> bool {
        self.role(range) == Role::Primary
    }

    /// The ranges at home on this core whose primary this node is.
    pub fn primary_ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let primaries = self.copies.iter().filter(|copy| copy.role == Role::Primary);
        primaries.map(|copy| copy.range)
    }

    /// What this node is to a range at home on this core.
    #[must_use]
    pub fn role(&self, range: Range) -> Role {
        self.copies.get(range).map_or(Role::None, |copy| copy.role)
    }

    /// How far this core's copy of a range is; `None` if it has none.
    #[must_use]
    pub fn position(&self, range: Range) -> Option<CopyPosition> {
        self.copies.get(range)?.position()
    }

    /// The positions of those of `ranges` that are held here: what a promise says. What started anew in a branch has
    /// term 0.
    pub fn positions(
        &self,
        ranges: impl Iterator<Item = Range>,
    ) -> impl Iterator<Item = CopyPosition> {
        ranges.filter_map(|range| self.copies.get(range)?.position_as_heir())
    }

    /// The followers that have said, by the topology of today, that they have a whole copy with this write, and
    /// the epoch by which each said so last. Nobody if the term is over, nor in a branch, which may be void
    /// tomorrow.
    pub fn acknowledgers(&self, write: Write) -> impl Iterator<Item = (Address, Epoch)> {
        let place = self.copies.place(write.range).filter(|&place| {
            let copy = self.copies.at(place);
            copy.role == Role::Primary && copy.term == write.term && copy.branch.is_none()
        });
        self.links.iter().filter_map(move |link| {
            let followed = link.of_place(place?)?;
            let counts = followed.term == write.term && followed.has(write.seq, self.epoch);
            counts.then_some((link.to, followed.said))
        })
    }

    /// How many they are.
    #[must_use]
    pub fn acknowledged_by(&self, write: Write) -> usize {
        self.acknowledgers(write).count()
    }

    /// Takes entries of any primary and term, for a test of who notices that.
    #[doc(hidden)]
    pub fn ignore_terms(&mut self) {
        self.ignores_terms = true;
    }

    /// Applies and acknowledges nothing more from these nodes until the next topology.
    pub fn seal(&mut self, nodes: &[NodeId]) {
        for &node in nodes {
            if !self.sealed.contains(&node) {
                self.sealed.push(node);
            }
        }
    }

    /// The cores that follow ranges of this core: where connections are to be opened to.
    pub fn followers(&self) -> impl Iterator<Item = Address> + '_ {
        self.links.iter().map(|link| link.to)
    }

    /// The cores of primaries that this core follows: where connections come from.
    pub fn sources(&self) -> impl Iterator<Item = Address> + '_ {
        self.sources.iter().map(|source| source.from)
    }

    /// A connection to a follower's core is open: a session begins. False if, by the topology, this start
    /// of its node follows nothing here.
    pub fn handle_connected(&mut self, to: Address) -> bool {
        let Some(link) = self.links.iter_mut().find(|link| link.to == to) else {
            return false;
        };
        self.last_session += 1;
        link.begin_session(self.last_session);
        true
    }

    /// Whether a session with a follower's core is open. A topology that names another start of its node
    /// ends it; then the connection is of no use, and another is to be opened.
    #[must_use]
    pub fn is_connected(&self, to: Address) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.to == to && link.is_connected)
    }

    /// The connection to a follower's core is gone.
    pub fn handle_disconnected(&mut self, to: RemoteCore) {
        if let Some(link) = self.links.iter_mut().find(|link| link.core() == to) {
            link.end_session();
        }
    }

    /// Makes the next batch for a follower's core; `None` if there is nothing to send, or too much is
    /// not acknowledged. The entries go to `sink`, what they begin with is the result.
    pub fn poll_batch(
        &mut self,
        to: RemoteCore,
        store: &dyn Store,
        now: Time,
        sink: &mut dyn EntrySink,
    ) -> Option<Header> {
        self.check_turn();
        let link = self.links.iter_mut().find(|link| link.core() == to)?;
        let scene = Scene {
            copies: &self.copies,
            log: &self.log,
            touches: &self.touches,
            store,
            limits: &self.limits,
            now,
        };
        let syncs = self.turn.last;
        let number = link.poll(&scene, &mut self.turn, &mut self.keys, sink)?;
        self.counts.full_syncs += self.turn.last - syncs;
        Some(Header {
            epoch: self.epoch,
            from: self.own,
            to: link.to,
            session: link.session,
            number,
            group: 0,
        })
    }

    /// Messages of a follower's core arrived. If true, they go to
    /// [`handle_control`](Self::handle_control); else they are repeated or of an earlier session.
    pub fn begin_control(&mut self, header: &Header, now: Time) -> bool {
        (self.hearing, self.heard_epoch) = (None, header.epoch);
        if header.to != self.own {
            return false;
        }
        let position = self.links.iter().position(|link| link.to == header.from);
        let Some(position) = position else {
            return false;
        };
        if self.links[position].hear(header, now) {
            self.hearing = Some(position);
        }
        self.hearing.is_some()
    }

    /// Takes one of the messages that [`begin_control`](Self::begin_control) let pass. What comes behind a
    /// reset is of a session that is over.
    pub fn handle_control(&mut self, control: &Control<'_>) {
        let Some(position) = self.hearing else {
            return;
        };
        let link = &mut self.links[position];
        if matches!(control, Control::Refuse { .. }) && self.heard_epoch < self.epoch {
            // It was refused by a topology that is over.
            return;
        }
        if *control == Control::Reset {
            self.hearing = None;
            self.last_session += 1;
            link.begin_session(self.last_session);
        } else {
            link.handle(control, self.heard_epoch, &self.copies, &self.log);
        }
    }

    /// A batch of a primary's core arrived. After [`Verdict::Apply`] its entries go to
    /// [`handle_entry`](Self::handle_entry), and [`end_batch`](Self::end_batch) follows; after any other
    /// they are of no use.
    pub fn begin_batch(&mut self, header: &Header, store: &mut dyn Store) -> Verdict {
        self.applying = None;
        if header.epoch > self.epoch {
            return Verdict::Ahead;
        }
        if self.ignores_terms && !self.sources.iter().any(|one| one.from == header.from) {
            self.sources.push(Source::new(header.from));
        }
        let position = self.sources.iter().position(|one| one.from == header.from);
        let Some(position) = position.filter(|_| header.to == self.own) else {
            self.counts.refused_batches += 1;
            return Verdict::Stale;
        };
        let source = &mut self.sources[position];
        let mut is_new = false;
        let verdict = if self.sealed.contains(&header.from.core.node) {
            source.pass_over(header, &mut is_new)
        } else {
            source.judge(header, &mut is_new)
        };
        if is_new {
            source.abort_stage(store);
            Source::forget_agreements(header.from.core, &mut self.copies);
        }
        if verdict == Verdict::Apply {
            source.begin();
            self.applying = Some(position);
        }
        verdict
    }

    /// Applies an entry of the batch that was begun.
    ///
    /// # Panics
    /// Unless [`begin_batch`](Self::begin_batch) said so.
    pub fn handle_entry(&mut self, entry: &Entry<'_>, store: &mut dyn Store, now: Time) {
        let position = self.applying.expect("a batch was begun");
        let mut bench = Bench {
            copies: &mut self.copies,
            log: &mut self.log,
            touches: &mut self.touches,
            store,
            now,
            ignores_terms: self.ignores_terms,
        };
        self.sources[position].apply(entry, &mut bench);
    }

    /// Ends the batch.
    pub fn end_batch(&mut self) {
        self.applying = None;
    }

    /// What there is to say to a primary's core: goes to `sink`; what all of it begins with is the
    /// result.
    pub fn poll_control(&mut self, to: RemoteCore, sink: &mut dyn ControlSink) -> Option<Header> {
        if self.sealed.contains(&to.node) {
            return None;
        }
        let source = self.sources.iter_mut().find(|one| one.core() == to)?;
        let own = self.own.core.node;
        let told = source.tell(own, &mut self.copies, &self.log, &mut self.keys, sink);
        self.counts.divergent_keys += told.divergent;
        Some(Header {
            epoch: self.epoch,
            from: self.own,
            to: source.from,
            session: source.session,
            number: told.number?,
            group: source.group(),
        })
    }

    /// The connection from a primary's core is gone.
    pub fn handle_source_closed(&mut self, from: RemoteCore, store: &mut dyn Store) {
        if let Some(source) = self.sources.iter_mut().find(|one| one.core() == from) {
            source.close(store);
        }
    }

    /// Does some of the work that is left: drops copies that were given up, and old entries. True if
    /// there is more, here or in `poll_control`.
    pub fn advance(&mut self, store: &mut dyn Store, now: Time) -> bool {
        let copies = &mut self.copies;
        self.log
            .expire(now, |range, seq| copies.note_dropped(range, seq));
        self.touches.advance(store.items_count(), now);
        for link in &mut self.links {
            if link.tick(now) {
                self.last_session += 1;
                link.begin_session(self.last_session);
            }
        }
        let is_emptying = self.empty_some(store);
        is_emptying || self.sources.iter().any(Source::is_rewinding)
    }

    /// When the full sync that waits for its pace goes on; `None` if none waits.
    #[must_use]
    pub fn sync_resumes_at(&self) -> Option<Time> {
        self.turn.resumes_at(self.limits.sync_bytes_per_second)
    }

    /// Lets all that copies have to tell be told.
    pub(super) fn note_dues(&mut self) {
        let is_due = |copy: &&RangeCopy| copy.is_start_due || copy.is_ack_due;
        let due = self.copies.iter().filter(is_due).map(|copy| copy.range);
        let due: RangeSet = due.collect();
        for source in &mut self.sources {
            source.note_dues(&due);
        }
    }

    fn empty_some(&mut self, store: &mut dyn Store) -> bool {
        let Some(copy) = self.copies.first_emptying() else {
            return false;
        };
        if !copy.go_on_emptying(store)
            && let Some(from) = copy.source
        {
            let range = copy.range;
            let source = self.sources.iter_mut().find(|one| one.from == from);
            source.into_iter().for_each(|one| one.note_due(range));
        }
        self.copies.first_emptying().is_some()
    }

    /// Takes the turn from a sync that does not run any more.
    pub(super) fn check_turn(&mut self) {
        let Some((core, range)) = self.turn.holder else {
            return;
        };
        let place = self.copies.place(range).expect("it is at home here");
        let link = self.links.iter().find(|link| link.core() == core);
        if !link.is_some_and(|link| link.is_connected && link.is_syncing(place)) {
            self.turn.holder = None;
        }
    }

    /// What happened since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Memory of the logs, once they are full.
    #[must_use]
    pub fn log_bytes_max(&self) -> usize {
        self.log.bytes_max() + Touches::BYTES_MAX
    }
}
