//! What share of requests finds its item, under each policy of eviction and several kinds of traffic.
//!
//! `cargo bench -p fulmar-benches --bench engine_hit_ratio`. A request that misses writes its item,
//! as a client would; the first quarter of them is not counted. Run as a test it uses 2 MiB.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fulmar_benches::{VALUE, empty_with, items_count, with_key};
use fulmar_engine::{Eviction, Expiry, Time};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Requests for each item that the cache has room for.
const TURNS: usize = 20;
/// Keys from here on are asked for by scans alone.
const SCANNED: u64 = 1 << 40;
const POLICIES: [Eviction; 2] = [Eviction::Lru, Eviction::S3Fifo];

/// Numbers below a count, the smaller the likelier: number n by (n + 1) to the power of -exponent.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weight = |number| (number as f64).powf(-exponent);
        let sums = (1..=count)
            .map(|number| {
                sum += weight(number);
                sum
            })
            .collect();
        Self { sums }
    }

    fn draw(&self, rng: &mut SmallRng) -> u64 {
        let all = self.sums.last().expect("not empty");
        let drawn = rng.random::<f64>() * all;
        self.sums.partition_point(|&sum| sum < drawn) as u64
    }
}

/// A kind of traffic.
#[derive(Clone, Copy)]
enum Traffic {
    /// Keys of fixed popularity.
    Zipf(f64),
    /// Beside them, this share of all requests goes through keys one after the other: through as many
    /// as so many caches hold, over and over, or never the same again.
    Scanned {
        exponent: f64,
        share: f64,
        caches: Option<usize>,
    },
    /// The most popular keys fade and others take their place: all that is popular within so many
    /// requests for each item that the cache has room for.
    Drifting { exponent: f64, turns: f64 },
    /// Every so many such requests, all at once, the popularity moves on by a tenth of the keys.
    Jumping { exponent: f64, turns: f64 },
    /// Keys are asked for four times and never again, on average so many such requests apart.
    Fading { turns: f64 },
}

impl Traffic {
    fn name(self) -> String {
        match self {
            Self::Zipf(exponent) => format!("zipf {exponent}"),
            Self::Scanned {
                exponent,
                share,
                caches,
            } => {
                let again = caches.map_or_else(
                    || "new keys".into(),
                    |caches| format!("{caches} caches long"),
                );
                format!("zipf {exponent}, {:.0} % scans, {again}", share * 100.0)
            }
            Self::Drifting { exponent, turns } => {
                format!("zipf {exponent}, drifts in {turns} turns")
            }
            Self::Jumping { exponent, turns } => {
                format!("zipf {exponent}, jumps each {turns} turns")
            }
            Self::Fading { turns } => format!("four uses each, {turns} turns apart"),
        }
    }

    /// Numbers of the keys asked for.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are positive and small"
    )]
    fn requests(self, held: usize, keys_count: usize, count: usize) -> Vec<u64> {
        let mut rng = SmallRng::seed_from_u64(1);
        let zipf = |exponent| Zipf::new(keys_count, exponent);
        let per_turn = held as f64;
        match self {
            Self::Zipf(exponent) => {
                let zipf = zipf(exponent);
                (0..count).map(|_| zipf.draw(&mut rng)).collect()
            }
            Self::Scanned {
                exponent,
                share,
                caches,
            } => {
                let zipf = zipf(exponent);
                let length = caches.map_or(u64::MAX, |caches| (held * caches) as u64);
                // Scans come in bursts of a fifth of a cache.
                let burst = (held / 5).max(1);
                let period = (burst as f64 / share) as usize;
                let mut scanned = 0;
                let next = |at: usize| {
                    if at % period >= burst {
                        return zipf.draw(&mut rng);
                    }
                    scanned += 1;
                    SCANNED + scanned % length
                };
                (0..count).map(next).collect()
            }
            Self::Drifting { exponent, turns } => {
                let zipf = zipf(exponent);
                // The most popular key fades as slowly as the others: what moves is a part of them.
                let passed = |at: usize| (at as f64 / per_turn / turns * held as f64) as u64;
                (0..count)
                    .map(|at| zipf.draw(&mut rng) + passed(at))
                    .collect()
            }
            Self::Jumping { exponent, turns } => {
                let zipf = zipf(exponent);
                let passed =
                    |at: usize| (at as f64 / per_turn / turns) as u64 * (keys_count as u64 / 10);
                (0..count)
                    .map(|at| zipf.draw(&mut rng) + passed(at))
                    .collect()
            }
            Self::Fading { turns } => {
                let mean = turns * per_turn;
                let mut waiting = BinaryHeap::new();
                let mut next_key = 0;
                let next = |at: usize| {
                    let is_due = |due: &Reverse<(u64, u64, u32)>| due.0.0 <= at as u64;
                    let (key, left) = if waiting.peek().is_some_and(is_due) {
                        let Reverse((_, key, left)) = waiting.pop().expect("was there");
                        (key, left)
                    } else {
                        next_key += 1;
                        (next_key, 4)
                    };
                    if left > 1 {
                        let wait = -(1.0 - rng.random::<f64>()).ln() * mean;
                        waiting.push(Reverse((at as u64 + wait as u64, key, left - 1)));
                    }
                    key
                };
                (0..count).map(next).collect()
            }
        }
    }
}

/// Which length a key's value has.
#[derive(Clone, Copy)]
enum Lengths {
    Fixed,
    /// From 20 B to 3,500 B whatever the popularity; what scans ask for has 1,200 B.
    Mixed,
}

impl Lengths {
    fn of(self, key: u64) -> usize {
        const MIXED: [usize; 8] = [20, 20, 60, 60, 150, 150, 400, 3_500];
        match self {
            Self::Fixed => VALUE.len(),
            Self::Mixed if key >= SCANNED => 1_200,
            Self::Mixed => MIXED[(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as usize],
        }
    }
}

/// What is asked of a cache.
#[derive(Clone, Copy)]
struct Setting {
    title: &'static str,
    lengths: Lengths,
    /// About what an item takes.
    item_bytes: usize,
    /// Popular keys for each item that the cache has room for.
    keys_per_item: usize,
}

const SETTINGS: [Setting; 3] = [
    Setting {
        title: "32 B, a tenth fits",
        lengths: Lengths::Fixed,
        item_bytes: 72,
        keys_per_item: 10,
    },
    Setting {
        title: "32 B, a fiftieth fits",
        lengths: Lengths::Fixed,
        item_bytes: 72,
        keys_per_item: 50,
    },
    Setting {
        title: "20 B to 3,500 B, a tenth fits",
        lengths: Lengths::Mixed,
        item_bytes: 600,
        keys_per_item: 10,
    },
];

/// The share of requests that found their item, in percent.
fn hit_ratio(eviction: Eviction, memory_bytes: usize, requests: &[u64], lengths: Lengths) -> f64 {
    let mut cache = empty_with(memory_bytes, eviction);
    let value = [7; 3_500];
    let warm_up = requests.len() / 4;
    for (at, &number) in requests.iter().enumerate() {
        if at == warm_up {
            cache.reset_stats();
        }
        with_key(number, |key| {
            if cache.get(key, Time(0)).is_none() {
                let value = &value[..lengths.of(number)];
                cache.set(key, value, Expiry::Never, Time(0)).expect("fits");
            }
        });
    }
    let stats = cache.stats();
    stats.hits as f64 * 100.0 / (stats.hits + stats.misses) as f64
}

fn main() {
    let scans = |exponent, share, caches| Traffic::Scanned {
        exponent,
        share,
        caches,
    };
    let drifts = |exponent, turns| Traffic::Drifting { exponent, turns };
    let jumps = |exponent, turns| Traffic::Jumping { exponent, turns };
    let traffic = [
        Traffic::Zipf(0.7),
        Traffic::Zipf(0.9),
        Traffic::Zipf(1.0),
        Traffic::Zipf(1.2),
        scans(0.9, 0.2, None),
        scans(0.9, 0.5, None),
        scans(0.9, 0.3, Some(2)),
        scans(1.0, 0.3, Some(20)),
        drifts(1.0, 50.0),
        drifts(0.9, 10.0),
        jumps(1.0, 5.0),
        Traffic::Fading { turns: 0.1 },
        Traffic::Fading { turns: 0.4 },
        Traffic::Fading { turns: 1.2 },
    ];
    let memory_bytes = usize::try_from(items_count(16 << 20)).expect("64 bits");
    let memory_bytes = memory_bytes.max(2 << 20);
    println!(
        "{} MiB, hits in percent: {} / {}",
        memory_bytes >> 20,
        POLICIES[0].name(),
        POLICIES[1].name()
    );
    let titles = SETTINGS.map(|setting| setting.title).join(" | ");
    println!("| traffic | {titles} |\n|---|---|---|---|");
    for traffic in traffic {
        let cells = SETTINGS.map(|setting| {
            let held = memory_bytes / setting.item_bytes;
            let count = usize::try_from(items_count((held * TURNS) as u64)).expect("64 bits");
            let requests = traffic.requests(held, held * setting.keys_per_item, count);
            let ratio = |policy| hit_ratio(policy, memory_bytes, &requests, setting.lengths);
            let [lru, s3_fifo] = POLICIES.map(ratio);
            format!("{lru:.1} / {s3_fifo:.1}")
        });
        println!("| {} | {} |", traffic.name(), cells.join(" | "));
    }
}
