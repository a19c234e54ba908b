//! What becomes of the cache when the sizes of what is written change: how many items it holds after
//! one turnover of its memory, against what a cache that never held anything else holds on average, and
//! how far apart the ages of the oldest items of each size are.
//!
//! `cargo bench -p fulmar-benches --bench engine_shift`. Every key is written once and never read, so
//! an item's age is its key's distance from the newest. Run as a test it uses 8 MiB.

use std::time::Instant;

use fulmar_benches::{empty, empty_with, items_count, key_bytes, key_of};
use fulmar_engine::{Cache, Eviction, Expiry, Time};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Lengths of values in bytes, each with its weight.
type Mix = &'static [(usize, u32)];

const SMALL: Mix = &[(100, 1)];
const LARGE: Mix = &[(1_000, 1)];
/// Mostly small, as caches of web applications are.
const BROAD: Mix = &[
    (20, 30),
    (60, 25),
    (150, 20),
    (400, 12),
    (1_200, 8),
    (3_500, 4),
    (20_000, 1),
];
/// The same sizes, mostly large.
const HEAVY: Mix = &[
    (20, 2),
    (60, 4),
    (150, 8),
    (400, 16),
    (1_200, 30),
    (3_500, 30),
    (20_000, 10),
];

/// How often a steady cache's items are counted within a turn.
const SAMPLES: usize = 16;

struct Subject {
    cache: Cache,
    memory_bytes: usize,
    /// Number of the next key.
    next: u64,
    rng: SmallRng,
}

/// What the cache held after a turnover.
struct Outcome {
    items: u64,
    oldest_over_youngest: f64,
    micros_per_set: f64,
    slowest_micros: u128,
}

impl Subject {
    fn new(memory_bytes: usize, eviction: Eviction) -> Self {
        Self {
            cache: empty_with(memory_bytes, eviction),
            memory_bytes,
            next: 0,
            rng: SmallRng::seed_from_u64(1),
        }
    }

    /// Writes items of a mix until their keys and values come to so many turns of the memory.
    fn turn_over(&mut self, mix: Mix, turns: usize) -> Outcome {
        self.write(mix, self.memory_bytes * turns)
    }

    /// Writes items of a mix until their keys and values come to so many bytes.
    fn write(&mut self, mix: Mix, mut bytes_left: usize) -> Outcome {
        let weights: u32 = mix.iter().map(|&(_, weight)| weight).sum();
        let value = vec![7; 20_000];
        let (first, start, mut slowest) = (self.next, Instant::now(), 0);
        while bytes_left > 0 {
            let mut draw = self.rng.random_range(0..weights);
            let fits = |&&(_, weight): &&(usize, u32)| {
                let is_here = draw < weight;
                draw = draw.wrapping_sub(weight);
                is_here
            };
            let (len, _) = { mix.iter() }.find(fits).expect("below the sum of weights");
            let bytes = key_bytes(self.next);
            let before = Instant::now();
            let stored =
                { &mut self.cache }.set(&key_of(&bytes), &value[..*len], Expiry::Never, Time(0));
            slowest = slowest.max(before.elapsed().as_micros());
            stored.expect("fits");
            self.next += 1;
            bytes_left = bytes_left.saturating_sub(bytes.len() + len);
        }
        let sets = self.next - first;
        Outcome {
            items: self.cache.stats().items,
            oldest_over_youngest: self.spread(mix),
            micros_per_set: start.elapsed().as_secs_f64() * 1e6 / sets as f64,
            slowest_micros: slowest,
        }
    }

    /// How many items are held on average over a turn, when nothing but this mix was ever written; the least
    /// and the most beside it. A page that the smallest sizes have more is already two items in a hundred.
    fn steady(&mut self, mix: Mix) -> (u64, u64, u64) {
        self.turn_over(mix, 3);
        let samples = [(); SAMPLES].map(|()| self.write(mix, self.memory_bytes / SAMPLES).items);
        let least = samples.into_iter().min().expect("samples");
        let most = samples.into_iter().max().expect("samples");
        (samples.iter().sum::<u64>() / SAMPLES as u64, least, most)
    }

    /// The age of the oldest items of the size whose oldest are oldest, over that of the size whose
    /// oldest are youngest. One item in a hundred may be older: S3-FIFO takes some for others that were
    /// there before, and keeps them.
    fn spread(&self, mix: Mix) -> f64 {
        let mut ages = vec![Vec::new(); mix.len()];
        let mut cursor = 0;
        loop {
            cursor = self.cache.scan(cursor, 1_000, Time(0), &mut |item| {
                let number = u64::from_le_bytes(item.key()[8..16].try_into().expect("8 bytes"));
                let len = item.value().len();
                if let Some(size) = mix.iter().position(|&(of_mix, _)| of_mix == len) {
                    ages[size].push(self.next - number);
                }
            });
            if cursor == 0 {
                break;
            }
        }
        let oldest = ages.iter_mut().map(|ages| {
            ages.sort_unstable();
            let place = ages.len() * 99 / 100;
            ages.get(place).copied().unwrap_or_default() as f64
        });
        let (least, most) = oldest.fold((f64::MAX, 0.0), |(least, most), age| {
            (f64::min(least, age), f64::max(most, age))
        });
        most / least
    }
}

/// The share of the pages in use that is neither key, value nor a header of 12 B, with lengths of
/// values as in web caches: log-normal, half of them below 300 B, one in a hundred above 4,900.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths are small and positive"
)]
fn waste(memory_bytes: usize) -> f64 {
    let mut cache = empty(memory_bytes);
    let mut rng = SmallRng::seed_from_u64(1);
    let value = vec![7; 64 << 10];
    for number in 0..memory_bytes as u64 / 400 {
        // The sum of twelve uniform numbers is nearly normal, with a deviation of one.
        let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let length = (300.0 * (1.2 * normal).exp()) as usize;
        let length = length.min(value.len());
        let bytes = key_bytes(number);
        cache
            .set(&key_of(&bytes), &value[..length], Expiry::Never, Time(0))
            .expect("fits");
    }
    let stats = cache.stats();
    let used = stats.key_bytes + stats.value_bytes + 12 * stats.items;
    1.0 - used as f64 / (stats.pages_in_use * 65_536) as f64
}

fn shift(memory_bytes: usize, eviction: Eviction) {
    println!(
        "| {} | turns | items | of fresh | ages, max/min | us per set | slowest, us |",
        eviction.name()
    );
    println!("|---|---|---|---|---|---|---|");
    for [from, to] in [
        [("100 B", SMALL), ("1,000 B", LARGE)],
        [("broad", BROAD), ("heavy", HEAVY)],
    ] {
        let subject = || Subject::new(memory_bytes, eviction);
        let fresh = [from, to].map(|(name, mix)| {
            let (mean, least, most) = subject().steady(mix);
            let percent = |items: u64| items as f64 * 100.0 / mean as f64;
            println!(
                "| {name}, fresh | 3 to 4 | {mean} | {:.1} to {:.1} % | | | |",
                percent(least),
                percent(most)
            );
            mean
        });
        let mut subject = subject();
        for (turns, (name, mix), fresh) in [
            (3, from, fresh[0]),
            (1, to, fresh[1]),
            (1, to, fresh[1]),
            (1, from, fresh[0]),
            (1, from, fresh[0]),
        ] {
            let outcome = subject.turn_over(mix, turns);
            println!(
                "| {name} | {turns} | {} | {:.1} % | {:.2} | {:.2} | {} |",
                outcome.items,
                outcome.items as f64 * 100.0 / fresh as f64,
                outcome.oldest_over_youngest,
                outcome.micros_per_set,
                outcome.slowest_micros
            );
        }
    }
}

fn main() {
    let memory_bytes = usize::try_from(items_count(256 << 20))
        .expect("64 bits")
        .max(8 << 20);
    println!(
        "{} MiB; fresh: the mean over the fourth turn of the memory with nothing else",
        memory_bytes >> 20
    );
    for eviction in [Eviction::Lru, Eviction::S3Fifo] {
        shift(memory_bytes, eviction);
    }
    println!(
        "waste with log-normal lengths: {:.1} %",
        waste(memory_bytes) * 100.0
    );
}
