//! The head of a request: where it ends, and what its lines say about framing.
//!
//! An error here means that the next byte's meaning is not certain, so each closes the connection.
//! What a well-framed request may ask for is judged elsewhere.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::error::{Refusal, RequestError};
use super::request::Persistence;

/// Header lines that a request may have.
const HEADERS_COUNT_MAX: usize = 64;

/// Looks for the end of a head as it arrives, at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    scanned: usize,
    line_start: usize,
    /// A line that is not blank was seen; blank ones before it are skipped (RFC 9112, 2.2).
    has_line: bool,
    /// At this length a partial head is parsed, to refuse at once what can never become one.
    /// It doubles, so that a head that comes in drops is not parsed for each of them.
    probe_at: usize,
}

impl HeadScan {
    /// Returns the length of the head once it is all there.
    ///
    /// `input` begins with the same bytes at each call.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        head_bytes_max: usize,
    ) -> Result<Option<usize>, RequestError> {
        assert!(
            self.scanned <= input.len(),
            "the caller dropped bytes that were not consumed"
        );
        let window = &input[..input.len().min(head_bytes_max)];
        while let Some(distance) = memchr(b'\n', &window[self.scanned..]) {
            let feed = self.scanned + distance;
            match &window[self.line_start..feed] {
                [b'\r'] if self.has_line => return Ok(Some(feed + 1)),
                [b'\r'] => {}
                [.., b'\r'] => self.has_line = true,
                _ => return Err(RequestError::BareLineFeed),
            }
            self.scanned = feed + 1;
            self.line_start = feed + 1;
        }
        self.scanned = window.len();
        if window.len() == head_bytes_max {
            return Err(RequestError::HeadTooLong);
        }
        if window.len() >= self.probe_at {
            self.probe_at = window.len() * 2;
            let mut headers = [const { MaybeUninit::uninit() }; HEADERS_COUNT_MAX];
            let mut request = httparse::Request::new(&mut []);
            request
                .parse_with_uninit_headers(window, &mut headers)
                .map_err(|error| head_error(error, window))?;
        }
        Ok(None)
    }
}

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// GET, and HEAD but for the body of its reply.
    Get,
    /// POST and PUT.
    Set,
    /// DELETE.
    Delete,
    /// Any other.
    Other,
}

/// How the end of the body is found. A request without a body has `Exact(0)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Exact(u64),
    Chunked,
}

/// What the Expect header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    None,
    Continue,
    Unknown,
}

/// A parsed head, its framing beyond doubt.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) head_only: bool,
    pub(super) target: &'a str,
    /// Always there in HTTP/1.1.
    pub(super) host: Option<&'a [u8]>,
    pub(super) persistence: Persistence,
    pub(super) length: BodyLength,
    pub(super) expectation: Expectation,
    /// The body is said to be JSON.
    pub(super) is_json: bool,
}

impl<'a> Head<'a> {
    /// Parses a head whose end [`HeadScan`] has found.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_COUNT_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(Refusal::closing(RequestError::BareLineFeed, false)),
            Err(error) => return Err(Refusal::closing(head_error(error, bytes), false)),
        }
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::closing(RequestError::Target, false));
        };
        let head_only = method == "HEAD";
        let fields = Fields::read(request.headers)
            .and_then(|fields| {
                let length = fields.body_length(version)?;
                if version == 1 && fields.host.is_none() {
                    return Err(RequestError::Host);
                }
                Ok((fields, length))
            })
            .map_err(|error| Refusal::closing(error, head_only));
        let (fields, length) = fields?;
        Ok(Self {
            method: match method {
                "GET" | "HEAD" => Method::Get,
                "POST" | "PUT" => Method::Set,
                "DELETE" => Method::Delete,
                _ => Method::Other,
            },
            head_only,
            target,
            host: fields.host,
            persistence: fields.persistence(version),
            length,
            // HTTP/1.0 has no interim replies, so its clients cannot be waiting for one.
            expectation: if version == 0 {
                Expectation::None
            } else {
                fields.expectation
            },
            is_json: fields.is_json,
        })
    }
}

/// The header fields that mean something here.
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    is_chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
    expectation: Expectation,
    content_types_count: usize,
    is_json: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[httparse::Header<'a>]) -> Result<Self, RequestError> {
        let mut fields = Self {
            host: None,
            content_length: None,
            is_chunked: false,
            says_close: false,
            says_keep_alive: false,
            expectation: Expectation::None,
            content_types_count: 0,
            is_json: false,
        };
        for header in headers {
            fields.read_one(header.name, header.value.trim_ascii())?;
        }
        Ok(fields)
    }

    fn read_one(&mut self, name: &str, value: &'a [u8]) -> Result<(), RequestError> {
        if name.eq_ignore_ascii_case("host") {
            if self.host.replace(value).is_some() {
                return Err(RequestError::Host);
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            if self.content_length.replace(parse_length(value)?).is_some() {
                return Err(RequestError::AmbiguousLength);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(RequestError::TransferCoding);
            }
            if self.is_chunked {
                return Err(RequestError::AmbiguousLength);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                self.says_close |= option.eq_ignore_ascii_case(b"close");
                self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case("expect") {
            let is_known = value.eq_ignore_ascii_case(b"100-continue")
                && self.expectation != Expectation::Unknown;
            self.expectation = if is_known {
                Expectation::Continue
            } else {
                Expectation::Unknown
            };
        } else if name.eq_ignore_ascii_case("content-type") {
            self.content_types_count += 1;
            self.is_json = self.content_types_count == 1 && is_json(value);
        }
        Ok(())
    }

    fn body_length(&self, version: u8) -> Result<BodyLength, RequestError> {
        match (self.is_chunked, self.content_length) {
            (true, Some(_)) => Err(RequestError::AmbiguousLength),
            // A 1.0 proxy on the way would have framed it in some other manner.
            (true, None) if version == 0 => Err(RequestError::AmbiguousLength),
            (true, None) => Ok(BodyLength::Chunked),
            (false, length) => Ok(BodyLength::Exact(length.unwrap_or(0))),
        }
    }

    fn persistence(&self, version: u8) -> Persistence {
        match (self.says_close, version) {
            (false, 1) => Persistence::Implied,
            (false, _) if self.says_keep_alive => Persistence::KeepAlive,
            _ => Persistence::Close,
        }
    }
}

/// Digits alone: no sign, no list. What does not fit into 64 bits is above any limit anyway.
fn parse_length(value: &[u8]) -> Result<u64, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::AmbiguousLength);
    }
    Ok(value.iter().fold(0_u64, |length, digit| {
        length
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    media_type
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

fn head_error(error: httparse::Error, head: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::HeadTooLong,
        // The parser says so of any word that stands in the place of the version.
        httparse::Error::Version if has_other_version(head) => RequestError::Version,
        error => RequestError::Malformed(error),
    }
}

fn has_other_version(head: &[u8]) -> bool {
    let mut words = head
        .trim_ascii_start()
        .split(|&byte| byte == b' ' || byte == b'\r');
    words.nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}
