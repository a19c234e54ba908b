//! The engine beside a plain hash map and an LRU behind a lock, at ten million items: 16 B keys,
//! 32 B values, uniform random.
//!
//! `cargo bench -p fulmar-benches --bench engine_beside`; it takes 3 GiB. The map has neither order
//! nor limit nor deadlines, so it is the floor; `lru` behind a mutex is what is usually put
//! together. Run as a test it uses a thousand items.

use std::hint::black_box;
use std::num::NonZero;
use std::sync::Mutex;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, criterion_group, criterion_main};
use fulmar_benches::{VALUE, filled, items_count, key_bytes, key_of, with_key};
use fulmar_engine::{Expiry, Time};
use hashbrown::HashMap;
use lru::LruCache;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Keys of a pipeline or an MGET.
const BATCH: usize = 16;

/// Times `get` and `set`, each on one random key.
fn get_and_set<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    items: u64,
    store: &mut S,
    get: impl Fn(&mut S, u64) -> bool,
    set: impl Fn(&mut S, u64),
) {
    let mut rng = SmallRng::seed_from_u64(1);
    group.bench_function(format!("{name}/get"), |bencher| {
        bencher.iter(|| assert!(get(store, rng.random_range(0..items))));
    });
    group.bench_function(format!("{name}/set"), |bencher| {
        bencher.iter(|| set(store, rng.random_range(0..items)));
    });
}

fn beside(criterion: &mut Criterion) {
    let items = items_count(10_000_000);
    let mut group = criterion.benchmark_group(format!("{items} items"));

    let mut cache = filled(items, |_| Expiry::Never);
    get_and_set(
        &mut group,
        "engine",
        items,
        &mut cache,
        |cache, number| with_key(number, |key| cache.get(key, Time(0)).is_some()),
        |cache, number| {
            with_key(number, |key| cache.set(key, &VALUE, Expiry::Never, Time(0))).expect("fits");
        },
    );
    let mut rng = SmallRng::seed_from_u64(1);
    for prefetches in [false, true] {
        let name = if prefetches {
            "prefetched"
        } else {
            "one by one"
        };
        group.bench_function(format!("engine/get of {BATCH}, {name}"), |bencher| {
            bencher.iter_batched(
                || [(); BATCH].map(|()| key_bytes(rng.random_range(0..items))),
                |bytes| {
                    let keys = bytes.each_ref().map(|bytes| key_of(bytes));
                    if prefetches {
                        cache.prefetch(keys.iter());
                    }
                    for key in &keys {
                        let item = cache.get(key, Time(0)).expect("it is there");
                        black_box(item.value().len());
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    drop(cache);

    let mut map: HashMap<[u8; 16], [u8; 32]> = HashMap::new();
    map.extend((0..items).map(|number| (key_bytes(number), VALUE)));
    get_and_set(
        &mut group,
        "hashbrown",
        items,
        &mut map,
        |map, number| map.contains_key(&key_bytes(number)),
        |map, number| _ = map.insert(key_bytes(number), VALUE),
    );
    drop(map);

    let capacity = NonZero::new(usize::try_from(items).expect("64 bits")).expect("some");
    let mut lru = LruCache::new(capacity);
    for number in 0..items {
        lru.put(key_bytes(number), VALUE);
    }
    let locked = Mutex::new(lru);
    get_and_set(
        &mut group,
        "lru behind a mutex",
        items,
        &mut &locked,
        |locked, number| {
            let mut lru = locked.lock().expect("nobody panicked");
            lru.get(&key_bytes(number)).is_some()
        },
        |locked, number| {
            let mut lru = locked.lock().expect("nobody panicked");
            lru.put(key_bytes(number), VALUE);
        },
    );
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = beside
}
criterion_main!(benches);
