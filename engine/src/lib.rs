//! Fulmar's storage engine: a single-owner cache of byte strings with exact LRU (or S3-FIFO) and TTL.
//!
//! It is one core's memory: no thread, no lock, no atomic, no clock, no socket. `now` comes in
//! as an argument, and every result is a function of the calls before.
//!
//! ```text
//!           Key (bytes, range, hash)
//!             |
//!   Cache ----+--> Index        range -> table -> u32 handle; tables in pages of the same arena
//!             |      |
//!             |      v
//!             +--> Slab         handle -> chunk in a 64 KiB page of one arena
//!             |      header | extensions | key | value       (or segments of a long value)
//!             +--> Lists        the order in which items go, per slab class, links in the headers
//!             +--> Wheel        deadlines, links inside the TTL extension
//! ```
//!
//! # Invariants
//! 1. Every chunk is exactly one of: free, item, segment of a long value, zombie (a leased item
//!    that left the index).
//! 2. An item is in the index once, in one list of its largest chunk's class once, and in the
//!    wheel once if it has a deadline.
//! 3. Resident pages, index, wheel, side tables and reserved bytes together stay at or below
//!    `Config::memory_bytes_max`.
//! 4. Of one class, exactly the least recently used items go when the class evicts for itself, unless
//!    `Config::eviction` says otherwise.
//!
//! `Cache::check_integrity` proves 1 and 2 and the counters of 3.
//!
//! ```
//! use fulmar_engine::{Cache, Config, Expiry, Key, KeyHasher, Time};
//!
//! let hasher = KeyHasher::new([1, 2, 3, 4]);
//! let mut cache = Cache::new(Config::new(16 << 20, hasher)).unwrap();
//! let key = Key::new(b"greeting", 0, hasher.hash(b"greeting"));
//! cache.set(&key, b"hello", Expiry::At(Time(5_000)), Time(0)).unwrap();
//! assert_eq!(cache.get(&key, Time(4_999)).unwrap().value().as_slice(), Some(&b"hello"[..]));
//! assert!(cache.get(&key, Time(5_000)).is_none());
//! ```

mod cache;
mod config;
mod error;
mod eviction;
mod ghost;
mod index;
mod item;
mod key;
pub mod limits;
mod order;
mod prefetch;
mod slab;
mod stats;
mod time;
mod version;
mod wheel;

pub use cache::{Cache, Chain, Lease, Swap};
pub use config::{Config, ConfigError};
pub use error::{IncrError, StoreError};
pub use eviction::Eviction;
pub use item::{Item, ItemValue, Parts};
pub use key::{Key, KeyHasher};
pub use limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use slab::{Populate, Span};
pub use stats::Stats;
pub use time::{Expiry, Time};
pub use version::Version;
