//! Zipf-distributed ranks: rank `k` of `1..=n` with probability proportional to `1 / k^theta`.
//!
//! Exact, in constant time and memory for any `n`: rejection-inversion, from W. Hormann and
//! G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", ACM TOMACS 6(3), 1996. On average fewer than 1.2 draws are needed.

use rand::Rng;

/// A sampler for one `n` and `theta`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: f64,
    count_max: u64,
    theta: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// Ranks `1..=count` with exponent `theta`.
    ///
    /// Panics unless `count > 0` and `theta > 0`.
    pub(crate) fn new(count: u64, theta: f64) -> Self {
        assert!(count > 0, "no ranks");
        assert!(theta > 0.0, "theta {theta}");
        let n = count as f64;
        let shortcut = 2.0 - integral_inverse(integral(2.5, theta) - density(2.0, theta), theta);
        Self {
            count: n,
            count_max: count,
            theta,
            integral_first: integral(1.5, theta) - 1.0,
            integral_last: integral(n + 0.5, theta),
            shortcut,
        }
    }

    /// Draws a rank in `1..=count`.
    pub(crate) fn sample(&self, rng: &mut impl Rng) -> u64 {
        loop {
            let uniform: f64 = rng.random();
            let area = self.integral_last + uniform * (self.integral_first - self.integral_last);
            let x = integral_inverse(area, self.theta);
            let rank = (x + 0.5).floor().clamp(1.0, self.count);
            if rank - x <= self.shortcut
                || area >= integral(rank + 0.5, self.theta) - density(rank, self.theta)
            {
                return to_rank(rank).min(self.count_max);
            }
        }
    }
}

/// The integral of `density` from 1 to `x`: `(x^(1-theta) - 1) / (1-theta)`, or `ln x`.
fn integral(x: f64, theta: f64) -> f64 {
    let ln = x.ln();
    expm1_over((1.0 - theta) * ln) * ln
}

fn density(x: f64, theta: f64) -> f64 {
    (-theta * x.ln()).exp()
}

fn integral_inverse(area: f64, theta: f64) -> f64 {
    // Rounding may push the argument just below -1, where the logarithm ends.
    let t = (area * (1.0 - theta)).max(-1.0);
    (ln1p_over(t) * area).exp()
}

/// `ln(1 + x) / x`, continuous at 0.
fn ln1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x * (0.5 - x * (1.0 / 3.0 - 0.25 * x))
    }
}

/// `(e^x - 1) / x`, continuous at 0.
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x * 0.5 * (1.0 + x / 3.0 * (1.0 + 0.25 * x))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to 1..=count, which is a u64"
)]
fn to_rank(rank: f64) -> u64 {
    rank as u64
}

#[cfg(test)]
mod tests {
    use super::Zipf;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    /// Pearson's chi-squared of `draws` samples against the exact probabilities, with ranks above
    /// `cells` taken as one cell.
    fn chi_squared(count: usize, theta: f64, draws: u32, cells: usize) -> f64 {
        let zipf = Zipf::new(count as u64, theta);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut seen = vec![0_u32; cells + 1];
        for _ in 0..draws {
            let rank = usize::try_from(zipf.sample(&mut rng)).expect("small");
            assert!((1..=count).contains(&rank), "rank {rank} of {count}");
            seen[(rank - 1).min(cells)] += 1;
        }
        let weights: Vec<f64> = (1..=count).map(|k| (k as f64).powf(-theta)).collect();
        let total: f64 = weights.iter().sum();
        let mut statistic = 0.0;
        for (cell, &seen) in seen.iter().enumerate() {
            let weight: f64 = if cell < cells {
                weights[cell]
            } else {
                weights[cells..].iter().sum()
            };
            let expected = weight / total * f64::from(draws);
            assert!(expected > 5.0, "cell {cell} is too small to judge");
            statistic += (f64::from(seen) - expected).powi(2) / expected;
        }
        statistic
    }

    #[test]
    fn frequencies_match_theory_for_every_kind_of_theta() {
        for theta in [0.2, 0.5, 0.8, 0.99, 1.0, 1.01, 1.2, 1.5, 1.99] {
            let statistic = chi_squared(1_000, theta, 1_000_000, 100);
            // 100 degrees of freedom: above 172 once in 100,000 runs of a right sampler.
            assert!(
                statistic < 172.0,
                "theta {theta}: chi-squared {statistic:.1}"
            );
        }
    }

    #[test]
    fn the_test_can_tell_a_wrong_theta() {
        let right = chi_squared(1_000, 0.99, 200_000, 100);
        let zipf = Zipf::new(1_000, 0.95);
        let mut rng = SmallRng::seed_from_u64(7);
        let first = (0..200_000).filter(|_| zipf.sample(&mut rng) == 1).count() as f64;
        let total: f64 = (1..=1_000).map(|k| f64::from(k).powf(-0.99)).sum();
        let expected = 200_000.0 / total;
        assert!(right < 172.0, "{right}");
        assert!(
            (first - expected).powi(2) / expected > 172.0,
            "{first} against {expected}"
        );
    }

    #[test]
    fn one_rank_is_always_that_rank() {
        let zipf = Zipf::new(1, 0.99);
        let mut rng = SmallRng::seed_from_u64(1);
        assert!((0..1_000).all(|_| zipf.sample(&mut rng) == 1));
    }

    #[test]
    fn huge_counts_stay_in_range() {
        for theta in [0.01, 1.0, 1.99] {
            let zipf = Zipf::new(u64::from(u32::MAX), theta);
            let mut rng = SmallRng::seed_from_u64(3);
            for _ in 0..10_000 {
                let rank = zipf.sample(&mut rng);
                assert!((1..=u64::from(u32::MAX)).contains(&rank));
            }
        }
    }
}
