//! A core's streams to other nodes: one per node and purpose, made when there is something to say, and
//! made again after a while when it broke.
//!
//! ```text
//! idle -> connecting -> greeting -> open
//!   ^________ a failure, then a pause that doubles ________|
//! ```
//! Frames are appended to a link's buffer during a turn, and sent at its end. What waits for a link to
//! open is bounded; what was sent on a link that broke is lost, and whoever sent it is told. An open
//! link that hears nothing asks whether anybody is there, and breaks if nobody answers; one that has
//! nothing to say for long is closed.

use std::net::SocketAddr;
use std::time::Duration;

use fulmar_cluster::{NodeId, Time};
use fulmar_protocol::node::Purpose;

use crate::ring::ConnectionId;

/// Bytes that may wait for one link, what is being sent included, beyond which it takes no more.
pub(crate) const LINK_BYTES_MAX: usize = 4 << 20;
/// The pause after a first failure, and the longest.
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 1_000;
/// The pause after the other side refused to speak: somebody has to change something first.
const REFUSED_PAUSE_MS: u64 = 2_000;
/// An open link that heard nothing for so long asks whether anybody is there.
const QUIET_MS_MAX: u64 = 1_000;
/// One that heard nothing for so long is broken, and so is a greeting that takes longer than this.
const SILENT_MS_MAX: u64 = 3_000;
/// One that had nothing to say for so long is closed.
const IDLE_MS_MAX: u64 = 60_000;
/// Between two looks at the links that are further apart, this core slept: it has yet to read what
/// came meanwhile.
const SLEPT_MS: u64 = 500;

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

/// Names a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkName {
    pub(crate) peer: Peer,
    pub(crate) purpose: Purpose,
}

impl Peer {
    pub(crate) fn link_for(self, purpose: Purpose) -> LinkName {
        let peer = self;
        LinkName { peer, purpose }
    }
}

/// What is to be done for an open link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Ask whether anybody is there.
    Ping,
    /// Say goodbye: nothing was to be said for long.
    Leave,
    /// Break it: nobody is there.
    Break,
}

/// A link that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) name: LinkName,
    /// What was said on it may have been heard.
    pub(crate) was_open: bool,
}

/// One stream to a node.
#[derive(Debug)]
struct Link {
    name: LinkName,
    state: State,
    /// Frames to be sent.
    out: Vec<u8>,
    /// Bytes being sent when that was last looked at.
    sending: usize,
    /// It is wanted though nothing waits for it.
    is_wanted: bool,
    /// When somebody last wanted to say something.
    used_at: Time,
    /// When it was connected, or something last came.
    heard_at: Time,
    is_asked: bool,
    failures: u32,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: Vec<Link>,
    cared_at: Time,
}

impl Links {
    /// Where frames go; `None` while the node cannot be reached, or too much waits for it.
    #[inline]
    pub(crate) fn writer(&mut self, name: LinkName, now: Time) -> Option<&mut Vec<u8>> {
        let position = self.position_or_new(name);
        let link = &mut self.links[position];
        link.used_at = now;
        let is_paused = matches!(link.state, State::Idle { retry_at } if now < retry_at);
        let has_room = link.out.len() + link.sending < LINK_BYTES_MAX;
        (!is_paused && has_room).then_some(&mut link.out)
    }

    /// Whether frames go out at the turn's end. If not, the node is connected to.
    pub(crate) fn want(&mut self, name: LinkName, now: Time) -> bool {
        let position = self.position_or_new(name);
        let link = &mut self.links[position];
        link.is_wanted = true;
        link.used_at = now;
        matches!(link.state, State::Open(_))
    }

    fn position_or_new(&mut self, name: LinkName) -> usize {
        let found = self.links.iter().position(|link| link.name == name);
        found.unwrap_or_else(|| {
            self.links.push(Link {
                name,
                state: State::Idle { retry_at: Time(0) },
                out: Vec::new(),
                sending: 0,
                is_wanted: false,
                used_at: Time(0),
                heard_at: Time(0),
                is_asked: false,
                failures: 0,
            });
            self.links.len() - 1
        })
    }

    /// Looks after the links: once a tick. Those that are to be left or broken are links no more.
    pub(crate) fn care(&mut self, now: Time) -> Vec<(ConnectionId, Care, Ended)> {
        let has_slept = now.ms_since(self.cared_at) > SLEPT_MS;
        self.cared_at = now;
        let mut cares = Vec::new();
        for link in &mut self.links {
            let (id, was_open) = match link.state {
                State::Greeting(id) => (id, false),
                State::Open(id) => (id, true),
                State::Idle { .. } | State::Connecting => continue,
            };
            if has_slept {
                link.heard_at = now;
            }
            let ended = Ended {
                name: link.name,
                was_open,
            };
            let silent_ms = now.ms_since(link.heard_at);
            if silent_ms >= SILENT_MS_MAX {
                link.fail(now, 0);
                cares.push((id, Care::Break, ended));
            } else if was_open && now.ms_since(link.used_at) >= IDLE_MS_MAX && link.is_empty() {
                link.leave();
                cares.push((id, Care::Leave, ended));
            } else if was_open && silent_ms >= QUIET_MS_MAX && !link.is_asked {
                link.is_asked = true;
                cares.push((id, Care::Ping, ended));
            }
        }
        cares
    }

    /// Something came on a link.
    #[inline]
    pub(crate) fn heard(&mut self, id: ConnectionId, now: Time) {
        if let Some(link) = self.by_connection(id) {
            link.heard_at = now;
            link.is_asked = false;
        }
    }

    // --- what the core does with sockets ---

    /// The links to connect now, as their places. They are taken to be connecting.
    pub(crate) fn take_wanted(&mut self, now: Time) -> Vec<(u32, LinkName)> {
        let mut wanted = Vec::new();
        for (place, link) in (0..).zip(&mut self.links) {
            let may = matches!(link.state, State::Idle { retry_at } if now >= retry_at);
            if may && (link.is_wanted || !link.out.is_empty()) {
                link.state = State::Connecting;
                wanted.push((place, link.name));
            }
        }
        wanted
    }

    /// The socket of a link is connected, and is now this connection.
    pub(crate) fn connected(&mut self, name: LinkName, id: ConnectionId, now: Time) {
        let position = self.position_or_new(name);
        let link = &mut self.links[position];
        link.state = State::Greeting(id);
        link.heard_at = now;
        link.is_asked = false;
    }

    /// The other side of this connection has proven who it is.
    pub(crate) fn opened(&mut self, id: ConnectionId) {
        if let Some(link) = self.by_connection(id) {
            link.state = State::Open(id);
            link.failures = 0;
        }
    }

    /// A connect failed.
    pub(crate) fn failed(&mut self, name: LinkName, now: Time) {
        let position = self.position_or_new(name);
        self.links[position].fail(now, 0);
    }

    /// A connection ended; whose link it was, if it was one.
    pub(crate) fn ended(&mut self, id: ConnectionId, is_refused: bool, now: Time) -> Option<Ended> {
        let link = self.by_connection(id)?;
        let ended = Ended {
            name: link.name,
            was_open: matches!(link.state, State::Open(_)) && !is_refused,
        };
        link.fail(now, if is_refused { REFUSED_PAUSE_MS } else { 0 });
        Some(ended)
    }

    /// Hands the frames of each open link to `send`, which tells how much is being sent then.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(ConnectionId, &mut Vec<u8>) -> usize) {
        for link in &mut self.links {
            if let State::Open(id) = link.state
                && !link.is_empty()
            {
                link.sending = send(id, &mut link.out);
            }
        }
    }

    /// Memory of the frames that wait. O(links).
    pub(crate) fn held_bytes(&self) -> usize {
        self.links.iter().map(|link| link.out.capacity()).sum()
    }

    /// Forgets the links to nodes that are no members any more, have no stream and could have one.
    pub(crate) fn retain(&mut self, now: Time, is_member: impl Fn(NodeId) -> bool) {
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
        self.links.retain(|link| {
            !matches!(link.state, State::Idle { retry_at } if now >= retry_at)
                || is_wanted(link.name.peer)
        });
    }

    fn by_connection(&mut self, id: ConnectionId) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|link| matches!(link.state, State::Greeting(own) | State::Open(own) if own == id))
    }
}

impl Link {
    fn is_empty(&self) -> bool {
        self.out.is_empty() && self.sending == 0
    }

    /// It broke: what waited for it is lost.
    fn fail(&mut self, now: Time, pause_ms_min: u64) {
        let pause_ms = (PAUSE_MS_MIN << self.failures.min(8)).min(PAUSE_MS_MAX);
        self.failures += 1;
        self.leave();
        self.state = State::Idle {
            retry_at: now.plus_ms(pause_ms.max(pause_ms_min)),
        };
    }

    /// It has no socket any more, and may have another.
    fn leave(&mut self) {
        self.state = State::Idle { retry_at: Time(0) };
        self.out = Vec::new();
        self.sending = 0;
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
    // With few packets on their way, a lost one is sent again each 200 ms, not after 200, 400, 800 ms.
    socket.set_tcp_thin_linear_timeouts(true)?;
    // While it connects, too: a partition that heals must not be waited for much longer.
    socket.set_tcp_user_timeout(Some(Duration::from_millis(SILENT_MS_MAX)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{NodeId, Time};
    use fulmar_protocol::node::Purpose;

    use super::{Care, Ended, LINK_BYTES_MAX, LinkName, Links, Peer};
    use crate::ring::ConnectionId;

    const NODE: LinkName = LinkName {
        peer: Peer::Node(NodeId(5)),
        purpose: Purpose::Forward,
    };
    const ID: ConnectionId = ConnectionId::new(3, 1);

    fn say(links: &mut Links, now: Time, text: &[u8]) -> bool {
        let writer = links.writer(NODE, now);
        writer.map(|out| out.extend_from_slice(text)).is_some()
    }

    /// An open link, looked after since.
    fn open(now: Time) -> Links {
        let mut links = Links::default();
        links.want(NODE, now);
        links.take_wanted(now);
        links.connected(NODE, ID, now);
        links.opened(ID);
        links.care(now);
        links
    }

    /// What is done for the link at each tick up to a time.
    fn care(links: &mut Links, ticks: std::ops::RangeInclusive<u64>) -> Vec<(u64, Care)> {
        let mut cares = Vec::new();
        for tick in ticks {
            let cared = links.care(Time(tick * 100)).into_iter();
            cares.extend(cared.map(|(id, care, ended)| {
                assert_eq!((id, ended.name), (ID, NODE));
                (tick * 100, care)
            }));
        }
        cares
    }

    #[test]
    fn frames_wait_for_the_greeting_and_go_in_order() {
        let mut links = Links::default();
        assert!(links.take_wanted(Time(0)).is_empty(), "nothing to say");
        assert!(say(&mut links, Time(0), b"one"));
        assert_eq!(links.take_wanted(Time(0)), [(0, NODE)]);
        assert!(links.take_wanted(Time(0)).is_empty(), "once");
        links.connected(NODE, ID, Time(0));
        assert!(say(&mut links, Time(1), b" two"));
        links.flush(|_, _| panic!("not open yet"));
        links.opened(ID);
        let mut sent = Vec::new();
        links.flush(|id, out| {
            assert_eq!(id, ID);
            sent.append(out);
            0
        });
        assert_eq!(sent, b"one two");
        links.flush(|_, _| panic!("all was sent"));
    }

    #[test]
    fn purposes_have_links_of_their_own() {
        let mut links = open(Time(0));
        let control = Peer::Node(NodeId(5)).link_for(Purpose::Control);
        links.writer(control, Time(0)).expect("room").push(b'x');
        links.flush(|_, _| panic!("the other one is open"));
        assert_eq!(links.take_wanted(Time(0)), [(1, control)]);
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
        links.connected(NODE, ID, now);
        links.opened(ID);
        let ended = Ended {
            name: NODE,
            was_open: true,
        };
        assert_eq!(links.ended(ID, false, now), Some(ended));
        assert_eq!(links.ended(ID, false, now), None, "it is no link any more");
        assert!(say(&mut links, now.plus_ms(50), b"x"));
    }

    #[test]
    fn a_refusal_is_not_asked_for_again_at_once() {
        let mut links = open(Time(0));
        let ended = links.ended(ID, true, Time(0)).expect("it was one");
        assert!(!ended.was_open, "nothing that was sent was taken");
        assert!(!say(&mut links, Time(1_999), b"x"));
        assert!(say(&mut links, Time(2_000), b"x"));
    }

    #[test]
    fn links_to_strangers_are_forgotten_when_their_pause_is_over() {
        let mut links = open(Time(0));
        links.ended(ID, true, Time(0));
        links.retain(Time(1_999), |_| false);
        assert!(!say(&mut links, Time(1_999), b"x"), "the pause lasts");
        links.retain(Time(2_000), |_| true);
        assert_eq!(links.links.len(), 1);
        links.retain(Time(2_000), |_| false);
        assert!(links.links.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_sent_counts() {
        let mut links = open(Time(0));
        assert!(say(&mut links, Time(0), &vec![0; LINK_BYTES_MAX]));
        assert!(!say(&mut links, Time(0), b"x"));
        links.flush(|_, out| std::mem::take(out).len());
        assert!(!say(&mut links, Time(0), b"x"), "it is being sent");
        links.flush(|_, _| LINK_BYTES_MAX - 1);
        assert!(say(&mut links, Time(0), b"x"));
    }

    #[test]
    fn a_quiet_link_is_asked_once_and_broken_if_nobody_answers() {
        let mut links = open(Time(0));
        assert!(care(&mut links, 0..=9).is_empty());
        assert_eq!(care(&mut links, 10..=25), [(1_000, Care::Ping)]);
        links.heard(ID, Time(2_500));
        assert_eq!(care(&mut links, 26..=54), [(3_500, Care::Ping)]);
        assert_eq!(care(&mut links, 55..=70), [(5_500, Care::Break)]);
        assert!(!links.want(NODE, Time(7_000)));
        assert_eq!(links.take_wanted(Time(7_000)).len(), 1);
    }

    #[test]
    fn a_core_that_slept_hears_first() {
        let mut links = open(Time(0));
        assert!(care(&mut links, 100..=109).is_empty());
        assert_eq!(care(&mut links, 110..=110), [(11_000, Care::Ping)]);
    }

    #[test]
    fn a_greeting_that_is_never_over_is_broken() {
        let mut links = Links::default();
        links.want(NODE, Time(0));
        links.take_wanted(Time(0));
        links.connected(NODE, ID, Time(0));
        links.care(Time(0));
        assert_eq!(care(&mut links, 0..=30), [(3_000, Care::Break)]);
    }

    #[test]
    fn a_link_without_a_use_is_left_and_one_that_is_wanted_stays() {
        let mut links = open(Time(0));
        let is_left = |links: &mut Links, is_wanted: bool| {
            let mut last = Vec::new();
            for tick in 1..=600 {
                let now = Time(tick * 100);
                links.heard(ID, now);
                if is_wanted {
                    assert!(links.want(NODE, now));
                }
                last = links.care(now);
                assert!(last.is_empty() || tick == 600);
            }
            last.iter().any(|(_, care, _)| *care == Care::Leave)
        };
        assert!(!is_left(&mut links, true));
        let mut links = open(Time(0));
        assert!(is_left(&mut links, false));
        assert!(
            say(&mut links, Time(60_000), b"x"),
            "it may come back at once"
        );
        assert_eq!(links.take_wanted(Time(60_000)).len(), 1);
    }
}
