//! RESP2 replies, parsed from pieces of any size.
//!
//! Only what answers GET and SET is understood: simple strings, errors, integers, bulk strings
//! and nulls (also RESP3's `_`). A value's bytes go to the caller's sink as they arrive, never to
//! a buffer; all that is kept between pieces is the start of one line.

use super::{ERROR_TEXT_BYTES_MAX, REPLY_BYTES_MAX, Reply, WireError};

/// Longest line kept whole: a type byte, an error text, CR.
const LINE_BYTES_MAX: usize = ERROR_TEXT_BYTES_MAX + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In (or before) the first line of a reply.
    Line,
    /// In a value: `done` of `len` bytes have been handed on.
    Value { len: usize, done: usize },
    /// After a value, before its CR.
    ValueCr { len: usize },
    /// Between a value's CR and LF.
    ValueLf { len: usize },
}

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct ReplyParser {
    state: State,
    line: [u8; LINE_BYTES_MAX],
    /// Bytes of the current line seen so far; those above the array's length are not kept.
    line_len: usize,
    line_last: u8,
    text: [u8; ERROR_TEXT_BYTES_MAX],
    text_len: usize,
}

impl ReplyParser {
    pub(super) fn new() -> Self {
        Self {
            state: State::Line,
            line: [0; LINE_BYTES_MAX],
            line_len: 0,
            line_last: 0,
            text: [0; ERROR_TEXT_BYTES_MAX],
            text_len: 0,
        }
    }

    /// The text of the last error reply, cut to its first 128 bytes.
    pub(super) fn text(&self) -> &[u8] {
        &self.text[..self.text_len]
    }

    /// Takes bytes until a reply is complete or `input` is used up.
    ///
    /// Answers how many bytes were used and the reply, if one was completed. `sink` gets the
    /// bytes of a value and their offset in it.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(usize, &[u8]),
    ) -> Result<(usize, Option<Reply>), WireError> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            match self.state {
                State::Line => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.keep(rest);
                        return Ok((input.len(), None));
                    };
                    used += end + 1;
                    if let Some(reply) = self.end_line(&rest[..end])? {
                        return Ok((used, Some(reply)));
                    }
                }
                State::Value { len, done } => {
                    let piece = &rest[..rest.len().min(len - done)];
                    sink(done, piece);
                    used += piece.len();
                    let done = done + piece.len();
                    self.state = if done == len {
                        State::ValueCr { len }
                    } else {
                        State::Value { len, done }
                    };
                }
                State::ValueCr { len } => {
                    if rest[0] != b'\r' {
                        return Err(WireError::ValueEnd);
                    }
                    used += 1;
                    self.state = State::ValueLf { len };
                }
                State::ValueLf { len } => {
                    if rest[0] != b'\n' {
                        return Err(WireError::ValueEnd);
                    }
                    self.state = State::Line;
                    return Ok((used + 1, Some(Reply::Value { len })));
                }
            }
        }
        Ok((used, None))
    }

    /// Keeps a piece of a line whose end has not come.
    fn keep(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        self.line_last = *last;
        if self.line_len < LINE_BYTES_MAX {
            let kept = piece.len().min(LINE_BYTES_MAX - self.line_len);
            self.line[self.line_len..self.line_len + kept].copy_from_slice(&piece[..kept]);
        }
        self.line_len += piece.len();
    }

    /// Handles a line whose last piece (without LF) is `piece`.
    fn end_line(&mut self, piece: &[u8]) -> Result<Option<Reply>, WireError> {
        if self.line_len == 0 {
            let line = piece.strip_suffix(b"\r").ok_or(WireError::Line)?;
            return self.interpret(line, true);
        }
        self.keep(piece);
        let line = self.line;
        let line_len = std::mem::take(&mut self.line_len);
        if self.line_last != b'\r' {
            return Err(WireError::Line);
        }
        let whole = line_len <= LINE_BYTES_MAX;
        self.interpret(&line[..(line_len - 1).min(LINE_BYTES_MAX)], whole)
    }

    /// Handles a line without its CRLF; `whole` is false when its end was not kept.
    fn interpret(&mut self, line: &[u8], whole: bool) -> Result<Option<Reply>, WireError> {
        let (&kind, rest) = line.split_first().ok_or(WireError::Line)?;
        match kind {
            b'+' if rest == b"OK" => return Ok(Some(Reply::Done)),
            b'+' => return Ok(Some(Reply::Other("a simple string"))),
            b'-' => {
                self.text_len = rest.len().min(ERROR_TEXT_BYTES_MAX);
                self.text[..self.text_len].copy_from_slice(&rest[..self.text_len]);
                return Ok(Some(Reply::Error));
            }
            _ if !whole => return Err(WireError::Number),
            _ => {}
        }
        match kind {
            b':' => {
                parse_integer(rest)?;
                Ok(Some(Reply::Integer))
            }
            b'$' if rest == b"-1" => Ok(Some(Reply::Missing)),
            b'$' => {
                let len = usize::try_from(parse_integer(rest)?).map_err(|_| WireError::Number)?;
                if len > REPLY_BYTES_MAX {
                    return Err(WireError::TooLong);
                }
                self.state = if len == 0 {
                    State::ValueCr { len }
                } else {
                    State::Value { len, done: 0 }
                };
                Ok(None)
            }
            b'*' if rest == b"-1" => Ok(Some(Reply::Missing)),
            b'_' if rest.is_empty() => Ok(Some(Reply::Missing)),
            _ => Err(WireError::ReplyType(kind)),
        }
    }
}

/// Decimal digits with an optional minus sign, within an i64.
fn parse_integer(text: &[u8]) -> Result<i64, WireError> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return Err(WireError::Number);
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(WireError::Number);
        }
        let digit = i64::from(digit - b'0');
        // Built up on the negative side, which reaches one further.
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_sub(digit))
            .ok_or(WireError::Number)?;
    }
    if negative {
        Ok(value)
    } else {
        value.checked_neg().ok_or(WireError::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, ReplyParser};
    use crate::wire::{ERROR_TEXT_BYTES_MAX, Reply, WireError};

    #[derive(Debug, PartialEq)]
    struct Seen {
        reply: Reply,
        value: Vec<u8>,
        text: Vec<u8>,
    }

    /// Decodes `pieces` in turn, as a connection does.
    fn decode(pieces: &[&[u8]]) -> Result<Vec<Seen>, WireError> {
        let mut parser = ReplyParser::new();
        let mut seen = Vec::new();
        let mut value = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let (used, reply) = parser.decode(rest, &mut |offset, bytes| {
                    assert_eq!(offset, value.len());
                    value.extend_from_slice(bytes);
                })?;
                assert!(used > 0);
                rest = &rest[used..];
                if let Some(reply) = reply {
                    let text = if reply == Reply::Error {
                        parser.text().to_vec()
                    } else {
                        Vec::new()
                    };
                    seen.push(Seen {
                        reply,
                        value: std::mem::take(&mut value),
                        text,
                    });
                }
            }
        }
        Ok(seen)
    }

    fn seen(reply: Reply, value: &[u8], text: &[u8]) -> Seen {
        Seen {
            reply,
            value: value.to_vec(),
            text: text.to_vec(),
        }
    }

    #[test]
    fn every_reply_survives_every_split() {
        let stream =
            b"+OK\r\n$5\r\nhello\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n:-12\r\n_\r\n*-1\r\n+PONG\r\n\
            $4\r\n\r\n\r\n\r\n+OK\r\n";
        let expected = vec![
            seen(Reply::Done, b"", b""),
            seen(Reply::Value { len: 5 }, b"hello", b""),
            seen(Reply::Missing, b"", b""),
            seen(Reply::Value { len: 0 }, b"", b""),
            seen(Reply::Error, b"", b"ERR no"),
            seen(Reply::Integer, b"", b""),
            seen(Reply::Missing, b"", b""),
            seen(Reply::Missing, b"", b""),
            seen(Reply::Other("a simple string"), b"", b""),
            seen(Reply::Value { len: 4 }, b"\r\n\r\n", b""),
            seen(Reply::Done, b"", b""),
        ];
        assert_eq!(decode(&[stream]).as_ref(), Ok(&expected), "whole");
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(
                    decode(&pieces).as_ref(),
                    Ok(&expected),
                    "cut at {first} and {second}"
                );
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode(&bytes).as_ref(), Ok(&expected), "byte by byte");
    }

    #[test]
    fn malformed_replies_are_refused_whole_and_byte_by_byte() {
        let too_long = format!("${}\r\n", (512 << 20) + 1);
        let long_number = format!(":{}\r\n", "1".repeat(LINE_BYTES_MAX + 10));
        let cases: [(&[u8], WireError); 14] = [
            (b"\r\n", WireError::Line),
            (b"\n", WireError::Line),
            (b"+OK\n", WireError::Line),
            (b"$5\n", WireError::Line),
            (b"$-2\r\n", WireError::Number),
            (b"$\r\n", WireError::Number),
            (b"$1x\r\n", WireError::Number),
            (b":9223372036854775808\r\n", WireError::Number),
            (b"$3\r\nabcd\r\n", WireError::ValueEnd),
            (b"$3\r\nabc\rx", WireError::ValueEnd),
            (b"*2\r\n", WireError::ReplyType(b'*')),
            (b"HTTP/1.1 200 OK\r\n", WireError::ReplyType(b'H')),
            (too_long.as_bytes(), WireError::TooLong),
            (long_number.as_bytes(), WireError::Number),
        ];
        for (stream, error) in cases {
            let name = String::from_utf8_lossy(stream);
            assert_eq!(decode(&[stream]), Err(error), "{name} whole");
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(decode(&bytes), Err(error), "{name} byte by byte");
        }
    }

    #[test]
    fn long_error_texts_are_cut_at_the_limit() {
        for extra in [0, 1, 2, 3, 50_000] {
            let text = "x".repeat(ERROR_TEXT_BYTES_MAX - 2 + extra);
            let stream = format!("-{text}\r\n+OK\r\n");
            let kept = &text.as_bytes()[..text.len().min(ERROR_TEXT_BYTES_MAX)];
            let expected = vec![seen(Reply::Error, b"", kept), seen(Reply::Done, b"", b"")];
            assert_eq!(
                decode(&[stream.as_bytes()]).as_ref(),
                Ok(&expected),
                "{extra} whole"
            );
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(
                decode(&pieces).as_ref(),
                Ok(&expected),
                "{extra} byte by byte"
            );
        }
    }

    #[test]
    fn the_extreme_integers_are_read() {
        for stream in [
            b":9223372036854775807\r\n".as_slice(),
            b":-9223372036854775808\r\n",
        ] {
            assert_eq!(decode(&[stream]).map(|seen| seen.len()), Ok(1));
        }
    }
}
