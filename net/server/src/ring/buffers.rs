//! The provided buffers that the kernel receives into.
//!
//! One allocation holds the ring of entries (shared with the kernel, page aligned) and behind it
//! the buffers. The kernel takes entries from the head, we add at the tail.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Buffers of one core; a power of two, as the kernel wants it.
pub(super) const BUFFERS_COUNT: u16 = 512;
/// Size of one buffer.
const BUFFER_BYTES: usize = 8 * 1_024;
/// The one group of provided buffers.
pub(super) const BUFFER_GROUP: u16 = 0;

const PAGE_BYTES: usize = 4_096;
const ENTRIES_BYTES: usize = BUFFERS_COUNT as usize * size_of::<BufRingEntry>();
const TOTAL_BYTES: usize = ENTRIES_BYTES + BUFFERS_COUNT as usize * BUFFER_BYTES;

const _: () = assert!(BUFFERS_COUNT.is_power_of_two());
const _: () = assert!(ENTRIES_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(BUFFER_BYTES <= u32::MAX as usize);

/// Number of a provided buffer, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferId(pub(super) u16);

/// Owns the memory; see the module's head.
pub(super) struct BufferRing {
    memory: NonNull<u8>,
    tail: u16,
}

impl BufferRing {
    /// All buffers are handed to the kernel at once. 4 MiB, touched as they are used.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout()) };
        let memory = NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut ring = Self { memory, tail: 0 };
        for id in 0..BUFFERS_COUNT {
            ring.add(BufferId(id));
        }
        ring.publish();
        Ok(ring)
    }

    pub(super) fn entries_address(&self) -> u64 {
        self.memory.as_ptr().addr() as u64
    }

    /// The first `bytes_count` bytes of a buffer that the kernel filled.
    pub(super) fn bytes(&self, id: BufferId, bytes_count: usize) -> &[u8] {
        assert!(bytes_count <= BUFFER_BYTES);
        let start = self.buffer(id);
        // SAFETY: the bytes lie inside the buffer, were zeroed at first, and the kernel writes
        // them no more before `recycle`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(start, bytes_count) }
    }

    pub(super) fn recycle(&mut self, id: BufferId) {
        self.add(id);
        self.publish();
    }

    fn buffer(&self, id: BufferId) -> *mut u8 {
        assert!(id.0 < BUFFERS_COUNT);
        let offset = ENTRIES_BYTES + usize::from(id.0) * BUFFER_BYTES;
        // SAFETY: the offset lies inside the allocation, since the id does.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    fn add(&mut self, id: BufferId) {
        let address = self.buffer(id).addr() as u64;
        let place = usize::from(self.tail & (BUFFERS_COUNT - 1));
        let entries = self.memory.cast::<BufRingEntry>().as_ptr();
        // SAFETY: `place` is below the number of entries, which lie at the allocation's start.
        let entry = unsafe { entries.add(place) };
        // SAFETY: aligned, inside the allocation, and not the kernel's before `publish`.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(u32::try_from(BUFFER_BYTES).expect("asserted above"));
        entry.set_bid(id.0);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let entries = self.memory.cast::<BufRingEntry>().as_ptr();
        // SAFETY: the pointer is to the start of the registered entries.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: aligned and live; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout; the kernel uses it no more, since
        // the ring is closed with nothing in flight.
        unsafe { dealloc(self.memory.as_ptr(), layout()) };
    }
}

const fn layout() -> Layout {
    match Layout::from_size_align(TOTAL_BYTES, PAGE_BYTES) {
        Ok(layout) => layout,
        Err(_) => panic!("the sizes are constants"),
    }
}
