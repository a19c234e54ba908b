//! Stores of whole values: SET and its kin, MSET, MSETNX.

use fulmar_engine::{Expiry, KEY_BYTES_MAX};
use fulmar_protocol::CommandError;
use fulmar_protocol::command::{Argv, Set, SetCondition, SetExpiry, SetReply, Value};

use super::{Context, failure, strings};
use crate::{Now, PLACED_KEYS_MAX};

impl Context<'_> {
    pub(super) fn set(&mut self, set: &Set<'_>) -> Result<(), CommandError> {
        let expiry = engine_expiry(set.expiry, self.now);
        if set.condition == SetCondition::Always && set.reply != SetReply::Old {
            self.store(set, expiry)?;
            match set.reply {
                SetReply::Stored => self.reply.integer(1),
                SetReply::Ok | SetReply::Old => self.reply.ok(),
            }
            return Ok(());
        }
        self.set_after_look(set, expiry)
    }

    /// The forms of SET that depend on the old value, or reply it.
    fn set_after_look(&mut self, set: &Set<'_>, expiry: Expiry) -> Result<(), CommandError> {
        let wants_old = set.reply == SetReply::Old;
        let (shard, key) = self.shards.locate(set.key);
        let mut old = shard.take_scratch();
        let item = if wants_old {
            shard.cache.get(&key, self.now.time)
        } else {
            shard.cache.peek(&key, self.now.time)
        };
        let existed = item.is_some();
        if wants_old && let Some(item) = item {
            strings::copy_value(&item.value(), &mut old);
        }
        let due = match set.condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => !existed,
            SetCondition::IfPresent => existed,
        };
        let stored = if due { self.store(set, expiry) } else { Ok(()) };
        if stored.is_ok() {
            match set.reply {
                SetReply::Old if existed => self.reply.bulk(&old),
                SetReply::Ok if due => self.reply.ok(),
                SetReply::Old | SetReply::Ok => self.reply.null(),
                SetReply::Stored => self.reply.integer(i64::from(due)),
            }
        }
        self.shards.locate(set.key).0.put_scratch(old);
        stored
    }

    #[inline]
    fn store(&mut self, set: &Set<'_>, expiry: Expiry) -> Result<(), CommandError> {
        let content = self.content(set.value)?;
        let (shard, key) = self.shards.locate(set.key);
        shard
            .store(&key, content, expiry, self.now)
            .map_err(failure::store)
    }

    /// Stores all pairs, or none; but memory that runs out, though everything evictable is gone,
    /// ends it where it is.
    pub(super) fn mset(&mut self, argv: &Argv<'_>) -> Result<(), CommandError> {
        self.check_pairs(argv)?;
        self.store_pairs(argv)?;
        self.reply.ok();
        Ok(())
    }

    pub(super) fn mset_nx(&mut self, argv: &Argv<'_>) -> Result<(), CommandError> {
        self.check_pairs(argv)?;
        for (key, _) in pairs(argv) {
            let (shard, key) = self.shards.locate(key);
            if shard.cache.peek(&key, self.now.time).is_some() {
                self.reply.integer(0);
                return Ok(());
            }
        }
        self.store_pairs(argv)?;
        self.reply.integer(1);
        Ok(())
    }

    /// Refuses what no shard would store, before the first pair is stored.
    fn check_pairs(&mut self, argv: &Argv<'_>) -> Result<(), CommandError> {
        let first = argv.args.get(1).copied().unwrap_or_default();
        let value_bytes_max = self.shards.locate(first).0.value_bytes_max();
        for (key, value) in pairs(argv) {
            if key.len() > KEY_BYTES_MAX {
                return Err(CommandError::KeyTooLong);
            }
            match value {
                Value::Bytes(bytes) if bytes.len() > value_bytes_max => {
                    return Err(CommandError::ValueTooLong);
                }
                Value::Staged(position) if !matches!(self.staged.get(position), Some(Some(_))) => {
                    return Err(CommandError::OutOfMemory);
                }
                Value::Bytes(_) | Value::Staged(_) => {}
            }
        }
        Ok(())
    }

    fn store_pairs(&mut self, argv: &Argv<'_>) -> Result<(), CommandError> {
        let mut pairs = pairs(argv);
        loop {
            let mut values = [const { None }; PLACED_KEYS_MAX];
            let some = values.iter_mut().zip(pairs.by_ref());
            let keys = some.map(|(place, (key, value))| {
                *place = Some(value);
                key
            });
            let placed = self.load(keys);
            if placed.count() == 0 {
                return Ok(());
            }
            for ((shard, key), value) in placed.keys().zip(values.into_iter().flatten()) {
                let content = self.content(value)?;
                self.shards
                    .at(shard.index())
                    .store(key, content, Expiry::Never, self.now)
                    .map_err(failure::store)?;
            }
        }
    }
}

/// The keys and values that follow the command's name.
fn pairs<'a>(argv: &Argv<'a>) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
    let argv = *argv;
    let keys = argv.args.iter().copied().enumerate().skip(1).step_by(2);
    keys.filter_map(move |(position, key)| Some((key, argv.value(position + 1)?)))
}

fn engine_expiry(expiry: SetExpiry, now: Now) -> Expiry {
    match expiry {
        SetExpiry::Never => Expiry::Never,
        SetExpiry::Keep => Expiry::Keep,
        SetExpiry::At(deadline) => Expiry::At(now.time_of(deadline)),
    }
}
