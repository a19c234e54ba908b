//! What only the process knows, asked for by the commands that report it.

use std::sync::Arc;

use fulmar_engine::Eviction;
use fulmar_protocol::CommandError;

use super::{ClientState, ClusterView, ConfigChange, Failover, NotChangeable, Operation, Progress};
use crate::{Now, ShardStats};

/// The process behind a connection.
///
/// Its methods are called for HELLO, INFO, CONFIG, CLUSTER and CLIENT LIST only, never per request. They may give
/// snapshots that are a moment old.
pub trait Node {
    /// What it is.
    fn facts(&self) -> NodeFacts;

    /// What can be configured.
    fn config(&self) -> NodeConfig;

    /// Counts and sizes, summed over shards and cores.
    fn stats(&mut self) -> NodeStats;

    /// Shows every connected client, the asking one too.
    fn visit_clients(&mut self, visit: &mut dyn FnMut(&ClientState));

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// The first change that cannot be made while running; then none was made.
    fn change_config(&mut self, changes: &[ConfigChange]) -> Result<(), NotChangeable>;

    /// Sets all counts of events to zero.
    fn reset_stats(&mut self);

    /// The cluster, as last seen; none if there is none.
    fn cluster(&self) -> Option<Arc<ClusterView>> {
        None
    }

    /// Shows the live keys of a slot that this node holds, until `visit` gives `false`; see
    /// [`visit_slot`](super::visit_slot). Asked only where there is a cluster.
    ///
    /// # Errors
    /// [`CommandError::TryAgain`] if the slot's shard cannot be looked at; then nothing was shown.
    fn visit_slot(
        &mut self,
        slot: u16,
        now: Now,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), CommandError> {
        let _ = (slot, now, visit);
        Err(CommandError::TryAgain)
    }

    /// Begins what an operator asks for. Asked only where there is a cluster.
    ///
    /// # Errors
    /// What is answered instead of OK.
    fn operate(&mut self, operation: Operation) -> Result<(), CommandError> {
        let _ = operation;
        Err(CommandError::ClusterDisabled)
    }

    /// What CLUSTER STATUS tells beside the view. Asked only where there is a cluster.
    fn progress(&mut self, now: Now) -> Progress {
        let _ = now;
        Progress::default()
    }

    /// Begins to make this node the primary of the ranges that it holds replicas of.
    ///
    /// # Errors
    /// What is answered instead of OK.
    fn fail_over(&mut self, how: Failover) -> Result<(), CommandError> {
        let _ = how;
        Err(CommandError::FailoverNotReplica)
    }
}

/// What a node is: mostly fixed from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// 40 hexadecimal digits, different at every start.
    pub run_id: String,
    /// The process's id.
    pub process_id: u32,
    /// Operating system, release and machine, as `uname` gives them.
    pub operating_system: String,
    /// Path of the configuration file; empty: none.
    pub config_file: String,
    /// The port for HTTP, if there is one.
    pub http_port: Option<u16>,
    /// Shards, each with a core.
    pub shards_count: usize,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
    /// CPU time the process spent in the kernel, in microseconds.
    pub cpu_system_us: u64,
    /// CPU time the process spent outside the kernel, in microseconds.
    pub cpu_user_us: u64,
}

/// What a node is configured to, as far as CONFIG shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Addresses listened at, divided by spaces.
    pub bind: String,
    /// The port for RESP.
    pub port: u16,
    /// The memory limit, in bytes.
    pub memory_bytes_max: u64,
    /// Longest value, in bytes.
    pub value_bytes_max: u64,
    /// Which items go when memory is needed.
    pub eviction: Eviction,
    /// Most clients at a time.
    pub clients_max: u32,
    /// Seconds after which an idle client is closed; 0: never.
    pub timeout_seconds: u32,
    /// Accesses a second from which on a key is hot; 0: none is.
    pub hot_key_rps: u32,
    /// How long another node may keep a hot key's value, in milliseconds; 0: not at all.
    pub hot_copy_ms: u16,
}

/// Counts and sizes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// The sum over shards; its command counts include those that no shard executed.
    pub shards: ShardStats,
    /// Clients connected now.
    pub clients: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections refused, because there were too many.
    pub connections_refused: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// What it did in its cluster, if it has one.
    pub cluster: ClusterCounts,
}

/// Counts of a node's life in its cluster, beside those of its shards' replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterCounts {
    /// Commands sent on to other nodes.
    pub forwards_sent: u64,
    /// Of those, the ones that were sent again, because their owner or a connection had changed.
    pub forwards_retried: u64,
    /// Of those, the ones that got no reply.
    pub forwards_failed: u64,
    /// Values of other nodes' hot keys that are kept here now.
    pub hot_copies: u64,
    /// Reads that they have answered.
    pub hot_copy_reads: u64,
    /// Decisions of this node that removed or replaced a member that had died.
    pub elections: u64,
    /// Ranges that such decisions started with a part of their items or none.
    pub lost_ranges: u64,
    /// Branches that this node lived in and that were given up.
    pub divergences: u64,
    /// Decisions of this node that others prevented.
    pub abandoned_decisions: u64,
    /// Hand-overs that did not come about in time.
    pub aborted_hand_overs: u64,
}
