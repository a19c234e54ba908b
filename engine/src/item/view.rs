//! Items as readers see them: borrowed from the cache, copied nowhere.

use std::ops::Range;

use crate::item::header::Meta;
use crate::item::layout::{Extensions, Layout, SEGMENT_HEADER_BYTES, segment_after};
use crate::slab::{Handle, Slab};
use crate::time::Time;
use crate::version::Version;

/// A live item.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    slab: &'a Slab,
    handle: Handle,
    meta: Meta,
    wheel_ms: u64,
}

impl<'a> Item<'a> {
    #[inline]
    pub(crate) fn new(slab: &'a Slab, handle: Handle, wheel_ms: u64) -> Self {
        Self {
            slab,
            handle,
            meta: slab.meta(handle),
            wheel_ms,
        }
    }

    #[inline]
    fn layout(&self) -> Layout {
        Layout::of(self.slab, self.handle, self.meta)
    }

    /// Its key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        let layout = self.layout();
        self.slab.bytes(self.handle, layout.key_at, layout.key_len)
    }

    /// Its value.
    #[inline]
    pub fn value(&self) -> ItemValue<'a> {
        ItemValue::new(self.slab, self.handle, self.meta)
    }

    /// When it expires, if ever.
    #[inline]
    pub fn deadline(&self) -> Option<Time> {
        self.meta.has(Meta::TTL).then(|| {
            Time(Extensions::deadline_ms(
                self.slab,
                self.handle,
                self.meta,
                self.wheel_ms,
            ))
        })
    }

    /// Its version, if `Cache::version` gave it one and nothing was written since.
    #[inline]
    pub fn version(&self) -> Option<Version> {
        Extensions::version(self.slab, self.handle, self.meta)
    }
}

/// A value: one slice, or the parts of a long one.
#[derive(Clone, Copy)]
pub struct ItemValue<'a> {
    slab: &'a Slab,
    inline: Option<&'a [u8]>,
    first: Option<Handle>,
    len: usize,
}

impl<'a> ItemValue<'a> {
    #[inline]
    pub(crate) fn new(slab: &'a Slab, handle: Handle, meta: Meta) -> Self {
        if meta.has(Meta::CHAIN) {
            let chain = Extensions::chain(slab, handle, meta);
            return Self {
                slab,
                inline: None,
                first: chain.first.some(),
                len: chain.len,
            };
        }
        let layout = Layout::of(slab, handle, meta);
        let bytes = slab.bytes(handle, layout.value_at(), layout.inline_len);
        Self {
            slab,
            inline: Some(bytes),
            first: None,
            len: bytes.len(),
        }
    }

    /// Bytes in the value.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is the empty value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole value, if it lies in one piece: always below a few KiB.
    #[inline]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        self.inline
    }

    /// The value piece by piece, in order; no piece is empty.
    #[inline]
    pub fn parts(&self) -> Parts<'a> {
        let inline = self.inline.filter(|bytes| !bytes.is_empty());
        Parts {
            slab: self.slab,
            inline,
            next: self.first,
        }
    }

    /// The bytes in `range`, cut to the value's length, piece by piece; no piece is empty.
    pub fn parts_in(&self, range: Range<usize>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut position = 0;
        self.parts()
            .map_while(move |part| {
                let within = within(&range, position, part.len());
                let is_behind = position >= range.end;
                position += part.len();
                (!is_behind).then(|| &part[within])
            })
            .filter(|part| !part.is_empty())
    }

    /// Appends the bytes in `range`, cut to the value's length, to `target`.
    ///
    /// O(parts before the range + bytes copied).
    pub fn copy_to(&self, range: Range<usize>, target: &mut Vec<u8>) {
        for part in self.parts_in(range) {
            target.extend_from_slice(part);
        }
    }
}

/// What `range` of a whole is in its part of `length` at `position`; perhaps nothing.
pub(crate) fn within(range: &Range<usize>, position: usize, length: usize) -> Range<usize> {
    let inside = |at: usize| at.saturating_sub(position).min(length);
    let from = inside(range.start);
    from..inside(range.end).max(from)
}

/// The pieces of a value.
#[derive(Clone)]
pub struct Parts<'a> {
    slab: &'a Slab,
    inline: Option<&'a [u8]>,
    next: Option<Handle>,
}

impl<'a> Parts<'a> {
    /// The pieces of the chain that starts at this segment.
    pub(crate) fn of_chain(slab: &'a Slab, first: Handle) -> Self {
        Self {
            slab,
            inline: None,
            next: first.some(),
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(bytes) = self.inline.take() {
            return Some(bytes);
        }
        let segment = self.next?;
        self.next = segment_after(self.slab, segment);
        let payload_bytes = self.slab.meta(segment).payload_bytes();
        Some(
            self.slab
                .bytes(segment, SEGMENT_HEADER_BYTES, payload_bytes),
        )
    }
}
