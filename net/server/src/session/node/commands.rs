//! Commands of another node's clients: put together, checked against what this node is, executed.
//!
//! A command that this node cannot execute now waits for a while, since those behind it must not
//! overtake it: for a token, for the end of a hold, or for a topology that the other node has already.
//! Then, and where this node is not the one to execute it, the other is told why, and asks again.

use std::net::SocketAddr;

use fulmar_cluster::{Epoch, Time};
use fulmar_protocol::command::table::{CommandId, CommandSpec, Scope, lookup};
use fulmar_protocol::command::{Argv, ConnectionCommand, DataCommand};
use fulmar_protocol::node::{
    Encoder, Forward, ForwardHead, ForwardStatus, Goodbye, MoreArguments, Part, ReplyForm, Status,
};
use fulmar_protocol::resp::{RespVersion, Slices};
use fulmar_protocol::{Command, CommandError, ReplySink};
use fulmar_shard::session::{ClientState, execute_connection};
use fulmar_shard::{Outcome as Executed, Replay, Route, ShardMask, Transaction, execute, route};

use super::{Context, NodeSession, Phase, Stop};
use crate::cluster::{Assembly, Serving, bundled, command_bytes_max, take_command};
use crate::dispatch::{Dispatcher, HeldShards, Outcome, Routed, access_of, with_sink};
use crate::message::{self, Keep};
use crate::node_view::NodeView;
use crate::session::nodes::{is_scan_here, scan_here};

/// Commands that may come at the same time in several frames.
const ASSEMBLIES_MAX: usize = 64;
/// How long a command waits here: longer than writes are held as a rule. Then its own node waits.
const BUSY_MS_MAX: u64 = 120;
/// After so long it is not tried again each turn.
const SPIN_MS_MAX: u64 = 2;

/// What became of a command.
enum Ran {
    /// It was answered.
    Done,
    /// A token is taken, or the keys are not this node's to answer at this moment.
    Busy,
    /// It waits for earlier commands.
    Wait,
    /// This node does not execute it.
    Refused(ForwardStatus),
}

impl From<Outcome> for Ran {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Busy | Outcome::Held => Self::Busy,
            Outcome::Wait => Self::Wait,
        }
    }
}

/// Who asks for what.
#[derive(Clone, Copy)]
struct Asked {
    request: u32,
    head: ForwardHead,
}

impl Asked {
    fn form(&self) -> message::ReplyForm {
        self.form_with(Keep::No)
    }

    /// That of a reply which the other node may keep, if it asks and the key is hot.
    fn keepable_form(&self) -> message::ReplyForm {
        let copy_reads = self.head.copy_reads;
        self.form_with(copy_reads.map_or(Keep::No, |copy_reads| Keep::Asked { copy_reads }))
    }

    fn form_with(&self, keep: Keep) -> message::ReplyForm {
        message::ReplyForm::Node {
            request: self.request,
            version: match self.head.options.form {
                ReplyForm::Resp2 => RespVersion::Resp2,
                ReplyForm::Resp3 => RespVersion::Resp3,
            },
            keep,
        }
    }
}

impl NodeSession {
    /// The beginning of a command, or all of it; says why to stop before it, if so.
    pub(super) fn handle_forward(
        &mut self,
        forward: &Forward<'_>,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        if !forward.is_whole {
            return self.begin(forward, context);
        }
        let asked = Asked {
            request: forward.request,
            head: forward.head,
        };
        let mut slices = Slices::new();
        forward.collect(&mut slices);
        self.run(asked, slices.as_slice(), context)
    }

    // --- commands in several frames ---

    fn begin(&mut self, forward: &Forward<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
        let is_begun = |assembly: &Assembly| assembly.request == forward.request;
        if self.assemblies.iter().any(is_begun) {
            return self.leave(Goodbye::Protocol, context);
        }
        if self.assemblies.len() == ASSEMBLIES_MAX {
            return self.leave(Goodbye::Overloaded, context);
        }
        let mut assembly = Assembly::begin(forward);
        let bytes = Assembly::bytes_of(&forward.arguments);
        let bytes_max = command_bytes_max(context.dispatcher.node().config.value_bytes_max);
        let nodes = context.dispatcher.nodes_mut()?;
        if bytes > bytes_max {
            assembly.refuse();
        } else if nodes.budget.take(bytes) {
            assembly.keep(&forward.arguments, bytes);
        } else if self.assemblies.iter().any(|other| other.reserved() > 0) {
            // Those that hold something must not wait for others that do.
            assembly.refuse();
        } else {
            nodes.budget.wait(context.id);
            return Some(Stop::Wait);
        }
        self.assemblies.push(assembly);
        None
    }

    pub(super) fn handle_arguments(
        &mut self,
        more: &MoreArguments<'_>,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        let bytes_max = command_bytes_max(context.dispatcher.node().config.value_bytes_max);
        let nodes = context.dispatcher.nodes_mut()?;
        let Some(place) = self.place(more.request) else {
            return self.leave(Goodbye::Protocol, context);
        };
        let assembly = &mut self.assemblies[place];
        if assembly.arguments(more).is_err() {
            return self.leave(Goodbye::Protocol, context);
        }
        if !assembly.is_refused() {
            let bytes = Assembly::bytes_of(&more.arguments);
            let is_short = assembly.reserved() + bytes <= bytes_max;
            if is_short && nodes.budget.take(bytes) {
                assembly.keep(&more.arguments, bytes);
            } else {
                let reserved = assembly.refuse();
                nodes.budget.give(reserved);
            }
        }
        self.end(place);
        None
    }

    pub(super) fn handle_part(
        &mut self,
        part: &Part<'_>,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        let Some(place) = self.place(part.stream) else {
            return self.leave(Goodbye::Protocol, context);
        };
        if self.assemblies[place].part(part).is_err() {
            return self.leave(Goodbye::Protocol, context);
        }
        if part.is_aborted {
            let assembly = self.assemblies.swap_remove(place);
            let nodes = context.dispatcher.nodes_mut()?;
            nodes.budget.give(assembly.reserved());
            return None;
        }
        self.end(place);
        None
    }

    fn place(&self, request: u32) -> Option<usize> {
        let mut assemblies = self.assemblies.iter();
        assemblies.position(|assembly| assembly.request == request)
    }

    /// A command that is complete is the next to be executed.
    fn end(&mut self, place: usize) {
        if self.assemblies[place].is_complete() {
            self.complete = Some(self.assemblies.swap_remove(place));
        }
    }

    /// Executes the command that is complete; says why to stop, if so.
    pub(super) fn run_complete(&mut self, context: &mut Context<'_, '_>) -> Option<Stop> {
        let assembly = self.complete.take()?;
        let asked = Asked {
            request: assembly.request,
            head: assembly.head,
        };
        let stop = if assembly.is_refused() {
            put_status(asked.request, ForwardStatus::Refused, context);
            None
        } else {
            assembly.with_args(|args| self.run(asked, args, context))
        };
        if stop.is_some() {
            self.complete = Some(assembly);
        } else if let Some(nodes) = context.dispatcher.nodes_mut() {
            nodes.budget.give(assembly.reserved());
        }
        stop
    }

    // --- running ---

    /// Runs a command; says why to stop before it, if so.
    fn run(&mut self, asked: Asked, args: &[&[u8]], context: &mut Context<'_, '_>) -> Option<Stop> {
        let said = asked.head.fence.sender_incarnation;
        if !matches!(&self.phase, Phase::Open(proven) if proven.incarnation.0 == said) {
            return self.leave(Goodbye::Protocol, context);
        }
        let ran = match judge(&asked, context) {
            Some(ran) => ran,
            None if args.first() == Some(&&b"WAIT"[..]) => {
                match self.waits.begin(asked.form(), &args[1..], context) {
                    Some(outcome) => outcome.into(),
                    None => return self.leave(Goodbye::Protocol, context),
                }
            }
            None => run_command(&asked, args, context),
        };
        let now = Time(context.dispatcher.now().time.0);
        let refusal = match ran {
            Ran::Done => {
                self.busy_since = None;
                return None;
            }
            Ran::Wait => return Some(Stop::Wait),
            Ran::Refused(ForwardStatus::Moved) if is_ahead(&asked, context) => ForwardStatus::Moved,
            Ran::Busy => ForwardStatus::TryAgain,
            Ran::Refused(status) => {
                self.busy_since = None;
                put_status(asked.request, status, context);
                return None;
            }
        };
        let busy_ms = now.ms_since(*self.busy_since.get_or_insert(now));
        if busy_ms >= BUSY_MS_MAX {
            self.busy_since = None;
            put_status(asked.request, refusal, context);
            return None;
        }
        if busy_ms < SPIN_MS_MAX && refusal == ForwardStatus::TryAgain {
            return Some(Stop::Again);
        }
        if let Some(nodes) = context.dispatcher.nodes_mut() {
            nodes.hold(context.id);
        }
        Some(Stop::Wait)
    }
}

/// Whether who asks acts on a newer topology than this node.
fn is_ahead(asked: &Asked, context: &Context<'_, '_>) -> bool {
    let nodes = context.dispatcher.nodes();
    nodes.is_some_and(|nodes| Epoch(asked.head.fence.epoch) > nodes.epoch())
}

/// Why this node executes nothing for who asks; `None`: it may.
fn judge(asked: &Asked, context: &Context<'_, '_>) -> Option<Ran> {
    let nodes = context.dispatcher.nodes()?;
    let shared = nodes.shared();
    if asked.head.fence.target_incarnation != shared.incarnation.0 {
        return Some(Ran::Refused(ForwardStatus::OtherIncarnation));
    }
    match shared.serving() {
        Serving::Everything | Serving::Reads => None,
        Serving::Outside | Serving::Unconfirmed => Some(Ran::Refused(ForwardStatus::Down)),
    }
}

fn put_status(request: u32, status: ForwardStatus, context: &mut Context<'_, '_>) {
    let epoch = context.dispatcher.epoch();
    Encoder::new(context.output.writer()).status(&Status {
        request,
        status,
        epoch: epoch.0,
    });
}

fn put_error(asked: &Asked, error: &CommandError, context: &mut Context<'_, '_>) -> Ran {
    with_sink(asked.form(), context.output.replies(), |sink| {
        sink.error(error);
    });
    Ran::Done
}

fn serving(context: &Context<'_, '_>) -> Option<Serving> {
    let nodes = context.dispatcher.nodes();
    nodes.map(|nodes| nodes.shared().serving())
}

fn run_command(asked: &Asked, args: &[&[u8]], context: &mut Context<'_, '_>) -> Ran {
    if let Some(queue) = bundled(args) {
        return run_transaction(asked, queue, context);
    }
    let argv = Argv { args, staged: &[] };
    let spec = match lookup(args) {
        Ok(spec) => spec,
        Err(error) => return put_error(asked, &error, context),
    };
    let command = match Command::parse(spec, argv) {
        Ok(Command::Data(command)) => command,
        // A node answers its clients what needs no key.
        Ok(Command::Connection(_)) => return Ran::Refused(ForwardStatus::Refused),
        Err(error) => return put_error(asked, &error, context),
    };
    let options = asked.head.options;
    if let DataCommand::Scan { cursor, .. } = command {
        if !is_scan_here(cursor, context) {
            return Ran::Refused(ForwardStatus::Moved);
        }
        return scan_here(&command, asked.form(), context).into();
    }
    if spec.scope == Scope::AllShards && !options.is_local {
        return Ran::Refused(ForwardStatus::Refused);
    }
    if spec.is_write() && serving(context) == Some(Serving::Reads) {
        return Ran::Refused(ForwardStatus::Down);
    }
    let reads_old = options.may_read_replica && !spec.is_write();
    if !context.dispatcher.owns_all(spec, args, reads_old) {
        return Ran::Refused(ForwardStatus::Moved);
    }
    let placement = context.dispatcher.placement();
    let form = match command {
        // Without a quorum what is read here may be old, without a bound.
        DataCommand::Get { .. } if !reads_old && serving(context) == Some(Serving::Everything) => {
            asked.keepable_form()
        }
        _ => asked.form(),
    };
    let mask = match route(spec, &argv, &placement) {
        Route::Connection => ShardMask::EMPTY,
        Route::One(shard, key) => {
            let routed = Routed {
                id: spec.id,
                shard,
                key,
                command: &command,
                access: access_of(spec, reads_old),
                form,
                connection: context.id,
            };
            let outcome = context
                .dispatcher
                .run(&routed, args, context.tokens, context.output);
            return outcome.into();
        }
        Route::Many(mask) => mask,
        Route::All => ShardMask::first(context.tokens.shards_count()),
    };
    if context.output.holes_count() > 0 {
        return Ran::Wait;
    }
    if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
        return Ran::Busy;
    }
    if !may_execute(spec, args, reads_old, context) {
        return Ran::Busy;
    }
    let now = context.dispatcher.now();
    let mut shards = HeldShards {
        tokens: context.tokens,
        placement,
    };
    let executed = with_sink(form, context.output.replies(), |sink| {
        execute(&command, &mut shards, &mut [], now, sink)
    });
    context.dispatcher.count(spec.id, executed);
    Ran::Done
}

fn may_execute(
    spec: &CommandSpec,
    args: &[&[u8]],
    reads_old: bool,
    context: &mut Context<'_, '_>,
) -> bool {
    context
        .dispatcher
        .may_execute(spec, args, reads_old, context.tokens)
}

/// Executes the queue of another node's client.
fn run_transaction(asked: &Asked, mut rest: &[&[u8]], context: &mut Context<'_, '_>) -> Ran {
    if context.output.holes_count() > 0 {
        return Ran::Wait;
    }
    let placement = context.dispatcher.placement();
    let mut transaction = Transaction::default();
    if let Err(error) = transaction.begin() {
        return put_error(asked, &error, context);
    }
    while !rest.is_empty() {
        let Some(args) = take_command(&mut rest) else {
            return Ran::Refused(ForwardStatus::Refused);
        };
        let spec = match lookup(args) {
            Ok(spec) => spec,
            Err(error) => return put_error(asked, &error, context),
        };
        if spec.is_write() && serving(context) == Some(Serving::Reads) {
            return Ran::Refused(ForwardStatus::Down);
        }
        if !context.dispatcher.owns_all(spec, args, false) {
            return Ran::Refused(ForwardStatus::Moved);
        }
        let argv = Argv { args, staged: &[] };
        if let Err(error) = transaction.queue(spec, &argv, &mut [], &placement) {
            return put_error(asked, &error, context);
        }
    }
    let mask = transaction.shards_needed(context.tokens.shards_count());
    if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
        return Ran::Busy;
    }
    let mut is_answerable = true;
    transaction.visit_queue(|args| {
        if let Ok(spec) = lookup(args) {
            is_answerable &= may_execute(spec, args, false, context);
        }
    });
    if !is_answerable {
        return Ran::Busy;
    }
    let now = context.dispatcher.now();
    let mut shards = HeldShards {
        tokens: context.tokens,
        placement,
    };
    let mut stranger = Stranger {
        dispatcher: context.dispatcher,
    };
    with_sink(asked.form(), context.output.replies(), |sink| {
        transaction.execute(&mut shards, now, &mut stranger, sink)
    });
    Ran::Done
}

/// A client of another node, which answered it all that needs no key.
struct Stranger<'a, 'n> {
    dispatcher: &'a mut Dispatcher<'n>,
}

impl Replay for Stranger<'_, '_> {
    fn answer(&mut self, command: &ConnectionCommand<'_>, reply: &mut dyn ReplySink) -> Executed {
        let now = self.dispatcher.now();
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut client = ClientState::new(0, nobody, nobody, now);
        let mut view = NodeView::new(self.dispatcher, None);
        execute_connection(command, &mut client, &mut view, now, reply)
    }

    fn count(&mut self, id: CommandId, outcome: Executed) {
        self.dispatcher.count(id, outcome);
    }
}
