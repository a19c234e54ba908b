//! All figures of a run, computed once from its tally; the table and the JSON file show these.

use super::{Latencies, Machine, OperationTally, Tally};
use crate::config::Config;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// A thread that was busy for more than this share of its time was itself a limit.
const BUSY_SHARE: f64 = 0.9;
/// A thread that waited for a CPU for more than this share adds visibly to the latencies.
const WAITED_SHARE: f64 = 0.1;

/// What happened in a run, beside its tally.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFacts {
    /// Measured time in nanoseconds, from the first due request to the last reply.
    pub(crate) elapsed_ns: u64,
    /// Requests sent without a reply at the end.
    pub(crate) unanswered: u64,
    /// Open loop: scheduled requests never sent.
    pub(crate) unsent: u64,
    /// Open loop: how long the oldest of those had been due at the end, in nanoseconds.
    pub(crate) unsent_age_ns: u64,
    /// Open loop: most requests due and unsent at one time (sum of the threads' maxima).
    pub(crate) backlog_max: u64,
    /// CPU time of the generator's threads, in nanoseconds.
    pub(crate) generator_cpu_ns: u64,
    /// Requests that this CPU time served.
    pub(crate) generator_replies: u64,
    /// The largest share of its time that a thread was busy.
    pub(crate) generator_busy: f64,
    /// The largest share of its time that a thread was ready but had no CPU.
    pub(crate) generator_waited: f64,
    /// Why the run ended early.
    pub(crate) failure: Option<String>,
    /// The signal that ended it early.
    pub(crate) signal: Option<i32>,
}

impl RunFacts {
    /// Adds those of another turn of the same target.
    pub(crate) fn add(&mut self, next: Self) {
        self.elapsed_ns += next.elapsed_ns;
        self.unanswered += next.unanswered;
        self.unsent += next.unsent;
        self.unsent_age_ns = self.unsent_age_ns.max(next.unsent_age_ns);
        self.backlog_max = self.backlog_max.max(next.backlog_max);
        self.generator_cpu_ns += next.generator_cpu_ns;
        self.generator_replies += next.generator_replies;
        self.generator_busy = self.generator_busy.max(next.generator_busy);
        self.generator_waited = self.generator_waited.max(next.generator_waited);
        self.failure = self.failure.take().or(next.failure);
        self.signal = self.signal.or(next.signal);
    }
}

/// Everything that is reported. Serialized as it is by --json; times there say their unit.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Figures {
    pub(super) version: &'static str,
    #[serde(flatten)]
    pub(super) machine: Machine,
    pub(super) name: String,
    pub(super) target: String,
    pub(super) protocol: &'static str,
    /// `open` or `closed`.
    pub(super) loop_kind: &'static str,
    pub(super) connections: usize,
    pub(super) threads: usize,
    pub(super) pipeline: usize,
    pub(super) warmup_seconds: f64,
    pub(super) measured_seconds: f64,
    /// GET, SET, INCR (as far as requested) and `all`.
    pub(super) operations: Vec<OperationFigures>,
    pub(super) open_loop: Option<OpenLoopFigures>,
    pub(super) unanswered: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) prefill_errors: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) generator: GeneratorFigures,
    pub(super) failure: Option<String>,
    pub(super) signal: Option<i32>,
}

/// One row of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct OperationFigures {
    pub(super) name: &'static str,
    /// Right answers; errors are not among them.
    pub(super) count: u64,
    pub(super) per_second: f64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Hits in hits and misses; none without reads.
    pub(super) hit_ratio: Option<f64>,
    pub(super) errors: u64,
    pub(super) wrong_values: u64,
    pub(super) latency_ns: Option<LatencyFigures>,
}

/// A distribution of times in nanoseconds, each within 0.1 %.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct LatencyFigures {
    pub(super) mean: f64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p99_9: u64,
    pub(super) p99_99: u64,
    pub(super) max: u64,
    /// How many were longer than this (each also counts for the shorter limits).
    pub(super) over_1ms: u64,
    pub(super) over_10ms: u64,
    pub(super) over_100ms: u64,
    pub(super) over_1s: u64,
    /// Times above an hour, which are recorded as an hour.
    pub(super) saturated: u64,
}

/// How well an open loop kept its schedule.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct OpenLoopFigures {
    pub(super) rate: f64,
    /// How long after they were due requests were sent.
    pub(super) send_delay_ns: Option<LatencyFigures>,
    pub(super) backlog_max: u64,
    pub(super) unsent: u64,
    pub(super) unsent_age_seconds: f64,
}

/// What the generator itself used.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct GeneratorFigures {
    pub(super) cpu_seconds: f64,
    pub(super) cpu_us_per_request: Option<f64>,
    /// The largest share of its time that a thread was busy, 0 to 1.
    pub(super) busiest_thread: f64,
    /// The largest share of its time that a thread was ready but had no CPU, 0 to 1.
    pub(super) waited_for_cpu: f64,
}

impl Figures {
    /// Computes the figures of a run.
    pub(crate) fn new(config: &Config, tally: &Tally, facts: RunFacts) -> Self {
        let seconds = facts.elapsed_ns as f64 / 1e9;
        let all = tally.all();
        let rows = tally.operations().into_iter().chain([("all", &all)]);
        let operations = rows
            .map(|(name, counts)| OperationFigures::new(name, counts, seconds))
            .filter(|row| row.name == "all" || row.count + row.errors > 0)
            .collect();
        let open_loop = config.rate.map(|rate| OpenLoopFigures {
            rate: rate.per_second(),
            send_delay_ns: LatencyFigures::new(&tally.send_delays),
            backlog_max: facts.backlog_max,
            unsent: facts.unsent,
            unsent_age_seconds: facts.unsent_age_ns as f64 / 1e9,
        });
        let cpu_us = facts.generator_cpu_ns as f64 / 1e3;
        let replies = facts.generator_replies;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::detect(),
            name: config.name.clone(),
            target: config.target.clone(),
            protocol: match config.library {
                Some(_) => "client library",
                None => config.request_encoder.protocol().name(),
            },
            loop_kind: if config.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            connections: config.connections,
            threads: config.threads,
            pipeline: config.pipeline,
            warmup_seconds: config.warmup_ns as f64 / 1e9,
            measured_seconds: seconds,
            operations,
            open_loop,
            unanswered: facts.unanswered,
            bytes_sent: tally.bytes_sent,
            bytes_received: tally.bytes_received,
            prefill_errors: tally.prefill_errors,
            errors: tally.error_texts(),
            generator: GeneratorFigures {
                cpu_seconds: cpu_us / 1e6,
                cpu_us_per_request: (replies > 0).then(|| cpu_us / replies as f64),
                busiest_thread: facts.generator_busy,
                waited_for_cpu: facts.generator_waited,
            },
            failure: facts.failure,
            signal: facts.signal,
        }
    }

    /// The row of all operations.
    pub(super) fn all(&self) -> &OperationFigures {
        self.operations.last().expect("there is always that row")
    }

    /// Whether the generator rather than the target may have been the limit.
    pub(super) fn is_generator_busy(&self) -> bool {
        self.generator.busiest_thread > BUSY_SHARE
    }

    /// Whether too few CPUs for generator and target (on one machine) are in the latencies.
    pub(super) fn is_generator_starved(&self) -> bool {
        self.generator.waited_for_cpu > WAITED_SHARE
    }
}

impl OperationFigures {
    fn new(name: &'static str, counts: &OperationTally, seconds: f64) -> Self {
        let count = counts.latencies.histogram().len();
        let lookups = counts.hits + counts.misses;
        Self {
            name,
            count,
            per_second: if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            },
            hits: counts.hits,
            misses: counts.misses,
            hit_ratio: (lookups > 0).then(|| counts.hits as f64 / lookups as f64),
            errors: counts.errors,
            wrong_values: counts.wrong_values,
            latency_ns: LatencyFigures::new(&counts.latencies),
        }
    }
}

impl LatencyFigures {
    /// `None` when nothing was recorded.
    pub(super) fn new(latencies: &Latencies) -> Option<Self> {
        let histogram: &Histogram<u64> = latencies.histogram();
        // A bucket's upper end may lie above the largest value in it.
        let quantile = |q: f64| histogram.value_at_quantile(q).min(histogram.max());
        let over = |ns: u64| histogram.len() - histogram.count_between(0, ns);
        (!histogram.is_empty()).then(|| Self {
            mean: histogram.mean(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            p99_99: quantile(0.9999),
            max: histogram.max(),
            over_1ms: over(1_000_000),
            over_10ms: over(10_000_000),
            over_100ms: over(100_000_000),
            over_1s: over(1_000_000_000),
            saturated: latencies.saturated(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Figures, LatencyFigures, RunFacts};
    use crate::args::Args;
    use crate::config::Config;
    use crate::report::{Latencies, Tally};
    use crate::wire::Operation;
    use clap::Parser;

    pub(crate) fn config(flags: &str) -> Config {
        let arguments = std::iter::once("loadgen").chain(flags.split_whitespace());
        let all = Config::each(&Args::try_parse_from(arguments).expect("readable"));
        all.expect("valid").remove(0)
    }

    /// 10,000 reads of 1 to 10,000 us, 10 writes of 5 ms, an error.
    pub(crate) fn tally() -> Tally {
        let mut tally = Tally::new();
        for us in 1..=10_000 {
            tally.of(Operation::Get).latencies.record(us * 1_000);
        }
        tally.of(Operation::Get).hits = 7_500;
        tally.of(Operation::Get).misses = 2_500;
        for _ in 0..10 {
            tally.of(Operation::Set).latencies.record(5_000_000);
        }
        tally.of(Operation::Set).errors = 1;
        tally.count_error_text("OOM full");
        tally
    }

    pub(crate) fn facts() -> RunFacts {
        RunFacts {
            elapsed_ns: 2_000_000_000,
            ..RunFacts::default()
        }
    }

    #[track_caller]
    fn assert_near(seen: u64, expected: u64) {
        assert!(
            seen.abs_diff(expected) <= expected / 1_000,
            "{seen} for {expected}"
        );
    }

    #[test]
    fn percentiles_are_those_of_the_samples() {
        let mut latencies = Latencies::new();
        for us in 1..=100_000 {
            latencies.record(us * 1_000);
        }
        let figures = LatencyFigures::new(&latencies).expect("samples");
        assert_near(figures.p50, 50_000_000);
        assert_near(figures.p90, 90_000_000);
        assert_near(figures.p99, 99_000_000);
        assert_near(figures.p99_9, 99_900_000);
        assert_near(figures.p99_99, 99_990_000);
        assert_near(figures.max, 100_000_000);
        assert!(
            (figures.mean - 50_000_500.0).abs() < 50_000.0,
            "{}",
            figures.mean
        );
        assert!(
            figures.over_10ms.abs_diff(90_000) < 100,
            "{}",
            figures.over_10ms
        );
        assert_eq!((figures.over_100ms, figures.over_1s), (0, 0));
        assert_eq!(LatencyFigures::new(&Latencies::new()), None);
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let mut latencies = Latencies::new();
        latencies.record(1_234_567_890);
        let figures = LatencyFigures::new(&latencies).expect("a sample");
        assert!(figures.p50 <= figures.max && figures.p99_99 <= figures.max);
    }

    #[test]
    fn rows_hold_counts_rates_and_ratios() {
        let figures = Figures::new(&config("--rate 5000"), &tally(), facts());
        let names: Vec<&str> = figures.operations.iter().map(|row| row.name).collect();
        assert_eq!(names, ["GET", "SET", "all"]);
        let [get, set, all] = &figures.operations[..] else {
            panic!("three rows")
        };
        assert_eq!(
            (get.count, get.per_second, get.hit_ratio),
            (10_000, 5_000.0, Some(0.75))
        );
        assert_eq!((set.count, set.errors, set.hit_ratio), (10, 1, None));
        assert_eq!(
            (all.count, all.errors, all.hit_ratio),
            (10_010, 1, Some(0.75))
        );
        assert_eq!(figures.errors["OOM full"], 1);
        assert_eq!(figures.loop_kind, "open");
    }

    #[test]
    fn a_run_without_replies_has_no_latency() {
        let facts = RunFacts {
            failure: Some("dead".to_owned()),
            ..RunFacts::default()
        };
        let figures = Figures::new(&config(""), &Tally::new(), facts);
        assert_eq!(figures.operations.len(), 1);
        assert_eq!(figures.operations[0].latency_ns, None);
        assert_eq!(figures.operations[0].per_second, 0.0);
        assert_eq!(figures.generator.cpu_us_per_request, None);
    }
}
