//! The commands behind the client's methods, and what their replies mean.

use std::time::Duration;

use bytes::Bytes;

use crate::command::{Command, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::value::Value;

/// How a value is stored, for [`set_with`](crate::Client::set_with).
///
/// ```
/// use std::time::Duration;
/// use fulmar_client::SetOptions;
///
/// let options = SetOptions::default().ttl(Duration::from_secs(60)).if_absent();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SetOptions {
    ttl: Option<Duration>,
    condition: Option<&'static str>,
}

impl SetOptions {
    /// The value lives that long: in whole milliseconds, at least one. For ever by default.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Only if nothing is there. The outcome of a write that is lost on the way is unknown then, so that it
    /// isn't retried.
    #[must_use]
    pub fn if_absent(mut self) -> Self {
        self.condition = Some("NX");
        self
    }

    /// Only if something is there; not retried, as above.
    #[must_use]
    pub fn if_present(mut self) -> Self {
        self.condition = Some("XX");
        self
    }
}

/// How long a key lives, as [`ttl`](crate::Client::ttl) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// It does not expire.
    Forever,
    /// So long, in whole milliseconds.
    Left(Duration),
}

pub(crate) fn get(key: impl AsRef<[u8]>) -> Command {
    Command::read("GET").key(key)
}

pub(crate) fn set(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: SetOptions) -> Command {
    let kind = if options.condition.is_some() {
        Kind::Write
    } else {
        Kind::IdempotentWrite
    };
    let mut command = Command::new(kind, "SET").key(key).arg(value);
    if let Some(ttl) = options.ttl {
        command = command.arg("PX").integer(milliseconds(ttl));
    }
    match options.condition {
        Some(condition) => command.arg(condition),
        None => command,
    }
}

pub(crate) fn delete(key: impl AsRef<[u8]>) -> Command {
    Command::idempotent_write("DEL").key(key)
}

pub(crate) fn exists(key: impl AsRef<[u8]>) -> Command {
    Command::read("EXISTS").key(key)
}

pub(crate) fn expire(key: impl AsRef<[u8]>, ttl: Duration) -> Command {
    Command::idempotent_write("PEXPIRE")
        .key(key)
        .integer(milliseconds(ttl))
}

pub(crate) fn ttl(key: impl AsRef<[u8]>) -> Command {
    Command::read("PTTL").key(key)
}

pub(crate) fn increment(key: impl AsRef<[u8]>, by: i64) -> Command {
    Command::write("INCRBY").key(key).integer(by)
}

pub(crate) fn append(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Command {
    Command::write("APPEND").key(key).arg(value)
}

/// Longest TTL that is sent: the servers refuse sums with the clock that overflow.
const TTL_MS_MAX: u64 = 1 << 52;

fn milliseconds(ttl: Duration) -> i64 {
    let ms = u64::try_from(ttl.as_millis()).unwrap_or(TTL_MS_MAX);
    i64::try_from(ms.clamp(1, TTL_MS_MAX)).unwrap_or(i64::MAX)
}

/// The reply is none of the command's. A write was executed, in whatever way.
fn unexpected(value: &Value, kind: Kind) -> Error {
    Error::new(ErrorKind::UnexpectedReply(value.type_name())).doubtful_if(kind != Kind::Read)
}

/// A value, or nothing.
pub(crate) fn optional_bytes(value: Value) -> Result<Option<Bytes>> {
    value
        .into_bytes()
        .map_err(|value| unexpected(&value, Kind::Read))
}

/// Whether a SET was done: its condition may not hold.
pub(crate) fn was_set(value: Value) -> Result<bool> {
    match value {
        Value::Status(_) => Ok(true),
        Value::Null => Ok(false),
        other => Err(unexpected(&other, Kind::Write)),
    }
}

pub(crate) fn integer(value: Value, kind: Kind) -> Result<i64> {
    value
        .into_integer()
        .map_err(|value| unexpected(&value, kind))
}

/// Of a number that is 0 or 1.
pub(crate) fn boolean(value: Value, kind: Kind) -> Result<bool> {
    integer(value, kind).map(|number| number != 0)
}

pub(crate) fn remaining(value: Value) -> Result<Ttl> {
    Ok(match integer(value, Kind::Read)? {
        -2 => Ttl::Missing,
        -1 => Ttl::Forever,
        ms => Ttl::Left(Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    })
}
