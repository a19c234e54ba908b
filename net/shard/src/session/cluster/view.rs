//! A snapshot of the cluster, and what follows from it.

use std::sync::{Arc, OnceLock};

use fulmar_cluster::topology::REPLICAS_MAX;
use fulmar_cluster::{Epoch, NodeId, Range, SLOTS_PER_RANGE, Topology};
use fulmar_protocol::CommandError;

use super::status::Work;
use super::{Endpoint, EndpointId, MemberView};

/// How this node stands in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// It executes what the topology gives it.
    pub is_serving: bool,
    /// Beside that, its copies are complete.
    pub is_ready: bool,
    /// No quorum is heard: what it does is not decided by the cluster.
    pub is_provisional: bool,
    /// It answers writes with CLUSTERDOWN, because no quorum is heard.
    pub refuses_writes: bool,
}

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub struct ClusterView {
    pub(super) topology: Arc<Topology>,
    pub(super) own: NodeId,
    pub(super) own_view: MemberView,
    pub(super) members: Box<[MemberView]>,
    pub(super) status: ClusterStatus,
    /// By range, the ranks of its holders.
    pub(super) holders: Box<[Holders]>,
    /// What is still to be moved; found when it is asked for.
    pub(super) work: OnceLock<Work>,
}

/// Ranks of the members that hold a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holders {
    pub(super) primary: u16,
    /// Those that are heard, by seniority; the rest is [`NOBODY`](Self::NOBODY).
    replicas: [u16; REPLICAS_MAX as usize],
}

impl Holders {
    const NOBODY: u16 = u16::MAX;

    pub(super) fn replicas(&self) -> impl Iterator<Item = u16> + '_ {
        let ranks = self.replicas.iter().copied();
        ranks.take_while(|&rank| rank != Self::NOBODY)
    }
}

/// Consecutive slots that belong together, `last` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Slots {
    fn of(range: Range) -> Self {
        let first = range.index() * SLOTS_PER_RANGE;
        Self {
            first,
            last: first + (SLOTS_PER_RANGE - 1),
        }
    }
}

impl ClusterView {
    /// The cluster as `own` sees it; `own_view` says where it is reached itself, since it may not
    /// be a member yet. O(ranges * members).
    ///
    /// # Panics
    /// If `members` are not as many as the topology has; they stand in its order.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        (own, own_view): (NodeId, MemberView),
        mut members: Vec<MemberView>,
        status: ClusterStatus,
    ) -> Self {
        assert_eq!(members.len(), topology.members().len());
        if let Some(rank) = topology.rank(own) {
            members[rank].mark_heard();
        }
        let holders = topology.ranges().map(|(_, copies)| {
            let rank = |node| {
                let rank = topology.rank(node).expect("holders are members");
                u16::try_from(rank).expect("members are few")
            };
            let mut replicas = [Holders::NOBODY; REPLICAS_MAX as usize];
            let ranks = copies.replicas.iter().map(|&node| rank(node));
            let heard = ranks.filter(|&rank| members[usize::from(rank)].is_heard());
            for (place, rank) in replicas.iter_mut().zip(heard) {
                *place = rank;
            }
            replicas.sort_unstable();
            Holders {
                primary: rank(copies.primary),
                replicas,
            }
        });
        Self {
            holders: holders.collect(),
            topology,
            own,
            own_view,
            members: members.into(),
            status,
            work: OnceLock::new(),
        }
    }

    /// What the members decided.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// This node.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// How this node stands.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.status
    }

    /// The members, in the topology's order.
    #[must_use]
    pub fn members(&self) -> &[MemberView] {
        &self.members
    }

    /// Replicas that each range has, of those that are heard: the least of it over all ranges.
    #[must_use]
    pub fn replicas_count_min(&self) -> usize {
        let counts = self.holders.iter().map(|one| one.replicas().count());
        counts.min().unwrap_or(0)
    }

    /// MOVED to the primary of a slot. O(1), without an allocation.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn moved(&self, slot: u16) -> CommandError {
        let holders = &self.holders[usize::from(slot / SLOTS_PER_RANGE)];
        let member = &self.members[usize::from(holders.primary)];
        CommandError::Moved {
            slot,
            address: Arc::clone(member.address(Endpoint::Primary)),
        }
    }

    /// The name of a member's endpoint.
    pub(super) fn endpoint_id(&self, node: NodeId, endpoint: Endpoint) -> EndpointId {
        EndpointId {
            cluster: self.topology.cluster(),
            node,
            endpoint,
        }
    }

    /// Runs of slots with the same holders.
    pub(super) fn runs(&self, is_same: fn(&Holders, &Holders) -> bool) -> Vec<(Slots, Holders)> {
        let mut runs: Vec<(Slots, Holders)> = Vec::new();
        for (range, holders) in Range::all().zip(&self.holders) {
            let slots = Slots::of(range);
            match runs.last_mut() {
                Some((run, before)) if is_same(before, holders) => run.last = slots.last,
                _ => runs.push((slots, *holders)),
            }
        }
        runs
    }

    /// The slots that each member serves as a primary, by rank.
    pub(super) fn slots_by_primary(&self) -> Vec<Vec<Slots>> {
        let mut by_primary = vec![Vec::new(); self.members.len()];
        for (slots, holders) in self.runs(|one, other| one.primary == other.primary) {
            by_primary[usize::from(holders.primary)].push(slots);
        }
        by_primary
    }

    /// The epoch in which a member last became a primary; 0 if it is none.
    pub(super) fn config_epoch(&self, node: NodeId) -> Epoch {
        let copies = self.topology.ranges().map(|(_, copies)| copies);
        let own = copies.filter(|copies| copies.primary == node);
        own.map(|copies| copies.term).max().unwrap_or_default()
    }

    /// Ranks of the members that hold replicas of what this node is the primary of, and are heard.
    pub(super) fn own_replicas(&self) -> Vec<u16> {
        let own = self.topology.rank(self.own);
        let held = self.holders.iter();
        let own = held.filter(|holders| Some(usize::from(holders.primary)) == own);
        let mut ranks: Vec<u16> = own.flat_map(Holders::replicas).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}
