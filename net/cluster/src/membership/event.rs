//! What gossip reports.

use std::sync::Arc;

use crate::ClusterId;

use super::Identity;

/// Something became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node is there that was not, or had been gone.
    Up(Arc<Identity>),
    /// A node left or does not answer.
    Down(Arc<Identity>),
    /// A node has a newer identity than was known. If it had been gone, [`Event::Up`] follows.
    Changed(Arc<Identity>),
    /// The others took this node for gone. It has said that it is not, and goes on as this.
    Renewed(Arc<Identity>),
    /// The cluster became known.
    ClusterLearnt(ClusterId),
}

/// What is known of a node that is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It answers.
    Alive,
    /// Somebody had no answer from it.
    Suspect,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams of other clusters.
    pub datagrams_foreign: u64,
    /// Datagrams without a right code, or of a wrong length or kind.
    pub datagrams_refused: u64,
    /// Datagrams with a right code that can't be read.
    pub datagrams_malformed: u64,
    /// Datagrams that were not sent because too many waited.
    pub datagrams_unsent: u64,
    /// Events that nobody fetched in time.
    pub events_lost: u64,
    /// Probes that began or ended late, as they do when a machine is overloaded or slept.
    pub timers_late: u64,
}
