//! How often hashes were seen of late, from above: a count-min sketch (Cormode, Muthukrishnan: "An improved
//! data stream summary: the count-min sketch and its applications", 2005) whose counts are halved now and
//! then.

/// Rows; an estimate is the least of them.
const ROWS: usize = 2;
/// Counts in a row.
const WIDTH: usize = 4_096;

/// See the module's head. 16 KiB.
pub(super) struct Sketch {
    counts: Box<[[u16; WIDTH]; ROWS]>,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self {
            counts: Box::new([[0; WIDTH]; ROWS]),
        }
    }

    /// Counts a hash; how often it was seen, or more often.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "some of the bits are wanted"
    )]
    pub(super) fn add(&mut self, hash: u64) -> u16 {
        let mut least = u16::MAX;
        for (row, counts) in self.counts.iter_mut().enumerate() {
            // Each row looks at bits of its own, and none that a shard's keys have in common.
            let place = usize::from((hash >> (12 + 20 * row)) as u16) % WIDTH;
            counts[place] = counts[place].saturating_add(1);
            least = least.min(counts[place]);
        }
        least
    }

    /// Halves all counts.
    pub(super) fn halve(&mut self) {
        for count in self.counts.as_flattened_mut() {
            *count >>= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sketch;

    /// Splitmix64's finalizer.
    fn hash(number: u64) -> u64 {
        let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }

    #[test]
    fn estimates_are_never_below_and_seldom_above() {
        let mut sketch = Sketch::new();
        let mut above = 0;
        for round in 1..=4 {
            for number in 0..1_000 {
                let estimate = sketch.add(hash(number));
                assert!(estimate >= round);
                above += u32::from(estimate > round);
            }
        }
        assert!(above < 4_000 / 8, "{above} of 4000 are too high");
        sketch.halve();
        assert!(sketch.add(hash(1)) >= 3);
    }
}
