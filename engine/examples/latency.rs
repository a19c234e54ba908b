//! Nanoseconds per call at a given number of items: a quick look, criterion has the detail.
//!
//! `cargo run --release -p fulmar-engine --example latency -- [ITEMS] [EVICTION]`

use fulmar_engine::{Cache, Config, Eviction, Expiry, Key, KeyHasher, Time};

fn range_of(key: &[u8]) -> u16 {
    u16::from_le_bytes([key[0], key[1]]) % 2048
}

fn key_bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bytes[..8].copy_from_slice(&spread.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// CPU time of this thread: what others run beside it shows only as cache misses.
fn cpu_nanos() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let items = arguments.next().and_then(|text| text.parse::<u64>().ok());
    let items = items.unwrap_or(1_000_000);
    let name = arguments.next();
    let policies = [Eviction::Lru, Eviction::S3Fifo];
    let named = |policy: &Eviction| Some(policy.name()) == name.as_deref();
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let mut config = Config::new(
        (usize::try_from(items).expect("64 bits") * 100).max(64 << 20),
        hasher,
    );
    config.ranges_count = 2048;
    config.eviction = policies.into_iter().find(named).unwrap_or_default();
    config.range_of = range_of;
    let mut cache = Cache::new(config).expect("memory");
    let value = [7u8; 32];
    let mut time = |what: &str, count: u64, call: &mut dyn FnMut(&mut Cache, u64)| {
        let mut state = 1u64;
        let start = cpu_nanos();
        for number in 0..count {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            call(
                &mut cache,
                if what == "fill" {
                    number
                } else {
                    (state >> 33) % items
                },
            );
        }
        let nanos = (cpu_nanos() - start) as f64 / count as f64;
        println!("{what:12} {nanos:7.1} ns/call");
    };
    let rounds = 5_000_000;
    time("fill", items, &mut |cache, number| {
        let bytes = key_bytes(number);
        let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
        cache
            .set(&key, &value, Expiry::Never, Time(0))
            .expect("fits");
    });
    time("hash only", rounds, &mut |_, number| {
        std::hint::black_box(hasher.hash(&key_bytes(number)));
    });
    for _ in 0..2 {
        time("get", rounds, &mut |cache, number| {
            let bytes = key_bytes(number);
            let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
            std::hint::black_box(cache.get(&key, Time(0)).map(|item| item.value().len()));
        });
        time("peek", rounds, &mut |cache, number| {
            let bytes = key_bytes(number);
            let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
            std::hint::black_box(cache.peek(&key, Time(0)).map(|item| item.value().len()));
        });
        time("set", rounds, &mut |cache, number| {
            let bytes = key_bytes(number);
            let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
            cache
                .set(&key, &value, Expiry::Never, Time(0))
                .expect("fits");
        });
    }
    let stats = cache.stats();
    println!(
        "{} items, index {:.2} B/item",
        stats.items,
        stats.index_bytes as f64 / stats.items as f64
    );
}
