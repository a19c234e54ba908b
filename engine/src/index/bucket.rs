//! One cache line of the index: twelve entries and the tags that tell them apart.
//!
//! ```text
//! byte  0 .. 11   tags: 8 bits of the hash; 0 = no entry here
//!       12        spilled: entries that belong in or before this bucket and lie behind it
//!       13 .. 15  distances: per slot 2 bits, how many buckets before this one its entry belongs
//!                 (3 = 3 or more)
//!       16 .. 63  handles
//! ```
//! Counting what spilled over a full bucket is what lets a search end without tombstones (the
//! "outbound overflow count" of Folly's F14). A line that no table has any more says so with
//! distances where there is no entry, and its first handle is how many such lines follow each other.
//! The distances tell which entries may move back when
//! a slot before them becomes vacant, without a look at their items.

use crate::slab::{Handle, LINE_BYTES, Plain};

/// Entries per bucket.
pub(super) const SLOTS_COUNT: usize = 12;

/// Distances from here on are not told apart.
pub(super) const DISTANCE_MAX: usize = 3;

const SPILLED_AT: usize = 12;
const SLOTS_MASK: u32 = (1 << SLOTS_COUNT) - 1;
const NO_ENTRY: u8 = 0;
const DISTANCES_OF_UNUSED: u32 = 0xFF_FFFF;

/// The tag of a hash: its top byte, but never that of an empty slot.
#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    let [top, ..] = hash.to_be_bytes();
    top.max(1)
}

/// See the module's head.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    tags: [u8; 16],
    handles: [u32; SLOTS_COUNT],
}

const _: () = assert!(size_of::<Bucket>() == LINE_BYTES);

// SAFETY: bytes and words that fill it (asserted above), and all of them may be anything.
unsafe impl Plain for Bucket {}

impl Bucket {
    pub(super) const EMPTY: Self = Self {
        tags: [NO_ENTRY; 16],
        handles: [0; SLOTS_COUNT],
    };

    /// The first of so many lines that no table has.
    pub(super) fn unused(lines_count: usize) -> Self {
        let mut bucket = Self::EMPTY;
        bucket.set_distances(DISTANCES_OF_UNUSED);
        bucket.handles[0] = u32::try_from(lines_count).expect("a page has few lines");
        bucket
    }

    /// How many lines no table has from here on, if this is the first of such.
    pub(super) fn unused_count(&self) -> Option<usize> {
        let is_unused = self.distances() == DISTANCES_OF_UNUSED && self.used().0 == 0;
        is_unused.then_some(self.handles[0] as usize)
    }

    /// The slots with this tag.
    #[inline]
    pub(super) fn with_tag(&self, tag: u8) -> Slots {
        Slots(self.equal(tag) & SLOTS_MASK)
    }

    /// The slots with an entry.
    #[inline]
    pub(super) fn used(&self) -> Slots {
        Slots(!self.equal(NO_ENTRY) & SLOTS_MASK)
    }

    /// An empty slot.
    #[inline]
    pub(super) fn vacant(&self) -> Option<usize> {
        self.with_tag(NO_ENTRY).next()
    }

    /// Bit `i` is set if tag `i` is `tag`. Compiles to one comparison of 16 bytes.
    #[inline]
    fn equal(&self, tag: u8) -> u32 {
        let bits = self.tags.iter().enumerate();
        bits.fold(0, |bits, (at, &held)| bits | u32::from(held == tag) << at)
    }

    #[inline]
    pub(super) fn handle(&self, slot: usize) -> Handle {
        Handle(self.handles[slot])
    }

    /// The entry in a slot, if there is one.
    pub(super) fn get(&self, slot: usize) -> Option<Handle> {
        (self.tags[slot] != NO_ENTRY).then(|| self.handle(slot))
    }

    /// Fills a vacant slot with an entry that belongs `distance` buckets before this one.
    #[inline]
    pub(super) fn put(&mut self, slot: usize, tag: u8, handle: Handle, distance: usize) {
        self.tags[slot] = tag;
        self.handles[slot] = handle.0;
        let distance = u32::try_from(distance.min(DISTANCE_MAX)).unwrap_or_default();
        self.set_distances(self.distances() | distance << (2 * slot));
    }

    #[inline]
    pub(super) fn set_handle(&mut self, slot: usize, handle: Handle) {
        self.handles[slot] = handle.0;
    }

    /// Empties a slot; returns its tag and handle.
    #[inline]
    pub(super) fn take(&mut self, slot: usize) -> (u8, Handle) {
        self.set_distances(self.distances() & !(3 << (2 * slot)));
        let tag = std::mem::replace(&mut self.tags[slot], NO_ENTRY);
        (tag, self.handle(slot))
    }

    /// How many buckets before this one the entry in a slot belongs; `DISTANCE_MAX` or more.
    #[inline]
    pub(super) fn distance(&self, slot: usize) -> usize {
        (self.distances() >> (2 * slot)) as usize & 3
    }

    /// A slot whose entry belongs before this bucket and whose distance is known exactly.
    #[inline]
    pub(super) fn returnable(&self) -> Option<usize> {
        const LOW_BITS: u32 = 0x55_5555;
        let distances = self.distances();
        let exact = (distances ^ (distances >> 1)) & LOW_BITS;
        (exact != 0).then(|| exact.trailing_zeros() as usize / 2)
    }

    #[inline]
    fn distances(&self) -> u32 {
        let [.., a, b, c] = self.tags;
        u32::from_le_bytes([a, b, c, 0])
    }

    #[inline]
    fn set_distances(&mut self, distances: u32) {
        let [a, b, c, _] = distances.to_le_bytes();
        [self.tags[13], self.tags[14], self.tags[15]] = [a, b, c];
    }

    /// Entries that a search has to look for behind this bucket.
    #[inline]
    pub(super) fn spilled(&self) -> u8 {
        self.tags[SPILLED_AT]
    }

    /// Counts an entry that goes behind this bucket. At 255 the count stays for good, which costs
    /// searches but no entry.
    pub(super) fn add_spilled(&mut self) {
        self.tags[SPILLED_AT] = self.spilled().saturating_add(1);
    }

    /// Undoes `add_spilled`.
    pub(super) fn remove_spilled(&mut self) {
        debug_assert!(self.spilled() > 0);
        if self.spilled() < u8::MAX {
            self.tags[SPILLED_AT] -= 1;
        }
    }
}

/// A set of slots of one bucket, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Slots(u32);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, DISTANCE_MAX, SLOTS_COUNT, tag_of};
    use crate::slab::Handle;

    #[test]
    fn slots_are_found_by_tag() {
        let mut bucket = Bucket::EMPTY;
        for (slot, tag) in [(0, 7), (3, 255), (11, 7)] {
            bucket.put(slot, tag, Handle(90 + u32::from(tag)), slot);
        }
        bucket.add_spilled();
        assert!(bucket.with_tag(7).eq([0, 11]));
        assert!(bucket.used().eq([0, 3, 11]));
        assert_eq!(bucket.with_tag(1).next(), None, "the count is no tag");
        assert_eq!(bucket.vacant(), Some(1));
        assert_eq!(bucket.take(0), (7, Handle(97)));
        assert!(bucket.with_tag(7).eq([11]));
        assert_eq!(bucket.get(3), Some(Handle(345)));
        assert_eq!(bucket.get(0), None);
        for slot in 0..SLOTS_COUNT {
            bucket.put(slot, 1, Handle(0), 0);
        }
        assert_eq!(bucket.vacant(), None);
    }

    #[test]
    fn distances_belong_to_their_slots() {
        let mut bucket = Bucket::EMPTY;
        bucket.add_spilled();
        for (slot, distance) in [0, 3, 0, 1, 77, 2, 0, 0, 0, 0, 0, 2]
            .into_iter()
            .enumerate()
        {
            bucket.put(slot, 9, Handle(5), distance);
            assert_eq!(bucket.distance(slot), distance.min(DISTANCE_MAX));
        }
        for slot in [3, 5, 11] {
            assert_eq!(bucket.returnable(), Some(slot));
            bucket.take(slot);
        }
        assert_eq!(bucket.returnable(), None);
        assert_eq!(bucket.distance(4), DISTANCE_MAX);
        assert_eq!(bucket.spilled(), 1);
    }

    #[test]
    fn no_hash_has_the_tag_of_an_empty_slot() {
        assert_eq!(tag_of(0), 1);
        assert_eq!(tag_of(u64::MAX), 255);
        assert_eq!(tag_of(0x0200_0000_0000_0000), 2);
    }

    #[test]
    fn a_spill_count_that_is_full_stays() {
        let mut bucket = Bucket::EMPTY;
        for _ in 0..300 {
            bucket.add_spilled();
        }
        for _ in 0..300 {
            bucket.remove_spilled();
        }
        assert_eq!(bucket.spilled(), 255);
    }
}
