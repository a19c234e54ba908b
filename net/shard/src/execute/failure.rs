//! What the engine refuses, in Redis's words.

use fulmar_engine::{IncrError, StoreError};
use fulmar_protocol::CommandError;

use crate::extended::NotFinite;

/// A store of a whole value that failed.
#[cold]
pub(super) fn store(error: StoreError) -> CommandError {
    match error {
        StoreError::KeyTooLong => CommandError::KeyTooLong,
        StoreError::ValueTooLong => CommandError::ValueTooLong,
        // Whatever else the engine may refuse, it is for lack of room.
        _ => CommandError::OutOfMemory,
    }
}

/// A write into a value, which would have grown too long.
#[cold]
pub(super) fn grow(error: StoreError) -> CommandError {
    match error {
        StoreError::ValueTooLong => CommandError::StringTooLong,
        other => store(other),
    }
}

#[cold]
pub(super) fn incr(error: IncrError) -> CommandError {
    match error {
        IncrError::Overflow => CommandError::IncrementOverflow,
        IncrError::Store(error) => store(error),
        _ => CommandError::NotAnInteger,
    }
}

#[cold]
pub(super) fn not_finite(error: NotFinite) -> CommandError {
    match error {
        NotFinite::Invalid => CommandError::NotAFloat,
        NotFinite::Infinite => CommandError::IncrementNotFinite,
    }
}
