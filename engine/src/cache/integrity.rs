//! The complete check: every invariant of the crate's documentation, over every chunk.

use std::collections::HashSet;

use crate::cache::Cache;
use crate::cache::chain::SLACK_DIVISOR;
use crate::eviction::Eviction;
use crate::item::{Extensions, ItemValue, Kind, Layout, Meta, SEGMENT_HEADER_BYTES, key_of};
use crate::order::ListId;
use crate::slab::{ClassId, Handle};

impl Cache {
    /// Panics with what is wrong, if anything is. Slow: O(everything), allocates.
    pub fn check_integrity(&self) {
        let pins = self.slab.check_integrity();
        let mut owned = Vec::new();
        self.check_items(&mut owned);
        self.check_lists();
        self.wheel.check_integrity(&self.slab);
        let leased_chunks = self.check_leases(&mut owned);
        assert_eq!(
            pins,
            leased_chunks + self.uncommitted_count,
            "pinned chunks"
        );
        self.check_chunks(&owned);
        let sealed = self.slab.all_chunks();
        let sealed = { sealed }.find(|&chunk| self.slab.is_page_sealed(chunk));
        assert!(
            sealed.is_none() || self.evacuation.is_some(),
            "page was left half empty"
        );
    }

    /// Every index entry is an item of its key; collects its chunks.
    fn check_items(&self, owned: &mut Vec<Handle>) {
        self.index
            .check_integrity(&self.slab, &Self::indexed(&self.config));
        let mut keys = HashSet::new();
        let (mut key_bytes, mut value_bytes, mut with_ttl) = (0, 0, 0);
        for (range, handle) in self.index.iter(&self.slab) {
            let meta = self.slab.meta(handle);
            assert_eq!(meta.kind(), Kind::Item, "index entry isn't an item");
            let key = key_of(&self.slab, handle);
            assert!(keys.insert(key), "key is in the index twice");
            assert_eq!((self.config.range_of)(key), range, "item in a wrong range");
            key_bytes += key.len() as u64;
            value_bytes += ItemValue::new(&self.slab, handle, meta).len() as u64;
            with_ttl += usize::from(meta.has(Meta::TTL));
            let version = Extensions::version(&self.slab, handle, meta);
            let given = self.config.first_version..self.next_version;
            assert!(
                version.is_none_or(|version| given.contains(&version)),
                "version that was never given"
            );
            self.check_value(handle, meta, owned);
        }
        assert_eq!(key_bytes, self.stats.key_bytes, "key bytes");
        assert_eq!(value_bytes, self.stats.value_bytes, "value bytes");
        assert_eq!(with_ttl, self.wheel.count(), "items with a deadline");
    }

    /// An item fits its chunk, its segments are whole; collects both.
    fn check_value(&self, handle: Handle, meta: Meta, owned: &mut Vec<Handle>) {
        owned.push(handle);
        let layout = Layout::of(&self.slab, handle, meta);
        let chunk_bytes = self.slab.class_of(handle).chunk_bytes();
        assert!(
            layout.bytes() <= chunk_bytes,
            "item is larger than its chunk"
        );
        if !meta.has(Meta::CHAIN) {
            let class = ClassId::fitting(layout.bytes());
            assert_eq!(
                class,
                Some(self.slab.class_of(handle)),
                "item in a wrong class"
            );
            return;
        }
        let chain = Extensions::chain(&self.slab, handle, meta);
        let (mut before, mut sum, mut largest) = (handle, 0, None);
        for segment in self.segments(handle, meta) {
            let segment_meta = self.slab.meta(segment);
            assert_eq!(
                segment_meta.kind(),
                Kind::Segment,
                "chain of something else"
            );
            assert!(
                !segment_meta.has(Meta::UNCOMMITTED),
                "committed segment says it isn't"
            );
            let leased = segment_meta.has(Meta::SEGMENT_LEASED);
            assert_eq!(leased, meta.has(Meta::LEASED), "lease of a segment");
            assert_eq!(
                self.slab.previous(segment),
                before,
                "chain links aren't mutual"
            );
            self.check_room(segment, segment == chain.last, chain.len);
            sum += segment_meta.payload_bytes();
            largest = largest.max(Some(self.slab.class_of(segment)));
            owned.push(segment);
            before = segment;
        }
        assert_eq!(sum, chain.len, "length of a chain");
        assert_eq!(before, chain.last, "last segment");
        assert_eq!(self.slab.next(before), handle, "link of the last segment");
        assert_eq!(
            largest.map(ClassId::index),
            Some(meta.value_field()),
            "list of a chain"
        );
    }

    /// All segments are full but the last, and that has little room left.
    fn check_room(&self, segment: Handle, is_last: bool, value_len: usize) {
        let (meta, class) = (self.slab.meta(segment), self.slab.class_of(segment));
        assert!(meta.payload_bytes() > 0, "empty segment");
        let bytes = SEGMENT_HEADER_BYTES + meta.payload_bytes();
        let room = class.chunk_bytes() - bytes;
        if !is_last {
            assert!(class >= ClassId::SEGMENT_SMALL, "small segment in a chain");
            assert_eq!(room, 0, "segment that isn't full");
        }
        let is_cut = ClassId::fitting(bytes) == Some(class) || room * SLACK_DIVISOR <= value_len;
        assert!(is_cut || meta.has(Meta::UNCUT), "last segment wasn't cut");
    }

    /// Every item is in the list of its class and kind; only S3-FIFO marks items.
    fn check_lists(&self) {
        let mut count = 0;
        self.lists.check_integrity(&self.slab);
        assert_eq!(
            self.ghost.is_some(),
            self.config.eviction == Eviction::S3Fifo,
            "ghost"
        );
        for list in ClassId::all().flat_map(ListId::of_class) {
            for handle in self.lists.iter(&self.slab, list) {
                let meta = self.slab.meta(handle);
                assert_eq!(meta.kind(), Kind::Item, "list of something else");
                assert_eq!(self.list_of(handle, meta), list, "item in a wrong list");
                assert!(
                    self.ghost.is_some() || !meta.has(Meta::STANDING),
                    "marked, though the policy has no use for it"
                );
            }
            count += self.lists.count(list);
        }
        assert_eq!(count, self.index.len(), "items in lists");
    }

    /// Leases are of items and zombies; collects the zombies' chunks, counts the leased ones.
    fn check_leases(&self, owned: &mut Vec<Handle>) -> usize {
        let (mut chunks, mut zombies, mut bytes) = (0, 0, 0);
        for handle in self.leases.handles() {
            let meta = self.slab.meta(handle);
            assert!(meta.has(Meta::LEASED), "lease of an unleased item");
            chunks += 1 + self.segments(handle, meta).count();
            bytes += ItemValue::new(&self.slab, handle, meta).len() as u64;
            match meta.kind() {
                Kind::Item => {}
                Kind::Zombie => {
                    zombies += 1;
                    self.check_value(handle, meta, owned);
                }
                Kind::Free | Kind::Segment => panic!("lease of something else"),
            }
        }
        let says_leased = |&handle: &Handle| {
            let meta = self.slab.meta(handle);
            matches!(meta.kind(), Kind::Item | Kind::Zombie) && meta.has(Meta::LEASED)
        };
        let leased = self.slab.all_chunks().filter(says_leased).count();
        assert_eq!(leased, self.leases.len(), "leased items");
        assert_eq!(zombies, self.stats.zombies, "zombies");
        assert_eq!(bytes, self.stats.leased_bytes, "leased bytes");
        chunks
    }

    /// Every chunk in use belongs to exactly one item or zombie, or is uncommitted.
    fn check_chunks(&self, owned: &[Handle]) {
        let set: HashSet<u32> = owned.iter().map(|handle| handle.0).collect();
        assert_eq!(set.len(), owned.len(), "chunk has two owners");
        let (mut found, mut uncommitted) = (0, 0);
        for chunk in self.slab.all_chunks() {
            let meta = self.slab.meta(chunk);
            match meta.kind() {
                Kind::Free => assert!(!set.contains(&chunk.0), "free chunk has an owner"),
                Kind::Segment if meta.has(Meta::UNCOMMITTED) => uncommitted += 1,
                Kind::Item | Kind::Zombie | Kind::Segment => {
                    assert!(set.contains(&chunk.0), "chunk is lost: {:?}", meta.kind());
                    found += 1;
                }
            }
        }
        assert_eq!(found, owned.len(), "chunk outside its page");
        assert_eq!(uncommitted, self.uncommitted_count, "uncommitted segments");
    }
}
