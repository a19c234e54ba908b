//! The task of a connection: a writer, a reader and a watch, of which the first to end ends all.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::in_flight::{Debt, InFlight, Waiter};
use super::{Lost, Queued};
use crate::decode::{DecodeError, Decoder};
use crate::error::Disconnect;
use crate::options::Options;

/// What is queued is gathered up to this size before it is written, in bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// A longer frame is written from where it lies.
const COPIED_BYTES_MAX: usize = 16 * 1024;
/// Room for reading, in bytes; values share it.
const READ_BYTES: usize = 64 * 1024;
/// A longer value's room is made in steps: its length alone reserves nothing.
const READ_STEP_BYTES_MAX: usize = 4 << 20;
/// The watch looks so many times per reply time-out.
const LOOKS: u32 = 8;

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// Runs until all handles are gone and what was sent is answered, or until the connection fails; why it ended.
/// Then nothing is queued any more, what was sent is failed, and the socket is closed.
pub(super) async fn drive(
    mut stream: TcpStream,
    queue: &mut mpsc::Receiver<Queued>,
    options: &Options,
) -> Disconnect {
    let in_flight = InFlight::new();
    let answered = Notify::new();
    let idle = Notify::new();
    let (input, output) = stream.split();
    let mut writer = Writer {
        output,
        queue,
        in_flight: &in_flight,
        answered: &answered,
        idle: &idle,
        batch: BytesMut::new(),
        waiters: Vec::new(),
        first: 0,
        options,
    };
    let reason = tokio::select! {
        // What has come is read before it is missed.
        biased;
        Err(reason) = read(input, &in_flight, &answered, options) => reason,
        reason = writer.run() => reason,
        reason = watch(&in_flight, &idle, options) => reason,
    };
    writer.queue.close();
    in_flight.fail_all(reason);
    reason
}

/// Gives back what is left in a closed queue.
pub(super) async fn refuse_all(mut queue: mpsc::Receiver<Queued>, reason: Disconnect) {
    while let Some(queued) = queue.recv().await {
        let _ = queued.reply.send(Err(Lost {
            reason,
            was_sent: false,
        }));
    }
}

struct Writer<'d> {
    output: WriteHalf<'d>,
    queue: &'d mut mpsc::Receiver<Queued>,
    in_flight: &'d InFlight,
    answered: &'d Notify,
    idle: &'d Notify,
    batch: BytesMut,
    /// Of the frames that are not written yet.
    waiters: Vec<Waiter>,
    /// Number of the first request of what is being written.
    first: u64,
    options: &'d Options,
}

impl Writer<'_> {
    async fn run(&mut self) -> Disconnect {
        loop {
            self.wait_for_room().await;
            let queued = tokio::select! {
                biased;
                queued = self.queue.recv() => queued,
                () = self.idle.notified() => {
                    if let Err(reason) = self.ping().await {
                        return reason;
                    }
                    continue;
                }
            };
            let Some(queued) = queued else {
                return self.finish().await;
            };
            if let Err(reason) = self.write_queued(queued).await {
                return reason;
            }
        }
    }

    async fn wait_for_room(&self) {
        while self.in_flight.len() >= self.options.queue_max {
            self.answered.notified().await;
        }
    }

    /// Nobody will ask any more.
    async fn finish(&self) -> Disconnect {
        while self.in_flight.len() > 0 {
            self.answered.notified().await;
        }
        Disconnect::Dropped
    }

    async fn ping(&mut self) -> Result<(), Disconnect> {
        self.batch.extend_from_slice(PING);
        self.waiters.push(None);
        self.flush().await
    }

    /// Writes a request and what is queued behind it.
    async fn write_queued(&mut self, first: Queued) -> Result<(), Disconnect> {
        let mut room = self
            .options
            .queue_max
            .saturating_sub(self.in_flight.len())
            .max(1);
        let mut next = Some(first);
        while let Some(queued) = next.take() {
            if queued.ticket.send() {
                self.waiters.push(Some(queued.reply));
                room -= 1;
                if queued.frame.len() > COPIED_BYTES_MAX {
                    self.flush_and_write(queued.frame).await?;
                } else {
                    self.batch.extend_from_slice(&queued.frame);
                }
            }
            if room > 0 && self.batch.len() < BATCH_BYTES {
                next = self.queue.try_recv().ok();
            }
        }
        self.flush().await
    }

    /// Writes the batch. All its requests are in flight before its first byte is.
    async fn flush(&mut self) -> Result<(), Disconnect> {
        if self.waiters.is_empty() {
            return Ok(());
        }
        self.first = self.in_flight.append(&mut self.waiters);
        let batch = self.batch.split().freeze();
        self.write(&batch).await
    }

    /// Writes the batch and the frame of its last waiter behind it.
    async fn flush_and_write(&mut self, frame: Bytes) -> Result<(), Disconnect> {
        self.flush().await?;
        self.write(&frame).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Disconnect> {
        for piece in bytes.chunks(BATCH_BYTES) {
            match timeout(self.options.reply_timeout, self.output.write_all(piece)).await {
                Ok(Ok(())) => self.in_flight.mark_written(self.first),
                Ok(Err(error)) => return Err(disconnect(&error)),
                Err(_) => return Err(Disconnect::Silent),
            }
        }
        Ok(())
    }
}

fn disconnect(error: &io::Error) -> Disconnect {
    Disconnect::Io(error.kind())
}

async fn read(
    mut input: ReadHalf<'_>,
    in_flight: &InFlight,
    answered: &Notify,
    options: &Options,
) -> Result<Infallible, Disconnect> {
    let mut decoder = Decoder::new(options.reply_bytes_max);
    let mut buffer = BytesMut::new();
    loop {
        let missing = decoder.missing_bytes(&buffer).min(READ_STEP_BYTES_MAX);
        buffer.reserve(missing.max(if buffer.capacity() - buffer.len() < 1_024 {
            READ_BYTES
        } else {
            1
        }));
        let count = input
            .read_buf(&mut buffer)
            .await
            .map_err(|error| disconnect(&error))?;
        if count == 0 {
            return Err(Disconnect::Closed);
        }
        in_flight.mark_read();
        let mut has_answered = false;
        while let Some(reply) = decoder.decode(&mut buffer).map_err(Disconnect::NotResp)? {
            if !in_flight.answer(reply) {
                return Err(Disconnect::NotResp(DecodeError::Unasked));
            }
            has_answered = true;
        }
        if has_answered {
            answered.notify_one();
        }
    }
}

/// Ends when the server is silent; has the writer probe it when it owes nothing for long.
///
/// A client that stood still finds all times passed, with replies in the socket perhaps: so it looks twice.
async fn watch(in_flight: &InFlight, idle: &Notify, options: &Options) -> Disconnect {
    let look = (options.reply_timeout / LOOKS).max(Duration::from_millis(1));
    let mut was_late = false;
    loop {
        sleep(look).await;
        match in_flight.debt() {
            Debt::Reply(time) => {
                if was_late && time >= options.reply_timeout {
                    return Disconnect::Silent;
                }
                was_late = time + look >= options.reply_timeout;
            }
            Debt::Idle(time) => {
                if time >= options.ping_interval {
                    idle.notify_one();
                }
                was_late = false;
            }
        }
    }
}
