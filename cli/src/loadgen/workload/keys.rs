//! Which key a request is for, and how the key is written.
//!
//! A key is a number in `0..count`, written with a fixed width: a prefix and the number padded
//! with zeros. Zipf ranks are mapped to numbers by a bijection, so that hot keys are spread over
//! the key space and each rank keeps its exact frequency.

use super::zipf::Zipf;
use rand::Rng;

/// Text before the number, cut short when the width leaves no room for all of it.
const PREFIX: &[u8] = b"key:";
/// Longest key accepted, in bytes (the servers' own limits are lower or far higher).
pub(crate) const KEY_BYTES_MAX: u64 = 16 * 1024 - 1;

/// How request keys are spread over the key space.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// Every key equally often.
    Uniform,
    /// The k-th hottest key proportional to `1 / k^theta`, `0 < theta < 2`.
    Zipf(f64),
}

impl Distribution {
    /// Reads `uniform` or `zipf:THETA`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        let theta = text
            .strip_prefix("zipf:")
            .and_then(|theta| theta.parse::<f64>().ok())
            .ok_or_else(|| format!("'{text}' is not a distribution (uniform or zipf:THETA)"))?;
        if theta > 0.0 && theta < 2.0 {
            Ok(Self::Zipf(theta))
        } else {
            Err(format!(
                "theta {theta} is out of range (above 0 and below 2)"
            ))
        }
    }
}

/// Draws key numbers.
#[derive(Clone, Debug)]
pub(crate) struct KeyChooser {
    count: u64,
    zipf: Option<(Zipf, Scramble)>,
    hot: Option<HotKeys>,
    seed: u64,
}

/// A few keys that take a share of all requests.
#[derive(Clone, Debug)]
struct HotKeys {
    count: u64,
    /// A request is for one of them when it is below this, of 0 to 1.
    share: f64,
    /// How long it is these; then the next ones are hot.
    shift_ns: Option<u64>,
    scramble: Scramble,
}

impl KeyChooser {
    /// Keys `0..count`. `seed` decides which keys are hot.
    ///
    /// Panics unless `count > 0`.
    pub(crate) fn new(count: u64, distribution: Distribution, seed: u64) -> Self {
        assert!(count > 0, "no keys");
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(theta) => {
                Some((Zipf::new(count, theta), Scramble::new(count, seed)))
            }
        };
        Self {
            count,
            zipf,
            hot: None,
            seed,
        }
    }

    /// The same, but `percent` of all requests are for `count` keys, which are others after each
    /// `shift_ns`. None are hot if `count` is 0.
    ///
    /// Panics if there are fewer keys than that.
    pub(crate) fn with_hot(mut self, count: u64, percent: f64, shift_ns: Option<u64>) -> Self {
        assert!(count <= self.count, "too few keys");
        self.hot = (count > 0).then(|| HotKeys {
            count,
            share: percent / 100.0,
            shift_ns,
            scramble: Scramble::new(self.count, self.seed),
        });
        self
    }

    /// Draws the key of one request, so many nanoseconds into the load.
    pub(crate) fn choose(&self, at_ns: u64, rng: &mut impl Rng) -> u64 {
        if let Some(hot) = &self.hot
            && rng.random::<f64>() < hot.share
        {
            let shifts = hot.shift_ns.map_or(0, |shift_ns| at_ns / shift_ns);
            let rank = u128::from(shifts) * u128::from(hot.count)
                + u128::from(rng.random_range(0..hot.count));
            let rank = u64::try_from(rank % u128::from(self.count)).expect("below a u64 count");
            return hot.scramble.apply(rank);
        }
        match &self.zipf {
            None => rng.random_range(0..self.count),
            Some((zipf, scramble)) => scramble.apply(zipf.sample(rng) - 1),
        }
    }
}

/// A bijection on `0..count`: `number -> number * factor + offset`, factor coprime to count.
#[derive(Clone, Debug)]
struct Scramble {
    count: u128,
    factor: u128,
    offset: u128,
}

impl Scramble {
    fn new(count: u64, seed: u64) -> Self {
        let mixed = super::mix(seed);
        // The golden ratio spreads neighbouring ranks evenly; then up to the next coprime.
        let golden = (u128::from(count) * 0x9E37_79B9_7F4A_7C15) >> 64;
        let mut factor = u64::try_from(golden).expect("below count").max(1);
        while greatest_common_divisor(factor, count) != 1 {
            factor += 1;
        }
        Self {
            count: u128::from(count),
            factor: u128::from(factor),
            offset: u128::from(mixed % count),
        }
    }

    fn apply(&self, number: u64) -> u64 {
        let mapped = (u128::from(number) * self.factor + self.offset) % self.count;
        u64::try_from(mapped).expect("below a u64 count")
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Writes keys: `key:` and the number, padded with zeros to a fixed width.
#[derive(Clone, Debug)]
pub(crate) struct KeyFormat {
    template: Vec<u8>,
}

impl KeyFormat {
    /// Keys of `key_bytes` bytes for numbers below `count`.
    ///
    /// Errors when the largest number has more digits than `key_bytes`.
    pub(crate) fn new(key_bytes: usize, count: u64) -> Result<Self, String> {
        let digits = (count.max(1) - 1).max(1).to_string().len();
        if digits > key_bytes {
            return Err(format!(
                "--key-size {key_bytes} is too small for {count} keys"
            ));
        }
        let prefix = &PREFIX[..PREFIX.len().min(key_bytes - digits)];
        let mut template = prefix.to_vec();
        template.resize(key_bytes, b'0');
        Ok(Self { template })
    }

    /// Length of every key in bytes.
    pub(crate) fn key_bytes(&self) -> usize {
        self.template.len()
    }

    /// Appends the key of `number`.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number).as_bytes();
        out.extend_from_slice(&self.template);
        let end = out.len();
        out[end - digits.len()..].copy_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, KeyChooser, KeyFormat, Scramble};
    use proptest::prelude::{any, proptest};
    use proptest::prop_assert;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::HashSet;

    fn key(bytes: usize, count: u64, number: u64) -> String {
        let mut out = b"before".to_vec();
        KeyFormat::new(bytes, count)
            .expect("fits")
            .write(number, &mut out);
        String::from_utf8(out.split_off(6)).expect("ascii")
    }

    #[test]
    fn keys_have_a_fixed_width() {
        assert_eq!(key(16, 1_000_000, 42), "key:000000000042");
        assert_eq!(key(16, 1_000_000, 0), "key:000000000000");
        assert_eq!(key(8, 1_000_000, 999_999), "ke999999");
        assert_eq!(key(6, 1_000_000, 7), "000007");
        assert_eq!(key(1, 1, 0), "0");
        assert!(KeyFormat::new(5, 1_000_000).is_err());
        assert!(KeyFormat::new(6, 1_000_001).is_err());
    }

    #[test]
    fn distributions_are_read() {
        assert_eq!(Distribution::parse("uniform"), Ok(Distribution::Uniform));
        assert_eq!(
            Distribution::parse("zipf:0.99"),
            Ok(Distribution::Zipf(0.99))
        );
        for text in [
            "", "zipf", "zipf:", "zipf:0", "zipf:2", "zipf:-1", "zipf:nan", "normal",
        ] {
            assert!(Distribution::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn uniform_keys_cover_the_space_evenly() {
        let chooser = KeyChooser::new(100, Distribution::Uniform, 1);
        let mut rng = SmallRng::seed_from_u64(5);
        let mut seen = [0_u32; 100];
        for _ in 0..100_000 {
            seen[usize::try_from(chooser.choose(0, &mut rng)).expect("small")] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
    }

    #[test]
    fn hot_keys_are_not_neighbours() {
        let scramble = Scramble::new(1_000_000, 1);
        let mut hottest: Vec<u64> = (0..10).map(|rank| scramble.apply(rank)).collect();
        hottest.sort_unstable();
        assert!(
            hottest.windows(2).all(|pair| pair[1] - pair[0] > 10_000),
            "{hottest:?}"
        );
    }

    proptest! {
        #[test]
        fn scrambling_loses_no_rank(count in 1_u64..5_000, seed in any::<u64>()) {
            let scramble = Scramble::new(count, seed);
            let mapped: HashSet<u64> = (0..count).map(|rank| scramble.apply(rank)).collect();
            prop_assert!(mapped.len() as u64 == count);
            prop_assert!(mapped.iter().all(|&number| number < count));
        }

        #[test]
        fn scrambling_huge_spaces_stays_inside(
            count in 1_u64.., rank in any::<u64>(), seed in any::<u64>(),
        ) {
            prop_assert!(Scramble::new(count, seed).apply(rank % count) < count);
        }
    }

    #[test]
    fn hot_keys_take_their_share_and_shift() {
        const SECOND: u64 = 1_000_000_000;
        let chooser = KeyChooser::new(1_000, Distribution::Uniform, 3);
        let chooser = chooser.with_hot(10, 75.0, Some(2 * SECOND));
        let mut rng = SmallRng::seed_from_u64(1);
        let mut hot_before: Vec<u64> = Vec::new();
        for seconds in [0, 1, 2, 3, 5] {
            let mut seen = vec![0u32; 1_000];
            for _ in 0..100_000 {
                let key = chooser.choose(seconds * SECOND, &mut rng);
                seen[usize::try_from(key).expect("small")] += 1;
            }
            // 7,500 for each hot key, 25 for each of the others.
            let hot: Vec<u64> = (0u64..)
                .zip(&seen)
                .filter(|(_, count)| **count > 5_000)
                .map(|(key, _)| key)
                .collect();
            assert_eq!(hot.len(), 10, "{seconds}: {hot:?}");
            let of_hot: u32 = seen.iter().filter(|count| **count > 5_000).sum();
            assert!((74_500..76_000).contains(&of_hot), "{of_hot}");
            let is_same = hot == hot_before;
            assert_eq!(is_same, [1, 3].contains(&seconds), "{seconds}: {hot:?}");
            assert!(is_same || hot.iter().all(|key| !hot_before.contains(key)));
            hot_before = hot;
        }
    }
}
