//! What becomes of a message: whether it may be handled at all, and by whom.

use std::sync::Arc;

use super::Coordinator;
use super::timing::RESEND_MS;
use crate::message::{Envelope, Heartbeat, Message};
use crate::{Epoch, NodeId, Topology};

impl Coordinator {
    pub(super) fn receive(&mut self, envelope: Envelope) {
        // What went to a join target that is this node itself comes without a target.
        let is_stray = envelope
            .to
            .map_or(envelope.from == self.me, |to| to != self.me);
        if is_stray {
            return;
        }
        if !self.is_of_this_cluster(&envelope) {
            self.tell_of_adoption(&envelope);
            return;
        }
        let (from, incarnation) = (envelope.from, envelope.from_incarnation);
        let is_newest = from == self.me || self.liveness.admits(from, incarnation, self.now);
        if !is_newest && self.config.checks_incarnations() {
            return;
        }
        let meant = envelope.to_incarnation;
        let is_for_me = meant.is_none_or(|meant| meant == self.incarnation());
        if let Message::Heartbeat(heartbeat) = envelope.message {
            self.receive_heartbeat(&envelope, heartbeat, is_for_me && meant.is_some());
            return;
        }
        if !is_for_me {
            self.send_heartbeat(from, false);
            return;
        }
        let brings_topology = matches!(
            envelope.message,
            Message::HelloReply(_) | Message::TopologyIs(_) | Message::Commit(_)
        );
        if !brings_topology {
            self.note_epoch(from, envelope.epoch);
        }
        self.dispatch(envelope);
    }

    fn dispatch(&mut self, envelope: Envelope) {
        let (from, theirs) = (envelope.from, envelope.epoch);
        match envelope.message {
            Message::Hello { member, bases } => self.receive_hello(from, member, *bases),
            Message::HelloReply(None) => self.requests.meet(from, self.now),
            Message::HelloReply(Some(topology))
            | Message::TopologyIs(topology)
            | Message::Commit(topology) => self.receive_topology(topology),
            Message::FetchTopology => self.send_topology(from),
            Message::Steer(steering) => self.receive_steer(steering),
            Message::AdoptedIs { base, topology } => self.receive_adopted(from, base, topology),
            message if theirs == self.epoch() => self.dispatch_same_epoch(from, message),
            message if theirs < self.epoch() => {
                let is_answer = matches!(
                    message,
                    Message::Promise { .. }
                        | Message::Accepted { .. }
                        | Message::Nack { .. }
                        | Message::Alive { .. }
                );
                if !is_answer {
                    self.send_topology(from);
                }
            }
            // From the future: its topology was asked for, and it will be sent again.
            _ => {}
        }
    }

    /// What only makes sense between nodes that know the same topology.
    fn dispatch_same_epoch(&mut self, from: NodeId, message: Message) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        if topology.member(from).is_none() || !self.is_voter() {
            return;
        }
        match message {
            Message::Prepare { ballot, accused } => self.receive_prepare(from, ballot, &accused),
            Message::Accept { ballot, topology } => self.receive_accept(from, ballot, topology),
            Message::Promise {
                ballot,
                accepted,
                positions,
            } => {
                if let Some(proposer) = self.attempt(ballot) {
                    proposer.handle_promise(from, accepted, positions);
                }
            }
            Message::Accepted { ballot } => {
                if let Some(proposer) = self.attempt(ballot) {
                    proposer.handle_accepted(from);
                }
            }
            Message::Nack { ballot, promised } => self.receive_nack(ballot, promised),
            Message::Alive {
                ballot,
                node,
                heard_ms_ago,
            } => self.receive_alive(from, ballot, node, heard_ms_ago),
            Message::Complete(completions) => {
                let incarnation = self.liveness.incarnation(from);
                let incarnation = incarnation.unwrap_or_else(|| self.incarnation());
                self.requests.complete(from, incarnation, &completions);
            }
            Message::Leave => self.requests.note_leaving(from, self.now),
            Message::Claim => self.receive_claim(from),
            Message::HoldWrites { ballot, hand_overs } => {
                self.receive_hold_writes(from, ballot, hand_overs);
            }
            Message::HandOverReady { ballot, ranges } => self.receive_ready(ballot, &ranges),
            Message::ReleaseWrites { ballot } => self.receive_release_writes(ballot),
            Message::Gather { count, silent } => self.receive_gather(from, count, &silent),
            Message::Gathered { count, positions } => self.receive_gathered(from, count, positions),
            Message::BranchIs(branch) => self.receive_branch(from, branch),
            _ => {}
        }
    }

    /// Nodes of other clusters are ignored; one without a cluster may only say hello, and a node
    /// without a cluster only listens to answers.
    fn is_of_this_cluster(&self, envelope: &Envelope) -> bool {
        let is_hello = matches!(
            envelope.message,
            Message::Hello { .. } | Message::HelloReply(_)
        );
        match (&self.decided, envelope.cluster) {
            (Some(mine), Some(theirs)) => mine.cluster() == theirs,
            (_, None) => is_hello,
            (None, Some(_)) => {
                let is_topology = matches!(
                    envelope.message,
                    Message::TopologyIs(_) | Message::Commit(_)
                );
                is_hello || is_topology
            }
        }
    }

    fn receive_heartbeat(&mut self, envelope: &Envelope, heartbeat: Heartbeat, is_for_me: bool) {
        let from = envelope.from;
        let context = (self.epoch(), is_for_me, self.now);
        self.liveness
            .handle_heartbeat(from, heartbeat, envelope.epoch, envelope.branch, context);
        self.note_epoch(from, envelope.epoch);
        let is_member = self
            .decided
            .as_ref()
            .is_some_and(|t| t.member(from).is_some());
        if heartbeat.is_asking || (!is_member && envelope.epoch < self.epoch()) {
            self.send_heartbeat(from, false);
        }
    }

    fn note_epoch(&mut self, from: NodeId, epoch: Epoch) {
        if epoch <= self.epoch() || self.decided.is_none() {
            return;
        }
        self.ahead = Some((epoch, self.now));
        if self.now >= self.fetch_at {
            self.fetch_at = self.now.plus_ms(RESEND_MS);
            self.send(from, Message::FetchTopology);
        }
    }

    fn receive_topology(&mut self, topology: Arc<Topology>) {
        let is_mine = self
            .decided
            .as_ref()
            .is_none_or(|mine| mine.cluster() == topology.cluster());
        if is_mine && topology.branch().is_none() && topology.epoch() > self.epoch() {
            self.install(topology);
        }
    }

    fn send_topology(&mut self, to: NodeId) {
        if let Some(topology) = self.decided.clone() {
            self.send(to, Message::TopologyIs(topology));
        }
    }
}
