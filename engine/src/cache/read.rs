//! Reading: by key, by cursor, at random.

use std::ops::Range;

use crate::cache::Cache;
use crate::eviction::Eviction;
use crate::item::{Extensions, Item, Meta};
use crate::key::Key;
use crate::slab::Handle;
use crate::time::Time;

impl Cache {
    /// The live item of a key; counts a hit or a miss, and the item as used. An expired item is reclaimed on the spot, and a miss. O(1).
    #[inline]
    pub fn get(&mut self, key: &Key<'_>, now: Time) -> Option<Item<'_>> {
        let Some(handle) = self.find_or_expire(key, now) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        self.touch_handle(handle);
        Some(self.item(handle))
    }

    /// The live item of a key; changes nothing. O(1).
    pub fn peek(&self, key: &Key<'_>, now: Time) -> Option<Item<'_>> {
        let handle = self.find(key).filter(|&handle| self.is_live(handle, now))?;
        Some(self.item(handle))
    }

    /// Makes a key's item the most recently used; false if there is no live one. O(1).
    pub fn touch(&mut self, key: &Key<'_>, now: Time) -> bool {
        let Some(handle) = self.find_or_expire(key, now) else {
            return false;
        };
        self.touch_handle(handle);
        true
    }

    /// Visits live items, `count` or somewhat more, and returns the cursor to go on with.
    ///
    /// 0 starts and ends. Every key that is there from the first call to the last is visited at
    /// least once, however the index grows in between. A call visits whole index buckets, so it
    /// may visit some dozen items more than `count`; it passes over at most `SCAN_BUCKETS_MAX` empty
    /// buckets. Cursors are below 2^48: the top 16 bits are free for whoever scans several caches.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        now: Time,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u64 {
        let items = Self::indexed(&self.config);
        let mut visit_live = self.visit_live(now, visit);
        self.index
            .scan(&self.slab, cursor, count, &items, &mut visit_live)
    }

    /// As `scan`, but ends with an index table, so that each key that is there from the first call
    /// to the last is visited exactly once: a call visits up to a table (`INDEX_MOVES_MAX`) more.
    pub fn walk(
        &self,
        cursor: u64,
        count: usize,
        now: Time,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u64 {
        let all = 0..usize::from(self.config.ranges_count);
        self.walk_ranges(all, cursor, count, now, visit)
    }

    /// As `walk`, but of one range alone: costs only that range. 0 starts and ends here, too.
    pub fn walk_range(
        &self,
        range: u16,
        cursor: u64,
        count: usize,
        now: Time,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u64 {
        let range = usize::from(range);
        self.walk_ranges(range..range + 1, cursor, count, now, visit)
    }

    fn walk_ranges(
        &self,
        ranges: Range<usize>,
        cursor: u64,
        count: usize,
        now: Time,
        visit: &mut dyn FnMut(Item<'_>),
    ) -> u64 {
        let items = Self::indexed(&self.config);
        let mut visit_live = self.visit_live(now, visit);
        self.index
            .walk(&self.slab, ranges, cursor, count, &items, &mut visit_live)
    }

    fn visit_live(&self, now: Time, visit: &mut dyn FnMut(Item<'_>)) -> impl FnMut(Handle) {
        move |handle| {
            if self.is_live(handle, now) {
                visit(self.item(handle));
            }
        }
    }

    /// A live item chosen by `random`; nearly uniform. Bounded work, so that it may miss when
    /// nearly all items have expired and wait to be reclaimed.
    pub fn random(&self, random: u64, now: Time) -> Option<Item<'_>> {
        self.random_in(0..usize::from(self.config.ranges_count), random, now)
    }

    /// As `random`, but of one range alone.
    pub fn random_of_range(&self, range: u16, random: u64, now: Time) -> Option<Item<'_>> {
        let range = usize::from(range);
        self.random_in(range..range + 1, random, now)
    }

    fn random_in(&self, ranges: Range<usize>, random: u64, now: Time) -> Option<Item<'_>> {
        let is_live = |handle| self.is_live(handle, now);
        let handle = self.index.random(&self.slab, ranges, random, is_live)?;
        Some(self.item(handle))
    }

    /// Loads what calls on `keys` will read: the misses of one key overlap with those of the
    /// others, where the calls would wait for each. First all buckets of the index, then the
    /// items, then, where a use moves items, their neighbours in the list. Changes nothing. Worth its
    /// cost from two keys on; a few dozen fit the first-level cache.
    #[inline]
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k Key<'k>> + Clone) {
        for key in keys.clone() {
            self.index.prefetch(&self.slab, key.range(), key.hash());
        }
        let find = |key: &Key<'_>| {
            self.index
                .find(&self.slab, key.range(), key.hash(), |_| true)
        };
        let candidates = keys.filter_map(find);
        for handle in candidates.clone() {
            self.slab.prefetch(handle);
        }
        if self.config.eviction == Eviction::Lru {
            for handle in candidates {
                self.slab.prefetch_neighbours(handle);
            }
        }
    }

    /// The handle of a key's live item. An expired one is reclaimed.
    #[inline]
    pub(super) fn find_or_expire(&mut self, key: &Key<'_>, now: Time) -> Option<Handle> {
        let now = self.observe(now);
        let handle = self.find(key)?;
        if self
            .deadline(handle)
            .is_some_and(|deadline| now >= deadline)
        {
            self.remove(key, handle);
            self.stats.expired += 1;
            return None;
        }
        Some(handle)
    }

    /// An item's deadline.
    #[inline]
    pub(super) fn deadline(&self, handle: Handle) -> Option<Time> {
        let meta = self.slab.meta(handle);
        let wheel_ms = self.wheel.time_ms();
        let read = || Time(Extensions::deadline_ms(&self.slab, handle, meta, wheel_ms));
        meta.has(Meta::TTL).then(read)
    }

    #[inline]
    pub(super) fn item(&self, handle: Handle) -> Item<'_> {
        Item::new(&self.slab, handle, self.wheel.time_ms())
    }

    fn is_live(&self, handle: Handle, now: Time) -> bool {
        let now = now.max(self.latest);
        self.deadline(handle).is_none_or(|deadline| now < deadline)
    }
}
