//! What a cache is made from.

use thiserror::Error;

use crate::eviction::Eviction;
use crate::key::KeyHasher;
use crate::limits::{PAGE_BYTES, RANGES_COUNT_MAX, VALUE_BYTES_MAX};
use crate::version::Version;

/// Bytes of the largest arena: handles are u32 counts of 8 bytes, and the top 64 KiB of their
/// room name lists instead of chunks.
pub(crate) const ARENA_BYTES_MAX: usize = (32 << 30) - PAGE_BYTES;

/// Fewest pages that items must have for a cache to be worth opening.
pub(crate) const PAGES_COUNT_MIN: usize = 6;

/// What a cache is made from.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Memory this cache may hold, in bytes: items, index, side tables and what others reserve.
    /// At most 32 GiB - 64 KiB.
    pub memory_bytes_max: usize,
    /// Longest value, in bytes; at most `VALUE_BYTES_MAX`.
    pub value_bytes_max: usize,
    /// Which items go when memory is needed.
    pub eviction: Eviction,
    /// Number of ranges that keys are divided into, 1 to `RANGES_COUNT_MAX`. Each costs 64 bytes
    /// when empty.
    pub ranges_count: u16,
    /// The hash of keys; the same that made each `Key`.
    pub hasher: KeyHasher,
    /// The range of a key, below `ranges_count`. Items don't store their range, so the cache asks
    /// when it evicts or expires one.
    pub range_of: fn(&[u8]) -> u16,
    /// The first version that is given; the others follow it. A start at random keeps a process
    /// from repeating the versions of the one before it.
    pub first_version: Version,
}

impl Config {
    /// One range, values up to 64 MiB, exact LRU.
    pub fn new(memory_bytes_max: usize, hasher: KeyHasher) -> Self {
        Self {
            memory_bytes_max,
            value_bytes_max: 64 << 20,
            eviction: Eviction::Lru,
            ranges_count: 1,
            hasher,
            range_of: |_| 0,
            first_version: Version(1),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.memory_bytes_max > ARENA_BYTES_MAX {
            return Err(ConfigError::MemoryTooLarge {
                bytes_max: ARENA_BYTES_MAX,
            });
        }
        if self.value_bytes_max > VALUE_BYTES_MAX {
            return Err(ConfigError::ValueLimitTooLarge {
                bytes_max: VALUE_BYTES_MAX,
            });
        }
        if !(1..=RANGES_COUNT_MAX).contains(&self.ranges_count) {
            return Err(ConfigError::RangesCount);
        }
        Ok(())
    }
}

/// Why a cache couldn't be opened. Happens at start only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Too little memory for the side tables and a few pages.
    #[error("memory limit is too small: at least {bytes_min} bytes are needed")]
    MemoryTooSmall {
        /// The least that works with the rest of this configuration.
        bytes_min: usize,
    },
    /// More memory than 32-bit handles can reach.
    #[error("memory limit is too large: one shard can hold at most {bytes_max} bytes")]
    MemoryTooLarge {
        /// The most that works.
        bytes_max: usize,
    },
    /// `value_bytes_max` is above `VALUE_BYTES_MAX`.
    #[error("value limit is too large: at most {bytes_max} bytes")]
    ValueLimitTooLarge {
        /// The most that works.
        bytes_max: usize,
    },
    /// `ranges_count` is 0 or above `RANGES_COUNT_MAX`.
    #[error("keys are divided into 1 to {RANGES_COUNT_MAX} ranges")]
    RangesCount,
    /// The system refused the address space.
    #[error("cannot map the arena: {0}")]
    Map(rustix::io::Errno),
}
