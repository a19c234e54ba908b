//! Commands on their way to the nodes that own their keys, and their replies back.
//!
//! ```text
//! session --argv--> Forwards --frame--> link --> owner
//!    ^                 |  ^                       |
//!    +---- Filled <----+  +------- reply ---------+
//! ```
//! A command that was not executed (the owner has changed, or its link never opened) is tried again
//! with the next topology until its deadline. One that may have been executed is tried again only if
//! that changes nothing; else its client is told that its outcome is unknown.

use std::collections::VecDeque;

use fulmar_cluster::{NodeId, Range, Time};

use crate::message::ReplyForm;
use crate::output::HoleId;
use crate::pending::Pending;
use crate::ring::ConnectionId;

/// Commands of one core on their way at once.
pub(crate) const FORWARDS_MAX: usize = 1 << 16;
/// How long a client waits for another node, a failover included.
pub(crate) const FORWARD_MS_MAX: u64 = 3_000;
/// Times a command is sent on because its owner has changed.
const HOPS_MAX: u8 = 2;

/// Names a command on its way; never the same twice in 2^16 uses of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) u32);

/// Where a reply goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) connection: ConnectionId,
    pub(crate) target: Target,
    pub(crate) form: ReplyForm,
}

/// Which place of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A reply of its own.
    Hole(HoleId),
    /// A part of a reply that is gathered from several nodes.
    Part(usize),
}

/// Why a command got no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not executed.
    NotExecuted,
    /// It may have been.
    Unknown,
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) destination: Destination,
    pub(crate) args: Pending,
    /// Whether executing it twice is as good as once.
    pub(crate) is_idempotent: bool,
    /// To whom it was sent last.
    pub(crate) node: NodeId,
    /// The range of its keys, by which it finds its way again; `None`: it is meant for that node.
    pub(crate) range: Option<Range>,
    hops: u8,
    deadline: Time,
    /// What has come of a long reply.
    reply: Vec<u8>,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Reply {
    /// RESP, as the node wrote it.
    Bytes(Vec<u8>),
    /// None came.
    Failed(Failure),
    /// It is to be executed by this node.
    Here(Pending),
}

/// A command that is over, or back.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) destination: Destination,
    pub(crate) reply: Reply,
}

#[derive(Debug, Default)]
struct Place {
    generation: u16,
    forward: Option<Box<Forward>>,
}

/// Commands of one core, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardCounts {
    pub(crate) sent: u64,
    /// Those that were to be sent again.
    pub(crate) retried: u64,
    /// Those that got no reply.
    pub(crate) failed: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    counts: ForwardCounts,
    places: Vec<Place>,
    free: Vec<u16>,
    /// Those to be sent again when the topology or a link has changed.
    again: VecDeque<Box<Forward>>,
    filled: Vec<Filled>,
}

impl Forward {
    pub(crate) fn new(
        destination: Destination,
        args: Pending,
        is_idempotent: bool,
        node: NodeId,
        range: Option<Range>,
        now: Time,
    ) -> Self {
        Self {
            destination,
            args,
            is_idempotent,
            node,
            range,
            hops: 0,
            deadline: now.plus_ms(FORWARD_MS_MAX),
            reply: Vec::new(),
        }
    }

    /// How often it was sent on before.
    pub(crate) fn hops(&self) -> u8 {
        self.hops
    }
}

impl Forwards {
    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.count() < FORWARDS_MAX
    }

    fn count(&self) -> usize {
        self.places.len() - self.free.len() + self.again.len()
    }

    /// Whether some wait to be sent again.
    pub(crate) fn has_some_to_send_again(&self) -> bool {
        !self.again.is_empty()
    }

    pub(crate) fn counts(&self) -> ForwardCounts {
        self.counts
    }

    /// Names a command that is about to be sent; [`put`](Self::put) keeps it.
    pub(crate) fn reserve(&mut self) -> RequestId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u16::try_from(self.places.len() - 1).expect("has_room was asked")
        });
        let place = &mut self.places[usize::from(index)];
        place.generation = place.generation.wrapping_add(1);
        RequestId(u32::from(place.generation) << 16 | u32::from(index))
    }

    /// Keeps a command that was sent under the name that was reserved for it.
    pub(crate) fn put(&mut self, id: RequestId, forward: Box<Forward>) {
        self.counts.sent += 1;
        self.places[(id.0 & 0xFFFF) as usize].forward = Some(forward);
    }

    fn get(&mut self, id: RequestId) -> Option<&mut Place> {
        let place = self.places.get_mut((id.0 & 0xFFFF) as usize)?;
        (u32::from(place.generation) == id.0 >> 16 && place.forward.is_some()).then_some(place)
    }

    fn take(&mut self, id: RequestId) -> Option<Box<Forward>> {
        let forward = self.get(id)?.forward.take();
        self.free
            .push(u16::try_from(id.0 & 0xFFFF).expect("16 bits"));
        forward
    }

    /// A part of the reply to a command; the last one completes it. Unknown ids are of commands that
    /// were given up.
    pub(crate) fn handle_reply(&mut self, id: RequestId, bytes: &[u8], is_last: bool) {
        let Some(Place { forward, .. }) = self.get(id) else {
            return;
        };
        if let Some(forward) = forward {
            forward.reply.extend_from_slice(bytes);
        }
        if is_last && let Some(forward) = self.take(id) {
            self.filled.push(Filled {
                destination: forward.destination,
                reply: Reply::Bytes(forward.reply),
            });
        }
    }

    /// The node did not execute a command: it does not own the keys.
    pub(crate) fn handle_refused(&mut self, id: RequestId) {
        if let Some(mut forward) = self.take(id) {
            forward.hops += 1;
            forward.reply.clear();
            if forward.hops > HOPS_MAX {
                self.fail(&forward, Failure::NotExecuted);
            } else {
                self.counts.retried += 1;
                self.again.push_back(forward);
            }
        }
    }

    /// The link to a node broke.
    pub(crate) fn handle_broken(&mut self, node: NodeId) {
        self.give_up(|forward| forward.node == node);
    }

    /// Waits no longer for replies to some commands: they are sent again, or their outcome is unknown.
    fn give_up(&mut self, is_lost: impl Fn(&Forward) -> bool) {
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            if !place.forward.as_deref().is_some_and(&is_lost) {
                continue;
            }
            if let Some(mut forward) = place.forward.take() {
                self.free.push(u16::try_from(index).expect("16 bits"));
                forward.reply.clear();
                if forward.is_idempotent {
                    self.counts.retried += 1;
                    self.again.push_back(forward);
                } else {
                    self.fail(&forward, Failure::Unknown);
                }
            }
        }
    }

    /// A new topology: what is on its way to a node that does not own its keys any more is not waited
    /// for.
    pub(crate) fn handle_owners(&mut self, is_owner: impl Fn(NodeId, Range) -> bool) {
        self.give_up(|forward| {
            forward
                .range
                .is_some_and(|range| !is_owner(forward.node, range))
        });
    }

    /// Keeps a command until the topology or a link has changed.
    pub(crate) fn push_again(&mut self, forward: Box<Forward>) {
        self.again.push_back(forward);
    }

    /// Those that wait for a change.
    pub(crate) fn take_again(&mut self) -> VecDeque<Box<Forward>> {
        std::mem::take(&mut self.again)
    }

    /// This node owns the keys of a command by now: it is to be executed here.
    pub(crate) fn give_back(&mut self, forward: Box<Forward>) {
        self.filled.push(Filled {
            destination: forward.destination,
            reply: Reply::Here(forward.args),
        });
    }

    /// Gives up what is past its deadline.
    pub(crate) fn expire(&mut self, now: Time) {
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            let is_late = |forward: &Box<Forward>| forward.deadline <= now;
            if place.forward.as_ref().is_some_and(is_late)
                && let Some(forward) = place.forward.take()
            {
                self.free.push(u16::try_from(index).expect("16 bits"));
                self.fail(&forward, Failure::Unknown);
            }
        }
        for _ in 0..self.again.len() {
            let Some(forward) = self.again.pop_front() else {
                break;
            };
            if forward.deadline <= now {
                self.fail(&forward, Failure::NotExecuted);
            } else {
                self.again.push_back(forward);
            }
        }
    }

    /// What came since the last call.
    pub(crate) fn take_filled(&mut self) -> Vec<Filled> {
        std::mem::take(&mut self.filled)
    }

    pub(crate) fn has_filled(&self) -> bool {
        !self.filled.is_empty()
    }

    fn fail(&mut self, forward: &Forward, failure: Failure) {
        self.counts.failed += 1;
        self.filled.push(Filled {
            destination: forward.destination,
            reply: Reply::Failed(failure),
        });
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{NodeId, Time};
    use fulmar_protocol::command::Argv;
    use fulmar_protocol::resp::RespVersion;

    use super::Target;
    use super::{Destination, FORWARD_MS_MAX, Failure, Forward, Forwards, Reply, RequestId};
    use crate::message::ReplyForm;
    use crate::pending::Pending;
    use crate::ring::ConnectionId;

    const NODE: NodeId = NodeId(1);

    fn forward(part: usize, is_idempotent: bool) -> Box<Forward> {
        let destination = Destination {
            connection: ConnectionId::new(0, 0),
            target: Target::Part(part),
            form: ReplyForm::Resp(RespVersion::Resp2),
        };
        let args: &[&[u8]] = &[b"GET", b"key"];
        let args = Pending::new(&Argv { args, staged: &[] }, Vec::new());
        Box::new(Forward::new(
            destination,
            args,
            is_idempotent,
            NODE,
            None,
            Time(0),
        ))
    }

    fn insert(forwards: &mut Forwards, forward: Box<Forward>) -> RequestId {
        let id = forwards.reserve();
        forwards.put(id, forward);
        id
    }

    fn filled(forwards: &mut Forwards) -> Vec<(usize, Result<Vec<u8>, Failure>)> {
        let part = |target| match target {
            Target::Part(part) => part,
            Target::Hole(_) => unreachable!("the tests use parts"),
        };
        let taken = forwards.take_filled().into_iter();
        let reply = |reply| match reply {
            Reply::Bytes(bytes) => Ok(bytes),
            Reply::Failed(failure) => Err(failure),
            Reply::Here(_) => unreachable!("nothing was given back"),
        };
        taken
            .map(|filled| (part(filled.destination.target), reply(filled.reply)))
            .collect()
    }

    #[test]
    fn replies_find_their_places_and_late_ones_none() {
        let mut forwards = Forwards::default();
        let first = insert(&mut forwards, forward(1, true));
        let second = insert(&mut forwards, forward(2, true));
        forwards.handle_reply(second, b"$5\r\nhe", false);
        forwards.handle_reply(first, b"+OK\r\n", true);
        forwards.handle_reply(second, b"llo\r\n", true);
        let expected = [
            (1, Ok(b"+OK\r\n".to_vec())),
            (2, Ok(b"$5\r\nhello\r\n".to_vec())),
        ];
        assert_eq!(filled(&mut forwards), expected);
        let third = insert(&mut forwards, forward(3, true));
        assert_ne!(third, second, "the place is the same, the id is not");
        forwards.handle_reply(second, b"late", true);
        forwards.handle_reply(RequestId(u32::MAX), b"never", true);
        assert!(filled(&mut forwards).is_empty());
    }

    #[test]
    fn a_broken_link_leaves_idempotent_commands_to_be_sent_again() {
        let mut forwards = Forwards::default();
        insert(&mut forwards, forward(1, true));
        insert(&mut forwards, forward(2, false));
        forwards.handle_broken(NodeId(9));
        forwards.handle_broken(NODE);
        assert_eq!(filled(&mut forwards), [(2, Err(Failure::Unknown))]);
        assert_eq!(forwards.take_again().len(), 1);
        assert!(!forwards.has_some_to_send_again());
    }

    #[test]
    fn a_refused_command_is_sent_on_twice_and_expires() {
        let mut forwards = Forwards::default();
        for round in 0..3 {
            let mut id = insert(&mut forwards, forward(round, false));
            for _ in 0..round {
                forwards.handle_refused(id);
                for forward in forwards.take_again() {
                    id = insert(&mut forwards, forward);
                }
            }
        }
        assert!(filled(&mut forwards).is_empty());
        forwards.expire(Time(FORWARD_MS_MAX - 1));
        assert!(filled(&mut forwards).is_empty());
        forwards.expire(Time(FORWARD_MS_MAX));
        assert_eq!(filled(&mut forwards).len(), 3);
        let mut id = insert(&mut forwards, forward(7, true));
        for _ in 0..2 {
            forwards.handle_refused(id);
            for forward in forwards.take_again() {
                id = insert(&mut forwards, forward);
            }
        }
        forwards.handle_refused(id);
        assert_eq!(filled(&mut forwards), [(7, Err(Failure::NotExecuted))]);
    }
}
