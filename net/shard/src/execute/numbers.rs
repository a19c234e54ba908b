//! Counters: INCR and its kin, INCRBYFLOAT.

use fulmar_engine::Expiry;
use fulmar_protocol::CommandError;

use super::{Context, failure, strings};
use crate::extended::Extended;
use crate::shard::Content;

/// Room for the longest number that is read or printed at once; longer ones just grow.
const NUMBER_BYTES: usize = 64;
/// Values longer than this are no numbers to Redis either; see [`Extended::parse`].
const NUMBER_BYTES_MAX: usize = 5 * 1024;

impl Context<'_> {
    pub(super) fn incr_by(&mut self, key: &[u8], delta: i64) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let sum = shard.incr(&key, delta, self.now).map_err(failure::incr)?;
        self.reply.integer(sum);
        Ok(())
    }

    pub(super) fn incr_by_float(&mut self, key: &[u8], delta: &[u8]) -> Result<(), CommandError> {
        let (shard, key) = self.shards.locate(key);
        let old = match shard.cache.get(&key, self.now.time) {
            None => Extended::ZERO,
            Some(item) => {
                let value = item.value();
                if value.len() > NUMBER_BYTES_MAX {
                    return Err(CommandError::NotAFloat);
                }
                match value.as_slice() {
                    Some(text) => Extended::parse(text),
                    None => {
                        let mut text = Vec::new();
                        strings::copy_value(&value, &mut text);
                        Extended::parse(&text)
                    }
                }
                .map_err(failure::not_finite)?
            }
        };
        let delta = Extended::parse(delta).map_err(failure::not_finite)?;
        let sum = old.add(delta).map_err(failure::not_finite)?;
        let mut text = Vec::with_capacity(NUMBER_BYTES);
        sum.format(&mut text);
        let content = Content::Bytes(&text);
        shard
            .store(&key, content, Expiry::Keep, self.now)
            .map_err(failure::store)?;
        self.reply.bulk(&text);
        Ok(())
    }
}
