//! Keys and their keyed hash.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

/// A keyed hash, the same for all shards of a process.
///
/// The seeds come from the caller: unknown to clients, they keep anyone from choosing keys that
/// collide.
#[derive(Clone, Copy)]
pub struct KeyHasher {
    seeds: [u64; 4],
}

impl KeyHasher {
    /// A hasher with these seeds.
    pub const fn new(seeds: [u64; 4]) -> Self {
        Self { seeds }
    }

    /// The hash of `bytes`. All 64 bits are used: low bits place, middle bits split, the top seven
    /// are compared before an item is touched.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let [a, b, c, d] = self.seeds;
        let mut state = RandomState::with_seeds(a, b, c, d).build_hasher();
        state.write(bytes);
        state.finish()
    }
}

impl std::fmt::Debug for KeyHasher {
    /// Hides the seeds.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

/// A key with its range and its hash, computed once per request.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    bytes: &'a [u8],
    hash: u64,
    range: u16,
}

impl<'a> Key<'a> {
    /// A key. `range` must be what `Config::range_of` answers for `bytes`, and `hash` what
    /// `Config::hasher` does: debug builds assert it when the key is stored.
    #[inline]
    pub const fn new(bytes: &'a [u8], range: u16, hash: u64) -> Self {
        Self { bytes, hash, range }
    }

    /// The key itself.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its range, below `Config::ranges_count`.
    #[inline]
    pub const fn range(&self) -> u16 {
        self.range
    }

    /// Its hash.
    #[inline]
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::KeyHasher;

    #[test]
    fn hash_depends_on_the_seeds_and_on_every_byte() {
        let hasher = KeyHasher::new([1, 2, 3, 4]);
        assert_eq!(hasher.hash(b"a"), hasher.hash(b"a"));
        assert_ne!(hasher.hash(b"a"), hasher.hash(b"b"));
        assert_ne!(hasher.hash(b""), hasher.hash(b"\0"));
        assert_ne!(hasher.hash(b"a"), KeyHasher::new([1, 2, 3, 5]).hash(b"a"));
    }
}
