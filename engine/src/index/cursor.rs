//! Scan cursors.
//!
//! ```text
//! bit  0 .. 31   position: the hash bits that choose a table, reversed
//! bit 32 .. 47   range
//! bit 48 .. 63   zero, free for whoever scans several caches
//! ```
//! Table `n` of a range with a depth of `d` bits holds the positions whose top `d` bits are `n`
//! reversed: a contiguous piece. Splitting a table halves its piece, so a cursor at the start of
//! a piece stays one.

/// A place in the order of all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) range: u16,
    pub(super) position: u32,
}

impl Cursor {
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    pub(super) const fn decode(cursor: u64) -> Self {
        Self {
            range: (cursor >> 32) as u16,
            position: cursor as u32,
        }
    }

    pub(super) const fn encode(self) -> u64 {
        (self.range as u64) << 32 | self.position as u64
    }

    /// The start of the range after this one; `None` behind the last possible one.
    pub(super) fn next_range(self) -> Option<Self> {
        Some(Self {
            range: self.range.checked_add(1)?,
            position: 0,
        })
    }
}
