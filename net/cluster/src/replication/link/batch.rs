//! Making a batch: offers first, then what a rewinding follower asked for, the log, the long value, the
//! full sync; and last how far that is.

use super::item::Sent;
use super::long::{LongValue, Origin};
use super::{Due, Fetch, Flight, Link, Stage, Turn};
use crate::replication::copies::Copies;
use crate::replication::key_set::KeySet;
use crate::replication::limits::{
    BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_SCAN_MAX, ENTRY_OVERHEAD_BYTES, Limits,
    SYNC_WINDOW_BYTES_MAX, TOUCHES_PER_BATCH, TOUCHES_TOLD_MS, WINDOW_BATCHES_MAX,
};
use crate::replication::touches::Touches;
use crate::replication::{Entry, EntryKind, EntrySink, Log, LogKind, Store};
use crate::{Range, Seq, Term, Time};

/// What a batch is made from: nothing of it changes meanwhile.
pub(in crate::replication) struct Scene<'a> {
    pub(in crate::replication) copies: &'a Copies,
    pub(in crate::replication) log: &'a Log,
    pub(in crate::replication) touches: &'a Touches,
    pub(in crate::replication) store: &'a dyn Store,
    pub(in crate::replication) limits: &'a Limits,
    pub(in crate::replication) now: Time,
}

/// A batch being made.
pub(super) struct Batch<'a> {
    sink: &'a mut dyn EntrySink,
    pub(super) keys: &'a mut KeySet,
    bytes: usize,
    entries: usize,
}

impl Batch<'_> {
    /// Adds an entry with so many bytes of key and value.
    pub(super) fn push(&mut self, entry: &Entry<'_>, bytes: usize) {
        self.sink.entry(entry);
        self.bytes += bytes + ENTRY_OVERHEAD_BYTES;
        self.entries += 1;
    }

    pub(super) fn tell(&mut self, range: Range, term: Term, seq: Seq, kind: EntryKind<'_>) {
        let entry = Entry {
            range,
            term,
            seq,
            kind,
        };
        self.push(&entry, 0);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.entries >= BATCH_ENTRIES_MAX
    }

    pub(super) fn bytes_left(&self) -> usize {
        BATCH_BYTES_MAX.saturating_sub(self.bytes)
    }
}

impl Link {
    /// Makes the next batch, if there is something to send and the window allows it; gives its number.
    pub(in crate::replication) fn poll(
        &mut self,
        scene: &Scene<'_>,
        turn: &mut Turn,
        keys: &mut KeySet,
        sink: &mut dyn EntrySink,
    ) -> Option<u64> {
        let is_blocked = self.flights.len() >= WINDOW_BATCHES_MAX
            || self.flying_bytes >= scene.limits.window_bytes_max;
        if !self.is_connected || is_blocked {
            return None;
        }
        keys.clear();
        let mut batch = Batch {
            sink,
            keys,
            bytes: 0,
            entries: 0,
        };
        self.catch_fall(scene);
        self.tell_dues(scene, &mut batch);
        self.answer_fetches(scene, &mut batch);
        self.read_log(scene, &mut batch);
        let is_of_sync = self.long.as_ref().is_some_and(LongValue::is_of_any_sync);
        let bytes_before = batch.bytes;
        self.go_on_with_long(scene, &mut batch);
        if is_of_sync {
            turn.spend(batch.bytes - bytes_before);
        }
        // What else is on its way does not count, or writes could keep a sync from going on.
        let sync_flights = self.flights.iter().map(|flight| flight.sync_bytes);
        let may_sync = sync_flights.sum::<usize>() < SYNC_WINDOW_BYTES_MAX;
        let bytes_before = batch.bytes;
        let sync = may_sync.then(|| self.go_on_with_sync(scene, turn, &mut batch));
        let sync = sync.flatten();
        let sync_bytes = batch.bytes - bytes_before;
        // After this link may have taken its turn: what was noted of another's is not its.
        turn.note_window(self.core(), may_sync);
        self.tell_reached(scene, turn, &mut batch);
        if let Some(mean) = batch.bytes.checked_div(batch.entries) {
            self.entry_bytes = (self.entry_bytes * 7 + mean) / 8;
        }
        self.tell_touches(scene, &mut batch);
        let (bytes, entries) = (batch.bytes, batch.entries);
        if entries == 0 {
            self.note_idle(scene);
            return None;
        }
        self.number += 1;
        if self.flights.is_empty() {
            self.progress = scene.now;
        }
        let hold = self.long.as_ref().and_then(LongValue::hold);
        let cursor = hold.map_or(self.cursor, |hold| hold.min(self.cursor));
        let covered = if cursor == scene.log.head() {
            scene.now
        } else {
            scene.log.time_of(cursor).unwrap_or(self.covered)
        };
        self.flying_bytes += bytes;
        self.flights.push_back(Flight {
            number: self.number,
            bytes,
            sync_bytes,
            cursor,
            covered,
            sync,
        });
        Some(self.number)
    }

    /// Entries that this link has not read fell out of the log: the ranges they were of start anew.
    fn catch_fall(&mut self, scene: &Scene<'_>) {
        if self.cursor >= scene.log.oldest() {
            return;
        }
        self.cursor = scene.log.oldest();
        for followed in &mut self.followed {
            let floor = scene.copies.get(followed.range).map(|copy| copy.floor);
            if followed.is_served() && floor.is_some_and(|floor| floor > followed.sent) {
                followed.resync();
                self.needs_attention = true;
            }
        }
    }

    fn tell_dues(&mut self, scene: &Scene<'_>, batch: &mut Batch<'_>) {
        if let Some((range, term)) = self.aborted.take() {
            batch.tell(range, term, Seq(0), EntryKind::ValueAbort);
        }
        if !self.needs_attention {
            return;
        }
        for followed in &mut self.followed {
            let Some(due) = followed.due else { continue };
            if batch.is_full() {
                return;
            }
            followed.due = None;
            let (range, term) = (followed.range, followed.term);
            match due {
                Due::Offer => {
                    followed.stage = Stage::Offering { since: scene.now };
                    let copy = scene.copies.get(range).expect("it is at home here");
                    let history = copy.history.forks();
                    let entry = Entry {
                        range,
                        term,
                        seq: copy.seq,
                        kind: EntryKind::Offer { history },
                    };
                    batch.push(&entry, size_of_val(history));
                }
                Due::Follow => {
                    followed.began = self.number + 1;
                    batch.tell(range, term, followed.from, EntryKind::Follow);
                }
                Due::Resync => {
                    followed.stage = Stage::Offering { since: scene.now };
                    batch.tell(range, term, Seq(0), EntryKind::Resync);
                }
            }
        }
        self.needs_attention = false;
    }

    fn answer_fetches(&mut self, scene: &Scene<'_>, batch: &mut Batch<'_>) {
        // What comes after a long value that was asked for must not overtake it.
        while !batch.is_full() && !self.long.as_ref().is_some_and(LongValue::is_fetched) {
            let Some(fetch) = self.fetches.front() else {
                return;
            };
            match fetch {
                Fetch::End => {
                    self.fetches.pop_front();
                    let any = self.followed.first();
                    let Some((range, term)) = any.map(|one| (one.range, one.term)) else {
                        continue;
                    };
                    batch.tell(range, term, Seq(0), EntryKind::Fetched);
                }
                Fetch::Key(range, term, key) => {
                    match scene.send_item(*range, *term, key, batch) {
                        Sent::Whole => {}
                        Sent::Long if self.long.is_some() => return,
                        Sent::Long => {
                            let long = scene.begin_long(*range, *term, key, Origin::Fetch, batch);
                            self.long = long;
                        }
                    }
                    self.fetches.pop_front();
                }
            }
        }
    }

    fn read_log(&mut self, scene: &Scene<'_>, batch: &mut Batch<'_>) {
        for _ in 0..BATCH_SCAN_MAX {
            if batch.is_full() {
                break;
            }
            let Some((entry, next)) = scene.log.at(self.cursor) else {
                break;
            };
            let place = scene.copies.place(entry.range).expect("it was logged here");
            let position = usize::from(self.positions[place]);
            let copy = scene.copies.at(place);
            let is_wanted = self.followed.get(position).is_some_and(|followed| {
                followed.is_served() && entry.seq > followed.from && self.cursor >= followed.cursor
            });
            if !is_wanted {
                self.cursor = next;
                continue;
            }
            let (range, term) = (entry.range, copy.term);
            match entry.kind {
                LogKind::Flushed => {
                    batch.tell(range, term, copy.seq, EntryKind::Flush);
                    batch.keys.clear();
                }
                LogKind::Changed(key) => {
                    // A long value under way notices by itself that its key was written again.
                    let is_under_way = self
                        .long
                        .as_ref()
                        .is_some_and(|long| long.is_of(range, key));
                    if !is_under_way && batch.keys.insert(scene.log, self.cursor, range, key) {
                        match scene.send_item(range, term, key, batch) {
                            Sent::Whole => {}
                            Sent::Long if self.long.is_some() => break,
                            Sent::Long => {
                                let origin = Origin::Log(self.cursor);
                                self.long = scene.begin_long(range, term, key, origin, batch);
                            }
                        }
                    }
                }
            }
            if self.cursor >= copy.start_offset {
                self.followed[position].sent = entry.seq;
                self.has_reached = true;
            }
            self.cursor = next;
        }
        if self.is_catching_up {
            self.end_catching_up(scene);
        }
    }

    /// Where all entries from before the own reign are sent, its start is reached.
    fn end_catching_up(&mut self, scene: &Scene<'_>) {
        self.is_catching_up = false;
        for followed in self.followed.iter_mut().filter(|one| one.is_catching_up) {
            let copy = scene
                .copies
                .get(followed.range)
                .expect("it is at home here");
            if self.cursor >= copy.start_offset.max(followed.cursor) {
                followed.is_catching_up = false;
                followed.sent = followed.sent.max(copy.start());
                self.has_reached = true;
            } else {
                self.is_catching_up = true;
            }
        }
    }

    fn tell_reached(&mut self, scene: &Scene<'_>, turn: &mut Turn, batch: &mut Batch<'_>) {
        if !std::mem::take(&mut self.has_reached) {
            return;
        }
        let held = self.long.as_ref().map(|long| long.range);
        for followed in &mut self.followed {
            if followed.reached == followed.sent || !followed.is_served() {
                continue;
            }
            if held == Some(followed.range) || followed.is_catching_up {
                self.has_reached = true;
                continue;
            }
            followed.reached = followed.sent;
            let (range, term, seq) = (followed.range, followed.term, followed.sent);
            batch.tell(range, term, seq, EntryKind::Reached);
        }
        self.end_sync(scene, turn, batch);
    }

    /// Tells what was read of what is followed, now and then, as far as there is room.
    fn tell_touches(&mut self, scene: &Scene<'_>, batch: &mut Batch<'_>) {
        let is_busy = self.flights.len() > WINDOW_BATCHES_MAX / 4;
        if is_busy || scene.now.ms_since(self.touches_told) < TOUCHES_TOLD_MS {
            return;
        }
        let end = *self.touches_end.get_or_insert_with(|| scene.touches.head());
        for _ in 0..TOUCHES_PER_BATCH {
            if batch.is_full() {
                return;
            }
            let next = scene.touches.next(self.touches_cursor);
            let Some((range, key, next)) = next.filter(|(_, _, next)| *next <= end) else {
                (self.touches_told, self.touches_end) = (scene.now, None);
                return;
            };
            self.touches_cursor = next;
            let place = scene.copies.place(range).expect("it was read here");
            if let Some(followed) = self.of_place(place).filter(|one| one.is_served()) {
                let entry = Entry {
                    range,
                    term: followed.term,
                    seq: Seq(0),
                    kind: EntryKind::Touch { key },
                };
                batch.push(&entry, key.len());
            }
        }
    }

    /// Nothing is left to be sent.
    fn note_idle(&mut self, scene: &Scene<'_>) {
        if self.flights.is_empty() && self.long.is_none() && self.cursor == scene.log.head() {
            self.acked_cursor = self.cursor;
            self.covered = scene.now;
        }
    }
}
