//! A RESP connection: decodes commands, queues them in transactions, routes the rest.
//!
//! A command that cannot run yet is kept in `pending`, and nothing behind it is decoded, so that
//! commands take effect in the order in which they came.

mod elsewhere;
mod transactions;
mod wait;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use fulmar_cluster::{Range, SLOTS_PER_RANGE, ShardIndex};
use fulmar_engine::{Key, Time};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::number::parse_i64;
use fulmar_protocol::command::table::{CommandId, CommandSpec, lookup};
use fulmar_protocol::command::{Argv, ClusterCommand, Command, CommandError, ConnectionCommand};
use fulmar_protocol::resp::{Decoded, Decoder, Encoder, Slices};
use fulmar_shard::session::{ClientState, Endpoint, execute_connection, is_queued, reply_version};
use fulmar_shard::{Leftovers, Now, Route, ShardMask, Sliced, StagedChain};
use fulmar_shard::{Outcome as Executed, Replay};
use fulmar_shard::{Transaction, execute, route};

pub(crate) use elsewhere::error_of;
use transactions::Obstacle;

use super::lookahead::Lookahead;
use super::{COMMANDS_PER_TURN, Context, Served, Stop, stop_for};
use crate::clients::Registration;
use crate::cluster::{Gather, Owner, View, Writes};
use crate::dispatch::{Cleanup, Dispatcher, HeldShards, Outcome, Routed, access_of};
use crate::message::ReplyForm;
use crate::node_view::NodeView;
use crate::output::Output;
use crate::pending::Pending;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// See the module's head.
pub(crate) struct RespSession {
    decoder: Decoder,
    client: Box<ClientState>,
    registration: Registration,
    transaction: Transaction,
    /// The values of the command that is coming in, streamed to the shard `receiving_into`.
    chains: Vec<Option<StagedChain>>,
    receiving_into: Option<ShardIndex>,
    /// The value that came last has no chain yet.
    begins_chain: bool,
    pending: Option<Box<Pending>>,
    /// A command on many keys that is under way.
    sliced: Option<Box<Sliced>>,
    /// A command whose parts other nodes execute.
    gather: Option<Box<Gather>>,
    /// A WAIT.
    waiting: Option<Box<wait::Waiting>>,
    /// What it has written, in a cluster.
    writes: Option<Box<Writes>>,
    /// Questions that WAITs have asked other nodes.
    questions_count: usize,
    /// The node that has the keys of the transaction's queue, once one is queued.
    queue_owner: Option<Owner>,
    /// Since when its EXEC, or its WATCH, waits for its keys to have changed hands.
    exec_since: Option<fulmar_cluster::Time>,
    is_quitting: bool,
}

impl RespSession {
    pub(crate) fn new(socket: &OwnedFd, endpoint: Endpoint, dispatcher: &Dispatcher<'_>) -> Self {
        let (mut client, registration) =
            dispatcher.node().clients.register(socket, dispatcher.now());
        client.endpoint = endpoint;
        Self {
            decoder: Decoder::new(dispatcher.node().config.value_bytes_max),
            client: Box::new(client),
            registration,
            transaction: Transaction::default(),
            chains: Vec::new(),
            receiving_into: None,
            begins_chain: false,
            pending: None,
            sliced: None,
            gather: None,
            waiting: None,
            writes: None,
            questions_count: 0,
            queue_owner: None,
            exec_since: None,
            is_quitting: false,
        }
    }

    pub(crate) fn note_active(&self, now: Now) {
        self.registration.note_active(now, None);
    }

    pub(crate) fn last_active(&self) -> Time {
        self.registration.last_active()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending.is_some()
            || self.sliced.is_some()
            || self.gather.is_some()
            || self.waiting.is_some()
    }

    #[inline]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.decoder.buffered_bytes()
            + self.transaction.bytes_held()
            + self
                .pending
                .as_ref()
                .map_or(0, |pending| pending.bytes_held())
            + self.sliced.as_ref().map_or(0, |sliced| sliced.bytes_held())
            + self.gather.as_ref().map_or(0, |gather| gather.bytes_held())
            + self.waiting.as_ref().map_or(0, |one| one.bytes_held())
            + self.writes.as_ref().map_or(0, |_| size_of::<Writes>())
    }

    pub(crate) fn serve<'n>(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        output: &mut Output,
        dispatcher: &mut Dispatcher<'n>,
    ) -> Served {
        let mut tokens = Tokens::new(&dispatcher.node().shards);
        let mut context = Context {
            id,
            tokens: &mut tokens,
            output,
            dispatcher,
        };
        let mut consumed = 0;
        let waits = (!self.finish_gather(&mut context))
            .then_some(Stop::Wait)
            .or_else(|| self.run_wait(&mut context))
            .or_else(|| self.run_slice(&mut context))
            .or_else(|| self.run_pending(&mut context));
        let stop = match waits {
            Some(stop) => stop,
            None => self.decode(input, &mut consumed, &mut context),
        };
        self.registration
            .note_active(context.dispatcher.now(), self.client.last_command);
        Served { consumed, stop }
    }

    /// Runs a slice of the command on many keys; `None` if there is none, or it is over.
    #[inline]
    fn run_slice(&mut self, context: &mut Context<'_, '_>) -> Option<Stop> {
        let sliced = self.sliced.as_mut()?;
        let dispatcher = &mut *context.dispatcher;
        let mask = sliced.shards_needed(&dispatcher.placement());
        if !dispatcher.try_take_all(context.tokens, mask.iter()) {
            return Some(Stop::Again);
        }
        // What moved away since the last slice is not deleted here: it would only be missing in a copy.
        let spec = sliced.id().spec();
        if spec.is_write() && dispatcher.nodes().is_some() {
            let mut nodes = dispatcher.nodes().into_iter();
            let is_here = nodes.all(|nodes| nodes.shared().serving().executes(true))
                && sliced
                    .keys()
                    .all(|key| dispatcher.may_execute(spec, &[b"", key], false, context.tokens));
            if !is_here {
                dispatcher.count(sliced.id(), Executed::Failed);
                let error = match sliced.is_begun() {
                    true => CommandError::OutcomeUnknown,
                    false => CommandError::TryAgain,
                };
                self.sliced = None;
                self.encoder(context.output).error(&error);
                return None;
            }
        }
        let mut shards = held(context.tokens, dispatcher);
        let mut reply = context.output.replies().sink(self.client.version());
        if !sliced.step(&mut shards, dispatcher.now(), &mut reply) {
            return Some(Stop::Again);
        }
        dispatcher.count(sliced.id(), Executed::Done);
        self.sliced = None;
        None
    }

    /// Runs what waits; `None` if nothing does any more.
    fn run_pending(&mut self, context: &mut Context<'_, '_>) -> Option<Stop> {
        let mut pending = self.pending.take()?;
        let mut chains = std::mem::take(&mut pending.chains);
        let outcome = pending.with_argv(|argv| self.run(argv, None, &mut chains, context));
        let Some(stop) = stop_for(outcome, context) else {
            return self.stop_after_command();
        };
        if self.pending.is_none() {
            pending.chains = chains;
            self.pending = Some(pending);
        }
        Some(stop)
    }

    /// Decodes and runs what `input` holds, from `consumed` on.
    fn decode(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        context: &mut Context<'_, '_>,
    ) -> Stop {
        let mut slices = Slices::new();
        let mut lookahead = Lookahead::new();
        // The frames borrow from the decoder while the rest of the session runs them.
        let mut decoder = std::mem::replace(&mut self.decoder, Decoder::new(0));
        let mut decoder_slices = (&mut decoder, &mut slices);
        let stop = self.decode_with(
            &mut decoder_slices,
            &mut lookahead,
            input,
            consumed,
            context,
        );
        self.decoder = decoder;
        stop
    }

    fn decode_with<'i>(
        &mut self,
        (decoder, slices): &mut (&mut Decoder, &mut Slices<'i>),
        lookahead: &mut Lookahead<'i>,
        input: &'i [u8],
        consumed: &mut usize,
        context: &mut Context<'_, '_>,
    ) -> Stop {
        for turn in 0..COMMANDS_PER_TURN {
            if context.output.bytes() >= crate::connection::OUTPUT_BYTES_MAX {
                return Stop::Wait;
            }
            if let Some(shard) = self.receiving_into {
                if !context.tokens.try_take(shard) {
                    return Stop::Again;
                }
                self.begin_chain(shard, context);
            }
            // A single command has nothing to overlap with.
            if turn > 0 && lookahead.is_used_up() && *consumed < input.len() {
                lookahead.look(
                    &input[*consumed..],
                    context.dispatcher,
                    context.tokens,
                    context.output,
                );
            }
            match decoder.decode(&input[*consumed..], slices) {
                Decoded::Need => return Stop::NeedInput,
                Decoded::Skip { consumed: used } => *consumed += used,
                Decoded::Command {
                    frame,
                    consumed: used,
                } => {
                    *consumed += used;
                    self.receiving_into = None;
                    let argv = frame.argv();
                    let known = argv.args.get(1).and_then(|key| lookahead.known(key));
                    lookahead.step();
                    if let Some(stop) = self.run_or_keep(&argv, known, context) {
                        return stop;
                    }
                }
                Decoded::StagedBegin {
                    key,
                    consumed: used,
                    ..
                } => {
                    *consumed += used;
                    self.receiving_into = Some(context.dispatcher.placement().shard_of(key));
                    self.chains.push(None);
                    self.begins_chain = true;
                }
                Decoded::StagedPart {
                    bytes,
                    consumed: used,
                } => {
                    *consumed += used;
                    self.push_part(bytes, context);
                }
                Decoded::Refused {
                    error,
                    consumed: used,
                } => {
                    *consumed += used;
                    self.receiving_into = None;
                    free_chains(std::mem::take(&mut self.chains), context);
                    self.transaction.abort();
                    self.encoder(context.output).error(&error);
                }
                Decoded::Error(error) => {
                    free_chains(std::mem::take(&mut self.chains), context);
                    error.write_to(context.output.writer());
                    return Stop::Close;
                }
            }
        }
        Stop::Again
    }

    /// Runs a command, or keeps it for later; says why to stop, if so.
    #[inline]
    fn run_or_keep(
        &mut self,
        argv: &Argv<'_>,
        known: Option<(ShardIndex, Key<'_>)>,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        let mut chains = std::mem::take(&mut self.chains);
        let outcome = self.run(argv, known, &mut chains, context);
        let Some(stop) = stop_for(outcome, context) else {
            return self.stop_after_command();
        };
        // Unless its streamed values were taken out and it was kept with them.
        if self.pending.is_none() {
            self.pending = Some(Box::new(Pending::new(argv, chains)));
        }
        Some(stop)
    }

    /// Why nothing more is decoded after a command that was begun, if so.
    #[inline]
    fn stop_after_command(&self) -> Option<Stop> {
        if self.sliced.is_some() || self.gather.is_some() || self.waiting.is_some() {
            return Some(Stop::Again);
        }
        self.is_quitting.then_some(Stop::Close)
    }

    // --- running a command ---

    #[inline]
    fn run(
        &mut self,
        argv: &Argv<'_>,
        known: Option<(ShardIndex, Key<'_>)>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        let spec = match lookup(argv.args) {
            Ok(spec) => spec,
            Err(error) => return self.reject(None, &error, chains, context),
        };
        self.client.last_command = Some(spec.id);
        let is_in_cluster = context.dispatcher.nodes().is_some();
        if self.transaction.is_open() && is_queued(spec.id) {
            if is_in_cluster {
                if let Err(error) = self.place_queued(spec, argv.args, context) {
                    return self.reject(Some(spec), &error, chains, context);
                }
                if !chains.is_empty() && self.queue_owner != Some(Owner::Own) {
                    return self.queue_unstaged(spec, argv, chains, context);
                }
            }
            return self.queue(spec, argv, chains, context);
        }
        let command = match Command::parse(spec, *argv) {
            Ok(command) => command,
            Err(error) => return self.reject(Some(spec), &error, chains, context),
        };
        if is_in_cluster
            && let Some(outcome) = self.run_elsewhere(spec, &command, argv, chains, context)
        {
            return outcome;
        }
        if Sliced::is_for(spec, argv) {
            if context.output.holes_count() > 0 {
                return Outcome::Wait;
            }
            if is_in_cluster && spec.is_write() {
                self.note_writes(spec, argv.args, context);
            }
            self.sliced = Some(Box::new(Sliced::begin(spec.id, argv)));
            return Outcome::Done;
        }
        let placement = context.dispatcher.placement();
        let route = match known {
            Some((shard, key)) if spec.keys.is_only_the_first() => Route::One(shard, key),
            _ => route(spec, argv, &placement),
        };
        if let (Command::Data(command), Route::One(shard, key), true) =
            (&command, &route, chains.is_empty())
        {
            if is_in_cluster && spec.is_write() {
                if spec.keys.is_only_the_first() {
                    let range = Range::from_index(key.range());
                    range
                        .into_iter()
                        .for_each(|range| self.note_write(range, context));
                } else {
                    self.note_writes(spec, argv.args, context);
                }
            }
            let form = ReplyForm::Resp(self.client.version());
            let routed = Routed {
                id: spec.id,
                shard: *shard,
                key: *key,
                command,
                access: access_of(spec, self.asker().reads_replicas),
                form,
                connection: context.id,
            };
            return context
                .dispatcher
                .run(&routed, argv.args, context.tokens, context.output);
        }
        self.run_on_many(spec, (&command, argv.args), &route, chains, context)
    }

    /// Runs a command on the connection or on several shards.
    fn run_on_many(
        &mut self,
        spec: &'static CommandSpec,
        (command, args): (&Command<'_>, &[&[u8]]),
        route: &Route<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        let shards_count = context.tokens.shards_count();
        let is_exec = spec.id == CommandId::Exec;
        let mut mask = match route {
            Route::Connection if is_exec => self.transaction.shards_needed(shards_count),
            Route::Connection => shard_of_slot(command, context),
            Route::One(shard, _) => {
                let mut mask = ShardMask::EMPTY;
                mask.insert(*shard);
                mask
            }
            Route::Many(mask) => *mask,
            Route::All => ShardMask::first(shards_count),
        };
        chains
            .iter()
            .flatten()
            .for_each(|staged| mask.insert(staged.shard));
        if !mask.is_empty() {
            if context.output.holes_count() > 0 {
                return Outcome::Wait;
            }
            if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
                return Outcome::Busy;
            }
            let reads_old = self.asker().reads_replicas;
            let dispatcher = &mut *context.dispatcher;
            match is_exec
                .then(|| self.obstacle(dispatcher, context.tokens))
                .flatten()
            {
                None => {}
                Some(Obstacle::ForNow) if dispatcher.is_hold_late(context.tokens) => {
                    return self.refuse_queue(&CommandError::TryAgain, context);
                }
                Some(Obstacle::ForNow) => return Outcome::Held,
                Some(Obstacle::Moved) if self.follow_queue(context) => return Outcome::Held,
                Some(Obstacle::Moved) => {
                    return self.refuse_queue(&CommandError::TryAgain, context);
                }
            }
            if !dispatcher.may_execute(spec, args, reads_old, context.tokens) {
                if dispatcher.is_hold_late(context.tokens) {
                    return self.reject(Some(spec), &CommandError::TryAgain, chains, context);
                }
                return Outcome::Held;
            }
            if (is_exec || spec.is_write()) && context.dispatcher.nodes().is_some() {
                self.note_writes(spec, args, context);
            }
        }
        match command {
            Command::Data(command) => {
                let mut shards = held(context.tokens, context.dispatcher);
                let now = context.dispatcher.now();
                let mut reply = context.output.replies().sink(self.client.version());
                let executed = execute(command, &mut shards, chains, now, &mut reply);
                chains.clear();
                context.dispatcher.count(spec.id, executed);
            }
            Command::Connection(command) => {
                let executed = self.answer(command, context);
                context.dispatcher.count(spec.id, executed);
            }
        }
        Outcome::Done
    }

    /// Answers a command on the connection; the shards it needs are held.
    fn answer(
        &mut self,
        command: &ConnectionCommand<'_>,
        context: &mut Context<'_, '_>,
    ) -> Executed {
        let now = context.dispatcher.now();
        let version = self.client.version();
        let mut reply = Encoder::new(context.output.writer(), version);
        let result = match command {
            ConnectionCommand::Multi => self.transaction.begin(),
            ConnectionCommand::Discard => match self.transaction.discard() {
                Ok(leftovers) => {
                    release(leftovers, context.dispatcher);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            ConnectionCommand::Unwatch => {
                release(self.transaction.unwatch(), context.dispatcher);
                Ok(())
            }
            ConnectionCommand::Watch { keys } => {
                let mut shards = held(context.tokens, context.dispatcher);
                self.transaction.watch(keys, &mut shards, now)
            }
            ConnectionCommand::Exec => {
                let mut shards = held(context.tokens, context.dispatcher);
                let mut replay = Answerer {
                    client: &mut self.client,
                    registration: &self.registration,
                    dispatcher: context.dispatcher,
                };
                let mut reply = context.output.replies().sink(version);
                return self
                    .transaction
                    .execute(&mut shards, now, &mut replay, &mut reply);
            }
            _ => {
                if let ConnectionCommand::Cluster(ClusterCommand::Map(map)) = command
                    && let Some(view) = current_view(context.dispatcher)
                {
                    self.client.is_cluster_client = true;
                    let out = context.output.writer();
                    out.extend_from_slice(view.map(*map, version));
                    return Executed::Done;
                }
                let version = reply_version(command, &self.client);
                let mut reply = Encoder::new(context.output.writer(), version);
                let mut view = NodeView::new(context.dispatcher, Some(context.tokens));
                let executed =
                    execute_connection(command, &mut self.client, &mut view, now, &mut reply);
                if changes_state(command) {
                    self.registration.note_state(&self.client);
                }
                self.is_quitting = self.client.is_closing;
                return executed;
            }
        };
        match result {
            Ok(()) => {
                reply.ok();
                Executed::Done
            }
            Err(error) => {
                reply.error(&error);
                Executed::Failed
            }
        }
    }

    fn queue(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        let placement = context.dispatcher.placement();
        let queued = self.transaction.queue(spec, argv, chains, &placement);
        free_chains(std::mem::take(chains), context);
        let mut reply = self.encoder(context.output);
        match queued {
            Ok(()) => reply.status("QUEUED"),
            Err(error) => reply.error(&error),
        }
        Outcome::Done
    }

    #[cold]
    fn reject(
        &mut self,
        spec: Option<&'static CommandSpec>,
        error: &CommandError,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        free_chains(std::mem::take(chains), context);
        release(self.transaction.reject(error), context.dispatcher);
        self.encoder(context.output).error(error);
        if let Some(spec) = spec {
            context.dispatcher.count_rejected(spec.id);
        }
        Outcome::Done
    }

    // --- streamed values ---

    /// Begins the chain of the value that comes, in its shard, whose token is held.
    fn begin_chain(&mut self, shard: ShardIndex, context: &mut Context<'_, '_>) {
        if std::mem::take(&mut self.begins_chain)
            && let Some(place) = self.chains.last_mut()
        {
            let chain = context.tokens.shard(shard).cache.chain_begin();
            *place = Some(StagedChain { shard, chain });
        }
    }

    fn push_part(&mut self, bytes: &[u8], context: &mut Context<'_, '_>) {
        let Some(place) = self.chains.last_mut() else {
            return;
        };
        // Nothing there: memory ran out before, and the rest is dropped.
        if let Some(mut staged) = place.take() {
            let cache = &mut context.tokens.shard(staged.shard).cache;
            match cache.chain_push(&mut staged.chain, bytes) {
                Ok(()) => *place = Some(staged),
                Err(_) => cache.chain_free(staged.chain),
            }
        }
    }

    // --- the end ---

    /// Gives back what is held in shards.
    pub(crate) fn close(&mut self, dispatcher: &mut Dispatcher<'_>) {
        release(self.transaction.abandon(), dispatcher);
        let pending = self
            .pending
            .take()
            .map(|pending| pending.chains)
            .unwrap_or_default();
        for staged in std::mem::take(&mut self.chains)
            .into_iter()
            .chain(pending)
            .flatten()
        {
            dispatcher.clean_up_later(Cleanup::FreeChain(staged));
        }
        dispatcher.node().clients.unregister(self.client.id);
    }

    fn encoder<'o>(&self, output: &'o mut Output) -> Encoder<'o> {
        Encoder::new(output.writer(), self.client.version())
    }
}

/// Answers the commands of a transaction that need no shard.
struct Answerer<'a, 'n> {
    client: &'a mut ClientState,
    registration: &'a Registration,
    dispatcher: &'a mut Dispatcher<'n>,
}

impl Replay for Answerer<'_, '_> {
    fn answer(&mut self, command: &ConnectionCommand<'_>, reply: &mut dyn ReplySink) -> Executed {
        let now = self.dispatcher.now();
        let mut view = NodeView::new(self.dispatcher, None);
        let executed = execute_connection(command, self.client, &mut view, now, reply);
        if changes_state(command) {
            self.registration.note_state(self.client);
        }
        executed
    }

    fn count(&mut self, id: CommandId, outcome: Executed) {
        self.dispatcher.count(id, outcome);
    }
}

/// The cluster as the node knows it at this moment.
fn current_view(dispatcher: &Dispatcher<'_>) -> Option<Arc<View>> {
    dispatcher.nodes()?.shared().views.current()
}

/// The shard that a command on a slot looks into; others on the connection need none.
fn shard_of_slot(command: &Command<'_>, context: &Context<'_, '_>) -> ShardMask {
    let mut mask = ShardMask::EMPTY;
    if let Command::Connection(ConnectionCommand::Cluster(
        ClusterCommand::CountKeysInSlot { slot } | ClusterCommand::GetKeysInSlot { slot, .. },
    )) = command
        && let Some(slot) = parse_i64(slot).and_then(|slot| u16::try_from(slot).ok())
        && let Some(range) = Range::from_index(slot / SLOTS_PER_RANGE)
    {
        mask.insert(context.dispatcher.placement().homes.home(range));
    }
    mask
}

/// Whether CLIENT LIST may show something else after this command.
fn changes_state(command: &ConnectionCommand<'_>) -> bool {
    matches!(
        command,
        ConnectionCommand::Hello { .. } | ConnectionCommand::Client(_)
    )
}

fn held<'t, 'n>(tokens: &'t mut Tokens<'n>, dispatcher: &Dispatcher<'n>) -> HeldShards<'t, 'n> {
    HeldShards {
        tokens,
        placement: dispatcher.placement(),
    }
}

fn release(leftovers: Leftovers, dispatcher: &mut Dispatcher<'_>) {
    for staged in leftovers.chains {
        dispatcher.clean_up_later(Cleanup::FreeChain(staged));
    }
    for token in leftovers.tokens {
        dispatcher.clean_up_later(Cleanup::Unwatch(token));
    }
}

fn free_chains(chains: Vec<Option<StagedChain>>, context: &mut Context<'_, '_>) {
    for staged in chains.into_iter().flatten() {
        context
            .dispatcher
            .clean_up_later(Cleanup::FreeChain(staged));
    }
}
