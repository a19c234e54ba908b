//! The arena's bytes: the only file of the engine that reads and writes through raw pointers.
//!
//! Everything above it speaks of byte offsets; every access here is checked against the size, so
//! the functions are safe to call with any argument (a wrong offset panics).
//!
//! # Invariants
//! 1. `base .. base + bytes` is one live allocation (an anonymous private mapping; the heap under
//!    Miri) at a multiple of `BASE_ALIGN`, which ends when neither the region nor a `Populate` is left.
//!    The region alone reads and writes it; a `Populate` only has the system make it resident.
//! 2. All of it is initialised at all times: fresh and discarded pages read as zero.
//! 3. References given out borrow `self`, so the borrow checker keeps writes and reads apart.
//! 4. A `Span` is an address, not a permission: whoever reads through it relies on its lease,
//!    while which the engine neither writes to nor discards these bytes.
//! 5. A huge page is made resident by a `Populate` once, before its first use, and nothing of it is discarded
//!    until that is over. So whoever discards has the last word on whether it stays huge.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::prefetch::prefetch_line;

/// An address and a length inside the arena, as a lease or a chain gives them to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pointer: NonNull<u8>,
    bytes_count: usize,
}

impl Span {
    /// Where the bytes start. They may be read, from any thread, until the lease is released or
    /// the cache dropped; never written.
    #[inline]
    pub const fn as_ptr(self) -> *const u8 {
        self.pointer.as_ptr()
    }

    /// How many bytes there are.
    #[inline]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a span of a lease is never empty"
    )]
    pub const fn len(self) -> usize {
        self.bytes_count
    }

    /// The part of it in `range`.
    pub(crate) fn narrowed(self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.bytes_count);
        Self {
            // SAFETY: it stays within the bytes of this span, or one behind them.
            pointer: unsafe { self.pointer.add(range.start) },
            bytes_count: range.len(),
        }
    }
}

// SAFETY: a span is a plain address (invariant 4); reading through it is the holder's unsafe act.
unsafe impl Send for Span {}

/// Size and alignment of a huge page where the processor has them.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;
/// What the arena's start is a multiple of. Miri has no huge pages, and would have to look for an address for
/// each arena.
const BASE_ALIGN: usize = if cfg!(miri) { 4096 } else { HUGE_PAGE_BYTES };

/// A type that bytes of the arena can be read and written as.
///
/// # Safety
/// Any bytes must be a value of it, and it must have no padding.
pub(crate) unsafe trait Plain: Copy {}

/// A fixed range of memory, resident only where it was written.
pub(super) struct Region {
    base: NonNull<u8>,
    bytes: usize,
    mapping: Arc<Mapping>,
}

// SAFETY: the region owns its memory (invariant 1) and has no thread-bound state.
unsafe impl Send for Region {}

/// The allocation itself.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is an address to unmap, or to make resident; neither depends on the thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing of it changes while it is shared.
unsafe impl Sync for Mapping {}

/// A huge page that was never touched, to be made resident before the cache needs it, on any thread: see
/// [`Cache::populate_by`](crate::Cache::populate_by).
pub struct Populate {
    mapping: Arc<Mapping>,
    offset: usize,
}

impl Region {
    /// What makes a huge page resident, elsewhere. Nothing of it may be discarded while
    /// [`is_populating`](Self::is_populating); who touches it meanwhile may do all the work.
    pub(super) fn populate(&self, offset: usize) -> Populate {
        self.check(offset, HUGE_PAGE_BYTES);
        assert!(offset.is_multiple_of(HUGE_PAGE_BYTES));
        Populate {
            mapping: Arc::clone(&self.mapping),
            offset,
        }
    }

    /// Whether a `Populate` of this region has neither run nor been dropped.
    pub(super) fn is_populating(&mut self) -> bool {
        Arc::get_mut(&mut self.mapping).is_none()
    }

    fn of(mapping: Mapping) -> Self {
        debug_assert!(mapping.base.addr().get().is_multiple_of(BASE_ALIGN));
        Self {
            base: mapping.base,
            bytes: mapping.bytes,
            mapping: Arc::new(mapping),
        }
    }

    /// Size in bytes.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn check(&self, offset: usize, bytes_count: usize) {
        let end = offset.checked_add(bytes_count);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "outside the arena"
        );
    }

    #[inline]
    fn at(&self, offset: usize, bytes_count: usize) -> NonNull<u8> {
        self.check(offset, bytes_count);
        // SAFETY: invariant 1, and `offset` is at most `bytes` as just checked.
        unsafe { self.base.add(offset) }
    }

    /// Bytes to read.
    #[inline]
    pub(super) fn bytes(&self, offset: usize, bytes_count: usize) -> &[u8] {
        let pointer = self.at(offset, bytes_count);
        // SAFETY: in bounds as checked by `at`; initialised (2), not written while borrowed (3).
        unsafe { std::slice::from_raw_parts(pointer.as_ptr(), bytes_count) }
    }

    /// Bytes to write.
    #[inline]
    pub(super) fn bytes_mut(&mut self, offset: usize, bytes_count: usize) -> &mut [u8] {
        let pointer = self.at(offset, bytes_count);
        // SAFETY: in bounds as checked by `at`; initialised (2), borrowed exclusively (3).
        unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), bytes_count) }
    }

    /// A value to read.
    #[inline]
    pub(super) fn value<T: Plain>(&self, offset: usize) -> &T {
        const { assert!(align_of::<T>() <= BASE_ALIGN) };
        assert!(offset.is_multiple_of(align_of::<T>()));
        let pointer = self.at(offset, size_of::<T>()).cast::<T>();
        // SAFETY: as `values`.
        unsafe { pointer.as_ref() }
    }

    /// Values to read.
    #[inline]
    pub(super) fn values<T: Plain>(&self, offset: usize, count: usize) -> &[T] {
        const { assert!(align_of::<T>() <= BASE_ALIGN) };
        assert!(offset.is_multiple_of(align_of::<T>()));
        let pointer = self.at(offset, count * size_of::<T>()).cast::<T>();
        // SAFETY: in bounds as checked by `at`; aligned, as the offset and the base (1) are;
        // initialised (2), and any bytes are values (`Plain`); not written while borrowed (3).
        unsafe { std::slice::from_raw_parts(pointer.as_ptr(), count) }
    }

    /// Values to write.
    #[inline]
    pub(super) fn values_mut<T: Plain>(&mut self, offset: usize, count: usize) -> &mut [T] {
        const { assert!(align_of::<T>() <= BASE_ALIGN) };
        assert!(offset.is_multiple_of(align_of::<T>()));
        let pointer = self.at(offset, count * size_of::<T>()).cast::<T>();
        // SAFETY: as `values`, and borrowed exclusively (3); a value has no padding (`Plain`), so
        // that the bytes stay initialised.
        unsafe { std::slice::from_raw_parts_mut(pointer.as_ptr(), count) }
    }

    /// A word in the machine's byte order.
    #[inline]
    pub(super) fn read_u32(&self, offset: usize) -> u32 {
        let pointer = self.at(offset, size_of::<u32>()).cast::<u32>();
        // SAFETY: in bounds as checked by `at`, initialised (2); no alignment is needed.
        unsafe { pointer.read_unaligned() }
    }

    /// Writes a word in the machine's byte order.
    #[inline]
    pub(super) fn write_u32(&mut self, offset: usize, word: u32) {
        let pointer = self.at(offset, size_of::<u32>()).cast::<u32>();
        // SAFETY: in bounds as checked by `at`, exclusive (3); no alignment is needed.
        unsafe { pointer.write_unaligned(word) }
    }

    /// Copies bytes that may overlap.
    #[inline]
    pub(super) fn copy_within(&mut self, from: usize, to: usize, bytes_count: usize) {
        let source = self.at(from, bytes_count).as_ptr();
        let target = self.at(to, bytes_count).as_ptr();
        // SAFETY: both ends in bounds as checked by `at`, initialised (2), exclusive (3).
        unsafe { std::ptr::copy(source, target, bytes_count) }
    }

    /// Asks the processor to load the cache line at `offset`, if it is inside.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize) {
        prefetch_line(self.at(offset, 1).as_ptr());
    }

    /// An address that outlives the borrow (invariant 4).
    pub(super) fn span(&self, offset: usize, bytes_count: usize) -> Span {
        Span {
            pointer: self.at(offset, bytes_count),
            bytes_count,
        }
    }
}

#[cfg(not(miri))]
mod mapped {
    use std::ptr::NonNull;

    use rustix::io::Errno;
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::{HUGE_PAGE_BYTES, Mapping, Populate, Region};

    /// Arenas from this size on ask for huge pages. Reads at random places then miss the
    /// translation caches far less, which costs as much as a cache miss or, in a virtual machine,
    /// several. Chunks are handed out from the arena's start, so at most one huge page is resident
    /// of which a part was never used.
    const HUGE_ARENA_BYTES_MIN: usize = 64 << 20;

    impl Region {
        /// Maps `bytes` of address space; memory follows page by page as it is written.
        pub(in super::super) fn new(bytes: usize) -> Result<Self, Errno> {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            let mapped_bytes = bytes + HUGE_PAGE_BYTES;
            // SAFETY: a new mapping at an address of the kernel's choice touches nothing else.
            let mapped =
                unsafe { mmap_anonymous(std::ptr::null_mut(), mapped_bytes, protection, flags) }?;
            let before = mapped.addr().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr();
            let unmap = |from: usize, to: usize| {
                // SAFETY: within the mapping just made, or at its end.
                let start = unsafe { mapped.byte_add(from) };
                // SAFETY: nothing knows of these bytes yet; a mapping of no bytes is refused.
                let _ = unsafe { munmap(start, to - from) };
            };
            unmap(0, before);
            unmap(before + bytes, mapped_bytes);
            // SAFETY: `before` is within the mapping.
            let base = unsafe { mapped.byte_add(before) };
            let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
            let region = Self::of(Mapping { base, bytes });
            let is_huge = region.is_huge();
            region.advise_huge_pages(0, bytes, is_huge);
            Ok(region)
        }

        fn advise_huge_pages(&self, offset: usize, bytes_count: usize, is_huge: bool) {
            let advice = match is_huge {
                true => Advice::LinuxHugepage,
                false => Advice::LinuxNoHugepage,
            };
            let pointer = self.at(offset, bytes_count).as_ptr().cast();
            // A kernel without huge pages refuses the advice, which is as good.
            // SAFETY: in bounds as checked by `at`; the advice doesn't change the content.
            let _ = unsafe { madvise(pointer, bytes_count, advice) };
        }

        /// Whether it asks for huge pages, each of which the system clears as a whole when it is first
        /// touched.
        pub(in super::super) fn is_huge(&self) -> bool {
            self.bytes >= HUGE_ARENA_BYTES_MIN
        }

        /// Has what wasn't touched yet, from here on, become resident in small pages, but for what a
        /// `Populate` makes resident.
        pub(in super::super) fn leave_huge_pages_to_populate(&mut self, from: usize) {
            let from = from.next_multiple_of(HUGE_PAGE_BYTES).min(self.bytes);
            self.advise_huge_pages(from, self.bytes - from, false);
        }

        /// Keeps the system from making the huge page around a discarded range whole again: that
        /// would bring back memory that no chunk uses. No `Populate` asks for it later (5).
        fn break_huge_page(&self, offset: usize) {
            if self.is_huge() {
                let start = offset / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
                let bytes_count = HUGE_PAGE_BYTES.min(self.bytes - start);
                self.advise_huge_pages(start, bytes_count, false);
            }
        }

        /// Gives memory back to the system; it reads as zero afterwards.
        pub(in super::super) fn discard(&mut self, offset: usize, bytes_count: usize) {
            self.break_huge_page(offset);
            let pointer = self.at(offset, bytes_count).as_ptr().cast();
            // SAFETY: in bounds as checked by `at`, exclusive (3); private anonymous memory reads
            // as zero after this, which keeps invariant 2.
            let advised = unsafe { madvise(pointer, bytes_count, Advice::LinuxDontNeed) };
            advised.expect("an aligned range of an own mapping can be discarded");
        }
    }

    impl Populate {
        #[cfg(test)]
        pub(in super::super) const fn offset(&self) -> usize {
            self.offset
        }

        /// Makes the memory resident; how long that takes is the system's affair. A system that does not
        /// know how (Linux before 5.14) leaves it to be touched.
        pub fn run(self) {
            // SAFETY: inside the mapping, as checked by `populate`.
            let pointer = unsafe { self.mapping.base.add(self.offset) }
                .as_ptr()
                .cast();
            for advice in [Advice::LinuxHugepage, Advice::LinuxPopulateWrite] {
                // SAFETY: the mapping is alive (1), and the advice doesn't change its content.
                let _ = unsafe { madvise(pointer, HUGE_PAGE_BYTES, advice) };
            }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours (1), and nothing borrows it any more.
            let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
            debug_assert!(unmapped.is_ok());
        }
    }
}

#[cfg(miri)]
mod heap {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ptr::NonNull;

    use rustix::io::Errno;

    use super::{Mapping, Populate, Region};

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, super::BASE_ALIGN)
            .expect("an arena's size is below isize::MAX")
    }

    impl Region {
        pub(in super::super) fn new(bytes: usize) -> Result<Self, Errno> {
            assert!(bytes > 0);
            // SAFETY: the layout isn't empty.
            let base = unsafe { alloc_zeroed(layout(bytes)) };
            let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
            Ok(Self::of(Mapping { base, bytes }))
        }

        pub(in super::super) fn is_huge(&self) -> bool {
            false
        }

        pub(in super::super) fn leave_huge_pages_to_populate(&mut self, _from: usize) {}

        pub(in super::super) fn discard(&mut self, offset: usize, bytes_count: usize) {
            self.bytes_mut(offset, bytes_count).fill(0);
        }
    }

    impl Populate {
        /// There is nothing to be done for memory of the heap.
        pub fn run(self) {}
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with the same layout (1), and borrowed by nobody.
            unsafe { dealloc(self.base.as_ptr(), layout(self.bytes)) }
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(not(miri))]
    use super::HUGE_PAGE_BYTES;
    use super::Region;

    /// 64 MiB of which huge page 2 is populated, and the first byte of huge page 3 written.
    #[cfg(not(miri))]
    fn populated() -> Region {
        let mut region = Region::new(64 << 20).expect("address space");
        region.leave_huge_pages_to_populate(1);
        region.bytes_mut(3 * HUGE_PAGE_BYTES, 1).fill(1);
        region.populate(2 * HUGE_PAGE_BYTES).run();
        region
    }

    #[test]
    #[cfg(not(miri))]
    fn populate_makes_a_huge_page_resident_and_a_touch_a_small_one() {
        use std::os::unix::fs::FileExt;

        let region = populated();
        let page_kib = fact_at(&region, 0, "KernelPageSize:");
        let page_kib = { page_kib.trim_end_matches(" kB") }.parse::<usize>();
        let page_bytes = page_kib.expect("a number") * 1024;
        let mut entries = vec![0; region.len() / page_bytes * 8];
        let first = region.span(0, 1).as_ptr().addr() / page_bytes * 8;
        std::fs::File::open("/proc/self/pagemap")
            .and_then(|map| map.read_exact_at(&mut entries, first as u64))
            .expect("Linux");
        // Bit 63 of a page's entry: it is resident.
        let is_resident = |page: &usize| entries[page * 8 + 7] & 0x80 != 0;
        let resident: Vec<_> = (0..region.len() / page_bytes).filter(is_resident).collect();
        let populated = 2 * HUGE_PAGE_BYTES / page_bytes..3 * HUGE_PAGE_BYTES / page_bytes;
        assert_eq!(
            resident,
            (populated.start..=populated.end).collect::<Vec<_>>()
        );
    }

    /// What the system was told about huge pages at this offset, of `hg` and `nh`.
    #[cfg(not(miri))]
    fn advice_at(region: &Region, offset: usize) -> Option<String> {
        let flags = fact_at(region, offset, "VmFlags:");
        let mut flags = flags.split_whitespace();
        flags
            .find(|flag| ["hg", "nh"].contains(flag))
            .map(str::to_owned)
    }

    /// What the system says about the mapping at this offset.
    #[cfg(not(miri))]
    fn fact_at(region: &Region, offset: usize, name: &str) -> String {
        let address = region.span(offset, 1).as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let is_around = |line: &str| {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).ok();
            range
                .and_then(|(from, to)| Some(number(from)?..number(to)?))
                .is_some_and(|range| range.contains(&address))
        };
        let lines = maps.lines().skip_while(|&line| !is_around(line));
        let fact = { lines }.find_map(|line| line.strip_prefix(name));
        fact.expect("of every mapping").trim().to_owned()
    }

    #[test]
    #[cfg(not(miri))]
    fn populate_alone_asks_for_huge_pages_and_discard_ends_that() {
        if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").expect("Linux") {
            println!("skipped: this system has no huge pages");
            return;
        }
        let mut region = populated();
        let advice = |region: &Region| [1, 2, 3].map(|n| advice_at(region, n * HUGE_PAGE_BYTES));
        let of = |flags: [&str; 3]| flags.map(|flag| Some(flag.to_owned()));
        assert_eq!(advice(&region), of(["nh", "hg", "nh"]));
        assert_eq!(
            advice_at(&region, 3 * HUGE_PAGE_BYTES - 1).as_deref(),
            Some("hg")
        );
        assert_eq!(
            advice_at(&region, 0).as_deref(),
            Some("hg"),
            "it was begun before"
        );
        region.discard(2 * HUGE_PAGE_BYTES + (1 << 16), 1 << 16);
        assert_eq!(advice(&region), of(["nh", "nh", "nh"]));
    }

    #[test]
    fn discarded_bytes_read_as_zero() {
        let mut region = Region::new(1 << 16).expect("address space");
        region.bytes_mut(4096, 3).copy_from_slice(b"abc");
        assert_eq!(region.bytes(4096, 3), b"abc");
        region.discard(4096, 4096);
        assert_eq!(region.bytes(4096, 3), &[0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "outside the arena")]
    fn access_past_the_end_panics() {
        let region = Region::new(1 << 16).expect("address space");
        region.read_u32((1 << 16) - 3);
    }

    #[test]
    #[should_panic(expected = "outside the arena")]
    fn offsets_that_overflow_panic() {
        let region = Region::new(1 << 16).expect("address space");
        region.bytes(usize::MAX, 2);
    }
}
