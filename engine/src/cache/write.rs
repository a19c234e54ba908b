//! Writing whole values, and deleting.

use crate::cache::Cache;
use crate::error::StoreError;
use crate::index::Full;
use crate::item::{Extensions, ItemValue, Layout, Meta};
use crate::key::Key;
use crate::limits::{INLINE_ITEM_BYTES_MAX, KEY_BYTES_MAX, SHORT_VALUE_BYTES_MAX};
use crate::slab::{ClassId, Handle};
use crate::time::{Expiry, Time};
use crate::version::Version;

/// The deadline that an `Expiry` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The item is to have this deadline.
    Deadline(Option<Time>),
    /// The deadline has passed already.
    Past,
}

impl Cache {
    /// Stores a value, whatever was there. O(1 + bytes copied), plus evictions.
    ///
    /// With a deadline that has passed already the key is absent afterwards.
    ///
    /// # Errors
    /// See [`StoreError`]; the key keeps what it had.
    pub fn set(
        &mut self,
        key: &Key<'_>,
        value: &[u8],
        expiry: Expiry,
        now: Time,
    ) -> Result<(), StoreError> {
        self.check_lengths(key, value.len())?;
        let old = self.find_or_expire(key, now);
        match self.resolve(expiry, old) {
            Resolved::Deadline(deadline) => self.store(key, old, value, deadline),
            Resolved::Past => {
                self.delete_found(key, old);
                Ok(())
            }
        }
    }

    /// Removes a key's item; true if it was live. O(1), plus the segments of a long value.
    pub fn delete(&mut self, key: &Key<'_>, now: Time) -> bool {
        let found = self.find_or_expire(key, now);
        self.delete_found(key, found);
        found.is_some()
    }

    pub(super) fn delete_found(&mut self, key: &Key<'_>, found: Option<Handle>) {
        if let Some(handle) = found {
            self.remove(key, handle);
            self.stats.deleted += 1;
        }
    }

    pub(super) fn check_lengths(&self, key: &Key<'_>, value_len: usize) -> Result<(), StoreError> {
        if key.bytes().len() > KEY_BYTES_MAX {
            return Err(StoreError::KeyTooLong);
        }
        if value_len > self.config.value_bytes_max {
            return Err(StoreError::ValueTooLong);
        }
        debug_assert!(key.hash() == self.config.hasher.hash(key.bytes()));
        debug_assert!(key.range() == (self.config.range_of)(key.bytes()));
        Ok(())
    }

    /// What `expiry` means for an item that replaces `old`.
    #[inline]
    pub(super) fn resolve(&self, expiry: Expiry, old: Option<Handle>) -> Resolved {
        match expiry {
            Expiry::Never => Resolved::Deadline(None),
            Expiry::Keep => Resolved::Deadline(old.and_then(|handle| self.deadline(handle))),
            Expiry::At(deadline) if deadline <= self.latest => Resolved::Past,
            Expiry::At(deadline) => Resolved::Deadline(Some(deadline)),
        }
    }

    /// Stores a value of checked length in place of `old`, the key's live item.
    #[inline]
    pub(super) fn store(
        &mut self,
        key: &Key<'_>,
        old: Option<Handle>,
        value: &[u8],
        deadline: Option<Time>,
    ) -> Result<(), StoreError> {
        let extensions = self.extensions(deadline, None);
        let Some((layout, class)) = Self::inline_layout(key, value.len(), extensions) else {
            return self.store_long(key, old.is_some(), value, deadline);
        };
        if let Some(old) = old.filter(|&old| self.is_rewritable(old, class)) {
            self.overwrite(key, old, &layout, deadline);
            self.slab
                .bytes_mut(old, layout.value_at(), value.len())
                .copy_from_slice(value);
            self.count_write(true);
            return Ok(());
        }
        let departures = self.departures;
        let handle = self.allocate(class)?;
        self.slab.set_meta(
            handle,
            Meta::item(layout.key_len, value.len(), layout.flags),
        );
        layout.write_key(&mut self.slab, handle, key.bytes());
        self.slab
            .bytes_mut(handle, layout.value_at(), value.len())
            .copy_from_slice(value);
        let old = old
            .filter(|_| self.departures == departures)
            .or_else(|| match old {
                Some(_) => self.find(key),
                None => None,
            });
        self.publish(key, handle, old, deadline)?;
        self.count_write(old.is_some());
        Ok(())
    }

    #[inline(never)]
    fn store_long(
        &mut self,
        key: &Key<'_>,
        is_replaced: bool,
        value: &[u8],
        deadline: Option<Time>,
    ) -> Result<(), StoreError> {
        let chain = self.chain_from(value)?;
        self.commit(key, chain, deadline, None)?;
        self.count_write(is_replaced);
        Ok(())
    }

    pub(super) fn count_write(&mut self, replaced: bool) {
        self.stats.sets += 1;
        self.stats.replaced += u64::from(replaced);
    }

    /// The extensions that an item needs, but for CHAIN.
    #[inline]
    pub(super) fn extensions(&self, deadline: Option<Time>, version: Option<Version>) -> u32 {
        let version = version.map_or(0, |_| Meta::VERSION);
        self.wheel.form(deadline).flag() | version
    }

    /// The layout and class of an item whose value lies in its own chunk; `None` if the value
    /// must be a chain.
    #[inline]
    pub(super) fn inline_layout(
        key: &Key<'_>,
        value_len: usize,
        extensions: u32,
    ) -> Option<(Layout, ClassId)> {
        let layout = Layout::new(key.bytes().len(), value_len, extensions);
        if layout.bytes() > INLINE_ITEM_BYTES_MAX && value_len > SHORT_VALUE_BYTES_MAX {
            return None;
        }
        let class = ClassId::fitting(layout.bytes()).expect("the longest key fits a class");
        Some((layout, class))
    }

    /// Whether an item of `class` can be written over `old`.
    #[inline]
    pub(super) fn is_rewritable(&self, old: Handle, class: ClassId) -> bool {
        let meta = self.slab.meta(old);
        !meta.has(Meta::LEASED | Meta::CHAIN) && self.slab.class_of(old) == class
    }

    /// Gives the item at `old` another layout, in its chunk. The caller writes the value.
    pub(super) fn overwrite(
        &mut self,
        key: &Key<'_>,
        old: Handle,
        layout: &Layout,
        deadline: Option<Time>,
    ) {
        let meta = self.slab.meta(old);
        let value_len = ItemValue::new(&self.slab, old, meta).len();
        self.stats.value_bytes -= value_len as u64;
        self.stats.value_bytes += layout.inline_len as u64;
        let same_extensions = meta.0 & Layout::EXTENSIONS == layout.flags;
        if same_extensions && deadline.is_none_or(|_| self.deadline(old) == deadline) {
            self.slab
                .set_meta(old, meta.with_value_field(layout.inline_len));
        } else {
            if meta.has(Meta::TTL) {
                self.wheel.remove(&mut self.slab, old);
            }
            self.rewrite_header(key, old, layout, deadline);
        }
        self.touch_handle(old);
    }

    /// Writes meta word, key and deadline of an item that is in no wheel slot.
    pub(super) fn rewrite_header(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
        layout: &Layout,
        deadline: Option<Time>,
    ) {
        let kept = self.slab.meta(handle).0 & Meta::KEPT;
        let meta = Meta::item(layout.key_len, layout.inline_len, layout.flags | kept);
        self.slab.set_meta(handle, meta);
        layout.write_key(&mut self.slab, handle, key.bytes());
        self.start_deadline(handle, meta, deadline);
    }

    /// Lets a complete item that nobody knows yet take the place of `old`; frees it on error, which
    /// can only be if there is no `old`.
    pub(super) fn publish(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
        old: Option<Handle>,
        deadline: Option<Time>,
    ) -> Result<(), StoreError> {
        let index_before = (self.slab.index_count(), self.index.heap_bytes());
        if old.is_none() {
            self.enter_index(key, handle)?;
        }
        let meta = self.slab.meta(handle);
        self.stats.key_bytes += key.bytes().len() as u64;
        self.stats.value_bytes += ItemValue::new(&self.slab, handle, meta).len() as u64;
        self.start_deadline(handle, meta, deadline);
        self.enlist(key, handle, old);
        if let Some(old) = old {
            self.index
                .replace(&mut self.slab, key.range(), key.hash(), old, handle);
            self.detach(old);
            self.dispose(old);
        } else if index_before != (self.slab.index_count(), self.index.heap_bytes()) {
            self.fit_budget_around(handle);
        }
        Ok(())
    }

    /// Gives an item an entry. An index that has no slot left for it, nor a page, gets a page; if
    /// none can be had, the item is freed.
    #[inline]
    fn enter_index(&mut self, key: &Key<'_>, handle: Handle) -> Result<(), StoreError> {
        let items = Self::indexed(&self.config);
        let (range, hash) = (key.range(), key.hash());
        let entered = self
            .index
            .insert(&mut self.slab, range, hash, handle, &items);
        match entered {
            Ok(()) => Ok(()),
            Err(Full) => self.enter_full_index(key, handle),
        }
    }

    #[cold]
    fn enter_full_index(&mut self, key: &Key<'_>, handle: Handle) -> Result<(), StoreError> {
        let items = Self::indexed(&self.config);
        let (range, hash) = (key.range(), key.hash());
        self.pin_item(handle);
        let mut entered = Err(Full);
        while entered.is_err() && self.give_up_page() {
            entered = self
                .index
                .insert(&mut self.slab, range, hash, handle, &items);
        }
        self.unpin_item(handle);
        entered.map_err(|Full| {
            self.free_item(handle, self.slab.meta(handle));
            StoreError::OutOfMemory
        })
    }

    /// Stores a version in an item laid out for it.
    #[inline]
    pub(super) fn write_version(&mut self, handle: Handle, version: Option<Version>) {
        if let Some(version) = version {
            let meta = self.slab.meta(handle);
            Extensions::set_version(&mut self.slab, handle, meta, version);
        }
    }

    /// Stores a deadline in an item laid out for it, and puts it in the wheel.
    pub(super) fn start_deadline(&mut self, handle: Handle, meta: Meta, deadline: Option<Time>) {
        debug_assert!(meta.has(Meta::TTL) == deadline.is_some());
        if let Some(Time(deadline_ms)) = deadline {
            Extensions::set_deadline_ms(&mut self.slab, handle, meta, deadline_ms);
            self.wheel.insert(&mut self.slab, handle);
        }
    }
}
