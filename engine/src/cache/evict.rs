//! Making room: a class that needs a chunk gets a page from a class whose items are older, or evicts
//! the item of its own whose turn it is.

use crate::cache::Cache;
use crate::cache::donor;
use crate::error::StoreError;
use crate::limits::{
    DONORS_PER_LOOK_MAX, EVACUATED_BY_THE_WAY, EVACUATED_CHUNKS_MAX, EVICTIONS_PER_LOOK,
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
        let mut evictions_left = EVACUATED_CHUNKS_MAX;
        loop {
            if let Some(handle) = self.slab.allocate(class) {
                // Before this page is full, another one can be empty.
                if self.evacuation.is_none() {
                    self.look_for_page(class);
                }
                return Ok(handle);
            }
            if evictions_left == 0 && self.evacuation.is_some() {
                // All that went was in the sealed page: take one of its chunks, and go on.
                self.stop_evacuation();
                if let Some(handle) = self.slab.allocate(class) {
                    self.go_on_fitting();
                    return Ok(handle);
                }
                continue;
            }
            if self.evict_next(class) {
                evictions_left = evictions_left.saturating_sub(1);
                continue;
            }
            if self.slab.break_promise() {
                continue;
            }
            if let Some(handle) = self.slab.allocate_reserved(class) {
                self.go_on_fitting();
                return Ok(handle);
            }
            if !self.give_up_page() {
                return Err(StoreError::OutOfMemory);
            }
        }
    }

    /// Starts to empty a page of a class whose items are older than those of `class`, if there is
    /// one. Looking for it costs more than an eviction, so it is done now and then.
    #[inline]
    fn look_for_page(&mut self, class: ClassId) {
        let to_look = &mut self.evictions_to_look[class.index()];
        *to_look = to_look.saturating_sub(1);
        if *to_look == 0 {
            self.look_for_page_now(class);
        }
    }

    #[cold]
    fn look_for_page_now(&mut self, class: ClassId) {
        let donors = donor::for_class(&self.lists, &self.slab, class);
        let donor = { donors.take(DONORS_PER_LOOK_MAX) }
            .find(|donor| donor.has_spare || self.is_tail_idle(donor.list));
        match donor {
            Some(_) if self.slab.has_free_page() => self.slab.promise_page(class),
            Some(donor) if self.start_evacuation(donor, Some(class)) => {}
            _ => self.evictions_to_look[class.index()] = EVICTIONS_PER_LOOK,
        }
    }

    /// Evicts the item of a class whose turn it is. False if the class has none that can go.
    #[inline]
    pub(super) fn evict_next(&mut self, class: ClassId) -> bool {
        let victim = self.victim(class);
        if let Some(handle) = victim {
            self.evict(handle);
        }
        victim.is_some()
    }

    pub(super) fn evict(&mut self, handle: Handle) {
        let expired = self
            .deadline(handle)
            .is_some_and(|deadline| deadline <= self.latest);
        let (range, hash) = self.range_and_hash(handle);
        if expired {
            self.stats.expired += 1;
        } else {
            self.stats.evicted += 1;
            self.remember(handle, hash);
        }
        self.remove_entry(range, hash, handle);
    }
}
