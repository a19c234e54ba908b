//! The node as INFO, CONFIG and CLIENT LIST see it.

use std::fs;
use std::sync::Arc;

use fulmar_cluster::replication::Lag;
use fulmar_cluster::{Range, SLOTS_PER_RANGE, ShardIndex};
use fulmar_protocol::CommandError;
use fulmar_protocol::command::table::COMMANDS;
use fulmar_shard::session::{
    ClientState, ClusterCounts, ClusterView, ConfigChange, Failover, Node as View, NodeConfig,
    NodeFacts, NodeLag, NodeStats, NotChangeable, Operation, Progress, visit_slot,
};
use fulmar_shard::{Counters as CommandCounts, Now, ShardStats};
use rustix::process::getpid;
use rustix::system::uname;

use crate::cluster::Request;
use crate::dispatch::Dispatcher;
use crate::node::Node;
use crate::token::Tokens;

/// See the module's head.
pub(crate) struct NodeView<'v, 'n> {
    dispatcher: &'v Dispatcher<'n>,
    /// Tokens of shards whose figures are read afresh; those of others are at most a tick old.
    tokens: Option<&'v mut Tokens<'n>>,
}

impl<'v, 'n> NodeView<'v, 'n> {
    pub(crate) fn new(dispatcher: &'v Dispatcher<'n>, tokens: Option<&'v mut Tokens<'n>>) -> Self {
        Self { dispatcher, tokens }
    }

    fn ask(&self, request: Request) -> Result<(), CommandError> {
        let nodes = self
            .dispatcher
            .nodes()
            .ok_or(CommandError::ClusterDisabled)?;
        let is_taken = nodes.shared().desk.ask(request);
        is_taken.then_some(()).ok_or(CommandError::Busy)
    }

    fn held_shards(&self) -> Vec<ShardIndex> {
        let Some(tokens) = &self.tokens else {
            return Vec::new();
        };
        let shards = (0..self.dispatcher.node().config.shards).map(ShardIndex);
        shards.filter(|&shard| tokens.is_held(shard)).collect()
    }
}

impl View for NodeView<'_, '_> {
    fn facts(&self) -> NodeFacts {
        let node = self.dispatcher.node();
        let system = uname();
        let (cpu_user_us, cpu_system_us) = cpu_us();
        let now = self.dispatcher.now();
        NodeFacts {
            run_id: node.run_id.clone(),
            process_id: getpid().as_raw_nonzero().get().unsigned_abs(),
            operating_system: format!(
                "{} {} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy(),
                system.machine().to_string_lossy()
            ),
            config_file: String::new(),
            http_port: node.http_port,
            shards_count: node.shards.len(),
            uptime_seconds: (now.time.0 - node.started.time.0) / 1_000,
            resident_bytes: resident_bytes(),
            cpu_system_us,
            cpu_user_us,
        }
    }

    fn config(&self) -> NodeConfig {
        let node = self.dispatcher.node();
        NodeConfig {
            bind: node.config.bind.to_string(),
            port: node.port,
            memory_bytes_max: node.config.memory_bytes_max,
            value_bytes_max: node.config.value_bytes_max as u64,
            eviction: node.config.eviction,
            clients_max: node.clients.count_max(),
            timeout_seconds: node.clients.timeout_seconds(),
            hot_key_rps: node.config.hot_key_rps,
            hot_copy_ms: node.config.hot_copy_ms,
        }
    }

    fn stats(&mut self) -> NodeStats {
        for shard in self.held_shards() {
            if let Some(tokens) = &mut self.tokens {
                self.dispatcher.publish(shard, tokens);
            }
        }
        node_stats(self.dispatcher.node())
    }

    fn visit_clients(&mut self, visit: &mut dyn FnMut(&ClientState)) {
        self.dispatcher.node().clients.visit(visit);
    }

    fn change_config(&mut self, changes: &[ConfigChange]) -> Result<(), NotChangeable> {
        let clients = &self.dispatcher.node().clients;
        let most = u32::try_from(self.dispatcher.node().config.clients_max).unwrap_or(u32::MAX);
        // More clients than descriptors were reserved for at start cannot be served.
        let refused = |change: &ConfigChange| matches!(change, ConfigChange::ClientsMax(count) if *count > most);
        if let Some(position) = changes.iter().position(refused) {
            return Err(NotChangeable(position));
        }
        for change in changes {
            match *change {
                ConfigChange::ClientsMax(count) => clients.set_count_max(count),
                ConfigChange::TimeoutSeconds(seconds) => clients.set_timeout_seconds(seconds),
            }
        }
        Ok(())
    }

    fn cluster(&self) -> Option<Arc<ClusterView>> {
        let view = self.dispatcher.nodes()?.shared().views.current()?;
        Some(Arc::clone(&view.cluster))
    }

    fn visit_slot(
        &mut self,
        slot: u16,
        now: Now,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), CommandError> {
        let range = Range::from_index(slot / SLOTS_PER_RANGE).ok_or(CommandError::InvalidSlot)?;
        let shard = self.dispatcher.placement().homes.home(range);
        let tokens = self.tokens.as_mut().filter(|tokens| tokens.is_held(shard));
        let tokens = tokens.ok_or(CommandError::TryAgain)?;
        visit_slot(tokens.shard(shard), slot, now, visit);
        Ok(())
    }

    fn operate(&mut self, operation: Operation) -> Result<(), CommandError> {
        self.ask(match operation {
            Operation::Drain => Request::Leave,
            Operation::Adopt => Request::Adopt,
            Operation::Steer(moves) => Request::Steer(moves),
        })
    }

    fn fail_over(&mut self, _: Failover) -> Result<(), CommandError> {
        let view = self.cluster().ok_or(CommandError::ClusterDisabled)?;
        let own = view.own();
        let mut ranges = view.topology().ranges();
        if !ranges.any(|(_, copies)| copies.replicas.contains(&own)) {
            return Err(CommandError::FailoverNotReplica);
        }
        self.ask(Request::FailOver)
    }

    fn progress(&mut self, now: Now) -> Progress {
        let mut lags = Vec::new();
        for shard in self.held_shards() {
            if let Some(tokens) = &mut self.tokens
                && let Some(replication) = tokens.shard(shard).replication()
            {
                let now = fulmar_cluster::Time(now.time.0);
                replication
                    .lags(now)
                    .for_each(|lag| add_lag(&mut lags, &lag));
            }
        }
        let Some(nodes) = self.dispatcher.nodes() else {
            return Progress::default();
        };
        let desk = &nodes.shared().desk;
        let told = desk.told();
        Progress {
            is_draining: self.dispatcher.node().is_draining(),
            is_failing_over: told.is_failing_over,
            is_synced: desk.is_synced(),
            moves: told.moves,
            counters: told.counters,
            lags,
        }
    }

    fn reset_stats(&mut self) {
        self.dispatcher.node().reset_stats();
        for shard in self.held_shards() {
            if let Some(tokens) = &mut self.tokens {
                tokens.shard(shard).reset_stats();
                self.dispatcher.publish(shard, tokens);
            }
        }
    }
}

/// Adds what one core of a follower is behind to what its others are.
fn add_lag(lags: &mut Vec<NodeLag>, lag: &Lag) {
    let node = lag.follower.core.node;
    let place = lags.iter().position(|one| one.node == node);
    let place = place.unwrap_or_else(|| {
        lags.push(NodeLag {
            node,
            disconnected: 0,
            ranges: 0,
            incomplete: 0,
            entries: 0,
            bytes: 0,
            ms: 0,
        });
        lags.len() - 1
    });
    let sum = &mut lags[place];
    sum.disconnected += usize::from(!lag.is_connected);
    sum.ranges += lag.ranges;
    sum.incomplete += lag.incomplete;
    sum.entries += lag.entries;
    sum.bytes += lag.bytes;
    sum.ms = sum.ms.max(lag.ms);
}

/// Counts and sizes over all cores, as last published by their shards.
pub(crate) fn node_stats(node: &Node) -> NodeStats {
    let mut shards = ShardStats::default();
    for link in &node.links {
        shards.add(&link.shard_stats());
    }
    let mut commands = CommandCounts::default();
    for spec in &COMMANDS {
        for link in &node.links {
            commands.add_to(spec.id, link.commands.of(spec.id));
        }
    }
    shards.commands = commands;
    NodeStats {
        shards,
        clients: node.clients.count() as u64,
        connections_accepted: node.total(|counters| &counters.connections_accepted),
        connections_refused: node.total(|counters| &counters.connections_refused),
        received_bytes: node.total(|counters| &counters.received_bytes),
        sent_bytes: node.total(|counters| &counters.sent_bytes),
        cluster: cluster_counts(node),
    }
}

fn cluster_counts(node: &Node) -> ClusterCounts {
    let Some(shared) = &node.cluster else {
        return ClusterCounts::default();
    };
    let decisions = shared.desk.told().counters;
    ClusterCounts {
        forwards_sent: node.total(|counters| &counters.forwards_sent),
        forwards_retried: node.total(|counters| &counters.forwards_retried),
        forwards_failed: node.total(|counters| &counters.forwards_failed),
        hot_copies: node.total(|counters| &counters.hot_copies),
        hot_copy_reads: node.total(|counters| &counters.hot_copy_reads),
        elections: decisions.elections,
        lost_ranges: decisions.lost_ranges,
        divergences: decisions.divergences,
        abandoned_decisions: decisions.abandoned_attempts,
        aborted_hand_overs: decisions.aborted_hand_overs,
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// CPU time of this process in microseconds: user, system.
fn cpu_us() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the name in parentheses, may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |index: usize| -> u64 {
        let field = fields.split_whitespace().nth(index);
        field.and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
    };
    let us_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second();
    (ticks(11) * us_per_tick, ticks(12) * us_per_tick)
}
