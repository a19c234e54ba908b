//! Which items go when memory is needed.

/// The policy by which a cache evicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// Of a slab class, exactly the least recently used item goes.
    #[default]
    Lru,
    /// S3-FIFO: new items pass through a small queue, and only those that are used again while
    /// they are in it, or soon after, come to the main queue. Items that are used once, as in a scan,
    /// take a tenth of the memory. A hit sets a bit and moves nothing.
    S3Fifo,
}

impl Eviction {
    /// As settings spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::S3Fifo => "s3-fifo",
        }
    }

    /// Kinds of list that a class has.
    pub(crate) const fn list_kinds_count(self) -> usize {
        match self {
            Self::Lru => 1,
            Self::S3Fifo => 2,
        }
    }
}
