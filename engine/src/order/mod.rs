//! The order in which items go: lists per slab class, and marks in them that tell how long ago their
//! items came or were moved to the front.

mod ages;
mod id;
mod list;

pub(crate) use ages::Idle;
pub(crate) use id::{ListId, ListKind};

use ages::Ages;
use id::LISTS_COUNT;
use list::List;

use crate::item::Meta;
use crate::slab::{CLASSES_COUNT, Handle, Slab};

/// The lists of all classes, and a clock that counts what is put at their heads.
pub(crate) struct Lists {
    lists: [List; LISTS_COUNT],
    ages: Ages,
    items_count: usize,
    kinds_count: usize,
}

impl Lists {
    /// Bytes beside the struct's own, with so many kinds of list in use.
    pub(crate) const fn bytes_for(kinds_count: usize) -> usize {
        kinds_count * CLASSES_COUNT * Ages::BYTES_PER_LIST
    }

    /// Only the first kinds of list, so many, may hold items.
    pub(crate) fn new(kinds_count: usize) -> Self {
        Self {
            lists: [List::EMPTY; LISTS_COUNT],
            ages: Ages::new(kinds_count * CLASSES_COUNT),
            items_count: 0,
            kinds_count,
        }
    }

    /// Kinds of list in use.
    #[inline]
    pub(crate) fn kinds_count(&self) -> usize {
        self.kinds_count
    }

    /// The item that is furthest from the front.
    #[inline]
    pub(crate) fn tail(&self, list: ListId) -> Option<Handle> {
        self.lists[list.index()].tail()
    }

    /// Number of items in a list.
    #[inline]
    pub(crate) fn count(&self, list: ListId) -> usize {
        self.lists[list.index()].count()
    }

    /// Adds an item at the front.
    #[inline]
    pub(crate) fn push_front(&mut self, slab: &mut Slab, list: ListId, handle: Handle) {
        self.tick(slab);
        self.lists[list.index()].push_front(slab, handle);
        self.items_count += 1;
    }

    /// Moves an item to the front.
    #[inline]
    pub(crate) fn move_to_front(&mut self, slab: &mut Slab, list: ListId, handle: Handle) {
        self.tick(slab);
        self.pass_marks(slab, list, handle);
        self.lists[list.index()].move_to_front(slab, handle);
    }

    /// Takes an item out.
    #[inline]
    pub(crate) fn remove(&mut self, slab: &mut Slab, list: ListId, handle: Handle) {
        self.pass_marks(slab, list, handle);
        self.lists[list.index()].remove(slab, handle);
        self.items_count -= 1;
    }

    /// Lets `to`, a copy of `from`, take its place.
    pub(crate) fn replace(&mut self, slab: &mut Slab, list: ListId, from: Handle, to: Handle) {
        if slab.meta(from).has(Meta::MARKED) {
            self.ages.replace(list, from, to);
        }
        self.lists[list.index()].replace(slab, from, to);
    }

    /// Forgets all items.
    pub(crate) fn clear(&mut self) {
        self.lists = [List::EMPTY; LISTS_COUNT];
        self.ages.clear();
        self.items_count = 0;
    }

    /// How long ago the last item came to its place or was moved; `None` for no item.
    pub(crate) fn tail_idle(&self, list: ListId) -> Option<Idle> {
        self.tail(list).map(|_| self.ages.tail_idle(list))
    }

    /// How long ago at least the first item came or was moved.
    pub(crate) fn head_idle_min(&self, list: ListId) -> u64 {
        self.ages.idle_min(list, self.lists[list.index()].head())
    }

    /// The items of a list, from the front.
    pub(crate) fn iter<'a>(
        &self,
        slab: &'a Slab,
        list: ListId,
    ) -> impl Iterator<Item = Handle> + 'a {
        self.lists[list.index()].iter(slab)
    }

    /// Panics unless all lists are whole and their marks in order.
    pub(crate) fn check_integrity(&self, slab: &Slab) {
        let mut items_count = 0;
        for id in ListId::all() {
            let list = &self.lists[id.index()];
            list.check_integrity(slab);
            if list.count() > 0 {
                let order: Vec<Handle> = list.iter(slab).collect();
                self.ages.check_integrity(slab, id, &order);
            }
            items_count += list.count();
        }
        assert_eq!(items_count, self.items_count, "items in lists");
    }

    #[inline]
    fn tick(&mut self, slab: &mut Slab) {
        if self.ages.tick() {
            self.mark_heads(slab);
        }
    }

    #[cold]
    fn mark_heads(&mut self, slab: &mut Slab) {
        let in_use = &self.lists[..self.kinds_count * CLASSES_COUNT];
        let heads = in_use.iter().map(List::head);
        for head in heads.clone().filter_map(Handle::some) {
            let meta = slab.meta(head).with(Meta::MARKED);
            slab.set_meta(head, meta);
        }
        self.ages.mark(heads, self.items_count);
    }

    /// An item leaves its place: the next one is now the most recent of those that it marked.
    #[inline]
    fn pass_marks(&mut self, slab: &mut Slab, list: ListId, handle: Handle) {
        let meta = slab.meta(handle);
        if meta.has(Meta::MARKED) {
            self.pass_on(slab, list, handle);
        }
    }

    #[cold]
    fn pass_on(&mut self, slab: &mut Slab, list: ListId, handle: Handle) {
        let meta = slab.meta(handle).without(Meta::MARKED);
        slab.set_meta(handle, meta);
        let next = slab.next(handle);
        if self.ages.replace(list, handle, next) && !next.is_none() {
            let meta = slab.meta(next).with(Meta::MARKED);
            slab.set_meta(next, meta);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::{Strategy, any, proptest};

    use super::{ListId, ListKind, Lists};
    use crate::item::Meta;
    use crate::slab::{ClassId, Handle, Slab};

    /// Lists beside the truth: when each item was last used.
    struct Pair {
        slab: Slab,
        lists: Lists,
        used_at: [HashMap<Handle, u64>; 2],
        uses: u64,
    }

    impl Pair {
        fn new() -> Self {
            Self {
                slab: Slab::new(16).expect("address space"),
                lists: Lists::new(1),
                used_at: [HashMap::new(), HashMap::new()],
                uses: 0,
            }
        }

        fn list(which: usize) -> ListId {
            let class = ClassId::fitting([24, 64][which]).expect("small");
            ListId::new(class, ListKind::First)
        }

        fn nth(&self, which: usize, number: usize) -> Option<Handle> {
            let count = self.lists.count(Self::list(which));
            let order = || self.lists.iter(&self.slab, Self::list(which));
            (count > 0).then(|| order().nth(number % count).expect("in the list"))
        }

        fn add(&mut self, which: usize) {
            let handle = self.slab.allocate(Self::list(which).class()).expect("room");
            self.slab.set_meta(handle, Meta::item(0, 0, 0));
            self.uses += 1;
            self.lists
                .push_front(&mut self.slab, Self::list(which), handle);
            self.used_at[which].insert(handle, self.uses);
        }

        fn touch(&mut self, which: usize, number: usize) {
            if let Some(handle) = self.nth(which, number) {
                self.uses += 1;
                self.lists
                    .move_to_front(&mut self.slab, Self::list(which), handle);
                self.used_at[which].insert(handle, self.uses);
            }
        }

        fn remove(&mut self, which: usize, number: usize) {
            if let Some(handle) = self.nth(which, number) {
                self.lists.remove(&mut self.slab, Self::list(which), handle);
                self.slab.free(handle);
                self.used_at[which].remove(&handle);
            }
        }

        fn relocate(&mut self, which: usize, number: usize) {
            if let Some(from) = self.nth(which, number) {
                let list = Self::list(which);
                let class = list.class();
                let to = self.slab.allocate(class).expect("room");
                self.slab.copy((from, 0), (to, 0), class.chunk_bytes());
                self.lists.replace(&mut self.slab, list, from, to);
                self.slab.free(from);
                let used_at = self.used_at[which].remove(&from).expect("known");
                self.used_at[which].insert(to, used_at);
            }
        }

        fn check(&self) {
            self.lists.check_integrity(&self.slab);
            for which in 0..2 {
                let list = Self::list(which);
                let Some(tail) = self.lists.tail(list) else {
                    assert!(self.lists.tail_idle(list).is_none());
                    continue;
                };
                let idle = self.lists.tail_idle(list).expect("an item");
                let truth = self.uses - self.used_at[which][&tail];
                assert!(idle.min <= truth, "{idle:?}, but {truth}");
                assert!(truth <= idle.max, "{idle:?}, but {truth}");
                let head = self.nth(which, 0).expect("an item");
                let truth = self.uses - self.used_at[which][&head];
                assert!(self.lists.head_idle_min(list) <= truth);
            }
        }
    }

    proptest! {
        #[test]
        fn ages_hold_the_truth(
            steps in proptest::collection::vec(
                (0usize..10, any::<bool>(), any::<proptest::sample::Index>(), 1usize..200)
                    .prop_map(|(kind, which, number, repeats)| {
                        (kind, usize::from(which), number, repeats)
                    }),
                1..60,
            ),
        ) {
            let mut pair = Pair::new();
            for (kind, which, number, repeats) in steps {
                let number = number.index(1 << 20);
                match kind {
                    0..=2 => (0..repeats.min(60)).for_each(|_| pair.add(which)),
                    3 => pair.touch(which, 0),
                    4..=6 => (0..repeats).for_each(|step| pair.touch(which, number + step * 7)),
                    7 => (0..repeats / 20).for_each(|step| pair.remove(which, number + step)),
                    8 => (0..repeats / 20).for_each(|_| pair.remove(which, usize::MAX - 1)),
                    _ => pair.relocate(which, number),
                }
                pair.check();
            }
        }
    }

    /// However old, the bounds stay near each other.
    #[test]
    fn ages_are_known_within_a_third() {
        let mut pair = Pair::new();
        for _ in 0..500 {
            pair.add(0);
            pair.add(1);
        }
        for round in 0..500 {
            for step in 0..500 {
                pair.touch(0, step % 8);
            }
            let idle = pair.lists.tail_idle(Pair::list(1)).expect("items");
            if round > 20 {
                assert!(
                    idle.max == u64::MAX || idle.max < idle.min * 4 / 3,
                    "{idle:?}"
                );
                assert!(idle.min > (pair.uses - 1_000) * 3 / 4, "{idle:?}");
            }
        }
        pair.check();
    }
}
