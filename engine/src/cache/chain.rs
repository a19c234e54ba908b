//! Long values: chains of segments, streamed in before anyone can see them.
//!
//! ```text
//! item: header | chain extension | key    (in a list of the largest segment's class)
//!                  |          |
//!                  v          v
//!            segment <-> ... last segment, cut to size
//! ```
//! A chain takes whole segments while it grows, 4 KiB first, larger ones the longer it gets; the
//! last is cut to size when the chain is committed. `grow` changes committed ones in their place.
//!
//! # Invariants
//! 1. Segments are linked both ways; the first one's back link and the last one's forward link are
//!    the item, or none while the chain is uncommitted.
//! 2. No committed segment is empty, and all but the last are full and of a class in
//!    `SEGMENT_CLASSES`; their payloads add up to the length in the item.
//! 3. A committed last segment is right-sized, or has room left for at most 1/`SLACK_DIVISOR` of the
//!    value, or says that there was no memory to cut it.
//! 4. Uncommitted segments are pinned: eviction can't reach them.

use crate::cache::Cache;
use crate::cache::write::Resolved;
use crate::error::StoreError;
use crate::item::{Extensions, Layout, Meta, Parts, SEGMENT_HEADER_BYTES, Segments, segment_after};
use crate::key::Key;
use crate::slab::{ClassId, Handle, Slab};
use crate::time::{Expiry, Time};
use crate::version::Version;

/// Classes of segments while a chain grows.
const SEGMENT_CLASSES: [ClassId; 3] = [
    ClassId::SEGMENT_LARGE,
    ClassId::SEGMENT_MIDDLE,
    ClassId::SEGMENT_SMALL,
];
/// A chain whose length is not known yet takes segments of at most its own length / this.
const GROWTH_DIVISOR: usize = 4;
/// The last segment of a value that grew in its place has room left for at most its length / this, so
/// that little is wasted, and no more segments are made than such a share of it fills.
pub(super) const SLACK_DIVISOR: usize = 16;
/// Most pieces that one last segment is cut into: 3 middle, 3 small, 1 right-sized.
const PIECES_MAX: usize = 8;

/// A value under construction, known to nobody else.
///
/// Hand it to `Cache::set_chain` or `Cache::chain_free`: dropping it loses its memory for good.
#[must_use = "a chain holds memory until it is committed or freed"]
#[derive(Debug)]
pub struct Chain {
    pub(super) segments: Segments,
    /// A segment that is added has room for at most the length / this behind what is known to come.
    growth_divisor: usize,
}

impl Chain {
    /// Bytes pushed so far.
    pub fn len(&self) -> usize {
        self.segments.len
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) const fn of(segments: Segments, growth_divisor: usize) -> Self {
        Self {
            segments,
            growth_divisor,
        }
    }
}

/// Where bytes for a chain come from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// From outside.
    Bytes(&'a [u8]),
    /// From a pinned chunk, starting at an offset inside it.
    Chunk(Handle, usize),
    /// Zeros.
    Zeros,
}

impl Cache {
    /// An empty chain; holds no memory yet.
    pub fn chain_begin(&mut self) -> Chain {
        Chain::of(Segments::NONE, GROWTH_DIVISOR)
    }

    /// Appends bytes to a chain. Evicts what it must to hold them.
    ///
    /// # Errors
    /// `ValueTooLong` changes nothing. After `OutOfMemory` part of the bytes may have been
    /// appended. The caller still owns the chain.
    pub fn chain_push(&mut self, chain: &mut Chain, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > self.config.value_bytes_max.saturating_sub(chain.len()) {
            return Err(StoreError::ValueTooLong);
        }
        self.extend(chain, Source::Bytes(bytes), bytes.len())
    }

    /// What was pushed so far, piece by piece.
    pub fn chain_parts<'a>(&'a self, chain: &Chain) -> Parts<'a> {
        Parts::of_chain(&self.slab, chain.segments.first)
    }

    /// Gives a chain's memory back. O(segments).
    pub fn chain_free(&mut self, chain: Chain) {
        self.free_uncommitted(chain.segments.first);
        self.fit_after_unpinning();
    }

    /// Makes a chain the value of a key. O(segments).
    ///
    /// # Errors
    /// The chain is freed and the key keeps what it had.
    pub fn set_chain(
        &mut self,
        key: &Key<'_>,
        chain: Chain,
        expiry: Expiry,
        now: Time,
    ) -> Result<(), StoreError> {
        if let Err(error) = self.check_lengths(key, chain.len()) {
            self.chain_free(chain);
            return Err(error);
        }
        let old = self.find_or_expire(key, now);
        match self.resolve(expiry, old) {
            Resolved::Deadline(deadline) => {
                self.commit(key, chain, deadline, None)?;
                self.count_write(old.is_some());
                if let Some(handle) = self.find(key).filter(|_| self.slab.is_over()) {
                    self.fit_budget_around(handle);
                }
            }
            Resolved::Past => {
                self.chain_free(chain);
                self.delete_found(key, old);
            }
        }
        Ok(())
    }

    /// A chain of these bytes.
    pub(super) fn chain_from(&mut self, bytes: &[u8]) -> Result<Chain, StoreError> {
        let mut chain = self.chain_begin();
        match self.extend(&mut chain, Source::Bytes(bytes), bytes.len()) {
            Ok(()) => Ok(chain),
            Err(error) => {
                self.chain_free(chain);
                Err(error)
            }
        }
    }

    /// Appends `count` bytes.
    pub(super) fn extend(
        &mut self,
        chain: &mut Chain,
        source: Source<'_>,
        count: usize,
    ) -> Result<(), StoreError> {
        let mut done = 0;
        while done < count {
            let (segment, used, room) = self.tail_room(chain);
            if room == 0 {
                self.add_segment(chain, count - done)?;
                continue;
            }
            let bytes = room.min(count - done);
            let at = SEGMENT_HEADER_BYTES + used;
            match source {
                Source::Bytes(all) => self
                    .slab
                    .bytes_mut(segment, at, bytes)
                    .copy_from_slice(&all[done..done + bytes]),
                Source::Chunk(from, from_at) => {
                    self.slab.copy((from, from_at + done), (segment, at), bytes);
                }
                Source::Zeros => self.slab.bytes_mut(segment, at, bytes).fill(0),
            }
            let meta = self.slab.meta(segment).with_payload_bytes(used + bytes);
            self.slab.set_meta(segment, meta);
            chain.segments.len += bytes;
            done += bytes;
        }
        Ok(())
    }

    /// Overwrites bytes that are there already. O(segments from the nearer end to them + bytes).
    pub(super) fn overwrite_segments(&mut self, segments: Segments, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        assert!(offset + bytes.len() <= segments.len);
        let (mut segment, start) = self.segment_at(segments, offset);
        let (mut at, mut done) = (offset - start, 0);
        while done < bytes.len() {
            let payload_bytes = self.slab.meta(segment).payload_bytes();
            let count = (payload_bytes - at).min(bytes.len() - done);
            let target = self
                .slab
                .bytes_mut(segment, SEGMENT_HEADER_BYTES + at, count);
            target.copy_from_slice(&bytes[done..done + count]);
            (at, done) = (0, done + count);
            segment = self.slab.next(segment);
        }
    }

    /// The segment that has the byte at `offset`, and where in the value it starts.
    fn segment_at(&self, segments: Segments, offset: usize) -> (Handle, usize) {
        let payload_bytes = |segment| self.slab.meta(segment).payload_bytes();
        if offset < segments.len / 2 {
            let (mut segment, mut start) = (segments.first, 0);
            while offset >= start + payload_bytes(segment) {
                start += payload_bytes(segment);
                segment = segment_after(&self.slab, segment).expect("the value goes on");
            }
            return (segment, start);
        }
        let mut segment = segments.last;
        let mut start = segments.len - payload_bytes(segment);
        while offset < start {
            let previous = self.slab.previous(segment);
            self.slab.prefetch_onwards(segment, previous);
            segment = previous;
            start -= payload_bytes(segment);
        }
        (segment, start)
    }

    /// Forgets all bytes from `len` on.
    pub(super) fn truncate(&mut self, chain: &mut Chain, len: usize) {
        while chain.len() > len {
            let meta = self.slab.meta(chain.segments.last);
            let excess = chain.len() - len;
            if excess < meta.payload_bytes() {
                let meta = meta.with_payload_bytes(meta.payload_bytes() - excess);
                self.slab.set_meta(chain.segments.last, meta);
                chain.segments.len = len;
                return;
            }
            chain.segments.len -= meta.payload_bytes();
            let dropped = chain.segments.last;
            chain.segments.last = self.slab.previous(dropped);
            match chain.segments.last.some() {
                Some(last) => self.slab.set_next(last, Handle::NONE),
                None => chain.segments.first = Handle::NONE,
            }
            self.free_uncommitted(dropped);
        }
    }

    /// A copy of an item's value.
    pub(super) fn chain_of_item(&mut self, handle: Handle) -> Result<Chain, StoreError> {
        let meta = self.slab.meta(handle);
        self.pin_item(handle);
        let mut chain = self.chain_begin();
        let copied = if meta.has(Meta::CHAIN) {
            self.copy_segments(&mut chain, handle, meta)
        } else {
            let layout = Layout::of(&self.slab, handle, meta);
            let source = Source::Chunk(handle, layout.value_at());
            self.extend(&mut chain, source, layout.inline_len)
        };
        self.unpin_item(handle);
        match copied {
            Ok(()) => Ok(chain),
            Err(error) => {
                self.chain_free(chain);
                Err(error)
            }
        }
    }

    /// Makes a chain the value of a key, whatever was there; counts nothing. A short one becomes
    /// an inline value. Frees the chain on error.
    pub(super) fn commit(
        &mut self,
        key: &Key<'_>,
        chain: Chain,
        deadline: Option<Time>,
        version: Option<Version>,
    ) -> Result<(), StoreError> {
        let extensions = self.extensions(deadline, version);
        if let Some((layout, class)) = Self::inline_layout(key, chain.len(), extensions) {
            return self.commit_inline(key, chain, (&layout, class), deadline, version);
        }
        let mut chain = chain;
        let flags = extensions | Meta::CHAIN;
        let layout = Layout::new(key.bytes().len(), 0, flags);
        let class = ClassId::fitting(layout.bytes()).expect("the longest key fits a class");
        let handle = match self.allocate(class) {
            Ok(handle) => handle,
            Err(error) => {
                self.chain_free(chain);
                return Err(error);
            }
        };
        // Until it is an item it is safe from eviction as an uncommitted segment.
        self.slab.set_meta(handle, Meta::segment(0));
        self.mark_uncommitted(handle);
        self.cut_last(&mut chain, 0);
        self.mark_committed(handle);
        let list = self.settle(&chain);
        let meta = Meta::item(layout.key_len, list.index(), flags);
        self.slab.set_meta(handle, meta);
        layout.write_key(&mut self.slab, handle, key.bytes());
        self.give_segments(handle, chain.segments);
        self.write_version(handle, version);
        let old = self.find(key);
        self.publish(key, handle, old, deadline)
    }

    fn commit_inline(
        &mut self,
        key: &Key<'_>,
        chain: Chain,
        (layout, class): (&Layout, ClassId),
        deadline: Option<Time>,
        version: Option<Version>,
    ) -> Result<(), StoreError> {
        let mut result = self.allocate(class);
        if let Ok(handle) = result {
            self.slab.set_meta(
                handle,
                Meta::item(layout.key_len, chain.len(), layout.flags),
            );
            layout.write_key(&mut self.slab, handle, key.bytes());
            let (mut at, mut segment) = (layout.value_at(), chain.segments.first.some());
            while let Some(from) = segment {
                let bytes = self.slab.meta(from).payload_bytes();
                self.slab
                    .copy((from, SEGMENT_HEADER_BYTES), (handle, at), bytes);
                at += bytes;
                segment = self.slab.next(from).some();
            }
            self.write_version(handle, version);
            let old = self.find(key);
            result = self.publish(key, handle, old, deadline).map(|()| handle);
        }
        self.free_uncommitted(chain.segments.first);
        result.map(|_| ())
    }

    /// Makes segments that are linked to each other those of an item.
    pub(super) fn give_segments(&mut self, handle: Handle, segments: Segments) {
        let meta = self.slab.meta(handle);
        Extensions::set_chain(&mut self.slab, handle, meta, segments);
        self.slab.set_previous(segments.first, handle);
        self.slab.set_next(segments.last, handle);
    }

    fn copy_segments(
        &mut self,
        chain: &mut Chain,
        handle: Handle,
        meta: Meta,
    ) -> Result<(), StoreError> {
        let mut at = self.segments(handle, meta).next();
        while let Some(segment) = at {
            let payload_bytes = self.slab.meta(segment).payload_bytes();
            self.extend(
                chain,
                Source::Chunk(segment, SEGMENT_HEADER_BYTES),
                payload_bytes,
            )?;
            at = segment_after(&self.slab, segment);
        }
        Ok(())
    }

    /// The last segment, its payload, and what still fits in it.
    pub(super) fn tail_room(&self, chain: &Chain) -> (Handle, usize, usize) {
        match chain.segments.last.some() {
            None => (Handle::NONE, 0, 0),
            Some(last) => {
                let used = self.slab.meta(last).payload_bytes();
                (
                    last,
                    used,
                    payload_bytes_max(self.slab.class_of(last)) - used,
                )
            }
        }
    }

    /// Adds an empty segment, for `remaining` more bytes that are known of. Falls back to smaller
    /// ones when no whole page can be had.
    fn add_segment(&mut self, chain: &mut Chain, remaining: usize) -> Result<(), StoreError> {
        let wanted = remaining.max(chain.len() / chain.growth_divisor);
        let mut result = Err(StoreError::OutOfMemory);
        for class in SEGMENT_CLASSES {
            if payload_bytes_max(class) > wanted && class != ClassId::SEGMENT_SMALL {
                continue;
            }
            result = self.allocate(class);
            if result.is_ok() {
                break;
            }
        }
        let segment = result?;
        self.slab.set_meta(segment, Meta::segment(0));
        self.mark_uncommitted(segment);
        link_after(&mut self.slab, chain.segments.last, segment);
        if chain.segments.first.is_none() {
            chain.segments.first = segment;
        }
        chain.segments.last = segment;
        Ok(())
    }

    pub(super) fn mark_uncommitted(&mut self, segment: Handle) {
        let meta = self.slab.meta(segment).with(Meta::UNCOMMITTED);
        self.slab.set_meta(segment, meta);
        self.slab.pin(segment);
        self.uncommitted_count += 1;
    }

    fn mark_committed(&mut self, segment: Handle) {
        let meta = self.slab.meta(segment).without(Meta::UNCOMMITTED);
        self.slab.set_meta(segment, meta);
        self.slab.unpin(segment);
        self.uncommitted_count -= 1;
    }

    fn free_uncommitted(&mut self, first: Handle) {
        let mut at = first.some();
        while let Some(segment) = at {
            at = segment_after(&self.slab, segment);
            self.mark_committed(segment);
            self.slab.free(segment);
        }
    }

    /// Makes all segments committed; returns the largest one's class.
    pub(super) fn settle(&mut self, chain: &Chain) -> ClassId {
        let mut largest = self.slab.class_of(chain.segments.first);
        let mut at = chain.segments.first.some();
        while let Some(segment) = at {
            self.mark_committed(segment);
            largest = largest.max(self.slab.class_of(segment));
            at = segment_after(&self.slab, segment);
        }
        largest
    }

    /// Replaces the last segment by pieces that fit its payload, and have room left for at most
    /// `slack` bytes beyond what rounding makes. Without memory it stays.
    pub(super) fn cut_last(&mut self, chain: &mut Chain, slack: usize) {
        let last = chain.segments.last;
        let payload_bytes = self.slab.meta(last).payload_bytes();
        let mut pieces = [(Handle::NONE, 0); PIECES_MAX];
        let mut count = 0;
        let mut left = payload_bytes;
        while left > 0 {
            let class = piece_class(left, slack);
            if count == 0 && class >= self.slab.class_of(last) {
                let meta = self.slab.meta(last).without(Meta::UNCUT);
                return self.slab.set_meta(last, meta);
            }
            let Ok(piece) = self.allocate(class) else {
                break;
            };
            let bytes = left.min(payload_bytes_max(class));
            self.slab.set_meta(piece, Meta::segment(bytes));
            self.mark_uncommitted(piece);
            pieces[count] = (piece, bytes);
            count += 1;
            left -= bytes;
        }
        if left > 0 {
            for &(piece, _) in &pieces[..count] {
                self.mark_committed(piece);
                self.slab.free(piece);
            }
            let meta = self.slab.meta(last).with(Meta::UNCUT);
            self.slab.set_meta(last, meta);
            return;
        }
        self.replace_last(chain, &pieces[..count]);
    }

    /// Puts the last segment's payload into others, which are to have so much of it each.
    pub(super) fn replace_last(&mut self, chain: &mut Chain, pieces: &[(Handle, usize)]) {
        let last = chain.segments.last;
        let mut at = SEGMENT_HEADER_BYTES;
        let mut before = self.slab.previous(last);
        for &(piece, bytes) in pieces {
            self.slab
                .copy((last, at), (piece, SEGMENT_HEADER_BYTES), bytes);
            at += bytes;
            link_after(&mut self.slab, before, piece);
            if chain.segments.first == last {
                chain.segments.first = piece;
            }
            before = piece;
        }
        chain.segments.last = before;
        self.mark_committed(last);
        self.slab.free(last);
    }
}

/// Most payload of a segment.
fn payload_bytes_max(class: ClassId) -> usize {
    class.chunk_bytes() - SEGMENT_HEADER_BYTES
}

/// The class of the next piece of a value with `left` bytes left: right-sized at the end, before
/// it the largest that is filled. With `slack` the largest that has room for no more than that.
pub(super) fn piece_class(left: usize, slack: usize) -> ClassId {
    let is_filled = |class: &&ClassId| payload_bytes_max(**class) <= left + slack;
    if let Some(&class) = SEGMENT_CLASSES.iter().find(is_filled) {
        return class;
    }
    let right_sized = ClassId::fitting(left + SEGMENT_HEADER_BYTES).expect("at most 4 KiB");
    right_sized.max(ClassId::filled_by(left + slack + SEGMENT_HEADER_BYTES))
}

fn link_after(slab: &mut Slab, before: Handle, segment: Handle) {
    slab.set_previous(segment, before);
    slab.set_next(segment, Handle::NONE);
    if let Some(before) = before.some() {
        slab.set_next(before, segment);
    }
}
