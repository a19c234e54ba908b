//! Inline commands: a line of words, as a person types it.
//!
//! Words are split as Redis does it: at white space, except in quotes. In double quotes `\n`, `\r`,
//! `\t`, `\a`, `\b`, `\xHH` and `\` before anything else are escapes; in single quotes only `\'`.
//! Unlike in Redis a NUL byte is a byte like others; there it hides the rest of the line.

use super::{INPUT_KEPT_MAX, WireError};

/// The first line of `input` without its end, and the offset behind it; `None`: not complete.
pub(super) fn find_line(input: &[u8]) -> Result<Option<(&[u8], usize)>, WireError> {
    let window = &input[..input.len().min(INPUT_KEPT_MAX)];
    match memchr::memchr(b'\n', window) {
        Some(end) => {
            let line = &input[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
        }
        None if window.len() == INPUT_KEPT_MAX => Err(WireError::InlineTooBig),
        None => Ok(None),
    }
}

/// Can the words be taken from the line as they stand?
pub(super) fn is_plain(line: &[u8]) -> bool {
    memchr::memchr2(b'"', b'\'', line).is_none()
}

/// The words of a line without quotes.
pub(super) fn plain_words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = line.split(|byte| is_word_end(*byte));
    words.filter_map(|word| {
        word.iter()
            .position(|byte| !is_space(*byte))
            .map(|at| &word[at..])
    })
}

/// Appends the next word of `line` to `word`; gives the line's rest, or `None` if there is no
/// further word.
pub(super) fn next_word<'a>(
    line: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<Option<&'a [u8]>, WireError> {
    let Some(start) = line.iter().position(|byte| !is_space(*byte)) else {
        return Ok(None);
    };
    let mut rest = &line[start..];
    loop {
        rest = match rest {
            [] => return Ok(Some(rest)),
            [quote @ (b'"' | b'\''), quoted @ ..] => {
                let after = read_quoted(*quote, quoted, word)?;
                if after.first().is_some_and(|byte| !is_space(*byte)) {
                    return Err(WireError::UnbalancedQuotes);
                }
                return Ok(Some(after));
            }
            [byte, after @ ..] if is_word_end(*byte) => return Ok(Some(after)),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
        };
    }
}

/// Reads up to the closing quote; gives what stands behind it.
fn read_quoted<'a>(
    quote: u8,
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], WireError> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(WireError::UnbalancedQuotes),
            [b'\\', b'x', high, low, after @ ..] if quote == b'"' && are_hex(*high, *low) => {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => (unescape(*escaped), after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => (b'\'', after),
            [end, after @ ..] if *end == quote => return Ok(after),
            [byte, after @ ..] => (*byte, after),
        };
        word.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn are_hex(high: u8, low: u8) -> bool {
    high.is_ascii_hexdigit() && low.is_ascii_hexdigit()
}

/// The value of a digit that [`are_hex`] found to be one.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

/// What C's `isspace` takes for a space: it separates words.
fn is_space(byte: u8) -> bool {
    is_word_end(byte) || matches!(byte, 0x0b | 0x0c)
}

/// What ends a word once it has begun; Redis leaves vertical tabs and form feeds in it.
fn is_word_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
