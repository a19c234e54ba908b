//! One core's network ring: io_uring behind a safe interface.
//!
//! This module and [`token`](crate::token) hold all the crate's unsafe code. What the kernel
//! may read or write later is owned here until its last completion:
//!
//! 1. A buffer being sent is owned by `sending` at its connection's index; there is at most one
//!    send in flight per connection, and its completion gives the buffer back.
//! 2. Received bytes lie in provided buffers, which `BufferRing` owns; one is readable from the
//!    completion that names it until [`Ring::recycle`].
//! 3. The tick's time lives in a box of its own.
//! 4. `in_flight` counts the operations that will still complete; [`Ring::close`] waits for zero,
//!    and what is left then is leaked, not freed.
//!
//! Everything is submitted in batches: a method queues an entry, and [`Ring::wait`] or
//! [`Ring::poll`] submits all of them in the one `io_uring_enter` of the turn.

mod buffers;
mod operation;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::{CancelBuilder, Fd, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode};

pub(crate) use buffers::BufferId;
use buffers::{BUFFER_GROUP, BUFFERS_COUNT, BufferRing};
pub(crate) use operation::{ConnectionId, Operation, UserData};

/// Entries of the submission queue; a full one is submitted early.
const SUBMISSIONS_MAX: u32 = 1_024;
/// Entries of the completion queue; the kernel keeps what overflows.
const COMPLETIONS_MAX: u32 = 8_192;
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

/// The ring of one core. Made and used on that core's thread only.
pub(crate) struct Ring {
    io: IoUring,
    buffers: BufferRing,
    sending: Vec<Option<Vec<u8>>>,
    tick_at: Box<Timespec>,
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
        // SAFETY: the entries stay mapped until the ring is closed (invariant 2 and 4).
        unsafe {
            io.submitter().register_buf_ring_with_flags(
                buffers.entries_address(),
                BUFFERS_COUNT,
                BUFFER_GROUP,
                0,
            )?;
        }
        let tick_at = Box::new(Timespec::new());
        Ok(Self {
            io,
            buffers,
            sending: Vec::new(),
            tick_at,
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

    /// Sends `buffer[offset..]`; [`take_sent`](Self::take_sent) gives it back on completion.
    ///
    /// # Panics
    /// If a send of this connection is in flight.
    pub(crate) fn send(&mut self, fd: RawFd, id: ConnectionId, buffer: Vec<u8>, offset: usize) {
        let slot = id.index();
        if slot >= self.sending.len() {
            self.sending.resize_with(slot + 1, || None);
        }
        assert!(
            self.sending[slot].is_none(),
            "one send in flight per connection"
        );
        let rest = &buffer[offset..];
        // One send never needs more than 4 GiB; a longer rest is a short send.
        let bytes_count = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let user_data = UserData::new(Operation::Send, id);
        let entry = opcode::Send::new(Fd(fd), rest.as_ptr(), bytes_count)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(user_data.bits());
        self.sending[slot] = Some(buffer);
        self.push(&entry);
    }

    /// The buffer of a completed send.
    pub(crate) fn take_sent(&mut self, id: ConnectionId) -> Vec<u8> {
        self.sending
            .get_mut(id.index())
            .and_then(Option::take)
            .expect("a send's buffer is kept until its completion")
    }

    /// Asks for one [`Operation::Tick`] at `at_ms` of the boot-time clock.
    pub(crate) fn tick(&mut self, at_ms: u64) {
        let nanoseconds = u32::try_from(at_ms % 1_000 * 1_000_000).expect("below a second");
        *self.tick_at = Timespec::new().sec(at_ms / 1_000).nsec(nanoseconds);
        let user_data = UserData::new(Operation::Tick, ConnectionId::new(0, 0));
        let entry = opcode::Timeout::new(std::ptr::from_ref(&*self.tick_at))
            .flags(TimeoutFlags::ABS | TimeoutFlags::BOOTTIME)
            .build();
        self.push(&entry.user_data(user_data.bits()));
    }

    /// Wakes the core whose ring is `doorbell_fd`: it sees an [`Operation::Doorbell`].
    pub(crate) fn ring_doorbell(&mut self, doorbell_fd: RawFd, peer: u32) {
        let theirs = UserData::new(Operation::Doorbell, ConnectionId::new(0, 0));
        let ours = UserData::new(Operation::DoorbellRung, ConnectionId::new(peer, 0));
        let entry = opcode::MsgRingData::new(Fd(doorbell_fd), 0, theirs.bits(), None).build();
        self.push(&entry.user_data(ours.bits()));
    }

    /// Submits and sleeps until something completes. A signal ends the sleep early.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let wanted = usize::from(self.io.completion().is_empty());
        self.enter(wanted)
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
            // A doorbell is another ring's operation.
            if !more && user_data.operation() != Operation::Doorbell {
                self.in_flight -= 1;
            }
            into.push(Completion {
                user_data,
                result: entry.result(),
                more,
                buffer: cqueue::buffer_select(entry.flags()).map(BufferId),
            });
        }
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
        loop {
            // SAFETY: what the entry points to lives until its completion (invariants 1 to 3).
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
