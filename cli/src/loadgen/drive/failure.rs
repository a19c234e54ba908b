//! Why a run ended before its time. Each is one line for the user; all exit with code 1.

use crate::wire::WireError;
use std::io;

/// What went wrong with the target (or with the machine the load comes from).
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The name cannot be resolved.
    #[error("cannot resolve '{target}': {reason}")]
    Resolve { target: String, reason: String },
    /// Refused, unreachable, no ports left.
    #[error("cannot connect to {target}: {source}")]
    Connect { target: String, source: io::Error },
    /// No answer to a connection attempt in time.
    #[error("cannot connect to {target}: no answer within {seconds} s")]
    ConnectTimeout { target: String, seconds: u64 },
    /// The open files limit is below what the connections need.
    #[error(
        "{connections} connections need {needed} file descriptors, but the hard limit is {limit}; \
         raise it (ulimit -Hn) or use fewer --connections"
    )]
    FileLimit {
        connections: usize,
        needed: u64,
        limit: u64,
    },
    /// The target closed a connection.
    #[error("{target} closed a connection ({in_flight} requests were in flight on it)")]
    Closed { target: String, in_flight: usize },
    /// A connection broke.
    #[error("connection to {target} failed: {source} ({in_flight} requests were in flight on it)")]
    Broken {
        target: String,
        source: io::Error,
        in_flight: usize,
    },
    /// Requests in flight and no byte for --timeout.
    #[error("{target} hangs: no reply for {seconds:.1} s with {in_flight} requests in flight")]
    Hang {
        target: String,
        seconds: f64,
        in_flight: u64,
    },
    /// The client library found no node.
    #[error("no node of {target} answers: {error}")]
    Library {
        target: String,
        error: fulmar_client::Error,
    },
    /// What the target sent is not the protocol.
    #[error("{target} does not speak {protocol}: {source}")]
    Wire {
        target: String,
        protocol: &'static str,
        source: WireError,
    },
    /// An error that answers nothing, e.g. that there are too many connections.
    #[error("{target} refused the connection: {text}")]
    Refused { target: String, text: String },
    /// A reply that answers nothing.
    #[error("{target} sent a reply without a request")]
    Unsolicited { target: String },
    /// The machine refused what an event loop needs.
    #[error("cannot set up an event loop: {0}")]
    EventLoop(#[from] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A defect of this program.
    #[error("a worker thread panicked")]
    Panicked,
}
