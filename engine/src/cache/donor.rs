//! Making room, the policy: which class gives up a page.
//!
//! A page's worth of free chunks beyond what a class needs for its comings and goings costs nobody an
//! item. Otherwise the page comes from the class whose next item to go is the oldest, so that what
//! leaves is the oldest of all classes; how old its tail will be without that page is what counts, so
//! that a class of few pages is not emptied for one old item.
//!
//! Old is what came to its place in its list long ago: under LRU, when it was last used. S3-FIFO has two
//! kinds of list, which age at different speeds, so only lists of one kind are compared. Which kind, one
//! S3-FIFO over the whole memory would decide by the share that all first lists have of it: so a class
//! that is only scanned takes no more than their share from the others. Near that share, so that pages
//! don't go to and fro, it is the kind that the needy class itself would take from.

use std::cmp::Reverse;

use crate::cache::s3_fifo::FIRST_SHARE;
use crate::order::{ListId, ListKind, Lists};
use crate::slab::{CLASSES_COUNT, ClassId, Slab};

/// A class may hold this share of its chunks free, and a page's worth.
const FREE_SHARE: usize = 16;
/// First lists are long, or short, if they are off their share by more than one part in so many.
const SHARE_TOLERANCE: usize = 5;

/// A class that can give up a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Donor {
    /// The list that the page is to be found by.
    pub(super) list: ListId,
    /// It has a page's worth of free chunks.
    pub(super) has_spare: bool,
}

/// In which order classes should give up pages, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    const SPARE: Self = Self(u64::MAX);
    const OF_KIND: u64 = 1 << 63;

    /// A class whose next item will not have been used for so long when it has a page less.
    fn idle(uses: u64) -> Self {
        Self(uses | Self::OF_KIND)
    }

    /// The same, where items would go that are of a kind that should stay.
    fn idle_of_other_kind(uses: u64) -> Self {
        Self(uses)
    }
}

/// Classes with items or free chunks, in the order in which they should give up a page.
pub(super) fn by_preference(lists: &Lists, slab: &Slab) -> impl Iterator<Item = Donor> + use<> {
    let kind = kind_to_lose(lists).unwrap_or(ListKind::First);
    { ranked(lists, slab, kind) }.map(|(donor, _)| donor)
}

/// The classes that should give up a page for `needy`, which evicts its own items otherwise, best
/// first. None if the ages of all others are about the same, or younger.
pub(super) fn for_class(
    lists: &Lists,
    slab: &Slab,
    needy: ClassId,
) -> impl Iterator<Item = Donor> + use<> {
    let kind = kind_to_lose(lists).unwrap_or_else(|| {
        if may_lose(lists, needy, ListKind::Main) {
            ListKind::Main
        } else {
            ListKind::First
        }
    });
    let idle_max = if may_lose(lists, needy, kind) {
        idle_with_a_page(lists, slab, ListId::new(needy, kind))
    } else {
        0
    };
    ranked(lists, slab, kind)
        .filter(move |(donor, _)| donor.list.class() != needy)
        .take_while(move |&(_, rank)| rank > Rank::idle(idle_max))
        .map(|(donor, _)| donor)
}

fn ranked(
    lists: &Lists,
    slab: &Slab,
    kind: ListKind,
) -> impl Iterator<Item = (Donor, Rank)> + use<> {
    let mut donors = [(Rank::SPARE, ListId::new(ClassId::SEGMENT_LARGE, kind)); CLASSES_COUNT];
    let mut count = 0;
    for class in ClassId::all() {
        let (list, is_of_kind) = list_to_lose(lists, class, kind);
        let rank = match lists.count(list) {
            _ if has_spare(slab, class) => Rank::SPARE,
            0 => continue,
            _ if is_of_kind => Rank::idle(idle_without_a_page(lists, slab, list)),
            _ => Rank::idle_of_other_kind(idle_without_a_page(lists, slab, list)),
        };
        donors[count] = (rank, list);
        count += 1;
    }
    donors[..count].sort_unstable_by_key(|&(rank, list)| Reverse((rank, list.class())));
    donors.into_iter().take(count).map(|(rank, list)| {
        let has_spare = rank == Rank::SPARE;
        (Donor { list, has_spare }, rank)
    })
}

/// The kind of list that is too long for the whole; `None` if none clearly is. O(classes).
fn kind_to_lose(lists: &Lists) -> Option<ListKind> {
    if lists.kinds_count() == 1 {
        return Some(ListKind::First);
    }
    let (mut first_bytes, mut all_bytes) = (0, 0);
    for class in ClassId::all() {
        let bytes = |kind| lists.count(ListId::new(class, kind)) * class.chunk_bytes();
        first_bytes += bytes(ListKind::First);
        all_bytes += bytes(ListKind::First) + bytes(ListKind::Main);
    }
    if is_long(first_bytes, all_bytes) {
        Some(ListKind::First)
    } else if is_short(first_bytes, all_bytes) {
        Some(ListKind::Main)
    } else {
        None
    }
}

/// Whether what a class would lose next is of this kind, or nearly so.
fn may_lose(lists: &Lists, class: ClassId, kind: ListKind) -> bool {
    let first = lists.count(ListId::new(class, ListKind::First));
    let main = lists.count(ListId::new(class, ListKind::Main));
    match kind {
        ListKind::First => first > 0 && !is_short(first, first + main),
        ListKind::Main => main > 0 && !is_long(first, first + main),
    }
}

/// The list that a class would lose from, and whether that can be a page's worth of this kind.
fn list_to_lose(lists: &Lists, class: ClassId, kind: ListKind) -> (ListId, bool) {
    let of_kind = ListId::new(class, kind);
    let has_enough = || lists.count(of_kind) >= class.chunks_per_page();
    if lists.kinds_count() == 1 || (may_lose(lists, class, kind) && has_enough()) {
        return (of_kind, true);
    }
    let other = ListId::new(class, kind.other());
    let is_other = lists.count(other) > 0;
    (if is_other { other } else { of_kind }, false)
}

fn is_long(first: usize, all: usize) -> bool {
    first * FIRST_SHARE * SHARE_TOLERANCE > all * (SHARE_TOLERANCE + 1)
}

fn is_short(first: usize, all: usize) -> bool {
    first * FIRST_SHARE * SHARE_TOLERANCE < all * (SHARE_TOLERANCE - 1)
}

fn has_spare(slab: &Slab, class: ClassId) -> bool {
    let per_page = class.chunks_per_page();
    let chunks = slab.owned_count(class) * per_page;
    per_page > 1 && slab.free_chunks_count(class) >= per_page + chunks / FREE_SHARE
}

/// At least for how long a list's tail will not have been used when its class has a page less.
fn idle_without_a_page(lists: &Lists, slab: &Slab, list: ListId) -> u64 {
    let pages = slab.owned_count(list.class()) as u64;
    match lists.tail_idle(list) {
        None => 0,
        Some(_) if pages <= 1 => lists.head_idle_min(list),
        Some(idle) => idle.min / pages * (pages - 1),
    }
}

/// At most for how long a list's tail will not have been used when its class has a page more.
fn idle_with_a_page(lists: &Lists, slab: &Slab, list: ListId) -> u64 {
    let pages = slab.owned_count(list.class()).max(1) as u64;
    match lists.tail_idle(list) {
        None => 0,
        Some(idle) => (idle.max / pages).saturating_mul(pages + 1),
    }
}
