//! What values contain: bytes that follow from the seed and the key, so that any reply can be
//! checked without remembering what was written.
//!
//! A value is cut from a fixed pattern at an offset that depends on the key; its first 8 bytes
//! are 48 bits of a hash of seed and key, so two keys' values differ (except with chance 2^-48
//! for values of 8 bytes or more). All bytes are letters, digits, `-` and `_`: they need no
//! escaping in JSON. Writing is two copies, checking two compares, neither allocates.

use super::mix;
use super::sizes::ValueSizes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Length of the pattern: small enough to stay in the CPU's first two cache levels.
const PATTERN_BYTES: usize = 16 * 1024;
const HEAD_BYTES: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The values of all keys.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    seed: u64,
    sizes: ValueSizes,
    pattern: Box<[u8]>,
}

impl Values {
    /// Values of the given lengths. `seed` decides lengths and contents.
    pub(crate) fn new(sizes: ValueSizes, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let pattern = (0..PATTERN_BYTES)
            .map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())])
            .collect();
        Self {
            seed: mix(seed),
            sizes,
            pattern,
        }
    }

    /// The value of key number `key`.
    pub(crate) fn of(&self, key: u64) -> Value<'_> {
        let hash = mix(self.seed ^ key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut head = [0; HEAD_BYTES];
        for (index, byte) in head.iter_mut().enumerate() {
            let digit = usize::try_from(hash >> (6 * index) & 63).expect("six bits");
            *byte = ALPHABET[digit];
        }
        let size = self.sizes.sample(mix(hash));
        Value {
            head,
            pattern: &self.pattern,
            offset: usize::try_from(hash >> 48).expect("16 bits") % PATTERN_BYTES,
            len: usize::try_from(size).expect("bounded by VALUE_BYTES_MAX"),
        }
    }
}

/// One key's value.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    head: [u8; HEAD_BYTES],
    pattern: &'a [u8],
    offset: usize,
    len: usize,
}

impl Value<'_> {
    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends the whole value.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut position = 0;
        while position < self.len {
            let piece = self.piece_at(position);
            out.extend_from_slice(piece);
            position += piece.len();
        }
    }

    /// Whether the value has `bytes` at `position`.
    pub(crate) fn matches(&self, mut position: usize, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if position >= self.len {
                return false;
            }
            let piece = self.piece_at(position);
            let common = piece.len().min(bytes.len());
            if piece[..common] != bytes[..common] {
                return false;
            }
            bytes = &bytes[common..];
            position += common;
        }
        true
    }

    /// The longest contiguous part that starts at `position`, which must be below the length.
    fn piece_at(&self, position: usize) -> &[u8] {
        let left = self.len - position;
        let piece = if position < HEAD_BYTES {
            &self.head[position..]
        } else {
            &self.pattern[(self.offset + position) % PATTERN_BYTES..]
        };
        &piece[..piece.len().min(left)]
    }
}

#[cfg(test)]
mod tests {
    use super::{PATTERN_BYTES, Values};
    use crate::workload::sizes::ValueSizes;
    use std::collections::HashSet;

    fn values(spec: &str, seed: u64) -> Values {
        Values::new(ValueSizes::parse(spec).expect("a spec"), seed)
    }

    fn bytes(values: &Values, key: u64) -> Vec<u8> {
        let mut out = Vec::new();
        values.of(key).write(&mut out);
        assert_eq!(out.len(), values.of(key).len());
        out
    }

    #[test]
    fn a_value_follows_from_seed_and_key_alone() {
        let spec = "uniform:0..100";
        assert_eq!(bytes(&values(spec, 1), 5), bytes(&values(spec, 1), 5));
        assert_ne!(bytes(&values("32", 1), 5), bytes(&values("32", 2), 5));
        assert_ne!(bytes(&values("32", 1), 5), bytes(&values("32", 1), 6));
    }

    #[test]
    fn keys_have_different_values() {
        let values = values("8", 9);
        let distinct: HashSet<Vec<u8>> = (0..100_000).map(|key| bytes(&values, key)).collect();
        assert_eq!(distinct.len(), 100_000);
    }

    #[test]
    fn a_value_matches_itself_cut_anywhere_and_nothing_else() {
        for size in [0, 1, 7, 8, 9, 100, PATTERN_BYTES + 100, 3 * PATTERN_BYTES] {
            let values = values(&size.to_string(), 3);
            let value = values.of(77);
            let whole = bytes(&values, 77);
            assert_eq!(whole.len(), size);
            for cut in (0..=size).step_by(1 + size / 50) {
                assert!(value.matches(0, &whole[..cut]), "{size} {cut}");
                assert!(value.matches(cut, &whole[cut..]), "{size} {cut}");
                if cut < size {
                    let mut wrong = whole.clone();
                    wrong[cut] ^= 1;
                    assert!(!value.matches(0, &wrong), "{size} {cut}");
                }
            }
            let mut longer = whole.clone();
            longer.push(b'A');
            assert!(!value.matches(0, &longer), "{size}");
        }
    }

    #[test]
    fn values_need_no_escaping_in_json() {
        let values = values("5000", 4);
        let text = String::from_utf8(bytes(&values, 1)).expect("ascii");
        let json = serde_json::to_string(&text).expect("json");
        assert_eq!(json.len(), text.len() + 2);
    }
}
