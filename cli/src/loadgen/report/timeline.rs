//! What happened second by second, for plots. Bounded: a long run's seconds become longer.

use super::{LatencyFigures, Tally};
use std::time::Duration;

/// Most spans kept; when there are more, neighbours become one.
const SPANS_MAX: usize = 4_096;

/// One second of a run, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Span {
    /// When it began, in seconds of the measurement.
    pub(super) start: f64,
    /// Its length in seconds.
    pub(super) length: f64,
    /// Right answers.
    pub(super) answered: u64,
    /// Error replies and wrong values.
    pub(super) errors: u64,
    /// Of reads and writes together, in nanoseconds; the highest of its seconds. 0: no answer.
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

impl Span {
    pub(super) fn per_second(&self) -> f64 {
        if self.length > 0.0 {
            self.answered as f64 / self.length
        } else {
            0.0
        }
    }

    fn joined(self, next: Self) -> Self {
        Self {
            start: self.start,
            length: self.length + next.length,
            answered: self.answered + next.answered,
            errors: self.errors + next.errors,
            p50_ns: self.p50_ns.max(next.p50_ns),
            p99_ns: self.p99_ns.max(next.p99_ns),
            max_ns: self.max_ns.max(next.max_ns),
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    spans: Vec<Span>,
    spans_max: usize,
    /// Seconds that go into a span, and those that the last one has.
    seconds_per_span: usize,
    seconds_in_last: usize,
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self::with_spans_max(SPANS_MAX)
    }

    fn with_spans_max(spans_max: usize) -> Self {
        Self {
            spans: Vec::new(),
            spans_max,
            seconds_per_span: 1,
            seconds_in_last: 1,
        }
    }

    /// Adds those of another turn of the same target, as if it had followed at once.
    pub(crate) fn append(&mut self, next: &Self) {
        let offset = self
            .spans
            .last()
            .map_or(0.0, |span| span.start + span.length);
        let moved = next.spans.iter().map(|span| Span {
            start: offset + span.start,
            ..*span
        });
        self.spans.extend(moved);
        while self.spans.len() > self.spans_max {
            self.halve();
        }
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Adds what was counted in the interval that began `start` into the measurement.
    pub(crate) fn add(&mut self, tally: &Tally, start: Duration, length: Duration) {
        let latencies = tally.latencies();
        let figures = LatencyFigures::new(&latencies);
        let ns = |of: fn(&LatencyFigures) -> u64| figures.as_ref().map_or(0, of);
        let next = Span {
            start: start.as_secs_f64(),
            length: length.as_secs_f64(),
            answered: latencies.histogram().len(),
            errors: tally.errors(),
            p50_ns: ns(|figures| figures.p50),
            p99_ns: ns(|figures| figures.p99),
            max_ns: ns(|figures| figures.max),
        };
        if self.seconds_in_last < self.seconds_per_span
            && let Some(last) = self.spans.last_mut()
        {
            *last = last.joined(next);
            self.seconds_in_last += 1;
            return;
        }
        self.spans.push(next);
        self.seconds_in_last = 1;
        if self.spans.len() > self.spans_max {
            self.halve();
            self.seconds_per_span *= 2;
            self.seconds_in_last = self.seconds_per_span / 2;
        }
    }

    /// Lets neighbours become one.
    fn halve(&mut self) {
        let pairs = self.spans.chunks(2);
        let joined = pairs.filter_map(|pair| pair.iter().copied().reduce(Span::joined));
        self.spans = joined.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::Timeline;
    use crate::report::figures::tests::tally;
    use std::time::Duration;

    #[test]
    fn turns_follow_each_other() {
        let turn = |seconds| {
            let mut timeline = Timeline::with_spans_max(32);
            for second in 0..seconds {
                timeline.add(
                    &tally(),
                    Duration::from_secs(second),
                    Duration::from_secs(1),
                );
            }
            timeline
        };
        let mut timeline = turn(20);
        timeline.append(&turn(20));
        assert!(timeline.spans().len() <= 32);
        let end = timeline.spans().iter().fold(0.0, |end, span| {
            assert_eq!(span.start, end);
            end + span.length
        });
        assert_eq!(end, 40.0);
    }

    #[test]
    fn a_long_run_has_longer_spans_and_the_same_sum() {
        let mut timeline = Timeline::with_spans_max(32);
        let tally = tally();
        let seconds = 3 * 32;
        for second in 0..seconds {
            timeline.add(&tally, Duration::from_secs(second), Duration::from_secs(1));
            assert!(timeline.spans().len() <= 32);
        }
        let answered: u64 = timeline.spans().iter().map(|span| span.answered).sum();
        assert_eq!(answered, seconds * 10_010);
        let mut end = 0.0;
        for span in timeline.spans() {
            assert_eq!(span.start, end);
            end += span.length;
            assert_eq!(span.per_second(), 10_010.0);
            assert!(span.p50_ns < span.p99_ns && span.p99_ns < span.max_ns);
        }
        assert_eq!(end, 96.0);
    }
}
