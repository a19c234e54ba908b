//! A core and the other nodes: it connects links, hands replies from other nodes to their connections,
//! and sends what has been said during a turn.

use std::os::fd::{AsRawFd, OwnedFd};

use fulmar_cluster::Time;

use super::{Core, Service};
use crate::cluster::{Failure, Peer, Reply, Target, socket_for};
use crate::connection::Connection;
use crate::ring::{Completion, ConnectionId, Operation};

/// Sockets that the kernel connects, by the place of their link.
#[derive(Default)]
pub(super) struct Connecting(Vec<Option<(Peer, OwnedFd)>>);

impl Connecting {
    fn put(&mut self, place: u32, peer: Peer, fd: OwnedFd) {
        let place = place as usize;
        if place >= self.0.len() {
            self.0.resize_with(place + 1, || None);
        }
        self.0[place] = Some((peer, fd));
    }

    fn take(&mut self, place: usize) -> Option<(Peer, OwnedFd)> {
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
        for filled in nodes.take_filled() {
            let destination = filled.destination;
            let Some(connection) = self.connections.get_mut(destination.connection) else {
                continue;
            };
            let progress = match destination.target {
                Target::Hole(hole) => {
                    let reply = match filled.reply {
                        Reply::Bytes(bytes) => Ok(bytes),
                        Reply::Failed(failure) => Err(failure),
                        Reply::Here(_) => Err(Failure::NotExecuted),
                    };
                    connection.fill_from_node(hole, destination.form, reply)
                }
                Target::Part(part) => connection.fill_part(part, filled.reply),
            };
            self.follow(destination.connection, progress);
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
    }

    fn connect_links(&mut self) {
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        for (place, peer) in nodes.take_wanted_links() {
            let address = nodes.address_of(peer);
            let socket = address.and_then(|address| Some((address, socket_for(address).ok()?)));
            let Some((address, socket)) = socket else {
                nodes.link_failed(peer);
                continue;
            };
            let fd = OwnedFd::from(socket);
            let id = ConnectionId::new(place, 0);
            self.ring.connect(fd.as_raw_fd(), id, address);
            self.connecting.put(place, peer, fd);
        }
    }

    /// A connect is over.
    pub(super) fn handle_connected(&mut self, place: usize, result: i32) {
        let Some((peer, fd)) = self.connecting.take(place) else {
            return;
        };
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        if result < 0 {
            nodes.link_failed(peer);
            return;
        }
        let service = Service::Link(peer);
        let id = self
            .connections
            .insert(|id| Connection::new(id, fd, service, &self.dispatcher));
        if let Some(nodes) = self.dispatcher.nodes_mut() {
            nodes.link_connected(peer, id);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            let progress = connection.greet(&mut self.dispatcher);
            self.follow(id, progress);
        }
    }

    fn flush_links(&mut self) {
        let Some(nodes) = self.dispatcher.nodes_mut() else {
            return;
        };
        let mut flushed = Vec::new();
        nodes.flush_links(|id, frames| {
            if let Some(connection) = self.connections.get_mut(id) {
                // What is being sent is not waited for here: the next turn takes what comes then.
                if !connection.is_sending() {
                    connection.output.writer().append(frames);
                    flushed.push(id);
                }
            }
        });
        for id in flushed {
            self.follow(id, crate::connection::Progress::Idle);
        }
    }
}
