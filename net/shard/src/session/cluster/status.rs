//! CLUSTER STATUS: the cluster as this node sees it, as one JSON text.

use fulmar_cluster::coordinator::Counters;
use fulmar_cluster::message::Moves;
use fulmar_cluster::placement::Shortage;
use fulmar_cluster::{Copies, NodeId, Range};
use serde::Serialize;

use super::{ClusterView, MemberView};

/// What a view does not tell: what this node does about it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// It hands over what it has, to stop.
    pub is_draining: bool,
    /// It asked for primaryships that are still elsewhere.
    pub is_failing_over: bool,
    /// Its copies were complete once since its start.
    pub is_synced: bool,
    /// How ranges are to move.
    pub moves: Moves,
    /// What happened since its start.
    pub counters: Counters,
    /// Of each node that follows ranges of this one: how far it is behind.
    pub lags: Vec<NodeLag>,
}

/// How far a node is behind with what this one is primary of, over all their cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLag {
    /// The follower.
    pub node: NodeId,
    /// Connections that are not open.
    pub disconnected: usize,
    /// Ranges that it follows.
    pub ranges: usize,
    /// Of those, the ones of which it has no whole copy.
    pub incomplete: usize,
    /// Writes that it has not acknowledged.
    pub entries: u64,
    /// What it would take to send them, about.
    pub bytes: u64,
    /// Age of the oldest of them.
    pub ms: u64,
}

#[derive(Serialize)]
struct Status<'v> {
    cluster: String,
    epoch: u64,
    node: String,
    ready: bool,
    provisional: bool,
    refuses_writes: bool,
    branch_founder: Option<String>,
    draining: bool,
    failing_over: bool,
    replicas_wanted: u8,
    members: Vec<MemberStatus<'v>>,
    moves: MovesStatus,
    shortage: ShortageStatus,
    lost_ranges: u64,
    elections: u64,
    divergences: u64,
    aborted_hand_overs: u64,
    lag: Vec<LagStatus>,
}

#[derive(Serialize)]
struct MemberStatus<'v> {
    node: String,
    incarnation: u64,
    host: &'v str,
    port: u16,
    replica_port: u16,
    http_port: Option<u16>,
    cluster_port: u16,
    zone: &'v str,
    weight: u16,
    cores: u16,
    primaries: usize,
    replicas: usize,
    learners: usize,
    heard: bool,
    ready: bool,
}

#[derive(Serialize)]
struct MovesStatus {
    paused: bool,
    limit: Option<u16>,
    /// Copies that are being filled.
    filling: usize,
    /// Copies that the plan wants and that are not whole, those among them.
    to_fill: usize,
    /// Primaryships that the plan wants elsewhere.
    to_hand_over: usize,
}

#[derive(Serialize)]
struct ShortageStatus {
    copies: usize,
    zones: usize,
}

#[derive(Serialize)]
struct LagStatus {
    node: String,
    disconnected: usize,
    ranges: usize,
    incomplete: usize,
    entries: u64,
    bytes: u64,
    ms: u64,
}

/// What the plan wants and the topology does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Copies that are not whole, by the member's rank.
    pub(super) to_fill: Vec<usize>,
    /// Primaryships.
    pub(super) to_hand_over: usize,
}

impl ClusterView {
    /// Copies that this node should have and does not, as far as the topology and the plan tell.
    #[must_use]
    pub fn own_copies_to_fill(&self) -> usize {
        let rank = self.topology.rank(self.own);
        rank.map_or(0, |rank| self.work().to_fill[rank])
    }

    /// Copies of any kind that this node has by the topology, and those of them that are being filled.
    #[must_use]
    pub fn own_copies(&self) -> (usize, usize) {
        let all = self.topology.ranges();
        let held = all.filter(|(_, copies)| copies.is_held_by(self.own));
        held.fold((0, 0), |(count, learned), (_, copies)| {
            let is_learner = copies.learners.contains(&self.own);
            (count + 1, learned + usize::from(is_learner))
        })
    }

    /// Whether this side has no quorum, and this node says what it does.
    #[must_use]
    pub fn is_founder_of_branch(&self) -> bool {
        let branch = self.topology.branch();
        branch.is_some_and(|branch| branch.founder == self.own)
    }

    /// What is still to be moved. Costs a plan of the whole cluster, once per view.
    fn work(&self) -> &Work {
        self.work.get_or_init(|| {
            let target = fulmar_cluster::placement::target(&self.topology);
            let mut work = Work {
                to_fill: vec![0; self.members.len()],
                to_hand_over: 0,
            };
            for (range, wanted) in Range::all().zip(&target) {
                let copies = self.topology.copies(range);
                work.to_hand_over += usize::from(copies.primary != wanted.primary);
                for node in wanted.nodes() {
                    let is_whole = copies.primary == node || copies.replicas.contains(&node);
                    if !is_whole && let Some(rank) = self.topology.rank(node) {
                        work.to_fill[rank] += 1;
                    }
                }
            }
            work
        })
    }

    /// The text of CLUSTER STATUS.
    pub(super) fn status_text(&self, progress: &Progress) -> String {
        let work = self.work();
        let shortage = Shortage::of(&self.topology);
        let members = self.topology.members().iter().zip(&self.members);
        let members = members.enumerate();
        let counters = progress.counters;
        let filling = self
            .topology
            .ranges()
            .map(|(_, copies)| copies.learners.len());
        let status = Status {
            cluster: self.topology.cluster().to_string(),
            epoch: self.topology.epoch().0,
            node: self.own.to_string(),
            ready: self.status.is_ready && progress.is_synced && !progress.is_draining,
            provisional: self.status.is_provisional,
            refuses_writes: self.status.refuses_writes,
            branch_founder: self
                .topology
                .branch()
                .map(|branch| branch.founder.to_string()),
            draining: progress.is_draining,
            failing_over: progress.is_failing_over,
            replicas_wanted: self.topology.replicas_wanted(),
            members: members
                .map(|(rank, (member, view))| self.member_status(rank, member, view))
                .collect(),
            moves: MovesStatus {
                paused: progress.moves.is_paused,
                limit: progress.moves.learners_per_node_max.map(Into::into),
                filling: filling.sum(),
                to_fill: work.to_fill.iter().sum(),
                to_hand_over: work.to_hand_over,
            },
            shortage: ShortageStatus {
                copies: shortage.ranges_short_of_copies,
                zones: shortage.ranges_sharing_a_zone,
            },
            lost_ranges: counters.lost_ranges,
            elections: counters.elections,
            divergences: counters.divergences,
            aborted_hand_overs: counters.aborted_hand_overs,
            lag: progress.lags.iter().map(LagStatus::of).collect(),
        };
        serde_json::to_string(&status).expect("plain structures of numbers and texts")
    }

    fn member_status<'v>(
        &'v self,
        rank: usize,
        member: &'v fulmar_cluster::Member,
        view: &'v MemberView,
    ) -> MemberStatus<'v> {
        let count = |is_so: &dyn Fn(&Copies) -> bool| {
            let ranges = self.topology.ranges();
            ranges.filter(|(_, copies)| is_so(copies)).count()
        };
        let learners = count(&|copies| copies.learners.contains(&member.id));
        let ports = view.ports();
        MemberStatus {
            node: member.id.to_string(),
            incarnation: member.incarnation.0,
            host: view.host(),
            port: ports.resp,
            replica_port: ports.replica,
            http_port: ports.http,
            cluster_port: ports.cluster,
            zone: member.zone.as_str(),
            weight: member.weight,
            cores: member.cores,
            primaries: count(&|copies| copies.primary == member.id),
            replicas: count(&|copies| copies.replicas.contains(&member.id)),
            learners,
            heard: view.is_heard(),
            ready: view.is_heard() && learners == 0 && self.work().to_fill[rank] == 0,
        }
    }
}

impl LagStatus {
    fn of(lag: &NodeLag) -> Self {
        Self {
            node: lag.node.to_string(),
            disconnected: lag.disconnected,
            ranges: lag.ranges,
            incomplete: lag.incomplete,
            entries: lag.entries,
            bytes: lag.bytes,
            ms: lag.ms,
        }
    }
}
