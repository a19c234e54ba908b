//! Random calls. Sizes and keys are drawn so that a tiny cache must evict all the time.

use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};

use crate::slab::HUGE_PAGE_BYTES;

/// Number of different keys.
pub(super) const KEYS_COUNT: u16 = 300;

/// One call, or a few alike.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Get(u16),
    Touch(u16),
    Set {
        key: u16,
        len: usize,
        ttl: Ttl,
    },
    /// The same length for a run of keys: fills a class.
    SetMany {
        first: u16,
        count: u16,
        len: usize,
        ttl: Ttl,
    },
    Delete(u16),
    SetExpiry(u16, Ttl),
    Version(u16),
    /// With the latest version that was given for the key, or one given before it.
    SetIfVersion {
        key: u16,
        len: usize,
        ttl: Ttl,
        back: usize,
    },
    Incr(u16, i64),
    Append {
        key: u16,
        len: usize,
    },
    /// The same length many times: fills segments.
    AppendMany {
        key: u16,
        count: u16,
        len: usize,
    },
    SetRange {
        key: u16,
        offset: usize,
        len: usize,
    },
    ChainBegin,
    ChainPush {
        chain: usize,
        len: usize,
    },
    ChainFree(usize),
    SetChain {
        chain: usize,
        key: u16,
        ttl: Ttl,
    },
    Lease(u16),
    Release(usize),
    Reserve(usize),
    /// What is being made resident is, or is left to be touched.
    Populate {
        is_run: bool,
    },
    Advance {
        ms: u64,
        work_max: usize,
    },
    Flush,
}

/// What a write asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ttl {
    Never,
    Keep,
    /// Ms from now; 0 has passed already.
    In(u64),
}

/// A value's length: mostly small, often around the bounds of classes, sometimes long.
fn length() -> BoxedStrategy<usize> {
    prop_oneof![
        4 => 0usize..100,
        4 => 900usize..1100,
        4 => 3900usize..4200,
        2 => 4000usize..17_000,
        1 => 60_000usize..70_000,
    ]
    .boxed()
}

fn ttl() -> BoxedStrategy<Ttl> {
    prop_oneof![
        4 => Just(Ttl::Never),
        2 => Just(Ttl::Keep),
        4 => (0u64..3000).prop_map(Ttl::In),
        1 => (0u64..1 << 34).prop_map(Ttl::In),
        1 => any::<u64>().prop_map(Ttl::In),
    ]
    .boxed()
}

fn elapsed() -> BoxedStrategy<u64> {
    prop_oneof![
        6 => 0u64..200,
        3 => 0u64..20_000,
        1 => 0u64..1 << 33,
    ]
    .boxed()
}

fn operation() -> BoxedStrategy<Operation> {
    // Some keys more often than others, so that values also grow long.
    let key = || prop_oneof![4 => 0..KEYS_COUNT, 1 => 0u16..5];
    let offset = || prop_oneof![4 => length(), 1 => 0usize..150_000];
    prop_oneof![
        6 => key().prop_map(Operation::Get),
        2 => key().prop_map(Operation::Touch),
        8 => (key(), length(), ttl()).prop_map(|(key, len, ttl)| Operation::Set { key, len, ttl }),
        6 => (key(), 1u16..100, length(), ttl()).prop_map(|(first, count, len, ttl)| {
            Operation::SetMany { first, count, len, ttl }
        }),
        2 => key().prop_map(Operation::Delete),
        4 => (key(), ttl()).prop_map(|(key, ttl)| Operation::SetExpiry(key, ttl)),
        6 => key().prop_map(Operation::Version),
        4 => (key(), length(), ttl(), 0usize..2).prop_map(|(key, len, ttl, back)| {
            Operation::SetIfVersion { key, len, ttl, back }
        }),
        3 => (key(), any::<i64>()).prop_map(|(key, delta)| Operation::Incr(key, delta)),
        4 => (key(), length()).prop_map(|(key, len)| Operation::Append { key, len }),
        4 => (key(), 1u16..40, 0usize..500).prop_map(|(key, count, len)| {
            Operation::AppendMany { key, count, len }
        }),
        4 => (key(), offset(), length()).prop_map(|(key, offset, len)| {
            Operation::SetRange { key, offset, len }
        }),
        2 => Just(Operation::ChainBegin),
        4 => (0usize..4, length()).prop_map(|(chain, len)| Operation::ChainPush { chain, len }),
        1 => (0usize..4).prop_map(Operation::ChainFree),
        2 => (0usize..4, key(), ttl()).prop_map(|(chain, key, ttl)| {
            Operation::SetChain { chain, key, ttl }
        }),
        3 => key().prop_map(Operation::Lease),
        3 => (0usize..8).prop_map(Operation::Release),
        1 => (0usize..200_000).prop_map(Operation::Reserve),
        4 => (elapsed(), 0usize..100).prop_map(|(ms, work_max)| {
            Operation::Advance { ms, work_max }
        }),
        1 => prop_oneof![9 => Just(Operation::ChainBegin), 1 => Just(Operation::Flush)],
    ]
    .boxed()
}

/// A sequence of calls.
pub(super) fn operations(count_max: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..count_max)
}

/// As `operations`, of a cache of which memory is made resident ahead, with a limit that moves by whole
/// huge pages.
pub(super) fn operations_populated(count_max: usize) -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        12 => operation(),
        1 => any::<bool>().prop_map(|is_run| Operation::Populate { is_run }),
        2 => (0..3 * HUGE_PAGE_BYTES).prop_map(Operation::Reserve),
    ];
    vec(operation, 1..count_max)
}

impl Operation {
    /// The key it is about; any other stands for none.
    pub(super) fn key(&self) -> u16 {
        match *self {
            Self::Get(key) | Self::Touch(key) | Self::Delete(key) | Self::Lease(key) => key,
            _ => self.written().unwrap_or(0),
        }
    }

    /// The key that it may store.
    pub(super) fn written(&self) -> Option<u16> {
        match *self {
            Self::Set { key, .. }
            | Self::SetExpiry(key, _)
            | Self::Version(key)
            | Self::SetIfVersion { key, .. }
            | Self::Incr(key, _)
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::SetChain { key, .. } => Some(key),
            _ => None,
        }
    }
}
