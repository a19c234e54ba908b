//! What the coordinator and the workers tell each other.

use super::failure::Failure;
use crate::report::Tally;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Most requests that a thread claims from the budget at once.
const CLAIM_MAX: u64 = 256;

/// The part of a run that workers may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Phase {
    /// Opening connections.
    Connect = 0,
    /// Writing every key once.
    Prefill = 1,
    /// Warm-up and measuring.
    Load = 2,
}

/// State that all threads see.
#[derive(Debug)]
pub(super) struct Shared {
    phase: AtomicU8,
    start_ns: AtomicU64,
    stop: AtomicBool,
    /// Whether every key is written before the load.
    pub(super) prefills: bool,
    /// Keys written so far while prefilling.
    pub(super) prefilled: AtomicU64,
    /// Measured requests that no thread has claimed yet.
    pub(super) budget: Budget,
}

impl Shared {
    pub(super) fn new(requests: Option<u64>, threads: usize, prefills: bool) -> Self {
        Self {
            prefills,
            phase: AtomicU8::new(Phase::Connect as u8),
            start_ns: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            prefilled: AtomicU64::new(0),
            budget: Budget::new(requests, threads),
        }
    }

    /// Lets all workers go on to `phase` at `start_ns`.
    pub(super) fn begin(&self, phase: Phase, start_ns: u64) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// When `phase` begins, once it was begun.
    pub(super) fn start_of(&self, phase: Phase) -> Option<u64> {
        (self.phase.load(Ordering::Acquire) >= phase as u8)
            .then(|| self.start_ns.load(Ordering::Relaxed))
    }

    /// Tells all workers to end at once.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether to end at once.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A number of requests that threads share.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    threads: u64,
}

impl Budget {
    /// `None`: without limit (and never asked).
    pub(super) fn new(requests: Option<u64>, threads: usize) -> Self {
        let threads = u64::try_from(threads).expect("usize has at most 64 bits");
        Self {
            left: AtomicU64::new(requests.unwrap_or(0)),
            threads,
        }
    }

    /// Takes some of what is left, smaller parts towards the end; 0 when nothing is left.
    pub(super) fn claim(&self) -> u64 {
        let part = |left: u64| (left / (4 * self.threads)).clamp(1, CLAIM_MAX).min(left);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left > 0).then(|| left - part(left))
            });
        taken.map_or(0, part)
    }
}

/// What a worker tells the coordinator.
#[derive(Debug)]
pub(super) enum Event {
    /// All its connections are open.
    Connected,
    /// Its share of the keys is written.
    Prefilled(Box<Tally>),
    /// What it counted in second `index` of the measurement.
    Interval {
        thread: usize,
        index: u64,
        tally: Box<Tally>,
    },
    /// It ended; nothing follows.
    Ended {
        thread: usize,
        end: Box<LoadEnd>,
        result: Result<(), Failure>,
    },
}

/// What a worker knows at its end.
#[derive(Debug, Default)]
pub(super) struct LoadEnd {
    /// Counts since the last interval.
    pub(super) tally: Option<Tally>,
    /// Requests sent that have no reply.
    pub(super) unanswered: u64,
    /// Open loop: scheduled requests never sent.
    pub(super) unsent: u64,
    /// Open loop: when the oldest of those was due (monotonic).
    pub(super) unsent_due_ns: Option<u64>,
    /// Open loop: most requests that were due and unsent at one time.
    pub(super) backlog_max: u64,
    /// When the last reply came (monotonic; 0: none).
    pub(super) last_reply_ns: u64,
    /// CPU time, time spent waiting for a CPU, and wall time since the warm-up.
    pub(super) cpu_ns: u64,
    pub(super) cpu_wait_ns: u64,
    pub(super) wall_ns: u64,
    /// Replies in that time.
    pub(super) replies: u64,
}
