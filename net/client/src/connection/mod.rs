//! One connection, shared by all who call the node: requests are sent as they come, replies come in the
//! same order.
//!
//! ```text
//! callers --queue (bounded)--> writer: all that is queued in one write --> server
//!         <--one channel each-- reader: the oldest in flight gets it   <--
//!                               watch: silence ends it, idleness is probed with PING
//! ```
//!
//! 1. A request's ticket goes once from queued to sent, or to cancelled: who gives up before it is sent knows
//!    that it never will be.
//! 2. What was sent keeps its place until its reply came, whether its caller is there or not.
//! 3. However it ends, every request gets an answer: its reply, or that it is lost and whether it was sent.

mod driver;
mod in_flight;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::decode::{DecodeError, Decoder};
use crate::error::{ConnectError, Disconnect};
use crate::name::Name;
use crate::options::Options;
use crate::value::Value;

/// What the server is to take a connection for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Knows the map: is told who owns a key, rather than having commands sent on.
    Routed,
    /// Knows the map, and reads what the node holds as a replica.
    Replica,
    /// Knows nothing: any node executes anything, and answers reads of hot keys from its copies.
    Plain,
}

impl Role {
    /// What is said first. READWRITE takes back half of READONLY: what stays is that the map is known.
    fn greeting(self) -> (&'static [u8], usize) {
        match self {
            Self::Routed => (b"*1\r\n$8\r\nREADONLY\r\n*1\r\n$9\r\nREADWRITE\r\n", 2),
            Self::Replica => (b"*1\r\n$8\r\nREADONLY\r\n", 1),
            Self::Plain => (b"*1\r\n$4\r\nPING\r\n", 1),
        }
    }
}

/// A request's answer was lost with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) reason: Disconnect,
    /// Whether the server may have it.
    pub(crate) was_sent: bool,
}

type Reply = Result<Value, Lost>;

/// A request on its way to the writer.
#[derive(Debug)]
struct Queued {
    frame: Bytes,
    ticket: Ticket,
    reply: oneshot::Sender<Reply>,
}

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const CANCELLED: u8 = 2;

/// What became of a request; shared by its caller and the connection.
#[derive(Clone, Debug)]
struct Ticket(Arc<AtomicU8>);

impl Ticket {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    /// Whether it may be sent: its caller still waits.
    fn send(&self) -> bool {
        self.leave_queue(SENT).is_ok()
    }

    /// Gives up; whether it was sent before.
    fn cancel(&self) -> bool {
        self.leave_queue(CANCELLED) == Err(SENT)
    }

    fn leave_queue(&self, to: u8) -> Result<u8, u8> {
        self.0
            .compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

/// A reply to come. Dropped before its request was sent, that never is.
#[derive(Debug)]
pub(crate) struct PendingReply {
    ticket: Ticket,
    reply: oneshot::Receiver<Reply>,
}

impl PendingReply {
    pub(crate) async fn wait(&mut self) -> Reply {
        match (&mut self.reply).await {
            Ok(reply) => reply,
            // The runtime is going down, and the connection's task with it.
            Err(_) => Err(Lost {
                reason: Disconnect::Dropped,
                was_sent: self.ticket.cancel(),
            }),
        }
    }

    /// Waits no longer; whether the server may have the request.
    pub(crate) fn cancel(&self) -> bool {
        self.ticket.cancel()
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.ticket.cancel();
    }
}

/// A handle of an open connection. The last one that is dropped closes it, once what was sent is answered.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    requests: mpsc::Sender<Queued>,
}

impl Connection {
    /// Connects to what the name stands for now, and says what the connection is for.
    /// `trouble` is told if it ends before its last handle is gone.
    pub(crate) async fn open(
        name: &Name,
        role: Role,
        options: &Options,
        trouble: Arc<Notify>,
    ) -> Result<Self, ConnectError> {
        let connect = async {
            let mut stream = connect(name)
                .await
                .map_err(|error| ConnectError::Io(error.kind()))?;
            greet(&mut stream, role).await?;
            Ok(stream)
        };
        let stream = timeout(options.connect_timeout, connect)
            .await
            .map_err(|_| ConnectError::TimedOut)??;
        let (requests, mut queue) = mpsc::channel(options.queue_max);
        let options = options.clone();
        tokio::spawn(async move {
            let reason = driver::drive(stream, &mut queue, &options).await;
            if reason != Disconnect::Dropped {
                trouble.notify_one();
            }
            driver::refuse_all(queue, reason).await;
        });
        Ok(Self { requests })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Queues a request; waits while the queue is full. An error: it ended, nothing was sent.
    pub(crate) async fn send(&self, frame: Bytes) -> Result<PendingReply, Lost> {
        let (sender, reply) = oneshot::channel();
        let ticket = Ticket::new();
        let queued = Queued {
            frame,
            ticket: ticket.clone(),
            reply: sender,
        };
        match self.requests.send(queued).await {
            Ok(()) => Ok(PendingReply { ticket, reply }),
            Err(_) => Err(Lost {
                reason: Disconnect::Closed,
                was_sent: false,
            }),
        }
    }
}

/// Tries what the name stands for, beginning anywhere: one that takes connections and stands still must not
/// be the first for ever.
async fn connect(name: &Name) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in name.resolve().await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Longest reply to a greeting, in bytes.
const GREETING_BYTES_MAX: usize = 4 * 1024;

async fn greet(stream: &mut TcpStream, role: Role) -> Result<(), ConnectError> {
    let io = |error: io::Error| ConnectError::Io(error.kind());
    let (greeting, mut missing) = role.greeting();
    stream.write_all(greeting).await.map_err(io)?;
    let mut decoder = Decoder::new(GREETING_BYTES_MAX);
    let mut input = BytesMut::with_capacity(GREETING_BYTES_MAX);
    while missing > 0 {
        if stream.read_buf(&mut input).await.map_err(io)? == 0 {
            return Err(ConnectError::Io(io::ErrorKind::UnexpectedEof));
        }
        while let Some(reply) = decoder.decode(&mut input).map_err(ConnectError::NotResp)? {
            if is_refusal(&reply) {
                return Err(ConnectError::Refused);
            }
            missing = missing
                .checked_sub(1)
                .ok_or(ConnectError::NotResp(DecodeError::Unasked))?;
        }
    }
    if input.is_empty() {
        Ok(())
    } else {
        Err(ConnectError::NotResp(DecodeError::Unasked))
    }
}

/// A server without a cluster says so, and serves.
fn is_refusal(reply: &Value) -> bool {
    let Value::Error(error) = reply else {
        return false;
    };
    let without_cluster = b"ERR This instance has cluster support disabled";
    error.text() != without_cluster && !error.text().starts_with(b"ERR unknown command")
}

#[cfg(test)]
mod tests;
