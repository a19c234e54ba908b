//! The entries of one range, in tables that split one at a time.
//!
//! Linear hashing after Litwin: with `n` tables, `2^d <= n < 2^(d+1)`, an entry belongs to table
//! `bits mod 2^(d+1)` if there is such a table, else to `bits mod 2^d`. Growing by one splits
//! table `n - 2^d` and no other.
//!
//! # Invariants
//! 1. Every entry is in the table its hash asks for.
//! 2. A table's capacity is never left to hashbrown's doubling while tombstones alone fill it: it
//!    is rebuilt at the same size instead.

use hashbrown::HashTable;

use crate::limits::{INDEX_MOVES_MAX, TABLE_ENTRIES_MEAN_MAX};
use crate::slab::Handle;

/// What the allocator adds to one allocation.
const ALLOCATION_OVERHEAD_BYTES: usize = 16;
/// Tables below this many buckets aren't shrunk.
const SHRINK_BUCKETS_MIN: usize = 32;

/// One range.
pub(super) struct RangeIndex {
    tables: Vec<HashTable<u32>>,
    entries_count: usize,
}

impl RangeIndex {
    pub(super) const fn new() -> Self {
        Self {
            tables: Vec::new(),
            entries_count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries_count
    }

    /// Bytes held besides the struct itself. O(tables).
    pub(super) fn bytes(&self) -> usize {
        self.directory_bytes() + self.tables.iter().map(table_bytes).sum::<usize>()
    }

    fn directory_bytes(&self) -> usize {
        match self.tables.capacity() {
            0 => 0,
            capacity => capacity * size_of::<HashTable<u32>>() + ALLOCATION_OVERHEAD_BYTES,
        }
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &HashTable<u32>> {
        self.tables.iter()
    }

    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        mut is_match: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        if self.tables.is_empty() {
            return None;
        }
        let table = &self.tables[table_of(hash, self.tables.len())];
        table
            .find(hash, |&handle| is_match(Handle(handle)))
            .map(|&handle| Handle(handle))
    }

    /// Adds an entry; returns by how much the bytes changed.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        handle: Handle,
        hash_of: impl Fn(Handle) -> u64,
    ) -> isize {
        let mut grown = 0;
        if self.tables.is_empty() {
            grown += self.push_table(HashTable::new());
        } else if self.entries_count >= self.tables.len() * TABLE_ENTRIES_MEAN_MAX {
            grown += self.split(&hash_of);
        }
        let number = table_of(hash, self.tables.len());
        let table = &mut self.tables[number];
        if table.len() == table.capacity() {
            grown += make_room(table, &hash_of);
        }
        debug_assert!(table.len() < table.capacity());
        table.insert_unique(hash, handle.0, |&handle| hash_of(Handle(handle)));
        self.entries_count += 1;
        grown
    }

    pub(super) fn replace(&mut self, hash: u64, from: Handle, to: Handle) {
        let number = table_of(hash, self.tables.len());
        let entry = self.tables[number].find_mut(hash, |&handle| handle == from.0);
        *entry.expect("the replaced item is in the index") = to.0;
    }

    /// Removes an entry; returns by how much the bytes changed.
    pub(super) fn remove(
        &mut self,
        hash: u64,
        handle: Handle,
        hash_of: impl Fn(Handle) -> u64,
    ) -> isize {
        let number = table_of(hash, self.tables.len());
        let table = &mut self.tables[number];
        let entry = table.find_entry(hash, |&entry| entry == handle.0);
        let Ok(entry) = entry else {
            unreachable!("the removed item is in the index");
        };
        entry.remove();
        self.entries_count -= 1;
        if table.num_buckets() >= SHRINK_BUCKETS_MIN && table.len() * 8 < table.num_buckets() {
            let before = table_bytes(table);
            table.shrink_to(table.len() * 2, |&handle| hash_of(Handle(handle)));
            return difference(table_bytes(table), before);
        }
        0
    }

    /// Visits the table that holds `position` and returns where the next one starts.
    pub(super) fn visit_table(
        &self,
        position: u32,
        seen: &mut usize,
        visit: &mut dyn FnMut(Handle),
    ) -> Option<u32> {
        if self.tables.is_empty() {
            return None;
        }
        let count = self.tables.len();
        let number = table_of_bits(position.reverse_bits(), count);
        for &handle in &self.tables[number] {
            visit(Handle(handle));
        }
        *seen += self.tables[number].len();
        let depth = depth_of(number, count);
        let piece = 1u64 << (32 - depth);
        let start = u64::from(position) & !(piece - 1);
        u32::try_from(start + piece).ok()
    }

    /// An entry chosen by `random`, or none if it hit an empty bucket.
    pub(super) fn random(&self, random: u64) -> Option<Handle> {
        if self.tables.is_empty() {
            return None;
        }
        let table = &self.tables[table_of(random, self.tables.len())];
        if table.is_empty() {
            return None;
        }
        let bucket = super::scaled(super::mix(random), table.num_buckets());
        table.get_bucket(bucket).map(|&handle| Handle(handle))
    }

    /// Adds one table and moves to it what belongs there.
    fn split(&mut self, hash_of: &impl Fn(Handle) -> u64) -> isize {
        let count = self.tables.len();
        let number = count - (1 << count.ilog2());
        let old = std::mem::take(&mut self.tables[number]);
        debug_assert!(old.len() <= INDEX_MOVES_MAX);
        let before = table_bytes(&old);
        let mut halves = [0, 1].map(|_| HashTable::with_capacity(old.len() * 9 / 16));
        for handle in old {
            let hash = hash_of(Handle(handle));
            let half = usize::from(table_of(hash, count + 1) != number);
            halves[half].insert_unique(hash, handle, |&handle| hash_of(Handle(handle)));
        }
        let [low, high] = halves;
        let grown = difference(table_bytes(&low), before);
        self.tables[number] = low;
        grown + self.push_table(high)
    }

    fn push_table(&mut self, table: HashTable<u32>) -> isize {
        let before = self.directory_bytes();
        let own = table_bytes(&table);
        if self.tables.len() == self.tables.capacity() {
            self.tables
                .reserve_exact(self.tables.len().div_ceil(4).max(1));
        }
        self.tables.push(table);
        difference(self.directory_bytes() + own, before)
    }

    pub(super) fn check_integrity(&self, hash_of: &impl Fn(Handle) -> u64) {
        let mut count = 0;
        for (number, table) in self.tables.iter().enumerate() {
            for &handle in table {
                let hash = hash_of(Handle(handle));
                assert_eq!(
                    table_of(hash, self.tables.len()),
                    number,
                    "entry in a wrong table"
                );
                let found = table.find(hash, |&entry| entry == handle);
                assert!(found.is_some(), "index entry can't be found by its hash");
                count += 1;
            }
        }
        assert_eq!(count, self.entries_count, "entries of a range");
    }
}

/// Makes room for one more entry; returns by how much the bytes changed.
fn make_room(table: &mut HashTable<u32>, hash_of: &impl Fn(Handle) -> u64) -> isize {
    let before = table_bytes(table);
    let buckets = table.num_buckets();
    if buckets >= SHRINK_BUCKETS_MIN && table.len() * 4 <= buckets * 3 {
        let old = std::mem::take(table);
        *table = HashTable::with_capacity(buckets / 8 * 7);
        for handle in old {
            table.insert_unique(hash_of(Handle(handle)), handle, |&entry| {
                hash_of(Handle(entry))
            });
        }
    } else {
        table.reserve(1, |&handle| hash_of(Handle(handle)));
    }
    difference(table_bytes(table), before)
}

fn table_bytes(table: &HashTable<u32>) -> usize {
    match table.allocation_size() {
        0 => 0,
        bytes => bytes + ALLOCATION_OVERHEAD_BYTES,
    }
}

fn difference(after: usize, before: usize) -> isize {
    after.cast_signed() - before.cast_signed()
}

/// The table of an entry among `count`.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "32 bits are taken out of the middle"
)]
fn table_of(hash: u64, count: usize) -> usize {
    table_of_bits((hash >> 24) as u32, count)
}

#[inline]
fn table_of_bits(bits: u32, count: usize) -> usize {
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
    use super::{depth_of, table_of_bits};

    #[test]
    fn tables_cut_the_positions_into_contiguous_pieces() {
        for count in 1..70 {
            let mut position = 0u64;
            let mut seen = vec![false; count];
            while position < 1 << 32 {
                let bits = u32::try_from(position).expect("below 2^32").reverse_bits();
                let number = table_of_bits(bits, count);
                assert!(!std::mem::replace(&mut seen[number], true), "visited twice");
                let piece = 1u64 << (32 - depth_of(number, count));
                assert_eq!(position % piece, 0);
                let last = u32::try_from(position + piece - 1).expect("below 2^32");
                assert_eq!(table_of_bits(last.reverse_bits(), count), number);
                position += piece;
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }
}
