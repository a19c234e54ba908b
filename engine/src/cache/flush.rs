//! Emptying the whole cache.

use crate::cache::Cache;
use crate::item::{Kind, Meta};
use crate::slab::Handle;

impl Cache {
    /// Removes every item. Leases and uncommitted chains live on.
    ///
    /// O(pages + ranges), not O(items): only pages with pinned chunks are looked into, and the
    /// index's tables are freed by the calls of `advance` and of writes that follow.
    pub fn flush(&mut self) {
        self.stats.flushed += self.index.len() as u64;
        let is_item = |&handle: &Handle| self.slab.meta(handle).kind() == Kind::Item;
        let leased: Vec<Handle> = self.leases.handles().filter(is_item).collect();
        for handle in leased {
            self.remove_handle(handle);
        }
        self.departures += 1;
        self.stop_evacuation();
        self.slab.break_promise();
        self.index.clear();
        self.wheel.clear();
        self.lists.clear();
        self.stats.key_bytes = 0;
        self.stats.value_bytes = 0;
        self.slab.clear_unpinned();
        let unpinned: Vec<Handle> = self
            .slab
            .all_chunks()
            .filter(|&chunk| !self.is_kept(chunk))
            .collect();
        for chunk in unpinned {
            self.slab.free(chunk);
        }
        self.fit_budget();
    }

    /// Whether a chunk outlives a flush; free ones count as kept.
    fn is_kept(&self, chunk: Handle) -> bool {
        let meta = self.slab.meta(chunk);
        match meta.kind() {
            Kind::Free | Kind::Zombie => true,
            Kind::Item => false,
            Kind::Segment => meta.has(Meta::SEGMENT_LEASED | Meta::UNCOMMITTED),
        }
    }
}
