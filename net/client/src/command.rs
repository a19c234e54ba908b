//! A command: its bytes as they are sent, the key that says where to, and whether it may be sent twice.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::slot::slot_of;

/// What a command does, as far as sending it twice goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing: is retried, may be answered by a replica or by any node that has a copy.
    Read,
    /// Changes something, and twice is as once (`SET key value`): is retried.
    IdempotentWrite,
    /// Changes something, and twice is not as once (`INCRBY`): is sent again only if it surely was not
    /// executed.
    Write,
}

/// Any command, for what the client has no method for.
///
/// ```
/// use fulmar_client::Command;
///
/// let command = Command::read("GETRANGE").key("song").arg("0").arg("9");
/// ```
///
/// The first [`key`](Self::key) says which node gets it; all keys of a command must be in one slot, as Redis
/// Cluster has it. A command without a key goes to any node, and means the whole cluster there (`DBSIZE`,
/// `FLUSHALL`).
///
/// Name every key by [`key`](Self::key): a command of several, or of none, may be executed in part when it is
/// answered by an error, and is taken for one that [may have been
/// applied](crate::Error::may_have_been_applied) then.
///
/// What changes the state of a connection is refused, since connections are shared: `MULTI`, `WATCH`,
/// `SUBSCRIBE`, `SELECT`, `HELLO`, `CLIENT` and their like; `CLUSTER SLOTS`, `SHARDS` and `NODES` too, after
/// which a server takes the connection for one that knows the map ([`nodes`](crate::Client::nodes) has it).
#[derive(Clone, Debug)]
pub struct Command {
    kind: Kind,
    arguments: BytesMut,
    arguments_count: usize,
    key: Option<Bytes>,
    keys_count: usize,
    is_refused: bool,
    is_at_primary: bool,
}

/// Commands that would change, hold up or end a connection that others use too.
const REFUSED: [&str; 32] = [
    "ASKING",
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WATCH",
];

/// How those begin that ask for the map: who has asked is taken to know it, and `FLUSHALL` and `DBSIZE` mean
/// one node then.
const MAPS: [&[u8]; 3] = [
    b"$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n",
    b"$7\r\nCLUSTER\r\n$6\r\nSHARDS\r\n",
    b"$7\r\nCLUSTER\r\n$5\r\nNODES\r\n",
];

impl Command {
    /// A command of this kind and name, in one word: subcommands are arguments.
    #[must_use]
    pub fn new(kind: Kind, name: &str) -> Self {
        let command = Self {
            kind,
            arguments: BytesMut::with_capacity(64),
            arguments_count: 0,
            key: None,
            keys_count: 0,
            is_at_primary: false,
            is_refused: REFUSED
                .iter()
                .any(|refused| refused.eq_ignore_ascii_case(name)),
        };
        command.arg(name)
    }

    /// A command that changes nothing.
    #[must_use]
    pub fn read(name: &str) -> Self {
        Self::new(Kind::Read, name)
    }

    /// A command that may be executed twice.
    #[must_use]
    pub fn idempotent_write(name: &str) -> Self {
        Self::new(Kind::IdempotentWrite, name)
    }

    /// A command that must not be executed twice.
    #[must_use]
    pub fn write(name: &str) -> Self {
        Self::new(Kind::Write, name)
    }

    /// Appends a key. The first one says which node gets the command.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        if self.key.is_none() {
            self.key = Some(Bytes::copy_from_slice(key.as_ref()));
        }
        self.keys_count += 1;
        self.arg(key)
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        let argument = argument.as_ref();
        self.arguments_count += 1;
        put_header(b'$', argument.len(), &mut self.arguments);
        self.arguments.reserve(argument.len() + 2);
        self.arguments.put_slice(argument);
        self.arguments.put_slice(b"\r\n");
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn integer(self, number: i64) -> Self {
        self.arg(itoa::Buffer::new().format(number))
    }

    /// Has the key's primary answer, whatever [`Options::read_from`](crate::Options::read_from) says and
    /// even if the key is hot: the read sees all writes that were answered before.
    #[must_use]
    pub fn at_primary(mut self) -> Self {
        self.is_at_primary = true;
        self
    }

    /// What it is to be sent as, on a connection that others use too.
    pub(crate) fn encode(self) -> Result<Request> {
        let asks_for_map = MAPS.iter().any(|map| {
            let start = self.arguments.get(..map.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(map))
        });
        if self.is_refused || asks_for_map {
            return Err(Error::invalid(
                "the command changes the connection, which others use too",
            ));
        }
        Ok(self.into_request())
    }

    /// What it is to be sent as, of a command of this crate's own.
    pub(crate) fn into_request(self) -> Request {
        let mut frame = BytesMut::with_capacity(self.arguments.len() + 16);
        put_header(b'*', self.arguments_count, &mut frame);
        frame.put_slice(&self.arguments);
        Request {
            frame: frame.freeze(),
            kind: self.kind,
            key: self.key,
            has_one_key: self.keys_count == 1,
            is_at_primary: self.is_at_primary,
        }
    }
}

fn put_header(sign: u8, number: usize, out: &mut BytesMut) {
    out.put_u8(sign);
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    out.put_slice(b"\r\n");
}

/// An encoded command; cloned for free.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) frame: Bytes,
    pub(crate) kind: Kind,
    pub(crate) key: Option<Bytes>,
    /// It is executed as a whole or not at all.
    pub(crate) has_one_key: bool,
    is_at_primary: bool,
}

impl Request {
    pub(crate) fn slot(&self) -> Option<u16> {
        self.key.as_deref().map(slot_of)
    }

    /// As [`Command::at_primary`].
    pub(crate) fn read_at_primary(&mut self) {
        self.is_at_primary = true;
    }

    /// Whether a replica, or a node with a copy, may answer it.
    pub(crate) fn may_be_old(&self) -> bool {
        self.kind == Kind::Read && !self.is_at_primary
    }

    /// Whether it is a GET, the one command that copies of hot keys answer.
    pub(crate) fn is_get(&self) -> bool {
        self.frame.starts_with(b"*2\r\n$3\r\nGET\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn a_command_is_an_array_of_its_arguments() {
        let command = Command::read("GETRANGE").key("k\r\n").integer(-1).arg("");
        let request = command.encode().expect("allowed");
        assert_eq!(
            &request.frame[..],
            b"*4\r\n$8\r\nGETRANGE\r\n$3\r\nk\r\n\r\n$2\r\n-1\r\n$0\r\n\r\n"
        );
        assert_eq!(request.key.as_deref(), Some(&b"k\r\n"[..]));
    }

    #[test]
    fn what_changes_a_connection_is_refused() {
        assert!(Command::write("Multi").encode().is_err());
        assert!(Command::read("subscribe").arg("news").encode().is_err());
        assert!(Command::read("PING").encode().is_ok());
        for map in ["SLOTS", "shards", "Nodes"] {
            let command = Command::read("Cluster").arg(map);
            assert!(command.clone().encode().is_err(), "{map}");
            assert!(command.arg("more").encode().is_err(), "{map}");
        }
        assert!(Command::read("CLUSTER").arg("INFO").encode().is_ok());
        assert!(Command::read("CLUSTER").encode().is_ok());
    }
}
