//! One shard: an engine, its watched keys and its counts.

use fulmar_cluster::replication::Role;
use fulmar_cluster::{Range, RangeSet, ShardIndex};
use fulmar_engine::{Cache, Chain, Config, ConfigError, Expiry, IncrError, Key, StoreError, Time};

use crate::hot_keys::{HotKeys, Use};
use crate::replica::Replica;
use crate::watch::{WatchToken, Watches, WatchesFull};
use crate::{Counters, Now, ShardStats};

/// Most bytes of scratch space kept between commands.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// One core's state. Single owner, no clock, no socket.
///
/// Looks may go to [`cache`](Self::cache) directly. Reads that count, writes of values and deadlines, and
/// deletions go through [`execute`](crate::execute()), which also tells the watched keys, the log and the
/// copies of them.
pub struct Shard {
    /// The engine.
    pub cache: Cache,
    /// What was executed here.
    pub counters: Counters,
    watches: Watches,
    hot_keys: HotKeys,
    pub(crate) replica: Option<Box<Replica>>,
    /// Ranges whose writes wait for a hand-over.
    held: RangeSet,
    /// Since when.
    held_since: Time,
    index: ShardIndex,
    value_bytes_max: usize,
    random: u64,
    scratch: Vec<u8>,
}

/// What a command does with its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Changes them.
    Write,
    /// Reads the last that was written.
    Read,
    /// Reads what a replica has.
    ReadOld,
}

/// A value that was streamed into a shard's engine and waits for its command.
#[derive(Debug)]
pub struct StagedChain {
    /// The shard whose engine holds it: the one of the command's key.
    pub shard: ShardIndex,
    /// The chain; it must be stored or freed.
    pub chain: Chain,
}

/// A value about to be stored.
pub(crate) enum Content<'a> {
    /// Borrowed from the input.
    Bytes(&'a [u8]),
    /// In the engine already.
    Chain(StagedChain),
}

impl Shard {
    /// An empty shard, the `index`-th of its node. `seed` feeds RANDOMKEY.
    ///
    /// # Errors
    /// Those of [`Cache::new`].
    pub fn new(index: ShardIndex, config: Config, seed: u64) -> Result<Self, ConfigError> {
        let value_bytes_max = config.value_bytes_max;
        Ok(Self {
            cache: Cache::new(config)?,
            counters: Counters::default(),
            watches: Watches::default(),
            hot_keys: HotKeys::new(0, seed),
            replica: None,
            held: RangeSet::EMPTY,
            held_since: Time(0),
            index,
            value_bytes_max,
            random: seed,
            scratch: Vec::new(),
        })
    }

    /// Its index in the node.
    #[inline]
    pub fn index(&self) -> ShardIndex {
        self.index
    }

    /// Longest value it stores, in bytes.
    pub fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    /// Whether commands on `range` are this node's to execute now: with a cluster, only a primary's are,
    /// or a replica's if old values do; and no writes while they are held.
    #[inline]
    pub fn is_answerable(&self, range: u16, access: Access) -> bool {
        let Some(replica) = &self.replica else {
            return true;
        };
        let Some(range) = Range::from_index(range) else {
            return false;
        };
        match replica.replication.role(range) {
            Role::Primary => access != Access::Write || !self.held.contains(range),
            Role::Replica => access == Access::ReadOld,
            Role::Learner | Role::None => false,
        }
    }

    /// Whether what is to be done with `range`, which is this node's, waits until
    /// [`release`](Self::release).
    pub fn is_held(&self, range: Range, access: Access) -> bool {
        let role = self
            .replica
            .as_ref()
            .map(|replica| replica.replication.role(range));
        access == Access::Write && role == Some(Role::Primary) && self.held.contains(range)
    }

    /// Whether what writes to all keys may be executed now: not while some are held.
    pub fn may_write_all(&self) -> bool {
        self.held.is_empty()
    }

    /// For how many milliseconds writes have been held; 0 if none are.
    pub fn held_ms(&self, now: Now) -> u64 {
        match self.held.is_empty() {
            true => 0,
            false => now.time.0.saturating_sub(self.held_since.0),
        }
    }

    /// Holds the writes of some ranges until [`release`](Self::release).
    pub fn hold(&mut self, ranges: impl Iterator<Item = Range>, now: Now) {
        self.held_since = now.time;
        ranges.for_each(|range| self.held.insert(range));
    }

    /// Holds no writes any more.
    pub fn release(&mut self) {
        self.held = RangeSet::EMPTY;
    }

    /// What there is to report.
    pub fn stats(&self, now: Now) -> ShardStats {
        ShardStats {
            commands: self.counters.clone(),
            engine: self.cache.stats(),
            shown_items: self.shown_len() as u64,
            watched_keys: self.watches.keys_count() as u64,
            replication: self.replication_stats(now),
            hot_keys: self.hot_keys.hot().collect(),
        }
    }

    /// Takes so many bytes of connections, and those of the logs, out of the memory limit.
    pub fn set_connection_bytes(&mut self, bytes: usize) {
        let log_bytes = self.replication().map_or(0, |one| one.log_bytes_max());
        self.cache.set_reserved_bytes(bytes + log_bytes);
    }

    /// Sets the counts, but not what is held, to zero.
    pub fn reset_stats(&mut self) {
        self.counters = Counters::default();
        self.cache.reset_stats();
    }

    /// Watches `key`; the token must be given back to [`unwatch`](Self::unwatch).
    ///
    /// # Errors
    /// [`WatchesFull`].
    pub fn watch(&mut self, key: &Key<'_>, now: Now) -> Result<WatchToken, WatchesFull> {
        let exists = self.cache.peek(key, now.time).is_some();
        self.watches.watch(self.index, key, exists)
    }

    /// Whether the key of `token` was written, or appeared or vanished, since it was watched.
    pub fn is_dirty(&self, token: &WatchToken, now: Now) -> bool {
        debug_assert_eq!(token.shard(), self.index);
        self.watches.is_dirty(token, &self.cache, now.time)
    }

    /// Ends a registration.
    pub fn unwatch(&mut self, token: WatchToken) {
        debug_assert_eq!(token.shard(), self.index);
        self.watches.unwatch(&token);
    }

    /// Stores a value; a chain is freed if that fails.
    #[inline]
    pub(crate) fn store(
        &mut self,
        key: &Key<'_>,
        content: Content<'_>,
        expiry: Expiry,
        now: Now,
    ) -> Result<(), StoreError> {
        match content {
            Content::Bytes(bytes) => self.cache.set(key, bytes, expiry, now.time)?,
            Content::Chain(staged) => {
                debug_assert_eq!(staged.shard, self.index);
                self.cache.set_chain(key, staged.chain, expiry, now.time)?;
            }
        }
        self.note_write(key, now);
        Ok(())
    }

    /// Deletes a key; true if it was there.
    ///
    /// Logged even if it was not: it may have been evicted here and not from its copies.
    #[inline]
    pub(crate) fn delete(&mut self, key: &Key<'_>, now: Now) -> bool {
        let was_there = self.cache.delete(key, now.time);
        self.hot_keys.note(Use::Write, key);
        self.log_change(key, now);
        was_there
    }

    /// Deletes all keys.
    pub(crate) fn flush(&mut self, now: Now) {
        if let Some(replica) = &mut self.replica {
            replica.log_flush_all(now);
        }
        self.cache.flush();
    }

    /// Lets keys with so many accesses a second count as hot; 0: none does.
    pub fn detect_hot_keys(&mut self, per_second: u32) {
        let seed = self.next_random();
        self.hot_keys = HotKeys::new(per_second, seed);
    }

    /// For how many milliseconds another node may answer reads of a key that it is about to read here: `ms`,
    /// unless that is 0, if the key is hot, mostly read, and lives longer. `copy_reads` is how many it has
    /// answered since it last told.
    pub fn keep_ms(&mut self, key: &Key<'_>, copy_reads: u32, ms: u16, now: Now) -> Option<u16> {
        if ms == 0 || !self.hot_keys.is_worth_copies(key, copy_reads) {
            return None;
        }
        let item = self.cache.peek(key, now.time)?;
        let end = now.time.0 + u64::from(ms);
        let outlives = item.deadline().is_none_or(|deadline| deadline.0 > end);
        outlives.then_some(ms)
    }

    /// Measures the hot keys, if it is time. Called at every tick.
    pub fn advance_hot_keys(&mut self, now: Now) {
        self.hot_keys.advance(now.time);
    }

    /// Tells the copies of a key, and who looks for hot ones, that it was read.
    #[inline]
    pub(crate) fn note_read(&mut self, key: &Key<'_>) {
        self.hot_keys.note(Use::Read, key);
        if let Some(replica) = &mut self.replica {
            replica.note_read(key);
        }
    }

    /// Tells the watched keys and the log of a write.
    #[inline]
    fn note_write(&mut self, key: &Key<'_>, now: Now) {
        self.watches.bump(key);
        self.hot_keys.note(Use::Write, key);
        self.log_change(key, now);
    }

    #[inline]
    fn log_change(&mut self, key: &Key<'_>, now: Now) {
        if let Some(replica) = &mut self.replica {
            replica.log_change(key, now);
        }
    }

    /// What replication works on.
    pub(crate) fn parts_for_replication(
        &mut self,
    ) -> (&mut Cache, &mut Watches, Option<&mut Replica>) {
        let replica = self.replica.as_deref_mut();
        (&mut self.cache, &mut self.watches, replica)
    }

    /// Sets the deadline of a key; true if it was there.
    pub(crate) fn set_expiry(&mut self, key: &Key<'_>, expiry: Expiry, now: Now) -> bool {
        let set = self.cache.set_expiry(key, expiry, now.time);
        if set {
            self.note_write(key, now);
        }
        set
    }

    /// Adds `delta` to a key's integer.
    pub(crate) fn incr(&mut self, key: &Key<'_>, delta: i64, now: Now) -> Result<i64, IncrError> {
        let sum = self.cache.incr(key, delta, now.time)?;
        self.note_write(key, now);
        Ok(sum)
    }

    /// Appends to a key's value; gives the new length.
    pub(crate) fn append(
        &mut self,
        key: &Key<'_>,
        suffix: &[u8],
        now: Now,
    ) -> Result<usize, StoreError> {
        let bytes_count = self.cache.append(key, suffix, now.time)?;
        self.note_write(key, now);
        Ok(bytes_count)
    }

    /// Overwrites a part of a key's value; gives the new length.
    pub(crate) fn set_range(
        &mut self,
        key: &Key<'_>,
        offset: usize,
        bytes: &[u8],
        now: Now,
    ) -> Result<usize, StoreError> {
        let bytes_count = self.cache.set_range(key, offset, bytes, now.time)?;
        self.note_write(key, now);
        Ok(bytes_count)
    }

    /// A staged value as plain bytes, for the rare commands that cannot use a chain; frees it.
    pub fn unstage(&mut self, staged: StagedChain) -> Vec<u8> {
        debug_assert_eq!(staged.shard, self.index);
        let mut bytes = Vec::new();
        for part in self.cache.chain_parts(&staged.chain) {
            bytes.extend_from_slice(part);
        }
        self.cache.chain_free(staged.chain);
        bytes
    }

    /// The next pseudo-random number (splitmix64).
    pub(crate) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// An empty buffer whose room is reused; give it back with [`put_scratch`](Self::put_scratch).
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    /// Takes the buffer back.
    pub(crate) fn put_scratch(&mut self, mut scratch: Vec<u8>) {
        scratch.clear();
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = scratch;
        }
    }
}
