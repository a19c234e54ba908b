//! The entries of one range, in tables that split one at a time.
//!
//! Linear hashing after Litwin: with `n` tables, `2^d <= n < 2^(d+1)`, an entry belongs to table
//! `bits mod 2^(d+1)` if there is such a table, else to `bits mod 2^d`. Growing by one splits
//! table `n - 2^d` and no other.
//!
//! # Invariants
//! 1. Every entry is in the table its hash asks for.
//! 2. Without entries since the last `clear` there is one table without buckets.

use super::Items;
use super::cursor::{Cursor, PIECES_COUNT};
use super::table::{PLACES_COUNT, Table};
use crate::limits::TABLE_ENTRIES_MEAN_MAX;
use crate::slab::Handle;

/// What the allocator adds to one allocation.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;
/// A cursor tells this many tables of a range apart.
const TABLES_COUNT_MAX: usize = (PIECES_COUNT / 2) as usize;

/// One range; a cache line, so that finding the table of a small range costs one load.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct RangeIndex {
    first: Table,
    others: Vec<Table>,
    entries_count: usize,
}

const _: () = assert!(size_of::<RangeIndex>() == 64);

impl RangeIndex {
    pub(super) fn len(&self) -> usize {
        self.entries_count
    }

    /// Bytes held besides the struct itself. O(tables).
    pub(super) fn bytes(&self) -> usize {
        self.directory_bytes() + self.tables().map(Table::bytes).sum::<usize>()
    }

    fn directory_bytes(&self) -> usize {
        match self.others.capacity() {
            0 => 0,
            capacity => capacity * size_of::<Table>() + ALLOCATION_OVERHEAD_BYTES,
        }
    }

    fn tables_count(&self) -> usize {
        1 + self.others.len()
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.first).chain(&self.others)
    }

    #[inline]
    fn table(&self, number: usize) -> &Table {
        match number {
            0 => &self.first,
            _ => &self.others[number - 1],
        }
    }

    #[inline]
    fn table_mut(&mut self, number: usize) -> &mut Table {
        match number {
            0 => &mut self.first,
            _ => &mut self.others[number - 1],
        }
    }

    /// The table in which an entry with this hash belongs.
    #[inline]
    pub(super) fn table_of(&self, hash: u64) -> &Table {
        self.table(number_of(hash, self.tables_count()))
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, is_match: impl FnMut(Handle) -> bool) -> Option<Handle> {
        self.table_of(hash).find(hash, is_match)
    }

    /// Adds an entry; returns by how much the bytes changed.
    pub(super) fn insert(&mut self, hash: u64, handle: Handle, items: &impl Items) -> isize {
        let count = self.tables_count();
        let is_full = self.entries_count >= count * TABLE_ENTRIES_MEAN_MAX;
        let grown = if is_full && count < TABLES_COUNT_MAX {
            self.split(items)
        } else {
            0
        };
        let number = number_of(hash, self.tables_count());
        let table = self.table_mut(number);
        let before = table.bytes();
        table.insert(hash, handle, items);
        let grown = grown + difference(table.bytes(), before);
        self.entries_count += 1;
        grown
    }

    pub(super) fn replace(&mut self, hash: u64, from: Handle, to: Handle) {
        let number = number_of(hash, self.tables_count());
        self.table_mut(number).replace(hash, from, to);
    }

    /// Removes an entry; returns by how much the bytes changed.
    pub(super) fn remove(&mut self, hash: u64, handle: Handle, items: &impl Items) -> isize {
        let number = number_of(hash, self.tables_count());
        let table = self.table_mut(number);
        let before = table.bytes();
        table.remove(hash, handle, items);
        let grown = difference(table.bytes(), before);
        self.entries_count -= 1;
        grown
    }

    /// Whether it has neither entries nor tables.
    pub(super) fn is_unused(&self) -> bool {
        self.others.is_empty() && self.first.bytes() == 0
    }

    /// Frees one table, whatever is in it; returns how many bytes came back. `None`: there was none.
    pub(super) fn free_table(&mut self) -> Option<usize> {
        if let Some(table) = self.others.pop() {
            return Some(table.bytes());
        }
        let bytes = self.bytes();
        *self = Self::default();
        (bytes > 0).then_some(bytes)
    }

    /// Visits the bucket under the cursor, and returns the cursor of the next one; `None` behind
    /// the range's last.
    pub(super) fn visit(
        &self,
        cursor: Cursor,
        items: &impl Items,
        visit: &mut dyn FnMut(Handle),
    ) -> Option<Cursor> {
        let count = self.tables_count();
        let number = number_of_bits(cursor.piece.reverse_bits() >> 12, count);
        let table = self.table(number);
        let place = table.visit(usize::from(cursor.place), items, visit);
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
    pub(super) fn random(&self, random: u64) -> Option<Handle> {
        self.table_of(random).random(super::mix(random))
    }

    /// Adds one table and moves to it what belongs there; returns by how much the bytes changed.
    fn split(&mut self, items: &impl Items) -> isize {
        let count = self.tables_count();
        let number = count - (1 << count.ilog2());
        let old = std::mem::take(self.table_mut(number));
        let before = self.directory_bytes() + old.bytes();
        let is_upper = |hash| number_of(hash, count + 1) != number;
        let [lower, upper] = old.split(items, is_upper);
        let tables_bytes = lower.bytes() + upper.bytes();
        *self.table_mut(number) = lower;
        if self.others.len() == self.others.capacity() {
            self.others
                .reserve_exact(self.others.len().div_ceil(4).max(1));
        }
        self.others.push(upper);
        difference(self.directory_bytes() + tables_bytes, before)
    }

    pub(super) fn check_integrity(&self, items: &impl Items) {
        let mut count = 0;
        for (number, table) in self.tables().enumerate() {
            table.check_integrity(items);
            for handle in table.iter() {
                let asked = number_of(items.hash(handle), self.tables_count());
                assert_eq!(asked, number, "entry in a wrong table");
            }
            count += table.len();
        }
        assert_eq!(count, self.entries_count, "entries of a range");
    }
}

const _: () = assert!(PLACES_COUNT == u16::MAX as usize + 1);

fn difference(after: usize, before: usize) -> isize {
    after.cast_signed() - before.cast_signed()
}

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
