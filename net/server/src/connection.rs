//! One connection: its socket, what came and is not parsed, what is to be sent, and its session.
//!
//! The core calls [`receive`](Connection::receive) with fresh bytes and [`serve`](Connection::serve)
//! when something else may let it go on; both say what to do next. `is_over` ends it: then the core
//! shuts the socket down, waits for the last completions, and calls [`close`](Connection::close).

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use fulmar_engine::Time;
use fulmar_protocol::node::{Encoder as NodeEncoder, Goodbye};
use fulmar_protocol::resp::{Token, next_token};
use fulmar_protocol::{ReplySink, http};
use fulmar_shard::{Leased, Now};
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use crate::cluster::{Failure, Reply};
use crate::core::Service;
use crate::dispatch::{Dispatcher, with_sink};
use crate::message::ReplyForm;
use crate::output::{HoleId, Output};
use crate::pool::Pool;
use crate::replies::Replies;
use crate::ring::ConnectionId;
use crate::session::{Served, Session, Stop, error_of};

/// Unparsed input at which receiving stops, unless one frame of another node is longer.
const INPUT_BYTES_MAX: usize = 64 * 1_024;
/// Unsent replies at which parsing stops; it goes on below half of it.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 * 1_024;
/// What a client gets that is one too many.
const REFUSAL_RESP: &[u8] = b"-ERR max number of clients reached\r\n";
const REFUSAL_HTTP: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a connection needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Input, a reply from a peer, or room for replies; the core will notice.
    Idle,
    /// Another turn.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more commands; ends when all replies are sent.
    Finishing,
    /// Ends at once.
    Aborted,
}

/// What is on its way to the client.
#[derive(Clone, Copy, Debug)]
struct Sending {
    length: usize,
    sent: usize,
    /// Memory that it holds outside the shards.
    held: usize,
}

/// See the module's head.
pub(crate) struct Connection {
    id: ConnectionId,
    fd: OwnedFd,
    service: Service,
    session: Session,
    input: Vec<u8>,
    /// Its replies.
    pub(crate) output: Output,
    sending: Option<Sending>,
    phase: Phase,
    is_shut_down: bool,
    accounted_bytes: usize,
    /// A receive is in flight.
    pub(crate) receiving: bool,
    /// Its cancellation is on its way.
    pub(crate) cancelling: bool,
    /// The peer sends no more.
    pub(crate) peer_ended: bool,
    /// The core has it in its list of those with work left.
    pub(crate) is_queued: bool,
    /// The core has it in its list of those with replies to send.
    pub(crate) is_sendable: bool,
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        fd: OwnedFd,
        service: Service,
        dispatcher: &Dispatcher<'_>,
    ) -> Self {
        Self {
            id,
            service,
            session: Session::new(service, &fd, dispatcher),
            fd,
            input: Vec::new(),
            output: Output::default(),
            sending: None,
            phase: Phase::Open,
            is_shut_down: false,
            accounted_bytes: 0,
            receiving: false,
            cancelling: false,
            peer_ended: false,
            is_queued: false,
            is_sendable: false,
        }
    }

    /// Tells a client that there are too many, without waiting for it to listen.
    pub(crate) fn refuse(fd: &OwnedFd, service: Service) {
        let text = match service {
            Service::Http => REFUSAL_HTTP,
            _ => REFUSAL_RESP,
        };
        // If the client is gone, nobody misses it.
        let _ = send(fd, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    pub(crate) fn service(&self) -> Service {
        self.service
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    // --- input ---

    /// Handles fresh bytes: parses them where they lie if nothing waits before them.
    #[inline]
    pub(crate) fn receive(
        &mut self,
        received: &[u8],
        dispatcher: &mut Dispatcher<'_>,
        pool: &mut Pool,
    ) -> Progress {
        let waits = self.is_full() || self.output.is_between_epochs(dispatcher.epoch());
        if !self.input.is_empty() || waits || self.phase != Phase::Open {
            self.keep(received, pool);
            return self.serve(dispatcher, pool);
        }
        let served = self.run_session(received, dispatcher, pool);
        self.keep(&received[served.consumed..], pool);
        self.account(dispatcher);
        self.follow(served.stop)
    }

    /// Goes on with what is there.
    pub(crate) fn serve(&mut self, dispatcher: &mut Dispatcher<'_>, pool: &mut Pool) -> Progress {
        if self.phase != Phase::Open {
            self.drop_input(pool);
            return Progress::Idle;
        }
        if self.is_full() || self.output.is_between_epochs(dispatcher.epoch()) {
            return Progress::Idle;
        }
        // Nothing comes of half a frame; but WAITs that came before it may be answered.
        let is_half = self.input.len() < self.session.needed_bytes();
        if is_half && !self.peer_ended && self.wakes_at().is_none() {
            self.account(dispatcher);
            return Progress::Idle;
        }
        let mut input = std::mem::take(&mut self.input);
        let served = self.run_session(&input, dispatcher, pool);
        input.drain(..served.consumed);
        if input.is_empty() {
            pool.give(input);
        } else {
            self.input = input;
        }
        self.account(dispatcher);
        self.follow(served.stop)
    }

    fn run_session(
        &mut self,
        input: &[u8],
        dispatcher: &mut Dispatcher<'_>,
        pool: &mut Pool,
    ) -> Served {
        self.output.lend(pool);
        let served = self
            .session
            .serve(self.id, input, &mut self.output, dispatcher);
        self.output.give_back_unused(pool);
        served
    }

    fn follow(&mut self, stop: Stop) -> Progress {
        match stop {
            Stop::Again => return Progress::Again,
            Stop::Wait => {}
            Stop::Close => self.phase = Phase::Finishing,
            Stop::NeedInput if self.peer_ended => self.phase = Phase::Finishing,
            Stop::NeedInput => {}
        }
        Progress::Idle
    }

    fn keep(&mut self, bytes: &[u8], pool: &mut Pool) {
        if bytes.is_empty() || self.phase != Phase::Open {
            return;
        }
        if self.input.capacity() == 0 {
            self.input = pool.take();
        }
        self.input.extend_from_slice(bytes);
    }

    fn drop_input(&mut self, pool: &mut Pool) {
        pool.give(std::mem::take(&mut self.input));
    }

    /// Whether a receive should be in flight.
    pub(crate) fn wants_input(&self) -> bool {
        let bytes_max = self.session.needed_bytes().max(INPUT_BYTES_MAX);
        self.phase == Phase::Open && !self.peer_ended && self.input.len() < bytes_max
    }

    // --- output ---

    pub(crate) fn unsent_bytes(&self) -> usize {
        let sending = self
            .sending
            .map_or(0, |sending| sending.length - sending.sent);
        self.output.bytes() + sending
    }

    fn is_full(&self) -> bool {
        self.unsent_bytes() >= OUTPUT_BYTES_MAX || self.output.is_delayed()
    }

    pub(crate) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    pub(crate) fn start_sending(&mut self, replies: &Replies) {
        debug_assert!(self.sending.is_none());
        self.sending = Some(Sending {
            length: replies.len(),
            sent: 0,
            held: replies.bytes.capacity(),
        });
    }

    /// Notes that `count` bytes more are sent; returns where to go on if that is not all.
    pub(crate) fn sent_part(&mut self, count: usize) -> Option<usize> {
        let sending = self.sending.as_mut()?;
        sending.sent += count;
        if sending.sent < sending.length {
            return Some(sending.sent);
        }
        self.sending = None;
        None
    }

    /// Notes that nothing is in flight any more, sent or not.
    pub(crate) fn sent_all(&mut self) {
        self.sending = None;
    }

    /// Says what a connection says before it has heard anything.
    pub(crate) fn greet(&mut self, dispatcher: &Dispatcher<'_>) -> Progress {
        if !self.session.greet(&mut self.output, dispatcher) {
            self.abort();
        }
        Progress::Idle
    }

    /// Whether nothing can be expected any more of the node that has connected.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.session.is_overdue(now)
    }

    /// Whether a node has connected and not proven who it is.
    pub(crate) fn is_stranger(&self) -> bool {
        self.session.is_stranger()
    }

    /// Asks whether the other node is there.
    pub(crate) fn ping(&mut self, now: Time) {
        self.session.ping(&mut self.output, now);
    }

    /// Tells the other node that this is the end, and ends when that is sent.
    pub(crate) fn leave(&mut self, reason: Goodbye) {
        self.session.say_goodbye(reason, &mut self.output);
        self.phase = Phase::Finishing;
    }

    /// Takes frames to be sent, if nothing is being sent. Tells how much is to be sent then.
    pub(crate) fn take_frames(&mut self, frames: &mut Vec<u8>) -> usize {
        if !self.is_sending() {
            let out = self.output.writer();
            if out.is_empty() {
                std::mem::swap(out, frames);
            } else {
                out.append(frames);
            }
        }
        self.unsent_bytes()
    }

    /// The reply of a hole has come from another node, or will not come.
    pub(crate) fn fill_from_node(
        &mut self,
        hole: HoleId,
        form: ReplyForm,
        reply: Result<Vec<u8>, Failure>,
    ) -> Progress {
        let mut replies = Replies::default();
        translate(reply, form, &mut replies);
        // Nothing of this node is in it, so there is nothing to give back.
        let _ = self.output.fill(hole, &replies.bytes, Vec::new());
        self.resume_after_reply()
    }

    /// The reply of a hole, executed here after all; gives back what nobody waits for.
    pub(crate) fn fill_from_here(
        &mut self,
        hole: HoleId,
        mut replies: Replies,
    ) -> impl Iterator<Item = Leased> + use<> {
        let values = replies.take_values(&(0..usize::MAX));
        let filled = self.output.fill(hole, &replies.bytes, values);
        let unwanted = filled.err().unwrap_or_default();
        unwanted.into_iter().map(|placed| placed.leased)
    }

    /// A part of the command that is gathered has come.
    pub(crate) fn fill_part(&mut self, part: usize, reply: Reply) -> Progress {
        self.session.fill_part(part, reply);
        self.resume_after_reply()
    }

    /// There is room for replies again.
    pub(crate) fn resume_after_send(&mut self) -> Progress {
        let has_room = self.unsent_bytes() < OUTPUT_BYTES_MAX / 2 && !self.output.is_delayed();
        self.resume(has_room)
    }

    /// A peer's reply has come.
    pub(crate) fn resume_after_reply(&mut self) -> Progress {
        let has_room = !self.is_full();
        self.resume(has_room)
    }

    fn resume(&mut self, has_room: bool) -> Progress {
        let has_work = !self.input.is_empty() || self.session.has_pending() || self.peer_ended;
        let goes_on = has_work && has_room && self.phase == Phase::Open;
        if goes_on {
            Progress::Again
        } else {
            Progress::Idle
        }
    }

    // --- the end ---

    /// When its client last sent or took something, if it is one that may be idle too long.
    pub(crate) fn last_active(&self) -> Option<Time> {
        self.session.last_active()
    }

    /// Its client takes what it is sent.
    pub(crate) fn note_active(&self, now: Now) {
        self.session.note_active(now);
    }

    /// When it is to be served though nothing happens; `None` unless it waits for acknowledgements.
    pub(crate) fn wakes_at(&self) -> Option<fulmar_cluster::Time> {
        self.session.wakes_at()
    }

    /// Takes no more input; ends when the commands in it are answered.
    pub(crate) fn finish(&mut self, dispatcher: &mut Dispatcher<'_>, pool: &mut Pool) -> Progress {
        self.session
            .say_goodbye(Goodbye::Stopping, &mut self.output);
        self.peer_ended = true;
        self.serve(dispatcher, pool)
    }

    /// Ends it without sending what is left.
    pub(crate) fn abort(&mut self) {
        self.phase = Phase::Aborted;
    }

    /// Whether it ends as soon as all replies are sent.
    pub(crate) fn is_finishing(&self) -> bool {
        self.phase == Phase::Finishing
    }

    /// Whether it must be shut down and forgotten.
    pub(crate) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Open => false,
            Phase::Finishing => self.output.is_empty() && self.sending.is_none(),
            Phase::Aborted => true,
        }
    }

    /// Makes the operations in flight complete.
    pub(crate) fn shut_down(&mut self) {
        if !self.is_shut_down {
            self.is_shut_down = true;
            // The peer may have reset it already.
            let _ = shutdown(&self.fd, Shutdown::Both);
        }
    }

    /// Gives everything back. Closes the socket.
    pub(crate) fn close(mut self, dispatcher: &mut Dispatcher<'_>, pool: &mut Pool) {
        self.session.close(self.id, dispatcher);
        dispatcher.release(self.output.take_leases());
        dispatcher.account(self.accounted_bytes, 0);
        self.drop_input(pool);
    }

    /// Tells the dispatcher how much memory it holds, what is being sent included.
    pub(crate) fn account(&mut self, dispatcher: &mut Dispatcher<'_>) {
        let held = self.input.capacity()
            + self.output.capacity_bytes()
            + self.sending.map_or(0, |sending| sending.held)
            + self.session.buffered_bytes();
        if held != self.accounted_bytes {
            dispatcher.account(self.accounted_bytes, held);
            self.accounted_bytes = held;
        }
    }
}

/// What another node answered in RESP, in the form that the client speaks.
fn translate(reply: Result<Vec<u8>, Failure>, form: ReplyForm, replies: &mut Replies) {
    match (reply, form) {
        (Ok(bytes), ReplyForm::Resp(_)) => replies.bytes = bytes,
        (Ok(bytes), ReplyForm::Node { request, .. }) => {
            let mut encoder = NodeEncoder::new(&mut replies.bytes);
            let mut frame = encoder.reply_in_place(request, None);
            frame.payload().extend_from_slice(&bytes);
            frame.finish();
        }
        (Ok(bytes), ReplyForm::Http(form)) => {
            let mut encoder = http::Encoder::new(form, &mut replies.bytes);
            match next_token(&mut bytes.as_slice()) {
                Some(Token::Status(_)) => encoder.ok(),
                Some(Token::Integer(number)) => encoder.integer(number),
                Some(Token::Bulk(value)) => encoder.bulk(value),
                Some(Token::Null) => encoder.null(),
                Some(Token::Error(text)) => {
                    let text = String::from_utf8_lossy(text);
                    encoder.refuse(http::Status::ServiceUnavailable, &text);
                }
                _ => encoder.error(&error_of(Failure::Unknown)),
            }
        }
        (Err(failure), form) => {
            with_sink(form, replies, |sink| sink.error(&error_of(failure)));
        }
    }
}
