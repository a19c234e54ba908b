//! What there is to report of a shard's replication, or the sum of it over shards.

use fulmar_cluster::NodeId;

use crate::{Now, Shard};

/// Counts of what happened, and how far followers are behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicationStats {
    /// Full syncs begun.
    pub full_syncs: u64,
    /// Keys that were written here as a primary and that another primary's values replaced.
    pub divergent_keys: u64,
    /// Batches of others that were not applied because a topology says so.
    pub refused_batches: u64,
    /// The nodes that follow ranges from here.
    pub followers: Vec<FollowerLag>,
}

/// How far one node is behind, in the ranges that it follows: what a failover to it would lose now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerLag {
    /// The follower.
    pub node: NodeId,
    /// Whether all its connections are open.
    pub is_connected: bool,
    /// Ranges that it follows.
    pub ranges: u64,
    /// Of those, the ones of which it has no whole copy.
    pub incomplete: u64,
    /// Writes that it has not acknowledged.
    pub entries: u64,
    /// An estimate of what it would take to send them.
    pub bytes: u64,
    /// Age of the oldest of them, at most.
    pub ms: u64,
}

impl ReplicationStats {
    /// Adds those of another shard of the node.
    pub fn add(&mut self, other: &Self) {
        self.full_syncs += other.full_syncs;
        self.divergent_keys += other.divergent_keys;
        self.refused_batches += other.refused_batches;
        other.followers.iter().for_each(|lag| self.add_lag(lag));
    }

    fn add_lag(&mut self, lag: &FollowerLag) {
        let mut known = self.followers.iter_mut();
        match known.find(|one| one.node == lag.node) {
            Some(one) => one.add(lag),
            None => self.followers.push(*lag),
        }
    }
}

impl FollowerLag {
    fn add(&mut self, other: &Self) {
        self.is_connected &= other.is_connected;
        self.ranges += other.ranges;
        self.incomplete += other.incomplete;
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.ms = self.ms.max(other.ms);
    }
}

impl Shard {
    /// Nothing without replication. O(ranges).
    pub(crate) fn replication_stats(&self, now: Now) -> ReplicationStats {
        let Some(replication) = self.replication() else {
            return ReplicationStats::default();
        };
        let counts = replication.counts();
        let mut stats = ReplicationStats {
            full_syncs: counts.full_syncs,
            divergent_keys: counts.divergent_keys,
            refused_batches: counts.refused_batches,
            followers: Vec::new(),
        };
        for lag in replication.lags(fulmar_cluster::Time(now.time.0)) {
            stats.add_lag(&FollowerLag {
                node: lag.follower.core.node,
                is_connected: lag.is_connected,
                ranges: lag.ranges as u64,
                incomplete: lag.incomplete as u64,
                entries: lag.entries,
                bytes: lag.bytes,
                ms: lag.ms,
            });
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::NodeId;

    use super::{FollowerLag, ReplicationStats};

    #[test]
    fn followers_are_summed_by_node() {
        let lag = |node, entries, ms, is_connected| FollowerLag {
            node: NodeId(node),
            is_connected,
            ranges: 10,
            incomplete: 1,
            entries,
            bytes: entries * 100,
            ms,
        };
        let stats = |followers| ReplicationStats {
            full_syncs: 1,
            divergent_keys: 2,
            refused_batches: 3,
            followers,
        };
        let mut sum = stats(vec![lag(1, 5, 40, true), lag(2, 0, 0, true)]);
        sum.add(&stats(vec![lag(2, 7, 9, false), lag(3, 1, 1, true)]));
        assert_eq!(
            (sum.full_syncs, sum.divergent_keys, sum.refused_batches),
            (2, 4, 6)
        );
        let second = FollowerLag {
            ranges: 20,
            incomplete: 2,
            ..lag(2, 7, 9, false)
        };
        assert_eq!(
            sum.followers,
            [lag(1, 5, 40, true), second, lag(3, 1, 1, true)]
        );
    }
}
