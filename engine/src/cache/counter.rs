//! Counters: values that are the decimal text of an `i64`.

use crate::cache::Cache;
use crate::error::IncrError;
use crate::item::ItemValue;
use crate::key::Key;
use crate::time::Time;

/// Longest text of an `i64`.
const TEXT_BYTES_MAX: usize = 20;

impl Cache {
    /// Adds `delta` to the number that a key's value is, and returns the sum. An absent key counts
    /// as 0; a deadline stays. O(1).
    ///
    /// # Errors
    /// See [`IncrError`]; the key keeps what it had.
    pub fn incr(&mut self, key: &Key<'_>, delta: i64, now: Time) -> Result<i64, IncrError> {
        let old = self.find_or_expire(key, now);
        let current = match old {
            None => 0,
            Some(handle) => {
                let value = ItemValue::new(&self.slab, handle, self.slab.meta(handle));
                value
                    .as_slice()
                    .and_then(parse)
                    .ok_or(IncrError::NotAnInteger)?
            }
        };
        let sum = current.checked_add(delta).ok_or(IncrError::Overflow)?;
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(sum).as_bytes();
        self.check_lengths(key, text.len())?;
        let deadline = old.and_then(|handle| self.deadline(handle));
        self.store(key, old, text, deadline)?;
        Ok(sum)
    }
}

/// The number whose shortest decimal text this is, as Redis's `string2ll` reads it: no spaces, no
/// plus sign, no leading zeros, no "-0".
fn parse(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        _ if text.len() > TEXT_BYTES_MAX => return None,
        [b'0'] if !is_negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    // Negative numbers reach one further, so the sum is kept negative.
    let mut sum: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_sub(i64::from(byte - b'0'))?;
    }
    if is_negative {
        Some(sum)
    } else {
        sum.checked_neg()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::parse;

    #[test]
    fn only_the_shortest_text_of_an_i64_is_a_number() {
        let numbers = [
            "0",
            "1",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "10",
        ];
        for text in numbers {
            assert_eq!(parse(text.as_bytes()), text.parse().ok(), "{text}");
        }
        let others = [
            "",
            "-",
            "-0",
            "+1",
            "01",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "00",
            "1e3",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "1\0",
            "99999999999999999999999",
        ];
        for text in others {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(number in any::<i64>(), noise in "[-+0-9 ]{0,21}") {
            assert_eq!(parse(number.to_string().as_bytes()), Some(number));
            let parsed = noise.parse::<i64>().ok().filter(|number| number.to_string() == noise);
            assert_eq!(parse(noise.as_bytes()), parsed);
        }
    }
}
