//! Random sequences; every failure prints its shrunk sequence. 128 of them (fewer in a debug build), or as
//! many as `PROPTEST_CASES` in the environment says.

use proptest::prelude::{ProptestConfig, any, proptest};

use crate::cache::tests::model::Pair;
use crate::cache::tests::operation::{Operation, Ttl, operations};
use crate::eviction::Eviction;

const OPERATIONS_MAX: usize = if cfg!(miri) { 20 } else { 120 };

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: match () {
            () if cfg!(miri) => 2,
            () if cfg!(debug_assertions) => 40,
            () => 128,
        },
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn cache_agrees_with_the_model(
        operations in operations(OPERATIONS_MAX),
        memory_kib in 450usize..1200,
        has_many_ranges in any::<bool>(),
        is_s3_fifo in any::<bool>(),
    ) {
        let eviction = if is_s3_fifo { Eviction::S3Fifo } else { Eviction::Lru };
        let mut pair = Pair::new(memory_kib * 1024, has_many_ranges, eviction);
        for operation in operations {
            pair.run(operation);
        }
        pair.finish();
    }
}

/// The generator must reach what the model is there to prove.
#[test]
fn a_class_that_evicts_for_itself_is_proven_exact() {
    let mut pair = Pair::new(720 * 1024, true, Eviction::Lru);
    for round in 0..6 {
        pair.run(Operation::SetMany {
            first: 0,
            count: 290,
            len: 3_000,
            ttl: Ttl::Never,
        });
        for key in (round..290).step_by(37) {
            pair.run(Operation::Get(key));
        }
    }
    assert!(
        pair.exact_evictions > 300,
        "{} evictions proven",
        pair.exact_evictions
    );
    pair.finish();
}

/// Also where pages change hands, exactly the least recently used of a class go.
#[test]
fn what_a_page_costs_is_proven_exact() {
    let mut pair = Pair::new(650 * 1024, true, Eviction::Lru);
    for (first, len) in [(0, 3_000), (150, 900), (0, 1_800), (150, 3_800), (0, 400)].repeat(2) {
        pair.run(Operation::SetMany {
            first,
            count: 150,
            len,
            ttl: Ttl::Never,
        });
        for key in (0..300).step_by(7) {
            pair.run(Operation::Get(key));
        }
    }
    let given_up = pair.pages_given_up();
    assert!(given_up >= 10, "{given_up} pages changed hands");
    assert!(
        pair.exact_evictions > 100,
        "{} evictions proven",
        pair.exact_evictions
    );
    pair.finish();
}

/// Pages that were pinned when others took memory are given up as soon as they can be.
#[test]
fn limit_holds_again_once_nothing_is_pinned() {
    for eviction in [Eviction::Lru, Eviction::S3Fifo] {
        limit_holds_again_under(eviction);
    }
}

fn limit_holds_again_under(eviction: Eviction) {
    let mut pair = Pair::new(460 * 1024, false, eviction);
    pair.run(Operation::ChainBegin);
    pair.run(Operation::ChainBegin);
    pair.run(Operation::ChainPush {
        chain: 1,
        len: 60_000,
    });
    pair.run(Operation::ChainPush {
        chain: 0,
        len: 60_000,
    });
    pair.run(Operation::Reserve(182_181));
    pair.run(Operation::SetChain {
        chain: 1,
        key: 7,
        ttl: Ttl::Never,
    });
    pair.finish();
}
