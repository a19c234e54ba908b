//! A run, decided: what the flags mean together, checked before anything is opened.

use crate::args::{Args, Ratio};
use crate::units::nanos;
use crate::wire::{Operation, Requests, Ttl};
use crate::workload::{KEY_BYTES_MAX, KeyChooser, KeyFormat, Rate, Values};
use rand::Rng;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a run lasts when neither --duration nor --requests says.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// Requests in flight per connection while prefilling, unless --pipeline is deeper.
const PREFILL_PIPELINE: usize = 16;

/// Everything the threads need to know; shared and never changed.
#[derive(Debug)]
pub(crate) struct Config {
    /// What the target is called: as given, or its addresses.
    pub(crate) name: String,
    /// HOST:PORT as given, or several with commas.
    pub(crate) target: String,
    /// Connections over all threads.
    pub(crate) connections: usize,
    /// Threads, at most one per connection.
    pub(crate) threads: usize,
    /// Requests in flight per connection.
    pub(crate) pipeline: usize,
    /// Requests in flight per connection while prefilling.
    pub(crate) prefill_pipeline: usize,
    /// The open loop's rate; `None` is a closed loop.
    pub(crate) rate: Option<Rate>,
    /// Measured time in nanoseconds; `None`: until `requests` are done.
    pub(crate) duration_ns: Option<u64>,
    /// Measured requests; `None`: as many as `duration_ns` allows.
    pub(crate) requests: Option<u64>,
    /// Time before measuring, in nanoseconds.
    pub(crate) warmup_ns: u64,
    /// How long a connection may owe replies without sending a byte, in nanoseconds.
    pub(crate) timeout_ns: u64,
    /// How long after the end late requests may be sent, in nanoseconds.
    pub(crate) grace_ns: u64,
    /// Distinct keys.
    pub(crate) keys: u64,
    /// Whether every key is written first.
    pub(crate) prefill: bool,
    /// Whether values of replies are checked.
    pub(crate) verify: bool,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Draws keys.
    pub(crate) key_chooser: KeyChooser,
    /// Draws operations.
    pub(crate) operations: OperationChooser,
    /// Knows every key's value.
    pub(crate) values: Values,
    /// Encodes requests.
    pub(crate) request_encoder: Requests,
    /// Whether progress is printed without a terminal too.
    pub(crate) progress: bool,
}

impl Config {
    /// Checks the flags against each other; one for each target. The error is one line for the user.
    pub(crate) fn each(args: &Args) -> Result<Vec<Self>, String> {
        let several = args.targets.len() > 1;
        if several && args.hdr.is_some() {
            return Err("--hdr takes one --target".to_owned());
        }
        let each = args.targets.iter();
        let configs: Vec<Self> = each
            .map(|target| Self::new(args.clone(), target))
            .collect::<Result<_, _>>()?;
        let names: BTreeSet<&str> = configs.iter().map(|config| config.name.as_str()).collect();
        if names.len() < configs.len() {
            return Err("each --target needs a name of its own: NAME=HOST:PORT".to_owned());
        }
        Ok(configs)
    }

    /// As [`each`](Self::each), of one target.
    fn new(args: Args, target: &str) -> Result<Self, String> {
        let (name, target) = target.split_once('=').unwrap_or((target, target));
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(format!("--target '{name}={target}' has no name before '='"));
        }
        target.split(',').try_for_each(check_target)?;
        if args.hot_keys > args.keys {
            return Err(format!(
                "--hot-keys {} is more than --keys {}",
                args.hot_keys, args.keys
            ));
        }
        if args.threads > args.connections {
            return Err(format!(
                "--threads {} is more than --connections {}",
                args.threads, args.connections
            ));
        }
        if args.key_size > KEY_BYTES_MAX {
            return Err(format!("--key-size is at most {KEY_BYTES_MAX} bytes"));
        }
        let key_bytes = usize::try_from(args.key_size).expect("checked against KEY_BYTES_MAX");
        let key_format = KeyFormat::new(key_bytes, args.keys)?;
        let ttl = args.ttl.map(Ttl::new).transpose()?;
        let duration = match (args.duration, args.requests) {
            (None, None) => Some(DURATION_DEFAULT),
            (duration, _) => duration,
        };
        let pipeline = to_usize(args.pipeline);
        let first_target = target.split(',').next().unwrap_or_default();
        Ok(Self {
            connections: to_usize(args.connections),
            threads: to_usize(args.threads),
            pipeline,
            prefill_pipeline: pipeline.max(PREFILL_PIPELINE),
            rate: args.rate.0,
            duration_ns: duration.map(nanos),
            requests: args.requests,
            warmup_ns: nanos(args.warmup),
            timeout_ns: nanos(args.timeout),
            grace_ns: nanos(args.grace),
            keys: args.keys,
            prefill: args.prefill,
            verify: args.verify,
            seed: args.seed,
            key_chooser: KeyChooser::new(args.keys, args.distribution, args.seed).with_hot(
                args.hot_keys,
                args.hot_share,
                args.hot_shift.map(nanos),
            ),
            operations: OperationChooser::new(args.ratio),
            values: Values::new(args.value_size, args.seed),
            request_encoder: Requests::new(args.protocol, first_target, key_format, ttl),
            name: name.to_owned(),
            target: target.to_owned(),
            progress: args.progress,
        })
    }

    /// Each HOST:PORT.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &str> {
        self.target.split(',')
    }

    /// Open loop: requests that are sent before measuring begins.
    pub(crate) fn warmup_requests(&self, rate: Rate) -> u64 {
        rate.count_before(self.warmup_ns)
    }

    /// Open loop: all requests, those of the warm-up included.
    pub(crate) fn requests_limit(&self, rate: Rate) -> u64 {
        let by_time = self.duration_ns.map_or(u64::MAX, |duration_ns| {
            rate.count_before(self.warmup_ns.saturating_add(duration_ns))
        });
        let by_count = self.requests.map_or(u64::MAX, |requests| {
            self.warmup_requests(rate).saturating_add(requests)
        });
        by_time.min(by_count)
    }

    /// When the last request is due or the last may be sent, in nanoseconds after the start;
    /// `None` when only a count ends the run.
    pub(crate) fn end_ns(&self) -> Option<u64> {
        let by_time = self
            .duration_ns
            .map(|duration_ns| self.warmup_ns.saturating_add(duration_ns));
        let by_count = self.rate.map(|rate| rate.due_ns(self.requests_limit(rate)));
        match (by_time, by_count) {
            (Some(time), Some(count)) => Some(time.min(count)),
            (time, count) => time.or(count),
        }
    }
}

/// Draws whether a request reads or writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OperationChooser {
    /// No draw needed.
    Always(Operation),
    /// A write when 32 random bits are below this.
    Mixed { set_below: u32 },
}

impl OperationChooser {
    fn new(ratio: Ratio) -> Self {
        let parts = u64::from(ratio.sets) + u64::from(ratio.gets);
        match (ratio.sets, ratio.gets) {
            (0, _) => Self::Always(Operation::Get),
            (_, 0) => Self::Always(Operation::Set),
            (sets, _) => {
                let bound = (u64::from(sets) << 32) / parts;
                Self::Mixed {
                    set_below: u32::try_from(bound).expect("gets are not zero"),
                }
            }
        }
    }

    /// Draws the operation of one request.
    pub(crate) fn choose(self, rng: &mut impl Rng) -> Operation {
        match self {
            Self::Always(operation) => operation,
            Self::Mixed { set_below } if rng.random::<u32>() < set_below => Operation::Set,
            Self::Mixed { .. } => Operation::Get,
        }
    }
}

fn check_target(target: &str) -> Result<(), String> {
    let message = || format!("--target '{target}' is not HOST:PORT");
    let (host, port) = target.rsplit_once(':').ok_or_else(message)?;
    let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic());
    let port: u16 = port.parse().map_err(|_| message())?;
    if host.is_empty() || port == 0 || !is_plain {
        return Err(message());
    }
    Ok(())
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).expect("usize has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::{Config, OperationChooser};
    use crate::args::{Args, Ratio};
    use crate::wire::Operation;
    use clap::Parser;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn config(flags: &str) -> Result<Config, String> {
        let mut all = configs(flags)?;
        Ok(all.remove(0))
    }

    fn configs(flags: &str) -> Result<Vec<Config>, String> {
        let arguments = std::iter::once("loadgen").chain(flags.split_whitespace());
        Config::each(&Args::try_parse_from(arguments).expect("readable flags"))
    }

    #[test]
    fn targets_have_names() {
        let all = configs("--target a=h:1,h:2 --target h:3").expect("valid");
        let named: Vec<_> = all.iter().map(|one| (&*one.name, &*one.target)).collect();
        assert_eq!(named, [("a", "h:1,h:2"), ("h:3", "h:3")]);
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for flags in [
            "--threads 4 --connections 2",
            "--target localhost",
            "--target host:1,",
            "--target host:1,host",
            "--hot-keys 11 --keys 10",
            "--target :6379",
            "--target host:0",
            "--target host:99999",
            "--key-size 5 --keys 1000000",
            "--key-size 16KiB",
            "--target =host:1",
            "--target host:1 --target host:1",
            "--target a=host:1 --target a=host:2",
            "--target host:1 --target host:2 --hdr log",
        ] {
            assert!(config(flags).is_err(), "{flags}");
        }
    }

    #[test]
    fn a_run_lasts_ten_seconds_unless_told() {
        assert_eq!(config("").expect("valid").end_ns(), Some(10_000_000_000));
        assert_eq!(config("--requests 5").expect("valid").end_ns(), None);
        assert_eq!(
            config("--requests 5 -d 1").expect("valid").end_ns(),
            Some(1_000_000_000)
        );
    }

    #[test]
    fn an_open_loop_knows_its_number_of_requests() {
        let count = |flags: &str| {
            let config = config(flags).expect("valid");
            config.requests_limit(config.rate.expect("open loop"))
        };
        assert_eq!(count("--rate 1000 --duration 2"), 2_000);
        assert_eq!(count("--rate 1000 --duration 2 --warmup 1"), 3_000);
        assert_eq!(count("--rate 1000 --requests 77"), 77);
        assert_eq!(count("--rate 1000 --requests 77 --warmup 0.5"), 577);
        assert_eq!(count("--rate 1000 --requests 77 --duration 0.01"), 10);
        assert_eq!(count("--rate 3 --duration 1"), 3);
        assert_eq!(count("--rate 0.5 --duration 3"), 2);
    }

    #[test]
    fn operations_come_in_their_ratio() {
        let chooser = OperationChooser::new(Ratio { sets: 1, gets: 9 });
        let mut rng = SmallRng::seed_from_u64(1);
        let sets = (0..100_000)
            .filter(|_| chooser.choose(&mut rng) == Operation::Set)
            .count();
        assert!((9_600..10_400).contains(&sets), "{sets}");
        let only = OperationChooser::new(Ratio {
            sets: u32::MAX,
            gets: 0,
        });
        assert!((0..1_000).all(|_| only.choose(&mut rng) == Operation::Set));
    }
}
