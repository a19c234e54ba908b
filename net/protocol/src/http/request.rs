//! What a request asks for, and how its reply must look.

use std::slice;

use crate::command::{DataCommand, Set};

/// A decoded request; borrows from the input or from the decoder's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Reads or writes a key.
    Command(KeyCommand<'a>),
    /// Asks for one of the server's pages.
    Page(Page),
}

/// What HTTP can do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCommand<'a> {
    /// `GET` and `HEAD`.
    Get {
        /// The key, decoded.
        key: &'a [u8],
    },
    /// `POST` and `PUT`. The value is [`Value::Bytes`](crate::command::Value::Bytes) at any length.
    Set(Set<'a>),
    /// `DELETE`.
    Delete {
        /// The key, decoded.
        key: &'a [u8],
    },
}

impl<'a> KeyCommand<'a> {
    /// The key.
    pub fn key(&self) -> &'a [u8] {
        match self {
            Self::Get { key } | Self::Delete { key } => key,
            Self::Set(set) => set.key,
        }
    }

    /// As the command that a shard executes. It borrows `self` too: DEL has a list of keys.
    pub fn as_data(&self) -> DataCommand<'_> {
        match self {
            Self::Get { key } => DataCommand::Get { key },
            Self::Set(set) => DataCommand::Set(*set),
            Self::Delete { key } => DataCommand::Del {
                keys: slice::from_ref(key),
            },
        }
    }
}

/// The server's own pages, under `/-/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/-/healthz`: the process answers.
    Healthz,
    /// `/-/readyz`: it wants traffic.
    Readyz,
    /// `/-/metrics`: Prometheus text.
    Metrics,
}

/// What an [`Encoder`](super::Encoder) must know of the request that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyForm {
    /// What was asked.
    pub kind: ReplyKind,
    /// What the reply says about the connection.
    pub persistence: Persistence,
    /// The method was `HEAD`: the reply has no body.
    pub head_only: bool,
}

impl ReplyForm {
    /// Whether the connection stays after this reply; if not, the caller sends it and closes.
    pub fn keep_alive(&self) -> bool {
        self.persistence != Persistence::Close
    }
}

/// Which replies a request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// A value or none.
    Get,
    /// Stored or an error.
    Set,
    /// Deleted or not there.
    Delete,
    /// A page; also any request that is refused.
    Page,
}

/// How a reply speaks of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// HTTP/1.1: it stays, which needs no header.
    Implied,
    /// HTTP/1.0 with keep-alive: it stays, and the reply says so.
    KeepAlive,
    /// It ends after the reply.
    Close,
}
