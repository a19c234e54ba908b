//! RESP2 replies from pieces of any size.
//!
//! A bulk string is split off the buffer that it was read into, so that no byte is copied here. What is
//! begun is kept on a stack: however a reply is cut, each of its bytes is looked at once.

use bytes::{Buf, Bytes, BytesMut};

use crate::value::{ServerError, Value};

/// Longest line: a status, an error, or a number.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Arrays in arrays; the servers nest three deep.
const DEPTH_MAX: usize = 8;
/// Room made for an array before its elements are there.
const RESERVED_ELEMENTS_MAX: usize = 64;

/// Why a stream is no stream of replies; it can't be decoded further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A reply of a type that RESP2 does not have.
    #[error("a reply begins with byte {0}")]
    UnknownType(u8),
    /// A length or a number that is none.
    #[error("a number is malformed")]
    BadNumber,
    /// A line without an end, or a value longer than it said.
    #[error("the end of a line is missing")]
    MissingLineEnd,
    /// Longer than [`Options::reply_bytes_max`](crate::Options::reply_bytes_max).
    #[error("a reply is too long")]
    TooLong,
    /// Arrays in arrays, more than eight deep.
    #[error("a reply is nested too deep")]
    TooDeep,
    /// A reply to nothing.
    #[error("a reply that nobody asked for")]
    Unasked,
}

/// An array of which elements are missing.
#[derive(Debug)]
struct Begun {
    missing: usize,
    elements: Vec<Value>,
}

#[derive(Debug)]
pub(crate) struct Decoder {
    /// What a reply may take: its longest value, and some lines around it.
    room_bytes: usize,
    /// What the reply has taken so far: on the wire, and in memory for the elements of arrays.
    reply_bytes: usize,
    arrays: Vec<Begun>,
    /// Length of the bulk string whose header was taken.
    bulk: Option<usize>,
    /// Bytes at the front of the buffer that hold no end of a line.
    searched: usize,
}

enum Step {
    Value(Value),
    Begun,
    Incomplete,
}

impl Decoder {
    pub(crate) fn new(reply_bytes_max: usize) -> Self {
        Self {
            room_bytes: reply_bytes_max.saturating_add(LINE_BYTES_MAX),
            reply_bytes: 0,
            arrays: Vec::new(),
            bulk: None,
            searched: 0,
        }
    }

    /// Takes the next reply off `input`, or what there is of it.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Value>, DecodeError> {
        loop {
            let value = match self.step(input)? {
                Step::Value(value) => value,
                Step::Begun => continue,
                Step::Incomplete => return Ok(None),
            };
            if let Some(reply) = self.complete(value) {
                self.reply_bytes = 0;
                return Ok(Some(reply));
            }
        }
    }

    /// Bytes that are certainly missing, to make room for.
    pub(crate) fn missing_bytes(&self, input: &BytesMut) -> usize {
        self.bulk
            .map_or(0, |length| (length + 2).saturating_sub(input.len()))
    }

    /// Puts an element where it belongs; the reply, if it was the last one.
    fn complete(&mut self, mut value: Value) -> Option<Value> {
        while let Some(array) = self.arrays.last_mut() {
            array.elements.push(value);
            array.missing -= 1;
            self.reply_bytes = self.reply_bytes.saturating_add(size_of::<Value>());
            if array.missing > 0 {
                return None;
            }
            value = Value::Array(self.arrays.pop()?.elements);
        }
        Some(value)
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Step, DecodeError> {
        if let Some(length) = self.bulk {
            return self.take_bulk(length, input);
        }
        let Some(mut line) = self.take_line(input)? else {
            return Ok(Step::Incomplete);
        };
        if line.is_empty() {
            return Err(DecodeError::UnknownType(b'\r'));
        }
        let value = match line.get_u8() {
            b'+' => Value::Status(line),
            b'-' => Value::Error(ServerError::new(line)),
            b':' => Value::Integer(number(&line)?),
            b'$' => match length(&line)? {
                None => Value::Null,
                Some(length) => {
                    // Said before it is waited for.
                    self.check_room(length.saturating_add(2))?;
                    self.bulk = Some(length);
                    return Ok(Step::Begun);
                }
            },
            b'*' => match length(&line)? {
                None => Value::Null,
                Some(0) => Value::Array(Vec::new()),
                Some(_) if self.arrays.len() == DEPTH_MAX => return Err(DecodeError::TooDeep),
                Some(missing) => {
                    let elements = Vec::with_capacity(missing.min(RESERVED_ELEMENTS_MAX));
                    self.arrays.push(Begun { missing, elements });
                    return Ok(Step::Begun);
                }
            },
            other => return Err(DecodeError::UnknownType(other)),
        };
        Ok(Step::Value(value))
    }

    fn take_bulk(&mut self, length: usize, input: &mut BytesMut) -> Result<Step, DecodeError> {
        if input.len() < length + 2 {
            return Ok(Step::Incomplete);
        }
        if &input[length..length + 2] != b"\r\n" {
            return Err(DecodeError::MissingLineEnd);
        }
        self.count(length + 2)?;
        self.bulk = None;
        let bytes = input.split_to(length).freeze();
        input.advance(2);
        Ok(Step::Value(Value::Bytes(bytes)))
    }

    /// A line without its end, if it is whole.
    fn take_line(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, DecodeError> {
        let Some(end) = memchr::memchr(b'\n', &input[self.searched..]) else {
            self.searched = input.len();
            let is_long = self.searched > LINE_BYTES_MAX;
            return if is_long {
                Err(DecodeError::TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + end;
        if end == 0 || input[end - 1] != b'\r' {
            return Err(DecodeError::MissingLineEnd);
        }
        if end > LINE_BYTES_MAX {
            return Err(DecodeError::TooLong);
        }
        self.searched = 0;
        self.count(end + 1)?;
        let line = input.split_to(end - 1).freeze();
        input.advance(2);
        Ok(Some(line))
    }

    fn count(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.check_room(bytes)?;
        self.reply_bytes += bytes;
        Ok(())
    }

    fn check_room(&self, bytes: usize) -> Result<(), DecodeError> {
        let has_room = bytes <= self.room_bytes.saturating_sub(self.reply_bytes);
        if has_room {
            Ok(())
        } else {
            Err(DecodeError::TooLong)
        }
    }
}

fn number(text: &[u8]) -> Result<i64, DecodeError> {
    let text = std::str::from_utf8(text).map_err(|_| DecodeError::BadNumber)?;
    text.parse().map_err(|_| DecodeError::BadNumber)
}

/// A length; -1 stands for nothing.
fn length(text: &[u8]) -> Result<Option<usize>, DecodeError> {
    match number(text)? {
        -1 => Ok(None),
        number => usize::try_from(number)
            .map(Some)
            .map_err(|_| DecodeError::BadNumber),
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::{any, prop};
    use proptest::proptest;

    use super::{DecodeError, Decoder, LINE_BYTES_MAX};
    use crate::value::{ServerError, Value};

    const MAX: usize = 1 << 20;

    fn decode_all(input: &mut BytesMut, decoder: &mut Decoder) -> Result<Vec<Value>, DecodeError> {
        let mut replies = Vec::new();
        while let Some(reply) = decoder.decode(input)? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn decode(input: &[u8], max: usize) -> Result<Vec<Value>, DecodeError> {
        decode_all(&mut BytesMut::from(input), &mut Decoder::new(max))
    }

    fn bytes(text: &'static str) -> Value {
        Value::Bytes(Bytes::from_static(text.as_bytes()))
    }

    const STREAM: &[u8] =
        b"+OK\r\n$-1\r\n$0\r\n\r\n$7\r\na\r\nb\r\nc\r\n:-42\r\n-ERR no\r\n*0\r\n*-1\r\n\
        *3\r\n:1\r\n*2\r\n$1\r\nx\r\n*0\r\n$1\r\ny\r\n+end\r\n";

    fn stream() -> Vec<Value> {
        let inner = Value::Array(vec![bytes("x"), Value::Array(vec![])]);
        vec![
            Value::Status(Bytes::from_static(b"OK")),
            Value::Null,
            bytes(""),
            bytes("a\r\nb\r\nc"),
            Value::Integer(-42),
            Value::Error(ServerError::new(Bytes::from_static(b"ERR no"))),
            Value::Array(vec![]),
            Value::Null,
            Value::Array(vec![Value::Integer(1), inner, bytes("y")]),
            Value::Status(Bytes::from_static(b"end")),
        ]
    }

    #[test]
    fn replies_are_the_same_however_they_are_cut() {
        assert_eq!(decode(STREAM, MAX), Ok(stream()));
        for cut in 0..STREAM.len() {
            let (mut decoder, mut input) = (Decoder::new(MAX), BytesMut::from(&STREAM[..cut]));
            let mut replies = decode_all(&mut input, &mut decoder).expect("well formed");
            input.extend_from_slice(&STREAM[cut..]);
            replies.extend(decode_all(&mut input, &mut decoder).expect("well formed"));
            assert_eq!(replies, stream(), "cut at {cut}");
        }
        let (mut decoder, mut input, mut replies) =
            (Decoder::new(MAX), BytesMut::new(), Vec::new());
        for byte in STREAM {
            input.extend_from_slice(&[*byte]);
            replies.extend(decode_all(&mut input, &mut decoder).expect("well formed"));
        }
        assert_eq!(replies, stream(), "byte by byte");
        assert!(input.is_empty());
    }

    #[test]
    fn values_are_not_copied() {
        let mut input = BytesMut::from(&b"$5\r\nhello\r\n"[..]);
        let address = input.as_ptr().wrapping_add(4);
        let reply = Decoder::new(MAX).decode(&mut input);
        let Ok(Some(Value::Bytes(bytes))) = reply else {
            panic!("{reply:?}");
        };
        assert_eq!(bytes.as_ptr(), address);
    }

    #[test]
    fn malformed_streams_are_errors() {
        for (input, error) in [
            (&b"!x\r\n"[..], DecodeError::UnknownType(b'!')),
            (b"\r\n", DecodeError::UnknownType(b'\r')),
            (b"\n", DecodeError::MissingLineEnd),
            (b"+x\n", DecodeError::MissingLineEnd),
            (b"$3\r\nabcd\r\n", DecodeError::MissingLineEnd),
            (b"$-2\r\n", DecodeError::BadNumber),
            (b"*x\r\n", DecodeError::BadNumber),
            (b":\r\n", DecodeError::BadNumber),
            (b":9223372036854775808\r\n", DecodeError::BadNumber),
            (
                b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
                DecodeError::TooDeep,
            ),
        ] {
            assert_eq!(
                decode(input, MAX),
                Err(error),
                "{:?}",
                Bytes::copy_from_slice(input)
            );
        }
    }

    #[test]
    fn lengths_are_bounded_before_they_are_waited_for() {
        let header = |length: usize| format!("${length}\r\n").into_bytes();
        let longest = MAX + LINE_BYTES_MAX - header(MAX).len() - 2;
        assert_eq!(decode(&header(longest), MAX), Ok(vec![]));
        assert_eq!(decode(&header(longest + 1), MAX), Err(DecodeError::TooLong));
        assert_eq!(
            decode(&header(usize::MAX / 4), MAX),
            Err(DecodeError::TooLong)
        );
        assert_eq!(decode(&vec![b'+'; LINE_BYTES_MAX], MAX), Ok(vec![]));
        assert_eq!(
            decode(&vec![b'+'; LINE_BYTES_MAX + 1], MAX),
            Err(DecodeError::TooLong)
        );
        // An array's length reserves next to nothing, and its elements count together.
        assert_eq!(decode(b"*9223372036854775807\r\n", MAX), Ok(vec![]));
        let mut many = b"*1000000\r\n".to_vec();
        let elements = (MAX + LINE_BYTES_MAX) / (4 + size_of::<Value>());
        many.extend(b":1\r\n".repeat(elements - 1));
        assert_eq!(decode(&many, MAX), Ok(vec![]));
        many.extend(b":1\r\n".repeat(3));
        assert_eq!(decode(&many, MAX), Err(DecodeError::TooLong));
    }

    proptest! {
        #[test]
        fn no_input_panics(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&input, MAX);
        }

        #[test]
        fn no_mutation_panics(at in 0..STREAM.len(), byte in any::<u8>()) {
            let mut input = STREAM.to_vec();
            input[at] = byte;
            let _ = decode(&input, MAX);
        }
    }
}
