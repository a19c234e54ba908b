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
//! `operate.rs` and `status.rs` are what operators ask, beyond Redis.
//!
//! A [`ClusterView`] is a snapshot; whoever serves makes a new one when anything in it changes. The
//! three maps depend on nothing else, so [`ClusterView::render`] need run once per view and version
//! of RESP.

mod endpoint;
mod maps;
mod operate;
mod report;
mod status;
mod view;

use std::sync::Arc;

use fulmar_cluster::{SLOTS_COUNT, SLOTS_PER_RANGE, Slot};
use fulmar_protocol::command::number::parse_i64;
use fulmar_protocol::command::{ClusterCommand, reply_cluster_help};
use fulmar_protocol::{CommandError, ReplySink};

use super::{ClientState, Node};
use crate::digests::parse_ranges;
use crate::{Now, Shard};

pub use endpoint::{Endpoint, EndpointId, MemberPorts, MemberView};
pub use operate::Operation;
pub use status::{NodeLag, Progress};
pub use view::{ClusterStatus, ClusterView};

/// Most keys that one CLUSTER GETKEYSINSLOT gives, whatever its count says.
pub const SLOT_KEYS_MAX: usize = 10_000;
/// Items that a walk over a slot takes from the engine at a time.
const WALK_BATCH: usize = 1_024;

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
            let is_heard = rank.is_none_or(|rank| view.members[rank].is_heard());
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
        ClusterCommand::Status => {
            let text = view.status_text(&node.progress(now));
            reply.verbatim(&text);
        }
        ClusterCommand::Adopt if !view.is_founder_of_branch() => {
            return Err(CommandError::NoBranch);
        }
        ClusterCommand::Adopt | ClusterCommand::Drain | ClusterCommand::Rebalance { .. } => {
            node.operate(Operation::of(command)?)?;
            reply.ok();
        }
        // A walk: what is right goes in slices, and none of it inside a transaction.
        ClusterCommand::Digest { ranges } => {
            parse_ranges(ranges)?;
            return Err(CommandError::TryAgain);
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
