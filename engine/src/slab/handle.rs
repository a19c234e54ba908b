//! Handles: u32 names of chunks.
//!
//! ```text
//! 0 ............................ 0xFFFF_DFFF   chunk at byte offset handle * 8
//! 0xFFFF_E000 .................. 0xFFFF_EFFF   wheel slot (back link of a list's first item)
//! 0xFFFF_FFFF                                  none
//! ```
//! The arena ends 64 KiB below 32 GiB, so no chunk has one of the last 8,192 handles.

/// Bytes per unit of a handle: chunks start at multiples of it.
pub(crate) const HANDLE_UNIT: usize = 8;

const SLOT_TAG: u32 = 0xFFFF_E000;
const SLOTS_COUNT_MAX: u32 = 0x1000;

/// A chunk's name: its offset in the arena / 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u32);

impl Handle {
    /// No chunk.
    pub(crate) const NONE: Self = Self(u32::MAX);

    /// The chunk at this offset.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "arenas end below 32 GiB")]
    pub(super) fn from_offset(offset: usize) -> Self {
        debug_assert!(offset.is_multiple_of(HANDLE_UNIT));
        let handle = Self((offset / HANDLE_UNIT) as u32);
        debug_assert!(handle.is_chunk());
        handle
    }

    /// The mark of a wheel slot, as a back link.
    #[inline]
    pub(crate) fn from_wheel_slot(slot: u32) -> Self {
        debug_assert!(slot < SLOTS_COUNT_MAX);
        Self(SLOT_TAG + slot)
    }

    /// The wheel slot this marks, if it does.
    #[inline]
    pub(crate) fn wheel_slot(self) -> Option<u32> {
        self.0
            .checked_sub(SLOT_TAG)
            .filter(|&slot| slot < SLOTS_COUNT_MAX)
    }

    /// The chunk's offset.
    #[inline]
    pub(super) const fn offset(self) -> usize {
        self.0 as usize * HANDLE_UNIT
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether it names a chunk.
    #[inline]
    pub(crate) const fn is_chunk(self) -> bool {
        self.0 < SLOT_TAG
    }

    /// `None` for no chunk.
    #[inline]
    pub(crate) fn some(self) -> Option<Self> {
        if self.is_none() { None } else { Some(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Handle, SLOT_TAG};
    use crate::config::ARENA_BYTES_MAX;

    #[test]
    fn last_chunk_is_not_taken_for_a_slot() {
        let last = Handle::from_offset(ARENA_BYTES_MAX - 8);
        assert!(last.is_chunk());
        assert_eq!(last.0, SLOT_TAG - 1);
        assert_eq!(last.wheel_slot(), None);
        assert_eq!(last.offset(), ARENA_BYTES_MAX - 8);
    }

    #[test]
    fn slots_and_none_are_told_apart() {
        assert_eq!(Handle::from_wheel_slot(5).wheel_slot(), Some(5));
        assert_eq!(Handle::NONE.wheel_slot(), None);
        assert_eq!(Handle::NONE.some(), None);
    }
}
