//! The cluster's figures: how this node stands, what a failover would lose, what was decided.

use std::sync::atomic::AtomicU64;

use fulmar_shard::FollowerLag;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Level;
use crate::node::Node;
use crate::node_view::node_stats;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Follower {
    follower: String,
}

/// Adds them, if the node has a cluster.
pub(super) fn register(node: &Node, registry: &mut Registry) {
    let Some(shared) = &node.cluster else {
        return;
    };
    let stats = node_stats(node);
    let (counts, replication) = (&stats.cluster, &stats.shards.replication);
    for (name, help, value) in [
        (
            "forwards_sent",
            "Commands sent on to other nodes",
            counts.forwards_sent,
        ),
        (
            "forwards_retried",
            "Commands sent on again, because their owner or a connection had changed",
            counts.forwards_retried,
        ),
        (
            "forwards_failed",
            "Commands sent on that got no reply",
            counts.forwards_failed,
        ),
        (
            "hot_copy_reads",
            "Reads of other nodes' hot keys answered here",
            counts.hot_copy_reads,
        ),
        (
            "elections",
            "Decisions of this node that removed or replaced a member that had died",
            counts.elections,
        ),
        (
            "lost_ranges",
            "Ranges that such decisions started with a part of their items or none",
            counts.lost_ranges,
        ),
        (
            "divergences",
            "Branches that this node lived in and that were given up",
            counts.divergences,
        ),
        (
            "aborted_hand_overs",
            "Hand-overs of primaryships that did not come about in time",
            counts.aborted_hand_overs,
        ),
        (
            "full_syncs",
            "Ranges that a follower was sent as a whole",
            replication.full_syncs,
        ),
        (
            "divergent_keys",
            "Keys written here that another primary's values replaced",
            replication.divergent_keys,
        ),
        (
            "refused_batches",
            "Batches of other nodes that a topology forbids",
            replication.refused_batches,
        ),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    register_lags(&replication.followers, registry);
    let Some(view) = shared.views.current() else {
        return;
    };
    let (view, status) = (&view.cluster, view.cluster.status());
    let heard = view.members().iter().filter(|member| member.is_heard());
    for (name, help, value) in [
        ("epoch", "Number of the topology", view.topology().epoch().0),
        (
            "members",
            "Members of the cluster",
            view.members().len() as u64,
        ),
        (
            "members_heard",
            "Members that were heard of late, this node included",
            heard.count() as u64,
        ),
        (
            "provisional",
            "1: no quorum is heard, and this node serves nevertheless",
            u64::from(status.is_provisional),
        ),
        (
            "ready",
            "1: a member whose copies are whole",
            u64::from(status.is_ready),
        ),
    ] {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
}

fn register_lags(followers: &[FollowerLag], registry: &mut Registry) {
    let [entries, bytes, ms] = [(); 3].map(|()| Level::<Follower>::default());
    for lag in followers {
        let label = Follower {
            follower: lag.node.to_string(),
        };
        entries.get_or_create(&label).set(lag.entries);
        bytes.get_or_create(&label).set(lag.bytes);
        ms.get_or_create(&label).set(lag.ms);
    }
    for (name, help, family) in [
        (
            "replication_lag_entries",
            "Writes that a follower has not acknowledged: what a failover to it would lose",
            entries,
        ),
        (
            "replication_lag_bytes",
            "Estimate of the bytes that these writes are",
            bytes,
        ),
        (
            "replication_lag_milliseconds",
            "Age of the oldest of these writes, at most",
            ms,
        ),
    ] {
        registry.register(name, help, family);
    }
}
