//! Emptying a whole page, so that another class or the system can have it.
//!
//! The items of the class whose turn it is go, wherever they lie, and the page's other items and
//! segments move to the chunks that this frees. It goes on over several calls, each of which looks
//! at a bounded number of chunks; meanwhile the page is sealed: it hands no chunks out.

use crate::cache::Cache;
use crate::cache::donor::{self, Donor};
use crate::item::{Extensions, Kind, Meta, Segments};
use crate::limits::{EVACUATED_CHUNKS_MAX, EVICTION_SKIPS_MAX, PARTIAL_PAGES_MAX};
use crate::order::ListId;
use crate::slab::{ClassId, Handle};

/// Chunks whose memory is waited for together.
const BATCH: usize = 16;

/// A page that is being emptied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evacuation {
    /// A chunk of it.
    page: Handle,
    /// Its chunks before this place are free.
    done: usize,
    /// The class that is to have it.
    needy: Option<ClassId>,
}

impl Cache {
    /// Empties one page and leaves it to the pool, or evicts one item if that can't be. False if
    /// nothing can be evicted. Evicts and moves at most two pages' chunks each.
    pub(super) fn give_up_page(&mut self) -> bool {
        let given_up = self.stats.pages_given_up;
        let found = self.evacuation.is_some() || self.evacuate_any();
        while self.evacuation.is_some() && self.stats.pages_given_up == given_up {
            self.evacuate(EVACUATED_CHUNKS_MAX);
        }
        found
    }

    /// Starts to empty a page of the class that the policy in `donor` names. If all pages that hold
    /// evictable items also hold pinned ones, evicts one item instead. False if nothing can be
    /// evicted.
    pub(super) fn evacuate_any(&mut self) -> bool {
        let donors = donor::by_preference(&self.lists, &self.slab);
        { donors }.any(|donor| self.start_evacuation(donor, None))
            || ClassId::all().any(|class| self.evict_next(class))
    }

    /// Chooses a page of a class and seals it; false if the class has none that can be emptied. A
    /// class whose chunks are pages evicts at once.
    pub(super) fn start_evacuation(&mut self, donor: Donor, needy: Option<ClassId>) -> bool {
        debug_assert!(self.evacuation.is_none());
        let class = donor.list.class();
        if class.chunks_per_page() == 1 {
            return self.evict_next(class);
        }
        let page = if donor.has_spare {
            self.slab.emptiest_page(class, PARTIAL_PAGES_MAX)
        } else {
            self.unpinned_chunk(donor.list)
        };
        if let Some(page) = page {
            self.slab.seal_page(page);
            let done = 0;
            self.evacuation = Some(Evacuation { page, done, needy });
        }
        page.is_some()
    }

    /// Goes on with the page that is being emptied, if there is one. Stops where it is no longer
    /// needed, as a page became free otherwise, or not possible, as something in it is pinned.
    pub(super) fn evacuate(&mut self, chunks_max: usize) {
        let Some(Evacuation { page, done, needy }) = self.evacuation else {
            return;
        };
        if !self.slab.is_page_sealed(page) {
            // What was left in it went by itself.
            self.evacuation = None;
            return;
        }
        let end = done + chunks_max.next_multiple_of(BATCH);
        let mut steps_left = chunks_max;
        for done in (done..end).step_by(BATCH) {
            if self.slab.is_page_pinned(page) || self.slab.has_free_page() {
                return self.stop_evacuation();
            }
            let batch = self.slab.page_chunks(page).skip(done).take(BATCH);
            self.prefetch_chunks(batch.clone());
            for chunk in batch {
                if !self.empty_chunk(chunk, &mut steps_left) {
                    self.evacuation = Some(Evacuation { page, done, needy });
                    return;
                }
                if !self.slab.is_page_sealed(page) {
                    self.evacuation = None;
                    self.stats.pages_given_up += 1;
                    if let Some(needy) = needy.filter(|_| self.slab.has_free_page()) {
                        self.slab.promise_page(needy);
                    }
                    return self.go_on_fitting();
                }
            }
        }
        let done = end;
        self.evacuation = Some(Evacuation { page, done, needy });
    }

    /// Leaves the page as it is.
    pub(super) fn stop_evacuation(&mut self) {
        if let Some(Evacuation { page, .. }) = self.evacuation.take()
            && self.slab.is_page_sealed(page)
        {
            self.slab.unseal_page(page);
        }
    }

    /// A chunk of an item near a list's tail, in a page without pinned chunks. The tail's own page
    /// is often pinned, by the item that just took its first chunk: so look past one page.
    fn unpinned_chunk(&self, list: ListId) -> Option<Handle> {
        let class = list.class();
        let mut at = self.lists.tail(list);
        for _ in 0..EVICTION_SKIPS_MAX + class.chunks_per_page() {
            let handle = at?;
            if !self.slab.meta(handle).has(Meta::LEASED) {
                let chunk = self.chunk_in_class(handle, class);
                if !self.slab.is_page_pinned(chunk) {
                    return Some(chunk);
                }
            }
            at = self.slab.previous(handle).some();
        }
        None
    }

    /// The chunk of an item that is of the class whose list it is in.
    fn chunk_in_class(&self, handle: Handle, class: ClassId) -> Handle {
        let meta = self.slab.meta(handle);
        if !meta.has(Meta::CHAIN) {
            return handle;
        }
        let mut segment = Extensions::chain(&self.slab, handle, meta).first;
        while self.slab.class_of(segment) != class {
            segment = self.slab.next(segment);
        }
        segment
    }

    /// Starts to load what moving these chunks will read.
    fn prefetch_chunks(&self, chunks: impl Iterator<Item = Handle>) {
        for chunk in chunks {
            if self.slab.meta(chunk).kind() == Kind::Item {
                let (range, hash) = self.range_and_hash(chunk);
                self.index.prefetch(&self.slab, range, hash);
                self.slab.prefetch_neighbours(chunk);
            }
        }
    }

    /// Moves what is in a chunk of a sealed page, or evicts until it is free; false if that took all
    /// the steps that are left. Evicts at most one item for each chunk of that page that becomes
    /// free: where the least recently used are in the page itself, their chunks are of no use.
    fn empty_chunk(&mut self, chunk: Handle, steps_left: &mut usize) -> bool {
        let class = self.slab.class_of(chunk);
        while self.slab.meta(chunk).kind() != Kind::Free {
            if *steps_left == 0 {
                return false;
            }
            *steps_left -= 1;
            if let Some(elsewhere) = self.slab.allocate(class) {
                self.move_chunk(chunk, elsewhere, class);
            } else if !self.evict_next(class) {
                let owner = self.owner_of(chunk);
                if self.slab.meta(owner).has(Meta::LEASED) {
                    // Held by the call that this page is emptied for.
                    self.pin_segments(owner);
                    return false;
                }
                self.evict(owner);
                self.stats.evicted_early += 1;
            }
        }
        true
    }

    /// Moves an item or a segment to a free chunk of its class. O(1).
    fn move_chunk(&mut self, from: Handle, to: Handle, class: ClassId) {
        self.slab.copy((from, 0), (to, 0), class.chunk_bytes());
        if self.slab.meta(from).kind() == Kind::Segment {
            self.relink_segment(to);
        } else {
            self.relink_item(from, to);
        }
        self.slab.free(from);
        self.departures += 1;
    }

    fn relink_segment(&mut self, to: Handle) {
        let (previous, next) = (self.slab.previous(to), self.slab.next(to));
        let meta = self.slab.meta(previous);
        if meta.kind() == Kind::Segment {
            self.slab.set_next(previous, to);
        } else {
            let chain = Extensions::chain(&self.slab, previous, meta);
            let chain = Segments { first: to, ..chain };
            Extensions::set_chain(&mut self.slab, previous, meta, chain);
        }
        let meta = self.slab.meta(next);
        if meta.kind() == Kind::Segment {
            self.slab.set_previous(next, to);
        } else {
            let chain = Extensions::chain(&self.slab, next, meta);
            let chain = Segments { last: to, ..chain };
            Extensions::set_chain(&mut self.slab, next, meta, chain);
        }
    }

    fn relink_item(&mut self, from: Handle, to: Handle) {
        let meta = self.slab.meta(from);
        let list = self.list_of(from, meta);
        self.lists.replace(&mut self.slab, list, from, to);
        if meta.has(Meta::TTL) {
            self.wheel.replace(&mut self.slab, from, to);
        }
        if meta.has(Meta::CHAIN) {
            let chain = Extensions::chain(&self.slab, to, meta);
            self.give_segments(to, chain);
        }
        let (range, hash) = self.range_and_hash(to);
        self.index.replace(&mut self.slab, range, hash, from, to);
    }

    /// The item that a chunk belongs to. O(segments before it).
    fn owner_of(&self, chunk: Handle) -> Handle {
        let mut at = chunk;
        while self.slab.meta(at).kind() == Kind::Segment {
            at = self.slab.previous(at);
        }
        at
    }
}
