//! What a node of a cluster needs before its cores start: its name, its next incarnation on the disk,
//! and its sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fulmar_cluster::coordinator::Saved;
use fulmar_cluster::{Incarnation, NodeId};
use socket2::SockRef;

use super::config::ClusterConfig;
use super::directory::Directory;
use super::state::State;
use crate::listener::listen;

/// Attempts to find a port that is free for TCP and for UDP.
const PORT_ATTEMPTS: usize = 16;

/// Why a node of a cluster does not start. Nothing keeps running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterStartError {
    /// Reads of replicas take the port after that for RESP.
    #[error(
        "no port is left for reads of replicas, which take the next one; --port must be below 65535"
    )]
    NoReplicaPort,
    /// Two processes must not share a name.
    #[error("the node directory {path} is in use by another process", path = .0.display())]
    DirectoryInUse(PathBuf),
    /// The directory cannot be made, read or written.
    #[error("cannot use the node directory {path}: {error}", path = path.display())]
    Directory {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is in the directory was not written by this version, or is damaged.
    #[error(
        "{path} holds no state of a node; name another --node-dir, and this is a new node",
        path = .0.display()
    )]
    NoState(PathBuf),
    /// A port of the cluster is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {error}; choose another --cluster-port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Nobody has a host of such a name.
    #[error("--announce: a host's name has at most 253 bytes")]
    Host,
    /// No thread to write to the disk with.
    #[error("cannot start the thread that writes the node's state: {0}")]
    Thread(io::Error),
}

/// A node that may start.
pub(crate) struct Prepared {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) saved: Saved,
    pub(crate) directory: Directory,
    /// One listener a core for other nodes.
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) udp: UdpSocket,
    /// The port of both.
    pub(crate) port: u16,
}

impl Prepared {
    /// Reads who this node is, or makes `fresh` its name, raises its incarnation on the disk, and
    /// binds its sockets.
    ///
    /// # Errors
    /// See [`ClusterStartError`].
    pub(crate) fn new(
        config: &ClusterConfig,
        ip: IpAddr,
        cores_count: usize,
        fresh: NodeId,
    ) -> Result<Self, ClusterStartError> {
        let path = &config.directory;
        let refuse = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => ClusterStartError::DirectoryInUse(path.clone()),
            io::ErrorKind::InvalidData => ClusterStartError::NoState(path.clone()),
            _ => ClusterStartError::Directory {
                path: path.clone(),
                error,
            },
        };
        let mut directory = Directory::open(path).map_err(refuse)?;
        let mut state = match directory.load().map_err(refuse)? {
            Some(bytes) => {
                State::decode(&bytes).ok_or_else(|| ClusterStartError::NoState(path.clone()))?
            }
            None => State {
                node: fresh,
                incarnation: Incarnation(0),
                saved: Saved::default(),
            },
        };
        state.incarnation = state.incarnation.next();
        let (listeners, udp, port) = bind(ip, config.port, cores_count)
            .map_err(|(address, error)| ClusterStartError::Listen { address, error })?;
        // Before the first packet: a former life must be known for one.
        directory.store(&state.encode()).map_err(refuse)?;
        Ok(Self {
            node: state.node,
            incarnation: state.incarnation,
            saved: state.saved,
            directory,
            listeners,
            udp,
            port,
        })
    }
}

/// Listeners and a datagram socket on one port.
fn bind(
    ip: IpAddr,
    port: u16,
    count: usize,
) -> Result<(Vec<OwnedFd>, UdpSocket, u16), (SocketAddr, io::Error)> {
    let mut attempts = 0;
    loop {
        let refused = |error| (SocketAddr::new(ip, port), error);
        let (listeners, bound) = listen(ip, port, count).map_err(refused)?;
        attempts += 1;
        match UdpSocket::bind(SocketAddr::new(ip, bound)) {
            Ok(udp) => {
                udp.set_nonblocking(true).map_err(refused)?;
                // Accepted sockets inherit it; links.rs says why.
                for listener in &listeners {
                    let socket = SockRef::from(listener);
                    socket.set_tcp_thin_linear_timeouts(true).map_err(refused)?;
                }
                return Ok((listeners, udp, bound));
            }
            // A port that the kernel chose for TCP may be taken for UDP.
            Err(_) if port == 0 && attempts < PORT_ATTEMPTS => {}
            Err(error) => return Err((SocketAddr::new(ip, bound), error)),
        }
    }
}
