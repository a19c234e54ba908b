//! How long ago the items of each list were used, without a time in the items. To be used is to be put
//! at the head of a list, whatever for; time is the number of such uses of any item.
//!
//! Now and then the head of every list is marked. An item that is moved or removed passes its marks
//! on to the next older one, so a mark always stands at the most recent of the items that were last
//! used before it was made: those from there on were used before, those in front of it since. The
//! oldest mark that is still in a list tells its tail's age.
//!
//! Marks are made evenly and thinned out with age, so that neighbours stay about a quarter of
//! their age apart, however old.

use crate::item::Meta;
use crate::order::id::ListId;
use crate::slab::{Handle, Slab};

/// Marks kept per list.
const MARKS_MAX: usize = 48;
/// Marks are made at most every so many uses, and
const INTERVAL_MIN: u64 = 64;
/// about so many in a turn over all items.
const MARKS_PER_TURN: u64 = 32;

/// Bounds of how many uses ago (of any items) an item was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// See the module's head.
pub(super) struct Ages {
    /// Uses of any item so far.
    clock: u64,
    /// When the next mark is due.
    due: u64,
    /// When the marks were made, oldest first.
    made: [u64; MARKS_MAX],
    count: usize,
    /// Where they stand, per list; none where all items before it are gone.
    marks: Box<[[Handle; MARKS_MAX]]>,
}

impl Ages {
    /// Bytes beside the struct's own, per list.
    pub(super) const BYTES_PER_LIST: usize = size_of::<[Handle; MARKS_MAX]>();

    pub(super) fn new(lists_count: usize) -> Self {
        Self {
            clock: 0,
            due: INTERVAL_MIN,
            made: [0; MARKS_MAX],
            count: 0,
            marks: vec![[Handle::NONE; MARKS_MAX]; lists_count].into_boxed_slice(),
        }
    }

    /// An item is about to be used; true if the heads are to be marked before.
    #[inline]
    pub(super) fn tick(&mut self) -> bool {
        self.clock += 1;
        self.clock > self.due
    }

    /// Marks the heads of all lists. O(lists + marks).
    pub(super) fn mark(&mut self, heads: impl Iterator<Item = Handle>, items_count: usize) {
        if self.count == MARKS_MAX {
            self.forget_one();
        }
        // The use that is under way comes after the mark.
        self.made[self.count] = self.clock - 1;
        for (marks, head) in self.marks.iter_mut().zip(heads) {
            marks[self.count] = head;
        }
        self.count += 1;
        self.due = self.clock + (items_count as u64 / MARKS_PER_TURN).max(INTERVAL_MIN);
    }

    /// Lets the marks at `from` stand at `to`; false if there are none.
    pub(super) fn replace(&mut self, list: ListId, from: Handle, to: Handle) -> bool {
        let mut found = false;
        for mark in &mut self.marks[list.index()][..self.count] {
            if *mark == from {
                *mark = to;
                found = true;
            }
        }
        found
    }

    /// Forgets all marks; the clock goes on.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.due = self.clock + INTERVAL_MIN;
    }

    /// For how long the tail of a list that is not empty was not used.
    pub(super) fn tail_idle(&self, list: ListId) -> Idle {
        let marks = &self.marks[list.index()][..self.count];
        let first = marks.iter().position(|mark| !mark.is_none());
        let since = |mark: usize| self.clock - self.made[mark];
        Idle {
            min: first.map_or(0, since),
            max: match first.unwrap_or(self.count) {
                0 => u64::MAX,
                first => since(first - 1),
            },
        }
    }

    /// For how long at least an item was not used.
    pub(super) fn idle_min(&self, list: ListId, handle: Handle) -> u64 {
        let marks = &self.marks[list.index()][..self.count];
        let first = marks.iter().position(|&mark| mark == handle);
        first.map_or(0, |mark| self.clock - self.made[mark])
    }

    /// Forgets the oldest mark if no list has it or the one after it, else the one whose
    /// neighbours are nearest to each other for their age.
    fn forget_one(&mut self) {
        let is_gone = |mark: usize| self.marks.iter().all(|marks| marks[mark].is_none());
        let forgotten = if is_gone(0) && is_gone(1) {
            0
        } else {
            let age = |mark: usize| (self.clock - self.made[mark]) as f64;
            let gap = |mark: &usize| age(mark - 1) / age(mark + 1);
            (1..self.count - 1)
                .min_by(|a, b| gap(a).total_cmp(&gap(b)))
                .expect("there are more than two")
        };
        self.made.copy_within(forgotten + 1.., forgotten);
        for marks in &mut self.marks {
            marks.copy_within(forgotten + 1.., forgotten);
        }
        self.count -= 1;
    }

    /// Panics unless the marks of a list, whose items these are from the head on, are in order.
    pub(super) fn check_integrity(&self, slab: &Slab, list: ListId, order: &[Handle]) {
        let mut place_min = 0;
        for mark in self.marks[list.index()][..self.count].iter().rev() {
            let Some(handle) = mark.some() else {
                place_min = order.len();
                continue;
            };
            let place = order.iter().position(|&item| item == handle);
            let place = place.expect("a mark stands at an item of the list");
            assert!(place >= place_min, "an older mark is nearer to the head");
            assert!(
                slab.meta(handle).has(Meta::MARKED),
                "a mark without its bit"
            );
            place_min = place;
        }
    }
}
