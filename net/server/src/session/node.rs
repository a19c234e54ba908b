//! A connection that another node has made: its forwarded commands, its copies' changes, and its
//! coordinator's messages.

use std::net::SocketAddr;

use fulmar_cluster::replication::{
    Control, ControlSink, Entry, Header, Replication, Verdict, decode_control, decode_entry,
};
use fulmar_cluster::{NodeId, Time};
use fulmar_protocol::command::table::{CommandId, lookup};
use fulmar_protocol::command::{Argv, ConnectionCommand, DataCommand};
use fulmar_protocol::{Command, ReplySink};
use fulmar_shard::session::{ClientState, execute_connection};
use fulmar_shard::{Outcome as Executed, Replay, Route, ShardMask, Transaction, execute, route};

use super::node_waits::NodeWaits;
use super::nodes::{is_scan_here, scan_here};
use super::{Context, Served, Stop};
use crate::cluster::Mail;
use crate::cluster::frame::{self, Frame, Kind};
use crate::dispatch::{Dispatcher, HeldShards, Outcome, Routed, access_of, with_sink};
use crate::message::ReplyForm;
use crate::node_view::NodeView;
use crate::output::Output;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// Frames handled in a turn.
const FRAMES_PER_TURN: usize = 256;
/// How long changes by a newer topology wait for it.
const AHEAD_MS_MAX: u64 = 2_000;

/// See the module's head.
#[derive(Default)]
pub(crate) struct NodeSession {
    /// Who it is, once that is proven.
    node: Option<NodeId>,
    /// Since when it acts on a newer topology than this node.
    ahead_since: Option<Time>,
    /// Its clients' WAITs.
    waits: NodeWaits,
}

impl NodeSession {
    pub(crate) fn serve(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        output: &mut Output,
        dispatcher: &mut Dispatcher<'_>,
    ) -> Served {
        let mut tokens = Tokens::new(&dispatcher.node().shards);
        let mut context = Context {
            id,
            tokens: &mut tokens,
            output,
            dispatcher,
        };
        let mut consumed = 0;
        if !self.waits.run(&mut context) {
            let stop = Stop::Again;
            return Served { consumed, stop };
        }
        for _ in 0..FRAMES_PER_TURN {
            if context.output.bytes() >= crate::connection::OUTPUT_BYTES_MAX {
                let stop = Stop::Wait;
                return Served { consumed, stop };
            }
            let frame = match frame::decode(&input[consumed..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    let stop = Stop::NeedInput;
                    return Served { consumed, stop };
                }
                Err(()) => {
                    let stop = Stop::Close;
                    return Served { consumed, stop };
                }
            };
            if let Some(stop) = self.handle(&frame, &mut context) {
                return Served { consumed, stop };
            }
            consumed += frame.length;
        }
        let stop = Stop::Again;
        Served { consumed, stop }
    }

    /// Handles a frame; says why to stop before it, if so.
    fn handle(&mut self, frame: &Frame<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
        let Some(node) = self.node else {
            return self.handle_hello(frame, context);
        };
        match frame.kind {
            Kind::Forward => match run_forwarded(frame, &mut self.waits, context) {
                Some(Outcome::Done) => None,
                Some(Outcome::Busy) => Some(Stop::Again),
                Some(Outcome::Wait) => Some(Stop::Wait),
                None => Some(Stop::Close),
            },
            Kind::Batch => self.handle_batch(frame, context),
            Kind::Follower => handle_follower(frame, context),
            Kind::Control => {
                let message = frame.body.to_vec();
                context.dispatcher.post(Mail {
                    from: node,
                    message,
                });
                None
            }
            _ => Some(Stop::Close),
        }
    }

    /// Changes of a primary's core for copies here; says why to stop before it, if so.
    fn handle_batch(&mut self, frame: &Frame<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
        let mut input = frame.body;
        let Ok(header) = Header::decode(&mut input) else {
            return Some(Stop::Close);
        };
        let shard = header.to.core.core;
        if shard.index() >= context.tokens.shards_count() {
            return Some(Stop::Close);
        }
        if !context.tokens.try_take(shard) {
            return Some(Stop::Again);
        }
        let now = context.dispatcher.now();
        let time = Time(now.time.0);
        let applied = context
            .tokens
            .shard(shard)
            .replicate(now, |replication, store| {
                match replication.begin_batch(&header, store) {
                    Verdict::Apply => {}
                    Verdict::Ahead => return Some(Stop::Again),
                    Verdict::Old | Verdict::Gap | Verdict::Sealed | Verdict::Stale => return None,
                }
                let mut apply = |entry: &Entry<'_>| replication.handle_entry(entry, store, time);
                let mut outcome = Ok(());
                while !input.is_empty() && outcome.is_ok() {
                    outcome = decode_entry(&mut input, &mut apply);
                }
                replication.end_batch();
                outcome.err().map(|_| Stop::Close)
            });
        context.dispatcher.note_written(shard);
        let stop = applied.unwrap_or(Some(Stop::Close));
        // A topology that does not come is not waited for: what is missing is asked for again.
        let since = *self.ahead_since.get_or_insert(time);
        if stop == Some(Stop::Again) && time.ms_since(since) > AHEAD_MS_MAX {
            return None;
        }
        if stop != Some(Stop::Again) {
            self.ahead_since = None;
        }
        stop
    }

    /// When a WAIT of its clients ends, if there is one.
    pub(crate) fn wakes_at(&self) -> Option<Time> {
        self.waits.wakes_at()
    }

    fn handle_hello(&mut self, frame: &Frame<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
        let nodes = context.dispatcher.nodes()?;
        let shared = nodes.shared();
        match frame::take_hello(frame, shared) {
            Some(node) => {
                self.node = Some(node);
                frame::put_hello_reply(context.output.writer(), shared);
                None
            }
            None => Some(Stop::Close),
        }
    }
}

/// What the core of a copy says to the primary's core here.
fn handle_follower(frame: &Frame<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
    let mut input = frame.body;
    let Ok(header) = Header::decode(&mut input) else {
        return Some(Stop::Close);
    };
    let shard = header.to.core.core;
    if shard.index() >= context.tokens.shards_count() {
        return Some(Stop::Close);
    }
    if !context.tokens.try_take(shard) {
        return Some(Stop::Again);
    }
    let now = context.dispatcher.now();
    let time = Time(now.time.0);
    let told = context
        .tokens
        .shard(shard)
        .replicate(now, |replication, _| {
            if !replication.begin_control(&header, time) {
                return true;
            }
            let mut outcome = Ok(());
            while !input.is_empty() && outcome.is_ok() {
                outcome = decode_control(&mut input, &mut Follower(replication));
            }
            outcome.is_ok()
        });
    context.dispatcher.note_written(shard);
    context.dispatcher.note_news();
    (told != Some(true)).then_some(Stop::Close)
}

struct Follower<'a>(&'a mut Replication);

impl ControlSink for Follower<'_> {
    fn control(&mut self, control: &Control<'_>) {
        self.0.handle_control(control);
    }
}

/// Runs a command for another node; `None` if it is none.
fn run_forwarded(
    frame: &Frame<'_>,
    waits: &mut NodeWaits,
    context: &mut Context<'_, '_>,
) -> Option<Outcome> {
    let mut args = Vec::new();
    let header = frame::take_forward(frame.body, &mut args)?;
    let argv = Argv {
        args: &args,
        staged: &[],
    };
    let form = ReplyForm::Node {
        request: frame.id,
        version: header.version,
    };
    if args.first() == Some(&&b"EXEC"[..]) {
        return run_transaction(frame.id, &args[1..], form, context);
    }
    if args.first() == Some(&&b"WAIT"[..]) {
        return waits.begin(frame.id, form, &args[1..], context);
    }
    let spec = lookup(&args).ok()?;
    let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
        return None;
    };
    let is_here = match command {
        DataCommand::Scan { cursor, .. } => is_scan_here(cursor, context),
        _ => context.dispatcher.owns_all(spec, &args),
    };
    if !is_here {
        frame::put_refused(context.output.writer(), frame.id);
        return Some(Outcome::Done);
    }
    if spec.id == CommandId::Scan {
        return Some(scan_here(&command, form, context));
    }
    let placement = context.dispatcher.placement();
    let mask = match route(spec, &argv, &placement) {
        Route::Connection => ShardMask::EMPTY,
        Route::One(shard, key) => {
            let routed = Routed {
                id: spec.id,
                shard,
                key,
                command: &command,
                access: access_of(spec, false),
                form,
                connection: context.id,
            };
            let outcome = context
                .dispatcher
                .run(&routed, &args, context.tokens, context.output);
            return Some(outcome);
        }
        Route::Many(mask) => mask,
        Route::All => ShardMask::first(context.tokens.shards_count()),
    };
    if context.output.holes_count() > 0 {
        return Some(Outcome::Wait);
    }
    if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
        return Some(Outcome::Busy);
    }
    if !context
        .dispatcher
        .may_execute(spec, &args, false, context.tokens)
    {
        return Some(Outcome::Busy);
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
    Some(Outcome::Done)
}

/// Executes the queue of another node's client; `None` if it is none.
fn run_transaction(
    request: u32,
    mut rest: &[&[u8]],
    form: ReplyForm,
    context: &mut Context<'_, '_>,
) -> Option<Outcome> {
    if context.output.holes_count() > 0 {
        return Some(Outcome::Wait);
    }
    let placement = context.dispatcher.placement();
    let mut transaction = Transaction::default();
    transaction.begin().ok()?;
    while let Some((count, behind)) = rest.split_first() {
        let count = u32::from_le_bytes((*count).try_into().ok()?);
        let (args, behind) = behind.split_at_checked(count as usize)?;
        let spec = lookup(args).ok()?;
        if !context.dispatcher.owns_all(spec, args) {
            frame::put_refused(context.output.writer(), request);
            return Some(Outcome::Done);
        }
        let argv = Argv { args, staged: &[] };
        transaction.queue(spec, &argv, &mut [], &placement).ok()?;
        rest = behind;
    }
    let mask = transaction.shards_needed(context.tokens.shards_count());
    if !context.dispatcher.try_take_all(context.tokens, mask.iter()) {
        return Some(Outcome::Busy);
    }
    let mut may_execute = true;
    transaction.visit_queue(|args| {
        if let Ok(spec) = lookup(args) {
            may_execute &= context
                .dispatcher
                .may_execute(spec, args, false, context.tokens);
        }
    });
    if !may_execute {
        return Some(Outcome::Busy);
    }
    let now = context.dispatcher.now();
    let mut shards = HeldShards {
        tokens: context.tokens,
        placement,
    };
    let mut stranger = Stranger {
        dispatcher: context.dispatcher,
    };
    with_sink(form, context.output.replies(), |sink| {
        transaction.execute(&mut shards, now, &mut stranger, sink)
    });
    Some(Outcome::Done)
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
