//! Bytes to requests, across as many reads as they take.

use std::mem;
use std::sync::Arc;

use super::error::{Refusal, RequestError};
use super::head::{BodyLength, Expectation, Head, HeadScan, Method};
use super::host::KnownHosts;
use super::judge::{DRAIN_BYTES_MAX, is_worth_draining, judge, key_command};
use super::reader::{BodyReader, Step};
use super::request::{Persistence, ReplyForm, ReplyKind, Request};
use super::target::{KeySource, Route};

/// What to send for [`Decoded::Continue`].
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The limits of a [`Decoder`], and whom it answers to; shared by all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The longest body, in bytes, as sent (JSON, chunks joined).
    pub body_bytes_max: usize,
    /// The longest head, in bytes, from the request line to the empty line; also the most that a
    /// decoder ever leaves unconsumed. The default has room for the longest key with every byte
    /// percent-encoded (48 KiB) and usual headers.
    pub head_bytes_max: usize,
    /// The names in Host that are ours.
    pub known_hosts: KnownHosts,
}

impl Default for Config {
    /// 1 MiB, 64 KiB, the loopback names.
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            head_bytes_max: 64 * 1024,
            known_hosts: KnownHosts::default(),
        }
    }
}

/// What [`Decoder::decode`] made of the input. The caller drops `consumed` bytes from its front.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// Nothing to do before more bytes arrive.
    Need {
        /// Bytes taken; the rest is to be handed in again, with what follows it.
        consumed: usize,
    },
    /// The client waits before it sends the body: send [`CONTINUE`], in the place of a reply,
    /// behind those of earlier requests.
    Continue {
        /// Bytes taken.
        consumed: usize,
    },
    /// A request. There may be another in the rest of the input.
    Request {
        /// What it asks for.
        request: Request<'a>,
        /// For the encoder of its reply; says whether the connection stays.
        form: ReplyForm,
        /// Bytes taken.
        consumed: usize,
    },
    /// A request that the codec answers itself, in the place of a reply.
    Refuse {
        /// Why, and the answer.
        refusal: Refusal,
        /// Bytes taken.
        consumed: usize,
    },
}

/// Decodes the requests of one connection.
///
/// Call [`decode`](Self::decode) when bytes arrived, with all that are not yet consumed, and again
/// for as long as it consumes something and some are left. After a request or refusal whose form is
/// not [`keep_alive`](ReplyForm::keep_alive), it consumes whatever comes and returns `Need`.
///
/// Memory: between requests none besides itself. A key with percent signs, a value with escapes
/// and whatever came of a body that was not whole in one input are held in buffers of its own
/// until the next `decode` or [`release`](Self::release); at most [`Config::body_bytes_max`] twice
/// (the body and, once it is complete, its unescaped value) and a key.
#[derive(Debug)]
pub struct Decoder {
    config: Arc<Config>,
    state: State,
    key: Vec<u8>,
    body: Vec<u8>,
    unescaped: String,
}

#[derive(Debug)]
enum State {
    /// The input begins with a request.
    Head(HeadScan),
    /// It begins within a body.
    Body(Pending),
    /// It means nothing any more.
    Closed,
}

/// A request of which the head is consumed.
#[derive(Debug)]
struct Pending {
    form: ReplyForm,
    reader: BodyReader,
    /// What the answer will be; the bytes of a body that is refused are dropped.
    verdict: Result<(), RequestError>,
    dropped_bytes: usize,
}

impl Decoder {
    /// A decoder at the start of a connection.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            state: State::Head(HeadScan::default()),
            key: Vec::new(),
            body: Vec::new(),
            unescaped: String::new(),
        }
    }

    /// Decodes what `input` begins with. It must begin with the first byte not consumed so far.
    ///
    /// A request that is whole in `input` and has no percent signs or escapes is decoded without
    /// allocation, and borrows from it.
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Decoded<'a> {
        self.release();
        match &mut self.state {
            State::Head(scan) => match scan.advance(input, self.config.head_bytes_max) {
                Ok(Some(head_bytes)) => self.decode_head(input, head_bytes),
                Ok(None) => Decoded::Need { consumed: 0 },
                Err(error) => self.close(Refusal::closing(error, false), input.len()),
            },
            State::Body(_) => self.decode_body(input, 0),
            State::Closed => Decoded::Need {
                consumed: input.len(),
            },
        }
    }

    /// Bytes of memory held in buffers.
    pub fn buffered_bytes(&self) -> usize {
        self.key.capacity() + self.body.capacity() + self.unescaped.capacity()
    }

    /// Whether a request has begun of which bytes are consumed but that is not complete.
    pub fn is_mid_request(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Frees what the last request borrowed. [`decode`](Self::decode) does it too.
    pub fn release(&mut self) {
        if !self.is_mid_request() {
            self.free_buffers();
        }
    }

    fn decode_head<'a>(&'a mut self, input: &'a [u8], head_bytes: usize) -> Decoded<'a> {
        let (head, rest) = input.split_at(head_bytes);
        let head = match Head::parse(head) {
            Ok(head) => head,
            Err(refusal) => return self.close(refusal, input.len()),
        };
        let judged = judge(&head, &self.config, &mut self.key);
        let form = ReplyForm {
            kind: match (&judged, head.method) {
                (Ok(Route::Key(_)), Method::Get) => ReplyKind::Get,
                (Ok(Route::Key(_)), Method::Set) => ReplyKind::Set,
                (Ok(Route::Key(_)), Method::Delete) => ReplyKind::Delete,
                _ => ReplyKind::Page,
            },
            persistence: head.persistence,
            head_only: head.head_only,
        };
        let judged = match judged {
            Err(error) if !is_worth_draining(&head) => {
                return self.close(Refusal::closing(error, head.head_only), input.len());
            }
            judged => judged,
        };
        if let BodyLength::Exact(length) = head.length
            && let Ok(length) = usize::try_from(length)
            && let Some(body) = rest.get(..length)
        {
            self.state = state_after(form);
            let consumed = head_bytes + length;
            let request = match judged {
                Ok(Route::Page(page)) => Ok(Request::Page(page)),
                Ok(Route::Key(source)) => {
                    let key = match source {
                        KeySource::Input(key) => key,
                        KeySource::Decoded => &self.key,
                    };
                    key_command(form.kind, key, body, &mut self.unescaped).map(Request::Command)
                }
                Err(error) => Err(error),
            };
            return answer(request, form, consumed);
        }
        let verdict = judged.map(|route| {
            if let Route::Key(KeySource::Input(key)) = route {
                self.key.extend_from_slice(key);
            }
        });
        self.begin_body(&head, form, verdict, input, head_bytes)
    }

    /// Goes on to a body that is not all in the input; `input` is that of the head.
    fn begin_body<'a>(
        &'a mut self,
        head: &Head<'_>,
        form: ReplyForm,
        verdict: Result<(), RequestError>,
        input: &'a [u8],
        head_bytes: usize,
    ) -> Decoded<'a> {
        self.state = State::Body(Pending {
            form,
            reader: BodyReader::new(head.length),
            verdict,
            dropped_bytes: 0,
        });
        // Who has begun to send the body does not wait.
        if head.expectation == Expectation::Continue && head_bytes == input.len() {
            return Decoded::Continue {
                consumed: head_bytes,
            };
        }
        self.decode_body(input, head_bytes)
    }

    /// Takes body bytes from `input`, beginning at `consumed`.
    fn decode_body<'a>(&'a mut self, input: &'a [u8], mut consumed: usize) -> Decoded<'a> {
        let State::Body(pending) = &mut self.state else {
            return Decoded::Need { consumed };
        };
        loop {
            match pending.reader.step(&input[consumed..]) {
                Ok(Step::Piece {
                    consumed: bytes_count,
                    data,
                }) => {
                    consumed += bytes_count;
                    pending.take(
                        data,
                        bytes_count,
                        &mut self.body,
                        self.config.body_bytes_max,
                    );
                }
                Ok(Step::End {
                    consumed: bytes_count,
                }) => {
                    consumed += bytes_count;
                    break;
                }
                Ok(Step::Need) => return Decoded::Need { consumed },
                Err(error) => {
                    let refusal = Refusal::closing(error, pending.form.head_only);
                    return self.close(refusal, input.len());
                }
            }
            if pending.dropped_bytes > DRAIN_BYTES_MAX {
                break;
            }
        }
        self.finish_body(input.len(), consumed)
    }

    /// Answers a request whose body is complete, or was dropped for too long.
    fn finish_body(&mut self, input_bytes: usize, consumed: usize) -> Decoded<'_> {
        let State::Body(pending) = mem::replace(&mut self.state, State::Closed) else {
            return Decoded::Need { consumed };
        };
        let form = pending.form;
        match pending.verdict {
            Err(error) if pending.dropped_bytes > DRAIN_BYTES_MAX => {
                self.close(Refusal::closing(error, form.head_only), input_bytes)
            }
            verdict => {
                self.state = state_after(form);
                let request = verdict.and_then(|()| {
                    key_command(form.kind, &self.key, &self.body, &mut self.unescaped)
                });
                answer(request.map(Request::Command), form, consumed)
            }
        }
    }

    fn close(&mut self, refusal: Refusal, input_bytes: usize) -> Decoded<'_> {
        self.state = State::Closed;
        self.free_buffers();
        Decoded::Refuse {
            refusal,
            consumed: input_bytes,
        }
    }

    fn free_buffers(&mut self) {
        self.key = Vec::new();
        self.body = Vec::new();
        self.unescaped = String::new();
    }
}

impl Pending {
    /// Takes one step's data into `body`, or drops it if the request is refused.
    fn take(&mut self, data: &[u8], step_bytes: usize, body: &mut Vec<u8>, body_bytes_max: usize) {
        if self.verdict.is_ok() && body.len() + data.len() > body_bytes_max {
            self.verdict = Err(RequestError::BodyTooLong);
            *body = Vec::new();
        }
        if self.verdict.is_err() {
            self.dropped_bytes += step_bytes;
            return;
        }
        let needed = body.len() + data.len();
        if needed > body.capacity() {
            // Doubling, but not beyond what can ever be used.
            let capacity = (body.capacity() * 2).clamp(needed, body_bytes_max);
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(data);
    }
}

fn answer<'a>(
    request: Result<Request<'a>, RequestError>,
    form: ReplyForm,
    consumed: usize,
) -> Decoded<'a> {
    match request {
        Ok(request) => Decoded::Request {
            request,
            form,
            consumed,
        },
        Err(error) => Decoded::Refuse {
            refusal: Refusal { error, form },
            consumed,
        },
    }
}

fn state_after(form: ReplyForm) -> State {
    if form.persistence == Persistence::Close {
        State::Closed
    } else {
        State::Head(HeadScan::default())
    }
}
