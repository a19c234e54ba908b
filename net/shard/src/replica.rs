//! A shard's replication, and its items as replication sees them.
//!
//! Commands append to the log of what was written ([`Shard::note_write`](crate::Shard)); what other
//! nodes' primaries send is applied through [`ShardStore`].

use fulmar_cluster::Range;
use fulmar_cluster::replication::{ItemView, LogOffset, Replication, StageId, Store, Write};
use fulmar_engine::{Cache, Chain, Expiry, Item, Key, KeyHasher, Time};

use crate::watch::Watches;
use crate::{Now, Shard};

/// A shard's replication with what it needs of the shard.
pub(crate) struct Replica {
    pub(crate) replication: Replication,
    hasher: KeyHasher,
    /// Long values on their way in, by the number of their stage.
    stages: Vec<Option<Chain>>,
}

/// A shard's items at one moment.
pub struct ShardStore<'s> {
    cache: &'s mut Cache,
    watches: &'s mut Watches,
    stages: &'s mut Vec<Option<Chain>>,
    hasher: KeyHasher,
    time: Time,
}

impl Replica {
    pub(crate) fn new(replication: Replication, hasher: KeyHasher) -> Self {
        Self {
            replication,
            hasher,
            stages: Vec::new(),
        }
    }

    /// Not inlined: it would grow the code of every write, which a single node does not need.
    #[inline(never)]
    pub(crate) fn log_change(&mut self, key: &Key<'_>, now: Now) {
        let range = Range::from_index(key.range()).expect("the engine has the cluster's ranges");
        self.replication
            .log_change(range, key.bytes(), time_of(now.time));
    }

    /// Not inlined: it would grow the code of every read, which a single node does not need.
    #[inline(never)]
    pub(crate) fn note_read(&mut self, key: &Key<'_>) {
        let range = Range::from_index(key.range()).expect("the engine has the cluster's ranges");
        self.replication.note_read(range, key.bytes(), key.hash());
    }

    pub(crate) fn log_flush_all(&mut self, now: Now) {
        self.replication.log_flush_all(time_of(now.time));
    }
}

impl Shard {
    /// Lets this shard be replicated. `hasher` is its engine's.
    pub fn start_replication(&mut self, replication: Replication, hasher: KeyHasher) {
        self.replica = Some(Box::new(Replica::new(replication, hasher)));
        self.set_connection_bytes(0);
    }

    /// Its replication, if it has one.
    #[inline]
    pub fn replication(&self) -> Option<&Replication> {
        self.replica.as_deref().map(|replica| &replica.replication)
    }

    /// Calls `act` with its replication and its items at `now`; `None` if it has no replication.
    pub fn replicate<R>(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Replication, &mut ShardStore<'_>) -> R,
    ) -> Option<R> {
        let (cache, watches, replica) = self.parts_for_replication();
        let Replica {
            replication,
            hasher,
            stages,
        } = replica?;
        let mut store = ShardStore {
            cache,
            watches,
            stages,
            hasher: *hasher,
            time: now.time,
        };
        Some(act(replication, &mut store))
    }

    /// The last write of a range whose primary this node is.
    pub fn last_write(&self) -> Option<Write> {
        self.replication()?.last_write()
    }

    /// Where the log of writes ends. Taken before a command, it gives the command's writes
    /// ([`Replication::writes_since`]). Always the same without replication.
    #[inline]
    pub fn log_head(&self) -> LogOffset {
        self.replication()
            .map_or_else(LogOffset::default, Replication::log_head)
    }
}

impl ShardStore<'_> {
    fn key<'k>(&self, range: Range, key: &'k [u8]) -> Key<'k> {
        Key::new(key, range.index(), self.hasher.hash(key))
    }

    fn expiry(&self, ttl_ms: Option<u64>) -> Expiry {
        ttl_ms.map_or(Expiry::Never, |ttl_ms| {
            Expiry::At(Time(self.time.0.saturating_add(ttl_ms)))
        })
    }

    fn set_parts(&mut self, key: &Key<'_>, value: &[&[u8]], expiry: Expiry) -> bool {
        if let [] | [_] = value {
            let bytes = value.first().copied().unwrap_or_default();
            return self.cache.set(key, bytes, expiry, self.time).is_ok();
        }
        let mut chain = self.cache.chain_begin();
        for part in value {
            if self.cache.chain_push(&mut chain, part).is_err() {
                self.cache.chain_free(chain);
                return false;
            }
        }
        self.cache.set_chain(key, chain, expiry, self.time).is_ok()
    }

    fn stage(&mut self, stage: StageId) -> &mut Option<Chain> {
        &mut self.stages[stage.0 as usize]
    }
}

impl Store for ShardStore<'_> {
    fn read(&self, range: Range, key: &[u8], visit: &mut dyn FnMut(ItemView<'_>)) -> bool {
        let item = self.cache.peek(&self.key(range, key), self.time);
        let Some(item) = item else {
            return false;
        };
        view(&item, self.time, visit);
        true
    }

    fn read_part(
        &self,
        range: Range,
        key: &[u8],
        offset: usize,
        bytes_max: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let item = self.cache.peek(&self.key(range, key), self.time);
        let Some(item) = item else {
            return false;
        };
        item.value()
            .parts_in(offset..offset.saturating_add(bytes_max))
            .for_each(visit);
        true
    }

    fn set(&mut self, range: Range, key: &[u8], value: &[&[u8]], ttl_ms: Option<u64>) {
        let key = self.key(range, key);
        self.watches.bump(&key);
        if !self.set_parts(&key, value, self.expiry(ttl_ms)) {
            self.cache.delete(&key, self.time);
        }
    }

    fn delete(&mut self, range: Range, key: &[u8]) {
        self.cache.delete(&self.key(range, key), self.time);
    }

    fn touch(&mut self, range: Range, key: &[u8]) {
        self.cache.touch(&self.key(range, key), self.time);
    }

    fn items_count(&self) -> usize {
        self.cache.len()
    }

    fn walk_range(
        &self,
        range: Range,
        cursor: u64,
        count: usize,
        visit: &mut dyn FnMut(ItemView<'_>),
    ) -> u64 {
        self.cache
            .walk_range(range.index(), cursor, count, self.time, &mut |item| {
                view(&item, self.time, visit);
            })
    }

    fn drop_range(&mut self, range: Range, cursor: u64, count: usize) -> u64 {
        self.cache.drop_range(range.index(), cursor, count)
    }

    fn stage_begin(&mut self) -> StageId {
        let chain = Some(self.cache.chain_begin());
        let free = self.stages.iter().position(Option::is_none);
        let place = free.unwrap_or(self.stages.len());
        match self.stages.get_mut(place) {
            Some(stage) => *stage = chain,
            None => self.stages.push(chain),
        }
        StageId(u32::try_from(place).expect("one stage per source"))
    }

    fn stage_push(&mut self, stage: StageId, bytes: &[u8]) -> bool {
        let mut chain = self.stage(stage).take();
        let pushed = match &mut chain {
            Some(chain) => self.cache.chain_push(chain, bytes).is_ok(),
            None => false,
        };
        *self.stage(stage) = chain;
        pushed
    }

    fn stage_end(&mut self, stage: StageId, range: Range, key: &[u8], ttl_ms: Option<u64>) {
        let key = self.key(range, key);
        self.watches.bump(&key);
        let expiry = self.expiry(ttl_ms);
        let chain = self.stage(stage).take();
        let stored = chain.map(|chain| self.cache.set_chain(&key, chain, expiry, self.time));
        if !matches!(stored, Some(Ok(()))) {
            self.cache.delete(&key, self.time);
        }
    }

    fn stage_abort(&mut self, stage: StageId) {
        if let Some(chain) = self.stage(stage).take() {
            self.cache.chain_free(chain);
        }
    }
}

fn view(item: &Item<'_>, now: Time, visit: &mut dyn FnMut(ItemView<'_>)) {
    let value = item.value();
    visit(ItemView {
        key: item.key(),
        value_bytes: value.len(),
        parts: &mut value.parts(),
        ttl_ms: item
            .deadline()
            .map(|deadline| deadline.0.saturating_sub(now.0).max(1)),
    });
}

fn time_of(time: Time) -> fulmar_cluster::Time {
    fulmar_cluster::Time(time.0)
}
