//! What all sessions do with commands for other nodes.

use fulmar_cluster::{NodeId, Slot, Time};
use fulmar_protocol::command::table::CommandSpec;
use fulmar_protocol::command::{Argv, DataCommand, SetCondition, SetReply};
use fulmar_shard::Outcome as Executed;

use super::Context;
use crate::cluster::{Destination, Forward, Target};
use crate::dispatch::{HOLES_MAX, Outcome};
use crate::message::ReplyForm;
use crate::pending::Pending;

/// Sends a whole command to the node that has its keys, and keeps the place of its reply.
pub(super) fn send_on(
    spec: &CommandSpec,
    command: &DataCommand<'_>,
    argv: &Argv<'_>,
    node: NodeId,
    form: ReplyForm,
    context: &mut Context<'_, '_>,
) -> Outcome {
    if context.output.holes_count() >= HOLES_MAX {
        return Outcome::Wait;
    }
    let now = Time(context.dispatcher.now().time.0);
    let Some(nodes) = context.dispatcher.nodes_mut() else {
        return Outcome::Busy;
    };
    if !nodes.has_room() {
        return Outcome::Busy;
    }
    let destination = Destination {
        connection: context.id,
        target: Target::Hole(context.output.reserve()),
        form,
    };
    let key = spec.keys_in(argv.args).next();
    let is_idempotent = !spec.is_write() || is_idempotent_write(command);
    nodes.forward(Forward::new(
        destination,
        Pending::new(argv, Vec::new()),
        is_idempotent,
        node,
        key.map(|key| Slot::of(key).range()),
        now,
    ));
    context.dispatcher.count(spec.id, Executed::Done);
    Outcome::Done
}

/// Whether executing a write twice leaves what executing it once does, and replies the same.
fn is_idempotent_write(command: &DataCommand<'_>) -> bool {
    match command {
        DataCommand::Set(set) => set.condition == SetCondition::Always && set.reply == SetReply::Ok,
        DataCommand::MSet { .. } | DataCommand::SetRange { .. } => true,
        _ => false,
    }
}
