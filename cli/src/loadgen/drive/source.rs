//! Which request comes next, for one thread and one phase of a run. Pure: `now` comes in.

use super::exchange::{InFlight, Purpose};
use super::shared::Budget;
use crate::config::Config;
use crate::wire::Operation;
use crate::workload::{Schedule, mix};
use rand::SeedableRng;
use rand::rngs::SmallRng;

/// One thread's requests. Ask again with a later `now` until it `is_exhausted`.
#[derive(Debug)]
pub(super) struct Source {
    rng: SmallRng,
    start_ns: u64,
    measure_from_ns: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Every `step`-th key from `next` on.
    Prefill { next: u64, step: u64 },
    /// Whenever a connection is free, until a time or a number of requests.
    Closed {
        end_ns: u64,
        budget: Option<Claim>,
        exhausted: bool,
    },
    /// At the scheduled times; requests that are late are sent until `cutoff_ns`.
    Open {
        schedule: Schedule,
        first_measured: u64,
        cutoff_ns: u64,
    },
}

/// Requests that this thread has taken from the budget of all threads.
#[derive(Debug, Default)]
struct Claim {
    left: u64,
}

impl Source {
    /// Writes of this thread's share of all keys.
    pub(super) fn prefill(config: &Config, thread: usize) -> Self {
        let kind = Kind::Prefill {
            next: to_u64(thread),
            step: to_u64(config.threads),
        };
        Self {
            rng: rng(config, thread),
            start_ns: 0,
            measure_from_ns: 0,
            kind,
        }
    }

    /// The warm-up and the measured load, which begin at `start_ns`.
    pub(super) fn load(config: &Config, thread: usize, start_ns: u64) -> Self {
        let at = |ns: u64| start_ns.saturating_add(ns);
        let end_ns = config.end_ns().map_or(u64::MAX, at);
        let kind = match config.rate {
            None => Kind::Closed {
                end_ns,
                budget: config.requests.map(|_| Claim::default()),
                exhausted: false,
            },
            Some(rate) => Kind::Open {
                schedule: Schedule::new(
                    rate,
                    to_u64(thread),
                    to_u64(config.threads),
                    config.requests_limit(rate),
                ),
                first_measured: config.warmup_requests(rate),
                cutoff_ns: end_ns.saturating_add(config.grace_ns),
            },
        };
        Self {
            rng: rng(config, thread),
            start_ns,
            measure_from_ns: at(config.warmup_ns),
            kind,
        }
    }

    /// The next request, if one may be sent at `now_ns`. The caller must send it.
    pub(super) fn next(
        &mut self,
        now_ns: u64,
        config: &Config,
        budget: &Budget,
    ) -> Option<InFlight> {
        let (start_ns, purpose) = match &mut self.kind {
            Kind::Prefill { next, step } => {
                let key = *next;
                if key >= config.keys {
                    return None;
                }
                *next += *step;
                let (operation, purpose) = (Operation::Set, Purpose::Prefill);
                return Some(InFlight {
                    start_ns: now_ns,
                    key,
                    operation,
                    purpose,
                });
            }
            Kind::Closed {
                end_ns,
                budget: claim,
                exhausted,
            } => {
                let is_warm_up = now_ns < self.measure_from_ns;
                let is_over = now_ns >= *end_ns
                    || !(is_warm_up || claim.as_mut().is_none_or(|claim| claim.take(budget)));
                if *exhausted || is_over {
                    *exhausted = true;
                    return None;
                }
                (
                    now_ns,
                    if is_warm_up {
                        Purpose::WarmUp
                    } else {
                        Purpose::Measure
                    },
                )
            }
            Kind::Open {
                schedule,
                first_measured,
                cutoff_ns,
            } => {
                let due_ns = self.start_ns + schedule.next_ns()?;
                if due_ns > now_ns || now_ns >= *cutoff_ns {
                    return None;
                }
                let is_warm_up = schedule.next_number() < *first_measured;
                schedule.advance();
                (
                    due_ns,
                    if is_warm_up {
                        Purpose::WarmUp
                    } else {
                        Purpose::Measure
                    },
                )
            }
        };
        let operation = config.operations.choose(&mut self.rng);
        let at_ns = start_ns.saturating_sub(self.start_ns);
        let key = config.key_chooser.choose(at_ns, &mut self.rng);
        Some(InFlight {
            start_ns,
            key,
            operation,
            purpose,
        })
    }

    /// Whether `next` will never answer a request again.
    pub(super) fn is_exhausted(&self, now_ns: u64, config: &Config) -> bool {
        match &self.kind {
            Kind::Prefill { next, .. } => *next >= config.keys,
            Kind::Closed {
                end_ns, exhausted, ..
            } => *exhausted || now_ns >= *end_ns,
            Kind::Open {
                schedule,
                cutoff_ns,
                ..
            } => schedule.remaining() == 0 || now_ns >= *cutoff_ns,
        }
    }

    /// Open loop: how many requests are due and not sent.
    pub(super) fn due(&self, now_ns: u64) -> u64 {
        match &self.kind {
            Kind::Open {
                schedule,
                cutoff_ns,
                ..
            } if now_ns < *cutoff_ns => now_ns
                .checked_sub(self.start_ns)
                .map_or(0, |elapsed| schedule.due(elapsed)),
            _ => 0,
        }
    }

    /// Open loop: when the next request is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        match &self.kind {
            Kind::Open { schedule, .. } => Some(self.start_ns + schedule.next_ns()?),
            _ => None,
        }
    }

    /// Open loop: scheduled requests that have not been sent.
    pub(super) fn unsent(&self) -> u64 {
        match &self.kind {
            Kind::Open { schedule, .. } => schedule.remaining(),
            _ => 0,
        }
    }
}

impl Claim {
    /// Takes one request, from the shared budget if none is left here.
    fn take(&mut self, budget: &Budget) -> bool {
        if self.left == 0 {
            self.left = budget.claim();
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

fn rng(config: &Config, thread: usize) -> SmallRng {
    SmallRng::seed_from_u64(mix(config.seed.wrapping_add(mix(to_u64(thread)))))
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("usize has at most 64 bits")
}

#[cfg(test)]
mod tests {
    use super::{Budget, Purpose, Source};
    use crate::args::Args;
    use crate::config::Config;
    use crate::wire::Operation;
    use clap::Parser;
    use std::collections::HashSet;

    const MS: u64 = 1_000_000;

    fn config(flags: &str) -> Config {
        let arguments = std::iter::once("loadgen").chain(flags.split_whitespace());
        let all = Config::each(&Args::try_parse_from(arguments).expect("readable"));
        all.expect("valid").remove(0)
    }

    #[test]
    fn prefill_writes_every_key_once_over_all_threads() {
        let config = config("--keys 1000 --threads 3");
        let budget = Budget::new(None, 3);
        let mut keys = HashSet::new();
        for thread in 0..3 {
            let mut source = Source::prefill(&config, thread);
            while let Some(request) = source.next(5, &config, &budget) {
                assert_eq!(request.operation, Operation::Set);
                assert_eq!(request.purpose, Purpose::Prefill);
                assert!(keys.insert(request.key), "{} twice", request.key);
            }
            assert!(source.is_exhausted(5, &config));
        }
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| *key < 1000));
    }

    #[test]
    fn a_closed_loop_ends_at_the_exact_number_of_requests() {
        for (requests, threads) in [(1, 1), (1, 4), (7, 4), (1_000, 3), (100_000, 7)] {
            let config = config(&format!("--requests {requests} --threads {threads}"));
            let budget = Budget::new(config.requests, threads);
            let mut sources: Vec<Source> = (0..threads)
                .map(|thread| Source::load(&config, thread, 0))
                .collect();
            let mut count = 0;
            while sources
                .iter()
                .any(|source| !source.is_exhausted(0, &config))
            {
                for source in &mut sources {
                    count += u64::from(source.next(0, &config, &budget).is_some());
                }
            }
            assert_eq!(count, requests, "{threads} threads");
        }
    }

    #[test]
    fn warm_up_takes_nothing_from_the_number_of_requests() {
        let config = config("--requests 10 --warmup 1");
        let budget = Budget::new(config.requests, 1);
        let mut source = Source::load(&config, 0, 0);
        for _ in 0..100 {
            let request = source.next(999 * MS, &config, &budget).expect("no limit");
            assert_eq!(request.purpose, Purpose::WarmUp);
        }
        for _ in 0..10 {
            let request = source.next(1_000 * MS, &config, &budget).expect("ten");
            assert_eq!(
                (request.purpose, request.start_ns),
                (Purpose::Measure, 1_000 * MS)
            );
        }
        assert!(source.next(1_000 * MS, &config, &budget).is_none());
    }

    #[test]
    fn an_open_loop_counts_from_the_due_time_however_late() {
        let config = config("--rate 1000 --duration 1 --grace 0.5");
        let budget = Budget::new(None, 1);
        let mut source = Source::load(&config, 0, 7 * MS);
        assert!(source.next(7 * MS - 1, &config, &budget).is_none());
        for n in 0..10 {
            assert_eq!(source.due((7 + n) * MS), 1);
            let request = source.next((7 + n) * MS, &config, &budget).expect("due");
            assert_eq!(request.start_ns, (7 + n) * MS);
            assert_eq!(source.next_due_ns(), Some((8 + n) * MS));
        }
        // The thread stalls until 300 ms: 291 requests are due, the first from 10 ms on.
        assert_eq!(source.due(307 * MS), 291);
        for n in 10..=300 {
            let request = source.next(307 * MS, &config, &budget).expect("due");
            assert_eq!(request.start_ns, (7 + n) * MS);
        }
        assert!(source.next(307 * MS, &config, &budget).is_none());
        // Then until the grace period is over: 699 requests are never sent, and known.
        assert!(!source.is_exhausted(1_506 * MS, &config));
        assert!(source.is_exhausted(1_507 * MS, &config));
        assert!(source.next(1_507 * MS, &config, &budget).is_none());
        assert_eq!(source.unsent(), 699);
    }

    #[test]
    fn runs_with_one_seed_ask_the_same() {
        let config = config("--seed 5 --ratio 1:1 --distribution zipf:0.9");
        let budget = Budget::new(None, 1);
        let draw = |thread| {
            let mut source = Source::load(&config, thread, 0);
            let mut next = || source.next(0, &config, &budget).expect("a request");
            (0..100)
                .map(|_| (next().key, next().operation as u8))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }
}
