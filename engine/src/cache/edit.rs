//! Changing part of a value: append, set_range.

use crate::cache::Cache;
use crate::cache::chain::{Chain, Source};
use crate::error::StoreError;
use crate::item::{ItemValue, Layout, Meta};
use crate::key::Key;
use crate::slab::{ClassId, Handle};
use crate::time::Time;

impl Cache {
    /// Appends bytes to a key's value and returns its new length. An absent key starts empty; a
    /// deadline stays.
    ///
    /// O(bytes); a value in one chunk is copied when its class changes, and a leased one always.
    ///
    /// # Errors
    /// See [`StoreError`]; the key keeps what it had.
    pub fn append(&mut self, key: &Key<'_>, suffix: &[u8], now: Time) -> Result<usize, StoreError> {
        let old = self.find_or_expire(key, now);
        let offset = self.value_len(old);
        self.write_at(key, old, offset, suffix)
    }

    /// Overwrites bytes of a key's value from `offset` on and returns its new length, with zeros
    /// in a gap behind the old end. An absent key starts empty; no bytes change nothing; a
    /// deadline stays. Costs as `append`, plus the segments of a long value from the nearer end.
    ///
    /// # Errors
    /// See [`StoreError`]; the key keeps what it had.
    pub fn set_range(
        &mut self,
        key: &Key<'_>,
        offset: usize,
        bytes: &[u8],
        now: Time,
    ) -> Result<usize, StoreError> {
        let old = self.find_or_expire(key, now);
        if bytes.is_empty() {
            return Ok(self.value_len(old));
        }
        self.write_at(key, old, offset, bytes)
    }

    fn value_len(&self, found: Option<Handle>) -> usize {
        found.map_or(0, |handle| {
            ItemValue::new(&self.slab, handle, self.slab.meta(handle)).len()
        })
    }

    fn write_at(
        &mut self,
        key: &Key<'_>,
        old: Option<Handle>,
        offset: usize,
        bytes: &[u8],
    ) -> Result<usize, StoreError> {
        let end = offset
            .checked_add(bytes.len())
            .ok_or(StoreError::ValueTooLong)?;
        let len = self.value_len(old).max(end);
        self.check_lengths(key, len)?;
        let deadline = old.and_then(|handle| self.deadline(handle));
        let is_long = old.is_some_and(|handle| self.slab.meta(handle).has(Meta::CHAIN));
        let extensions = self.extensions(deadline, None);
        let inline = Self::inline_layout(key, len, extensions).filter(|_| !is_long);
        let Some((layout, class)) = inline else {
            self.write_long(key, old, offset, bytes, deadline)?;
            self.count_write(old.is_some());
            return Ok(len);
        };
        let old_len = self.value_len(old);
        let in_place = old.filter(|&handle| {
            let extensions = self.slab.meta(handle).0 & Layout::EXTENSIONS;
            extensions == layout.flags && self.is_rewritable(handle, class)
        });
        let write = |value: &mut [u8]| {
            if old_len < offset {
                value[old_len..offset].fill(0);
            }
            value[offset..end].copy_from_slice(bytes);
        };
        match in_place {
            Some(handle) => {
                self.overwrite(key, handle, &layout, deadline);
                write(self.slab.bytes_mut(handle, layout.value_at(), len));
            }
            None => self.copy_inline(key, old, (&layout, class), deadline, write)?,
        }
        self.count_write(old.is_some());
        Ok(len)
    }

    /// A new item with the old value at its start, and what `write` makes of it, in the old one's
    /// place. Whole before it is published: the index that grows for it may take its page.
    fn copy_inline(
        &mut self,
        key: &Key<'_>,
        old: Option<Handle>,
        (layout, class): (&Layout, ClassId),
        deadline: Option<Time>,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), StoreError> {
        if let Some(old) = old {
            self.pin_item(old);
        }
        let mut result = self.allocate(class);
        if let Ok(handle) = result {
            self.slab.set_meta(
                handle,
                Meta::item(layout.key_len, layout.inline_len, layout.flags),
            );
            layout.write_key(&mut self.slab, handle, key.bytes());
            if let Some(old) = old {
                let from = Layout::of(&self.slab, old, self.slab.meta(old));
                let (from, to) = ((old, from.value_at()), (handle, layout.value_at()));
                self.slab.copy(from, to, self.value_len(Some(old)));
            }
            let value_at = layout.value_at();
            write(self.slab.bytes_mut(handle, value_at, layout.inline_len));
            result = self.publish(key, handle, old, deadline).map(|()| handle);
        }
        if let Some(old) = old {
            self.unpin_item(old);
        }
        result.map(|_| ())
    }

    fn write_long(
        &mut self,
        key: &Key<'_>,
        old: Option<Handle>,
        offset: usize,
        bytes: &[u8],
        deadline: Option<Time>,
    ) -> Result<(), StoreError> {
        if let Some(handle) = old.filter(|&handle| self.is_growable(handle)) {
            return self.write_in_place(key, handle, offset, bytes);
        }
        let mut chain = match old {
            Some(handle) => self.chain_of_item(handle)?,
            None => self.chain_begin(),
        };
        if let Err(error) = self.write_chain_at(&mut chain, offset, bytes) {
            self.chain_free(chain);
            return Err(error);
        }
        self.commit(key, chain, deadline, None)
    }

    pub(super) fn write_chain_at(
        &mut self,
        chain: &mut Chain,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let gap = offset.saturating_sub(chain.len());
        let end = offset + bytes.len();
        self.enlarge_last(chain, end.saturating_sub(chain.len()))?;
        self.extend(chain, Source::Zeros, gap)?;
        let inside = (chain.len() - offset).min(bytes.len());
        let (inside, behind) = bytes.split_at(inside);
        self.extend(chain, Source::Bytes(behind), behind.len())?;
        self.overwrite_segments(chain.segments, offset, inside);
        Ok(())
    }
}
