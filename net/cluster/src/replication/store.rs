//! The items that are replicated, as this crate sees them: implemented on the engine by the shard.

use crate::Range;

/// A live item, borrowed.
pub struct ItemView<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Length of its value.
    pub value_bytes: usize,
    /// The value, piece by piece.
    pub parts: &'a mut dyn Iterator<Item = &'a [u8]>,
    /// Milliseconds until it expires, if it does: at least 1.
    pub ttl_ms: Option<u64>,
}

/// A place of [`Store`] in which a long value is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageId(pub u32);

/// A core's items at one moment.
pub trait Store {
    /// Visits a key's live item; false if there is none. Does not count as a use.
    fn read(&self, range: Range, key: &[u8], visit: &mut dyn FnMut(ItemView<'_>)) -> bool;

    /// Visits up to `bytes_max` bytes of a live item's value from `offset` on, piece by piece; false if
    /// there is no item.
    fn read_part(
        &self,
        range: Range,
        key: &[u8],
        offset: usize,
        bytes_max: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> bool;

    /// Stores a value. If it cannot be stored, the key is deleted: a copy may lack items, but has no
    /// older ones.
    fn set(&mut self, range: Range, key: &[u8], value: &[&[u8]], ttl_ms: Option<u64>);

    /// Deletes a key.
    fn delete(&mut self, range: Range, key: &[u8]);

    /// Notes that a key, if it is there, was used.
    fn touch(&mut self, range: Range, key: &[u8]);

    /// Number of items, of all ranges of the core.
    fn items_count(&self) -> usize;

    /// Visits live items of a range, `count` or somewhat more; gives the cursor to go on with. 0 starts
    /// and ends. An item that is there from the first call to the last is visited.
    fn walk_range(
        &self,
        range: Range,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(ItemView<'_>),
    ) -> u64;

    /// Drops items of a range, `count` or somewhat more; gives the cursor to go on with. 0 starts and
    /// ends.
    fn drop_range(&mut self, range: Range, cursor: u64, count: usize) -> u64;

    /// Begins a long value.
    fn stage_begin(&mut self) -> StageId;

    /// Appends to a long value; false if there is no room, and then it can only be aborted.
    fn stage_push(&mut self, stage: StageId, bytes: &[u8]) -> bool;

    /// Stores a long value, or deletes the key if it cannot be stored. Frees the place.
    fn stage_end(&mut self, stage: StageId, range: Range, key: &[u8], ttl_ms: Option<u64>);

    /// Forgets a long value, and frees the place.
    fn stage_abort(&mut self, stage: StageId);
}
