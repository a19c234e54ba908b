//! Chunked bodies (RFC 9112, 7.1), strictly: a size is 1 to 16 hex digits, an extension is skipped,
//! trailers are skipped, every line ends in CRLF and has a limit.

use memchr::memchr;

use super::error::RequestError;
use super::reader::Step;

/// The longest line with the size of a chunk, in bytes, its extensions and CRLF included.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// All trailer lines of a body together, in bytes.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// What the next bytes of a chunked body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    SizeLine,
    Data { remaining: u64 },
    DataEnd,
    Trailer { bytes_count: usize },
}

impl Chunked {
    /// Goes one line or one run of data further. A line is taken whole or not at all.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, RequestError> {
        match *self {
            Self::SizeLine => {
                let Some(line) = take_line(input, SIZE_LINE_BYTES_MAX)? else {
                    return Ok(Step::Need);
                };
                *self = match parse_size(line)? {
                    0 => Self::Trailer { bytes_count: 0 },
                    remaining => Self::Data { remaining },
                };
                Ok(Step::Piece {
                    consumed: line.len() + 2,
                    data: &[],
                })
            }
            Self::Data { remaining } => {
                let count = remaining.min(input.len() as u64);
                if count == 0 {
                    return Ok(Step::Need);
                }
                *self = match remaining - count {
                    0 => Self::DataEnd,
                    remaining => Self::Data { remaining },
                };
                let count = usize::try_from(count).expect("it is at most a slice's length");
                Ok(Step::Piece {
                    consumed: count,
                    data: &input[..count],
                })
            }
            Self::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    *self = Self::SizeLine;
                    Ok(Step::Piece {
                        consumed: 2,
                        data: &[],
                    })
                }
                [] | [b'\r'] => Ok(Step::Need),
                _ => Err(RequestError::Chunk),
            },
            Self::Trailer { bytes_count } => {
                let Some(line) = take_line(input, TRAILER_BYTES_MAX - bytes_count)? else {
                    return Ok(Step::Need);
                };
                let consumed = line.len() + 2;
                if line.is_empty() {
                    return Ok(Step::End { consumed });
                }
                *self = Self::Trailer {
                    bytes_count: bytes_count + consumed,
                };
                Ok(Step::Piece {
                    consumed,
                    data: &[],
                })
            }
        }
    }
}

/// The first line, without its CRLF; `None` if it is not all there.
fn take_line(input: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, RequestError> {
    let window = &input[..input.len().min(bytes_max)];
    let Some(feed) = memchr(b'\n', window) else {
        let is_full = window.len() == bytes_max;
        return if is_full {
            Err(RequestError::Chunk)
        } else {
            Ok(None)
        };
    };
    match window[..feed].strip_suffix(b"\r") {
        Some(line) if memchr(b'\r', line).is_none() => Ok(Some(line)),
        _ => Err(RequestError::Chunk),
    }
}

fn parse_size(line: &[u8]) -> Result<u64, RequestError> {
    let digits_count = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at(digits_count);
    let is_extension = rest
        .trim_ascii_start()
        .first()
        .is_none_or(|&byte| byte == b';');
    if !(1..=16).contains(&digits_count) || !is_extension {
        return Err(RequestError::Chunk);
    }
    let digits = str::from_utf8(digits).map_err(|_| RequestError::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| RequestError::Chunk)
}

#[cfg(test)]
mod tests {
    use super::{Chunked, SIZE_LINE_BYTES_MAX, Step, TRAILER_BYTES_MAX};

    /// The whole body and what is left behind it; `None` for an error or a body without an end.
    fn decode(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
        let (mut chunked, mut rest, mut body) = (Chunked::SizeLine, input, Vec::new());
        loop {
            match chunked.step(rest).ok()? {
                Step::Piece { consumed, data } => {
                    body.extend_from_slice(data);
                    rest = &rest[consumed..];
                }
                Step::End { consumed } => return Some((body, &rest[consumed..])),
                Step::Need => return None,
            }
        }
    }

    #[test]
    fn chunks_extensions_and_trailers() {
        let input = b"3\r\nabc\r\n0B ; name=\"v\"\r\n0123456789\n\r\n000\r\nTrailer: x\r\n\r\nGET";
        assert_eq!(
            decode(input),
            Some((b"abc0123456789\n".to_vec(), &b"GET"[..]))
        );
        assert_eq!(decode(b"0\r\n\r\n"), Some((Vec::new(), &b""[..])));
    }

    #[test]
    fn bad_framing_is_refused() {
        for input in [
            "\r\n",
            ";x\r\n",
            " 1\r\na",
            "-1\r\n",
            "+1\r\na",
            "0x1\r\na",
            "1_0\r\n",
            "g\r\n",
            "1\na\r\n",
            "1;x\ny\r\na\r\n",
            "1;x\ry\r\na\r\n",
            "1 2\r\na\r\n",
            "1\r\nabc",
            "1\r\na\n",
            "1\r\na\rx",
            "00000000000000001\r\na\r\n",
            "0\r\nTrailer: x\n\r\n",
        ] {
            let (mut chunked, mut rest, mut is_refused) =
                (Chunked::SizeLine, input.as_bytes(), false);
            loop {
                match chunked.step(rest) {
                    Ok(Step::Piece { consumed, .. }) => rest = &rest[consumed..],
                    Ok(_) => break,
                    Err(_) => {
                        is_refused = true;
                        break;
                    }
                }
            }
            assert!(is_refused, "{input:?}");
        }
    }

    #[test]
    fn the_largest_size_is_no_overflow() {
        let mut chunked = Chunked::SizeLine;
        chunked.step(b"FFFFFFFFFFFFFFFF\r\n").unwrap();
        assert_eq!(
            chunked,
            Chunked::Data {
                remaining: u64::MAX
            }
        );
    }

    #[test]
    fn lines_have_limits() {
        let line = |padding: usize| format!("1;{}\r\n", "x".repeat(padding)).into_bytes();
        assert!(
            Chunked::SizeLine
                .step(&line(SIZE_LINE_BYTES_MAX - 4))
                .is_ok()
        );
        assert!(
            Chunked::SizeLine
                .step(&line(SIZE_LINE_BYTES_MAX - 3))
                .is_err()
        );
        assert!(
            Chunked::SizeLine
                .step(&[b'1'; SIZE_LINE_BYTES_MAX - 1])
                .is_ok()
        );
        assert!(
            Chunked::SizeLine
                .step(&[b'1'; SIZE_LINE_BYTES_MAX])
                .is_err()
        );

        let trailers = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
        assert!(decode(&trailers((TRAILER_BYTES_MAX - 2) / 6)).is_some());
        assert!(decode(&trailers((TRAILER_BYTES_MAX - 2) / 6 + 1)).is_none());
    }
}
