//! What a coordinator has to say, and what of it waits for the disk.

use std::collections::VecDeque;

use super::timing::WAITING_MAX;
use super::{Event, Saved};
use crate::NodeId;
use crate::message::Envelope;

/// Events in order. A message that depends on a vote waits until the vote is on disk; a message to
/// this node itself comes back from `poll_loopback`.
#[derive(Debug)]
pub(super) struct Outbox {
    me: NodeId,
    ready: VecDeque<Event>,
    waiting: VecDeque<Waiting>,
    loopback: VecDeque<Envelope>,
    serial: u64,
    durable: u64,
}

#[derive(Debug)]
struct Waiting {
    serial: u64,
    to: NodeId,
    envelope: Envelope,
}

impl Outbox {
    pub(super) fn new(me: NodeId) -> Self {
        Self {
            me,
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            loopback: VecDeque::new(),
            serial: 0,
            durable: 0,
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.ready.push_back(event);
    }

    pub(super) fn poll(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    pub(super) fn poll_loopback(&mut self) -> Option<Envelope> {
        self.loopback.pop_front()
    }

    pub(super) fn has_loopback(&self) -> bool {
        !self.loopback.is_empty()
    }

    pub(super) fn persist(&mut self, saved: Saved) {
        self.serial += 1;
        let serial = self.serial;
        self.push(Event::Persist { serial, saved });
    }

    /// Whether all that was given to `persist` is on disk.
    pub(super) fn is_durable(&self) -> bool {
        self.durable == self.serial
    }

    pub(super) fn handle_persisted(&mut self, serial: u64) {
        self.durable = self.durable.max(serial.min(self.serial));
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.serial <= self.durable)
        {
            if let Some(Waiting { to, envelope, .. }) = self.waiting.pop_front() {
                self.send(to, envelope);
            }
        }
    }

    pub(super) fn send(&mut self, to: NodeId, envelope: Envelope) {
        if to == self.me {
            self.loopback.push_back(envelope);
        } else {
            self.ready.push_back(Event::Send { to, envelope });
        }
    }

    /// Sends once all that was given to `persist` is on disk.
    pub(super) fn send_durable(&mut self, to: NodeId, envelope: Envelope) {
        if self.is_durable() {
            self.send(to, envelope);
        } else if self.waiting.len() < WAITING_MAX {
            let serial = self.serial;
            self.waiting.push_back(Waiting {
                serial,
                to,
                envelope,
            });
        }
    }
}
