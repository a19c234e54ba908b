//! How long to wait before the next try.

use std::time::Duration;

use crate::options::Options;

/// Before try number `failures` + 1: doubled each time up to the maximum, of which a random half to all, so
/// that many who failed at once do not come back at once.
pub(crate) fn backoff(failures: u32, options: &Options) -> Duration {
    let doubled = options
        .backoff_min
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(options.backoff_max)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::backoff;
    use crate::options::Options;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let ms = Duration::from_millis;
        let options = Options::default().backoff(ms(10), ms(200));
        for (failures, longest) in [
            (1, ms(10)),
            (2, ms(20)),
            (5, ms(160)),
            (6, ms(200)),
            (u32::MAX, ms(200)),
        ] {
            let pauses: Vec<_> = (0..100).map(|_| backoff(failures, &options)).collect();
            assert!(
                pauses
                    .iter()
                    .all(|&pause| pause <= longest && pause >= longest / 2),
                "{pauses:?}"
            );
            assert!(pauses.iter().any(|&pause| pause != pauses[0]));
        }
    }
}
