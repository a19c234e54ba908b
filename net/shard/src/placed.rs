//! Keys of several commands, or of one, that are placed before the first is executed, so that
//! their waits for memory overlap.

use fulmar_cluster::ShardIndex;
use fulmar_engine::Key;

use crate::ShardMask;

/// Keys placed at a time. More would push each other's lines out of the first-level cache.
pub const PLACED_KEYS_MAX: usize = 16;

/// Up to [`PLACED_KEYS_MAX`] keys, each with its shard. Places may be empty.
pub struct Placed<'k> {
    places: [Option<(ShardIndex, Key<'k>)>; PLACED_KEYS_MAX],
    count: usize,
}

impl<'k> Placed<'k> {
    /// No key.
    #[inline]
    pub fn new() -> Self {
        Self {
            places: [const { None }; PLACED_KEYS_MAX],
            count: 0,
        }
    }

    /// Fills the next place.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    pub fn push(&mut self, key: Option<(ShardIndex, Key<'k>)>) {
        self.places[self.count] = key;
        self.count += 1;
    }

    /// Empties all places.
    #[inline]
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// Places filled, with a key or without.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The key in a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&(ShardIndex, Key<'k>)> {
        self.places[..self.count].get(place)?.as_ref()
    }

    /// All keys, in order.
    #[inline]
    pub fn keys(&self) -> impl Iterator<Item = &(ShardIndex, Key<'k>)> + Clone {
        self.places[..self.count].iter().flatten()
    }

    /// Calls `visit` once for each shard that has keys here.
    #[inline]
    pub fn for_each_shard(&self, mut visit: impl FnMut(ShardIndex)) {
        let mut seen = ShardMask::EMPTY;
        for &(shard, _) in self.keys() {
            if !seen.contains(shard) {
                seen.insert(shard);
                visit(shard);
            }
        }
    }

    /// The keys of one shard.
    #[inline]
    pub fn of(&self, shard: ShardIndex) -> impl Iterator<Item = &Key<'k>> + Clone {
        let own = self.keys().filter(move |(of, _)| *of == shard);
        own.map(|(_, key)| key)
    }
}

impl Default for Placed<'_> {
    fn default() -> Self {
        Self::new()
    }
}
