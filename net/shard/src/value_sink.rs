//! Replies with long values: as leases of where they lie, if the sink takes any.

use fulmar_cluster::ShardIndex;
use fulmar_engine::Lease;
use fulmar_protocol::{ReplySink, http, resp};

/// Values from this length on are leased: below it a copy costs less.
pub const LEASED_BYTES_MIN: usize = 16 * 1_024;
/// At most so many quarters of a shard's memory are under leases; then values are copied, so that
/// clients that do not read cannot keep all memory from those that write.
pub(crate) const LEASED_QUARTERS_MAX: u64 = 3;

/// A value under a lease. Whoever has it gives the lease back to the shard.
#[derive(Debug)]
#[must_use = "a lease pins memory until it is released"]
pub struct Leased {
    /// The shard that the value is in.
    pub shard: ShardIndex,
    /// Where it lies.
    pub lease: Lease,
}

/// A sink that may send long values from where they lie.
pub trait ValueSink: ReplySink {
    /// Whether [`bulk_leased`](Self::bulk_leased) may be called.
    fn takes_leases(&self) -> bool {
        false
    }

    /// A binary-safe string: the leased value.
    ///
    /// # Panics
    /// Unless it takes leases.
    fn bulk_leased(&mut self, leased: Leased) {
        unreachable!("no leases are taken: {leased:?}");
    }
}

/// Copies everything.
impl ValueSink for resp::Encoder<'_> {}
/// Copies everything: values are escaped.
impl ValueSink for http::Encoder<'_> {}
