//! What a write can answer instead of success. Small `Copy` enums: they are on the hot path.

use thiserror::Error;

/// Why a value wasn't stored. The key keeps what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The key is longer than `KEY_BYTES_MAX`. Normal; nothing changed.
    #[error("key is longer than the limit")]
    KeyTooLong,
    /// The value would be longer than `Config::value_bytes_max`. Normal; nothing changed.
    #[error("value is longer than the limit")]
    ValueTooLong,
    /// The item doesn't fit even after everything evictable has gone (reserved, leased and
    /// uncommitted bytes can't be evicted; each slab class takes whole pages of 64 KiB, and a long
    /// value needs up to five). All other items may have been evicted, this key's old one too.
    #[error("no memory, even with every other item evicted")]
    OutOfMemory,
}

/// Why a counter wasn't changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IncrError {
    /// The value isn't a decimal `i64` in its shortest form. Normal; nothing changed.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The sum is outside `i64`. Normal; nothing changed.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// The new text couldn't be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}
