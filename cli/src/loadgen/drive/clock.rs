//! The clocks that a run reads.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fs;

/// CLOCK_MONOTONIC in nanoseconds: comparable between threads, and what timers are set by.
pub(super) fn now_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// CPU time (user and system) that the calling thread has used, in nanoseconds.
pub(super) fn thread_cpu_ns() -> u64 {
    to_ns(clock_gettime(ClockId::ThreadCPUTime))
}

/// How long the calling thread has been ready to run without getting a CPU, in nanoseconds; 0 on
/// kernels that do not count it.
pub(super) fn thread_cpu_wait_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

/// A moment of `now_ns` as a timer wants it.
pub(super) fn to_timespec(ns: u64) -> Timespec {
    let part = |ns: u64| i64::try_from(ns).expect("292 years of nanoseconds");
    Timespec {
        tv_sec: part(ns / 1_000_000_000),
        tv_nsec: part(ns % 1_000_000_000),
    }
}

fn to_ns(time: Timespec) -> u64 {
    let part = |number: i64| u64::try_from(number).expect("these clocks begin at zero");
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}
