//! The index: from a key's hash to the handle of its item.
//!
//! It stores handles only; whoever calls it compares keys. Split by range, and inside a range by
//! hash into tables that grow one at a time (linear hashing), so that no step moves more than one
//! table's entries and walking a range costs only that range.
//!
//! ```text
//! hash  63..56: tag, compared before an item is touched
//!       55..24: which table of the range; one more table per 768 entries
//!       23.. 8: place in the table, which picks the bucket
//!
//! ranges[range] -> table -> bucket of 12 handles -> item        a cache line each but the table
//! ```

mod bucket;
mod cursor;
mod range;
mod table;

use cursor::Cursor;
use range::RangeIndex;
use table::Table;

use std::ops::Range;

use crate::limits::{RANDOM_PROBES_MAX, RANDOM_TABLES_MAX, SCAN_BUCKETS_MAX};
use crate::slab::Handle;

/// What the index asks of items when it moves or visits their entries.
pub(crate) trait Items {
    /// The hash of the item's key.
    fn hash(&self, handle: Handle) -> u64;

    /// The item's hash will be asked for soon.
    fn prefetch(&self, _handle: Handle) {}
}

impl<F: Fn(Handle) -> u64> Items for F {
    fn hash(&self, handle: Handle) -> u64 {
        self(handle)
    }
}

/// All entries of one cache.
pub(crate) struct Index {
    ranges: Box<[RangeIndex]>,
    /// What was cleared and is not freed yet; its bytes count.
    cleared: Vec<RangeIndex>,
    entries_count: usize,
    bytes: usize,
}

impl Index {
    /// An empty index. Ranges without entries allocate nothing.
    pub(crate) fn new(ranges_count: u16) -> Self {
        let ranges: Box<[_]> = (0..ranges_count).map(|_| RangeIndex::default()).collect();
        let bytes = Self::bytes_for(ranges_count);
        Self {
            ranges,
            cleared: Vec::new(),
            entries_count: 0,
            bytes,
        }
    }

    /// Bytes of an empty index.
    pub(crate) const fn bytes_for(ranges_count: u16) -> usize {
        ranges_count as usize * size_of::<RangeIndex>()
    }

    /// Number of entries.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries_count
    }

    /// Number of entries of one range.
    #[inline]
    pub(crate) fn range_len(&self, range: u16) -> usize {
        self.ranges[usize::from(range)].len()
    }

    /// Bytes held: ranges, directories, tables and the allocator's share of each.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry with this hash for which `is_match` holds. It sees handles whose tag is right:
    /// of 25 searches that find nothing, one sees another item.
    #[inline]
    pub(crate) fn find(
        &self,
        range: u16,
        hash: u64,
        is_match: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        self.ranges[usize::from(range)].find(hash, is_match)
    }

    /// Starts to load what `find` reads first.
    #[inline]
    pub(crate) fn prefetch(&self, range: u16, hash: u64) {
        self.ranges[usize::from(range)]
            .table_of(hash)
            .prefetch(hash);
    }

    /// Adds an entry. Moves at most one table's entries, and asks `items` about each.
    pub(crate) fn insert(&mut self, range: u16, hash: u64, handle: Handle, items: &impl Items) {
        // More than it adds, so that clearing again and again piles nothing up.
        self.free_cleared(2);
        let range = &mut self.ranges[usize::from(range)];
        let grown = range.insert(hash, handle, items);
        self.bytes = self.bytes.wrapping_add_signed(grown);
        self.entries_count += 1;
    }

    /// Lets the entry of `from` name `to` instead.
    pub(crate) fn replace(&mut self, range: u16, hash: u64, from: Handle, to: Handle) {
        self.ranges[usize::from(range)].replace(hash, from, to);
    }

    /// Removes the entry of `handle`. Moves at most one table's entries.
    pub(crate) fn remove(&mut self, range: u16, hash: u64, handle: Handle, items: &impl Items) {
        let grown = self.ranges[usize::from(range)].remove(hash, handle, items);
        self.bytes = self.bytes.wrapping_add_signed(grown);
        self.entries_count -= 1;
    }

    /// Forgets all entries. O(ranges): [`free_cleared`](Self::free_cleared) frees their tables.
    pub(crate) fn clear(&mut self) {
        let used = self.ranges.iter_mut().filter(|range| !range.is_unused());
        self.cleared.extend(used.map(std::mem::take));
        self.entries_count = 0;
    }

    /// Whether there is something to free.
    #[inline]
    pub(crate) fn has_cleared(&self) -> bool {
        !self.cleared.is_empty()
    }

    /// Frees at most `tables_max` tables of what was cleared.
    #[inline]
    pub(crate) fn free_cleared(&mut self, tables_max: usize) {
        for _ in 0..tables_max {
            let Some(range) = self.cleared.last_mut() else {
                return;
            };
            match range.free_table() {
                Some(bytes) => self.bytes -= bytes,
                None if self.cleared.len() > 1 => _ = self.cleared.pop(),
                None => self.cleared = Vec::new(),
            }
        }
    }

    /// Visits buckets until at least `count` entries were seen, and returns where to go on.
    ///
    /// 0 starts and ends. Entries are visited in the order of range and hash, which growth and
    /// moves don't change: an entry that is there from the first call to the last is visited, at
    /// least once. O(`count` + one bucket), plus at most `SCAN_BUCKETS_MAX` empty buckets.
    pub(crate) fn scan(
        &self,
        cursor: u64,
        count: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> u64 {
        let all = 0..self.ranges.len();
        self.visit(cursor, all, count, |_| true, items, visit)
    }

    /// As `scan` of some ranges, but a call goes on to the end of a table; no entry that stays is
    /// visited twice then. Costs only these ranges.
    pub(crate) fn walk(
        &self,
        ranges: Range<usize>,
        cursor: u64,
        count: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> u64 {
        self.visit(cursor, ranges, count, Cursor::is_at_table, items, visit)
    }

    fn visit(
        &self,
        cursor: u64,
        ranges: Range<usize>,
        count: usize,
        may_stop: impl Fn(Cursor) -> bool,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> u64 {
        let mut cursor = match cursor {
            0 => Cursor::start_of(u16::try_from(ranges.start).expect("at most 4,096 ranges")),
            cursor => Cursor::decode(cursor),
        };
        let (mut seen, mut buckets) = (0, 0);
        while ranges.contains(&usize::from(cursor.range)) {
            let is_enough = seen >= count.max(1) || buckets >= SCAN_BUCKETS_MAX + count;
            if is_enough && may_stop(cursor) {
                return cursor.encode();
            }
            let range = &self.ranges[usize::from(cursor.range)];
            let next = range.visit(cursor, items, &mut |handle| {
                seen += 1;
                visit(handle);
            });
            cursor = next.unwrap_or_else(|| cursor.next_range());
            buckets += 1;
        }
        0
    }

    /// An entry of some ranges chosen by `random` for which `is_wanted` holds. Bounded work: it may
    /// miss when nearly all entries are unwanted.
    pub(crate) fn random(
        &self,
        ranges: Range<usize>,
        random: u64,
        mut is_wanted: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        if self.entries_count == 0 {
            return None;
        }
        let ranges = &self.ranges[ranges];
        let mut state = random;
        for _ in 0..RANDOM_PROBES_MAX {
            state = mix(state);
            let range = &ranges[scaled(state, ranges.len())];
            state = mix(state);
            if let Some(handle) = range.random(state).filter(|&handle| is_wanted(handle)) {
                return Some(handle);
            }
        }
        let start = scaled(mix(state), ranges.len());
        let (before, after) = ranges.split_at(start);
        let tables = after.iter().chain(before).flat_map(RangeIndex::tables);
        let mut walked = tables.take(RANDOM_TABLES_MAX).flat_map(Table::iter);
        walked.find(|&handle| is_wanted(handle))
    }

    /// Every entry with its range.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, Handle)> + '_ {
        (0..).zip(&self.ranges).flat_map(|(number, range)| {
            let entries = range.tables().flat_map(Table::iter);
            entries.map(move |handle| (number, handle))
        })
    }

    /// Panics unless counts and bytes are right and every entry is found by its hash.
    pub(crate) fn check_integrity(&self, items: &impl Items) {
        let mut bytes = self.ranges.len() * size_of::<RangeIndex>();
        let mut entries = 0;
        for range in &self.ranges {
            range.check_integrity(items);
            bytes += range.bytes();
            entries += range.len();
        }
        bytes += self.cleared.iter().map(RangeIndex::bytes).sum::<usize>();
        assert_eq!(entries, self.entries_count, "index entries");
        assert_eq!(bytes, self.bytes, "index bytes");
    }
}

/// A step of the SplitMix64 sequence (Steele, Lea and Flood).
fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

/// `random` scaled to an index below `count`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product's high half is below count"
)]
fn scaled(random: u64, count: usize) -> usize {
    ((u128::from(random) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::{Index, mix};
    use crate::limits::{INDEX_MOVES_MAX, TABLE_ENTRIES_MEAN_MAX};
    use crate::slab::Handle;

    /// The entry `n` has hash mix(n), and range n % ranges_count.
    fn hash_of(handle: Handle) -> u64 {
        mix(u64::from(handle.0))
    }

    fn insert(index: &mut Index, number: u32, ranges_count: u32) {
        let range = u16::try_from(number % ranges_count).expect("small");
        index.insert(range, hash_of(Handle(number)), Handle(number), &hash_of);
    }

    fn find(index: &Index, number: u32, ranges_count: u32) -> Option<Handle> {
        let range = u16::try_from(number % ranges_count).expect("small");
        index.find(range, hash_of(Handle(number)), |handle| handle.0 == number)
    }

    #[test]
    fn agrees_with_a_map_under_churn() {
        for ranges_count in [1, 7] {
            let mut index = Index::new(ranges_count);
            let ranges_count = u32::from(ranges_count);
            let mut oracle = HashSet::new();
            let mut state = 1;
            for step in 0..40_000u32 {
                state = mix(state);
                let number = u32::try_from(state % 8_000).expect("small");
                if oracle.remove(&number) {
                    let range = u16::try_from(number % ranges_count).expect("small");
                    index.remove(range, hash_of(Handle(number)), Handle(number), &hash_of);
                    assert_eq!(find(&index, number, ranges_count), None);
                } else {
                    oracle.insert(number);
                    insert(&mut index, number, ranges_count);
                    assert_eq!(find(&index, number, ranges_count), Some(Handle(number)));
                }
                if step % 1000 == 0 {
                    index.check_integrity(&hash_of);
                }
            }
            let held: HashSet<u32> = index.iter().map(|(_, handle)| handle.0).collect();
            assert_eq!(held, oracle);
            for number in oracle {
                assert_eq!(find(&index, number, ranges_count), Some(Handle(number)));
            }
        }
    }

    #[test]
    fn a_step_of_growth_moves_one_table() {
        let mut index = Index::new(1);
        let moved = std::cell::Cell::new(0);
        for number in 0..100_000 {
            moved.set(0);
            index.insert(0, hash_of(Handle(number)), Handle(number), &|handle| {
                moved.set(moved.get() + 1);
                hash_of(handle)
            });
            assert!(
                moved.get() <= INDEX_MOVES_MAX,
                "{} entries moved",
                moved.get()
            );
        }
        assert!(index.ranges[0].tables().count() >= 100_000 / TABLE_ENTRIES_MEAN_MAX);
    }

    #[test]
    fn walk_visits_every_entry_that_stays_exactly_once_while_the_index_grows() {
        let mut index = Index::new(3);
        for number in 0..5_000 {
            insert(&mut index, number, 3);
        }
        let mut seen: HashMap<u32, u32> = HashMap::new();
        let (mut cursor, mut next, mut steps) = (0, 5_000, 0);
        loop {
            cursor = index.walk(0..3, cursor, 10, &hash_of, &mut |handle| {
                *seen.entry(handle.0).or_default() += 1;
            });
            if cursor == 0 {
                break;
            }
            steps += 1;
            for _ in 0..2_000 {
                insert(&mut index, next, 3);
                next += 1;
            }
        }
        assert!(steps > 10 && next > 30_000);
        assert!((0..5_000).all(|number| seen[&number] == 1));
        assert!(seen.values().all(|&times| times == 1));
    }

    #[test]
    fn scan_visits_every_entry_that_stays_while_the_index_grows_and_shrinks() {
        for ranges_count in [1u32, 5] {
            let mut index = Index::new(u16::try_from(ranges_count).expect("small"));
            for number in 0..5_000 {
                insert(&mut index, number, ranges_count);
            }
            let mut seen: HashMap<u32, u32> = HashMap::new();
            let (mut cursor, mut next) = (0, 5_000);
            loop {
                cursor = index.scan(cursor, 10, &hash_of, &mut |handle| {
                    *seen.entry(handle.0).or_default() += 1;
                });
                if cursor == 0 {
                    break;
                }
                for _ in 0..12 {
                    insert(&mut index, next, ranges_count);
                    next += 1;
                }
                for number in next - 4..next {
                    let range = u16::try_from(number % ranges_count).expect("small");
                    index.remove(range, hash_of(Handle(number)), Handle(number), &hash_of);
                }
            }
            assert!((0..5_000).all(|number| seen.contains_key(&number)));
        }
    }

    #[test]
    fn scan_of_an_idle_index_visits_each_entry_once() {
        let mut index = Index::new(3);
        for number in 0..10_000 {
            insert(&mut index, number, 3);
        }
        let (mut cursor, mut seen, mut calls) = (0, Vec::new(), 0);
        loop {
            let before = seen.len();
            cursor = index.scan(cursor, 100, &hash_of, &mut |handle| {
                seen.push(handle.0);
            });
            calls += 1;
            assert!(cursor < 1 << 48);
            assert!(seen.len() - before <= 100 + 12);
            if cursor == 0 {
                break;
            }
        }
        assert!(calls > 10);
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..10_000));
    }

    #[test]
    fn cursors_from_outside_are_harmless() {
        let mut index = Index::new(3);
        for number in 0..100 {
            insert(&mut index, number, 3);
        }
        for cursor in [u64::MAX, 1, 3 << 36, (2 << 36) | 0xF_FFFF_FFFF, 77 << 48] {
            index.scan(cursor, 10, &hash_of, &mut |_| {});
        }
        assert_eq!(index.scan(3 << 36, 10, &hash_of, &mut |_| {}), 0);
    }

    #[test]
    fn random_reaches_every_entry_of_a_small_index() {
        let mut index = Index::new(50);
        for number in 0..10 {
            insert(&mut index, number, 50);
        }
        let mut seen = HashSet::new();
        for random in 0..2_000 {
            seen.insert(index.random(0..50, random, |_| true).expect("not empty").0);
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(index.random(0..50, 1, |_| false), None);
        for random in 0..100 {
            let found = index.random(3..4, random, |_| true);
            assert_eq!(found, Some(Handle(3)));
            assert_eq!(index.random(10..11, random, |_| true), None);
        }
    }

    #[test]
    fn memory_comes_back_when_entries_leave() {
        let mut index = Index::new(4);
        for number in 0..20_000 {
            insert(&mut index, number, 4);
        }
        let full = index.bytes();
        for number in 0..20_000u32 {
            let range = u16::try_from(number % 4).expect("small");
            index.remove(range, hash_of(Handle(number)), Handle(number), &hash_of);
        }
        index.check_integrity(&hash_of);
        assert!(
            index.bytes() < full / 8,
            "{} of {full} are left",
            index.bytes()
        );
    }

    #[test]
    fn what_was_cleared_is_freed_step_by_step() {
        let mut index = Index::new(4);
        let empty = index.bytes();
        for number in 0..20_000 {
            insert(&mut index, number, 4);
        }
        let full = index.bytes();
        index.clear();
        index.check_integrity(&hash_of);
        assert_eq!((index.len(), index.bytes()), (0, full));
        assert_eq!(find(&index, 7, 4), None);
        let mut steps = 0;
        while index.has_cleared() {
            let before = index.bytes();
            index.free_cleared(1);
            assert!(before - index.bytes() < full / 10, "a step frees one table");
            index.check_integrity(&hash_of);
            steps += 1;
        }
        assert!(steps > 20);
        assert_eq!(index.bytes(), empty);
    }

    #[test]
    fn clearing_again_and_again_piles_nothing_up() {
        let mut index = Index::new(4);
        let mut most = 0;
        for number in 0..1_000 {
            insert(&mut index, number, 4);
            index.clear();
            most = most.max(index.bytes());
        }
        assert!(most < Index::bytes_for(4) + 4 * 1_000, "{most} bytes");
        assert!(index.cleared.len() < 4);
    }
}
