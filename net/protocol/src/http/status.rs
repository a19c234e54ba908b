//! The status codes in use.

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// 200
    Ok,
    /// 204
    NoContent,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 413
    ContentTooLarge,
    /// 414
    UriTooLong,
    /// 415
    UnsupportedMediaType,
    /// 417
    ExpectationFailed,
    /// 421
    MisdirectedRequest,
    /// 431
    HeaderFieldsTooLarge,
    /// 500
    InternalServerError,
    /// 501
    NotImplemented,
    /// 503
    ServiceUnavailable,
    /// 505
    VersionNotSupported,
    /// 507
    InsufficientStorage,
}

impl Status {
    /// The code, as in `404`.
    pub fn code(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NoContent => 204,
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::ContentTooLarge => 413,
            Self::UriTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::MisdirectedRequest => 421,
            Self::HeaderFieldsTooLarge => 431,
            Self::InternalServerError => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
            Self::VersionNotSupported => 505,
            Self::InsufficientStorage => 507,
        }
    }

    /// The status line, CRLF included.
    pub(super) fn line(self) -> &'static str {
        match self {
            Self::Ok => "HTTP/1.1 200 OK\r\n",
            Self::NoContent => "HTTP/1.1 204 No Content\r\n",
            Self::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Self::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Self::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Self::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Self::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Self::UnsupportedMediaType => "HTTP/1.1 415 Unsupported Media Type\r\n",
            Self::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Self::MisdirectedRequest => "HTTP/1.1 421 Misdirected Request\r\n",
            Self::HeaderFieldsTooLarge => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
            Self::InternalServerError => "HTTP/1.1 500 Internal Server Error\r\n",
            Self::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Self::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Self::VersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
            Self::InsufficientStorage => "HTTP/1.1 507 Insufficient Storage\r\n",
        }
    }
}
