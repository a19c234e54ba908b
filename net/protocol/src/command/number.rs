//! Numbers as Redis reads them from text: strictly, so that each integer has one spelling.

/// Longest text of an `i64`: the sign and 19 digits.
const INTEGER_BYTES_MAX: usize = 20;

/// Longest text that [`parse_float`] looks at, as Redis's buffer for it.
const FLOAT_BYTES_MAX: usize = 5 * 1024 - 1;

/// Reads a decimal integer. No plus sign, space, leading zero or `-0`: exactly the texts that
/// printing an `i64` can give.
#[must_use]
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if text.len() > INTEGER_BYTES_MAX {
        return None;
    }
    let magnitude = match digits {
        [b'0'] if !negative => 0,
        [b'1'..=b'9', ..] => parse_digits(digits)?,
        _ => return None,
    };
    if negative {
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads decimal digits, at least one, leading zeros allowed.
#[inline]
fn parse_digits(digits: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!digits.is_empty()).then_some(value)
}

/// Reads a SCAN cursor as C's `strtoul` does: a sign and leading zeros are allowed, a negative
/// number wraps, and no text at all is 0.
#[must_use]
pub fn parse_cursor(text: &[u8]) -> Option<u64> {
    match text {
        [] => Some(0),
        [b'-', digits @ ..] => parse_digits(digits).map(u64::wrapping_neg),
        [b'+', digits @ ..] | digits => parse_digits(digits),
    }
}

/// Reads a floating-point number; infinities count, NaN does not.
///
/// Redis reads a C `long double`. Here a magnitude beyond `f64` makes the text no number, as one
/// beyond `long double` does there; what is too small for an `f64` is 0; and there is no
/// hexadecimal form.
#[must_use]
pub fn parse_float(text: &[u8]) -> Option<f64> {
    if text.len() > FLOAT_BYTES_MAX {
        return None;
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let spells_infinity = || text.iter().any(|byte| matches!(byte, b'n' | b'N'));
    if value.is_nan() || (value.is_infinite() && !spells_infinity()) {
        return None;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{parse_cursor, parse_float, parse_i64};

    #[test]
    fn only_canonical_integers_are_integers() {
        for text in [
            "", "-", "+1", "-0", "00", "01", " 1", "1 ", "1a", "0x1", "1.0", "--1", "1\0", "-01",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_i64(b"0"), Some(0));
    }

    #[test]
    fn integers_are_read_up_to_both_ends() {
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_i64(b"9223372036854775808"), None);
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_i64(b"-9223372036854775809"), None);
        assert_eq!(parse_i64(b"99999999999999999999"), None);
        assert_eq!(parse_i64(b"100000000000000000000000"), None);
    }

    #[test]
    fn cursors_are_read_like_strtoul() {
        assert_eq!(parse_cursor(b""), Some(0));
        assert_eq!(parse_cursor(b"-1"), Some(u64::MAX));
        assert_eq!(parse_cursor(b"+1"), Some(1));
        assert_eq!(parse_cursor(b"00"), Some(0));
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            "18446744073709551616",
            "-18446744073709551616",
            "x",
            "1 ",
            " 1",
            "+",
            "-",
        ] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn floats_are_read_whole_or_not_at_all() {
        for text in [
            "", " 1", "1 ", ".", "1e", "1_0", "nan", "-NaN", "1e400", "x", "1,5",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_float(b"+1"), Some(1.0));
        assert_eq!(parse_float(b".5"), Some(0.5));
        assert_eq!(parse_float(b"5."), Some(5.0));
        assert_eq!(parse_float(b"-Inf"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_float(b"infinity"), Some(f64::INFINITY));
        assert_eq!(parse_float(&[b'0'; 5119]), Some(0.0));
        assert_eq!(parse_float(&[b'0'; 5120]), None);
    }

    proptest! {
        #[test]
        fn an_integer_survives_printing(value in any::<i64>()) {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn what_is_read_prints_the_same(text in "[-+0-9 ]{0,21}") {
            let expected = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), expected);
        }
    }
}
