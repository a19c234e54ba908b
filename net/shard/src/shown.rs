//! Which items of a shard count where all keys are asked for: DBSIZE, KEYS, SCAN, RANDOMKEY and INFO.
//!
//! Without replication all of them. With it those of ranges whose primary this node is: what it holds
//! as a replica is shown by its primary.

use fulmar_cluster::Range;
use fulmar_engine::Item;

use crate::{Now, Shard};

impl Shard {
    /// Whether a key that is here counts.
    #[inline]
    pub fn shows(&self, key: &[u8]) -> bool {
        self.replication()
            .is_none_or(|replication| replication.is_primary(Range::of(key)))
    }

    /// Number of items that count, expired ones that aren't reclaimed yet included. O(1), or O(ranges)
    /// with replication.
    pub fn shown_len(&self) -> usize {
        match self.replication() {
            None => self.cache.len(),
            Some(replication) => replication
                .primary_ranges()
                .map(|range| self.cache.range_len(range.index()))
                .sum(),
        }
    }

    /// A live item that counts, chosen at random. Bounded work, so that it may miss when nearly all
    /// have expired and wait to be reclaimed.
    pub fn random_shown(&mut self, now: Now) -> Option<Item<'_>> {
        let random = self.next_random();
        let Some(replication) = self.replication() else {
            return self.cache.random(random, now.time);
        };
        let count = |range: Range| self.cache.range_len(range.index());
        let total: usize = replication.primary_ranges().map(count).sum();
        // Weighted by size: the range that holds the nth of all items. If all of its items are
        // expired, another one answers.
        let mut nth = usize::try_from(random % total.max(1) as u64).expect("below a usize");
        let is_behind = |range: &Range| {
            let is_before = nth >= count(*range);
            nth -= if is_before { count(*range) } else { nth };
            is_before
        };
        let behind = replication.primary_ranges().skip_while(is_behind);
        let mut ranges = behind.chain(replication.primary_ranges());
        ranges.find_map(|range| {
            self.cache
                .random_of_range(range.index(), random.rotate_left(32), now.time)
        })
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::replication::{Limits, Replication};
    use fulmar_cluster::topology::Parts;
    use fulmar_cluster::{
        ClusterId, HomeTable, Incarnation, Member, NodeId, RANGES_COUNT, Range, ShardIndex,
        Topology, Zone,
    };
    use fulmar_engine::{Config, Key, KeyHasher, Time};
    use fulmar_protocol::command::DataCommand;
    use fulmar_protocol::resp::{Encoder, RespVersion};

    use crate::{Now, Placement, Shard, Single, execute};

    const HASHER: KeyHasher = KeyHasher::new([1, 2, 3, 4]);
    const NOW: Now = Now {
        time: Time(1),
        unix_ms: 1,
    };

    /// A shard that is the primary of every third range, and has an item in each of all ranges.
    fn shard() -> Shard {
        let mut config = Config::new(16 << 20, HASHER);
        config.ranges_count = RANGES_COUNT;
        config.range_of = |key| Range::of(key).index();
        let mut shard = Shard::new(ShardIndex(0), config, 7).expect("the limits are sane");
        let member = |id| Member {
            id: NodeId(id),
            incarnation: Incarnation(1),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let mut parts = Topology::founded(ClusterId(1), member(1), 1).to_parts();
        parts.members.push(member(2));
        for (number, copies) in parts.table.iter_mut().enumerate() {
            if number % 3 > 0 {
                copies.primary = NodeId(2);
                copies.replicas.push(NodeId(1));
            }
        }
        let topology = Topology::new(Parts { ..parts }).expect("consistent");
        let homes = HomeTable::even(1);
        let limits = Limits::for_memory(16 << 20);
        let replication =
            Replication::new(NodeId(1), Incarnation(1), ShardIndex(0), &homes, limits);
        shard.start_replication(replication, HASHER);
        shard.replicate(NOW, |replication, store| {
            replication.handle_topology(&topology, store);
        });
        for number in 0..40_000u32 {
            let key = number.to_le_bytes();
            let key = Key::new(&key, Range::of(&key).index(), HASHER.hash(&key));
            let never = fulmar_engine::Expiry::Never;
            shard.cache.set(&key, b"v", never, Time(0)).expect("fits");
        }
        shard
    }

    fn reply(shard: &mut Shard, command: &DataCommand<'_>) -> Vec<u8> {
        let homes = HomeTable::even(1);
        let placement = Placement {
            homes: &homes,
            hasher: HASHER,
        };
        let mut reply = Vec::new();
        let mut sink = Encoder::new(&mut reply, RespVersion::Resp2);
        let mut shards = Single::new(shard, None, placement);
        execute(command, &mut shards, &mut [], NOW, &mut sink);
        reply
    }

    #[test]
    fn items_of_replicas_do_not_count() {
        let mut shard = shard();
        let is_own = |number: &u32| Range::of(&number.to_le_bytes()).index().is_multiple_of(3);
        let count = (0..40_000).filter(is_own).count();
        assert_eq!(shard.shown_len(), count);
        assert_eq!(shard.stats(NOW).shown_items, count as u64);
        assert_eq!(
            reply(&mut shard, &DataCommand::DbSize),
            format!(":{count}\r\n").as_bytes()
        );
        let head = format!("*{count}\r\n");
        let keys = reply(&mut shard, &DataCommand::Keys { pattern: b"*" });
        assert!(keys.starts_with(head.as_bytes()));
        let scan = DataCommand::Scan {
            cursor: 0,
            pattern: None,
            count: 1_000,
            of_type: None,
        };
        let scanned = reply(&mut shard, &scan);
        let scanned = String::from_utf8_lossy(&scanned).matches("$4").count();
        assert!((100..600).contains(&scanned), "{scanned}");
        let mut random = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let key = shard.random_shown(NOW).expect("there are some").key();
            assert_eq!(Range::of(key).index() % 3, 0);
            random.insert(key.to_vec());
        }
        assert!(random.len() > 450, "{}", random.len());
    }
}
