//! Transactions: what MULTI queues, what WATCH remembers, and EXEC over held shards.
//!
//! ```text
//! WATCH* -> MULTI -> queue* ---> EXEC:    hold shards_needed(), execute()
//!                     | abort    DISCARD: discard() -> Leftovers, given back when held
//!                     +------->  close:   abandon() -> Leftovers
//! ```
//!
//! Pure: the connection decides when, takes the tokens, and replies `QUEUED`. Commands are queued
//! as their arguments in one buffer and parsed again when they are executed.
//!
//! Invariants:
//! 1. Chains and watch tokens belong to shards. They leave a transaction by its execution, or as
//!    [`Leftovers`] that the connection gives back; nothing is lost when a client vanishes.
//! 2. `shards_needed` covers all keys queued, all chains and all watched keys.
//! 3. What is queued is bounded by [`QUEUE_BYTES_MAX`] and [`QUEUE_COMMANDS_MAX`], what is watched
//!    by [`WATCHES_MAX`].

use std::ops::Range;

use fulmar_protocol::command::table::{CommandId, CommandSpec};
use fulmar_protocol::command::{Argv, Command, ConnectionCommand, StagedArgument};
use fulmar_protocol::{CommandError, ReplySink};

use crate::{
    Now, Outcome, Placement, Route, ShardMask, ShardSet, StagedChain, ValueSink, WatchToken,
    execute, route,
};

/// Most bytes that the queued commands of one transaction take: arguments, streamed values, and
/// what describes them.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most commands that one transaction queues.
pub const QUEUE_COMMANDS_MAX: usize = 1024 * 1024;
/// Most keys that one client watches.
pub const WATCHES_MAX: usize = 4_096;
/// Most bytes of room that a finished transaction keeps for the next.
const IDLE_BYTES_MAX: usize = 16 * 1024;

/// What EXEC asks of the connection.
pub trait Replay {
    /// Answers a queued command that needs no shard: PING, ECHO, TIME, INFO and their like.
    fn answer(&mut self, command: &ConnectionCommand<'_>, reply: &mut dyn ReplySink) -> Outcome;

    /// Notes that a queued command was executed.
    fn count(&mut self, id: CommandId, outcome: Outcome);
}

/// One client's transaction: open between MULTI and EXEC or DISCARD.
#[derive(Debug, Default)]
pub struct Transaction {
    is_open: bool,
    is_aborted: bool,
    needs_all: bool,
    needed: Option<Box<ShardMask>>,
    queue: Queue,
    chains: Vec<Option<StagedChain>>,
    tokens: Vec<WatchToken>,
}

/// The queued commands, each a run of arguments.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Where each argument ends in `bytes`; the next begins there.
    ends: Vec<usize>,
    staged: Vec<StagedArgument>,
    commands: Vec<Queued>,
    /// Bytes of streamed values.
    staged_bytes: usize,
}

#[derive(Debug)]
struct Queued {
    spec: &'static CommandSpec,
    /// Counts of arguments and staged arguments up to the end of this command.
    args_end: usize,
    staged_end: usize,
}

/// What an ended transaction still holds in shards.
///
/// Give it back: with [`release`](Self::release), or piece by piece.
#[derive(Debug, Default)]
#[must_use]
pub struct Leftovers {
    /// Values that were streamed in and not stored: each to be freed in its shard's engine.
    pub chains: Vec<StagedChain>,
    /// Keys that were watched: each to be given to its shard's `unwatch`.
    pub tokens: Vec<WatchToken>,
}

impl Transaction {
    /// Whether MULTI was given and neither EXEC nor DISCARD since.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether nothing is held: not open, nothing watched.
    pub fn is_idle(&self) -> bool {
        !self.is_open && self.tokens.is_empty()
    }

    /// Number of commands queued.
    pub fn commands_count(&self) -> usize {
        self.queue.commands.len()
    }

    /// Number of keys watched.
    pub fn watches_count(&self) -> usize {
        self.tokens.len()
    }

    /// Whether nothing of it is in shards, so that it can be executed elsewhere.
    pub fn is_portable(&self) -> bool {
        self.tokens.is_empty() && self.chains.is_empty()
    }

    /// Shows the arguments of each queued command, for whoever has them executed elsewhere.
    pub fn visit_queue<'q>(&'q self, mut visit: impl FnMut(&[&'q [u8]])) {
        let (mut args, mut start) = (Vec::new(), 0);
        for queued in &self.queue.commands {
            args.clear();
            self.queue.collect_args(start..queued.args_end, &mut args);
            visit(&args);
            start = queued.args_end;
        }
    }

    /// Whether a command was refused, so that EXEC will be.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// Bytes of memory that the queue takes, outside the shards.
    pub fn bytes_held(&self) -> usize {
        self.queue.bytes.capacity()
            + size_of_val(self.queue.ends.as_slice())
            + size_of_val(self.queue.commands.as_slice())
            + size_of_val(self.tokens.as_slice())
    }

    /// MULTI.
    ///
    /// # Errors
    /// [`CommandError::NestedMulti`]; the open transaction goes on.
    pub fn begin(&mut self) -> Result<(), CommandError> {
        if self.is_open {
            return Err(CommandError::NestedMulti);
        }
        self.is_open = true;
        Ok(())
    }

    /// Notes that a command could not be queued: EXEC will answer EXECABORT. Without an open
    /// transaction, nothing.
    pub fn abort(&mut self) {
        self.is_aborted = self.is_open;
    }

    /// Notes that a command was answered with `error` before it could be queued or executed.
    ///
    /// EXEC will answer EXECABORT; but an EXEC that has arguments itself ends the transaction, and
    /// gives back what it held.
    pub fn reject(&mut self, error: &CommandError) -> Leftovers {
        if matches!(error, CommandError::WrongArity(CommandId::Exec)) {
            return self.abandon();
        }
        self.abort();
        Leftovers::default()
    }

    /// Queues a command whose number of arguments was checked; the connection replies `QUEUED`.
    ///
    /// `staged` has the chains of its staged arguments; they are taken over unless an error is
    /// given.
    ///
    /// # Errors
    /// [`CommandError::TransactionTooLarge`]; the transaction is then aborted.
    pub fn queue(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        staged: &mut [Option<StagedChain>],
        placement: &Placement<'_>,
    ) -> Result<(), CommandError> {
        debug_assert!(self.is_open);
        debug_assert_eq!(argv.staged.len(), staged.len());
        if self.is_aborted {
            // It will not run, so it need not be kept: the caller frees what it streamed.
            return Ok(());
        }
        if !self.queue.has_room(argv) {
            self.abort();
            return Err(CommandError::TransactionTooLarge);
        }
        match route(spec, argv, placement) {
            Route::Connection => {}
            Route::One(shard, _) => self.needed.get_or_insert_default().insert(shard),
            Route::Many(mask) => self.needed.get_or_insert_default().extend(&mask),
            Route::All => self.needs_all = true,
        }
        self.queue.push(spec, argv);
        self.chains.extend(staged.iter_mut().map(Option::take));
        Ok(())
    }

    /// WATCH: remembers the state of `keys`, whose shards are held. Replies nothing.
    ///
    /// # Errors
    /// [`CommandError::WatchInsideMulti`], [`CommandError::TransactionTooLarge`]; keys before the
    /// one that was too many stay watched.
    pub fn watch(
        &mut self,
        keys: &[&[u8]],
        shards: &mut dyn ShardSet,
        now: Now,
    ) -> Result<(), CommandError> {
        if self.is_open {
            return Err(CommandError::WatchInsideMulti);
        }
        for key in keys {
            if self.tokens.len() >= WATCHES_MAX {
                return Err(CommandError::TransactionTooLarge);
            }
            let (shard, key) = shards.locate(key);
            let token = shard
                .watch(&key, now)
                .map_err(|_full| CommandError::TransactionTooLarge)?;
            if self.tokens.iter().any(|earlier| earlier.covers(&token)) {
                shard.unwatch(token);
            } else {
                self.tokens.push(token);
            }
        }
        Ok(())
    }

    /// UNWATCH: forgets the watched keys. Inside MULTI it is queued like any command.
    pub fn unwatch(&mut self) -> Leftovers {
        Leftovers {
            chains: Vec::new(),
            tokens: std::mem::take(&mut self.tokens),
        }
    }

    /// DISCARD.
    ///
    /// # Errors
    /// [`CommandError::DiscardWithoutMulti`].
    pub fn discard(&mut self) -> Result<Leftovers, CommandError> {
        if self.is_open {
            Ok(self.abandon())
        } else {
            Err(CommandError::DiscardWithoutMulti)
        }
    }

    /// Ends whatever there is: the client is gone.
    pub fn abandon(&mut self) -> Leftovers {
        let chains = std::mem::take(&mut self.chains)
            .into_iter()
            .flatten()
            .collect();
        let tokens = std::mem::take(&mut self.tokens);
        self.close();
        Leftovers { chains, tokens }
    }

    /// The shards that must be held to [`execute`](Self::execute), of `shards_count` in all.
    pub fn shards_needed(&self, shards_count: usize) -> ShardMask {
        if self.needs_all {
            return ShardMask::first(shards_count);
        }
        let mut mask = self.needed.as_deref().copied().unwrap_or(ShardMask::EMPTY);
        self.chains
            .iter()
            .flatten()
            .for_each(|staged| mask.insert(staged.shard));
        self.tokens
            .iter()
            .for_each(|token| mask.insert(token.shard()));
        mask
    }

    /// EXEC, all of it: checks, replays the queue, replies, and closes the transaction.
    ///
    /// `shards` holds [`shards_needed`](Self::shards_needed).
    pub fn execute(
        &mut self,
        shards: &mut dyn ShardSet,
        now: Now,
        replay: &mut dyn Replay,
        reply: &mut dyn ValueSink,
    ) -> Outcome {
        if !self.is_open {
            reply.error(&CommandError::ExecWithoutMulti);
            return Outcome::Failed;
        }
        let outcome = if self.is_aborted {
            reply.error(&CommandError::ExecAbort);
            Outcome::Failed
        } else if self.is_dirty(shards, now) {
            reply.null_array();
            Outcome::Done
        } else {
            self.replay(shards, now, replay, reply);
            Outcome::Done
        };
        self.abandon().release(shards);
        outcome
    }

    fn is_dirty(&self, shards: &mut dyn ShardSet, now: Now) -> bool {
        self.tokens
            .iter()
            .any(|token| shards.at(token.shard().index()).is_dirty(token, now))
    }

    fn replay(
        &mut self,
        shards: &mut dyn ShardSet,
        now: Now,
        replay: &mut dyn Replay,
        reply: &mut dyn ValueSink,
    ) {
        reply.array(self.queue.commands.len());
        let mut args = Vec::new();
        let (mut args_start, mut staged_start) = (0, 0);
        for queued in &self.queue.commands {
            args.clear();
            self.queue
                .collect_args(args_start..queued.args_end, &mut args);
            let staged = staged_start..queued.staged_end;
            let argv = Argv {
                args: &args,
                staged: &self.queue.staged[staged.clone()],
            };
            let chains = &mut self.chains[staged];
            match Command::parse(queued.spec, argv) {
                Ok(Command::Data(command)) => {
                    let outcome = execute(&command, shards, chains, now, reply);
                    replay.count(queued.spec.id, outcome);
                }
                Ok(Command::Connection(command)) => {
                    let outcome = replay.answer(&command, reply);
                    replay.count(queued.spec.id, outcome);
                }
                Err(error) => {
                    reply.error(&error);
                    replay.count(queued.spec.id, Outcome::Failed);
                }
            }
            (args_start, staged_start) = (queued.args_end, queued.staged_end);
        }
    }

    fn close(&mut self) {
        self.is_open = false;
        self.is_aborted = false;
        self.needs_all = false;
        self.needed = None;
        self.queue.clear();
    }
}

impl Queue {
    /// Whether one more command stays within the limits.
    fn has_room(&self, argv: &Argv<'_>) -> bool {
        let bytes: usize = argv.args.iter().map(|arg| arg.len()).sum();
        let staged_bytes: usize = argv.staged.iter().map(|staged| staged.bytes_count).sum();
        let args_count = self.ends.len() + argv.args.len();
        let commands_count = self.commands.len() + 1;
        let total = self.bytes.len()
            + bytes
            + self.staged_bytes
            + staged_bytes
            + args_count * size_of::<usize>()
            + commands_count * size_of::<Queued>();
        total <= QUEUE_BYTES_MAX && commands_count <= QUEUE_COMMANDS_MAX
    }

    fn push(&mut self, spec: &'static CommandSpec, argv: &Argv<'_>) {
        for arg in argv.args {
            self.bytes.extend_from_slice(arg);
            self.ends.push(self.bytes.len());
        }
        self.staged.extend_from_slice(argv.staged);
        self.staged_bytes += argv
            .staged
            .iter()
            .map(|staged| staged.bytes_count)
            .sum::<usize>();
        let (args_end, staged_end) = (self.ends.len(), self.staged.len());
        self.commands.push(Queued {
            spec,
            args_end,
            staged_end,
        });
    }

    /// Appends the arguments with these positions in the whole queue to `args`.
    fn collect_args<'a>(&'a self, positions: Range<usize>, args: &mut Vec<&'a [u8]>) {
        let mut start = match positions.start {
            0 => 0,
            first => self.ends[first - 1],
        };
        for &end in &self.ends[positions] {
            args.push(&self.bytes[start..end]);
            start = end;
        }
    }

    fn clear(&mut self) {
        if self.bytes.capacity() + size_of_val(self.ends.as_slice()) > IDLE_BYTES_MAX {
            *self = Self::default();
            return;
        }
        self.bytes.clear();
        self.ends.clear();
        self.staged.clear();
        self.commands.clear();
        self.staged_bytes = 0;
    }
}

impl Leftovers {
    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.tokens.is_empty()
    }

    /// The shards that must be held to [`release`](Self::release).
    pub fn shards(&self) -> ShardMask {
        let mut mask = ShardMask::EMPTY;
        self.chains
            .iter()
            .for_each(|staged| mask.insert(staged.shard));
        self.tokens
            .iter()
            .for_each(|token| mask.insert(token.shard()));
        mask
    }

    /// Gives everything back to the shards, which are held.
    pub fn release(self, shards: &mut dyn ShardSet) {
        for staged in self.chains {
            shards
                .at(staged.shard.index())
                .cache
                .chain_free(staged.chain);
        }
        for token in self.tokens {
            shards.at(token.shard().index()).unwatch(token);
        }
    }
}
