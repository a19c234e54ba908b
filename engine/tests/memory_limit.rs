//! The limit is the process: resident memory stays below it through any mix of sizes, ages and keys.
//!
//! The only test of this binary, since it reads its own process's memory. The long form runs with
//! `cargo test --release -p fulmar-engine --test memory_limit -- --ignored --nocapture`.

use fulmar_engine::{Cache, Config, Eviction, Expiry, Key, KeyHasher, Populate, Time};

const LIMIT_BYTES: usize = 256 << 20;
/// What the process uses beside the cache: its code, as far as it ran already, and the stack.
const SLACK_BYTES: usize = 512 << 10;
/// Less than the limit's reserved part can be seen while a huge page is partly unused.
const HUGE_PAGE_BYTES: usize = 2 << 20;
const KEYS_COUNT: u64 = 6_000_000;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<usize>().expect("a number") * 1024
}

fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

fn range_of(key: &[u8]) -> u16 {
    u16::from_le_bytes([key[0], key[1]]) % 2048
}

/// Sizes from 1 B to 1 MiB. `round` shifts the mix: tiny items alone, then large ones, then all.
fn length(state: &mut u64, round: u64) -> usize {
    let kind = next(state) % 1000;
    let random = usize::try_from(next(state)).expect("64 bits");
    match (round % 3, kind) {
        (0, 0..999) => 1 + random % 16,
        (1, 0..900) => 1000 + random % 4000,
        (_, 0..700) => 1 + random % 100,
        (_, 700..950) => 1 + random % 2000,
        (_, 950..995) => 1 + random % 20_000,
        _ => 1 + random % (1 << 20),
    }
}

/// A key's number. Every other round most calls are about few keys: the share of a number is as the
/// inverse of its rank (Zipf, with an exponent of 1).
#[expect(
    clippy::cast_possible_truncation,
    reason = "below the number of keys, and rounded down"
)]
fn key_number(state: &mut u64, round: u64) -> u64 {
    let random = next(state);
    if round.is_multiple_of(2) {
        return random % KEYS_COUNT;
    }
    let share = random as f64 / f64::from(1u32 << 31);
    (KEYS_COUNT as f64).powf(share) as u64 - 1
}

fn churn(calls_count: u64, eviction: Eviction) {
    let value: Vec<u8> = (0..1 << 20)
        .map(|index: u32| index.to_le_bytes()[0])
        .collect();
    let base = resident_bytes();
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let mut config = Config::new(LIMIT_BYTES, hasher);
    config.ranges_count = 2048;
    config.eviction = eviction;
    config.range_of = range_of;
    let mut cache = Cache::new(config).expect("address space");
    cache.populate_by(Populate::run);
    let populated = resident_bytes() - base;
    assert!(populated > 3 << 20, "{populated} B are resident ahead");
    let (mut state, mut highest, mut now) = (1, 0, 0);
    let rounds = 9;
    for number in 0..calls_count {
        let round = number * rounds / calls_count;
        let bytes = key_number(&mut state, round).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bytes = bytes.to_be_bytes();
        let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
        match next(&mut state) % 10 {
            0 => {
                cache.delete(&key, Time(now));
                continue;
            }
            1 => {
                cache.get(&key, Time(now));
                continue;
            }
            _ => {}
        }
        let len = length(&mut state, round);
        let expiry = match next(&mut state) % 8 {
            0 => Expiry::At(Time(now + 1 + next(&mut state) % 100_000)),
            1 => Expiry::At(Time(now + 1 + next(&mut state) % 500)),
            2 => Expiry::At(Time(now + (1 << 40))),
            3 => Expiry::Keep,
            _ => Expiry::Never,
        };
        let stored = cache.set(&key, &value[..len], expiry, Time(now));
        assert_eq!(stored, Ok(()), "an item of {len} bytes fits");
        assert!(
            cache.peek(&key, Time(now)).is_some(),
            "an item of {len} bytes is kept"
        );
        if number % 1000 < 10 {
            now += 1;
            while cache.advance(Time(now), 100) {}
            if number % 50_000 < 10 {
                let taken = usize::try_from(next(&mut state)).expect("64 bits") % (LIMIT_BYTES / 4);
                cache.set_reserved_bytes(taken);
                while cache.advance(Time(now), 1_000) {}
                let used = resident_bytes() - base;
                assert!(
                    used <= LIMIT_BYTES - taken + HUGE_PAGE_BYTES + SLACK_BYTES,
                    "{used} B with {taken} taken"
                );
                cache.set_reserved_bytes(0);
            }
            let used = resident_bytes() - base;
            highest = highest.max(used);
            assert!(
                used <= LIMIT_BYTES + SLACK_BYTES,
                "{used} B resident in round {round}"
            );
        }
    }
    cache.check_integrity();
    println!(
        "{calls_count} calls, {}: at most {:.2} MiB resident",
        eviction.name(),
        highest as f64 / f64::from(1 << 20)
    );
    println!("{:?}", cache.stats());
}

#[test]
fn resident_memory_stays_below_the_limit() {
    let calls_count = if cfg!(debug_assertions) {
        400_000
    } else {
        600_000
    };
    churn(calls_count, Eviction::Lru);
    churn(calls_count, Eviction::S3Fifo);
}

#[test]
#[ignore = "takes minutes"]
fn resident_memory_stays_below_the_limit_through_a_hundred_million_calls() {
    churn(100_000_000, Eviction::Lru);
    churn(100_000_000, Eviction::S3Fifo);
}
