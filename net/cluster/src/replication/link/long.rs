//! A long value under way: sent in parts, over several batches, with other entries in between.
//!
//! It is not copied first, so it may change meanwhile. Every change is in the log (what ends an item
//! without a write makes it vanish), so the log is asked before each part; then the value begins again.
//! A value that is written faster than it can be sent holds up its range's position, and the next long
//! value of its link; nothing else.

use super::Link;
use super::batch::{Batch, Scene};
use super::item::Sent;
use crate::replication::limits::PART_BYTES_MAX;
use crate::replication::{Entry, EntryKind, Log, LogKind, LogOffset};
use crate::{Range, Seq, Term};

/// A value of which parts are still to be sent.
pub(super) struct LongValue {
    pub(super) range: Range,
    pub(super) term: Term,
    key: Box<[u8]>,
    /// The range's last write when it was begun.
    seq: Seq,
    offset: usize,
    value_bytes: usize,
    /// Up to here the log tells nothing of the key.
    checked: LogOffset,
    origin: Origin,
}

/// Why a value is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// For this entry of the log.
    Log(LogOffset),
    Sync,
    Fetch,
}

impl LongValue {
    /// The entry of the log that is not sent before this is.
    pub(super) fn hold(&self) -> Option<LogOffset> {
        match self.origin {
            Origin::Log(offset) => Some(offset),
            Origin::Sync | Origin::Fetch => None,
        }
    }

    pub(super) fn is_of(&self, range: Range, key: &[u8]) -> bool {
        self.range == range && *self.key == *key
    }

    pub(super) fn is_fetched(&self) -> bool {
        self.origin == Origin::Fetch
    }

    pub(super) fn is_of_any_sync(&self) -> bool {
        self.origin == Origin::Sync
    }

    pub(super) fn is_of_sync(&self, range: Range) -> bool {
        self.range == range && self.origin == Origin::Sync
    }

    /// Whether the key may have been written since the last look.
    fn is_changed(&mut self, log: &Log) -> bool {
        let mut at = std::mem::replace(&mut self.checked, log.head());
        if at < log.oldest() {
            return true;
        }
        while let Some((entry, next)) = log.at(at) {
            let is_key = match entry.kind {
                LogKind::Changed(key) => *key == *self.key,
                LogKind::Flushed => true,
            };
            if entry.range == self.range && is_key {
                return true;
            }
            at = next;
        }
        false
    }

    fn entry<'e>(&self, kind: EntryKind<'e>) -> Entry<'e> {
        Entry {
            range: self.range,
            term: self.term,
            seq: self.seq,
            kind,
        }
    }
}

impl Scene<'_> {
    /// Begins a value that [`Scene::send_item`] found too long.
    pub(super) fn begin_long(
        &self,
        range: Range,
        term: Term,
        key: &[u8],
        origin: Origin,
        batch: &mut Batch<'_>,
    ) -> Option<LongValue> {
        let seq = self.copies.get(range).expect("it is at home here").seq;
        let mut long = None;
        self.store.read(range, key, &mut |item| {
            let begun = LongValue {
                range,
                term,
                key: key.into(),
                seq,
                offset: 0,
                value_bytes: item.value_bytes,
                checked: self.log.head(),
                origin,
            };
            let kind = EntryKind::ValueBegin {
                key,
                value_bytes: item.value_bytes as u64,
                ttl_ms: item.ttl_ms,
            };
            batch.push(&begun.entry(kind), key.len());
            long = Some(begun);
        });
        long
    }
}

impl Link {
    /// Sends the next parts of the long value.
    pub(super) fn go_on_with_long(&mut self, scene: &Scene<'_>, batch: &mut Batch<'_>) {
        let Some(mut long) = self.long.take() else {
            return;
        };
        self.has_reached = true;
        if long.is_changed(scene.log) {
            batch.push(&long.entry(EntryKind::ValueAbort), 0);
            let (range, term, origin) = (long.range, long.term, long.origin);
            if scene.send_item(range, term, &long.key, batch) == Sent::Whole {
                return;
            }
            match scene.begin_long(range, term, &long.key, origin, batch) {
                Some(again) => long = again,
                None => return,
            }
        }
        while long.offset < long.value_bytes && !batch.is_full() {
            let bytes_max = batch.bytes_left().clamp(1, PART_BYTES_MAX);
            let offset = long.offset;
            let mut sent = 0;
            let mut push = |bytes: &[u8]| {
                batch.push(&long.entry(EntryKind::ValuePart { bytes }), bytes.len());
                sent += bytes.len();
            };
            scene
                .store
                .read_part(long.range, &long.key, offset, bytes_max, &mut push);
            if sent == 0 {
                // Evicted or expired.
                batch.push(&long.entry(EntryKind::ValueAbort), 0);
                let key = &long.key;
                batch.push(&long.entry(EntryKind::Delete { key }), key.len());
                return;
            }
            long.offset += sent;
        }
        if long.offset == long.value_bytes {
            batch.push(&long.entry(EntryKind::ValueEnd), 0);
        } else {
            self.long = Some(long);
        }
    }
}
