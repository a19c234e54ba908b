//! The numbers of INCRBYFLOAT: x87 extended precision, in integers.
//!
//! Redis computes INCRBYFLOAT in the C type `long double`, on x86-64 a sign, 64 bits of mantissa and
//! 15 of exponent, and prints it with 17 decimals, trailing zeros dropped. The rounding shows:
//! 10.5 + 0.1 is 10.6, but 1000.1 + 0.1 is 1000.19999999999999996. So the same steps are done here,
//! each rounded to nearest, ties to even: decimal to binary, the sum, binary to decimal.
//!
//! Not here: NaN and infinity (they only ever lead to errors), hexadecimal input, and gradual
//! underflow, which 17 decimals cannot show.

use crate::natural::Natural;

/// Longest text that Redis takes for a number, in bytes.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Bits of the mantissa.
const MANTISSA_BITS: i32 = 64;
/// Largest finite numbers lie below 2 to this.
const EXPONENT_MAX: i32 = 16_384;
/// Numbers up to half of 2 to this are rounded to zero when read.
const EXPONENT_MIN: i32 = -16_445;
/// Numbers whose first digit stands higher than this power of ten are too large, in any case.
const DECIMAL_EXPONENT_MAX: i64 = 4_940;
/// Numbers whose first digit stands lower than this power of ten are zero, in any case.
const DECIMAL_EXPONENT_MIN: i64 = -4_960;
/// Digits printed after the point.
const DECIMALS_COUNT: usize = 17;
const DECIMALS_UNIT: u128 = 10u128.pow(17);

/// A finite number: `mantissa * 2^exponent`, negated if `negative`.
///
/// The mantissa's highest bit is set, except in zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// Why a text or a sum is no finite number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotFinite {
    /// The text names no number, or one that is out of range.
    Invalid,
    /// It is infinite.
    Infinite,
}

impl Extended {
    /// Zero.
    pub(crate) const ZERO: Self = Self {
        negative: false,
        mantissa: 0,
        exponent: 0,
    };

    /// Reads a decimal number, all of `text`, rounded to nearest.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NotFinite> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(NotFinite::Invalid);
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Err(NotFinite::Infinite);
        }
        let decimal = Decimal::parse(unsigned).ok_or(NotFinite::Invalid)?;
        let magnitude = decimal.to_extended().ok_or(NotFinite::Invalid)?;
        Ok(Self {
            negative,
            ..magnitude
        })
    }

    /// The sum, rounded to nearest.
    pub(crate) fn add(self, other: Self) -> Result<Self, NotFinite> {
        if self.mantissa == 0 {
            return Ok(other);
        }
        if other.mantissa == 0 {
            return Ok(self);
        }
        let (high, low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        // 62 guard bits; what is shifted out of them leaves a trace in the lowest.
        let guard_bits = 62;
        let augend = u128::from(high.mantissa) << guard_bits;
        let distance = high.exponent.abs_diff(low.exponent);
        let full = u128::from(low.mantissa) << guard_bits;
        let mut addend = full.checked_shr(distance).unwrap_or(0);
        if addend.checked_shl(distance).unwrap_or(0) != full {
            addend |= 1;
        }
        let (negative, sum) = if high.negative == low.negative {
            (high.negative, augend + addend)
        } else if augend >= addend {
            (high.negative, augend - addend)
        } else {
            (low.negative, addend - augend)
        };
        if sum == 0 {
            return Ok(Self::ZERO);
        }
        let exponent = high.exponent - guard_bits;
        let sum = Self {
            negative,
            ..Self::round(sum, exponent)
        };
        if sum.is_too_large() {
            Err(NotFinite::Infinite)
        } else {
            Ok(sum)
        }
    }

    /// Writes the number as Redis does: up to 17 decimals, no trailing zeros.
    pub(crate) fn format(self, out: &mut Vec<u8>) {
        let start = out.len();
        let fraction = if self.exponent >= 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_left(self.exponent.unsigned_abs());
            whole.write_decimal(out);
            0
        } else {
            let scaled = u128::from(self.mantissa) * DECIMALS_UNIT;
            let scaled = shift_right_rounded(scaled, self.exponent.unsigned_abs());
            out.extend_from_slice((scaled / DECIMALS_UNIT).to_string().as_bytes());
            scaled % DECIMALS_UNIT
        };
        if fraction > 0 {
            let digits = format!("{fraction:0DECIMALS_COUNT$}");
            out.push(b'.');
            out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
        if self.negative && out[start..] != *b"0" {
            out.insert(start, b'-');
        }
    }

    /// The number nearest to `bits * 2^exponent`; `bits` is not 0.
    fn round(bits: u128, exponent: i32) -> Self {
        let width = u128::BITS - bits.leading_zeros();
        let dropped = width.saturating_sub(u64::BITS);
        let rounded = shift_right_rounded(bits, dropped);
        let exponent = exponent + dropped.cast_signed();
        match u64::try_from(rounded) {
            Ok(mantissa) => {
                let zeros = mantissa.leading_zeros();
                let exponent = exponent - zeros.cast_signed();
                Self {
                    negative: false,
                    mantissa: mantissa << zeros,
                    exponent,
                }
            }
            // Rounded up to 2^64.
            Err(_) => Self {
                negative: false,
                mantissa: 1 << 63,
                exponent: exponent + 1,
            },
        }
    }

    fn is_too_large(self) -> bool {
        self.exponent + MANTISSA_BITS > EXPONENT_MAX
    }
}

/// A decimal number as written: `digits * 10^exponent`.
struct Decimal {
    /// Values 0 to 9; neither the first nor the last is 0.
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads `digits [. digits] [e [sign] digits]`, at least one digit before the `e`.
    fn parse(text: &[u8]) -> Option<Self> {
        let split = text
            .iter()
            .position(|byte| byte.eq_ignore_ascii_case(&b'e'));
        let (number, power) = match split {
            Some(at) => (&text[..at], parse_power(&text[at + 1..])?),
            None => (text, 0),
        };
        let point = number.iter().position(|&byte| byte == b'.');
        let (whole, decimals) = match point {
            Some(at) => (&number[..at], &number[at + 1..]),
            None => (number, &[][..]),
        };
        if whole.is_empty() && decimals.is_empty() {
            return None;
        }
        let all = || whole.iter().chain(decimals);
        if !all().all(u8::is_ascii_digit) {
            return None;
        }
        let mut exponent = power.saturating_sub(decimals.len().cast_signed() as i64);
        let mut digits: Vec<u8> = all()
            .map(|digit| digit - b'0')
            .skip_while(|&d| d == 0)
            .collect();
        while digits.last() == Some(&0) {
            digits.pop();
            exponent = exponent.saturating_add(1);
        }
        Some(Self { digits, exponent })
    }

    /// The nearest number, not negative; `None` if it is too large, or is rounded to zero.
    fn to_extended(&self) -> Option<Extended> {
        if self.digits.is_empty() {
            return Some(Extended::ZERO);
        }
        let first_place = self
            .exponent
            .saturating_add(self.digits.len().cast_signed() as i64);
        if !(DECIMAL_EXPONENT_MIN..=DECIMAL_EXPONENT_MAX).contains(&first_place) {
            return None;
        }
        let mut numerator = Natural::from_decimal(&self.digits);
        let mut denominator = Natural::from(1u64);
        let power = u32::try_from(self.exponent.unsigned_abs()).ok()?;
        let scaled = if self.exponent >= 0 {
            &mut numerator
        } else {
            &mut denominator
        };
        scaled.multiply_power_of_ten(power);
        let number = divide(numerator, denominator);
        let is_zero = number.exponent + MANTISSA_BITS <= EXPONENT_MIN;
        (!is_zero && !number.is_too_large()).then_some(number)
    }
}

/// The number nearest to `numerator / denominator`, neither of which is 0.
fn divide(mut numerator: Natural, mut denominator: Natural) -> Extended {
    let mut scale = numerator.bits_count().cast_signed() - denominator.bits_count().cast_signed();
    let by = scale.unsigned_abs();
    if scale >= 0 {
        denominator.shift_left(by);
    } else {
        numerator.shift_left(by);
    }
    if numerator < denominator {
        scale -= 1;
        numerator.shift_left(1);
    }
    // Now 1 <= numerator / denominator < 2: long division, bit by bit.
    let mut mantissa = 0u64;
    for _ in 0..MANTISSA_BITS {
        mantissa <<= 1;
        if numerator >= denominator {
            numerator.subtract(&denominator);
            mantissa |= 1;
        }
        numerator.shift_left(1);
    }
    let round_up = match numerator.cmp(&denominator) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => mantissa & 1 == 1,
        std::cmp::Ordering::Greater => true,
    };
    let bits = u128::from(mantissa) + u128::from(round_up);
    Extended::round(bits, scale - (MANTISSA_BITS - 1))
}

/// `bits / 2^count`, rounded to nearest, ties to even.
fn shift_right_rounded(bits: u128, count: u32) -> u128 {
    if count == 0 {
        return bits;
    }
    if count >= u128::BITS {
        return 0;
    }
    let floor = bits >> count;
    let rest = bits & ((1 << count) - 1);
    let half = 1 << (count - 1);
    let round_up = rest > half || (rest == half && floor & 1 == 1);
    floor + u128::from(round_up)
}

/// The number after the `e`; saturates far beyond any range.
fn parse_power(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut power = 0i64;
    for &digit in digits {
        let value = char::from(digit).to_digit(10)?;
        power = (power * 10 + i64::from(value)).min(1_000_000_000);
    }
    Some(if negative { -power } else { power })
}

#[cfg(test)]
mod tests {
    use super::{Extended, NotFinite};

    fn sum(a: &str, b: &str) -> String {
        let a = Extended::parse(a.as_bytes()).expect("a number");
        let b = Extended::parse(b.as_bytes()).expect("a number");
        let mut text = Vec::new();
        a.add(b).expect("finite").format(&mut text);
        String::from_utf8(text).expect("digits")
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Replies of redis-server 7.0.15 on x86-64.
        for (a, b, expected) in [
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0e3", "0", "3000"),
            ("0.1", "0.2", "0.3"),
            ("1000.1", "0.1", "1000.19999999999999996"),
            ("-0", "0", "0"),
            ("-0.0", "-0.0", "0"),
            ("1", "-1", "0"),
            ("-1.5", "0.25", "-1.25"),
            (".5", "1.", "1.5"),
            ("1e-18", "0", "0"),
            ("-1e-30", "0", "0"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn huge_numbers_are_exact() {
        assert_eq!(sum("1e30", "0"), "1000000000000000000024696061952");
        assert_eq!(sum("1e4931", "9e4931").len(), 4_932);
        let large = Extended::parse(b"1.1e4932").expect("in range");
        assert_eq!(large.add(large), Err(NotFinite::Infinite));
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in [
            "", "-", ".", "e5", "1e", "1e+", " 1", "1 ", "1.2.3", "abc", "nan", "--1",
        ] {
            assert_eq!(
                Extended::parse(text.as_bytes()),
                Err(NotFinite::Invalid),
                "{text:?}"
            );
        }
        for text in ["1e5000", "1e-5000", "1e99999999999999999999"] {
            assert_eq!(
                Extended::parse(text.as_bytes()),
                Err(NotFinite::Invalid),
                "{text:?}"
            );
        }
        assert_eq!(Extended::parse(b"-inf"), Err(NotFinite::Infinite));
        assert_eq!(Extended::parse(&[b'1'; 5_120]), Err(NotFinite::Invalid));
    }

    #[test]
    fn rounding_of_the_sum_sees_what_is_shifted_out() {
        // 2^64 + 1 is a tie that the last, tiny addend must not be lost from.
        assert_eq!(sum("18446744073709551616", "1"), "18446744073709551616");
        assert_eq!(sum("18446744073709551618", "1"), "18446744073709551620");
        assert_eq!(
            sum("18446744073709551616", "1.0000001"),
            "18446744073709551618"
        );
        assert_eq!(sum("1e40", "-1e-40"), sum("1e40", "0"));
    }
}
