//! The moment a command executes at, and what deadlines become in it.

use fulmar_engine::Time;
use fulmar_protocol::command::Deadline;

/// The moment a command executes at, on both clocks.
///
/// The caller reads the clocks. `unix_ms - time` should stay the same from command to command
/// except when the wall clock is set, so that a deadline that was given as a Unix time is reported
/// as the same Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock. Every deadline is kept on it.
    pub time: Time,
    /// The wall clock, in milliseconds since the Unix epoch. Used only to understand and to report
    /// Unix times.
    pub unix_ms: i64,
}

impl Now {
    /// Milliseconds from now to `deadline`; not positive if it is past. Saturates.
    pub(crate) fn ms_until(self, deadline: Deadline) -> i64 {
        match deadline {
            Deadline::In { ms } => ms,
            Deadline::AtUnix { ms } => ms.saturating_sub(self.unix_ms),
        }
    }

    /// `deadline` on the monotonic clock. Not later than now if it is past. Saturates.
    pub(crate) fn time_of(self, deadline: Deadline) -> Time {
        Time(self.time.0.saturating_add_signed(self.ms_until(deadline)))
    }

    /// Milliseconds left until `time`; 0 if it is past.
    pub(crate) fn ms_left(self, time: Time) -> i64 {
        i64::try_from(time.0.saturating_sub(self.time.0)).unwrap_or(i64::MAX)
    }

    /// The Unix time of `time`, in milliseconds. Saturates.
    pub(crate) fn unix_ms_of(self, time: Time) -> i64 {
        self.unix_ms.saturating_add(self.ms_left(time))
    }
}

#[cfg(test)]
mod tests {
    use super::{Deadline, Now, Time};

    const NOW: Now = Now {
        time: Time(5_000),
        unix_ms: 1_700_000_000_000,
    };

    #[test]
    fn both_forms_of_a_deadline_meet_on_the_monotonic_clock() {
        assert_eq!(NOW.time_of(Deadline::In { ms: 70 }), Time(5_070));
        assert_eq!(
            NOW.time_of(Deadline::AtUnix {
                ms: 1_700_000_000_070
            }),
            Time(5_070)
        );
        assert_eq!(NOW.unix_ms_of(Time(5_070)), 1_700_000_000_070);
    }

    #[test]
    fn past_and_far_deadlines_saturate() {
        assert_eq!(NOW.time_of(Deadline::AtUnix { ms: 1 }), Time(0));
        assert_eq!(NOW.time_of(Deadline::In { ms: i64::MIN }), Time(0));
        assert_eq!(NOW.ms_until(Deadline::AtUnix { ms: i64::MIN }), i64::MIN);
        assert_eq!(NOW.unix_ms_of(Time(u64::MAX)), i64::MAX);
    }
}
