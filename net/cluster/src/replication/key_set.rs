//! Keys that one batch has already, so that a hot key is sent once.

use ahash::RandomState;
use hashbrown::HashTable;

use super::{Log, LogKind, LogOffset};
use crate::Range;

/// A set of entries of the log, by range and key. Its room is kept.
pub(super) struct KeySet {
    hasher: RandomState,
    table: HashTable<(u64, LogOffset)>,
}

impl KeySet {
    pub(super) fn new() -> Self {
        Self {
            // Whoever makes keys collide makes one batch, which is bounded, slower.
            hasher: RandomState::with_seeds(1, 2, 3, 4),
            table: HashTable::new(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    pub(super) fn contains(&self, log: &Log, range: Range, key: &[u8]) -> bool {
        let hash = self.hasher.hash_one(key);
        let is_key = |&(other, at): &(u64, LogOffset)| other == hash && is_at(log, at, range, key);
        self.table.find(hash, is_key).is_some()
    }

    /// Adds the key of the entry at `offset`; false if it is there.
    pub(super) fn insert(
        &mut self,
        log: &Log,
        offset: LogOffset,
        range: Range,
        key: &[u8],
    ) -> bool {
        let hash = self.hasher.hash_one(key);
        let is_key = |&(other, at): &(u64, LogOffset)| other == hash && is_at(log, at, range, key);
        if self.table.find(hash, is_key).is_some() {
            return false;
        }
        self.table
            .insert_unique(hash, (hash, offset), |&(hash, _)| hash);
        true
    }
}

fn is_at(log: &Log, offset: LogOffset, range: Range, key: &[u8]) -> bool {
    let entry = log.at(offset).expect("it was read from here").0;
    entry.range == range && entry.kind == LogKind::Changed(key)
}
