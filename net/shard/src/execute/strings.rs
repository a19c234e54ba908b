//! Reads of values, and writes of parts of them.

use std::ops::Range;

use fulmar_engine::{Expiry as EngineExpiry, ItemValue, Key, Time};
use fulmar_protocol::CommandError;
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::command::{BadExpiry, Expiry, Value};

use super::{Context, failure};
use crate::shard::Content;
use crate::value_sink::LEASED_QUARTERS_MAX;
use crate::{LEASED_BYTES_MIN, Leased, Shard, ValueSink};

impl Context<'_> {
    #[inline]
    pub(super) fn get(&mut self, key: &[u8]) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        reply_get(shard, &key, self.now.time, self.reply);
        Ok(())
    }

    pub(super) fn get_del(&mut self, key: &[u8]) -> Result<(), CommandError> {
        self.get(key)?;
        let (shard, key) = self.shards.locate(key);
        shard.delete(&key, self.now);
        Ok(())
    }

    pub(super) fn get_ex(
        &mut self,
        key: &[u8],
        expiry: Option<Expiry>,
    ) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let deadline = match expiry {
            Some(Expiry::At(deadline)) => Some(self.now.time_of(deadline)),
            Some(Expiry::Never | Expiry::Bad(_)) | None => None,
        };
        let Some(item) = shard.cache.get(&key, self.now.time) else {
            self.reply.null();
            return Ok(());
        };
        match expiry {
            Some(Expiry::Bad(BadExpiry::NotAnInteger)) => return Err(CommandError::NotAnInteger),
            Some(Expiry::Bad(BadExpiry::OutOfRange)) => {
                return Err(CommandError::InvalidExpireTime(CommandId::GetEx));
            }
            _ => {}
        }
        let has_deadline = item.deadline().is_some();
        reply_value(self.reply, &item.value());
        shard.note_read(&key);
        match (expiry, deadline) {
            (None, _) => {}
            (Some(_), None) => {
                if has_deadline {
                    shard.set_expiry(&key, EngineExpiry::Never, self.now);
                }
            }
            (Some(_), Some(deadline)) if deadline <= self.now.time => {
                shard.delete(&key, self.now);
            }
            (Some(_), Some(deadline)) => {
                shard.set_expiry(&key, EngineExpiry::At(deadline), self.now);
            }
        }
        Ok(())
    }

    pub(super) fn mget(&mut self, keys: &[&[u8]]) -> Result<(), CommandError> {
        self.reply.array(keys.len());
        self.get_each(keys);
        Ok(())
    }

    pub(super) fn get_each(&mut self, keys: &[&[u8]]) {
        let time = self.now.time;
        self.for_each_key(keys, |shard, key, reply| reply_get(shard, key, time, reply));
    }

    pub(super) fn str_len(&mut self, key: &[u8]) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let item = shard.cache.get(&key, self.now.time);
        let bytes_count = item.map(|item| item.value().len());
        if bytes_count.is_some() {
            shard.note_read(&key);
        }
        self.reply.integer(length(bytes_count.unwrap_or(0)));
        Ok(())
    }

    pub(super) fn get_range(
        &mut self,
        key: &[u8],
        start: i64,
        end: i64,
    ) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let Some(item) = shard.cache.get(&key, self.now.time) else {
            self.reply.bulk(b"");
            return Ok(());
        };
        let value = item.value();
        let range = resolve_range(start, end, value.len());
        match value.as_slice() {
            Some(bytes) => self.reply.bulk(&bytes[range]),
            None if range.len() >= LEASED_BYTES_MIN && self.reply.takes_leases() => {
                reply_long(shard, &key, range, self.now.time, self.reply);
            }
            None => reply_part(self.reply, &value, range),
        }
        shard.note_read(&key);
        Ok(())
    }

    pub(super) fn append(&mut self, key: &[u8], value: Value<'_>) -> Result<(), CommandError> {
        let now = self.now;
        let content = self.content(value)?;
        let (shard, key) = self.shards.locate(key);
        let bytes_count = match content {
            Content::Bytes(suffix) => shard.append(&key, suffix, now),
            Content::Chain(staged) if shard.cache.peek(&key, now.time).is_none() => {
                let bytes_count = staged.chain.len();
                let stored = shard.store(&key, Content::Chain(staged), EngineExpiry::Never, now);
                stored.map(|()| bytes_count)
            }
            Content::Chain(staged) => {
                let suffix = shard.unstage(staged);
                shard.append(&key, &suffix, now)
            }
        };
        self.reply
            .integer(length(bytes_count.map_err(failure::grow)?));
        Ok(())
    }

    pub(super) fn set_range(
        &mut self,
        key: &[u8],
        offset: i64,
        value: Value<'_>,
    ) -> Result<(), CommandError> {
        let now = self.now;
        let offset = usize::try_from(offset).map_err(|_| CommandError::OffsetOutOfRange)?;
        let content = self.content(value)?;
        let (shard, key) = self.shards.locate(key);
        let unstaged;
        let bytes = match content {
            Content::Bytes([]) => {
                let item = shard.cache.peek(&key, now.time);
                self.reply
                    .integer(length(item.map_or(0, |item| item.value().len())));
                return Ok(());
            }
            Content::Bytes(bytes) => bytes,
            Content::Chain(staged) => {
                unstaged = shard.unstage(staged);
                &unstaged
            }
        };
        let end = offset.checked_add(bytes.len());
        if end.is_none_or(|end| end > shard.value_bytes_max()) {
            return Err(CommandError::StringTooLong);
        }
        let bytes_count = shard
            .set_range(&key, offset, bytes, now)
            .map_err(failure::grow)?;
        self.reply.integer(length(bytes_count));
        Ok(())
    }
}

/// Reads a key and replies its value.
#[inline]
fn reply_get(shard: &mut Shard, key: &Key<'_>, time: Time, reply: &mut dyn ValueSink) {
    match shard.cache.get(key, time) {
        Some(item) => {
            let value = item.value();
            match value.as_slice() {
                Some(bytes) => reply.bulk(bytes),
                None if value.len() < LEASED_BYTES_MIN || !reply.takes_leases() => {
                    reply.bulk_parts(value.len(), &mut value.parts());
                }
                None => {
                    let all = 0..value.len();
                    reply_long(shard, key, all, time, reply);
                }
            }
        }
        None => return reply.null(),
    }
    shard.note_read(key);
}

/// Replies a long part of a live key's value as a lease, or a copy if too much is leased.
#[cold]
fn reply_long(
    shard: &mut Shard,
    key: &Key<'_>,
    range: Range<usize>,
    time: Time,
    reply: &mut dyn ValueSink,
) {
    let stats = shard.cache.stats();
    if stats.leased_bytes < stats.memory_bytes_max / 4 * LEASED_QUARTERS_MAX {
        let mut lease = shard.cache.lease(key, time).expect("the key is live");
        lease.narrow(range);
        let shard = shard.index();
        reply.bulk_leased(Leased { shard, lease });
    } else {
        let item = shard.cache.peek(key, time).expect("the key is live");
        reply_part(reply, &item.value(), range);
    }
}

/// Replies a copy of a part of a long value.
fn reply_part(reply: &mut dyn ValueSink, value: &ItemValue<'_>, range: Range<usize>) {
    reply.bulk_parts(range.len(), &mut value.parts_in(range));
}

/// Replies a copy of a value.
#[inline]
fn reply_value(reply: &mut dyn ValueSink, value: &ItemValue<'_>) {
    match value.as_slice() {
        Some(bytes) => reply.bulk(bytes),
        None => reply.bulk_parts(value.len(), &mut value.parts()),
    }
}

/// Appends a copy of `value` to `out`.
pub(super) fn copy_value(value: &ItemValue<'_>, out: &mut Vec<u8>) {
    out.reserve_exact(value.len());
    for part in value.parts() {
        out.extend_from_slice(part);
    }
}

/// A length as an integer reply.
fn length(bytes_count: usize) -> i64 {
    i64::try_from(bytes_count).expect("values are far shorter")
}

/// The bytes from `start` to `end`, both included, of a value; negative ones count from its end.
fn resolve_range(start: i64, end: i64, bytes_count: usize) -> Range<usize> {
    let count = length(bytes_count);
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let from_end = |at: i64| {
        if at < 0 {
            at.saturating_add(count).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(count - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => start..end + 1,
        _ => 0..0,
    }
}

#[cfg(test)]
mod tests {
    use super::resolve_range;

    #[test]
    fn ranges_are_resolved_as_in_redis() {
        for (start, end, bytes_count, expected) in [
            (0, -1, 5, 0..5),
            (0, 0, 5, 0..1),
            (-3, -1, 5, 2..5),
            (-1, -3, 5, 0..0),
            (3, 1, 5, 0..0),
            (-100, 100, 5, 0..5),
            (-100, -50, 5, 0..1),
            (5, 9, 5, 0..0),
            (0, -1, 0, 0..0),
            (i64::MIN, i64::MAX, 5, 0..5),
        ] {
            assert_eq!(
                resolve_range(start, end, bytes_count),
                expected,
                "{start} {end}"
            );
        }
    }
}
