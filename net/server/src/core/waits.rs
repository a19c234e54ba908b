//! Connections that wait for followers' acknowledgements: served again when one has come to any core,
//! when the view of the cluster has changed, once a tick, and when they have waited long enough.
//!
//! ```text
//! core that an acknowledgement came to      core whose connection waits
//!   notes it, under the shard's token         says that it waits
//!   counts it as news                         reads the news
//!   wakes the cores that say they wait        looks, under the shards' tokens; sleeps
//! ```
//! Whatever the order, the look sees it or the wake comes behind it.

use fulmar_cluster::Time;

use super::Core;
use crate::ring::{ConnectionId, Operation};

/// See the module's head.
#[derive(Default)]
pub(super) struct Waits {
    ids: Vec<ConnectionId>,
    /// The news up to the last look.
    seen: u64,
    /// The earliest timer that has not come.
    timer_at: Option<Time>,
    is_due: bool,
}

impl Waits {
    pub(super) fn timer_came(&mut self) {
        self.timer_at = None;
        self.is_due = true;
    }

    pub(super) fn tick(&mut self) {
        self.is_due = true;
    }
}

impl Core<'_> {
    /// Passes news on, and serves those whom it may concern.
    pub(super) fn tend_waits(&mut self) {
        let Some(shared) = &self.node.cluster else {
            return;
        };
        if self.dispatcher.take_news() {
            shared.note_news();
            for (core, link) in (0..).zip(&self.node.links) {
                if link.awaits_news() && link.nudge() {
                    self.doorbells.push(core);
                }
            }
        }
        let new = self.dispatcher.take_waiting();
        if new.is_empty() && self.waits.ids.is_empty() {
            return;
        }
        self.waits.is_due |= !new.is_empty();
        for id in new {
            if !self.waits.ids.contains(&id) {
                self.waits.ids.push(id);
            }
        }
        self.link.set_awaits_news(true);
        let news = shared.news();
        if self.waits.is_due || news != self.waits.seen {
            self.waits.seen = news;
            self.serve_waiting();
        }
        self.set_patience();
    }

    fn serve_waiting(&mut self) {
        let is_tick = std::mem::take(&mut self.waits.is_due);
        let mut ids = std::mem::take(&mut self.waits.ids);
        ids.retain(|&id| {
            let Some(connection) = self.connections.get_mut(id) else {
                return false;
            };
            let progress = connection.serve(&mut self.dispatcher, &mut self.pool);
            let wakes_at = connection.wakes_at();
            // Nobody hears what would be answered, and it may never be.
            if is_tick && connection.peer_ended && wakes_at == Some(Time(u64::MAX)) {
                connection.abort();
            }
            self.follow(id, progress);
            wakes_at.is_some()
        });
        // They have said again that they wait; that is known.
        self.dispatcher.take_waiting();
        self.waits.ids = ids;
        if self.waits.ids.is_empty() {
            self.link.set_awaits_news(false);
        }
    }

    /// Sets a timer for whoever has waited long enough first.
    fn set_patience(&mut self) {
        let connections = &mut self.connections;
        let wakes = self.waits.ids.iter().filter_map(|&id| {
            let connection = connections.get_mut(id)?;
            connection.wakes_at().filter(|at| *at < Time(u64::MAX))
        });
        let Some(at) = wakes.min() else {
            return;
        };
        if self.waits.timer_at.is_none_or(|set| at < set) {
            self.waits.timer_at = Some(at);
            self.ring.timer(Operation::Patience, at.0);
        }
    }
}
