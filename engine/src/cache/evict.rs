//! Making room: a class that needs a chunk gets a page from a class whose items are older, or evicts
//! its own least recently used item.

use crate::cache::Cache;
use crate::cache::donor;
use crate::error::StoreError;
use crate::item::Meta;
use crate::limits::{
    EVACUATED_BY_THE_WAY, EVACUATED_CHUNKS_MAX, EVICTION_SKIPS_MAX, EVICTIONS_PER_LOOK,
};
use crate::slab::{ClassId, Handle};

impl Cache {
    /// A chunk of `class`, made free if need be.
    #[inline]
    pub(super) fn allocate(&mut self, class: ClassId) -> Result<Handle, StoreError> {
        if self.evacuation.is_some() && self.slab.free_chunks_count(class) > 0 {
            self.evacuate(EVACUATED_BY_THE_WAY);
        }
        match self.slab.allocate(class) {
            Some(handle) => Ok(handle),
            None => self.allocate_by_evicting(class),
        }
    }

    #[cold]
    fn allocate_by_evicting(&mut self, class: ClassId) -> Result<Handle, StoreError> {
        if self.evacuation.is_none() {
            self.look_for_page(class);
        }
        self.evacuate(EVACUATED_CHUNKS_MAX);
        loop {
            if let Some(handle) = self.slab.allocate(class) {
                // Before this page is full, another one can be empty.
                if self.evacuation.is_none() {
                    self.look_for_page(class);
                }
                return Ok(handle);
            }
            let made_room =
                self.evict_tail(class) || self.slab.break_promise() || self.give_up_page();
            if !made_room {
                return Err(StoreError::OutOfMemory);
            }
        }
    }

    /// Starts to empty a page of a class whose items are older than those of `class`, if there is
    /// one. Looking for it costs more than an eviction, so it is done now and then.
    fn look_for_page(&mut self, class: ClassId) {
        let to_look = &mut self.evictions_to_look[class.index()];
        *to_look = to_look.saturating_sub(1);
        if *to_look > 0 {
            return;
        }
        match donor::for_class(&self.lists, &self.slab, class) {
            Some(_) if self.slab.has_free_page() => self.slab.promise_page(class),
            Some(donor) if self.start_evacuation(donor, Some(class)) => {}
            _ => self.evictions_to_look[class.index()] = EVICTIONS_PER_LOOK,
        }
    }

    /// Evicts the least recently used item of a class. Leased items are in use right now: they
    /// become the most recently used instead. False if the class has no other.
    pub(super) fn evict_tail(&mut self, class: ClassId) -> bool {
        for _ in 0..EVICTION_SKIPS_MAX {
            let Some(tail) = self.lists.tail(class) else {
                return false;
            };
            if !self.slab.meta(tail).has(Meta::LEASED) {
                self.evict(tail);
                return true;
            }
            self.lists.move_to_front(&mut self.slab, class, tail);
        }
        false
    }

    pub(super) fn evict(&mut self, handle: Handle) {
        let expired = self
            .deadline(handle)
            .is_some_and(|deadline| deadline <= self.latest);
        self.remove_handle(handle);
        if expired {
            self.stats.expired += 1;
        } else {
            self.stats.evicted += 1;
        }
    }
}
