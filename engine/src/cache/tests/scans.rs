//! What S3-FIFO is there for, by name: where it helps, exact LRU is shown not to.

use crate::cache::Cache;
use crate::config::Config;
use crate::eviction::Eviction;
use crate::item::Meta;
use crate::key::{Key, KeyHasher};
use crate::limits::{EVICTION_REINSERTS_MAX, PAGE_BYTES};
use crate::order::{ListId, ListKind};
use crate::slab::{ClassId, Handle};
use crate::time::{Expiry, Time};

const HASHER: KeyHasher = KeyHasher::new([5, 6, 7, 8]);
const MIB: usize = 1 << 20;
/// Keys from here on are of scans.
const SCANNED: u64 = 1 << 32;

fn cache(memory_bytes_max: usize, eviction: Eviction) -> Cache {
    let mut config = Config::new(memory_bytes_max, HASHER);
    config.eviction = eviction;
    Cache::new(config).expect("enough memory")
}

fn with<R>(number: u64, call: impl FnOnce(&Key<'_>) -> R) -> R {
    let bytes = number.to_le_bytes();
    call(&Key::new(&bytes, 0, HASHER.hash(&bytes)))
}

fn set(cache: &mut Cache, number: u64, len: usize) {
    with(number, |key| {
        let stored = cache.set(key, &vec![7; len], Expiry::Never, Time(0));
        stored.expect("fits");
    });
}

fn get(cache: &mut Cache, number: u64) -> bool {
    with(number, |key| cache.get(key, Time(0)).is_some())
}

fn is_held(cache: &Cache, number: u64) -> bool {
    with(number, |key| cache.peek(key, Time(0)).is_some())
}

fn handle(cache: &Cache, number: u64) -> Handle {
    with(number, |key| cache.find(key).expect("held"))
}

/// The length that is a number's turn.
fn nth(lengths: &[usize], number: u64) -> usize {
    lengths[usize::try_from(number).expect("64 bits") % lengths.len()]
}

/// Writes new keys, never to be read, with values of these lengths in turn.
fn scan(cache: &mut Cache, first: u64, lengths: &[usize], bytes: usize) -> u64 {
    let (mut number, mut left) = (first, bytes);
    while left > 0 {
        let len = nth(lengths, number);
        set(cache, SCANNED + number, len);
        number += 1;
        left = left.saturating_sub(8 + len);
    }
    number
}

/// How many items of a third of the memory, each used once since it was written, are left after
/// a scan of three times the memory.
fn left_after_a_scan(eviction: Eviction, lengths: &[usize], scanned: &[usize]) -> f64 {
    const BYTES: usize = 8 * MIB;
    let mut cache = cache(BYTES, eviction);
    let mean = lengths.iter().sum::<usize>() / lengths.len() + 24;
    let count = (BYTES / 3 / mean) as u64;
    for number in 0..count {
        set(&mut cache, number, nth(lengths, number));
    }
    assert!((0..count).all(|number| get(&mut cache, number)));
    scan(&mut cache, 0, scanned, 3 * BYTES);
    cache.check_integrity();
    let left = (0..count).filter(|&number| is_held(&cache, number)).count();
    left as f64 / count as f64
}

#[test]
fn items_that_were_used_survive_a_scan_larger_than_the_cache() {
    for (lengths, scanned) in [
        (&[40][..], &[40][..]),
        (&[40, 300, 2_000], &[40, 300, 2_000]),
        (&[9_000, 300], &[9_000, 300, 70_000]),
    ] {
        let left = left_after_a_scan(Eviction::S3Fifo, lengths, scanned);
        assert!(left > 0.96, "{left:.3} left of {lengths:?}");
        let left = left_after_a_scan(Eviction::Lru, lengths, scanned);
        assert!(left < 0.01, "{left:.3} left of {lengths:?} under LRU");
    }
}

/// A scan of another size takes pages from the items that were used, but not many.
#[test]
fn a_scan_of_other_sizes_takes_about_a_tenth() {
    for (lengths, scanned) in [
        (&[100][..], &[1_000][..]),
        (&[1_000], &[100]),
        (&[9_000], &[60]),
    ] {
        let left = left_after_a_scan(Eviction::S3Fifo, lengths, scanned);
        assert!(left > 0.95, "{left:.3} left of {lengths:?}");
    }
}

#[test]
fn a_use_moves_nothing() {
    let mut cache = cache(MIB, Eviction::S3Fifo);
    for number in 0..1_000 {
        set(&mut cache, number, 40);
    }
    let list = cache.list_of(handle(&cache, 0), cache.slab.meta(handle(&cache, 0)));
    let order = |cache: &Cache| cache.lists.iter(&cache.slab, list).collect::<Vec<_>>();
    let before = order(&cache);
    for number in (0..1_000).step_by(3) {
        assert!(get(&mut cache, number));
        set(&mut cache, number, 41);
    }
    assert!(order(&cache) == before);
}

#[test]
fn a_key_that_comes_back_soon_after_its_eviction_is_kept() {
    for eviction in [Eviction::Lru, Eviction::S3Fifo] {
        let mut cache = cache(2 * MIB, eviction);
        set(&mut cache, 1, 200);
        let mut next = 0;
        while is_held(&cache, 1) {
            next = scan(&mut cache, next, &[200], 1_000);
        }
        set(&mut cache, 1, 200);
        scan(&mut cache, next, &[200], 6 * MIB);
        assert_eq!(is_held(&cache, 1), eviction == Eviction::S3Fifo);
        cache.check_integrity();
    }
}

/// What a write of another form or class puts in an item's place has its standing.
#[test]
fn an_item_keeps_its_standing_whatever_is_written_over_it() {
    let mut cache = cache(8 * MIB, Eviction::S3Fifo);
    let hot = 0..60;
    let len = |number: u64| nth(&[600, 3_000, 20_000], number);
    for number in hot.clone() {
        set(&mut cache, number, len(number));
        assert!(get(&mut cache, number));
    }
    let mut next = scan(&mut cache, 0, &[600, 3_000, 20_000], 32 * MIB);
    let is_main = |cache: &Cache, number| cache.slab.meta(handle(cache, number)).has(Meta::MAIN);
    assert!(hot.clone().all(|number| is_main(&cache, number)));
    for number in hot.clone() {
        with(number, |key| match number / 3 % 5 {
            0 => cache
                .append(key, &[1; 500], Time(0))
                .map(|_| ())
                .expect("fits"),
            1 => cache
                .set(key, &[2; 30_000], Expiry::Never, Time(0))
                .expect("fits"),
            2 => cache
                .set(key, &[2; 10], Expiry::At(Time(99)), Time(0))
                .expect("fits"),
            3 => assert!(cache.set_expiry(key, Expiry::At(Time(99)), Time(0))),
            _ => {
                let lease = cache.lease(key, Time(0)).expect("live");
                cache.append(key, b"leased", Time(0)).expect("fits");
                cache.release(lease);
            }
        });
        assert!(is_main(&cache, number), "{number} has lost its place");
        cache.check_integrity();
    }
    for _ in 0..3 {
        next = scan(&mut cache, next, &[600, 3_000, 20_000], 8 * MIB);
        let left = hot
            .clone()
            .filter(|&number| is_held(&cache, number))
            .count();
        assert!(left >= 58, "{left} of 60 left");
    }
}

/// However many were used: an eviction lets a bounded number stay, and evicts.
#[test]
fn an_eviction_passes_over_a_bounded_number_of_used_items() {
    let mut cache = cache(MIB, Eviction::S3Fifo);
    let mut count = 0;
    while cache.stats().evicted == 0 {
        set(&mut cache, count, 40);
        count += 1;
    }
    for number in 0..count {
        get(&mut cache, number);
    }
    let class = cache.slab.class_of(handle(&cache, count - 1));
    for number in count..count + 200 {
        let (before, stats) = (in_main(&cache, class), cache.stats());
        set(&mut cache, number, 40);
        let evicted = usize::try_from(cache.stats().evicted - stats.evicted).expect("few");
        let moved = in_main(&cache, class) - before;
        assert!(
            moved <= EVICTION_REINSERTS_MAX * evicted,
            "{moved} for {evicted}"
        );
    }
    assert!(in_main(&cache, class) > 500);
    cache.check_integrity();
}

fn in_main(cache: &Cache, class: ClassId) -> usize {
    cache.lists.count(ListId::new(class, ListKind::Main))
}

#[test]
fn the_ghost_is_part_of_the_limit_and_costs_lru_nothing() {
    let pages = |eviction| cache(64 * MIB, eviction).stats().pages_total;
    let taken = (pages(Eviction::Lru) - pages(Eviction::S3Fifo)) * PAGE_BYTES as u64;
    assert!(
        (MIB as u64..MIB as u64 + 2 * PAGE_BYTES as u64).contains(&taken),
        "{taken}"
    );
    assert!(cache(MIB, Eviction::Lru).ghost.is_none());
}

#[test]
fn what_a_flush_leaves_is_in_no_list() {
    let mut cache = cache(4 * MIB, Eviction::S3Fifo);
    let mut next = 0;
    for _ in 0..3 {
        for number in 0..1_000 {
            set(&mut cache, number, 300);
            get(&mut cache, number);
        }
        next = scan(&mut cache, next, &[300, 20_000], 8 * MIB);
        cache.check_integrity();
        cache.flush();
        cache.check_integrity();
        assert!(cache.is_empty());
    }
}

/// Writes new keys and uses each at once, so that all of them are for the main list.
fn use_new(cache: &mut Cache, first: u64, len: usize, bytes: usize) -> u64 {
    let last = first + (bytes / (len + 8)) as u64;
    for number in first..last {
        set(cache, number, len);
        get(cache, number);
    }
    last
}

#[test]
fn a_leased_item_stays_through_turns_of_the_main_list() {
    let mut cache = cache(MIB, Eviction::S3Fifo);
    set(&mut cache, 0, 500);
    let lease = with(0, |key| cache.lease(key, Time(0))).expect("live");
    use_new(&mut cache, 1, 500, 5 * MIB);
    assert!(cache.slab.meta(handle(&cache, 0)).has(Meta::MAIN));
    assert_eq!(cache.stats().zombies, 0);
    cache.release(lease);
    cache.check_integrity();
}

/// A class that fills its main list loses pages to one that needs them: not only what is scanned does.
#[test]
fn memory_follows_the_sizes_that_are_used() {
    const BYTES: usize = 4 * MIB;
    let held = |cache: &Cache, first: u64, last: u64| {
        (first..last)
            .filter(|&number| is_held(cache, number))
            .count()
    };
    for [from, to] in [[100, 1_000], [1_000, 100]] {
        let mut fresh = cache(BYTES, Eviction::S3Fifo);
        let last = use_new(&mut fresh, 0, to, 3 * BYTES);
        let fresh = held(&fresh, 0, last);
        let mut cache = cache(BYTES, Eviction::S3Fifo);
        let first = use_new(&mut cache, 0, from, 3 * BYTES);
        let last = use_new(&mut cache, first, to, 3 * BYTES);
        cache.check_integrity();
        let share = held(&cache, first, last) as f64 / fresh as f64;
        assert!(share > 0.9, "{to} B: {share:.3} of a fresh cache's items");
    }
}
