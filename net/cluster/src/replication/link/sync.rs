//! Full sync: a range's items, walked in bounded steps into the same stream as its changes.
//!
//! ```text
//! SyncBegin(seq) | items .. changes .. items .. changes | Reached(seq) SyncEnd
//! ```
//! Changes after `SyncBegin` are streamed from the log as always. An item that the walk finds is read when
//! it is sent, and every change comes after it in the stream, so what arrives last is newest. The walk's
//! cursors stay good, so a new session goes on where the old one was acknowledged.

use super::batch::{Batch, Scene};
use super::item::Sent;
use super::long::{LongValue, Origin};
use super::{Link, Stage};
use crate::replication::limits::{SYNC_BURST_MS, SYNC_ITEMS_PER_STEP};
use crate::replication::{EntryKind, RemoteCore};
use crate::{Range, Seq, Time};

/// Which full sync of this core runs: one at a time.
#[derive(Debug, Default)]
pub(in crate::replication) struct Turn {
    pub(in crate::replication) holder: Option<(RemoteCore, Range)>,
    /// Number of the last sync begun.
    pub(in crate::replication) last: u64,
    pace: Pace,
    /// It goes on when something of it is acknowledged.
    waits_for_window: bool,
}

/// How much of syncs may be sent now: a bucket that fills with time, and may be overdrawn by one item.
#[derive(Debug, Default)]
struct Pace {
    bytes: i64,
    filled_at: Time,
}

impl Turn {
    /// When a sync that runs goes on; `None` if none does, or now.
    pub(in crate::replication) fn resumes_at(&self, per_second: u64) -> Option<Time> {
        let missing = 1_u64.saturating_add_signed(self.pace.bytes.saturating_neg());
        let is_paused = self.holder.is_some() && self.pace.bytes <= 0 && !self.waits_for_window;
        is_paused.then(|| {
            let ms = missing.saturating_mul(1_000) / per_second.max(1);
            self.pace.filled_at.plus_ms(ms + 1)
        })
    }

    /// Notes whether the link to `core` has room for more of a sync.
    pub(super) fn note_window(&mut self, core: RemoteCore, has_room: bool) {
        if self.holder.is_some_and(|(holder, _)| holder == core) {
            self.waits_for_window = !has_room;
        }
    }

    /// Notes that so many bytes of a long value of a sync were sent.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.pace.spend(bytes);
    }
}

impl Pace {
    fn fill(&mut self, per_second: u64, now: Time) {
        let ms = now.ms_since(self.filled_at).min(SYNC_BURST_MS);
        let bytes_in = |ms: u64| {
            let bytes = u128::from(per_second) * u128::from(ms) / 1_000;
            i64::try_from(bytes).unwrap_or(i64::MAX)
        };
        self.filled_at = now;
        let most = bytes_in(SYNC_BURST_MS).max(1);
        self.bytes = self.bytes.saturating_add(bytes_in(ms)).min(most);
        if per_second == u64::MAX {
            self.bytes = i64::MAX;
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub_unsigned(bytes as u64);
    }
}

/// How far a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    At(u64),
    Ended,
}

/// A sync under way, or interrupted.
pub(super) struct FullSync {
    pub(super) id: u64,
    walk: Walk,
    /// Keys that the walk found and that are not sent, one behind the other: length, key.
    found: Vec<u8>,
    found_at: usize,
    /// Where a walk would start again to find those.
    walk_of_found: Walk,
    pub(super) acked: Walk,
    /// The sync ends when this is reached.
    end: Option<Seq>,
}

const LENGTH_BYTES: usize = 2;

impl FullSync {
    fn new(id: u64) -> Self {
        Self {
            id,
            walk: Walk::At(0),
            found: Vec::new(),
            found_at: 0,
            walk_of_found: Walk::At(0),
            acked: Walk::At(0),
            end: None,
        }
    }

    /// Goes back to what was acknowledged.
    pub(super) fn rewind(&mut self) {
        self.walk = self.acked;
        self.walk_of_found = self.acked;
        self.found.clear();
        self.found_at = 0;
        self.end = None;
    }

    /// Where to go on if everything sent so far arrives.
    fn safe(&self, is_item_under_way: bool) -> Walk {
        if self.found_at < self.found.len() || is_item_under_way {
            self.walk_of_found
        } else {
            self.walk
        }
    }

    /// Finds more keys; false at the end.
    fn find(&mut self, scene: &Scene<'_>, range: Range) -> bool {
        let Walk::At(cursor) = self.walk else {
            return false;
        };
        self.found.clear();
        self.found_at = 0;
        let found = &mut self.found;
        let next = scene
            .store
            .walk_range(range, cursor, SYNC_ITEMS_PER_STEP, &mut |item| {
                let length = u16::try_from(item.key.len()).expect("keys are shorter than 16 KiB");
                found.extend_from_slice(&length.to_le_bytes());
                found.extend_from_slice(item.key);
            });
        self.walk_of_found = self.walk;
        self.walk = if next == 0 {
            Walk::Ended
        } else {
            Walk::At(next)
        };
        true
    }

    fn next_key(&self) -> Option<&[u8]> {
        let rest = &self.found[self.found_at..];
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        Some(&rest[..usize::from(u16::from_le_bytes(*length))])
    }

    fn skip_key(&mut self) {
        let key_bytes = self.next_key().map_or(0, <[u8]>::len);
        self.found_at += LENGTH_BYTES + key_bytes;
    }
}

impl Link {
    /// Sends more of the range whose turn it is; gives where that sync would go on.
    pub(super) fn go_on_with_sync(
        &mut self,
        scene: &Scene<'_>,
        turn: &mut Turn,
        batch: &mut Batch<'_>,
    ) -> Option<(Range, u64, Walk)> {
        self.take_turn(scene, turn, batch);
        let (core, range) = turn.holder?;
        if core != self.core() {
            return None;
        }
        let place = scene.copies.place(range).expect("it is at home here");
        let position = usize::from(self.positions[place]);
        let term = self.followed[position].term;
        let mut sync = self.followed[position].sync.take()?;
        turn.pace
            .fill(scene.limits.sync_bytes_per_second, scene.now);
        while !batch.is_full() && turn.pace.bytes > 0 {
            let bytes_before = batch.bytes();
            let Some(key) = sync.next_key() else {
                let is_under_way = self
                    .long
                    .as_ref()
                    .is_some_and(|long| long.is_of_sync(range));
                if is_under_way {
                    break;
                }
                if sync.find(scene, range) {
                    continue;
                }
                let head = scene.copies.at(place).seq;
                sync.end.get_or_insert(head);
                self.has_reached = true;
                break;
            };
            let is_sent = batch.keys.contains(scene.log, range, key)
                || self
                    .long
                    .as_ref()
                    .is_some_and(|long| long.is_of(range, key));
            if !is_sent {
                match scene.send_item(range, term, key, batch) {
                    Sent::Whole => {}
                    Sent::Long if self.long.is_some() => break,
                    Sent::Long => {
                        self.long = scene.begin_long(range, term, key, Origin::Sync, batch);
                    }
                }
            }
            sync.skip_key();
            turn.pace.spend(batch.bytes() - bytes_before);
        }
        let is_under_way = self.long.as_ref().is_some_and(|long| long.range == range);
        let safe = (range, sync.id, sync.safe(is_under_way));
        self.followed[position].sync = Some(sync);
        Some(safe)
    }

    /// Begins the next sync if none runs, or goes on with an interrupted one.
    fn take_turn(&mut self, scene: &Scene<'_>, turn: &mut Turn, batch: &mut Batch<'_>) {
        if turn.holder.is_some() || !self.wants_sync {
            return;
        }
        let core = self.core();
        let interrupted = |stage| stage == Stage::Syncing;
        let waiting = |stage| stage == Stage::Waiting;
        let number = self.number + 1;
        let next = self.followed.iter().position(|one| interrupted(one.stage));
        let next = next.or_else(|| self.followed.iter().position(|one| waiting(one.stage)));
        let Some(position) = next else {
            self.wants_sync = false;
            return;
        };
        let followed = &mut self.followed[position];
        turn.holder = Some((core, followed.range));
        if followed.stage == Stage::Syncing {
            return;
        }
        turn.last += 1;
        followed.sync = Some(Box::new(FullSync::new(turn.last)));
        let copy = scene.copies.get(followed.range);
        let copy = copy.expect("it is at home here");
        let (seq, history) = (copy.seq, copy.history.forks());
        followed.stage = Stage::Syncing;
        followed.began = number;
        followed.begin_at(seq, scene.log.head());
        let (range, term) = (followed.range, followed.term);
        let sync = turn.last;
        batch.tell(range, term, seq, EntryKind::SyncBegin { sync, history });
    }

    /// Ends the sync when everything is sent, which `Reached` just told.
    pub(super) fn end_sync(&mut self, scene: &Scene<'_>, turn: &mut Turn, batch: &mut Batch<'_>) {
        let Some((core, range)) = turn.holder else {
            return;
        };
        if core != self.core() {
            return;
        }
        let is_held = self.long.as_ref().is_some_and(|long| long.range == range);
        let Some(followed) = self.of_range(scene.copies, range) else {
            return;
        };
        let end = followed.sync.as_ref().and_then(|sync| sync.end);
        if is_held || end.is_none_or(|end| followed.reached < end) {
            return;
        }
        followed.stage = Stage::Following;
        followed.sync = None;
        turn.holder = None;
        let (term, seq) = (followed.term, followed.reached);
        batch.tell(range, term, seq, EntryKind::SyncEnd);
        // The next one begins with the next batch.
    }

    /// Notes what arrived of a sync.
    pub(super) fn note_sync_acked(&mut self, range: Range, id: u64, walk: Walk) {
        let followed = self.followed.iter_mut().find(|one| one.range == range);
        if let Some(sync) = followed.and_then(|one| one.sync.as_mut())
            && sync.id == id
        {
            sync.acked = walk;
        }
    }

    /// Whether the long value under way is one of `range`.
    pub(super) fn is_long_of(&self, range: Range) -> bool {
        self.long
            .as_ref()
            .is_some_and(|long: &LongValue| long.range == range)
    }
}
