//! What a worker counts of its load, and when it hands that over.

use super::clock::{now_ns, thread_cpu_ns, thread_cpu_wait_ns};
use super::{Event, LoadEnd};
use crate::report::Tally;
use std::sync::mpsc::{SyncSender, TrySendError};

/// Tallies are handed over this often.
const INTERVAL_NS: u64 = 1_000_000_000;

/// One thread's counts of a phase.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) tally: Tally,
    /// Replies since the phase began, or since the warm-up ended.
    pub(super) replies: u64,
    pub(super) last_reply_ns: u64,
    /// Open loop: most requests that were due and unsent at one time.
    pub(super) backlog_max: u64,
    /// When measuring begins; `None` while prefilling.
    measure_from_ns: Option<u64>,
    interval_end_ns: u64,
    /// The clocks when the warm-up was over.
    began: Option<Clocks>,
}

#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall_ns: u64,
    cpu_ns: u64,
    cpu_wait_ns: u64,
}

impl Clocks {
    fn read(wall_ns: u64) -> Self {
        Self {
            wall_ns,
            cpu_ns: thread_cpu_ns(),
            cpu_wait_ns: thread_cpu_wait_ns(),
        }
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            tally: Tally::new(),
            replies: 0,
            last_reply_ns: 0,
            backlog_max: 0,
            measure_from_ns: None,
            interval_end_ns: u64::MAX,
            began: None,
        }
    }

    /// A load begins that is measured from `measure_from_ns` on.
    pub(super) fn begin_load(&mut self, measure_from_ns: u64) {
        self.measure_from_ns = Some(measure_from_ns);
        self.interval_end_ns = measure_from_ns.saturating_add(INTERVAL_NS);
    }

    /// Takes what the prefill counted.
    pub(super) fn take_prefill(&mut self) -> Box<Tally> {
        Box::new(std::mem::replace(&mut self.tally, Tally::new()))
    }

    /// Begins to count what the thread itself does once the warm-up is over.
    pub(super) fn begin_measuring(&mut self, now: u64) {
        if self.began.is_none() && self.measure_from_ns.is_some_and(|from| now >= from) {
            self.began = Some(Clocks::read(now));
            self.replies = 0;
            (self.tally.bytes_sent, self.tally.bytes_received) = (0, 0);
        }
    }

    /// Hands the tally over when its second has passed.
    pub(super) fn hand_over(&mut self, now: u64, thread: usize, coordinator: &SyncSender<Event>) {
        let Some(from_ns) = self.measure_from_ns else {
            return;
        };
        if now < self.interval_end_ns {
            return;
        }
        let index = (self.interval_end_ns - from_ns) / INTERVAL_NS - 1;
        let tally = Box::new(std::mem::replace(&mut self.tally, Tally::new()));
        let event = Event::Interval {
            thread,
            index,
            tally,
        };
        if let Err(error) = coordinator.try_send(event) {
            // The coordinator is behind (its output may be blocked): keep on counting here.
            let (TrySendError::Full(event) | TrySendError::Disconnected(event)) = error;
            if let Event::Interval { tally, .. } = event {
                self.tally = *tally;
            }
        }
        self.interval_end_ns = from_ns + ((now - from_ns) / INTERVAL_NS + 1) * INTERVAL_NS;
    }

    /// The load is over: what the thread itself did.
    pub(super) fn end_load(&self, end: &mut LoadEnd) {
        end.last_reply_ns = self.last_reply_ns;
        if let Some(began) = self.began {
            let now = Clocks::read(now_ns());
            end.wall_ns = now.wall_ns - began.wall_ns;
            end.cpu_ns = now.cpu_ns - began.cpu_ns;
            end.cpu_wait_ns = now.cpu_wait_ns - began.cpu_wait_ns;
            end.replies = self.replies;
        }
    }

    /// All is over: what was counted and not handed over.
    pub(super) fn finish(self, end: &mut LoadEnd) {
        end.backlog_max = self.backlog_max;
        end.tally = Some(self.tally);
    }
}
