//! How an item leaves, whatever the reason: out of index, list, wheel and counters, then its
//! chunks back to the slab, or kept as a zombie while a lease lasts. Callers count the reason.

use crate::cache::Cache;
use crate::item::{ItemValue, Layout, Meta, key_of, segment_after};
use crate::key::Key;
use crate::slab::Handle;

impl Cache {
    /// Removes the item of `key`.
    pub(super) fn remove(&mut self, key: &Key<'_>, handle: Handle) {
        self.remove_entry(key.range(), key.hash(), handle);
    }

    /// Removes an item of which only the handle is known.
    pub(super) fn remove_handle(&mut self, handle: Handle) {
        let (range, hash) = self.range_and_hash(handle);
        self.remove_entry(range, hash, handle);
    }

    /// Where the index has an item, computed from its key.
    pub(super) fn range_and_hash(&self, handle: Handle) -> (u16, u64) {
        let key = key_of(&self.slab, handle);
        ((self.config.range_of)(key), self.config.hasher.hash(key))
    }

    /// Removes the item that the index has there.
    pub(super) fn remove_entry(&mut self, range: u16, hash: u64, handle: Handle) {
        let items = Self::indexed(&self.config);
        self.index
            .remove(&mut self.slab, range, hash, handle, &items);
        self.detach(handle);
        self.dispose(handle);
    }

    /// Takes an item that is in the index no more out of everything else, but keeps its chunks.
    pub(super) fn detach(&mut self, handle: Handle) {
        let meta = self.slab.meta(handle);
        let list = self.list_of(handle, meta);
        self.lists.remove(&mut self.slab, list, handle);
        if meta.has(Meta::TTL) {
            self.wheel.remove(&mut self.slab, handle);
        }
        let key_len = Layout::of(&self.slab, handle, meta).key_len;
        let value_len = ItemValue::new(&self.slab, handle, meta).len();
        self.stats.key_bytes -= key_len as u64;
        self.stats.value_bytes -= value_len as u64;
        self.departures += 1;
    }

    /// Frees the chunks of a detached item, or makes it a zombie if it is leased.
    pub(super) fn dispose(&mut self, handle: Handle) {
        let meta = self.slab.meta(handle);
        if meta.has(Meta::LEASED) {
            self.slab.set_meta(handle, meta.into_zombie());
            self.stats.zombies += 1;
            return;
        }
        self.free_item(handle, meta);
    }

    /// Frees the chunks of an item or a zombie.
    pub(super) fn free_item(&mut self, handle: Handle, meta: Meta) {
        let mut at = self.segments(handle, meta).next();
        while let Some(segment) = at {
            at = segment_after(&self.slab, segment);
            self.slab.free(segment);
        }
        self.slab.free(handle);
    }
}
