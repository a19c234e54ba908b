//! How long and how much is gathered.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::WriteFailure;

type Handler = dyn Fn(&WriteFailure) + Send + Sync;

/// How long and how much a [`Batcher`](crate::Batcher) gathers.
#[derive(Clone)]
pub struct BatchOptions {
    pub(super) window: Duration,
    pub(super) items_max: usize,
    pub(super) bytes_max: usize,
    pub(super) on_failure: Option<Arc<Handler>>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(75),
            items_max: 1_024,
            bytes_max: 1 << 20,
            on_failure: None,
        }
    }
}

impl BatchOptions {
    /// Longest time that a write waits before it is sent: 1 ms to 10 s, 75 ms by default. What the process
    /// has buffered is lost when it dies: that much time's writes.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window.clamp(Duration::from_millis(1), Duration::from_secs(10));
        self
    }

    /// Most keys that wait; with one more they are sent at once, and it waits for that. 1 to 1,048,576,
    /// 1,024 by default.
    #[must_use]
    pub fn items_max(mut self, count: usize) -> Self {
        self.items_max = count.clamp(1, 1 << 20);
        self
    }

    /// Most bytes of keys and values that wait, with 128 for each key; the same as above beyond. 1 MiB by
    /// default. A longer value waits alone.
    #[must_use]
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes.max(1);
        self
    }

    /// Is told each write that failed, as it fails, by whoever flushes. It must not block; a panic
    /// ends its own call and nothing else.
    #[must_use]
    pub fn on_failure(mut self, handler: impl Fn(&WriteFailure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Arc::new(handler));
        self
    }
}

impl fmt::Debug for BatchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchOptions")
            .field("window", &self.window)
            .field("items_max", &self.items_max)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}
