//! One core's state: executes commands against the engine, and says where they must run.
//!
//! Pure: no clock, no socket, no thread. Whoever calls holds the shards' tokens, reads the clocks
//! and owns the bytes.
//!
//! ```text
//!            route: which shards?                execute: on shards that are held
//! Command --------> Route --tokens--> ShardSet --------------> engine::Cache --> ValueSink
//!    |                                    |
//!    +-- Transaction: MULTI ... EXEC -----+   replays its queue over one ShardSet
//!    +-- session: what the connection and the node answer
//! ```
//!
//! Invariants:
//! 1. All writes of values and deadlines, and all deletions by clients, go through [`execute()`], so that
//!    watched keys and the log of replication notice them; those of other nodes' primaries come through
//!    [`ShardStore`].
//! 2. What a command was given is used up when it returns: staged chains are stored or freed.
//!    What it lends (leases of long values) the caller gives back.
//! 3. A command replies exactly once.
#![forbid(unsafe_code)]

mod counters;
mod digests;
mod execute;
mod extended;
mod hot_keys;
mod natural;
mod now;
mod placed;
mod replica;
mod replication_stats;
mod route;
pub mod session;
mod shard;
mod shard_mask;
mod shard_set;
mod shown;
mod sliced;
mod transaction;
mod value_sink;
mod watch;

pub use counters::{CommandCounts, Counters, ShardStats};
pub use execute::{Outcome, SCAN_COUNT_MAX, ScanPlaces, execute, execute_scan};
pub use hot_keys::HotKey;
pub use now::Now;
pub use placed::{PLACED_KEYS_MAX, Placed};
pub use replica::ShardStore;
pub use replication_stats::{FollowerLag, ReplicationStats};
pub use route::{Route, route};
pub use shard::{Access, Shard, StagedChain};
pub use shard_mask::{SHARDS_COUNT_MAX, ShardMask};
pub use shard_set::{Held, Placement, ShardSet, Single};
pub use sliced::{SLICE_KEYS, Sliced};
pub use transaction::{
    Leftovers, QUEUE_BYTES_MAX, QUEUE_COMMANDS_MAX, Replay, Transaction, WATCHES_MAX,
};
pub use value_sink::{LEASED_BYTES_MIN, Leased, ValueSink};
pub use watch::{WATCHED_BYTES_MAX, WATCHED_KEYS_MAX, WatchToken, WatchesFull};
