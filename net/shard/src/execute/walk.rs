//! Commands on whole shards: RANDOMKEY, SCAN, KEYS, DBSIZE, FLUSHALL.

use fulmar_protocol::command::glob;
use fulmar_protocol::{CommandError, ReplySink};

use super::Context;
use crate::sliced::KeyList;

/// Most items one SCAN looks at, whatever its COUNT says.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// Low bits of a SCAN cursor that name the shard; the engine's own cursor is above.
///
/// ```text
///  63                        10 9          0
/// +----------------------------+------------+
/// | cursor of the shard's scan | shard      |   0: the start of shard 0, and the end of all
/// +----------------------------+------------+
/// ```
const CURSOR_SHARD_BITS: u32 = 10;
const CURSOR_SHARD_MASK: u64 = (1 << CURSOR_SHARD_BITS) - 1;
/// Engine cursors stay below this.
const ENGINE_CURSOR_MAX: u64 = u64::MAX >> CURSOR_SHARD_BITS;
/// Items that KEYS takes from the engine at a time.
const KEYS_BATCH: usize = 1_024;

impl Context<'_> {
    pub(super) fn random_key(&mut self) -> Result<(), CommandError> {
        let shards_count = self.shards.count();
        let total: usize = (0..shards_count)
            .map(|index| self.shards.at(index).shown_len())
            .sum();
        if total == 0 {
            self.reply.null();
            return Ok(());
        }
        let random = self.shards.at(0).next_random();
        // Weighted by size: the shard that holds the nth of all items.
        let mut nth = usize::try_from(random % total as u64).expect("below a usize");
        let mut first = 0;
        loop {
            let count = self.shards.at(first).shown_len();
            if nth < count {
                break;
            }
            nth -= count;
            first += 1;
        }
        // If all that the shard still holds is expired, another one answers.
        for index in (first..shards_count).chain(0..first) {
            if let Some(item) = self.shards.at(index).random_shown(self.now) {
                self.reply.bulk(item.key());
                return Ok(());
            }
        }
        self.reply.null();
        Ok(())
    }

    pub(super) fn scan(
        &mut self,
        cursor: u64,
        pattern: Option<&[u8]>,
        count: u64,
        of_type: Option<&[u8]>,
    ) -> Result<(), CommandError> {
        let limit = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .clamp(1, SCAN_COUNT_MAX);
        let shards_count = self.shards.count();
        let is_wanted_type = of_type.is_none_or(|name| name.eq_ignore_ascii_case(b"string"));
        let mut found = KeyList::default();
        let mut index = usize::try_from(cursor & CURSOR_SHARD_MASK).expect("a few bits");
        let mut engine_cursor = cursor >> CURSOR_SHARD_BITS;
        let mut looked_at = 0;
        while index < shards_count && looked_at < limit {
            let shard = &*self.shards.at(index);
            let is_wanted = |key: &[u8]| {
                is_wanted_type
                    && pattern.is_none_or(|pattern| glob::is_match(pattern, key))
                    && shard.shows(key)
            };
            let mut visited = 0;
            let rest = limit - looked_at;
            let time = self.now.time;
            engine_cursor = shard.cache.scan(engine_cursor, rest, time, &mut |item| {
                visited += 1;
                if is_wanted(item.key()) {
                    found.push(item.key());
                }
            });
            assert!(
                engine_cursor <= ENGINE_CURSOR_MAX,
                "the engine keeps its cursors short"
            );
            if engine_cursor == 0 {
                index += 1;
            }
            // A shard that had nothing to show still counts, so that a call is bounded.
            looked_at += visited.max(1);
        }
        let next = if index < shards_count {
            engine_cursor << CURSOR_SHARD_BITS | index as u64
        } else {
            0
        };
        self.reply.array(2);
        self.reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        self.reply.array(found.count());
        (0..found.count()).for_each(|number| self.reply.bulk(found.get(number)));
        Ok(())
    }

    /// Walks all shards twice, first to count: nothing can change in between, and no key is copied.
    pub(super) fn keys(&mut self, pattern: &[u8]) -> Result<(), CommandError> {
        let mut count = 0;
        self.for_each_match(pattern, |_, _| count += 1);
        self.reply.array(count);
        self.for_each_match(pattern, |reply, key| reply.bulk(key));
        Ok(())
    }

    pub(super) fn db_size(&mut self) -> Result<(), CommandError> {
        let shards_count = self.shards.count();
        let total: usize = (0..shards_count)
            .map(|index| self.shards.at(index).shown_len())
            .sum();
        self.reply
            .integer(i64::try_from(total).expect("bounded by memory"));
        Ok(())
    }

    pub(super) fn flush_all(&mut self) -> Result<(), CommandError> {
        for index in 0..self.shards.count() {
            self.shards.at(index).flush(self.now);
        }
        self.reply.ok();
        Ok(())
    }

    fn for_each_match(&mut self, pattern: &[u8], mut visit: impl FnMut(&mut dyn ReplySink, &[u8])) {
        for index in 0..self.shards.count() {
            let shard = &*self.shards.at(index);
            let mut cursor = 0;
            loop {
                let time = self.now.time;
                cursor = shard.cache.scan(cursor, KEYS_BATCH, time, &mut |item| {
                    if glob::is_match(pattern, item.key()) && shard.shows(item.key()) {
                        visit(self.reply, item.key());
                    }
                });
                if cursor == 0 {
                    break;
                }
            }
        }
    }
}
