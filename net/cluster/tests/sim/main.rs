//! Whole nodes in virtual time. One number decides everything that happens in a schedule, so one that
//! fails can be run again: `FULMAR_SIM_SEED=n`, with `FULMAR_SIM_TRACE=1` for what happened.
//! `FULMAR_SIM_SEEDS=n` runs so many schedules instead of the usual few hundred.

mod checkers;
mod data;
mod faults;
mod items;
mod network;
mod node;
mod place;
mod random;
mod scenarios;
mod scheduler;
mod world;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;
use std::time::Instant;

use fulmar_cluster::coordinator::Sabotage;

use data::Faithless;
use world::{Options, Report, run};

/// Schedules of a usual run; four of five have 3 to 7 nodes.
const SEEDS: u64 = 1_250;
/// Every so many schedules have the placement that clusters have.
const REAL_PLACEMENT_EVERY: u64 = 16;
/// In every third schedule cores do what their coordinator asks for so late, at most.
const LAG_MS: u64 = 40;
/// Schedules in which something that is broken has to show.
const SABOTAGED_SEEDS: u64 = 2_000;
/// Schedules of large clusters, and their nodes.
const LARGE_SEEDS: u64 = 20;
const LARGE_NODES: u16 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn percentile(sorted: &[u64], permille: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * permille / 1_000).copied().unwrap_or(0)
}

fn summarize<'a>(reports: impl Iterator<Item = &'a Report>) -> String {
    let reports: Vec<&Report> = reports.collect();
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|report| of(report)).sum::<u64>();
    let mut failovers: Vec<u64> = reports
        .iter()
        .flat_map(|r| r.failovers_ms.clone())
        .collect();
    failovers.sort_unstable();
    format!(
        "{} schedules of {} virtual s, {} faults, {} decisions, {} elections, {} lost ranges, \
         {} divergences, {} aborted hand-overs, {} writes, {} acknowledgements, {} duties checked, {} ranges handed over, \
         {} packets, {} without a quorum\n\
         failovers: {}, ms min {} median {} p99 {} max {}",
        reports.len(),
        sum(|r| r.virtual_ms) / 1_000,
        sum(|r| r.faults),
        sum(|r| r.decisions),
        sum(|r| r.elections),
        sum(|r| r.lost_ranges),
        sum(|r| r.divergences),
        sum(|r| r.aborted_hand_overs),
        sum(|r| r.writes),
        sum(|r| r.acknowledged),
        sum(|r| r.checked),
        sum(|r| r.handed_over),
        sum(|r| r.packets),
        sum(|r| u64::from(r.is_quorum_gone)),
        failovers.len(),
        percentile(&failovers, 0),
        percentile(&failovers, 500),
        percentile(&failovers, 990),
        percentile(&failovers, 1_000),
    )
}

/// Runs schedules, as many at a time as there are processors; each is alone in its world.
fn run_all(seeds: Vec<u64>, slots: u16) -> BTreeMap<u64, Report> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let run_share = |first: usize| {
        let share = seeds.iter().skip(first).step_by(threads);
        let run_one = |&seed: &u64| {
            // Placement takes most of the time, so most schedules have a simple one.
            let options = Options {
                has_real_placement: seed.is_multiple_of(REAL_PLACEMENT_EVERY) && slots == 0,
                slots,
                lag_ms: if seed % 3 == 2 { LAG_MS } else { 0 },
                ..Options::default()
            };
            (seed, run(seed, options))
        };
        share.map(run_one).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_share(first)))
            .collect();
        let reports = shares
            .into_iter()
            .map(|share| share.join().expect("it didn't panic"));
        reports.flatten().collect()
    })
}

#[test]
fn schedules_keep_the_invariants() {
    let started = Instant::now();
    let seeds = match (number("FULMAR_SIM_SEED"), number("FULMAR_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(count)) => {
            let first = number("FULMAR_SIM_FIRST").unwrap_or(0);
            first..first + count
        }
        (None, None) => 0..SEEDS,
    };
    judge(&run_all(seeds.collect(), 0), started);
}

#[test]
fn large_clusters_keep_the_invariants() {
    let started = Instant::now();
    let count = number("FULMAR_SIM_LARGE_SEEDS").unwrap_or(LARGE_SEEDS);
    judge(&run_all((0..count).collect(), LARGE_NODES), started);
}

fn judge(reports: &BTreeMap<u64, Report>, started: Instant) {
    let mut violations = Vec::new();
    for (seed, report) in reports {
        if let Some(violation) = &report.violation {
            println!("seed {seed}: {violation}");
            violations.push(seed);
        }
    }
    println!("{}", summarize(reports.values()));
    println!("in {} ms", started.elapsed().as_millis());
    assert!(violations.is_empty(), "seeds {violations:?}");
}

/// The first seeds until a checker that says `words` notices what is broken.
fn notices(options: Options, words: &str) {
    let violations = (0..SABOTAGED_SEEDS).filter_map(|seed| run(seed, options).violation);
    let mut others = Vec::new();
    for violation in violations {
        if violation.contains(words) {
            return;
        }
        others.push(violation);
    }
    panic!("nothing says {words:?}, but {others:?}");
}

#[test]
fn quorums_that_are_too_small_are_noticed() {
    let sabotage = Sabotage {
        quorum_less: 1,
        ..Sabotage::default()
    };
    let options = Options {
        sabotage,
        ..Options::default()
    };
    notices(options, "has two topologies");
}

#[test]
fn processes_that_ignore_their_incarnation_are_noticed() {
    let sabotage = Sabotage {
        ignores_incarnations: true,
        ..Sabotage::default()
    };
    let options = Options {
        sabotage,
        ..Options::default()
    };
    notices(options, "acts");
}

#[test]
fn promises_without_seals_are_noticed() {
    let faithless = Faithless {
        never_seals: true,
        ..Faithless::default()
    };
    let options = Options {
        faithless,
        is_deaf: true,
        ..Options::default()
    };
    notices(options, "voted");
}

#[test]
fn followers_that_ignore_terms_are_noticed() {
    let faithless = Faithless {
        ignores_terms: true,
        ..Faithless::default()
    };
    let options = Options {
        faithless,
        ..Options::default()
    };
    notices(options, "copies differ");
}

#[test]
fn writes_that_are_not_held_are_noticed() {
    let faithless = Faithless {
        never_holds: true,
        ..Faithless::default()
    };
    let options = Options {
        faithless,
        ..Options::default()
    };
    notices(options, "was not handed over");
}

/// The same schedules as in `promises_without_seals_are_noticed`, with seals.
#[test]
fn members_that_some_do_not_hear_lose_nothing() {
    let options = Options {
        is_deaf: true,
        ..Options::default()
    };
    for seed in 0..40 {
        assert_eq!(run(seed, options).violation, None, "seed {seed}");
    }
}

#[test]
fn without_faults_nothing_is_lost() {
    let options = Options {
        is_calm: true,
        ..Options::default()
    };
    let seeds = number("FULMAR_SIM_SEED").map_or(0..40, |seed| seed..seed + 1);
    let reports: Vec<Report> = seeds.map(|seed| run(seed, options)).collect();
    println!("{}", summarize(reports.iter()));
    for (seed, report) in (0..).zip(&reports) {
        assert_eq!(report.violation, None, "seed {seed}");
        let losses = (report.lost_ranges, report.divergences, report.elections);
        assert_eq!(losses, (0, 0, 0), "seed {seed}");
        assert_eq!(report.aborted_hand_overs, 0, "seed {seed}");
        assert_eq!(report.held, report.writes, "seed {seed}");
    }
}
