//! An argument or a value: short ones stand in their frame, long ones come in parts.

use super::items::Item;
use super::varint::Reader;
use super::{INLINE_BYTES_MAX, VALUE_BYTES_MAX, WireError, varint};

/// An argument of a command, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob<'a> {
    /// At most [`INLINE_BYTES_MAX`] bytes.
    Whole(&'a [u8]),
    /// A longer one of this length, at most [`VALUE_BYTES_MAX`]: its parts are what comes next in
    /// its stream.
    InParts(usize),
}

impl<'a> Item<'a> for Blob<'a> {
    #[inline]
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let bytes_count = reader.bounded(VALUE_BYTES_MAX)?;
        if bytes_count > INLINE_BYTES_MAX {
            return Ok(Self::InParts(bytes_count));
        }
        reader.bytes(bytes_count).map(Blob::Whole)
    }
}

impl Blob<'_> {
    /// Bytes that it takes in a frame.
    #[inline]
    pub(super) fn wire_bytes(&self) -> usize {
        match *self {
            Self::Whole(bytes) => varint::bytes_count(bytes.len() as u64) + bytes.len(),
            Self::InParts(bytes_count) => varint::bytes_count(bytes_count as u64),
        }
    }

    /// Appends it.
    ///
    /// # Panics
    /// If its length is not that of its variant: the other side could not read it.
    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Whole(bytes) => {
                assert!(bytes.len() <= INLINE_BYTES_MAX);
                varint::encode(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Self::InParts(bytes_count) => {
                assert!(bytes_count > INLINE_BYTES_MAX);
                assert!(bytes_count <= VALUE_BYTES_MAX);
                varint::encode(bytes_count as u64, out);
            }
        }
    }
}
