//! Writes that wait, merged by key. Pure.
//!
//! | then | set or delete | increment |
//! |---|---|---|
//! | nothing | kept | kept |
//! | a set or a delete | takes its place | is kept behind it |
//! | an increment | takes its place | is added |
//! | a set or a delete with an increment behind | takes the place of both | is added to the increment |

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

/// Memory that an entry takes beside key and value, about.
const ENTRY_BYTES: usize = 128;

/// A write, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Set { value: Bytes, ttl: Option<Duration> },
    Delete,
    Increment(i64),
}

/// What is to be sent for a key: `first`, then the increment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    /// A set or a delete.
    pub(crate) first: Option<Write>,
    pub(crate) increment: Option<i64>,
}

/// Why a write was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no room; the write again.
    Full(Write),
    /// The increments' sum is no number of 64 bits.
    Overflow,
}

#[derive(Debug)]
pub(crate) struct Buffer {
    entries: HashMap<Bytes, Merged>,
    bytes: usize,
    items_max: usize,
    bytes_max: usize,
}

impl Buffer {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            bytes: 0,
            items_max,
            bytes_max,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the next new key is refused.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.items_max || self.bytes >= self.bytes_max
    }

    /// Merges a write. An empty buffer takes one of any size.
    pub(crate) fn add(&mut self, key: &[u8], write: Write) -> Result<(), Refusal> {
        let old = self.entries.get_mut(key);
        let size_before = old.as_ref().map_or(0, |old| old.size(key));
        let size_after = match &write {
            Write::Increment(_) if old.is_some() => size_before,
            write => ENTRY_BYTES + key.len() + write.value_bytes(),
        };
        let bytes = self.bytes - size_before + size_after;
        let lacks_bytes = bytes > self.bytes_max && size_after > size_before;
        match old {
            Some(_) if lacks_bytes => return Err(Refusal::Full(write)),
            Some(merged) => merged.add(write)?,
            None => {
                let lacks_items = self.entries.len() >= self.items_max;
                if !self.entries.is_empty() && (lacks_items || lacks_bytes) {
                    return Err(Refusal::Full(write));
                }
                let mut merged = Merged::default();
                merged.add(write)?;
                self.entries.insert(Bytes::copy_from_slice(key), merged);
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// All there is; leaves it empty.
    pub(crate) fn take(&mut self) -> Vec<(Bytes, Merged)> {
        self.bytes = 0;
        std::mem::take(&mut self.entries).into_iter().collect()
    }
}

impl Merged {
    fn add(&mut self, write: Write) -> Result<(), Refusal> {
        match write {
            Write::Increment(by) => {
                let sum = self.increment.unwrap_or(0).checked_add(by);
                self.increment = Some(sum.ok_or(Refusal::Overflow)?);
            }
            first => {
                *self = Self {
                    first: Some(first),
                    increment: None,
                }
            }
        }
        Ok(())
    }

    fn size(&self, key: &[u8]) -> usize {
        ENTRY_BYTES + key.len() + self.first.as_ref().map_or(0, Write::value_bytes)
    }
}

impl Write {
    fn value_bytes(&self) -> usize {
        match self {
            Self::Set { value, .. } => value.len(),
            Self::Delete | Self::Increment(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bytes::Bytes;
    use proptest::prelude::{Just, Strategy, prop};
    use proptest::{prop_assert_eq, prop_oneof, proptest};

    use super::{Buffer, ENTRY_BYTES, Merged, Refusal, Write};

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn set(number: i64) -> Write {
        Write::Set {
            value: Bytes::from(number.to_string()),
            ttl: None,
        }
    }

    fn any_write() -> impl Strategy<Value = Write> {
        prop_oneof![
            (-5..5_i64).prop_map(set),
            Just(Write::Delete),
            (-5..5_i64).prop_map(Write::Increment)
        ]
    }

    /// What a server has after a write.
    fn execute(items: &mut HashMap<Bytes, i64>, key: &Bytes, write: &Write) {
        match write {
            Write::Set { value, .. } => {
                let number = std::str::from_utf8(value)
                    .expect("digits")
                    .parse()
                    .expect("a number");
                items.insert(key.clone(), number);
            }
            Write::Delete => drop(items.remove(key)),
            Write::Increment(by) => *items.entry(key.clone()).or_default() += by,
        }
    }

    proptest! {
        #[test]
        fn merged_writes_leave_what_all_of_them_would(
            before in prop::option::of(0..9_i64),
            writes in prop::collection::vec((0..3_usize, any_write()), 0..30),
        ) {
            let keys = ["a", "b", "c"].map(key);
            let there = before.map(|number| (keys[0].clone(), number));
            let mut each: HashMap<_, _> = there.into_iter().collect();
            let mut merged = each.clone();
            let mut buffer = Buffer::new(10, 10_000);
            for (index, write) in &writes {
                execute(&mut each, &keys[*index], write);
                prop_assert_eq!(buffer.add(&keys[*index], write.clone()), Ok(()));
            }
            for (key, Merged { first, increment }) in buffer.take() {
                first.iter().for_each(|write| execute(&mut merged, &key, write));
                increment.iter().for_each(|by| execute(&mut merged, &key, &Write::Increment(*by)));
            }
            prop_assert_eq!(merged, each);
        }
    }

    #[test]
    fn keys_are_bounded_and_known_ones_are_merged_all_the_same() {
        let mut buffer = Buffer::new(2, 10_000);
        for name in ["a", "b"] {
            buffer.add(&key(name), Write::Increment(1)).expect("room");
        }
        assert!(buffer.is_full());
        let refused = buffer.add(&key("c"), Write::Delete);
        assert_eq!(refused, Err(Refusal::Full(Write::Delete)));
        buffer.add(&key("a"), Write::Increment(1)).expect("merged");
        assert_eq!(buffer.take().len(), 2);
        buffer.add(&key("c"), Write::Delete).expect("room again");
    }

    #[test]
    fn bytes_are_bounded_and_counted_once() {
        let mut buffer = Buffer::new(10, 2 * ENTRY_BYTES + 10);
        let value = |length| Write::Set {
            value: Bytes::from(vec![0; length]),
            ttl: None,
        };
        buffer.add(&key("a"), value(8)).expect("room");
        assert!(matches!(
            buffer.add(&key("b"), value(1)),
            Err(Refusal::Full(_))
        ));
        buffer.add(&key("a"), value(0)).expect("shorter");
        buffer.add(&key("b"), value(8)).expect("room again");
        assert!(matches!(
            buffer.add(&key("a"), value(1)),
            Err(Refusal::Full(_))
        ));
        buffer.take();
        buffer
            .add(&key("a"), value(100_000))
            .expect("alone, one of any size");
        assert!(buffer.is_full());
    }

    #[test]
    fn a_sum_that_overflows_is_refused_and_the_rest_is_kept() {
        let mut buffer = Buffer::new(10, 10_000);
        buffer
            .add(&key("a"), Write::Increment(i64::MAX))
            .expect("room");
        assert_eq!(
            buffer.add(&key("a"), Write::Increment(1)),
            Err(Refusal::Overflow)
        );
        assert_eq!(buffer.take()[0].1.increment, Some(i64::MAX));
    }
}
