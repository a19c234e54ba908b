//! Commands on keys whatever their values: deletion, existence, deadlines.

use fulmar_engine::{Expiry, Time};
use fulmar_protocol::CommandError;
use fulmar_protocol::command::{Deadline, ExpireCondition, TtlForm};

use super::Context;

/// TTL's reply for a key that does not exist.
const NO_KEY: i64 = -2;
/// TTL's reply for a key that does not expire.
const NO_DEADLINE: i64 = -1;

/// What is counted of keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counted {
    Deleted,
    Existing,
    Touched,
}

impl Context<'_> {
    /// DEL, EXISTS and TOUCH.
    pub(super) fn reply_count(&mut self, of: Counted, keys: &[&[u8]]) -> Result<(), CommandError> {
        let count = self.count(of, keys);
        self.reply.integer(count);
        Ok(())
    }

    /// Of how many keys it is true.
    pub(super) fn count(&mut self, of: Counted, keys: &[&[u8]]) -> i64 {
        let (now, time) = (self.now, self.now.time);
        let mut count = 0;
        self.for_each_key(keys, |shard, key, _| {
            count += i64::from(match of {
                Counted::Deleted => shard.delete(key, now),
                Counted::Existing => shard.cache.peek(key, time).is_some(),
                Counted::Touched => {
                    let was_there = shard.cache.touch(key, time);
                    if was_there {
                        shard.note_read(key);
                    }
                    was_there
                }
            });
        });
        count
    }

    pub(super) fn type_of(&mut self, key: &[u8]) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let exists = shard.cache.peek(&key, self.now.time).is_some();
        self.reply.status(if exists { "string" } else { "none" });
        Ok(())
    }

    pub(super) fn expire(
        &mut self,
        key: &[u8],
        at: Deadline,
        condition: ExpireCondition,
    ) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let Some(item) = shard.cache.peek(&key, self.now.time) else {
            self.reply.integer(0);
            return Ok(());
        };
        let ms_left = item.deadline().map(|deadline| self.now.ms_left(deadline));
        let ms_until = self.now.ms_until(at);
        if !holds(condition, ms_left, ms_until) {
            self.reply.integer(0);
            return Ok(());
        }
        if ms_until <= 0 {
            shard.delete(&key, self.now);
        } else {
            shard.set_expiry(&key, Expiry::At(self.now.time_of(at)), self.now);
        }
        self.reply.integer(1);
        Ok(())
    }

    pub(super) fn ttl(&mut self, key: &[u8], form: TtlForm) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let item = shard.cache.peek(&key, self.now.time);
        let reply = match item.map(|item| item.deadline()) {
            None => NO_KEY,
            Some(None) => NO_DEADLINE,
            Some(Some(deadline)) => self.ttl_of(deadline, form),
        };
        self.reply.integer(reply);
        Ok(())
    }

    pub(super) fn persist(&mut self, key: &[u8]) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let item = shard.cache.peek(&key, self.now.time);
        let expires = item.is_some_and(|item| item.deadline().is_some());
        if expires {
            shard.set_expiry(&key, Expiry::Never, self.now);
        }
        self.reply.integer(i64::from(expires));
        Ok(())
    }

    fn ttl_of(&self, deadline: Time, form: TtlForm) -> i64 {
        let seconds = |ms: i64| ms.saturating_add(500) / 1_000;
        match form {
            TtlForm::Seconds => seconds(self.now.ms_left(deadline)),
            TtlForm::Milliseconds => self.now.ms_left(deadline),
            TtlForm::UnixSeconds => seconds(self.now.unix_ms_of(deadline)),
            TtlForm::UnixMilliseconds => self.now.unix_ms_of(deadline),
        }
    }
}

/// Whether EXPIRE's condition lets a new deadline in `ms_until` milliseconds replace one in
/// `ms_left`, or none.
fn holds(condition: ExpireCondition, ms_left: Option<i64>, ms_until: i64) -> bool {
    if condition.if_none && ms_left.is_some() {
        return false;
    }
    if condition.if_some && ms_left.is_none() {
        return false;
    }
    if condition.if_later && ms_left.is_none_or(|left| ms_until <= left) {
        return false;
    }
    !(condition.if_earlier && ms_left.is_some_and(|left| ms_until >= left))
}
