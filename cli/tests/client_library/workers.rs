//! Many who call at once, each with a number of its own to count, and what they saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fulmar_client::Result;

/// A failover loses what was not replicated.
pub(crate) const ANY_LOST: i64 = i64::MAX;

/// One who calls.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    added: AtomicI64,
    /// Increments that may have been applied.
    doubtful: AtomicI64,
    calls: AtomicU64,
    errors: AtomicU64,
    longest_ms: AtomicU64,
    /// How often each error came.
    texts: Mutex<BTreeMap<String, u64>>,
    /// Since it was last asked for.
    has_succeeded: AtomicBool,
}

impl Worker {
    /// Takes down a call, of an increment or of a read.
    pub(crate) fn note<T>(&self, started: Instant, result: &Result<T>, is_increment: bool) {
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.fetch_max(ms, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(_) => {
                self.added.fetch_add(is_increment.into(), Ordering::Relaxed);
                self.has_succeeded.store(true, Ordering::Relaxed);
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                let mut texts = self.texts.lock().expect("nobody panics with it");
                *texts.entry(error.to_string()).or_default() += 1;
                let is_doubtful = error.may_have_been_applied();
                assert!(
                    is_increment || !is_doubtful,
                    "a read changes nothing: {error}"
                );
                self.doubtful
                    .fetch_add(is_doubtful.into(), Ordering::Relaxed);
            }
        }
    }

    /// Checks what the server said the number is now. At most so many that were confirmed may be lost.
    pub(crate) fn check_reply(&self, number: i64, lost_max: i64) {
        let low = self.added();
        let high = low + self.doubtful.load(Ordering::Relaxed);
        assert!(number <= high, "{number} of {low} to {high}: applied twice");
        assert!(
            number >= low - lost_max,
            "{number} of {low} to {high}: more than {lost_max} lost, or another's reply"
        );
    }

    /// Increments that were confirmed.
    pub(crate) fn added(&self) -> i64 {
        self.added.load(Ordering::Relaxed)
    }
}

/// What all of them saw.
pub(crate) struct Summary {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) doubtful: i64,
    pub(crate) longest: Duration,
    pub(crate) texts: BTreeMap<String, u64>,
}

impl Summary {
    pub(crate) fn of(workers: &[Worker]) -> Self {
        let sum = |count: fn(&Worker) -> &AtomicU64| {
            workers
                .iter()
                .map(|worker| count(worker).load(Ordering::Relaxed))
                .sum()
        };
        let longest = workers
            .iter()
            .map(|worker| worker.longest_ms.load(Ordering::Relaxed))
            .max();
        let mut texts = BTreeMap::new();
        for worker in workers {
            for (text, count) in worker.texts.lock().expect("nobody panics with it").iter() {
                *texts.entry(text.clone()).or_default() += count;
            }
        }
        Self {
            texts,
            calls: sum(|worker| &worker.calls),
            errors: sum(|worker| &worker.errors),
            doubtful: workers
                .iter()
                .map(|worker| worker.doubtful.load(Ordering::Relaxed))
                .sum(),
            longest: Duration::from_millis(longest.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            calls,
            errors,
            doubtful,
            longest,
            ..
        } = self;
        write!(
            f,
            "{calls} calls, longest {longest:?}, {errors} errors of which {doubtful} doubtful"
        )?;
        self.texts
            .iter()
            .try_for_each(|(text, count)| write!(f, "\n    {count} x {text}"))
    }
}

/// How many have had no success since this was last called.
pub(crate) fn count_stuck(workers: &[Worker]) -> usize {
    let has_succeeded = |worker: &&Worker| worker.has_succeeded.swap(false, Ordering::Relaxed);
    workers.len() - workers.iter().filter(has_succeeded).count()
}

/// The number that a worker's increments are at.
pub(crate) fn key(worker: usize) -> String {
    format!("worker:{worker}")
}
