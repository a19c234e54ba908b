//! S3-FIFO beside a naive one: two vectors, in a cache whose items are all of one class. Exactly the
//! items that the oracle evicts must be gone, one call after the other.
//!
//! The oracle takes the cache's word for what the ghost remembers, within bounds; the ghost has tests
//! of its own.

use std::collections::HashSet;
use std::mem::take;

use proptest::collection::vec;
use proptest::prelude::{
    BoxedStrategy, ProptestConfig, Strategy, prop_assert, prop_oneof, proptest,
};

use crate::cache::{Cache, Lease};
use crate::config::Config;
use crate::eviction::Eviction;
use crate::item::Meta;
use crate::key::{Key, KeyHasher};
use crate::limits::{EVICTION_REINSERTS_MAX, EVICTION_SKIPS_MAX};
use crate::slab::Handle;
use crate::time::{Expiry, Time};

const HASHER: KeyHasher = KeyHasher::new([5, 6, 7, 8]);
const KEYS_COUNT: u16 = 900;
const VALUE: [u8; 1_000] = [7; 1_000];
const LEASES_MAX: usize = 6;
/// The ghost nearly always knows the last evictions, so many of them.
const GHOST_NEARLY_SURE: usize = 40;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Get(u16),
    Touch(u16),
    Set(u16),
    /// New keys, or old ones again.
    SetMany(u16, u16),
    GetMany(u16, u16),
    Delete(u16),
    Lease(u16),
    Release(usize),
    Reserve(usize),
}

#[derive(Clone)]
struct Entry {
    key: u16,
    /// Tells it from what its key had before.
    version: u64,
    is_used: bool,
    leases_count: usize,
}

/// The policy as the paper has it, newest last.
#[derive(Clone, Default)]
struct Oracle {
    first: Vec<Entry>,
    main: Vec<Entry>,
    /// Keys evicted from the first list, newest last.
    ghost: Vec<u16>,
    evicted_from: [u64; 2],
    /// How often it should have known a key, and didn't or did.
    asked_ghost: [u64; 2],
}

impl Oracle {
    fn entry(&mut self, key: u16) -> Option<&mut Entry> {
        let all = self.first.iter_mut().chain(&mut self.main);
        { all }.find(|entry| entry.key == key)
    }

    fn remove(&mut self, key: u16) {
        self.first.retain(|entry| entry.key != key);
        self.main.retain(|entry| entry.key != key);
    }

    fn evict(&mut self) {
        for step in 0..EVICTION_REINSERTS_MAX + EVICTION_SKIPS_MAX {
            let is_first =
                self.main.is_empty() || self.first.len() * 10 > self.first.len() + self.main.len();
            let mut tail = if is_first {
                self.first.remove(0)
            } else {
                self.main.remove(0)
            };
            let may_stay = tail.is_used && step < EVICTION_REINSERTS_MAX;
            if !may_stay && tail.leases_count == 0 {
                if is_first {
                    self.ghost.push(tail.key);
                }
                self.evicted_from[usize::from(!is_first)] += 1;
                return;
            }
            tail.is_used = false;
            self.main.push(tail);
        }
        panic!("nothing to evict");
    }

    fn keys(&self) -> HashSet<u16> {
        let all = self.first.iter().chain(&self.main);
        all.map(|entry| entry.key).collect()
    }
}

struct Pair {
    cache: Cache,
    oracle: Oracle,
    leases: Vec<(u64, Lease)>,
    versions: u64,
    unproven: u64,
}

impl Pair {
    fn new(memory_bytes_max: usize) -> Self {
        let mut config = Config::new(memory_bytes_max, HASHER);
        config.eviction = Eviction::S3Fifo;
        Self {
            cache: Cache::new(config).expect("enough memory"),
            oracle: Oracle::default(),
            leases: Vec::new(),
            versions: 0,
            unproven: 0,
        }
    }

    fn find(&self, key: u16) -> Option<Handle> {
        let bytes = key.to_be_bytes();
        self.cache.find(&Key::new(&bytes, 0, HASHER.hash(&bytes)))
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::SetMany(first, count) => {
                for key in first..first + count {
                    self.run_one(Operation::Set(key % KEYS_COUNT));
                }
            }
            Operation::GetMany(first, count) => {
                for key in first..first + count {
                    self.run_one(Operation::Get(key % KEYS_COUNT));
                }
            }
            operation => self.run_one(operation),
        }
        self.cache.check_integrity();
        assert!(self.oracle.keys() == self.held(), "other items are held");
    }

    fn held(&self) -> HashSet<u16> {
        (0..KEYS_COUNT)
            .filter(|&key| self.find(key).is_some())
            .collect()
    }

    fn run_one(&mut self, operation: Operation) {
        let before = self.cache.stats();
        let now = Time(0);
        let call = |cache: &mut Cache, key: u16, call: &dyn Fn(&mut Cache, &Key<'_>)| {
            let bytes = key.to_be_bytes();
            call(cache, &Key::new(&bytes, 0, HASHER.hash(&bytes)));
        };
        let cache = &mut self.cache;
        match operation {
            Operation::Get(key) => call(cache, key, &|cache, key| {
                cache.get(key, now);
            }),
            Operation::Touch(key) => call(cache, key, &|cache, key| {
                cache.touch(key, now);
            }),
            Operation::Set(key) => call(cache, key, &|cache, key| {
                cache.set(key, &VALUE, Expiry::Never, now).expect("fits");
            }),
            Operation::Delete(key) => call(cache, key, &|cache, key| {
                cache.delete(key, now);
            }),
            Operation::Reserve(bytes) => cache.set_reserved_bytes(bytes),
            Operation::Lease(key) => {
                let bytes = key.to_be_bytes();
                let key = Key::new(&bytes, 0, HASHER.hash(&bytes));
                if self.leases.len() < LEASES_MAX
                    && let Some(lease) = cache.lease(&key, now)
                {
                    let entry = self.oracle.entry(u16::from_be_bytes(bytes));
                    let entry = entry.expect("the cache has it");
                    entry.is_used = true;
                    entry.leases_count += 1;
                    self.leases.push((entry.version, lease));
                }
            }
            Operation::Release(number) => {
                if number < self.leases.len() {
                    let (version, lease) = self.leases.remove(number);
                    cache.release(lease);
                    let oracle = &mut self.oracle;
                    let mut all = oracle.first.iter_mut().chain(&mut oracle.main);
                    if let Some(entry) = all.find(|entry| entry.version == version) {
                        entry.leases_count -= 1;
                    }
                }
            }
            Operation::SetMany(..) | Operation::GetMany(..) => unreachable!("run splits them"),
        }
        let after = self.cache.stats();
        self.follow(
            operation,
            after.evicted - before.evicted,
            after.evicted_early != before.evicted_early,
        );
    }

    /// Lets the oracle do the same. It is told how many were evicted, as pages are the cache's
    /// affair, but not which.
    fn follow(&mut self, operation: Operation, evicted: u64, evicted_early: bool) {
        match operation {
            Operation::Get(key) | Operation::Touch(key) => {
                if let Some(entry) = self.oracle.entry(key) {
                    entry.is_used = true;
                }
            }
            Operation::Delete(key) => self.oracle.remove(key),
            _ => {}
        }
        self.versions += 1;
        if evicted == 0 {
            if let Operation::Set(key) = operation {
                let mut oracle = take(&mut self.oracle);
                assert!(self.set(&mut oracle, key), "{key} was never evicted");
                self.oracle = oracle;
            }
            return;
        }
        let held = self.held();
        // The index grows after the item is there, and may take a page for it.
        let outcomes = (0..=evicted).rev().filter_map(|evicted_before| {
            let mut oracle = self.oracle.clone();
            (0..evicted_before).for_each(|_| oracle.evict());
            let is_right = match operation {
                Operation::Set(key) => self.set(&mut oracle, key),
                _ => true,
            };
            (evicted_before..evicted).for_each(|_| oracle.evict());
            is_right.then_some(oracle)
        });
        let agreeing = { outcomes }.find(|oracle| oracle.keys() == held);
        match agreeing {
            Some(oracle) => self.oracle = oracle,
            None => {
                self.unproven += evicted;
                assert!(evicted_early, "{operation:?}: other items are gone");
                if let Operation::Set(key) = operation {
                    let mut oracle = take(&mut self.oracle);
                    self.set(&mut oracle, key);
                    self.oracle = oracle;
                }
                let Oracle { first, ghost, .. } = &mut self.oracle;
                let gone = first.iter().filter(|entry| !held.contains(&entry.key));
                ghost.extend(gone.map(|entry| entry.key));
                first.retain(|entry| held.contains(&entry.key));
                self.oracle.main.retain(|entry| held.contains(&entry.key));
            }
        }
    }

    /// False if the key comes from the ghost, but was never evicted.
    fn set(&self, oracle: &mut Oracle, key: u16) -> bool {
        if let Some(entry) = oracle.entry(key) {
            entry.is_used = true;
            if entry.leases_count == 0 {
                return true;
            }
        }
        // One that is leased is not written over: another comes in its place, to the front.
        let entry = Entry {
            key,
            version: self.versions,
            is_used: oracle.entry(key).is_some(),
            leases_count: 0,
        };
        let was_main = oracle.main.iter().any(|entry| entry.key == key);
        let is_new = oracle.entry(key).is_none();
        let is_main = match self.find(key) {
            Some(handle) if is_new => self.cache.slab.meta(handle).has(Meta::MAIN),
            _ => was_main,
        };
        if is_new {
            let mut latest = oracle.ghost.iter().rev();
            let back = latest.position(|&remembered| remembered == key);
            if is_main && back.is_none() {
                return false;
            }
            if back.is_some_and(|back| back < GHOST_NEARLY_SURE) {
                oracle.asked_ghost[usize::from(is_main)] += 1;
            }
            // Evicted again, it may be remembered twice.
            if let Some(back) = back.filter(|_| is_main) {
                oracle.ghost.remove(oracle.ghost.len() - 1 - back);
            }
        }
        oracle.remove(key);
        if is_main {
            oracle.main.push(entry);
        } else {
            oracle.first.push(entry);
        }
        true
    }
}

fn operation() -> BoxedStrategy<Operation> {
    let key = || 0..KEYS_COUNT;
    prop_oneof![
        4 => key().prop_map(Operation::Get),
        1 => key().prop_map(Operation::Touch),
        6 => key().prop_map(Operation::Set),
        6 => (key(), 1u16..120).prop_map(|(first, count)| Operation::SetMany(first, count)),
        6 => (key(), 1u16..200).prop_map(|(first, count)| Operation::GetMany(first, count)),
        1 => key().prop_map(Operation::Delete),
        2 => key().prop_map(Operation::Lease),
        2 => (0..LEASES_MAX).prop_map(Operation::Release),
        1 => (0usize..150_000).prop_map(Operation::Reserve),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: match () {
            () if cfg!(miri) => 1,
            () if cfg!(debug_assertions) => 10,
            () => 32,
        },
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_class_agrees_with_a_naive_s3_fifo(
        operations in vec(operation(), 1..if cfg!(miri) { 10 } else { 120 }),
        memory_kib in 480usize..960,
    ) {
        let mut pair = Pair::new(memory_kib * 1024);
        for operation in operations {
            pair.run(operation);
        }
        prop_assert!(pair.cache.len() == pair.oracle.keys().len());
    }
}

/// The generator must reach what the oracle is there to prove.
#[test]
fn evictions_from_both_lists_are_proven() {
    let mut pair = Pair::new(600 << 10);
    for round in 0..8 {
        pair.run(Operation::SetMany(0, 300));
        pair.run(Operation::GetMany(round * 30, 400));
        pair.run(Operation::SetMany(200 + round * 100, 150));
        pair.run(Operation::GetMany(200 + round * 100, 150));
        pair.run(Operation::Lease(round * 7));
        pair.run(Operation::Reserve(usize::from(round) * 10_000));
    }
    let [from_first, from_main] = pair.oracle.evicted_from;
    assert!(from_first > 300, "{from_first} from the first list");
    assert!(from_main > 50, "{from_main} from the main list");
    assert!(pair.unproven < 50, "{} not proven", pair.unproven);
    let [forgotten, known] = pair.oracle.asked_ghost;
    assert!(known > 30, "{known} came back soon");
    assert!(forgotten * 20 < known, "{forgotten} forgotten");
}
