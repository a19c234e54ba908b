//! Leases: items pinned, so that they can be sent from where they are.
//!
//! While a lease lasts, the item's chunks are neither written, moved nor freed. A leased item that
//! is deleted, overwritten or flushed leaves index, list and wheel at once and becomes a zombie;
//! its chunks are freed at the last release. Eviction passes over leased items.

use std::ops::Range;

use hashbrown::HashTable;

use crate::cache::Cache;
use crate::item::{
    Extensions, ItemValue, Kind, Layout, Meta, SEGMENT_HEADER_BYTES, segment_after, within,
};
use crate::key::Key;
use crate::slab::{Handle, Span};
use crate::time::Time;

/// A pinned value. Give it back with `Cache::release`: dropping it pins its memory for good.
#[must_use = "a lease pins memory until it is released"]
#[derive(Debug)]
pub struct Lease {
    pub(super) handle: Handle,
    parts: Vec<Span>,
    value_bytes: usize,
}

impl Lease {
    /// Where the value lies, piece by piece; no piece is empty.
    pub fn parts(&self) -> &[Span] {
        &self.parts
    }

    /// Length of the parts in bytes: of the value, unless it was narrowed.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Leaves of the parts what is in a range of the value's bytes. O(parts).
    pub fn narrow(&mut self, range: Range<usize>) {
        let (mut position, mut left) = (0, 0);
        self.parts.retain_mut(|part| {
            let within = within(&range, position, part.len());
            position += part.len();
            *part = part.narrowed(within);
            left += part.len();
            part.len() > 0
        });
        self.value_bytes = left;
    }
}

/// How often each item is leased.
pub(super) struct LeaseTable {
    counts: HashTable<(Handle, u32)>,
}

impl LeaseTable {
    pub(super) const fn new() -> Self {
        Self {
            counts: HashTable::new(),
        }
    }

    /// Number of leased items.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.counts.allocation_size()
    }

    /// All leased items.
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> + '_ {
        self.counts.iter().map(|&(handle, _)| handle)
    }

    /// Counts one more; true if it is the first.
    fn add(&mut self, handle: Handle) -> bool {
        let hash = spread(handle);
        if let Some((_, count)) = self.counts.find_mut(hash, |&(held, _)| held == handle) {
            *count += 1;
            return false;
        }
        self.counts
            .insert_unique(hash, (handle, 1), |&(handle, _)| spread(handle));
        true
    }

    /// Counts one less; true if it was the last.
    fn remove(&mut self, handle: Handle) -> bool {
        let entry = self
            .counts
            .find_entry(spread(handle), |&(held, _)| held == handle);
        let Ok(mut entry) = entry else {
            panic!("a lease is released once, to its own cache");
        };
        let (_, count) = entry.get_mut();
        *count -= 1;
        if *count > 0 {
            return false;
        }
        entry.remove();
        true
    }
}

/// Fibonacci hashing (Knuth); handles are chosen by the slab, so nobody can make them collide.
fn spread(handle: Handle) -> u64 {
    u64::from(handle.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Cache {
    /// Pins a key's live item and makes it the most recently used. Neither a hit nor a miss.
    ///
    /// O(segments). Allocates the list of parts.
    pub fn lease(&mut self, key: &Key<'_>, now: Time) -> Option<Lease> {
        let handle = self.find_or_expire(key, now)?;
        self.touch_handle(handle);
        self.pin_item(handle);
        let meta = self.slab.meta(handle);
        let value_bytes = ItemValue::new(&self.slab, handle, meta).len();
        Some(Lease {
            handle,
            parts: self.spans(handle, meta),
            value_bytes,
        })
    }

    /// Gives a lease back; frees the item if it left in the meantime and this was its last lease.
    ///
    /// # Panics
    /// If the lease is of another cache and this one has no lease of the same place.
    pub fn release(&mut self, lease: Lease) {
        self.unpin_item(lease.handle);
        self.fit_after_unpinning();
    }

    fn spans(&self, handle: Handle, meta: Meta) -> Vec<Span> {
        if meta.has(Meta::CHAIN) {
            let span = |segment| {
                let payload_bytes = self.slab.meta(segment).payload_bytes();
                self.slab.span(segment, SEGMENT_HEADER_BYTES, payload_bytes)
            };
            return self.segments(handle, meta).map(span).collect();
        }
        let layout = Layout::of(&self.slab, handle, meta);
        if layout.inline_len == 0 {
            return Vec::new();
        }
        vec![self.slab.span(handle, layout.value_at(), layout.inline_len)]
    }

    /// The segments of an item's value.
    pub(super) fn segments(&self, handle: Handle, meta: Meta) -> impl Iterator<Item = Handle> + '_ {
        let first = if meta.has(Meta::CHAIN) {
            Extensions::chain(&self.slab, handle, meta).first
        } else {
            Handle::NONE
        };
        std::iter::successors(first.some(), |&segment| segment_after(&self.slab, segment))
    }

    /// Keeps an item's chunks from being freed, moved or evicted until `unpin_item`.
    pub(super) fn pin_item(&mut self, handle: Handle) {
        if !self.leases.add(handle) {
            return;
        }
        let meta = self.slab.meta(handle);
        self.stats.leased_bytes += ItemValue::new(&self.slab, handle, meta).len() as u64;
        self.hold(handle);
        self.pin_segments(handle);
    }

    /// Undoes one `pin_item`.
    pub(super) fn unpin_item(&mut self, handle: Handle) {
        if !self.leases.remove(handle) {
            return;
        }
        let meta = self.slab.meta(handle);
        self.stats.leased_bytes -= ItemValue::new(&self.slab, handle, meta).len() as u64;
        self.let_go(handle);
        if meta.kind() == Kind::Zombie {
            self.stats.zombies -= 1;
            self.free_item(handle, self.slab.meta(handle));
        }
    }

    /// Keeps an item that isn't leased from being evicted, and its own chunk from being moved, until
    /// `let_go`; its segments may move. O(1).
    pub(super) fn hold(&mut self, handle: Handle) {
        let meta = self.slab.meta(handle);
        self.slab.set_meta(handle, meta.with(Meta::LEASED));
        self.slab.pin(handle);
    }

    /// Keeps the segments of an item that is held in their place, too.
    pub(super) fn pin_segments(&mut self, handle: Handle) {
        let mut at = self.segments(handle, self.slab.meta(handle)).next();
        while let Some(segment) = at {
            let meta = self.slab.meta(segment);
            self.slab.set_meta(segment, meta.with(Meta::SEGMENT_LEASED));
            self.slab.pin(segment);
            at = segment_after(&self.slab, segment);
        }
    }

    /// Undoes `hold`, and `pin_segments` if it was called.
    pub(super) fn let_go(&mut self, handle: Handle) {
        let meta = self.slab.meta(handle).without(Meta::LEASED);
        self.slab.set_meta(handle, meta);
        self.slab.unpin(handle);
        let mut at = self.segments(handle, meta).next();
        while let Some(segment) = at
            && self.slab.meta(segment).has(Meta::SEGMENT_LEASED)
        {
            let meta = self.slab.meta(segment).without(Meta::SEGMENT_LEASED);
            self.slab.set_meta(segment, meta);
            self.slab.unpin(segment);
            at = segment_after(&self.slab, segment);
        }
    }
}
