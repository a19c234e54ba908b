//! Sequences of calls against a map of what each key must have.
//!
//! The first two bytes choose the memory limit and the policy of eviction, the others the calls and their
//! arguments; what is missing reads as zero. A key may be gone if anything was evicted; what is there must be right. The
//! integrity of the whole cache is checked every few calls and at the end.
#![no_main]

use std::collections::HashMap;

use fulmar_engine::{
    Cache, Chain, Config, Eviction, Expiry, IncrError, Key, KeyHasher, Lease, StoreError, Swap, Time,
    Version,
};
use libfuzzer_sys::fuzz_target;

const VALUE_BYTES_MAX: usize = 200_000;
const CALLS_MAX: usize = 400;
const CALLS_PER_CHECK: usize = 16;
const PINS_MAX: usize = 4;

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// Mostly short, some at the limits of chunks and segments, a few long.
    fn length(&mut self) -> usize {
        match self.byte() {
            short @ 0..=159 => usize::from(short),
            160..=219 => self.number() % 5_000,
            220..=239 => 4_000 + self.number() % 200,
            240..=250 => self.number(),
            _ => self.number() * 4,
        }
    }
}

/// A live key's value and deadline.
type Entry = (Vec<u8>, Option<Time>);
/// The last version given for each key, and whether it is right still.
type Versions = HashMap<u8, (Version, bool)>;

struct Pair {
    cache: Cache,
    entries: HashMap<u8, Entry>,
    versions: Versions,
    chains: Vec<(Chain, Vec<u8>)>,
    leases: Vec<(Lease, Vec<u8>)>,
    now: Time,
    /// Something may have been evicted.
    may_miss: bool,
}

const HASHER: KeyHasher = KeyHasher::new([1, 2, 3, 4]);

fn range_of(key: &[u8]) -> u16 {
    u16::from(key[0]) % 16
}

fn key_bytes(number: u8) -> Vec<u8> {
    let length = match number % 16 {
        3 => 300,
        7 => 5_000,
        _ => 1 + usize::from(number) / 16,
    };
    vec![number; length]
}

fn content(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at * 31 + at / 255 + seed) as u8)
        .collect()
}

impl Pair {
    fn new(memory_bytes_max: usize, eviction: Eviction) -> Self {
        let mut config = Config::new(memory_bytes_max, HASHER);
        config.eviction = eviction;
        config.value_bytes_max = VALUE_BYTES_MAX;
        config.ranges_count = 16;
        config.range_of = range_of;
        Self {
            cache: Cache::new(config).expect("enough memory"),
            entries: HashMap::new(),
            versions: HashMap::new(),
            chains: Vec::new(),
            leases: Vec::new(),
            now: Time(0),
            may_miss: false,
        }
    }

    fn forget_expired(&mut self) {
        let now = self.now;
        self.entries
            .retain(|_, (_, deadline)| deadline.is_none_or(|deadline| now < deadline));
    }

    fn expiry(&self, input: &mut Input<'_>) -> Expiry {
        match input.byte() % 8 {
            0 => Expiry::Keep,
            1 | 2 => Expiry::At(Time(self.now.0 + input.number() as u64)),
            3 => Expiry::At(Time(self.now.0 + (1 << 33))),
            4 => Expiry::At(Time(u64::MAX)),
            _ => Expiry::Never,
        }
    }

    fn store(&mut self, number: u8, value: Vec<u8>, expiry: Expiry) {
        let kept = self
            .entries
            .get(&number)
            .and_then(|(_, deadline)| *deadline);
        let deadline = match expiry {
            Expiry::Never => None,
            Expiry::Keep => kept,
            Expiry::At(deadline) if deadline <= self.now => {
                self.entries.remove(&number);
                return;
            }
            Expiry::At(deadline) => Some(deadline),
        };
        self.entries.insert(number, (value, deadline));
    }

    /// Compares a key, and takes what is gone out of the map.
    fn compare(&mut self, number: u8) {
        let bytes = key_bytes(number);
        let key = Key::new(&bytes, range_of(&bytes), HASHER.hash(&bytes));
        let Some(item) = self.cache.peek(&key, self.now) else {
            let was_there = self.entries.remove(&number).is_some();
            assert!(!was_there || self.may_miss, "key {number} is gone");
            return;
        };
        let (value, deadline) = self.entries.get(&number).expect("a key came from nowhere");
        assert_eq!(item.key(), bytes);
        assert_eq!(item.deadline(), *deadline);
        let version = self.versions.get(&number).filter(|(_, is_right)| *is_right);
        assert_eq!(item.version(), version.map(|&(version, _)| version));
        let mut held = Vec::new();
        item.value().copy_to(0..usize::MAX, &mut held);
        assert!(held == *value, "value of key {number}");
    }

    fn call(&mut self, seed: usize, input: &mut Input<'_>) {
        let operation = input.byte();
        let number = input.byte();
        let bytes = key_bytes(number);
        let key = Key::new(&bytes, range_of(&bytes), HASHER.hash(&bytes));
        let now = self.now;
        self.forget_expired();
        self.compare(number);
        let kept = self
            .entries
            .get(&number)
            .and_then(|(_, deadline)| *deadline);
        // Of some calls there are two, chosen by what the kind leaves of the byte.
        let is_other = operation / 20 % 2 == 1;
        match operation % 20 {
            4 if is_other => self.ask_version(number, &key),
            5 if is_other => self.set_if_version(number, &key, seed, input),
            0..=3 => {
                let value = content(seed, input.length());
                let expiry = self.expiry(input);
                let stored = self.cache.set(&key, &value, expiry, now);
                self.note(number, stored, value, expiry);
            }
            4 => assert!(self.cache.get(&key, now).is_some() == self.has(&key)),
            5 => drop(self.cache.touch(&key, now)),
            6 => {
                self.cache.delete(&key, now);
                self.entries.remove(&number);
            }
            7 => {
                let expiry = self.expiry(input);
                if self.cache.set_expiry(&key, expiry, now)
                    && let Some((value, _)) = self.entries.get(&number).cloned()
                {
                    self.store(number, value, expiry);
                }
                // Without room to move, an item that gets a deadline is deleted.
                let is_pinned = !self.leases.is_empty() || !self.chains.is_empty();
                self.may_miss |= is_pinned || self.cache.stats().pages_total < 8;
            }
            8 => match self.cache.incr(&key, input.number() as i64 - 30_000, now) {
                Ok(sum) => {
                    self.store(number, sum.to_string().into_bytes(), Expiry::Keep);
                    self.outdate(number);
                }
                Err(IncrError::Store(_)) => self.may_miss = true,
                Err(_) => {}
            },
            9 | 10 => {
                let part = content(seed, input.length());
                let offset = if operation % 20 == 9 {
                    None
                } else {
                    Some(input.length())
                };
                let old = self.peek(&key);
                let mut value = old.clone().unwrap_or_default();
                let offset_or_end = offset.unwrap_or(value.len());
                let result = match offset {
                    None => self.cache.append(&key, &part, now),
                    Some(offset) => self.cache.set_range(&key, offset, &part, now),
                };
                match result {
                    Ok(_) if part.is_empty() && offset.is_some() => {}
                    Ok(_) if part.is_empty() && old.is_some() => self.outdate(number),
                    Ok(length) => {
                        self.outdate(number);
                        value.resize(value.len().max(offset_or_end + part.len()), 0);
                        value[offset_or_end..offset_or_end + part.len()].copy_from_slice(&part);
                        assert_eq!(length, value.len());
                        self.entries
                            .insert(number, (value, kept.filter(|_| old.is_some())));
                    }
                    Err(StoreError::ValueTooLong) => {}
                    Err(_) => self.may_miss = true,
                }
            }
            11 if self.chains.len() < PINS_MAX => {
                self.chains.push((self.cache.chain_begin(), Vec::new()));
            }
            11..=13 => {
                let part = content(seed, input.length());
                let place = usize::from(number) % self.chains.len().max(1);
                if let Some((chain, value)) = self.chains.get_mut(place) {
                    match self.cache.chain_push(chain, &part) {
                        Ok(()) => value.extend_from_slice(&part),
                        Err(StoreError::ValueTooLong) => {}
                        Err(_) => {
                            let pushed = chain.len() - value.len();
                            value.extend_from_slice(&part[..pushed]);
                        }
                    }
                    assert!(self.cache.chain_parts(chain).flatten().eq(&*value));
                }
            }
            14 => {
                if let Some((chain, value)) = self.chains.pop() {
                    let expiry = self.expiry(input);
                    let stored = self.cache.set_chain(&key, chain, expiry, now);
                    self.note(number, stored, value, expiry);
                }
            }
            15 => {
                if let Some((chain, _)) = self.chains.pop() {
                    self.cache.chain_free(chain);
                }
            }
            16 if self.leases.len() < PINS_MAX => {
                let value = self.peek(&key);
                if let Some(lease) = self.cache.lease(&key, now) {
                    self.leases.push((lease, value.expect("leased, so live")));
                }
            }
            16 | 17 => {
                if let Some((lease, value)) = self.leases.pop() {
                    self.check_lease(&lease, &value);
                    self.cache.release(lease);
                }
            }
            18 => {
                self.now = Time(now.0 + input.number() as u64);
                self.cache.advance(self.now, usize::from(number));
            }
            _ => match number {
                0..=7 => {
                    self.cache.flush();
                    self.entries.clear();
                }
                8..=99 => self.cache.set_reserved_bytes(usize::from(number) * 4_096),
                100..=150 => self.cache.set_reserved_bytes(0),
                _ => self.scan(),
            },
        }
        self.may_miss |= self.cache.stats().evicted > 0;
        self.forget_expired();
        self.compare(number);
    }

    /// A version stays the same as long as it is right, and is never given again.
    fn ask_version(&mut self, number: u8, key: &Key<'_>) {
        match self.cache.version(key, self.now) {
            Ok(None) => assert!(!self.has(key)),
            Ok(Some(version)) => {
                if let Some(&(held, is_right)) = self.versions.get(&number) {
                    let is_newer = self.versions.values().all(|given| given.0 < version);
                    assert!(if is_right { held == version } else { is_newer });
                }
                self.versions.insert(number, (version, true));
            }
            Err(_) => self.may_miss = true,
        }
    }

    fn set_if_version(&mut self, number: u8, key: &Key<'_>, seed: usize, input: &mut Input<'_>) {
        let (version, is_right) = *self.versions.get(&number).unwrap_or(&(Version(0), false));
        let expected = match (self.has(key), is_right) {
            (false, _) => Swap::Absent,
            (true, true) => Swap::Stored,
            (true, false) => Swap::Differs,
        };
        let value = content(seed, input.length());
        let expiry = self.expiry(input);
        let stored = self
            .cache
            .set_if_version(key, &value, expiry, version, self.now);
        let stored = stored.map(|swap| assert_eq!(swap, expected));
        if stored.is_err() || expected == Swap::Stored {
            self.note(number, stored, value, expiry);
        }
    }

    /// The key was written to.
    fn outdate(&mut self, number: u8) {
        if let Some((_, is_right)) = self.versions.get_mut(&number) {
            *is_right = false;
        }
    }

    fn note(&mut self, number: u8, stored: Result<(), StoreError>, value: Vec<u8>, expiry: Expiry) {
        match stored {
            Ok(()) => {
                self.store(number, value, expiry);
                self.outdate(number);
            }
            Err(StoreError::OutOfMemory) => self.may_miss = true,
            Err(error) => assert!(value.len() > VALUE_BYTES_MAX, "{error:?}"),
        }
    }

    fn has(&self, key: &Key<'_>) -> bool {
        self.cache.peek(key, self.now).is_some()
    }

    fn peek(&self, key: &Key<'_>) -> Option<Vec<u8>> {
        let item = self.cache.peek(key, self.now)?;
        let mut value = Vec::new();
        item.value().copy_to(0..usize::MAX, &mut value);
        Some(value)
    }

    fn check_lease(&self, lease: &Lease, value: &[u8]) {
        let mut held = Vec::new();
        for part in lease.parts() {
            // SAFETY: the lease is held, and the cache lives.
            held.extend_from_slice(unsafe {
                std::slice::from_raw_parts(part.as_ptr(), part.len())
            });
        }
        assert!(held == value, "a leased value changed");
    }

    /// A whole iteration visits each live key.
    fn scan(&self) {
        let (mut cursor, mut seen) = (0, std::collections::HashSet::new());
        loop {
            cursor = self.cache.scan(cursor, 3, self.now, &mut |item| {
                seen.insert(item.key().to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        for number in 0..=255 {
            let bytes = key_bytes(number);
            let key = Key::new(&bytes, range_of(&bytes), HASHER.hash(&bytes));
            assert_eq!(
                seen.contains(&bytes),
                self.has(&key),
                "SCAN and key {number}"
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let number = input.number();
    let eviction = if number / 2_000 % 2 == 0 {
        Eviction::Lru
    } else {
        Eviction::S3Fifo
    };
    let mut pair = Pair::new((450 + number % 2_000) * 1_024, eviction);
    for calls in 0..CALLS_MAX {
        if input.0.is_empty() {
            break;
        }
        pair.call(calls, &mut input);
        if calls % CALLS_PER_CHECK == 0 {
            pair.cache.check_integrity();
        }
    }
    pair.cache.check_integrity();
    pair.forget_expired();
    (0..=255).for_each(|number| pair.compare(number));
    for (lease, value) in std::mem::take(&mut pair.leases) {
        pair.check_lease(&lease, &value);
        pair.cache.release(lease);
    }
    for (chain, _) in std::mem::take(&mut pair.chains) {
        pair.cache.chain_free(chain);
    }
    pair.cache.check_integrity();
});
