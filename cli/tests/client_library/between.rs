//! What lies between nodes: streams and datagrams that can be kept from passing.
//!
//! A node listens on 127.0.0.1 and tells the others [`HOST`], where this listens at its cluster port. What comes
//! there is passed on: a datagram with its sender's told address, which its port gives away; a stream's sender
//! says who it is in its first frame.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fulmar_protocol::node::{Decoded, Decoder, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::nodes::{cluster_port, free_port};
use crate::relay::{Direction, Gate, relay};

/// Where nodes and clients are told that nodes are.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const HELLO_BYTES_MAX: usize = 256;
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
const LOOK: Duration = Duration::from_millis(5);

/// Lives as long as the runtime that it was started in.
pub(crate) struct Between {
    state: Arc<State>,
}

struct State {
    ends: Vec<End>,
    sockets: Vec<UdpSocket>,
}

/// A node, as it is seen from here.
struct End {
    /// Its RESP port.
    port: u16,
    /// Once it is known.
    node_id: OnceLock<u64>,
    /// On the smaller side of a partition.
    is_apart: AtomicBool,
}

impl Between {
    /// Chooses the ports of so many nodes, and waits for what comes for them.
    pub(crate) async fn start(count: usize) -> Self {
        let (mut ends, mut sockets, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        while ends.len() < count {
            let port = free_port();
            let place = (HOST, cluster_port(port));
            // One that was chosen before is bound.
            let Ok(listener) = TcpListener::bind(place).await else {
                continue;
            };
            listeners.push(listener);
            sockets.push(UdpSocket::bind(place).await.expect("free, as for TCP"));
            ends.push(End {
                port,
                node_id: OnceLock::new(),
                is_apart: AtomicBool::new(false),
            });
        }
        let state = Arc::new(State { ends, sockets });
        for (to, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(accept(listener, to, Arc::clone(&state)));
            tokio::spawn(pass_datagrams(to, Arc::clone(&state)));
        }
        Self { state }
    }

    /// The RESP port that a node is to have.
    pub(crate) fn port(&self, node: usize) -> u16 {
        self.state.ends[node].port
    }

    /// Where others join a node.
    pub(crate) fn join_address(&self, node: usize) -> String {
        format!("{HOST}:{}", cluster_port(self.port(node)))
    }

    /// Who a node is: needed before any is cut off.
    pub(crate) fn name(&self, node: usize, node_id: u64) {
        let known = self.state.ends[node].node_id.set(node_id);
        known.expect("named once");
    }

    /// Nothing passes between these nodes and the others, and nobody is told.
    pub(crate) fn part(&self, nodes: &[usize]) {
        for &node in nodes {
            self.state.ends[node].is_apart.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn heal(&self) {
        for end in &self.state.ends {
            end.is_apart.store(false, Ordering::SeqCst);
        }
    }
}

impl State {
    fn is_cut(&self, from: usize, to: usize) -> bool {
        let is_apart = |end: usize| self.ends[end].is_apart.load(Ordering::SeqCst);
        is_apart(from) != is_apart(to)
    }

    /// Waits for as long as nothing passes between that node, if it is known, and another.
    async fn wait_while_cut(&self, from_id: u64, to: usize) {
        let is_cut = || {
            let is_it = |end: &End| end.node_id.get() == Some(&from_id);
            let from = self.ends.iter().position(is_it);
            from.is_some_and(|from| self.is_cut(from, to))
        };
        while is_cut() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn pass_datagrams(to: usize, state: Arc<State>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((count, sender)) = state.sockets[to].recv_from(&mut buffer).await else {
            // The last one could not be delivered.
            continue;
        };
        let is_sender = |end: &End| cluster_port(end.port) == sender.port();
        if let Some(from) = state.ends.iter().position(is_sender)
            && !state.is_cut(from, to)
        {
            let place = (Ipv4Addr::LOCALHOST, cluster_port(state.ends[to].port));
            // A datagram may be lost.
            let _ = state.sockets[from].send_to(&buffer[..count], place).await;
        }
    }
}

/// The way between two nodes.
struct Pair<'s> {
    state: &'s State,
    from_id: u64,
    to: usize,
}

impl Gate for Pair<'_> {
    /// Its end does not pass either.
    async fn may_pass(&self, _: Direction, _: usize) -> bool {
        self.state.wait_while_cut(self.from_id, self.to).await;
        true
    }
}

async fn accept(listener: TcpListener, to: usize, state: Arc<State>) {
    while let Ok((mut theirs, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let (hello, from_id) = read_hello(&mut theirs).await?;
            state.wait_while_cut(from_id, to).await;
            let place = (Ipv4Addr::LOCALHOST, cluster_port(state.ends[to].port));
            let mut node = TcpStream::connect(place).await?;
            node.write_all(&hello).await?;
            let gate = Pair {
                state: &state,
                from_id,
                to,
            };
            relay(theirs, node, &gate).await;
            io::Result::Ok(())
        });
    }
}

/// What came until the first frame is whole, and the id of who says it.
async fn read_hello(stream: &mut TcpStream) -> io::Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::with_capacity(HELLO_BYTES_MAX);
    while bytes.len() < HELLO_BYTES_MAX {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let id = match Decoder::new().decode(&bytes) {
            Decoded::Frame {
                frame: Frame::Hello(hello),
                ..
            } => Some(hello.identity.node),
            _ => None,
        };
        if let Some(id) = id {
            return Ok((bytes, id));
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
