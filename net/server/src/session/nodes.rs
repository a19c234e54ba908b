//! What all sessions do with commands for other nodes.

use fulmar_cluster::{NodeId, Slot, Time};
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::command::table::CommandSpec;
use fulmar_protocol::command::{Argv, DataCommand, SetCondition, SetReply};
use fulmar_shard::{Outcome as Executed, ShardMask, execute_scan};

use super::Context;
use crate::cluster::{Destination, Forward, Target, member_at, places_of};
use crate::dispatch::{HOLES_MAX, HeldShards, Outcome, with_sink};
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

/// SCAN of the whole cluster: executed here, or by the member whose shards the cursor is at.
pub(super) fn scan_in_turn(
    spec: &CommandSpec,
    command: &DataCommand<'_>,
    argv: &Argv<'_>,
    form: ReplyForm,
    context: &mut Context<'_, '_>,
) -> Outcome {
    let &DataCommand::Scan { cursor, .. } = command else {
        unreachable!("no other command goes this way");
    };
    let Some(view) = context.dispatcher.nodes().and_then(|nodes| nodes.view()) else {
        return Outcome::Busy;
    };
    match member_at(view.topology(), cursor) {
        Some(node) if node == view.own() => scan_here(command, form, context),
        Some(node) => send_on(spec, command, argv, node, form, context),
        None => {
            with_sink(form, context.output.replies(), |sink| {
                sink.array(2);
                sink.bulk(b"0");
                sink.array(0);
            });
            context.dispatcher.count(CommandId::Scan, Executed::Done);
            Outcome::Done
        }
    }
}

/// SCAN of the whole cluster, by the member whose shards the cursor is at: this node.
pub(super) fn scan_here(
    command: &DataCommand<'_>,
    form: ReplyForm,
    context: &mut Context<'_, '_>,
) -> Outcome {
    let view = context.dispatcher.nodes().and_then(|nodes| nodes.view());
    let Some(places) = view.and_then(|view| places_of(view.topology(), view.own())) else {
        return Outcome::Busy;
    };
    if context.output.holes_count() > 0 {
        return Outcome::Wait;
    }
    let all = ShardMask::first(context.tokens.shards_count());
    if !context.dispatcher.try_take_all(context.tokens, all.iter()) {
        return Outcome::Busy;
    }
    let now = context.dispatcher.now();
    let mut shards = HeldShards {
        tokens: context.tokens,
        placement: context.dispatcher.placement(),
    };
    let executed = with_sink(form, context.output.replies(), |sink| {
        execute_scan(command, places, &mut shards, now, sink)
    });
    context.dispatcher.count(CommandId::Scan, executed);
    Outcome::Done
}

/// Whether a cursor of a SCAN of the whole cluster is at the shards of this node.
pub(super) fn is_scan_here(cursor: u64, context: &Context<'_, '_>) -> bool {
    let view = context.dispatcher.nodes().and_then(|nodes| nodes.view());
    view.is_some_and(|view| member_at(view.topology(), cursor) == Some(view.own()))
}

/// Whether executing a write twice leaves what executing it once does, and replies the same.
fn is_idempotent_write(command: &DataCommand<'_>) -> bool {
    match command {
        DataCommand::Set(set) => set.condition == SetCondition::Always && set.reply == SetReply::Ok,
        DataCommand::MSet { .. } | DataCommand::SetRange { .. } => true,
        _ => false,
    }
}
