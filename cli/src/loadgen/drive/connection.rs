//! One non-blocking TCP connection: what is in flight on it and what the socket did not take yet.

use super::exchange::Exchange;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// A buffer of unsent bytes larger than this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// A connection and its state.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// The requests in flight.
    pub(super) exchange: Exchange,
    /// Encoded requests that the socket had no room for, from `unsent_from` on.
    unsent: Vec<u8>,
    unsent_from: usize,
    /// When the last byte came, or when a request was sent with none in flight. While
    /// connecting: when that began.
    pub(super) progress_ns: u64,
    /// Whether the connection is established.
    pub(super) is_open: bool,
    /// Open loop: whether it waits in the queue of connections with room.
    pub(super) is_queued: bool,
}

/// The outcome of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// So many bytes, above zero.
    Bytes(usize),
    /// Nothing there at present.
    Empty,
    /// The target closed its side.
    Closed,
}

impl Connection {
    /// Begins to connect; `token`'s events tell the outcome (see `finish_connect`).
    pub(super) fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
        exchange: Exchange,
        now_ns: u64,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        // Edge-triggered, so interest in both from the start costs nothing later.
        stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            exchange,
            unsent: Vec::new(),
            unsent_from: 0,
            progress_ns: now_ns,
            is_open: false,
            is_queued: false,
        })
    }

    /// To be called on an event while not open; sets `is_open` once it is established.
    pub(super) fn finish_connect(&mut self) -> io::Result<()> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                self.is_open = true;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadEnd> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(ReadEnd::Closed),
                Ok(bytes) => return Ok(ReadEnd::Bytes(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(ReadEnd::Empty);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the socket took everything so far.
    pub(super) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends `bytes`; what the socket does not take is kept for `flush`.
    ///
    /// To be called only while `is_flushed`, so that at most one buffer's worth is ever kept.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert!(self.is_flushed(), "bytes would overtake each other");
        let taken = self.write(bytes)?;
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Sends what was kept; to be called when the socket has room again.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        let taken = self.write(&unsent[self.unsent_from..]);
        self.unsent = unsent;
        self.unsent_from += taken?;
        if self.unsent_from == self.unsent.len() {
            self.unsent.clear();
            self.unsent.shrink_to(KEPT_BYTES_MAX);
            self.unsent_from = 0;
        }
        Ok(())
    }

    /// Writes until the socket is full; answers how many bytes it took.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }
}
