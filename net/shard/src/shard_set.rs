//! The shards whose tokens the caller holds, as the executing code sees them.

use fulmar_cluster::{HomeTable, Range, ShardIndex};
use fulmar_engine::{Key, KeyHasher};

use crate::Shard;

/// The shards whose tokens the caller holds right now.
///
/// [`route`](crate::route()) says which ones a command needs.
pub trait ShardSet {
    /// Which shard `key` belongs to, and the key ready for its engine.
    fn place<'k>(&self, key: &'k [u8]) -> (ShardIndex, Key<'k>);

    /// Number of shards of the node. Commands on whole shards hold all of them.
    fn count(&self) -> usize;

    /// The shard with this index in the node, below [`count`](Self::count).
    ///
    /// # Panics
    /// If it is not held.
    fn at(&mut self, index: usize) -> &mut Shard;

    /// The shard of `key`, which the caller made sure to hold, and the key ready for its engine.
    ///
    /// # Panics
    /// If the key's shard is not held.
    #[inline]
    fn locate<'k>(&mut self, key: &'k [u8]) -> (&mut Shard, Key<'k>) {
        let (shard, key) = self.place(key);
        (self.at(shard.index()), key)
    }
}

/// How keys are placed in this process: the same for all its shards.
#[derive(Clone, Copy)]
pub struct Placement<'a> {
    /// The home of each range.
    pub homes: &'a HomeTable,
    /// The hash that all shards' engines use.
    pub hasher: KeyHasher,
}

impl Placement<'_> {
    /// The shard of `key`, and the key with its range and hash. O(length of the key).
    #[inline]
    pub fn place<'k>(&self, key: &'k [u8]) -> (ShardIndex, Key<'k>) {
        let range = Range::of(key);
        (self.homes.home(range), self.key_in(key, range))
    }

    /// The shard of `key` alone.
    #[inline]
    pub fn shard_of(&self, key: &[u8]) -> ShardIndex {
        self.homes.home(Range::of(key))
    }

    #[inline]
    fn key_in<'k>(&self, key: &'k [u8], range: Range) -> Key<'k> {
        Key::new(key, range.index(), self.hasher.hash(key))
    }
}

/// One held shard: what a command on a single key, or on keys of one shard, needs.
///
/// Remembers the routed key, so that it is not hashed again.
pub struct Single<'s, 'k> {
    shard: &'s mut Shard,
    routed: Option<Key<'k>>,
    placement: Placement<'s>,
}

impl<'s, 'k> Single<'s, 'k> {
    /// Holds `shard`. `routed` is the key that the route was made from.
    #[inline]
    pub fn new(shard: &'s mut Shard, routed: Option<Key<'k>>, placement: Placement<'s>) -> Self {
        Self {
            shard,
            routed,
            placement,
        }
    }
}

impl ShardSet for Single<'_, '_> {
    #[inline]
    fn place<'k>(&self, key: &'k [u8]) -> (ShardIndex, Key<'k>) {
        match recognize(self.routed.as_ref(), key) {
            Some(known) => (self.shard.index(), known),
            None => self.placement.place(key),
        }
    }

    fn count(&self) -> usize {
        usize::from(self.placement.homes.shards_count())
    }

    fn at(&mut self, index: usize) -> &mut Shard {
        assert_eq!(index, self.shard.index().index(), "the shard is held");
        self.shard
    }
}

/// Several held shards, by rising index; perhaps all.
///
/// `'l` is the list's lifetime, `'s` that of the holds.
pub struct Held<'l, 's> {
    shards: &'l mut [&'s mut Shard],
    placement: Placement<'l>,
}

impl<'l, 's> Held<'l, 's> {
    /// Holds `shards`.
    ///
    /// # Panics
    /// If their indices do not rise.
    pub fn new(shards: &'l mut [&'s mut Shard], placement: Placement<'l>) -> Self {
        assert!(
            shards.is_sorted_by(|a, b| a.index() < b.index()),
            "held in shard order"
        );
        Self { shards, placement }
    }

    fn position(&self, index: ShardIndex) -> usize {
        // All shards are held: the common case of whole-shard commands, and of small nodes.
        if self
            .shards
            .get(index.index())
            .is_some_and(|shard| shard.index() == index)
        {
            return index.index();
        }
        self.shards
            .binary_search_by_key(&index, |shard| shard.index())
            .expect("the caller holds the shards that the route names")
    }
}

impl ShardSet for Held<'_, '_> {
    fn place<'k>(&self, key: &'k [u8]) -> (ShardIndex, Key<'k>) {
        self.placement.place(key)
    }

    fn count(&self) -> usize {
        usize::from(self.placement.homes.shards_count())
    }

    fn at(&mut self, index: usize) -> &mut Shard {
        let index = u16::try_from(index).expect("a shard's index fits 16 bits");
        let position = self.position(ShardIndex(index));
        self.shards[position]
    }
}

/// `routed`, if it was made from this very slice: then its range and hash are known.
#[inline]
fn recognize<'k>(routed: Option<&Key<'_>>, key: &'k [u8]) -> Option<Key<'k>> {
    routed
        .filter(|known| std::ptr::eq(known.bytes(), key))
        .map(|known| Key::new(key, known.range(), known.hash()))
}
