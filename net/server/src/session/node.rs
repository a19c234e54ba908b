//! A connection that another node has made: its forwarded commands, its copies' changes, and its
//! coordinator's messages. Nothing of it is taken before it has proven that it knows the secret, and
//! then only what it said that it connects for.

mod commands;

use std::net::SocketAddr;

use fulmar_cluster::replication::{
    Control, ControlSink, Entry, Header, Replication, Verdict, decode_control, decode_entry,
};
use fulmar_cluster::{ShardIndex, Time};
use fulmar_protocol::node::{Decoded, Decoder, Encoder, Frame, Goodbye, Hello, Proof, Purpose};

use super::node_waits::NodeWaits;
use super::{Context, Served, Stop};
use crate::cluster::{Assembly, Mail, Proven, Refusal, Welcome};
use crate::dispatch::Dispatcher;
use crate::output::Output;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// Frames handled in a turn.
const FRAMES_PER_TURN: usize = 256;
/// How long changes by a newer topology wait for it.
const AHEAD_MS_MAX: u64 = 2_000;
/// A greeting is over after so long, or the connection is.
const GREETING_MS_MAX: u64 = 5_000;
/// A node that says nothing for so long is gone: an open link asks after a second without an answer.
const SILENT_MS_MAX: u64 = 5_000;

enum Phase {
    /// It has said nothing.
    Silent,
    /// It has said Hello, and is to prove it.
    Greeting(Welcome),
    Open(Proven),
}

/// See the module's head.
pub(crate) struct NodeSession {
    address: Option<SocketAddr>,
    began: Time,
    heard_at: Time,
    decoder: Decoder,
    phase: Phase,
    /// Since when it acts on a newer topology than this node.
    ahead_since: Option<Time>,
    /// Its clients' WAITs.
    waits: NodeWaits,
    /// Commands that come in several frames.
    assemblies: Vec<Assembly>,
    /// One that is there and has not been executed yet.
    complete: Option<Assembly>,
    /// Since when the next command cannot be executed.
    busy_since: Option<Time>,
    /// Length of the incomplete frame that is there; 0 if none is.
    pub(crate) needed_bytes: usize,
}

impl NodeSession {
    pub(crate) fn new(address: Option<SocketAddr>, now: Time) -> Self {
        Self {
            address,
            began: now,
            heard_at: now,
            decoder: Decoder::new(),
            phase: Phase::Silent,
            ahead_since: None,
            waits: NodeWaits::default(),
            assemblies: Vec::new(),
            complete: None,
            busy_since: None,
            needed_bytes: 0,
        }
    }

    /// Whether it has yet to prove who it is.
    pub(crate) fn is_stranger(&self) -> bool {
        !matches!(self.phase, Phase::Open(_))
    }

    /// When a WAIT of its clients ends, if there is one.
    pub(crate) fn wakes_at(&self) -> Option<Time> {
        self.waits.wakes_at()
    }

    /// Whether nothing can be expected of it any more.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        if self.is_stranger() {
            now.ms_since(self.began) >= GREETING_MS_MAX
        } else {
            now.ms_since(self.heard_at) >= SILENT_MS_MAX
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.complete.is_some()
    }

    /// Memory held, outside the shards.
    pub(crate) fn buffered_bytes(&self) -> usize {
        let all = self.assemblies.iter().chain(&self.complete);
        all.map(Assembly::bytes_held).sum()
    }

    /// Gives back what commands that never came whole have reserved.
    pub(crate) fn close(&mut self, dispatcher: &mut Dispatcher<'_>) {
        if let Some(nodes) = dispatcher.nodes_mut() {
            let all = self.assemblies.iter().chain(&self.complete);
            all.for_each(|assembly| nodes.budget.give(assembly.reserved()));
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn say_goodbye(&self, reason: Goodbye, output: &mut Output) {
        if !self.is_stranger() {
            Encoder::new(output.writer()).goodbye(reason);
        }
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
        self.heard_at = Time(context.dispatcher.now().time.0);
        self.needed_bytes = 0;
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
            if let Some(stop) = self.run_complete(&mut context) {
                return Served { consumed, stop };
            }
            let decoder = self.decoder;
            let (stop, used) = match decoder.decode(&input[consumed..]) {
                Decoded::Need(bytes) => {
                    self.needed_bytes = bytes;
                    (Some(Stop::NeedInput), 0)
                }
                Decoded::Skip { consumed } => (None, consumed),
                Decoded::Frame { frame, consumed } => (self.handle(frame, &mut context), consumed),
                Decoded::Error(error) => {
                    if !self.is_stranger() {
                        tracing::warn!(
                            address = ?self.address, %error,
                            "another node sends what it must not"
                        );
                    }
                    (self.leave(Goodbye::Protocol, &mut context), 0)
                }
            };
            if let Some(stop) = stop {
                return Served { consumed, stop };
            }
            consumed += used;
        }
        let stop = Stop::Again;
        Served { consumed, stop }
    }

    /// Handles a frame; says why to stop before it, if so.
    fn handle(&mut self, frame: Frame<'_>, context: &mut Context<'_, '_>) -> Option<Stop> {
        let proven = match (&self.phase, &frame) {
            (Phase::Open(proven), _) => *proven,
            (Phase::Silent, Frame::Hello(hello)) => return self.handle_hello(*hello, context),
            (Phase::Greeting(_), Frame::Proof(proof)) => return self.handle_proof(*proof, context),
            // It may have found something wrong with the answer.
            (_, Frame::Goodbye(reason)) => {
                if let (Phase::Greeting(_), Some(refusal)) = (&self.phase, Refusal::of(*reason)) {
                    self.complain(refusal, context);
                }
                return Some(Stop::Close);
            }
            _ => return self.leave(Goodbye::Protocol, context),
        };
        match (frame, proven.purpose) {
            (Frame::Goodbye(_), _) => Some(Stop::Close),
            (Frame::Ping { nonce }, _) => {
                Encoder::new(context.output.writer()).pong(nonce);
                None
            }
            (Frame::Forward(forward), Purpose::Forward) => self.handle_forward(&forward, context),
            (Frame::Arguments(more), Purpose::Forward) => self.handle_arguments(&more, context),
            (Frame::Part(part), Purpose::Forward) => self.handle_part(&part, context),
            (Frame::Batch(batch), Purpose::Replicate) => self.handle_batch(batch, &proven, context),
            (Frame::Told(told), Purpose::Replicate) => self.handle_told(told, &proven, context),
            (Frame::Control(message), Purpose::Control) => {
                let (from, message) = (proven.node, message.to_vec());
                context.dispatcher.post(Mail { from, message });
                None
            }
            _ => self.leave(Goodbye::Protocol, context),
        }
    }

    /// The end, with a reason.
    fn leave(&self, reason: Goodbye, context: &mut Context<'_, '_>) -> Option<Stop> {
        Encoder::new(context.output.writer()).goodbye(reason);
        Some(Stop::Close)
    }

    // --- the greeting ---

    fn handle_hello(&mut self, hello: Hello, context: &mut Context<'_, '_>) -> Option<Stop> {
        let nodes = context.dispatcher.nodes()?;
        let mut challenge = [0; 32];
        if let Err(error) = getrandom::fill(&mut challenge) {
            tracing::error!(%error, "no random numbers from the kernel: no links with other nodes");
            return Some(Stop::Close);
        }
        match Welcome::new(hello, &nodes.own(), challenge, context.output.writer()) {
            Ok(welcome) => {
                self.phase = Phase::Greeting(welcome);
                None
            }
            Err(refusal) => self.refuse(refusal, context),
        }
    }

    fn handle_proof(&mut self, proof: Proof, context: &mut Context<'_, '_>) -> Option<Stop> {
        let nodes = context.dispatcher.nodes()?;
        let Phase::Greeting(welcome) = &self.phase else {
            return Some(Stop::Close);
        };
        match welcome.handle_proof(&proof, &nodes.own()) {
            Ok(proven) if is_old(&proven, context) => self.leave(Goodbye::OldIncarnation, context),
            Ok(proven) => {
                self.phase = Phase::Open(proven);
                self.decoder.open();
                None
            }
            Err(refusal) => self.refuse(refusal, context),
        }
    }

    fn refuse(&self, refusal: Refusal, context: &mut Context<'_, '_>) -> Option<Stop> {
        self.complain(refusal, context);
        match refusal.goodbye() {
            Some(goodbye) => self.leave(goodbye, context),
            None => Some(Stop::Close),
        }
    }

    fn complain(&self, refusal: Refusal, context: &Context<'_, '_>) {
        if let Some(nodes) = context.dispatcher.nodes() {
            let who = match self.address {
                Some(address) => format!("a node at {address}"),
                None => "a node".to_owned(),
            };
            nodes.shared().complain(refusal, &who, nodes.now());
        }
    }

    // --- replication ---

    /// The header at the front of `input`, and the shard that it is for, whose token is taken then; or
    /// why to stop before the frame.
    fn open(
        &self,
        input: &mut &[u8],
        proven: &Proven,
        context: &mut Context<'_, '_>,
    ) -> Result<(Header, ShardIndex), Option<Stop>> {
        let Some((header, shard)) = header_of(input, proven, context) else {
            return Err(self.leave(Goodbye::Protocol, context));
        };
        if !context.tokens.try_take(shard) {
            return Err(Some(Stop::Again));
        }
        Ok((header, shard))
    }

    /// Changes of a primary's core for copies here; says why to stop before it, if so.
    fn handle_batch(
        &mut self,
        mut input: &[u8],
        proven: &Proven,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        let (header, shard) = match self.open(&mut input, proven, context) {
            Ok(opened) => opened,
            Err(stop) => return stop,
        };
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
        if stop != Some(Stop::Again) {
            self.ahead_since = None;
            return stop;
        }
        // A topology that does not come is not waited for: what is missing is asked for again.
        let since = *self.ahead_since.get_or_insert(time);
        if time.ms_since(since) > AHEAD_MS_MAX {
            return None;
        }
        if let Some(nodes) = context.dispatcher.nodes_mut() {
            nodes.hold(context.id);
        }
        Some(Stop::Wait)
    }

    /// What the core of a copy says to the primary's core here.
    fn handle_told(
        &self,
        mut input: &[u8],
        proven: &Proven,
        context: &mut Context<'_, '_>,
    ) -> Option<Stop> {
        let (header, shard) = match self.open(&mut input, proven, context) {
            Ok(opened) => opened,
            Err(stop) => return stop,
        };
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
}

/// Whether a later start of that node is known.
fn is_old(proven: &Proven, context: &Context<'_, '_>) -> bool {
    let view = context.dispatcher.nodes().and_then(|nodes| nodes.view());
    let member = view.and_then(|view| view.topology().member(proven.node));
    member.is_some_and(|member| member.incarnation > proven.incarnation)
}

/// The header at the front of `input`, and the shard that it is for; `None` if it is wrong, or not of
/// the node that speaks.
fn header_of(
    input: &mut &[u8],
    proven: &Proven,
    context: &Context<'_, '_>,
) -> Option<(Header, ShardIndex)> {
    let header = Header::decode(input).ok()?;
    let from = (header.from.core.node, header.from.incarnation);
    let shard = header.to.core.core;
    let is_right =
        from == (proven.node, proven.incarnation) && shard.index() < context.tokens.shards_count();
    is_right.then_some((header, shard))
}

struct Follower<'a>(&'a mut Replication);

impl ControlSink for Follower<'_> {
    fn control(&mut self, control: &Control<'_>) {
        self.0.handle_control(control);
    }
}
