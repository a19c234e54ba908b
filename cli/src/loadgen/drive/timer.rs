//! A timer that wakes an event loop with nanosecond aim; `epoll_wait` alone rounds up to a
//! millisecond, which an open loop would report as latency.

use super::clock::to_timespec;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;

/// One timer of one event loop.
///
/// It is never read: registered edge-triggered, each expiry is an event, and setting it anew
/// clears the last one.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    armed_ns: Option<u64>,
}

impl Timer {
    /// A timer that delivers events as `token`.
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, armed_ns: None })
    }

    /// Arranges for an event at `at_ns` of the monotonic clock (at once if that has passed).
    /// Costs nothing if it is armed for that moment already.
    pub(super) fn arm(&mut self, at_ns: u64) -> io::Result<()> {
        if self.armed_ns == Some(at_ns) {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: to_timespec(0),
            it_value: to_timespec(at_ns.max(1)),
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        self.armed_ns = Some(at_ns);
        Ok(())
    }

    /// To be called when the event came.
    pub(super) fn expired(&mut self) {
        self.armed_ns = None;
    }
}
