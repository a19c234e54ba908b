//! A set of shards of this process.

use fulmar_cluster::ShardIndex;

/// Most shards a process has.
pub const SHARDS_COUNT_MAX: usize = 1_024;

const WORD_BITS: usize = u64::BITS as usize;

/// A set of shards, a bit each; iterates by rising index. 128 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardMask([u64; SHARDS_COUNT_MAX / WORD_BITS]);

impl ShardMask {
    /// No shard.
    pub const EMPTY: Self = Self([0; SHARDS_COUNT_MAX / WORD_BITS]);

    /// The first `count` shards.
    ///
    /// # Panics
    /// If `count` is above [`SHARDS_COUNT_MAX`].
    pub fn first(count: usize) -> Self {
        assert!(count <= SHARDS_COUNT_MAX);
        let mut mask = Self::EMPTY;
        for (position, word) in mask.0.iter_mut().enumerate() {
            let below = count.saturating_sub(position * WORD_BITS);
            *word = if below >= WORD_BITS {
                u64::MAX
            } else {
                (1 << below) - 1
            };
        }
        mask
    }

    /// Adds a shard.
    ///
    /// # Panics
    /// If its index is not below [`SHARDS_COUNT_MAX`].
    pub fn insert(&mut self, shard: ShardIndex) {
        self.0[shard.index() / WORD_BITS] |= 1 << (shard.index() % WORD_BITS);
    }

    /// Adds all shards of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Whether `shard` is in the set.
    pub fn contains(&self, shard: ShardIndex) -> bool {
        let word = self.0.get(shard.index() / WORD_BITS);
        word.is_some_and(|word| word & (1 << (shard.index() % WORD_BITS)) != 0)
    }

    /// Whether no shard is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many shards are in the set.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The shards, by rising index: the order in which tokens are taken.
    pub fn iter(&self) -> impl Iterator<Item = ShardIndex> + use<'_> {
        self.0.iter().enumerate().flat_map(|(position, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                let index = u16::try_from(position * WORD_BITS + bit).expect("below the maximum");
                Some(ShardIndex(index))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{SHARDS_COUNT_MAX, ShardIndex, ShardMask};

    #[test]
    fn shards_come_back_in_order() {
        let mut mask = ShardMask::EMPTY;
        assert!(mask.is_empty());
        for index in [1_023, 0, 64, 63, 0] {
            mask.insert(ShardIndex(index));
        }
        let indices: Vec<u16> = mask.iter().map(|shard| shard.0).collect();
        assert_eq!(indices, [0, 63, 64, 1_023]);
        assert_eq!(mask.count(), 4);
        assert!(mask.contains(ShardIndex(63)));
        assert!(!mask.contains(ShardIndex(62)));
        assert!(!mask.contains(ShardIndex(u16::MAX)));
    }

    #[test]
    fn first_shards_are_a_prefix() {
        for count in [0, 1, 63, 64, 65, SHARDS_COUNT_MAX] {
            let mask = ShardMask::first(count);
            assert_eq!(mask.count(), count);
            assert!(mask.iter().map(ShardIndex::index).eq(0..count));
        }
        let mut mask = ShardMask::first(3);
        let mut other = ShardMask::EMPTY;
        other.insert(ShardIndex(3));
        mask.extend(&other);
        assert_eq!(mask, ShardMask::first(4));
    }
}
