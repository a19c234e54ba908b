//! The cluster in words: CLUSTER INFO, and INFO's sections on it.

use std::fmt::{self, Write};

use fulmar_cluster::{Copies, SLOTS_COUNT, SLOTS_PER_RANGE};

use super::ClusterView;
use super::view::Holders;

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
        write!(out, "cluster_my_epoch:{}\r\n", own_epoch.0)
    }

    /// The fields of INFO's section on replication.
    pub(in crate::session) fn write_replication(&self, out: &mut String) -> fmt::Result {
        let replicas = self.own_replicas();
        write!(
            out,
            "role:master\r\nconnected_slaves:{}\r\n",
            replicas.len()
        )?;
        for (number, rank) in replicas.into_iter().enumerate() {
            let member = &self.members[usize::from(rank)];
            let (host, port) = (member.host(), member.ports().replica);
            write!(out, "slave{number}:ip={host},port={port},state=online\r\n")?;
        }
        Ok(())
    }

    /// The fields of INFO's section on the cluster, behind `cluster_enabled`.
    pub(in crate::session) fn write_section(&self, out: &mut String) -> fmt::Result {
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
        let is_provisional = u8::from(self.status.is_provisional);
        write!(out, "cluster_provisional:{is_provisional}\r\n")?;
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
        write!(out, "cluster_port:{}\r\n", self.own_view.ports().cluster)
    }
}
