//! HTTP/1.1 for whoever has no cache client: a sans-io server codec on `httparse` and `serde_json`.
//!
//! ```text
//! bytes --Decoder--> Request::Command(KeyCommand) --as_data--> DataCommand --> a shard
//!                    Request::Page(Page) --------> the server renders it
//!                    Refusal --------------------> encode
//! bytes <--Encoder (a ReplySink; made of a Copy ReplyForm, on whichever core answers)
//! ```
//!
//! # What it speaks
//!
//! | request | answer |
//! |---|---|
//! | `GET /:key` | `200 {"value":"..."}`, or `404 {"error":"..."}` |
//! | `POST /:key` or `PUT /:key` with `{"value": "...", "ttl": seconds?}` | `204` |
//! | `DELETE /:key` | `204`, or `404 {"error":"..."}` |
//! | `GET /-/healthz`, `/-/readyz`, `/-/metrics` | the server's pages |
//!
//! `HEAD` goes wherever `GET` goes. Every other method, `OPTIONS` with it, is answered 405 with
//! `Allow`; there are no CORS headers, so that no web page of another origin reads or writes.
//!
//! - **Key**: the whole path after its first `/`, percent-decoded: `/a/b%20c` is the key `a/b c`.
//!   Any byte can be named; a `%` without two hex digits, an empty key, or a query string on a key
//!   is 400 (a `?` in a key is `%3F`), a key above [`KEY_BYTES_MAX`] is 414. A path that *decodes*
//!   to `-/...` is a page, however it was spelled, so no key can shadow a page or be mistaken for
//!   one; such keys cannot be named over HTTP. Pages ignore a query string. Dot segments are not
//!   resolved.
//! - **Body**: `application/json` only (415), parameters of the media type are ignored. An object
//!   with `value`, a JSON string, and optionally `ttl`, a number of seconds from 0.001 to
//!   [`TTL_SECONDS_MAX`], fractions rounded to milliseconds; `null` stands for no TTL. A field that
//!   is unknown or comes twice is 400. Above [`Config::body_bytes_max`]: 413.
//! - **Value**: bytes in the cache, text in JSON. A value that is not UTF-8 (stored over another
//!   protocol) is answered `{"value_base64":"..."}`, standard alphabet, padded: lossless and never
//!   mistaken for text. It cannot be stored in that form.
//! - **Host**: a 1.1 request without `Host` is 400. A host that is not known is 421, whatever its
//!   port, so that a page in a browser cannot reach a cache on localhost by rebinding its own name.
//! - **Connection**: keep-alive, `Connection: close`, HTTP/1.0 and pipelining as RFC 9112 has them;
//!   `Expect: 100-continue` is answered before the body. `GET` and `DELETE` take no body (400).
//!
//! # Use
//!
//! ```
//! use std::sync::Arc;
//! use fulmar_protocol::ReplySink;
//! use fulmar_protocol::http::{CONTINUE, Config, ContentType, Decoded, Decoder, Encoder};
//! use fulmar_protocol::http::{Request, Status};
//!
//! /// Serves what a connection has sent so far; returns whether it stays.
//! fn serve(decoder: &mut Decoder, input: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
//!     loop {
//!         let (consumed, keep_alive) = match decoder.decode(input) {
//!             Decoded::Need { consumed } => {
//!                 input.drain(..consumed);
//!                 return true;
//!             }
//!             Decoded::Continue { consumed } => {
//!                 out.extend_from_slice(CONTINUE);
//!                 (consumed, true)
//!             }
//!             Decoded::Request { request, form, consumed } => {
//!                 let mut encoder = Encoder::new(form, out);
//!                 match request {
//!                     // Here `command.as_data()` would be executed, with the encoder as its sink.
//!                     Request::Command(_command) => encoder.null(),
//!                     Request::Page(_page) => encoder.page(Status::Ok, ContentType::Text, b"ok"),
//!                 }
//!                 (consumed, form.keep_alive())
//!             }
//!             Decoded::Refuse { refusal, consumed } => {
//!                 refusal.encode(out);
//!                 (consumed, refusal.form.keep_alive())
//!             }
//!         };
//!         input.drain(..consumed);
//!         if !keep_alive {
//!             return false;
//!         }
//!     }
//! }
//!
//! let mut decoder = Decoder::new(Arc::new(Config::default()));
//! let mut input = b"GET /key HTTP/1.1\r\nHost: localhost\r\n\r\nGET /-/he".to_vec();
//! let mut out = Vec::new();
//! assert!(serve(&mut decoder, &mut input, &mut out));
//! assert!(out.starts_with(b"HTTP/1.1 404 Not Found\r\n"));
//! assert_eq!(input, b"GET /-/he");
//! ```
//!
//! # Invariants
//!
//! 1. One framing only. Whatever two parsers could read differently closes the connection:
//!    Content-Length with Transfer-Encoding, a second Content-Length, a coding other than
//!    `chunked`, folded lines, a bare LF, space before a colon, a chunk size that is not 1 to 16
//!    hex digits.
//! 2. A request that is framed well but refused is read to its end, answered, and the connection
//!    stays; unless its body is above [`DRAIN_BYTES_MAX`] or the client asked before sending it.
//! 3. Nothing is reserved from a declared length; memory follows the bytes that came.
//! 4. After a reply with `Connection: close` every further byte is dropped unread.

mod body;
mod chunked;
mod decoder;
mod encoder;
mod error;
mod head;
mod host;
mod judge;
mod reader;
mod request;
mod status;
mod target;

pub use body::TTL_SECONDS_MAX;
pub use decoder::{CONTINUE, Config, Decoded, Decoder};
pub use encoder::{ContentType, Encoder};
pub use error::{Refusal, RequestError};
pub use host::KnownHosts;
pub use judge::DRAIN_BYTES_MAX;
pub use request::{KeyCommand, Page, Persistence, ReplyForm, ReplyKind, Request};
pub use status::Status;
pub use target::KEY_BYTES_MAX;
