//! Long values that change where they are: written to, or given another header.
//!
//! What is inside a value is overwritten. What comes behind it goes to the room in its last segment,
//! and then to new ones:
//!
//! ```text
//! item -> segment <-> segment <-> segment -> item      the last one is taken out,
//! item -> segment <-> segment -> item                  the others stay, and may move;
//!                     segment <-> new <-> new          it grows as any uncommitted chain,
//! item -> segment <-> segment <-> new <-> new -> item  and is put back
//! ```
//! So a call costs what it writes, however long the value is. The item is held meanwhile: neither
//! does a value go for its own growth, nor is it another one if there is no memory for that.

use crate::cache::Cache;
use crate::cache::chain::{Chain, SLACK_DIVISOR, piece_class};
use crate::error::StoreError;
use crate::item::{Extensions, Layout, Meta, Segments};
use crate::key::Key;
use crate::slab::{ClassId, Handle};
use crate::time::Time;
use crate::version::Version;

impl Cache {
    /// Whether an item is a long value that may change where it is.
    pub(super) fn is_growable(&self, handle: Handle) -> bool {
        let meta = self.slab.meta(handle);
        meta.has(Meta::CHAIN) && !meta.has(Meta::LEASED)
    }

    /// Writes into a growable value, with zeros in a gap behind its end. O(bytes), plus the segments
    /// between what is overwritten and the nearer end.
    pub(super) fn write_in_place(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let meta = self.slab.meta(handle);
        let len = Extensions::chain(&self.slab, handle, meta).len;
        let inside = len.saturating_sub(offset).min(bytes.len());
        let (inside, behind) = bytes.split_at(inside);
        if !behind.is_empty() {
            self.grow(handle, offset.max(len), behind)?;
        }
        let segments = Extensions::chain(&self.slab, handle, meta);
        self.overwrite_segments(segments, offset, inside);
        self.drop_version(key, handle);
        self.touch_handle(handle);
        Ok(())
    }

    /// Only the key lies behind a version, and moves. The chunk stays, though a smaller one may do.
    fn drop_version(&mut self, key: &Key<'_>, handle: Handle) {
        let meta = self.slab.meta(handle);
        if meta.has(Meta::VERSION) {
            let meta = meta.without(Meta::VERSION);
            self.slab.set_meta(handle, meta);
            let layout = Layout::new(key.bytes().len(), 0, meta.0);
            layout.write_key(&mut self.slab, handle, key.bytes());
        }
    }

    /// Lets an item with this deadline and version have a growable value's segments. O(1).
    pub(super) fn change_header(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
        deadline: Option<Time>,
        version: Option<Version>,
    ) -> Result<(), StoreError> {
        let flags = self.extensions(deadline, version) | Meta::CHAIN;
        let layout = Layout::new(key.bytes().len(), 0, flags);
        let class = ClassId::fitting(layout.bytes()).expect("the longest key fits a class");
        self.hold(handle);
        let allocated = self.allocate(class);
        self.let_go(handle);
        let new = allocated?;
        let old = self.slab.meta(handle);
        let meta = Meta::item(layout.key_len, old.value_field(), flags);
        self.slab.set_meta(new, meta);
        layout.write_key(&mut self.slab, new, key.bytes());
        let segments = Extensions::chain(&self.slab, handle, old);
        self.give_segments(new, segments);
        self.write_version(new, version);
        let len = segments.len;
        let none = Segments {
            len,
            ..Segments::NONE
        };
        Extensions::set_chain(&mut self.slab, handle, old, none);
        self.publish(key, new, Some(handle), deadline)
    }

    /// Writes bytes at an offset at or behind the end. On error the value is as it was.
    fn grow(&mut self, handle: Handle, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.hold(handle);
        let mut tail = self.take_last(handle);
        let old_len = tail.len();
        let old_class = self.slab.class_of(tail.segments.last);
        let written = self.write_chain_at(&mut tail, offset, bytes);
        if written.is_err() {
            self.truncate(&mut tail, old_len);
        }
        let slack = tail.len() / SLACK_DIVISOR;
        self.cut_last(&mut tail, slack);
        self.let_go(handle);
        let class = self.settle(&tail);
        self.put_behind(handle, tail.segments);
        self.stats.value_bytes += (tail.len() - old_len) as u64;
        self.change_list(handle, old_class, class);
        written
    }

    /// The last segment of a value as an uncommitted chain, which has the whole value's length.
    fn take_last(&mut self, handle: Handle) -> Chain {
        let meta = self.slab.meta(handle);
        let all = Extensions::chain(&self.slab, handle, meta);
        let before = self.slab.previous(all.last);
        let others = if before == handle {
            Segments {
                len: all.len,
                ..Segments::NONE
            }
        } else {
            self.slab.set_next(before, handle);
            Segments {
                last: before,
                ..all
            }
        };
        Extensions::set_chain(&mut self.slab, handle, meta, others);
        self.slab.set_previous(all.last, Handle::NONE);
        self.slab.set_next(all.last, Handle::NONE);
        self.mark_uncommitted(all.last);
        let last = Segments {
            first: all.last,
            ..all
        };
        Chain::of(last, SLACK_DIVISOR)
    }

    /// Adds segments to an item, which has their value's length from then on.
    fn put_behind(&mut self, handle: Handle, segments: Segments) {
        let others = Extensions::chain(&self.slab, handle, self.slab.meta(handle));
        let Some(before) = others.last.some() else {
            return self.give_segments(handle, segments);
        };
        self.slab.set_next(before, segments.first);
        self.slab.set_previous(segments.first, before);
        let first = others.first;
        self.give_segments(handle, Segments { first, ..segments });
    }

    /// The last segment of an item, of class `old`, became one or more, of which `new` is the largest
    /// one's class: the item belongs in the list of its largest segment's class. O(1), unless the last
    /// one had not been cut for want of memory and now was.
    fn change_list(&mut self, handle: Handle, old: ClassId, new: ClassId) {
        let meta = self.slab.meta(handle);
        let listed = ClassId::from_index(meta.value_field());
        let class = if new < old && old == listed {
            let classes =
                { self.segments(handle, meta) }.map(|segment| self.slab.class_of(segment));
            classes.max().expect("a long value has segments")
        } else {
            new.max(listed)
        };
        if class != listed {
            let list = self.list_of(handle, meta);
            self.lists.remove(&mut self.slab, list, handle);
            let meta = self.slab.meta(handle).with_value_field(class.index());
            self.slab.set_meta(handle, meta);
            let list = self.list_of(handle, meta);
            self.lists.push_front(&mut self.slab, list, handle);
        }
    }

    /// Gives a last segment that was cut to size the room of a whole one, if `count` more bytes need
    /// it: else there would be as many segments as writes.
    pub(super) fn enlarge_last(
        &mut self,
        chain: &mut Chain,
        count: usize,
    ) -> Result<(), StoreError> {
        let (last, used, room) = self.tail_room(chain);
        if room >= count || last.is_none() || self.slab.class_of(last) >= ClassId::SEGMENT_SMALL {
            return Ok(());
        }
        let slack = (chain.len() + count) / SLACK_DIVISOR;
        let class = piece_class(used + count, slack).min(ClassId::SEGMENT_SMALL);
        let larger = { self.allocate(class) }.or_else(|_| self.allocate(ClassId::SEGMENT_SMALL))?;
        self.slab.set_meta(larger, Meta::segment(used));
        self.mark_uncommitted(larger);
        self.replace_last(chain, &[(larger, used)]);
        Ok(())
    }
}
