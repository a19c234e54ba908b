//! Slots and ranges, as Redis Cluster's specification defines the first.
//!
//! ```text
//! key or its {hash tag} --CRC16/XMODEM mod 16384--> slot --/ 8--> range
//! ```

use crc16::{State, XMODEM};

/// Number of hash slots, fixed by the Redis Cluster specification.
pub const SLOTS_COUNT: u16 = 16_384;
/// Consecutive slots that are placed, moved and replicated together.
pub const SLOTS_PER_RANGE: u16 = 8;
/// Number of ranges.
pub const RANGES_COUNT: u16 = SLOTS_COUNT / SLOTS_PER_RANGE;

const _: () = assert!(SLOTS_COUNT.is_multiple_of(SLOTS_PER_RANGE));

/// One of the 16,384 hash slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of `key`: of its hash tag if it has a non-empty one, else of all its bytes.
    ///
    /// O(length of the hashed part).
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        Self(State::<XMODEM>::calculate(hash_tag(key)) % SLOTS_COUNT)
    }

    /// The slot's number, below [`SLOTS_COUNT`].
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The range that holds this slot.
    #[inline]
    pub const fn range(self) -> Range {
        Range(self.0 / SLOTS_PER_RANGE)
    }
}

/// One of the 2,048 ranges: eight consecutive slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range(u16);

impl Range {
    /// The range of `key`.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        Slot::of(key).range()
    }

    /// The range with this index, if it is below [`RANGES_COUNT`].
    #[inline]
    pub const fn from_index(index: u16) -> Option<Self> {
        if index < RANGES_COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// All ranges, by rising index.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + Clone {
        (0..RANGES_COUNT).map(Self)
    }

    /// The range's index, below [`RANGES_COUNT`].
    #[inline]
    pub const fn index(self) -> u16 {
        self.0
    }
}

/// What is hashed of a key: the bytes between the first `{` and the next `}` if there are any.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

#[cfg(test)]
mod tests {
    use super::{Range, Slot};

    #[test]
    fn slots_match_the_specification() {
        // `CLUSTER KEYSLOT` of redis-server 7.0.15.
        for (key, slot) in [
            ("", 0),
            ("foo", 12_182),
            ("123456789", 12_739),
            ("somekey", 11_058),
        ] {
            assert_eq!(Slot::of(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn hash_tags_share_a_slot() {
        let user = Slot::of(b"user1000");
        assert_eq!(Slot::of(b"{user1000}.following"), user);
        assert_eq!(Slot::of(b"a{user1000}{other}"), user);
        assert_eq!(Slot::of(b"{user1000"), Slot::of(b"{user1000"));
        assert_ne!(Slot::of(b"foo{}{bar}"), Slot::of(b"bar"));
        assert_eq!(Slot::of(b"foo{{bar}}zap"), Slot::of(b"{bar"));
    }

    #[test]
    fn ranges_are_eight_slots() {
        assert_eq!(Range::of(b"foo").index(), 12_182 / 8);
        assert!(Range::from_index(2_047).is_some());
        assert!(Range::from_index(2_048).is_none());
    }
}
