//! What must hold: copies are equal when nothing moves, and whoever acknowledged has what it acknowledged.

use std::collections::BTreeMap;

use fulmar_cluster::Range;
use fulmar_cluster::replication::{Digest, DigestWalk};
use fulmar_engine::Time;

use crate::world::{Node, World};

/// Items with their values and deadlines.
pub(crate) type Items = BTreeMap<Vec<u8>, (Vec<u8>, Option<Time>)>;

/// What a node holds of a range.
pub(crate) fn items(node: &Node, range: Range, now: Time) -> Items {
    let mut found = Items::new();
    let mut cursor = 0;
    loop {
        let cache = &node.shard(range).cache;
        cursor = cache.walk_range(range.index(), cursor, 100, now, &mut |item| {
            let mut value = Vec::new();
            item.value().copy_to(0..usize::MAX, &mut value);
            found.insert(item.key().to_vec(), (value, item.deadline()));
        });
        if cursor == 0 {
            return found;
        }
    }
}

impl World {
    /// After `settle`: each copy holds what its primary does, deadlines differ by at most so much, and
    /// nobody else holds anything.
    pub(crate) fn assert_copies_equal(&mut self, deadline_slack_ms: u64) {
        for range in self.ranges.clone() {
            let copies = self.newest.copies(range).clone();
            let first = self.index_of(copies.primary);
            let expected = items(&self.nodes[first], range, self.now.time);
            let position = self.nodes[first].position(range).expect("it is held");
            assert!(position.is_complete);
            let digest = self.digest(first, range);
            for index in 0..self.nodes.len() {
                let node = &self.nodes[index];
                if !node.is_alive {
                    continue;
                }
                let held = items(node, range, self.now.time);
                if !copies.is_held_by(node.id) {
                    assert!(held.is_empty(), "{} holds {range:?}", node.id);
                    continue;
                }
                let at = node.position(range);
                assert_eq!(at, Some(position), "{} of {range:?}", node.id);
                assert_equal(&held, &expected, deadline_slack_ms, node, range);
                assert_eq!(self.digest(index, range), digest);
            }
        }
    }

    pub(crate) fn assert_integrity(&self) {
        for shard in self.nodes.iter().flat_map(|node| &node.shards) {
            shard.cache.check_integrity();
        }
    }

    fn digest(&mut self, index: usize, range: Range) -> Digest {
        let now = self.now;
        let node = &mut self.nodes[index];
        let shard = node.shard_mut(range);
        let taken = shard.replicate(now, |replication, store| {
            let mut walk = DigestWalk::new(range, replication).expect("it is whole");
            loop {
                let step = walk.step(replication, store).expect("nothing moves");
                if let Some(digest) = step {
                    return digest;
                }
            }
        });
        taken.expect("it is replicated")
    }
}

fn assert_equal(held: &Items, expected: &Items, slack_ms: u64, node: &Node, range: Range) {
    let about = || format!("{} of {range:?}", node.id);
    for (key, (value, deadline)) in expected {
        let name = key.escape_ascii();
        let Some((other, other_deadline)) = held.get(key) else {
            panic!("{} lacks {:.40}", about(), name.to_string());
        };
        assert!(
            value == other,
            "{} has {} bytes ({}) of {name}, not {} ({})",
            about(),
            other.len(),
            other[..other.len().min(30)].escape_ascii(),
            value.len(),
            value[..value.len().min(30)].escape_ascii(),
        );
        match (deadline, other_deadline) {
            (None, None) => {}
            (Some(one), Some(other)) => {
                assert!(one.0.abs_diff(other.0) <= slack_ms, "{} {name}", about());
            }
            _ => panic!("{} {name}: {deadline:?} {other_deadline:?}", about()),
        }
    }
    for key in held.keys() {
        assert!(
            expected.contains_key(key),
            "{} has {}",
            about(),
            key.escape_ascii()
        );
    }
}
