//! S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP
//! 2023), per slab class.
//!
//! ```text
//!                    used: bit cleared                used: bit cleared
//!                  +------------------+             +-------------------+
//!                  |                  v             v                   |
//! new -> [ first, a tenth ] -tail-+   [        main        ] -tail-----+-> gone
//!                                 |        ^
//!                                 v        | comes again
//!                               gone ->  ghost: hashes alone
//! ```
//! A use sets a bit in the item's header and moves nothing. The paper counts up to three uses; one bit
//! loses up to one and a half percent points of hits where popularity never changes, and wins up to three
//! where it does (`benches/benches/engine_hit_ratio.rs` has such traffic). The first list is a tenth of
//! a class's items, as in the paper; longer while nothing has come to the main list.

use crate::item::Meta;
use crate::limits::{EVICTION_REINSERTS_MAX, EVICTION_SKIPS_MAX};
use crate::order::{ListId, ListKind, Lists};
use crate::slab::{ClassId, Handle, Slab};

/// Of a class's items, one in so many is to be in the first list.
pub(super) const FIRST_SHARE: usize = 10;

/// An item is used. Writes only where it was not used before.
#[inline]
pub(super) fn touch(slab: &mut Slab, handle: Handle, meta: Meta) {
    if !meta.has(Meta::USED) {
        slab.set_meta(handle, meta.with(Meta::USED));
    }
}

/// The item of a class that goes next: the first at the tails that was not used. After
/// `EVICTION_REINSERTS_MAX` that were, the next one goes whether it was used or not.
pub(super) fn victim(lists: &mut Lists, slab: &mut Slab, class: ClassId) -> Option<Handle> {
    for step in 0..EVICTION_REINSERTS_MAX + EVICTION_SKIPS_MAX {
        let list = next_list(lists, class);
        let tail = lists.tail(list)?;
        let meta = slab.meta(tail);
        let is_spared = meta.has(Meta::USED) && step < EVICTION_REINSERTS_MAX;
        if !is_spared && !meta.has(Meta::LEASED) {
            return Some(tail);
        }
        move_on(lists, slab, list, tail);
    }
    None
}

/// Moves used items at a list's tail on, at most `EVICTION_REINSERTS_MAX`; true if then there is one
/// that was not used.
pub(super) fn is_tail_idle(lists: &mut Lists, slab: &mut Slab, list: ListId) -> bool {
    for _ in 0..EVICTION_REINSERTS_MAX {
        let Some(tail) = lists.tail(list) else {
            return false;
        };
        if !slab.meta(tail).has(Meta::USED | Meta::LEASED) {
            return true;
        }
        move_on(lists, slab, list, tail);
    }
    false
}

/// The list whose tail is next.
fn next_list(lists: &Lists, class: ClassId) -> ListId {
    let first = ListId::new(class, ListKind::First);
    let main = ListId::new(class, ListKind::Main);
    let (first_count, main_count) = (lists.count(first), lists.count(main));
    let is_long = first_count * FIRST_SHARE > first_count + main_count;
    if is_long || main_count == 0 {
        first
    } else {
        main
    }
}

/// An item that was used stays, and starts anew in the main list.
fn move_on(lists: &mut Lists, slab: &mut Slab, list: ListId, handle: Handle) {
    let main = ListId::new(list.class(), ListKind::Main);
    match list.kind() {
        ListKind::First => {
            lists.remove(slab, list, handle);
            let meta = slab.meta(handle).without(Meta::USED).with(Meta::MAIN);
            slab.set_meta(handle, meta);
            lists.push_front(slab, main, handle);
        }
        ListKind::Main => {
            slab.set_meta(handle, slab.meta(handle).without(Meta::USED));
            lists.move_to_front(slab, main, handle);
        }
    }
}
