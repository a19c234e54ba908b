//! A core's streams to other nodes: one per node, made when there is something to say, and made
//! again after a while when it broke.
//!
//! ```text
//! idle -> connecting -> greeting -> open
//!   ^________ a failure, then a pause that doubles ________|
//! ```
//! Frames are appended to a link's buffer during a turn, and sent at its end. What waits for a link to
//! open is bounded; what was sent on a link that broke is lost, and whoever sent it is told.

use std::net::SocketAddr;

use fulmar_cluster::{NodeId, Time};

use crate::ring::ConnectionId;

/// Bytes that may wait for one link, beyond which it takes no more.
pub(crate) const LINK_BYTES_MAX: usize = 4 << 20;
/// The pause after a first failure, and the longest.
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No socket. Not before `retry_at`.
    Idle { retry_at: Time },
    /// The kernel connects.
    Connecting,
    /// Connected; the other side has not said who it is.
    Greeting(ConnectionId),
    /// Frames may go.
    Open(ConnectionId),
}

/// Whom a link is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A node that is known.
    Node(NodeId),
    /// Whoever listens at the address that `--join` names in this place.
    Seed(u16),
}

/// One stream to a node.
#[derive(Debug)]
struct Link {
    peer: Peer,
    state: State,
    /// Frames to be sent.
    out: Vec<u8>,
    /// It is wanted though nothing waits for it.
    is_wanted: bool,
    failures: u32,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Vec<Link>,
}

impl Links {
    /// Where frames to `node` go; `None` while it cannot be reached, or too much waits for it.
    #[inline]
    pub(crate) fn writer(&mut self, peer: Peer, now: Time) -> Option<&mut Vec<u8>> {
        let position = self.position_or_new(peer);
        let link = &mut self.links[position];
        let is_paused = matches!(link.state, State::Idle { retry_at } if now < retry_at);
        (!is_paused && link.out.len() < LINK_BYTES_MAX).then_some(&mut link.out)
    }

    /// Whether frames to a peer go out at the turn's end. If not, it is connected to.
    pub(crate) fn want(&mut self, peer: Peer) -> bool {
        let position = self.position_or_new(peer);
        let link = &mut self.links[position];
        link.is_wanted = true;
        matches!(link.state, State::Open(_))
    }

    /// Memory held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.links.iter().map(|link| link.out.capacity()).sum()
    }

    fn position_or_new(&mut self, peer: Peer) -> usize {
        let found = self.links.iter().position(|link| link.peer == peer);
        found.unwrap_or_else(|| {
            self.links.push(Link {
                peer,
                state: State::Idle { retry_at: Time(0) },
                out: Vec::new(),
                is_wanted: false,
                failures: 0,
            });
            self.links.len() - 1
        })
    }

    // --- what the core does with sockets ---

    /// The links to connect now, as their places. They are taken to be connecting.
    pub(crate) fn take_wanted(&mut self, now: Time) -> Vec<(u32, Peer)> {
        let mut wanted = Vec::new();
        for (place, link) in (0..).zip(&mut self.links) {
            let may = matches!(link.state, State::Idle { retry_at } if now >= retry_at);
            if may && (link.is_wanted || !link.out.is_empty()) {
                link.state = State::Connecting;
                wanted.push((place, link.peer));
            }
        }
        wanted
    }

    /// The socket of the link at `place` is connected, and is now this connection.
    pub(crate) fn connected(&mut self, peer: Peer, id: ConnectionId) {
        let position = self.position_or_new(peer);
        self.links[position].state = State::Greeting(id);
    }

    /// The other side of this connection has proven who it is.
    pub(crate) fn opened(&mut self, id: ConnectionId) {
        if let Some(link) = self.by_connection(id) {
            link.state = State::Open(id);
            link.failures = 0;
        }
    }

    /// A connect failed.
    pub(crate) fn failed(&mut self, peer: Peer, now: Time) {
        let position = self.position_or_new(peer);
        self.links[position].fail(now);
    }

    /// A connection ended; whose link it was, if it was one.
    pub(crate) fn ended(&mut self, id: ConnectionId, now: Time) -> Option<Peer> {
        let link = self.by_connection(id)?;
        link.fail(now);
        Some(link.peer)
    }

    /// Hands the frames of each open link to `send`.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(ConnectionId, &mut Vec<u8>)) {
        for link in &mut self.links {
            if let State::Open(id) = link.state
                && !link.out.is_empty()
            {
                send(id, &mut link.out);
            }
        }
    }

    /// Forgets the links to nodes that are no members any more and have no stream.
    pub(crate) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        // Places of connecting links are named by the kernel's completions.
        if self
            .links
            .iter()
            .any(|link| link.state == State::Connecting)
        {
            return;
        }
        let is_wanted = |peer| match peer {
            Peer::Node(node) => is_member(node),
            Peer::Seed(_) => false,
        };
        self.links
            .retain(|link| !matches!(link.state, State::Idle { .. }) || is_wanted(link.peer));
    }

    fn by_connection(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|link| matches!(link.state, State::Greeting(own) | State::Open(own) if own == id))
    }
}

impl Link {
    fn fail(&mut self, now: Time) {
        let pause_ms = (PAUSE_MS_MIN << self.failures.min(8)).min(PAUSE_MS_MAX);
        self.failures += 1;
        self.state = State::Idle {
            retry_at: now.plus_ms(pause_ms),
        };
        self.out = Vec::new();
        self.is_wanted = false;
    }
}

/// A socket to connect to a node's cluster port.
///
/// # Errors
/// No descriptor to be had.
pub(crate) fn socket_for(address: SocketAddr) -> std::io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{NodeId, Time};

    use super::{LINK_BYTES_MAX, Links, Peer};
    use crate::ring::ConnectionId;

    const NODE: Peer = Peer::Node(NodeId(5));
    const ID: ConnectionId = ConnectionId::new(3, 1);

    fn say(links: &mut Links, now: Time, text: &[u8]) -> bool {
        let writer = links.writer(NODE, now);
        writer.map(|out| out.extend_from_slice(text)).is_some()
    }

    #[test]
    fn frames_wait_for_the_greeting_and_go_in_order() {
        let mut links = Links::default();
        assert!(links.take_wanted(Time(0)).is_empty(), "nothing to say");
        assert!(say(&mut links, Time(0), b"one"));
        assert_eq!(links.take_wanted(Time(0)), [(0, NODE)]);
        assert!(links.take_wanted(Time(0)).is_empty(), "once");
        links.connected(NODE, ID);
        assert!(say(&mut links, Time(1), b" two"));
        links.flush(|_, _| panic!("not open yet"));
        links.opened(ID);
        let mut sent = Vec::new();
        links.flush(|id, out| {
            assert_eq!(id, ID);
            sent.append(out);
        });
        assert_eq!(sent, b"one two");
    }

    #[test]
    fn pauses_double_up_to_a_second_and_end_with_a_success() {
        let mut links = Links::default();
        let mut now = Time(1_000);
        for pause_ms in [50, 100, 200, 400, 800, 1_000, 1_000] {
            assert!(say(&mut links, now, b"x"));
            assert_eq!(links.take_wanted(now).len(), 1);
            links.failed(NODE, now);
            assert!(!say(&mut links, now.plus_ms(pause_ms - 1), b"x"));
            now = now.plus_ms(pause_ms);
        }
        assert!(say(&mut links, now, b"x"));
        links.take_wanted(now);
        links.connected(NODE, ID);
        links.opened(ID);
        assert_eq!(links.ended(ID, now), Some(NODE));
        assert_eq!(links.ended(ID, now), None, "it is no link any more");
        assert!(say(&mut links, now.plus_ms(50), b"x"));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut links = Links::default();
        assert!(say(&mut links, Time(0), &vec![0; LINK_BYTES_MAX]));
        assert!(!say(&mut links, Time(0), b"x"));
    }
}
