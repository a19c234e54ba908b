//! Memory that others make resident ahead: what it may not cost, however long they take.

use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::cache::Cache;
use crate::cache::tests::model::Pair;
use crate::cache::tests::operation::operations_populated;
use crate::config::Config;
use crate::eviction::Eviction;
use crate::key::{Key, KeyHasher};
use crate::limits::{EVACUATED_CHUNKS_MAX, PAGE_BYTES, RESERVED_PAGES_MAX};
use crate::slab::{HUGE_PAGE_BYTES, Populate};
use crate::time::{Expiry, Time};

const HASHER: KeyHasher = KeyHasher::new([5, 6, 7, 8]);
const ARENA_BYTES: usize = 80 << 20;
const HUGE_PAGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;
/// What a set empties by the way, at most, and what the index or the limit ask for. An item that
/// moves for another that goes counts twice.
const DEPARTURES_MAX: u64 = 2 * 2 * EVACUATED_CHUNKS_MAX as u64;

/// A cache, and what is to be made resident.
struct Populated {
    cache: Cache,
    begun: Receiver<Populate>,
    /// Number of the next key.
    next: u32,
}

impl Populated {
    fn new() -> Self {
        let mut cache = Cache::new(Config::new(ARENA_BYTES, HASHER)).expect("address space");
        let (sender, begun) = channel();
        cache.populate_by(move |populate| drop(sender.send(populate)));
        Self {
            cache,
            begun,
            next: 0,
        }
    }

    /// Reserves as many bytes as leave so many pages.
    fn limit(&mut self, pages_count: usize) {
        let reserved = self.cache.reserved_bytes as i64;
        let more = self.cache.slab.resident_max() as i64 - pages_count as i64;
        let reserved = usize::try_from(reserved + more * PAGE_BYTES as i64);
        self.cache
            .set_reserved_bytes(reserved.expect("no more pages than there are"));
        assert_eq!(self.cache.slab.resident_max(), pages_count);
    }

    /// Stores a new key, and tells how many items that made leave or move.
    fn set(&mut self, len: usize) -> u64 {
        let bytes = self.next.to_le_bytes();
        self.next += 1;
        let key = Key::new(&bytes, 0, HASHER.hash(&bytes));
        let before = self.cache.departures;
        let stored = (self.cache).set(&key, &vec![b'v'; len], Expiry::Never, Time(0));
        assert_eq!(stored, Ok(()), "an item of {len} bytes fits");
        assert!(self.cache.peek(&key, Time(0)).is_some());
        self.cache.departures - before
    }

    /// Stores small items until the oldest go.
    fn fill(&mut self, len: usize) {
        let evicted = self.cache.stats().evicted;
        while self.cache.stats().evicted == evicted || self.cache.slab.is_over() {
            self.set(len);
        }
    }
}

#[test]
fn what_just_became_resident_is_given_back_by_and_by() {
    let mut populated = Populated::new();
    let populate = populated.begun.try_recv().expect("it asks at once");
    populated.limit(HUGE_PAGE_PAGES - 1);
    let cache = &mut populated.cache;
    assert_eq!(cache.slab.resident_count(), HUGE_PAGE_PAGES);
    cache.advance(Time(1), 1);
    assert_eq!(cache.slab.resident_count(), HUGE_PAGE_PAGES);
    populate.run();
    cache.advance(Time(2), 1);
    assert_eq!(cache.slab.resident_count(), HUGE_PAGE_PAGES - 1);
    cache.check_integrity();
}

/// All of what the limit leaves is being made resident, and more: items get it all the same.
#[test]
fn items_fit_below_a_limit_that_fell_meanwhile() {
    for pages_count in [
        12,
        HUGE_PAGE_PAGES - 1,
        HUGE_PAGE_PAGES,
        HUGE_PAGE_PAGES + 1,
    ] {
        let mut populated = Populated::new();
        let populate = populated.begun.try_recv().expect("it asks at once");
        populated.limit(pages_count);
        for len in (0..4_000).step_by(200) {
            populated.set(len);
            populated.cache.check_integrity();
        }
        drop(populate);
        // The first that takes a page gives back what is too much.
        for len in (100..4_000).step_by(200) {
            populated.set(len);
            populated.cache.check_integrity();
        }
        assert!(populated.cache.slab.resident_count() <= pages_count);
    }
}

/// A limit that falls by what is being made resident, or by less, empties no page at once, and none for
/// classes that start from nothing after that.
#[test]
fn no_call_empties_more_where_the_limit_fell_meanwhile() {
    for fall in [0, 1, 7, HUGE_PAGE_PAGES - 1, HUGE_PAGE_PAGES] {
        let mut populated = Populated::new();
        let pages_count = 3 * HUGE_PAGE_PAGES;
        populated.limit(pages_count);
        let populate = populated.begun.try_recv().expect("it asks at once");
        populated.fill(1);
        assert!(populated.begun.try_recv().is_err(), "one at a time");
        populated.limit(pages_count - fall);
        while populated.cache.slab.is_over() {
            populated.cache.advance(Time(1), 1_000);
        }
        populated.cache.check_integrity();
        for len in (30..4_000).step_by(110) {
            let departures = populated.set(len);
            assert!(
                departures <= DEPARTURES_MAX,
                "{departures} departures, fall {fall}"
            );
            for _ in 0..120 {
                let departures = populated.set(1);
                assert!(
                    departures <= DEPARTURES_MAX,
                    "{departures} departures, fall {fall}"
                );
            }
        }
        populated.cache.check_integrity();
        drop(populate);
    }
}

/// Where a limit rises by just a huge page, that leaves room for one beside what is resident, but not beside
/// the reserve.
#[test]
fn the_reserve_is_not_what_is_made_resident() {
    let mut populated = Populated::new();
    drop(populated.begun.try_recv());
    populated.limit(3 * HUGE_PAGE_PAGES);
    for _ in 0..2 {
        populated.fill(40);
        drop(populated.begun.try_recv());
    }
    let slab = &populated.cache.slab;
    let (resident, reserve) = (slab.resident_count(), RESERVED_PAGES_MAX);
    assert!(resident - slab.in_use_count() < reserve);
    populated.limit(resident + HUGE_PAGE_PAGES);
    for len in (300..).step_by(300).take(reserve) {
        populated.set(len);
        let slab = &populated.cache.slab;
        assert_eq!(slab.resident_max(), resident + HUGE_PAGE_PAGES);
        let withheld_count = slab.withheld_count();
        assert!(
            [0, HUGE_PAGE_PAGES].contains(&withheld_count),
            "{withheld_count} left"
        );
    }
    populated.cache.check_integrity();
}

/// What happens to a cache of many small items.
#[derive(Clone, Copy, Debug)]
enum Step {
    Fill(u32),
    /// Items of sizes that come for the first time, as a rule.
    Others(u32),
    Limit(usize),
    Delete(u32),
    Advance,
    Populate {
        is_run: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u32..60_000).prop_map(Step::Fill),
        3 => (1u32..12).prop_map(Step::Others),
        3 => (12usize..120).prop_map(Step::Limit),
        1 => (0u32..20_000).prop_map(Step::Delete),
        1 => Just(Step::Advance),
        1 => any::<bool>().prop_map(|is_run| Step::Populate { is_run }),
    ];
    proptest::collection::vec(step, 1..24)
}

impl Populated {
    fn run(&mut self, step: Step) {
        match step {
            Step::Fill(count) => (0..count).for_each(|_| self.set_bounded(1)),
            Step::Others(count) => {
                for number in 0..count {
                    self.set_bounded((self.next + number * 331) as usize % 4_000);
                    (0..120).for_each(|_| self.set_bounded(1));
                }
            }
            Step::Limit(pages_count) => {
                self.limit(pages_count);
                // Before the reserve is whole again, calls may take as long as whole pages do.
                for _ in 0..100_000 {
                    if !self.cache.slab.is_over() {
                        return;
                    }
                    self.cache.advance(Time(0), 1_000);
                }
                panic!("over the limit, and nothing is done about it");
            }
            Step::Delete(count) => {
                for number in 0..self.next.min(count) {
                    let bytes = (self.next - number).to_le_bytes();
                    let key = Key::new(&bytes, 0, HASHER.hash(&bytes));
                    self.cache.delete(&key, Time(0));
                }
            }
            Step::Advance => {
                self.cache.advance(Time(0), 1_000);
            }
            Step::Populate { is_run } => {
                if let Some(populate) = self.begun.try_recv().ok().filter(|_| is_run) {
                    populate.run();
                }
            }
        }
    }

    fn set_bounded(&mut self, len: usize) {
        let departures = self.set(len);
        assert!(
            departures <= DEPARTURES_MAX,
            "{departures} departures in one call"
        );
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(if cfg!(debug_assertions) { 12 } else { 64 }))]

    #[test]
    fn every_call_is_short_and_stores(steps in steps()) {
        let mut populated = Populated::new();
        populated.limit(120);
        for step in steps {
            populated.run(step);
            populated.cache.check_integrity();
        }
    }
}

proptest! {
    #![proptest_config(config(if cfg!(debug_assertions) { 40 } else { 128 }))]

    #[test]
    fn the_model_holds_while_memory_is_made_resident(
        operations in operations_populated(120),
        // What the operations reserve leaves more pages than are kept free.
        memory_kib in 8_500usize..10_500,
        is_s3_fifo in any::<bool>(),
    ) {
        let eviction = if is_s3_fifo { Eviction::S3Fifo } else { Eviction::Lru };
        let mut pair = Pair::new_populated(memory_kib * 1024, eviction);
        for operation in operations {
            pair.run(operation);
        }
        pair.finish();
    }
}
