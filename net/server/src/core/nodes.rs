//! A core and the other nodes: it connects links, hands replies from other nodes to their connections,
//! and sends what has been said during a turn.

use std::os::fd::{AsRawFd, OwnedFd};

use fulmar_cluster::Time;
use fulmar_protocol::node::Goodbye;

use super::{Core, Service};
use crate::cluster::{Care, Failure, LinkName, Reply, Target, socket_for};
use crate::connection::{Connection, Progress};
use crate::ring::{Completion, ConnectionId, Operation};
use crate::session::{Here, execute_here};

/// Nodes that have connected to one core and not proven who they are; more are turned away.
const STRANGERS_MAX: usize = 64;

/// Sockets that the kernel connects, by the place of their link.
#[derive(Default)]
pub(super) struct Connecting(Vec<Option<(LinkName, OwnedFd)>>);

impl Connecting {
    fn put(&mut self, place: u32, name: LinkName, fd: OwnedFd) {
        let place = place as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some((name, fd));
    }

    fn take(&mut self, place: usize) -> Option<(LinkName, OwnedFd)> {
        self.0.get_mut(place).and_then(Option::take)
    }
}

impl Core<'_> {
    /// Listens to other nodes' control.
    pub(super) fn open_control(&mut self) {
        if let Some(control) = &self.control {
            self.ring.receive_datagrams(control.udp_fd());
            self.ring.watch(control.disk_fd());
        }
    }

    pub(super) fn handle_datagram(&mut self, completion: Completion) {
        let bytes_count = usize::try_from(completion.result).unwrap_or(0);
        let now = Time(self.dispatcher.now().time.0);
        if let (Some(buffer), Some(control)) = (completion.buffer, &mut self.control) {
            control.handle_datagram(self.ring.received(buffer, bytes_count), now);
        }
        if let Some(buffer) = completion.buffer {
            self.ring.recycle(buffer);
        }
        if let Some(control) = &self.control
            && !completion.more
        {
            self.ring.receive_datagrams(control.udp_fd());
        }
    }

    pub(super) fn handle_disk(&mut self, more: bool) {
        let now = Time(self.dispatcher.now().time.0);
        if let Some(control) = &mut self.control {
            control.handle_disk(now);
            if !more {
                self.ring.watch(control.disk_fd());
            }
        }
    }

    pub(super) fn handle_control_timer(&mut self) {
        if let Some(control) = &mut self.control {
            control.timer_came();
        }
    }

    /// Lets control do its turn, on the core that has it; wakes that core on the others.
    fn tend_control(&mut self) {
        let now = Time(self.dispatcher.now().time.0);
        if let Some(control) = &mut self.control {
            let wanted = control.turn(now, &mut self.dispatcher);
            if let Some(at) = wanted.timer {
                self.ring.timer(Operation::Control, at.0);
            }
            if wanted.wake_all {
                for (peer, link) in (0..).zip(&self.node.links) {
                    if link.nudge() {
                        self.doorbells.push(peer);
                    }
                }
            }
        } else if self.dispatcher.take_posted() && self.node.links[0].nudge() {
            self.doorbells.push(0);
        }
    }

    /// What a turn does for the cluster, after its connections were served.
    pub(super) fn tend_nodes(&mut self) {
        if self.dispatcher.nodes().is_none() {
            return;
        }
        self.tend_control();
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        nodes.turn();
        let woken = nodes.take_woken();
        let (delayed, filled) = (nodes.take_delayed(), nodes.take_filled());
        for destination in delayed {
            if let Target::Hole(hole) = destination.target
                && let Some(connection) = self.connections.get_mut(destination.connection)
            {
                connection.output.note_delayed(hole);
            }
        }
        // Commands of one connection that came back are executed in their order.
        let mut waiting: Vec<ConnectionId> = Vec::new();
        for filled in filled {
            let destination = filled.destination;
            let Some(connection) = self.connections.get_mut(destination.connection) else {
                continue;
            };
            let progress = match (destination.target, filled.reply) {
                (Target::Part(part), reply) => connection.fill_part(part, reply),
                (Target::Hole(hole), Reply::Bytes(bytes)) => {
                    connection.fill_from_node(hole, destination.form, Ok(bytes))
                }
                (Target::Hole(hole), Reply::Failed(failure)) => {
                    connection.fill_from_node(hole, destination.form, Err(failure))
                }
                (Target::Hole(hole), Reply::Here(forward)) => {
                    let here = if waiting.contains(&destination.connection) {
                        Here::NotNow
                    } else {
                        execute_here(&forward, &mut self.dispatcher)
                    };
                    match here {
                        Here::Done(replies) => {
                            let unwanted = connection.fill_from_here(hole, replies);
                            self.dispatcher.release(unwanted);
                            connection.resume_after_reply()
                        }
                        Here::Parted => {
                            let failed = Err(Failure::NotExecuted);
                            connection.fill_from_node(hole, destination.form, failed)
                        }
                        Here::NotNow => {
                            waiting.push(destination.connection);
                            if let Some(nodes) = self.dispatcher.nodes_mut() {
                                nodes.keep(forward);
                            }
                            continue;
                        }
                    }
                }
            };
            self.follow(destination.connection, progress);
        }
        for id in woken {
            self.follow(id, Progress::Again);
        }
        self.tend_waits();
        self.dispatcher.replicate();
        for shard in self.dispatcher.take_written() {
            if self.node.links[shard.index()].nudge() {
                self.doorbells.push(u32::from(shard.0));
            }
        }
        self.connect_links();
        self.flush_links();
        self.dispatcher.account_nodes();
        let nodes = self.dispatcher.nodes_mut();
        if let Some(at) = nodes.and_then(|nodes| nodes.timer_wanted()) {
            self.ring.timer(Operation::Retry, at.0);
        }
    }

    pub(super) fn handle_retry_timer(&mut self) {
        if let Some(nodes) = self.dispatcher.nodes_mut() {
            nodes.timer_came();
        }
    }

    // --- who has connected ---

    /// Whether one more node may connect without having proven anything.
    pub(super) fn has_room_for_stranger(&mut self) -> bool {
        let mut strangers = 0;
        for &id in &self.inbound {
            let connection = self.connections.get_mut(id);
            strangers += usize::from(connection.is_some_and(|one| one.is_stranger()));
        }
        strangers < STRANGERS_MAX
    }

    /// Once a tick: looks after the links, and ends connections of which nothing can be expected.
    pub(super) fn tick_nodes(&mut self) {
        let now = self.dispatcher.now().time;
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        for (id, care) in nodes.tick() {
            if let Some(connection) = self.connections.get_mut(id) {
                match care {
                    Care::Ping => connection.ping(now),
                    Care::Leave => connection.leave(Goodbye::Idle),
                    Care::Break => connection.abort(),
                }
            }
            self.follow(id, Progress::Idle);
        }
        let mut inbound = std::mem::take(&mut self.inbound);
        inbound.retain(|&id| match self.connections.get_mut(id) {
            Some(connection) => {
                if connection.is_overdue(now) {
                    connection.abort();
                    self.settle(id);
                }
                true
            }
            None => false,
        });
        self.inbound = inbound;
    }

    // --- links ---

    fn connect_links(&mut self) {
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        for (place, name) in nodes.take_wanted_links() {
            let address = nodes.address_of(name.peer);
            let socket = address.and_then(|address| Some((address, socket_for(address).ok()?)));
            let Some((address, socket)) = socket else {
                nodes.link_failed(name);
                continue;
            };
            let fd = OwnedFd::from(socket);
            let id = ConnectionId::new(place, 0);
            self.ring.connect(fd.as_raw_fd(), id, address);
            self.connecting.put(place, name, fd);
        }
    }

    /// A connect is over.
    pub(super) fn handle_connected(&mut self, place: usize, result: i32) {
        let Some((name, fd)) = self.connecting.take(place) else {
            return;
        };
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        if result < 0 {
            nodes.link_failed(name);
            return;
        }
        let service = Service::Link(name);
        let id = self
            .connections
            .insert(|id| Connection::new(id, fd, service, &self.dispatcher));
        if let Some(nodes) = self.dispatcher.nodes_mut() {
            nodes.link_connected(name, id);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            let progress = connection.greet(&self.dispatcher);
            self.follow(id, progress);
        }
    }

    fn flush_links(&mut self) {
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        let mut flushed = Vec::new();
        nodes.flush_links(|id, frames| {
            let Some(connection) = self.connections.get_mut(id) else {
                return 0;
            };
            if !frames.is_empty() && !connection.is_sending() {
                flushed.push(id);
            }
            connection.take_frames(frames)
        });
        for id in flushed {
            self.follow(id, Progress::Idle);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.account(&mut self.dispatcher);
            }
        }
    }
}
