//! What a server is told at start.

use std::net::IpAddr;

use crate::cluster::ClusterConfig;
use fulmar_engine::Eviction;

/// How a core reaches another core's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Takes the shard's token and executes in place; by message where the token is taken.
    Borrow,
    /// Always by message to the home core (except for commands on several shards at once).
    Message,
}

impl Dispatch {
    /// As the flag and CONFIG GET spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Borrow => "borrow",
            Self::Message => "message",
        }
    }
}

/// Longest time for which a node may answer reads of another's hot key, in milliseconds.
pub const HOT_COPY_MS_MAX: u16 = fulmar_protocol::node::KEEP_MS_MAX;

/// A server's configuration. Nothing is read from the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of all listeners.
    pub bind: IpAddr,
    /// RESP port; 0 lets the kernel choose.
    pub port: u16,
    /// HTTP port; `None` turns HTTP off, 0 lets the kernel choose.
    pub http_port: Option<u16>,
    /// Host names, beside the loopback ones and `bind`, that HTTP requests may name.
    pub http_hosts: Vec<String>,
    /// Number of shards, each with a thread of its own; 1 to 1,024.
    pub shards: u16,
    /// CPUs that the threads are pinned to, in turn; not empty.
    pub cpus: Vec<usize>,
    /// Limit of keys, values, index and connection buffers over all shards, in bytes.
    pub memory_bytes_max: u64,
    /// Longest value, in bytes.
    pub value_bytes_max: usize,
    /// Which items go when memory is needed.
    pub eviction: Eviction,
    /// Accesses a second from which on a key counts as hot; 0: none does.
    pub hot_key_rps: u32,
    /// For how long another node may answer reads of a hot key, in milliseconds, at most [`HOT_COPY_MS_MAX`];
    /// 0: it may not, and this one keeps no other's.
    pub hot_copy_ms: u16,
    /// Most clients at once, HTTP included.
    pub clients_max: usize,
    /// How a core reaches another core's shard.
    pub dispatch: Dispatch,
    /// The cluster that this is a node of.
    pub cluster: Option<ClusterConfig>,
}
