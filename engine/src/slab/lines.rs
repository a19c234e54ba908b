//! Pages of the index: cache lines that it hands out by itself.

use crate::limits::PAGE_BYTES;
use crate::slab::region::Plain;
use crate::slab::store::{Slab, page_offset};

/// Bytes in a cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// Cache lines in a page.
pub(crate) const PAGE_LINES: usize = PAGE_BYTES / LINE_BYTES;

/// A cache line's name: its offset in the arena / 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LineId(u32);

impl LineId {
    /// A line of a page.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an arena ends below 32 GiB, which is 2^29 lines"
    )]
    pub(crate) fn new(page: u32, line: usize) -> Self {
        debug_assert!(line < PAGE_LINES);
        Self(page * PAGE_LINES as u32 + line as u32)
    }

    /// The page it is in.
    #[expect(clippy::cast_possible_truncation, reason = "a page has few lines")]
    pub(crate) const fn page(self) -> u32 {
        self.0 / PAGE_LINES as u32
    }

    /// Its place in the page.
    pub(crate) const fn in_page(self) -> usize {
        self.0 as usize % PAGE_LINES
    }

    /// The line so many lines behind this one.
    #[expect(clippy::cast_possible_truncation, reason = "a page has few lines")]
    pub(crate) fn plus(self, lines_count: usize) -> Self {
        debug_assert!(lines_count < PAGE_LINES);
        Self(self.0 + lines_count as u32)
    }

    #[inline]
    const fn offset(self) -> usize {
        self.0 as usize * LINE_BYTES
    }
}

impl Slab {
    /// A page for the index; `place` is where the index keeps it.
    pub(crate) fn take_index_page(&mut self, place: u32) -> Option<u32> {
        self.populate_ahead();
        let page = self.pages.take_for_index()?;
        self.set_index_place(page, place);
        Some(page)
    }

    /// Takes a page of the index back.
    pub(crate) fn release_index_page(&mut self, page: u32) {
        self.pages.release_of_index(page);
        self.trim();
    }

    /// Where the index keeps this page of its own.
    pub(crate) fn index_place(&self, page: u32) -> u32 {
        debug_assert!(self.pages.get(page).is_index);
        self.pages.get(page).previous
    }

    /// The index keeps this page elsewhere from now on.
    pub(crate) fn set_index_place(&mut self, page: u32, place: u32) {
        debug_assert!(self.pages.get(page).is_index);
        self.pages.get_mut(page).previous = place;
    }

    /// Lines to read.
    #[inline]
    pub(crate) fn lines<T: Plain>(&self, start: LineId, count: usize) -> &[T] {
        const { assert!(size_of::<T>() == LINE_BYTES) };
        self.region.values(start.offset(), count)
    }

    /// A line to read.
    #[inline]
    pub(crate) fn line<T: Plain>(&self, line: LineId) -> &T {
        const { assert!(size_of::<T>() == LINE_BYTES) };
        self.region.value(line.offset())
    }

    /// Lines to write.
    #[inline]
    pub(crate) fn lines_mut<T: Plain>(&mut self, start: LineId, count: usize) -> &mut [T] {
        const { assert!(size_of::<T>() == LINE_BYTES) };
        self.region.values_mut(start.offset(), count)
    }

    /// Copies lines, which may overlap.
    pub(crate) fn copy_lines(&mut self, from: LineId, to: LineId, count: usize) {
        let bytes_count = count * LINE_BYTES;
        self.region
            .copy_within(from.offset(), to.offset(), bytes_count);
    }

    /// Starts to load a line.
    #[inline]
    pub(crate) fn prefetch_line(&self, line: LineId) {
        self.region.prefetch(line.offset());
    }
}

const _: () = assert!(page_offset(1) == PAGE_LINES * LINE_BYTES);
