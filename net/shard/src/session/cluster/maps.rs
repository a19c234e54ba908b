//! CLUSTER NODES, SHARDS and SLOTS: who serves what, in the three forms that clients ask for.

use std::fmt::{self, Write};

use fulmar_cluster::{Epoch, NodeId};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::ClusterMap;
use fulmar_protocol::resp::{Encoder, RespVersion};

use super::super::reply_text_pair;
use super::view::Slots;
use super::{ClusterView, Endpoint, MemberView};

impl ClusterView {
    /// One of the maps, encoded: to be kept for as long as this view is the newest.
    #[must_use]
    pub fn render(&self, map: ClusterMap, version: RespVersion) -> Vec<u8> {
        let mut out = Vec::new();
        self.reply_map(map, &mut Encoder::new(&mut out, version));
        out
    }

    pub(super) fn reply_map(&self, map: ClusterMap, reply: &mut dyn ReplySink) {
        match map {
            ClusterMap::Nodes => {
                let mut lines = String::new();
                self.write_nodes(&mut lines)
                    .expect("a String takes any text");
                reply.verbatim(&lines);
            }
            ClusterMap::Shards => self.reply_shards(reply),
            ClusterMap::Slots => self.reply_slots(reply),
        }
    }

    fn reply_slots(&self, reply: &mut dyn ReplySink) {
        // A name is spelled once, not for each run that its endpoint is in.
        let members = self.topology.members().iter();
        let names: Vec<[String; 2]> = members
            .map(|member| {
                let roles = [Endpoint::Primary, Endpoint::Replica];
                roles.map(|role| self.endpoint_id(member.id, role).to_string())
            })
            .collect();
        let reply_endpoint = |rank: u16, endpoint: Endpoint, reply: &mut dyn ReplySink| {
            let member = &self.members[usize::from(rank)];
            reply.array(4);
            reply.bulk(member.host().as_bytes());
            reply.integer(member.port(endpoint).into());
            reply.bulk(names[usize::from(rank)][endpoint as usize].as_bytes());
            reply.map(0);
        };
        let runs = self.runs(|one, other| one == other);
        reply.array(runs.len());
        for (slots, holders) in runs {
            reply.array(3 + holders.replicas().count());
            reply.integer(slots.first.into());
            reply.integer(slots.last.into());
            reply_endpoint(holders.primary, Endpoint::Primary, reply);
            for rank in holders.replicas() {
                reply_endpoint(rank, Endpoint::Replica, reply);
            }
        }
    }

    fn reply_shards(&self, reply: &mut dyn ReplySink) {
        reply.array(self.members.len());
        let named = self.topology.members().iter().zip(&self.members);
        for ((node, member), runs) in named.zip(self.slots_by_primary()) {
            reply.map(2);
            reply.bulk(b"slots");
            reply.array(2 * runs.len());
            for slots in runs {
                reply.integer(slots.first.into());
                reply.integer(slots.last.into());
            }
            reply.bulk(b"nodes");
            reply.array(1);
            reply.map(7);
            let id = self.endpoint_id(node.id, Endpoint::Primary);
            reply_text_pair("id", &id.to_string(), reply);
            reply.bulk(b"port");
            reply.integer(member.ports().resp.into());
            reply_text_pair("ip", member.host(), reply);
            reply_text_pair("endpoint", member.host(), reply);
            reply_text_pair("role", "master", reply);
            // Offsets are counted by range, so there is none for a node.
            reply.bulk(b"replication-offset");
            reply.integer(0);
            let health = if member.is_heard() { "online" } else { "fail" };
            reply_text_pair("health", health, reply);
        }
    }

    fn write_nodes(&self, out: &mut String) -> fmt::Result {
        let named = self.topology.members().iter().zip(&self.members);
        for ((node, member), runs) in named.zip(self.slots_by_primary()) {
            let epoch = self.config_epoch(node.id);
            self.write_node(node.id, member, epoch, out)?;
            for Slots { first, last } in runs {
                write!(out, " {first}-{last}")?;
            }
            out.push('\n');
        }
        if self.topology.member(self.own).is_none() {
            self.write_node(self.own, &self.own_view, Epoch(0), out)?;
            out.push('\n');
        }
        Ok(())
    }

    /// A line of CLUSTER NODES without its slots. Pings are not told: a map is rendered once.
    fn write_node(
        &self,
        node: NodeId,
        member: &MemberView,
        epoch: Epoch,
        out: &mut String,
    ) -> fmt::Result {
        let id = self.endpoint_id(node, Endpoint::Primary);
        let (flags, link) = if node == self.own {
            ("myself,master", "connected")
        } else if member.is_heard() {
            ("master", "connected")
        } else {
            ("master,fail?", "disconnected")
        };
        write!(
            out,
            "{id} {}@{}",
            member.address(Endpoint::Primary),
            member.ports().cluster
        )?;
        write!(out, " {flags} - 0 0 {} {link}", epoch.0)
    }
}
