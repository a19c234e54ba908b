//! Single behaviours, by name.

#[cfg(not(miri))]
use std::time::{Duration, Instant};

use crate::cache::Cache;
use crate::config::{Config, ConfigError};
use crate::error::{IncrError, StoreError};
use crate::eviction::Eviction;
use crate::key::{Key, KeyHasher};
#[cfg(not(miri))]
use crate::limits::ADVANCE_WORK_MAX;
use crate::limits::{EVACUATED_CHUNKS_MAX, INDEX_MOVES_MAX, KEY_BYTES_MAX};
use crate::time::{Expiry, Time};

const HASHER: KeyHasher = KeyHasher::new([5, 6, 7, 8]);
const MIB: usize = 1 << 20;
const POLICIES: [Eviction; 2] = [Eviction::Lru, Eviction::S3Fifo];

fn key(bytes: &[u8]) -> Key<'_> {
    Key::new(bytes, 0, HASHER.hash(bytes))
}

fn cache(memory_bytes_max: usize) -> Cache {
    cache_with(memory_bytes_max, Eviction::Lru)
}

fn cache_with(memory_bytes_max: usize, eviction: Eviction) -> Cache {
    let mut config = Config::new(memory_bytes_max, HASHER);
    config.eviction = eviction;
    Cache::new(config).expect("enough memory")
}

fn value_of(cache: &Cache, bytes: &[u8], now: Time) -> Option<Vec<u8>> {
    cache.peek(&key(bytes), now).map(|item| {
        let mut value = Vec::new();
        item.value().copy_to(0..usize::MAX, &mut value);
        value
    })
}

#[test]
fn expired_item_is_a_miss_at_its_deadline_and_not_before() {
    let mut cache = cache(MIB);
    cache
        .set(&key(b"a"), b"1", Expiry::At(Time(1000)), Time(0))
        .expect("fits");
    assert!(cache.get(&key(b"a"), Time(999)).is_some());
    assert!(cache.peek(&key(b"a"), Time(1000)).is_none());
    assert_eq!(cache.len(), 1);
    assert!(cache.get(&key(b"a"), Time(1000)).is_none());
    assert_eq!(cache.len(), 0);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.expired), (1, 1, 1));
    cache.check_integrity();
}

#[test]
fn time_that_goes_back_revives_nothing() {
    let mut cache = cache(MIB);
    cache
        .set(&key(b"a"), b"1", Expiry::At(Time(1000)), Time(0))
        .expect("fits");
    assert!(!cache.touch(&key(b"b"), Time(1000)));
    assert!(cache.peek(&key(b"a"), Time(500)).is_none());
    cache
        .set(&key(b"c"), b"1", Expiry::At(Time(900)), Time(500))
        .expect("fits");
    assert!(cache.peek(&key(b"c"), Time(500)).is_none());
    cache.check_integrity();
}

#[test]
fn keep_keeps_the_deadline_of_a_live_item_only() {
    let mut cache = cache(MIB);
    cache
        .set(&key(b"a"), b"1", Expiry::At(Time(1000)), Time(0))
        .expect("fits");
    cache
        .set(&key(b"a"), b"other", Expiry::Keep, Time(1))
        .expect("fits");
    assert_eq!(
        cache
            .peek(&key(b"a"), Time(1))
            .and_then(|item| item.deadline()),
        Some(Time(1000))
    );
    cache
        .set(&key(b"a"), b"new", Expiry::Keep, Time(1000))
        .expect("fits");
    assert_eq!(
        cache
            .peek(&key(b"a"), Time(1000))
            .and_then(|item| item.deadline()),
        None
    );
}

#[test]
fn write_with_a_past_deadline_leaves_the_key_absent() {
    let mut cache = cache(MIB);
    cache
        .set(&key(b"a"), b"1", Expiry::Never, Time(10))
        .expect("fits");
    cache
        .set(&key(b"a"), b"2", Expiry::At(Time(10)), Time(10))
        .expect("fits");
    assert!(cache.get(&key(b"a"), Time(10)).is_none());
    cache
        .set(&key(b"a"), b"1", Expiry::Never, Time(10))
        .expect("fits");
    assert!(cache.set_expiry(&key(b"a"), Expiry::At(Time(3)), Time(10)));
    assert!(cache.get(&key(b"a"), Time(10)).is_none());
    assert!(!cache.set_expiry(&key(b"a"), Expiry::Never, Time(10)));
}

#[test]
fn deadlines_of_years_are_exact() {
    let year: u64 = 365 * 24 * 3600 * 1000;
    let mut cache = cache(MIB);
    let deadlines = [
        1,
        1 << 31,
        (1 << 31) + 1,
        1 << 32,
        year,
        60 * year,
        u64::MAX,
    ];
    for (number, deadline) in (0u8..).zip(deadlines) {
        cache
            .set(&key(&[number]), b"v", Expiry::At(Time(deadline)), Time(0))
            .expect("fits");
    }
    cache.check_integrity();
    for (number, deadline) in (0u8..).zip(deadlines) {
        let before = Time(deadline - 1);
        while cache.advance(before, 10) {}
        cache.check_integrity();
        let item = cache.peek(&key(&[number]), before).expect("not yet");
        assert_eq!(item.deadline(), Some(Time(deadline)));
        assert!(cache.peek(&key(&[number]), Time(deadline)).is_none());
    }
    while cache.advance(Time(u64::MAX), 10) {}
    cache.check_integrity();
    assert_eq!(cache.len(), 0);
    assert_eq!(cache.next_deadline(), None);
}

#[test]
fn janitor_is_called_in_time_and_reclaims_within_a_tick() {
    let mut cache = cache(4 * MIB);
    let mut now = 0;
    for number in 0..2000u32 {
        let deadline = Time(1 + u64::from(number) * u64::from(number));
        cache
            .set(
                &key(&number.to_le_bytes()),
                b"v",
                Expiry::At(deadline),
                Time(0),
            )
            .expect("fits");
    }
    while let Some(due) = cache.next_deadline() {
        assert!(due.0 >= now, "due times don't go back");
        now = now.max(due.0);
        while cache.advance(Time(now), 7) {}
        let expired = (0..2000u64).filter(|number| number * number < now).count();
        let kept = 2000 - expired;
        // Those of the tick that hasn't ended may still be there.
        let recent = (0..2000u64)
            .filter(|number| (now.saturating_sub(31)..=now).contains(&(1 + number * number)));
        assert!(cache.len() >= kept);
        assert!(cache.len() <= kept + recent.count());
    }
    assert_eq!(cache.len(), 0);
    assert_eq!(cache.stats().expired, 2000);
}

#[test]
fn overwriting_a_deadline_leaves_no_garbage() {
    let mut cache = cache(MIB);
    cache
        .set(&key(b"a"), b"1", Expiry::Never, Time(0))
        .expect("fits");
    for round in 1..20_000 {
        assert!(cache.set_expiry(&key(b"a"), Expiry::At(Time(round * 1000)), Time(0)));
    }
    cache.check_integrity();
    assert_eq!(cache.stats().items_with_ttl, 1);
    assert_eq!(cache.stats().pages_in_use, 1);
}

/// The bound on work per call is what keeps a call short; the time is checked in release builds.
#[test]
#[cfg(not(miri))]
fn many_items_that_expire_together_go_in_bounded_steps() {
    let items = if cfg!(debug_assertions) {
        100_000u32
    } else {
        1_000_000
    };
    let mut cache = cache(256 * MIB);
    for number in 0..items {
        let deadline = Time(60_000 + u64::from(number % 1000));
        cache
            .set(
                &key(&number.to_le_bytes()),
                b"v",
                Expiry::At(deadline),
                Time(0),
            )
            .expect("fits");
    }
    let start = Instant::now();
    let mut calls = 0;
    let mut held = cache.len();
    while cache.advance(Time(61_032), usize::MAX) {
        calls += 1;
        assert!(held - cache.len() <= ADVANCE_WORK_MAX);
        held = cache.len();
    }
    assert_eq!(cache.len(), 0);
    assert!(calls >= items as usize / ADVANCE_WORK_MAX);
    let elapsed = start.elapsed();
    println!("{items} items in {calls} calls, {elapsed:?}");
    assert!(cfg!(debug_assertions) || elapsed < Duration::from_secs(2));
}

#[test]
fn a_flush_leaves_the_index_empty() {
    let mut cache = cache(64 * MIB);
    let empty = cache.stats().index_bytes;
    for _ in 0..2 {
        for number in 0..50_000u32 {
            let bytes = number.to_le_bytes();
            cache
                .set(&key(&bytes), b"v", Expiry::Never, Time(0))
                .expect("fits");
        }
        assert!(cache.stats().index_bytes > empty + 300_000);
        cache.flush();
        assert_eq!((cache.len(), cache.stats().index_bytes), (0, empty));
        assert!(!cache.advance(Time(0), 1), "nothing is left to do");
        cache.check_integrity();
    }
}

#[test]
fn small_caches_hold_items_of_any_size() {
    for mib in [1, 2, 8] {
        let mut config = Config::new(mib * MIB, HASHER);
        config.ranges_count = 2048;
        let mut cache = Cache::new(config).expect("enough memory");
        let mut len = 1;
        for number in 0..3000u32 {
            len = if len > mib * MIB / 4 {
                1
            } else {
                len + len / 16 + 1
            };
            let value = vec![b'v'; len];
            let bytes = number.to_le_bytes();
            cache
                .set(&key(&bytes), &value, Expiry::Never, Time(0))
                .expect("fits");
            assert_eq!(value_of(&cache, &bytes, Time(0)), Some(value));
        }
        cache.check_integrity();
        assert!(cache.stats().evicted > 0);
    }
}

#[test]
fn value_of_nearly_the_whole_memory_fits_and_a_larger_one_changes_nothing() {
    let mut cache = cache(2 * MIB);
    for number in 0..5000u32 {
        cache
            .set(
                &key(&number.to_le_bytes()),
                &[1; 200],
                Expiry::Never,
                Time(0),
            )
            .expect("fits");
    }
    let large = vec![7; 3 * MIB / 2];
    cache
        .set(&key(b"large"), &large, Expiry::Never, Time(0))
        .expect("fits");
    assert_eq!(value_of(&cache, b"large", Time(0)), Some(large));
    let too_large = vec![7; 2 * MIB];
    let stored = cache.set(&key(b"larger"), &too_large, Expiry::Never, Time(0));
    assert_eq!(stored, Err(StoreError::OutOfMemory));
    cache.check_integrity();
    cache
        .set(&key(b"small"), b"v", Expiry::Never, Time(0))
        .expect("fits");
}

#[test]
fn limits_hold_at_their_bounds() {
    let mut config = Config::new(8 * MIB, HASHER);
    config.value_bytes_max = 100_000;
    let mut cache = Cache::new(config).expect("enough memory");
    let longest = vec![b'k'; KEY_BYTES_MAX];
    let longer = vec![b'k'; KEY_BYTES_MAX + 1];
    cache
        .set(&key(&longest), &[1; 100_000], Expiry::Never, Time(0))
        .expect("fits");
    assert_eq!(
        cache.set(&key(&longer), b"", Expiry::Never, Time(0)),
        Err(StoreError::KeyTooLong)
    );
    assert_eq!(
        cache.set(&key(b"a"), &[1; 100_001], Expiry::Never, Time(0)),
        Err(StoreError::ValueTooLong)
    );
    assert_eq!(
        cache.append(&key(&longest), b"x", Time(0)),
        Err(StoreError::ValueTooLong)
    );
    assert_eq!(
        cache.set_range(&key(b"a"), usize::MAX, b"x", Time(0)),
        Err(StoreError::ValueTooLong)
    );
    assert_eq!(
        cache.set_range(&key(b"a"), 99_999, b"x", Time(0)),
        Ok(100_000)
    );
    let mut chain = cache.chain_begin();
    cache.chain_push(&mut chain, &[1; 100_000]).expect("fits");
    assert_eq!(
        cache.chain_push(&mut chain, b"x"),
        Err(StoreError::ValueTooLong)
    );
    cache.chain_free(chain);
    cache.check_integrity();
}

#[test]
fn wrong_configurations_are_refused() {
    let small = Cache::new(Config::new(100_000, HASHER)).map(|_| ());
    let Err(ConfigError::MemoryTooSmall { bytes_min }) = small else {
        panic!("{small:?}");
    };
    assert!(Cache::new(Config::new(bytes_min, HASHER)).is_ok());
    let large = Cache::new(Config::new(32 << 30, HASHER)).map(|_| ());
    assert!(matches!(large, Err(ConfigError::MemoryTooLarge { .. })));
    let none = Config {
        ranges_count: 0,
        ..Config::new(MIB, HASHER)
    };
    assert_eq!(Cache::new(none).map(|_| ()), Err(ConfigError::RangesCount));
}

#[test]
fn counters_count_in_place_and_say_what_is_wrong() {
    let mut cache = cache(MIB);
    assert_eq!(cache.incr(&key(b"n"), 5, Time(0)), Ok(5));
    assert_eq!(cache.incr(&key(b"n"), -15, Time(0)), Ok(-10));
    assert_eq!(value_of(&cache, b"n", Time(0)), Some(b"-10".to_vec()));
    assert_eq!(
        cache.incr(&key(b"n"), i64::MIN, Time(0)),
        Err(IncrError::Overflow)
    );
    assert_eq!(cache.incr(&key(b"n"), i64::MAX, Time(0)), Ok(i64::MAX - 10));
    cache
        .set(&key(b"n"), b" 1", Expiry::Never, Time(0))
        .expect("fits");
    assert_eq!(
        cache.incr(&key(b"n"), 1, Time(0)),
        Err(IncrError::NotAnInteger)
    );
    cache
        .set(&key(b"n"), b"7", Expiry::At(Time(9)), Time(0))
        .expect("fits");
    assert_eq!(cache.incr(&key(b"n"), 1, Time(0)), Ok(8));
    let deadline = cache
        .peek(&key(b"n"), Time(0))
        .and_then(|item| item.deadline());
    assert_eq!(deadline, Some(Time(9)));
    cache.check_integrity();
}

#[test]
fn counters_work_under_the_longest_key() {
    let mut cache = cache(MIB);
    let longest = vec![b'k'; KEY_BYTES_MAX];
    assert_eq!(cache.incr(&key(&longest), 5, Time(0)), Ok(5));
    assert_eq!(cache.incr(&key(&longest), 6, Time(0)), Ok(11));
    assert!(cache.set_expiry(&key(&longest), Expiry::At(Time(u64::MAX)), Time(0)));
    assert_eq!(cache.incr(&key(&longest), 6, Time(0)), Ok(17));
    cache.check_integrity();
}

#[test]
fn leased_value_outlives_delete_overwrite_and_flush() {
    for long in [false, true] {
        let value = vec![b'v'; if long { 70_000 } else { 100 }];
        let mut cache = cache(4 * MIB);
        let endings: [&dyn Fn(&mut Cache); 3] = [
            &|cache| assert!(cache.delete(&key(b"a"), Time(0))),
            &|cache| {
                let stored = cache.set(&key(b"a"), b"other", Expiry::Never, Time(0));
                assert_eq!(stored, Ok(()));
            },
            &Cache::flush,
        ];
        for end in endings {
            cache
                .set(&key(b"a"), &value, Expiry::Never, Time(0))
                .expect("fits");
            let first = cache.lease(&key(b"a"), Time(0)).expect("live");
            let second = cache.lease(&key(b"a"), Time(0)).expect("live");
            end(&mut cache);
            cache.check_integrity();
            assert_eq!(cache.stats().zombies, 1);
            cache.release(first);
            assert_eq!(cache.stats().leased_bytes, value.len() as u64);
            cache.check_integrity();
            cache.release(second);
            cache.check_integrity();
            assert_eq!(cache.stats().zombies, 0);
            assert_eq!(cache.stats().leased_bytes, 0);
        }
    }
}

#[test]
fn ranges_are_walked_and_dropped_one_by_one_in_bounded_steps() {
    let mut config = Config::new(32 * MIB, HASHER);
    config.ranges_count = 5;
    config.range_of = |key| u16::from(key[0] % 5);
    let mut cache = Cache::new(config).expect("address space");
    let items_count = 30_000u32;
    let in_range = |number: u32| {
        let bytes = number.to_le_bytes();
        let range = u16::from(bytes[0] % 5);
        (bytes, range)
    };
    for number in 0..items_count {
        let (bytes, range) = in_range(number);
        let key = Key::new(&bytes, range, HASHER.hash(&bytes));
        cache.set(&key, b"v", Expiry::Never, Time(0)).expect("fits");
    }
    let expected = (0..items_count)
        .filter(|&number| in_range(number).1 == 3)
        .count();
    let (mut cursor, mut seen) = (0, std::collections::HashSet::new());
    loop {
        cursor = cache.walk_range(3, cursor, 100, Time(0), &mut |item| {
            assert!(seen.insert(item.key().to_vec()), "visited twice");
            assert_eq!(item.key()[0] % 5, 3);
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), expected);
    assert_eq!(cache.range_len(3), expected);
    for random in 0..100 {
        let item = cache
            .random_of_range(3, random, Time(0))
            .expect("not empty");
        assert_eq!(item.key()[0] % 5, 3);
    }
    let (mut cursor, mut steps) = (0, 0);
    loop {
        let before = cache.len();
        cursor = cache.drop_range(3, cursor, 100);
        assert!(before - cache.len() <= 100 + INDEX_MOVES_MAX);
        steps += 1;
        if cursor == 0 {
            break;
        }
    }
    assert!(steps > 3);
    assert_eq!(cache.range_len(3), 0);
    assert_eq!(cache.len(), items_count as usize - expected);
    cache.check_integrity();
    assert_eq!(
        cache.walk_range(3, 0, 100, Time(0), &mut |_| panic!("not empty")),
        0
    );
}

/// The index that grows for a new key takes pages from the items, perhaps the new item's own.
#[test]
fn a_value_that_is_appended_to_a_new_key_is_whole_though_the_index_grows() {
    const RANGES_COUNT: u16 = 256;
    for reserved in (0..480 << 10).step_by(20 << 10) {
        let mut config = Config::new(460 << 10, HASHER);
        config.ranges_count = RANGES_COUNT;
        config.range_of = |key| u16::from(key[0]);
        let mut cache = Cache::new(config).expect("address space");
        for number in 0..RANGES_COUNT {
            if number == 30 {
                cache.set_reserved_bytes(reserved);
            }
            let bytes = number.to_le_bytes();
            let key = Key::new(&bytes, u16::from(bytes[0]), HASHER.hash(&bytes));
            let written = cache.append(&key, &[bytes[0]; 40], Time(0));
            assert!(matches!(written, Ok(40) | Err(StoreError::OutOfMemory)));
            if let Some(item) = cache.peek(&key, Time(0)) {
                assert_eq!(item.value().as_slice(), Some(&[bytes[0]; 40][..]));
            }
            if number % 16 == 0 {
                cache.check_integrity();
            }
        }
    }
}

#[test]
fn narrowed_lease_is_of_that_part() {
    let mut cache = cache(4 * MIB);
    let value: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    cache
        .set(&key(b"long"), &value, Expiry::Never, Time(0))
        .expect("fits");
    for range in [
        0..200_000,
        0..1,
        65_523..65_525,
        70_000..190_001,
        199_999..200_000,
        5..5,
    ] {
        let mut lease = cache.lease(&key(b"long"), Time(0)).expect("live");
        lease.narrow(range.clone());
        assert_eq!(lease.value_bytes(), range.len());
        let mut bytes = Vec::new();
        for part in lease.parts() {
            assert!(part.len() > 0);
            // SAFETY: the lease is held.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(part.as_ptr(), part.len())
            });
        }
        assert!(bytes == value[range]);
        cache.release(lease);
        cache.check_integrity();
    }
}

#[test]
fn streamed_value_is_cut_to_size_and_wastes_little() {
    let mut cache = cache(64 * MIB);
    let part = [b'p'; 5000];
    for parts in [1usize, 3, 10, 100, 500] {
        let mut chain = cache.chain_begin();
        for _ in 0..parts {
            cache.chain_push(&mut chain, &part).expect("fits");
        }
        cache.check_integrity();
        cache
            .set_chain(&key(&parts.to_le_bytes()), chain, Expiry::Never, Time(0))
            .expect("fits");
        cache.check_integrity();
        let item = cache
            .peek(&key(&parts.to_le_bytes()), Time(0))
            .expect("stored");
        assert_eq!(item.value().len(), parts * part.len());
        let handle = cache.find(&key(&parts.to_le_bytes())).expect("stored");
        let meta = cache.slab.meta(handle);
        let held: usize = cache
            .segments(handle, meta)
            .map(|segment| cache.slab.class_of(segment).chunk_bytes())
            .sum();
        let waste = held - item.value().len();
        assert!(
            waste * 100 <= item.value().len() * 6,
            "{waste} of {held} are wasted"
        );
    }
}

/// The segments of a key's value, and the bytes of their chunks.
fn segments_of(cache: &Cache, bytes: &[u8]) -> (usize, usize) {
    let handle = cache.find(&key(bytes)).expect("it is there");
    let segments = cache.segments(handle, cache.slab.meta(handle));
    let chunks = segments.map(|segment| cache.slab.class_of(segment).chunk_bytes());
    chunks.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes))
}

#[test]
#[cfg(not(miri))]
fn what_is_appended_fills_segments_and_wastes_little() {
    let mut cache = cache(64 * MIB);
    let mut expected = Vec::new();
    for number in 0..100_000u32 {
        let part = [number.to_le_bytes(); 25].concat();
        expected.extend_from_slice(&part);
        let len = cache.append(&key(b"a"), &part, Time(0));
        assert_eq!(len, Ok(expected.len()));
        if expected.len() < 8192 || !(number % 1_000 == 0 || number < 1_000) {
            continue;
        }
        let (count, held) = segments_of(&cache, b"a");
        let waste = held - expected.len();
        assert!(
            waste * 16 <= expected.len() + count * 12 * 16,
            "{waste} of {held}"
        );
        assert!(count <= 4 + expected.len() / 4_084, "{count} in {held}");
        if number % 9_000 == 0 {
            cache.check_integrity();
        }
    }
    let (count, _) = segments_of(&cache, b"a");
    assert!(count < 300, "{count} segments");
    assert!(value_of(&cache, b"a", Time(0)) == Some(expected));
    cache.check_integrity();
}

/// Also one that has a version each time, for which another item takes its place.
#[test]
fn what_is_appended_in_turns_with_versions_fills_segments() {
    let mut cache = cache(4 * MIB);
    for _ in 0..1_000 {
        cache.version(&key(b"a"), Time(0)).expect("there is memory");
        cache.append(&key(b"a"), &[7; 20], Time(0)).expect("fits");
    }
    let (count, held) = segments_of(&cache, b"a");
    assert!(count <= 5 && held < 22_000, "{count} segments, {held} B");
    cache.check_integrity();
}

/// What changes a long value's deadline or version leaves its segments where they are.
#[test]
fn another_header_has_the_same_segments() {
    let mut cache = cache(4 * MIB);
    let value = vec![7; 200_000];
    cache
        .set(&key(b"a"), &value, Expiry::Never, Time(0))
        .expect("fits");
    let segments = |cache: &Cache| -> Vec<_> {
        let handle = cache.find(&key(b"a")).expect("it is there");
        { cache.segments(handle, cache.slab.meta(handle)) }.collect()
    };
    let before = segments(&cache);
    for expiry in [
        Expiry::At(Time(9)),
        Expiry::At(Time(1 << 40)),
        Expiry::Never,
    ] {
        assert!(cache.set_expiry(&key(b"a"), expiry, Time(0)));
        cache.version(&key(b"a"), Time(0)).expect("there is memory");
        cache.check_integrity();
        assert_eq!(segments(&cache), before);
        cache.set_range(&key(b"a"), 5, b"x", Time(0)).expect("fits");
        let item = cache.peek(&key(b"a"), Time(0)).expect("it is there");
        assert_eq!(item.version(), None);
        cache.check_integrity();
        assert_eq!(segments(&cache), before);
    }
}

/// A value is never what goes for its own growth, and loses nothing where memory ends.
#[test]
fn a_value_grows_until_memory_ends_and_stays_whole() {
    for eviction in POLICIES {
        for memory_kib in [460, 700, 1_100, 3_000] {
            grow_until_memory_ends(memory_kib << 10, eviction);
        }
    }
}

fn grow_until_memory_ends(memory_bytes_max: usize, eviction: Eviction) {
    let mut cache = cache_with(memory_bytes_max, eviction);
    for number in 0..20_000u32 {
        let value = vec![7; 8 + number as usize * 37 % 1_500];
        cache
            .set(&key(&number.to_le_bytes()), &value, Expiry::Never, Time(0))
            .expect("fits");
    }
    let (mut expected, mut refusals_left) = (Vec::new(), 20);
    for number in 0usize.. {
        let part = vec![number.to_le_bytes()[0]; [1, 100, 900, 5_000, 20_000][number % 5]];
        match cache.append(&key(b"a"), &part, Time(0)) {
            Ok(_) => expected.extend_from_slice(&part),
            Err(StoreError::OutOfMemory) => refusals_left -= 1,
            Err(error) => panic!("unexpected {error:?}"),
        }
        cache.check_integrity();
        assert!(value_of(&cache, b"a", Time(0)).as_ref() == Some(&expected));
        if refusals_left == 0 {
            break;
        }
    }
    let len = expected.len();
    assert!(len * 2 > memory_bytes_max, "{len} B");
}

#[test]
fn reserved_bytes_are_taken_from_the_items_and_given_back() {
    let mut cache = cache(8 * MIB);
    let fill = |cache: &mut Cache| {
        for number in 0..20_000u32 {
            let bytes = number.to_le_bytes();
            cache
                .set(&key(&bytes), &[1; 500], Expiry::Never, Time(0))
                .expect("fits");
        }
        cache.len()
    };
    let full = fill(&mut cache);
    cache.set_reserved_bytes(4 * MIB);
    let mut held = cache.stats().pages_in_use;
    while cache.advance(Time(0), usize::MAX) {
        let now_held = cache.stats().pages_in_use;
        assert!(held - now_held <= 2, "a call empties some hundred chunks");
        held = now_held;
    }
    cache.check_integrity();
    let stats = cache.stats();
    assert!(stats.pages_resident * 65_536 + stats.index_bytes <= 4 * MIB as u64);
    assert!(cache.len() * 3 < full * 2);
    cache.set_reserved_bytes(0);
    assert_eq!(fill(&mut cache), full);
    cache.check_integrity();
}

#[test]
fn scan_and_random_pass_over_expired_items() {
    let mut cache = cache(4 * MIB);
    for number in 0..1000u32 {
        let expiry = if number % 2 == 0 {
            Expiry::Never
        } else {
            Expiry::At(Time(10))
        };
        cache
            .set(&key(&number.to_le_bytes()), b"v", expiry, Time(0))
            .expect("fits");
    }
    let (mut cursor, mut seen) = (0, 0);
    loop {
        cursor = cache.scan(cursor, 10, Time(10), &mut |item| {
            assert_eq!(item.key()[0] % 2, 0);
            seen += 1;
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, 500);
    for random in 0..200 {
        let item = cache.random(random, Time(10)).expect("half are live");
        assert_eq!(item.key()[0] % 2, 0);
    }
}

#[test]
fn why_items_left_adds_up() {
    for eviction in POLICIES {
        let mut cache = cache_with(MIB, eviction);
        let mut created = 0;
        for number in 0..5000u32 {
            let bytes = (number % 3000).to_le_bytes();
            let expiry = if number % 3 == 0 {
                Expiry::At(Time(5))
            } else {
                Expiry::Never
            };
            cache
                .set(&key(&bytes), &[1; 600], expiry, Time(0))
                .expect("fits");
            created += 1;
            if number % 7 == 0 {
                cache
                    .set(&key(&bytes), &[2; 600], expiry, Time(0))
                    .expect("fits");
                created += 1;
            }
            if number % 10 == 0 {
                cache.delete(&key(&bytes), Time(0));
            }
        }
        while cache.advance(Time(100), 100) {}
        let before = cache.len() as u64;
        cache.flush();
        let stats = cache.stats();
        assert_eq!(stats.flushed, before);
        let left = [
            stats.evicted,
            stats.expired,
            stats.deleted,
            stats.replaced,
            stats.flushed,
        ];
        assert!(left.iter().all(|&count| count > 0), "{left:?}");
        assert_eq!(left.iter().sum::<u64>(), created);
    }
}

#[test]
fn leased_item_is_passed_over_by_eviction() {
    for eviction in POLICIES {
        let mut cache = cache_with(MIB, eviction);
        cache
            .set(&key(b"leased"), &[1; 500], Expiry::Never, Time(0))
            .expect("fits");
        let lease = cache.lease(&key(b"leased"), Time(0)).expect("live");
        for number in 0..5000u32 {
            cache
                .set(
                    &key(&number.to_le_bytes()),
                    &[1; 500],
                    Expiry::Never,
                    Time(0),
                )
                .expect("fits");
        }
        assert!(cache.stats().evicted > 2000);
        assert_eq!(cache.stats().zombies, 0);
        assert!(cache.get(&key(b"leased"), Time(0)).is_some());
        cache.release(lease);
        cache.check_integrity();
    }
}

#[test]
fn pages_are_given_up_by_the_least_recently_used_alone() {
    let mut cache = cache(16 * MIB);
    // Items of a small class of its own, older than all others but read all the time.
    let hot: Vec<Vec<u8>> = (0..500).map(|n| format!("hot:{n}").into_bytes()).collect();
    for name in &hot {
        cache
            .set(&key(name), &[0; 40], Expiry::Never, Time(0))
            .expect("fits");
    }
    let name_of = |n: u32| format!("cold:{n:08}").into_bytes();
    let count = 200_000;
    for n in 0..count {
        cache
            .set(&key(&name_of(n)), &[0; 100], Expiry::Never, Time(0))
            .expect("fits");
        if n % 5_000 == 0 {
            for name in &hot {
                assert!(cache.get(&key(name), Time(0)).is_some(), "after {n}");
            }
            // As connections take memory and give it back.
            cache.set_reserved_bytes((n as usize / 5_000 % 5) * (MIB / 4));
        }
    }
    assert!(cache.stats().pages_given_up > 5, "the index took pages");
    let held = u32::try_from(cache.len() - hot.len()).expect("small");
    for n in 0..count {
        let is_held = cache.peek(&key(&name_of(n)), Time(0)).is_some();
        assert_eq!(is_held, n >= count - held, "item {n} of {count}");
    }
    cache.check_integrity();
}

/// Writes new keys with values of these lengths in turn until a turn over `bytes` of memory is full;
/// returns the number of the next key.
fn turn_over(cache: &mut Cache, first: u64, lengths: &[usize], bytes: usize) -> u64 {
    let (mut number, mut left) = (first, bytes);
    while left > 0 {
        let len = lengths[usize::try_from(number).expect("64 bits") % lengths.len()];
        let stored = cache.set(
            &key(&number.to_le_bytes()),
            &vec![7; len],
            Expiry::Never,
            Time(0),
        );
        stored.expect("fits");
        number += 1;
        left = left.saturating_sub(8 + len);
    }
    number
}

/// By how much the ages of the oldest items of these lengths differ, as a factor.
fn spread_of_ages(cache: &Cache, next: u64, lengths: &[usize]) -> f64 {
    let mut oldest = vec![next; lengths.len()];
    let mut cursor = 0;
    loop {
        cursor = cache.scan(cursor, 100, Time(0), &mut |item| {
            let number = u64::from_le_bytes(item.key().try_into().expect("8 bytes"));
            if let Some(place) = lengths.iter().position(|&len| len == item.value().len()) {
                oldest[place] = oldest[place].min(number);
            }
        });
        if cursor == 0 {
            break;
        }
    }
    let ages = oldest.iter().map(|&number| (next - number) as f64);
    ages.clone().fold(0.0, f64::max) / ages.fold(f64::MAX, f64::min)
}

#[test]
fn memory_follows_the_sizes_that_are_written() {
    for eviction in POLICIES {
        const BYTES: usize = 8 * MIB;
        let fresh = [100, 1_000].map(|len| {
            let mut cache = cache_with(BYTES, eviction);
            turn_over(&mut cache, 0, &[len], 2 * BYTES);
            cache.len()
        });
        let mut cache = cache_with(BYTES, eviction);
        let mut next = turn_over(&mut cache, 0, &[100], 2 * BYTES);
        for which in [1, 0, 1] {
            let len = [100, 1_000][which];
            next = turn_over(&mut cache, next, &[len], BYTES);
            cache.check_integrity();
            let share = cache.len() as f64 / fresh[which] as f64;
            assert!(share > 0.95, "{len} B: {share:.3} of a fresh cache's items");
        }
        assert!(cache.stats().evicted_early < cache.stats().pages_given_up);
    }
}

#[test]
fn oldest_items_of_all_sizes_are_about_as_old() {
    const BYTES: usize = 16 * MIB;
    let mut cache = cache(BYTES);
    let mut next = 0;
    // Small items mostly, then large ones mostly.
    for lengths in [&[50, 50, 50, 300, 50, 2_000][..], &[2_000, 300, 2_000, 50]] {
        next = turn_over(&mut cache, next, lengths, BYTES);
        next = turn_over(&mut cache, next, lengths, BYTES);
        let spread = spread_of_ages(&cache, next, &[50, 300, 2_000]);
        assert!(spread < 2.0, "ages of the oldest differ {spread:.2} times");
    }
    cache.check_integrity();
}

#[test]
fn free_chunks_of_one_size_become_room_for_another_at_no_cost() {
    for eviction in POLICIES {
        let mut cache = cache_with(8 * MIB, eviction);
        let next = turn_over(&mut cache, 0, &[100], 16 * MIB);
        // Two in three go, all over the pages.
        for number in (0..next).filter(|number| number % 3 > 0) {
            cache.delete(&key(&number.to_le_bytes()), Time(0));
        }
        let evicted = cache.stats().evicted;
        turn_over(&mut cache, next, &[1_000], 3 * MIB);
        let evicted = cache.stats().evicted - evicted;
        assert!(evicted < 100, "{evicted} evicted while half is free");
        cache.check_integrity();
    }
}

/// Classes that start from nothing in a cache full of the smallest items, whose pages have 2,730
/// chunks: they take pages of the reserve, which is filled again while others write.
#[test]
#[cfg(not(miri))]
fn no_call_empties_more_than_its_share_of_a_page() {
    for eviction in POLICIES {
        // With none used the oldest lie in the order of their pages; used ones stay where others go.
        for used_step in [None, Some(3)] {
            no_call_empties_more_under(eviction, used_step);
        }
    }
}

#[cfg(not(miri))]
fn no_call_empties_more_under(eviction: Eviction, used_step: Option<usize>) {
    // What a set empties by the way, at most, and what the index or the limit ask for. An item that
    // moves for another that goes counts twice.
    const DEPARTURES_MAX: u64 = 2 * 2 * EVACUATED_CHUNKS_MAX as u64;
    let mut cache = cache_with(16 * MIB, eviction);
    let (mut next, mut most, mut started) = (0u32, 0, 0);
    let mut set = |cache: &mut Cache, len: usize| {
        let bytes = next.to_le_bytes();
        next += 1;
        let before = cache.departures;
        cache
            .set(&key(&bytes), &vec![b'v'; len], Expiry::Never, Time(0))
            .expect("fits");
        cache.departures - before
    };
    while cache.stats().evicted == 0 || cache.slab.is_over() {
        set(&mut cache, 1);
    }
    for number in (0u32..1 << 20).step_by(used_step.unwrap_or(1 << 20)) {
        cache.touch(&key(&number.to_le_bytes()), Time(0));
    }
    for len in (30..4_000).step_by(110) {
        most = most.max(set(&mut cache, len));
        started += 1;
        for _ in 0..120 {
            most = most.max(set(&mut cache, 1));
        }
    }
    assert!(started > 30 && most > 48, "{most} departures at most");
    assert!(most <= DEPARTURES_MAX, "{most} departures in one call");
    assert!(!cache.slab.is_over(), "the reserve is whole again");
    cache.check_integrity();
}

/// A last segment that there was no memory to cut is cut by a later append: if it was the largest, the
/// value belongs in another list.
#[test]
fn what_is_cut_late_changes_its_list() {
    for eviction in POLICIES {
        let mut cache = cache_with(MIB, eviction);
        let mut chain = cache.chain_begin();
        while chain.len() < 70_000 {
            cache.chain_push(&mut chain, &[7; 100]).expect("fits");
        }
        cache
            .set_chain(&key(b"a"), chain, Expiry::Never, Time(0))
            .expect("fits");
        let lease = cache.lease(&key(b"a"), Time(0)).expect("it is there");
        let mut fillers = Vec::new();
        loop {
            let mut filler = cache.chain_begin();
            if cache.chain_push(&mut filler, &[8; 65_524]).is_err() {
                cache.chain_free(filler);
                break;
            }
            fillers.push(filler);
        }
        // Two pages are enough to copy what is leased, but not to cut the copy's last segment.
        for _ in 0..2 {
            cache.chain_free(fillers.pop().expect("there are some"));
        }
        cache.append(&key(b"a"), &[9; 300], Time(0)).expect("fits");
        let (count, held) = segments_of(&cache, b"a");
        assert!(held > count * 4_096, "it was cut at once");
        for filler in fillers {
            cache.chain_free(filler);
        }
        cache.release(lease);
        cache.check_integrity();
        cache.append(&key(b"a"), b"x", Time(0)).expect("fits");
        let (count, held) = segments_of(&cache, b"a");
        assert_eq!(held, count * 4_096, "it was not cut");
        cache.check_integrity();
        // Others want its pages.
        for number in 0..20_000u32 {
            let value = vec![7; 8 + number as usize * 37 % 9_000];
            cache
                .set(&key(&number.to_le_bytes()), &value, Expiry::Never, Time(0))
                .expect("fits");
        }
        cache.check_integrity();
    }
}
