//! The cluster in words: CLUSTER INFO, and INFO's sections on it.

use std::fmt::{self, Write};

use fulmar_cluster::{Copies, SLOTS_COUNT, SLOTS_PER_RANGE};

use super::super::NodeStats;
use super::ClusterView;
use super::view::Holders;
use crate::ReplicationStats;

impl ClusterView {
    /// The text of CLUSTER INFO.
    pub(super) fn write_info(&self, out: &mut String) -> fmt::Result {
        let is_served = |holders: &&Holders| self.members[usize::from(holders.primary)].is_heard();
        let ranges_ok = self.holders.iter().filter(is_served).count();
        let slots_ok = ranges_ok * usize::from(SLOTS_PER_RANGE);
        let slots_silent = usize::from(SLOTS_COUNT) - slots_ok;
        let size = self.slots_by_primary();
        let size = size.iter().filter(|slots| !slots.is_empty()).count();
        let is_ok = self.status.is_serving && !self.status.refuses_writes;
        let state = if is_ok { "ok" } else { "fail" };
        write!(out, "cluster_state:{state}\r\n")?;
        write!(out, "cluster_slots_assigned:{SLOTS_COUNT}\r\n")?;
        write!(out, "cluster_slots_ok:{slots_ok}\r\n")?;
        write!(out, "cluster_slots_pfail:{slots_silent}\r\n")?;
        write!(out, "cluster_slots_fail:0\r\n")?;
        write!(out, "cluster_known_nodes:{}\r\n", self.members.len())?;
        write!(out, "cluster_size:{size}\r\n")?;
        write!(out, "cluster_current_epoch:{}\r\n", self.topology.epoch().0)?;
        let own_epoch = self.config_epoch(self.own);
        write!(out, "cluster_my_epoch:{}\r\n", own_epoch.0)?;
        self.write_provisional(out)
    }

    /// Whether it acts without a quorum: what it says of the cluster may be void.
    fn write_provisional(&self, out: &mut String) -> fmt::Result {
        let is_provisional = u8::from(self.status.is_provisional);
        write!(out, "cluster_provisional:{is_provisional}\r\n")
    }

    /// The fields of INFO's section on replication. A follower's lag is what a failover to it would
    /// lose now.
    pub(in crate::session) fn write_replication(
        &self,
        stats: &ReplicationStats,
        out: &mut String,
    ) -> fmt::Result {
        let lag_of = |node| stats.followers.iter().find(|lag| lag.node == node);
        let is_follower = |node| {
            let rank = self.topology.rank(node);
            rank.is_some_and(|rank| {
                self.own_replicas()
                    .iter()
                    .any(|&own| usize::from(own) == rank)
            }) || lag_of(node).is_some()
        };
        let named = self.topology.members().iter().zip(&self.members);
        let followers: Vec<_> = named.filter(|(member, _)| is_follower(member.id)).collect();
        write!(
            out,
            "role:master\r\nconnected_slaves:{}\r\n",
            followers.len()
        )?;
        for (number, (member, view)) in followers.into_iter().enumerate() {
            let (host, port) = (view.host(), view.ports().replica);
            let lag = lag_of(member.id);
            let is_whole = lag.is_none_or(|lag| lag.is_connected && lag.incomplete == 0);
            let state = if is_whole { "online" } else { "sync" };
            write!(out, "slave{number}:ip={host},port={port},state={state}")?;
            if let Some(lag) = lag {
                write!(out, ",ranges={},incomplete={}", lag.ranges, lag.incomplete)?;
                write!(out, ",lag_entries={}", lag.entries)?;
                write!(out, ",lag_bytes={},lag_ms={}", lag.bytes, lag.ms)?;
            }
            out.push_str("\r\n");
        }
        let lags = &stats.followers;
        let entries: u64 = lags.iter().map(|lag| lag.entries).sum();
        let bytes: u64 = lags.iter().map(|lag| lag.bytes).sum();
        let ms = lags.iter().map(|lag| lag.ms).max().unwrap_or(0);
        write!(out, "replication_lag_entries:{entries}\r\n")?;
        write!(out, "replication_lag_bytes:{bytes}\r\n")?;
        write!(out, "replication_lag_ms:{ms}\r\n")?;
        write!(out, "replication_full_syncs:{}\r\n", stats.full_syncs)?;
        write!(
            out,
            "replication_divergent_keys:{}\r\n",
            stats.divergent_keys
        )?;
        write!(
            out,
            "replication_refused_batches:{}\r\n",
            stats.refused_batches
        )
    }

    /// The fields of INFO's section on the cluster, behind `cluster_enabled`.
    pub(in crate::session) fn write_section(
        &self,
        stats: &NodeStats,
        out: &mut String,
    ) -> fmt::Result {
        let copies = || self.topology.ranges().map(|(_, copies)| copies);
        let is_replica = |copies: &&Copies| copies.replicas.contains(&self.own);
        let primaries = copies().filter(|copies| copies.primary == self.own).count();
        let heard = self
            .members
            .iter()
            .filter(|member| member.is_heard())
            .count();
        write!(out, "cluster_id:{}\r\n", self.topology.cluster())?;
        write!(out, "cluster_node_id:{}\r\n", self.own)?;
        write!(out, "cluster_epoch:{}\r\n", self.topology.epoch().0)?;
        write!(out, "cluster_ready:{}\r\n", u8::from(self.status.is_ready))?;
        self.write_provisional(out)?;
        write!(out, "cluster_members:{}\r\n", self.members.len())?;
        write!(out, "cluster_members_heard:{heard}\r\n")?;
        write!(out, "cluster_ranges_primary:{primaries}\r\n")?;
        let replicas = copies().filter(is_replica).count();
        write!(out, "cluster_ranges_replica:{replicas}\r\n")?;
        write!(
            out,
            "cluster_replica_port:{}\r\n",
            self.own_view.ports().replica
        )?;
        write!(out, "cluster_port:{}\r\n", self.own_view.ports().cluster)?;
        let counts = &stats.cluster;
        let counted = [
            ("forwards_sent", counts.forwards_sent),
            ("forwards_retried", counts.forwards_retried),
            ("forwards_failed", counts.forwards_failed),
            ("hot_copies", counts.hot_copies),
            ("hot_copy_reads", counts.hot_copy_reads),
            ("elections", counts.elections),
            ("lost_ranges", counts.lost_ranges),
            ("divergences", counts.divergences),
            ("abandoned_decisions", counts.abandoned_decisions),
            ("aborted_hand_overs", counts.aborted_hand_overs),
        ];
        counted
            .iter()
            .try_for_each(|(name, count)| write!(out, "cluster_{name}:{count}\r\n"))
    }
}
