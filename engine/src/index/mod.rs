//! The index: from a key's hash to the handle of its item.
//!
//! It stores handles only; whoever calls it compares keys. Split by range, and inside a range by
//! hash into tables that grow one at a time (linear hashing), so that no step moves more than one
//! table's entries and walking a range costs only that range. Tables are in pages of the arena.
//!
//! ```text
//! hash  63..56: tag, compared before an item is touched
//!       55..24: which table of the range; one more table per 768 entries
//!       23.. 8: place in the table, which picks the bucket
//!
//! ranges[range] -> bucket of 12 handles -> item        a cache line each
//! ```

mod bucket;
mod cursor;
mod pool;
mod range;
mod table;

use cursor::Cursor;
use pool::{Pool, Surroundings};
use range::RangeIndex;
use table::Table;

use std::ops::Range;

use crate::limits::{RANDOM_PROBES_MAX, RANDOM_TABLES_MAX, SCAN_BUCKETS_MAX};
use crate::slab::{Handle, Slab};

/// What the index asks of items when it moves or visits their entries.
pub(crate) trait Items {
    /// The hash of the item's key.
    fn hash(&self, slab: &Slab, handle: Handle) -> u64;

    /// The range of the item's key.
    fn range(&self, slab: &Slab, handle: Handle) -> u16;

    /// The item's hash will be asked for soon.
    fn prefetch(&self, _slab: &Slab, _handle: Handle) {}
}

/// An entry found no slot, and there is no page to grow into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// All entries of one cache.
pub(crate) struct Index {
    ranges: Box<[RangeIndex]>,
    pool: Pool,
    entries_count: usize,
    directories_bytes: usize,
}

impl Index {
    /// An empty index. Ranges without entries take no more memory.
    pub(crate) fn new(ranges_count: u16) -> Self {
        Self {
            ranges: (0..ranges_count).map(|_| RangeIndex::default()).collect(),
            pool: Pool::default(),
            entries_count: 0,
            directories_bytes: 0,
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

    /// Bytes beside its pages. What grows is counted twice, since the allocator may keep what it was
    /// before.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> usize {
        let ranges_bytes = self.ranges.len() * size_of::<RangeIndex>();
        ranges_bytes + 2 * (self.directories_bytes + self.pool.heap_bytes())
    }

    /// The entry with this hash for which `is_match` holds. It sees handles whose tag is right:
    /// of 25 searches that find nothing, one sees another item.
    #[inline]
    pub(crate) fn find(
        &self,
        slab: &Slab,
        range: u16,
        hash: u64,
        is_match: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        self.ranges[usize::from(range)]
            .table_of(hash)
            .find(slab, hash, is_match)
    }

    /// Starts to load what `find` reads first.
    #[inline]
    pub(crate) fn prefetch(&self, slab: &Slab, range: u16, hash: u64) {
        self.ranges[usize::from(range)]
            .table_of(hash)
            .prefetch(slab, hash);
    }

    /// Adds an entry. Moves at most one table's entries, and asks `items` about each, and the tables
    /// of one page twice.
    ///
    /// Without memory a table is filled to the last slot; an error changes nothing.
    pub(crate) fn insert(
        &mut self,
        slab: &mut Slab,
        range: u16,
        hash: u64,
        handle: Handle,
        items: &impl Items,
    ) -> Result<(), Full> {
        if self.ranges[usize::from(range)].is_full() {
            self.split(slab, range, items);
        }
        let number = self.ranges[usize::from(range)].number_of(hash);
        let table = *self.ranges[usize::from(range)].table(number);
        if let Some(buckets_count) = table.grown() {
            let is_grown = self.rebuild(slab, (range, number), buckets_count, items);
            if !is_grown && !table.has_vacant() {
                return Err(Full);
            }
        }
        let range = &mut self.ranges[usize::from(range)];
        range.table_mut(number).put(slab, hash, handle);
        range.count_added();
        self.entries_count += 1;
        Ok(())
    }

    /// Lets the entry of `from` name `to` instead.
    pub(crate) fn replace(&self, slab: &mut Slab, range: u16, hash: u64, from: Handle, to: Handle) {
        let table = self.ranges[usize::from(range)].table_of(hash);
        table.replace(slab, hash, from, to);
    }

    /// Removes the entry of `handle`. Moves at most one table's entries, `INDEX_RUNS_MAX` tables to other
    /// pages, and twice one page's tables together.
    pub(crate) fn remove(
        &mut self,
        slab: &mut Slab,
        range: u16,
        hash: u64,
        handle: Handle,
        items: &impl Items,
    ) {
        let index = &mut self.ranges[usize::from(range)];
        let number = index.number_of(hash);
        let table = index.table_mut(number);
        table.take(slab, hash, handle);
        let table = *table;
        index.count_removed();
        self.entries_count -= 1;
        if table.len() == 0 {
            *index.table_mut(number) = Table::default();
            self.pool.free(slab, table.start(), table.buckets_count());
        } else if let Some(buckets_count) = table.shrunk() {
            self.rebuild(slab, (range, number), buckets_count, items);
        } else {
            return;
        }
        if self.pool.is_wasteful() {
            let ranges = &mut self.ranges;
            let mut around = Surroundings {
                slab,
                ranges,
                items,
            };
            self.pool.empty_some(&mut around);
        }
    }

    /// Gives a table other buckets; false without memory.
    fn rebuild(
        &mut self,
        slab: &mut Slab,
        (range, number): (u16, usize),
        buckets_count: usize,
        items: &impl Items,
    ) -> bool {
        let ranges = &mut self.ranges;
        let mut around = Surroundings {
            slab,
            ranges,
            items,
        };
        let Some(start) = self.pool.allocate(&mut around, buckets_count) else {
            return false;
        };
        // Where it is now: it may have been moved.
        let held = self.ranges[usize::from(range)].table_mut(number);
        let old = std::mem::replace(held, Table::new(slab, start, buckets_count));
        old.for_each(slab, items, |slab, hash, handle| {
            held.put(slab, hash, handle);
        });
        self.pool.free(slab, old.start(), old.buckets_count());
        true
    }

    /// Gives a range one more table, if there is memory.
    fn split(&mut self, slab: &mut Slab, range: u16, items: &impl Items) {
        let halves = self.ranges[usize::from(range)].halves(slab, items);
        let ranges = &mut self.ranges;
        let mut around = Surroundings {
            slab,
            ranges,
            items,
        };
        let Some(start) = self.pool.allocate(&mut around, halves.iter().sum()) else {
            return;
        };
        self.pool.cut(slab, start, halves);
        let range = &mut self.ranges[usize::from(range)];
        let old = *range.table(range.next_split());
        let before = range.heap_bytes();
        range.split(slab, items, start, halves);
        self.directories_bytes += range.heap_bytes() - before;
        self.pool.free(slab, old.start(), old.buckets_count());
    }

    /// Forgets all entries. O(ranges + pages of the index).
    pub(crate) fn clear(&mut self, slab: &mut Slab) {
        self.pool.clear(slab);
        self.ranges.fill_with(RangeIndex::default);
        self.entries_count = 0;
        self.directories_bytes = 0;
    }

    /// Visits buckets until at least `count` entries were seen, and returns where to go on.
    ///
    /// 0 starts and ends. Entries are visited in the order of range and hash, which growth and
    /// moves don't change: an entry that is there from the first call to the last is visited, at
    /// least once. O(`count` + one bucket), plus at most `SCAN_BUCKETS_MAX` empty buckets.
    pub(crate) fn scan(
        &self,
        slab: &Slab,
        cursor: u64,
        count: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> u64 {
        let all = 0..self.ranges.len();
        self.visit(slab, (cursor, all), count, |_| true, items, visit)
    }

    /// As `scan` of some ranges, but a call goes on to the end of a table; no entry that stays is
    /// visited twice then. Costs only these ranges.
    pub(crate) fn walk(
        &self,
        slab: &Slab,
        ranges: Range<usize>,
        cursor: u64,
        count: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> u64 {
        self.visit(
            slab,
            (cursor, ranges),
            count,
            Cursor::is_at_table,
            items,
            visit,
        )
    }

    fn visit(
        &self,
        slab: &Slab,
        (cursor, ranges): (u64, Range<usize>),
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
            let next = range.visit(slab, cursor, items, &mut |handle| {
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
        slab: &Slab,
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
            let found = range.random(slab, state);
            if let Some(handle) = found.filter(|&handle| is_wanted(handle)) {
                return Some(handle);
            }
        }
        let start = scaled(mix(state), ranges.len());
        let (before, after) = ranges.split_at(start);
        let tables = after.iter().chain(before).flat_map(RangeIndex::tables);
        let tables = tables.take(RANDOM_TABLES_MAX);
        let mut walked = tables.flat_map(|table| table.iter(slab));
        walked.find(|&handle| is_wanted(handle))
    }

    /// Every entry with its range.
    pub(crate) fn iter<'a>(&'a self, slab: &'a Slab) -> impl Iterator<Item = (u16, Handle)> + 'a {
        (0..).zip(&self.ranges).flat_map(move |(number, range)| {
            let entries = range.tables().flat_map(move |table| table.iter(slab));
            entries.map(move |handle| (number, handle))
        })
    }

    /// Panics unless counts and bytes are right, every entry is found by its hash, and every table
    /// where the pages say.
    pub(crate) fn check_integrity(&self, slab: &Slab, items: &impl Items) {
        let (mut bytes, mut entries) = (0, 0);
        for range in &self.ranges {
            range.check_integrity(slab, items);
            bytes += range.heap_bytes();
            entries += range.len();
        }
        self.pool.check_integrity(slab, &self.ranges, items);
        assert_eq!(entries, self.entries_count, "index entries");
        assert_eq!(bytes, self.directories_bytes, "index bytes");
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
    use std::cell::Cell;
    use std::collections::{HashMap, HashSet};

    use super::{Full, Index, Items, RangeIndex, mix};
    use crate::limits::{INDEX_MOVES_MAX, INDEX_RUNS_MAX, PAGE_BYTES, TABLE_ENTRIES_MEAN_MAX};
    use crate::slab::{Handle, Slab};

    /// The entry `n` has hash mix(n), and range n modulo this.
    #[derive(Clone, Copy)]
    pub(super) struct Numbers(pub(super) u32);

    impl Numbers {
        fn range_of(self, number: u32) -> u16 {
            u16::try_from(number % self.0).expect("small")
        }
    }

    impl Items for Numbers {
        fn hash(&self, _: &Slab, handle: Handle) -> u64 {
            hash_of(handle.0)
        }

        fn range(&self, _: &Slab, handle: Handle) -> u16 {
            self.range_of(handle.0)
        }
    }

    fn hash_of(number: u32) -> u64 {
        mix(u64::from(number))
    }

    /// An index with its pages.
    struct Alone {
        slab: Slab,
        index: Index,
        numbers: Numbers,
    }

    impl Alone {
        fn new(ranges_count: u32, pages_count: usize) -> Self {
            Self {
                slab: Slab::new(pages_count).expect("address space"),
                index: Index::new(u16::try_from(ranges_count).expect("small")),
                numbers: Numbers(ranges_count),
            }
        }

        fn try_insert(&mut self, number: u32) -> Result<(), Full> {
            let (range, hash) = (self.numbers.range_of(number), hash_of(number));
            let handle = Handle(number);
            self.index
                .insert(&mut self.slab, range, hash, handle, &self.numbers)
        }

        fn insert(&mut self, number: u32) {
            self.try_insert(number).expect("a page");
        }

        fn remove(&mut self, number: u32) {
            let (range, hash) = (self.numbers.range_of(number), hash_of(number));
            let handle = Handle(number);
            self.index
                .remove(&mut self.slab, range, hash, handle, &self.numbers);
        }

        fn find(&self, number: u32) -> Option<Handle> {
            let is_match = |handle: Handle| handle.0 == number;
            let range = self.numbers.range_of(number);
            self.index
                .find(&self.slab, range, hash_of(number), is_match)
        }

        fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(u32)) -> u64 {
            let mut visit = |handle: Handle| visit(handle.0);
            self.index
                .scan(&self.slab, cursor, count, &self.numbers, &mut visit)
        }

        fn check_integrity(&self) {
            self.index.check_integrity(&self.slab, &self.numbers);
            self.slab.check_integrity();
        }
    }

    #[test]
    fn agrees_with_a_map_under_churn() {
        for ranges_count in [1, 7, 900] {
            let mut alone = Alone::new(ranges_count, 100);
            let mut oracle = HashSet::new();
            let mut state = 1;
            for step in 0..40_000u32 {
                state = mix(state);
                let number = u32::try_from(state % 8_000).expect("small");
                if oracle.remove(&number) {
                    alone.remove(number);
                    assert_eq!(alone.find(number), None);
                } else {
                    oracle.insert(number);
                    alone.insert(number);
                    assert_eq!(alone.find(number), Some(Handle(number)));
                }
                if step % 1000 == 0 {
                    alone.check_integrity();
                }
            }
            let held = alone.index.iter(&alone.slab);
            let held: HashSet<u32> = held.map(|(_, handle)| handle.0).collect();
            assert_eq!(held, oracle);
            for number in oracle {
                assert_eq!(alone.find(number), Some(Handle(number)));
            }
        }
    }

    #[test]
    fn a_step_of_growth_moves_one_table() {
        /// Counts the hashes that it is asked for.
        struct Counting(Cell<usize>);

        impl Items for Counting {
            fn hash(&self, _: &Slab, handle: Handle) -> u64 {
                self.0.set(self.0.get() + 1);
                hash_of(handle.0)
            }

            fn range(&self, _: &Slab, _: Handle) -> u16 {
                0
            }
        }
        let mut alone = Alone::new(1, 100);
        let counting = Counting(Cell::new(0));
        for number in 0..100_000 {
            counting.0.set(0);
            let (slab, hash) = (&mut alone.slab, hash_of(number));
            alone
                .index
                .insert(slab, 0, hash, Handle(number), &counting)
                .expect("a page");
            // Once to count the halves of a table, once to move them, and the tables in a page.
            let asked = counting.0.get();
            assert!(asked <= 2 * INDEX_MOVES_MAX, "asked {asked} times");
        }
        let tables = alone.index.ranges[0].tables().count();
        assert!(tables >= 100_000 / TABLE_ENTRIES_MEAN_MAX);
    }

    #[test]
    fn a_removal_moves_few_tables_to_other_pages() {
        let mut alone = Alone::new(900, 100);
        (0..30_000).for_each(|number| alone.insert(number));
        let pages_of = |alone: &Alone| -> Vec<u32> {
            let tables = alone.index.ranges.iter().flat_map(RangeIndex::tables);
            tables.map(|table| table.start().page()).collect()
        };
        let (mut before, mut most) = (pages_of(&alone), 0);
        for number in 0..29_000 {
            alone.remove(number);
            let after = pages_of(&alone);
            let moved = before.iter().zip(&after).filter(|(was, is)| was != is);
            most = most.max(moved.count());
            before = after;
        }
        // The one of which an entry was removed may be rebuilt elsewhere.
        assert!((2..=INDEX_RUNS_MAX + 1).contains(&most), "{most}");
        alone.check_integrity();
    }

    #[test]
    fn walk_visits_every_entry_that_stays_exactly_once_while_the_index_grows() {
        let mut alone = Alone::new(3, 1_000);
        (0..5_000).for_each(|number| alone.insert(number));
        let mut seen: HashMap<u32, u32> = HashMap::new();
        let (mut cursor, mut next, mut steps) = (0, 5_000, 0);
        loop {
            let numbers = alone.numbers;
            let mut visit = |handle: Handle| *seen.entry(handle.0).or_default() += 1;
            cursor = alone
                .index
                .walk(&alone.slab, 0..3, cursor, 10, &numbers, &mut visit);
            if cursor == 0 {
                break;
            }
            steps += 1;
            for _ in 0..2_000 {
                alone.insert(next);
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
            let mut alone = Alone::new(ranges_count, 100);
            (0..5_000).for_each(|number| alone.insert(number));
            let mut seen = HashSet::new();
            let (mut cursor, mut next) = (0, 5_000);
            loop {
                cursor = alone.scan(cursor, 10, |number| _ = seen.insert(number));
                if cursor == 0 {
                    break;
                }
                for _ in 0..12 {
                    alone.insert(next);
                    next += 1;
                }
                (next - 4..next).for_each(|number| alone.remove(number));
            }
            assert!((0..5_000).all(|number| seen.contains(&number)));
        }
    }

    #[test]
    fn scan_of_an_idle_index_visits_each_entry_once() {
        let mut alone = Alone::new(3, 100);
        (0..10_000).for_each(|number| alone.insert(number));
        let (mut cursor, mut seen, mut calls) = (0, Vec::new(), 0);
        loop {
            let before = seen.len();
            cursor = alone.scan(cursor, 100, |number| seen.push(number));
            calls += 1;
            assert!(cursor < 1 << 48);
            assert!(seen.len() - before <= 100 + 24);
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
        let mut alone = Alone::new(3, 100);
        (0..100).for_each(|number| alone.insert(number));
        for cursor in [u64::MAX, 1, 3 << 36, (2 << 36) | 0xF_FFFF_FFFF, 77 << 48] {
            alone.scan(cursor, 10, |_| {});
        }
        assert_eq!(alone.scan(3 << 36, 10, |_| {}), 0);
    }

    #[test]
    fn random_reaches_every_entry_of_a_small_index() {
        let mut alone = Alone::new(50, 10);
        (0..10).for_each(|number| alone.insert(number));
        let mut seen = HashSet::new();
        for random in 0..2_000 {
            let found = alone.index.random(&alone.slab, 0..50, random, |_| true);
            seen.insert(found.expect("not empty").0);
        }
        assert_eq!(seen.len(), 10);
        assert_eq!(alone.index.random(&alone.slab, 0..50, 1, |_| false), None);
        let entries: Vec<_> = alone.index.iter(&alone.slab).collect();
        for range in 0..50u16 {
            let place = usize::from(range);
            let one = place..place + 1;
            let found = alone.index.random(&alone.slab, one, 7, |_| true);
            let is_found =
                |&(number, handle): &(u16, Handle)| (number, Some(handle)) == (range, found);
            let is_held = entries.iter().any(|(number, _)| *number == range);
            assert_eq!(entries.iter().any(is_found), is_held);
        }
    }

    #[test]
    fn pages_come_back_when_entries_leave() {
        for ranges_count in [4, 500] {
            let mut alone = Alone::new(ranges_count, 100);
            (0..20_000).for_each(|number| alone.insert(number));
            let full = alone.slab.index_count();
            (0..15_000).for_each(|number| alone.remove(number));
            alone.check_integrity();
            let left = alone.slab.index_count();
            assert!(left <= full / 3 + 1, "{left} pages of {full} for a quarter");
            (15_000..20_000).for_each(|number| alone.remove(number));
            alone.check_integrity();
            assert_eq!(alone.slab.index_count(), 0);
            assert_eq!(alone.slab.in_use_count(), 0);
        }
    }

    /// At all numbers of entries, so that tables are just grown, just split, or full.
    #[test]
    fn entries_cost_little_at_every_size() {
        let entries_count = if cfg!(debug_assertions) {
            250_000
        } else {
            400_000
        };
        for ranges_count in [1, 64, 1_000] {
            let mut alone = Alone::new(ranges_count, 1_000);
            let mut most = 0.0f64;
            for number in 0..entries_count {
                alone.insert(number);
                if number >= 150_000 && number % 1_000 == 0 {
                    let bytes = alone.slab.index_count() * PAGE_BYTES + alone.index.heap_bytes();
                    most = most.max(bytes as f64 / f64::from(number + 1));
                }
            }
            println!("{ranges_count} ranges: at most {most:.2} bytes an entry");
            assert!(most < 8.2, "{most} bytes with {ranges_count} ranges");
        }
    }

    #[test]
    fn cleared_pages_are_free_at_once() {
        let mut alone = Alone::new(4, 100);
        for round in 1..=3 {
            (0..round * 7_000).for_each(|number| alone.insert(number));
            alone.index.clear(&mut alone.slab);
            alone.check_integrity();
            assert_eq!((alone.index.len(), alone.slab.in_use_count()), (0, 0));
            assert_eq!(alone.find(7), None);
        }
    }

    #[test]
    fn without_pages_tables_are_filled_to_the_last_slot() {
        let mut alone = Alone::new(2, 1);
        let mut count = 0;
        while alone.try_insert(count).is_ok() {
            count += 1;
        }
        alone.check_integrity();
        assert!(count > 7_000, "{count} entries in a page");
        assert!((0..count).all(|number| alone.find(number).is_some()));
        assert_eq!(alone.try_insert(count), Err(Full), "nothing changed");
        for number in (0..count).step_by(2) {
            alone.remove(number);
        }
        alone.check_integrity();
        (0..count)
            .step_by(2)
            .take(1_000)
            .for_each(|number| alone.insert(number));
        alone.check_integrity();
    }
}
