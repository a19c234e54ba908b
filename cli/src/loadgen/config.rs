//! A run, decided: what the flags mean together, checked before anything is opened.

use crate::args::{Args, Ratio};
use crate::units::nanos;
use crate::wire::{Operation, Protocol, Requests, Ttl};
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
    /// If the load goes through the client library: how.
    pub(crate) library: Option<Library>,
    /// Whether there are plots, for which each second is kept.
    pub(crate) plots: bool,
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
        if args.cluster && args.protocol == Protocol::Http {
            return Err("--cluster speaks RESP".to_owned());
        }
        if !args.cluster && (args.batch.is_some() || args.counter_parts > 1) {
            return Err("--batch and --counter-parts need --cluster".to_owned());
        }
        if args.ratio.increments > 0 && args.protocol == Protocol::Http {
            return Err("--protocol http has no increments".to_owned());
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
            library: args.cluster.then_some(Library {
                ttl: args.ttl,
                batch_window: args.batch,
                counter_parts: to_usize(args.counter_parts),
            }),
            name: name.to_owned(),
            target: target.to_owned(),
            plots: args.html.is_some(),
            progress: args.progress,
        })
    }

    /// Connections of a thread, or with the client library its callers.
    pub(crate) fn share_of(&self, thread: usize) -> usize {
        self.connections / self.threads + usize::from(thread < self.connections % self.threads)
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

/// What the client library is to do with the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    /// Time to live of what is written.
    pub(crate) ttl: Option<Duration>,
    /// Writes are gathered for so long.
    pub(crate) batch_window: Option<Duration>,
    /// Keys over which a counter is split.
    pub(crate) counter_parts: usize,
}

/// Draws whether a request reads, writes or increments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperationChooser {
    /// Of 32 random bits: below this it is a write,
    set_below: u64,
    /// and below this a read.
    get_below: u64,
}

impl OperationChooser {
    fn new(ratio: Ratio) -> Self {
        let [sets, gets, increments] = [ratio.sets, ratio.gets, ratio.increments].map(u64::from);
        let parts = sets + gets + increments;
        let bound = |part: u64| (part << 32) / parts;
        Self {
            set_below: bound(sets),
            get_below: bound(sets + gets),
        }
    }

    /// Draws the operation of one request.
    pub(crate) fn choose(self, rng: &mut impl Rng) -> Operation {
        match u64::from(rng.random::<u32>()) {
            drawn if drawn < self.set_below => Operation::Set,
            drawn if drawn < self.get_below => Operation::Get,
            _ => Operation::Incr,
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
            "--protocol http --ratio 0:0:1",
            "--protocol http --cluster",
            "--batch 75ms",
            "--counter-parts 10",
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
        let chooser = |sets, gets, increments| {
            OperationChooser::new(Ratio {
                sets,
                gets,
                increments,
            })
        };
        let mut rng = SmallRng::seed_from_u64(1);
        let mixed = chooser(1, 7, 2);
        let drawn: Vec<Operation> = (0..100_000).map(|_| mixed.choose(&mut rng)).collect();
        let count = |operation| drawn.iter().filter(|&&one| one == operation).count();
        assert!((9_600..10_400).contains(&count(Operation::Set)));
        assert!((19_600..20_400).contains(&count(Operation::Incr)));
        let most = u32::MAX;
        for (only, operation) in [
            (chooser(most, 0, 0), Operation::Set),
            (chooser(0, most, 0), Operation::Get),
            (chooser(0, 0, most), Operation::Incr),
        ] {
            assert!((0..1_000).all(|_| only.choose(&mut rng) == operation));
        }
    }
}
