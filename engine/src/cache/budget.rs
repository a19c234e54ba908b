//! The memory limit: how many pages items may have beside everything else.
//!
//! ```text
//! memory_bytes_max = resident pages, of items and of the index + what the index has beside them
//!                    + wheel + age marks + ghost + page table + lease table + reserved bytes
//! ```
//! A few pages are kept free, for the index and for classes that have no item to evict: they take
//! one at once, and others are emptied step by step until the reserve is whole again.
//!
//! When the right side's other terms grow, pages become fewer: free ones go back to the system
//! first, then eviction empties whole ones.

use crate::cache::Cache;
use crate::config::{Config, ConfigError, PAGES_COUNT_MIN};
use crate::eviction::Eviction;
use crate::ghost::Ghost;
use crate::index::Index;
use crate::limits::{EVACUATED_CHUNKS_MAX, PAGE_BYTES, PAGES_PER_RESERVED, RESERVED_PAGES_MAX};
use crate::order::Lists;
use crate::slab::{Handle, PAGE_TABLE_ENTRY_BYTES};
use crate::wheel::Wheel;

impl Cache {
    /// Bytes that others (buffers of connections) take from this cache's limit from now on.
    ///
    /// When it rises, this call and the ones after it (writes, `advance`) empty as many pages, some
    /// hundred chunks at a time, as far as nothing is leased or uncommitted.
    pub fn set_reserved_bytes(&mut self, bytes: usize) {
        self.reserved_bytes = bytes;
        self.fit_budget();
    }

    /// Pages of the arena: as many as the limit holds when there are no items.
    pub(super) fn pages_count(config: &Config) -> Result<usize, ConfigError> {
        let fixed = Self::fixed_bytes(config);
        let per_page = PAGE_BYTES + PAGE_TABLE_ENTRY_BYTES;
        let pages_count = config.memory_bytes_max.saturating_sub(fixed) / per_page;
        if pages_count < PAGES_COUNT_MIN {
            let bytes_min = fixed + PAGES_COUNT_MIN * per_page;
            return Err(ConfigError::MemoryTooSmall { bytes_min });
        }
        Ok(pages_count)
    }

    /// Pages that are kept free.
    pub(super) fn reserve_count(pages_count: usize) -> usize {
        (pages_count / PAGES_PER_RESERVED).clamp(1, RESERVED_PAGES_MAX)
    }

    fn fixed_bytes(config: &Config) -> usize {
        Self::side_bytes(config) + Index::bytes_for(config.ranges_count)
    }

    /// What is as large as the configuration says from the start.
    fn side_bytes(config: &Config) -> usize {
        let ghost_bytes = match config.eviction {
            Eviction::Lru => 0,
            Eviction::S3Fifo => Ghost::bytes_for(config.memory_bytes_max),
        };
        let lists_bytes = Lists::bytes_for(config.eviction.list_kinds_count());
        size_of::<Self>() + Wheel::BYTES + lists_bytes + ghost_bytes
    }

    /// Makes resident pages fit what is left of the limit: free ones at once, others step by step.
    pub(super) fn fit_budget(&mut self) {
        let others = Self::side_bytes(&self.config)
            + self.slab.table_bytes()
            + self.index.heap_bytes()
            + self.leases.bytes()
            + self.reserved_bytes;
        let left = self.config.memory_bytes_max.saturating_sub(others);
        self.slab.set_resident_max(left / PAGE_BYTES);
        self.go_on_fitting();
        self.evacuate(EVACUATED_CHUNKS_MAX);
    }

    /// Sees to it that a page is being emptied while there are too many.
    pub(super) fn go_on_fitting(&mut self) {
        for _ in 0..EVACUATED_CHUNKS_MAX {
            let is_done = !self.slab.is_over() || self.evacuation.is_some();
            if is_done || !self.evacuate_any() {
                return;
            }
        }
    }

    /// Makes up for pages that could not be given up while they were pinned.
    pub(super) fn fit_after_unpinning(&mut self) {
        if self.slab.is_over() {
            self.fit_budget();
        }
    }

    /// Makes pages fit without emptying one of this item's, as long as there are others.
    pub(super) fn fit_budget_around(&mut self, handle: Handle) {
        self.pin_item(handle);
        self.fit_budget();
        self.unpin_item(handle);
        self.fit_after_unpinning();
    }
}
