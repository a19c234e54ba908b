//! How long values are: a fixed length or a distribution.
//!
//! A length is a pure function of 64 random bits, so that a key's length can be computed again
//! when its value is checked.

use super::zipf::Zipf;
use crate::units::parse_size;
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// Longest value accepted, in bytes (a request is encoded in memory as a whole).
pub(crate) const VALUE_BYTES_MAX: u64 = 64 << 20;
/// Most entries of a weighted list.
const WEIGHTS_MAX: usize = 64;
/// Values of `exp:MEAN` are cut at this multiple of the mean (one in 10^7 is longer).
const EXPONENTIAL_CUT: u64 = 16;

/// Lengths of values.
#[derive(Clone, Debug)]
pub(crate) enum ValueSizes {
    /// Always the same.
    Fixed(u64),
    /// Uniform over `low..=high`.
    Uniform { low: u64, high: u64 },
    /// Exponential with this mean, at least 1 and at most 16 times the mean.
    Exponential { mean: u64 },
    /// Short ones most often: length `low + k - 1` proportional to `1 / k^theta`.
    Zipf { low: u64, zipf: Zipf },
    /// Some lengths, each with the sum of weights up to and including its own.
    Weighted { sizes: Vec<(u64, u64)>, total: u64 },
}

impl ValueSizes {
    /// Reads `32`, `uniform:1..1000`, `exp:200`, `zipf:0.99:1..4KiB` or `32:50,1024:50`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(range) = text.strip_prefix("uniform:") {
            let (low, high) = parse_range(range)?;
            return Ok(Self::Uniform { low, high });
        }
        if let Some(mean) = text.strip_prefix("exp:") {
            let mean = bounded(parse_size(mean)?)?;
            if mean == 0 {
                return Err("the mean must be at least 1".to_owned());
            }
            return Ok(Self::Exponential { mean });
        }
        if let Some(rest) = text.strip_prefix("zipf:") {
            return parse_zipf(rest);
        }
        if text.contains(':') {
            return parse_weighted(text);
        }
        Ok(Self::Fixed(bounded(parse_size(text)?)?))
    }

    /// The length for 64 random bits.
    pub(crate) fn sample(&self, random: u64) -> u64 {
        match self {
            Self::Fixed(size) => *size,
            Self::Uniform { low, high } => low + scale(random, high - low + 1),
            Self::Exponential { mean } => {
                let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
                let size = -(*mean as f64) * (1.0 - unit).ln();
                let cut = mean.saturating_mul(EXPONENTIAL_CUT).min(VALUE_BYTES_MAX);
                round(size).clamp(1, cut)
            }
            Self::Zipf { low, zipf } => low + zipf.sample(&mut SmallRng::seed_from_u64(random)) - 1,
            Self::Weighted { sizes, total } => {
                let point = scale(random, *total);
                let found = sizes.iter().find(|(_, sum)| point < *sum);
                found.expect("the last sum is the total").0
            }
        }
    }
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let (low, high) = text
        .split_once("..")
        .ok_or_else(|| format!("'{text}' is not a range (LOW..HIGH)"))?;
    let (low, high) = (parse_size(low)?, bounded(parse_size(high)?)?);
    if low > high {
        return Err(format!("the range '{text}' is empty"));
    }
    Ok((low, high))
}

fn parse_zipf(text: &str) -> Result<ValueSizes, String> {
    let message = || format!("'zipf:{text}' is not a size distribution (zipf:THETA:LOW..HIGH)");
    let (theta, range) = text.split_once(':').ok_or_else(message)?;
    let theta: f64 = theta.parse().map_err(|_| message())?;
    if !(theta > 0.0 && theta < 2.0) {
        return Err(format!(
            "theta {theta} is out of range (above 0 and below 2)"
        ));
    }
    let (low, high) = parse_range(range)?;
    Ok(ValueSizes::Zipf {
        low,
        zipf: Zipf::new(high - low + 1, theta),
    })
}

fn parse_weighted(text: &str) -> Result<ValueSizes, String> {
    let mut sizes = Vec::new();
    let mut total: u64 = 0;
    for entry in text.split(',') {
        let (size, weight) = entry
            .split_once(':')
            .ok_or_else(|| format!("'{entry}' has no weight (SIZE:WEIGHT,SIZE:WEIGHT,...)"))?;
        let weight: u32 = weight
            .parse()
            .ok()
            .filter(|weight| *weight > 0)
            .ok_or_else(|| format!("'{weight}' is not a weight (a whole number above 0)"))?;
        total += u64::from(weight);
        sizes.push((bounded(parse_size(size)?)?, total));
    }
    if sizes.len() > WEIGHTS_MAX {
        return Err(format!("at most {WEIGHTS_MAX} sizes"));
    }
    Ok(ValueSizes::Weighted { sizes, total })
}

fn bounded(size: u64) -> Result<u64, String> {
    if size > VALUE_BYTES_MAX {
        Err("values are at most 64MiB".to_owned())
    } else {
        Ok(size)
    }
}

/// Maps 64 random bits to `0..bound` by multiplication (bias below `bound / 2^64`).
fn scale(random: u64, bound: u64) -> u64 {
    let product = u128::from(random) * u128::from(bound);
    u64::try_from(product >> 64).expect("a 128-bit product's upper half")
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 37 times a bounded mean"
)]
fn round(size: f64) -> u64 {
    size.round() as u64
}

#[cfg(test)]
mod tests {
    use super::{VALUE_BYTES_MAX, ValueSizes};
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    fn samples(spec: &str) -> Vec<u64> {
        let sizes = ValueSizes::parse(spec).expect("a spec");
        let mut rng = SmallRng::seed_from_u64(11);
        (0..100_000).map(|_| sizes.sample(rng.random())).collect()
    }

    fn mean(samples: &[u64]) -> f64 {
        samples.iter().sum::<u64>() as f64 / samples.len() as f64
    }

    #[test]
    fn fixed_sizes_are_fixed() {
        assert!(samples("1KiB").iter().all(|size| *size == 1024));
        assert!(samples("0").iter().all(|size| *size == 0));
    }

    #[test]
    fn uniform_sizes_reach_both_ends_and_the_middle() {
        let samples = samples("uniform:1..1000");
        assert_eq!(samples.iter().min(), Some(&1));
        assert_eq!(samples.iter().max(), Some(&1000));
        assert!((mean(&samples) - 500.5).abs() < 5.0, "{}", mean(&samples));
    }

    #[test]
    fn exponential_sizes_have_their_mean() {
        let samples = samples("exp:200");
        assert!((mean(&samples) - 200.0).abs() < 4.0, "{}", mean(&samples));
        assert!(samples.iter().all(|size| (1..=3_200).contains(size)));
    }

    #[test]
    fn zipf_sizes_are_mostly_short() {
        let samples = samples("zipf:1.2:10..1000");
        assert!(samples.iter().all(|size| (10..=1000).contains(size)));
        let shortest = samples.iter().filter(|size| **size == 10).count();
        assert!(shortest > 20_000, "{shortest}");
    }

    #[test]
    fn weighted_sizes_come_by_weight() {
        let samples = samples("32:3,1KiB:1");
        let short = samples.iter().filter(|size| **size == 32).count();
        let long = samples.iter().filter(|size| **size == 1024).count();
        assert_eq!(short + long, samples.len());
        assert!((74_000..76_000).contains(&short), "{short}");
    }

    #[test]
    fn bad_specs_are_refused() {
        let too_long = (VALUE_BYTES_MAX + 1).to_string();
        for spec in [
            "",
            "x",
            "-1",
            "uniform:5",
            "uniform:5..1",
            "uniform:..",
            "exp:0",
            "exp:",
            "zipf:1",
            "zipf:2:1..5",
            "zipf:1:5..1",
            "32:0",
            "32:1,64",
            "32:1,",
            "32:-1",
            &too_long,
        ] {
            assert!(ValueSizes::parse(spec).is_err(), "{spec}");
        }
    }
}
