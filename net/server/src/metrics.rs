//! `/-/metrics`: the node's figures as OpenMetrics text, for Prometheus.
//!
//! Built afresh at each scrape from the cores' counters; those of the shards are at most a tick
//! old. Nothing here is on the path of a request.

mod cluster;

use std::sync::atomic::AtomicU64;

use fulmar_engine::Stats;
use fulmar_protocol::command::table::COMMANDS;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::node::{Counters, Link, Node};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Core {
    core: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CoreCommand {
    core: u32,
    command: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HotKey {
    core: u32,
    key: String,
}

type Total<L> = Family<L, Counter<u64, AtomicU64>>;
type Level<L> = Family<L, Gauge<u64, AtomicU64>>;

/// Reads one figure of a core.
type Read = fn(&Link, &Stats) -> u64;

/// Figures that only rise; the text format appends `_total`.
const TOTALS: [(&str, &str, Read); 22] = [
    ("turns", "Turns of the core's loop", |link, _| {
        count(link, |c| &c.turns)
    }),
    ("connections_accepted", "Connections accepted", |link, _| {
        count(link, |c| &c.connections_accepted)
    }),
    (
        "connections_refused",
        "Connections refused because there were too many",
        |link, _| count(link, |c| &c.connections_refused),
    ),
    (
        "accepts_failed",
        "Accepts that failed, mostly for want of descriptors",
        |link, _| count(link, |c| &c.accepts_failed),
    ),
    ("received_bytes", "Bytes received", |link, _| {
        count(link, |c| &c.received_bytes)
    }),
    ("sent_bytes", "Bytes sent", |link, _| {
        count(link, |c| &c.sent_bytes)
    }),
    (
        "buffers_exhausted",
        "Receives that found no buffer",
        |link, _| count(link, |c| &c.buffers_exhausted),
    ),
    (
        "borrows",
        "Commands executed in place on another core's shard",
        |link, _| count(link, |c| &c.borrows),
    ),
    (
        "borrows_failed",
        "Times another core's token was taken",
        |link, _| count(link, |c| &c.borrows_failed),
    ),
    (
        "messages",
        "Batches of commands sent to other cores",
        |link, _| count(link, |c| &c.messages),
    ),
    (
        "message_commands",
        "Commands sent in those batches",
        |link, _| count(link, |c| &c.commands_by_message),
    ),
    ("doorbells", "Sleeping cores woken", |link, _| {
        count(link, |c| &c.doorbells)
    }),
    ("hits", "Reads that found their key", |_, stats| stats.hits),
    ("misses", "Reads that did not find their key", |_, stats| {
        stats.misses
    }),
    ("sets", "Values stored", |_, stats| stats.sets),
    ("evicted_items", "Items evicted to make room", |_, stats| {
        stats.evicted
    }),
    (
        "evicted_early_items",
        "Of those, items evicted because their page was needed",
        |_, stats| stats.evicted_early,
    ),
    (
        "expired_items",
        "Items whose deadline passed",
        |_, stats| stats.expired,
    ),
    ("deleted_items", "Items deleted by command", |_, stats| {
        stats.deleted
    }),
    ("replaced_items", "Items overwritten", |_, stats| {
        stats.replaced
    }),
    (
        "flushed_items",
        "Items dropped by FLUSHALL and FLUSHDB",
        |_, stats| stats.flushed,
    ),
    (
        "pages_given_up",
        "Pages emptied for another size of items, or to stay below the limit",
        |_, stats| stats.pages_given_up,
    ),
];

/// Figures that rise and fall.
const LEVELS: [(&str, &str, Read); 10] = [
    ("items", "Items held", |_, stats| stats.items),
    (
        "items_with_ttl",
        "Items held that have a deadline",
        |_, stats| stats.items_with_ttl,
    ),
    ("key_bytes", "Bytes of keys held", |_, stats| {
        stats.key_bytes
    }),
    ("value_bytes", "Bytes of values held", |_, stats| {
        stats.value_bytes
    }),
    (
        "memory_limit_bytes",
        "The shard's memory limit",
        |_, stats| stats.memory_bytes_max,
    ),
    (
        "pages_in_use",
        "Pages of 64 KiB that hold items",
        |_, stats| stats.pages_in_use,
    ),
    (
        "pages_total",
        "Pages of 64 KiB that may hold items now",
        |_, stats| stats.pages_total,
    ),
    ("index_bytes", "Memory of the index", |_, stats| {
        stats.index_bytes
    }),
    (
        "leased_bytes",
        "Bytes of values being sent from where they lie",
        |_, stats| stats.leased_bytes,
    ),
    (
        "connection_bytes",
        "Memory that connections hold",
        |link, _| count(link, |c| &c.connection_bytes),
    ),
];

/// The page's text.
pub(crate) fn render(node: &Node) -> String {
    let mut registry = Registry::with_prefix("fulmar");
    let cores = node
        .links
        .iter()
        .map(|link| (link, link.shard_stats().engine));
    let cores: Vec<(&Link, Stats)> = cores.collect();
    for (name, help, read) in TOTALS {
        let family = Total::<Core>::default();
        for (core, (link, stats)) in (0..).zip(&cores) {
            family
                .get_or_create(&Core { core })
                .inc_by(read(link, stats));
        }
        registry.register(name, help, family);
    }
    for (name, help, read) in LEVELS {
        let family = Level::<Core>::default();
        for (core, (link, stats)) in (0..).zip(&cores) {
            family.get_or_create(&Core { core }).set(read(link, stats));
        }
        registry.register(name, help, family);
    }
    register_commands(node, &mut registry);
    register_hot_keys(node, &mut registry);
    cluster::register(node, registry.sub_registry_with_prefix("cluster"));
    let clients = Gauge::<u64, AtomicU64>::default();
    clients.set(node.clients.count() as u64);
    registry.register("clients", "Connections open", clients);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes any text");
    text
}

fn register_commands(node: &Node, registry: &mut Registry) {
    let calls = Total::<CoreCommand>::default();
    let errors = Total::<CoreCommand>::default();
    for (core, link) in (0..).zip(&node.links) {
        for spec in &COMMANDS {
            let counts = link.commands.of(spec.id);
            if counts.calls + counts.rejected > 0 {
                let labels = CoreCommand {
                    core,
                    command: spec.name,
                };
                calls.get_or_create(&labels).inc_by(counts.calls);
                errors
                    .get_or_create(&labels)
                    .inc_by(counts.failed + counts.rejected);
            }
        }
    }
    registry.register("commands", "Commands executed", calls);
    registry.register(
        "command_errors",
        "Commands that were answered with an error",
        errors,
    );
}

/// At most a few dozen keys a core.
fn register_hot_keys(node: &Node, registry: &mut Registry) {
    let [reads, writes] = [(); 2].map(|()| Level::<HotKey>::default());
    for (core, link) in (0..).zip(&node.links) {
        for hot in link.shard_stats().hot_keys {
            let label = HotKey {
                core,
                key: hot.key.escape_ascii().to_string(),
            };
            reads.get_or_create(&label).set(hot.reads_per_second);
            writes.get_or_create(&label).set(hot.writes_per_second);
        }
    }
    registry.register("hot_key_reads", "Reads a second of a hot key", reads);
    registry.register("hot_key_writes", "Writes a second of a hot key", writes);
}

fn count(link: &Link, counter: fn(&Counters) -> &crate::node::Counter) -> u64 {
    counter(&link.counters).get()
}
