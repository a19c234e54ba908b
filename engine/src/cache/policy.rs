//! What the policy of eviction makes of an item's coming, use and going. LRU is small enough to be
//! here; the other is in `s3_fifo`.

use crate::cache::{Cache, s3_fifo};
use crate::eviction::Eviction;
use crate::item::Meta;
use crate::key::Key;
use crate::limits::EVICTION_SKIPS_MAX;
use crate::order::{ListId, ListKind, Lists};
use crate::slab::{ClassId, Handle, Slab};

impl Cache {
    /// An item is used.
    #[inline]
    pub(super) fn touch_handle(&mut self, handle: Handle) {
        let meta = self.slab.meta(handle);
        match self.config.eviction {
            Eviction::Lru => {
                let list = ListId::new(self.list_class_of(handle, meta), ListKind::First);
                self.lists.move_to_front(&mut self.slab, list, handle);
            }
            Eviction::S3Fifo => s3_fifo::touch(&mut self.slab, handle, meta),
        }
    }

    /// Puts a complete item, of which `old` is what its key had, into its list.
    #[inline]
    pub(super) fn enlist(&mut self, key: &Key<'_>, handle: Handle, old: Option<Handle>) {
        let list = match self.config.eviction {
            Eviction::Lru => {
                let class = self.list_class_of(handle, self.slab.meta(handle));
                ListId::new(class, ListKind::First)
            }
            Eviction::S3Fifo => {
                self.give_standing(key, handle, old);
                self.list_of(handle, self.slab.meta(handle))
            }
        };
        self.lists.push_front(&mut self.slab, list, handle);
    }

    /// An item that takes another's place takes its standing, and is used. One whose key was evicted
    /// not long ago, before it proved useful, has proved it now.
    #[inline(never)]
    fn give_standing(&mut self, key: &Key<'_>, handle: Handle, old: Option<Handle>) {
        let meta = self.slab.meta(handle);
        let items_count = self.index.len();
        let standing = match (old, &mut self.ghost) {
            (Some(old), _) => self.standing_of(old),
            (None, Some(ghost)) => {
                if ghost.take(key.hash(), items_count) {
                    Meta::MAIN
                } else {
                    0
                }
            }
            (None, None) => 0,
        };
        self.slab.set_meta(handle, meta.with(standing));
    }

    /// What another item inherits that takes this one's place.
    pub(super) fn standing_of(&self, old: Handle) -> u32 {
        match self.config.eviction {
            Eviction::Lru => 0,
            Eviction::S3Fifo => self.slab.meta(old).0 & Meta::MAIN | Meta::USED,
        }
    }

    /// The item of a class that goes next. Leased items are in use right now, so they don't go: they
    /// are put in front. None if the class has no other, as far as was looked.
    #[inline]
    pub(super) fn victim(&mut self, class: ClassId) -> Option<Handle> {
        match self.config.eviction {
            Eviction::Lru => least_recently_used(&mut self.lists, &mut self.slab, class),
            Eviction::S3Fifo => s3_fifo::victim(&mut self.lists, &mut self.slab, class),
        }
    }

    /// An item that is still in its list is about to be evicted.
    #[inline]
    pub(super) fn remember(&mut self, handle: Handle, hash: u64) {
        if let Some(ghost) = &mut self.ghost
            && !self.slab.meta(handle).has(Meta::MAIN)
        {
            ghost.add(hash);
        }
    }

    /// Whether the item at a list's tail is as old as its place says. Those that were used since
    /// they came there are moved on, a bounded number.
    pub(super) fn is_tail_idle(&mut self, list: ListId) -> bool {
        match self.config.eviction {
            Eviction::Lru => true,
            Eviction::S3Fifo => s3_fifo::is_tail_idle(&mut self.lists, &mut self.slab, list),
        }
    }
}

#[inline]
fn least_recently_used(lists: &mut Lists, slab: &mut Slab, class: ClassId) -> Option<Handle> {
    let list = ListId::new(class, ListKind::First);
    for _ in 0..EVICTION_SKIPS_MAX {
        let tail = lists.tail(list)?;
        if !slab.meta(tail).has(Meta::LEASED) {
            return Some(tail);
        }
        lists.move_to_front(slab, list, tail);
    }
    None
}
