//! Commands whose keys are not all here: sent on, taken apart, or answered with where to go.

use fulmar_cluster::Time;
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::table::{CommandId, CommandSpec};
use fulmar_protocol::command::{Argv, Command, CommandError, ConnectionCommand};
use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_shard::session::Endpoint;
use fulmar_shard::{Outcome as Executed, Route, ShardMask, StagedChain, execute, route};

use super::{Context, RespSession, held};
use crate::cluster::{
    Asker, Destination, FORWARD_MS_MAX, Failure, Forward, Gather, Owner, PartCommand, Reply,
    Serving, Target, View, Way, Whole, way, way_of_keys,
};
use crate::dispatch::Outcome;
use crate::message::ReplyForm;
use crate::pending::Pending;
use crate::session::nodes::{answer_from_copy, scan_in_turn, send_on};

impl RespSession {
    /// Deals with a command that this node does not execute alone; `None` if it does.
    pub(super) fn run_elsewhere(
        &mut self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        argv: &Argv<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Option<Outcome> {
        context.dispatcher.nodes()?;
        let command = match command {
            Command::Data(command) => command,
            Command::Connection(ConnectionCommand::Exec) => {
                if !self.transaction.is_open() || self.transaction.is_aborted() {
                    return None;
                }
                let refused = self.refuse_for_now(spec, chains, context);
                return refused.or_else(|| self.exec_elsewhere(context));
            }
            Command::Connection(ConnectionCommand::Wait {
                replicas,
                timeout_ms,
            }) => return Some(self.begin_wait(*replicas, *timeout_ms, context)),
            Command::Connection(ConnectionCommand::Multi | ConnectionCommand::Discard) => {
                // Nested, it is an error and changes nothing.
                if !self.transaction.is_open() {
                    (self.queue_owner, self.exec_since) = (None, None);
                }
                return None;
            }
            Command::Connection(ConnectionCommand::Watch { .. }) => {
                return self.watch_elsewhere(spec, argv, chains, context);
            }
            Command::Connection(_) => return None,
        };
        if let Some(outcome) = self.refuse_for_now(spec, chains, context) {
            return Some(outcome);
        }
        let view = context.dispatcher.nodes()?.view()?;
        match way(spec, argv.args, view, self.asker()) {
            Way::Here => None,
            Way::Moved(slot, _) => {
                let error = view.cluster.moved(slot.number());
                Some(self.reject(Some(spec), &error, chains, context))
            }
            Way::CrossSlot => {
                let error = CommandError::CrossSlot;
                Some(self.reject(Some(spec), &error, chains, context))
            }
            Way::To(_) | Way::Apart | Way::Everywhere if !chains.is_empty() => {
                self.unstage_and_run(spec, argv, chains, context)
            }
            Way::InTurn => {
                let form = ReplyForm::Resp(self.client.version());
                Some(scan_in_turn(spec, command, argv, form, context))
            }
            Way::To(node) => {
                self.note_writes(spec, argv.args, context);
                let form = ReplyForm::Resp(self.client.version());
                if !self.asker().knows_the_map && answer_from_copy(command, form, context) {
                    return Some(Outcome::Done);
                }
                let may_read_replica = self.asker().reads_replicas;
                let forward = (node, may_read_replica);
                Some(send_on(spec, command, argv, forward, form, context))
            }
            Way::Apart | Way::Everywhere => {
                let view = view.clone();
                self.note_writes(spec, argv.args, context);
                Some(self.begin_gather(spec, argv, &view, context))
            }
        }
    }

    /// WATCH of keys that are not all here; `None` if they are.
    fn watch_elsewhere(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Option<Outcome> {
        let now = Time(context.dispatcher.now().time.0);
        let since = self.exec_since.take().unwrap_or(now);
        let view = context.dispatcher.nodes()?.view()?;
        let asker = Asker {
            reads_replicas: false,
            ..self.asker()
        };
        let error = match way_of_keys(spec, argv.args, view, asker) {
            Way::Here => return None,
            Way::Moved(slot, _) => view.cluster.moved(slot.number()),
            Way::CrossSlot if asker.knows_the_map => CommandError::CrossSlot,
            _ if asker.knows_the_map && now.ms_since(since) >= FORWARD_MS_MAX => {
                CommandError::TryAgain
            }
            // The owner does not know yet that it is, and would send the client back.
            _ if asker.knows_the_map => {
                self.exec_since = Some(since);
                return Some(Outcome::Held);
            }
            _ => CommandError::WatchElsewhere,
        };
        Some(self.reject(Some(spec), &error, chains, context))
    }

    /// What becomes of a command, or a queue, where this node executes no such thing now; `None` if it may.
    fn refuse_for_now(
        &mut self,
        spec: &'static CommandSpec,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Option<Outcome> {
        let nodes = context.dispatcher.nodes()?;
        let is_exec = spec.id == CommandId::Exec;
        let error = match nodes.shared().serving() {
            Serving::Unconfirmed => return Some(Outcome::Held),
            Serving::Outside if nodes.view().is_none() => CommandError::ClusterDown,
            Serving::Reads if spec.is_write() || (is_exec && self.queue_writes()) => {
                CommandError::ClusterDownReadsOnly
            }
            // Who is outside owns nothing, and sends everything on.
            Serving::Everything | Serving::Outside | Serving::Reads => return None,
        };
        Some(if is_exec {
            self.refuse_queue(&error, context)
        } else {
            self.reject(Some(spec), &error, chains, context)
        })
    }

    pub(super) fn asker(&self) -> Asker {
        let at_replica = self.client.endpoint == Endpoint::Replica;
        Asker {
            knows_the_map: self.client.is_cluster_client || at_replica,
            reads_replicas: self.client.is_readonly || at_replica,
        }
    }

    /// Values that were streamed to a shard of this node, for a key of another: takes them out, and
    /// runs the command with them as plain arguments.
    fn unstage_and_run(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Option<Outcome> {
        let values = match self.unstage(chains, context) {
            Ok(values) => values,
            Err(Some(error)) => return Some(self.reject(Some(spec), &error, chains, context)),
            Err(None) => return Some(Outcome::Busy),
        };
        let mut args = argv.args.to_vec();
        for (staged, value) in argv.staged.iter().zip(&values) {
            args[staged.position] = value;
        }
        let argv = Argv {
            args: &args,
            staged: &[],
        };
        let command = Command::parse(spec, argv).ok()?;
        let outcome = self.run_elsewhere(spec, &command, &argv, chains, context)?;
        if outcome != Outcome::Done {
            self.pending = Some(Box::new(Pending::new(&argv, Vec::new())));
        }
        Some(outcome)
    }

    /// Takes streamed values out of their shards.
    ///
    /// # Errors
    /// What to answer, or nothing if a token is taken.
    pub(super) fn unstage(
        &self,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Result<Vec<Vec<u8>>, Option<CommandError>> {
        if chains.iter().any(Option::is_none) {
            return Err(Some(CommandError::OutOfMemory));
        }
        let mut mask = ShardMask::EMPTY;
        let staged = chains.iter().flatten();
        staged.for_each(|staged| mask.insert(staged.shard));
        if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
            return Err(None);
        }
        let staged = chains.drain(..).flatten();
        Ok(staged
            .map(|staged| context.tokens.shard(staged.shard).unstage(staged))
            .collect())
    }

    // --- commands on several nodes ---

    fn begin_gather(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        view: &View,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        if context.output.holes_count() > 0 {
            return Outcome::Wait;
        }
        let nodes = context.dispatcher.nodes_mut();
        let most = view.topology().members().len();
        if !nodes.is_some_and(|nodes| nodes.has_room(most, context.id)) {
            return Outcome::Wait;
        }
        let now = Time(context.dispatcher.now().time.0);
        let mut gather = Gather::new(spec.id, now);
        let parts = gather.deal(spec, argv.args, view, now);
        // This node's first: if it cannot be executed now, nothing has been sent.
        let own = parts.iter().find(|part| part.owner == Owner::Own);
        if let Some(own) = own {
            match execute_part(spec, &own.args, context) {
                Some(reply) => gather.fill(own.part, Reply::Bytes(reply)),
                None => return Outcome::Busy,
            };
        }
        send_parts(spec, &gather, &parts, context);
        self.gather = Some(Box::new(gather));
        Outcome::Done
    }

    /// A part of the command that is gathered has come.
    pub(crate) fn fill_part(&mut self, part: usize, reply: Reply) {
        self.fill_wait(part, &reply);
        if let Some(gather) = &mut self.gather {
            gather.fill(part, reply);
        }
    }

    /// Replies the command that is gathered when all its parts are there. True if there is none any
    /// more.
    pub(super) fn finish_gather(&mut self, context: &mut Context<'_, '_>) -> bool {
        let Some(gather) = &self.gather else {
            return true;
        };
        if !gather.is_complete() {
            return false;
        }
        if self.gather_again(context) {
            return self.gather.is_none();
        }
        let Some(gather) = self.gather.take() else {
            return true;
        };
        let out = context.output.writer();
        let start = out.len();
        // Which node's key a RANDOMKEY gives; without random numbers, the first's.
        let random = getrandom::u64().unwrap_or(0);
        let whole = gather.reply(random, &mut Encoder::new(out, self.client.version()));
        let mut outcome = Executed::Failed;
        match whole {
            Whole::Replied => outcome = Executed::Done,
            Whole::Bytes(reply) => {
                out.extend_from_slice(&reply);
                outcome = Executed::Done;
            }
            Whole::Error(text) => {
                out.truncate(start);
                out.push(b'-');
                out.extend_from_slice(&text);
                out.extend_from_slice(b"\r\n");
            }
            Whole::Failed(failure) => {
                out.truncate(start);
                Encoder::new(out, self.client.version()).error(&error_of(failure));
            }
        }
        if gather.id() == CommandId::Exec {
            self.end_queue(context);
        }
        context.dispatcher.count(gather.id(), outcome);
        true
    }

    /// Has what was not executed executed, if something was not; true if so, be it now or after a pause.
    fn gather_again(&mut self, context: &mut Context<'_, '_>) -> bool {
        let now = Time(context.dispatcher.now().time.0);
        let Some(nodes) = context.dispatcher.nodes_mut() else {
            return false;
        };
        let (Some(view), Some(gather)) = (nodes.view().cloned(), &mut self.gather) else {
            return false;
        };
        let Some(is_time) = gather.wants_again(view.topology().epoch(), now) else {
            return false;
        };
        let spec = gather.id().spec();
        let serving = nodes.shared().serving();
        let may_serve = serving == Serving::Outside || serving.executes(spec.is_write());
        if !is_time || !may_serve {
            nodes.hold(context.id);
            return true;
        }
        if gather.id() == CommandId::Exec {
            self.exec_again(&view, context);
            return true;
        }
        // A part may be dealt out to all members.
        let most = gather.back_count() * view.topology().members().len();
        if !nodes.has_room(most, context.id) {
            return true;
        }
        gather.deal_again(spec, &view, now, |gather, parts| {
            for own in parts.iter().filter(|part| part.owner == Owner::Own) {
                match execute_part(spec, &own.args, context) {
                    Some(reply) => {
                        gather.fill(own.part, Reply::Bytes(reply));
                    }
                    None => gather.put_back(own.part, pending(&own.args)),
                }
            }
            send_parts(spec, gather, &parts, context);
        });
        if gather.is_complete()
            && let Some(nodes) = context.dispatcher.nodes_mut()
        {
            nodes.hold(context.id);
        }
        true
    }
}

/// Sends the parts of other nodes to them.
fn send_parts(
    spec: &CommandSpec,
    gather: &Gather,
    parts: &[PartCommand<'_>],
    context: &mut Context<'_, '_>,
) {
    let now = Time(context.dispatcher.now().time.0);
    let connection = context.id;
    let Some(nodes) = context.dispatcher.nodes_mut() else {
        return;
    };
    for part in parts {
        let Owner::Node(node) = part.owner else {
            continue;
        };
        let destination = Destination {
            connection,
            target: Target::Part(part.part),
            form: ReplyForm::Resp(RespVersion::Resp2),
        };
        let is_idempotent = !spec.is_write() || spec.id == CommandId::MSet;
        let args = pending(&part.args);
        let forward = Forward::new(destination, spec.id, args, is_idempotent, node, None, now);
        nodes.forward(forward.due_by(gather.deadline()));
    }
}

fn pending(args: &[&[u8]]) -> Pending {
    Pending::new(&Argv { args, staged: &[] }, Vec::new())
}

/// What a client is told whose command got no reply.
pub(crate) fn error_of(failure: Failure) -> CommandError {
    match failure {
        Failure::NotExecuted => CommandError::TryAgain,
        Failure::Down => CommandError::ClusterDown,
        Failure::TooLong => CommandError::ValueTooLong,
        Failure::Unknown => CommandError::OutcomeUnknown,
    }
}

/// Executes this node's own part of a command, and gives its reply in RESP2; `None` if a token is
/// taken.
fn execute_part(
    spec: &'static CommandSpec,
    args: &[&[u8]],
    context: &mut Context<'_, '_>,
) -> Option<Vec<u8>> {
    let argv = Argv { args, staged: &[] };
    let placement = context.dispatcher.placement();
    let mask = match route(spec, &argv, &placement) {
        Route::Connection => ShardMask::EMPTY,
        Route::One(shard, _) => {
            let mut mask = ShardMask::EMPTY;
            mask.insert(shard);
            mask
        }
        Route::Many(mask) => mask,
        Route::All => ShardMask::first(context.tokens.shards_count()),
    };
    if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
        return None;
    }
    if !context
        .dispatcher
        .may_execute(spec, args, false, context.tokens)
    {
        return None;
    }
    let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
        unreachable!("a part of a command that was parsed");
    };
    let mut reply = Vec::new();
    let now = context.dispatcher.now();
    let mut shards = held(context.tokens, context.dispatcher);
    let mut sink = Encoder::new(&mut reply, RespVersion::Resp2);
    execute(&command, &mut shards, &mut [], now, &mut sink);
    Some(reply)
}
