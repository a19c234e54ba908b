//! A connection's two ends, without one: feeds a decoder as a server would, reads responses.

use std::sync::Arc;

use fulmar_protocol::command::{Deadline, Set, SetExpiry, Value};
use fulmar_protocol::http::{Config, Decoded, Decoder, KeyCommand, Page, Request};

/// What a decoder returned, without its borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Continue,
    Get {
        key: Vec<u8>,
        keep: bool,
    },
    Set {
        key: Vec<u8>,
        value: Vec<u8>,
        ttl_ms: Option<i64>,
        keep: bool,
    },
    Delete {
        key: Vec<u8>,
        keep: bool,
    },
    Page {
        page: Page,
        keep: bool,
    },
    Refuse {
        status: u16,
        keep: bool,
    },
}

/// A server's side of a connection: what is unconsumed, and the decoder.
pub(crate) struct Server {
    pub(crate) decoder: Decoder,
    unconsumed: Vec<u8>,
    pub(crate) events: Vec<Event>,
    /// The most that stayed unconsumed.
    pub(crate) unconsumed_bytes_max: usize,
    /// The most that the decoder held.
    pub(crate) buffered_bytes_max: usize,
    pub(crate) refusals: Vec<String>,
}

impl Server {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            decoder: Decoder::new(Arc::new(config)),
            unconsumed: Vec::new(),
            events: Vec::new(),
            unconsumed_bytes_max: 0,
            buffered_bytes_max: 0,
            refusals: Vec::new(),
        }
    }

    /// Bytes arrive.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.unconsumed.extend_from_slice(bytes);
        loop {
            let (consumed, event) = match self.decoder.decode(&self.unconsumed) {
                Decoded::Need { consumed } => (consumed, None),
                Decoded::Continue { consumed } => (consumed, Some(Event::Continue)),
                Decoded::Request {
                    request,
                    form,
                    consumed,
                } => (consumed, Some(event(&request, form.keep_alive()))),
                Decoded::Refuse { refusal, consumed } => {
                    let mut response = Vec::new();
                    refusal.encode(&mut response);
                    self.refusals
                        .push(String::from_utf8(response).expect("text"));
                    let status = refusal.error.status().code();
                    (
                        consumed,
                        Some(Event::Refuse {
                            status,
                            keep: refusal.form.keep_alive(),
                        }),
                    )
                }
            };
            self.buffered_bytes_max = self.buffered_bytes_max.max(self.decoder.buffered_bytes());
            let is_done = event.is_none();
            self.events.extend(event);
            self.unconsumed.drain(..consumed);
            if is_done {
                break;
            }
        }
        self.unconsumed_bytes_max = self.unconsumed_bytes_max.max(self.unconsumed.len());
    }
}

fn event(request: &Request<'_>, keep: bool) -> Event {
    match request {
        Request::Command(KeyCommand::Get { key }) => Event::Get {
            key: key.to_vec(),
            keep,
        },
        Request::Command(KeyCommand::Delete { key }) => Event::Delete {
            key: key.to_vec(),
            keep,
        },
        Request::Command(KeyCommand::Set(Set {
            key, value, expiry, ..
        })) => {
            let Value::Bytes(value) = value else {
                panic!("{value:?}")
            };
            let ttl_ms = match expiry {
                SetExpiry::Never => None,
                SetExpiry::At(Deadline::In { ms }) => Some(*ms),
                other => panic!("{other:?}"),
            };
            Event::Set {
                key: key.to_vec(),
                value: value.to_vec(),
                ttl_ms,
                keep,
            }
        }
        Request::Page(page) => Event::Page { page: *page, keep },
    }
}

/// Everything at once.
pub(crate) fn decode_whole(config: &Config, input: &[u8]) -> Vec<Event> {
    let mut server = Server::new(config.clone());
    server.feed(input);
    server.events
}

/// Whole, cut in two at each byte, and byte by byte; the events must be the same each time, but
/// for the interim replies that depend on whether the body is there.
pub(crate) fn decode(input: &[u8]) -> Vec<Event> {
    decode_with(&Config::default(), input)
}

pub(crate) fn decode_with(config: &Config, input: &[u8]) -> Vec<Event> {
    let whole = decode_whole(config, input);
    for cut in 0..=input.len() {
        let mut server = Server::new(config.clone());
        server.feed(&input[..cut]);
        server.feed(&input[cut..]);
        assert_eq!(without_continue(server.events), whole, "cut at {cut}");
    }
    let mut server = Server::new(config.clone());
    for byte in input {
        server.feed(&[*byte]);
    }
    assert_eq!(without_continue(server.events), whole, "byte by byte");
    whole
}

fn without_continue(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| *event != Event::Continue);
    events
}

/// A response, as a client reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Reads the one response that `bytes` must be; `has_body` is false for HEAD.
    pub(crate) fn parse(bytes: &[u8], has_body: bool) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(head_bytes)) = response.parse(bytes) else {
            panic!("{}", String::from_utf8_lossy(bytes));
        };
        let body = bytes[head_bytes..].to_vec();
        let status = response.code.expect("a status");
        let headers: Vec<_> = response
            .headers
            .iter()
            .map(|h| {
                (
                    h.name.to_owned(),
                    String::from_utf8(h.value.to_vec()).expect("text"),
                )
            })
            .collect();
        let response = Self {
            status,
            headers,
            body,
        };
        match response.header("Content-Length") {
            Some(length) if has_body => assert_eq!(length, response.body.len().to_string()),
            Some(_) => assert_eq!(response.body, b""),
            None => assert_eq!((status, response.body.as_slice()), (204, &b""[..])),
        }
        response
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice");
        value
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        serde_json::from_slice(&self.body).expect("JSON")
    }
}
