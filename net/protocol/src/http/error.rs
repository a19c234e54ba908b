//! Why a request is refused.

use super::encoder::Encoder;
use super::request::{Persistence, ReplyForm, ReplyKind};
use super::status::Status;

/// A request that is answered by the codec itself. Nothing was executed.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub error: RequestError,
    /// How to answer; tells whether the connection stays.
    pub form: ReplyForm,
}

impl Refusal {
    /// A refusal after which the bytes that follow mean nothing.
    pub(super) fn closing(error: RequestError, head_only: bool) -> Self {
        let form = ReplyForm {
            kind: ReplyKind::Page,
            persistence: Persistence::Close,
            head_only,
        };
        Self { error, form }
    }

    /// Appends the response: a status and `{"error":"..."}`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut encoder = Encoder::new(self.form, out);
        encoder.error_page(
            self.error.status(),
            &self.error.to_string(),
            self.error.allow(),
        );
    }
}

/// What is wrong with a request. All of it is normal in running.
///
/// `Display` is the text that clients read; what it repeats of their input is bounded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Not HTTP, or a header that may not be.
    #[error("malformed request: {0}")]
    Malformed(httparse::Error),
    /// A line that does not end in CRLF.
    #[error("malformed request: a line must end in CRLF")]
    BareLineFeed,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("only HTTP/1.0 and HTTP/1.1 are spoken here")]
    Version,
    /// The head is above its limit.
    #[error("the request line or the headers are too long")]
    HeadTooLong,
    /// Content-Length is not one number, or comes with Transfer-Encoding.
    #[error("ambiguous body length: send either one Content-Length or Transfer-Encoding: chunked")]
    AmbiguousLength,
    /// A transfer coding other than chunked.
    #[error("the only transfer coding known here is chunked")]
    TransferCoding,
    /// The chunks of a body are broken.
    #[error("malformed chunked body")]
    Chunk,
    /// HTTP/1.1 without Host, several of them, or one that is none.
    #[error("exactly one valid Host header is needed")]
    Host,
    /// A Host that is not ours.
    #[error("this host name is not served here")]
    UnknownHost,
    /// An Expect other than 100-continue.
    #[error("the only expectation known here is 100-continue")]
    Expectation,
    /// A target that is no path.
    #[error("the request target must be a path")]
    Target,
    /// A `%` without two hex digits.
    #[error("a % in the path must be followed by two hex digits")]
    PercentEncoding,
    /// A query string on a key.
    #[error("a key takes no query string; write ? as %3F")]
    Query,
    /// The path `/`.
    #[error("the key is empty")]
    KeyEmpty,
    /// A key above its limit.
    #[error("the key is too long")]
    KeyTooLong,
    /// A path under `/-/` that is no page.
    #[error("no such page; keys cannot begin with -/")]
    NoSuchPage,
    /// A method that keys do not have.
    #[error("a key has the methods GET, HEAD, POST, PUT and DELETE")]
    KeyMethod,
    /// A method that pages do not have.
    #[error("a page has the methods GET and HEAD")]
    PageMethod,
    /// A body where none belongs.
    #[error("this method takes no body")]
    UnexpectedBody,
    /// The body is not declared to be JSON.
    #[error("the body must be sent with Content-Type: application/json")]
    MediaType,
    /// The body is above its limit.
    #[error("the body is too long")]
    BodyTooLong,
    /// The body is not what [`Set`](crate::command::Set) needs.
    #[error("invalid body: {0}")]
    Body(serde_json::Error),
}

impl RequestError {
    /// The status code that goes with it.
    pub fn status(&self) -> Status {
        match self {
            Self::Malformed(_)
            | Self::BareLineFeed
            | Self::AmbiguousLength
            | Self::Chunk
            | Self::Host
            | Self::Target
            | Self::PercentEncoding
            | Self::Query
            | Self::KeyEmpty
            | Self::UnexpectedBody
            | Self::Body(_) => Status::BadRequest,
            Self::NoSuchPage => Status::NotFound,
            Self::KeyMethod | Self::PageMethod => Status::MethodNotAllowed,
            Self::BodyTooLong => Status::ContentTooLarge,
            Self::KeyTooLong => Status::UriTooLong,
            Self::MediaType => Status::UnsupportedMediaType,
            Self::Expectation => Status::ExpectationFailed,
            Self::UnknownHost => Status::MisdirectedRequest,
            Self::HeadTooLong => Status::HeaderFieldsTooLarge,
            Self::TransferCoding => Status::NotImplemented,
            Self::Version => Status::VersionNotSupported,
        }
    }

    /// The `Allow` header that a 405 must have.
    fn allow(&self) -> Option<&'static str> {
        match self {
            Self::KeyMethod => Some("GET, HEAD, POST, PUT, DELETE"),
            Self::PageMethod => Some("GET, HEAD"),
            _ => None,
        }
    }
}
