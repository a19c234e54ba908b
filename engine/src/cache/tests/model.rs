//! The model: a map with values, deadlines and the order of use, run beside the cache.
//!
//! It predicts every result, and which keys are gone: of one class exactly the least recently
//! used. Only where one had to go for the place it had (a counter says so) any keys may be gone. A
//! version is right exactly as long as nothing was written to its key. Under S3-FIFO it predicts the
//! results and how many keys are gone; `s3_fifo` has an oracle for which.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};

use crate::cache::tests::operation::{KEYS_COUNT, Operation, Ttl};
use crate::cache::{Cache, Chain, Lease, Swap};
use crate::config::Config;
use crate::error::{IncrError, StoreError};
use crate::eviction::Eviction;
use crate::item::{ItemValue, Meta};
use crate::key::{Key, KeyHasher};
use crate::limits::PAGE_BYTES;
use crate::slab::{ClassId, Handle, Populate};
use crate::time::{Expiry, Time};
use crate::version::Version;

pub(super) const VALUE_BYTES_MAX: usize = 150_000;
/// Segments of three sizes, the last segment's, the item's own; and the old value while it is read.
const CLASSES_PER_VALUE_MAX: usize = 6;
const CHAINS_MAX: usize = 4;
const LEASES_MAX: usize = 8;

/// One live key.
struct Entry {
    value: Vec<u8>,
    deadline: Option<Time>,
    class: ClassId,
    used_at: u64,
    /// The one that was given since the last write.
    version: Option<Version>,
    /// False for an item that eviction may have passed over, as leased, at a moment unknown.
    is_order_known: bool,
}

/// A cache and its model.
pub(super) struct Pair {
    cache: Cache,
    entries: HashMap<u16, Entry>,
    chains: Vec<(Chain, Vec<u8>)>,
    leases: Vec<(u16, Lease, Vec<u8>)>,
    /// What is to be made resident.
    begun: Option<Receiver<Populate>>,
    /// Bytes that are reserved all the time.
    withdrawn_bytes: usize,
    /// Every version that was given, with its key.
    given: Vec<(u16, Version)>,
    now: Time,
    /// Counts uses: the order of keys.
    uses: u64,
    /// Counts calls: seeds values.
    calls: u64,
    /// Whether a page was emptied, or part of one, during this call.
    gave_up_page: bool,
    /// Whether an item went for its place, and not as the least recently used.
    evicted_early: bool,
    /// Evictions that were proven to be the least recently used ones.
    pub(super) exact_evictions: u64,
}

fn key_bytes(key: u16) -> Vec<u8> {
    let mut bytes = format!("key:{key}").into_bytes();
    // Some keys are long, some very long, and one is empty.
    match key {
        0 => bytes.clear(),
        _ if key % 50 == 1 => bytes.resize(300, b'k'),
        _ if key % 100 == 2 => bytes.resize(5_000, b'k'),
        _ => {}
    }
    bytes
}

fn range_of_many(key: &[u8]) -> u16 {
    key.iter().fold(0u16, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    }) % 64
}

/// Bytes that differ from call to call, so that a stale value can't pass for a fresh one.
fn content(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|index| (seed.wrapping_mul(131) + index).to_le_bytes()[0])
        .collect()
}

impl Pair {
    pub(super) fn new(memory_bytes_max: usize, has_many_ranges: bool, eviction: Eviction) -> Self {
        let mut config = Config::new(memory_bytes_max, KeyHasher::new([1, 2, 3, 4]));
        config.eviction = eviction;
        config.value_bytes_max = VALUE_BYTES_MAX;
        if has_many_ranges {
            config.ranges_count = 64;
            config.range_of = range_of_many;
        }
        Self {
            cache: Cache::new(config).expect("enough memory"),
            entries: HashMap::new(),
            chains: Vec::new(),
            leases: Vec::new(),
            begun: None,
            withdrawn_bytes: 0,
            given: Vec::new(),
            now: Time(0),
            uses: 0,
            calls: 0,
            gave_up_page: false,
            evicted_early: false,
            exact_evictions: 0,
        }
    }

    /// With an arena that is large enough for huge pages, which others make resident, and a limit as low as
    /// that of `new` all the same.
    pub(super) fn new_populated(memory_bytes_max: usize, eviction: Eviction) -> Self {
        const ARENA_BYTES: usize = 66 << 20;
        let mut pair = Self::new(ARENA_BYTES, false, eviction);
        pair.withdrawn_bytes = ARENA_BYTES - memory_bytes_max;
        pair.cache.set_reserved_bytes(pair.withdrawn_bytes);
        let (sender, begun) = channel();
        pair.cache
            .populate_by(move |populate| drop(sender.send(populate)));
        pair.begun = Some(begun);
        pair
    }

    /// Runs one call on both and compares everything.
    pub(super) fn run(&mut self, operation: Operation) {
        match operation {
            Operation::SetMany {
                first,
                count,
                len,
                ttl,
            } => {
                for key in first..first + count {
                    self.run_one(Operation::Set {
                        key: key % KEYS_COUNT,
                        len,
                        ttl,
                    });
                }
            }
            Operation::AppendMany { key, count, len } => {
                for _ in 0..count {
                    self.run_one(Operation::Append { key, len });
                }
            }
            operation => self.run_one(operation),
        }
        self.cache.check_integrity();
        self.compare_all();
        if self.leases.is_empty() && self.chains.is_empty() {
            self.fit();
        }
    }

    /// What is above the limit goes by `advance` alone, once nothing is pinned.
    fn fit(&mut self) {
        for _ in 0..1_000 {
            if !self.cache.slab.is_over() {
                return;
            }
            self.run_one(Operation::Advance {
                ms: 0,
                work_max: 100,
            });
        }
        panic!("over the limit, and nothing is done about it");
    }

    pub(super) fn pages_given_up(&self) -> u64 {
        self.cache.stats().pages_given_up
    }

    /// Gives everything back.
    pub(super) fn finish(mut self) {
        while !self.leases.is_empty() {
            self.run(Operation::Release(0));
        }
        while !self.chains.is_empty() {
            self.run(Operation::ChainFree(0));
        }
        self.run(Operation::Flush);
        assert_eq!(self.cache.stats().pages_in_use, 0);
    }

    fn run_one(&mut self, operation: Operation) {
        self.calls += 1;
        let before = self.cache.stats();
        let written = operation.written();
        let old_class = written
            .and_then(|key| self.entries.get(&key))
            .map(|entry| entry.class);
        let outcome = self.call(&operation);
        let after = self.cache.stats();
        self.gave_up_page =
            self.cache.evacuation.is_some() || after.pages_given_up != before.pages_given_up;
        self.evicted_early = after.evicted_early != before.evicted_early;
        self.settle_evictions(after.evicted - before.evicted, written, old_class);
        self.apply(&operation, outcome);
    }

    fn expiry(&self, ttl: Ttl) -> Expiry {
        match ttl {
            Ttl::Never => Expiry::Never,
            Ttl::Keep => Expiry::Keep,
            Ttl::In(ms) => Expiry::At(Time(self.now.0.saturating_add(ms))),
        }
    }

    /// Runs the call on the cache; the result as text where there is one.
    fn call(&mut self, operation: &Operation) -> Outcome {
        let now = self.now;
        let hasher = self.cache.config.hasher;
        let range_of = self.cache.config.range_of;
        let bytes = key_bytes(operation.key());
        let key = Key::new(&bytes, range_of(&bytes), hasher.hash(&bytes));
        let seed = self.calls;
        match *operation {
            Operation::Get(_) => Outcome::Found(self.cache.get(&key, now).is_some()),
            Operation::Touch(_) => Outcome::Found(self.cache.touch(&key, now)),
            Operation::Delete(_) => Outcome::Found(self.cache.delete(&key, now)),
            Operation::Set { len, ttl, .. } => {
                let expiry = self.expiry(ttl);
                Outcome::Stored(self.cache.set(&key, &content(seed, len), expiry, now))
            }
            Operation::SetExpiry(_, ttl) => {
                let expiry = self.expiry(ttl);
                Outcome::Found(self.cache.set_expiry(&key, expiry, now))
            }
            Operation::Version(_) => Outcome::Version(self.cache.version(&key, now)),
            Operation::SetIfVersion { len, ttl, back, .. } => {
                let (expiry, version) =
                    (self.expiry(ttl), self.version_to_try(operation.key(), back));
                let value = content(seed, len);
                let swap = self
                    .cache
                    .set_if_version(&key, &value, expiry, version, now);
                Outcome::Swapped(swap, version)
            }
            Operation::Incr(_, delta) => Outcome::Number(self.cache.incr(&key, delta, now)),
            Operation::Append { len, .. } => {
                Outcome::Length(self.cache.append(&key, &content(seed, len), now))
            }
            Operation::SetRange { offset, len, .. } => {
                Outcome::Length(self.cache.set_range(&key, offset, &content(seed, len), now))
            }
            Operation::ChainBegin => {
                if self.chains.len() < CHAINS_MAX {
                    self.chains.push((self.cache.chain_begin(), Vec::new()));
                }
                Outcome::None
            }
            Operation::ChainPush { chain, len } => match self.chains.get_mut(chain) {
                Some((chain, _)) => {
                    Outcome::Stored(self.cache.chain_push(chain, &content(seed, len)))
                }
                None => Outcome::None,
            },
            Operation::ChainFree(chain) => {
                if chain < self.chains.len() {
                    let (chain, _) = self.chains.remove(chain);
                    self.cache.chain_free(chain);
                }
                Outcome::None
            }
            Operation::SetChain { chain, ttl, .. } => {
                if chain >= self.chains.len() {
                    return Outcome::None;
                }
                let (chain, value) = self.chains.remove(chain);
                let expiry = self.expiry(ttl);
                Outcome::Chained(self.cache.set_chain(&key, chain, expiry, now), value)
            }
            Operation::Lease(number) => {
                if self.leases.len() < LEASES_MAX
                    && let Some(lease) = self.cache.lease(&key, now)
                {
                    let value = self.entries[&number].value.clone();
                    self.leases.push((number, lease, value));
                    return Outcome::Found(true);
                }
                Outcome::None
            }
            Operation::Release(lease) => {
                if lease < self.leases.len() {
                    let (_, lease, value) = self.leases.remove(lease);
                    self.check_lease(&lease, &value);
                    self.cache.release(lease);
                }
                Outcome::None
            }
            Operation::Reserve(bytes) => {
                self.cache.set_reserved_bytes(self.withdrawn_bytes + bytes);
                Outcome::None
            }
            Operation::Populate { is_run } => {
                let populate = self.begun.as_ref().and_then(|begun| begun.try_recv().ok());
                if let Some(populate) = populate.filter(|_| is_run) {
                    populate.run();
                }
                Outcome::None
            }
            Operation::Advance { ms, work_max } => {
                self.now = Time(self.now.0 + ms);
                let more = self.cache.advance(self.now, work_max);
                if !more && let Some(due) = self.cache.next_deadline() {
                    assert!(due > self.now, "due work is left though advance says not");
                }
                Outcome::None
            }
            Operation::Flush => {
                self.cache.flush();
                Outcome::None
            }
            Operation::SetMany { .. } | Operation::AppendMany { .. } => {
                unreachable!("run splits it")
            }
        }
    }

    /// The latest version that was given for a key, or one given before it; for a key without any,
    /// that of another.
    fn version_to_try(&self, key: u16, back: usize) -> Version {
        let of_key = |given: &&(u16, Version)| given.0 == key;
        let mut latest = self.given.iter().rev().filter(of_key);
        let chosen = latest.nth(back).or_else(|| self.given.last());
        chosen.map_or(Version(7), |&(_, version)| version)
    }

    fn check_lease(&self, lease: &Lease, value: &[u8]) {
        assert_eq!(lease.value_bytes(), value.len());
        assert_eq!(
            lease.parts().iter().map(|part| part.len()).sum::<usize>(),
            value.len()
        );
        let slab = &self.cache.slab;
        let mut held = Vec::new();
        ItemValue::new(slab, lease.handle, slab.meta(lease.handle))
            .copy_to(0..usize::MAX, &mut held);
        assert!(held == value, "a leased value changed");
    }

    /// Finds the keys that are gone, and proves that they were the right ones.
    fn settle_evictions(&mut self, evicted: u64, written: Option<u16>, old_class: Option<ClassId>) {
        let now = self.now;
        self.entries
            .retain(|_, entry| entry.deadline.is_none_or(|deadline| now < deadline));
        if evicted == 0 {
            return;
        }
        // The written key is there again, so its own eviction shows in the count only.
        let own = written.filter(|key| self.entries.contains_key(key));
        let is_gone = |key: &u16| Some(*key) != own && self.peek(*key).is_none();
        let gone: Vec<u16> = self.entries.keys().copied().filter(is_gone).collect();
        let extra = evicted - gone.len() as u64;
        let own_evicted = extra > 0 && own.is_some();
        // The new item itself may go, if other pages than its own are pinned, or there are few.
        let is_crowded = self.may_lack_room(VALUE_BYTES_MAX);
        let may_lose_new = self.gave_up_page || self.evicted_early || is_crowded;
        let extra_max = u64::from(own.is_some()) + u64::from(may_lose_new);
        assert!(
            extra <= extra_max && (extra == 0 || written.is_some()),
            "eviction count"
        );
        if self.evicted_early {
            let leased: Vec<u16> = self
                .entries
                .keys()
                .copied()
                .filter(|&key| self.is_held_leased(key))
                .collect();
            for key in leased {
                self.entries
                    .get_mut(&key)
                    .expect("from the map")
                    .is_order_known = false;
            }
        } else {
            let mut by_class: HashMap<ClassId, Vec<u16>> = HashMap::new();
            for &key in &gone {
                by_class
                    .entry(self.entries[&key].class)
                    .or_default()
                    .push(key);
            }
            if own_evicted && let (Some(key), Some(class)) = (own, old_class) {
                by_class.entry(class).or_default().push(key);
            }
            for (class, keys) in by_class {
                self.prove_least_recent(class, keys, own);
            }
        }
        // The written key's old value was read or replaced before; `apply` deals with it.
        for key in gone {
            self.entries.remove(&key);
        }
    }

    /// Walks a class from its least recently used key and meets no key that stayed, other than
    /// leased ones, before it has met all that are gone.
    fn prove_least_recent(&mut self, class: ClassId, mut gone: Vec<u16>, own: Option<u16>) {
        gone.retain(|key| self.entries[key].is_order_known);
        self.exact_evictions += gone.len() as u64;
        while !gone.is_empty() {
            let in_class = self
                .entries
                .iter()
                .filter(|(_, entry)| entry.class == class);
            let least = in_class
                .min_by_key(|(_, entry)| entry.used_at)
                .map(|(&key, _)| key);
            let least = least.expect("the class has the keys that are gone");
            if let Some(place) = gone.iter().position(|&key| key == least) {
                gone.remove(place);
                if Some(least) == own {
                    self.use_now(least);
                } else {
                    self.entries.remove(&least);
                }
            } else {
                let is_excused = Some(least) == own
                    || !self.entries[&least].is_order_known
                    || self.is_held_leased(least);
                assert!(is_excused, "{least} was used less recently but stayed");
                self.use_now(least);
            }
        }
    }

    fn use_by_caller(&mut self, key: u16) {
        self.use_now(key);
        let is_lru = self.is_lru();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_order_known = is_lru;
        }
    }

    fn is_lru(&self) -> bool {
        self.cache.config.eviction == Eviction::Lru
    }

    fn use_now(&mut self, key: u16) {
        self.uses += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used_at = self.uses;
        }
    }

    fn peek(&self, key: u16) -> Option<(Vec<u8>, Option<Time>, Option<Version>)> {
        let bytes = key_bytes(key);
        let config = &self.cache.config;
        let key = Key::new(
            &bytes,
            (config.range_of)(&bytes),
            config.hasher.hash(&bytes),
        );
        let item = self.cache.peek(&key, self.now)?;
        assert_eq!(item.key(), bytes);
        let mut value = Vec::new();
        item.value().copy_to(0..usize::MAX, &mut value);
        assert_eq!(item.value().len(), value.len());
        Some((value, item.deadline(), item.version()))
    }

    fn handle_of(&self, key: u16) -> Handle {
        let bytes = key_bytes(key);
        let config = &self.cache.config;
        let key = Key::new(
            &bytes,
            (config.range_of)(&bytes),
            config.hasher.hash(&bytes),
        );
        self.cache
            .find(&key)
            .expect("the caller knows that it is there")
    }

    fn class_of(&self, key: u16) -> ClassId {
        let handle = self.handle_of(key);
        { self.cache.list_of(handle, self.cache.slab.meta(handle)) }.class()
    }

    /// Whether the key's present item is in the cache and leased.
    fn is_held_leased(&self, key: u16) -> bool {
        self.peek(key).is_some() && self.cache.slab.meta(self.handle_of(key)).has(Meta::LEASED)
    }

    /// What the call means for the model. Inlined where the outcome comes from, it is compiled to branches on
    /// fields that the outcome does not have, which memcheck takes for errors.
    #[inline(never)]
    fn apply(&mut self, operation: &Operation, outcome: Outcome) {
        let key = operation.key();
        let seed = self.calls;
        let exists = self.entries.contains_key(&key);
        match (operation.clone(), outcome) {
            (Operation::Get(_) | Operation::Touch(_), Outcome::Found(found)) => {
                assert_eq!(found, exists);
                self.use_by_caller(key);
            }
            (Operation::Lease(_), outcome) => {
                if matches!(outcome, Outcome::Found(true)) {
                    assert!(exists);
                    self.use_by_caller(key);
                }
            }
            (Operation::Delete(_), Outcome::Found(found)) => {
                assert_eq!(found, exists);
                self.entries.remove(&key);
            }
            (Operation::Set { ttl, len, .. }, Outcome::Stored(Ok(()))) => {
                self.store(key, content(seed, len), self.expiry(ttl));
            }
            (Operation::SetExpiry(_, ttl), Outcome::Found(found)) => {
                assert_eq!(found, exists);
                if found {
                    self.keep(key, self.expiry(ttl), self.entries[&key].version);
                }
            }
            (Operation::Version(_), Outcome::Version(result)) => self.apply_version(key, result),
            (Operation::SetIfVersion { len, ttl, .. }, Outcome::Swapped(swap, version)) => {
                let held = self.entries.get(&key).map(|entry| entry.version);
                let expected = match held {
                    None => Swap::Absent,
                    Some(held) if held == Some(version) => Swap::Stored,
                    Some(_) => Swap::Differs,
                };
                match swap {
                    Ok(Swap::Stored) => {
                        self.store(key, content(seed, len), self.expiry(ttl));
                    }
                    Ok(_) => {}
                    Err(StoreError::OutOfMemory) => self.apply_out_of_memory(key, len),
                    Err(error) => panic!("unexpected {error:?}"),
                }
                assert_eq!(swap.unwrap_or(Swap::Stored), expected);
            }
            (Operation::Incr(_, delta), Outcome::Number(result)) => {
                self.apply_incr(key, delta, result);
            }
            (Operation::Append { len, .. }, Outcome::Length(result)) => {
                let offset = self.entries.get(&key).map_or(0, |entry| entry.value.len());
                self.apply_write(key, offset, &content(seed, len), result);
            }
            (Operation::SetRange { offset, len, .. }, Outcome::Length(result)) => {
                let bytes = content(seed, len);
                if bytes.is_empty() {
                    let len = self.entries.get(&key).map_or(0, |entry| entry.value.len());
                    assert_eq!(result, Ok(len));
                } else {
                    self.apply_write(key, offset, &bytes, result);
                }
            }
            (Operation::ChainPush { chain, len }, Outcome::Stored(result)) => {
                let bytes = content(seed, len);
                let (held, value) = &mut self.chains[chain];
                match result {
                    Ok(()) => value.extend_from_slice(&bytes),
                    Err(StoreError::ValueTooLong) => {
                        assert!(value.len() + len > VALUE_BYTES_MAX);
                    }
                    Err(_) => {
                        let pushed = held.len() - value.len();
                        value.extend_from_slice(&bytes[..pushed]);
                    }
                }
                let parts = self.cache.chain_parts(&self.chains[chain].0);
                assert!(
                    parts.flatten().eq(&self.chains[chain].1),
                    "bytes of a chain"
                );
            }
            (Operation::SetChain { ttl, .. }, Outcome::Chained(Ok(()), value)) => {
                self.store(key, value, self.expiry(ttl));
            }
            (Operation::Flush, _) => self.entries.clear(),
            (Operation::Set { len, .. }, Outcome::Stored(Err(StoreError::OutOfMemory))) => {
                self.apply_out_of_memory(key, len);
            }
            (_, Outcome::Chained(Err(StoreError::OutOfMemory), value)) => {
                self.apply_out_of_memory(key, value.len());
            }
            (_, Outcome::Stored(Err(error)) | Outcome::Chained(Err(error), _)) => {
                panic!("unexpected {error:?}");
            }
            _ => {}
        }
    }

    fn apply_version(&mut self, key: u16, result: Result<Option<Version>, StoreError>) {
        let entry = self.entries.get(&key);
        match result {
            Ok(None) => assert!(entry.is_none()),
            Ok(Some(version)) => {
                let held = entry.expect("only what is there has one").version;
                if held.is_none() {
                    let is_new = self.given.last().is_none_or(|given| given.1 < version);
                    assert!(is_new, "a version was given twice");
                    self.given.push((key, version));
                }
                assert_eq!(held.unwrap_or(version), version);
                self.keep(key, Expiry::Keep, Some(version));
            }
            Err(_) => {
                let entry = entry.expect("only what is there can need room");
                assert_eq!(entry.version, None);
                let len = entry.value.len();
                self.apply_out_of_memory(key, len);
            }
        }
    }

    fn apply_incr(&mut self, key: u16, delta: i64, result: Result<i64, IncrError>) {
        let current = match self.entries.get(&key) {
            None => Some(0),
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).ok();
                let number = text.and_then(|text| text.parse::<i64>().ok());
                number.filter(|number| Some(number.to_string().as_str()) == text)
            }
        };
        match (result, current.map(|current| current.checked_add(delta))) {
            (Ok(sum), Some(expected)) => {
                assert_eq!(Some(sum), expected);
                self.store(key, sum.to_string().into_bytes(), Expiry::Keep);
            }
            (Err(IncrError::NotAnInteger), None) | (Err(IncrError::Overflow), Some(None)) => {}
            (Err(IncrError::Store(StoreError::OutOfMemory)), Some(Some(_))) => {
                self.apply_out_of_memory(key, 20);
            }
            (result, expected) => panic!("incr: {result:?}, but the model says {expected:?}"),
        }
    }

    fn apply_write(
        &mut self,
        key: u16,
        offset: usize,
        bytes: &[u8],
        result: Result<usize, StoreError>,
    ) {
        let mut value = self
            .entries
            .get(&key)
            .map_or_else(Vec::new, |entry| entry.value.clone());
        let end = offset + bytes.len();
        match result {
            Ok(len) => {
                value.resize(value.len().max(end), 0);
                value[offset..end].copy_from_slice(bytes);
                assert_eq!(len, value.len());
                self.store(key, value, Expiry::Keep);
            }
            Err(StoreError::ValueTooLong) => assert!(value.len().max(end) > VALUE_BYTES_MAX),
            Err(_) => {
                self.apply_out_of_memory(key, value.len().max(end));
            }
        }
    }

    /// Whether a value may find no memory: only while some is leased or uncommitted, or if it
    /// leaves no page to each class that it needs.
    fn may_lack_room(&self, len: usize) -> bool {
        let pages_total = usize::try_from(self.cache.stats().pages_total).expect("64 bits");
        let is_crowded = !self.leases.is_empty() || !self.chains.is_empty();
        is_crowded || len / PAGE_BYTES + CLASSES_PER_VALUE_MAX > pages_total
    }

    /// The key has what it had, unless it was evicted too.
    fn apply_out_of_memory(&mut self, key: u16, len: usize) {
        assert!(
            self.may_lack_room(len),
            "no memory for {len} bytes with nothing pinned"
        );
        if self.peek(key).is_none() {
            self.entries.remove(&key);
        } else {
            let class = self.class_of(key);
            self.entries
                .get_mut(&key)
                .expect("a failed write stores nothing")
                .class = class;
            self.entries.get_mut(&key).expect("as above").is_order_known = false;
        }
    }

    /// Another deadline and version for what is there.
    fn keep(&mut self, key: u16, expiry: Expiry, version: Option<Version>) {
        let value = self.entries[&key].value.clone();
        self.store(key, value, expiry);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.version = version;
        }
    }

    fn store(&mut self, key: u16, value: Vec<u8>, expiry: Expiry) {
        let kept = self.entries.get(&key).and_then(|entry| entry.deadline);
        let deadline = match expiry {
            Expiry::Never => None,
            Expiry::Keep => kept,
            Expiry::At(deadline) if deadline <= self.now => {
                self.entries.remove(&key);
                return;
            }
            Expiry::At(deadline) => Some(deadline),
        };
        self.uses += 1;
        let used_at = self.uses;
        if self.peek(key).is_none() {
            // Without room to move, an item that gets a deadline is deleted; and in a cache of a
            // few pages the index may take the page of the item that made it grow.
            assert!(self.may_lack_room(value.len()), "key {key} wasn't stored");
            self.entries.remove(&key);
            return;
        }
        let class = self.class_of(key);
        let is_order_known = self.is_lru();
        self.entries.insert(
            key,
            Entry {
                value,
                deadline,
                class,
                used_at,
                version: None,
                is_order_known,
            },
        );
    }

    fn compare_all(&self) {
        for key in 0..KEYS_COUNT {
            let held = self.peek(key);
            let entry = self.entries.get(&key);
            assert_eq!(held.is_some(), entry.is_some(), "presence of key {key}");
            if let (Some((value, deadline, version)), Some(entry)) = (held, entry) {
                assert!(value == entry.value, "value of key {key}");
                assert_eq!(deadline, entry.deadline, "deadline of key {key}");
                assert_eq!(version, entry.version, "version of key {key}");
            }
        }
        for (_, lease, value) in &self.leases {
            self.check_lease(lease, value);
        }
    }
}

/// What a call answered.
enum Outcome {
    None,
    Found(bool),
    Stored(Result<(), StoreError>),
    Chained(Result<(), StoreError>, Vec<u8>),
    Length(Result<usize, StoreError>),
    Number(Result<i64, IncrError>),
    Version(Result<Option<Version>, StoreError>),
    Swapped(Result<Swap, StoreError>, Version),
}
