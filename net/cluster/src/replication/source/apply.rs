//! Applying entries to copies.

use super::{Source, Staged, ms_left};
use crate::replication::copies::{Copies, Follow, RangeCopy};
use crate::replication::limits::{DROP_ITEMS_PER_STEP, FLUSH_ITEMS_PER_BATCH};
use crate::replication::touches::Touches;
use crate::replication::{Entry, EntryKind, Fork, Log, LogEntry, LogKind, Store};
use crate::{Range, Seq, Time};

/// What entries are applied to.
pub(in crate::replication) struct Bench<'a> {
    pub(in crate::replication) copies: &'a mut Copies,
    pub(in crate::replication) log: &'a mut Log,
    pub(in crate::replication) touches: &'a mut Touches,
    pub(in crate::replication) store: &'a mut dyn Store,
    pub(in crate::replication) now: Time,
    pub(in crate::replication) ignores_terms: bool,
}

impl Bench<'_> {
    fn note_change(&mut self, range: Range, seq: Seq, kind: LogKind<'_>) {
        let Some(copy) = self.copies.get_mut(range) else {
            return;
        };
        copy.head = copy.head.max(seq);
        self.touches.note_write();
        // What a full sync brings need not be listed: its end is where the log begins.
        if copy.sync.is_none() {
            let entry = LogEntry { range, seq, kind };
            let copies = &mut *self.copies;
            self.log.append(&entry, self.now, |range, seq| {
                copies.note_dropped(range, seq);
            });
        }
    }
}

impl Source {
    /// A batch begins.
    pub(in crate::replication) fn begin(&mut self) {
        self.droppable = FLUSH_ITEMS_PER_BATCH;
    }

    /// Applies an entry of the batch.
    pub(in crate::replication) fn apply(&mut self, entry: &Entry<'_>, bench: &mut Bench<'_>) {
        if self.is_broken {
            return;
        }
        if entry.kind == EntryKind::Fetched {
            self.is_fetch_answered = true;
            return;
        }
        let (from, ignores_terms) = (self.from, bench.ignores_terms);
        let is_current = |one: &&mut RangeCopy| {
            ignores_terms || (one.source == Some(from) && one.term == entry.term)
        };
        let copy = bench.copies.get_mut(entry.range);
        let Some(copy) = copy.filter(is_current) else {
            self.refuse(entry.range, entry.term);
            return;
        };
        match entry.kind {
            EntryKind::Offer { history } => {
                self.consider(bench.copies, entry.range, entry.seq, history);
            }
            EntryKind::Follow => self.follow(copy),
            EntryKind::Resync => {
                self.abort_stage_of(entry.range, bench.store);
                bench.copies.begin_emptying(entry.range);
            }
            EntryKind::SyncBegin { sync, history } => {
                if copy.follow == Follow::Empty {
                    copy.log_start = bench.log.head();
                    self.begin_sync(copy, entry.seq, sync, history);
                } else if copy.is_holding() {
                    // What it holds may have been deleted before the sync began.
                    bench.copies.begin_emptying(entry.range);
                }
            }
            EntryKind::SyncEnd => self.end_sync(copy, entry.seq),
            EntryKind::Reached => self.reach(copy, entry.seq),
            EntryKind::Fetched => {}
            EntryKind::Flush => self.flush(entry, bench),
            EntryKind::Touch { key } => bench.store.touch(entry.range, key),
            EntryKind::Set { .. }
            | EntryKind::Delete { .. }
            | EntryKind::ValueBegin { .. }
            | EntryKind::ValuePart { .. }
            | EntryKind::ValueEnd
            | EntryKind::ValueAbort => {
                let takes_items = matches!(copy.follow, Follow::Live | Follow::Rewinding { .. });
                if takes_items {
                    if let Follow::Rewinding { from, .. } = copy.follow {
                        copy.note_rewound(from);
                    }
                    self.change(entry, bench);
                } else {
                    self.abort_stage_of(entry.range, bench.store);
                }
            }
        }
    }

    fn change(&mut self, entry: &Entry<'_>, bench: &mut Bench<'_>) {
        match entry.kind {
            EntryKind::Set { key, value, ttl_ms } => {
                bench.store.set(entry.range, key, value, ttl_ms);
                bench.note_change(entry.range, entry.seq, LogKind::Changed(key));
            }
            EntryKind::Delete { key } => {
                bench.store.delete(entry.range, key);
                bench.note_change(entry.range, entry.seq, LogKind::Changed(key));
            }
            EntryKind::ValueBegin {
                key,
                value_bytes,
                ttl_ms,
            } => {
                self.abort_stage(bench.store);
                self.stage = Some(Staged {
                    range: entry.range,
                    key: key.into(),
                    value_bytes,
                    ttl_ms,
                    begun: bench.now,
                    seq: entry.seq,
                    pushed: 0,
                    place: Some(bench.store.stage_begin()),
                });
            }
            EntryKind::ValuePart { bytes } => self.push(bytes, bench.store),
            EntryKind::ValueEnd => self.end_value(bench),
            EntryKind::ValueAbort => self.abort_stage(bench.store),
            _ => {}
        }
    }

    fn push(&mut self, bytes: &[u8], store: &mut dyn Store) {
        let Some(staged) = &mut self.stage else {
            return self.break_session();
        };
        staged.pushed += bytes.len() as u64;
        if let Some(place) = staged.place
            && !store.stage_push(place, bytes)
        {
            store.stage_abort(place);
            staged.place = None;
        }
    }

    fn end_value(&mut self, bench: &mut Bench<'_>) {
        let Some(staged) = self.stage.take() else {
            return self.break_session();
        };
        let is_whole = staged.pushed == staged.value_bytes;
        let ttl_ms = ms_left(staged.ttl_ms, bench.now.ms_since(staged.begun));
        match staged.place {
            Some(place) if is_whole && ttl_ms != Some(0) => {
                bench
                    .store
                    .stage_end(place, staged.range, &staged.key, ttl_ms);
            }
            place => {
                if let Some(place) = place {
                    bench.store.stage_abort(place);
                }
                bench.store.delete(staged.range, &staged.key);
            }
        }
        bench.note_change(staged.range, staged.seq, LogKind::Changed(&staged.key));
    }

    /// Drops a small range at once. A larger one is dropped in steps, and filled again.
    fn flush(&mut self, entry: &Entry<'_>, bench: &mut Bench<'_>) {
        let range = entry.range;
        let is_live = |copy: &RangeCopy| copy.follow == Follow::Live;
        if !bench.copies.get(range).is_some_and(is_live) {
            return;
        }
        let mut cursor = 0;
        while self.droppable > 0 {
            cursor = bench.store.drop_range(range, cursor, DROP_ITEMS_PER_STEP);
            self.droppable = self.droppable.saturating_sub(DROP_ITEMS_PER_STEP);
            if cursor == 0 {
                bench.note_change(range, entry.seq, LogKind::Flushed);
                return;
            }
        }
        self.abort_stage_of(range, bench.store);
        bench.copies.begin_emptying(range);
    }

    fn begin_sync(&mut self, copy: &mut RangeCopy, seq: Seq, sync: u64, forks: &[Fork]) {
        copy.offered = None;
        copy.history = Self::history_of(copy, forks);
        copy.follow = Follow::Live;
        copy.sync = Some(sync);
        copy.is_start_due = false;
        copy.is_complete = false;
        (copy.seq, copy.head) = (seq, seq);
        self.note_ack(copy);
    }

    fn end_sync(&mut self, copy: &mut RangeCopy, seq: Seq) {
        if copy.follow == Follow::Live && copy.sync.take().is_some() {
            copy.seq = copy.seq.max(seq);
            copy.head = copy.head.max(seq);
            copy.floor = copy.head;
            copy.is_complete = true;
            self.note_ack(copy);
        }
    }

    pub(super) fn reach(&mut self, copy: &mut RangeCopy, seq: Seq) {
        if copy.follow != Follow::Live {
            return;
        }
        match copy.offered.take() {
            None => copy.seq = copy.seq.max(seq),
            // Now everything that its primary started with is here.
            Some(offered) if offered.last().is_some_and(|fork| seq >= fork.start) => {
                copy.history = *offered;
                (copy.seq, copy.rewound_to) = (seq, None);
            }
            Some(offered) => {
                copy.offered = Some(offered);
                return;
            }
        }
        copy.head = copy.head.max(seq);
        copy.note_progress();
        self.note_ack(copy);
    }

    fn note_ack(&mut self, copy: &mut RangeCopy) {
        copy.is_ack_due = true;
        self.note_due(copy.range);
    }
}
