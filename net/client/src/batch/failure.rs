//! What buffered writes failed with.

use std::fmt;

use bytes::Bytes;

use crate::error::Error;

/// A buffered write, as it was sent after merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferedWrite {
    /// The last value that was set.
    Set,
    /// A delete.
    Delete,
    /// The sum of the increments.
    Increment(i64),
}

/// A buffered write that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteFailure {
    /// The key.
    pub key: Bytes,
    /// What was written.
    pub write: BufferedWrite,
    /// Why it failed, and whether it [may have been applied](Error::may_have_been_applied).
    pub error: Error,
}

impl fmt::Display for WriteFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({:?}): {}",
            self.key.escape_ascii(),
            self.write,
            self.error
        )
    }
}

/// Writes that failed since the last flush.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct FlushError {
    /// Each of them, up to 1,024.
    pub failures: Vec<WriteFailure>,
    /// How many there were beyond these; the handler was told.
    pub unlisted_count: u64,
    /// The runtime in which the batcher was made has ended: what was buffered is lost, and of what was on its
    /// way some is stored and some not.
    pub has_ended: bool,
}

/// Failures that are kept until somebody flushes.
const FAILURES_MAX: usize = 1_024;

impl FlushError {
    pub(super) fn add(&mut self, failure: WriteFailure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        } else {
            self.unlisted_count += 1;
        }
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.failures.len() as u64 + self.unlisted_count;
        write!(f, "{count} buffered writes failed")?;
        if self.has_ended {
            f.write_str(", and others are lost with their runtime")?;
        }
        match self.failures.first() {
            Some(first) => write!(f, ", the first of them {first}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FlushError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failures.first().map(|failure| &failure.error as _)
    }
}
