//! What all sessions do with commands for other nodes.

use fulmar_cluster::{NodeId, Slot, Time};
use fulmar_protocol::command::table::{CommandId, CommandSpec, lookup};
use fulmar_protocol::command::{Argv, Command, DataCommand, SetCondition, SetReply};
use fulmar_shard::{Access, Outcome as Executed, Route, ShardMask, execute, execute_scan, route};

use super::Context;
use crate::cluster::{Destination, Forward, Nodes, Target, member_at, places_of};
use crate::dispatch::{Dispatcher, HOLES_MAX, HeldShards, Outcome, with_sink};
use crate::message::{ReplyForm, Request};
use crate::pending::Pending;
use crate::replies::Replies;
use crate::token::Tokens;

/// Answers a read of another node's hot key, if this core may; true if so.
pub(super) fn answer_from_copy(
    command: &DataCommand<'_>,
    form: ReplyForm,
    context: &mut Context<'_, '_>,
) -> bool {
    let DataCommand::Get { key } = command else {
        return false;
    };
    let now = Time(context.dispatcher.now().time.0);
    let nodes = context.dispatcher.nodes_mut();
    let Some(value) = nodes.and_then(|nodes| nodes.read_copy(key, context.id, now)) else {
        return false;
    };
    with_sink(form, context.output.replies(), |sink| sink.bulk(value));
    context.dispatcher.count(CommandId::Get, Executed::Done);
    true
}

/// Sends a whole command to the node that has its keys, and keeps the place of its reply. `to` is that
/// node, and whether a replica may answer.
pub(super) fn send_on(
    spec: &CommandSpec,
    command: &DataCommand<'_>,
    argv: &Argv<'_>,
    to: (NodeId, bool),
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
    if !nodes.has_room(1, context.id) {
        return Outcome::Wait;
    }
    let destination = Destination {
        connection: context.id,
        target: Target::Hole(context.output.reserve()),
        form,
    };
    nodes.forward(forward_of(spec, command, argv, destination, to, now));
    context.dispatcher.count(spec.id, Executed::Done);
    Outcome::Done
}

/// Keeps a command that another core did not execute, for its keys were changing hands: it is executed
/// here, or sent on, when they have.
pub(crate) fn try_again(
    request: &Request,
    args: &[&[u8]],
    access: Access,
    dispatcher: &mut Dispatcher<'_>,
) {
    let argv = Argv { args, staged: &[] };
    let spec = lookup(args).expect("looked up before it was sent");
    let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
        unreachable!("only commands on keys are sent");
    };
    dispatcher.count(spec.id, Executed::Done);
    let now = Time(dispatcher.now().time.0);
    let Some(nodes) = dispatcher.nodes_mut() else {
        unreachable!("keys change hands only in a cluster");
    };
    let destination = Destination {
        connection: request.connection,
        target: Target::Hole(request.hole),
        form: request.form,
    };
    let to = (nodes.shared().own, access == Access::ReadOld);
    let forward = forward_of(spec, &command, &argv, destination, to, now);
    nodes.keep(Box::new(forward));
}

fn forward_of(
    spec: &CommandSpec,
    command: &DataCommand<'_>,
    argv: &Argv<'_>,
    destination: Destination,
    (node, may_read_replica): (NodeId, bool),
    now: Time,
) -> Forward {
    let key = spec.keys_in(argv.args).next();
    let mut forward = Forward::new(
        destination,
        spec.id,
        Pending::new(argv, Vec::new()),
        !spec.is_write() || is_idempotent_write(command),
        node,
        key.map(|key| Slot::of(key).range()),
        now,
    );
    forward.may_read_replica = may_read_replica;
    forward
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
        Some(node) => send_on(spec, command, argv, (node, false), form, context),
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

/// What became of a command that came back to this node.
pub(crate) enum Here {
    /// It was executed.
    Done(Replies),
    /// It cannot be at this moment.
    NotNow,
    /// Some of its keys are this node's, and others are not.
    Parted,
}

/// Executes a command that was on its way to another node, and whose first key is this node's by now.
pub(crate) fn execute_here(forward: &Forward, dispatcher: &mut Dispatcher<'_>) -> Here {
    forward.args.with_argv(|argv| {
        let spec = lookup(argv.args).expect("looked up before it was sent");
        let is_serving = |nodes: &Nodes<'_>| nodes.shared().serving().executes(spec.is_write());
        if !dispatcher.nodes().is_some_and(is_serving) {
            return Here::NotNow;
        }
        if !dispatcher.owns_all(spec, argv.args, forward.may_read_replica) {
            return Here::Parted;
        }
        let Ok(Command::Data(command)) = Command::parse(spec, *argv) else {
            unreachable!("only commands on keys are sent");
        };
        let placement = dispatcher.placement();
        let mask = match route(spec, argv, &placement) {
            Route::One(shard, _) => {
                let mut mask = ShardMask::EMPTY;
                mask.insert(shard);
                mask
            }
            Route::Many(mask) => mask,
            Route::Connection | Route::All => unreachable!("only commands on keys are sent"),
        };
        let mut tokens = Tokens::new(&dispatcher.node().shards);
        let can_run = dispatcher.try_take_all(&mut tokens, mask.iter())
            && dispatcher.may_execute(spec, argv.args, forward.may_read_replica, &mut tokens);
        if !can_run {
            return Here::NotNow;
        }
        let mut replies = Replies::default();
        let now = dispatcher.now();
        let mut shards = HeldShards {
            tokens: &mut tokens,
            placement,
        };
        with_sink(forward.destination.form, &mut replies, |sink| {
            execute(&command, &mut shards, &mut [], now, sink)
        });
        Here::Done(replies)
    })
}

/// Whether executing a write twice leaves what executing it once does, and replies the same.
fn is_idempotent_write(command: &DataCommand<'_>) -> bool {
    match command {
        DataCommand::Set(set) => set.condition == SetCondition::Always && set.reply == SetReply::Ok,
        DataCommand::MSet { .. } | DataCommand::SetRange { .. } => true,
        _ => false,
    }
}
