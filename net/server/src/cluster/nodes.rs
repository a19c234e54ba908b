//! One core's way to the other nodes: what it knows of them, its links, and the commands on their way.

use std::net::SocketAddr;
use std::sync::Arc;

use fulmar_cluster::coordinator::timing::PAUSE_MS;
use fulmar_cluster::{Epoch, ShardIndex, Time};
use fulmar_protocol::node::{
    Fence, ForwardHead, ForwardOptions, HOPS_MAX, OutOfStep, Part, Purpose, Reply, ReplyForm,
    Status,
};
use fulmar_protocol::resp::RespVersion;
use fulmar_shard::{Now, Shard};

use super::command::{self, Budget};
use super::forwards::{Destination, Filled, Forward, ForwardCounts, Forwards, RequestId};
use super::greeting::Own;
use super::hot_copies::{HotCopies, SentRead};
use super::links::{Care, Ended, LinkName, Links, Peer};
use super::replicate::{Broken, replicate};
use super::shared::Shared;
use super::view::{CachedView, Owner, View};
use crate::message;
use crate::ring::ConnectionId;

/// See the module's head.
pub(crate) struct Nodes<'n> {
    shared: &'n Shared,
    view: CachedView,
    links: Links,
    forwards: Forwards,
    /// `None` if none are kept.
    hot_copies: Option<HotCopies>,
    now: Time,
    /// The view or a link has changed, so that what waits may be sent.
    has_changed: bool,
    broken: Broken,
    /// Which core this is, of how many.
    core: ShardIndex,
    cores: u16,
    /// What the long commands of other nodes may take.
    pub(crate) budget: Budget,
    /// Connections whose commands wait for the topology or the end of a hold.
    held: Vec<ConnectionId>,
    held_until: Time,
    /// When a full sync goes on that keeps its pace.
    sync_at: Option<Time>,
    is_timer_set: bool,
}

/// How often what is held is tried.
const HELD_MS: u64 = 5;
/// The timer is never set further ahead: what is held meanwhile must not wait for it.
const TIMER_MS_MAX: u64 = 10;

impl<'n> Nodes<'n> {
    pub(crate) fn new(
        shared: &'n Shared,
        core: ShardIndex,
        cores: u16,
        value_bytes_max: usize,
        hot_copies: Option<HotCopies>,
    ) -> Self {
        let bytes_max = command::core_bytes_max(value_bytes_max);
        Self {
            shared,
            core,
            cores,
            budget: Budget::new(bytes_max),
            held: Vec::new(),
            held_until: Time(0),
            sync_at: None,
            is_timer_set: false,
            view: CachedView::default(),
            links: Links::default(),
            forwards: Forwards::new(bytes_max, bytes_max),
            hot_copies,
            now: Time(0),
            has_changed: false,
            broken: Broken::default(),
        }
    }

    pub(crate) fn shared(&self) -> &'n Shared {
        self.shared
    }

    /// What this core says of itself to others.
    pub(crate) fn own(&self) -> Own<'n> {
        Own {
            secret: &self.shared.secret,
            cluster: self.shared.cluster(),
            node: self.shared.own,
            incarnation: self.shared.incarnation,
            cores: self.cores,
            core: self.core.0,
        }
    }

    /// The epoch of the topology in force; 0 before the first.
    pub(crate) fn epoch(&self) -> Epoch {
        let view = self.view.get();
        view.map_or(Epoch(0), |view| view.topology().epoch())
    }

    /// The topology in force for this turn; `None` before the first.
    #[inline]
    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.view.get()
    }

    /// When this turn began.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    // --- one turn ---

    /// Takes over what has changed.
    #[inline]
    pub(crate) fn start_turn(&mut self, now: Time) {
        // A core sleeps for a tick at most.
        if now.ms_since(self.now) > PAUSE_MS && self.now > Time(0) {
            self.shared.note_asleep();
        }
        self.now = now;
        if self.view.refresh(&self.shared.views) {
            self.has_changed = true;
            self.reroute();
        }
    }

    /// What is on its way to a node that does not own its keys any more is not waited for.
    fn reroute(&mut self) {
        if let Some(view) = self.view.get() {
            let topology = view.topology();
            let is_owner = |node, range| topology.copies(range).primary == node;
            let is_member = |node| topology.member(node).is_some();
            self.forwards.handle_owners(self.now, is_owner, is_member);
            if let Some(copies) = &mut self.hot_copies {
                copies.handle_owners(self.now, is_owner);
            }
        }
    }

    /// Sends what waited for a change, or is to be tried again.
    pub(crate) fn turn(&mut self) {
        let is_time = self.has_changed || !self.is_timer_set;
        if is_time && self.forwards.has_some_to_send_again() {
            self.send_again();
        }
    }

    /// The connections whose commands may be executed by now.
    pub(crate) fn take_woken(&mut self) -> Vec<ConnectionId> {
        let mut woken = self.budget.take_woken();
        if self.has_changed || self.now >= self.held_until {
            woken.append(&mut self.held);
        }
        self.has_changed = false;
        woken
    }

    /// Tries the commands of a connection again after a while, or when the topology has changed.
    pub(crate) fn hold(&mut self, connection: ConnectionId) {
        if self.held.is_empty() {
            self.held_until = self.now.plus_ms(HELD_MS);
        }
        if !self.held.contains(&connection) {
            self.held.push(connection);
        }
    }

    /// When to be woken; asked at a turn's end. One timer at a time.
    pub(crate) fn timer_wanted(&mut self) -> Option<Time> {
        if self.is_timer_set {
            return None;
        }
        let held = (!self.held.is_empty()).then_some(self.held_until);
        let retry = self.forwards.next_retry(self.epoch());
        let at = [held, retry, self.sync_at].into_iter().flatten().min()?;
        self.is_timer_set = true;
        Some(at.clamp(self.now.plus_ms(1), self.now.plus_ms(TIMER_MS_MAX)))
    }

    /// The timer has come.
    pub(crate) fn timer_came(&mut self) {
        self.is_timer_set = false;
    }

    /// Once a tick: gives up what is late. Gives the links for which something is to be done.
    pub(crate) fn tick(&mut self) -> Vec<(ConnectionId, Care)> {
        self.forwards.expire(self.now);
        if let Some(copies) = &mut self.hot_copies {
            copies.expire(self.now);
        }
        let mut cares = Vec::new();
        for (id, care, ended) in self.links.care(self.now) {
            if care == Care::Break {
                self.note_broken(ended);
            }
            cares.push((id, care));
        }
        if let Some(view) = self.view.get() {
            self.links
                .retain(self.now, |node| view.topology().member(node).is_some());
        }
        cares
    }

    /// Memory of what waits for links and of the commands on their way.
    pub(crate) fn held_bytes(&self) -> usize {
        let copies = self.hot_copies.as_ref().map_or(0, HotCopies::held_bytes);
        self.links.held_bytes() + self.forwards.held_bytes() + copies
    }

    /// The values of other nodes' hot keys, if any are kept.
    pub(crate) fn hot_copies(&self) -> Option<&HotCopies> {
        self.hot_copies.as_ref()
    }

    /// The value of another node's key, if this core may give it to a client at `now`.
    #[inline]
    pub(crate) fn read_copy(
        &mut self,
        key: &[u8],
        connection: ConnectionId,
        now: Time,
    ) -> Option<&[u8]> {
        self.hot_copies.as_mut()?.read(key, connection, now)
    }

    pub(crate) fn forward_counts(&self) -> ForwardCounts {
        self.forwards.counts()
    }

    // --- commands ---

    /// Whether so many more commands may be sent on. If not, this connection is told when to ask again.
    pub(crate) fn has_room(&mut self, count: usize, connection: ConnectionId) -> bool {
        let has_room = self.forwards.has_room(count);
        if !has_room {
            self.hold(connection);
        }
        has_room
    }

    /// Sends a command to another node, now or as soon as it can be reached.
    pub(crate) fn forward(&mut self, forward: Forward) {
        self.forwards.enter(&forward);
        self.note_written(&forward);
        if let Some(forward) = self.send(Box::new(forward)) {
            self.forwards.push_again(forward, self.now);
        }
    }

    /// Keeps a command that could not be executed here yet. One for which there is no room fails.
    pub(crate) fn keep(&mut self, forward: Box<Forward>) {
        let has_room = self.forwards.has_room(1);
        self.forwards.enter(&forward);
        if has_room {
            self.forwards.push_again(forward, self.now);
        } else {
            self.forwards.drop_lost(forward);
        }
    }

    /// A command is about to be sent, or to wait for that: no copy is older than what it writes.
    fn note_written(&mut self, forward: &Forward) {
        if let Some(copies) = &mut self.hot_copies
            && forward.may_write()
        {
            let now = self.now;
            forward
                .args
                .with_argv(|argv| copies.handle_command(argv.args, now));
        }
    }

    fn send(&mut self, mut forward: Box<Forward>) -> Option<Box<Forward>> {
        let Some(view) = self.view.get() else {
            return Some(forward);
        };
        let Some(target) = view.topology().member(forward.node) else {
            if forward.range.is_some() {
                return Some(forward);
            }
            self.forwards.drop_lost(forward);
            return None;
        };
        let epoch = view.topology().epoch();
        let fence = Fence {
            epoch: epoch.0,
            sender_incarnation: self.shared.incarnation.0,
            target_incarnation: target.incarnation.0,
        };
        let name = Peer::Node(forward.node).link_for(Purpose::Forward);
        let Some(writer) = self.links.writer(name, self.now) else {
            return Some(forward);
        };
        let version = match forward.destination.form {
            message::ReplyForm::Resp(version) | message::ReplyForm::Node { version, .. } => version,
            message::ReplyForm::Http(_) => RespVersion::Resp2,
        };
        let options = ForwardOptions {
            form: match version {
                RespVersion::Resp2 => ReplyForm::Resp2,
                RespVersion::Resp3 => ReplyForm::Resp3,
            },
            hops: forward.hops().min(HOPS_MAX),
            may_read_replica: forward.may_read_replica,
            is_local: forward.range.is_none(),
        };
        let id = self.forwards.reserve();
        let copies = self.hot_copies.as_mut();
        let copies = copies.filter(|_| forward.is_keepable());
        let copy_reads = forward.args.with_argv(|argv| {
            let copy_reads = copies.map(|copies| copies.take_reads(argv.args[1]));
            let head = ForwardHead {
                fence,
                options,
                copy_reads,
            };
            command::encode(writer, id.0, &head, argv.args);
            copy_reads
        });
        forward.keepable_since = copy_reads.map(|_| self.now);
        self.forwards.put(id, forward, epoch);
        None
    }

    fn send_again(&mut self) {
        let epoch = self.epoch();
        // Those of a connection come one behind the other.
        let mut waiting = None;
        for mut forward in self.forwards.take_again() {
            let connection = Some(forward.destination.connection);
            let is_due = forward.is_due(self.now, epoch, self.has_changed);
            if !is_due || waiting == connection {
                waiting = connection;
                self.forwards.keep_again(forward);
                continue;
            }
            let view = self.view.get();
            match view
                .zip(forward.range)
                .map(|(view, range)| view.owner(range))
            {
                Some(Owner::Own) => {
                    self.forwards.give_back(forward);
                    continue;
                }
                Some(Owner::Node(node)) => forward.node = node,
                None => {}
            }
            self.note_written(&forward);
            if let Some(forward) = self.send(forward) {
                waiting = connection;
                self.forwards.push_again(forward, self.now);
            }
        }
    }

    /// Sends what the own shard has for its copies elsewhere; true if there is more.
    pub(crate) fn replicate(&mut self, shard: &mut Shard, now: Now) -> bool {
        let left = replicate(shard, &mut self.links, &mut self.broken, now);
        self.sync_at = left.sync_at;
        left.is_more
    }

    // --- what links bring ---

    /// # Errors
    /// It does not follow from what came before.
    pub(crate) fn handle_reply(&mut self, reply: &Reply<'_>) -> Result<(), OutOfStep> {
        let id = RequestId(reply.request);
        self.keep_copy(id, reply);
        self.forwards.handle_reply(id, reply.bytes, reply.is_last)
    }

    /// A reply in several parts is too long to be kept.
    fn keep_copy(&mut self, id: RequestId, reply: &Reply<'_>) {
        let Some(copies) = &mut self.hot_copies else {
            return;
        };
        if reply.keep_ms.is_none() && copies.is_empty() {
            return;
        }
        if let Some((forward, at)) = self.forwards.keepable(id) {
            let node = forward.node;
            let keep_ms = reply.keep_ms.filter(|_| reply.is_last);
            forward.args.with_argv(|argv| {
                let read = SentRead { node, at };
                copies.handle_reply(argv.args[1], reply.bytes, keep_ms, read, self.now);
            });
        }
    }

    /// # Errors
    /// It does not follow from what came before.
    pub(crate) fn handle_part(&mut self, part: &Part<'_>) -> Result<(), OutOfStep> {
        self.forwards.handle_part(part)
    }

    pub(crate) fn handle_status(&mut self, status: &Status) {
        let epoch = self.epoch();
        self.forwards.handle_status(status, epoch, self.now);
    }

    /// Whose commands have begun to wait.
    pub(crate) fn take_delayed(&mut self) -> Vec<Destination> {
        self.forwards.take_delayed()
    }

    pub(crate) fn take_filled(&mut self) -> Vec<Filled> {
        self.forwards.take_filled()
    }

    // --- links ---

    /// Where the members' messages to a peer go; `None` while it cannot be reached, or too much waits.
    pub(crate) fn control_writer(&mut self, peer: Peer) -> Option<&mut Vec<u8>> {
        self.links.writer(peer.link_for(Purpose::Control), self.now)
    }

    pub(crate) fn take_wanted_links(&mut self) -> Vec<(u32, LinkName)> {
        self.links.take_wanted(self.now)
    }

    /// Where a peer listens for others.
    pub(crate) fn address_of(&self, peer: Peer) -> Option<SocketAddr> {
        match peer {
            Peer::Node(node) => self.shared.address_of(node),
            Peer::Seed(place) => self.shared.config.join.get(usize::from(place)).copied(),
        }
    }

    pub(crate) fn link_connected(&mut self, name: LinkName, id: ConnectionId) {
        self.links.connected(name, id, self.now);
    }

    /// The other side of a link has proven who it is.
    pub(crate) fn link_opened(&mut self, id: ConnectionId) {
        self.links.opened(id);
        self.has_changed = true;
    }

    /// Something came on a link.
    #[inline]
    pub(crate) fn link_heard(&mut self, id: ConnectionId) {
        self.links.heard(id, self.now);
    }

    pub(crate) fn link_failed(&mut self, name: LinkName) {
        self.links.failed(name, self.now);
        let was_open = false;
        self.note_broken(Ended { name, was_open });
    }

    pub(crate) fn link_ended(&mut self, id: ConnectionId, is_refused: bool) {
        if let Some(ended) = self.links.ended(id, is_refused, self.now) {
            self.note_broken(ended);
        }
    }

    fn note_broken(&mut self, ended: Ended) {
        let Peer::Node(node) = ended.name.peer else {
            return;
        };
        match ended.name.purpose {
            Purpose::Forward => {
                self.forwards.handle_broken(node, ended.was_open, self.now);
            }
            Purpose::Replicate => self.broken.note(node),
            // The coordinator says everything again.
            Purpose::Control => {}
        }
    }

    pub(crate) fn flush_links(&mut self, send: impl FnMut(ConnectionId, &mut Vec<u8>) -> usize) {
        self.links.flush(send);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use fulmar_cluster::{Incarnation, NodeId, Range, ShardIndex, Time, Zone};
    use fulmar_protocol::command::Argv;
    use fulmar_protocol::command::table::CommandId;
    use fulmar_protocol::node::Purpose;
    use fulmar_protocol::resp::RespVersion;
    use fulmar_shard::session::{MemberPorts, MemberView};

    use super::Nodes;
    use crate::cluster::config::{ClusterConfig, Minority};
    use crate::cluster::forwards::{Destination, Forward, Target};
    use crate::cluster::hot_copies::{HotCopies, SentRead};
    use crate::cluster::links::Peer;
    use crate::cluster::shared::Shared;
    use crate::cluster::way::tests::view;
    use crate::message::ReplyForm;
    use crate::pending::Pending;
    use crate::ring::ConnectionId;

    const OTHER: NodeId = NodeId(2);

    /// Node 1 of the view that has `foo`; node 2 has `bar`.
    fn shared() -> Shared {
        let config = ClusterConfig {
            port: 0,
            announce_host: String::new(),
            announce_port: None,
            join: Vec::new(),
            bootstrap_expect: None,
            replicas: 1,
            zone: Zone::default(),
            weight: 1,
            directory: "".into(),
            minority: Minority::Serve,
            rebuild_delay: Duration::ZERO,
            secret: Vec::new(),
        };
        let ports = MemberPorts {
            resp: 1,
            replica: 2,
            http: None,
            cluster: 3,
        };
        let member_view = MemberView::new("host".into(), ports, true);
        let shared = Shared::new(config, NodeId(1), Incarnation(1), member_view);
        shared.views.publish(Arc::new(view()));
        shared
    }

    #[test]
    fn a_write_that_waits_to_be_sent_ends_the_copy() {
        let shared = shared();
        let copies = HotCopies::new(250, 1 << 30);
        let mut nodes = Nodes::new(&shared, ShardIndex(0), 1, 1 << 20, Some(copies));
        let connection = ConnectionId::new(1, 0);
        let (key, now) = (b"bar", Time(1_000));
        nodes.start_turn(now);
        // The other node cannot be reached for a while.
        nodes.link_failed(Peer::Node(OTHER).link_for(Purpose::Forward));
        let read = SentRead {
            node: OTHER,
            at: now,
        };
        let copies = nodes.hot_copies.as_mut().expect("given");
        copies.handle_reply(key, b"$1\r\nv\r\n", Some(250), read, now);
        assert_eq!(nodes.read_copy(key, connection, now), Some(&b"v"[..]));
        let argv = Argv {
            args: &[b"SET", key, b"w"],
            staged: &[],
        };
        let destination = Destination {
            connection,
            target: Target::Part(0),
            form: ReplyForm::Resp(RespVersion::Resp2),
        };
        let args = Pending::new(&argv, Vec::new());
        let range = Some(Range::of(key));
        nodes.forward(Forward::new(
            destination,
            CommandId::Set,
            args,
            true,
            OTHER,
            range,
            now,
        ));
        assert_eq!(nodes.forward_counts().sent, 0, "it waits");
        assert_eq!(nodes.read_copy(key, connection, now), None);
    }
}
