//! Virtual time: what happens when.

use std::collections::BTreeMap;

/// Jobs by time; those of the same millisecond in the order in which they came.
#[derive(Debug)]
pub(crate) struct Scheduler<Job> {
    now_ms: u64,
    count: u64,
    jobs: BTreeMap<(u64, u64), Job>,
}

impl<Job> Scheduler<Job> {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            now_ms,
            count: 0,
            jobs: BTreeMap::new(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn at(&mut self, time_ms: u64, job: Job) {
        self.count += 1;
        self.jobs
            .insert((time_ms.max(self.now_ms), self.count), job);
    }

    pub(crate) fn after(&mut self, wait_ms: u64, job: Job) {
        self.at(self.now_ms + wait_ms, job);
    }

    /// The next job, to whose time this moves.
    pub(crate) fn pop(&mut self) -> Option<Job> {
        let ((time_ms, _), job) = self.jobs.pop_first()?;
        self.now_ms = time_ms;
        Some(job)
    }
}
