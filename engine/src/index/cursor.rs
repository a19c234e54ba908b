//! Scan cursors.
//!
//! ```text
//! bit  0 .. 15   place in the table (`place_of`)
//! bit 16 .. 35   piece: the top 20 of the hash bits that choose a table, reversed
//! bit 36 .. 47   range
//! bit 48 .. 63   zero, free for whoever scans several caches
//! ```
//! Table `n` of a range with a depth of `d` bits holds the pieces whose top `d` bits are `n`
//! reversed: a contiguous run. Splitting a table halves its run, and a table that grows or shrinks
//! keeps every entry's place, so entries before a cursor stay before it, except that the second
//! half of a table split under a cursor is visited from its start.

use crate::limits::RANGES_COUNT_MAX;

/// Number of pieces of a range.
pub(super) const PIECES_COUNT: u32 = 1 << PIECE_BITS;
const PIECE_BITS: u32 = 20;
const PLACE_BITS: u32 = 16;
const RANGE_BITS: u32 = 12;

const _: () = assert!(RANGES_COUNT_MAX as u32 <= 1 << RANGE_BITS);
const _: () = assert!(super::table::PLACES_COUNT == 1 << PLACE_BITS);

/// A place in the order of all entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) range: u16,
    pub(super) piece: u32,
    pub(super) place: u16,
}

impl Cursor {
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    pub(super) const fn decode(cursor: u64) -> Self {
        Self {
            range: (cursor >> (PLACE_BITS + PIECE_BITS)) as u16 & ((1 << RANGE_BITS) - 1),
            piece: (cursor >> PLACE_BITS) as u32 & (PIECES_COUNT - 1),
            place: cursor as u16,
        }
    }

    pub(super) const fn encode(self) -> u64 {
        let range = (self.range as u64) << (PLACE_BITS + PIECE_BITS);
        range | (self.piece as u64) << PLACE_BITS | self.place as u64
    }

    /// Whether it is at a table's start. Splitting a table leaves starts where they are.
    pub(super) const fn is_at_table(self) -> bool {
        self.place == 0
    }

    /// The start of a range.
    pub(super) const fn start_of(range: u16) -> Self {
        Self {
            range,
            piece: 0,
            place: 0,
        }
    }

    /// The start of the range after this one.
    pub(super) const fn next_range(self) -> Self {
        Self::start_of(self.range + 1)
    }
}
