//! What a node is told at its start.

use std::sync::Arc;

use super::timing::REBUILD_DELAY_MS;
use crate::decision::Vote;
use crate::placement::{Limits, Step, next_table};
use crate::{ClusterId, Member, NodeId, Range, Topology};

/// How the next table is found: [`next_table`], or something simpler in a simulation.
pub type PlaceFn = fn(&Topology, &dyn Fn(Range, NodeId) -> bool, Limits) -> Option<Step>;

/// A node's settings and what it knew when it stopped.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node. Its incarnation was raised and persisted before.
    pub member: Member,
    /// What `Event::Persist` asked to keep.
    pub saved: Saved,
    /// What to do without a saved topology.
    pub start: Start,
    /// Replicas that a cluster founded here should have.
    pub replicas_wanted: u8,
    /// What to do without a quorum.
    pub minority: Minority,
    /// Time between a promotion and rebuilding the lost copies elsewhere.
    pub rebuild_delay_ms: u64,
    /// How the next table is found.
    pub place: PlaceFn,
    /// How much one step of it may do.
    pub limits: Limits,
    /// What is broken on purpose.
    #[cfg(feature = "sabotage")]
    pub sabotage: Sabotage,
}

/// Parts of the protocol that a test switches off, to show that a checker notices.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    /// Quorums are smaller by so many members.
    pub quorum_less: usize,
    /// A process takes itself for the one of an earlier start.
    pub ignores_incarnations: bool,
}

impl Config {
    /// A node of these names with defaults for the rest.
    #[must_use]
    pub fn new(member: Member, saved: Saved, start: Start) -> Self {
        Self {
            member,
            saved,
            start,
            replicas_wanted: 1,
            minority: Minority::Serve,
            rebuild_delay_ms: REBUILD_DELAY_MS,
            place: next_table,
            limits: Limits::default(),
            #[cfg(feature = "sabotage")]
            sabotage: Sabotage::default(),
        }
    }

    /// Whether a process of a later start counts as another one.
    #[cfg_attr(
        not(feature = "sabotage"),
        expect(clippy::unused_self, reason = "sabotage is a field")
    )]
    pub(super) fn checks_incarnations(&self) -> bool {
        #[cfg(feature = "sabotage")]
        return !self.sabotage.ignores_incarnations;
        #[cfg(not(feature = "sabotage"))]
        true
    }
}

/// What a node keeps on its disk beside its name and incarnation. Written as a whole; the newest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The newest decided topology.
    pub topology: Option<Arc<Topology>>,
    /// Its vote on the next one.
    pub vote: Option<Vote>,
}

/// How a node without a saved topology comes to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// It founds a cluster of one.
    Found(ClusterId),
    /// It asks `targets` addresses, by their index, until one lets it in.
    Join {
        /// Number of addresses.
        targets: u16,
    },
    /// It founds a cluster once `expect` nodes, itself among them, have met and none has a cluster;
    /// if one has, it joins that. Only one node of a cluster may be started so, the others join.
    Bootstrap {
        /// The name of the cluster to found.
        cluster: ClusterId,
        /// Number of nodes.
        expect: u16,
        /// Number of addresses.
        targets: u16,
    },
}

/// What a node does that no quorum answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minority {
    /// Goes on in a branch, with the others of its side.
    Serve,
    /// Answers reads of what it holds.
    Refuse,
}
