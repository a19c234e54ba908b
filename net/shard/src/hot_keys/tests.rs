//! Detection against the truth, in virtual time.

use std::collections::BTreeSet;

use fulmar_engine::{Key, KeyHasher, Time};

use super::{CANDIDATES_MAX, COOL_MS, HOT_KEY_BYTES_MAX, HotKeys, STEP_MS, Use};

const HASHER: KeyHasher = KeyHasher::new([1, 2, 3, 4]);
const TICK_MS: u64 = 100;

/// A stream of accesses: each tick so many, of keys that `next` numbers.
struct Stream {
    keys: HotKeys,
    now: Time,
    random: u64,
}

impl Stream {
    fn new(per_second: u32) -> Self {
        Self {
            keys: HotKeys::new(per_second, 7),
            now: Time(1_000),
            random: 99,
        }
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn note(&mut self, how: Use, key: &[u8]) {
        self.keys.note(how, &Key::new(key, 0, HASHER.hash(key)));
    }

    /// `per_second` accesses for so long, each of what `next` makes of a random number.
    fn run(&mut self, ms: u64, per_second: u64, next: impl Fn(u64) -> (Use, u64)) {
        for _ in 0..ms / TICK_MS {
            for _ in 0..per_second * TICK_MS / 1_000 {
                let (how, number) = next(self.random());
                self.note(how, &number.to_le_bytes());
            }
            self.now.0 += TICK_MS;
            self.keys.advance(self.now);
        }
    }

    fn hot(&self) -> BTreeSet<u64> {
        let numbers = self.keys.hot().map(|one| {
            let bytes = one.key[..].try_into().expect("a number");
            u64::from_le_bytes(bytes)
        });
        numbers.collect()
    }
}

/// Of a thousand accesses so many are of key 0, the others of a million keys.
fn share(permille: u64) -> impl Fn(u64) -> (Use, u64) {
    move |random| {
        let is_it = random % 1_000 < permille;
        (
            Use::Read,
            if is_it {
                0
            } else {
                1 + (random >> 20) % 1_000_000
            },
        )
    }
}

#[test]
fn a_key_that_becomes_hot_is_found_within_two_seconds_and_its_rate_is_right() {
    let mut stream = Stream::new(1_000);
    stream.run(5_000, 100_000, share(0));
    assert!(stream.hot().is_empty());
    stream.run(2_000, 100_000, share(900));
    assert_eq!(stream.hot(), BTreeSet::from([0]));
    let hot = stream.keys.hot().next().expect("one");
    assert!((85_000..95_000).contains(&hot.reads_per_second), "{hot:?}");
    assert_eq!(hot.writes_per_second, 0);
}

#[test]
fn reads_and_writes_are_told_apart() {
    let mut stream = Stream::new(1_000);
    stream.run(6_000, 10_000, |random| {
        let how = if random.is_multiple_of(4) {
            Use::Write
        } else {
            Use::Read
        };
        (how, 0)
    });
    let hot = stream.keys.hot().next().expect("one");
    assert!((7_000..8_000).contains(&hot.reads_per_second), "{hot:?}");
    assert!((2_000..3_000).contains(&hot.writes_per_second), "{hot:?}");
}

#[test]
fn it_cools_after_a_while_and_is_forgotten() {
    let mut stream = Stream::new(1_000);
    stream.run(3_000, 100_000, share(500));
    assert_eq!(stream.hot().len(), 1);
    stream.run(COOL_MS - STEP_MS, 100_000, share(0));
    assert_eq!(stream.hot().len(), 1, "not yet");
    stream.run(3 * STEP_MS, 100_000, share(0));
    assert!(stream.hot().is_empty());
    stream.run(10_000, 100_000, share(0));
    assert!(stream.keys.candidates.is_empty());
}

/// Ten minutes around the threshold: hot once, or never.
#[test]
fn a_rate_at_the_threshold_does_not_flap() {
    let mut stream = Stream::new(1_000);
    let (mut changes, mut was_hot) = (0, false);
    for round in 0..600 {
        // 800 to 1,200 a second.
        let permille = [8, 12, 10, 11, 9][round % 5];
        stream.run(1_000, 100_000, share(permille));
        let is_hot = !stream.hot().is_empty();
        changes += u32::from(is_hot != was_hot);
        was_hot = is_hot;
    }
    assert!(changes <= 1, "{changes} changes");
}

/// Zipf: the exponents that caches see. Keys well above the threshold are found, those well below are not.
#[test]
fn precision_and_recall_on_zipf() {
    for (exponent, per_second) in [(0.9, 200_000), (1.0, 200_000), (1.2, 100_000)] {
        const KEYS: usize = 100_000;
        let weights: Vec<f64> = (1..=KEYS)
            .map(|rank| (rank as f64).powf(-exponent))
            .collect();
        let sum: f64 = weights.iter().sum();
        let mut bounds = Vec::with_capacity(KEYS);
        let mut total = 0.0;
        for weight in &weights {
            total += weight / sum;
            bounds.push(total);
        }
        let mut stream = Stream::new(1_000);
        stream.run(10_000, per_second, |random| {
            let at = (random >> 11) as f64 / (1u64 << 53) as f64;
            (
                Use::Read,
                bounds.partition_point(|&bound| bound < at) as u64,
            )
        });
        let rate = |rank: &u64| {
            let weight = weights[usize::try_from(*rank).expect("a rank")];
            weight / sum * per_second as f64
        };
        let above = |least: f64| -> BTreeSet<u64> {
            (0..KEYS as u64)
                .filter(|rank| rate(rank) >= least)
                .collect()
        };
        let (hot, wanted) = (stream.hot(), above(1_000.0));
        let found = wanted.intersection(&hot).count();
        println!(
            "zipf {exponent}: {} hot, {} found of {}",
            hot.len(),
            found,
            wanted.len()
        );
        assert!(wanted.len() <= CANDIDATES_MAX);
        assert!(above(1_300.0).is_subset(&hot), "{exponent}: {hot:?}");
        assert!(hot.is_subset(&above(700.0)), "{exponent}: {hot:?}");
    }
}

#[test]
fn more_hot_keys_than_candidates_and_long_keys_do_no_harm() {
    let mut stream = Stream::new(1_000);
    stream.run(5_000, 1_000_000, |random| (Use::Read, random % 200));
    assert!(stream.keys.candidates.len() <= CANDIDATES_MAX);
    assert!(!stream.hot().is_empty());
    let long = vec![b'k'; HOT_KEY_BYTES_MAX + 1];
    let mut stream = Stream::new(1_000);
    (0..100_000).for_each(|_| stream.note(Use::Read, &long));
    assert!(stream.keys.candidates.is_empty());
}

#[test]
fn what_copies_answer_keeps_a_key_hot() {
    let key = Key::new(&[0; 8], 0, HASHER.hash(&[0; 8]));
    let mut stream = Stream::new(1_000);
    stream.run(3_000, 5_000, |_| (Use::Read, 0));
    assert!(stream.keys.is_worth_copies(&key, 0));
    // From now on one of a hundred reads comes here, and tells of the others.
    for _ in 0..100 {
        for _ in 0..5 {
            stream.keys.is_worth_copies(&key, 99);
        }
        stream.run(TICK_MS, 50, |_| (Use::Read, 0));
    }
    let rate = stream.keys.hot().next().map(|hot| hot.reads_per_second);
    let rate = rate.expect("it is hot");
    assert!((4_500..5_500).contains(&rate), "{rate} reads/s");
    // Without word of them it cools.
    stream.run(COOL_MS + 2_000, 50, |_| (Use::Read, 0));
    assert!(!stream.keys.is_worth_copies(&key, 0));
}

#[test]
fn a_key_that_is_written_as_often_as_read_is_not_worth_copies() {
    let key = Key::new(&[0; 8], 0, HASHER.hash(&[0; 8]));
    for (writes_percent, is_worth) in [(0, true), (10, true), (30, false), (50, false)] {
        let mut stream = Stream::new(1_000);
        stream.run(4_000, 10_000, |random| {
            let is_write = random % 100 < writes_percent;
            (if is_write { Use::Write } else { Use::Read }, 0)
        });
        assert_eq!(stream.hot().len(), 1);
        assert_eq!(
            stream.keys.is_worth_copies(&key, 0),
            is_worth,
            "{writes_percent} %"
        );
    }
}

#[test]
fn without_a_threshold_nothing_is_hot() {
    let mut stream = Stream::new(0);
    stream.run(3_000, 100_000, share(900));
    assert!(stream.hot().is_empty());
    assert!(stream.keys.candidates.is_empty());
}
