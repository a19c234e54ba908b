//! Natural numbers of any size: just what reading and printing [`Extended`] needs.
//!
//! [`Extended`]: crate::extended::Extended

use std::cmp::Ordering;

const LIMB_BITS: u32 = u32::BITS;
/// Decimal digits handled at a time.
const BASE_DIGITS: usize = 9;
const BASE: u32 = 10u32.pow(9);

/// A natural number: 32-bit limbs, the lowest first, the highest not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Natural(Vec<u32>);

impl From<u64> for Natural {
    fn from(value: u64) -> Self {
        let mut natural = Self(vec![low_limb(value), low_limb(value >> LIMB_BITS)]);
        natural.trim();
        natural
    }
}

impl Natural {
    /// The number with these decimal digits, as values 0 to 9.
    pub(crate) fn from_decimal(digits: &[u8]) -> Self {
        let mut natural = Self(Vec::new());
        for chunk in digits.chunks(BASE_DIGITS) {
            let (mut value, mut factor) = (0, 1);
            for &digit in chunk {
                value = value * 10 + u32::from(digit);
                factor *= 10;
            }
            natural.multiply_add(factor, value);
        }
        natural
    }

    /// Width in bits: 0 for zero.
    pub(crate) fn bits_count(&self) -> u32 {
        let Some(high) = self.0.last() else { return 0 };
        let limbs = u32::try_from(self.0.len()).expect("numbers are a few thousand bits long");
        limbs * LIMB_BITS - high.leading_zeros()
    }

    /// Multiplies by 10 to the `power`.
    pub(crate) fn multiply_power_of_ten(&mut self, power: u32) {
        let base_digits = 9;
        for _ in 0..power / base_digits {
            self.multiply_add(BASE, 0);
        }
        self.multiply_add(10u32.pow(power % base_digits), 0);
    }

    /// Multiplies by 2 to the `count`.
    pub(crate) fn shift_left(&mut self, count: u32) {
        let bits = count % LIMB_BITS;
        if bits > 0 {
            let mut carry = 0;
            for limb in &mut self.0 {
                let shifted = u64::from(*limb) << bits | carry;
                *limb = low_limb(shifted);
                carry = shifted >> LIMB_BITS;
            }
            self.0.push(low_limb(carry));
            self.trim();
        }
        let limbs = (count / LIMB_BITS) as usize;
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, limbs));
        }
    }

    /// Subtracts `other`, which is not larger.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (position, limb) in self.0.iter_mut().enumerate() {
            let subtrahend = other.0.get(position).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        debug_assert!(!borrow, "the subtrahend is not larger");
        self.trim();
    }

    /// Writes the number in decimal.
    pub(crate) fn write_decimal(mut self, out: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            chunks.push(self.divide_by_base());
        }
        let highest = chunks.pop().unwrap_or(0);
        out.extend_from_slice(highest.to_string().as_bytes());
        for chunk in chunks.iter().rev() {
            out.extend_from_slice(format!("{chunk:0BASE_DIGITS$}").as_bytes());
        }
    }

    /// Multiplies by `factor`, which is not 0, then adds `addend`.
    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = low_limb(product);
            carry = product >> LIMB_BITS;
        }
        if carry > 0 {
            self.0.push(low_limb(carry));
        }
    }

    /// Divides by [`BASE`]; gives the remainder.
    fn divide_by_base(&mut self) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            let dividend = rest << LIMB_BITS | u64::from(*limb);
            *limb = low_limb(dividend / u64::from(BASE));
            rest = dividend % u64::from(BASE);
        }
        self.trim();
        low_limb(rest)
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
fn low_limb(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::Natural;

    fn decimal(natural: &Natural) -> String {
        let mut out = Vec::new();
        natural.clone().write_decimal(&mut out);
        String::from_utf8(out).expect("digits")
    }

    #[test]
    fn arithmetic_agrees_with_u128() {
        let (a, b) = (0xFEDC_BA98_7654_3210u64, 1_000_000_007u64);
        let mut natural = Natural::from(a);
        natural.shift_left(45);
        assert_eq!(decimal(&natural), (u128::from(a) << 45).to_string());
        assert_eq!(natural.bits_count(), 64 + 45);
        natural.subtract(&Natural::from(b));
        assert_eq!(
            decimal(&natural),
            ((u128::from(a) << 45) - u128::from(b)).to_string()
        );
        let mut ten = Natural::from(7);
        ten.multiply_power_of_ten(30);
        assert_eq!(decimal(&ten), format!("7{}", "0".repeat(30)));
        assert!(Natural::from(a) > Natural::from(b));
        assert!(Natural::from(b) < ten);
    }

    #[test]
    fn decimal_digits_come_back() {
        let digits = [
            1u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 9,
        ];
        let text: String = digits
            .iter()
            .map(|&digit| char::from(b'0' + digit))
            .collect();
        assert_eq!(decimal(&Natural::from_decimal(&digits)), text);
        assert_eq!(decimal(&Natural::from(0)), "0");
        assert_eq!(Natural::from(0).bits_count(), 0);
    }
}
