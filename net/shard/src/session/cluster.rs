//! CLUSTER and its like: the cluster as its clients see it.
//!
//! Stock clients give an endpoint one role for good. So a node has two, each with a port and an id of
//! its own: its port proper, which is only ever a primary, and another for reads of what it holds as
//! a replica. NODES and SHARDS list the primaries; SLOTS lists both.
//!
//! ```text
//! endpoint's id:  cccccccccccccccc nnnnnnnnnnnnnnnn rrrrrrrr   40 hexadecimal digits
//!                 cluster          node             role: 0 primary, 1 replica
//! ```
//!
//! A [`ClusterView`] is a snapshot; whoever serves makes a new one when anything in it changes. The
//! three maps depend on nothing else, so [`ClusterView::render`] need run once per view and version
//! of RESP.

use std::fmt::{self, Write};
use std::sync::Arc;

use fulmar_cluster::topology::REPLICAS_MAX;
use fulmar_cluster::{
    ClusterId, Epoch, NodeId, Range, SLOTS_COUNT, SLOTS_PER_RANGE, Slot, Topology,
};
use fulmar_protocol::command::number::parse_i64;
use fulmar_protocol::command::{ClusterCommand, ClusterMap, reply_cluster_help};
use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_protocol::{CommandError, ReplySink};

use super::{ClientState, Node};
use crate::{Now, Shard};

/// Most keys that one CLUSTER GETKEYSINSLOT gives, whatever its count says.
pub const SLOT_KEYS_MAX: usize = 10_000;
/// Items that a walk over a slot takes from the engine at a time.
const WALK_BATCH: usize = 1_024;

/// One of a node's two endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Its port proper.
    #[default]
    Primary,
    /// The port for reads of what it holds as a replica.
    Replica,
}

/// The name of an endpoint: `Display` gives its 40 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointId {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Which of its endpoints.
    pub endpoint: Endpoint,
}

/// Bytes of an [`EndpointId`]'s text.
const ENDPOINT_ID_BYTES: usize = 40;

impl EndpointId {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != ENDPOINT_ID_BYTES || !text.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let number = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        Some(Self {
            cluster: ClusterId(number(&text[..16])?),
            node: NodeId(number(&text[16..32])?),
            endpoint: match number(&text[32..])? {
                0 => Endpoint::Primary,
                1 => Endpoint::Replica,
                _ => return None,
            },
        })
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.endpoint {
            Endpoint::Primary => 0,
            Endpoint::Replica => 1,
        };
        write!(f, "{}{}{role:08x}", self.cluster, self.node)
    }
}

/// How CLUSTER FAILOVER is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// With the primary's help.
    Orderly,
    /// FORCE: without the primary.
    Force,
    /// TAKEOVER: without a vote.
    TakeOver,
}

/// Where a member can be reached, and whether it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    host: Arc<str>,
    ports: MemberPorts,
    is_heard: bool,
    primary_address: Arc<str>,
    replica_address: Arc<str>,
}

/// The ports of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberPorts {
    /// RESP, as a primary.
    pub resp: u16,
    /// RESP, for reads of replicas.
    pub replica: u16,
    /// HTTP, if there is one.
    pub http: Option<u16>,
    /// Other nodes.
    pub cluster: u16,
}

impl MemberView {
    /// A member that announces itself under this host name or address. An empty one: clients use the
    /// one that they asked.
    ///
    /// # Panics
    /// If the host has control characters or blanks.
    #[must_use]
    pub fn new(host: Arc<str>, ports: MemberPorts, is_heard: bool) -> Self {
        assert!(host.bytes().all(|byte| byte.is_ascii_graphic()));
        Self {
            primary_address: format!("{host}:{}", ports.resp).into(),
            replica_address: format!("{host}:{}", ports.replica).into(),
            host,
            ports,
            is_heard,
        }
    }

    /// The host that it announces.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its ports.
    #[must_use]
    pub fn ports(&self) -> MemberPorts {
        self.ports
    }

    /// Whether it was heard of late.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// `host:port` of an endpoint.
    #[must_use]
    pub fn address(&self, endpoint: Endpoint) -> &Arc<str> {
        match endpoint {
            Endpoint::Primary => &self.primary_address,
            Endpoint::Replica => &self.replica_address,
        }
    }

    fn port(&self, endpoint: Endpoint) -> u16 {
        match endpoint {
            Endpoint::Primary => self.ports.resp,
            Endpoint::Replica => self.ports.replica,
        }
    }
}

/// How this node stands in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its copies are complete: it serves all that the topology gives it.
    pub is_ready: bool,
    /// No quorum is heard: what it does is not decided by the cluster.
    pub is_provisional: bool,
    /// It answers writes with CLUSTERDOWN, because no quorum is heard.
    pub refuses_writes: bool,
}

/// The cluster at one moment.
#[derive(Clone, Debug)]
pub struct ClusterView {
    topology: Arc<Topology>,
    own: NodeId,
    own_view: MemberView,
    members: Box<[MemberView]>,
    status: ClusterStatus,
    /// By range, the ranks of its holders.
    holders: Box<[Holders]>,
}

/// Ranks of the members that hold a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holders {
    primary: u16,
    /// Those that are heard, by seniority; the rest is [`NOBODY`](Self::NOBODY).
    replicas: [u16; REPLICAS_MAX as usize],
}

impl Holders {
    const NOBODY: u16 = u16::MAX;

    fn replicas(&self) -> impl Iterator<Item = u16> + '_ {
        let ranks = self.replicas.iter().copied();
        ranks.take_while(|&rank| rank != Self::NOBODY)
    }
}

/// Consecutive slots that belong together, `last` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slots {
    first: u16,
    last: u16,
}

impl Slots {
    fn of(range: Range) -> Self {
        let first = range.index() * SLOTS_PER_RANGE;
        Self {
            first,
            last: first + (SLOTS_PER_RANGE - 1),
        }
    }
}

impl ClusterView {
    /// The cluster as `own` sees it; `own_view` says where it is reached itself, since it may not
    /// be a member yet. O(ranges * members).
    ///
    /// # Panics
    /// If `members` are not as many as the topology has; they stand in its order.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        (own, own_view): (NodeId, MemberView),
        members: Vec<MemberView>,
        status: ClusterStatus,
    ) -> Self {
        assert_eq!(members.len(), topology.members().len());
        let holders = topology.ranges().map(|(_, copies)| {
            let rank = |node| {
                let rank = topology.rank(node).expect("holders are members");
                u16::try_from(rank).expect("members are few")
            };
            let mut replicas = [Holders::NOBODY; REPLICAS_MAX as usize];
            let ranks = copies.replicas.iter().map(|&node| rank(node));
            let heard = ranks.filter(|&rank| members[usize::from(rank)].is_heard);
            for (place, rank) in replicas.iter_mut().zip(heard) {
                *place = rank;
            }
            replicas.sort_unstable();
            Holders {
                primary: rank(copies.primary),
                replicas,
            }
        });
        Self {
            holders: holders.collect(),
            topology,
            own,
            own_view,
            members: members.into(),
            status,
        }
    }

    /// What the members decided.
    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// This node.
    #[must_use]
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// How this node stands.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.status
    }

    /// The members, in the topology's order.
    #[must_use]
    pub fn members(&self) -> &[MemberView] {
        &self.members
    }

    /// MOVED to the primary of a slot. O(1), without an allocation.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn moved(&self, slot: u16) -> CommandError {
        let holders = &self.holders[usize::from(slot / SLOTS_PER_RANGE)];
        let member = &self.members[usize::from(holders.primary)];
        CommandError::Moved {
            slot,
            address: Arc::clone(member.address(Endpoint::Primary)),
        }
    }

    /// One of the maps, encoded: to be kept for as long as this view is the newest.
    #[must_use]
    pub fn render(&self, map: ClusterMap, version: RespVersion) -> Vec<u8> {
        let mut out = Vec::new();
        self.reply_map(map, &mut Encoder::new(&mut out, version));
        out
    }

    /// The name of a member's endpoint.
    fn endpoint_id(&self, node: NodeId, endpoint: Endpoint) -> EndpointId {
        EndpointId {
            cluster: self.topology.cluster(),
            node,
            endpoint,
        }
    }

    fn reply_map(&self, map: ClusterMap, reply: &mut dyn ReplySink) {
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

    /// Runs of slots with the same holders.
    fn runs(&self, is_same: fn(&Holders, &Holders) -> bool) -> Vec<(Slots, Holders)> {
        let mut runs: Vec<(Slots, Holders)> = Vec::new();
        for (range, holders) in Range::all().zip(&self.holders) {
            let slots = Slots::of(range);
            match runs.last_mut() {
                Some((run, before)) if is_same(before, holders) => run.last = slots.last,
                _ => runs.push((slots, *holders)),
            }
        }
        runs
    }

    /// The slots that each member serves as a primary, by rank.
    fn slots_by_primary(&self) -> Vec<Vec<Slots>> {
        let mut by_primary = vec![Vec::new(); self.members.len()];
        for (slots, holders) in self.runs(|one, other| one.primary == other.primary) {
            by_primary[usize::from(holders.primary)].push(slots);
        }
        by_primary
    }

    /// The epoch in which a member last became a primary; 0 if it is none.
    fn config_epoch(&self, node: NodeId) -> Epoch {
        let copies = self.topology.ranges().map(|(_, copies)| copies);
        let own = copies.filter(|copies| copies.primary == node);
        own.map(|copies| copies.term).max().unwrap_or_default()
    }

    fn reply_slots(&self, reply: &mut dyn ReplySink) {
        let runs = self.runs(|one, other| one == other);
        reply.array(runs.len());
        for (slots, holders) in runs {
            reply.array(3 + holders.replicas().count());
            reply.integer(slots.first.into());
            reply.integer(slots.last.into());
            self.reply_endpoint(holders.primary, Endpoint::Primary, reply);
            for rank in holders.replicas() {
                self.reply_endpoint(rank, Endpoint::Replica, reply);
            }
        }
    }

    fn reply_endpoint(&self, rank: u16, endpoint: Endpoint, reply: &mut dyn ReplySink) {
        let member = &self.members[usize::from(rank)];
        let node = self.topology.members()[usize::from(rank)].id;
        reply.array(4);
        reply.bulk(member.host.as_bytes());
        reply.integer(member.port(endpoint).into());
        reply.bulk(self.endpoint_id(node, endpoint).to_string().as_bytes());
        reply.map(0);
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
            super::reply_text_pair("id", &id.to_string(), reply);
            reply.bulk(b"port");
            reply.integer(member.ports.resp.into());
            super::reply_text_pair("ip", &member.host, reply);
            super::reply_text_pair("endpoint", &member.host, reply);
            super::reply_text_pair("role", "master", reply);
            // Offsets are counted by range, so there is none for a node.
            reply.bulk(b"replication-offset");
            reply.integer(0);
            let health = if member.is_heard { "online" } else { "fail" };
            super::reply_text_pair("health", health, reply);
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
        } else if member.is_heard {
            ("master", "connected")
        } else {
            ("master,fail?", "disconnected")
        };
        write!(
            out,
            "{id} {}@{}",
            member.primary_address, member.ports.cluster
        )?;
        write!(out, " {flags} - 0 0 {} {link}", epoch.0)
    }

    /// The text of CLUSTER INFO.
    fn write_info(&self, out: &mut String) -> fmt::Result {
        let is_served = |holders: &&Holders| self.members[usize::from(holders.primary)].is_heard;
        let ranges_ok = self.holders.iter().filter(is_served).count();
        let slots_ok = ranges_ok * usize::from(SLOTS_PER_RANGE);
        let slots_silent = usize::from(SLOTS_COUNT) - slots_ok;
        let size = self.slots_by_primary();
        let size = size.iter().filter(|slots| !slots.is_empty()).count();
        let is_ok = self.status.is_ready && !self.status.refuses_writes;
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

    /// Ranks of the members that hold replicas of what this node is the primary of, and are heard.
    fn own_replicas(&self) -> Vec<u16> {
        let own = self.topology.rank(self.own);
        let held = self.holders.iter();
        let own = held.filter(|holders| Some(usize::from(holders.primary)) == own);
        let mut ranks: Vec<u16> = own.flat_map(Holders::replicas).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// The fields of INFO's section on replication.
    pub(super) fn write_replication(&self, out: &mut String) -> fmt::Result {
        let replicas = self.own_replicas();
        write!(
            out,
            "role:master\r\nconnected_slaves:{}\r\n",
            replicas.len()
        )?;
        for (number, rank) in replicas.into_iter().enumerate() {
            let member = &self.members[usize::from(rank)];
            let (host, port) = (&member.host, member.ports.replica);
            write!(out, "slave{number}:ip={host},port={port},state=online\r\n")?;
        }
        Ok(())
    }

    /// The fields of INFO's section on the cluster, behind `cluster_enabled`.
    pub(super) fn write_section(&self, out: &mut String) -> fmt::Result {
        let copies = || self.topology.ranges().map(|(_, copies)| copies);
        let is_replica = |copies: &&fulmar_cluster::Copies| copies.replicas.contains(&self.own);
        let primaries = copies().filter(|copies| copies.primary == self.own).count();
        let heard = self.members.iter().filter(|member| member.is_heard).count();
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
            self.own_view.ports.replica
        )?;
        write!(out, "cluster_port:{}\r\n", self.own_view.ports.cluster)
    }
}

/// Visits the live keys of a slot in the shard that is at home to it, until `visit` gives `false`.
///
/// Costs the slot's range. In another shard there are none.
pub fn visit_slot(shard: &Shard, slot: u16, now: Now, visit: &mut dyn FnMut(&[u8]) -> bool) {
    let range = slot / SLOTS_PER_RANGE;
    let mut cursor = 0;
    let mut goes_on = true;
    while goes_on {
        let mut visit_item = |item: fulmar_engine::Item<'_>| {
            if goes_on && Slot::of(item.key()).number() == slot {
                goes_on = visit(item.key());
            }
        };
        cursor = shard
            .cache
            .walk_range(range, cursor, WALK_BATCH, now.time, &mut visit_item);
        goes_on &= cursor != 0;
    }
}

/// The cluster, or the error of a node that has none.
pub(super) fn require(node: &dyn Node) -> Result<Arc<ClusterView>, CommandError> {
    node.cluster().ok_or(CommandError::ClusterDisabled)
}

/// Answers CLUSTER's subcommands.
pub(super) fn answer(
    command: &ClusterCommand<'_>,
    client: &mut ClientState,
    node: &mut dyn Node,
    now: Now,
    reply: &mut dyn ReplySink,
) -> Result<(), CommandError> {
    let view = require(node)?;
    match *command {
        ClusterCommand::Map(map) => {
            client.is_cluster_client = true;
            view.reply_map(map, reply);
        }
        ClusterCommand::MyId => {
            let id = view.endpoint_id(view.own, client.endpoint);
            reply.bulk(id.to_string().as_bytes());
        }
        ClusterCommand::Info => {
            let mut text = String::new();
            view.write_info(&mut text).expect("a String takes any text");
            reply.verbatim(&text);
        }
        ClusterCommand::KeySlot { key } => reply.integer(Slot::of(key).number().into()),
        ClusterCommand::CountKeysInSlot { slot } => {
            let slot = parse_i64(slot).ok_or(CommandError::NotAnInteger)?;
            let slot = slot_of_number(slot).ok_or(CommandError::InvalidSlot)?;
            let mut count = 0;
            node.visit_slot(slot, now, &mut |_| {
                count += 1;
                true
            })?;
            reply.integer(count);
        }
        ClusterCommand::GetKeysInSlot { slot, count } => {
            get_keys_in_slot(slot, count, node, now, reply)?;
        }
        ClusterCommand::CountFailureReports { id } => {
            let (rank, _) = find(&view, id)?;
            let is_heard = rank.is_none_or(|rank| view.members[rank].is_heard);
            reply.integer(i64::from(!is_heard));
        }
        // Replicas are of ranges, not of nodes: no endpoint is the replica of one primary.
        ClusterCommand::Replicas { id } => match find(&view, id)? {
            (_, Endpoint::Primary) => reply.array(0),
            (_, Endpoint::Replica) => return Err(CommandError::NotAMaster),
        },
        ClusterCommand::Failover { argv } => {
            let mode = failover_mode(argv)?;
            if client.endpoint == Endpoint::Primary {
                return Err(CommandError::FailoverNotReplica);
            }
            node.fail_over(mode)?;
            reply.ok();
        }
        ClusterCommand::Help => reply_cluster_help(reply),
    }
    Ok(())
}

fn slot_of_number(number: i64) -> Option<u16> {
    let slot = u16::try_from(number).ok()?;
    (slot < SLOTS_COUNT).then_some(slot)
}

fn get_keys_in_slot(
    slot: &[u8],
    count: &[u8],
    node: &mut dyn Node,
    now: Now,
    reply: &mut dyn ReplySink,
) -> Result<(), CommandError> {
    let slot = parse_i64(slot).ok_or(CommandError::NotAnInteger)?;
    let count = parse_i64(count).ok_or(CommandError::NotAnInteger)?;
    let slot = slot_of_number(slot).ok_or(CommandError::InvalidSlotOrCount)?;
    let count = usize::try_from(count).map_err(|_| CommandError::InvalidSlotOrCount)?;
    let count = count.min(SLOT_KEYS_MAX);
    let mut keys: Vec<Box<[u8]>> = Vec::new();
    if count > 0 {
        node.visit_slot(slot, now, &mut |key| {
            keys.push(key.into());
            keys.len() < count
        })?;
    }
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// The rank of the member that an endpoint's id names, none if it is this node and no member yet.
fn find(view: &ClusterView, text: &[u8]) -> Result<(Option<usize>, Endpoint), CommandError> {
    let unknown = || CommandError::unknown_node(text);
    let id = EndpointId::parse(text).ok_or_else(unknown)?;
    let rank = view.topology.rank(id.node);
    let is_known = rank.is_some() || id.node == view.own;
    if is_known && id.cluster == view.topology.cluster() {
        Ok((rank, id.endpoint))
    } else {
        Err(unknown())
    }
}

fn failover_mode(argv: &[&[u8]]) -> Result<Failover, CommandError> {
    match argv {
        [_, _] => Ok(Failover::Orderly),
        [_, _, mode] if mode.eq_ignore_ascii_case(b"FORCE") => Ok(Failover::Force),
        [_, _, mode] if mode.eq_ignore_ascii_case(b"TAKEOVER") => Ok(Failover::TakeOver),
        [_, _, _] => Err(CommandError::Syntax),
        _ => {
            let subcommand = argv.get(1).copied().unwrap_or_default();
            Err(CommandError::cluster_arity(subcommand))
        }
    }
}
