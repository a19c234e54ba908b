//! Making room, the policy: which class gives up a page.
//!
//! A page's worth of free chunks beyond what a class needs for its comings and goings costs nobody an
//! item. Otherwise the page comes from the class whose least recently used item was not used for
//! longest, so that what leaves is the oldest of all classes; how old its tail will be without that
//! page is what counts, so that a class of few pages is not emptied for one old item.

use crate::order::Lists;
use crate::slab::{CLASSES_COUNT, ClassId, Slab};

/// A class may hold this share of its chunks free, and a page's worth.
const FREE_SHARE: usize = 16;

/// A class that can give up a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Donor {
    pub(super) class: ClassId,
    /// It has a page's worth of free chunks.
    pub(super) has_spare: bool,
}

/// Classes with items, in the order in which they should give up a page.
pub(super) fn by_preference(lists: &Lists, slab: &Slab) -> impl Iterator<Item = Donor> + use<> {
    let mut donors = [(0, ClassId::SEGMENT_LARGE); CLASSES_COUNT];
    let mut count = 0;
    for class in ClassId::all() {
        let rank = match lists.count(class) {
            _ if has_spare(slab, class) => u64::MAX,
            0 => continue,
            _ => idle_without_a_page(lists, slab, class),
        };
        donors[count] = (rank, class);
        count += 1;
    }
    donors[..count].sort_unstable_by(|a, b| b.cmp(a));
    donors.into_iter().take(count).map(|(rank, class)| Donor {
        class,
        has_spare: rank == u64::MAX,
    })
}

/// The class that should give up a page for `needy`, which evicts its own items otherwise. None if
/// the ages of all others are about the same, or younger.
pub(super) fn for_class(lists: &Lists, slab: &Slab, needy: ClassId) -> Option<Donor> {
    let idle_max = idle_with_a_page(lists, slab, needy);
    let donor = by_preference(lists, slab).find(|donor| donor.class != needy)?;
    let is_older = || idle_without_a_page(lists, slab, donor.class) > idle_max;
    (donor.has_spare || is_older()).then_some(donor)
}

fn has_spare(slab: &Slab, class: ClassId) -> bool {
    let per_page = class.chunks_per_page();
    let chunks = slab.owned_count(class) * per_page;
    per_page > 1 && slab.free_chunks_count(class) >= per_page + chunks / FREE_SHARE
}

/// At least for how long a class's tail will not have been used when it has a page less.
fn idle_without_a_page(lists: &Lists, slab: &Slab, class: ClassId) -> u64 {
    let pages = slab.owned_count(class) as u64;
    match lists.tail_idle(class) {
        None => 0,
        Some(_) if pages <= 1 => lists.head_idle_min(class),
        Some(idle) => idle.min / pages * (pages - 1),
    }
}

/// At most for how long a class's tail will not have been used when it has a page more.
fn idle_with_a_page(lists: &Lists, slab: &Slab, class: ClassId) -> u64 {
    let pages = slab.owned_count(class).max(1) as u64;
    match lists.tail_idle(class) {
        None => 0,
        Some(idle) => (idle.max / pages).saturating_mul(pages + 1),
    }
}
