//! The keys that were evicted before they proved useful: S3-FIFO's ghost queue.
//!
//! ```text
//! hash -> bucket: | newest fingerprint | ... 32 of 16 bits | oldest |
//! ```
//! Each bucket is a queue of its own, so that the whole is nearly one: the key that comes pushes the
//! oldest of its bucket out. It looks back over about as many keys as the cache has items, and at most
//! over those that it has room for: one for each `MEMORY_BYTES_PER_KEY` of the memory limit, fixed when
//! the cache opens. Two keys look alike about once in 2,000 questions; a key that is taken for another
//! comes to the main queue undeserved, and that is all.

/// Fingerprints in a bucket, which is the size of a cache line.
const WAYS: usize = 32;
/// Of the memory limit, bytes per fingerprint: 1.6 % of it is the ghost's.
const MEMORY_BYTES_PER_KEY: usize = 128;
/// No key's.
const VACANT: u16 = 0;

type Bucket = [u16; WAYS];

/// See the module's head.
pub(crate) struct Ghost {
    buckets: Box<[Bucket]>,
}

impl Ghost {
    /// Bytes beside the struct's own.
    pub(crate) const fn bytes_for(memory_bytes_max: usize) -> usize {
        Self::buckets_count(memory_bytes_max) * size_of::<Bucket>()
    }

    /// Remembers no key yet.
    pub(crate) fn new(memory_bytes_max: usize) -> Self {
        let buckets_count = Self::buckets_count(memory_bytes_max);
        Self {
            buckets: vec![[VACANT; WAYS]; buckets_count].into_boxed_slice(),
        }
    }

    const fn buckets_count(memory_bytes_max: usize) -> usize {
        (memory_bytes_max / MEMORY_BYTES_PER_KEY).div_ceil(WAYS)
    }

    /// Remembers a key by its hash. O(1).
    pub(crate) fn add(&mut self, hash: u64) {
        let bucket = &mut self.buckets[place(hash, self.buckets.len())];
        bucket.copy_within(..WAYS - 1, 1);
        bucket[0] = fingerprint(hash);
    }

    /// Whether a key is among the latest, as many as there are items; forgets it. O(1).
    pub(crate) fn take(&mut self, hash: u64, items_count: usize) -> bool {
        let buckets_count = self.buckets.len();
        let ways = items_count.div_ceil(buckets_count).min(WAYS);
        let bucket = &mut self.buckets[place(hash, buckets_count)];
        let matches = matches(bucket, fingerprint(hash));
        let way = matches.trailing_zeros() as usize;
        if way >= ways {
            return false;
        }
        bucket.copy_within(way + 1.., way);
        bucket[WAYS - 1] = VACANT;
        true
    }
}

/// A bit for each way that holds this fingerprint. Without a branch, so that it compiles to a few wide
/// comparisons.
#[inline]
fn matches(bucket: &Bucket, wanted: u16) -> u32 {
    let bits = bucket.iter().enumerate();
    bits.fold(0, |matches, (way, &held)| {
        matches | u32::from(held == wanted) << way
    })
}

/// The bucket: the hash's upper half, scaled.
fn place(hash: u64, buckets_count: usize) -> usize {
    let scaled = u128::from(hash) * buckets_count as u128;
    usize::try_from(scaled >> 64).expect("below the count of buckets")
}

/// From the hash's other end, and never `VACANT`.
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
fn fingerprint(hash: u64) -> u16 {
    (hash as u16).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{any, proptest};

    use super::{Ghost, WAYS, fingerprint, place};
    use crate::key::KeyHasher;

    fn hash(number: u64) -> u64 {
        KeyHasher::new([1, 2, 3, 4]).hash(&number.to_le_bytes())
    }

    #[test]
    fn looks_back_over_as_many_keys_as_there_are_items() {
        let mut ghost = Ghost::new(1 << 20);
        let keys_count = 50_000;
        for number in 0..keys_count {
            ghost.add(hash(number));
        }
        let among = |ghost: &mut Ghost, back: u64, items_count| {
            let numbers = keys_count - back - 100..keys_count - back;
            numbers
                .filter(|&number| ghost.take(hash(number), items_count))
                .count()
        };
        assert_eq!(among(&mut ghost, 0, 2_000), 100);
        assert_eq!(among(&mut ghost, 3_900, 1_000), 0);
        assert!(among(&mut ghost, 2_000, 4_096) > 95);
        assert!(among(&mut ghost, 3_000, 1_000_000) > 60);
        assert_eq!(among(&mut ghost, 20_000, 1_000_000), 0);
    }

    #[test]
    fn takes_a_sixtieth_of_the_memory_at_most() {
        for bytes in [400_000, 64 << 20, 32 << 30] {
            assert!(Ghost::bytes_for(bytes) <= bytes / 60);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_queues(
            steps in proptest::collection::vec((any::<bool>(), 0u64..200, 0usize..500), 1..2_000),
        ) {
            let mut ghost = Ghost::new(20_000);
            let buckets_count = ghost.buckets.len();
            let mut queues = vec![VecDeque::new(); buckets_count];
            for (is_add, number, items_count) in steps {
                let hash = hash(number);
                let queue = &mut queues[place(hash, buckets_count)];
                if is_add {
                    ghost.add(hash);
                    queue.push_front(fingerprint(hash));
                    queue.truncate(WAYS);
                } else {
                    let ways = items_count.div_ceil(buckets_count);
                    let found = { queue.iter().take(ways) }.position(|&held| held == fingerprint(hash));
                    if let Some(way) = found {
                        queue.remove(way);
                    }
                    assert_eq!(ghost.take(hash, items_count), found.is_some());
                }
            }
        }
    }
}
