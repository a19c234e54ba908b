//! What the plan starts from: figures that were measured, and constants of the protocol.
//!
//! Where a figure is not the project's own measurement, or bounds one, its comment says so.

/// Ranges of a cluster: `net/cluster/src/slot.rs`.
pub(super) const RANGES: u64 = 2_048;
/// Most members: `net/cluster/src/topology`.
pub(super) const NODES_MAX: u64 = 256;
/// Bytes of an item beside key and value, and those that a TTL adds: a little above README's "Memory per
/// item", for sizes that fit their class worse.
pub(super) const ITEM_BYTES: f64 = 26.0;
pub(super) const TTL_BYTES: f64 = 8.0;
/// Up to here the classes' steps are in `ITEM_BYTES`; above, rounding up to a class wastes at most so
/// much, and a page's tail at most so much: docs/engine.md, "Classes".
pub(super) const FINE_CLASS_BYTES_MAX: u64 = 128;
pub(super) const CLASS_WASTE_MAX: f64 = 0.0625;
pub(super) const PAGE_TAIL_MAX: f64 = 0.016;
/// Longer items are chains of segments: docs/engine.md, "An item of up to 4,096 B".
pub(super) const CHUNK_BYTES_MAX: u64 = 4_096;
pub(super) const SEGMENT_BYTES: u64 = 64 << 10;
pub(super) const SEGMENT_HEAD_BYTES: f64 = 12.0;
pub(super) const LAST_SEGMENT_WASTE_MAX: f64 = 0.06 * 4_096.0;
/// One shard's cache: docs/engine.md, "Handles".
pub(super) const SHARD_BYTES_MAX: u64 = (32 << 30) - (64 << 10);
/// What a process takes beside its limit: `net/server/src/start.rs`.
pub(super) const BASE_BYTES: u64 = 24 << 20;
pub(super) const BASE_BYTES_PER_SHARD: u64 = 12 << 20;
/// The log of replication, a share of a shard's memory: `net/cluster/src/replication/limits.rs`.
pub(super) const LOG_SHARE: f64 = 0.05;
pub(super) const LOG_BYTES_MAX: f64 = (1_u64 << 31) as f64;

/// How many more ranges than the mean a node's fullest core has, in standard deviations of ranges that
/// were dealt by chance. A range's home core is fixed, so the copies that a node has are not spread
/// evenly over its cores. At 38 nodes of 8 cores the target of `placement` gave the fullest of all
/// cores 18 ranges, where the mean is 13.5: 1.3 of them.
pub(super) const CORE_DEVIATIONS: f64 = 1.5;

/// Server CPU of one operation in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// By the node that has the key: README, "Numbers", one shard.
    pub(super) get_us: f64,
    pub(super) set_us: f64,
    /// What another core's shard costs more: README, the second table, its upper figures.
    pub(super) other_shard_us: f64,
    /// What each replica adds to a SET, at the primary and at the replica, in parts of a SET without:
    /// docs/scale.md, "What replication and forwarding cost", the highest of its runs.
    pub(super) replicated_primary: f64,
    pub(super) replicated_replica: f64,
    /// A forwarded operation, at the node that passes it on and at the one that executes it, in parts
    /// of a direct one: the same table.
    pub(super) forwarded_first: f64,
    pub(super) forwarded_second: f64,
}

/// One command at a time on each connection.
pub(super) const COST_P1: Cost = Cost {
    get_us: 12.0,
    set_us: 11.3,
    other_shard_us: 1.0,
    replicated_primary: 0.53,
    replicated_replica: 0.69,
    forwarded_first: 1.56,
    forwarded_second: 0.59,
};
/// Sixteen at a time.
pub(super) const COST_P16: Cost = Cost {
    get_us: 0.97,
    set_us: 1.06,
    other_shard_us: 0.2,
    replicated_primary: 0.48,
    replicated_replica: 0.71,
    forwarded_first: 1.85,
    forwarded_second: 1.12,
};
/// Commands of a batch where clients pipeline.
pub(super) const PIPELINE: f64 = 16.0;

/// Ethernet, IPv4 and TCP with timestamps, a packet.
pub(super) const TCP_HEAD_BYTES: f64 = 14.0 + 20.0 + 32.0;
/// Largest payload of a packet beside that: the usual MTU of 1,500.
pub(super) const PACKET_BYTES: f64 = 1_448.0;
/// RESP around key and value: `*2 $3 GET $nn` and `$nnnn`; `*3 $3 SET $nn $nnnn` and `+OK`.
pub(super) const GET_BYTES: f64 = 22.0;
pub(super) const GOT_BYTES: f64 = 10.0;
pub(super) const SET_BYTES: f64 = 32.0;
pub(super) const STORED_BYTES: f64 = 5.0;
/// An entry of a batch between nodes, beside key and value: `ENTRY_OVERHEAD_BYTES`, an estimate.
pub(super) const ENTRY_BYTES: f64 = 24.0;

/// A heartbeat's datagram with Ethernet, IPv4 and UDP: 84 B of message, 25 B of kind, cluster and code.
pub(super) const HEARTBEAT_BYTES: f64 = 84.0 + 25.0 + 42.0;
pub(super) const HEARTBEATS_PER_SECOND: f64 = 5.0;
/// Gossip at its most: 3 nodes each 200 ms while there is news, probes, and 2 nodes asked for all others
/// each 2 s, in the longest datagrams. `net/cluster/src/membership/config.rs`.
pub(super) const GOSSIP_PER_SECOND: f64 = 15.0 + 4.0 + 2.0;
pub(super) const GOSSIP_BYTES: f64 = 1_200.0 + 42.0;

/// Load of a core at which the plan stops, so that queues stay short: a choice, not a measurement.
pub(super) const CPU_SHARE_MAX: f64 = 0.5;
/// The same of a node's network.
pub(super) const NETWORK_SHARE_MAX: f64 = 0.5;
