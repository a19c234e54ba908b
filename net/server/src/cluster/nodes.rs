//! One core's way to the other nodes: what it knows of them, its links, and the commands on their way.

use std::net::SocketAddr;
use std::sync::Arc;

use fulmar_cluster::Time;
use fulmar_cluster::coordinator::timing::PAUSE_MS;
use fulmar_protocol::resp::RespVersion;
use fulmar_shard::{Now, Shard};

use super::forwards::{Filled, Forward, ForwardCounts, Forwards, RequestId};
use super::frame;
use super::links::{Links, Peer};
use super::replicate::{Broken, replicate};
use super::shared::Shared;
use super::view::{CachedView, Owner, View};
use crate::message::ReplyForm;
use crate::ring::ConnectionId;

/// See the module's head.
pub(crate) struct Nodes<'n> {
    shared: &'n Shared,
    view: CachedView,
    links: Links,
    forwards: Forwards,
    now: Time,
    /// The view or a link has changed, so that what waits may be sent.
    has_changed: bool,
    broken: Broken,
}

impl<'n> Nodes<'n> {
    pub(crate) fn new(shared: &'n Shared) -> Self {
        Self {
            shared,
            view: CachedView::default(),
            links: Links::default(),
            forwards: Forwards::default(),
            now: Time(0),
            has_changed: false,
            broken: Broken::default(),
        }
    }

    pub(crate) fn shared(&self) -> &'n Shared {
        self.shared
    }

    /// The topology in force for this turn; `None` before the first.
    #[inline]
    pub(crate) fn view(&self) -> Option<&Arc<View>> {
        self.view.get()
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
            self.forwards
                .handle_owners(|node, range| view.topology().copies(range).primary == node);
        }
    }

    /// Sends what waited for a change.
    pub(crate) fn turn(&mut self) {
        if std::mem::take(&mut self.has_changed) && self.forwards.has_some_to_send_again() {
            self.send_again();
        }
    }

    /// Once a tick: gives up what is late, and tries what waits.
    pub(crate) fn tick(&mut self) {
        self.forwards.expire(self.now);
        self.has_changed = true;
        if let Some(view) = self.view.get() {
            self.links
                .retain(|node| view.topology().member(node).is_some());
        }
    }

    pub(crate) fn bytes_held(&self) -> usize {
        self.links.bytes_held()
    }

    pub(crate) fn forward_counts(&self) -> ForwardCounts {
        self.forwards.counts()
    }

    // --- commands ---

    /// Whether one more command may be sent on.
    pub(crate) fn has_room(&self) -> bool {
        self.forwards.has_room()
    }

    /// Sends a command to another node, now or as soon as it can be reached.
    pub(crate) fn forward(&mut self, forward: Forward) {
        if let Some(forward) = self.send(Box::new(forward)) {
            self.forwards.push_again(forward);
        }
    }

    fn send(&mut self, forward: Box<Forward>) -> Option<Box<Forward>> {
        let Some(view) = self.view.get() else {
            return Some(forward);
        };
        let node = forward.node;
        let (epoch, incarnation) = (
            view.topology().epoch(),
            view.topology()
                .member(node)
                .map(|member| member.incarnation),
        );
        let Some(writer) = self.links.writer(Peer::Node(node), self.now) else {
            return Some(forward);
        };
        let version = match forward.destination.form {
            ReplyForm::Resp(version) | ReplyForm::Node { version, .. } => version,
            ReplyForm::Http(_) => RespVersion::Resp2,
        };
        let header = frame::ForwardHeader {
            epoch,
            incarnation: incarnation.unwrap_or_default(),
            hops: forward.hops(),
            version,
        };
        let id = self.forwards.reserve();
        forward
            .args
            .with_argv(|argv| frame::put_forward(writer, id.0, &header, argv.args));
        self.forwards.put(id, forward);
        None
    }

    fn send_again(&mut self) {
        for mut forward in self.forwards.take_again() {
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
            if let Some(forward) = self.send(forward) {
                self.forwards.push_again(forward);
            }
        }
    }

    /// Sends what the own shard has for its copies elsewhere; true if there is more.
    pub(crate) fn replicate(&mut self, shard: &mut Shard, now: Now) -> bool {
        replicate(shard, &mut self.links, &mut self.broken, now)
    }

    // --- what links bring ---

    pub(crate) fn handle_reply(&mut self, id: u32, bytes: &[u8], is_last: bool) {
        self.forwards.handle_reply(RequestId(id), bytes, is_last);
    }

    pub(crate) fn handle_refused(&mut self, id: u32) {
        self.forwards.handle_refused(RequestId(id));
        self.has_changed = true;
    }

    pub(crate) fn take_filled(&mut self) -> Vec<Filled> {
        self.forwards.take_filled()
    }

    // --- links ---

    /// Where frames to a peer go; `None` while it cannot be reached, or too much waits for it.
    pub(crate) fn writer(&mut self, peer: Peer) -> Option<&mut Vec<u8>> {
        self.links.writer(peer, self.now)
    }

    pub(crate) fn take_wanted_links(&mut self) -> Vec<(u32, Peer)> {
        self.links.take_wanted(self.now)
    }

    /// Where a peer listens for others.
    pub(crate) fn address_of(&self, peer: Peer) -> Option<SocketAddr> {
        match peer {
            Peer::Node(node) => self.shared.address_of(node),
            Peer::Seed(place) => self.shared.config.join.get(usize::from(place)).copied(),
        }
    }

    pub(crate) fn link_connected(&mut self, peer: Peer, id: ConnectionId) {
        self.links.connected(peer, id);
    }

    /// The other side of a link has proven who it is.
    pub(crate) fn link_opened(&mut self, id: ConnectionId) {
        self.links.opened(id);
        self.has_changed = true;
    }

    pub(crate) fn link_failed(&mut self, peer: Peer) {
        self.links.failed(peer, self.now);
        self.note_broken(peer);
    }

    pub(crate) fn link_ended(&mut self, id: ConnectionId) {
        if let Some(peer) = self.links.ended(id, self.now) {
            self.note_broken(peer);
        }
    }

    fn note_broken(&mut self, peer: Peer) {
        if let Peer::Node(node) = peer {
            self.forwards.handle_broken(node);
            self.broken.note(node);
        }
    }

    pub(crate) fn flush_links(&mut self, send: impl FnMut(ConnectionId, &mut Vec<u8>)) {
        self.links.flush(send);
    }
}
