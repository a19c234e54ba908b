//! How long the longest calls of the engine take with ten million items: growth, eviction, pages that
//! change hands, expiry, long values, flush.
//!
//! `cargo bench -p fulmar-benches --bench engine_pauses`; it takes 1.5 GiB. CPU time is the thread's own,
//! but in a virtual machine also what the hypervisor took away meanwhile; wall time also has what else the
//! machine did. So the same calls are made twice: what a call takes both times is the engine's, and the longest
//! of that is the column "recurring". "Faulted" is the longest CPU time of a call in which the system made memory
//! resident. The first row is the machine alone: as many calls as items, each as long as one of the engine,
//! without it. Run as a test it uses a thousand items.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use fulmar_benches::{HASHER, VALUE, empty, items_count, key_bytes, key_of, with_key};
use fulmar_engine::{Cache, Config, Expiry, Key, Populate, Time, VALUE_BYTES_MAX};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rustix::time::{ClockId, clock_gettime};

/// The bound that a call's CPU time is to stay below.
const CPU_NS_MAX: u64 = 1_000_000;
/// How often all calls are made.
const ROUNDS: usize = 2;
const LONG_BYTES: usize = 500 << 20;
/// What the server pushes at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Times of one kind of call.
struct Calls {
    name: &'static str,
    cpu_ns: Histogram<u64>,
    wall_ns: Histogram<u64>,
    /// CPU time of those that touched memory which was not resident.
    faulted_ns: Histogram<u64>,
    /// By call: the least CPU time of the rounds so far.
    least_ns: Vec<u32>,
    /// Calls of this round so far.
    count: usize,
}

/// The calls of all kinds, from round to round.
struct Rounds {
    calls: HashMap<&'static str, Calls>,
    is_last: bool,
}

impl Rounds {
    fn begin(&mut self, name: &'static str) -> Calls {
        self.calls.remove(name).unwrap_or_else(|| Calls::new(name))
    }

    fn end(&mut self, mut calls: Calls) {
        if self.is_last {
            return calls.print();
        }
        calls.count = 0;
        self.calls.insert(calls.name, calls);
    }
}

impl Calls {
    fn new(name: &'static str) -> Self {
        let histogram = || Histogram::new(3).expect("3 digits");
        Self {
            name,
            cpu_ns: histogram(),
            wall_ns: histogram(),
            faulted_ns: histogram(),
            least_ns: Vec::new(),
            count: 0,
        }
    }

    fn time<R>(&mut self, call: impl FnOnce() -> R) -> R {
        let faults = faults_count();
        let (cpu, wall) = (cpu_ns(), Instant::now());
        let result = call();
        let (wall, cpu) = (wall.elapsed(), cpu_ns() - cpu);
        self.cpu_ns.record(cpu).expect("it resizes");
        let least = u32::try_from(cpu).unwrap_or(u32::MAX);
        match self.least_ns.get_mut(self.count) {
            Some(before) => *before = least.min(*before),
            None => self.least_ns.push(least),
        }
        self.count += 1;
        if faults_count() > faults {
            self.faulted_ns.record(cpu).expect("it resizes");
        }
        let wall_ns = u64::try_from(wall.as_nanos()).expect("not centuries");
        self.wall_ns.record(wall_ns).expect("it resizes");
        result
    }

    fn print(&self) {
        let micros = |histogram: &Histogram<u64>, quantile| {
            histogram.value_at_quantile(quantile) as f64 / 1000.0
        };
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.1} |{}",
            self.name,
            self.cpu_ns.len(),
            micros(&self.cpu_ns, 0.5),
            micros(&self.cpu_ns, 0.999),
            micros(&self.cpu_ns, 1.0),
            f64::from(self.least_ns.iter().copied().max().unwrap_or(0)) / 1000.0,
            micros(&self.wall_ns, 0.999),
            micros(&self.wall_ns, 1.0),
            self.faulted_ns.len(),
            micros(&self.faulted_ns, 1.0),
            match self.cpu_ns.len() - self.cpu_ns.count_between(0, CPU_NS_MAX) {
                0 => String::new(),
                count => format!(" {count} above 1 ms"),
            }
        );
    }
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).expect("time is positive")
}

/// Page faults of this thread so far.
fn faults_count() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("a thread");
    u64::try_from(usage.minor_page_faults()).expect("a count")
}

/// Has the memory made resident by another thread, as the server does.
fn populate_elsewhere(cache: &mut Cache) {
    let (sender, begun) = mpsc::channel();
    thread::spawn(move || begun.into_iter().for_each(Populate::run));
    cache.populate_by(move |populate| drop(sender.send(populate)));
}

/// How long calls take on this machine that only read memory.
fn on_nothing(rounds: &mut Rounds, calls_count: u64, bytes: usize) {
    const READS: usize = 8;
    let memory: Vec<usize> = (0..bytes / size_of::<usize>()).collect();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut calls = rounds.begin("nothing: 8 reads at random places of 1 GiB");
    for _ in 0..calls_count {
        calls.time(|| {
            let mut at = rng.random_range(0..memory.len());
            for _ in 0..READS {
                at = rng.random_range(0..memory.len()) ^ (memory[at] & 1);
            }
            black_box(memory[at])
        });
    }
    rounds.end(calls);
}

/// Sets new keys, from the number `first` on.
fn set_new(
    calls: &mut Calls,
    cache: &mut Cache,
    first: u64,
    count: u64,
    value: &[u8],
    expiry: Expiry,
) {
    for number in first..first + count {
        let bytes = key_bytes(number);
        let key = key_of(&bytes);
        calls
            .time(|| cache.set(&key, value, expiry, Time(0)))
            .expect("fits");
    }
}

fn on_items(rounds: &mut Rounds, items: u64) {
    // Full when all items are in: what comes then evicts.
    let bytes = usize::try_from(items).expect("64 bits") * 72;
    let mut cache = empty(bytes.max(16 << 20));
    populate_elsewhere(&mut cache);
    let mut rng = SmallRng::seed_from_u64(1);
    let (large, mut next) = (vec![7; 1_000], items);

    let mut calls = rounds.begin("set, new, while the index grows");
    set_new(&mut calls, &mut cache, 0, items, &VALUE, Expiry::Never);
    rounds.end(calls);

    let mut calls = rounds.begin("get");
    for _ in 0..items / 10 {
        let number = rng.random_range(0..items);
        calls.time(|| with_key(number, |key| cache.get(key, Time(0)).is_some()));
    }
    rounds.end(calls);

    let mut calls = rounds.begin("set, new, at the limit");
    set_new(
        &mut calls,
        &mut cache,
        next,
        items / 2,
        &VALUE,
        Expiry::Never,
    );
    next += items / 2;
    rounds.end(calls);

    for (name, value) in [
        ("set, 1,000 B where 32 B were", &large[..]),
        ("set, 32 B where 1,000 B were", &VALUE),
        ("set, 8 B where 32 B were", &VALUE[..8]),
        ("set, 1,000 B where 8 B were", &large),
    ] {
        let count = (bytes / (value.len() + 100)) as u64;
        let mut calls = rounds.begin(name);
        set_new(&mut calls, &mut cache, next, count, value, Expiry::Never);
        next += count;
        rounds.end(calls);
    }

    let mut calls = rounds.begin("set_reserved_bytes, 1 MiB more");
    for mib in 1..=bytes >> 22 {
        calls.time(|| cache.set_reserved_bytes(mib << 20));
    }
    rounds.end(calls);
    cache.set_reserved_bytes(0);

    let mut calls = rounds.begin("set with a deadline");
    let expiry = Expiry::At(Time(1_000));
    set_new(&mut calls, &mut cache, next, items, &VALUE, expiry);
    rounds.end(calls);

    let mut calls = rounds.begin("advance, 128 items");
    while calls.time(|| cache.advance(Time(1_100), 128)) {}
    rounds.end(calls);

    let mut calls = rounds.begin("delete");
    for number in next - items / 20..next {
        calls.time(|| with_key(number, |key| cache.delete(key, Time(0))));
    }
    rounds.end(calls);
}

/// A key for a cache of one range.
fn with_long_key<R>(number: u64, call: impl FnOnce(&Key<'_>) -> R) -> R {
    let bytes = key_bytes(number);
    call(&Key::new(&bytes, 0, HASHER.hash(&bytes)))
}

fn on_long_values(rounds: &mut Rounds, long_bytes: usize) {
    let mut config = Config::new(3 * long_bytes, HASHER);
    config.value_bytes_max = VALUE_BYTES_MAX;
    let mut cache = Cache::new(config).expect("address space");
    populate_elsewhere(&mut cache);
    let piece = vec![7; PIECE_BYTES];
    let mut push = rounds.begin("chain_push, 16 KiB");
    let mut commit = rounds.begin("set_chain over a 500 MiB value");
    for round in 0..6 {
        let mut chain = cache.chain_begin();
        for _ in 0..long_bytes / PIECE_BYTES {
            push.time(|| cache.chain_push(&mut chain, &piece))
                .expect("fits");
        }
        with_long_key(round % 2, |key| {
            commit.time(|| cache.set_chain(key, chain, Expiry::Never, Time(0)))
        })
        .expect("fits");
    }
    rounds.end(push);
    rounds.end(commit);
    let mut rng = SmallRng::seed_from_u64(1);
    let (mut edit, mut append) = (
        rounds.begin("set_range, 100 B in 500 MiB"),
        rounds.begin("append, 100 B to 500 MiB"),
    );
    for round in 0..200 {
        let offset = rng.random_range(0..long_bytes - 100);
        with_long_key(round % 2, |key| {
            edit.time(|| cache.set_range(key, offset, &piece[..100], Time(0)))
                .expect("fits");
            append
                .time(|| cache.append(key, &piece[..100], Time(0)))
                .expect("fits");
        });
    }
    rounds.end(edit);
    rounds.end(append);
    let mut calls = rounds.begin("append, 100 B to what was appended");
    for _ in 0..long_bytes / 5_000 {
        with_long_key(2, |key| {
            calls.time(|| cache.append(key, &piece[..100], Time(0)))
        })
        .expect("fits");
    }
    rounds.end(calls);
    let mut calls = rounds.begin("delete of a 500 MiB value");
    for number in 0..2 {
        calls.time(|| with_long_key(number, |key| cache.delete(key, Time(0))));
    }
    rounds.end(calls);
}

fn on_flush(rounds: &mut Rounds, items: u64) {
    let mut cache = empty(usize::try_from(items).expect("64 bits") * 80);
    let (mut calls, mut after) = (rounds.begin("flush"), rounds.begin("advance after it"));
    for _ in 0..3 {
        for number in 0..items {
            with_key(number, |key| cache.set(key, &VALUE, Expiry::Never, Time(0))).expect("fits");
        }
        calls.time(|| cache.flush());
        while after.time(|| cache.advance(Time(0), 128)) {}
    }
    rounds.end(calls);
    rounds.end(after);
}

fn main() {
    let items = items_count(10_000_000);
    println!("{items} items of 16 B keys; times in us");
    println!(
        "| call | calls | CPU p50 | CPU p99.9 | CPU max | recurring | wall p99.9 | wall max | faulted | CPU max |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut rounds = Rounds {
        calls: HashMap::new(),
        is_last: false,
    };
    for round in 1..=ROUNDS {
        rounds.is_last = round == ROUNDS;
        on_nothing(
            &mut rounds,
            items,
            if items < 10_000 { 1 << 20 } else { 1 << 30 },
        );
        on_items(&mut rounds, items);
        on_flush(&mut rounds, items.max(10_000));
        on_long_values(
            &mut rounds,
            if items < 10_000 { 1 << 20 } else { LONG_BYTES },
        );
    }
}
