//! What must hold, each in a file of its own.

pub(crate) mod acknowledged;
pub(crate) mod epochs;
pub(crate) mod handed_over;
pub(crate) mod incarnations;
pub(crate) mod owners;
pub(crate) mod primaries;
pub(crate) mod quiet;

/// What does not hold, in words.
pub(crate) type Verdict = Result<(), String>;
