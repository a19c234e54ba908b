//! Writes gathered for a moment and merged: what is written a thousand times in it is sent once.
//!
//! ```text
//! set, delete, increment --merge--> buffer (bounded) --window, full, or flush--> one pipeline --> nodes
//!                                      next buffer gathers meanwhile
//! ```
//!
//! One flush is on its way at a time, so that a key's writes stay in order.

mod buffer;
mod failure;
mod options;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::commands::{self, SetOptions};
use crate::counter::Counter;
use crate::error::{Disconnect, Error, ErrorKind, Result};
use crate::lock::lock;
use buffer::{Buffer, Merged, Refusal, Write};

pub use failure::{BufferedWrite, FlushError, WriteFailure};
pub use options::BatchOptions;

/// Buffers writes and sends them merged: for counters, and for keys that are written again and again.
///
/// Of several sets and deletes of a key the last one is sent; increments are summed; an increment after a set
/// is sent after it. Reads don't see what is buffered.
///
/// **What is lost.** A write is buffered when its call returns, not stored: if the process dies, the writes
/// of one [window](BatchOptions::window) are lost, and of those on their way some are stored and some not.
/// [`flush`](Self::flush) before you stop. A batcher that is dropped without flushes what it has in the
/// background, if the runtime goes on, and tells nobody but the handler.
///
/// **What fails.** Sets and deletes are retried as the client's are. An increment whose outcome is unknown is
/// never sent again: it is reported, with the sum and with
/// [`may_have_been_applied`](Error::may_have_been_applied).
///
/// ```no_run
/// # async fn example(client: fulmar_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use fulmar_client::BatchOptions;
///
/// let batcher = client.batcher(BatchOptions::default());
/// for _ in 0..10_000 {
///     batcher.increment("visits", 1).await?;
/// }
/// batcher.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Batcher {
    handle: Arc<Handle>,
}

/// Dropped with the last clone.
#[derive(Debug)]
struct Handle {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: BatchOptions,
    state: Mutex<State>,
    /// For the task: there is something to do.
    wake: Notify,
    /// For writes that wait: the buffer was taken.
    room: Notify,
    /// Number of buffers that were sent and answered.
    answered: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    buffer: Buffer,
    /// Number of buffers that were taken to be sent.
    taken: u64,
    /// When the buffer is to be sent, if it has anything.
    due: Option<Instant>,
    is_wanted: bool,
    is_closed: bool,
    /// The task has ended: nothing is sent any more.
    has_ended: bool,
    errors: FlushError,
}

/// Held by the task, and dropped with it however it ends: all handles may be gone, or the runtime.
struct Sender(Arc<Shared>);

/// What the task is to do.
enum Step {
    Send(Vec<(Bytes, Merged)>),
    Wait(Option<Instant>),
    End,
}

impl Batcher {
    pub(crate) fn start(client: Client, options: BatchOptions) -> Self {
        let state = State {
            buffer: Buffer::new(options.items_max, options.bytes_max),
            taken: 0,
            due: None,
            is_wanted: false,
            is_closed: false,
            has_ended: false,
            errors: FlushError::default(),
        };
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Notify::new(),
            answered: watch::Sender::new(0),
        });
        tokio::spawn(run(Sender(Arc::clone(&shared)), client.clone()));
        Self {
            handle: Arc::new(Handle { client, shared }),
        }
    }

    /// Buffers a SET.
    ///
    /// # Errors
    /// The buffer was full for the client's time-out; the write is not buffered.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let value = Bytes::copy_from_slice(value.as_ref());
        self.add(key.as_ref(), Write::Set { value, ttl: None })
            .await
    }

    /// Buffers a SET with a TTL, which counts from when it is sent.
    ///
    /// # Errors
    /// The buffer was full for the client's time-out; the write is not buffered.
    pub async fn set_with_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let value = Bytes::copy_from_slice(value.as_ref());
        self.add(
            key.as_ref(),
            Write::Set {
                value,
                ttl: Some(ttl),
            },
        )
        .await
    }

    /// Buffers a DEL.
    ///
    /// # Errors
    /// The buffer was full for the client's time-out; the write is not buffered.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.add(key.as_ref(), Write::Delete).await
    }

    /// Buffers an increment.
    ///
    /// # Errors
    /// The buffer was full for the client's time-out, or the sum of what is buffered for the key would
    /// overflow; the increment is not buffered.
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<()> {
        self.add(key.as_ref(), Write::Increment(by)).await
    }

    /// A counter split over `parts` keys whose increments go through this batcher: one write per window,
    /// each time to the next part.
    ///
    /// # Errors
    /// As [`Client::counter`].
    pub fn counter(&self, name: impl AsRef<[u8]>, parts: usize) -> Result<Counter> {
        Counter::batched(
            self.handle.client.clone(),
            self.clone(),
            name.as_ref(),
            parts,
        )
    }

    /// Sends what is buffered, and waits until all that was buffered before is answered: at most four times
    /// the client's time-out.
    ///
    /// # Errors
    /// What failed since the last flush, whoever flushed it; if several flush at once, one of them gets it. Or
    /// that the runtime has ended in which the batcher was made.
    pub async fn flush(&self) -> std::result::Result<(), FlushError> {
        let shared = &self.handle.shared;
        let target = {
            let mut state = lock(&shared.state);
            state.is_wanted = !state.buffer.is_empty();
            state.taken + u64::from(state.is_wanted)
        };
        shared.wake.notify_one();
        // It ends otherwise only with its sender, which is `shared`.
        let _ = shared
            .answered
            .subscribe()
            .wait_for(|answered| *answered >= target)
            .await;
        let mut state = lock(&shared.state);
        let mut errors = std::mem::take(&mut state.errors);
        errors.has_ended = state.has_ended;
        if errors.failures.is_empty() && !errors.has_ended {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// A number that changes with each buffer.
    pub(crate) fn window_number(&self) -> u64 {
        lock(&self.handle.shared.state).taken
    }

    async fn add(&self, key: &[u8], mut write: Write) -> Result<()> {
        let shared = &self.handle.shared;
        let deadline = Instant::now() + self.handle.client.shared.router.options.timeout;
        loop {
            let mut room = pin!(shared.room.notified());
            room.as_mut().enable();
            let added = {
                let mut state = lock(&shared.state);
                if state.has_ended {
                    return Err(Error::new(ErrorKind::Disconnected(Disconnect::Dropped)));
                }
                state.add(key, write, &shared.options)
            };
            match added {
                Ok(is_first_or_last) => {
                    if is_first_or_last {
                        shared.wake.notify_one();
                    }
                    return Ok(());
                }
                Err(Refusal::Overflow) => {
                    return Err(Error::invalid(
                        "the sum of the buffered increments overflows",
                    ));
                }
                Err(Refusal::Full(refused)) => write = refused,
            }
            shared.wake.notify_one();
            timeout_at(deadline, room)
                .await
                .map_err(|_| Error::timed_out())?;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        self.shared.wake.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        lock(&self.0.state).has_ended = true;
        self.0.room.notify_waiters();
        // Nobody is to wait for what will never be.
        self.0.answered.send_replace(u64::MAX);
    }
}

impl State {
    /// Buffers a write; whether that changes when to send.
    fn add(
        &mut self,
        key: &[u8],
        write: Write,
        options: &BatchOptions,
    ) -> std::result::Result<bool, Refusal> {
        let was_empty = self.buffer.is_empty();
        let added = self.buffer.add(key, write);
        if was_empty && added.is_ok() {
            self.due = Some(Instant::now() + options.window);
        }
        let is_full = self.buffer.is_full();
        self.is_wanted |= is_full || matches!(added, Err(Refusal::Full(_)));
        added.map(|()| was_empty || is_full)
    }

    fn step(&mut self) -> Step {
        let is_due =
            self.is_wanted || self.is_closed || self.due.is_some_and(|at| at <= Instant::now());
        if self.buffer.is_empty() {
            return if self.is_closed {
                Step::End
            } else {
                Step::Wait(None)
            };
        }
        if !is_due {
            return Step::Wait(self.due);
        }
        self.is_wanted = false;
        self.due = None;
        self.taken += 1;
        Step::Send(self.buffer.take())
    }
}

/// Sends buffers when they are due, until all handles are gone and nothing is left.
async fn run(sender: Sender, client: Client) {
    let shared = &*sender.0;
    loop {
        let step = lock(&shared.state).step();
        match step {
            Step::End => return,
            Step::Wait(None) => shared.wake.notified().await,
            Step::Wait(Some(at)) => drop(timeout_at(at, shared.wake.notified()).await),
            Step::Send(writes) => {
                shared.room.notify_waiters();
                send(writes, &client, shared).await;
                shared.answered.send_modify(|answered| *answered += 1);
            }
        }
    }
}

/// What is independent first, then the increments behind sets and deletes that were done.
async fn send(writes: Vec<(Bytes, Merged)>, client: &Client, shared: &Shared) {
    let mut first = client.pipeline();
    let mut behind = Vec::new();
    let mut sent = Vec::with_capacity(writes.len());
    for (
        key,
        Merged {
            first: write,
            increment,
        },
    ) in writes
    {
        let (write, behind_it) = match (write, increment) {
            (Some(write), increment) => (write, increment),
            (None, Some(by)) => (Write::Increment(by), None),
            (None, None) => continue,
        };
        let (command, write) = match write {
            Write::Set { value, ttl } => {
                let options = SetOptions::default();
                let options = ttl.map_or(options, |ttl| options.ttl(ttl));
                (commands::set(&key, value, options), BufferedWrite::Set)
            }
            Write::Delete => (commands::delete(&key), BufferedWrite::Delete),
            Write::Increment(by) => (commands::increment(&key, by), BufferedWrite::Increment(by)),
        };
        first = first.command(command);
        sent.push((key, write, behind_it));
    }
    for ((key, write, behind_it), reply) in sent.into_iter().zip(first.execute().await) {
        match (reply, behind_it) {
            (Ok(_), Some(by)) => behind.push((key, by)),
            (Ok(_), None) => {}
            (Err(error), behind_it) => {
                shared.report(WriteFailure {
                    key: key.clone(),
                    write,
                    error,
                });
                if let Some(by) = behind_it {
                    let error = Error::new(ErrorKind::Skipped);
                    shared.report(WriteFailure {
                        key,
                        write: BufferedWrite::Increment(by),
                        error,
                    });
                }
            }
        }
    }
    if behind.is_empty() {
        return;
    }
    let increments = behind
        .iter()
        .fold(client.pipeline(), |all, (key, by)| all.increment(key, *by));
    for ((key, by), reply) in behind.into_iter().zip(increments.execute().await) {
        if let Err(error) = reply {
            shared.report(WriteFailure {
                key,
                write: BufferedWrite::Increment(by),
                error,
            });
        }
    }
}

impl Shared {
    fn report(&self, failure: WriteFailure) {
        if let Some(handler) = &self.options.on_failure {
            // It has told on standard error what is wrong, and the failure is kept all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| handler(&failure)));
        }
        lock(&self.state).errors.add(failure);
    }
}

#[cfg(test)]
mod tests;
