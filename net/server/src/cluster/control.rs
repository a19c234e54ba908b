//! The first core's extra duty: it runs the coordinator and the membership of its node, and carries
//! out what they ask for.
//!
//! ```text
//! datagrams, mail, disk, timer --> Coordinator, Membership --> events
//!     events: datagrams, messages over links, states to persist, tasks on shards, a new view
//! ```
//! Tasks on shards need their tokens: they are done in order, each shard as its token can be had, over
//! as many turns as that takes.

use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use fulmar_cluster::coordinator::timing::LEAVE_MS;
use fulmar_cluster::coordinator::{
    Coordinator, Event as Asked, SealedPosition, Serving as Standing,
};
use fulmar_cluster::datagram::{DatagramKind, open_datagram, seal_datagram};
use fulmar_cluster::decision::Ballot;
use fulmar_cluster::membership::{Event, Identity, Membership};
use fulmar_cluster::message::{Envelope, HandOver};
use fulmar_cluster::{ClusterId, Copies, Member, NodeId, Range, ShardIndex, Time, Topology};
use fulmar_protocol::node::{CONTROL_BYTES_MAX, Encoder};
use fulmar_shard::session::{ClusterStatus, ClusterView, MemberPorts, MemberView};
use fulmar_shard::{Now, Shard};

use super::desk::{Request, Told};
use super::disk::Disk;
use super::forwards::LINGER_MS;
use super::links::Peer;
use super::shared::{Serving, Shared};
use super::state::State;
use super::view::View;
use crate::dispatch::Dispatcher;
use crate::node::Node;
use crate::token::Tokens;

/// Messages handled in a turn.
const MAIL_PER_TURN: usize = 64;
/// Longest time between two looks at the clock: what becomes due meanwhile waits so long.
const LOOK_MS: u64 = 25;
/// How often copies are looked at.
const COPIES_LOOK_MS: u64 = 50;
/// How often the addresses of `--join` are called while nobody is known.
const CALL_MS: u64 = 500;
/// How much later than the others, who drop a leaving node then, it stops by itself.
const LEFT_LATE_MS: u64 = 1_000;

/// Clients are sent to a node that has not shown the topology after so long.
const INFORM_MS_MAX: u64 = 500;
/// The same by a node that has left: it hears nobody any more, and a quorum has shown the topology.
const LEFT_INFORM_MS: u64 = 50;

/// What shards are to do, one after the other.
enum Work {
    /// Act on a topology.
    Install(Arc<Topology>),
    /// Follow these nodes no more, and tell how far the copies are.
    Seal {
        serial: u64,
        nodes: Vec<NodeId>,
        ranges: Vec<Range>,
        positions: Vec<SealedPosition>,
    },
    /// Hold the writes of these ranges until their next primaries have everything.
    Hold(Ballot, Vec<HandOver>),
    /// Execute what was held.
    Release,
}

/// What a turn of control asks of its core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    /// A timer at this time.
    pub(crate) timer: Option<Time>,
    /// All cores are to look at what is new.
    pub(crate) wake_all: bool,
}

struct Task {
    work: Work,
    /// Shards that have not done it.
    left: Vec<ShardIndex>,
}

impl Task {
    fn is_install(&self) -> bool {
        matches!(self.work, Work::Install(_))
    }
}

/// See the module's head.
pub(crate) struct Control<'n> {
    node: &'n Node,
    shared: &'n Shared,
    coordinator: Coordinator,
    membership: Membership,
    udp: UdpSocket,
    disk: Disk,
    /// What is known of the other nodes, gone ones included.
    known: BTreeMap<NodeId, Arc<Identity>>,
    /// When to call the addresses of `--join` again.
    call_at: Time,
    tasks: VecDeque<Task>,
    installed: Option<Arc<Topology>>,
    /// The view that the cores were given last, and when.
    published: Option<(Time, Arc<View>)>,
    /// The members, or how this node stands, have changed since the view was made.
    is_view_old: bool,
    is_timer_set: bool,
    silent: Vec<NodeId>,
    /// What the cores were last told.
    told: Told,
    /// The members know that this node has left.
    has_left: bool,
    wake_all: bool,
    /// Hand-overs whose writes are held, and whose next primaries have not caught up.
    held: Option<(Ballot, Vec<HandOver>)>,
    /// Since when it hands over what it has, to stop.
    leaving_since: Option<Time>,
    /// Since when nobody needs it for that.
    left_at: Option<Time>,
    /// This node has copies that are being filled.
    has_learners: bool,
    looked_at: Time,
    /// When a core found that it had slept, until a quorum has answered since.
    woken_at: Option<Time>,
}

/// What control is made from.
pub(crate) struct Parts {
    pub(crate) coordinator: Coordinator,
    pub(crate) membership: Membership,
    pub(crate) udp: UdpSocket,
    pub(crate) disk: Disk,
}

impl<'n> Control<'n> {
    pub(crate) fn new(node: &'n Node, shared: &'n Shared, parts: Parts) -> Self {
        Self {
            node,
            shared,
            coordinator: parts.coordinator,
            membership: parts.membership,
            udp: parts.udp,
            disk: parts.disk,
            known: BTreeMap::new(),
            call_at: Time(0),
            tasks: VecDeque::new(),
            installed: None,
            published: None,
            is_view_old: false,
            is_timer_set: false,
            silent: Vec::new(),
            told: Told::default(),
            has_left: false,
            wake_all: false,
            held: None,
            leaving_since: None,
            left_at: None,
            has_learners: false,
            looked_at: Time(0),
            woken_at: None,
        }
    }

    /// Where datagrams come.
    pub(crate) fn udp_fd(&self) -> RawFd {
        self.udp.as_raw_fd()
    }

    /// Readable when a state is on the disk.
    pub(crate) fn disk_fd(&self) -> RawFd {
        self.disk.event().as_raw_fd()
    }

    // --- what happened ---

    /// A datagram of another node, or of anyone.
    pub(crate) fn handle_datagram(&mut self, bytes: &[u8], now: Time) {
        match open_datagram(&self.shared.secret, bytes) {
            Ok(datagram) if datagram.kind == DatagramKind::Heartbeat => {
                self.coordinator.handle_datagram(now, datagram.payload);
            }
            // It counts what is damaged, forged or foreign.
            _ => self.membership.handle_datagram(bytes, now),
        }
    }

    /// The timer has come.
    pub(crate) fn timer_came(&mut self) {
        self.is_timer_set = false;
    }

    /// Something is on the disk.
    pub(crate) fn handle_disk(&mut self, now: Time) {
        let done = self.disk.take_done();
        if let Some(serial) = done.ticket {
            self.coordinator.handle_persisted(now, serial);
        }
        if let Some(error) = done.error {
            // What depends on it is not sent: to the others this node does not vote.
            tracing::error!(%error, "the node's state cannot be written; it is tried again");
        }
    }

    // --- one turn ---

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Time, dispatcher: &mut Dispatcher<'n>) -> Wanted {
        if self.shared.take_asleep() {
            self.woken_at = Some(now);
            self.coordinator.confirm(now);
        }
        for _ in 0..MAIL_PER_TURN {
            let Some(mail) = self.shared.take_mail() else {
                break;
            };
            if let Ok(envelope) = Envelope::decode(&mail.message)
                && envelope.from == mail.from
            {
                self.coordinator.handle_message(now, envelope);
            }
        }
        if now >= self.coordinator.next_deadline() {
            self.coordinator.handle_timeout(now);
        }
        if self.membership.next_deadline().is_some_and(|at| now >= at) {
            self.membership.handle_timeout(now);
        }
        self.follow_membership(now);
        self.follow_operators(now);
        self.follow_coordinator(dispatcher);
        while self.do_tasks(now, dispatcher.now()) {
            self.follow_coordinator(dispatcher);
        }
        self.look_at_copies(now);
        self.follow_coordinator(dispatcher);
        self.stand(now);
        self.stop_if_left(now);
        Wanted {
            timer: self.next_timer(now),
            wake_all: std::mem::take(&mut self.wake_all),
        }
    }

    fn next_timer(&mut self, now: Time) -> Option<Time> {
        if std::mem::replace(&mut self.is_timer_set, true) {
            return None;
        }
        let coordinator = self.coordinator.next_deadline();
        let membership = self.membership.next_deadline();
        let at = membership.map_or(coordinator, |at| at.min(coordinator));
        Some(at.clamp(now.plus_ms(1), now.plus_ms(LOOK_MS)))
    }

    fn follow_operators(&mut self, now: Time) {
        while let Some(request) = self.shared.desk.take() {
            tracing::info!(?request, "asked by an operator");
            match request {
                Request::Leave => {
                    self.leaving_since.get_or_insert(now);
                    self.coordinator.handle_leave(now);
                }
                Request::Adopt => {
                    let cluster = getrandom::u64().map(ClusterId);
                    let is_adopted = cluster.is_ok_and(|id| self.coordinator.handle_adopt(now, id));
                    if !is_adopted {
                        tracing::warn!("there was no branch of this node to adopt any more");
                    }
                }
                Request::Steer(moves) => self.coordinator.handle_steer(now, moves),
                Request::FailOver => {
                    self.coordinator.handle_fail_over(now);
                }
            }
        }
    }

    /// Stops the node that was asked to leave, once nobody needs it or it has waited long enough.
    fn stop_if_left(&mut self, now: Time) {
        let Some(since) = self.leaving_since.filter(|_| !self.node.is_stopping()) else {
            return;
        };
        let has_left = self.has_left || self.shared.serving() == Serving::Outside;
        let is_late = now.ms_since(since) > LEAVE_MS + LEFT_LATE_MS;
        if has_left && self.left_at.is_none() && !self.has_work() {
            self.left_at = Some(now);
        }
        let is_other = |member: &Member| member.id != self.shared.own;
        let installed = self.installed.as_ref();
        let has_others = installed.is_some_and(|one| one.members().iter().any(is_other));
        let waits_ms = if has_others || self.node.clients.count() > 0 {
            LINGER_MS
        } else {
            0
        };
        if is_late || self.left_at.is_some_and(|at| now.ms_since(at) >= waits_ms) {
            tracing::info!(has_left, "stopping");
            self.node.stop();
        }
    }

    fn follow_membership(&mut self, now: Time) {
        if self.membership.peers().next().is_none() && now >= self.call_at {
            self.call_at = now.plus_ms(CALL_MS);
            for &seed in &self.shared.config.join {
                self.membership.join(seed, now);
            }
        }
        while let Some((to, datagram)) = self.membership.poll_datagram() {
            self.send_datagram(to, &datagram);
        }
        while let Some(event) = self.membership.poll_event() {
            match event {
                Event::Up(node) | Event::Changed(node) => {
                    self.is_view_old = true;
                    self.known.insert(node.node, node);
                    let known = self.known.values();
                    let addresses = known.map(|node| (node.node, node.cluster_address));
                    self.shared.set_addresses(addresses.collect());
                }
                // Its address stays known: who is a member is not decided here.
                Event::Down(_) | Event::Renewed(_) | Event::ClusterLearnt(_) => {}
            }
        }
    }

    fn send_datagram(&self, to: SocketAddr, datagram: &[u8]) {
        // A datagram may be lost anyway.
        let _ = self.udp.send_to(datagram, to);
    }

    fn send_heartbeat(&self, to: SocketAddr, payload: &[u8]) {
        let mut datagram = Vec::new();
        let cluster = self.shared.cluster();
        let kind = DatagramKind::Heartbeat;
        seal_datagram(&self.shared.secret, cluster, kind, payload, &mut datagram);
        self.send_datagram(to, &datagram);
    }

    fn follow_coordinator(&mut self, dispatcher: &mut Dispatcher<'n>) {
        while let Some(event) = self.coordinator.poll_event() {
            match event {
                Asked::Send { to, envelope } => say(dispatcher, Peer::Node(to), &envelope),
                Asked::Hello { target, envelope } => say(dispatcher, Peer::Seed(target), &envelope),
                Asked::Datagram { to, bytes } => {
                    if let Some(address) = self.shared.address_of(to) {
                        self.send_heartbeat(address, &bytes);
                    }
                }
                Asked::Persist { serial, saved } => {
                    let state = State {
                        node: self.shared.own,
                        incarnation: self.shared.incarnation,
                        saved,
                    };
                    self.disk.persist(serial, state.encode());
                }
                Asked::Install(topology) => {
                    // The others hear of the epoch before all shards act on it.
                    if let Some((_, view)) = &self.published {
                        view.note_superseded();
                    }
                    self.begin(Work::Install(topology));
                }
                Asked::Seal {
                    serial,
                    nodes,
                    ranges,
                } => self.begin(Work::Seal {
                    serial,
                    nodes,
                    ranges,
                    positions: Vec::new(),
                }),
                Asked::Hold { ballot, hand_overs } => self.begin(Work::Hold(ballot, hand_overs)),
                Asked::Release => self.begin(Work::Release),
                Asked::Left => self.has_left = true,
            }
        }
    }

    // --- tasks on shards ---

    fn begin(&mut self, work: Work) {
        let shards = (0..self.node.config.shards).map(ShardIndex);
        self.tasks.push_back(Task {
            work,
            left: shards.collect(),
        });
    }

    /// Does the next task as far as tokens can be had; true if it is done.
    fn do_tasks(&mut self, now: Time, dispatcher_now: Now) -> bool {
        let Some(mut task) = self.tasks.pop_front() else {
            return false;
        };
        task.left.retain(|&shard| {
            let mut tokens = Tokens::new(&self.node.shards);
            let is_taken = tokens.try_take(shard);
            if is_taken {
                task.work.run_on(tokens.shard(shard), dispatcher_now);
            }
            !is_taken
        });
        if !task.left.is_empty() {
            self.tasks.push_front(task);
            return false;
        }
        match task.work {
            Work::Install(topology) => {
                self.shared.set_cluster(topology.cluster());
                self.membership.learn_cluster(topology.cluster());
                self.held = None;
                note(&topology, self.shared.own);
                self.has_learners = topology
                    .ranges()
                    .any(|(_, copies)| copies.learners.contains(&self.shared.own));
                self.installed = Some(topology);
                self.is_view_old = true;
                self.wake_all = true;
            }
            Work::Seal {
                serial, positions, ..
            } => self.coordinator.handle_sealed(now, serial, &positions),
            Work::Hold(ballot, hand_overs) => self.held = Some((ballot, hand_overs)),
            Work::Release => {
                self.held = None;
                self.wake_all = true;
            }
        }
        true
    }

    /// Whether a task waits for tokens.
    pub(crate) fn has_work(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Tells the coordinator of copies that have become whole, and of next primaries that have caught up.
    fn look_at_copies(&mut self, now: Time) {
        if now.ms_since(self.looked_at) < COPIES_LOOK_MS && self.held.is_none() {
            return;
        }
        self.looked_at = now;
        let placement = &self.node.homes;
        if let Some((ballot, hand_overs)) = &mut self.held {
            let mut ready = Vec::new();
            hand_overs.retain(|hold| {
                let mut tokens = Tokens::new(&self.node.shards);
                let home = placement.home(hold.range);
                let is_ready = tokens.try_take(home)
                    && tokens
                        .shard(home)
                        .replication()
                        .is_some_and(|one| one.is_caught_up(hold.range, hold.to));
                if is_ready {
                    ready.push(hold.range);
                }
                !is_ready
            });
            if !ready.is_empty() {
                self.coordinator.handle_held(now, *ballot, &ready);
            }
        }
        if self.has_learners
            && let Some(topology) = self.installed.clone()
        {
            let complete = self.complete_learners(&topology);
            tracing::debug!(complete = complete.len(), "learners");
            if !complete.is_empty() {
                self.coordinator.handle_complete(now, &complete);
            }
        }
    }

    fn complete_learners(&self, topology: &Topology) -> Vec<Range> {
        let mut complete = Vec::new();
        for shard in (0..self.node.config.shards).map(ShardIndex) {
            let mut tokens = Tokens::new(&self.node.shards);
            if !tokens.try_take(shard) {
                continue;
            }
            let Some(replication) = tokens.shard(shard).replication() else {
                continue;
            };
            let learned = topology.ranges().filter(|(range, copies)| {
                self.node.homes.home(*range) == shard
                    && copies.learners.contains(&self.shared.own)
                    && replication
                        .position(*range)
                        .is_some_and(|one| one.is_complete && one.term == copies.term)
            });
            complete.extend(learned.map(|(range, _)| range));
        }
        complete
    }

    // --- what the other cores see ---

    /// Tells the cores how this node stands, and what has changed.
    fn stand(&mut self, now: Time) {
        let told = Told {
            moves: self.coordinator.moves(),
            counters: self.coordinator.counters(),
            is_failing_over: self.coordinator.is_failing_over(),
        };
        if told != self.told {
            self.told = told;
            self.shared.desk.tell(told);
        }
        let mut standing = self.coordinator.serves(now);
        if self
            .woken_at
            .is_some_and(|at| self.coordinator.contact() >= Some(at))
        {
            self.woken_at = None;
        }
        if self.woken_at.is_some() && standing == Standing::Decided {
            standing = Standing::Unconfirmed;
        }
        let silent: Vec<NodeId> = self.coordinator.silent_members(now).collect();
        if silent != self.silent {
            self.silent = silent;
            self.is_view_old = true;
        }
        let serving = match standing {
            Standing::Outside => Serving::Outside,
            Standing::Unconfirmed => Serving::Unconfirmed,
            Standing::Decided | Standing::Provisional => Serving::Everything,
            Standing::Refused => Serving::Reads,
        };
        if self.shared.serving() != serving {
            self.shared.set_serving(serving);
            self.is_view_old = true;
        }
        if std::mem::take(&mut self.is_view_old)
            && let Some(topology) = &self.installed
        {
            let view = self.view(topology, standing);
            if !self.shared.desk.is_synced() && view.status().is_ready && is_synced(&view) {
                tracing::info!("all copies are complete");
                self.shared.desk.note_synced();
            }
            let before = self.shared.views.current();
            let view = Arc::new(View::new(view, before.as_deref()));
            view.note_informed(|member| self.coordinator.has_shown(member, view.topology()));
            if self.tasks.iter().any(Task::is_install) {
                view.note_superseded();
            }
            self.published = Some((now, Arc::clone(&view)));
            self.shared.views.publish(view);
            self.shared.note_news();
            self.wake_all = true;
        }
        if let Some((at, view)) = &self.published {
            // Who is not heard may be reached by clients.
            let inform_ms = if self.has_left {
                LEFT_INFORM_MS
            } else {
                INFORM_MS_MAX
            };
            if now.ms_since(*at) > inform_ms {
                view.note_late();
            }
            view.note_informed(|member| self.coordinator.has_shown(member, view.topology()));
        }
    }

    fn view(&self, topology: &Arc<Topology>, standing: Standing) -> ClusterView {
        let unknown = MemberPorts {
            resp: 0,
            replica: 0,
            http: None,
            cluster: 0,
        };
        let member_view = |id: NodeId| {
            if id == self.shared.own {
                return self.shared.member_view.clone();
            }
            match self.known.get(&id) {
                Some(peer) => peer_view(peer, !self.silent.contains(&id)),
                None => MemberView::new("".into(), unknown, false),
            }
        };
        let members = topology.members().iter();
        let members = members.map(|member| member_view(member.id)).collect();
        let is_serving = matches!(standing, Standing::Decided | Standing::Provisional);
        let status = ClusterStatus {
            is_serving,
            is_ready: is_serving && !self.has_learners,
            // The cores can be behind.
            is_provisional: matches!(standing, Standing::Provisional | Standing::Refused)
                || topology.branch().is_some(),
            refuses_writes: standing == Standing::Refused,
        };
        let own = (self.shared.own, self.shared.member_view.clone());
        ClusterView::new(Arc::clone(topology), own, members, status)
    }
}

impl Work {
    fn run_on(&mut self, shard: &mut Shard, now: Now) {
        match self {
            Self::Install(topology) => {
                shard.replicate(now, |replication, store| {
                    replication.handle_topology(topology, store);
                });
                shard.release();
            }
            Self::Seal {
                nodes,
                ranges,
                positions,
                ..
            } => {
                shard.replicate(now, |replication, _| {
                    replication.seal(nodes);
                    let held = replication.positions(ranges.iter().copied());
                    positions.extend(held.map(|position| SealedPosition {
                        range: position.range,
                        term: position.term,
                        seq: position.seq,
                        is_complete: position.is_complete,
                    }));
                });
            }
            Self::Hold(_, ranges) => shard.hold(ranges.iter().map(|hold| hold.range), now),
            Self::Release => shard.release(),
        }
    }
}

/// Sends a message over a link, or drops it where there is none: it is said again.
fn say(dispatcher: &mut Dispatcher<'_>, peer: Peer, envelope: &Envelope) {
    let nodes = dispatcher.nodes_mut();
    if let Some(writer) = nodes.and_then(|nodes| nodes.control_writer(peer)) {
        let mut encoder = Encoder::new(writer);
        let mut frame = encoder.control();
        envelope.encode(frame.payload());
        if frame.body_mut().len() > CONTROL_BYTES_MAX {
            tracing::error!("a message of the coordinator is too long to be sent");
            return;
        }
        frame.finish();
    }
}

/// Whether a member has whole copies of all that it should have.
fn is_synced(view: &ClusterView) -> bool {
    let (copies, learned) = view.own_copies();
    copies > 0 && learned == 0 && view.own_copies_to_fill() == 0
}

fn peer_view(peer: &Identity, is_heard: bool) -> MemberView {
    let ports = MemberPorts {
        resp: peer.resp_port,
        replica: peer.replica_read_port,
        http: peer.http_port,
        cluster: peer.cluster_address.port(),
    };
    MemberView::new(peer.announce_host.as_str().into(), ports, is_heard)
}

/// Logs what a topology means to this node.
fn note(topology: &Topology, own: NodeId) {
    let count = |is_so: &dyn Fn(&Copies) -> bool| {
        topology
            .ranges()
            .filter(|(_, copies)| is_so(copies))
            .count()
    };
    tracing::info!(
        epoch = topology.epoch().0,
        members = topology.members().len(),
        primaries = count(&|copies| copies.primary == own),
        replicas = count(&|copies| copies.replicas.contains(&own)),
        learners = count(&|copies| copies.learners.contains(&own)),
        "topology"
    );
}
