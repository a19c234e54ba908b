//! Executes data commands on the engine, with Redis's replies.
//!
//! One function per command. Each writes exactly one reply, or gives the error to reply and has
//! then written nothing. A command is atomic: all shards it touches are held by the caller, and it
//! checks what can be refused before it changes anything.

mod failure;
mod keys;
mod numbers;
mod set;
mod strings;
mod walk;

use fulmar_engine::Key;
use fulmar_protocol::CommandError;
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::command::{DataCommand, Value};

use keys::Counted;

use crate::shard::Content;
use crate::{Now, PLACED_KEYS_MAX, Placed, Shard, ShardSet, StagedChain, ValueSink};

pub use walk::{SCAN_COUNT_MAX, ScanPlaces, execute_scan};

/// How a command ended, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It replied what it was asked for.
    Done,
    /// It replied an error.
    Failed,
}

/// Executes `command` and writes its reply.
///
/// `shards` holds all shards that [`route`](crate::route()) names for it. `staged` has the
/// chain of each staged argument of this command, in order; `None` where the value could not be
/// taken in because memory ran out. All of them are stored or freed when it returns.
///
/// No allocation for reads, nor for writes of values that are not staged, except: GETSET and SET
/// GET copy the old value, SCAN the keys of its reply.
pub fn execute(
    command: &DataCommand<'_>,
    shards: &mut dyn ShardSet,
    staged: &mut [Option<StagedChain>],
    now: Now,
    reply: &mut dyn ValueSink,
) -> Outcome {
    let mut context = Context {
        shards,
        staged,
        now,
        reply,
    };
    let result = context.dispatch(command);
    context.free_staged();
    match result {
        Ok(()) => Outcome::Done,
        Err(error) => {
            reply.error(&error);
            Outcome::Failed
        }
    }
}

/// Replies the values of some keys of an MGET.
pub(crate) fn get_slice(
    keys: &[&[u8]],
    shards: &mut dyn ShardSet,
    now: Now,
    reply: &mut dyn ValueSink,
) {
    Context {
        shards,
        staged: &mut [],
        now,
        reply,
    }
    .get_each(keys);
}

/// Executes DEL, UNLINK, EXISTS or TOUCH on some of its keys; what it would reply for them.
pub(crate) fn count_slice(
    id: CommandId,
    keys: &[&[u8]],
    shards: &mut dyn ShardSet,
    now: Now,
    reply: &mut dyn ValueSink,
) -> i64 {
    let counted = match id {
        CommandId::Exists => Counted::Existing,
        CommandId::Touch => Counted::Touched,
        _ => Counted::Deleted,
    };
    let staged = &mut [];
    Context {
        shards,
        staged,
        now,
        reply,
    }
    .count(counted, keys)
}

/// What every command works on.
struct Context<'c> {
    shards: &'c mut dyn ShardSet,
    staged: &'c mut [Option<StagedChain>],
    now: Now,
    reply: &'c mut dyn ValueSink,
}

impl Context<'_> {
    /// Calls `visit` with each key, its shard and the reply, in order.
    fn for_each_key(
        &mut self,
        keys: &[&[u8]],
        mut visit: impl FnMut(&mut Shard, &Key<'_>, &mut dyn ValueSink),
    ) {
        for some in keys.chunks(PLACED_KEYS_MAX) {
            for (shard, key) in self.load(some.iter().copied()).keys() {
                visit(self.shards.at(shard.index()), key, self.reply);
            }
        }
    }

    /// Places up to `PLACED_KEYS_MAX` keys and starts to load what commands on them will read.
    fn load<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> Placed<'k> {
        let mut placed = Placed::new();
        for key in keys {
            placed.push(Some(self.shards.place(key)));
        }
        // One key has nothing to overlap with.
        if placed.count() > 1 {
            placed.for_each_shard(|shard| {
                let cache = &self.shards.at(shard.index()).cache;
                cache.prefetch(placed.of(shard));
            });
        }
        placed
    }

    #[inline]
    fn dispatch(&mut self, command: &DataCommand<'_>) -> Result<(), CommandError> {
        match *command {
            DataCommand::Get { key } => self.get(key),
            DataCommand::Set(ref set) => self.set(set),
            DataCommand::GetDel { key } => self.get_del(key),
            DataCommand::GetEx { key, expiry } => self.get_ex(key, expiry),
            DataCommand::MGet { keys } => self.mget(keys),
            DataCommand::MSet { pairs } => self.mset(&pairs),
            DataCommand::MSetNx { pairs } => self.mset_nx(&pairs),
            DataCommand::StrLen { key } => self.str_len(key),
            DataCommand::Append { key, value } => self.append(key, value),
            DataCommand::GetRange { key, start, end } => self.get_range(key, start, end),
            DataCommand::SetRange { key, offset, value } => self.set_range(key, offset, value),
            DataCommand::IncrBy { key, delta } => self.incr_by(key, delta),
            DataCommand::IncrByFloat { key, delta } => self.incr_by_float(key, delta),
            DataCommand::Del { keys } => self.reply_count(Counted::Deleted, keys),
            DataCommand::Exists { keys } => self.reply_count(Counted::Existing, keys),
            DataCommand::Touch { keys } => self.reply_count(Counted::Touched, keys),
            DataCommand::Type { key } => self.type_of(key),
            DataCommand::Expire { key, at, condition } => self.expire(key, at, condition),
            DataCommand::Ttl { key, form } => self.ttl(key, form),
            DataCommand::Persist { key } => self.persist(key),
            DataCommand::RandomKey => self.random_key(),
            DataCommand::Scan {
                cursor,
                pattern,
                count,
                of_type,
            } => self.scan(cursor, pattern, count, of_type),
            DataCommand::Keys { pattern } => self.keys(pattern),
            DataCommand::DbSize => self.db_size(),
            DataCommand::FlushAll => self.flush_all(),
        }
    }

    /// The value as it can be stored. Takes a staged one out of `staged`.
    fn content<'a>(&mut self, value: Value<'a>) -> Result<Content<'a>, CommandError> {
        match value {
            Value::Bytes(bytes) => Ok(Content::Bytes(bytes)),
            Value::Staged(position) => self
                .staged
                .get_mut(position)
                .and_then(Option::take)
                .map(Content::Chain)
                .ok_or(CommandError::OutOfMemory),
        }
    }

    /// Frees what no command stored: the condition did not hold, or an error came first.
    #[inline]
    fn free_staged(&mut self) {
        for staged in self.staged.iter_mut().filter_map(Option::take) {
            self.shards
                .at(staged.shard.index())
                .cache
                .chain_free(staged.chain);
        }
    }
}
