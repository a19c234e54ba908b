//! One core's whole work for a command, without a kernel: decode, route, execute, encode.
//!
//! A million items of 16 B keys and 32 B values in one shard; keys are drawn at random, so that
//! nearly every access misses the CPU's caches. Commands come in batches of 16, as from a pipeline;
//! the time is that of one command.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fulmar_cluster::{HomeTable, RANGES_COUNT, Range, ShardIndex};
use fulmar_engine::{Config, KeyHasher, Time};
use fulmar_protocol::command::Command;
use fulmar_protocol::command::table::lookup;
use fulmar_protocol::resp::{Decoded, Decoder, Encoder, RespVersion, Slices};
use fulmar_shard::{Now, Placement, Route, Shard, Single, execute, route};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const KEYS_COUNT: u32 = 1_000_000;
const VALUE: &[u8] = &[b'v'; 32];
const BATCH: usize = 16;
const MEMORY_BYTES_MAX: usize = 512 << 20;

struct Core {
    shard: Shard,
    homes: HomeTable,
    hasher: KeyHasher,
    decoder: Decoder,
    now: Now,
    output: Vec<u8>,
}

impl Core {
    fn new() -> Self {
        let hasher = KeyHasher::new([1, 2, 3, 4]);
        let mut config = Config::new(MEMORY_BYTES_MAX, hasher);
        config.ranges_count = RANGES_COUNT;
        config.range_of = |key| Range::of(key).index();
        let mut core = Self {
            shard: Shard::new(ShardIndex(0), config, 1).expect("the limits are sane"),
            homes: HomeTable::even(1),
            hasher,
            decoder: Decoder::new(1 << 20),
            now: Now {
                time: Time(1),
                unix_ms: 1_700_000_000_000,
            },
            output: Vec::new(),
        };
        for number in 0..KEYS_COUNT {
            core.serve(&encode(&[b"SET", &key(number), VALUE]));
            core.serve(&encode(&[b"SET", &counter(number % 1_000), b"1"]));
        }
        core
    }

    /// Serves all commands in `input`; gives the bytes of the replies.
    fn serve(&mut self, input: &[u8]) -> usize {
        self.output.clear();
        let mut slices = Slices::new();
        let mut at = 0;
        while let Decoded::Command { frame, consumed } =
            self.decoder.decode(&input[at..], &mut slices)
        {
            at += consumed;
            let argv = frame.argv();
            let spec = lookup(argv.args).expect("the command exists");
            let placement = Placement {
                homes: &self.homes,
                hasher: self.hasher,
            };
            let Route::One(_, key) = route(spec, &argv, &placement) else {
                panic!("there is one shard");
            };
            let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
                panic!("the command has the right arguments");
            };
            let mut shards = Single::new(&mut self.shard, Some(key), placement);
            let mut reply = Encoder::new(&mut self.output, RespVersion::Resp2);
            let outcome = execute(&command, &mut shards, &mut [], self.now, &mut reply);
            self.shard.counters.record(spec.id, outcome);
        }
        assert_eq!(at, input.len(), "all commands are complete");
        self.output.len()
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn counter(number: u32) -> Vec<u8> {
    format!("counter:{number}").into_bytes()
}

fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn commands(criterion: &mut Criterion) {
    let mut core = Core::new();
    let mut random = SmallRng::seed_from_u64(7);
    let mut any_key = move || key(random.random_range(0..KEYS_COUNT));
    let mut measure = |name: &str, command: &mut dyn FnMut() -> Vec<u8>| {
        let mut group = criterion.benchmark_group("shard_execute");
        group.throughput(Throughput::Elements(BATCH as u64));
        group
            .measurement_time(Duration::from_secs(3))
            .warm_up_time(Duration::from_secs(1));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (0..BATCH).flat_map(|_| command()).collect::<Vec<u8>>(),
                |input| core.serve(black_box(&input)),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    };
    measure("get_hit", &mut || encode(&[b"GET", &any_key()]));
    measure("get_miss", &mut || encode(&[b"GET", b"key:missing"]));
    measure("set", &mut || encode(&[b"SET", &any_key(), VALUE]));
    let mut counters = SmallRng::seed_from_u64(8);
    measure("incr", &mut || {
        encode(&[b"INCR", &counter(counters.random_range(0..1_000))])
    });
    measure("mget_10", &mut || {
        let keys: Vec<Vec<u8>> = (0..10).map(|_| any_key()).collect();
        let mut args: Vec<&[u8]> = vec![b"MGET"];
        args.extend(keys.iter().map(Vec::as_slice));
        encode(&args)
    });
}

criterion_group!(benches, commands);
criterion_main!(benches);
