//! Commands of a cluster's clients.

use super::Parsed;
use crate::command::table::CommandId as Id;
use crate::command::{ClusterCommand, CommandError, ConnectionCommand, number};

/// The subcommands of CLUSTER that have arguments.
pub(super) fn with_arguments<'a>(id: Id, args: &'a [&'a [u8]]) -> Parsed<ClusterCommand<'a>> {
    Ok(match (id, args) {
        (Id::ClusterDigest, [_, _, ranges @ ..]) => ClusterCommand::Digest { ranges },
        (Id::ClusterRebalance, [_, _, options @ ..]) => ClusterCommand::Rebalance { options },
        (Id::ClusterFailover, _) => ClusterCommand::Failover { argv: args },
        (Id::ClusterCountFailureReports, [_, _, id]) => ClusterCommand::CountFailureReports { id },
        (Id::ClusterReplicas | Id::ClusterSlaves, [_, _, id]) => ClusterCommand::Replicas { id },
        (Id::ClusterKeySlot, [_, _, key]) => ClusterCommand::KeySlot { key },
        (Id::ClusterCountKeysInSlot, [_, _, slot]) => ClusterCommand::CountKeysInSlot { slot },
        (Id::ClusterGetKeysInSlot, [_, _, slot, count]) => {
            ClusterCommand::GetKeysInSlot { slot, count }
        }
        _ => return Err(CommandError::WrongArity(id)),
    })
}

/// WAIT: Redis takes any number of replicas, and no negative timeout.
pub(super) fn wait<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let [_, replicas, timeout] = args else {
        return Err(CommandError::WrongArity(Id::Wait));
    };
    let replicas = number::parse_i64(replicas).ok_or(CommandError::NotAnInteger)?;
    let timeout_ms = number::parse_i64(timeout).ok_or(CommandError::TimeoutNotAnInteger)?;
    Ok(ConnectionCommand::Wait {
        replicas,
        timeout_ms: u64::try_from(timeout_ms).map_err(|_| CommandError::TimeoutNegative)?,
    })
}
