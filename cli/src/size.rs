//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A number of bytes. `FromStr` takes `1048576`, `512MiB`, `2GB` or `64k`: B, K/KiB, M/MiB, G/GiB
/// and T/TiB are powers of 1,024, KB, MB, GB and TB of 1,000, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// Neither digits nor a known unit.
    #[error("not a size; write for example 512MiB, 2GiB or a number of bytes")]
    Malformed,
    /// Above 2^64 - 1 bytes.
    #[error("a size is less than 16 EiB")]
    TooLarge,
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits = text
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(SizeError::Malformed);
        }
        let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(SizeError::Malformed),
        };
        number
            .checked_mul(unit)
            .map(Self)
            .ok_or(SizeError::TooLarge)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1u64 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
        ];
        match units.into_iter().find(|&(unit, _)| self.0 >= unit) {
            Some((unit, name)) if self.0.is_multiple_of(unit) => {
                write!(f, "{}{name}", self.0 / unit)
            }
            Some((unit, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                write!(f, "{}.{}{name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(bytes) => Ok(Self(bytes)),
            Form::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Size, SizeError};

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512MiB", 512 << 20),
            ("64k", 64 << 10),
            ("2 GB", 2_000_000_000),
            ("1tib", 1 << 40),
            ("7b", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "-1", "1.5G", "1 parsec", "0x10"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Malformed), "{text}");
        }
        for text in ["18446744073709551616", "17179869184GiB"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        assert_eq!(Size(512 << 20).to_string(), "512MiB");
        assert_eq!(Size((3 << 30) / 2).to_string(), "1.5GiB");
        assert_eq!(Size(1_000).to_string(), "1000B");
    }
}
