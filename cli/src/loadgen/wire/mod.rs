//! The two protocols as bytes: requests out, replies in. Pure: no sockets, no clocks.
//!
//! [`Requests`] appends encoded requests to a buffer; a [`Decoder`] per connection takes what was
//! read, in pieces of any size, and says which reply it completes. Neither allocates per request.

mod decoder;
mod http;
mod requests;
mod resp;

pub(crate) use decoder::Decoder;
pub(crate) use requests::{COUNTER_PREFIX, Requests, Ttl};

/// Longest part of an error's text that is kept, in bytes.
pub(crate) const ERROR_TEXT_BYTES_MAX: usize = 128;
/// Longest value that a reply may carry, in bytes (Redis's own limit).
const REPLY_BYTES_MAX: usize = 512 << 20;

/// The protocol spoken with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// RESP2, the protocol of Redis: GET, SET and INCR commands.
    Resp,
    /// HTTP/1.1: `GET /KEY` and `POST /KEY` with a JSON body.
    Http,
}

impl Protocol {
    /// The name as given on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resp => "resp",
            Self::Http => "http",
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read a key.
    Get,
    /// Write a key.
    Set,
    /// Add one to a counter.
    Incr,
}

impl Operation {
    /// The name used in tables and as histogram tag.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
            Self::Incr => "INCR",
        }
    }
}

/// One complete reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The write was accepted.
    Done,
    /// A value of `len` bytes, which were handed to the sink as they came.
    Value { len: usize },
    /// A counter's new value.
    Integer,
    /// There is no such key.
    Missing,
    /// The target answered an error; its text is the decoder's `text()`.
    Error,
    /// Well-formed, but no answer to a GET or SET: what it is instead.
    Other(&'static str),
}

/// The target's bytes are not a reply in the protocol; the connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A reply began with a byte that begins no reply expected here.
    #[error("reply begins with byte 0x{0:02x}, which is no simple reply type")]
    ReplyType(u8),
    /// A line without CR before its LF, or without its type byte.
    #[error("malformed reply line")]
    Line,
    /// A length or number that is none.
    #[error("malformed number in a reply")]
    Number,
    /// A length above the limit.
    #[error("reply is longer than 512 MiB")]
    TooLong,
    /// A value that CRLF does not end.
    #[error("value in a reply is not followed by CRLF")]
    ValueEnd,
    /// `httparse` refused the response head, or it is longer than 16 KiB.
    #[error("malformed HTTP response head")]
    Head,
    /// A body whose length is not given by Content-Length.
    #[error("HTTP response without a usable Content-Length")]
    ContentLength,
}
