//! Making room, the policy: which class gives up a page.
//!
//! The class with the most pages goes first: it loses the smallest share of its items.

use crate::lru::LruList;
use crate::slab::{CLASSES_COUNT, ClassId, Slab};

/// Classes with items, in the order in which they should give up a page.
pub(super) fn by_preference(
    lists: &[LruList; CLASSES_COUNT],
    slab: &Slab,
) -> impl Iterator<Item = ClassId> + use<> {
    let mut classes = [(0, ClassId::SEGMENT_LARGE); CLASSES_COUNT];
    let mut count = 0;
    for class in ClassId::all().filter(|class| lists[class.index()].count() > 0) {
        classes[count] = (slab.owned_count(class), class);
        count += 1;
    }
    classes[..count].sort_unstable_by(|a, b| b.cmp(a));
    classes.into_iter().take(count).map(|(_, class)| class)
}
