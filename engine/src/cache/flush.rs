//! Emptying the whole cache, or one range.

use crate::cache::Cache;
use crate::item::{Kind, Meta};
use crate::slab::Handle;

impl Cache {
    /// Removes every item. Leases and uncommitted chains live on.
    ///
    /// O(pages + ranges), not O(items): only pages with pinned chunks are looked into.
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
        self.index.clear(&mut self.slab);
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

    /// Removes items of one range, `count` or up to an index table more, and returns the cursor to go
    /// on with; 0 starts and ends. Keys that come meanwhile may stay. Costs only that range.
    pub fn drop_range(&mut self, range: u16, cursor: u64, count: usize) -> u64 {
        let items = Self::indexed(&self.config);
        let mut handles = Vec::new();
        let ranges = usize::from(range)..usize::from(range) + 1;
        let mut collect = |handle| handles.push(handle);
        let next = self
            .index
            .walk(&self.slab, ranges, cursor, count, &items, &mut collect);
        self.stats.flushed += handles.len() as u64;
        for handle in handles {
            self.remove_handle(handle);
        }
        next
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
