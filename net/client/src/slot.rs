//! The slot of a key, as Redis Cluster's specification defines it.
//!
//! The servers' definition is in `fulmar-cluster`, which brings membership and placement along; a client
//! needs the ten lines below. A test holds the two against each other.

use crc16::{State, XMODEM};

/// Number of hash slots.
pub(crate) const SLOTS_COUNT: u16 = 16_384;

/// The slot of `key`: of its hash tag if it has a non-empty one, else of all its bytes.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    State::<XMODEM>::calculate(hash_tag(key).unwrap_or(key)) % SLOTS_COUNT
}

/// The bytes between the first `{` and the next `}`, if there are any.
pub(crate) fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'{', key)?;
    let rest = &key[open + 1..];
    let close = memchr::memchr(b'}', rest)?;
    (close > 0).then_some(&rest[..close])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert_eq, prop_oneof, proptest};

    use super::slot_of;

    proptest! {
        #[test]
        fn slots_are_those_of_the_servers(
            key in prop::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"{}".as_slice())], 0..24)
        ) {
            prop_assert_eq!(slot_of(&key), fulmar_cluster::Slot::of(&key).number());
        }
    }
}
