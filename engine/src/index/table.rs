//! A table of buckets: open addressing, bucket by bucket.
//!
//! An entry belongs in the bucket that its place picks, in proportion, and lies there or in the
//! next ones if that is full. A table is full at 7/8 and then grows to 5/4 of its buckets, so that
//! an entry costs between 6.1 and 7.6 bytes whatever was inserted and deleted before. The buckets are
//! lines of the arena; who owns the table gets and gives them back.
//!
//! # Invariants
//! 1. An entry lies in its home bucket, or behind it with every bucket from there on having
//!    counted it as spilled; the count 255 stands for "many".
//! 2. An entry's distance from home stands in its bucket.
//! 3. An entry is put only where a slot is vacant, so a search for a slot ends.
//! 4. A table without entries has no buckets, so that the entries of a run of buckets tell whose it
//!    is (`pool`).

use super::Items;
use super::bucket::{Bucket, DISTANCE_MAX, SLOTS_COUNT, tag_of};
use crate::limits::INDEX_MOVES_MAX;
use crate::slab::{Handle, LineId, PAGE_LINES, Slab};

/// Tables are rebuilt smaller when fewer slots than one in this many are used.
const SHRINK_DIVISOR: usize = 2;

/// Entries that one removal lets move back.
const REFILLS_MAX: usize = 4;

/// Number of places of a table. Buckets divide them evenly.
pub(super) const PLACES_COUNT: usize = 1 << 16;

/// An entry's place in whichever table it is in: bits 8 to 23 of its hash.
#[inline]
pub(super) fn place_of(hash: u64) -> usize {
    (hash >> 8) as usize % PLACES_COUNT
}

/// One table: where its buckets are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    start: LineId,
    buckets_count: u16,
    entries_count: u16,
}

const _: () = assert!(size_of::<Table>() == 8);
const _: () = assert!(PAGE_LINES * SLOTS_COUNT <= u16::MAX as usize);

impl Table {
    /// An empty table in these lines.
    pub(super) fn new(slab: &mut Slab, start: LineId, buckets_count: usize) -> Self {
        slab.lines_mut(start, buckets_count).fill(Bucket::EMPTY);
        Self {
            start,
            buckets_count: u16::try_from(buckets_count).expect("at most a page"),
            entries_count: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.entries_count)
    }

    /// Where its buckets start.
    pub(super) fn start(&self) -> LineId {
        self.start
    }

    /// Its buckets were moved there.
    pub(super) fn set_start(&mut self, start: LineId) {
        self.start = start;
    }

    #[inline]
    pub(super) fn buckets_count(&self) -> usize {
        usize::from(self.buckets_count)
    }

    #[inline]
    pub(super) fn slots_count(&self) -> usize {
        self.buckets_count() * SLOTS_COUNT
    }

    #[inline]
    fn buckets<'a>(&self, slab: &'a Slab) -> &'a [Bucket] {
        slab.lines(self.start, self.buckets_count())
    }

    #[inline]
    fn buckets_mut<'a>(&self, slab: &'a mut Slab) -> &'a mut [Bucket] {
        slab.lines_mut(self.start, self.buckets_count())
    }

    /// All entries, in no order.
    pub(super) fn iter<'a>(&self, slab: &'a Slab) -> impl Iterator<Item = Handle> + use<'a> {
        self.buckets(slab)
            .iter()
            .flat_map(|bucket| bucket.used().map(|slot| bucket.handle(slot)))
    }

    #[inline]
    fn home(&self, place: usize) -> usize {
        (place * self.buckets_count()) / PLACES_COUNT
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets_count() {
            0
        } else {
            bucket + 1
        }
    }

    /// Starts to load the bucket where an entry with this hash belongs.
    #[inline]
    pub(super) fn prefetch(&self, slab: &Slab, hash: u64) {
        if self.buckets_count > 0 {
            slab.prefetch_line(self.start.plus(self.home(place_of(hash))));
        }
    }

    #[inline]
    pub(super) fn find(
        &self,
        slab: &Slab,
        hash: u64,
        mut is_match: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        let tag = tag_of(hash);
        let mut at = self.home(place_of(hash));
        for _ in 0..self.buckets_count {
            let bucket: &Bucket = slab.line(self.start.plus(at));
            let mut handles = bucket.with_tag(tag).map(|slot| bucket.handle(slot));
            if let Some(handle) = handles.find(|&handle| is_match(handle)) {
                return Some(handle);
            }
            if bucket.spilled() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    #[inline]
    fn position(
        &self,
        buckets: &[Bucket],
        hash: u64,
        is_match: &mut impl FnMut(Handle) -> bool,
    ) -> Option<(usize, usize)> {
        let tag = tag_of(hash);
        let mut at = self.home(place_of(hash));
        for _ in 0..buckets.len() {
            let bucket = &buckets[at];
            let found = bucket
                .with_tag(tag)
                .find(|&slot| is_match(bucket.handle(slot)));
            if let Some(slot) = found {
                return Some((at, slot));
            }
            if bucket.spilled() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// How many buckets the table should have before it takes another entry, if not as many as
    /// it has.
    pub(super) fn grown(&self) -> Option<usize> {
        let count = self.buckets_count();
        let is_full = (self.len() + 1) * 8 > self.slots_count() * 7;
        is_full.then(|| (count * 5 / 4).max(count + 1).min(PAGE_LINES))
    }

    /// How many buckets the table should have after an entry was removed, if not as many as it
    /// has.
    pub(super) fn shrunk(&self) -> Option<usize> {
        let is_sparse = self.len() * SHRINK_DIVISOR < self.slots_count();
        let smaller = buckets_for(self.len());
        (is_sparse && smaller < self.buckets_count()).then_some(smaller)
    }

    /// Whether there is a slot left.
    pub(super) fn has_vacant(&self) -> bool {
        self.len() < self.slots_count()
    }

    /// Adds an entry, for which there is a slot.
    pub(super) fn put(&mut self, slab: &mut Slab, hash: u64, handle: Handle) {
        assert!(self.has_vacant());
        let buckets = self.buckets_mut(slab);
        let mut at = self.home(place_of(hash));
        for distance in 0.. {
            let bucket = &mut buckets[at];
            if let Some(slot) = bucket.vacant() {
                bucket.put(slot, tag_of(hash), handle, distance);
                self.entries_count += 1;
                return;
            }
            bucket.add_spilled();
            at = self.after(at);
        }
    }

    /// Removes an entry that is here.
    pub(super) fn take(&mut self, slab: &mut Slab, hash: u64, handle: Handle) {
        let buckets = self.buckets_mut(slab);
        let (found, slot) = self.position_of(buckets, hash, handle);
        buckets[found].take(slot);
        let mut at = self.home(place_of(hash));
        while at != found {
            buckets[at].remove_spilled();
            at = self.after(at);
        }
        self.refill(buckets, found);
        self.entries_count -= 1;
    }

    /// Lets entries that spilled over a bucket with a vacant slot move back, one from each of the
    /// next few buckets. Without it, what comes and goes would push more and more entries away
    /// from where they belong.
    fn refill(&self, buckets: &mut [Bucket], vacant: usize) {
        let mut at = vacant;
        for _ in 0..REFILLS_MAX {
            let after = self.after(at);
            if buckets[at].spilled() == 0 || after == at {
                return;
            }
            let Some(from) = buckets[after].returnable() else {
                return;
            };
            let distance = buckets[after].distance(from);
            let (tag, handle) = buckets[after].take(from);
            let bucket = &mut buckets[at];
            bucket.remove_spilled();
            let slot = bucket.vacant().expect("a slot was emptied");
            bucket.put(slot, tag, handle, distance - 1);
            at = after;
        }
    }

    pub(super) fn replace(&self, slab: &mut Slab, hash: u64, from: Handle, to: Handle) {
        let buckets = self.buckets_mut(slab);
        let (bucket, slot) = self.position_of(buckets, hash, from);
        buckets[bucket].set_handle(slot, to);
    }

    fn position_of(&self, buckets: &[Bucket], hash: u64, handle: Handle) -> (usize, usize) {
        self.position(buckets, hash, &mut |held| held == handle)
            .expect("the item is in the index")
    }

    /// Gives every entry with its hash. The items of the bucket after are loaded meanwhile.
    pub(super) fn for_each(
        &self,
        slab: &mut Slab,
        items: &impl Items,
        mut visit: impl FnMut(&mut Slab, u64, Handle),
    ) {
        debug_assert!(self.len() <= INDEX_MOVES_MAX);
        for at in 0..self.buckets_count() {
            let buckets = self.buckets(slab);
            if let Some(after) = buckets.get(at + 1) {
                after
                    .used()
                    .for_each(|slot| items.prefetch(slab, after.handle(slot)));
            }
            let bucket = buckets[at];
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                let hash = items.hash(slab, handle);
                visit(slab, hash, handle);
            }
        }
    }

    /// Visits the entries whose places belong to the bucket of `place` and are not below it, and
    /// returns the place of the next bucket: `PLACES_COUNT` behind the last.
    pub(super) fn visit(
        &self,
        slab: &Slab,
        place: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> usize {
        let buckets = self.buckets(slab);
        if buckets.is_empty() {
            return PLACES_COUNT;
        }
        let home = self.home(place);
        let end = ((home + 1) * PLACES_COUNT).div_ceil(buckets.len());
        let mut at = home;
        for _ in 0..buckets.len() {
            let bucket = &buckets[at];
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                if (place..end).contains(&place_of(items.hash(slab, handle))) {
                    visit(handle);
                }
            }
            if bucket.spilled() == 0 {
                break;
            }
            at = self.after(at);
        }
        end
    }

    /// An entry chosen by `random`, or none if it hit an empty slot.
    pub(super) fn random(&self, slab: &Slab, random: u64) -> Option<Handle> {
        let chosen = super::scaled(random, self.slots_count());
        let bucket = self.buckets(slab).get(chosen / SLOTS_COUNT)?;
        bucket.get(chosen % SLOTS_COUNT)
    }

    /// Panics unless every entry is found where it is and every spill is counted.
    pub(super) fn check_integrity(&self, slab: &Slab, items: &impl Items) {
        let buckets = self.buckets(slab);
        let mut spilled = vec![0usize; buckets.len()];
        let mut count = 0;
        for (number, bucket) in buckets.iter().enumerate() {
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                let hash = items.hash(slab, handle);
                let found = self.position(buckets, hash, &mut |held| held == handle);
                assert_eq!(
                    found,
                    Some((number, slot)),
                    "index entry can't be found by its hash"
                );
                let mut at = self.home(place_of(hash));
                let mut distance = 0;
                while at != number {
                    spilled[at] += 1;
                    distance += 1;
                    at = self.after(at);
                }
                let held = bucket.distance(slot);
                assert_eq!(held, distance.min(DISTANCE_MAX), "distance of an entry");
                count += 1;
            }
        }
        assert_eq!(count, self.len(), "entries of a table");
        assert_eq!(
            count == 0,
            buckets.is_empty(),
            "buckets of an empty table, or none"
        );
        for (bucket, counted) in buckets.iter().zip(spilled) {
            let held = usize::from(bucket.spilled());
            assert!(held == counted || held == 255, "spilled entries");
        }
    }
}

/// Buckets for this many entries such that 4/5 of the slots or less are used.
pub(super) fn buckets_for(entries_count: usize) -> usize {
    (entries_count * 5).div_ceil(SLOTS_COUNT * 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::Numbers;
    use super::super::{Items, mix};
    use super::{PLACES_COUNT, SLOTS_COUNT, Table, place_of};
    use crate::slab::{Handle, LINE_BYTES, LineId, PAGE_LINES, Slab};

    const NUMBERS: Numbers = Numbers(1);

    /// A table and where its lines are: the one half of a page, or the other.
    struct Alone {
        slab: Slab,
        page: u32,
        table: Table,
    }

    /// All keys have the same hash.
    struct Same;

    impl Items for Same {
        fn hash(&self, _: &Slab, _: Handle) -> u64 {
            u64::MAX
        }

        fn range(&self, _: &Slab, _: Handle) -> u16 {
            0
        }
    }

    fn hash_of(number: u32) -> u64 {
        mix(u64::from(number))
    }

    impl Alone {
        fn new() -> Self {
            let mut slab = Slab::new(1).expect("address space");
            Self {
                page: slab.take_index_page(0).expect("a page"),
                slab,
                table: Table::default(),
            }
        }

        fn rebuild(&mut self, buckets_count: usize, items: &impl Items) {
            let old = self.table;
            let half = if old.start().in_page() == 0 {
                PAGE_LINES / 2
            } else {
                0
            };
            let start = LineId::new(self.page, half);
            self.table = Table::new(&mut self.slab, start, buckets_count);
            let table = &mut self.table;
            old.for_each(&mut self.slab, items, |slab, hash, handle| {
                table.put(slab, hash, handle);
            });
        }

        fn insert(&mut self, number: u32, hash: u64, items: &impl Items) {
            if let Some(buckets_count) = self.table.grown() {
                self.rebuild(buckets_count, items);
            }
            self.table.put(&mut self.slab, hash, Handle(number));
        }

        fn remove(&mut self, number: u32, hash: u64, items: &impl Items) {
            self.table.take(&mut self.slab, hash, Handle(number));
            if self.table.len() == 0 {
                self.table = Table::default();
            } else if let Some(buckets_count) = self.table.shrunk() {
                self.rebuild(buckets_count, items);
            }
        }

        fn check_integrity(&self, items: &impl Items) {
            self.table.check_integrity(&self.slab, items);
        }
    }

    #[test]
    fn entries_cost_what_the_head_says() {
        let mut alone = Alone::new();
        for number in 0..1_000 {
            alone.insert(number, hash_of(number), &NUMBERS);
            let bytes = (alone.table.buckets_count() * LINE_BYTES) as f64;
            let each = bytes / f64::from(number + 1);
            assert!(number < 100 || (6.0..7.8).contains(&each), "{each} bytes");
        }
        alone.check_integrity(&NUMBERS);
        let slots = alone.table.slots_count();
        for number in 0..1_000 {
            alone.remove(number, hash_of(number), &NUMBERS);
            alone.insert(10_000 + number, hash_of(10_000 + number), &NUMBERS);
        }
        alone.check_integrity(&NUMBERS);
        assert_eq!(alone.table.slots_count(), slots);
    }

    #[test]
    fn searches_seldom_leave_the_first_bucket() {
        let mut alone = Alone::new();
        let mut next = 0;
        while alone.table.len() < 900 {
            alone.insert(next, hash_of(next), &NUMBERS);
            next += 1;
        }
        for number in 0..100_000 {
            alone.remove(number, hash_of(number), &NUMBERS);
            alone.insert(next, hash_of(next), &NUMBERS);
            next += 1;
        }
        alone.check_integrity(&NUMBERS);
        let at_home = |&number: &u32| {
            let hash = hash_of(number);
            let buckets = alone.table.buckets(&alone.slab);
            let (bucket, _) = alone.table.position_of(buckets, hash, Handle(number));
            bucket == alone.table.home(place_of(hash))
        };
        let first = (next - 900..next).filter(at_home).count();
        assert!(first > 720, "{first} of 900 entries are at home");
    }

    #[test]
    fn colliding_hashes_fill_bucket_after_bucket() {
        let mut alone = Alone::new();
        for number in 0..400 {
            alone.insert(number, u64::MAX, &Same);
        }
        alone.check_integrity(&Same);
        for number in 0..400 {
            let is_match = |handle: Handle| handle.0 == number;
            let found = alone.table.find(&alone.slab, u64::MAX, is_match);
            assert_eq!(found, Some(Handle(number)));
            alone.remove(number, u64::MAX, &Same);
        }
        assert_eq!(alone.table.len(), 0);
        assert_eq!(alone.table.find(&alone.slab, u64::MAX, |_| true), None);
    }

    #[test]
    fn a_table_can_be_filled_to_the_last_slot() {
        let mut alone = Alone::new();
        alone.rebuild(3, &NUMBERS);
        let slots = u32::try_from(3 * SLOTS_COUNT).expect("small");
        for number in 0..slots {
            assert!(alone.table.has_vacant());
            alone
                .table
                .put(&mut alone.slab, hash_of(number), Handle(number));
        }
        assert!(!alone.table.has_vacant());
        alone.check_integrity(&NUMBERS);
        assert_eq!(alone.table.find(&alone.slab, hash_of(99), |_| false), None);
    }

    #[test]
    fn visits_cut_the_places_into_pieces() {
        let mut alone = Alone::new();
        for count in [0, 1, 11, 300, 1_000] {
            while alone.table.len() < count {
                let number = u32::try_from(alone.table.len()).expect("small");
                alone.insert(number, hash_of(number), &NUMBERS);
            }
            let (mut place, mut seen) = (0, Vec::new());
            while place < PLACES_COUNT {
                let mut collect = |handle: Handle| seen.push(handle.0);
                let next = alone
                    .table
                    .visit(&alone.slab, place, &NUMBERS, &mut collect);
                assert!(next > place);
                place = next;
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..u32::try_from(count).expect("small")));
        }
    }
}
