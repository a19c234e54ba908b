//! Replies to responses.

use std::mem;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::request::{Persistence, ReplyForm, ReplyKind};
use super::status::Status;
use crate::command::CommandError;
use crate::reply::ReplySink;

/// What a value with nothing to escape is wrapped in.
const VALUE_OPEN: &[u8] = b"{\"value\":\"";
const VALUE_CLOSE: &[u8] = b"\"}";

/// The largest head of a response with a body, in bytes, rounded up.
const HEAD_BYTES: usize = 256;

/// The media types of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `text/plain`, in UTF-8.
    Text,
    /// `application/openmetrics-text`, which Prometheus prefers.
    OpenMetrics,
}

impl ContentType {
    /// The header and what goes with every body: it may not be kept, nor guessed to be HTML.
    fn headers(self) -> &'static str {
        match self {
            Self::Json => {
                "Content-Type: application/json\r\n\
                 Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "
            }
            Self::Text => {
                "Content-Type: text/plain; charset=utf-8\r\n\
                 Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "
            }
            Self::OpenMetrics => {
                "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
                 Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "
            }
        }
    }
}

/// Appends the response to one request to a buffer.
///
/// As a [`ReplySink`] it takes the reply of the request's command. A reply that the command cannot
/// have is answered 500. Of several replies, or the elements of an aggregate, only the first
/// counts, so that there is exactly one response. A value goes to the buffer without another
/// allocation, except one that comes in parts and has something to escape.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    form: ReplyForm,
    is_answered: bool,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    pub fn new(form: ReplyForm, out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            form,
            is_answered: false,
        }
    }

    /// Answers with a page.
    pub fn page(&mut self, status: Status, content_type: ContentType, body: &[u8]) {
        if self.begin() {
            self.head(status, content_type, body.len(), None);
            if !self.form.head_only {
                self.out.extend_from_slice(body);
            }
        }
    }

    /// Answers `{"error": message}`, for what goes wrong outside of a command.
    pub fn refuse(&mut self, status: Status, message: &str) {
        self.error_page(status, message, None);
    }

    pub(super) fn error_page(&mut self, status: Status, message: &str, allow: Option<&str>) {
        if self.begin() {
            let body = serde_json::json!({ "error": message }).to_string();
            self.head(status, ContentType::Json, body.len(), allow);
            if !self.form.head_only {
                self.out.extend_from_slice(body.as_bytes());
            }
        }
    }

    /// Whether this is the first answer.
    fn begin(&mut self) -> bool {
        !mem::replace(&mut self.is_answered, true)
    }

    fn no_content(&mut self) {
        if self.begin() {
            self.out
                .extend_from_slice(Status::NoContent.line().as_bytes());
            self.finish_head();
        }
    }

    fn not_found(&mut self) {
        self.error_page(Status::NotFound, "no such key", None);
    }

    fn unexpected(&mut self) {
        self.error_page(
            Status::InternalServerError,
            "this reply has no HTTP form",
            None,
        );
    }

    fn head(
        &mut self,
        status: Status,
        content_type: ContentType,
        body_bytes: usize,
        allow: Option<&str>,
    ) {
        let out = &mut *self.out;
        out.reserve(HEAD_BYTES);
        out.extend_from_slice(status.line().as_bytes());
        if let Some(allow) = allow {
            out.extend_from_slice(b"Allow: ");
            out.extend_from_slice(allow.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(content_type.headers().as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(body_bytes).as_bytes());
        out.extend_from_slice(b"\r\n");
        self.finish_head();
    }

    fn finish_head(&mut self) {
        self.out.extend_from_slice(match self.form.persistence {
            Persistence::Implied => b"\r\n".as_slice(),
            Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
            Persistence::Close => b"Connection: close\r\n\r\n",
        });
    }

    fn value(&mut self, value: &[u8]) {
        let start = self.out.len();
        match str::from_utf8(value) {
            Ok(text) if has_escapes(value) => {
                serde_json::to_writer(&mut *self.out, text).expect("a Vec takes what is written");
                self.out.push(b'}');
                self.put_head_before(start, b"{\"value\":");
            }
            Ok(_) => {
                let body_bytes = VALUE_OPEN.len() + value.len() + VALUE_CLOSE.len();
                self.head(Status::Ok, ContentType::Json, body_bytes, None);
                if !self.form.head_only {
                    self.out.reserve(body_bytes);
                    self.out.extend_from_slice(VALUE_OPEN);
                    self.out.extend_from_slice(value);
                    self.out.extend_from_slice(VALUE_CLOSE);
                }
            }
            Err(_) => {
                self.out.resize(start + value.len().div_ceil(3) * 4, 0);
                STANDARD
                    .encode_slice(value, &mut self.out[start..])
                    .expect("there are as many digits as base64 needs");
                self.out.extend_from_slice(VALUE_CLOSE);
                self.put_head_before(start, b"{\"value_base64\":\"");
            }
        }
    }

    /// A value whose joined parts, and nothing else, are in the buffer from `start` on.
    fn joined_value(&mut self, start: usize) {
        let value = &self.out[start..];
        if has_escapes(value) || str::from_utf8(value).is_err() {
            let value = self.out.split_off(start);
            self.value(&value);
        } else {
            self.out.extend_from_slice(VALUE_CLOSE);
            self.put_head_before(start, VALUE_OPEN);
        }
    }

    /// Completes a response whose body, of a length that was not known before, is in the buffer
    /// from `start` on, except for what it opens with. For so few bytes it is one memmove.
    fn put_head_before(&mut self, start: usize, body_open: &[u8]) {
        let body_bytes = body_open.len() + self.out.len() - start;
        if self.form.head_only {
            self.out.truncate(start);
        }
        let end = self.out.len();
        self.head(Status::Ok, ContentType::Json, body_bytes, None);
        if !self.form.head_only {
            self.out.extend_from_slice(body_open);
        }
        let put_bytes = self.out.len() - end;
        self.out[start..].rotate_right(put_bytes);
    }
}

impl ReplySink for Encoder<'_> {
    fn status(&mut self, _text: &str) {
        match self.form.kind {
            ReplyKind::Set => self.no_content(),
            _ => self.unexpected(),
        }
    }

    fn error(&mut self, error: &CommandError) {
        let text = error.to_string();
        let message = text.strip_prefix("ERR ").unwrap_or(&text);
        self.error_page(status_of(error), message, None);
    }

    fn null(&mut self) {
        match self.form.kind {
            ReplyKind::Get => self.not_found(),
            _ => self.unexpected(),
        }
    }

    fn null_array(&mut self) {
        self.unexpected();
    }

    fn integer(&mut self, value: i64) {
        match (self.form.kind, value) {
            (ReplyKind::Delete, 0) => self.not_found(),
            (ReplyKind::Delete, _) => self.no_content(),
            _ => self.unexpected(),
        }
    }

    fn bulk(&mut self, bytes: &[u8]) {
        if self.form.kind != ReplyKind::Get {
            self.unexpected();
        } else if self.begin() {
            self.value(bytes);
        }
    }

    fn bulk_parts(&mut self, bytes_count: usize, parts: &mut dyn Iterator<Item = &[u8]>) {
        if self.form.kind != ReplyKind::Get {
            self.unexpected();
        } else if self.begin() {
            self.out.reserve(HEAD_BYTES + bytes_count);
            let start = self.out.len();
            for part in parts {
                self.out.extend_from_slice(part);
            }
            self.joined_value(start);
        }
    }

    fn array(&mut self, _count: usize) {
        self.unexpected();
    }

    fn map(&mut self, _count: usize) {
        self.unexpected();
    }

    fn verbatim(&mut self, _text: &str) {
        self.unexpected();
    }
}

/// Whether a JSON string must escape any of these bytes.
fn has_escapes(text: &[u8]) -> bool {
    let needs_escape = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    // No branch and no early end, so that it becomes a vector instruction per 16 bytes.
    text.iter()
        .fold(false, |any, &byte| any | needs_escape(byte))
}

fn status_of(error: &CommandError) -> Status {
    match error {
        CommandError::OutOfMemory => Status::InsufficientStorage,
        CommandError::KeyTooLong => Status::UriTooLong,
        CommandError::ValueTooLong | CommandError::StringTooLong => Status::ContentTooLarge,
        CommandError::Busy
        | CommandError::TooManyClients
        | CommandError::TryAgain
        | CommandError::SlotNotServed
        | CommandError::ClusterDown
        | CommandError::ClusterDownReadsOnly => Status::ServiceUnavailable,
        // The decoder lets nothing through that could be wrong in another way.
        _ => Status::InternalServerError,
    }
}
