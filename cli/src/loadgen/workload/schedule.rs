//! When requests are due in an open loop.
//!
//! Request `n` of a run at rate `R` is due `n / R` after the start; thread `t` of `T` sends those
//! with `n mod T = t`, so that the threads interleave and each has constant spacing. Nothing is
//! ever queued: what is due, sent late or never sent follows from `n` by arithmetic, so a stalled
//! target costs no memory.
//!
//! Invariants:
//! 1. `next_ns` is `floor(n * 10^12 / milli)` exactly, with no drift however long the run: the
//!    remainder of each step is carried (as Bresenham's line does).
//! 2. Issued + remaining = the thread's share of the limit, always.

/// Nanoseconds in a second times thousandths in a unit: `due_ns = n * PICO / milli`.
const PICO: u64 = 1_000_000_000_000;
/// Highest rate accepted, in thousandths of requests per second (100 million a second).
const RATE_MILLI_MAX: u64 = 100_000_000_000;

/// A rate of requests per second, exact to a thousandth, above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    milli: u64,
}

impl Rate {
    /// Reads `1500`, `0.5`, `20k` or `1.5M` (requests per second). Zero means closed loop: `None`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, String> {
        let message = || format!("'{text}' is not a rate (requests per second, e.g. 20000 or 20k)");
        let (number, factor) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1_000),
            Some(b'M') => (&text[..text.len() - 1], 1_000_000),
            _ => (text, 1),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(message());
        }
        if fraction.len() > 9 || whole.len() > 12 {
            return Err(message());
        }
        let whole: u128 = whole.parse().map_err(|_| message())?;
        let nano: u128 = format!("{fraction:0<9}").parse().map_err(|_| message())?;
        let milli = (whole * 1_000_000_000 + nano) * factor / 1_000_000;
        match u64::try_from(milli) {
            Ok(0) if whole == 0 && nano == 0 => Ok(None),
            Ok(0) => Err("the smallest rate is 0.001 requests per second".to_owned()),
            Ok(milli) if milli <= RATE_MILLI_MAX => Ok(Some(Self { milli })),
            _ => Err("the highest rate is 100M requests per second".to_owned()),
        }
    }

    /// Requests per second.
    pub(crate) fn per_second(self) -> f64 {
        self.milli as f64 / 1e3
    }

    /// How many requests are due before `ns` (those with `due < ns`).
    pub(crate) fn count_before(self, ns: u64) -> u64 {
        let product = u128::from(ns) * u128::from(self.milli);
        u64::try_from(product.div_ceil(u128::from(PICO))).unwrap_or(u64::MAX)
    }

    /// When request `n` is due, in nanoseconds from the start.
    pub(crate) fn due_ns(self, n: u64) -> u64 {
        let ns = u128::from(n) * u128::from(PICO) / u128::from(self.milli);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// One thread's share of the requests of an open loop.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    rate: Rate,
    thread: u64,
    threads: u64,
    /// Requests of all threads.
    limit: u64,
    next_number: u64,
    next_ns: u64,
    next_remainder: u64,
    step_ns: u64,
    step_remainder: u64,
}

impl Schedule {
    /// The requests `n < limit` with `n mod threads = thread`.
    ///
    /// Panics unless `thread < threads`.
    pub(crate) fn new(rate: Rate, thread: u64, threads: u64, limit: u64) -> Self {
        assert!(thread < threads, "thread {thread} of {threads}");
        let (next_ns, next_remainder) = divide(thread, rate);
        let (step_ns, step_remainder) = divide(threads, rate);
        Self {
            rate,
            thread,
            threads,
            limit,
            next_number: thread,
            next_ns,
            next_remainder,
            step_ns,
            step_remainder,
        }
    }

    /// When the next request is due (nanoseconds from the start); `None` when all were issued.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        (self.next_number < self.limit).then_some(self.next_ns)
    }

    /// The number of the next request among those of all threads.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Marks the next request as issued.
    pub(crate) fn advance(&mut self) {
        debug_assert!(self.next_number < self.limit, "advanced past the limit");
        self.next_number += self.threads;
        self.next_ns += self.step_ns;
        self.next_remainder += self.step_remainder;
        if self.next_remainder >= self.rate.milli {
            self.next_remainder -= self.rate.milli;
            self.next_ns += 1;
        }
    }

    /// How many not yet issued requests are due at `elapsed_ns`: the backlog, when positive.
    pub(crate) fn due(&self, elapsed_ns: u64) -> u64 {
        if self.next_number >= self.limit || self.next_ns > elapsed_ns {
            return 0;
        }
        let end = self
            .rate
            .count_before(elapsed_ns.saturating_add(1))
            .min(self.limit);
        self.share_below(end)
    }

    /// How many requests have not been issued.
    pub(crate) fn remaining(&self) -> u64 {
        self.share_below(self.limit)
    }

    /// Not issued requests of this thread with a number below `end`.
    fn share_below(&self, end: u64) -> u64 {
        debug_assert!(
            self.next_number % self.threads == self.thread,
            "number off its thread"
        );
        end.saturating_sub(self.next_number).div_ceil(self.threads)
    }
}

/// `count * 10^12 / milli` as quotient and remainder.
fn divide(count: u64, rate: Rate) -> (u64, u64) {
    let product = u128::from(count) * u128::from(PICO);
    let milli = u128::from(rate.milli);
    let quotient = u64::try_from(product / milli).unwrap_or(u64::MAX);
    let remainder = u64::try_from(product % milli).expect("a remainder is below its u64 divisor");
    (quotient, remainder)
}

#[cfg(test)]
mod tests {
    use super::{Rate, Schedule};
    use proptest::prelude::{any, proptest};
    use proptest::{prop_assert_eq, prop_assume};

    fn rate(text: &str) -> Rate {
        Rate::parse(text).expect("a rate").expect("not zero")
    }

    #[test]
    fn rates_are_read_exactly() {
        assert_eq!(Rate::parse("0"), Ok(None));
        assert_eq!(Rate::parse("0.0"), Ok(None));
        assert_eq!(rate("1").milli, 1_000);
        assert_eq!(rate("0.5").milli, 500);
        assert_eq!(rate("20k").milli, 20_000_000);
        assert_eq!(rate("1.5M").milli, 1_500_000_000);
        for text in [
            "",
            "k",
            "-1",
            "1e3",
            "1.",
            ".5",
            "0.0001",
            "101M",
            "999999999999999999999",
        ] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_second_of_schedule_is_evenly_spaced() {
        let mut schedule = Schedule::new(rate("1000"), 0, 1, u64::MAX);
        for n in 0..1000 {
            assert_eq!(schedule.next_ns(), Some(n * 1_000_000));
            schedule.advance();
        }
    }

    #[test]
    fn a_stalled_thread_owes_what_arithmetic_says() {
        let mut schedule = Schedule::new(rate("10000"), 0, 1, 20_000);
        assert_eq!(schedule.due(0), 1, "request 0 is due at the start");
        assert_eq!(schedule.due(300_000_000), 3_001);
        for _ in 0..3_001 {
            schedule.advance();
        }
        assert_eq!(schedule.due(300_000_000), 0);
        assert_eq!(schedule.remaining(), 20_000 - 3_001);
        assert_eq!(schedule.due(u64::MAX), schedule.remaining());
    }

    proptest! {
        #[test]
        fn every_request_is_due_at_its_exact_time_on_exactly_one_thread(
            milli in 1_u64..=100_000_000_000, threads in 1_u64..9, limit in 0_u64..3_000,
        ) {
            let rate = Rate { milli };
            let mut seen = 0;
            for thread in 0..threads {
                let mut schedule = Schedule::new(rate, thread, threads, limit);
                let share = schedule.remaining();
                let mut issued = 0;
                while let Some(due) = schedule.next_ns() {
                    prop_assert_eq!(due, rate.due_ns(thread + issued * threads));
                    prop_assert_eq!(schedule.next_number(), thread + issued * threads);
                    schedule.advance();
                    issued += 1;
                    prop_assert_eq!(issued + schedule.remaining(), share);
                }
                seen += issued;
            }
            prop_assert_eq!(seen, limit);
        }

        #[test]
        fn due_counts_what_stepping_counts(
            milli in 1_000_u64..10_000_000_000, threads in 1_u64..5, thread in any::<u64>(),
            limit in 0_u64..500, elapsed in 0_u64..1_000_000_000,
        ) {
            let rate = Rate { milli };
            let schedule = Schedule::new(rate, thread % threads, threads, limit);
            let mut stepped = schedule.clone();
            let mut expected = 0;
            while stepped.next_ns().is_some_and(|ns| ns <= elapsed) {
                stepped.advance();
                expected += 1;
            }
            prop_assert_eq!(schedule.due(elapsed), expected);
        }

        #[test]
        fn count_before_is_the_first_number_not_before(
            milli in 1_u64..=100_000_000_000, ns in 0_u64..100_000_000_000,
        ) {
            let rate = Rate { milli };
            let count = rate.count_before(ns);
            prop_assert_eq!(rate.due_ns(count) >= ns, true);
            prop_assume!(count > 0);
            prop_assert_eq!(rate.due_ns(count - 1) < ns, true);
        }
    }
}
