//! The interval log: one HdrHistogram a second and operation, in the format that HdrHistogram's
//! tools (HistogramLogProcessor, HistogramLogAnalyzer) read.

use super::Tally;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// Divides the log's readable maximum: nanoseconds become milliseconds, as is usual.
const NS_PER_MS: f64 = 1e6;

/// Takes a run's intervals in order.
pub(crate) trait IntervalSink {
    /// Takes what was counted from `start` to `start + length` of the measurement.
    fn take(&mut self, tally: &Tally, start: Duration, length: Duration) -> io::Result<()>;
}

/// Begins a log whose interval times count from `base`.
pub(crate) fn begin_log<'a, W: Write>(
    out: &'a mut W,
    serializer: &'a mut V2DeflateSerializer,
    base: SystemTime,
) -> io::Result<impl IntervalSink + 'a> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Logged by loadgen; latencies in nanoseconds]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(out, serializer)
}

impl<W: Write> IntervalSink for IntervalLogWriter<'_, '_, W, V2DeflateSerializer> {
    fn take(&mut self, tally: &Tally, start: Duration, length: Duration) -> io::Result<()> {
        let mut write = |name: &str, histogram: &Histogram<u64>| {
            if histogram.is_empty() {
                return Ok(());
            }
            self.write_histogram(histogram, start, length, Tag::new(name))
                .map_err(|error| match error {
                    IntervalLogWriterError::IoError(error) => error,
                    IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
                })
        };
        tally
            .operations()
            .iter()
            .try_for_each(|(name, counts)| write(name, counts.latencies.histogram()))
    }
}

#[cfg(test)]
mod tests {
    use super::{IntervalSink, begin_log};
    use crate::report::figures::tests::tally;
    use hdrhistogram::serialization::V2DeflateSerializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_log_can_be_read_back() {
        let (mut out, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut log = begin_log(&mut out, &mut serializer, base).expect("memory");
        for second in 0..3 {
            log.take(
                &tally(),
                Duration::from_secs(second),
                Duration::from_secs(1),
            )
            .expect("memory");
        }
        drop(log);
        let mut seen = Vec::new();
        for entry in IntervalLogIterator::new(&out) {
            match entry.expect("readable") {
                LogEntry::Interval(interval) => seen.push((
                    interval.tag().expect("a tag").as_str().to_owned(),
                    interval.start_timestamp().as_secs(),
                    format!("{:.0} ms", interval.max()),
                )),
                LogEntry::BaseTime(time) => assert_eq!(time.as_secs(), 1_700_000_000),
                LogEntry::StartTime(time) => assert_eq!(time.as_secs(), 1_700_000_000),
            }
        }
        let second = |s| {
            [
                ("GET".to_owned(), s, "10 ms".to_owned()),
                ("SET".to_owned(), s, "5 ms".to_owned()),
            ]
        };
        assert_eq!(seen, [second(0), second(1), second(2)].concat());
    }
}
