//! The state machine around `foca`.

use std::net::SocketAddr;
use std::sync::Arc;

use foca::{Foca, NoCustomBroadcast, State};

use crate::datagram::{DatagramKind, open_datagram, seal_datagram};
use crate::{ClusterId, ClusterSecret, NodeId, Time};

use super::codec::{GossipCodec, KEY_BYTES, decode_key, encode_key};
use super::identity::{Identity, Key, Known};
use super::outbox::Outbox;
use super::random::SplitMix;
use super::{Config, Counters, Event, PeerState};

/// One node's view of which nodes there are.
///
/// After each call of a `handle_*` or of [`join`](Self::join), [`change`](Self::change) and
/// [`leave`](Self::leave), fetch with [`poll_datagram`](Self::poll_datagram) what is to be sent and
/// with [`poll_event`](Self::poll_event) what is new, each until there is no more; then call
/// [`handle_timeout`](Self::handle_timeout) at [`next_deadline`](Self::next_deadline), or somewhat
/// later.
pub struct Membership {
    foca: Foca<Known, GossipCodec, SplitMix, NoCustomBroadcast>,
    outbox: Outbox,
    secret: ClusterSecret,
    cluster: Option<ClusterId>,
}

impl Membership {
    /// Knows nobody yet. The seed decides whom it tells what.
    ///
    /// # Panics
    /// If the node's name is 0, or it has no cores or no weight.
    #[must_use]
    pub fn new(identity: Identity, config: Config, seed: u64) -> Self {
        assert!(identity.node != Key::ANYBODY.node);
        assert!(identity.cores > 0);
        assert!(identity.weight > 0);
        let settings = config.to_foca();
        Self {
            foca: Foca::new(Known::new(identity), settings, SplitMix(seed), GossipCodec),
            outbox: Outbox::default(),
            secret: config.secret,
            cluster: config.cluster,
        }
    }

    /// Reads a datagram of kind [`DatagramKind::Gossip`], or whatever came in its place.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Time) {
        self.outbox.set_now(now);
        let counters = &mut self.outbox.counters;
        let datagram = match open_datagram(&self.secret, bytes) {
            Ok(datagram) if datagram.kind == DatagramKind::Gossip => datagram,
            Ok(_) | Err(_) => {
                counters.datagrams_refused += 1;
                return;
            }
        };
        let is_foreign = datagram
            .cluster
            .is_some_and(|theirs| self.cluster.is_some_and(|ours| theirs != ours));
        if is_foreign {
            counters.datagrams_foreign += 1;
            return;
        }
        let Ok(to) = decode_key(&mut &datagram.payload[..]) else {
            counters.datagrams_malformed += 1;
            return;
        };
        let own = self.foca.identity().0.key();
        if let Some(cluster) = datagram.cluster.filter(|_| to == own) {
            self.learn_cluster(cluster);
        }
        let result = if to == Key::ANYBODY {
            let mut addressed = Vec::with_capacity(datagram.payload.len());
            encode_key(own, &mut addressed);
            addressed.extend_from_slice(&datagram.payload[KEY_BYTES..]);
            self.foca.handle_data(&addressed, &mut self.outbox)
        } else {
            self.foca.handle_data(datagram.payload, &mut self.outbox)
        };
        if result.is_err() {
            self.outbox.counters.datagrams_malformed += 1;
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.outbox.set_now(now);
        for timer in self.outbox.pop_due() {
            if self.foca.handle_timer(timer, &mut self.outbox).is_err() {
                self.outbox.counters.timers_late += 1;
            }
        }
    }

    /// Announces this node to whoever is at an address. Not answered, it is to be repeated.
    pub fn join(&mut self, address: SocketAddr, now: Time) {
        self.outbox.set_now(now);
        let anybody = Known::new(Identity {
            cluster_address: address,
            ..Identity::named(Key::ANYBODY)
        });
        let result = self.foca.announce(anybody, &mut self.outbox);
        debug_assert!(result.is_ok(), "a header always has room");
    }

    /// Tells the others what is new about this node. Name and incarnation stay what they are, and
    /// the revision is the next.
    pub fn change(&mut self, identity: Identity, now: Time) {
        self.outbox.set_now(now);
        let own = &self.foca.identity().0;
        let next = Identity {
            node: own.node,
            incarnation: own.incarnation,
            revision: own.revision.saturating_add(1),
            ..identity
        };
        let result = self
            .foca
            .change_identity(Known::new(next), &mut self.outbox);
        debug_assert!(result.is_ok(), "a header always has room");
    }

    /// Tells some others that this node goes. It takes no part in anything after that.
    pub fn leave(&mut self, now: Time) {
        self.outbox.set_now(now);
        let result = self.foca.leave_cluster(&mut self.outbox);
        debug_assert!(result.is_ok(), "a header always has room");
    }

    /// Takes on a cluster, if none is known: one that this node founded, or heard of elsewhere.
    pub fn learn_cluster(&mut self, cluster: ClusterId) {
        if self.cluster.is_none() {
            self.cluster = Some(cluster);
            self.outbox.push_event(Event::ClusterLearnt(cluster));
        }
    }

    /// The next datagram to send, and where to.
    pub fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let (address, payload) = self.outbox.pop_payload()?;
        let mut bytes = Vec::new();
        let kind = DatagramKind::Gossip;
        seal_datagram(&self.secret, self.cluster, kind, &payload, &mut bytes);
        Some((address, bytes))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.outbox.pop_event()
    }

    /// When there is something to do. `None` as long as nobody is known.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.outbox.next_deadline()
    }

    /// The other nodes that are not gone, in no order.
    pub fn peers(&self) -> impl Iterator<Item = (&Arc<Identity>, PeerState)> {
        self.foca.iter_members().map(|member| {
            let state = match member.state() {
                State::Suspect => PeerState::Suspect,
                State::Alive | State::Down => PeerState::Alive,
            };
            (&member.id().0, state)
        })
    }

    /// One of them by its name. O(nodes).
    #[must_use]
    pub fn peer(&self, node: NodeId) -> Option<(&Arc<Identity>, PeerState)> {
        self.peers().find(|(identity, _)| identity.node == node)
    }

    /// This node, as it tells the others.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.foca.identity().0
    }

    /// The cluster, once it is known.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// What was dropped so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.outbox.counters
    }
}
