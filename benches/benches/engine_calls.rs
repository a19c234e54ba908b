//! The engine's calls at a million items: 16 B keys, 32 B values, 2,048 ranges, uniform random.
//!
//! `cargo bench -p fulmar-benches --bench engine_calls`. Run as a test it uses a thousand items.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fulmar_benches::{VALUE, empty, filled, items_count, with_key};
use fulmar_engine::{Expiry, Time};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

fn calls(criterion: &mut Criterion) {
    let items = items_count(1_000_000);
    let mut cache = filled(items, |_| Expiry::Never);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut group = criterion.benchmark_group("engine");
    group.bench_function(BenchmarkId::new("get_hit", items), |bencher| {
        bencher.iter(|| {
            with_key(rng.random_range(0..items), |key| {
                black_box(cache.get(key, Time(0)).map(|item| item.value().len()))
            })
        });
    });
    group.bench_function(BenchmarkId::new("get_miss", items), |bencher| {
        bencher.iter(|| {
            with_key(rng.random_range(items..2 * items), |key| {
                black_box(cache.get(key, Time(0)).is_some())
            })
        });
    });
    group.bench_function(BenchmarkId::new("set_overwrite", items), |bencher| {
        bencher.iter(|| {
            with_key(rng.random_range(0..items), |key| {
                cache.set(key, &VALUE, Expiry::Never, Time(0))
            })
        });
    });
    group.bench_function(BenchmarkId::new("set_then_delete_new", items), |bencher| {
        bencher.iter(|| {
            with_key(rng.random_range(items..2 * items), |key| {
                let stored = cache.set(key, &VALUE, Expiry::Never, Time(0));
                (stored, cache.delete(key, Time(0)))
            })
        });
    });
    group.finish();
}

/// Parts of the engine, each by the call that uses little else.
fn parts(criterion: &mut Criterion) {
    let items = items_count(1_000_000);
    let mut cache = filled(items, |_| Expiry::Never);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut group = criterion.benchmark_group("engine_parts");
    group.bench_function("hash", |bencher| {
        bencher.iter(|| with_key(rng.random_range(0..items), |key| key.hash()));
    });
    group.bench_function("index_find", |bencher| {
        bencher.iter(|| {
            with_key(rng.random_range(0..items), |key| {
                cache.peek(key, Time(0)).is_some()
            })
        });
    });
    group.bench_function("index_find_and_lru_touch", |bencher| {
        bencher.iter(|| with_key(rng.random_range(0..items), |key| cache.touch(key, Time(0))));
    });
    group.bench_function("slab_allocate_and_free", |bencher| {
        let lengths = [10usize, 100, 1000];
        let value = [1; 1000];
        let mut round = 0;
        bencher.iter(|| {
            round += 1;
            // The same key in another class each time: one chunk is taken, one given back.
            with_key(0, |key| {
                cache.set(key, &value[..lengths[round % 3]], Expiry::Never, Time(0))
            })
        });
    });
    group.bench_function("wheel_move_deadline", |bencher| {
        let mut cache = filled(items, |number| Expiry::At(Time(1 + number)));
        bencher.iter(|| {
            let deadline = Time(1 + rng.random_range(0..items));
            with_key(rng.random_range(0..items), |key| {
                cache.set_expiry(key, Expiry::At(deadline), Time(0))
            })
        });
    });
    group.bench_function("scan_count_10", |bencher| {
        let mut cursor = 0;
        bencher.iter(|| {
            let mut seen = 0;
            cursor = cache.scan(cursor, 10, Time(0), &mut |_| seen += 1);
            seen
        });
    });
    group.finish();
}

/// A new key into a full cache, which evicts one; and a call of the janitor with work for it.
fn full(criterion: &mut Criterion) {
    let items = items_count(1_000_000);
    let mut cache = empty(16 << 20);
    let mut number = 0;
    let mut group = criterion.benchmark_group("engine_full");
    group.bench_function("set_that_evicts", |bencher| {
        bencher.iter(|| {
            number += 1;
            with_key(number, |key| cache.set(key, &VALUE, Expiry::Never, Time(0)))
        });
    });
    group.bench_function("advance_100_expired", |bencher| {
        let mut cache = filled(items, |_| Expiry::At(Time(1)));
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..iterations {
                if cache.is_empty() {
                    cache = filled(items, |_| Expiry::At(Time(1)));
                }
                let start = Instant::now();
                cache.advance(Time(64), 100);
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = calls, parts, full
}
criterion_main!(benches);
