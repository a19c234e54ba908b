//! The cache: items found by key, kept in the order of a policy, ended by deadline.
//!
//! One type over several files, by what its calls do:
//!
//! | file | calls |
//! |---|---|
//! | `read` | get, peek, touch, scan, walk, random |
//! | `write` | set, delete; how an item enters the index |
//! | `expiry` | set_expiry, advance |
//! | `counter`, `edit` | incr; append and set_range |
//! | `grow` | the same on long values, in their place |
//! | `version` | versions given to who asks; set_if_version |
//! | `chain` | long values streamed in |
//! | `lease` | items pinned while they are sent |
//! | `depart` | how an item leaves, whatever the reason |
//! | `evict` | making room: the mechanism |
//! | `policy`, `s3_fifo` | what a use means to an item, which one goes next |
//! | `evacuate`, `donor` | pages that change hands: mechanism, policy |
//! | `budget` | the memory limit, reserved bytes |
//! | `flush`, `integrity` | flush, drop_range; check_integrity |

mod budget;
mod chain;
mod counter;
mod depart;
mod donor;
mod edit;
mod evacuate;
mod evict;
mod expiry;
mod flush;
mod grow;
mod integrity;
mod lease;
mod policy;
mod read;
mod s3_fifo;
#[cfg(test)]
mod tests;
mod version;
mod write;

pub use chain::Chain;
pub use lease::Lease;
pub use version::Swap;

use evacuate::Evacuation;
use lease::LeaseTable;

use crate::config::{Config, ConfigError};
use crate::eviction::Eviction;
use crate::ghost::Ghost;
use crate::index::{Index, Items};
use crate::item::{Layout, Meta, key_of};
use crate::key::{Key, KeyHasher};
use crate::limits::PAGE_BYTES;
use crate::order::{ListId, ListKind, Lists};
use crate::slab::{CLASSES_COUNT, ClassId, Handle, Populate, Slab};
use crate::stats::Stats;
use crate::time::Time;
use crate::version::Version;
use crate::wheel::Wheel;

/// A single-owner cache. See the crate's documentation for its shape and invariants.
///
/// All calls but `flush`, `set_reserved_bytes` and `check_integrity` touch a bounded number of
/// items, apart from the segments of the value they are about; none allocates for items that fit
/// one chunk, except when the index grows.
pub struct Cache {
    slab: Slab,
    index: Index,
    lists: Lists,
    /// Of S3-FIFO alone.
    ghost: Option<Ghost>,
    wheel: Wheel,
    leases: LeaseTable,
    /// The latest `now` that any call brought: time doesn't go back in here.
    latest: Time,
    /// Items that have left or moved, for whoever must know whether a handle found before an
    /// allocation is still good.
    departures: u64,
    uncommitted_count: usize,
    evacuation: Option<Evacuation>,
    /// The version that is given next.
    next_version: Version,
    /// Per class, evictions until the next look for a page of another.
    evictions_to_look: [u8; CLASSES_COUNT],
    reserved_bytes: usize,
    stats: Stats,
    config: Config,
}

impl Cache {
    /// An empty cache. Maps the arena's address space; memory follows as items come.
    ///
    /// # Errors
    /// If the limits make no sense, or the system refuses the address space.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.check()?;
        let pages_count = Self::pages_count(&config)?;
        let mut cache = Self {
            slab: Slab::new(pages_count).map_err(ConfigError::Map)?,
            index: Index::new(config.ranges_count),
            lists: Lists::new(config.eviction.list_kinds_count()),
            ghost: (config.eviction == Eviction::S3Fifo)
                .then(|| Ghost::new(config.memory_bytes_max)),
            wheel: Wheel::new(),
            leases: LeaseTable::new(),
            latest: Time(0),
            departures: 0,
            uncommitted_count: 0,
            evacuation: None,
            next_version: config.first_version,
            evictions_to_look: [0; CLASSES_COUNT],
            reserved_bytes: 0,
            stats: Stats::default(),
            config,
        };
        cache.slab.keep_reserve(Self::reserve_count(pages_count));
        cache.fit_budget();
        Ok(cache)
    }

    /// Has memory made resident by `populator` before it is needed, a huge page at a time, as far as the limit
    /// allows. It is called where a page is taken from then on, is given one [`Populate`] at a time, and
    /// should pass that to another thread to [`run`](Populate::run); the next comes once that is over, or
    /// dropped. Until then nobody gets that memory who can do without: who needs more than there is gets small
    /// pages, or at the limit evicts.
    /// Without a populator the call that first touches a huge page has the system clear it, which can take
    /// ms. Caches below 64 MiB, which have no huge pages, do not call it.
    pub fn populate_by(&mut self, populator: impl FnMut(Populate) + Send + 'static) {
        self.slab.populate_by(Box::new(populator));
    }

    /// Number of items, including expired ones that aren't reclaimed yet. O(1).
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Number of items of one range, as [`len`](Self::len) counts them. O(1).
    pub fn range_len(&self, range: u16) -> usize {
        self.index.range_len(range)
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counters and gauges. O(1).
    pub fn stats(&self) -> Stats {
        let index_pages = self.slab.index_count();
        Stats {
            items: self.index.len() as u64,
            items_with_ttl: self.wheel.count() as u64,
            pages_in_use: (self.slab.in_use_count() - index_pages) as u64,
            pages_resident: (self.slab.resident_count() - self.slab.withheld_count() - index_pages)
                as u64,
            pages_total: self.slab.resident_max().saturating_sub(index_pages) as u64,
            index_bytes: (self.index.heap_bytes() + index_pages * PAGE_BYTES) as u64,
            reserved_bytes: self.reserved_bytes as u64,
            memory_bytes_max: self.config.memory_bytes_max as u64,
            ..self.stats
        }
    }

    /// Sets the counters of events to zero.
    pub fn reset_stats(&mut self) {
        self.stats.reset_events();
    }

    /// Takes note of the time, and returns it such that it never goes back.
    #[inline]
    fn observe(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now);
        self.latest
    }

    #[inline]
    fn find(&self, key: &Key<'_>) -> Option<Handle> {
        let slab = &self.slab;
        let is_match = |handle| key_of(slab, handle) == key.bytes();
        self.index.find(slab, key.range(), key.hash(), is_match)
    }

    /// The items as the index sees them.
    fn indexed(config: &Config) -> Indexed {
        Indexed {
            hasher: config.hasher,
            range_of: config.range_of,
        }
    }

    /// The list that an item is in.
    #[inline]
    fn list_of(&self, handle: Handle, meta: Meta) -> ListId {
        let kind = if meta.has(Meta::MAIN) {
            ListKind::Main
        } else {
            ListKind::First
        };
        ListId::new(self.list_class_of(handle, meta), kind)
    }

    /// The class of that list. Its chunk is of the class that fits it best, so the item tells it
    /// without a look at its page.
    #[inline]
    fn list_class_of(&self, handle: Handle, meta: Meta) -> ClassId {
        if meta.has(Meta::CHAIN) {
            ClassId::from_index(meta.value_field())
        } else {
            let layout = Layout::of(&self.slab, handle, meta);
            ClassId::fitting(layout.bytes()).expect("an item fits its chunk")
        }
    }
}

/// What the index asks about items.
struct Indexed {
    hasher: KeyHasher,
    range_of: fn(&[u8]) -> u16,
}

impl Items for Indexed {
    fn hash(&self, slab: &Slab, handle: Handle) -> u64 {
        self.hasher.hash(key_of(slab, handle))
    }

    fn range(&self, slab: &Slab, handle: Handle) -> u16 {
        (self.range_of)(key_of(slab, handle))
    }

    fn prefetch(&self, slab: &Slab, handle: Handle) {
        slab.prefetch(handle);
    }
}
