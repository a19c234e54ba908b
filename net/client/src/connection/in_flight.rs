//! What was sent and is not answered, oldest first; and how long the server has owed a reply.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Lost, Reply};
use crate::error::Disconnect;
use crate::value::Value;

/// Who gets the next reply; nobody, if it is to a PING.
pub(super) type Waiter = Option<oneshot::Sender<Reply>>;

#[derive(Debug)]
pub(super) struct InFlight {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiters: VecDeque<Waiter>,
    /// Replies that came, which is the number of the request that is answered next.
    answered: u64,
    /// When the server last gave a sign of life, or last began to owe one.
    since: Instant,
}

/// What the server owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Debt {
    /// A reply, for so long.
    Reply(Duration),
    /// Nothing, and nothing came for so long.
    Idle(Duration),
}

impl InFlight {
    pub(super) fn new() -> Self {
        let state = State {
            waiters: VecDeque::new(),
            answered: 0,
            since: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// Appends those whose requests are about to be written; the number of the first.
    pub(super) fn append(&self, waiters: &mut Vec<Waiter>) -> u64 {
        let mut state = self.lock();
        if state.waiters.is_empty() {
            state.since = Instant::now();
        }
        let first = state.answered + state.waiters.len() as u64;
        state.waiters.extend(waiters.drain(..));
        first
    }

    /// Some of the requests from number `first` on was written: if the server owes no older reply, its time
    /// begins now.
    pub(super) fn mark_written(&self, first: u64) {
        let mut state = self.lock();
        if state.answered >= first {
            state.since = Instant::now();
        }
    }

    /// Something came.
    pub(super) fn mark_read(&self) {
        self.lock().since = Instant::now();
    }

    /// Gives the reply to the oldest; `false` if there is none.
    pub(super) fn answer(&self, reply: Value) -> bool {
        let waiter = {
            let mut state = self.lock();
            state.answered += 1;
            state.waiters.pop_front()
        };
        // Whoever has gone does not miss it.
        waiter
            .map(|waiter| waiter.map(|waiter| waiter.send(Ok(reply))))
            .is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiters.len()
    }

    pub(super) fn debt(&self) -> Debt {
        let state = self.lock();
        let time = state.since.elapsed();
        if state.waiters.is_empty() {
            Debt::Idle(time)
        } else {
            Debt::Reply(time)
        }
    }

    /// The connection ended.
    pub(super) fn fail_all(&self, reason: Disconnect) {
        let waiters = std::mem::take(&mut self.lock().waiters);
        for waiter in waiters.into_iter().flatten() {
            let _ = waiter.send(Err(Lost {
                reason,
                was_sent: true,
            }));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        crate::lock::lock(&self.state)
    }
}
