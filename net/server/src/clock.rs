//! The clocks, read here and passed on as arguments.

use fulmar_engine::Time;
use fulmar_shard::Now;
use rustix::time::{ClockId, clock_gettime};

/// How far the wall clock may fall behind what is assumed before it is believed. Reading two
/// clocks in turn jitters.
const BEHIND_MS_MAX: i64 = 1;

/// Reads the boot-time clock for every moment, and the wall clock now and then.
///
/// TTLs live on the boot-time clock, which goes on while a machine sleeps and which nobody sets.
/// Unix time is that plus an offset, so that the two never drift apart between two commands; it
/// is at most a millisecond ahead, so that no item outlives its deadline.
pub(crate) struct Clock {
    offset_ms: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            offset_ms: read_offset_ms(),
        }
    }

    /// This moment.
    #[inline]
    pub(crate) fn now(&self) -> Now {
        let time = boot_ms();
        Now {
            time: Time(time),
            unix_ms: self.offset_ms.saturating_add_unsigned(time),
        }
    }

    /// Looks at the wall clock again.
    pub(crate) fn synchronize(&mut self) {
        let offset_ms = read_offset_ms();
        if offset_ms > self.offset_ms || self.offset_ms - offset_ms > BEHIND_MS_MAX {
            self.offset_ms = offset_ms;
        }
    }
}

/// Milliseconds since boot, suspended time included.
#[inline]
pub(crate) fn boot_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// What must be added to the boot-time clock for Unix time, rounded up.
fn read_offset_ms() -> i64 {
    let boot = nanoseconds(ClockId::Boottime);
    let unix = nanoseconds(ClockId::Realtime);
    let offset_ms = (unix - boot).div_euclid(1_000_000) + 1;
    i64::try_from(offset_ms).unwrap_or(i64::MAX)
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::{Clock, ClockId, nanoseconds};

    #[test]
    fn unix_time_is_never_behind_and_at_most_a_millisecond_ahead() {
        let clock = Clock::new();
        for _ in 0..10_000 {
            let before = nanoseconds(ClockId::Realtime) / 1_000_000;
            let now = i128::from(clock.now().unix_ms);
            let after = nanoseconds(ClockId::Realtime) / 1_000_000;
            assert!(now >= before, "{now} is behind {before}");
            assert!(now <= after + 1, "{now} is ahead of {after}");
        }
    }

    #[test]
    fn a_set_wall_clock_is_believed() {
        for jump_ms in [-3_600_000, 3_600_000] {
            let mut clock = Clock::new();
            let right = clock.offset_ms;
            clock.offset_ms += jump_ms;
            clock.synchronize();
            assert!((clock.offset_ms - right).abs() <= 2);
        }
    }
}
