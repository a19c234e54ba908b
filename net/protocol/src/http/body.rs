//! The body of a store: `{"value": "...", "ttl": seconds?}`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

/// The longest TTL, in seconds: 136 years, which whoever writes 2^32 - 1 means by "for ever".
pub const TTL_SECONDS_MAX: u32 = u32::MAX;

/// A parsed body. The value is borrowed unless it holds escapes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SetBody<'a> {
    pub(super) value: Cow<'a, str>,
    /// At least 1 if there is one.
    pub(super) ttl_ms: Option<i64>,
}

impl<'a> SetBody<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for SetBody<'a> {
    // Not derived: a derived struct takes an array as well, and its errors repeat names and
    // strings of any length.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BodyVisitor)
    }
}

struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = SetBody<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"an object {"value": string, "ttl": seconds}"#)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut value = None;
        let mut ttl = None;
        while let Some(field) = map.next_key()? {
            let is_repeated = match field {
                Field::Value => value.replace(map.next_value::<Text<'de>>()?).is_some(),
                Field::Ttl => ttl.replace(map.next_value::<Ttl>()?).is_some(),
                Field::Unknown => return Err(Error::custom("only value and ttl are known fields")),
            };
            if is_repeated {
                return Err(Error::custom("a field comes twice"));
            }
        }
        let Text(value) = value.ok_or_else(|| Error::custom("the field value is missing"))?;
        Ok(SetBody {
            value,
            ttl_ms: ttl.and_then(|Ttl(ms)| ms),
        })
    }

    // Here and in the TTL, because the error that serde makes of a string repeats it.
    fn visit_str<E: Error>(self, _text: &str) -> Result<Self::Value, E> {
        Err(Error::invalid_type(Unexpected::Other("string"), &self))
    }
}

enum Field {
    Value,
    Ttl,
    Unknown,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    "value" => Field::Value,
                    "ttl" => Field::Ttl,
                    _ => Field::Unknown,
                })
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("value to be a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Milliseconds, or `None` for null.
struct Ttl(Option<i64>);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TtlVisitor)
    }
}

struct TtlVisitor;

impl Visitor<'_> for TtlVisitor {
    type Value = Ttl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ttl to be a number of seconds")
    }

    fn visit_unit<E: Error>(self) -> Result<Ttl, E> {
        Ok(Ttl(None))
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Ttl, E> {
        match u32::try_from(seconds) {
            Ok(seconds @ 1..=TTL_SECONDS_MAX) => Ok(Ttl(Some(i64::from(seconds) * 1000))),
            _ => Err(out_of_range()),
        }
    }

    fn visit_i64<E: Error>(self, _negative: i64) -> Result<Ttl, E> {
        Err(out_of_range())
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Ttl, E> {
        let ms = (seconds * 1000.0).round();
        if !(1.0..=f64::from(TTL_SECONDS_MAX) * 1000.0).contains(&ms) {
            return Err(out_of_range());
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^43")]
        let ms = ms as i64;
        Ok(Ttl(Some(ms)))
    }

    fn visit_str<E: Error>(self, _text: &str) -> Result<Ttl, E> {
        Err(Error::invalid_type(Unexpected::Other("string"), &self))
    }
}

fn out_of_range<E: Error>() -> E {
    Error::custom(format_args!(
        "ttl must be from 0.001 to {TTL_SECONDS_MAX} seconds"
    ))
}
