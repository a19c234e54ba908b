//! Counters and gauges of one cache.

/// A snapshot; all fields are counts or bytes.
///
/// Every item that leaves is counted by its reason: `evicted`, `expired`, `deleted`, `replaced`
/// or `flushed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// `get` calls that found a live item.
    pub hits: u64,
    /// `get` calls that found none.
    pub misses: u64,
    /// Values written, by any call.
    pub sets: u64,
    /// Items that left because their memory was needed.
    pub evicted: u64,
    /// Of those, the ones that were not the least recently used of their class: the page that they
    /// were in was needed, and there was no other place for them.
    pub evicted_early: u64,
    /// Items that left because their deadline had passed.
    pub expired: u64,
    /// Items that left by `delete`, or by a write whose deadline had already passed.
    pub deleted: u64,
    /// Items whose value was replaced by a write.
    pub replaced: u64,
    /// Items that left by `flush` or `drop_range`.
    pub flushed: u64,
    /// Pages that were emptied, for another class or for reserved bytes.
    pub pages_given_up: u64,
    /// Items held, including expired ones that aren't reclaimed yet.
    pub items: u64,
    /// Items held that have a deadline.
    pub items_with_ttl: u64,
    /// Bytes of the keys held.
    pub key_bytes: u64,
    /// Bytes of the values held.
    pub value_bytes: u64,
    /// Pages that hold at least one chunk in use.
    pub pages_in_use: u64,
    /// Pages that are in use, or free and resident, as they were used before or were made resident ahead; without
    /// those that others are about to make resident.
    pub pages_resident: u64,
    /// Pages that the limit allows right now.
    pub pages_total: u64,
    /// Bytes of the index: tables, directories, allocator overhead.
    pub index_bytes: u64,
    /// Bytes that others have taken from this cache's limit.
    pub reserved_bytes: u64,
    /// Value bytes under at least one lease.
    pub leased_bytes: u64,
    /// Leased items that are no longer in the index.
    pub zombies: u64,
    /// The limit, from the configuration.
    pub memory_bytes_max: u64,
}

impl Stats {
    /// Sets the counters of events to zero and leaves what describes the present.
    pub(crate) fn reset_events(&mut self) {
        *self = Self {
            hits: 0,
            misses: 0,
            sets: 0,
            evicted: 0,
            evicted_early: 0,
            expired: 0,
            deleted: 0,
            replaced: 0,
            flushed: 0,
            pages_given_up: 0,
            ..*self
        };
    }
}
