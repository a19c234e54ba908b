//! Commands on whole shards: RANDOMKEY, SCAN, KEYS, DBSIZE, FLUSHALL.

use fulmar_protocol::command::{DataCommand, glob};
use fulmar_protocol::{CommandError, ReplySink};

use super::{Context, Outcome};
use crate::sliced::KeyList;
use crate::{Now, ShardSet, ValueSink};

/// Most items one SCAN looks at, whatever its COUNT says.
pub const SCAN_COUNT_MAX: usize = 10_000;

/// Places of shards that a cursor of one node tells apart, and one of a cluster.
const NODE_BITS: u32 = 10;
const CLUSTER_BITS: u32 = 16;

/// Whose shards a SCAN goes through, as places in one row.
///
/// The low bits of its cursor are the place of a shard; the engine's own cursor is above.
///
/// ```text
///                                                          node: b = 10, cluster: b = 16
///  63                         b b-1         0
/// +----------------------------+------------+
/// | cursor of the shard's scan | place      |   0: the start of place 0, and the end of all
/// +----------------------------+------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPlaces {
    bits: u32,
    /// The place of this node's first shard.
    first: u64,
    /// Places of all nodes.
    total: u64,
}

impl ScanPlaces {
    /// One node's, which are all.
    fn of_node(shards_count: usize) -> Self {
        Self {
            bits: NODE_BITS,
            first: 0,
            total: shards_count as u64,
        }
    }

    /// Those of one node among its cluster's: its shards come behind `first` others, of `total`.
    #[must_use]
    pub fn in_cluster(first: u64, total: u64) -> Self {
        Self {
            bits: CLUSTER_BITS,
            first,
            total,
        }
    }

    /// The place that a cursor of a cluster is at.
    #[must_use]
    pub fn of_cursor(cursor: u64) -> u64 {
        cursor & Self::in_cluster(0, 0).mask()
    }

    fn mask(self) -> u64 {
        (1 << self.bits) - 1
    }
}

/// Executes SCAN on this node's shards, as far as it comes; its cursor is at one of them.
///
/// # Panics
/// If it is another command.
pub fn execute_scan(
    command: &DataCommand<'_>,
    places: ScanPlaces,
    shards: &mut dyn ShardSet,
    now: Now,
    reply: &mut dyn ValueSink,
) -> Outcome {
    let &DataCommand::Scan {
        cursor,
        pattern,
        count,
        of_type,
    } = command
    else {
        unreachable!("the caller knows what it is");
    };
    let mut context = Context {
        shards,
        staged: &mut [],
        now,
        reply,
    };
    context.scan_places(places, cursor, pattern, count, of_type);
    Outcome::Done
}

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
        let places = ScanPlaces::of_node(self.shards.count());
        self.scan_places(places, cursor, pattern, count, of_type);
        Ok(())
    }

    fn scan_places(
        &mut self,
        places: ScanPlaces,
        cursor: u64,
        pattern: Option<&[u8]>,
        count: u64,
        of_type: Option<&[u8]>,
    ) {
        let limit = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .clamp(1, SCAN_COUNT_MAX);
        let shards_count = self.shards.count();
        let is_wanted_type = of_type.is_none_or(|name| name.eq_ignore_ascii_case(b"string"));
        let mut found = KeyList::default();
        let place = (cursor & places.mask()).saturating_sub(places.first);
        let mut index = usize::try_from(place).expect("a few bits");
        let mut engine_cursor = cursor >> places.bits;
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
                engine_cursor <= u64::MAX >> places.bits,
                "the engine keeps its cursors short"
            );
            if engine_cursor == 0 {
                index += 1;
            }
            // A shard that had nothing to show still counts, so that a call is bounded.
            looked_at += visited.max(1);
        }
        let place = places.first + index as u64;
        let next = if place < places.total {
            engine_cursor << places.bits | place
        } else {
            0
        };
        self.reply.array(2);
        self.reply.bulk(itoa::Buffer::new().format(next).as_bytes());
        self.reply.array(found.count());
        (0..found.count()).for_each(|number| self.reply.bulk(found.get(number)));
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
