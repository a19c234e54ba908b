//! The cluster's rules: keys to ranges, ranges to nodes, and how nodes agree on it.
//!
//! Pure: no sockets, no clock, no randomness of its own. `docs/cluster.md` is the protocol.
//!
//! ```text
//! key --slot--> range --topology--> node --home--> core
//! ```
#![forbid(unsafe_code)]

pub mod coordinator;
pub mod datagram;
pub mod decision;
mod home;
mod ids;
mod mac;
pub mod membership;
pub mod message;
pub mod placement;
mod range_set;
pub mod replication;
mod slot;
mod time;
pub mod topology;

pub use home::{HomeTable, ShardIndex};
pub use ids::{ClusterId, Epoch, Incarnation, NodeId, Seq, Term};
pub use mac::{ClusterSecret, MAC_BYTES, Mac, Role};
pub use range_set::{RANGE_SET_BYTES, RangeSet};
pub use slot::{RANGES_COUNT, Range, SLOTS_COUNT, SLOTS_PER_RANGE, Slot};
pub use time::Time;
pub use topology::{Copies, Member, Topology, Zone};
