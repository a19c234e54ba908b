//! What operators ask a node to do: CLUSTER DRAIN, ADOPT and REBALANCE.

use std::num::NonZeroU16;

use fulmar_cluster::message::Moves;
use fulmar_protocol::CommandError;
use fulmar_protocol::command::ClusterCommand;
use fulmar_protocol::command::number::parse_i64;

/// Something to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Hand over what this node has, then stop.
    Drain,
    /// Make the branch that this node founded a cluster of its own.
    Adopt,
    /// Move ranges so from now on.
    Steer(Moves),
}

impl Operation {
    /// What a command asks for.
    pub(super) fn of(command: &ClusterCommand<'_>) -> Result<Self, CommandError> {
        match command {
            ClusterCommand::Drain => Ok(Self::Drain),
            ClusterCommand::Adopt => Ok(Self::Adopt),
            ClusterCommand::Rebalance { options } => moves(options).map(Self::Steer),
            _ => Err(CommandError::Syntax),
        }
    }
}

/// REBALANCE [LIMIT count | CANCEL].
fn moves(options: &[&[u8]]) -> Result<Moves, CommandError> {
    match options {
        [] => Ok(Moves::default()),
        [word] if word.eq_ignore_ascii_case(b"CANCEL") => Ok(Moves {
            is_paused: true,
            ..Moves::default()
        }),
        [word, count] if word.eq_ignore_ascii_case(b"LIMIT") => {
            let count = parse_i64(count).and_then(|count| u16::try_from(count).ok());
            let count = count.and_then(NonZeroU16::new);
            Ok(Moves {
                is_paused: false,
                learners_per_node_max: Some(count.ok_or(CommandError::NotAnInteger)?),
            })
        }
        _ => Err(CommandError::Syntax),
    }
}
