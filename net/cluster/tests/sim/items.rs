//! The items of one core: keys that are numbers, each written once, with no values. What a copy holds of
//! a range is the set of the writes that it has.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_cluster::Range;
use fulmar_cluster::replication::{ItemView, StageId, Store};

/// The writes that a copy has.
pub(crate) type Held = BTreeSet<u64>;

#[derive(Debug, Default)]
pub(crate) struct Items {
    ranges: BTreeMap<Range, Held>,
    /// What was deleted or dropped since that was last taken.
    pub(crate) lost: Vec<(Range, u64)>,
}

pub(crate) fn key_of(write: u64) -> [u8; 8] {
    write.to_be_bytes()
}

fn write_of(key: &[u8]) -> u64 {
    u64::from_be_bytes(key.try_into().expect("all keys are numbers"))
}

impl Items {
    pub(crate) fn held(&self, range: Range) -> Held {
        self.ranges.get(&range).cloned().unwrap_or_default()
    }

    pub(crate) fn has(&self, range: Range, write: u64) -> bool {
        self.ranges
            .get(&range)
            .is_some_and(|held| held.contains(&write))
    }

    pub(crate) fn add(&mut self, range: Range, write: u64) {
        self.ranges.entry(range).or_default().insert(write);
    }

    fn remove(&mut self, range: Range, write: u64) {
        if self
            .ranges
            .get_mut(&range)
            .is_some_and(|held| held.remove(&write))
        {
            self.lost.push((range, write));
        }
    }

    /// So many writes from `cursor` on, and where it goes on; 0 at the end.
    fn some(&self, range: Range, cursor: u64, count: usize) -> (Vec<u64>, u64) {
        let held = self.ranges.get(&range);
        let mut rest = held.into_iter().flat_map(|held| held.range(cursor..));
        let some: Vec<u64> = rest.by_ref().take(count).copied().collect();
        (some, rest.next().copied().unwrap_or(0))
    }
}

impl Store for Items {
    fn read(&self, range: Range, key: &[u8], visit: &mut dyn FnMut(ItemView<'_>)) -> bool {
        let is_there = self.has(range, write_of(key));
        if is_there {
            view(key, visit);
        }
        is_there
    }

    fn read_part(&self, _: Range, _: &[u8], _: usize, _: usize, _: &mut dyn FnMut(&[u8])) -> bool {
        unreachable!("no value is long")
    }

    fn set(&mut self, range: Range, key: &[u8], _: &[&[u8]], _: Option<u64>) {
        self.add(range, write_of(key));
    }

    fn delete(&mut self, range: Range, key: &[u8]) {
        self.remove(range, write_of(key));
    }

    fn touch(&mut self, _: Range, _: &[u8]) {}

    fn items_count(&self) -> usize {
        self.ranges.values().map(Held::len).sum()
    }

    fn walk_range(
        &self,
        range: Range,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(ItemView<'_>),
    ) -> u64 {
        let (some, next) = self.some(range, cursor, count);
        some.iter().for_each(|&write| view(&key_of(write), visit));
        next
    }

    fn drop_range(&mut self, range: Range, cursor: u64, count: usize) -> u64 {
        let (some, next) = self.some(range, cursor, count);
        some.iter().for_each(|&write| self.remove(range, write));
        next
    }

    fn stage_begin(&mut self) -> StageId {
        unreachable!("no value is long")
    }

    fn stage_push(&mut self, _: StageId, _: &[u8]) -> bool {
        unreachable!("no value is long")
    }

    fn stage_end(&mut self, _: StageId, _: Range, _: &[u8], _: Option<u64>) {
        unreachable!("no value is long")
    }

    fn stage_abort(&mut self, _: StageId) {
        unreachable!("no value is long")
    }
}

fn view(key: &[u8], visit: &mut dyn FnMut(ItemView<'_>)) {
    visit(ItemView {
        key,
        value_bytes: 0,
        parts: &mut std::iter::empty(),
        ttl_ms: None,
    });
}
