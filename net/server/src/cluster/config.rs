//! What a node is told of its cluster at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fulmar_cluster::Zone;

/// What a node does that hears no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minority {
    /// Serves what it holds and takes over what is missing: a cache prefers an answer.
    Serve,
    /// Serves reads of what it holds, and refuses writes.
    Refuse,
}

/// A node's part in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Port of the nodes' own protocol, TCP and UDP; 0 lets the kernel choose.
    pub port: u16,
    /// Host that clients and nodes reach this node by.
    pub announce_host: String,
    /// Port that clients are told; `None`: the one listened on.
    pub announce_port: Option<u16>,
    /// Addresses of nodes to join by their cluster ports; none: a cluster of its own.
    pub join: Vec<SocketAddr>,
    /// How many nodes must have come together before the first of `join` founds the cluster.
    pub bootstrap_expect: Option<u16>,
    /// Replicas of each range, beside its primary; what the founder says counts.
    pub replicas: u8,
    /// What may fail together with this node.
    pub zone: Zone,
    /// Its share of the ranges, relative to the others'.
    pub weight: u16,
    /// Where its name and votes are kept.
    pub directory: PathBuf,
    /// What to do without a quorum.
    pub minority: Minority,
    /// How long lost copies stay lost after a promotion, in case their node comes back.
    pub rebuild_delay: Duration,
    /// What all nodes of the cluster know, and nobody else.
    pub secret: Vec<u8>,
}
