//! What a thread counts while it runs: latency histograms and counters for each operation.
//!
//! A thread fills a [`Tally`] for about a second and hands it over; tallies add up to a run's
//! total. Recording allocates nothing, except for the first occurrence of an error's text.

use crate::wire::Operation;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies are recorded in nanoseconds from 1 ns to an hour; longer ones are recorded as an
/// hour and counted as saturated.
pub(crate) const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Significant decimal digits of every recorded latency.
const DIGITS: u8 = 3;
/// Distinct error texts kept; the rest is counted together.
const ERROR_TEXTS_MAX: usize = 32;
/// The text under which errors beyond that are counted.
const OTHER_ERRORS: &str = "(other errors)";

/// A histogram of nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    saturated: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
            .expect("the bounds are constants that the crate accepts");
        Self {
            histogram,
            saturated: 0,
        }
    }

    /// Records one latency.
    pub(crate) fn record(&mut self, ns: u64) {
        if ns > LATENCY_NS_MAX {
            self.saturated += 1;
        }
        self.histogram.saturating_record(ns);
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("equal bounds");
        self.saturated += other.saturated;
    }

    /// The histogram, in nanoseconds.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// How many latencies were longer than an hour.
    pub(crate) fn saturated(&self) -> u64 {
        self.saturated
    }
}

/// Counts of one operation.
#[derive(Clone, Debug)]
pub(crate) struct OperationTally {
    /// Latencies of right answers; their number is the number of successes.
    pub(crate) latencies: Latencies,
    /// Reads that found a value.
    pub(crate) hits: u64,
    /// Reads that found none.
    pub(crate) misses: u64,
    /// Error replies, unexpected replies and wrong values.
    pub(crate) errors: u64,
    /// Of the errors: values that are not what was written.
    pub(crate) wrong_values: u64,
}

impl OperationTally {
    fn new() -> Self {
        Self {
            latencies: Latencies::new(),
            hits: 0,
            misses: 0,
            errors: 0,
            wrong_values: 0,
        }
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.wrong_values += other.wrong_values;
    }
}

/// All counts of a time span.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Reads.
    pub(crate) gets: OperationTally,
    /// Writes.
    pub(crate) sets: OperationTally,
    /// Increments of counters.
    pub(crate) increments: OperationTally,
    /// Open loop: how long after its due time each request was sent.
    pub(crate) send_delays: Latencies,
    /// Failed writes while prefilling.
    pub(crate) prefill_errors: u64,
    /// Bytes written to and read from the target's connections.
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    error_texts: BTreeMap<String, u64>,
    other_errors: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            gets: OperationTally::new(),
            sets: OperationTally::new(),
            increments: OperationTally::new(),
            send_delays: Latencies::new(),
            prefill_errors: 0,
            bytes_sent: 0,
            bytes_received: 0,
            error_texts: BTreeMap::new(),
            other_errors: 0,
        }
    }

    /// The counts of one operation.
    pub(crate) fn of(&mut self, operation: Operation) -> &mut OperationTally {
        match operation {
            Operation::Get => &mut self.gets,
            Operation::Set => &mut self.sets,
            Operation::Incr => &mut self.increments,
        }
    }

    /// All operations, by their names.
    pub(super) fn operations(&self) -> [(&'static str, &OperationTally); 3] {
        [
            (Operation::Get.name(), &self.gets),
            (Operation::Set.name(), &self.sets),
            (Operation::Incr.name(), &self.increments),
        ]
    }

    /// All operations together.
    pub(super) fn all(&self) -> OperationTally {
        let mut all = self.gets.clone();
        all.add(&self.sets);
        all.add(&self.increments);
        all
    }

    /// Of all operations together.
    pub(super) fn latencies(&self) -> Latencies {
        self.all().latencies
    }

    /// Counts an error by its text (not under its operation).
    pub(crate) fn count_error_text(&mut self, text: &str) {
        self.count_error_texts(text, 1);
    }

    fn count_error_texts(&mut self, text: &str, count: u64) {
        if let Some(known) = self.error_texts.get_mut(text) {
            *known += count;
        } else if self.error_texts.len() < ERROR_TEXTS_MAX {
            self.error_texts.insert(text.to_owned(), count);
        } else {
            self.other_errors += count;
        }
    }

    /// The texts of errors and how often each came; at most 33.
    pub(crate) fn error_texts(&self) -> BTreeMap<String, u64> {
        let mut texts = self.error_texts.clone();
        if self.other_errors > 0 {
            texts.insert(OTHER_ERRORS.to_owned(), self.other_errors);
        }
        texts
    }

    /// Measured requests that were answered, rightly or not.
    pub(crate) fn answered(&self) -> u64 {
        let of = |tally: &OperationTally| tally.latencies.histogram().len() + tally.errors;
        self.operations().iter().map(|(_, tally)| of(tally)).sum()
    }

    /// All errors, those of the prefill included.
    pub(crate) fn errors(&self) -> u64 {
        let of_load: u64 = self
            .operations()
            .iter()
            .map(|(_, tally)| tally.errors)
            .sum();
        of_load + self.prefill_errors
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.gets.add(&other.gets);
        self.sets.add(&other.sets);
        self.increments.add(&other.increments);
        self.send_delays.add(&other.send_delays);
        self.prefill_errors += other.prefill_errors;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.add_error_texts(other);
    }

    /// Adds the error texts of `other` alone.
    pub(crate) fn add_error_texts(&mut self, other: &Self) {
        for (text, count) in &other.error_texts {
            self.count_error_texts(text, *count);
        }
        self.other_errors += other.other_errors;
    }
}

#[cfg(test)]
mod tests {
    use super::{ERROR_TEXTS_MAX, LATENCY_NS_MAX, Latencies, Tally};
    use crate::wire::Operation;

    #[test]
    fn latencies_beyond_an_hour_are_kept_and_counted() {
        let mut latencies = Latencies::new();
        latencies.record(LATENCY_NS_MAX);
        assert_eq!(latencies.saturated(), 0);
        latencies.record(LATENCY_NS_MAX + 1);
        latencies.record(u64::MAX);
        latencies.record(0);
        assert_eq!(latencies.saturated(), 2);
        assert_eq!(latencies.histogram().len(), 4);
    }

    #[test]
    fn error_texts_are_bounded_and_none_is_lost() {
        let (mut tally, mut total) = (Tally::new(), Tally::new());
        for index in 0..1_000 {
            tally.count_error_text(&format!("ERR {index}"));
            tally.count_error_text("ERR 0");
        }
        assert_eq!(tally.error_texts().len(), ERROR_TEXTS_MAX + 1);
        total.add(&tally);
        total.add(&tally);
        assert_eq!(total.error_texts().values().sum::<u64>(), 4_000);
        assert_eq!(total.error_texts().len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(total.error_texts()["ERR 0"], 2_002);
    }

    #[test]
    fn tallies_add_up() {
        let mut total = Tally::new();
        for ns in [100, 200] {
            let mut tally = Tally::new();
            tally.of(Operation::Get).latencies.record(ns);
            tally.of(Operation::Get).hits += 1;
            tally.of(Operation::Set).errors += 1;
            tally.bytes_sent += 7;
            total.add(&tally);
        }
        assert_eq!(total.answered(), 4);
        assert_eq!(total.errors(), 2);
        assert_eq!(total.gets.hits, 2);
        assert_eq!(total.gets.latencies.histogram().max(), 200);
        assert_eq!(total.bytes_sent, 14);
    }
}
