//! A doubly linked list through the headers of its items.
//!
//! The head is the latest that came or was moved there. The list knows nothing of classes, nor of who
//! is evicted.
//!
//! # Invariants
//! 1. `previous` of the head and `next` of the tail are none; all other links are mutual.
//! 2. `count` items are reachable from either end.

use crate::slab::{Handle, Slab};

/// One list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: Handle,
    tail: Handle,
    count: usize,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: Handle::NONE,
        tail: Handle::NONE,
        count: 0,
    };

    /// The most recently used item, or none.
    pub(super) fn head(&self) -> Handle {
        self.head
    }

    /// The least recently used item.
    #[inline]
    pub(super) fn tail(&self) -> Option<Handle> {
        self.tail.some()
    }

    /// Number of items.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Adds an item as the most recently used.
    #[inline]
    pub(super) fn push_front(&mut self, slab: &mut Slab, handle: Handle) {
        slab.set_previous(handle, Handle::NONE);
        slab.set_next(handle, self.head);
        match self.head.some() {
            Some(head) => slab.set_previous(head, handle),
            None => self.tail = handle,
        }
        self.head = handle;
        self.count += 1;
    }

    /// Takes an item out.
    #[inline]
    pub(super) fn remove(&mut self, slab: &mut Slab, handle: Handle) {
        self.unlink(slab, handle);
        self.count -= 1;
    }

    /// Makes an item the most recently used.
    #[inline]
    pub(super) fn move_to_front(&mut self, slab: &mut Slab, handle: Handle) {
        if self.head == handle {
            return;
        }
        self.unlink(slab, handle);
        self.count -= 1;
        self.push_front(slab, handle);
    }

    /// Lets `to`, a copy of `from`, take its place.
    pub(super) fn replace(&mut self, slab: &mut Slab, from: Handle, to: Handle) {
        let (previous, next) = (slab.previous(from), slab.next(from));
        match previous.some() {
            Some(previous) => slab.set_next(previous, to),
            None => self.head = to,
        }
        match next.some() {
            Some(next) => slab.set_previous(next, to),
            None => self.tail = to,
        }
    }

    #[inline]
    fn unlink(&mut self, slab: &mut Slab, handle: Handle) {
        let (previous, next) = (slab.previous(handle), slab.next(handle));
        match previous.some() {
            Some(previous) => slab.set_next(previous, next),
            None => self.head = next,
        }
        match next.some() {
            Some(next) => slab.set_previous(next, previous),
            None => self.tail = previous,
        }
    }

    /// The items, most recently used first.
    pub(super) fn iter<'a>(&self, slab: &'a Slab) -> impl Iterator<Item = Handle> + 'a {
        std::iter::successors(self.head.some(), |&handle| slab.next(handle).some())
    }

    /// Panics unless the list is whole.
    pub(super) fn check_integrity(&self, slab: &Slab) {
        let (mut before, mut count) = (Handle::NONE, 0);
        for handle in self.iter(slab) {
            assert_eq!(slab.previous(handle), before, "list links aren't mutual");
            before = handle;
            count += 1;
            assert!(count <= self.count, "list is longer than its count");
        }
        assert_eq!(before, self.tail, "tail of a list");
        assert_eq!(count, self.count, "count of a list");
    }
}

#[cfg(test)]
mod tests {
    use super::List;
    use crate::item::Meta;
    use crate::slab::{ClassId, Handle, Slab};

    fn filled(count: usize) -> (Slab, List, Vec<Handle>) {
        let mut slab = Slab::new(4).expect("address space");
        let mut list = List::EMPTY;
        let class = ClassId::fitting(24).expect("small");
        let mut handles = Vec::new();
        for _ in 0..count {
            let handle = slab.allocate(class).expect("room");
            slab.set_meta(handle, Meta::item(0, 0, 0));
            list.push_front(&mut slab, handle);
            list.check_integrity(&slab);
            handles.push(handle);
        }
        (slab, list, handles)
    }

    #[test]
    fn tail_is_the_one_touched_longest_ago() {
        let (mut slab, mut list, handles) = filled(5);
        assert_eq!(list.tail(), Some(handles[0]));
        for touched in [0, 4, 1, 1, 3] {
            list.move_to_front(&mut slab, handles[touched]);
            list.check_integrity(&slab);
        }
        let order: Vec<_> = list.iter(&slab).collect();
        assert_eq!(order, [3, 1, 4, 0, 2].map(|index| handles[index]));
    }

    #[test]
    fn items_leave_from_both_ends_and_the_middle() {
        let (mut slab, mut list, handles) = filled(4);
        for gone in [1, 0, 3, 2] {
            list.remove(&mut slab, handles[gone]);
            list.check_integrity(&slab);
        }
        assert_eq!(list.tail(), None);
        assert_eq!(list.count(), 0);
    }
}
