//! Placement of keys: key -> slot -> range -> home core.
//!
//! Pure: no sockets, no clock. Membership, epochs and replication will live beside this; today
//! the crate holds slots and ranges alone.

mod home;
mod slot;

pub use home::{HomeTable, ShardIndex};
pub use slot::{RANGES_COUNT, Range, SLOTS_COUNT, SLOTS_PER_RANGE, Slot};
