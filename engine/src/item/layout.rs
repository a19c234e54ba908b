//! Where the parts of an item lie inside its chunk.
//!
//! ```text
//! byte  0      4          8      12
//!       meta | previous | next | TTL 12 or 16 | chain 12 | version 8 | client flags 4
//!            | long key 4 | key | value
//!
//! TTL:      wheel previous | wheel next | deadline u32 (ms modulo 2^32), or u64 in two words
//! chain:    first segment | last segment | value length u32
//! long key: key length u32
//!
//! segment:  meta | previous | next | payload
//! ```
//! Extensions are there only when flagged. A 16 B key with a 32 B value takes 12 + 48 = 60 bytes,
//! 72 with a deadline less than 24 days away.

use crate::item::header::{Kind, Meta};
use crate::slab::{Handle, Slab};
use crate::version::Version;

/// Bytes before a segment's payload.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 12;

const HEADER_BYTES: u8 = 12;
const TTL_AT: usize = HEADER_BYTES as usize;
const TTL_NEAR_BYTES: u8 = 12;
const TTL_FAR_BYTES: u8 = 16;
const CHAIN_BYTES: u8 = 12;
const VERSION_BYTES: u8 = 8;
const CLIENT_FLAGS_BYTES: u8 = 4;
const LONG_KEY_BYTES: usize = 4;

const FLAGS_SHIFT: u32 = 24;
const TTL_BYTES: [u8; 4] = [0, TTL_NEAR_BYTES, TTL_FAR_BYTES, 0];
const KEY_AT: [u8; 32] = build_key_at();

const fn build_key_at() -> [u8; 32] {
    let mut table = [0; 32];
    let mut flags = 0;
    while flags < 32u32 {
        let meta = flags << FLAGS_SHIFT;
        let mut at = HEADER_BYTES + TTL_BYTES[(flags & 3) as usize];
        if meta & Meta::CHAIN != 0 {
            at += CHAIN_BYTES;
        }
        if meta & Meta::VERSION != 0 {
            at += VERSION_BYTES;
        }
        if meta & Meta::CLIENT_FLAGS != 0 {
            at += CLIENT_FLAGS_BYTES;
        }
        table[flags as usize] = at;
        flags += 1;
    }
    table
}

/// How a deadline is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TtlForm {
    /// Not at all.
    None,
    /// As 32 bits, unambiguous because it lies less than 2^32 ms after the wheel's time.
    Near,
    /// As 64 bits.
    Far,
}

impl TtlForm {
    /// The flag that says so.
    pub(crate) const fn flag(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Near => Meta::TTL_NEAR,
            Self::Far => Meta::TTL_FAR,
        }
    }
}

/// Offsets and sizes of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The extension flags this was made from.
    pub(crate) flags: u32,
    /// Where the key starts.
    pub(crate) key_at: usize,
    /// Length of the key.
    pub(crate) key_len: usize,
    /// Length of the value in this chunk: 0 if it is a chain.
    pub(crate) inline_len: usize,
}

impl Layout {
    /// The flags that take room in the chunk.
    pub(crate) const EXTENSIONS: u32 = Meta::TTL | Meta::CHAIN | Meta::VERSION | Meta::CLIENT_FLAGS;

    /// The layout of an item with these extensions.
    #[inline]
    pub(crate) fn new(key_len: usize, inline_len: usize, extensions: u32) -> Self {
        let long = if key_len >= Meta::KEY_ESCAPE {
            LONG_KEY_BYTES
        } else {
            0
        };
        let key_at = usize::from(KEY_AT[((extensions >> FLAGS_SHIFT) & 31) as usize]) + long;
        Self {
            flags: extensions & Self::EXTENSIONS,
            key_at,
            key_len,
            inline_len,
        }
    }

    /// The layout of the item at `handle`, whose meta word is `meta`.
    #[inline]
    pub(crate) fn of(slab: &Slab, handle: Handle, meta: Meta) -> Self {
        let key_at = usize::from(KEY_AT[((meta.0 >> FLAGS_SHIFT) & 31) as usize]);
        let inline_len = if meta.has(Meta::CHAIN) {
            0
        } else {
            meta.value_field()
        };
        let flags = meta.0 & Self::EXTENSIONS;
        if meta.key_field() == Meta::KEY_ESCAPE {
            let key_len = slab.word(handle, key_at) as usize;
            Self {
                flags,
                key_at: key_at + LONG_KEY_BYTES,
                key_len,
                inline_len,
            }
        } else {
            Self {
                flags,
                key_at,
                key_len: meta.key_field(),
                inline_len,
            }
        }
    }

    /// Where the inline value starts.
    #[inline]
    pub(crate) const fn value_at(&self) -> usize {
        self.key_at + self.key_len
    }

    /// Bytes in the chunk.
    #[inline]
    pub(crate) const fn bytes(&self) -> usize {
        self.value_at() + self.inline_len
    }

    /// Writes what the layout itself needs in the chunk, besides the meta word.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "keys are at most 16 KiB")]
    pub(crate) fn write_key(&self, slab: &mut Slab, handle: Handle, key: &[u8]) {
        debug_assert!(key.len() == self.key_len);
        if self.key_len >= Meta::KEY_ESCAPE {
            slab.set_word(handle, self.key_at - LONG_KEY_BYTES, self.key_len as u32);
        }
        slab.bytes_mut(handle, self.key_at, self.key_len)
            .copy_from_slice(key);
    }
}

/// The segments of a long value: the ends of their chain, and their payload in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) first: Handle,
    pub(crate) last: Handle,
    pub(crate) len: usize,
}

impl Segments {
    /// Of a value without bytes.
    pub(crate) const NONE: Self = Self {
        first: Handle::NONE,
        last: Handle::NONE,
        len: 0,
    };
}

/// The segment behind this one. The last one's link is its item, or nothing while it has none.
#[inline]
pub(crate) fn segment_after(slab: &Slab, segment: Handle) -> Option<Handle> {
    let next = slab.next(segment).some()?;
    slab.prefetch_onwards(segment, next);
    (slab.meta(next).kind() == Kind::Segment).then_some(next)
}

/// The key of the item at a handle.
#[inline]
pub(crate) fn key_of(slab: &Slab, handle: Handle) -> &[u8] {
    let layout = Layout::of(slab, handle, slab.meta(handle));
    slab.bytes(handle, layout.key_at, layout.key_len)
}

/// Access to the extensions of the item at a handle. The meta word says which are there.
pub(crate) struct Extensions;

impl Extensions {
    /// The wheel's back link.
    #[inline]
    pub(crate) fn wheel_previous(slab: &Slab, handle: Handle) -> Handle {
        Handle(slab.word(handle, TTL_AT))
    }

    pub(crate) fn set_wheel_previous(slab: &mut Slab, handle: Handle, to: Handle) {
        slab.set_word(handle, TTL_AT, to.0);
    }

    /// The wheel's forward link.
    #[inline]
    pub(crate) fn wheel_next(slab: &Slab, handle: Handle) -> Handle {
        Handle(slab.word(handle, TTL_AT + 4))
    }

    pub(crate) fn set_wheel_next(slab: &mut Slab, handle: Handle, to: Handle) {
        slab.set_word(handle, TTL_AT + 4, to.0);
    }

    /// The deadline in ms. `base_ms` is the wheel's time: at or before every stored deadline.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "arithmetic modulo 2^32")]
    pub(crate) fn deadline_ms(slab: &Slab, handle: Handle, meta: Meta, base_ms: u64) -> u64 {
        let low = slab.word(handle, TTL_AT + 8);
        if meta.has(Meta::TTL_FAR) {
            u64::from(low) | u64::from(slab.word(handle, TTL_AT + 12)) << 32
        } else {
            base_ms + u64::from(low.wrapping_sub(base_ms as u32))
        }
    }

    /// Stores a deadline in the form that `meta` says.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "split into words, or modulo 2^32"
    )]
    pub(crate) fn set_deadline_ms(slab: &mut Slab, handle: Handle, meta: Meta, deadline_ms: u64) {
        slab.set_word(handle, TTL_AT + 8, deadline_ms as u32);
        if meta.has(Meta::TTL_FAR) {
            slab.set_word(handle, TTL_AT + 12, (deadline_ms >> 32) as u32);
        }
    }

    /// The segments of a chained value.
    #[inline]
    pub(crate) fn chain(slab: &Slab, handle: Handle, meta: Meta) -> Segments {
        let at = Self::chain_at(meta);
        Segments {
            first: Handle(slab.word(handle, at)),
            last: Handle(slab.word(handle, at + 4)),
            len: slab.word(handle, at + 8) as usize,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "values are at most 512 MiB"
    )]
    pub(crate) fn set_chain(slab: &mut Slab, handle: Handle, meta: Meta, chain: Segments) {
        let at = Self::chain_at(meta);
        slab.set_word(handle, at, chain.first.0);
        slab.set_word(handle, at + 4, chain.last.0);
        slab.set_word(handle, at + 8, chain.len as u32);
    }

    /// The version, if the item was given one.
    #[inline]
    pub(crate) fn version(slab: &Slab, handle: Handle, meta: Meta) -> Option<Version> {
        meta.has(Meta::VERSION).then(|| {
            let at = Self::version_at(meta);
            let (low, high) = (slab.word(handle, at), slab.word(handle, at + 4));
            Version(u64::from(low) | u64::from(high) << 32)
        })
    }

    /// Stores the version in the room that `meta` says is there.
    #[expect(clippy::cast_possible_truncation, reason = "split into words")]
    pub(crate) fn set_version(slab: &mut Slab, handle: Handle, meta: Meta, version: Version) {
        debug_assert!(meta.has(Meta::VERSION));
        let at = Self::version_at(meta);
        slab.set_word(handle, at, version.0 as u32);
        slab.set_word(handle, at + 4, (version.0 >> 32) as u32);
    }

    #[inline]
    fn version_at(meta: Meta) -> usize {
        let before = meta.0 & (Meta::TTL | Meta::CHAIN);
        usize::from(KEY_AT[(before >> FLAGS_SHIFT) as usize])
    }

    #[inline]
    fn chain_at(meta: Meta) -> usize {
        debug_assert!(meta.has(Meta::CHAIN));
        TTL_AT + usize::from(TTL_BYTES[((meta.0 >> FLAGS_SHIFT) & 3) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::{Extensions, Layout, Segments};
    use crate::item::header::Meta;
    use crate::slab::{ClassId, Handle, Slab};
    use crate::version::Version;

    #[test]
    fn budgeted_sizes_hold() {
        assert_eq!(Layout::new(16, 32, 0).bytes(), 60);
        assert_eq!(Layout::new(16, 32, Meta::TTL_NEAR).bytes(), 72);
        assert_eq!(Layout::new(16, 32, Meta::TTL_FAR).bytes(), 76);
        assert_eq!(Layout::new(255, 0, 0).bytes(), 12 + 4 + 255);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for key_len in [0, 1, 254, 255, 256, 4000] {
            for flags in [
                0,
                Meta::TTL_NEAR,
                Meta::TTL_FAR,
                Meta::TTL_FAR | Meta::CHAIN,
                Meta::VERSION,
                Meta::VERSION | Meta::TTL_NEAR,
                Meta::VERSION | Meta::TTL_NEAR | Meta::CHAIN,
                Meta::VERSION | Meta::TTL_FAR | Meta::CHAIN,
            ] {
                let mut slab = Slab::new(1).expect("address space");
                let handle = slab.allocate(ClassId::SEGMENT_LARGE).expect("a page");
                let chain = Segments {
                    first: handle,
                    last: Handle(9),
                    len: 77,
                };
                let layout = Layout::new(key_len, 0, flags);
                let meta = Meta::item(key_len, 0, flags);
                slab.set_meta(handle, meta);
                let key = vec![b'k'; key_len];
                layout.write_key(&mut slab, handle, &key);
                if meta.has(Meta::TTL) {
                    Extensions::set_deadline_ms(&mut slab, handle, meta, (7 << 32) + 5);
                    let base_ms = (7 << 32) - 1;
                    let deadline = Extensions::deadline_ms(&slab, handle, meta, base_ms);
                    assert_eq!(deadline, (7 << 32) + 5);
                }
                if meta.has(Meta::CHAIN) {
                    Extensions::set_chain(&mut slab, handle, meta, chain);
                    assert_eq!(Extensions::chain(&slab, handle, meta), chain);
                }
                if meta.has(Meta::VERSION) {
                    let version = Version(0x0102_0304_0506_0708);
                    Extensions::set_version(&mut slab, handle, meta, version);
                    assert_eq!(Extensions::version(&slab, handle, meta), Some(version));
                } else {
                    assert_eq!(Extensions::version(&slab, handle, meta), None);
                }
                if meta.has(Meta::CHAIN) {
                    assert_eq!(Extensions::chain(&slab, handle, meta), chain);
                }
                assert_eq!(Layout::of(&slab, handle, meta), layout);
                assert_eq!(slab.bytes(handle, layout.key_at, key_len), &key[..]);
            }
        }
    }
}
