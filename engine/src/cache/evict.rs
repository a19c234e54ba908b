//! Making room, the mechanism: evict the tail of a list, empty a whole page.
//!
//! A class that needs a chunk evicts its own least recently used item, and nothing else. Only if
//! it has none does a page change hands, from the class that the policy in `victim` names.

use crate::cache::Cache;
use crate::cache::victim;
use crate::error::StoreError;
use crate::item::{Extensions, Kind, Meta, key_of};
use crate::limits::EVICTION_SKIPS_MAX;
use crate::slab::{ClassId, Handle};

impl Cache {
    /// A chunk of `class`, made free if need be.
    #[inline]
    pub(super) fn allocate(&mut self, class: ClassId) -> Result<Handle, StoreError> {
        match self.slab.allocate(class) {
            Some(handle) => Ok(handle),
            None => self.allocate_by_evicting(class),
        }
    }

    #[cold]
    fn allocate_by_evicting(&mut self, class: ClassId) -> Result<Handle, StoreError> {
        loop {
            let made_room = self.evict_tail(class) || self.give_up_page();
            if !made_room {
                return Err(StoreError::OutOfMemory);
            }
            if let Some(handle) = self.slab.allocate(class) {
                return Ok(handle);
            }
        }
    }

    /// Evicts the least recently used item of a class. Leased items are in use right now: they
    /// become the most recently used instead. False if the class has no other.
    fn evict_tail(&mut self, class: ClassId) -> bool {
        for _ in 0..EVICTION_SKIPS_MAX {
            let Some(tail) = self.lists[class.index()].tail() else {
                return false;
            };
            if !self.slab.meta(tail).has(Meta::LEASED) {
                self.evict(tail);
                return true;
            }
            self.lists[class.index()].move_to_front(&mut self.slab, tail);
        }
        false
    }

    /// Empties one page, of the class that the policy in `victim` names, and leaves it to the pool.
    /// If all pages that hold evictable items also hold pinned ones, evicts one item instead. False
    /// if nothing can be evicted. Evicts and moves at most one page's items each.
    pub(super) fn give_up_page(&mut self) -> bool {
        for class in victim::by_preference(&self.lists, &self.slab) {
            if let Some(chunk) = self.unpinned_chunk(class) {
                self.empty_page(chunk);
                self.stats.pages_given_up += 1;
                return true;
            }
        }
        ClassId::all().any(|class| self.evict_tail(class))
    }

    /// A chunk of `class` near its list's tail, in a page without pinned chunks. The tail's own
    /// page is often pinned, by the item that just took its first chunk: so look past one page.
    fn unpinned_chunk(&self, class: ClassId) -> Option<Handle> {
        let mut at = self.lists[class.index()].tail();
        for _ in 0..EVICTION_SKIPS_MAX + class.chunks_per_page() {
            let handle = at?;
            let chunk = self.chunk_in_class(handle, class);
            if !self.slab.is_page_pinned(chunk) {
                return Some(chunk);
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
        let (mut segment, _) = Extensions::chain(&self.slab, handle, meta);
        while self.slab.class_of(segment) != class {
            segment = self.slab.next(segment);
        }
        segment
    }

    /// Empties this chunk's page: the class's least recently used items go, wherever they lie, and
    /// those of the page that are not among them move to the chunks that this frees. Long values
    /// do not move: they are evicted.
    fn empty_page(&mut self, chunk: Handle) {
        self.slab.seal_page(chunk);
        for chunk in self.slab.page_chunks(chunk) {
            if !self.slab.is_page_in_use(chunk) {
                break;
            }
            let meta = self.slab.meta(chunk);
            match meta.kind() {
                Kind::Free => {}
                Kind::Item if meta.has(Meta::CHAIN) => self.evict(chunk),
                Kind::Item => self.evict_or_move(chunk),
                Kind::Segment => {
                    let owner = self.owner_of(chunk);
                    self.evict(owner);
                }
                Kind::Zombie => unreachable!("a zombie's page is pinned"),
            }
        }
        debug_assert!(!self.slab.is_page_in_use(chunk));
    }

    /// Empties the chunk of an item in a sealed page. Evicts at most one item for each chunk that
    /// becomes free in that page.
    fn evict_or_move(&mut self, chunk: Handle) {
        let class = self.slab.class_of(chunk);
        loop {
            if let Some(elsewhere) = self.slab.allocate(class) {
                return self.move_item(chunk, elsewhere);
            }
            let tail = self.lists[class.index()].tail();
            if tail == Some(chunk) || !self.evict_tail(class) {
                return self.evict(chunk);
            }
            if self.slab.meta(chunk).kind() == Kind::Free {
                return;
            }
        }
    }

    /// Moves an inline item to a free chunk of its class. O(1).
    fn move_item(&mut self, from: Handle, to: Handle) {
        let meta = self.slab.meta(from);
        let class = self.slab.class_of(from);
        self.slab.copy((from, 0), (to, 0), class.chunk_bytes());
        self.lists[class.index()].replace(&mut self.slab, from, to);
        if meta.has(Meta::TTL) {
            self.wheel.replace(&mut self.slab, from, to);
        }
        let key = key_of(&self.slab, to);
        let (range, hash) = ((self.config.range_of)(key), self.config.hasher.hash(key));
        self.index.replace(range, hash, from, to);
        self.slab.free(from);
        self.departures += 1;
    }

    /// The item whose value a committed segment belongs to. O(segments before it).
    fn owner_of(&self, segment: Handle) -> Handle {
        let mut at = segment;
        while self.slab.meta(at).kind() == Kind::Segment {
            at = self.slab.previous(at);
        }
        at
    }

    fn evict(&mut self, handle: Handle) {
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
