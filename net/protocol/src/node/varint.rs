//! Numbers of 1 to 10 bytes: seven bits in each, the lowest first; the top bit says that more come.
//! Each number has one encoding: the shortest.

use super::WireError;

/// Longest encoding of a `u64`.
pub(super) const BYTES_MAX: usize = 10;

/// Appends `value`.
#[inline]
pub(super) fn encode(value: u64, out: &mut Vec<u8>) {
    // Nearly all numbers here are small.
    if let Ok(byte @ 0..0x80) = u8::try_from(value) {
        return out.push(byte);
    }
    encode_long(value, out);
}

fn encode_long(mut value: u64, out: &mut Vec<u8>) {
    let mut bytes = [0; BYTES_MAX];
    let mut count = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[count] = if value == 0 { low } else { low | 0x80 };
        count += 1;
        if value == 0 {
            return out.extend_from_slice(&bytes[..count]);
        }
    }
}

/// Number of bytes that `value` takes.
pub(super) const fn bytes_count(value: u64) -> usize {
    let bits = (u64::BITS - value.leading_zeros()) as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
}

/// A body that is read from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// What has not been read.
    #[inline]
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing is left.
    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(WireError::Malformed)
        }
    }

    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(WireError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok((*byte).into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().enumerate().take(BYTES_MAX) {
            // The tenth byte holds one bit.
            if index == BYTES_MAX - 1 && byte > 1 {
                return Err(WireError::Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if byte == 0 && index > 0 {
                    return Err(WireError::Malformed);
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Malformed)
    }

    /// A varint of at most `max`.
    #[inline]
    pub(super) fn bounded(&mut self, max: usize) -> Result<usize, WireError> {
        let value = usize::try_from(self.varint()?).map_err(|_| WireError::Malformed)?;
        if value <= max {
            Ok(value)
        } else {
            Err(WireError::Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, Reader, WireError, bytes_count, encode};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    #[test]
    fn lengths_grow_with_each_seven_bits() {
        for bits in 1..=64u32 {
            let largest = u64::MAX >> (64 - bits);
            let bytes = encoded(largest);
            assert_eq!(bytes.len(), bits.div_ceil(7) as usize);
            assert_eq!(bytes.len(), bytes_count(largest));
            assert_eq!(Reader::new(&bytes).varint(), Ok(largest));
        }
        assert_eq!(encoded(0), [0]);
        assert_eq!(bytes_count(0), 1);
        assert_eq!(encoded(u64::MAX).len(), BYTES_MAX);
    }

    #[test]
    fn only_the_shortest_encoding_is_read() {
        for wrong in [
            &[][..],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x80, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            &[0xff; 11],
        ] {
            assert_eq!(
                Reader::new(wrong).varint(),
                Err(WireError::Malformed),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn numbers_survive(value in any::<u64>(), shift in 0..64u32) {
            let value = value >> shift;
            let bytes = encoded(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));
            prop_assert_eq!(bytes.len(), bytes_count(value));
        }
    }
}
