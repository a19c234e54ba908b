//! Versions, by which a caller knows whether an item is still the one that it read.

/// A number that names what a key's item was when it was given (memcached's CAS value).
///
/// No two items of a cache are given the same one, and a write of any kind makes it stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The one after this.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
