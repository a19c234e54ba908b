//! HTTP/1.1 responses, parsed from pieces of any size: the head by `httparse`, the body by its
//! Content-Length (chunked bodies are refused).
//!
//! A head that arrives whole is parsed where it lies; one that is cut is gathered first. A body
//! is skipped, except that values are gathered when they are to be checked, and the first 128
//! bytes of an error's body for the error's text.

use super::{ERROR_TEXT_BYTES_MAX, Operation, REPLY_BYTES_MAX, Reply, WireError};
use std::borrow::Cow;

/// Longest response head, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in a response.
const HEADERS_MAX: usize = 32;
/// Buffers above this size are given back after use, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The body that a server sends for a found key: other members are ignored.
#[derive(serde::Deserialize)]
struct ValueBody<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Body { status: u16, left: usize },
}

#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    body_bytes: usize,
}

/// The parser of one connection.
#[derive(Debug)]
pub(super) struct ResponseParser {
    state: State,
    /// Whether values are gathered and handed to the sink.
    check_values: bool,
    /// A cut head, or the gathered part of a body.
    gathered: Vec<u8>,
    text: Vec<u8>,
}

impl ResponseParser {
    pub(super) fn new(check_values: bool) -> Self {
        Self {
            state: State::Head,
            check_values,
            gathered: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The text of the last error reply: status and the start of the body.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Takes bytes until a response to `operation` is complete or `input` is used up.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        operation: Operation,
        sink: &mut impl FnMut(usize, &[u8]),
    ) -> Result<(usize, Option<Reply>), WireError> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            match self.state {
                State::Head => {
                    let (taken, head) = self.take_head(rest)?;
                    used += taken;
                    match head {
                        None => {}
                        // Interim responses come before the final one and have no body.
                        Some(Head {
                            status: 100..=199, ..
                        }) => {}
                        Some(Head {
                            status,
                            body_bytes: 0,
                        }) => {
                            return Ok((used, Some(self.complete(status, operation, sink))));
                        }
                        Some(Head {
                            status,
                            body_bytes: left,
                        }) => {
                            self.state = State::Body { status, left };
                        }
                    }
                }
                State::Body { status, left } => {
                    let piece = &rest[..rest.len().min(left)];
                    self.gather(status, operation, piece);
                    used += piece.len();
                    let left = left - piece.len();
                    if left == 0 {
                        self.state = State::Head;
                        return Ok((used, Some(self.complete(status, operation, sink))));
                    }
                    self.state = State::Body { status, left };
                }
            }
        }
        Ok((used, None))
    }

    /// Takes bytes of a head; answers how many belong to it and the head once it is complete.
    fn take_head(&mut self, rest: &[u8]) -> Result<(usize, Option<Head>), WireError> {
        let before = self.gathered.len();
        let parsed = if before == 0 {
            parse_head(&rest[..rest.len().min(HEAD_BYTES_MAX)])?
        } else {
            self.gathered
                .extend_from_slice(&rest[..rest.len().min(HEAD_BYTES_MAX - before)]);
            parse_head(&self.gathered)?
        };
        if let Some((head_bytes, head)) = parsed {
            self.gathered.clear();
            return Ok((head_bytes - before, Some(head)));
        }
        if before + rest.len() >= HEAD_BYTES_MAX {
            return Err(WireError::Head);
        }
        if before == 0 {
            self.gathered.extend_from_slice(rest);
        }
        Ok((rest.len(), None))
    }

    fn gather(&mut self, status: u16, operation: Operation, piece: &[u8]) {
        let kept_max = match status {
            200..=299 if self.check_values && operation == Operation::Get => REPLY_BYTES_MAX,
            200..=299 => 0,
            _ => ERROR_TEXT_BYTES_MAX,
        };
        let kept = piece
            .len()
            .min(kept_max.saturating_sub(self.gathered.len()));
        self.gathered.extend_from_slice(&piece[..kept]);
    }

    /// Interprets a complete response; the gathered body is used up.
    fn complete(
        &mut self,
        status: u16,
        operation: Operation,
        sink: &mut impl FnMut(usize, &[u8]),
    ) -> Reply {
        let reply = match (operation, status) {
            (Operation::Set, 200..=299) => Reply::Done,
            (Operation::Get, 200) if !self.check_values => Reply::Value { len: 0 },
            (Operation::Get, 200) => {
                match serde_json::from_slice::<ValueBody<'_>>(&self.gathered) {
                    Ok(body) => {
                        sink(0, body.value.as_bytes());
                        Reply::Value {
                            len: body.value.len(),
                        }
                    }
                    Err(_) => Reply::Other("a body that is no JSON object with a string \"value\""),
                }
            }
            (Operation::Get, 404) => Reply::Missing,
            (_, 400..=599) => {
                self.text.clear();
                self.text
                    .extend_from_slice(format!("HTTP {status} ").as_bytes());
                self.text.extend_from_slice(&self.gathered);
                self.text.truncate(ERROR_TEXT_BYTES_MAX);
                Reply::Error
            }
            _ => Reply::Other("another HTTP status"),
        };
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES_MAX);
        reply
    }
}

/// Parses a response head at the start of `bytes`: its length and what matters of it, or `None`
/// when its end has not come.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, WireError> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head_bytes = match response.parse(bytes).map_err(|_| WireError::Head)? {
        httparse::Status::Complete(head_bytes) => head_bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.ok_or(WireError::Head)?;
    let body_bytes = match status {
        100..=199 | 204 | 304 => 0,
        _ => content_length(response.headers)?,
    };
    Ok(Some((head_bytes, Head { status, body_bytes })))
}

fn content_length(fields: &[httparse::Header<'_>]) -> Result<usize, WireError> {
    let mut length = None;
    for field in fields {
        if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(WireError::ContentLength);
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(field.value).map_err(|_| WireError::ContentLength)?;
            length = Some(text.trim().parse().map_err(|_| WireError::ContentLength)?);
        }
    }
    match length {
        Some(length) if length > REPLY_BYTES_MAX => Err(WireError::TooLong),
        Some(length) => Ok(length),
        None => Err(WireError::ContentLength),
    }
}

#[cfg(test)]
mod tests {
    use super::{HEAD_BYTES_MAX, ResponseParser};
    use crate::wire::{Operation, Reply, WireError};

    type Seen = (Reply, Vec<u8>);

    fn decode(
        pieces: &[&[u8]],
        operation: Operation,
        check_values: bool,
    ) -> Result<Vec<Seen>, WireError> {
        let mut parser = ResponseParser::new(check_values);
        let mut seen = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                let mut value = Vec::new();
                let (used, reply) =
                    parser.decode(rest, operation, &mut |_, bytes| value.extend(bytes))?;
                assert!(used > 0);
                rest = &rest[used..];
                match reply {
                    Some(Reply::Error) => seen.push((Reply::Error, parser.text().to_vec())),
                    Some(reply) => seen.push((reply, value)),
                    None => {}
                }
            }
        }
        Ok(seen)
    }

    #[test]
    fn every_response_survives_every_split() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"value\":\"abc\"}\
            HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}\
            HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n\
            HTTP/1.1 400 Bad\r\nContent-Length: 4\r\n\r\nnope\
            HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{ \"ttl\": 5, \"value\" : \"a\\u0062\"}";
        let expected = vec![
            (Reply::Value { len: 3 }, b"abc".to_vec()),
            (Reply::Missing, Vec::new()),
            (Reply::Error, b"HTTP 503 ".to_vec()),
            (Reply::Error, b"HTTP 400 nope".to_vec()),
            (Reply::Value { len: 2 }, b"ab".to_vec()),
        ];
        let decode = |pieces: &[&[u8]]| decode(pieces, Operation::Get, true);
        assert_eq!(decode(&[stream]).as_ref(), Ok(&expected), "whole");
        for cut in 0..stream.len() {
            let pieces = [&stream[..cut], &stream[cut..]];
            assert_eq!(decode(&pieces).as_ref(), Ok(&expected), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode(&bytes).as_ref(), Ok(&expected), "byte by byte");
    }

    #[test]
    fn writes_are_done_by_any_success() {
        let stream =
            b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nx";
        let expected = vec![(Reply::Done, Vec::new()), (Reply::Done, Vec::new())];
        assert_eq!(decode(&[stream], Operation::Set, true), Ok(expected));
    }

    #[test]
    fn a_body_without_the_value_is_no_answer_when_checked() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let checked = decode(&[stream], Operation::Get, true).expect("well-formed");
        assert!(matches!(checked[0].0, Reply::Other(_)));
        let unchecked = decode(&[stream], Operation::Get, false).expect("well-formed");
        assert_eq!(unchecked[0].0, Reply::Value { len: 0 });
    }

    #[test]
    fn malformed_responses_are_refused() {
        let endless = [
            b"HTTP/1.1 200 OK\r\nA: ".as_slice(),
            &[b'a'; HEAD_BYTES_MAX],
        ]
        .concat();
        let cases: [(&[u8], WireError); 6] = [
            (b"+OK\r\n", WireError::Head),
            (b"HTTP/1.1 200 OK\r\n\r\n", WireError::ContentLength),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                WireError::ContentLength,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                WireError::ContentLength,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 536870913\r\n\r\n",
                WireError::TooLong,
            ),
            (&endless, WireError::Head),
        ];
        for (stream, error) in cases {
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(decode(&[stream], Operation::Get, true), Err(error), "whole");
            assert_eq!(
                decode(&bytes, Operation::Get, true),
                Err(error),
                "byte by byte"
            );
        }
    }
}
