//! What a connection has written, as far as WAIT asks: in which ranges, and whether their terms last.
//!
//! No positions are kept: WAIT waits for all that was written to these ranges before it, by whomever.
//! That takes 280 bytes a connection, however much it writes, and none while it only reads.

use fulmar_cluster::{Epoch, RANGES_COUNT, Range, Topology};

const WORDS: usize = RANGES_COUNT as usize / 64;

/// Some ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeSet([u64; WORDS]);

impl RangeSet {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    #[inline]
    pub(crate) fn insert(&mut self, range: Range) {
        let index = usize::from(range.index());
        self.0[index / 64] |= 1 << (index % 64);
    }

    pub(crate) fn contains(&self, range: Range) -> bool {
        let index = usize::from(range.index());
        self.0[index / 64] & 1 << (index % 64) != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        Range::all().filter(|&range| self.contains(range))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut set = Self::EMPTY;
        let (words, rest) = bytes.as_chunks();
        if words.len() != WORDS || !rest.is_empty() {
            return None;
        }
        for (word, bytes) in set.0.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(set)
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    ranges: RangeSet,
    /// Their terms are known to last up to this epoch.
    epoch: Epoch,
    /// Some of it was written in a term that ended before it was known to be acknowledged, or by no
    /// decision of the cluster: no acknowledgement can come any more.
    is_lost: bool,
    /// WAIT has told that it is acknowledged, or lost. With the next write all begins anew.
    is_told: bool,
}

impl Writes {
    pub(crate) fn new(topology: &Topology) -> Self {
        Self {
            ranges: RangeSet::EMPTY,
            epoch: topology.epoch(),
            is_lost: false,
            is_told: false,
        }
    }

    /// A write to `range` is executed, or about to be; `topology` is not newer than the one by which
    /// it is executed.
    #[inline]
    pub(crate) fn note(&mut self, range: Range, topology: &Topology) {
        if self.is_told {
            *self = Self::new(topology);
        }
        if self.epoch != topology.epoch() || topology.branch().is_some() {
            self.follow(topology);
        }
        self.ranges.insert(range);
        self.is_lost |= topology.branch().is_some();
    }

    /// Looks whether the terms have lasted up to `topology`.
    #[cold]
    pub(crate) fn follow(&mut self, topology: &Topology) {
        let is_acknowledged = self.is_told && !self.is_lost;
        let has_ended = |range| topology.copies(range).term > self.epoch;
        if !is_acknowledged && self.epoch != topology.epoch() {
            self.is_lost |= self.ranges.iter().any(has_ended);
        }
        self.epoch = topology.epoch();
    }

    /// What WAIT asks about.
    pub(crate) fn ranges(&self) -> &RangeSet {
        &self.ranges
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// WAIT answers so many.
    pub(crate) fn note_told(&mut self, replicas: usize) {
        self.is_told |= replicas > 0 || self.is_lost;
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::topology::Parts;
    use fulmar_cluster::{ClusterId, Epoch, Incarnation, Member, NodeId, Range, Topology, Zone};

    use super::{RangeSet, Writes};

    /// The topology of an epoch in which some ranges' terms began then.
    fn topology(epoch: u64, changed: &[u16]) -> Topology {
        let member = Member {
            id: NodeId(1),
            incarnation: Incarnation(1),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let mut parts = Topology::founded(ClusterId(1), member, 1).to_parts();
        for &range in changed {
            parts.table[usize::from(range)].term = Epoch(epoch);
        }
        Topology::new(Parts {
            epoch: Epoch(epoch),
            ..parts
        })
        .expect("consistent")
    }

    fn range(index: u16) -> Range {
        Range::from_index(index).expect("below the count")
    }

    #[test]
    fn a_set_of_ranges_survives_its_encoding() {
        let mut set = RangeSet::EMPTY;
        assert!(set.is_empty());
        for index in [0, 63, 64, 2_047] {
            set.insert(range(index));
        }
        let bytes = set.encode();
        assert_eq!(bytes.len(), 256);
        assert_eq!(RangeSet::decode(&bytes), Some(set.clone()));
        assert_eq!(RangeSet::decode(&bytes[1..]), None);
        let indices: Vec<u16> = set.iter().map(Range::index).collect();
        assert_eq!(indices, [0, 63, 64, 2_047]);
    }

    #[test]
    fn what_was_written_in_a_term_that_ended_is_lost_until_that_was_told() {
        let mut writes = Writes::new(&topology(1, &[]));
        writes.note(range(5), &topology(1, &[]));
        writes.follow(&topology(2, &[6]));
        assert!(!writes.is_lost(), "another range");
        writes.follow(&topology(3, &[5]));
        assert!(writes.is_lost());
        writes.note(range(5), &topology(3, &[5]));
        assert!(writes.is_lost(), "what came before is not told yet");
        writes.note_told(0);
        assert!(writes.is_lost(), "asked again, it is told again");
        writes.note(range(7), &topology(3, &[5]));
        assert!(!writes.is_lost());
        assert_eq!(
            writes.ranges().iter().map(Range::index).collect::<Vec<_>>(),
            [7]
        );
    }

    #[test]
    fn what_was_acknowledged_outlives_its_term() {
        let mut writes = Writes::new(&topology(1, &[]));
        writes.note(range(5), &topology(1, &[]));
        writes.note_told(0);
        writes.note(range(6), &topology(1, &[]));
        assert!(writes.ranges().contains(range(5)), "nothing was told of it");
        writes.note_told(1);
        writes.follow(&topology(2, &[5]));
        assert!(!writes.is_lost());
        writes.note(range(8), &topology(2, &[5]));
        assert!(!writes.ranges().contains(range(5)));
    }
}
