//! Which of a node's cores is home to a range.

use crate::{RANGES_COUNT, Range};

/// Index of a shard inside its process, 0-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// As an index into a slice of shards.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The home core of every range; a lookup is one load. 4 KiB.
#[derive(Clone, Debug)]
pub struct HomeTable {
    homes: Box<[ShardIndex; RANGES_COUNT as usize]>,
    shards_count: u16,
}

impl HomeTable {
    /// Deals the ranges out to `shards_count` shards in turn, so that they have equal shares of all
    /// ranges and of every run of them: what a node of a cluster holds is a few runs.
    ///
    /// # Panics
    /// If `shards_count` is 0 or above [`RANGES_COUNT`].
    pub fn even(shards_count: u16) -> Self {
        assert!(shards_count > 0);
        assert!(shards_count <= RANGES_COUNT);
        let home = |range: usize| {
            let shard = range % usize::from(shards_count);
            ShardIndex(u16::try_from(shard).expect("a shard's index is below RANGES_COUNT"))
        };
        Self {
            homes: Box::new(std::array::from_fn(home)),
            shards_count,
        }
    }

    /// The shard at home to `range`.
    #[inline]
    pub fn home(&self, range: Range) -> ShardIndex {
        self.homes[usize::from(range.index())]
    }

    /// Number of shards the ranges are spread over.
    pub fn shards_count(&self) -> u16 {
        self.shards_count
    }
}

#[cfg(test)]
mod tests {
    use super::{HomeTable, ShardIndex};
    use crate::{RANGES_COUNT, Range};

    #[test]
    fn ranges_are_spread_evenly() {
        for shards_count in [1, 2, 3, 7, 64, RANGES_COUNT] {
            let table = HomeTable::even(shards_count);
            let mut held = vec![0u32; usize::from(shards_count)];
            for index in 0..RANGES_COUNT {
                let range = Range::from_index(index).expect("below the count");
                held[table.home(range).index()] += 1;
            }
            let most = held.iter().max().expect("at least one shard");
            let least = held.iter().min().expect("at least one shard");
            assert!(
                most - least <= 1,
                "{shards_count} shards: {least} to {most}"
            );
            assert_eq!(
                table.home(Range::from_index(0).expect("first")),
                ShardIndex(0)
            );
        }
    }
}
