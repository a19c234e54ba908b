//! How many nodes a load needs. Pure arithmetic; what it starts from stands in `measured.rs`.
//!
//! A number of nodes is enough if, with one of them (or a whole zone) gone, each node's cores have
//! memory for all copies of their ranges, CPU for their share of the operations, and network for what
//! comes and goes. Ranges are dealt so that nodes differ by one at most; cores of a node differ by more.

use super::measured as m;
use super::measured::Cost;

/// What is wanted, and what a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Keys and values that live at a time.
    pub(super) data_bytes: u64,
    pub(super) key_bytes: u64,
    pub(super) value_bytes: u64,
    /// Share of the items that have a TTL.
    pub(super) ttl_share: f64,
    pub(super) requests_per_second: f64,
    pub(super) write_share: f64,
    /// Clients send batches.
    pub(super) is_pipelined: bool,
    /// Clients don't follow the cluster's map: most operations are forwarded.
    pub(super) is_forwarded: bool,
    pub(super) replicas: u64,
    /// Memory of a node that Fulmar may take in all.
    pub(super) node_bytes: u64,
    pub(super) node_cores: u64,
    pub(super) node_bits_per_second: f64,
    /// Zones that nodes are spread over; one: a node may be lost, more: a whole zone.
    pub(super) zones: u64,
}

/// What decided the number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Memory,
    Cpu,
    Network,
    /// Fewer could not hold all copies, or not lose one.
    Copies,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlan {
    /// A share outside of 0 to 1, nothing to store, or a node without cores.
    #[error("shares are from 0 to 1, and sizes, cores, zones and the network above 0")]
    Input,
    /// The process itself takes more.
    #[error("a node of that memory has none left for data")]
    NodeTooSmall,
    /// A cluster has no more members.
    #[error("256 nodes of this kind are not enough: {0:?} is short")]
    TooMany(Limit),
}

/// What so many nodes do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) nodes: u64,
    /// Those that are left when one, or a zone, is lost.
    pub(super) nodes_left: u64,
    pub(super) decided_by: Limit,
    pub(super) items: u64,
    /// Memory of one copy of an item.
    pub(super) item_bytes: f64,
    /// Memory for items that a node has.
    pub(super) node_data_bytes: f64,
    /// With all nodes, and with those that are left.
    pub(super) whole: Usage,
    pub(super) after_loss: Usage,
}

/// How much of the busiest node is used, on average over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Usage {
    /// Ranges of a node, the fewest and the most, as their primary and of any role.
    pub(super) primaries: (u64, u64),
    pub(super) copies: (u64, u64),
    /// Memory of items on the fullest node, and share of its fullest core.
    pub(super) data_bytes: f64,
    pub(super) memory_share: f64,
    /// Share of the busiest core's time.
    pub(super) cpu_share: f64,
    /// Bits a second in the busier direction: clients, replication, heartbeats and gossip.
    pub(super) client_bits: f64,
    pub(super) replication_bits: f64,
    pub(super) membership_bits: f64,
    pub(super) network_share: f64,
}

impl Load {
    /// The fewest nodes that are enough.
    ///
    /// # Errors
    /// See [`NoPlan`].
    pub(super) fn plan(&self) -> Result<Plan, NoPlan> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let shares = is_share(self.ttl_share) && is_share(self.write_share);
        let sizes = self.data_bytes > 0 && self.key_bytes + self.value_bytes > 0;
        let machine = self.node_cores > 0 && self.zones > 0 && self.node_bits_per_second > 0.0;
        if !shares || !sizes || !machine || self.requests_per_second.is_nan() {
            return Err(NoPlan::Input);
        }
        if self.node_data_bytes() <= 0.0 {
            return Err(NoPlan::NodeTooSmall);
        }
        // With one node more than copies, the copies survive the loss of a node. Three make a quorum
        // that survives one.
        let fewest = match self.replicas {
            0 => 1,
            replicas => (replicas + 2)
                .max(3)
                .max(if self.zones > 1 { self.zones } else { 0 }),
        };
        let mut decided_by = Limit::Copies;
        for nodes in fewest..=m::NODES_MAX {
            let nodes_left = self.nodes_left(nodes);
            match self.lacking(nodes_left) {
                None => {
                    return Ok(Plan {
                        nodes,
                        nodes_left,
                        decided_by,
                        items: self.items(),
                        item_bytes: self.item_bytes(),
                        node_data_bytes: self.node_data_bytes(),
                        whole: self.usage(nodes),
                        after_loss: self.usage(nodes_left),
                    });
                }
                Some(limit) => decided_by = limit,
            }
        }
        Err(NoPlan::TooMany(decided_by))
    }

    /// Nodes that are left when one is lost, or the largest zone; without replicas a loss is one of
    /// data, and the plan is for all nodes.
    fn nodes_left(&self, nodes: u64) -> u64 {
        match (self.replicas, self.zones) {
            (0, _) => nodes,
            (_, 1) => nodes - 1,
            (_, zones) => nodes - nodes.div_ceil(zones),
        }
    }

    /// What these nodes have too little of.
    fn lacking(&self, nodes: u64) -> Option<Limit> {
        if nodes <= self.replicas {
            return Some(Limit::Copies);
        }
        let usage = self.usage(nodes);
        if usage.memory_share > 1.0 {
            Some(Limit::Memory)
        } else if usage.cpu_share > m::CPU_SHARE_MAX {
            Some(Limit::Cpu)
        } else if usage.network_share > m::NETWORK_SHARE_MAX {
            Some(Limit::Network)
        } else {
            None
        }
    }

    pub(super) fn usage(&self, nodes: u64) -> Usage {
        let copies = m::RANGES * (self.replicas + 1).min(nodes);
        let dealt = |count: u64| (count / nodes, count.div_ceil(nodes));
        let (primaries, copies) = (dealt(m::RANGES), dealt(copies));
        let range_bytes = self.items() as f64 * self.item_bytes() / m::RANGES as f64;
        let core_bytes = self.core_ranges(copies.1) * range_bytes;
        let core_bytes_max = self.node_data_bytes() / self.node_cores as f64;
        let (client_bits, replication_bits) = self.bits(nodes, primaries.1);
        let others = (nodes - 1) as f64;
        let heartbeats = others * m::HEARTBEATS_PER_SECOND * m::HEARTBEAT_BYTES;
        let gossip = if nodes > 1 {
            m::GOSSIP_PER_SECOND * m::GOSSIP_BYTES
        } else {
            0.0
        };
        let membership_bits = (heartbeats + gossip) * 8.0;
        let bits = client_bits + replication_bits + membership_bits;
        Usage {
            primaries,
            copies,
            data_bytes: copies.1 as f64 * range_bytes,
            memory_share: core_bytes / core_bytes_max,
            cpu_share: self.cpu_share(nodes, primaries.1, copies.1),
            client_bits,
            replication_bits,
            membership_bits,
            network_share: bits / self.node_bits_per_second,
        }
    }

    /// Ranges of a node's fullest core.
    fn core_ranges(&self, ranges: u64) -> f64 {
        let share = 1.0 / self.node_cores as f64;
        let mean = ranges as f64 * share;
        let deviation = (mean * (1.0 - share)).sqrt();
        (mean + m::CORE_DEVIATIONS * deviation)
            .ceil()
            .min(ranges as f64)
    }

    pub(super) fn items(&self) -> u64 {
        self.data_bytes.div_ceil(self.key_bytes + self.value_bytes)
    }

    /// Memory of one copy of an item, at most.
    pub(super) fn item_bytes(&self) -> f64 {
        let bytes = self.key_bytes + self.value_bytes;
        let own = bytes as f64 + m::ITEM_BYTES + m::TTL_BYTES * self.ttl_share;
        if bytes <= m::FINE_CLASS_BYTES_MAX {
            own
        } else if bytes <= m::CHUNK_BYTES_MAX {
            own * (1.0 + m::CLASS_WASTE_MAX) * (1.0 + m::PAGE_TAIL_MAX)
        } else {
            let segments = self.value_bytes.div_ceil(m::SEGMENT_BYTES) as f64;
            own + segments * m::SEGMENT_HEAD_BYTES + m::LAST_SEGMENT_WASTE_MAX
        }
    }

    /// Memory of a node for items: what is left of all by the process and the log.
    pub(super) fn node_data_bytes(&self) -> f64 {
        let base = m::BASE_BYTES + self.node_cores * m::BASE_BYTES_PER_SHARD;
        let shard = self.node_bytes.saturating_sub(base) as f64 / self.node_cores as f64;
        let log = (shard * m::LOG_SHARE).min(m::LOG_BYTES_MAX);
        let log = if self.replicas > 0 { log } else { 0.0 };
        (shard - log).min(m::SHARD_BYTES_MAX as f64) * self.node_cores as f64
    }

    fn cost(&self) -> Cost {
        if self.is_pipelined {
            m::COST_P16
        } else {
            m::COST_P1
        }
    }

    /// Share of the busiest node's cores. Requests meet any core and its shard is another's mostly.
    fn cpu_share(&self, nodes: u64, primaries: u64, copies: u64) -> f64 {
        let cost = self.cost();
        let crossing = 1.0 - 1.0 / self.node_cores as f64;
        let own_share = primaries as f64 / m::RANGES as f64;
        let replica_share = (copies.saturating_sub(primaries)) as f64 / m::RANGES as f64;
        let replicas = self.replicas.min(nodes - 1) as f64;
        let writes = self.requests_per_second * self.write_share;
        let reads = self.requests_per_second - writes;
        let get = cost.get_us + crossing * cost.other_shard_us;
        let set = cost.set_us + crossing * cost.other_shard_us;
        let mut us = own_share * (reads * get + writes * set);
        us += own_share * writes * replicas * cost.replicated_primary * cost.set_us;
        us += replica_share * writes * cost.replicated_replica * cost.set_us;
        if self.is_forwarded {
            // All but one in `nodes` come to another node first, evenly over all.
            let away = 1.0 - 1.0 / nodes as f64;
            let first = away / nodes as f64 * cost.forwarded_first;
            let second = own_share * away * (cost.forwarded_second - 1.0);
            us += (reads * get + writes * set) * (first + second);
        }
        us / 1e6 / self.node_cores as f64
    }

    /// Bits a second in the busier direction of the busiest node: of clients, and of replication.
    fn bits(&self, nodes: u64, primaries: u64) -> (f64, f64) {
        let batch = if self.is_pipelined { m::PIPELINE } else { 1.0 };
        let share = primaries as f64 / m::RANGES as f64;
        let writes = self.requests_per_second * self.write_share;
        let reads = self.requests_per_second - writes;
        let (key, value) = (self.key_bytes as f64, self.value_bytes as f64);
        let on_wire = |bytes: f64| {
            let packets = (bytes * batch / m::PACKET_BYTES).ceil().max(1.0) / batch;
            bytes + packets * m::TCP_HEAD_BYTES
        };
        let comes =
            reads * on_wire(key + m::GET_BYTES) + writes * on_wire(key + value + m::SET_BYTES);
        let goes = reads * on_wire(value + m::GOT_BYTES) + writes * on_wire(m::STORED_BYTES);
        let mut client = share * comes.max(goes) * 8.0;
        if self.is_forwarded {
            // It comes in at one node and goes out to another, and the reply back.
            let away = 1.0 - 1.0 / nodes as f64;
            client += away * (comes + goes) * 8.0 / nodes as f64;
        }
        let entry = key + value + m::ENTRY_BYTES;
        let replicas = self.replicas.min(nodes - 1) as f64;
        let packets = entry / m::PACKET_BYTES * m::TCP_HEAD_BYTES;
        (client, share * writes * replicas * (entry + packets) * 8.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, Load, NoPlan};

    const GIB: u64 = 1 << 30;

    fn load() -> Load {
        Load {
            data_bytes: 1_000_000_000_000,
            key_bytes: 32,
            value_bytes: 1_024,
            ttl_share: 1.0,
            requests_per_second: 100_000.0,
            write_share: 0.1,
            is_pipelined: false,
            is_forwarded: false,
            replicas: 1,
            node_bytes: 64 * GIB,
            node_cores: 8,
            node_bits_per_second: 10e9,
            zones: 1,
        }
    }

    #[test]
    fn the_fewest_nodes_are_enough_and_one_less_is_not() {
        let load = load();
        let plan = load.plan().expect("possible");
        assert_eq!(plan.decided_by, Limit::Memory);
        assert_eq!(plan.nodes_left, plan.nodes - 1);
        assert!(plan.after_loss.memory_share <= 1.0);
        assert!(load.usage(plan.nodes_left - 1).memory_share > 1.0);
        assert!(plan.whole.memory_share <= plan.after_loss.memory_share);
        // 947 million items of about 1.18 KB, twice, on nodes of 60.7 GiB: 36 if all were even.
        assert_eq!(plan.items, 946_969_697);
        assert!((44..=56).contains(&plan.nodes), "{}", plan.nodes);
        let one_core = Load {
            node_cores: 1,
            node_bytes: 8 * GIB,
            ..load
        };
        assert_eq!(one_core.core_ranges(41), 41.0);
    }

    #[test]
    fn an_item_costs_what_was_measured() {
        let bytes = |key_bytes, value_bytes, ttl_share| {
            let load = Load {
                key_bytes,
                value_bytes,
                ttl_share,
                ..load()
            };
            load.item_bytes()
        };
        assert_eq!(bytes(16, 32, 0.0), 16.0 + 32.0 + 26.0);
        assert_eq!(bytes(16, 32, 1.0), 16.0 + 32.0 + 34.0);
        assert_eq!(bytes(16, 112, 0.0), 154.0);
        assert!((bytes(16, 113, 0.0) - 155.0 * 1.0625 * 1.016).abs() < 1e-9);
        assert!((bytes(16, 4_080, 0.0) - 4_122.0 * 1.0625 * 1.016).abs() < 1e-9);
        assert!((bytes(16, 4_081, 0.0) - (4_123.0 + 12.0 + 245.76)).abs() < 1e-9);
        let two_segments = bytes(16, (64 << 10) + 1, 0.0);
        assert!((two_segments - (65_537.0 + 42.0 + 24.0 + 245.76)).abs() < 1e-9);
    }

    #[test]
    fn ranges_differ_by_one_at_most() {
        let usage = load().usage(50);
        assert_eq!((usage.primaries, usage.copies), ((40, 41), (81, 82)));
        let usage = load().usage(2_048 / 8);
        assert_eq!((usage.primaries, usage.copies), ((8, 8), (16, 16)));
        // There are no more copies than nodes.
        let usage = load().usage(1);
        assert_eq!(
            (usage.primaries, usage.copies),
            ((2_048, 2_048), (2_048, 2_048))
        );
    }

    #[test]
    fn few_bytes_need_as_many_nodes_as_survive_a_loss() {
        let small = Load {
            data_bytes: GIB,
            requests_per_second: 1_000.0,
            ..load()
        };
        let nodes = |replicas, zones| {
            let load = Load {
                replicas,
                zones,
                ..small
            };
            let plan = load.plan().expect("possible");
            (plan.nodes, plan.nodes_left, plan.decided_by)
        };
        assert_eq!(nodes(0, 1), (1, 1, Limit::Copies));
        assert_eq!(nodes(1, 1), (3, 2, Limit::Copies));
        assert_eq!(nodes(2, 1), (4, 3, Limit::Copies));
        // Of three zones one may go: with two nodes in each, four are left.
        assert_eq!(nodes(1, 3), (3, 2, Limit::Copies));
        assert_eq!(nodes(3, 3), (6, 4, Limit::Copies));
    }

    #[test]
    fn cpu_and_network_decide_where_they_are_short() {
        let busy = Load {
            data_bytes: GIB,
            requests_per_second: 5e6,
            ..load()
        };
        let plan = busy.plan().expect("possible");
        assert_eq!(plan.decided_by, Limit::Cpu);
        assert!(plan.after_loss.cpu_share <= 0.5);
        assert!(busy.usage(plan.nodes_left - 1).cpu_share > 0.5);
        let pipelined = Load {
            is_pipelined: true,
            ..busy
        };
        assert!(pipelined.plan().expect("possible").nodes < plan.nodes);
        let forwarded = Load {
            is_forwarded: true,
            ..busy
        };
        assert!(forwarded.plan().expect("possible").nodes > plan.nodes);
        let narrow = Load {
            is_pipelined: true,
            node_bits_per_second: 1e9,
            ..busy
        };
        assert_eq!(narrow.plan().expect("possible").decided_by, Limit::Network);
    }

    #[test]
    fn what_cannot_be_planned_is_said() {
        let no_plan = |load: Load| load.plan().expect_err("impossible");
        let wrong = Load {
            write_share: 1.1,
            ..load()
        };
        assert_eq!(no_plan(wrong), NoPlan::Input);
        let empty = Load {
            data_bytes: 0,
            ..load()
        };
        assert_eq!(no_plan(empty), NoPlan::Input);
        let tiny = Load {
            node_bytes: (24 << 20) + 8 * (12 << 20),
            ..load()
        };
        assert_eq!(no_plan(tiny), NoPlan::NodeTooSmall);
        let huge = Load {
            data_bytes: 100_000_000_000_000,
            ..load()
        };
        assert_eq!(no_plan(huge), NoPlan::TooMany(Limit::Memory));
    }
}
