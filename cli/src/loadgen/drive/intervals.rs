//! The seconds of a run, put together from all workers' parts. Pure.

use crate::report::Tally;
use std::collections::BTreeMap;

/// Seconds of intervals kept until every worker has handed in its part.
const INTERVALS_PENDING_MAX: usize = 8;

/// Intervals of all workers, merged by their number and let out in order.
#[derive(Debug)]
pub(super) struct Intervals {
    pending: BTreeMap<u64, Tally>,
    /// For each worker, how many intervals it has closed.
    closed: Vec<u64>,
    /// The end of the last interval let out, in whole seconds.
    taken_until: u64,
}

impl Intervals {
    /// Of so many workers, none of which has closed an interval.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            pending: BTreeMap::new(),
            closed: vec![0; threads],
            taken_until: 0,
        }
    }

    /// Adds what a worker counted in interval `index`, which closes it and all before for it.
    pub(super) fn add(&mut self, thread: usize, index: u64, tally: &Tally) {
        self.pending
            .entry(index)
            .or_insert_with(Tally::new)
            .add(tally);
        self.closed[thread] = index + 1;
    }

    /// A worker has ended: it closes all intervals.
    pub(super) fn end(&mut self, thread: usize) {
        self.closed[thread] = u64::MAX;
    }

    /// The end of the last interval let out, in whole seconds.
    pub(super) fn taken_until(&self) -> u64 {
        self.taken_until
    }

    /// The next interval to which nothing can be added any more (or for which there is no room).
    pub(super) fn next_complete(&mut self) -> Option<(u64, Tally)> {
        let closed_by_all = self.closed.iter().min().copied().unwrap_or(u64::MAX);
        let is_full = self.pending.len() > INTERVALS_PENDING_MAX;
        let first = self.pending.first_entry()?;
        if *first.key() >= closed_by_all && !is_full {
            return None;
        }
        self.taken_until = first.key() + 1;
        Some(first.remove_entry())
    }
}

#[cfg(test)]
mod tests {
    use super::{INTERVALS_PENDING_MAX, Intervals};
    use crate::report::Tally;

    #[test]
    fn intervals_wait_for_every_worker_and_come_in_order() {
        let mut intervals = Intervals::new(2);
        let mut tally = Tally::new();
        tally.bytes_sent = 1;
        intervals.add(0, 0, &tally);
        intervals.add(0, 1, &tally);
        assert!(
            intervals.next_complete().is_none(),
            "worker 1 has not closed second 0"
        );
        // Worker 1 was late: its first two seconds come as one.
        intervals.add(1, 1, &tally);
        let taken: Vec<(u64, u64)> = std::iter::from_fn(|| intervals.next_complete())
            .map(|(index, tally)| (index, tally.bytes_sent))
            .collect();
        assert_eq!(taken, [(0, 1), (1, 2)]);
        assert_eq!(intervals.taken_until(), 2);
    }

    #[test]
    fn intervals_are_bounded_when_a_worker_is_silent() {
        let mut intervals = Intervals::new(2);
        for index in 0..100 {
            intervals.add(0, index, &Tally::new());
            while intervals.next_complete().is_some() {}
            assert!(intervals.pending.len() <= INTERVALS_PENDING_MAX);
        }
    }
}
