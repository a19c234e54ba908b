//! Which keys of a shard are hot: read and written so often that they alone load a core.
//!
//! ```text
//! every access --countdown--> one in so many --sketch--> candidate --rate--> hot --> cool
//! ```
//! Accesses are sampled at random gaps. A sampled key is counted in a sketch of what was seen of late; one
//! that was seen often becomes a candidate, whose samples are counted by themselves, reads and writes
//! apart. Each half second a candidate's rate is measured and smoothed; it is hot from
//! the threshold on, and cool again when it was measured below half of it for two seconds.
//!
//! Cost: a decrement for each access, two or three cache lines for each sample; 16 KiB and the candidates' keys.

mod sketch;

use hashbrown::HashTable;

use fulmar_engine::{Key, Time};

use sketch::Sketch;

/// Samples per second that a key at the threshold should have, if accesses are that many.
const SAMPLES_PER_SECOND: u32 = 64;
/// At most one access in so many is sampled.
const GAP_MAX: u32 = 64;
/// Time between two measurements; the sketch halves its counts as often.
const STEP_MS: u64 = 500;
/// A measurement moves a candidate's rate by one part in so many of the difference.
const SMOOTHING: u64 = 4;
/// A candidate is hot after so many measurements; at once if its rate is so many times the threshold.
const MEASUREMENTS_MIN: u8 = 4;
const CLEARLY_HOT: u64 = 2;
/// A hot key below one part in so many of the threshold cools,
const COOL_SHARE: u64 = 2;
/// and does not count as hot any more after this time.
const COOL_MS: u64 = 2_000;
/// A candidate that is not hot, below one part in so many of the threshold, is forgotten.
const FORGET_SHARE: u64 = 4;
/// A key that was seen as often as one at one part in so many of the threshold becomes a candidate.
const CANDIDATE_SHARE: u64 = 2;
/// Candidates, the hot ones included.
const CANDIDATES_MAX: usize = 64;
/// A key is worth copies elsewhere if it is read so many times as often as it is written.
const READS_PER_WRITE_MIN: u64 = 4;
/// Longer keys are never candidates.
const HOT_KEY_BYTES_MAX: usize = 1_024;

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// A hot key with its rates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The key.
    pub key: Box<[u8]>,
    /// Reads a second that found it.
    pub reads_per_second: u64,
    /// Writes a second, deletions included.
    pub writes_per_second: u64,
}

/// See the module's head.
pub(crate) struct HotKeys {
    /// Accesses until the next sample.
    countdown: u32,
    /// Mean accesses between two samples.
    gap: u32,
    random: u64,
    /// Accesses a second from which on a key is hot; 0: none is.
    threshold: u64,
    candidate_samples: u16,
    sketch: Sketch,
    candidates: HashTable<Candidate>,
    stepped_at: Time,
}

struct Candidate {
    hash: u64,
    key: Box<[u8]>,
    /// Samples since the last measurement: reads, writes.
    samples: [u32; 2],
    /// Smoothed, per second.
    rates: [u64; 2],
    measurements: u8,
    /// It came in this step, which it saw a part of only.
    is_new: bool,
    is_hot: bool,
    cool_since: Option<Time>,
}

/// Of how many accesses one is sampled, if keys with so many a second are hot.
pub(crate) fn gap(per_second: u32) -> u32 {
    (per_second / SAMPLES_PER_SECOND).clamp(1, GAP_MAX)
}

impl HotKeys {
    /// Keys with so many accesses a second are hot; 0: none is ever. `seed` feeds the sampling.
    pub(crate) fn new(per_second: u32, seed: u64) -> Self {
        let gap = gap(per_second);
        let step_samples = u64::from(per_second) * STEP_MS / 1_000 / u64::from(gap);
        let candidate_samples = u16::try_from(step_samples / CANDIDATE_SHARE).unwrap_or(u16::MAX);
        Self {
            countdown: if per_second == 0 { u32::MAX } else { gap },
            gap,
            random: seed | 1,
            threshold: per_second.into(),
            candidate_samples: candidate_samples.max(2),
            sketch: Sketch::new(),
            candidates: HashTable::new(),
            stepped_at: Time(0),
        }
    }

    /// Notes an access.
    #[inline]
    pub(crate) fn note(&mut self, how: Use, key: &Key<'_>) {
        self.countdown -= 1;
        if self.countdown == 0 {
            self.sample(how, key);
        }
    }

    #[cold]
    fn sample(&mut self, how: Use, key: &Key<'_>) {
        if self.threshold == 0 {
            self.countdown = u32::MAX;
            return;
        }
        self.countdown = self.next_gap();
        if let Some(candidate) = self.find_mut(key) {
            candidate.samples[how as usize] += 1;
        } else if self.sketch.add(key.hash()) >= self.candidate_samples {
            self.admit(key);
        }
    }

    /// Uniform from 1 to twice the mean (xorshift64): a pattern in the accesses meets none here.
    fn next_gap(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + u32::try_from(self.random >> 40).expect("24 bits") % (2 * self.gap - 1)
    }

    fn admit(&mut self, key: &Key<'_>) {
        if key.bytes().len() > HOT_KEY_BYTES_MAX {
            return;
        }
        if self.candidates.len() >= CANDIDATES_MAX && !self.forget_coldest() {
            return;
        }
        let candidate = Candidate {
            hash: key.hash(),
            key: key.bytes().into(),
            samples: [0, 0],
            rates: [0, 0],
            measurements: 0,
            is_new: true,
            is_hot: false,
            cool_since: None,
        };
        self.candidates
            .insert_unique(key.hash(), candidate, |one| one.hash);
    }

    /// False if all are hot, or too new to tell.
    fn forget_coldest(&mut self) -> bool {
        let measured = self.candidates.iter();
        let measured = measured.filter(|one| !one.is_hot && one.measurements > 0);
        let Some(hash) = measured.min_by_key(|one| one.rate()).map(|one| one.hash) else {
            return false;
        };
        let entry = self.candidates.find_entry(hash, |one| one.hash == hash);
        entry.is_ok_and(|entry| {
            entry.remove();
            true
        })
    }

    /// Whether a key is hot, and mostly read. Notes that copies of it elsewhere have answered so many reads.
    pub(crate) fn is_worth_copies(&mut self, key: &Key<'_>, copy_reads: u32) -> bool {
        let (gap, random) = (self.gap, self.random);
        let Some(candidate) = self.find_mut(key) else {
            return false;
        };
        // As many samples as there would have been here, on average.
        let rest = u64::from(copy_reads % gap) > random % u64::from(gap);
        let samples = &mut candidate.samples[Use::Read as usize];
        *samples = samples.saturating_add(copy_reads / gap + u32::from(rest));
        let [reads, writes] = candidate.rates;
        candidate.is_hot && reads >= writes.saturating_mul(READS_PER_WRITE_MIN)
    }

    fn find_mut(&mut self, key: &Key<'_>) -> Option<&mut Candidate> {
        let is_it = |one: &Candidate| one.hash == key.hash() && *one.key == *key.bytes();
        self.candidates.find_mut(key.hash(), is_it)
    }

    /// Measures the candidates, if it is time. Called at every tick.
    pub(crate) fn advance(&mut self, now: Time) {
        let ms = now.0.saturating_sub(self.stepped_at.0);
        if ms < STEP_MS || self.threshold == 0 {
            return;
        }
        self.stepped_at = now;
        self.sketch.halve();
        let (threshold, gap) = (self.threshold, u64::from(self.gap));
        self.candidates.retain(|one| {
            let samples = std::mem::take(&mut one.samples);
            if std::mem::take(&mut one.is_new) {
                return true;
            }
            let measured = samples.map(|count| u64::from(count) * gap * 1_000 / ms);
            one.measure(measured);
            one.judge(measured[0] + measured[1], threshold, now)
        });
    }

    /// The hot keys, in no order.
    pub(crate) fn hot(&self) -> impl Iterator<Item = HotKey> + '_ {
        let hot = self.candidates.iter().filter(|one| one.is_hot);
        hot.map(|one| HotKey {
            key: one.key.clone(),
            reads_per_second: one.rates[0],
            writes_per_second: one.rates[1],
        })
    }
}

impl Candidate {
    fn rate(&self) -> u64 {
        self.rates[0] + self.rates[1]
    }

    fn measure(&mut self, measured: [u64; 2]) {
        let smooth = |rate: u64, now: u64| (rate * (SMOOTHING - 1) + now) / SMOOTHING;
        self.rates = match self.measurements {
            0 => measured,
            _ => [0, 1].map(|how: usize| smooth(self.rates[how], measured[how])),
        };
        self.measurements = self.measurements.saturating_add(1);
    }

    /// Decides whether it is hot; false if it is to be forgotten. `measured` is not smoothed: what was very
    /// hot would else cool for long.
    fn judge(&mut self, measured: u64, threshold: u64, now: Time) -> bool {
        if measured >= threshold / COOL_SHARE {
            self.cool_since = None;
            let is_sure = self.measurements >= MEASUREMENTS_MIN;
            self.is_hot |= self.rate() >= threshold * if is_sure { 1 } else { CLEARLY_HOT };
            return true;
        }
        let since = *self.cool_since.get_or_insert(now);
        self.is_hot &= now.0 - since.0 < COOL_MS;
        self.is_hot || self.rate() >= threshold / FORGET_SHARE
    }
}

#[cfg(test)]
mod tests;
