//! A set of ranges.

use crate::{RANGES_COUNT, Range};

const WORDS: usize = RANGES_COUNT as usize / 64;

/// Bytes of an encoded set.
pub const RANGE_SET_BYTES: usize = WORDS * 8;

/// Some ranges: 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet([u64; WORDS]);

impl RangeSet {
    /// None.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds a range.
    #[inline]
    pub fn insert(&mut self, range: Range) {
        let index = usize::from(range.index());
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Whether it is among them.
    #[inline]
    #[must_use]
    pub fn contains(&self, range: Range) -> bool {
        let index = usize::from(range.index());
        self.0[index / 64] & 1 << (index % 64) != 0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Adds all that are in `other`.
    pub fn insert_all(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        (0..).zip(&self.0).flat_map(|(index, &word)| {
            let rest = |word: u64| Some(word).filter(|&word| word != 0);
            let words = std::iter::successors(rest(word), move |word| rest(word & (word - 1)));
            words.filter_map(move |word| {
                let bit = u16::try_from(word.trailing_zeros()).expect("below 64");
                Range::from_index(64 * index + bit)
            })
        })
    }

    /// A bit for each range, the first in the lowest bit of the first byte.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// What [`encode`](Self::encode) gave; `None` for another length.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut set = Self::EMPTY;
        let (words, rest) = bytes.as_chunks();
        if words.len() != WORDS || !rest.is_empty() {
            return None;
        }
        for (word, bytes) in set.0.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(set)
    }
}

impl Default for RangeSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FromIterator<Range> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let mut set = Self::EMPTY;
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::{RANGE_SET_BYTES, RangeSet};
    use crate::Range;

    #[test]
    fn what_is_inserted_is_there_and_comes_back_from_bytes() {
        let some = |range: &Range| range.index() % 7 == 3;
        let set: RangeSet = Range::all().filter(some).collect();
        assert!(Range::all().all(|range| set.contains(range) == some(&range)));
        assert!(set.iter().eq(Range::all().filter(some)));
        let bytes = set.encode();
        assert_eq!(bytes.len(), RANGE_SET_BYTES);
        assert_eq!(RangeSet::decode(&bytes).as_ref(), Some(&set));
        assert_eq!(RangeSet::decode(&bytes[1..]), None);
        assert!(RangeSet::EMPTY.is_empty());
        let mut all = set.clone();
        all.insert_all(&Range::all().filter(|range| !some(range)).collect());
        assert!(all.iter().eq(Range::all()));
    }
}
