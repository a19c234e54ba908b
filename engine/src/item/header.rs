//! The meta word at the start of every chunk.
//!
//! ```text
//! bit   0 ..  7   item: key length; 255 = the length is in the long-key extension
//! bit   8 .. 20   item: value length, or with CHAIN the slab class in whose list it is
//! bit  21         item: in the class's main list (S3-FIFO)
//! bit   0 .. 21   segment: bytes of payload
//! bit  22 .. 23   kind: 0 free, 1 item, 2 segment, 3 zombie (laid out like an item)
//! bit  24         item: TTL extension, 12 bytes (deadline as u32)
//! bit  25         item: TTL extension, 16 bytes (deadline as u64)
//! bit  26         item: CHAIN, the value is a chain of segments
//! bit  27         item: version extension, 8 bytes
//! bit  28         item: client flags extension, 4 bytes (reserved)
//! bit  29         item, zombie: leased
//! bit  29         segment: there was no memory to cut it to size
//! bit  30         item: its list has an age mark here
//! bit  30         segment: of a leased value
//! bit  31         item: used since it came to its place in the list (S3-FIFO)
//! bit  31         segment: uncommitted
//! ```

const KIND_SHIFT: u32 = 22;
const VALUE_SHIFT: u32 = 8;
const VALUE_MASK: u32 = (1 << 13) - 1;
const KEY_MASK: u32 = 0xFF;
const PAYLOAD_MASK: u32 = (1 << KIND_SHIFT) - 1;

/// What a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody's.
    Free,
    /// In the index.
    Item,
    /// Part of a long value.
    Segment,
    /// An item that left the index while it was leased.
    Zombie,
}

/// The word. Its meaning depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta(pub(crate) u32);

impl Meta {
    /// A free chunk.
    pub(crate) const FREE: Self = Self(0);
    /// Key length that stands for "see the long-key extension".
    pub(crate) const KEY_ESCAPE: usize = 255;

    pub(crate) const MAIN: u32 = 1 << 21;
    pub(crate) const TTL_NEAR: u32 = 1 << 24;
    pub(crate) const TTL_FAR: u32 = 1 << 25;
    pub(crate) const TTL: u32 = Self::TTL_NEAR | Self::TTL_FAR;
    pub(crate) const CHAIN: u32 = 1 << 26;
    pub(crate) const VERSION: u32 = 1 << 27;
    pub(crate) const CLIENT_FLAGS: u32 = 1 << 28;
    pub(crate) const LEASED: u32 = 1 << 29;
    pub(crate) const UNCUT: u32 = 1 << 29;
    pub(crate) const MARKED: u32 = 1 << 30;
    pub(crate) const SEGMENT_LEASED: u32 = 1 << 30;
    pub(crate) const USED: u32 = 1 << 31;
    pub(crate) const UNCOMMITTED: u32 = 1 << 31;
    /// What S3-FIFO knows of an item.
    pub(crate) const STANDING: u32 = Self::MAIN | Self::USED;
    /// What an item keeps when it is written over in its place.
    pub(crate) const KEPT: u32 = Self::MARKED | Self::STANDING;

    /// An item's word. `flags` are those above; `value_field` is the value's length, or the class.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both are asserted to fit their fields"
    )]
    pub(crate) fn item(key_len: usize, value_field: usize, flags: u32) -> Self {
        debug_assert!(value_field <= VALUE_MASK as usize);
        let key = key_len.min(Self::KEY_ESCAPE) as u32;
        Self(key | (value_field as u32) << VALUE_SHIFT | 1 << KIND_SHIFT | flags)
    }

    /// A segment with this much payload.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a segment is at most a page"
    )]
    pub(crate) fn segment(payload_bytes: usize) -> Self {
        debug_assert!(payload_bytes <= PAYLOAD_MASK as usize);
        Self(payload_bytes as u32 | 2 << KIND_SHIFT)
    }

    /// The kind.
    #[inline]
    pub(crate) const fn kind(self) -> Kind {
        match (self.0 >> KIND_SHIFT) & 3 {
            0 => Kind::Free,
            1 => Kind::Item,
            2 => Kind::Segment,
            _ => Kind::Zombie,
        }
    }

    /// The same item as a zombie.
    pub(crate) const fn into_zombie(self) -> Self {
        Self(self.0 | 3 << KIND_SHIFT)
    }

    /// Whether one of these flags is set.
    #[inline]
    pub(crate) const fn has(self, flags: u32) -> bool {
        self.0 & flags != 0
    }

    /// With these flags set.
    #[inline]
    pub(crate) const fn with(self, flags: u32) -> Self {
        Self(self.0 | flags)
    }

    /// With these flags cleared.
    #[inline]
    pub(crate) const fn without(self, flags: u32) -> Self {
        Self(self.0 & !flags)
    }

    /// The key length, unless it is `KEY_ESCAPE`.
    #[inline]
    pub(crate) const fn key_field(self) -> usize {
        (self.0 & KEY_MASK) as usize
    }

    /// The value length, or the class.
    #[inline]
    pub(crate) const fn value_field(self) -> usize {
        ((self.0 >> VALUE_SHIFT) & VALUE_MASK) as usize
    }

    /// With another value length or class.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "asserted to fit the field")]
    pub(crate) fn with_value_field(self, value_field: usize) -> Self {
        debug_assert!(value_field <= VALUE_MASK as usize);
        Self(self.0 & !(VALUE_MASK << VALUE_SHIFT) | (value_field as u32) << VALUE_SHIFT)
    }

    /// A segment's payload in bytes.
    #[inline]
    pub(crate) const fn payload_bytes(self) -> usize {
        (self.0 & PAYLOAD_MASK) as usize
    }

    /// With another payload length.
    #[expect(clippy::cast_possible_truncation, reason = "asserted to fit the field")]
    pub(crate) fn with_payload_bytes(self, payload_bytes: usize) -> Self {
        debug_assert!(payload_bytes <= PAYLOAD_MASK as usize);
        Self(self.0 & !PAYLOAD_MASK | payload_bytes as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Meta};

    #[test]
    fn fields_do_not_disturb_each_other() {
        for (key_len, value_len) in [(0, 0), (254, 0), (0, 8_191), (254, 8_191), (7, 4000)] {
            for flags in [
                0,
                Meta::TTL_NEAR,
                Meta::TTL_FAR | Meta::CHAIN,
                Meta::STANDING,
            ] {
                let meta = Meta::item(key_len, value_len, flags);
                assert_eq!(meta.kind(), Kind::Item);
                assert_eq!(meta.key_field(), key_len);
                assert_eq!(meta.value_field(), value_len);
                assert_eq!(meta.has(Meta::TTL), flags & Meta::TTL != 0);
                assert_eq!(meta.with_value_field(5).with_value_field(value_len), meta);
                assert_eq!(meta.with(Meta::MARKED).without(Meta::MARKED), meta);
                assert_eq!(meta.into_zombie().kind(), Kind::Zombie);
                assert_eq!(meta.into_zombie().key_field(), key_len);
            }
        }
    }

    #[test]
    fn long_keys_escape() {
        assert_eq!(Meta::item(255, 0, 0).key_field(), Meta::KEY_ESCAPE);
        assert_eq!(Meta::item(16_383, 0, 0).key_field(), Meta::KEY_ESCAPE);
    }

    #[test]
    fn segment_holds_a_page() {
        let meta = Meta::segment(65_524).with(Meta::UNCOMMITTED);
        assert_eq!(meta.kind(), Kind::Segment);
        assert_eq!(meta.payload_bytes(), 65_524);
        assert_eq!(meta.with_payload_bytes(3).payload_bytes(), 3);
        assert!(meta.with_payload_bytes(3).has(Meta::UNCOMMITTED));
    }
}
