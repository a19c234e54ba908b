//! Watched keys: what WATCH remembers of a shard's keys, so that EXEC can tell whether they changed.
//!
//! ```text
//! WATCH key -> Watched { key, version, watchers } <- index by hash <- every write of the key
//!          \-> WatchToken { shard, place, version, existed }          bumps `version`
//! ```
//!
//! Invariants:
//! 1. A place is in the index exactly while it has watchers; otherwise it is in the free list.
//! 2. Every write of a key's value or deadline bumps its version. What ends an item (deletion,
//!    expiry, eviction, flush) need not: EXEC compares existence too, and a key that came back was
//!    written.
//! 3. What is held is bounded by [`WATCHED_KEYS_MAX`] and [`WATCHED_BYTES_MAX`].

use fulmar_cluster::ShardIndex;
use fulmar_engine::{Cache, Key, Time};
use hashbrown::HashTable;

/// Most keys one shard has watched at a time.
pub const WATCHED_KEYS_MAX: usize = 65_536;
/// Most bytes of keys one shard has watched at a time.
pub const WATCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most places kept for later use while nothing is watched.
const IDLE_PLACES_MAX: usize = 256;

/// What one client remembers of one watched key.
///
/// It stands for a registration: give it back to the shard it came from
/// ([`Shard::unwatch`](crate::Shard::unwatch)), or the registration leaks.
#[derive(Debug)]
#[must_use]
pub struct WatchToken {
    shard: ShardIndex,
    place: u32,
    version: u64,
    existed: bool,
}

impl WatchToken {
    /// The shard it came from and must go back to.
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// Whether both stand for the same key, and `other` would notice no write that `self` misses.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.shard == other.shard && self.place == other.place
    }
}

/// No more keys can be watched; see [`WATCHED_KEYS_MAX`] and [`WATCHED_BYTES_MAX`]. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchesFull;

/// The watched keys of one shard.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    places: Vec<Watched>,
    free: Vec<u32>,
    index: HashTable<u32>,
    bytes: usize,
}

#[derive(Debug)]
struct Watched {
    key: Box<[u8]>,
    hash: u64,
    range: u16,
    version: u64,
    watchers: u32,
}

impl Watched {
    fn key(&self) -> Key<'_> {
        Key::new(&self.key, self.range, self.hash)
    }
}

impl Watches {
    /// Registers interest in `key`, which exists or not right now.
    pub(crate) fn watch(
        &mut self,
        shard: ShardIndex,
        key: &Key<'_>,
        existed: bool,
    ) -> Result<WatchToken, WatchesFull> {
        let place = match self.find(key) {
            Some(place) => place,
            None => self.insert(key)?,
        };
        let watched = &mut self.places[place as usize];
        watched.watchers += 1;
        Ok(WatchToken {
            shard,
            place,
            version: watched.version,
            existed,
        })
    }

    /// Whether the key was written, or appeared or vanished, since the token was given.
    pub(crate) fn is_dirty(&self, token: &WatchToken, cache: &Cache, now: Time) -> bool {
        let watched = &self.places[token.place as usize];
        debug_assert!(watched.watchers > 0, "a token keeps its place registered");
        watched.version != token.version
            || cache.peek(&watched.key(), now).is_some() != token.existed
    }

    /// Ends a registration.
    pub(crate) fn unwatch(&mut self, token: &WatchToken) {
        let watched = &mut self.places[token.place as usize];
        assert!(watched.watchers > 0, "a token is given back once");
        watched.watchers -= 1;
        if watched.watchers > 0 {
            return;
        }
        let hash = watched.hash;
        self.bytes -= watched.key.len();
        watched.key = Box::default();
        match self.index.find_entry(hash, |&place| place == token.place) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => unreachable!("a watched place is in the index"),
        }
        self.free.push(token.place);
        if self.index.is_empty() && self.places.len() > IDLE_PLACES_MAX {
            // Versions may start over: no token is left to compare them with.
            *self = Self::default();
        }
    }

    /// Notes a write of `key`. One branch when nothing is watched.
    #[inline]
    pub(crate) fn bump(&mut self, key: &Key<'_>) {
        if !self.index.is_empty() {
            self.bump_watched(key);
        }
    }

    /// Keys watched right now.
    pub(crate) fn keys_count(&self) -> usize {
        self.index.len()
    }

    #[cold]
    fn bump_watched(&mut self, key: &Key<'_>) {
        if let Some(place) = self.find(key) {
            self.places[place as usize].version += 1;
        }
    }

    fn find(&self, key: &Key<'_>) -> Option<u32> {
        let is_key = |&place: &u32| *self.places[place as usize].key == *key.bytes();
        self.index.find(key.hash(), is_key).copied()
    }

    fn insert(&mut self, key: &Key<'_>) -> Result<u32, WatchesFull> {
        let bytes = self.bytes + key.bytes().len();
        if self.index.len() >= WATCHED_KEYS_MAX || bytes > WATCHED_BYTES_MAX {
            return Err(WatchesFull);
        }
        self.bytes = bytes;
        let (hash, range) = (key.hash(), key.range());
        let place = match self.free.pop() {
            Some(place) => {
                let watched = &mut self.places[place as usize];
                watched.key = key.bytes().into();
                (watched.hash, watched.range) = (hash, range);
                place
            }
            None => {
                let place = u32::try_from(self.places.len()).expect("bounded by WATCHED_KEYS_MAX");
                let key = key.bytes().into();
                self.places.push(Watched {
                    key,
                    hash,
                    range,
                    version: 0,
                    watchers: 0,
                });
                place
            }
        };
        let places = &self.places;
        self.index
            .insert_unique(hash, place, |&place| places[place as usize].hash);
        Ok(place)
    }
}
