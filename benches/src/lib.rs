//! Fulmar benches live in `benches/` (criterion) and `compare/` (side by side). This is what the
//! engine's benches share: caches full of items of 16 B keys and 32 B values, in 2,048 ranges.

use fulmar_engine::{Cache, Config, Eviction, Expiry, Key, KeyHasher, Time};

/// The hasher of all benches.
pub const HASHER: KeyHasher = KeyHasher::new([1, 2, 3, 4]);
/// What every item holds.
pub const VALUE: [u8; 32] = [7; 32];

const RANGES_COUNT: u16 = 2048;

/// Items to bench with: few when the bench runs as a test.
pub fn items_count(when_measured: u64) -> u64 {
    if std::env::args().any(|argument| argument == "--bench") {
        when_measured
    } else {
        1_000
    }
}

fn range_of(key: &[u8]) -> u16 {
    u16::from_le_bytes([key[0], key[1]]) % RANGES_COUNT
}

/// The key with this number.
pub fn key_bytes(number: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// A key, hashed as a router would.
pub fn key_of(bytes: &[u8]) -> Key<'_> {
    Key::new(bytes, range_of(bytes), HASHER.hash(bytes))
}

/// Runs `call` with the key of `number`.
pub fn with_key<R>(number: u64, call: impl FnOnce(&Key<'_>) -> R) -> R {
    call(&key_of(&key_bytes(number)))
}

/// An empty cache with this limit, under exact LRU.
///
/// # Panics
/// If there is no address space.
pub fn empty(memory_bytes_max: usize) -> Cache {
    empty_with(memory_bytes_max, Eviction::Lru)
}

/// An empty cache with this limit and policy.
///
/// # Panics
/// If there is no address space.
pub fn empty_with(memory_bytes_max: usize, eviction: Eviction) -> Cache {
    let mut config = Config::new(memory_bytes_max, HASHER);
    config.eviction = eviction;
    config.ranges_count = RANGES_COUNT;
    config.range_of = range_of;
    Cache::new(config).expect("address space")
}

/// A cache with the items of the numbers below `items_count`, and room for as many more.
///
/// # Panics
/// If there is no memory.
pub fn filled(items_count: u64, expiry: impl Fn(u64) -> Expiry) -> Cache {
    let bytes = usize::try_from(items_count).expect("64 bits") * 192;
    let mut cache = empty(bytes.max(16 << 20));
    for number in 0..items_count {
        with_key(number, |key| {
            cache.set(key, &VALUE, expiry(number), Time(0))
        })
        .expect("fits");
    }
    cache
}
