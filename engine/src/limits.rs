//! Named bounds of the engine: sizes of what it stores and work per call.

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 16 * 1024 - 1;

/// Longest value that `Config::value_bytes_max` may allow, in bytes.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Largest item (header, extensions, key and value) that lives in one chunk. Above it the value
/// becomes a chain of segments: 16 chunks of this size fill a page, so that rounding up to a
/// slab class costs at most about 6 % below it, and a chain costs less than that above it.
pub const INLINE_ITEM_BYTES_MAX: usize = 4096;

/// A value up to this length lies in its item's chunk however long the key is, so that whoever
/// reads numbers finds them in one piece.
pub const SHORT_VALUE_BYTES_MAX: usize = 64;

/// Bytes in a page, the unit in which memory moves between slab classes and the system.
pub const PAGE_BYTES: usize = 64 * 1024;

/// Most expired items (or wheel entries moved to a finer level) one call of `Cache::advance`
/// handles, whatever its caller allows.
pub const ADVANCE_WORK_MAX: usize = 1024;

/// Leased items that an eviction passes over in one class before it takes a page from another.
pub const EVICTION_SKIPS_MAX: usize = 16;

/// Items that S3-FIFO lets stay, as they were used, before it evicts one of a class all the same.
pub const EVICTION_REINSERTS_MAX: usize = 32;

/// Classes with older items whose next one to go is looked at, and may turn out to be in use, when a
/// class looks for a page.
pub const DONORS_PER_LOOK_MAX: usize = 4;

/// Evictions in a row after which a class looks again for a page of another, when none had older
/// items.
pub const EVICTIONS_PER_LOOK: u8 = 64;

/// Chunks that one call empties in a page that is needed now. Each is moved, and for each one item
/// may be evicted.
pub const EVACUATED_CHUNKS_MAX: usize = 128;

/// Chunks that a write empties by the way, when a page is being emptied.
pub const EVACUATED_BY_THE_WAY: usize = 48;

/// Pages with free chunks among which the emptiest is chosen.
pub const PARTIAL_PAGES_MAX: usize = 16;

/// Free pages that are kept resident: 4 MiB, two huge pages. At 1 GB of new items a second that leaves
/// 4 ms to make more so.
pub const AHEAD_PAGES: usize = 64;

/// Pages that are kept free for the index and for classes without items.
pub const RESERVED_PAGES_MAX: usize = 8;

/// Smaller caches keep one page in this many free, at least one.
pub const PAGES_PER_RESERVED: usize = 128;

/// Mean number of entries per index table at which the range gets one more table.
pub const TABLE_ENTRIES_MEAN_MAX: usize = 384;

/// Most entries one step of index growth moves; keyed hashes keep tables below it.
pub const INDEX_MOVES_MAX: usize = 1024;

/// Index tables that one removal moves out of a page that is being emptied.
pub const INDEX_RUNS_MAX: usize = 4;

/// Random probes that `Cache::random` makes before it walks.
pub const RANDOM_PROBES_MAX: usize = 64;

/// Index tables that `Cache::random` walks from a random place when its probes missed.
pub const RANDOM_TABLES_MAX: usize = 65_536;

/// Index buckets without an entry that one `Cache::scan` call passes over.
pub const SCAN_BUCKETS_MAX: usize = 1024;

/// Most ranges that keys can be divided into.
pub const RANGES_COUNT_MAX: u16 = 4096;

const _: () = assert!(KEY_BYTES_MAX < 1 << 14);
const _: () = assert!(VALUE_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(INLINE_ITEM_BYTES_MAX < 1 << 13);
const _: () = assert!(SHORT_VALUE_BYTES_MAX < 1 << 13);
