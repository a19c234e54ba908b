//! What a node tells the others about itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;

use crate::{Incarnation, NodeId, Zone};

/// Longest name of a host, that of the DNS.
pub const HOST_BYTES_MAX: usize = 253;

/// A node, where it can be reached, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name, not 0.
    pub node: NodeId,
    /// Which start of it this is.
    pub incarnation: Incarnation,
    /// Counts the changes of what follows in this incarnation.
    pub revision: u32,
    /// Where it listens for nodes, TCP and UDP.
    pub cluster_address: SocketAddr,
    /// The host that clients are sent to.
    pub announce_host: Host,
    /// The port for clients.
    pub resp_port: u16,
    /// The port for reads from replicas.
    pub replica_read_port: u16,
    /// The port for HTTP, if it serves that.
    pub http_port: Option<u16>,
    /// Number of its shards, at least 1.
    pub cores: u16,
    /// Its share of the ranges, at least 1.
    pub weight: u16,
    /// What may fail together with it.
    pub zone: Zone,
}

impl Identity {
    /// Which of several identities of one node it is: the greatest counts.
    #[must_use]
    pub fn version(&self) -> (Incarnation, u32) {
        (self.incarnation, self.revision)
    }

    /// A node of which nothing else is known.
    pub(super) fn named(key: Key) -> Self {
        Self {
            node: key.node,
            incarnation: key.incarnation,
            revision: key.revision,
            cluster_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            announce_host: Host::default(),
            resp_port: 0,
            replica_read_port: 0,
            http_port: None,
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        }
    }

    pub(super) fn key(&self) -> Key {
        Key {
            node: self.node,
            incarnation: self.incarnation,
            revision: self.revision,
        }
    }
}

/// The name or address of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Host(Box<str>);

/// A host's name is longer than [`HOST_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a host's name has at most {HOST_BYTES_MAX} bytes")]
pub struct HostTooLong;

impl Host {
    /// The host of this name or address.
    ///
    /// # Errors
    /// [`HostTooLong`].
    pub fn new(name: &str) -> Result<Self, HostTooLong> {
        if name.len() > HOST_BYTES_MAX {
            return Err(HostTooLong);
        }
        Ok(Self(name.into()))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What tells one identity from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) revision: u32,
}

impl Key {
    /// Whoever receives it.
    pub(super) const ANYBODY: Self = Self {
        node: NodeId(0),
        incarnation: Incarnation(0),
        revision: 0,
    };
}

/// An identity as `foca` handles it: cheap to clone, and equal to another by its key.
#[derive(Clone, Debug)]
pub(super) struct Known(pub(super) Arc<Identity>);

impl Known {
    pub(super) fn new(identity: Identity) -> Self {
        Self(Arc::new(identity))
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Known {}

impl foca::Identity for Known {
    type Addr = NodeId;

    /// One that was taken for dead says that it is not, by a new revision.
    fn renew(&self) -> Option<Self> {
        let mut identity = Identity::clone(&self.0);
        identity.revision = identity.revision.checked_add(1)?;
        Some(Self::new(identity))
    }

    fn addr(&self) -> NodeId {
        self.0.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.0.version() > adversary.0.version()
    }
}
