//! Commands on their way to the nodes that own their keys, and their replies back.
//!
//! ```text
//! session --argv--> Forwards --frame--> link --> owner
//!    ^                 |  ^                       |
//!    +---- Filled <----+  +------- reply ---------+
//! ```
//! A command that was not executed is tried again until its deadline: when the topology or a link has
//! changed, and else after a while. That goes for one whose link never opened, whose node does not
//! serve now, has begun anew, or has yet to install the topology that this one has. An owner that knows the same
//! topology and has not got the keys counts as a hop, of which there are few.
//!
//! Those of one connection that wait are tried again in their order, and the connection's next commands
//! wait with them: else a later one on the same key could go first.
//!
//! A command that may have been executed is tried again only if that changes nothing; else its client
//! is told that its outcome is unknown.

use std::collections::VecDeque;

use fulmar_cluster::{Epoch, NodeId, Range, Time};
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::node::{ForwardStatus, HOPS_MAX, OutOfStep, Part, Status};

use crate::message::ReplyForm;
use crate::output::HoleId;
use crate::pending::Pending;
use crate::ring::ConnectionId;

/// Commands of one core on their way at once.
pub(crate) const FORWARDS_MAX: usize = 1 << 16;
/// How long a node that has left tells its clients, and other nodes, where to go before it closes their
/// connections: a request that crosses the end of its connection would be lost.
pub(crate) const LINGER_MS: u64 = 500;
/// How long a client waits for another node, a failover included.
pub(crate) const FORWARD_MS_MAX: u64 = 3_000;
/// A command that was refused is tried again after a time between these, if nothing changes before.
const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 50;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// It was not, and the node that has the keys does not serve.
    Down,
    /// It was not: it is too long for another node.
    TooLong,
    /// It may have been.
    Unknown,
}

/// A command on its way.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) destination: Destination,
    pub(crate) id: CommandId,
    pub(crate) args: Pending,
    /// Whether executing it twice is as good as once.
    pub(crate) is_idempotent: bool,
    /// To whom it was sent last.
    pub(crate) node: NodeId,
    /// The range of its keys, by which it finds its way again; `None`: it is meant for that node.
    pub(crate) range: Option<Range>,
    /// A replica may answer it.
    pub(crate) may_read_replica: bool,
    hops: u8,
    deadline: Time,
    /// Until when the node that it was sent to, and that has left since, may answer.
    answer_by: Option<Time>,
    /// When it is tried again if nothing changes.
    retry_at: Time,
    /// The topology with which it was sent last.
    epoch_sent: Epoch,
    /// When it was sent last, if it is a read whose reply may be kept.
    pub(crate) keepable_since: Option<Time>,
    /// The topology that it waits for.
    epoch_wanted: Epoch,
    /// Why it was not executed the last time.
    refused: Option<ForwardStatus>,
    /// It was sent to a node that was lost since.
    was_sent: bool,
    /// What has come of a long reply, and how much of it came first.
    reply: Vec<u8>,
    reply_begun: Option<usize>,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Reply {
    /// RESP, as the node wrote it.
    Bytes(Vec<u8>),
    /// None came.
    Failed(Failure),
    /// It is to be executed by this node; or it is a part, and to be dealt out again.
    Here(Box<Forward>),
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
#[derive(Debug)]
pub(crate) struct Forwards {
    counts: ForwardCounts,
    places: Vec<Place>,
    free: Vec<u16>,
    /// Those to be sent again when the topology or a link has changed.
    again: VecDeque<Box<Forward>>,
    filled: Vec<Filled>,
    /// Whose commands have begun to wait since they were last taken.
    delayed: Vec<Destination>,
    /// Bytes of the replies that have come in part, and their most.
    replies_bytes: usize,
    replies_bytes_max: usize,
    /// Bytes of the arguments of all commands, and those beyond which no more are taken.
    args_bytes: usize,
    args_bytes_max: usize,
}

impl Forward {
    pub(crate) fn new(
        destination: Destination,
        id: CommandId,
        args: Pending,
        is_idempotent: bool,
        node: NodeId,
        range: Option<Range>,
        now: Time,
    ) -> Self {
        Self {
            destination,
            id,
            args,
            is_idempotent,
            node,
            range,
            may_read_replica: false,
            hops: 1,
            deadline: now.plus_ms(FORWARD_MS_MAX),
            answer_by: None,
            retry_at: now,
            epoch_sent: Epoch(0),
            keepable_since: None,
            epoch_wanted: Epoch(0),
            refused: None,
            was_sent: false,
            reply: Vec::new(),
            reply_begun: None,
        }
    }

    /// The same, given up at `deadline` at the latest.
    pub(crate) fn due_by(mut self, deadline: Time) -> Self {
        self.deadline = self.deadline.min(deadline);
        self
    }

    /// Which attempt it is, counting those that found an owner of the same topology wrong.
    pub(crate) fn hops(&self) -> u8 {
        self.hops
    }

    /// Whether its reply may be kept, if the owner says so.
    pub(crate) fn is_keepable(&self) -> bool {
        self.id == CommandId::Get && !self.may_read_replica
    }

    /// Whether it may write; a queue is looked at as a whole.
    pub(crate) fn may_write(&self) -> bool {
        self.id == CommandId::Exec || self.id.spec().is_write()
    }

    /// The node that it was sent to is not waited for any more.
    pub(crate) fn note_lost(&mut self) {
        self.was_sent = true;
    }

    /// Whether a node that was lost since may have executed it, and that matters.
    pub(crate) fn may_be_executed(&self) -> bool {
        self.was_sent && self.may_write()
    }

    /// Whether to try it again at `now`, with the topology of this epoch.
    pub(crate) fn is_due(&self, now: Time, epoch: Epoch, has_changed: bool) -> bool {
        epoch >= self.epoch_wanted && (has_changed || self.retry_at <= now)
    }
}

impl Forwards {
    /// Of replies that take several frames, so many bytes are kept; with so many bytes of arguments,
    /// no more commands are taken.
    pub(crate) fn new(replies_bytes_max: usize, args_bytes_max: usize) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            again: VecDeque::new(),
            filled: Vec::new(),
            delayed: Vec::new(),
            replies_bytes: 0,
            replies_bytes_max,
            args_bytes: 0,
            args_bytes_max,
            counts: ForwardCounts::default(),
        }
    }

    /// Memory of arguments, and of replies that came in part.
    pub(crate) fn held_bytes(&self) -> usize {
        self.args_bytes + self.replies_bytes
    }

    /// Whether there is room for so many more.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.count() + count <= FORWARDS_MAX && self.args_bytes < self.args_bytes_max
    }

    /// A command is about to be sent, or kept, for the first time.
    pub(crate) fn enter(&mut self, forward: &Forward) {
        self.args_bytes += forward.args.bytes_held();
    }

    /// A command is over.
    fn leave(&mut self, forward: &Forward, reply: Reply) {
        self.args_bytes -= forward.args.bytes_held();
        self.filled.push(Filled {
            destination: forward.destination,
            reply,
        });
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
    /// `epoch` is that of the topology with which it was sent.
    pub(crate) fn put(&mut self, id: RequestId, mut forward: Box<Forward>, epoch: Epoch) {
        self.counts.sent += 1;
        forward.epoch_sent = epoch;
        self.places[(id.0 & 0xFFFF) as usize].forward = Some(forward);
    }

    /// A command whose reply may be kept.
    pub(crate) fn keepable(&mut self, id: RequestId) -> Option<(&Forward, Time)> {
        let forward = self.get(id)?.forward.as_deref()?;
        Some((forward, forward.keepable_since?))
    }

    fn get(&mut self, id: RequestId) -> Option<&mut Place> {
        let place = self.places.get_mut((id.0 & 0xFFFF) as usize)?;
        (u32::from(place.generation) == id.0 >> 16 && place.forward.is_some()).then_some(place)
    }

    fn take(&mut self, id: RequestId) -> Option<Box<Forward>> {
        let mut forward = self.get(id)?.forward.take()?;
        self.free
            .push(u16::try_from(id.0 & 0xFFFF).expect("16 bits"));
        self.replies_bytes -= forward.reply.len();
        forward.reply_begun = None;
        forward.answer_by = None;
        Some(forward)
    }

    /// The reply to a command, or its beginning. Unknown ids are of commands that were given up.
    ///
    /// # Errors
    /// It has begun before.
    pub(crate) fn handle_reply(
        &mut self,
        id: RequestId,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<(), OutOfStep> {
        let Some(Place {
            forward: Some(forward),
            ..
        }) = self.get(id)
        else {
            return Ok(());
        };
        if forward.reply_begun.is_some() {
            return Err(OutOfStep);
        }
        forward.reply_begun = Some(bytes.len());
        self.extend(id, bytes, is_last);
        Ok(())
    }

    /// A part of a reply that has begun; the last one completes it.
    ///
    /// # Errors
    /// It is not the next one.
    pub(crate) fn handle_part(&mut self, part: &Part<'_>) -> Result<(), OutOfStep> {
        let id = RequestId(part.stream);
        let Some(Place {
            forward: Some(forward),
            ..
        }) = self.get(id)
        else {
            return Ok(());
        };
        let begun = forward.reply_begun.ok_or(OutOfStep)?;
        if part.is_aborted {
            self.fail_at(id);
            return Ok(());
        }
        if part.offset != (forward.reply.len() - begun) as u64 {
            return Err(OutOfStep);
        }
        self.extend(id, part.bytes, part.is_last);
        Ok(())
    }

    /// A reply that does not fit into what there is for replies is lost.
    fn extend(&mut self, id: RequestId, bytes: &[u8], is_last: bool) {
        if is_last {
            if let Some(mut forward) = self.take(id) {
                forward.reply.extend_from_slice(bytes);
                let reply = std::mem::take(&mut forward.reply);
                self.leave(&forward, Reply::Bytes(reply));
            }
            return;
        }
        if self.replies_bytes + bytes.len() > self.replies_bytes_max {
            return self.fail_at(id);
        }
        if let Some(Place {
            forward: Some(forward),
            ..
        }) = self.get(id)
        {
            forward.reply.extend_from_slice(bytes);
            self.replies_bytes += bytes.len();
        }
    }

    fn fail_at(&mut self, id: RequestId) {
        if let Some(forward) = self.take(id) {
            self.fail(&forward, Failure::Unknown);
        }
    }

    /// The node did not execute a command. `epoch` is that of the topology in force here.
    pub(crate) fn handle_status(&mut self, status: &Status, epoch: Epoch, now: Time) {
        let Some(mut forward) = self.take(RequestId(status.request)) else {
            return;
        };
        forward.reply.clear();
        forward.refused = Some(status.status);
        let knows = Epoch(status.epoch);
        match status.status {
            ForwardStatus::Refused => return self.fail(&forward, Failure::TooLong),
            ForwardStatus::Moved if knows >= epoch => {
                // It finds no other way.
                if forward.range.is_none() {
                    return self.drop_lost(forward);
                }
                if knows == forward.epoch_sent {
                    if forward.hops == HOPS_MAX {
                        return self.fail(&forward, Failure::NotExecuted);
                    }
                    forward.hops += 1;
                }
                forward.epoch_wanted = knows;
            }
            // A node that has begun anew is not in the topology yet.
            ForwardStatus::OtherIncarnation
            | ForwardStatus::Moved
            | ForwardStatus::TryAgain
            | ForwardStatus::Down => {}
        }
        self.push_again(forward, now);
    }

    /// The link to a node broke; what was sent on it may have been executed unless it never opened.
    pub(crate) fn handle_broken(&mut self, node: NodeId, was_open: bool, now: Time) {
        self.give_up(was_open, now, |forward| forward.node == node);
    }

    /// Waits no longer for replies to some commands: they are sent again, or their outcome is unknown.
    fn give_up(&mut self, was_sent: bool, now: Time, is_lost: impl Fn(&Forward) -> bool) {
        for index in 0..self.places.len() {
            let place = &self.places[index];
            if !place.forward.as_deref().is_some_and(&is_lost) {
                continue;
            }
            let index = u32::try_from(index).expect("16 bits");
            let id = RequestId(u32::from(place.generation) << 16 | index);
            if let Some(mut forward) = self.take(id) {
                forward.reply.clear();
                if was_sent {
                    forward.note_lost();
                }
                if forward.is_idempotent || !was_sent {
                    self.counts.retried += 1;
                    self.push_again(forward, now);
                } else {
                    self.fail(&forward, Failure::Unknown);
                }
            }
        }
    }

    /// A new topology: what is on its way to a node that does not own its keys any more is not waited
    /// for. Of what may be executed once only that node says what became, while it is a member, or lingers
    /// after it has left.
    pub(crate) fn handle_owners(
        &mut self,
        now: Time,
        is_owner: impl Fn(NodeId, Range) -> bool,
        is_member: impl Fn(NodeId) -> bool,
    ) {
        // What is meant for a node comes back to who dealt it out.
        let is_left = |forward: &Forward| match forward.range {
            Some(range) => !forward.may_read_replica && !is_owner(forward.node, range),
            None => !is_member(forward.node),
        };
        self.give_up(true, now, |forward| {
            forward.is_idempotent && is_left(forward)
        });
        let sent = self.places.iter_mut();
        for forward in sent.filter_map(|place| place.forward.as_mut()) {
            if is_left(forward) && !is_member(forward.node) {
                forward.answer_by = Some(now.plus_ms(LINGER_MS));
            }
        }
    }

    /// Keeps a command until the topology or a link has changed, or for a while.
    pub(crate) fn push_again(&mut self, mut forward: Box<Forward>, now: Time) {
        // Those of one connection together, others not all at once.
        let connection = forward.destination.connection.index() as u64;
        let spread = connection % (RETRY_MS_MAX - RETRY_MS_MIN + 1);
        forward.retry_at = now.plus_ms(RETRY_MS_MIN + spread);
        self.delayed.push(forward.destination);
        self.again.push_back(forward);
    }

    /// Keeps a command as it is.
    pub(crate) fn keep_again(&mut self, forward: Box<Forward>) {
        self.again.push_back(forward);
    }

    /// When the first of those that wait is due, if nothing changes. `epoch` is that of the topology in
    /// force.
    pub(crate) fn next_retry(&self, epoch: Epoch) -> Option<Time> {
        let able = self.again.iter().filter(|one| one.epoch_wanted <= epoch);
        able.map(|forward| forward.retry_at).min()
    }

    /// Whose commands have begun to wait since the last call.
    pub(crate) fn take_delayed(&mut self) -> Vec<Destination> {
        std::mem::take(&mut self.delayed)
    }

    /// Those that wait for a change, each connection's in the order of its commands.
    pub(crate) fn take_again(&mut self) -> VecDeque<Box<Forward>> {
        let mut again = std::mem::take(&mut self.again);
        again.make_contiguous().sort_by_key(|forward| {
            let destination = &forward.destination;
            (destination.connection, destination.target)
        });
        again
    }

    /// This node owns the keys of a command by now: it is to be executed here.
    pub(crate) fn give_back(&mut self, forward: Box<Forward>) {
        self.args_bytes -= forward.args.bytes_held();
        self.filled.push(Filled {
            destination: forward.destination,
            reply: Reply::Here(forward),
        });
    }

    /// A command that its node did not execute, and that is meant for no other. Whoever dealt out parts
    /// gets it back.
    pub(crate) fn drop_lost(&mut self, forward: Box<Forward>) {
        match forward.destination.target {
            Target::Part(_) => self.give_back(forward),
            Target::Hole(_) => self.fail(&forward, Failure::NotExecuted),
        }
    }

    /// Gives up what is past its deadline.
    pub(crate) fn expire(&mut self, now: Time) {
        for index in 0..self.places.len() {
            let place = &self.places[index];
            let is_late = |forward: &Forward| {
                forward.deadline <= now || forward.answer_by.is_some_and(|at| at <= now)
            };
            if place.forward.as_deref().is_some_and(is_late) {
                let index = u32::try_from(index).expect("16 bits");
                self.fail_at(RequestId(u32::from(place.generation) << 16 | index));
            }
        }
        for _ in 0..self.again.len() {
            let Some(forward) = self.again.pop_front() else {
                break;
            };
            if forward.deadline > now {
                self.again.push_back(forward);
            } else if forward.refused == Some(ForwardStatus::Down) {
                self.fail(&forward, Failure::Down);
            } else {
                self.fail(&forward, Failure::NotExecuted);
            }
        }
    }

    /// What came since the last call.
    pub(crate) fn take_filled(&mut self) -> Vec<Filled> {
        std::mem::take(&mut self.filled)
    }

    fn fail(&mut self, forward: &Forward, failure: Failure) {
        let failure = match failure {
            Failure::NotExecuted | Failure::Down if forward.may_be_executed() => Failure::Unknown,
            failure => failure,
        };
        self.counts.failed += 1;
        self.leave(forward, Reply::Failed(failure));
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{Epoch, NodeId, Range, Time};
    use fulmar_protocol::command::Argv;
    use fulmar_protocol::command::table::CommandId;
    use fulmar_protocol::node::{ForwardStatus, Part, Status};
    use fulmar_protocol::resp::RespVersion;

    use super::Target;
    use super::{
        Destination, FORWARD_MS_MAX, Failure, Forward, Forwards, LINGER_MS, Reply, RequestId,
    };
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
            CommandId::Get,
            args,
            is_idempotent,
            NODE,
            Some(Range::of(b"key")),
            Time(0),
        ))
    }

    #[test]
    fn only_a_read_by_the_owner_may_be_kept() {
        let mut forward = forward(0, true);
        for (id, is_keepable, may_write) in [
            (CommandId::Get, true, false),
            (CommandId::MGet, false, false),
            (CommandId::Set, false, true),
            (CommandId::FlushAll, false, true),
            (CommandId::Exec, false, true),
        ] {
            forward.id = id;
            forward.may_read_replica = false;
            assert_eq!(forward.is_keepable(), is_keepable, "{id:?}");
            assert_eq!(forward.may_write(), may_write, "{id:?}");
            forward.may_read_replica = true;
            assert!(!forward.is_keepable());
        }
    }

    fn insert(forwards: &mut Forwards, forward: Box<Forward>) -> RequestId {
        forwards.enter(&forward);
        put(forwards, forward, 5)
    }

    fn put(forwards: &mut Forwards, forward: Box<Forward>, epoch: u64) -> RequestId {
        let id = forwards.reserve();
        forwards.put(id, forward, Epoch(epoch));
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

    fn part(id: RequestId, offset: u64, bytes: &[u8], is_last: bool) -> Part<'_> {
        Part {
            stream: id.0,
            offset,
            bytes,
            is_last,
            is_aborted: false,
        }
    }

    fn status(id: RequestId, status: ForwardStatus, epoch: u64) -> Status {
        Status {
            request: id.0,
            status,
            epoch,
        }
    }

    /// Sends again what is due.
    fn send_again(
        forwards: &mut Forwards,
        now: Time,
        epoch: u64,
        has_changed: bool,
    ) -> Vec<RequestId> {
        let mut ids = Vec::new();
        for forward in forwards.take_again() {
            if forward.is_due(now, Epoch(epoch), has_changed) {
                ids.push(put(forwards, forward, epoch));
            } else {
                forwards.keep_again(forward);
            }
        }
        ids
    }

    #[test]
    fn replies_find_their_places_and_late_ones_none() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        let first = insert(&mut forwards, forward(1, true));
        let second = insert(&mut forwards, forward(2, true));
        assert_eq!(forwards.handle_reply(second, b"$5\r\nhe", false), Ok(()));
        assert_eq!(forwards.handle_reply(first, b"+OK\r\n", true), Ok(()));
        // What does not follow changes nothing.
        assert!(forwards.handle_reply(second, b"again", false).is_err());
        assert!(forwards.handle_part(&part(second, 1, b"l", false)).is_err());
        assert_eq!(forwards.handle_part(&part(second, 0, b"ll", false)), Ok(()));
        assert_eq!(
            forwards.handle_part(&part(second, 2, b"o\r\n", true)),
            Ok(())
        );
        let expected = [
            (1, Ok(b"+OK\r\n".to_vec())),
            (2, Ok(b"$5\r\nhello\r\n".to_vec())),
        ];
        assert_eq!(filled(&mut forwards), expected);
        let third = insert(&mut forwards, forward(3, true));
        assert_ne!(third, second, "the place is the same, the id is not");
        assert_eq!(forwards.handle_reply(second, b"late", true), Ok(()));
        assert_eq!(
            forwards.handle_reply(RequestId(u32::MAX), b"never", true),
            Ok(())
        );
        assert!(
            forwards
                .handle_part(&part(third, 0, b"no beginning", true))
                .is_err()
        );
        assert!(filled(&mut forwards).is_empty());
    }

    #[test]
    fn a_write_that_was_sent_once_is_never_said_not_to_be_executed() {
        for (id, was_open, expected) in [
            (CommandId::Set, true, Failure::Unknown),
            (CommandId::Set, false, Failure::NotExecuted),
            (CommandId::Get, true, Failure::NotExecuted),
        ] {
            let mut forwards = Forwards::new(1_000, 1_000_000);
            let mut sent = forward(1, true);
            sent.id = id;
            insert(&mut forwards, sent);
            forwards.handle_broken(NODE, was_open, Time(0));
            assert!(filled(&mut forwards).is_empty(), "it is tried again");
            forwards.expire(Time(FORWARD_MS_MAX));
            assert_eq!(filled(&mut forwards), [(1, Err(expected))], "{id:?}");
        }
    }

    #[test]
    fn arguments_take_so_much_memory_until_their_commands_are_over() {
        let bytes = forward(1, true).args.bytes_held();
        let mut forwards = Forwards::new(1_000, 3 * bytes);
        let first = insert(&mut forwards, forward(1, true));
        insert(&mut forwards, forward(2, true));
        assert!(forwards.has_room(1));
        let third = insert(&mut forwards, forward(3, true));
        assert!(!forwards.has_room(1));
        // One that is tried again is there still.
        forwards.handle_status(
            &status(third, ForwardStatus::TryAgain, 5),
            Epoch(5),
            Time(0),
        );
        assert!(!forwards.has_room(1));
        assert_eq!(forwards.handle_reply(first, b"+OK\r\n", true), Ok(()));
        assert!(forwards.has_room(1));
        for again in forwards.take_again() {
            forwards.give_back(again);
        }
        forwards.expire(Time(FORWARD_MS_MAX));
        assert_eq!((forwards.args_bytes, forwards.count()), (0, 0));
    }

    #[test]
    fn replies_in_parts_take_so_much_memory_and_no_more() {
        let mut forwards = Forwards::new(100, 1_000_000);
        let first = insert(&mut forwards, forward(1, true));
        let second = insert(&mut forwards, forward(2, true));
        assert_eq!(forwards.handle_reply(first, &[b'1'; 60], false), Ok(()));
        assert_eq!(forwards.handle_reply(second, &[b'2'; 41], false), Ok(()));
        assert_eq!(filled(&mut forwards), [(2, Err(Failure::Unknown))]);
        // What still comes of it is dropped, and the other one goes on.
        assert_eq!(forwards.handle_part(&part(second, 0, b"x", true)), Ok(()));
        assert_eq!(
            forwards.handle_part(&part(first, 0, &[b'1'; 40], false)),
            Ok(())
        );
        assert_eq!(
            forwards.handle_part(&part(first, 40, &[b'1'; 5], true)),
            Ok(())
        );
        assert_eq!(filled(&mut forwards), [(1, Ok(vec![b'1'; 105]))]);
        let third = insert(&mut forwards, forward(3, true));
        assert_eq!(forwards.handle_reply(third, &[b'3'; 100], false), Ok(()));
        assert!(filled(&mut forwards).is_empty(), "all was given back");
    }

    #[test]
    fn a_broken_link_leaves_idempotent_commands_to_be_sent_again() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        insert(&mut forwards, forward(1, true));
        insert(&mut forwards, forward(2, false));
        forwards.handle_broken(NodeId(9), true, Time(0));
        forwards.handle_broken(NODE, true, Time(0));
        assert_eq!(filled(&mut forwards), [(2, Err(Failure::Unknown))]);
        assert_eq!(forwards.take_again().len(), 1);
        assert!(!forwards.has_some_to_send_again());
    }

    #[test]
    fn what_a_link_that_never_opened_took_was_not_executed() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        insert(&mut forwards, forward(1, false));
        forwards.handle_broken(NODE, false, Time(0));
        assert!(filled(&mut forwards).is_empty());
        assert_eq!(forwards.take_again().len(), 1);
    }

    #[test]
    fn refusals_of_a_node_that_is_behind_or_not_serving_do_not_count() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        let mut id = insert(&mut forwards, forward(1, false));
        let mut now = Time(0);
        for round in 0..40 {
            let why = [
                ForwardStatus::Moved,
                ForwardStatus::TryAgain,
                ForwardStatus::OtherIncarnation,
                ForwardStatus::Down,
            ];
            forwards.handle_status(&status(id, why[round % 4], 4), Epoch(5), now);
            assert!(send_again(&mut forwards, now.plus_ms(19), 5, false).is_empty());
            now = now.plus_ms(50);
            let ids = send_again(&mut forwards, now, 5, false);
            assert_eq!(ids.len(), 1, "round {round}");
            id = ids[0];
        }
        assert!(filled(&mut forwards).is_empty());
        // A change is not waited for.
        forwards.handle_status(&status(id, ForwardStatus::Moved, 4), Epoch(5), now);
        assert_eq!(send_again(&mut forwards, now, 6, true).len(), 1);
        forwards.expire(Time(FORWARD_MS_MAX));
        assert_eq!(filled(&mut forwards), [(1, Err(Failure::Unknown))]);
    }

    #[test]
    fn the_topology_of_who_knows_more_is_waited_for() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        let id = insert(&mut forwards, forward(1, false));
        forwards.handle_status(&status(id, ForwardStatus::Moved, 9), Epoch(5), Time(0));
        assert!(send_again(&mut forwards, Time(1_000), 8, true).is_empty());
        assert_eq!(send_again(&mut forwards, Time(1_000), 9, true).len(), 1);
        assert!(filled(&mut forwards).is_empty());
    }

    #[test]
    fn an_owner_of_the_same_topology_that_is_none_is_asked_twice() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        let id = insert(&mut forwards, forward(1, false));
        forwards.handle_status(&status(id, ForwardStatus::Moved, 5), Epoch(5), Time(0));
        let ids = send_again(&mut forwards, Time(50), 5, false);
        assert!(filled(&mut forwards).is_empty());
        forwards.handle_status(&status(ids[0], ForwardStatus::Moved, 5), Epoch(5), Time(50));
        assert_eq!(filled(&mut forwards), [(1, Err(Failure::NotExecuted))]);
    }

    #[test]
    fn those_of_a_connection_are_tried_again_in_their_order() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        // Places are given back in the order of the replies, and taken in the other.
        let ids: Vec<RequestId> = (0..3)
            .map(|part| insert(&mut forwards, forward(part, true)))
            .collect();
        for id in ids {
            assert_eq!(forwards.handle_reply(id, b"+OK\r\n", true), Ok(()));
        }
        for part in 3..6 {
            insert(&mut forwards, forward(part, true));
        }
        forwards.handle_broken(NODE, true, Time(0));
        let again = forwards.take_again();
        let order = again.iter().map(|one| one.destination.target);
        assert!(order.eq([3, 4, 5].map(Target::Part)));
    }

    #[test]
    fn a_refusal_that_came_with_a_new_topology_does_not_count() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        let mut id = insert(&mut forwards, forward(1, false));
        // Sent with one topology, refused with the next, which is here by then, too.
        for epoch in 6..16 {
            forwards.handle_status(
                &status(id, ForwardStatus::Moved, epoch),
                Epoch(epoch),
                Time(0),
            );
            let ids = send_again(&mut forwards, Time(50), epoch, false);
            assert_eq!(ids.len(), 1, "epoch {epoch}");
            id = ids[0];
        }
        assert!(filled(&mut forwards).is_empty());
    }

    #[test]
    fn a_node_that_handed_its_keys_over_says_what_became_of_a_command() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        insert(&mut forwards, forward(1, true));
        let once = insert(&mut forwards, forward(2, false));
        let is_owner = |_, _| false;
        forwards.handle_owners(Time(0), is_owner, |node| node == NODE);
        assert_eq!(forwards.take_again().len(), 1, "the first is sent again");
        assert_eq!(forwards.handle_reply(once, b":2\r\n", true), Ok(()));
        // One that has left lingers, and says that it was not executed, or does not say anything any more.
        let id = insert(&mut forwards, forward(3, false));
        insert(&mut forwards, forward(4, false));
        forwards.handle_owners(Time(0), is_owner, |_| false);
        forwards.handle_status(&status(id, ForwardStatus::Moved, 6), Epoch(6), Time(0));
        assert_eq!(forwards.take_again().len(), 1, "the third is sent again");
        forwards.expire(Time(LINGER_MS - 1));
        assert_eq!(filled(&mut forwards), [(2, Ok(b":2\r\n".to_vec()))]);
        forwards.expire(Time(LINGER_MS));
        assert_eq!(filled(&mut forwards), [(4, Err(Failure::Unknown))]);
    }

    #[test]
    fn at_the_deadline_clients_are_told_what_is_known() {
        let mut forwards = Forwards::new(1_000, 1_000_000);
        for (number, why) in [(1, ForwardStatus::Down), (2, ForwardStatus::TryAgain)] {
            let id = insert(&mut forwards, forward(number, true));
            forwards.handle_status(&status(id, why, 5), Epoch(5), Time(0));
        }
        let id = insert(&mut forwards, forward(3, true));
        insert(&mut forwards, forward(4, true));
        forwards.handle_status(&status(id, ForwardStatus::Refused, 5), Epoch(5), Time(0));
        assert_eq!(filled(&mut forwards), [(3, Err(Failure::TooLong))]);
        forwards.expire(Time(FORWARD_MS_MAX - 1));
        assert!(filled(&mut forwards).is_empty());
        forwards.expire(Time(FORWARD_MS_MAX));
        let mut failed = filled(&mut forwards);
        failed.sort_by_key(|(number, _)| *number);
        let expected = [
            (1, Err(Failure::Down)),
            (2, Err(Failure::NotExecuted)),
            (4, Err(Failure::Unknown)),
        ];
        assert_eq!(failed, expected);
    }
}
