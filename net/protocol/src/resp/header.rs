//! The lines of a multibulk frame: a type byte and a length.
//!
//! As in Redis, a line ends with CR and whatever byte follows it, and its length is checked only
//! when the line is complete.

use super::{ARGUMENTS_MAX, BULK_BYTES_MAX, INPUT_KEPT_MAX, WireError};
use crate::command::number;

/// Why there is no length.
pub(super) enum NoLength {
    /// The line is not complete.
    Incomplete,
    /// The line is wrong.
    Wrong(WireError),
}

/// A length, and the offset behind its line.
pub(super) type Length<T> = Result<(T, usize), NoLength>;

/// Reads the line of a frame's count, which begins at the start of `input`; negative: empty.
#[inline]
pub(super) fn read_count(input: &[u8]) -> Length<i64> {
    if let [_, digit @ b'1'..=b'9', b'\r', _, ..] = input {
        return Ok((i64::from(digit - b'0'), 4));
    }
    read_any_count(input)
}

#[cold]
fn read_any_count(input: &[u8]) -> Length<i64> {
    let line = complete_line(input, WireError::MultibulkCountTooBig)?;
    match number::parse_i64(&line[1..]) {
        Some(count) if count <= ARGUMENTS_MAX as i64 => Ok((count, line.len() + 2)),
        _ => Err(NoLength::Wrong(WireError::MultibulkLength)),
    }
}

/// Reads the line of an argument's length, which begins at `at`.
#[inline]
pub(super) fn read_length(input: &[u8], at: usize) -> Length<usize> {
    match input.get(at..) {
        Some([b'$', ones @ b'0'..=b'9', b'\r', _, ..]) => Ok((usize::from(ones - b'0'), at + 4)),
        Some([b'$', tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', _, ..]) => Ok((
            usize::from(tens - b'0') * 10 + usize::from(ones - b'0'),
            at + 5,
        )),
        Some(rest) => read_any_length(rest).map(|(length, bytes)| (length, at + bytes)),
        None => Err(NoLength::Incomplete),
    }
}

#[inline(never)]
fn read_any_length(input: &[u8]) -> Length<usize> {
    let line = complete_line(input, WireError::BulkCountTooBig)?;
    // A line that is only the CR has that as its type byte.
    let kind = line.first().copied().unwrap_or(b'\r');
    if kind != b'$' {
        return Err(NoLength::Wrong(WireError::ExpectedDollar(kind)));
    }
    let length = number::parse_i64(&line[1..]).and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if length <= BULK_BYTES_MAX => Ok((length, line.len() + 2)),
        _ => Err(NoLength::Wrong(WireError::BulkLength)),
    }
}

/// The line up to its CR, once the byte behind that is there, too.
fn complete_line(input: &[u8], too_big: WireError) -> Result<&[u8], NoLength> {
    let window = &input[..input.len().min(INPUT_KEPT_MAX - 1)];
    match memchr::memchr(b'\r', window) {
        Some(end) if end + 1 < input.len() => Ok(&input[..end]),
        None if window.len() == INPUT_KEPT_MAX - 1 => Err(NoLength::Wrong(too_big)),
        _ => Err(NoLength::Incomplete),
    }
}
