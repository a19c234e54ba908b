//! The page table and the page pool: which class owns a page, or the index, and which are nobody's.
//!
//! A side table outside the arena, 20 bytes per page of 64 KiB (0.03 %), so that deciding about
//! pages touches none.
//!
//! ```text
//! untouched --take--> in use --release--> free, resident --discard--> clean
//!                       ^  ^                  |                         |
//!                       |  +------ take ------+                         |
//!                       +--------------- take --------------------------+
//! ```
//! Untouched pages are also made resident ahead of their use, a huge page's worth at a time. Until that is
//! done they are withheld, and free and resident then:
//!
//! ```text
//! untouched --start_populating--> withheld --end_populating--> free, resident
//!                                  |    ^
//!         where there is no other take  release before the end
//!                                  v    |
//!                                  in use
//! ```
//!
//! # Invariants
//! 1. `resident = in use + free and resident + withheld`; only those can hold memory.
//! 2. A page in use has `used > 0` chunks, except between `take` and its first allocation.
//! 3. A page in use with a free chunk is in its class's partial list; a full or sealed one and the
//!    index's in no list; a page that is not in use is in one pool list (free and resident, clean or
//!    withheld) or above `untouched`.
//! 4. `take` never makes `resident` exceed `resident_max`, nor takes one of the last `reserve` pages
//!    below it, nor a withheld one, which count as in use; those are for the index and for who has
//!    nothing else, withheld ones last. They get a page as long as fewer than `resident_max` are in use.
//! 5. A page that is being made resident, withheld or in use, is not discarded.

use std::ops::Range;

use crate::limits::{AHEAD_PAGES, PAGE_BYTES};
use crate::slab::classes::{CLASSES_COUNT, ClassId};
use crate::slab::region::HUGE_PAGE_BYTES;

/// Pages that are made resident together.
const HUGE_PAGE_PAGES: usize = HUGE_PAGE_BYTES / PAGE_BYTES;

/// No page, and no free chunk.
pub(super) const NO_PAGE: u32 = u32::MAX;
pub(super) const NO_CHUNK: u16 = u16::MAX;

/// One page's entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Neighbours in the class's partial list; `next` alone in a pool list.
    pub(super) previous: u32,
    pub(super) next: u32,
    /// First free chunk, in units of 8 bytes from the page's start.
    pub(super) free: u16,
    /// Chunks handed out at least once; those above were never touched.
    pub(super) bumped: u16,
    /// Chunks in use.
    pub(super) used: u16,
    /// Chunks in use that may neither move nor be evicted.
    pub(super) pinned: u16,
    /// The owner, if in use.
    pub(super) class: Option<ClassId>,
    /// It is being emptied, so its free chunks are not handed out.
    pub(super) sealed: bool,
    /// The index has it; `previous` is its place there, and nothing else is used.
    pub(super) is_index: bool,
}

impl Page {
    const UNUSED: Self = Self {
        previous: NO_PAGE,
        next: NO_PAGE,
        free: NO_CHUNK,
        bumped: 0,
        used: 0,
        pinned: 0,
        class: None,
        sealed: false,
        is_index: false,
    };
}

/// The number of the page at this place.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an arena has fewer than 2^19 pages"
)]
const fn number(place: usize) -> u32 {
    place as u32
}

/// All pages of the arena.
pub(super) struct PageTable {
    pages: Box<[Page]>,
    partial: [u32; CLASSES_COUNT],
    owned: [u32; CLASSES_COUNT],
    /// Free chunks in pages that hand chunks out.
    free_chunks: [u32; CLASSES_COUNT],
    /// Who alone may take the last free page.
    promised_to: Option<ClassId>,
    /// Pages that `take` leaves.
    reserve: usize,
    /// Pages that the index has.
    index_count: usize,
    resident_free: u32,
    clean: u32,
    untouched: usize,
    /// Pages that are being made resident.
    populating: Range<u32>,
    /// Those of them that are nobody's.
    withheld: u32,
    withheld_count: usize,
    in_use_count: usize,
    resident_count: usize,
    resident_max: usize,
}

impl PageTable {
    /// Bytes of the side table for this many pages.
    pub(super) const fn bytes_for(pages_count: usize) -> usize {
        pages_count * size_of::<Page>()
    }

    pub(super) fn new(pages_count: usize) -> Self {
        Self {
            pages: vec![Page::UNUSED; pages_count].into_boxed_slice(),
            partial: [NO_PAGE; CLASSES_COUNT],
            owned: [0; CLASSES_COUNT],
            free_chunks: [0; CLASSES_COUNT],
            promised_to: None,
            reserve: 0,
            index_count: 0,
            resident_free: NO_PAGE,
            clean: NO_PAGE,
            untouched: 0,
            populating: 0..0,
            withheld: NO_PAGE,
            withheld_count: 0,
            in_use_count: 0,
            resident_count: 0,
            resident_max: pages_count,
        }
    }

    #[inline]
    pub(super) fn get(&self, page: u32) -> &Page {
        &self.pages[page as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, page: u32) -> &mut Page {
        &mut self.pages[page as usize]
    }

    /// A page of `class` with a free chunk.
    #[inline]
    pub(super) fn partial(&self, class: ClassId) -> Option<u32> {
        let page = self.partial[class.index()];
        (page != NO_PAGE).then_some(page)
    }

    /// The pages of `class` with a free chunk, but for a sealed one.
    pub(super) fn partials(&self, class: ClassId) -> impl Iterator<Item = u32> + '_ {
        self.list(self.partial[class.index()])
    }

    /// The pages of the list that starts with this one.
    fn list(&self, head: u32) -> impl Iterator<Item = u32> + '_ {
        let some = |page: u32| (page != NO_PAGE).then_some(page);
        std::iter::successors(some(head), move |&page| some(self.get(page).next))
    }

    /// Pages that `class` owns.
    pub(super) fn owned_count(&self, class: ClassId) -> usize {
        self.owned[class.index()] as usize
    }

    /// Free chunks in the pages of `class`, but for those of a sealed one.
    pub(super) fn free_chunks_count(&self, class: ClassId) -> usize {
        self.free_chunks[class.index()] as usize
    }

    /// A chunk of an unsealed page of `class` was handed out.
    #[inline]
    pub(super) fn count_allocated(&mut self, class: ClassId) {
        self.free_chunks[class.index()] -= 1;
    }

    /// Chunks of an unsealed page of `class` came back.
    #[inline]
    pub(super) fn count_freed(&mut self, class: ClassId, count: u16) {
        self.free_chunks[class.index()] += u32::from(count);
    }

    pub(super) fn keep_reserve(&mut self, pages_count: usize) {
        self.reserve = pages_count;
    }

    /// Whether a page beyond the reserve can be had without one being given up.
    pub(super) fn has_free(&self) -> bool {
        self.in_use_count + self.withheld_count + self.reserve < self.resident_max
    }

    /// Whether so many pages are in use that the reserve is not whole.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.in_use_count > self.resident_max.saturating_sub(self.reserve)
    }

    /// Keeps the last free page for a class, until it takes one or the page is discarded.
    pub(super) fn promise(&mut self, class: ClassId) {
        self.promised_to = Some(class);
    }

    /// Lets anybody take the last free page; false if anybody could.
    pub(super) fn break_promise(&mut self) -> bool {
        self.promised_to.take().is_some()
    }

    /// Keeps a page from handing chunks out, until it is empty or unsealed.
    pub(super) fn seal(&mut self, page: u32) {
        let (class, free_count) = self.owner_and_free(page);
        assert!(!self.get(page).sealed);
        self.get_mut(page).sealed = true;
        if free_count > 0 {
            self.unlink_partial(page, class);
            self.free_chunks[class.index()] -= free_count;
        }
    }

    /// Undoes `seal`.
    pub(super) fn unseal(&mut self, page: u32) {
        let (class, free_count) = self.owner_and_free(page);
        assert!(self.get(page).sealed);
        self.get_mut(page).sealed = false;
        if free_count > 0 {
            self.link_partial(page, class);
            self.free_chunks[class.index()] += free_count;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a page has few chunks")]
    fn owner_and_free(&self, page: u32) -> (ClassId, u32) {
        let entry = self.get(page);
        let class = entry.class.expect("a page in use has an owner");
        (
            class,
            class.chunks_per_page() as u32 - u32::from(entry.used),
        )
    }

    pub(super) fn in_use_count(&self) -> usize {
        self.in_use_count
    }

    pub(super) fn index_count(&self) -> usize {
        self.index_count
    }

    pub(super) fn resident_count(&self) -> usize {
        self.resident_count
    }

    pub(super) fn untouched(&self) -> usize {
        self.untouched
    }

    /// Pages that are nobody's and being made resident.
    pub(super) fn withheld_count(&self) -> usize {
        self.withheld_count
    }

    pub(super) fn resident_max(&self) -> usize {
        self.resident_max
    }

    pub(super) fn set_resident_max(&mut self, pages_count: usize) {
        self.resident_max = pages_count.min(self.pages.len());
    }

    /// Makes a page of nobody's a page of `class`, with all chunks free.
    pub(super) fn take(&mut self, class: ClassId) -> Option<u32> {
        let promised = usize::from(self.promised_to.is_some_and(|promised| promised != class));
        self.take_but(promised + self.reserve + self.withheld_count, class)
    }

    /// As `take`, with no regard to the reserve, a promise or whether the page is resident yet: who touches
    /// a withheld one may wait for the system.
    pub(super) fn take_reserved(&mut self, class: ClassId) -> Option<u32> {
        self.take_but(0, class)
    }

    /// Takes a page if that leaves `kept` others.
    #[expect(clippy::cast_possible_truncation, reason = "a page has few chunks")]
    fn take_but(&mut self, kept: usize, class: ClassId) -> Option<u32> {
        let page = self.take_free(kept)?;
        self.get_mut(page).class = Some(class);
        if self.promised_to == Some(class) {
            self.promised_to = None;
        }
        self.owned[class.index()] += 1;
        self.free_chunks[class.index()] += class.chunks_per_page() as u32;
        self.link_partial(page, class);
        Some(page)
    }

    /// Makes a page of nobody's a page of the index, as `take_reserved`.
    pub(super) fn take_for_index(&mut self) -> Option<u32> {
        let page = self.take_free(0)?;
        self.get_mut(page).is_index = true;
        self.index_count += 1;
        Some(page)
    }

    fn take_free(&mut self, kept: usize) -> Option<u32> {
        if self.in_use_count + kept >= self.resident_max {
            return None;
        }
        let page = if self.resident_free != NO_PAGE {
            let page = self.resident_free;
            self.resident_free = self.get(page).next;
            page
        } else if self.resident_count < self.resident_max {
            self.resident_count += 1;
            if self.clean == NO_PAGE {
                let page = number(self.untouched);
                self.untouched += 1;
                page
            } else {
                let page = self.clean;
                self.clean = self.get(page).next;
                page
            }
        } else {
            // Neither in use nor free: some are withheld (1), and `kept` didn't count them.
            let page = self.withheld;
            self.withheld = self.get(page).next;
            self.withheld_count -= 1;
            page
        };
        *self.get_mut(page) = Page::UNUSED;
        self.in_use_count += 1;
        Some(page)
    }

    /// Withholds the next untouched huge page, if few free pages are resident and the limit holds it beside
    /// the reserve: it is to be made resident. What lies before it of one that was begun is left for who
    /// can't wait.
    pub(super) fn start_populating(&mut self) -> Option<u32> {
        debug_assert!(self.populating.is_empty());
        let from = self.untouched.next_multiple_of(HUGE_PAGE_PAGES);
        let end = from + HUGE_PAGE_PAGES;
        let held_count = self.resident_count.max(self.in_use_count + self.reserve);
        let is_allowed = held_count + HUGE_PAGE_PAGES <= self.resident_max;
        let free_count = self.resident_count - self.in_use_count;
        if free_count >= AHEAD_PAGES || !is_allowed || end > self.pages.len() {
            return None;
        }
        for page in (number(self.untouched)..number(from)).rev() {
            self.get_mut(page).next = std::mem::replace(&mut self.clean, page);
        }
        for page in (number(from)..number(end)).rev() {
            self.get_mut(page).next = std::mem::replace(&mut self.withheld, page);
        }
        self.untouched = end;
        self.resident_count += HUGE_PAGE_PAGES;
        self.withheld_count = HUGE_PAGE_PAGES;
        self.populating = number(from)..number(end);
        Some(number(from))
    }

    pub(super) fn is_populating(&self) -> bool {
        !self.populating.is_empty()
    }

    /// What was withheld is resident, or will be when it is touched.
    pub(super) fn end_populating(&mut self) {
        if let Some(last) = self.list(self.withheld).last() {
            self.get_mut(last).next = self.resident_free;
            self.resident_free = std::mem::replace(&mut self.withheld, NO_PAGE);
        }
        self.withheld_count = 0;
        self.populating = 0..0;
    }

    /// Gives an empty page back to the pool. It stays resident.
    #[expect(clippy::cast_possible_truncation, reason = "a page has few chunks")]
    pub(super) fn release(&mut self, page: u32) {
        let entry = *self.get(page);
        assert!(entry.used == 0);
        assert!(entry.pinned == 0);
        let class = entry.class.expect("a page in use has an owner");
        if !entry.sealed {
            self.unlink_partial(page, class);
            self.free_chunks[class.index()] -= class.chunks_per_page() as u32;
        }
        self.owned[class.index()] -= 1;
        self.give_back(page);
    }

    /// Gives a page of the index back to the pool.
    pub(super) fn release_of_index(&mut self, page: u32) {
        assert!(self.get(page).is_index);
        self.index_count -= 1;
        self.give_back(page);
    }

    fn give_back(&mut self, page: u32) {
        self.in_use_count -= 1;
        let list = if self.populating.contains(&page) {
            self.withheld_count += 1;
            &mut self.withheld
        } else {
            &mut self.resident_free
        };
        let next = std::mem::replace(list, page);
        *self.get_mut(page) = Page {
            next,
            ..Page::UNUSED
        };
    }

    /// A free page whose memory the caller gives back to the system now. Breaks a promise.
    pub(super) fn discard(&mut self) -> Option<u32> {
        let page = self.resident_free;
        if page == NO_PAGE {
            return None;
        }
        debug_assert!(!self.populating.contains(&page), "invariant 5");
        self.resident_free = self.get(page).next;
        self.get_mut(page).next = self.clean;
        self.clean = page;
        self.resident_count -= 1;
        self.promised_to = None;
        Some(page)
    }

    /// Puts a page that just got a free chunk where `partial` finds it.
    pub(super) fn link_partial(&mut self, page: u32, class: ClassId) {
        let head = self.partial[class.index()];
        let entry = self.get_mut(page);
        entry.previous = NO_PAGE;
        entry.next = head;
        if head != NO_PAGE {
            self.get_mut(head).previous = page;
        }
        self.partial[class.index()] = page;
    }

    /// Takes a page out that has no free chunk any more.
    pub(super) fn unlink_partial(&mut self, page: u32, class: ClassId) {
        let Page { previous, next, .. } = *self.get(page);
        if previous == NO_PAGE {
            debug_assert!(self.partial[class.index()] == page);
            self.partial[class.index()] = next;
        } else {
            self.get_mut(previous).next = next;
        }
        if next != NO_PAGE {
            self.get_mut(next).previous = previous;
        }
    }

    /// Pages that may have been in use.
    pub(super) fn touched(&self) -> Range<u32> {
        0..number(self.untouched)
    }

    /// Panics unless invariants 1 to 3 hold.
    pub(super) fn check_integrity(&self) {
        let mut listed = vec![false; self.pages.len()];
        let mut list = |head: u32| {
            let (mut page, mut count) = (head, 0);
            while page != NO_PAGE {
                assert!(
                    !std::mem::replace(&mut listed[page as usize], true),
                    "page listed twice"
                );
                count += 1;
                page = self.get(page).next;
            }
            count
        };
        let resident_free = list(self.resident_free);
        let clean = list(self.clean);
        let withheld = list(self.withheld);
        for class in ClassId::all() {
            list(self.partial[class.index()]);
        }
        let mut in_use = 0;
        let (mut owned, mut sealed_count) = ([0; CLASSES_COUNT], 0);
        let mut free_chunks = [0; CLASSES_COUNT];
        let mut of_index = 0;
        for (index, page) in self.pages.iter().enumerate() {
            if page.is_index {
                assert!(page.class.is_none());
                assert!(!listed[index], "page of the index is in a list");
                (in_use, of_index) = (in_use + 1, of_index + 1);
                continue;
            }
            let Some(class) = page.class else {
                let is_untouched = index >= self.untouched;
                assert!(listed[index] != is_untouched, "page is lost");
                assert!(page.used == 0);
                continue;
            };
            in_use += 1;
            owned[class.index()] += 1;
            let free = class.chunks_per_page() - usize::from(page.used);
            sealed_count += usize::from(page.sealed);
            if !page.sealed {
                free_chunks[class.index()] += u32::try_from(free).expect("few");
            }
            let is_partial = free > 0 && !page.sealed;
            assert!(page.used > 0, "empty page in use");
            assert!(page.pinned <= page.used, "more pins than chunks");
            assert_eq!(is_partial, listed[index], "page is in the wrong list");
        }
        assert!(sealed_count <= 1, "pages were left half empty");
        assert_eq!(free_chunks, self.free_chunks, "free chunks");
        assert_eq!(owned, self.owned, "pages per class");
        assert_eq!(of_index, self.index_count, "pages of the index");
        assert_eq!(in_use, self.in_use_count, "pages in use");
        assert_eq!(
            in_use + resident_free + withheld,
            self.resident_count,
            "resident pages"
        );
        assert_eq!(
            in_use + resident_free + clean + withheld,
            self.untouched,
            "pages are lost"
        );
        assert!(self.untouched <= self.pages.len());
        assert_eq!(withheld, self.withheld_count, "withheld pages");
        let is_populating = |page: u32| self.populating.contains(&page);
        assert!(self.list(self.withheld).all(is_populating));
        assert!(!self.list(self.resident_free).any(is_populating));
        assert!(!self.list(self.clean).any(is_populating));
    }
}
