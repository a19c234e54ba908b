//! How a core reaches shards: its own and its peers', in place or by message.
//!
//! ```text
//! one shard, token free:   take the token, execute, go on                    (borrow)
//! another core's, taken:   reserve a hole, add the command to the peer's batch (message)
//! own shard lent:          the connection tries again next turn
//! several shards:          all tokens or none; none: try again next turn
//! ```
//!
//! Nothing here blocks. A batch needs a credit (at most `BATCHES_IN_FLIGHT_MAX` per peer); a full
//! batch without one makes connections wait.

use std::collections::VecDeque;

use fulmar_cluster::{self as cluster, ShardIndex};
use fulmar_engine::{Key, Time};
use fulmar_protocol::command::table::{self, CommandId, CommandSpec, Scope};
use fulmar_protocol::command::{Argv, Command, DataCommand};
use fulmar_protocol::node::{Encoder as NodeEncoder, ForwardStatus, Status};
use fulmar_protocol::resp::Encoder;
use fulmar_protocol::{CommandError, http};
use fulmar_shard::{Access, Leased, Now, Outcome as Executed, Placement, Shard, ShardSet, Single};
use fulmar_shard::{StagedChain, ValueSink, WatchToken, execute};

use crate::clock::Clock;
use crate::cluster::{FORWARD_MS_MAX, HotCopies, Mail, Nodes, Owner, Serving};
use crate::config::{Dispatch, HOT_COPY_MS_MAX};
use crate::message::{BATCHES_IN_FLIGHT_MAX, Batch, Keep, Message, Ran, ReplyForm};
use crate::node::{Counters, Node};
use crate::output::Output;
use crate::replies::Replies;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// Replies that one connection may wait for.
pub(crate) const HOLES_MAX: usize = 128;
/// Bytes of replies that may wait behind a hole.
pub(crate) const BEHIND_BYTES_MAX: usize = 64 * 1_024;
/// Commands after which the clock is read again.
const COMMANDS_PER_CLOCK_READ: u32 = 64;
/// Change of the connections' memory that the shard's limit is told of at once.
const RESERVED_STEP_BYTES: usize = 256 * 1_024;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered, or on its way to a peer.
    Done,
    /// A token is taken: try again next turn.
    Busy,
    /// Too much is waiting for peers: try again after a reply.
    Wait,
    /// Not at this moment, as the cluster stands: try again when that has changed, or after a while.
    Held,
}

/// What a closed connection left to do in shards whose tokens were taken.
pub(crate) enum Cleanup {
    FreeChain(StagedChain),
    Unwatch(WatchToken),
    Release(Leased),
}

impl Cleanup {
    fn shard(&self) -> ShardIndex {
        match self {
            Self::FreeChain(staged) => staged.shard,
            Self::Unwatch(token) => token.shard(),
            Self::Release(leased) => leased.shard,
        }
    }
}

/// A single-key command on its way to a shard.
pub(crate) struct Routed<'a, 'k> {
    pub(crate) id: CommandId,
    pub(crate) shard: ShardIndex,
    pub(crate) key: Key<'k>,
    pub(crate) command: &'a DataCommand<'a>,
    pub(crate) access: Access,
    pub(crate) form: ReplyForm,
    pub(crate) connection: ConnectionId,
}

/// One core's way to all shards.
pub(crate) struct Dispatcher<'n> {
    node: &'n Node,
    own: ShardIndex,
    clock: Clock,
    now: Now,
    commands_until_clock: u32,
    peers: Vec<Peer>,
    spare: Vec<Batch>,
    cleanups: VecDeque<Cleanup>,
    connection_bytes: usize,
    /// Of those, what is held for other nodes.
    nodes_bytes: usize,
    reserved_bytes: usize,
    /// The way to other nodes, if this one is of a cluster.
    nodes: Option<Box<Nodes<'n>>>,
    has_posted: bool,
    /// A follower has acknowledged something.
    has_news: bool,
    /// Connections that wait for acknowledgements from now on.
    waiting: Vec<ConnectionId>,
    written: Vec<ShardIndex>,
    /// There is more for copies on other nodes than went out in the last turn.
    has_copies_to_tell: bool,
}

/// What is on its way to one peer.
struct Peer {
    batch: Option<Batch>,
    credits: usize,
}

impl<'n> Dispatcher<'n> {
    pub(crate) fn new(node: &'n Node, index: usize) -> Self {
        let clock = Clock::new();
        let own = ShardIndex(u16::try_from(index).expect("at most 1,024 shards"));
        let config = &node.config;
        let peer = || Peer {
            batch: None,
            credits: BATCHES_IN_FLIGHT_MAX,
        };
        Self {
            node,
            own,
            now: clock.now(),
            clock,
            commands_until_clock: COMMANDS_PER_CLOCK_READ,
            peers: node.links.iter().map(|_| peer()).collect(),
            spare: Vec::new(),
            cleanups: VecDeque::new(),
            connection_bytes: 0,
            nodes_bytes: 0,
            reserved_bytes: 0,
            nodes: node.cluster.as_ref().map(|shared| {
                let memory = config.memory_bytes_max / u64::from(config.shards);
                let memory = usize::try_from(memory).unwrap_or(usize::MAX);
                let keep_ms = config.hot_copy_ms;
                let copies = (keep_ms > 0).then(|| HotCopies::new(keep_ms, memory));
                let value_bytes_max = config.value_bytes_max;
                Box::new(Nodes::new(
                    shared,
                    own,
                    config.shards,
                    value_bytes_max,
                    copies,
                ))
            }),
            has_posted: false,
            has_news: false,
            waiting: Vec::new(),
            written: Vec::new(),
            has_copies_to_tell: false,
        }
    }

    /// The way to other nodes, if this one is of a cluster.
    #[inline]
    pub(crate) fn nodes(&self) -> Option<&Nodes<'n>> {
        self.nodes.as_deref()
    }

    #[inline]
    pub(crate) fn nodes_mut(&mut self) -> Option<&mut Nodes<'n>> {
        self.nodes.as_deref_mut()
    }

    /// The epoch of the topology in force; 0 where there is none.
    pub(crate) fn epoch(&self) -> cluster::Epoch {
        self.nodes().map_or(cluster::Epoch(0), Nodes::epoch)
    }

    pub(crate) fn node(&self) -> &'n Node {
        self.node
    }

    pub(crate) fn counters(&self) -> &'n Counters {
        &self.node.links[self.own.index()].counters
    }

    pub(crate) fn placement(&self) -> Placement<'n> {
        Placement {
            homes: &self.node.homes,
            hasher: self.node.hasher,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Counts a command, and reads the clock when it is time.
    #[inline]
    pub(crate) fn count(&mut self, id: CommandId, outcome: Executed) {
        self.node.links[self.own.index()]
            .commands
            .record(id, outcome);
        self.commands_until_clock -= 1;
        if self.commands_until_clock == 0 {
            self.commands_until_clock = COMMANDS_PER_CLOCK_READ;
            self.now = self.clock.now();
        }
    }

    pub(crate) fn count_rejected(&self, id: CommandId) {
        self.node.links[self.own.index()]
            .commands
            .record_rejected(id);
    }

    // --- one turn ---

    pub(crate) fn start_turn(&mut self) {
        self.now = self.clock.now();
        self.commands_until_clock = COMMANDS_PER_CLOCK_READ;
        if let Some(nodes) = &mut self.nodes {
            nodes.start_turn(cluster::Time(self.now.time.0));
        }
        if !self.cleanups.is_empty() {
            self.clean_up();
        }
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self) {
        self.clock.synchronize();
        self.reserve();
        if let Some(nodes) = &self.nodes {
            let (counts, counters) = (nodes.forward_counts(), self.counters());
            counters.forwards_sent.set(counts.sent);
            counters.forwards_retried.set(counts.retried);
            counters.forwards_failed.set(counts.failed);
            if let Some(copies) = nodes.hot_copies() {
                counters.hot_copies.set(copies.count() as u64);
                counters.hot_copy_reads.set(copies.reads());
            }
        }
        let mut tokens = Tokens::new(&self.node.shards);
        if tokens.try_take(self.own) {
            tokens.shard(self.own).advance_hot_keys(self.now);
            self.publish(self.own, &mut tokens);
        }
    }

    /// Whether there is something to try again next turn.
    pub(crate) fn has_work(&self) -> bool {
        !self.cleanups.is_empty() || self.has_copies_to_tell
    }

    /// Sends the batches for which there are credits; adds the peers to ring at to `doorbells`.
    pub(crate) fn flush(&mut self, doorbells: &mut Vec<u32>) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            if peer.credits == 0 {
                continue;
            }
            if let Some(batch) = peer.batch.take() {
                peer.credits -= 1;
                let counters = &self.node.links[self.own.index()].counters;
                counters.messages.add(1);
                counters.commands_by_message.add(batch.len() as u64);
                send(self.node, index, Message::Requests(batch), doorbells);
            }
        }
    }

    // --- single shards ---

    /// Whether a command for `shard` is executed here, if its token can be had. Behind a command
    /// that went to another core none is borrowed, so that those for one shard keep their order.
    #[inline]
    pub(crate) fn runs_in_place(&self, shard: ShardIndex, output: &Output) -> bool {
        let borrows = self.node.config.dispatch == Dispatch::Borrow && output.holes_count() == 0;
        shard == self.own || borrows
    }

    /// Executes a command on one shard, or sends it there.
    #[inline]
    pub(crate) fn run(
        &mut self,
        routed: &Routed<'_, '_>,
        args: &[&[u8]],
        tokens: &mut Tokens<'n>,
        output: &mut Output,
    ) -> Outcome {
        let is_own = routed.shard == self.own;
        let in_place = self.runs_in_place(routed.shard, output);
        if in_place && tokens.try_take(routed.shard) {
            if !is_own {
                self.counters().borrows.add(1);
            }
            let shard = tokens.shard(routed.shard);
            if self.nodes.is_some() {
                if !shard.is_answerable(routed.key.range(), routed.access) {
                    if shard.held_ms(self.now) < FORWARD_MS_MAX {
                        return Outcome::Held;
                    }
                    with_sink(routed.form, output.replies(), |sink| {
                        sink.error(&CommandError::TryAgain);
                    });
                    self.count(routed.id, Executed::Failed);
                    return Outcome::Done;
                }
                if !is_own && routed.access == Access::Write {
                    self.note_written(routed.shard);
                }
            }
            let shard = tokens.shard(routed.shard);
            let form = self.with_keep(routed.form, || routed.key, shard);
            let mut shards = Single::new(shard, Some(routed.key), self.placement());
            let executed = with_sink(form, output.replies(), |sink| {
                execute(routed.command, &mut shards, &mut [], self.now, sink)
            });
            self.count(routed.id, executed);
            return Outcome::Done;
        }
        if is_own {
            return Outcome::Busy;
        }
        if in_place {
            self.counters().borrows_failed.add(1);
        }
        self.send_away(routed, args, output)
    }

    /// The form of a reply. Where another node asks whether it may keep it, `shard` says whether it may.
    #[inline]
    fn with_keep<'k>(
        &self,
        form: ReplyForm,
        key: impl FnOnce() -> Key<'k>,
        shard: &mut Shard,
    ) -> ReplyForm {
        match form {
            ReplyForm::Node {
                request,
                version,
                keep: Keep::Asked { copy_reads },
            } => {
                let ms_max = self.node.config.hot_copy_ms.min(HOT_COPY_MS_MAX);
                let ms = shard.keep_ms(&key(), copy_reads, ms_max, self.now);
                ReplyForm::Node {
                    request,
                    version,
                    keep: ms.map_or(Keep::No, |ms| Keep::For { ms }),
                }
            }
            form => form,
        }
    }

    fn send_away(
        &mut self,
        routed: &Routed<'_, '_>,
        args: &[&[u8]],
        output: &mut Output,
    ) -> Outcome {
        if output.holes_count() >= HOLES_MAX || output.behind_bytes() >= BEHIND_BYTES_MAX {
            return Outcome::Wait;
        }
        let core = self.own.index();
        let peer = &mut self.peers[routed.shard.index()];
        let batch = peer
            .batch
            .get_or_insert_with(|| self.spare.pop().unwrap_or_else(|| Batch::new(core)));
        batch.home = routed.shard.index();
        if batch.is_full() {
            return Outcome::Busy;
        }
        let hole = output.reserve();
        batch.push(routed.connection, hole, routed.form, routed.access, args);
        Outcome::Done
    }

    /// Executes batches of peers on the own shard, at most `count`, and sends them back. What has to wait
    /// stays in `backlog`, and what its sender sent behind it.
    pub(crate) fn execute_batches(
        &mut self,
        backlog: &mut VecDeque<Batch>,
        count: usize,
        doorbells: &mut Vec<u32>,
    ) {
        let mut waiting: Vec<usize> = Vec::new();
        let mut place = 0;
        for _ in 0..count {
            while backlog
                .get(place)
                .is_some_and(|batch| waiting.contains(&batch.sender))
            {
                place += 1;
            }
            let mut tokens = Tokens::new(&self.node.shards);
            if place == backlog.len() || !tokens.try_take(self.own) {
                return;
            }
            let batch = &mut backlog[place];
            if !self.execute_batch(batch, &mut tokens) {
                waiting.push(batch.sender);
                continue;
            }
            drop(tokens);
            let batch = backlog.remove(place).expect("it was executed");
            let sender = batch.sender;
            send(self.node, sender, Message::Replies(batch), doorbells);
        }
    }

    /// False if a command of it has to wait.
    fn execute_batch(&mut self, batch: &mut Batch, tokens: &mut Tokens<'n>) -> bool {
        // It may have been sent after the turn began: a TTL that counts from then would end early.
        self.now = self.clock.now();
        let placement = self.placement();
        let epoch = self.epoch();
        batch.execute(|args, access, form, replies| {
            let argv = Argv { args, staged: &[] };
            let spec = table::lookup(args).expect("looked up before it was sent");
            let command = Command::parse(spec, argv).expect("parsed before it was sent");
            let Command::Data(command) = command else {
                unreachable!("only commands on keys are sent");
            };
            // What changed hands meanwhile is not executed.
            let reads_old = access == Access::ReadOld;
            if !self.may_execute(spec, args, reads_old, tokens) {
                let shard = tokens.shard(self.own);
                let mut ranges = spec.keys_in(args).map(cluster::Range::of);
                if ranges.any(|range| shard.is_held(range, access)) {
                    let nodes = self.nodes.iter();
                    let error = match nodes.map(|nodes| nodes.shared().serving()).next() {
                        Some(Serving::Reads) => CommandError::ClusterDownReadsOnly,
                        _ if shard.held_ms(self.now) < FORWARD_MS_MAX => return Ran::NotYet,
                        _ => CommandError::TryAgain,
                    };
                    with_sink(form, replies, |sink| sink.error(&error));
                    self.count(spec.id, Executed::Failed);
                    return Ran::Done;
                }
                let ReplyForm::Node { request, .. } = form else {
                    return Ran::NotHere;
                };
                NodeEncoder::new(&mut replies.bytes).status(&Status {
                    request,
                    status: ForwardStatus::TryAgain,
                    epoch: epoch.0,
                });
                return Ran::Done;
            }
            let shard = tokens.shard(self.own);
            let form = self.with_keep(form, || placement.place(args[1]).1, shard);
            let mut shards = Single::new(shard, None, placement);
            let executed = with_sink(form, replies, |sink| {
                execute(&command, &mut shards, &mut [], self.now, sink)
            });
            self.count(spec.id, executed);
            Ran::Done
        })
    }

    /// Takes a batch back whose replies have been read.
    pub(crate) fn take_back(&mut self, batch: Batch) {
        self.peers[batch.home].credits += 1;
        self.spare.push(batch);
    }

    // --- several shards ---

    /// Whether this node executes a command on these keys, as far as it knows.
    pub(crate) fn owns_all(&self, spec: &CommandSpec, args: &[&[u8]], reads_old: bool) -> bool {
        let Some(view) = self.nodes().and_then(Nodes::view) else {
            return false;
        };
        spec.keys_in(args).all(|key| {
            let range = cluster::Range::of(key);
            view.owner(range) == Owner::Own || reads_old && view.is_replica(range)
        })
    }

    /// Whether the shards of these keys, whose tokens are held, may execute a command on them. Notes
    /// which of them it writes to.
    pub(crate) fn may_execute(
        &mut self,
        spec: &CommandSpec,
        args: &[&[u8]],
        reads_old: bool,
        tokens: &mut Tokens<'n>,
    ) -> bool {
        if self.nodes.is_none() {
            return true;
        }
        let access = access_of(spec, reads_old);
        let placement = self.placement();
        for key in spec.keys_in(args) {
            let range = cluster::Range::of(key);
            let home = placement.homes.home(range);
            if !tokens.shard(home).is_answerable(range.index(), access) {
                return false;
            }
            if access == Access::Write {
                self.note_written(home);
            }
        }
        if spec.is_write() && spec.scope == Scope::AllShards {
            for shard in (0..self.node.config.shards).map(ShardIndex) {
                if !tokens.shard(shard).may_write_all() {
                    return false;
                }
                self.note_written(shard);
            }
        }
        true
    }

    /// Whether a hold of writes has lasted so long that clients are told to try again. It goes on.
    pub(crate) fn is_hold_late(&self, tokens: &mut Tokens<'n>) -> bool {
        let mut shards = (0..self.node.config.shards).map(ShardIndex);
        shards.any(|shard| {
            tokens.is_held(shard) && tokens.shard(shard).held_ms(self.now) >= FORWARD_MS_MAX
        })
    }

    /// A shard has something for its copies: its home core is told at the turn's end.
    pub(crate) fn note_written(&mut self, shard: ShardIndex) {
        if shard != self.own && !self.written.contains(&shard) {
            self.written.push(shard);
        }
    }

    /// The shards of other cores that were written to since the last call.
    pub(crate) fn take_written(&mut self) -> Vec<ShardIndex> {
        std::mem::take(&mut self.written)
    }

    /// Sends what the own shard has for its copies on other nodes.
    pub(crate) fn replicate(&mut self) {
        let Some(nodes) = &mut self.nodes else {
            return;
        };
        let mut tokens = Tokens::new(&self.node.shards);
        self.has_copies_to_tell =
            !tokens.try_take(self.own) || nodes.replicate(tokens.shard(self.own), self.now);
    }

    /// Leaves a message of another node's coordinator for this one's.
    pub(crate) fn post(&mut self, mail: Mail) {
        if let Some(nodes) = &self.nodes {
            nodes.shared().post(mail);
            self.has_posted = true;
        }
    }

    /// Whether something was left for control since the last call.
    pub(crate) fn take_posted(&mut self) -> bool {
        std::mem::take(&mut self.has_posted)
    }

    /// A follower has acknowledged something: connections of any core may wait for it.
    pub(crate) fn note_news(&mut self) {
        self.has_news = true;
    }

    /// Whether there was news since the last call.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// A connection is to be served again when there is news, or when it says.
    pub(crate) fn note_waiting(&mut self, id: ConnectionId) {
        self.waiting.push(id);
    }

    /// The connections that wait since the last call.
    pub(crate) fn take_waiting(&mut self) -> Vec<ConnectionId> {
        std::mem::take(&mut self.waiting)
    }

    /// Takes all of `shards`, or none.
    pub(crate) fn try_take_all(
        &self,
        tokens: &mut Tokens<'n>,
        shards: impl Iterator<Item = ShardIndex>,
    ) -> bool {
        let taken = tokens.try_take_all(shards);
        if !taken {
            self.counters().borrows_failed.add(1);
        }
        taken
    }

    // --- what connections leave behind ---

    pub(crate) fn clean_up_later(&mut self, cleanup: Cleanup) {
        self.cleanups.push_back(cleanup);
    }

    /// Gives leases back to their shards, now or as soon as their tokens can be had.
    pub(crate) fn release(&mut self, leases: impl Iterator<Item = Leased>) {
        for leased in leases {
            let mut tokens = Tokens::new(&self.node.shards);
            if tokens.try_take(leased.shard) {
                let cache = &mut tokens.shard(leased.shard).cache;
                cache.release(leased.lease);
            } else {
                self.clean_up_later(Cleanup::Release(leased));
            }
        }
    }

    fn clean_up(&mut self) {
        let mut tokens = Tokens::new(&self.node.shards);
        for _ in 0..self.cleanups.len() {
            let Some(cleanup) = self.cleanups.pop_front() else {
                break;
            };
            let index = cleanup.shard();
            if !tokens.try_take(index) {
                self.cleanups.push_back(cleanup);
                continue;
            }
            let shard = tokens.shard(index);
            match cleanup {
                Cleanup::FreeChain(staged) => shard.cache.chain_free(staged.chain),
                Cleanup::Unwatch(token) => shard.unwatch(token),
                Cleanup::Release(leased) => shard.cache.release(leased.lease),
            }
        }
    }

    // --- the own shard's upkeep ---

    /// Reclaims expired items; returns when there will be more: now if there are, or if the shard
    /// is lent.
    pub(crate) fn sweep(&mut self, items_max: usize) -> Option<Time> {
        let mut tokens = Tokens::new(&self.node.shards);
        if !tokens.try_take(self.own) {
            return Some(self.now.time);
        }
        let cache = &mut tokens.shard(self.own).cache;
        if cache.advance(self.now.time, items_max) {
            return Some(self.now.time);
        }
        cache.next_deadline()
    }

    /// Publishes what a shard tells of itself; its token is held.
    pub(crate) fn publish(&self, shard: ShardIndex, tokens: &mut Tokens<'n>) {
        self.node.links[shard.index()].publish(tokens.shard(shard).stats(self.now));
    }

    /// Notes that a connection's memory changed.
    pub(crate) fn account(&mut self, before: usize, after: usize) {
        self.connection_bytes = self.connection_bytes + after - before;
        if self.connection_bytes.abs_diff(self.reserved_bytes) >= RESERVED_STEP_BYTES {
            self.reserve();
        }
    }

    /// Notes the memory of what waits for other nodes, or came from them in part.
    pub(crate) fn account_nodes(&mut self) {
        let held = self.nodes.as_ref().map_or(0, |nodes| nodes.held_bytes());
        if held != self.nodes_bytes {
            self.account(self.nodes_bytes, held);
            self.nodes_bytes = held;
        }
    }

    /// Takes the connections' memory out of the own shard's limit.
    fn reserve(&mut self) {
        let mut tokens = Tokens::new(&self.node.shards);
        if tokens.try_take(self.own) {
            self.reserved_bytes = self.connection_bytes;
            self.counters()
                .connection_bytes
                .set(self.reserved_bytes as u64);
            tokens
                .shard(self.own)
                .set_connection_bytes(self.reserved_bytes);
        }
    }
}

/// All shards whose tokens are held.
pub(crate) struct HeldShards<'t, 'n> {
    pub(crate) tokens: &'t mut Tokens<'n>,
    pub(crate) placement: Placement<'n>,
}

impl ShardSet for HeldShards<'_, '_> {
    fn place<'k>(&self, key: &'k [u8]) -> (ShardIndex, Key<'k>) {
        self.placement.place(key)
    }

    fn count(&self) -> usize {
        self.tokens.shards_count()
    }

    fn at(&mut self, index: usize) -> &mut Shard {
        let index = u16::try_from(index).expect("at most 1,024 shards");
        self.tokens.shard(ShardIndex(index))
    }
}

/// Runs `reply` with the encoder of a form.
#[inline]
pub(crate) fn with_sink<R>(
    form: ReplyForm,
    out: &mut Replies,
    reply: impl FnOnce(&mut dyn ValueSink) -> R,
) -> R {
    match form {
        ReplyForm::Resp(version) => reply(&mut out.sink(version)),
        ReplyForm::Http(form) => reply(&mut http::Encoder::new(form, &mut out.bytes)),
        ReplyForm::Node {
            request,
            version,
            keep,
        } => {
            let mut encoder = NodeEncoder::new(&mut out.bytes);
            let mut frame = encoder.reply_in_place(request, keep.ms());
            let result = reply(&mut Encoder::new(frame.payload(), version));
            frame.finish();
            result
        }
    }
}

/// What a command does with its keys.
#[inline]
pub(crate) fn access_of(spec: &CommandSpec, reads_old: bool) -> Access {
    match (spec.is_write(), reads_old) {
        (true, _) => Access::Write,
        (false, true) => Access::ReadOld,
        (false, false) => Access::Read,
    }
}

fn send(node: &Node, peer: usize, message: Message, doorbells: &mut Vec<u32>) {
    if node.links[peer].send(message) {
        doorbells.push(u32::try_from(peer).expect("at most 1,024 cores"));
    }
}
