//! Long values: chains of segments, streamed in before anyone can see them.
//!
//! ```text
//! item: header | chain extension | key    (in a list of the largest segment's class)
//!                  |
//!                  +-> segment <-> segment <-> last segment, right-sized
//! ```
//! A chain takes whole segments while it grows, 4 KiB first, larger ones the longer it gets; the
//! last is cut to size when the chain is committed.
//!
//! # Invariants
//! 1. Segments are linked both ways; the first one's back link is its item, or none while the
//!    chain is uncommitted.
//! 2. No committed segment is empty; their payloads add up to the length in the item.
//! 3. Uncommitted segments are pinned: eviction can't reach them.

use crate::cache::Cache;
use crate::cache::write::Resolved;
use crate::error::StoreError;
use crate::item::{Extensions, Layout, Meta, Parts, SEGMENT_HEADER_BYTES};
use crate::key::Key;
use crate::limits::INLINE_ITEM_BYTES_MAX;
use crate::slab::{ClassId, Handle, Slab};
use crate::time::{Expiry, Time};
use crate::version::Version;

/// Classes of segments while a chain grows.
const SEGMENT_CLASSES: [ClassId; 3] = [
    ClassId::SEGMENT_LARGE,
    ClassId::SEGMENT_MIDDLE,
    ClassId::SEGMENT_SMALL,
];
/// A growing chain takes segments of at most its own length / this.
const GROWTH_DIVISOR: usize = 4;
/// Most pieces that one last segment is cut into: 3 middle, 3 small, 1 right-sized.
const PIECES_MAX: usize = 8;

/// A value under construction, known to nobody else.
///
/// Hand it to `Cache::set_chain` or `Cache::chain_free`: dropping it loses its memory for good.
#[must_use = "a chain holds memory until it is committed or freed"]
#[derive(Debug)]
pub struct Chain {
    first: Handle,
    last: Handle,
    len: usize,
    /// What the item that it was taken from leaves to the one that it comes to.
    standing: u32,
}

impl Chain {
    /// Bytes pushed so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
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
        Chain {
            first: Handle::NONE,
            last: Handle::NONE,
            len: 0,
            standing: 0,
        }
    }

    /// Appends bytes to a chain. Evicts what it must to hold them.
    ///
    /// # Errors
    /// `ValueTooLong` changes nothing. After `OutOfMemory` part of the bytes may have been
    /// appended. The caller still owns the chain.
    pub fn chain_push(&mut self, chain: &mut Chain, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > self.config.value_bytes_max.saturating_sub(chain.len) {
            return Err(StoreError::ValueTooLong);
        }
        self.extend(chain, Source::Bytes(bytes), bytes.len())
    }

    /// What was pushed so far, piece by piece.
    pub fn chain_parts<'a>(&'a self, chain: &Chain) -> Parts<'a> {
        Parts::of_chain(&self.slab, chain.first)
    }

    /// Gives a chain's memory back. O(segments).
    pub fn chain_free(&mut self, chain: Chain) {
        self.free_uncommitted(chain.first);
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
        if let Err(error) = self.check_lengths(key, chain.len) {
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
            chain.len += bytes;
            done += bytes;
        }
        Ok(())
    }

    /// Overwrites bytes that the chain has already. O(segments before them + bytes).
    pub(super) fn overwrite_chain(&mut self, chain: &Chain, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= chain.len);
        let (mut segment, mut start, mut done) = (chain.first, 0, 0);
        while done < bytes.len() {
            let payload_bytes = self.slab.meta(segment).payload_bytes();
            let at = offset + done - start;
            if at < payload_bytes {
                let count = (payload_bytes - at).min(bytes.len() - done);
                let target = self
                    .slab
                    .bytes_mut(segment, SEGMENT_HEADER_BYTES + at, count);
                target.copy_from_slice(&bytes[done..done + count]);
                done += count;
            }
            start += payload_bytes;
            segment = self.slab.next(segment);
        }
    }

    /// Forgets all bytes from `len` on.
    pub(super) fn truncate(&mut self, chain: &mut Chain, len: usize) {
        while chain.len > len {
            let meta = self.slab.meta(chain.last);
            let excess = chain.len - len;
            if excess < meta.payload_bytes() {
                let meta = meta.with_payload_bytes(meta.payload_bytes() - excess);
                self.slab.set_meta(chain.last, meta);
                chain.len = len;
                return;
            }
            chain.len -= meta.payload_bytes();
            let dropped = chain.last;
            chain.last = self.slab.previous(dropped);
            match chain.last.some() {
                Some(last) => self.slab.set_next(last, Handle::NONE),
                None => chain.first = Handle::NONE,
            }
            self.free_uncommitted(dropped);
        }
    }

    /// The value of a key's item as an uncommitted chain. A long value that isn't leased is taken
    /// out of the cache; any other is copied, and stays.
    pub(super) fn chain_of_item(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
    ) -> Result<Chain, StoreError> {
        let meta = self.slab.meta(handle);
        if meta.has(Meta::CHAIN) && !meta.has(Meta::LEASED) {
            return Ok(self.take_chain(key, handle, meta));
        }
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
        if let Some((layout, class)) = Self::inline_layout(key, chain.len, extensions) {
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
        self.cut_last(&mut chain);
        self.mark_committed(handle);
        let list = self.settle(&chain);
        let meta = Meta::item(layout.key_len, list.index(), flags | chain.standing);
        self.slab.set_meta(handle, meta);
        layout.write_key(&mut self.slab, handle, key.bytes());
        Extensions::set_chain(&mut self.slab, handle, meta, (chain.first, chain.len));
        self.slab.set_previous(chain.first, handle);
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
            let flags = layout.flags | chain.standing;
            self.slab
                .set_meta(handle, Meta::item(layout.key_len, chain.len, flags));
            layout.write_key(&mut self.slab, handle, key.bytes());
            let (mut at, mut segment) = (layout.value_at(), chain.first.some());
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
        self.free_uncommitted(chain.first);
        result.map(|_| ())
    }

    fn take_chain(&mut self, key: &Key<'_>, handle: Handle, meta: Meta) -> Chain {
        let (first, len) = Extensions::chain(&self.slab, handle, meta);
        let standing = self.standing_of(handle);
        let items = Self::indexed(&self.config);
        self.index
            .remove(&mut self.slab, key.range(), key.hash(), handle, &items);
        self.detach(handle);
        self.slab.free(handle);
        self.slab.set_previous(first, Handle::NONE);
        let (mut last, mut at) = (first, first.some());
        while let Some(segment) = at {
            self.mark_uncommitted(segment);
            last = segment;
            at = self.slab.next(segment).some();
        }
        Chain {
            first,
            last,
            len,
            standing,
        }
    }

    fn copy_segments(
        &mut self,
        chain: &mut Chain,
        handle: Handle,
        meta: Meta,
    ) -> Result<(), StoreError> {
        let mut at = Some(Extensions::chain(&self.slab, handle, meta).0);
        while let Some(segment) = at {
            let payload_bytes = self.slab.meta(segment).payload_bytes();
            self.extend(
                chain,
                Source::Chunk(segment, SEGMENT_HEADER_BYTES),
                payload_bytes,
            )?;
            at = self.slab.next(segment).some();
        }
        Ok(())
    }

    /// The last segment, its payload, and what still fits in it.
    fn tail_room(&self, chain: &Chain) -> (Handle, usize, usize) {
        match chain.last.some() {
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
        let wanted = remaining.max(chain.len / GROWTH_DIVISOR);
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
        link_after(&mut self.slab, chain.last, segment);
        if chain.first.is_none() {
            chain.first = segment;
        }
        chain.last = segment;
        Ok(())
    }

    fn mark_uncommitted(&mut self, segment: Handle) {
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
            at = self.slab.next(segment).some();
            self.mark_committed(segment);
            self.slab.free(segment);
        }
    }

    /// Makes all segments committed; returns the largest one's class.
    fn settle(&mut self, chain: &Chain) -> ClassId {
        let mut largest = self.slab.class_of(chain.first);
        let mut at = chain.first.some();
        while let Some(segment) = at {
            self.mark_committed(segment);
            largest = largest.max(self.slab.class_of(segment));
            at = self.slab.next(segment).some();
        }
        largest
    }

    /// Replaces the last segment by pieces that fit its payload. Without memory it stays.
    fn cut_last(&mut self, chain: &mut Chain) {
        let last = chain.last;
        let payload_bytes = self.slab.meta(last).payload_bytes();
        let mut pieces = [(Handle::NONE, 0); PIECES_MAX];
        let mut count = 0;
        let mut left = payload_bytes;
        while left > 0 {
            let class = piece_class(left);
            if count == 0 && class == self.slab.class_of(last) {
                return;
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
            return;
        }
        let mut at = SEGMENT_HEADER_BYTES;
        let mut before = self.slab.previous(last);
        for &(piece, bytes) in &pieces[..count] {
            self.slab
                .copy((last, at), (piece, SEGMENT_HEADER_BYTES), bytes);
            at += bytes;
            link_after(&mut self.slab, before, piece);
            if chain.first == last {
                chain.first = piece;
            }
            before = piece;
        }
        chain.last = before;
        self.mark_committed(last);
        self.slab.free(last);
    }
}

/// Most payload of a segment.
fn payload_bytes_max(class: ClassId) -> usize {
    class.chunk_bytes() - SEGMENT_HEADER_BYTES
}

/// The class of the next piece of a value with `left` bytes left: right-sized at the end, before
/// it the largest that is filled.
fn piece_class(left: usize) -> ClassId {
    if left + SEGMENT_HEADER_BYTES <= INLINE_ITEM_BYTES_MAX {
        return ClassId::fitting(left + SEGMENT_HEADER_BYTES).expect("at most 4 KiB");
    }
    let fits = |class: &&ClassId| payload_bytes_max(**class) <= left;
    *SEGMENT_CLASSES
        .iter()
        .find(fits)
        .expect("more than a small segment is left")
}

fn link_after(slab: &mut Slab, before: Handle, segment: Handle) {
    slab.set_previous(segment, before);
    slab.set_next(segment, Handle::NONE);
    if let Some(before) = before.some() {
        slab.set_next(before, segment);
    }
}
