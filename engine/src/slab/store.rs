//! Chunks: allocated, freed, read and written by handle.
//!
//! Every chunk starts with three words; what the links mean depends on the kind in the meta word:
//!
//! ```text
//! byte  0        4          8
//!       meta     previous   next
//! free  kind     -          next free chunk of the page
//! item  ...      towards the most recent, towards the least recent
//! segment ...    segment before (the first: its item), segment after (the last: its item)
//! ```
//!
//! # Invariants
//! 1. A chunk lies inside its page, at a multiple of the class's size from the page's start.
//! 2. A page's free list holds exactly the chunks below `bumped` whose kind is free.
//! 3. Freed chunks are never read as anything else: debug builds overwrite them.

use rustix::io::Errno;

use crate::item::{Kind, Meta};
use crate::limits::PAGE_BYTES;
use crate::slab::classes::ClassId;
use crate::slab::handle::{HANDLE_UNIT, Handle};
use crate::slab::pages::{NO_CHUNK, Page, PageTable};
use crate::slab::region::{Populate, Region, Span};

/// Bytes of side table per page.
pub(crate) const PAGE_TABLE_ENTRY_BYTES: usize = size_of::<Page>();

const META_AT: usize = 0;
const PREVIOUS_AT: usize = 4;
const NEXT_AT: usize = 8;
/// Segments that a walk is ahead of itself with loading.
const STEPS_AHEAD: u32 = 16;
/// What debug builds write over freed chunks.
const POISON: u8 = 0xDB;

/// The arena with its pages.
pub(crate) struct Slab {
    pub(super) region: Region,
    pub(super) pages: PageTable,
    /// Who makes memory resident, see [`Cache::populate_by`](crate::Cache::populate_by).
    populator: Option<Box<dyn FnMut(Populate) + Send>>,
}

impl Slab {
    /// An arena of this many pages; none is resident yet.
    pub(crate) fn new(pages_count: usize) -> Result<Self, Errno> {
        let region = Region::new(pages_count * PAGE_BYTES)?;
        debug_assert!(region.len() == pages_count * PAGE_BYTES);
        debug_assert!(PageTable::bytes_for(1) == PAGE_TABLE_ENTRY_BYTES);
        Ok(Self {
            region,
            pages: PageTable::new(pages_count),
            populator: None,
        })
    }

    /// Has pages made resident by somebody else before they are needed, if they are cleared many at a
    /// time.
    pub(crate) fn populate_by(&mut self, populator: Box<dyn FnMut(Populate) + Send>) {
        if self.region.is_huge() {
            let untouched = self.pages.untouched() * PAGE_BYTES;
            self.region.leave_huge_pages_to_populate(untouched);
            self.populator = Some(populator);
            self.populate_ahead();
        }
    }

    /// Keeps some free pages resident. Called where a page is to be taken.
    pub(super) fn populate_ahead(&mut self) {
        self.see_what_is_populated();
        while let Some(populator) = &mut self.populator
            && !self.pages.is_populating()
            && let Some(page) = self.pages.start_populating()
        {
            populator(self.region.populate(page_offset(page)));
            self.see_what_is_populated();
        }
    }

    /// Ends what is over. If the limit fell meanwhile, it is here that free pages above it go.
    fn see_what_is_populated(&mut self) {
        if self.pages.is_populating() && !self.region.is_populating() {
            self.pages.end_populating();
            self.discard_free();
        }
    }

    /// Keeps so many pages free for the index and for `allocate_reserved`.
    pub(crate) fn keep_reserve(&mut self, pages_count: usize) {
        self.pages.keep_reserve(pages_count);
    }

    /// A chunk from the class's pages, else from a page of the pool; `None` when both are empty.
    /// Its content is undefined. O(1).
    #[inline]
    pub(crate) fn allocate(&mut self, class: ClassId) -> Option<Handle> {
        let page = match self.pages.partial(class) {
            Some(page) => page,
            None => {
                self.populate_ahead();
                self.pages.take(class)?
            }
        };
        Some(self.allocate_in(page, class))
    }

    /// As `allocate` where that finds none, with a page of the reserve.
    pub(crate) fn allocate_reserved(&mut self, class: ClassId) -> Option<Handle> {
        debug_assert!(self.pages.partial(class).is_none());
        self.populate_ahead();
        let page = self.pages.take_reserved(class)?;
        Some(self.allocate_in(page, class))
    }

    #[inline]
    fn allocate_in(&mut self, page: u32, class: ClassId) -> Handle {
        let start = page_offset(page);
        let entry = self.pages.get_mut(page);
        let offset = if entry.free == NO_CHUNK {
            let offset = start + usize::from(entry.bumped) * class.chunk_bytes();
            entry.bumped += 1;
            offset
        } else {
            let offset = start + usize::from(entry.free) * HANDLE_UNIT;
            debug_assert!(self.region.read_u32(offset + META_AT) == Meta::FREE.0);
            entry.free = low_half(self.region.read_u32(offset + NEXT_AT));
            offset
        };
        entry.used += 1;
        let is_full = usize::from(entry.used) == class.chunks_per_page();
        self.pages.count_allocated(class);
        if is_full {
            self.pages.unlink_partial(page, class);
        }
        Handle::from_offset(offset)
    }

    /// Takes a chunk back. A page whose last chunk this was goes to the pool. O(1).
    #[inline]
    pub(crate) fn free(&mut self, handle: Handle) {
        let page = page_of(handle);
        let class = self.class_of(handle);
        let offset = handle.offset();
        if cfg!(debug_assertions) {
            assert!(self.meta(handle).kind() != Kind::Free, "chunk freed twice");
            self.region
                .bytes_mut(offset, class.chunk_bytes())
                .fill(POISON);
        }
        let entry = self.pages.get_mut(page);
        self.region.write_u32(offset + META_AT, Meta::FREE.0);
        self.region
            .write_u32(offset + NEXT_AT, u32::from(entry.free));
        entry.free = unit_in_page(handle);
        let was_full = usize::from(entry.used) == class.chunks_per_page();
        entry.used -= 1;
        let (empty, sealed) = (entry.used == 0, entry.sealed);
        if !sealed {
            self.pages.count_freed(class, 1);
            if was_full {
                self.pages.link_partial(page, class);
            }
        }
        if empty {
            self.pages.release(page);
            self.trim();
        }
    }

    /// Keeps the page of a chunk from handing chunks out, until it is empty or unsealed. There is
    /// one such page at most.
    pub(crate) fn seal_page(&mut self, handle: Handle) {
        self.pages.seal(page_of(handle));
    }

    /// Lets the page hand chunks out again.
    pub(crate) fn unseal_page(&mut self, handle: Handle) {
        self.pages.unseal(page_of(handle));
    }

    /// Whether the chunk's page is sealed; an emptied page is not any more.
    pub(crate) fn is_page_sealed(&self, handle: Handle) -> bool {
        self.pages.get(page_of(handle)).sealed
    }

    /// Keeps the last free page for a class, until it takes one or the page is discarded.
    pub(crate) fn promise_page(&mut self, class: ClassId) {
        self.pages.promise(class);
    }

    /// Lets any class take the last free page; false if any could.
    pub(crate) fn break_promise(&mut self) -> bool {
        self.pages.break_promise()
    }

    /// Whether there is a free page beyond the reserve.
    pub(crate) fn has_free_page(&self) -> bool {
        self.pages.has_free()
    }

    /// Free chunks of a class, but for those of a sealed page.
    pub(crate) fn free_chunks_count(&self, class: ClassId) -> usize {
        self.pages.free_chunks_count(class)
    }

    /// The first chunk of the page without pinned chunks that has most free ones, of `pages_max`
    /// pages of a class with free chunks.
    pub(crate) fn emptiest_page(&self, class: ClassId, pages_max: usize) -> Option<Handle> {
        let unpinned = |&page: &u32| self.pages.get(page).pinned == 0;
        let pages = self.pages.partials(class).take(pages_max).filter(unpinned);
        let page = pages.min_by_key(|&page| self.pages.get(page).used)?;
        Some(Handle::from_offset(page_offset(page)))
    }

    /// The class of a chunk in use.
    #[inline]
    pub(crate) fn class_of(&self, handle: Handle) -> ClassId {
        self.pages
            .get(page_of(handle))
            .class
            .expect("a chunk in use has a page in use")
    }

    /// Keeps the chunk's page from being given up; counts.
    pub(crate) fn pin(&mut self, handle: Handle) {
        self.pages.get_mut(page_of(handle)).pinned += 1;
    }

    /// Undoes one `pin`.
    pub(crate) fn unpin(&mut self, handle: Handle) {
        let pinned = &mut self.pages.get_mut(page_of(handle)).pinned;
        *pinned = pinned.checked_sub(1).expect("pins and unpins are paired");
    }

    /// Whether the chunk's page holds a pinned chunk.
    pub(crate) fn is_page_pinned(&self, handle: Handle) -> bool {
        self.pages.get(page_of(handle)).pinned > 0
    }

    /// Handles of all chunks of this chunk's page that were ever handed out.
    pub(crate) fn page_chunks(
        &self,
        handle: Handle,
    ) -> impl Iterator<Item = Handle> + Clone + use<> {
        self.chunks_of_page(page_of(handle))
    }

    fn chunks_of_page(&self, page: u32) -> impl Iterator<Item = Handle> + Clone + use<> {
        let entry = self.pages.get(page);
        let class = entry.class.expect("only pages in use are walked");
        let start = page_offset(page);
        let size = class.chunk_bytes();
        (0..usize::from(entry.bumped)).map(move |index| Handle::from_offset(start + index * size))
    }

    /// Every chunk ever handed out in every page in use, page by page.
    pub(crate) fn all_chunks(&self) -> impl Iterator<Item = Handle> + '_ {
        let in_use = |&page: &u32| self.pages.get(page).class.is_some();
        self.pages
            .touched()
            .filter(in_use)
            .flat_map(|page| self.chunks_of_page(page))
    }

    /// Bytes of the page table.
    pub(crate) fn table_bytes(&self) -> usize {
        self.region.len() / PAGE_BYTES * PAGE_TABLE_ENTRY_BYTES
    }

    /// Frees all chunks of every page that has no pinned one. O(pages).
    pub(crate) fn clear_unpinned(&mut self) {
        for page in self.pages.touched() {
            let entry = self.pages.get_mut(page);
            if let Some(class) = entry.class.filter(|_| entry.pinned == 0) {
                assert!(!entry.sealed);
                let was_full = usize::from(entry.used) == class.chunks_per_page();
                let used = std::mem::take(&mut entry.used);
                self.pages.count_freed(class, used);
                if was_full {
                    self.pages.link_partial(page, class);
                }
                self.pages.release(page);
            }
        }
    }

    /// Pages that `class` owns.
    pub(crate) fn owned_count(&self, class: ClassId) -> usize {
        self.pages.owned_count(class)
    }

    /// Pages in use.
    pub(crate) fn in_use_count(&self) -> usize {
        self.pages.in_use_count()
    }

    /// Pages that the index has.
    #[inline]
    pub(crate) fn index_count(&self) -> usize {
        self.pages.index_count()
    }

    /// Pages that are in use, free and resident, or withheld.
    pub(crate) fn resident_count(&self) -> usize {
        self.pages.resident_count()
    }

    /// Pages that are nobody's and being made resident.
    pub(crate) fn withheld_count(&self) -> usize {
        self.pages.withheld_count()
    }

    /// Whether more pages are in use than should be, so that the reserve isn't whole, or more than
    /// may be: pinned chunks can hold them.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.pages.is_over()
    }

    /// Most pages that may be resident.
    pub(crate) fn resident_max(&self) -> usize {
        self.pages.resident_max()
    }

    /// Changes how many pages may be resident, gives free ones above it back to the system, and
    /// tells how many more pages must become free.
    pub(crate) fn set_resident_max(&mut self, pages_count: usize) -> usize {
        self.pages.set_resident_max(pages_count);
        self.trim()
    }

    /// Gives free pages above the limit back to the system; tells how many more pages must go.
    pub(crate) fn trim(&mut self) -> usize {
        self.see_what_is_populated();
        self.discard_free();
        let max = self.pages.resident_max();
        self.pages.resident_count().saturating_sub(max)
    }

    fn discard_free(&mut self) {
        while self.pages.resident_count() > self.pages.resident_max()
            && let Some(page) = self.pages.discard()
        {
            self.region.discard(page_offset(page), PAGE_BYTES);
        }
    }

    /// The chunk's meta word.
    #[inline]
    pub(crate) fn meta(&self, handle: Handle) -> Meta {
        Meta(self.region.read_u32(handle.offset() + META_AT))
    }

    /// Replaces the meta word.
    #[inline]
    pub(crate) fn set_meta(&mut self, handle: Handle, meta: Meta) {
        self.region.write_u32(handle.offset() + META_AT, meta.0);
    }

    /// The first link.
    #[inline]
    pub(crate) fn previous(&self, handle: Handle) -> Handle {
        Handle(self.region.read_u32(handle.offset() + PREVIOUS_AT))
    }

    /// Replaces the first link.
    #[inline]
    pub(crate) fn set_previous(&mut self, handle: Handle, to: Handle) {
        self.region.write_u32(handle.offset() + PREVIOUS_AT, to.0);
    }

    /// The second link.
    #[inline]
    pub(crate) fn next(&self, handle: Handle) -> Handle {
        Handle(self.region.read_u32(handle.offset() + NEXT_AT))
    }

    /// Replaces the second link.
    #[inline]
    pub(crate) fn set_next(&mut self, handle: Handle, to: Handle) {
        self.region.write_u32(handle.offset() + NEXT_AT, to.0);
    }

    /// A word at a byte offset inside the chunk.
    #[inline]
    pub(crate) fn word(&self, handle: Handle, at: usize) -> u32 {
        self.region.read_u32(handle.offset() + at)
    }

    /// Replaces a word.
    #[inline]
    pub(crate) fn set_word(&mut self, handle: Handle, at: usize, word: u32) {
        self.region.write_u32(handle.offset() + at, word);
    }

    /// Bytes inside a chunk.
    #[inline]
    pub(crate) fn bytes(&self, handle: Handle, at: usize, bytes_count: usize) -> &[u8] {
        debug_assert!(at + bytes_count <= self.class_of(handle).chunk_bytes());
        self.region.bytes(handle.offset() + at, bytes_count)
    }

    /// Bytes inside a chunk, to write.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, handle: Handle, at: usize, bytes_count: usize) -> &mut [u8] {
        debug_assert!(at + bytes_count <= self.class_of(handle).chunk_bytes());
        self.region.bytes_mut(handle.offset() + at, bytes_count)
    }

    /// Copies bytes from one chunk to another, or inside one.
    #[inline]
    pub(crate) fn copy(&mut self, from: (Handle, usize), to: (Handle, usize), bytes_count: usize) {
        debug_assert!(to.1 + bytes_count <= self.class_of(to.0).chunk_bytes());
        let (from, to) = (from.0.offset() + from.1, to.0.offset() + to.1);
        self.region.copy_within(from, to, bytes_count);
    }

    /// Starts to load a chunk's first two cache lines.
    #[inline]
    pub(crate) fn prefetch(&self, handle: Handle) {
        self.region.prefetch(handle.offset());
        self.region
            .prefetch((handle.offset() + 64).min(self.region.len() - 1));
    }

    /// Starts to load the header of a chunk some steps on, if chunks lie as the step from one to the
    /// next says. So do most segments of a long value, whose pages were taken one after the other: a
    /// walk over them then doesn't wait for each.
    #[inline]
    pub(crate) fn prefetch_onwards(&self, from: Handle, to: Handle) {
        let step = to.0.wrapping_sub(from.0);
        let guess = Handle(to.0.wrapping_add(step.wrapping_mul(STEPS_AHEAD)));
        if guess.offset() < self.region.len() {
            self.region.prefetch(guess.offset());
        }
    }

    /// Starts to load the headers of the chunks that a chunk links to.
    #[inline]
    pub(crate) fn prefetch_neighbours(&self, handle: Handle) {
        for neighbour in [self.previous(handle), self.next(handle)] {
            if neighbour.is_chunk() {
                self.region.prefetch(neighbour.offset());
            }
        }
    }

    /// Where bytes of a chunk lie in the process's memory.
    pub(crate) fn span(&self, handle: Handle, at: usize, bytes_count: usize) -> Span {
        debug_assert!(at + bytes_count <= self.class_of(handle).chunk_bytes());
        self.region.span(handle.offset() + at, bytes_count)
    }

    /// Panics unless the invariants of pages and free lists hold; returns the pins of all pages.
    pub(crate) fn check_integrity(&self) -> usize {
        self.pages.check_integrity();
        let mut pins = 0;
        for page in self.pages.touched() {
            let entry = self.pages.get(page);
            if entry.class.is_none() {
                continue;
            }
            pins += usize::from(entry.pinned);
            let is_free = |&handle: &Handle| self.meta(handle).kind() == Kind::Free;
            let free = self.chunks_of_page(page).filter(is_free).count();
            assert_eq!(
                free + usize::from(entry.used),
                usize::from(entry.bumped),
                "chunk count"
            );
            let (mut unit, mut listed) = (entry.free, 0);
            while unit != NO_CHUNK {
                let offset = page_offset(page) + usize::from(unit) * HANDLE_UNIT;
                assert_eq!(self.region.read_u32(offset), Meta::FREE.0, "free list");
                unit = low_half(self.region.read_u32(offset + NEXT_AT));
                listed += 1;
                assert!(listed <= free, "free list is a circle");
            }
            assert_eq!(free, listed, "free list");
        }
        pins
    }
}

/// Handles per page.
const PAGE_UNITS: u32 = 8192;
const _: () = assert!(PAGE_UNITS as usize * HANDLE_UNIT == PAGE_BYTES);

#[inline]
const fn page_of(handle: Handle) -> u32 {
    handle.0 / PAGE_UNITS
}

#[inline]
pub(super) const fn page_offset(page: u32) -> usize {
    page as usize * PAGE_BYTES
}

#[inline]
fn unit_in_page(handle: Handle) -> u16 {
    low_half(handle.0 % PAGE_UNITS)
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
const fn low_half(word: u32) -> u16 {
    word as u16
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, Populate, Slab};
    use crate::item::Meta;
    use crate::limits::AHEAD_PAGES;
    use crate::slab::region::HUGE_PAGE_BYTES;
    use crate::slab::{ClassId, Handle};

    fn take_all(slab: &mut Slab, class: ClassId) -> Vec<Handle> {
        let mut handles = Vec::new();
        while let Some(handle) = take_one(slab, class) {
            handles.push(handle);
        }
        handles
    }

    fn take_one(slab: &mut Slab, class: ClassId) -> Option<Handle> {
        let handle = slab.allocate(class)?;
        slab.set_meta(handle, Meta::segment(0));
        Some(handle)
    }

    #[test]
    fn every_class_fills_its_pages_with_chunks_that_do_not_overlap() {
        for class in ClassId::all() {
            let mut slab = Slab::new(2).expect("address space");
            let mut handles = take_all(&mut slab, class);
            assert_eq!(handles.len(), 2 * class.chunks_per_page());
            slab.check_integrity();
            handles.sort_by_key(|handle| handle.0);
            let apart =
                |pair: &[Handle]| pair[1].offset() - pair[0].offset() >= class.chunk_bytes();
            assert!(handles.windows(2).all(apart));
            for handle in handles {
                slab.free(handle);
            }
            slab.check_integrity();
            assert_eq!(slab.in_use_count(), 0);
            assert_eq!(slab.resident_count(), 2);
        }
    }

    #[test]
    fn pages_move_between_classes_and_back_to_the_system() {
        let mut slab = Slab::new(4).expect("address space");
        let small = ClassId::fitting(24).expect("small");
        let large = ClassId::SEGMENT_LARGE;
        let handles = take_all(&mut slab, small);
        assert_eq!(slab.allocate(large), None);
        for handle in &handles {
            slab.free(*handle);
        }
        assert_eq!(take_all(&mut slab, large).len(), 4);
        assert_eq!(slab.set_resident_max(3), 1);
        slab.free(Handle(0));
        assert_eq!(slab.trim(), 0);
        assert_eq!(slab.resident_count(), 3);
        assert_eq!(slab.allocate(large), None);
        assert_eq!(slab.set_resident_max(4), 0);
        let again = slab.allocate(large).expect("allowed again");
        assert_eq!(slab.bytes(again, 16, 4), &[0; 4]);
    }

    #[test]
    #[cfg(not(miri))]
    fn pages_are_populated_ahead_and_nobody_gets_them_meanwhile() {
        let at_once = HUGE_PAGE_BYTES / PAGE_BYTES;
        let pages_count = 20 * AHEAD_PAGES + 5;
        let mut slab = Slab::new(pages_count).expect("address space");
        let (sender, begun) = std::sync::mpsc::channel::<Populate>();
        slab.populate_by(Box::new(move |populate| {
            sender.send(populate).expect("the test listens");
        }));
        let first = begun.try_recv().expect("the first pages");
        let class = ClassId::SEGMENT_LARGE;
        let page = |handle: Handle| handle.offset() / PAGE_BYTES;
        let mut handles: Vec<_> = (0..at_once + 3)
            .map(|_| take_one(&mut slab, class).expect("there are pages"))
            .collect();
        assert!(handles.iter().all(|&handle| page(handle) >= at_once));
        assert!(begun.try_recv().is_err(), "one at a time");
        assert_eq!(slab.resident_count(), handles.len() + at_once);
        slab.check_integrity();

        slab.free(handles.remove(5));
        slab.set_resident_max(at_once);
        assert_eq!(slab.resident_count(), handles.len() + at_once);
        slab.set_resident_max(pages_count);
        first.run();
        handles.push(take_one(&mut slab, class).expect("one that is resident"));
        assert_eq!(page(*handles.last().expect("one")), 0);
        let second = begun.try_recv().expect("the next pages");
        assert_eq!(second.offset(), 3 * HUGE_PAGE_BYTES, "two were begun");
        slab.check_integrity();

        slab.set_resident_max(slab.resident_count());
        while let Some(handle) = take_one(&mut slab, class) {
            handles.push(handle);
        }
        assert_eq!(slab.resident_count(), handles.len() + at_once);
        assert!(!slab.has_free_page());
        let handle = slab.allocate_reserved(class);
        let handle = handle.expect("one that is not resident, rather than none");
        slab.set_meta(handle, Meta::segment(0));
        slab.free(handle);
        slab.check_integrity();
        assert!(take_one(&mut slab, class).is_none(), "it is withheld again");
        let handle = slab.allocate_reserved(class).expect("as above");
        slab.set_meta(handle, Meta::segment(0));
        handles.push(handle);
        slab.set_resident_max(handles.len());
        assert_eq!(slab.trim(), at_once - 1, "they just become resident");
        slab.check_integrity();
        drop(second);
        assert_eq!(slab.trim(), 0);
        assert_eq!(slab.resident_count(), handles.len());

        slab.set_resident_max(pages_count);
        while let Some(handle) = take_one(&mut slab, class) {
            handles.push(handle);
            drop(begun.try_recv());
        }
        assert_eq!(handles.len(), pages_count);
        slab.check_integrity();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "chunk freed twice")]
    fn double_free_is_seen() {
        let mut slab = Slab::new(2).expect("address space");
        let handles = take_all(&mut slab, ClassId::SEGMENT_SMALL);
        slab.free(handles[0]);
        slab.free(handles[0]);
    }
}
