//! Versions: given to who asks, and writes that depend on them.
//!
//! An item has no version until one is asked for, so that those who never ask pay nothing; then it
//! takes 8 bytes, and moves to a larger chunk if its own has no room for them. Whatever writes the
//! value drops the version with them; what leaves the value as it is (touch, set_expiry, leases, moves
//! between pages) keeps it.

use crate::cache::Cache;
use crate::error::StoreError;
use crate::item::Extensions;
use crate::key::Key;
use crate::slab::Handle;
use crate::time::{Expiry, Time};
use crate::version::Version;

/// What became of a write that depended on a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// The version was right, and the value is stored.
    Stored,
    /// There is another item, or the same was written to; nothing changed.
    Differs,
    /// There is no live item; nothing changed.
    Absent,
}

impl Cache {
    /// The version of a key's live item, which becomes the most recently used. An item that has
    /// none is given the next one. Neither a hit nor a miss.
    ///
    /// O(1) if the item has one. To be given one costs as `set_expiry`: an item whose chunk has no
    /// room for it moves to another, and a leased one is copied.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room for the version. The value is still there then, but one that
    /// would have become too long for one chunk by it may have been evicted.
    pub fn version(&mut self, key: &Key<'_>, now: Time) -> Result<Option<Version>, StoreError> {
        let Some(handle) = self.find_or_expire(key, now) else {
            return Ok(None);
        };
        if let Some(version) = self.version_of(handle) {
            self.touch_handle(handle);
            return Ok(Some(version));
        }
        let version = self.next_version;
        self.next_version = version.next();
        let deadline = self.deadline(handle);
        if self.relayout(key, handle, deadline, Some(version)) {
            Ok(Some(version))
        } else {
            Err(StoreError::OutOfMemory)
        }
    }

    /// Stores a value if the key's live item still has this version; costs as `set`.
    ///
    /// For a value that comes as a chain, compare with `peek(..).version()` and call `set_chain`: a
    /// cache has one owner, so nothing comes in between.
    ///
    /// # Errors
    /// See [`StoreError`]; the key keeps what it had.
    pub fn set_if_version(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        expiry: Expiry,
        version: Version,
        now: Time,
    ) -> Result<Swap, StoreError> {
        self.check_lengths(key, value.len())?;
        let Some(old) = self.find_or_expire(key, now) else {
            return Ok(Swap::Absent);
        };
        if self.version_of(old) != Some(version) {
            return Ok(Swap::Differs);
        }
        self.set(key, value, expiry, now)?;
        Ok(Swap::Stored)
    }

    /// The version that an item was given.
    #[inline]
    pub(super) fn version_of(&self, handle: Handle) -> Option<Version> {
        Extensions::version(&self.slab, handle, self.slab.meta(handle))
    }
}

#[cfg(test)]
mod tests {
    use super::Swap;
    use crate::cache::Cache;
    use crate::config::Config;
    use crate::key::{Key, KeyHasher};
    use crate::time::{Expiry, Time};
    use crate::version::Version;

    const HASHER: KeyHasher = KeyHasher::new([1, 2, 3, 4]);
    const NOW: Time = Time(1);
    const NEAR: Expiry = Expiry::At(Time(60_000));
    const FAR: Expiry = Expiry::At(Time(1 << 40));

    fn cache() -> Cache {
        let mut config = Config::new(16 << 20, HASHER);
        config.first_version = Version(1 << 40);
        Cache::new(config).expect("address space")
    }

    /// Items of all layouts: short and long keys, inline and chained values, all deadlines.
    fn for_each_item(mut run: impl FnMut(&mut Cache, &Key<'_>, &[u8], Expiry)) {
        for key_len in [1, 300] {
            for value_len in [32, 3_700, 4_081, 70_000] {
                for expiry in [Expiry::Never, NEAR, FAR] {
                    let (bytes, value) = (vec![b'k'; key_len], vec![b'v'; value_len]);
                    let key = Key::new(&bytes, 0, HASHER.hash(&bytes));
                    let mut cache = cache();
                    cache.set(&key, &value, expiry, NOW).expect("fits");
                    run(&mut cache, &key, &value, expiry);
                    cache.check_integrity();
                }
            }
        }
    }

    fn version(cache: &mut Cache, key: &Key<'_>) -> Version {
        let version = cache.version(key, NOW).expect("there is memory");
        version.expect("the key is live")
    }

    #[test]
    fn a_version_lasts_while_nothing_is_written() {
        for_each_item(|cache, key, value, expiry| {
            assert_eq!(cache.peek(key, NOW).expect("live").version(), None);
            let first = version(cache, key);
            cache.touch(key, NOW);
            let lease = cache.lease(key, NOW).expect("live");
            for other in [FAR, Expiry::Never, NEAR, expiry] {
                cache.set_expiry(key, other, NOW);
                assert_eq!(version(cache, key), first);
            }
            cache.release(lease);
            let item = cache.peek(key, NOW).expect("live");
            assert_eq!(item.version(), Some(first));
            let mut held = Vec::new();
            item.value().copy_to(0..usize::MAX, &mut held);
            assert!(held == value, "a value changed");
        });
    }

    #[test]
    fn any_write_makes_a_version_stale() {
        type Write = fn(&mut Cache, &Key<'_>, &[u8]);
        let writes: [Write; 6] = [
            |cache, key, value| cache.set(key, value, Expiry::Keep, NOW).expect("fits"),
            |cache, key, _| _ = cache.append(key, b"", NOW).expect("fits"),
            |cache, key, _| _ = cache.append(key, b"more", NOW).expect("fits"),
            |cache, key, value| _ = cache.set_range(key, 0, &value[..1], NOW).expect("fits"),
            |cache, key, value| {
                let mut chain = cache.chain_begin();
                cache.chain_push(&mut chain, value).expect("fits");
                cache
                    .set_chain(key, chain, Expiry::Keep, NOW)
                    .expect("fits");
            },
            |cache, key, _| {
                cache.set(key, b"5", Expiry::Keep, NOW).expect("fits");
                let version = version(cache, key);
                cache.incr(key, 1, NOW).expect("a number");
                let swap = cache.set_if_version(key, b"", Expiry::Keep, version, NOW);
                assert_eq!(swap, Ok(Swap::Differs));
            },
        ];
        for write in writes {
            for_each_item(|cache, key, value, _| {
                let first = version(cache, key);
                write(cache, key, value);
                let swap = cache.set_if_version(key, value, Expiry::Never, first, NOW);
                assert_eq!(swap, Ok(Swap::Differs));
                let second = version(cache, key);
                assert!(second > first);
                let swap = cache.set_if_version(key, value, Expiry::Never, second, NOW);
                assert_eq!(swap, Ok(Swap::Stored));
                let swap = cache.set_if_version(key, value, Expiry::Never, second, NOW);
                assert_eq!(swap, Ok(Swap::Differs), "it is good for one write");
                cache.delete(key, NOW);
                let swap = cache.set_if_version(key, value, Expiry::Never, second, NOW);
                assert_eq!(swap, Ok(Swap::Absent));
                assert_eq!(cache.version(key, NOW), Ok(None));
            });
        }
    }

    #[test]
    fn a_version_costs_its_bytes_once_it_was_asked_for() {
        let mut cache = cache();
        let key = Key::new(b"0123456789abcdef", 0, HASHER.hash(b"0123456789abcdef"));
        cache.set(&key, &[7; 32], Expiry::Never, NOW).expect("fits");
        let chunk_bytes = |cache: &Cache| {
            let handle = cache.find(&key).expect("it is there");
            cache.slab.class_of(handle).chunk_bytes()
        };
        assert_eq!(chunk_bytes(&cache), 64);
        assert_eq!(version(&mut cache, &key), Version(1 << 40));
        assert_eq!(chunk_bytes(&cache), 72);
        cache.set(&key, &[7; 32], Expiry::Never, NOW).expect("fits");
        assert_eq!(chunk_bytes(&cache), 64);
    }
}
