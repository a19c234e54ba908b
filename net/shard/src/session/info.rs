//! INFO: the sections and fields of Redis that are true here, and Fulmar's own.
//!
//! What Redis reports and Fulmar does not have or does not measure is left out, not filled in.

use std::fmt::{self, Write};
use std::sync::Arc;

use fulmar_engine::Stats;
use fulmar_engine::limits::PAGE_BYTES;

use super::config::maxmemory_policy;
use super::{ClusterView, FULMAR_VERSION, Node, NodeConfig, NodeFacts, NodeStats, REDIS_VERSION};
use crate::Now;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// What all sections are written from.
struct Snapshot {
    facts: NodeFacts,
    config: NodeConfig,
    stats: NodeStats,
    cluster: Option<Arc<ClusterView>>,
    now: Now,
}

/// A section: its title, whether INFO without arguments shows it, and how it is written.
type Section = (
    &'static str,
    bool,
    fn(&Snapshot, &mut String) -> fmt::Result,
);

const SECTIONS: [Section; 11] = [
    ("Server", true, write_server),
    ("Clients", true, write_clients),
    ("Memory", true, write_memory),
    ("Persistence", true, write_persistence),
    ("Stats", true, write_stats),
    ("Replication", true, write_replication),
    ("CPU", true, write_cpu),
    ("Commandstats", false, write_command_stats),
    ("Hotkeys", false, write_hot_keys),
    ("Cluster", true, write_cluster),
    ("Keyspace", true, write_keyspace),
];

/// The text of INFO with these section names; none: the default ones.
pub(super) fn render(names: &[&[u8]], node: &mut dyn Node, now: Now) -> String {
    let facts = node.facts();
    let config = node.config();
    let snapshot = Snapshot {
        facts,
        config,
        stats: node.stats(),
        cluster: node.cluster(),
        now,
    };
    let asks = |word: &str| {
        names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(word.as_bytes()))
    };
    let (all, default) = (
        asks("all") || asks("everything"),
        names.is_empty() || asks("default"),
    );
    let mut out = String::new();
    for (title, is_default, write) in SECTIONS {
        if all || asks(title) || (default && is_default) {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            out.push_str("# ");
            out.push_str(title);
            out.push_str("\r\n");
            write(&snapshot, &mut out).expect("a String takes any text");
        }
    }
    out
}

/// Redis's name for a node in a cluster, and for one without.
pub(super) const fn mode(is_cluster: bool) -> &'static str {
    if is_cluster { "cluster" } else { "standalone" }
}

fn field(out: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result {
    write!(out, "{name}:{value}\r\n")
}

fn write_server(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    let facts = &snapshot.facts;
    field(out, "redis_version", REDIS_VERSION)?;
    field(out, "fulmar_version", FULMAR_VERSION)?;
    field(out, "redis_mode", mode(snapshot.cluster.is_some()))?;
    field(out, "os", &facts.operating_system)?;
    field(out, "arch_bits", usize::BITS)?;
    field(out, "multiplexing_api", "io_uring")?;
    field(out, "process_id", facts.process_id)?;
    field(out, "run_id", &facts.run_id)?;
    field(out, "tcp_port", snapshot.config.port)?;
    if let Some(port) = facts.http_port {
        field(out, "http_port", port)?;
    }
    field(out, "shards", facts.shards_count)?;
    field(
        out,
        "server_time_usec",
        i128::from(snapshot.now.unix_ms) * 1_000,
    )?;
    field(out, "uptime_in_seconds", facts.uptime_seconds)?;
    field(
        out,
        "uptime_in_days",
        facts.uptime_seconds / SECONDS_PER_DAY,
    )?;
    field(out, "config_file", &facts.config_file)
}

fn write_clients(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    field(out, "connected_clients", snapshot.stats.clients)?;
    field(out, "maxclients", snapshot.config.clients_max)?;
    field(out, "blocked_clients", 0)?;
    field(out, "watched_keys", snapshot.stats.shards.watched_keys)
}

fn write_memory(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    let engine = &snapshot.stats.shards.engine;
    let used = used_bytes(engine);
    let resident = snapshot.facts.resident_bytes;
    let limit = snapshot.config.memory_bytes_max;
    field(out, "used_memory", used)?;
    field(out, "used_memory_human", Human(used))?;
    field(out, "used_memory_rss", resident)?;
    field(out, "used_memory_rss_human", Human(resident))?;
    field(
        out,
        "used_memory_dataset",
        engine.key_bytes + engine.value_bytes,
    )?;
    field(out, "used_memory_index", engine.index_bytes)?;
    field(out, "used_memory_connections", engine.reserved_bytes)?;
    field(out, "maxmemory", limit)?;
    field(out, "maxmemory_human", Human(limit))?;
    field(
        out,
        "maxmemory_policy",
        maxmemory_policy(snapshot.config.eviction),
    )
}

/// What the engines hold of their limit: pages of items, index, and what others took from it.
fn used_bytes(engine: &Stats) -> u64 {
    engine.pages_resident * PAGE_BYTES as u64 + engine.index_bytes + engine.reserved_bytes
}

/// Nothing is written to disk, and nothing loaded: clients wait for `loading:0`.
fn write_persistence(_: &Snapshot, out: &mut String) -> fmt::Result {
    field(out, "loading", 0)?;
    field(out, "rdb_bgsave_in_progress", 0)?;
    field(out, "aof_enabled", 0)
}

fn write_stats(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    let stats = &snapshot.stats;
    let engine = &stats.shards.engine;
    field(
        out,
        "total_connections_received",
        stats.connections_accepted,
    )?;
    field(
        out,
        "total_commands_processed",
        stats.shards.commands.calls(),
    )?;
    field(out, "total_net_input_bytes", stats.received_bytes)?;
    field(out, "total_net_output_bytes", stats.sent_bytes)?;
    field(out, "rejected_connections", stats.connections_refused)?;
    field(out, "expired_keys", engine.expired)?;
    field(out, "evicted_keys", engine.evicted)?;
    field(out, "keyspace_hits", engine.hits)?;
    field(out, "keyspace_misses", engine.misses)?;
    field(out, "total_error_replies", stats.shards.commands.errors())
}

fn write_replication(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    if let Some(cluster) = &snapshot.cluster {
        return cluster.write_replication(&snapshot.stats.shards.replication, out);
    }
    field(out, "role", "master")?;
    field(out, "connected_slaves", 0)
}

fn write_cpu(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    field(out, "used_cpu_sys", Seconds(snapshot.facts.cpu_system_us))?;
    field(out, "used_cpu_user", Seconds(snapshot.facts.cpu_user_us))
}

/// Calls are counted, their times are not.
fn write_command_stats(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    for (id, counts) in snapshot.stats.shards.commands.iter() {
        write!(out, "cmdstat_{}:calls={}", id.spec().name, counts.calls)?;
        write!(out, ",rejected_calls={}", counts.rejected)?;
        write!(out, ",failed_calls={}\r\n", counts.failed)?;
    }
    Ok(())
}

/// The hottest first. A key may hold anything, so it is shown as a string with escapes.
fn write_hot_keys(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    field(out, "hot_key_rps", snapshot.config.hot_key_rps)?;
    let mut hot: Vec<_> = snapshot.stats.shards.hot_keys.iter().collect();
    hot.sort_by_key(|hot| std::cmp::Reverse(hot.reads_per_second + hot.writes_per_second));
    for (number, hot) in hot.into_iter().enumerate() {
        write!(out, "hot{number}:key={}", hot.key.escape_ascii())?;
        write!(out, ",reads_per_second={}", hot.reads_per_second)?;
        write!(out, ",writes_per_second={}\r\n", hot.writes_per_second)?;
    }
    Ok(())
}

fn write_cluster(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    field(out, "cluster_enabled", u8::from(snapshot.cluster.is_some()))?;
    match &snapshot.cluster {
        Some(cluster) => cluster.write_section(&snapshot.stats, out),
        None => Ok(()),
    }
}

fn write_keyspace(snapshot: &Snapshot, out: &mut String) -> fmt::Result {
    let shards = &snapshot.stats.shards;
    let (shown, held) = (shards.shown_items, shards.engine.items);
    if shown > 0 {
        // Deadlines are not counted by range: those of replicas are taken to be as many as others.
        let with_ttl = u128::from(shards.engine.items_with_ttl) * u128::from(shown);
        let with_ttl = with_ttl / u128::from(held.max(1));
        write!(out, "db0:keys={shown},expires={with_ttl}\r\n")?;
    }
    Ok(())
}

/// Bytes as Redis shows them to people.
struct Human(u64);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 4] = [
            (1 << 40, 'T'),
            (1 << 30, 'G'),
            (1 << 20, 'M'),
            (1 << 10, 'K'),
        ];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some(&(unit, letter)) => {
                // Hundredths, rounded; the product cannot overflow beside units this large.
                let hundredths =
                    (u128::from(self.0) * 100 + u128::from(unit) / 2) / u128::from(unit);
                write!(f, "{}.{:02}{letter}", hundredths / 100, hundredths % 100)
            }
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Microseconds, shown in seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
