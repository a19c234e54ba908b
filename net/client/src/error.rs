//! Why a call failed, and whether what it asked for may have happened.

use std::fmt;
use std::io;

use crate::decode::DecodeError;
use crate::value::ServerError;

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// A call that failed.
///
/// ```
/// # fn handle(error: fulmar_client::Error) {
/// if error.may_have_been_applied() {
///     // The write was sent, and nobody knows whether it was executed: read before deciding.
/// } else {
///     // It was not executed: calling again does no harm.
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    may_have_been_applied: bool,
}

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server answered with an error, or went on to refuse the command (`TRYAGAIN`, `CLUSTERDOWN`,
    /// `MOVED`) until the retries were used up.
    #[error("the server answered: {0}")]
    Server(ServerError),
    /// The call's time-out passed. Happens when a node is paused or cut off, or all are busy.
    #[error("no answer in time")]
    TimedOut,
    /// No connection could be opened, and the retries are used up. Nothing was sent.
    #[error("cannot connect to {address}: {reason}")]
    Unreachable {
        /// `host:port`, or the seeds if none of them answered.
        address: Box<str>,
        /// The operating system's reason, or what the server said.
        reason: ConnectError,
    },
    /// The connection ended before the reply came, and the retries are used up or not allowed.
    #[error("the connection was lost: {0}")]
    Disconnected(Disconnect),
    /// The reply is of a type that the command never has. Does not happen with Fulmar's servers, except
    /// where [`get_many`](crate::Client::get_many) and its like meet a key that holds something else.
    #[error("the reply is {0}, which the command never answers")]
    UnexpectedReply(&'static str),
    /// The call makes no sense, and nothing was sent.
    #[error("{0}")]
    InvalidArgument(&'static str),
    /// A buffered increment was not sent, since the set or delete before it failed.
    #[error("not sent, since the write before it failed")]
    Skipped,
}

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The operating system's reason.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// [`Options::connect_timeout`](crate::Options::connect_timeout) passed.
    #[error("no answer in time")]
    TimedOut,
    /// It failed a moment ago, and is not tried again yet.
    #[error("it failed a moment ago")]
    Backoff,
    /// The server answered with an error, such as that it has too many clients.
    #[error("the server refuses clients")]
    Refused,
    /// What it answered is not RESP.
    #[error("{0}")]
    NotResp(DecodeError),
    /// It has no map of its cluster, or a malformed one.
    #[error("the server has no map of its cluster")]
    NoMap,
}

/// Why an open connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The server closed it.
    #[error("closed by the server")]
    Closed,
    /// Nothing came within [`Options::reply_timeout`](crate::Options::reply_timeout), or the server took
    /// nothing.
    #[error("the server is silent")]
    Silent,
    /// The operating system's reason.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// What came is not RESP.
    #[error("{0}")]
    NotResp(DecodeError),
    /// The client is being dropped.
    #[error("the client was dropped")]
    Dropped,
}

impl Error {
    /// An error of something that was not executed.
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self {
            kind,
            may_have_been_applied: false,
        }
    }

    pub(crate) fn invalid(reason: &'static str) -> Self {
        Self::new(ErrorKind::InvalidArgument(reason))
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(ErrorKind::TimedOut)
    }

    /// The same error, of a write of which a copy was sent and not answered if `is_doubtful`.
    pub(crate) fn doubtful_if(mut self, is_doubtful: bool) -> Self {
        self.may_have_been_applied |= is_doubtful;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the call was a write that reached a server, perhaps, and whose outcome is unknown.
    ///
    /// `false` is a promise: nothing was executed. `true` stays true for a moment: a node that stood still
    /// may execute what it was sent when it goes on.
    #[must_use]
    pub fn may_have_been_applied(&self) -> bool {
        self.may_have_been_applied
    }

    /// Whether the call's time-out passed while it waited for a node. If it passed before another attempt, the
    /// error is the last attempt's.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::TimedOut)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)?;
        if self.may_have_been_applied {
            f.write_str("; the write may have been applied")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            ErrorKind::Unreachable { reason, .. } => Some(reason),
            ErrorKind::Disconnected(reason) => Some(reason),
            _ => None,
        }
    }
}
