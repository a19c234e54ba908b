//! A node, asked over RESP.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue, RedisError};

use super::status::Status;

const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest wait for a reply: digests of many items take their time.
const REPLY_MAX: Duration = Duration::from_secs(60);

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Not `HOST:PORT`, or a host without an address.
    #[error("--node {0}: write HOST:PORT with a host that has an address")]
    Address(String),
    /// It can't be reached, or the connection ended.
    #[error("{address}: {error}")]
    Connection { address: String, error: RedisError },
    /// It answered an error.
    #[error("{address} refuses: {text}")]
    Refused { address: String, text: String },
    /// It answered something else than this version of the program understands.
    #[error("{0} answers something that this version does not understand")]
    Unknown(String),
    /// Signals can't be caught.
    #[error("cannot wait for signals: {0}")]
    Signals(std::io::Error),
}

/// A connection to one.
pub(crate) struct Node {
    address: String,
    connection: Connection,
}

impl Node {
    pub(super) fn connect(address: &str) -> Result<Self, NodeError> {
        let wrong = || NodeError::Address(address.to_owned());
        let mut found = address.to_socket_addrs().map_err(|_| wrong())?;
        let found: SocketAddr = found.next().ok_or_else(wrong)?;
        let failed = |error| NodeError::Connection {
            address: address.to_owned(),
            error,
        };
        let client = Client::open((found.ip().to_string(), found.port())).map_err(failed)?;
        let connection = client
            .get_connection_with_timeout(CONNECT_MAX)
            .map_err(failed)?;
        connection
            .set_read_timeout(Some(REPLY_MAX))
            .map_err(failed)?;
        connection
            .set_write_timeout(Some(REPLY_MAX))
            .map_err(failed)?;
        Ok(Self {
            address: address.to_owned(),
            connection,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// CLUSTER with these words.
    pub(super) fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, NodeError> {
        let mut command = redis::cmd("CLUSTER");
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut self.connection).map_err(|error| {
            let address = self.address.clone();
            match (error.code(), error.detail()) {
                (Some(code), detail) => NodeError::Refused {
                    address,
                    text: format!("{code} {}", detail.unwrap_or_default()),
                },
                _ if error.is_io_error() || error.is_connection_dropped() => {
                    NodeError::Connection { address, error }
                }
                _ => NodeError::Unknown(address),
            }
        })
    }

    pub(super) fn status_text(&mut self) -> Result<String, NodeError> {
        self.ask(&["STATUS"])
    }

    pub(super) fn read_status(&self, text: &str) -> Result<Status, NodeError> {
        serde_json::from_str(text).map_err(|_| NodeError::Unknown(self.address.clone()))
    }

    pub(super) fn status(&mut self) -> Result<Status, NodeError> {
        let text = self.status_text()?;
        self.read_status(&text)
    }
}
