//! One connection, as CLIENT sees it.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use fulmar_engine::Time;
use fulmar_protocol::command::number::parse_i64;
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::resp::RespVersion;

use super::Endpoint;
use crate::Now;

/// What a connection knows of its client. The connection keeps the public fields up to date.
#[derive(Clone, Debug)]
pub struct ClientState {
    /// Unique in this process, rising.
    pub id: u64,
    /// The client's address.
    pub peer_address: SocketAddr,
    /// The address it connected to.
    pub local_address: SocketAddr,
    /// CLIENT SETNAME; empty: none.
    pub name: Box<[u8]>,
    /// CLIENT SETINFO LIB-NAME; empty: none.
    pub lib_name: Box<[u8]>,
    /// CLIENT SETINFO LIB-VER; empty: none.
    pub lib_version: Box<[u8]>,
    version: RespVersion,
    /// When it connected.
    pub created: Time,
    /// When it last sent a command.
    pub last_active: Time,
    /// The command it last sent.
    pub last_command: Option<CommandId>,
    /// CLIENT NO-EVICT ON. Clients are not evicted here, so nothing follows from it.
    pub is_no_evict: bool,
    /// Which of the node's endpoints it connected to.
    pub endpoint: Endpoint,
    /// It asked for the cluster's map, or sent READONLY: it is sent where a key lives, and what it
    /// asks of all keys is asked of this node alone.
    pub is_cluster_client: bool,
    /// READONLY: replicas may answer its reads.
    pub is_readonly: bool,
    /// Replicas that have acknowledged everything that it wrote: what WAIT answers.
    pub replicas_acknowledged: u32,
    /// The connection closes when its replies are sent.
    pub is_closing: bool,
    /// Commands queued in its open transaction.
    pub queued_commands: Option<usize>,
    /// Keys watched.
    pub watched_keys: usize,
    /// Bytes received and not yet executed.
    pub input_bytes: usize,
    /// Bytes of replies that wait to be sent.
    pub output_bytes: usize,
}

impl ClientState {
    /// A client that just connected.
    pub fn new(id: u64, peer_address: SocketAddr, local_address: SocketAddr, now: Now) -> Self {
        Self {
            id,
            peer_address,
            local_address,
            name: Box::default(),
            lib_name: Box::default(),
            lib_version: Box::default(),
            version: RespVersion::Resp2,
            created: now.time,
            last_active: now.time,
            last_command: None,
            is_no_evict: false,
            endpoint: Endpoint::Primary,
            is_cluster_client: false,
            is_readonly: false,
            replicas_acknowledged: 0,
            is_closing: false,
            queued_commands: None,
            watched_keys: 0,
            input_bytes: 0,
            output_bytes: 0,
        }
    }

    /// What its replies are encoded in: HELLO changes it.
    #[inline]
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// Takes over what HELLO asks for.
    pub(super) fn greet(&mut self, version: Option<u8>, name: Option<&[u8]>) {
        match version {
            Some(3) => self.version = RespVersion::Resp3,
            Some(_) => self.version = RespVersion::Resp2,
            None => {}
        }
        if let Some(name) = name {
            self.name = name.into();
        }
    }

    /// Whether its id is one of these decimal numbers.
    pub(super) fn is_among(&self, ids: &[&[u8]]) -> bool {
        ids.iter()
            .any(|id| parse_i64(id) == Some(self.id.cast_signed()))
    }

    /// Appends its line of CLIENT LIST: the fields of Redis that mean something here.
    pub(super) fn describe(&self, now: Now, out: &mut String) {
        self.write_line(now, out).expect("a String takes any text");
    }

    fn write_line(&self, now: Now, out: &mut String) -> fmt::Result {
        let seconds_since = |time: Time| now.time.0.saturating_sub(time.0) / 1_000;
        write!(
            out,
            "id={} addr={} laddr={}",
            self.id, self.peer_address, self.local_address
        )?;
        write!(out, " name={}", String::from_utf8_lossy(&self.name))?;
        write!(out, " age={}", seconds_since(self.created))?;
        write!(out, " idle={} flags=", seconds_since(self.last_active))?;
        self.write_flags(out)?;
        out.write_str(" db=0 sub=0 psub=0 ssub=0 multi=")?;
        match self.queued_commands {
            Some(count) => write!(out, "{count}")?,
            None => out.write_str("-1")?,
        }
        write!(
            out,
            " watch={} qbuf={}",
            self.watched_keys, self.input_bytes
        )?;
        write!(out, " omem={}", self.output_bytes)?;
        write!(
            out,
            " cmd={}",
            self.last_command.map_or("NULL", |id| id.spec().name)
        )?;
        let version = match self.version {
            RespVersion::Resp2 => 2,
            RespVersion::Resp3 => 3,
        };
        write!(out, " user=default redir=-1 resp={version}")?;
        write!(out, " lib-name={}", String::from_utf8_lossy(&self.lib_name))?;
        writeln!(
            out,
            " lib-ver={}",
            String::from_utf8_lossy(&self.lib_version)
        )
    }

    fn write_flags(&self, out: &mut String) -> fmt::Result {
        let flags = [
            (self.queued_commands.is_some(), 'x'),
            (self.is_closing, 'c'),
            (self.is_readonly, 'r'),
            (self.is_no_evict, 'e'),
        ];
        if flags.iter().all(|(is_set, _)| !is_set) {
            return out.write_char('N');
        }
        flags
            .iter()
            .filter(|(is_set, _)| *is_set)
            .try_for_each(|&(_, flag)| out.write_char(flag))
    }
}
