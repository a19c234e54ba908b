//! Buffered writes and counters, for threads.

use std::sync::Arc;
use std::time::Duration;

use super::Runtime;
use crate::batch::FlushError;
use crate::error::Result;

/// [`crate::Batcher`], blocking: its rules, bounds and what is lost are there.
///
/// [`flush`](Self::flush) before the last handle of its client goes: what is buffered then is lost, since the
/// thread that would send it goes too.
#[derive(Clone, Debug)]
pub struct Batcher {
    pub(super) batcher: crate::Batcher,
    pub(super) runtime: Arc<Runtime>,
}

/// Each method is that of the same name of [`crate::Batcher`], with its bounds and errors.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Batcher {
    /// Buffers a SET.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.runtime.run(self.batcher.set(key, value))
    }

    /// Buffers a SET with a TTL.
    pub fn set_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        self.runtime.run(self.batcher.set_with_ttl(key, value, ttl))
    }

    /// Buffers a DEL.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.runtime.run(self.batcher.delete(key))
    }

    /// Buffers an increment.
    pub fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<()> {
        self.runtime.run(self.batcher.increment(key, by))
    }

    /// A counter whose increments go through this batcher.
    pub fn counter(&self, name: impl AsRef<[u8]>, parts: usize) -> Result<Counter> {
        let counter = self.batcher.counter(name, parts)?;
        Ok(Counter {
            counter,
            runtime: Arc::clone(&self.runtime),
        })
    }

    /// Sends what is buffered, and waits until it is answered.
    pub fn flush(&self) -> std::result::Result<(), FlushError> {
        self.runtime.run(self.batcher.flush())
    }
}

/// [`crate::Counter`], blocking.
#[derive(Clone, Debug)]
pub struct Counter {
    pub(super) counter: crate::Counter,
    pub(super) runtime: Arc<Runtime>,
}

/// Each method is that of the same name of [`crate::Counter`], with its errors.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Counter {
    /// Adds to the counter.
    pub fn increment(&self, by: i64) -> Result<()> {
        self.runtime.run(self.counter.increment(by))
    }

    /// The sum of the parts.
    pub fn get(&self) -> Result<i64> {
        self.runtime.run(self.counter.get())
    }
}
