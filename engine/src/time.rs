//! Instants and expiries, as the engine sees them: plain numbers from its caller.

/// Milliseconds on a monotonic clock that the caller owns.
///
/// An item is expired iff `now >= deadline`. Calls should pass a `now` that never goes back; one
/// that does makes nothing come back to life, it only delays reclaiming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

/// What a write does to the item's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The item has no deadline.
    Never,
    /// The item keeps the deadline of the live item it replaces, or has none.
    Keep,
    /// The item expires then. A deadline that has passed already leaves the key absent.
    At(Time),
}
