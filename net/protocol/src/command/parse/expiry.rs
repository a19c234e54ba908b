//! Expire times as arguments.

use super::{Parsed, is};
use crate::command::table::CommandId;
use crate::command::{CommandError, Deadline, number};

/// What an expire time is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// 1,000 ms.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// What an expire time is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// The moment of execution.
    FromNow,
    /// The Unix epoch.
    Unix,
}

/// Room that is kept below `i64::MAX` for the time of day that a relative time is added to: Redis
/// refuses what overflows there. Until 2039 no accepted time overflows.
const UNIX_MS_ROOM: i64 = 1 << 41;

/// Reads an expire time, which may be negative.
pub(super) fn deadline(id: CommandId, text: &[u8], unit: Unit, clock: Clock) -> Parsed<Deadline> {
    let number = number::parse_i64(text).ok_or(CommandError::NotAnInteger)?;
    let ms = match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Milliseconds => Some(number),
    };
    match (ms, clock) {
        (Some(ms), Clock::Unix) => Ok(Deadline::AtUnix { ms }),
        (Some(ms), Clock::FromNow) if ms <= i64::MAX - UNIX_MS_ROOM => Ok(Deadline::In { ms }),
        _ => Err(CommandError::InvalidExpireTime(id)),
    }
}

/// Reads an expire time, which must be positive.
pub(super) fn positive_deadline(
    id: CommandId,
    text: &[u8],
    unit: Unit,
    clock: Clock,
) -> Parsed<Deadline> {
    let deadline = deadline(id, text, unit, clock)?;
    let (Deadline::In { ms } | Deadline::AtUnix { ms }) = deadline;
    if ms > 0 {
        Ok(deadline)
    } else {
        Err(CommandError::InvalidExpireTime(id))
    }
}

/// The option that names a unit and a clock: EX, PX, EXAT or PXAT.
#[inline]
pub(super) fn expiry_option(word: &[u8]) -> Option<(Unit, Clock)> {
    if is(word, b"EX") {
        Some((Unit::Seconds, Clock::FromNow))
    } else if is(word, b"PX") {
        Some((Unit::Milliseconds, Clock::FromNow))
    } else if is(word, b"EXAT") {
        Some((Unit::Seconds, Clock::Unix))
    } else if is(word, b"PXAT") {
        Some((Unit::Milliseconds, Clock::Unix))
    } else {
        None
    }
}
