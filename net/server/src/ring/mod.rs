//! One core's network ring: io_uring behind a safe interface.
//!
//! This module and [`token`](crate::token) hold all the crate's unsafe code. What the kernel
//! may read or write later is owned here until its last completion:
//!
//! 1. What is being sent is owned by `sending` at its connection's index, with the leases of the
//!    values in it; there is at most one send in flight per connection, and its completion gives
//!    all back. A send that does not wait (`Operation::SendNow`) is over when the kernel has taken
//!    its entry.
//! 2. Received bytes lie in provided buffers, which `BufferRing` owns; one is readable from the
//!    completion that names it until [`Ring::recycle`].
//! 3. The kernel reads a timer's time when it takes the entry; it lives in a box until then.
//! 4. The kernel reads the address of a connect when it takes the entry; it lives in `connecting` until
//!    its completion.
//! 5. `in_flight` counts the operations that will still complete; [`Ring::close`] waits for zero,
//!    and what is left then is leaked, not freed.
//!
//! Everything is submitted in batches: a method queues an entry, and [`Ring::wait`] or
//! [`Ring::poll`] submits all of them in the one `io_uring_enter` of the turn.
//!
//! Short replies nearly always fit the socket's buffer at once. A completion for each of them
//! would end the sleep that the same `io_uring_enter` begins, and cost every request a second turn.
//! So they are sent without waiting for room (`MSG_DONTWAIT`: the kernel tries while it takes the
//! entry, and never again) and with a completion only if not all was sent; what is left is sent by
//! an operation that waits.

mod buffers;
mod operation;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::SockAddr;

pub(crate) use buffers::BufferId;
use buffers::{BUFFER_GROUP, BUFFERS_COUNT, BufferRing};
pub(crate) use operation::{ConnectionId, Operation, UserData};

use crate::replies::Replies;

/// Entries of the submission queue; a full one is submitted early.
const SUBMISSIONS_MAX: u32 = 1_024;
/// Entries of the completion queue; the kernel keeps what overflows.
const COMPLETIONS_MAX: u32 = 8_192;
/// Longest rest that is sent without waiting for room; longer ones seldom fit.
const SEND_NOW_BYTES_MAX: usize = 16 * 1_024;
/// Pieces of one send; the rest of them is a short send's.
const PIECES_MAX: usize = 64;
/// The operations that are timers; of each there is one in flight at most.
const TIMERS: [Operation; 5] = [
    Operation::Tick,
    Operation::Janitor,
    Operation::Control,
    Operation::Patience,
    Operation::Retry,
];
/// How long [`Ring::close`] waits for outstanding operations.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Something finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    /// Which operation, on which connection.
    pub(crate) user_data: UserData,
    /// A count of bytes or an fd if not negative, else `-errno`.
    pub(crate) result: i32,
    /// Whether the operation goes on; if not, it must be armed again.
    pub(crate) more: bool,
    /// The provided buffer that holds what was received.
    pub(crate) buffer: Option<BufferId>,
}

/// What a send in flight reads.
struct Outgoing {
    replies: Replies,
    /// Where its pieces lie, if they are several.
    _message: Option<Box<Message>>,
}

/// The arguments of a send of several pieces.
struct Message {
    header: libc::msghdr,
    pieces: Vec<libc::iovec>,
}

impl Message {
    fn new(replies: &Replies, offset: usize) -> Box<Self> {
        let pieces = replies.pieces(offset, PIECES_MAX).into_iter();
        let pieces = pieces.map(|(pointer, length)| libc::iovec {
            iov_base: pointer.cast_mut().cast(),
            iov_len: length,
        });
        // SAFETY: all its fields are numbers or pointers, for which zero is a value.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut message = Box::new(Self {
            header,
            pieces: pieces.collect(),
        });
        message.header.msg_iov = message.pieces.as_mut_ptr();
        message.header.msg_iovlen = message.pieces.len();
        message
    }
}

/// The ring of one core. Made and used on that core's thread only.
pub(crate) struct Ring {
    io: IoUring,
    buffers: BufferRing,
    sending: Vec<Option<Outgoing>>,
    /// Connections whose sends don't wait and have not failed.
    sending_now: Vec<ConnectionId>,
    /// The last `enter` did not take all of them.
    has_late_sends: bool,
    timers: Box<[Timespec; TIMERS.len()]>,
    connecting: Vec<(ConnectionId, Box<SockAddr>)>,
    in_flight: usize,
}

impl Ring {
    /// Sets the ring up, with its provided buffers.
    ///
    /// # Errors
    /// What the kernel says: `EPERM` or `ENOSYS` where io_uring is forbidden or missing, `EINVAL`
    /// where a feature is.
    pub(crate) fn new() -> io::Result<Self> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS_MAX)
            .build(SUBMISSIONS_MAX)?;
        let buffers = BufferRing::new()?;
        // SAFETY: the entries stay mapped until the ring is closed (invariants 2 and 5).
        unsafe {
            io.submitter().register_buf_ring_with_flags(
                buffers.entries_address(),
                BUFFERS_COUNT,
                BUFFER_GROUP,
                0,
            )?;
        }
        Ok(Self {
            io,
            buffers,
            sending: Vec::new(),
            sending_now: Vec::new(),
            has_late_sends: false,
            timers: Box::new([Timespec::new(); TIMERS.len()]),
            connecting: Vec::new(),
            in_flight: 0,
        })
    }

    /// The ring's descriptor, for the doorbells of other cores.
    pub(crate) fn doorbell_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }

    /// Accepts connections until a completion without `more`. `listener` is given back as the
    /// completion's index.
    pub(crate) fn accept(&mut self, fd: RawFd, listener: u32) {
        let user_data = UserData::new(Operation::Accept, ConnectionId::new(listener, 0));
        self.push(
            &opcode::AcceptMulti::new(Fd(fd))
                .build()
                .user_data(user_data.bits()),
        );
    }

    /// Ends a multishot accept, which keeps its socket listening, even a closed one.
    pub(crate) fn cancel_accept(&mut self, listener: u32) {
        self.cancel(UserData::new(
            Operation::Accept,
            ConnectionId::new(listener, 0),
        ));
    }

    /// Receives into provided buffers until a completion without `more`.
    pub(crate) fn receive(&mut self, fd: RawFd, id: ConnectionId) {
        let user_data = UserData::new(Operation::Receive, id);
        let entry = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.push(&entry.user_data(user_data.bits()));
    }

    /// Ends a receive early; what arrived before still completes.
    pub(crate) fn cancel_receive(&mut self, id: ConnectionId) {
        self.cancel(UserData::new(Operation::Receive, id));
    }

    /// Sends `replies`; [`take_sent`](Self::take_sent) gives them back on completion, which for
    /// short ones may say that there was no room, and does not end a [`wait`](Self::wait).
    ///
    /// # Panics
    /// If a send of this connection is in flight.
    #[inline]
    pub(crate) fn send(&mut self, fd: RawFd, id: ConnectionId, replies: Replies) {
        if replies.len() > SEND_NOW_BYTES_MAX {
            self.send_rest(fd, id, replies, 0);
            return;
        }
        let entry = self.send_entry(fd, Operation::SendNow, id, replies, 0);
        self.sending_now.push(id);
        self.push_uncounted(&entry.flags(Flags::SKIP_SUCCESS));
    }

    /// Sends `replies` from the `offset`-th byte on, waiting for room;
    /// [`take_sent`](Self::take_sent) gives them back on completion, which may be of a part.
    ///
    /// # Panics
    /// If a send of this connection is in flight.
    pub(crate) fn send_rest(
        &mut self,
        fd: RawFd,
        id: ConnectionId,
        replies: Replies,
        offset: usize,
    ) {
        let entry = self.send_entry(fd, Operation::Send, id, replies, offset);
        self.push(&entry);
    }

    fn send_entry(
        &mut self,
        fd: RawFd,
        operation: Operation,
        id: ConnectionId,
        replies: Replies,
        offset: usize,
    ) -> Entry {
        let slot = id.index();
        if slot >= self.sending.len() {
            self.sending.resize_with(slot + 1, || None);
        }
        assert!(
            self.sending[slot].is_none(),
            "one send in flight per connection"
        );
        let user_data = UserData::new(operation, id).bits();
        if !replies.is_plain() {
            let message = Message::new(&replies, offset);
            let entry = opcode::SendMsg::new(Fd(fd), &raw const message.header)
                .flags(libc::MSG_NOSIGNAL.cast_unsigned())
                .build()
                .user_data(user_data);
            self.sending[slot] = Some(Outgoing {
                replies,
                _message: Some(message),
            });
            return entry;
        }
        let rest = &replies.bytes[offset..];
        // One send never needs more than 4 GiB; a longer rest is a short send.
        let bytes_count = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        // MSG_WAITALL makes a short send a failed one.
        let patience = match operation {
            Operation::SendNow => libc::MSG_DONTWAIT | libc::MSG_WAITALL,
            _ => 0,
        };
        let entry = opcode::Send::new(Fd(fd), rest.as_ptr(), bytes_count)
            .flags(libc::MSG_NOSIGNAL | patience)
            .build()
            .user_data(user_data);
        self.sending[slot] = Some(Outgoing {
            replies,
            _message: None,
        });
        entry
    }

    /// What a completed send was to send.
    pub(crate) fn take_sent(&mut self, id: ConnectionId) -> Replies {
        let sent = self.sending.get_mut(id.index()).and_then(Option::take);
        sent.expect("what is sent is kept until its completion")
            .replies
    }

    /// Asks for one completion of `operation`, a timer, at `at_ms` of the boot-time clock. Of each
    /// there is one in flight at most.
    ///
    /// # Panics
    /// If it is no timer.
    pub(crate) fn timer(&mut self, operation: Operation, at_ms: u64) {
        let nanoseconds = u32::try_from(at_ms % 1_000 * 1_000_000).expect("below a second");
        let slot = TIMERS.iter().position(|&timer| timer == operation);
        let time = &mut self.timers[slot.expect("a timer")];
        *time = Timespec::new().sec(at_ms / 1_000).nsec(nanoseconds);
        let user_data = UserData::new(operation, ConnectionId::new(0, 0));
        let entry = opcode::Timeout::new(std::ptr::from_ref(time))
            .flags(TimeoutFlags::ABS | TimeoutFlags::BOOTTIME)
            .build();
        self.push(&entry.user_data(user_data.bits()));
    }

    /// Connects a socket; an [`Operation::Connect`] tells how it went.
    pub(crate) fn connect(&mut self, fd: RawFd, id: ConnectionId, address: SocketAddr) {
        let address = Box::new(SockAddr::from(address));
        let user_data = UserData::new(Operation::Connect, id);
        let entry = opcode::Connect::new(Fd(fd), address.as_ptr().cast(), address.len()).build();
        self.connecting.push((id, address));
        self.push(&entry.user_data(user_data.bits()));
    }

    /// Receives datagrams into provided buffers until a completion without `more`.
    pub(crate) fn receive_datagrams(&mut self, fd: RawFd) {
        let user_data = UserData::new(Operation::Datagram, ConnectionId::new(0, 0));
        let entry = opcode::RecvMulti::new(Fd(fd), BUFFER_GROUP).build();
        self.push(&entry.user_data(user_data.bits()));
    }

    /// Completes an [`Operation::Wake`] each time that `event_fd` is written to, until a completion
    /// without `more`.
    pub(crate) fn watch(&mut self, event_fd: RawFd) {
        let user_data = UserData::new(Operation::Wake, ConnectionId::new(0, 0));
        let readable = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(Fd(event_fd), readable).multi(true);
        self.push(&entry.build().user_data(user_data.bits()));
    }

    /// Wakes the core whose ring is `doorbell_fd`: it sees an [`Operation::Doorbell`].
    pub(crate) fn ring_doorbell(&mut self, doorbell_fd: RawFd, peer: u32) {
        let theirs = UserData::new(Operation::Doorbell, ConnectionId::new(0, 0));
        let ours = UserData::new(Operation::DoorbellRung, ConnectionId::new(peer, 0));
        let entry = opcode::MsgRingData::new(Fd(doorbell_fd), 0, theirs.bits(), None).build();
        self.push_uncounted(&entry.user_data(ours.bits()).flags(Flags::SKIP_SUCCESS));
    }

    /// Submits and sleeps until something completes that is no short send. A signal ends the sleep
    /// early.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let is_idle = self.io.completion().is_empty() && !self.has_late_sends;
        self.enter(usize::from(is_idle))
    }

    /// Submits and lets the kernel run what is due, without sleeping.
    pub(crate) fn poll(&mut self) -> io::Result<()> {
        self.enter(0)
    }

    /// Moves what completed to `into`.
    pub(crate) fn completions(&mut self, into: &mut Vec<Completion>) {
        for entry in self.io.completion() {
            let user_data = UserData::from_bits(entry.user_data());
            let more = cqueue::more(entry.flags());
            match user_data.operation() {
                // Another ring's operation, and one of ours that failed.
                Operation::Doorbell | Operation::DoorbellRung => {}
                Operation::SendNow => self.sending_now.retain(|&id| id != user_data.id()),
                Operation::Connect => {
                    self.connecting.retain(|(id, _)| *id != user_data.id());
                    self.in_flight -= 1;
                }
                _ if more => {}
                _ => self.in_flight -= 1,
            }
            into.push(Completion {
                user_data,
                result: entry.result(),
                more,
                buffer: cqueue::buffer_select(entry.flags()).map(BufferId),
            });
        }
        // An entry that the kernel has not taken yet is still to be sent.
        if self.io.submission().is_empty() {
            for id in self.sending_now.drain(..) {
                let outgoing = self.sending[id.index()].as_ref();
                let length = outgoing.map_or(0, |outgoing| outgoing.replies.len());
                into.push(Completion {
                    user_data: UserData::new(Operation::SendNow, id),
                    result: i32::try_from(length).expect("at most SEND_NOW_BYTES_MAX"),
                    more: false,
                    buffer: None,
                });
            }
        }
        self.has_late_sends = !self.sending_now.is_empty();
    }

    /// The socket of a successful [`Operation::Accept`].
    ///
    /// # Panics
    /// If the accept failed.
    pub(crate) fn accepted(completion: &Completion) -> OwnedFd {
        assert_eq!(completion.user_data.operation(), Operation::Accept);
        assert!(completion.result >= 0);
        // SAFETY: the kernel just made this descriptor for us, and a completion is handled once.
        unsafe { OwnedFd::from_raw_fd(completion.result) }
    }

    /// What was received in `buffer`.
    pub(crate) fn received(&self, buffer: BufferId, bytes_count: usize) -> &[u8] {
        self.buffers.bytes(buffer, bytes_count)
    }

    /// Gives a provided buffer back to the kernel.
    pub(crate) fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }

    /// Cancels everything and waits until nothing is in flight, so that no memory is freed
    /// under the kernel's hands. Two seconds at most; then the memory is leaked.
    pub(crate) fn close(mut self) {
        let started = Instant::now();
        let mut done = Vec::new();
        while self.in_flight > 0 && started.elapsed() < CLOSE_WAIT {
            // The outcome shows in the completions of what was cancelled.
            let _ = self.io.submit();
            let _ = self
                .io
                .submitter()
                .register_sync_cancel(Some(Timespec::new().nsec(10_000_000)), CancelBuilder::any());
            let _ = self.poll();
            self.completions(&mut done);
            done.clear();
        }
        if self.in_flight > 0 {
            Box::leak(Box::new(self));
        }
    }

    fn cancel(&mut self, target: UserData) {
        let user_data = match target.operation() {
            Operation::Accept => UserData::new(Operation::CancelAccept, target.id()),
            _ => UserData::new(Operation::Cancel, target.id()),
        };
        let entry = opcode::AsyncCancel::new(target.bits()).build();
        self.push(&entry.user_data(user_data.bits()));
    }

    fn push(&mut self, entry: &Entry) {
        self.in_flight += 1;
        self.push_uncounted(entry);
    }

    /// Queues an operation that is over when it is submitted.
    fn push_uncounted(&mut self, entry: &Entry) {
        loop {
            // SAFETY: what the entry points to lives until its completion (invariants 1 to 4).
            let pushed = unsafe { self.io.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // Errors here (EBUSY, EINTR) are those of `enter`: the next round tries again.
            let _ = self.io.submit();
        }
    }

    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        const GETEVENTS: u32 = 1;
        let submissions = self.io.submission().len();
        let to_submit = u32::try_from(submissions).expect("at most SUBMISSIONS_MAX");
        let wanted = u32::try_from(wanted).expect("0 or 1");
        // Deferred task work runs only in an enter that asks for events.
        // SAFETY: no argument is passed, and the ring is live.
        let entered = unsafe {
            self.io
                .submitter()
                .enter::<libc::sigset_t>(to_submit, wanted, GETEVENTS, None)
        };
        match entered {
            Ok(_) => Ok(()),
            // A signal, a full completion queue, or memory pressure: the next turn goes on.
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use fulmar_protocol::ReplySink;
    use fulmar_protocol::resp::RespVersion;
    use fulmar_shard::ValueSink;

    use super::{Completion, ConnectionId, Operation, Ring, SEND_NOW_BYTES_MAX};
    use crate::replies::Replies;
    use crate::replies::tests::{Values, all_bytes};

    const ID: ConnectionId = ConnectionId::new(3, 1);

    fn next(ring: &mut Ring) -> Vec<Completion> {
        let mut completions = Vec::new();
        ring.poll().expect("a live ring");
        ring.completions(&mut completions);
        completions
    }

    #[test]
    fn a_short_send_is_over_when_it_is_submitted() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut ring = Ring::new().expect("io_uring");
        for round in 0..1_000u32 {
            ring.send(near.as_raw_fd(), ID, round.to_be_bytes().to_vec().into());
            let completions = next(&mut ring);
            let [sent] = completions[..] else {
                panic!("{completions:?}");
            };
            assert_eq!(sent.user_data.operation(), Operation::SendNow);
            assert_eq!((sent.user_data.id(), sent.result), (ID, 4));
            assert_eq!(ring.take_sent(ID).bytes, round.to_be_bytes());
            let mut received = [0; 4];
            far.read_exact(&mut received).expect("it was sent");
            assert_eq!(received, round.to_be_bytes());
        }
        assert!(ring.io.completion().is_empty(), "no entry was spent on it");
        ring.close();
    }

    #[test]
    fn what_finds_no_room_is_told_and_sent_later() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut ring = Ring::new().expect("io_uring");
        let mut expected = Vec::new();
        let (buffer, sent) = loop {
            let fill = u8::try_from(expected.len() / 7 % 251).expect("below 251");
            let length = SEND_NOW_BYTES_MAX - expected.len() % 1_000;
            ring.send(near.as_raw_fd(), ID, vec![fill; length].into());
            let completions = next(&mut ring);
            assert_eq!(completions.len(), 1);
            expected.extend(vec![fill; length]);
            let buffer = ring.take_sent(ID);
            let sent = usize::try_from(completions[0].result).unwrap_or(0);
            if sent < length {
                break (buffer, sent);
            }
        };
        ring.send_rest(near.as_raw_fd(), ID, buffer, sent);
        assert!(next(&mut ring).is_empty(), "it waits for room");
        let mut received = vec![0; expected.len()];
        let reader = std::thread::spawn(move || {
            far.read_exact(&mut received).expect("all of it comes");
            received
        });
        let mut completions = Vec::new();
        while completions.is_empty() {
            ring.wait().expect("a live ring");
            ring.completions(&mut completions);
        }
        drop(ring.take_sent(ID));
        assert!(reader.join().expect("it read") == expected);
        assert_eq!(ring.in_flight, 0);
        ring.close();
    }

    #[test]
    fn values_are_sent_from_where_they_lie_over_several_sends() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut values = Values::new();
        let mut replies = Replies::default();
        for length in [17_000, 900_000, 20_000, 300_000] {
            let mut sink = replies.sink(RespVersion::Resp2);
            sink.bulk_leased(values.lease(length).0);
            sink.integer(5);
        }
        let expected = all_bytes(&replies, 0);
        let mut received = vec![0; expected.len()];
        // Nobody reads before the socket's buffer is full.
        let (begin, begun) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            begun.recv().expect("something was sent");
            far.read_exact(&mut received).expect("all of it comes");
            received
        });
        let mut ring = Ring::new().expect("io_uring");
        let (mut sent, mut sends) = (0, 0);
        while sent < expected.len() {
            ring.send_rest(near.as_raw_fd(), ID, replies, sent);
            let mut completions = Vec::new();
            while completions.is_empty() {
                ring.wait().expect("a live ring");
                ring.completions(&mut completions);
            }
            replies = ring.take_sent(ID);
            sent += usize::try_from(completions[0].result).expect("no error");
            sends += 1;
            if sends == 1 {
                begin.send(()).expect("it waits");
            }
        }
        assert!(sends > 1, "a socket's buffer does not hold it");
        assert!(reader.join().expect("it read") == expected);
        values.release(replies.take_leases());
        ring.close();
    }

    #[test]
    fn a_send_to_nobody_fails() {
        let (near, far) = UnixStream::pair().expect("a pair");
        drop(far);
        let mut ring = Ring::new().expect("io_uring");
        ring.send(near.as_raw_fd(), ID, vec![1; 10].into());
        let completions = next(&mut ring);
        assert_eq!(completions.len(), 1);
        assert_eq!(completions[0].result, -libc::EPIPE);
        drop(ring.take_sent(ID));
        ring.close();
    }
}
