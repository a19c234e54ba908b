//! Digests of ranges, to compare copies.
//!
//! The sum of a hash of each item: its key, its value, and whether it expires. The order of the items does
//! not matter, so cores with different indexes agree; which hash it is does, so it is murmur3 and not
//! the index's. Two digests say something if both were taken at the same term and position.

use std::io::Read;

use murmur3::murmur3_x64_128;

use super::{ItemView, Replication, Store};
use crate::{Range, Seq, Term};

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The position it was taken at.
    pub term: Term,
    /// The position it was taken at.
    pub seq: Seq,
    /// Number of items.
    pub items: u64,
    /// The sum of their hashes.
    pub sum: u128,
}

/// Why there is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDigest {
    /// There is no whole copy here.
    NoCopy,
    /// The copy was written meanwhile: try again.
    Moved,
}

/// A digest being taken.
#[derive(Debug)]
pub struct DigestWalk {
    range: Range,
    cursor: u64,
    /// Items of the next step: fewer where values are long.
    items_wanted: usize,
    digest: Digest,
}

/// Most items that a step is to visit; it visits up to an index table more.
const ITEMS_PER_STEP: usize = 256;
/// Items of the first step, when nothing is known of their lengths.
const ITEMS_OF_FIRST_STEP: usize = 8;
/// Bytes that a step is to hash, about: a tenth of a millisecond's work.
const BYTES_PER_STEP: usize = 256 << 10;

impl DigestWalk {
    /// Begins at the copy's position.
    ///
    /// # Errors
    /// [`NoDigest::NoCopy`].
    pub fn new(range: Range, replication: &Replication) -> Result<Self, NoDigest> {
        let position = replication.position(range);
        let Some(position) = position.filter(|position| position.is_complete) else {
            return Err(NoDigest::NoCopy);
        };
        Ok(Self {
            range,
            cursor: 0,
            items_wanted: ITEMS_OF_FIRST_STEP,
            digest: Digest {
                term: position.term,
                seq: position.seq,
                items: 0,
                sum: 0,
            },
        })
    }

    /// The range whose copy it walks.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// Visits some more items; gives the digest at the end.
    ///
    /// # Errors
    /// [`NoDigest`]; it cannot go on then.
    pub fn step(
        &mut self,
        replication: &Replication,
        store: &dyn Store,
    ) -> Result<Option<Digest>, NoDigest> {
        let digest = &mut self.digest;
        let position = replication.position(self.range);
        let Some(position) = position.filter(|position| position.is_complete) else {
            return Err(NoDigest::NoCopy);
        };
        if (position.term, position.seq) != (digest.term, digest.seq) {
            return Err(NoDigest::Moved);
        }
        let (mut items, mut bytes) = (0, 0);
        self.cursor = store.walk_range(self.range, self.cursor, self.items_wanted, &mut |item| {
            items += 1;
            bytes += item.key.len() + item.value_bytes;
            digest.sum = digest.sum.wrapping_add(hash(item));
        });
        digest.items += items as u64;
        let fit = BYTES_PER_STEP / (bytes / items.max(1)).max(1);
        self.items_wanted = fit.clamp(1, ITEMS_PER_STEP);
        Ok((self.cursor == 0).then_some(self.digest))
    }
}

/// The hash of an item: its key's length, its key, whether it expires, its value.
fn hash(item: ItemView<'_>) -> u128 {
    let key_bytes = (item.key.len() as u64).to_le_bytes();
    let expires = [u8::from(item.ttl_ms.is_some())];
    let head = key_bytes
        .as_slice()
        .chain(item.key)
        .chain(expires.as_slice());
    let value = Parts {
        parts: item.parts,
        part: &[],
    };
    murmur3_x64_128(&mut head.chain(value), 0).expect("memory can be read")
}

/// A value's pieces as one stream.
struct Parts<'i, 'v> {
    parts: &'i mut dyn Iterator<Item = &'v [u8]>,
    part: &'v [u8],
}

impl Read for Parts<'_, '_> {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        while self.part.is_empty() {
            match self.parts.next() {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        self.part.read(target)
    }
}

#[cfg(test)]
mod tests {
    use super::{ItemView, hash};

    fn of(key: &[u8], parts: &[&[u8]], ttl_ms: Option<u64>) -> u128 {
        hash(ItemView {
            key,
            value_bytes: 0,
            parts: &mut parts.iter().copied(),
            ttl_ms,
        })
    }

    #[test]
    fn the_hash_is_of_content_alone() {
        let long = vec![b'v'; 1_000];
        let whole = of(b"key", &[&long], Some(1));
        assert_eq!(
            of(b"key", &[&long[..7], &long[7..23], &long[23..]], Some(99)),
            whole
        );
        assert_ne!(of(b"key", &[&long], None), whole);
        assert_ne!(of(b"kez", &[&long], Some(1)), whole);
        assert_ne!(of(b"key", &[&long[1..]], Some(1)), whole);
        assert_ne!(of(b"ke", &[b"y"], None), of(b"key", &[], None));
    }
}
