//! The entries of one range, in tables that split one at a time.
//!
//! Linear hashing after Litwin: with `n` tables, `2^d <= n < 2^(d+1)`, an entry belongs to table
//! `bits mod 2^(d+1)` if there is such a table, else to `bits mod 2^d`. Growing by one splits
//! table `n - 2^d` and no other.
//!
//! # Invariants
//! 1. Every entry is in the table its hash asks for.
//! 2. The first tables stand in the range itself, so that finding the table of a small range costs
//!    one load.

use super::Items;
use super::cursor::{Cursor, PIECES_COUNT};
use super::table::{PLACES_COUNT, Table, buckets_for};
use crate::limits::TABLE_ENTRIES_MEAN_MAX;
use crate::slab::{Handle, LineId, Slab};

/// What the allocator adds to one allocation.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;
/// Tables that stand in the range itself.
const INLINE_COUNT: usize = 4;
/// A cursor tells this many tables of a range apart.
const TABLES_COUNT_MAX: usize = (PIECES_COUNT / 2) as usize;

/// One range; a cache line.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct RangeIndex {
    first: [Table; INLINE_COUNT],
    others: Vec<Table>,
    /// One less than the tables it has.
    tables_added: u32,
    entries_count: u32,
}

const _: () = assert!(size_of::<RangeIndex>() == 64);

impl RangeIndex {
    pub(super) fn len(&self) -> usize {
        self.entries_count as usize
    }

    /// Counts an entry that came.
    pub(super) fn count_added(&mut self) {
        self.entries_count += 1;
    }

    /// Counts an entry that went.
    pub(super) fn count_removed(&mut self) {
        self.entries_count -= 1;
    }

    /// Bytes of the directory, on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match self.others.capacity() {
            0 => 0,
            capacity => capacity * size_of::<Table>() + ALLOCATION_OVERHEAD_BYTES,
        }
    }

    #[inline]
    fn tables_count(&self) -> usize {
        self.tables_added as usize + 1
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        let first = &self.first[..self.tables_count().min(INLINE_COUNT)];
        first.iter().chain(&self.others)
    }

    #[inline]
    pub(super) fn table(&self, number: usize) -> &Table {
        match self.first.get(number) {
            Some(table) => table,
            None => &self.others[number - INLINE_COUNT],
        }
    }

    #[inline]
    pub(super) fn table_mut(&mut self, number: usize) -> &mut Table {
        match number {
            0..INLINE_COUNT => &mut self.first[number],
            _ => &mut self.others[number - INLINE_COUNT],
        }
    }

    /// The number of the table in which an entry with this hash belongs.
    #[inline]
    pub(super) fn number_of(&self, hash: u64) -> usize {
        number_of(hash, self.tables_count())
    }

    /// The table in which an entry with this hash belongs.
    #[inline]
    pub(super) fn table_of(&self, hash: u64) -> &Table {
        self.table(self.number_of(hash))
    }

    /// Whether it should get one more table.
    pub(super) fn is_full(&self) -> bool {
        let count = self.tables_count();
        self.len() >= count * TABLE_ENTRIES_MEAN_MAX && count < TABLES_COUNT_MAX
    }

    /// The number of the table that is cut in two for it.
    pub(super) fn next_split(&self) -> usize {
        let count = self.tables_count();
        count - (1 << count.ilog2())
    }

    /// Whether an entry of the table `next_split` goes to the new one.
    pub(super) fn goes_to_new(&self, hash: u64) -> bool {
        number_of(hash, self.tables_count() + 1) == self.tables_count()
    }

    /// Buckets of the two halves of table `next_split`.
    pub(super) fn halves(&self, slab: &mut Slab, items: &impl Items) -> [usize; 2] {
        let table = *self.table(self.next_split());
        let mut upper = 0;
        table.for_each(slab, items, |_, hash, _| {
            upper += usize::from(self.goes_to_new(hash));
        });
        [table.len() - upper, upper].map(|count| match count {
            0 => 0,
            count => buckets_for(count),
        })
    }

    /// Adds one table and moves to it what belongs there. `start` is where the lines for both
    /// `halves` are; those of the old table are nobody's then.
    pub(super) fn split(
        &mut self,
        slab: &mut Slab,
        items: &impl Items,
        start: LineId,
        halves: [usize; 2],
    ) {
        let number = self.next_split();
        let old = *self.table(number);
        let [mut lower, mut upper] = [
            Table::new(slab, start, halves[0]),
            Table::new(slab, start.plus(halves[0]), halves[1]),
        ];
        old.for_each(slab, items, |slab, hash, handle| {
            let half = if self.goes_to_new(hash) {
                &mut upper
            } else {
                &mut lower
            };
            half.put(slab, hash, handle);
        });
        *self.table_mut(number) = lower;
        let added = self.tables_count();
        self.tables_added += 1;
        if added < INLINE_COUNT {
            self.first[added] = upper;
            return;
        }
        if self.others.len() == self.others.capacity() {
            self.others
                .reserve_exact(self.others.len().div_ceil(4).max(1));
        }
        self.others.push(upper);
    }

    /// Visits the bucket under the cursor, and returns the cursor of the next one; `None` behind
    /// the range's last.
    pub(super) fn visit(
        &self,
        slab: &Slab,
        cursor: Cursor,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> Option<Cursor> {
        let count = self.tables_count();
        let number = number_of_bits(cursor.piece.reverse_bits() >> 12, count);
        let table = self.table(number);
        let place = table.visit(slab, usize::from(cursor.place), items, visit);
        if let Ok(place) = u16::try_from(place) {
            return Some(Cursor { place, ..cursor });
        }
        let run = PIECES_COUNT >> depth_of(number, count);
        let piece = (cursor.piece & !(run - 1)) + run;
        (piece < PIECES_COUNT).then_some(Cursor {
            piece,
            place: 0,
            ..cursor
        })
    }

    /// An entry chosen by `random`, or none if it hit an empty slot.
    pub(super) fn random(&self, slab: &Slab, random: u64) -> Option<Handle> {
        self.table_of(random).random(slab, super::mix(random))
    }

    pub(super) fn check_integrity(&self, slab: &Slab, items: &impl Items) {
        let mut count = 0;
        for (number, table) in self.tables().enumerate() {
            table.check_integrity(slab, items);
            for handle in table.iter(slab) {
                let asked = number_of(items.hash(slab, handle), self.tables_count());
                assert_eq!(asked, number, "entry in a wrong table");
            }
            count += table.len();
        }
        assert_eq!(count, self.len(), "entries of a range");
    }
}

const _: () = assert!(PLACES_COUNT == u16::MAX as usize + 1);

/// The table of an entry among `count`: chosen by bits 24 to 55 of its hash, of which a cursor
/// names 20.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "32 bits are taken out of the middle"
)]
fn number_of(hash: u64, count: usize) -> usize {
    number_of_bits((hash >> 24) as u32, count)
}

#[inline]
fn number_of_bits(bits: u32, count: usize) -> usize {
    if count == 1 {
        return 0;
    }
    let low = 1usize << count.ilog2();
    let number = bits as usize & (2 * low - 1);
    if number < count {
        number
    } else {
        number & (low - 1)
    }
}

/// How many bits table `number` among `count` is told apart by.
fn depth_of(number: usize, count: usize) -> u32 {
    let depth = count.ilog2();
    let low = 1usize << depth;
    let is_split = number >= low || number + low < count;
    if is_split { depth + 1 } else { depth }
}

#[cfg(test)]
mod tests {
    use super::{PIECES_COUNT, depth_of, number_of_bits};

    #[test]
    fn tables_cut_the_pieces_into_contiguous_runs() {
        for count in 1..70 {
            let mut piece = 0;
            let mut seen = vec![false; count];
            while piece < PIECES_COUNT {
                let number = number_of_bits(piece.reverse_bits() >> 12, count);
                assert!(!std::mem::replace(&mut seen[number], true), "visited twice");
                let run = PIECES_COUNT >> depth_of(number, count);
                assert_eq!(piece % run, 0);
                let last = piece + run - 1;
                assert_eq!(number_of_bits(last.reverse_bits() >> 12, count), number);
                piece += run;
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }
}
