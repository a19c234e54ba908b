//! Deadlines: changing them, and reclaiming what has expired.

use crate::cache::Cache;
use crate::cache::write::Resolved;
use crate::item::{ItemValue, Layout, Meta};
use crate::key::Key;
use crate::limits::{ADVANCE_WORK_MAX, EVACUATED_CHUNKS_MAX};
use crate::slab::Handle;
use crate::time::{Expiry, Time};
use crate::version::Version;
use crate::wheel::Step;

impl Cache {
    /// Changes a key's deadline and makes its item the most recently used; false if there is no
    /// live item. A deadline that has passed already deletes it.
    ///
    /// O(1), but an item whose chunk becomes too small or too large moves to another, and a
    /// leased one is copied. If there is no memory even for that, the item is deleted.
    pub fn set_expiry(&mut self, key: &Key<'_>, expiry: Expiry, now: Time) -> bool {
        let Some(handle) = self.find_or_expire(key, now) else {
            return false;
        };
        match self.resolve(expiry, Some(handle)) {
            Resolved::Past => self.delete_found(key, Some(handle)),
            Resolved::Deadline(deadline) => self.change_deadline(key, handle, deadline),
        }
        true
    }

    /// Reclaims expired items and pages above the limit; at most `work_max` (and
    /// `ADVANCE_WORK_MAX`) of them; true if there is more. Call it at `next_deadline` and after `set_reserved_bytes`, and soon again while it returns true.
    pub fn advance(&mut self, now: Time, work_max: usize) -> bool {
        let now = self.observe(now);
        let work_max = work_max.min(ADVANCE_WORK_MAX);
        // What was becoming resident when the limit fell could not be given back then.
        self.slab.trim();
        if self.slab.is_over() {
            self.go_on_fitting();
            if self.evacuation.is_some() {
                self.evacuate(work_max.min(EVACUATED_CHUNKS_MAX));
                return true;
            }
        }
        for _ in 0..work_max {
            match self.wheel.step(&mut self.slab, now) {
                Step::Moved => {}
                Step::Idle => return false,
                Step::Expired(handle) => self.reclaim(handle),
            }
        }
        self.wheel.next_due().is_some_and(|due| due <= now)
    }

    /// When `advance` next has something to do: at most 32 ms after the earliest deadline, never
    /// later than it could reclaim; sometimes early. O(1).
    pub fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_due()
    }

    /// Removes an item that the wheel found expired.
    fn reclaim(&mut self, handle: Handle) {
        debug_assert!(
            self.deadline(handle)
                .is_some_and(|deadline| deadline <= self.latest)
        );
        self.remove_handle(handle);
        self.stats.expired += 1;
    }

    fn change_deadline(&mut self, key: &Key<'_>, handle: Handle, deadline: Option<Time>) {
        let meta = self.slab.meta(handle);
        let form = self.wheel.form(deadline).flag();
        if meta.0 & Meta::TTL == form {
            if form != 0 {
                self.wheel.remove(&mut self.slab, handle);
                self.start_deadline(handle, meta, deadline);
            }
            self.touch_handle(handle);
            return;
        }
        let version = self.version_of(handle);
        if !self.relayout(key, handle, deadline, version) {
            let found = self.find(key);
            self.delete_found(key, found);
        }
    }

    /// Gives an item this deadline and version, where one with them belongs, and makes it the most
    /// recently used; false without memory.
    pub(super) fn relayout(
        &mut self,
        key: &Key<'_>,
        handle: Handle,
        deadline: Option<Time>,
        version: Option<Version>,
    ) -> bool {
        let meta = self.slab.meta(handle);
        let value_len = ItemValue::new(&self.slab, handle, meta).len();
        let old = Layout::of(&self.slab, handle, meta);
        let extensions = self.extensions(deadline, version);
        if !meta.has(Meta::CHAIN)
            && let Some((layout, class)) = Self::inline_layout(key, value_len, extensions)
        {
            if self.is_rewritable(handle, class) {
                let (from, to) = (old.value_at(), layout.value_at());
                if meta.has(Meta::TTL) {
                    self.wheel.remove(&mut self.slab, handle);
                }
                self.slab.copy((handle, from), (handle, to), value_len);
                self.rewrite_header(key, handle, &layout, deadline);
                self.write_version(handle, version);
                self.touch_handle(handle);
                return true;
            }
            self.pin_item(handle);
            let mut result = self.allocate(class);
            if let Ok(new) = result {
                self.slab
                    .set_meta(new, Meta::item(layout.key_len, value_len, layout.flags));
                layout.write_key(&mut self.slab, new, key.bytes());
                self.slab.copy(
                    (handle, old.value_at()),
                    (new, layout.value_at()),
                    value_len,
                );
                self.write_version(new, version);
                result = self.publish(key, new, Some(handle), deadline).map(|()| new);
            }
            self.unpin_item(handle);
            return result.is_ok();
        }
        if self.is_growable(handle) {
            return self.change_header(key, handle, deadline, version).is_ok();
        }
        let Ok(chain) = self.chain_of_item(handle) else {
            return false;
        };
        self.commit(key, chain, deadline, version).is_ok()
    }
}
