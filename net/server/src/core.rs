//! One core: the loop that drives its ring, its connections and its shard.
//!
//! A turn: completions, messages from peers, connections with work left, the janitor, batches
//! for peers, sends; then one `io_uring_enter` submits it all and sleeps if nothing is left to do.
//! The loop is a task on the core's glommio executor that never waits for anything but its ring,
//! so glommio's reactor stays out of the data path; it has no other task today.

mod nodes;
mod waits;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use self::nodes::Connecting;
use self::waits::Waits;
use crate::clock;
use crate::cluster::{Control, ControlParts, LinkName};
use crate::connection::{Connection, Progress};
use crate::connections::Connections;
use crate::dispatch::Dispatcher;
use crate::janitor::Janitor;
use crate::message::{Answer, Batch, Message};
use crate::node::{Link, Node};
use crate::pool::Pool;
use crate::ring::{Completion, ConnectionId, Operation, Ring};
use crate::session::try_again;

/// Longest sleep, and so the delay of a shutdown.
const TICK_MS: u64 = 100;
/// Batches of peers executed per turn.
const BATCHES_PER_TURN: usize = 16;
/// Connections with work left that are served per turn.
const READY_PER_TURN: usize = 256;
/// Connections looked at per tick for whether they are idle too long.
const IDLE_CHECKS_PER_TICK: usize = 1_024;
/// Ticks that a shutdown waits for clients to take their replies.
const DRAIN_TICKS: u32 = 50;

/// What a connection speaks, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Resp,
    /// RESP at the endpoint that reads replicas.
    Replica,
    Http,
    /// A node that has connected to this one.
    Node,
    /// A node that this one has connected to.
    Link(LinkName),
}

impl Service {
    /// Whether clients use it, who are counted and told when there are too many.
    pub(crate) fn is_for_clients(self) -> bool {
        match self {
            Self::Resp | Self::Replica | Self::Http => true,
            Self::Node | Self::Link(_) => false,
        }
    }
}

/// A listening socket of this core.
pub(crate) struct Listener {
    fd: OwnedFd,
    service: Service,
    armed: bool,
}

impl Listener {
    pub(crate) fn new(fd: OwnedFd, service: Service) -> Self {
        Self {
            fd,
            service,
            armed: false,
        }
    }
}

/// See the module's head.
pub(crate) struct Core<'n> {
    node: &'n Node,
    link: &'n Link,
    ring: Ring,
    listeners: Vec<Listener>,
    connections: Connections,
    dispatcher: Dispatcher<'n>,
    pool: Pool,
    completions: Vec<Completion>,
    /// Connections with work left that needs no new input.
    ready: VecDeque<ConnectionId>,
    /// Connections with replies to send.
    sendable: Vec<ConnectionId>,
    /// Connections whose receive ended for want of buffers.
    starved: Vec<ConnectionId>,
    /// Peers to ring at.
    doorbells: Vec<u32>,
    /// Batches of peers that wait for our own token.
    backlog: VecDeque<Batch>,
    janitor: Janitor,
    connecting: Connecting,
    waits: Waits,
    /// Connections that other nodes have made.
    inbound: Vec<ConnectionId>,
    /// What the first core of a cluster's node does beside serving.
    control: Option<Box<Control<'n>>>,
    /// Where the next look for idle connections begins.
    idle_check_at: usize,
    draining_ticks: Option<u32>,
    /// It has told the node that it has no clients any more.
    is_drained: bool,
}

impl<'n> Core<'n> {
    pub(crate) fn new(
        node: &'n Node,
        index: usize,
        ring: Ring,
        listeners: Vec<Listener>,
        control: Option<ControlParts>,
    ) -> Self {
        let control = node.cluster.as_ref().zip(control);
        let control = control.map(|(shared, parts)| Box::new(Control::new(node, shared, parts)));
        Self {
            node,
            link: &node.links[index],
            ring,
            listeners,
            connections: Connections::default(),
            dispatcher: Dispatcher::new(node, index),
            pool: Pool::default(),
            completions: Vec::with_capacity(1_024),
            ready: VecDeque::new(),
            sendable: Vec::new(),
            starved: Vec::new(),
            doorbells: Vec::new(),
            backlog: VecDeque::new(),
            janitor: Janitor::default(),
            connecting: Connecting::default(),
            waits: Waits::default(),
            inbound: Vec::new(),
            control,
            idle_check_at: 0,
            draining_ticks: None,
            is_drained: false,
        }
    }

    /// Serves until the node stops and the clients have their replies.
    ///
    /// # Errors
    /// An `io_uring_enter` that fails for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.link.open(self.ring.doorbell_fd());
        self.arm_listeners();
        self.ring.timer(Operation::Tick, clock::boot_ms() + TICK_MS);
        self.open_control();
        let mut outcome = Ok(());
        while outcome.is_ok() && !self.is_over() {
            outcome = self.enter();
            self.turn();
        }
        self.link.close();
        // Before the sockets: what is queued names them by number.
        self.ring.close();
        for connection in self.connections.drain() {
            close(connection, self.node, &mut self.dispatcher, &mut self.pool);
        }
        outcome
    }

    fn enter(&mut self) -> io::Result<()> {
        let busy = !self.ready.is_empty()
            || !self.backlog.is_empty()
            || self.janitor.portion(self.dispatcher.now().time.0) > 0
            || self
                .control
                .as_ref()
                .is_some_and(|control| control.has_work())
            || self.dispatcher.has_work();
        if busy || !self.link.fall_asleep() {
            return self.ring.poll();
        }
        let outcome = self.ring.wait();
        self.link.wake_up();
        outcome
    }

    fn turn(&mut self) {
        self.link.counters.turns.add(1);
        self.dispatcher.start_turn();
        self.handle_completions();
        self.handle_messages();
        self.serve_ready();
        self.rearm_starved();
        self.sweep();
        self.tend_nodes();
        self.dispatcher.flush(&mut self.doorbells);
        self.note_drained();
        self.ring_doorbells();
        self.send_all();
    }

    fn handle_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.completions(&mut completions);
        for completion in completions.drain(..) {
            let id = completion.user_data.id();
            match completion.user_data.operation() {
                Operation::Receive => self.handle_received(id, completion),
                Operation::Send | Operation::SendNow => self.handle_sent(id, completion.result),
                Operation::Accept => self.handle_accepted(id.index(), completion),
                Operation::Tick => self.handle_tick(),
                Operation::Janitor => self.janitor.timer_came(),
                Operation::DoorbellRung if completion.result < 0 => self.ring_again(id.index()),
                Operation::Cancel => self.handle_cancelled(id),
                // A doorbell's message lies in the inbox.
                Operation::Doorbell | Operation::DoorbellRung | Operation::CancelAccept => {}
                Operation::Connect => self.handle_connected(id.index(), completion.result),
                Operation::Datagram => self.handle_datagram(completion),
                Operation::Control => self.handle_control_timer(),
                Operation::Patience => self.waits.timer_came(),
                Operation::Wake => self.handle_disk(completion.more),
                Operation::Retry => self.handle_retry_timer(),
            }
        }
        self.completions = completions;
    }

    // --- receiving ---

    fn handle_received(&mut self, id: ConnectionId, completion: Completion) {
        let bytes_count = usize::try_from(completion.result).unwrap_or(0);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.receiving = completion.more;
            if let Some(buffer) = completion.buffer {
                self.link.counters.received_bytes.add(bytes_count as u64);
                let received = self.ring.received(buffer, bytes_count);
                let progress = connection.receive(received, &mut self.dispatcher, &mut self.pool);
                self.ring.recycle(buffer);
                self.follow(id, progress);
            } else {
                self.handle_receive_end(id, completion.result);
            }
        } else if let Some(buffer) = completion.buffer {
            self.ring.recycle(buffer);
        }
    }

    /// A receive that brought no bytes: the peer's end, our cancel, no buffer, or an error.
    fn handle_receive_end(&mut self, id: ConnectionId, result: i32) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        match -result {
            libc::ENOBUFS => {
                self.link.counters.buffers_exhausted.add(1);
                self.starved.push(id);
            }
            libc::ECANCELED => self.settle(id),
            0 => {
                connection.peer_ended = true;
                let progress = connection.serve(&mut self.dispatcher, &mut self.pool);
                self.follow(id, progress);
            }
            _ => {
                connection.abort();
                self.settle(id);
            }
        }
    }

    /// Does what a served connection needs next.
    fn follow(&mut self, id: ConnectionId, progress: Progress) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if progress == Progress::Again && !connection.is_queued {
            connection.is_queued = true;
            self.ready.push_back(id);
        }
        // Sent when the turn is over, and never earlier: a short send that did not wait is seen to
        // be over in the next turn only, which nothing may come to begin.
        if connection.output.is_ready() && !connection.is_sending() && !connection.is_sendable {
            connection.is_sendable = true;
            self.sendable.push(id);
        }
        self.settle(id);
    }

    /// Brings receiving in line with the connection's state, and ends it if it is over.
    fn settle(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        if connection.is_over() {
            connection.shut_down();
            if !connection.receiving && !connection.is_sending() {
                self.forget(id);
            }
            return;
        }
        let wanted = connection.wants_input();
        if wanted && !connection.receiving {
            connection.receiving = true;
            connection.cancelling = false;
            self.ring.receive(connection.fd(), id);
        } else if !wanted && connection.receiving && !connection.cancelling {
            connection.cancelling = true;
            self.ring.cancel_receive(id);
        }
    }

    /// The receive itself tells whether it was cancelled; if it went on, it may be tried again.
    fn handle_cancelled(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.cancelling = false;
            self.settle(id);
        }
    }

    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len().min(READY_PER_TURN) {
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_queued = false;
                let progress = connection.serve(&mut self.dispatcher, &mut self.pool);
                self.follow(id, progress);
            }
        }
    }

    /// All buffers went back during this turn.
    fn rearm_starved(&mut self) {
        for id in std::mem::take(&mut self.starved) {
            self.settle(id);
        }
    }

    // --- sending ---

    fn send_all(&mut self) {
        let mut sendable = std::mem::take(&mut self.sendable);
        for id in sendable.drain(..) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.is_sendable = false;
                let replies = connection.output.take_ready();
                connection.start_sending(&replies);
                if connection.is_finishing() {
                    self.ring.send_rest(connection.fd(), id, replies, 0);
                } else {
                    self.ring.send(connection.fd(), id, replies);
                }
            }
        }
        self.sendable = sendable;
    }

    fn handle_sent(&mut self, id: ConnectionId, result: i32) {
        let mut replies = self.ring.take_sent(id);
        let Some(connection) = self.connections.get_mut(id) else {
            self.dispatcher.release(replies.take_leases());
            return;
        };
        let sent = usize::try_from(result).unwrap_or(0);
        self.link.counters.sent_bytes.add(sent as u64);
        let is_transient = matches!(-result, libc::EINTR | libc::EAGAIN | libc::ENOBUFS);
        if result < 0 && !is_transient {
            connection.sent_all();
            connection.abort();
            self.dispatcher.release(replies.take_leases());
            self.settle(id);
            return;
        }
        if let Some(offset) = connection.sent_part(sent) {
            connection.note_active(self.dispatcher.now());
            self.ring.send_rest(connection.fd(), id, replies, offset);
            return;
        }
        if !replies.is_plain() {
            self.dispatcher.release(replies.take_leases());
        }
        self.pool.give(replies.bytes);
        connection.account(&mut self.dispatcher);
        let progress = connection.resume_after_send();
        self.follow(id, progress);
    }

    // --- accepting and ending ---

    fn arm_listeners(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if !listener.armed {
                listener.armed = true;
                let index = u32::try_from(index).expect("two listeners");
                self.ring.accept(listener.fd.as_raw_fd(), index);
            }
        }
    }

    fn handle_accepted(&mut self, listener: usize, completion: Completion) {
        let Some(listener) = self.listeners.get_mut(listener) else {
            // It came before the drain's cancellation did: turned away.
            if completion.result >= 0 {
                drop(Ring::accepted(&completion));
            }
            return;
        };
        listener.armed = completion.more;
        let service = listener.service;
        if completion.result < 0 {
            // Out of descriptors, or the client is gone already. The next tick tries again.
            self.link.counters.accepts_failed.add(1);
            return;
        }
        if !completion.more {
            self.arm_listeners();
        }
        self.admit(Ring::accepted(&completion), service);
    }

    fn admit(&mut self, fd: OwnedFd, service: Service) {
        if service.is_for_clients() {
            if !self.node.clients.try_enter() {
                self.link.counters.connections_refused.add(1);
                Connection::refuse(&fd, service);
                return;
            }
            self.link.counters.connections_accepted.add(1);
        } else if !self.has_room_for_stranger() {
            tracing::debug!("too many connections of nodes that have not proven who they are");
            return;
        }
        let id = self
            .connections
            .insert(|id| Connection::new(id, fd, service, &self.dispatcher));
        if service == Service::Node {
            self.inbound.push(id);
        }
        self.settle(id);
    }

    /// Takes a connection out and closes its descriptor. Nothing of it is in flight any more.
    fn forget(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(id) {
            close(connection, self.node, &mut self.dispatcher, &mut self.pool);
        }
    }

    // --- peers ---

    fn handle_messages(&mut self) {
        while let Some(message) = self.link.receive() {
            match message {
                Message::Requests(batch) => self.backlog.push_back(batch),
                Message::Replies(batch) => self.handle_replies(batch),
            }
        }
        self.dispatcher
            .execute_batches(&mut self.backlog, BATCHES_PER_TURN, &mut self.doorbells);
    }

    fn handle_replies(&mut self, mut batch: Batch) {
        let mut filled = Vec::with_capacity(batch.len());
        batch.drain_replies(|request, answer| {
            let id = request.connection;
            let (reply, values) = match answer {
                Answer::Reply(reply, values) => (reply, values),
                Answer::NotExecuted(args, access) => {
                    if let Some(connection) = self.connections.get_mut(id) {
                        connection.output.note_delayed(request.hole);
                        try_again(request, args, access, &mut self.dispatcher);
                    }
                    return;
                }
            };
            let unwanted = match self.connections.get_mut(id) {
                Some(connection) => {
                    if filled.last() != Some(&id) {
                        filled.push(id);
                    }
                    connection.output.fill(request.hole, reply, values)
                }
                None => Err(values),
            };
            if let Err(values) = unwanted {
                let leases = values.into_iter().map(|placed| placed.leased);
                self.dispatcher.release(leases);
            }
        });
        self.dispatcher.take_back(batch);
        for id in filled {
            if let Some(connection) = self.connections.get_mut(id) {
                let progress = connection.resume_after_reply();
                self.follow(id, progress);
            }
        }
    }

    fn ring_doorbells(&mut self) {
        for peer in self.doorbells.drain(..) {
            if let Some(fd) = self.node.links[peer as usize].doorbell() {
                self.link.counters.doorbells.add(1);
                self.ring.ring_doorbell(fd, peer);
            }
        }
    }

    /// A peer's completion queue was full, or it ended meanwhile.
    fn ring_again(&mut self, peer: usize) {
        if self.node.links[peer].doorbell().is_some() {
            self.doorbells
                .push(u32::try_from(peer).expect("at most 1,024 cores"));
        }
    }

    // --- time ---

    fn handle_tick(&mut self) {
        let now_ms = self.dispatcher.now().time.0;
        self.ring.timer(Operation::Tick, now_ms + TICK_MS);
        self.janitor.look(now_ms);
        self.dispatcher.tick();
        self.waits.tick();
        self.tick_nodes();
        if self.node.is_stopping() {
            self.drain();
        } else {
            self.arm_listeners();
            self.close_idle();
        }
    }

    /// Ends clients that were idle for longer than CONFIG SET timeout allows; looks at some each
    /// tick.
    fn close_idle(&mut self) {
        let timeout_ms = u64::from(self.node.clients.timeout_seconds()) * 1_000;
        if timeout_ms == 0 {
            return;
        }
        let now = self.dispatcher.now().time.0;
        let (ids, next) = self
            .connections
            .some_ids(self.idle_check_at, IDLE_CHECKS_PER_TICK);
        self.idle_check_at = next;
        for id in ids {
            let connection = self.connections.get_mut(id);
            if let Some(connection) = connection
                && connection
                    .last_active()
                    .is_some_and(|time| now - time.0.min(now) > timeout_ms)
            {
                connection.abort();
                self.settle(id);
            }
        }
    }

    /// Reclaims expired items as the janitor allows.
    fn sweep(&mut self) {
        let now_ms = self.dispatcher.now().time.0;
        let portion = self.janitor.portion(now_ms);
        if portion > 0 {
            let next = self.dispatcher.sweep(portion);
            self.janitor.reclaimed(portion, next.map(|time| time.0));
            if let Some(at_ms) = self.janitor.timer_wanted(now_ms) {
                self.ring.timer(Operation::Janitor, at_ms);
            }
        }
    }

    fn drain(&mut self) {
        let ticks = self.draining_ticks.map_or(0, |ticks| ticks + 1);
        self.draining_ticks = Some(ticks);
        if ticks == 0 {
            for (index, _) in (0..).zip(self.listeners.drain(..)) {
                self.ring.cancel_accept(index);
            }
            self.finish_those(Service::is_for_clients);
        }
        // Clients may wait for what other nodes reply.
        let has_clients = self.connections.ids().into_iter().any(|id| {
            let connection = self.connections.get_mut(id);
            connection.is_some_and(|connection| connection.service().is_for_clients())
        });
        if ticks > DRAIN_TICKS / 2 || !has_clients {
            self.finish_those(|service| !service.is_for_clients());
        }
    }

    /// Lets connections end once what came over them is answered.
    fn finish_those(&mut self, is_meant: fn(Service) -> bool) {
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(id)
                && is_meant(connection.service())
            {
                let progress = connection.finish(&mut self.dispatcher, &mut self.pool);
                self.follow(id, progress);
            }
        }
    }

    /// Tells the others when the last client is gone: until all cores have said so, some may need
    /// this one's shard.
    fn note_drained(&mut self) {
        let is_empty = self.connections.count() == 0 && self.draining_ticks.is_some();
        if is_empty && !std::mem::replace(&mut self.is_drained, true) && self.node.note_drained() {
            let peers = 0..u32::try_from(self.node.links.len()).expect("at most 1,024 cores");
            self.doorbells.extend(peers);
        }
    }

    fn is_over(&self) -> bool {
        self.draining_ticks
            .is_some_and(|ticks| self.node.is_drained() || ticks > DRAIN_TICKS)
    }
}

/// Gives back all that a connection held.
fn close(
    connection: Box<Connection>,
    node: &Node,
    dispatcher: &mut Dispatcher<'_>,
    pool: &mut Pool,
) {
    let service = connection.service();
    connection.close(dispatcher, pool);
    if service.is_for_clients() {
        node.clients.leave();
    }
}
