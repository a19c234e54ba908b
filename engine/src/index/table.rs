//! A table of buckets: open addressing, bucket by bucket.
//!
//! An entry belongs in the bucket that its place picks, in proportion, and lies there or in the
//! next ones if that is full. A table is full at 7/8 and then grows to 5/4 of its buckets, so that
//! an entry costs between 6.1 and 7.6 bytes whatever was inserted and deleted before.
//!
//! # Invariants
//! 1. An entry lies in its home bucket, or behind it with every bucket from there on having
//!    counted it as spilled; the count 255 stands for "many".
//! 2. An entry's distance from home stands in its bucket.
//! 3. At most 7/8 of the slots are used, so a search for a slot ends.

use super::Items;
use super::bucket::{Bucket, DISTANCE_MAX, SLOTS_COUNT, tag_of};
use crate::limits::INDEX_MOVES_MAX;
use crate::prefetch::prefetch_line;
use crate::slab::Handle;

/// What the allocator adds to a block of whole cache lines.
const ALLOCATION_OVERHEAD_BYTES: usize = 64;
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

/// One table. Without entries it may have no bucket.
#[derive(Default)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    entries_count: usize,
}

impl Table {
    /// An empty table with room for this many entries and some more.
    fn with_capacity(entries_count: usize) -> Self {
        Self::with_buckets(buckets_for(entries_count))
    }

    fn with_buckets(buckets_count: usize) -> Self {
        Self {
            buckets: vec![Bucket::EMPTY; buckets_count].into_boxed_slice(),
            entries_count: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.entries_count
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        match self.buckets.len() {
            0 => 0,
            count => count * size_of::<Bucket>() + ALLOCATION_OVERHEAD_BYTES,
        }
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Handle> + '_ {
        self.buckets
            .iter()
            .flat_map(|bucket| bucket.used().map(|slot| bucket.handle(slot)))
    }

    #[inline]
    fn home(&self, place: usize) -> usize {
        (place * self.buckets.len()) / PLACES_COUNT
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// Starts to load the bucket where an entry with this hash belongs.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.home(place_of(hash))) {
            prefetch_line(std::ptr::from_ref(bucket).cast());
        }
    }

    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        mut is_match: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        let (bucket, slot) = self.position(hash, &mut is_match)?;
        Some(self.buckets[bucket].handle(slot))
    }

    #[inline]
    fn position(
        &self,
        hash: u64,
        is_match: &mut impl FnMut(Handle) -> bool,
    ) -> Option<(usize, usize)> {
        let tag = tag_of(hash);
        let mut at = self.home(place_of(hash));
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
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

    /// Adds an entry; grows the table first if it is full.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle, items: &impl Items) {
        if (self.entries_count + 1) * 8 > self.buckets.len() * SLOTS_COUNT * 7 {
            let buckets_count = (self.buckets.len() * 5 / 4).max(self.buckets.len() + 1);
            self.rebuild(buckets_count, items);
        }
        self.put(hash, handle);
    }

    fn put(&mut self, hash: u64, handle: Handle) {
        let mut at = self.home(place_of(hash));
        for distance in 0.. {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.vacant() {
                bucket.put(slot, tag_of(hash), handle, distance);
                self.entries_count += 1;
                return;
            }
            bucket.add_spilled();
            at = self.after(at);
        }
    }

    /// Removes an entry that is here, and shrinks the table if few are left.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle, items: &impl Items) {
        let (found, slot) = self.position_of(hash, handle);
        self.buckets[found].take(slot);
        let mut at = self.home(place_of(hash));
        while at != found {
            self.buckets[at].remove_spilled();
            at = self.after(at);
        }
        self.entries_count -= 1;
        self.refill(found);
        if self.entries_count * SHRINK_DIVISOR < self.buckets.len() * SLOTS_COUNT {
            let smaller = buckets_for(self.entries_count);
            if smaller < self.buckets.len() {
                self.rebuild(smaller, items);
            }
        }
    }

    /// Lets entries that spilled over a bucket with a vacant slot move back, one from each of the
    /// next few buckets. Without it, what comes and goes would push more and more entries away
    /// from where they belong.
    fn refill(&mut self, vacant: usize) {
        let mut at = vacant;
        for _ in 0..REFILLS_MAX {
            let after = self.after(at);
            if self.buckets[at].spilled() == 0 || after == at {
                return;
            }
            let Some(from) = self.buckets[after].returnable() else {
                return;
            };
            let distance = self.buckets[after].distance(from);
            let (tag, handle) = self.buckets[after].take(from);
            let bucket = &mut self.buckets[at];
            bucket.remove_spilled();
            let slot = bucket.vacant().expect("a slot was emptied");
            bucket.put(slot, tag, handle, distance - 1);
            at = after;
        }
    }

    pub(super) fn replace(&mut self, hash: u64, from: Handle, to: Handle) {
        let (bucket, slot) = self.position_of(hash, from);
        self.buckets[bucket].set_handle(slot, to);
    }

    fn position_of(&self, hash: u64, handle: Handle) -> (usize, usize) {
        self.position(hash, &mut |held| held == handle)
            .expect("the item is in the index")
    }

    fn rebuild(&mut self, buckets_count: usize, items: &impl Items) {
        let old = std::mem::replace(self, Self::with_buckets(buckets_count));
        old.drain_to(items, |hash, handle| self.put(hash, handle));
    }

    /// Cuts the table in two.
    pub(super) fn split(self, items: &impl Items, is_upper: impl Fn(u64) -> bool) -> [Self; 2] {
        let mut halves = [0, 1].map(|_| Self::with_capacity(self.entries_count.div_ceil(2)));
        self.drain_to(items, |hash, handle| {
            halves[usize::from(is_upper(hash))].insert(hash, handle, items);
        });
        halves
    }

    /// Gives every entry with its hash. The items of the bucket after are loaded meanwhile.
    fn drain_to(self, items: &impl Items, mut put: impl FnMut(u64, Handle)) {
        debug_assert!(self.entries_count <= INDEX_MOVES_MAX);
        for (at, bucket) in self.buckets.iter().enumerate() {
            if let Some(after) = self.buckets.get(at + 1) {
                after
                    .used()
                    .for_each(|slot| items.prefetch(after.handle(slot)));
            }
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                put(items.hash(handle), handle);
            }
        }
    }

    /// Visits the entries whose places belong to the bucket of `place` and are not below it, and
    /// returns the place of the next bucket: `PLACES_COUNT` behind the last.
    pub(super) fn visit(
        &self,
        place: usize,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> usize {
        if self.buckets.is_empty() {
            return PLACES_COUNT;
        }
        let home = self.home(place);
        let end = ((home + 1) * PLACES_COUNT).div_ceil(self.buckets.len());
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                if (place..end).contains(&place_of(items.hash(handle))) {
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
    pub(super) fn random(&self, random: u64) -> Option<Handle> {
        let slots_count = self.buckets.len() * SLOTS_COUNT;
        let chosen = super::scaled(random, slots_count);
        let bucket = self.buckets.get(chosen / SLOTS_COUNT)?;
        bucket.get(chosen % SLOTS_COUNT)
    }

    /// Panics unless every entry is found where it is and every spill is counted.
    pub(super) fn check_integrity(&self, items: &impl Items) {
        let mut spilled = vec![0usize; self.buckets.len()];
        let mut count = 0;
        for (number, bucket) in self.buckets.iter().enumerate() {
            for slot in bucket.used() {
                let handle = bucket.handle(slot);
                let hash = items.hash(handle);
                let found = self.position(hash, &mut |held| held == handle);
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
        assert_eq!(count, self.entries_count, "entries of a table");
        for (bucket, counted) in self.buckets.iter().zip(spilled) {
            let held = usize::from(bucket.spilled());
            assert!(held == counted || held == 255, "spilled entries");
        }
    }
}

/// Buckets for this many entries such that 4/5 of the slots or less are used.
fn buckets_for(entries_count: usize) -> usize {
    (entries_count * 5).div_ceil(SLOTS_COUNT * 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::super::mix;
    use super::{PLACES_COUNT, Table, place_of};
    use crate::slab::Handle;

    fn hash_of(handle: Handle) -> u64 {
        mix(u64::from(handle.0))
    }

    fn insert(table: &mut Table, number: u32) {
        table.insert(hash_of(Handle(number)), Handle(number), &hash_of);
    }

    #[test]
    fn entries_cost_what_the_head_says() {
        let mut table = Table::default();
        for number in 0..1_500 {
            insert(&mut table, number);
            let bytes = (table.bytes() - super::ALLOCATION_OVERHEAD_BYTES) as f64;
            let each = bytes / f64::from(number + 1);
            assert!(number < 100 || (6.0..7.8).contains(&each), "{each} bytes");
        }
        table.check_integrity(&hash_of);
        let slots = table.buckets.len() * super::SLOTS_COUNT;
        for number in 0..1_500u32 {
            table.remove(hash_of(Handle(number)), Handle(number), &hash_of);
            insert(&mut table, 10_000 + number);
        }
        table.check_integrity(&hash_of);
        assert_eq!(table.buckets.len() * super::SLOTS_COUNT, slots);
    }

    #[test]
    fn searches_seldom_leave_the_first_bucket() {
        let mut table = Table::default();
        let mut next = 0;
        while table.len() < 1_000 {
            insert(&mut table, next);
            next += 1;
        }
        for number in 0..100_000u32 {
            table.remove(hash_of(Handle(number)), Handle(number), &hash_of);
            insert(&mut table, next);
            next += 1;
        }
        table.check_integrity(&hash_of);
        let at_home = |&number: &u32| {
            let hash = hash_of(Handle(number));
            let (bucket, _) = table.position_of(hash, Handle(number));
            bucket == table.home(place_of(hash))
        };
        let first = (next - 1_000..next).filter(at_home).count();
        assert!(first > 800, "{first} of 1,000 entries are at home");
    }

    #[test]
    fn colliding_hashes_fill_bucket_after_bucket() {
        let same = |_: Handle| u64::MAX;
        let mut table = Table::default();
        for number in 0..400 {
            table.insert(u64::MAX, Handle(number), &same);
        }
        table.check_integrity(&same);
        for number in 0..400 {
            assert_eq!(
                table.find(u64::MAX, |handle| handle.0 == number),
                Some(Handle(number))
            );
            table.remove(u64::MAX, Handle(number), &same);
        }
        assert_eq!(table.len(), 0);
        assert_eq!(table.find(u64::MAX, |_| true), None);
    }

    #[test]
    fn visits_cut_the_places_into_pieces() {
        let mut table = Table::default();
        for count in [0, 1, 11, 300, 1_400] {
            while table.len() < count {
                let number = u32::try_from(table.len()).expect("small");
                insert(&mut table, number);
            }
            let (mut place, mut seen) = (0, Vec::new());
            while place < PLACES_COUNT {
                let next = table.visit(place, &hash_of, &mut |handle| seen.push(handle.0));
                assert!(next > place);
                place = next;
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..u32::try_from(count).expect("small")));
        }
    }
}
