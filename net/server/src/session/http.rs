//! An HTTP connection: requests on keys go the way of all commands, pages are answered here.

use fulmar_protocol::command::table::lookup;
use fulmar_protocol::command::{Argv, Deadline, SetExpiry, Value};
use fulmar_protocol::http::{
    CONTINUE, ContentType, Decoded, Decoder, Encoder, KeyCommand, Page, ReplyForm, Request, Status,
};
use fulmar_protocol::{Command, CommandError, ReplySink};
use fulmar_shard::{Route, route};

use super::nodes::{answer_from_copy, send_on};
use super::{COMMANDS_PER_TURN, Context, Served, Stop, stop_for};
use crate::cluster::{Asker, Serving, Way, way};
use crate::dispatch::{Dispatcher, Outcome, Routed, access_of};
use crate::message;
use crate::metrics;
use crate::node::Node;
use crate::output::Output;
use crate::pending::Pending;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// See the module's head.
pub(crate) struct HttpSession {
    decoder: Decoder,
    /// A request that could not run yet, as a command's arguments.
    pending: Option<(Pending, ReplyForm)>,
}

impl HttpSession {
    pub(crate) fn new(dispatcher: &Dispatcher<'_>) -> Self {
        Self {
            decoder: Decoder::new(dispatcher.node().http_config.clone()),
            pending: None,
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(crate) fn buffered_bytes(&self) -> usize {
        let pending = self
            .pending
            .as_ref()
            .map_or(0, |(pending, _)| pending.bytes_held());
        self.decoder.buffered_bytes() + pending
    }

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
        let stop = match self.run_pending(&mut context) {
            Some(stop) => stop,
            None => self.decode(input, &mut consumed, &mut context),
        };
        Served { consumed, stop }
    }

    /// Runs what waits; `None` if nothing does any more.
    fn run_pending(&mut self, context: &mut Context<'_, '_>) -> Option<Stop> {
        let (pending, form) = self.pending.take()?;
        let outcome = pending.with_argv(|argv| run(argv.args, form, context));
        let stop = after(outcome, form, context);
        if outcome != Outcome::Done {
            self.pending = Some((pending, form));
        }
        stop
    }

    fn decode(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        context: &mut Context<'_, '_>,
    ) -> Stop {
        for _ in 0..COMMANDS_PER_TURN {
            if context.output.bytes() >= crate::connection::OUTPUT_BYTES_MAX {
                return Stop::Wait;
            }
            let stop = match self.decoder.decode(&input[*consumed..]) {
                Decoded::Need { consumed: used } => {
                    *consumed += used;
                    if used == 0 || *consumed == input.len() {
                        return Stop::NeedInput;
                    }
                    None
                }
                Decoded::Continue { consumed: used } => {
                    *consumed += used;
                    context.output.writer().extend_from_slice(CONTINUE);
                    None
                }
                Decoded::Refuse {
                    refusal,
                    consumed: used,
                } => {
                    *consumed += used;
                    refusal.encode(context.output.writer());
                    after(Outcome::Done, refusal.form, context)
                }
                Decoded::Request {
                    request: Request::Page(page),
                    form,
                    consumed: used,
                } => {
                    *consumed += used;
                    answer_page(page, form, context);
                    after(Outcome::Done, form, context)
                }
                Decoded::Request {
                    request: Request::Command(command),
                    form,
                    consumed: used,
                } => {
                    *consumed += used;
                    let outcome = with_args(&command, |args| run(args, form, context));
                    if outcome != Outcome::Done {
                        let keep =
                            |args: &[&[u8]]| Pending::new(&Argv { args, staged: &[] }, Vec::new());
                        self.pending = Some((with_args(&command, keep), form));
                    }
                    after(outcome, form, context)
                }
            };
            if let Some(stop) = stop {
                return stop;
            }
        }
        Stop::Again
    }
}

/// Why to stop after a request, if so.
fn after(outcome: Outcome, form: ReplyForm, context: &mut Context<'_, '_>) -> Option<Stop> {
    let is_last = outcome == Outcome::Done && !form.keep_alive();
    stop_for(outcome, context).or_else(|| is_last.then_some(Stop::Close))
}

/// Runs a request as the command that its arguments make.
fn run(args: &[&[u8]], form: ReplyForm, context: &mut Context<'_, '_>) -> Outcome {
    let argv = Argv { args, staged: &[] };
    let spec = lookup(args).expect("made by with_args");
    let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
        unreachable!("made by with_args");
    };
    if let Some(nodes) = context.dispatcher.nodes() {
        let serving = nodes.shared().serving();
        let way = nodes
            .view()
            .map(|view| way(spec, args, view, Asker::default()));
        match (serving, way) {
            (Serving::Unconfirmed, _) => return Outcome::Held,
            (Serving::Everything | Serving::Outside, Some(Way::To(node))) => {
                let form = message::ReplyForm::Http(form);
                if answer_from_copy(&command, form, context) {
                    return Outcome::Done;
                }
                return send_on(spec, &command, &argv, (node, false), form, context);
            }
            (Serving::Everything, Some(_)) => {}
            (Serving::Reads, Some(Way::Here)) if !spec.is_write() => {}
            _ => {
                Encoder::new(form, context.output.writer()).error(&CommandError::ClusterDown);
                return Outcome::Done;
            }
        }
    }
    let placement = context.dispatcher.placement();
    let Route::One(shard, key) = route(spec, &argv, &placement) else {
        unreachable!("a request names one key");
    };
    let form = message::ReplyForm::Http(form);
    let connection = context.id;
    let routed = Routed {
        id: spec.id,
        shard,
        key,
        command: &command,
        access: access_of(spec, false),
        form,
        connection,
    };
    context
        .dispatcher
        .run(&routed, args, context.tokens, context.output)
}

/// The request as a command's arguments.
fn with_args<R>(command: &KeyCommand<'_>, use_args: impl FnOnce(&[&[u8]]) -> R) -> R {
    match command {
        KeyCommand::Get { key } => use_args(&[b"GET", key]),
        KeyCommand::Delete { key } => use_args(&[b"DEL", key]),
        KeyCommand::Set(set) => {
            let Value::Bytes(value) = set.value else {
                unreachable!("HTTP streams no values");
            };
            match set.expiry {
                SetExpiry::At(Deadline::In { ms }) => {
                    use_args(&[b"SET", set.key, value, b"PX", ms.to_string().as_bytes()])
                }
                _ => use_args(&[b"SET", set.key, value]),
            }
        }
    }
}

/// Why a load balancer should send nobody here, if so.
fn unready(node: &Node) -> Option<&'static [u8]> {
    if node.is_draining() {
        return Some(br#"{"status":"draining"}"#);
    }
    let shared = node.cluster.as_ref()?;
    match shared.serving() {
        Serving::Everything if shared.desk.is_synced() => None,
        Serving::Everything | Serving::Outside => Some(br#"{"status":"syncing"}"#),
        Serving::Reads | Serving::Unconfirmed => Some(br#"{"status":"no quorum"}"#),
    }
}

fn answer_page(page: Page, form: ReplyForm, context: &mut Context<'_, '_>) {
    let node = context.dispatcher.node();
    let mut encoder = Encoder::new(form, context.output.writer());
    match page {
        Page::Healthz => encoder.page(Status::Ok, ContentType::Json, br#"{"status":"ok"}"#),
        Page::Readyz => match unready(node) {
            None => encoder.page(Status::Ok, ContentType::Json, br#"{"status":"ready"}"#),
            Some(why) => encoder.page(Status::ServiceUnavailable, ContentType::Json, why),
        },
        Page::Metrics => {
            let text = metrics::render(node);
            encoder.page(Status::Ok, ContentType::OpenMetrics, text.as_bytes());
        }
    }
}
