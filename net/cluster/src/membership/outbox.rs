//! What `foca` wants done: datagrams, timers and events, kept until they are fetched.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};

use crate::Time;

use super::identity::Known;
use super::{Counters, Event};

/// Most datagrams that wait to be sent; what comes beyond is dropped, as a network may do.
const DATAGRAMS_MAX: usize = 1_024;
/// Most events that wait to be fetched; the oldest goes first.
const EVENTS_MAX: usize = 4_096;

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    now: Time,
    payloads: VecDeque<(SocketAddr, Vec<u8>)>,
    timers: BTreeMap<(Time, u64), Timer<Known>>,
    timers_count: u64,
    events: VecDeque<Event>,
    pub(super) counters: Counters,
}

impl Outbox {
    /// Sets what timers are counted from.
    pub(super) fn set_now(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn push_event(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
            self.counters.events_lost += 1;
        }
        self.events.push_back(event);
    }

    pub(super) fn pop_payload(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.payloads.pop_front()
    }

    pub(super) fn pop_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When the first timer is due.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let ((due, _), _) = self.timers.first_key_value()?;
        Some(*due)
    }

    /// The timers that are due, in the order in which `foca` wants those that are late.
    pub(super) fn pop_due(&mut self) -> Vec<Timer<Known>> {
        let later = self.timers.split_off(&(self.now.plus_ms(1), 0));
        let due = std::mem::replace(&mut self.timers, later);
        let mut due: Vec<Timer<Known>> = due.into_values().collect();
        due.sort();
        due
    }
}

impl Runtime<Known> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Known>) {
        let event = match notification {
            Notification::MemberUp(node) => Event::Up(node.0.clone()),
            Notification::MemberDown(node) => Event::Down(node.0.clone()),
            Notification::Rename(_, node) => Event::Changed(node.0.clone()),
            Notification::Rejoin(node) => Event::Renewed(node.0.clone()),
            Notification::Active | Notification::Idle | Notification::Defunct => return,
        };
        self.push_event(event);
    }

    fn send_to(&mut self, to: Known, payload: &[u8]) {
        if self.payloads.len() == DATAGRAMS_MAX {
            self.counters.datagrams_unsent += 1;
            return;
        }
        let address = to.0.cluster_address;
        self.payloads.push_back((address, payload.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<Known>, after: Duration) {
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.timers_count += 1;
        let key = (self.now.plus_ms(after_ms), self.timers_count);
        self.timers.insert(key, timer);
    }
}
