//! The command line: every flag with its unit, its default and its bounds.
//!
//! Flags are only read here; what they mean together is decided in `config`.

use crate::units::{parse_duration, parse_duration_nonzero};
use crate::wire::Protocol;
use crate::workload::{Distribution, Rate, ValueSizes};
use clap::Parser;
use clap::error::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

/// Most connections, over all threads.
const CONNECTIONS_MAX: i64 = 1_000_000;
/// Most threads.
const THREADS_MAX: i64 = 1_024;
/// Most keys of a counter.
const COUNTER_PARTS_MAX: i64 = 1_024;
/// Most turns of each target.
const ROUNDS_MAX: i64 = 1_000;
/// Most requests in flight on one connection.
const PIPELINE_MAX: i64 = 4_096;

/// Load generator for caches that speak RESP (Redis) or HTTP.
///
/// With --rate it is an open loop: requests are due at fixed times, and latency is counted from
/// the moment a request was due, so a stall of the target shows in full (no coordinated
/// omission). Without --rate it is a closed loop: each connection sends its next request when a
/// reply comes; latency is counted from the send.
///
/// Sizes are in bytes and take B, KiB, MiB, GiB; durations are in seconds and take us, ms, s, m, h.
///
/// Exit codes: 0 all went well; 1 the target failed (refused, closed, hung, answered errors or
/// wrong values), results so far are printed; 2 bad flags; 130 and 143 stopped by a signal, with
/// results.
#[derive(Parser, Clone, Debug)]
#[command(name = "loadgen", version)]
pub(crate) struct Args {
    /// The server to load, or several nodes of one: connections are spread over them; IPv6 addresses in
    /// brackets. Given several times, the targets are loaded in turn, and compared by their names.
    #[arg(
        long = "target",
        value_name = "[NAME=]HOST:PORT,...",
        default_value = "127.0.0.1:6379"
    )]
    pub(crate) targets: Vec<String>,

    /// With several targets: how often each has its turn, which lasts as long as a run of one.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=ROUNDS_MAX))]
    pub(crate) rounds: u32,

    /// Protocol spoken with the target.
    #[arg(long, value_enum, default_value_t = Protocol::Resp)]
    pub(crate) protocol: Protocol,

    /// Go through the client library: the target's nodes are where it begins, and it finds the others. Each
    /// connection is --pipeline callers then, and a call that fails ends nothing.
    #[arg(long)]
    pub(crate) cluster: bool,

    /// With --cluster: gather writes for so long; their latency is that of the buffer.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration_nonzero)]
    pub(crate) batch: Option<Duration>,

    /// With --cluster: split each counter over so many keys.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=COUNTER_PARTS_MAX))]
    pub(crate) counter_parts: u32,

    /// Connections in total, spread evenly over the threads.
    #[arg(long, short = 'c', value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    pub(crate) connections: u32,

    /// Threads, each with an event loop of its own.
    #[arg(long, short = 't', value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: u32,

    /// Requests in flight on each connection: kept full in a closed loop, the maximum in an open
    /// loop.
    #[arg(long, short = 'P', value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=PIPELINE_MAX))]
    pub(crate) pipeline: u32,

    /// Requests per second over all connections (open loop); takes k and M; 0 = closed loop.
    #[arg(long, short = 'r', value_name = "R", default_value = "0", value_parser = parse_rate)]
    pub(crate) rate: RateFlag,

    /// How long requests are sent and measured; 10 s unless --requests is given.
    #[arg(long, short = 'd', value_name = "SECONDS", value_parser = parse_duration_nonzero)]
    pub(crate) duration: Option<Duration>,

    /// Exact number of measured requests; with --duration, whichever ends first.
    #[arg(long, short = 'n', value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,

    /// Distinct keys.
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=u64::MAX / 2))]
    pub(crate) keys: u64,

    /// Length of every key, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "16",
          value_parser = crate::units::parse_size)]
    pub(crate) key_size: u64,

    /// Length of values, in bytes: 32 | uniform:LOW..HIGH | exp:MEAN | zipf:THETA:LOW..HIGH |
    /// weighted list SIZE:WEIGHT,SIZE:WEIGHT,...
    #[arg(long, value_name = "SPEC", default_value = "32", value_parser = ValueSizes::parse)]
    pub(crate) value_size: ValueSizes,

    /// How requests spread over keys: uniform | zipf:THETA (0 < THETA < 2).
    #[arg(long, value_name = "SPEC", default_value = "uniform",
          value_parser = Distribution::parse)]
    pub(crate) distribution: Distribution,

    /// Keys that --hot-share percent of all requests are for; 0: none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) hot_keys: u64,

    /// Percent of all requests that are for the hot keys, each as often as the others.
    #[arg(long, value_name = "PERCENT", default_value = "90", value_parser = parse_percent)]
    pub(crate) hot_share: f64,

    /// How long the same keys are hot; then it is the next ones.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration_nonzero)]
    pub(crate) hot_shift: Option<Duration>,

    /// Writes to reads to increments of counters (`counter:N`, N below --keys); 0:1 only reads, 0:0:1 only
    /// increments.
    #[arg(long, value_name = "SET:GET[:INCR]", default_value = "1:10", value_parser = Ratio::parse)]
    pub(crate) ratio: Ratio,

    /// Time to live of every written key, in seconds (or e.g. 500ms).
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration_nonzero)]
    pub(crate) ttl: Option<Duration>,

    /// Write every key once before measuring (closed loop, pipelined).
    #[arg(long)]
    pub(crate) prefill: bool,

    /// Send the same load for this long before measuring.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_duration)]
    pub(crate) warmup: Duration,

    /// Seed of keys, values and the mix of operations.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Check the value of every GET that hits; a wrong one is an error.
    #[arg(long)]
    pub(crate) verify: bool,

    /// Give up when a connection with requests in flight gets no byte for this long.
    #[arg(long, value_name = "SECONDS", default_value = "10",
          value_parser = parse_duration_nonzero)]
    pub(crate) timeout: Duration,

    /// Open loop: how long after the end requests that are late may still be sent.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_duration)]
    pub(crate) grace: Duration,

    /// Write an HdrHistogram interval log (V2, compressed; one interval a second; in ns).
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Write the report with plots as one HTML page.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,

    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Print progress once a second on standard error even when it is no terminal.
    #[arg(long)]
    pub(crate) progress: bool,
}

impl Args {
    /// Reads the process's arguments. `Err` holds what to print and the exit code.
    pub(crate) fn from_command_line() -> Result<Self, (String, u8)> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (error.to_string(), 0),
            _ => (one_line(&error.to_string()), 2),
        })
    }
}

/// The first paragraph of clap's message, on one line.
fn one_line(message: &str) -> String {
    let paragraph = message.lines().take_while(|line| !line.trim().is_empty());
    let line = paragraph.map(str::trim).collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// `--rate`: `None` is a closed loop. (A type of its own: clap takes `Option` for "may be absent".)
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateFlag(pub(crate) Option<Rate>);

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent = text
        .parse()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| format!("'{text}' is not a percentage (0 to 100)"))
}

fn parse_rate(text: &str) -> Result<RateFlag, String> {
    Rate::parse(text).map(RateFlag)
}

/// The mix of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratio {
    /// Parts that are writes.
    pub(crate) sets: u32,
    /// Parts that are reads.
    pub(crate) gets: u32,
    /// Parts that are increments.
    pub(crate) increments: u32,
}

impl Ratio {
    fn parse(text: &str) -> Result<Self, String> {
        let parts: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
        let (sets, gets, increments) = match parts.as_deref() {
            Some(&[sets, gets]) => (sets, gets, 0),
            Some(&[sets, gets, increments]) => (sets, gets, increments),
            _ => {
                return Err(format!(
                    "'{text}' is not a ratio (SET:GET or SET:GET:INCR, whole numbers, e.g. 1:10)"
                ));
            }
        };
        if (sets, gets, increments) == (0, 0, 0) {
            return Err("one side must be above zero".to_owned());
        }
        Ok(Self {
            sets,
            gets,
            increments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Ratio, one_line};
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_has_help() {
        for argument in Args::command().get_arguments() {
            assert!(argument.get_help().is_some(), "{}", argument.get_id());
        }
    }

    #[test]
    fn bad_flags_are_one_clear_line() {
        for (arguments, part) in [
            (vec!["loadgen", "--rate", "fast"], "'fast' is not a rate"),
            (
                vec!["loadgen", "--protocol", "ftp"],
                "[possible values: resp, http]",
            ),
            (vec!["loadgen", "--pipeline", "0"], "--pipeline"),
            (
                vec!["loadgen", "--hot-share", "101"],
                "'101' is not a percentage",
            ),
            (
                vec!["loadgen", "--hot-share", "NaN"],
                "'NaN' is not a percentage",
            ),
            (vec!["loadgen", "--duration", "0"], "must be more than zero"),
            (vec!["loadgen", "--ratio", "0:0"], "above zero"),
            (vec!["loadgen", "--nonsense"], "--nonsense"),
            (vec!["loadgen", "stray"], "stray"),
        ] {
            let error = Args::try_parse_from(&arguments)
                .expect_err("refused")
                .to_string();
            let line = one_line(&error);
            assert!(line.contains(part), "{arguments:?}: {line}");
            assert!(!line.contains('\n'), "{line}");
            assert!(!line.starts_with("error"), "{line}");
        }
    }

    #[test]
    fn ratios_are_read() {
        let ratio = |sets, gets, increments| {
            Ok(Ratio {
                sets,
                gets,
                increments,
            })
        };
        assert_eq!(Ratio::parse("1:10"), ratio(1, 10, 0));
        assert_eq!(Ratio::parse("0:1"), ratio(0, 1, 0));
        assert_eq!(Ratio::parse("1:2:3"), ratio(1, 2, 3));
        for text in ["", ":", "1", "1:", "-1:2", "1:2:3:4", "0:0", "0:0:0"] {
            assert!(Ratio::parse(text).is_err(), "{text}");
        }
    }
}
