//! Lists inside a body: checked when the frame is decoded, read when they are wanted.

use std::fmt;
use std::marker::PhantomData;

use super::WireError;
use super::varint::Reader;

/// How one item of a list is read.
pub(super) trait Item<'a>: Sized {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError>;
}

/// The items of a list, in order. Reading them allocates nothing and does not fail.
pub struct Items<'a, T> {
    reader: Reader<'a>,
    item: PhantomData<fn() -> T>,
}

#[expect(
    private_bounds,
    reason = "whoever decodes a frame knows how to read its items"
)]
impl<'a, T: Item<'a>> Items<'a, T> {
    /// All that is left in the body, at least one item. `is_right` is asked of each, and whether
    /// another follows.
    #[inline]
    pub(super) fn decode_some(
        body: Reader<'a>,
        mut is_right: impl FnMut(&T, bool) -> bool,
    ) -> Result<Self, WireError> {
        let mut reader = body;
        loop {
            let item = T::decode(&mut reader)?;
            if !is_right(&item, !reader.is_empty()) {
                return Err(WireError::Malformed);
            }
            if reader.is_empty() {
                return Ok(Self {
                    reader: body,
                    item: PhantomData,
                });
            }
        }
    }
}

impl<'a, T: Item<'a>> Iterator for Items<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.reader.is_empty() {
            return None;
        }
        Some(T::decode(&mut self.reader).expect("checked when the frame was decoded"))
    }
}

impl<T> Clone for Items<'_, T> {
    fn clone(&self) -> Self {
        Self {
            reader: self.reader,
            item: PhantomData,
        }
    }
}

impl<T> PartialEq for Items<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        // Each item has one encoding.
        self.reader.rest() == other.reader.rest()
    }
}

impl<'a, T: Item<'a> + fmt::Debug> fmt::Debug for Items<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
