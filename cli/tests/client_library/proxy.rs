//! What lies between a client and a node: a path that can be cut, or that loses replies.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::relay::{Direction, Gate, relay};

/// What the path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Path {
    /// All passes.
    Open = 0,
    /// Nothing passes, and nobody is told: what is sent waits, as in a partition.
    Cut = 1,
    /// Requests pass; of the pieces of replies one in [`LOST`] ends its connection instead.
    LosesReplies = 2,
}

const LOST: usize = 20;
const LOOK: Duration = Duration::from_millis(5);

/// Lives as long as the runtime that it was started in.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    node_port: AtomicU16,
    path: AtomicU8,
    pieces: AtomicUsize,
}

impl Proxy {
    /// So many, at one of the addresses of loopback.
    pub(crate) async fn start_all(count: usize, host: Ipv4Addr) -> Vec<Self> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(Self::start(host).await);
        }
        all
    }

    /// A path to nowhere yet.
    async fn start(host: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            node_port: AtomicU16::new(0),
            path: AtomicU8::new(Path::Open as u8),
            pieces: AtomicUsize::new(0),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn lead_to(&self, node_port: u16) {
        self.state.node_port.store(node_port, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, path: Path) {
        self.state.path.store(path as u8, Ordering::SeqCst);
    }
}

impl State {
    fn is(&self, path: Path) -> bool {
        self.path.load(Ordering::SeqCst) == path as u8
    }

    async fn wait_while_cut(&self) {
        while self.is(Path::Cut) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Gate for State {
    async fn may_pass(&self, direction: Direction, count: usize) -> bool {
        if count == 0 {
            return true;
        }
        self.wait_while_cut().await;
        direction == Direction::There
            || !self.is(Path::LosesReplies)
            || !self
                .pieces
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(LOST)
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            state.wait_while_cut().await;
            let port = state.node_port.load(Ordering::SeqCst);
            let Ok(node) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            relay(client, node, &*state).await;
        });
    }
}
