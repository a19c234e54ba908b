//! What a connection has written, as far as WAIT asks: in which ranges, and whether it may be lost.
//!
//! No positions are kept: WAIT waits for all that was written to these ranges before it, by whomever.
//! That takes 280 bytes a connection, however much it writes, and none while it only reads.

use fulmar_cluster::{Epoch, Range, RangeSet};

use super::view::View;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Writes {
    ranges: RangeSet,
    /// What was written to them is known to last up to this epoch.
    epoch: Epoch,
    /// Some of it was written to a primary that died before it was known to be acknowledged, or by no
    /// decision of the cluster: no acknowledgement can come any more.
    is_lost: bool,
    /// WAIT has told that it is acknowledged, or lost. With the next write all begins anew.
    is_told: bool,
}

impl Writes {
    pub(crate) fn new(view: &View) -> Self {
        Self {
            ranges: RangeSet::EMPTY,
            epoch: view.topology().epoch(),
            is_lost: false,
            is_told: false,
        }
    }

    /// A write to `range` is executed, or about to be; `view` is not newer than the topology by which
    /// it is executed.
    #[inline]
    pub(crate) fn note(&mut self, range: Range, view: &View) {
        if self.is_told {
            *self = Self::new(view);
        }
        let topology = view.topology();
        if self.epoch != topology.epoch() {
            self.follow(view);
        }
        self.ranges.insert(range);
        self.is_lost |= topology.branch().is_some();
    }

    /// Looks whether what was written has lasted up to `view`.
    #[cold]
    pub(crate) fn follow(&mut self, view: &View) {
        let is_acknowledged = self.is_told && !self.is_lost;
        let is_broken = |range| view.last_break(range) > self.epoch;
        if !is_acknowledged {
            self.is_lost |= self.ranges.iter().any(is_broken);
        }
        self.epoch = view.topology().epoch();
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
    use crate::cluster::view::View;
    use crate::cluster::view::tests::{view_behind, view_of};

    /// Views of epochs 1, 2, ...; in each the primaries of some ranges have died.
    fn views(died: &[&[u16]]) -> Vec<View> {
        let member = |incarnation| Member {
            id: NodeId(1),
            incarnation: Incarnation(incarnation),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let mut parts = Topology::founded(ClusterId(1), member(1), 1).to_parts();
        let mut views = vec![view_of(
            NodeId(1),
            Topology::new(parts.clone()).expect("consistent"),
        )];
        for (epoch, ranges) in (2..).zip(died) {
            parts.epoch = Epoch(epoch);
            parts.members[0] = member(epoch);
            for &range in *ranges {
                parts.table[usize::from(range)].term = Epoch(epoch);
            }
            let topology = Topology::new(Parts { ..parts.clone() }).expect("consistent");
            views.push(view_behind(views.last(), NodeId(1), topology));
        }
        views
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
    fn what_a_dead_primary_had_is_lost_until_that_was_told() {
        let views = views(&[&[6], &[5]]);
        let mut writes = Writes::new(&views[0]);
        writes.note(range(5), &views[0]);
        writes.follow(&views[1]);
        assert!(!writes.is_lost(), "another range");
        writes.follow(&views[2]);
        assert!(writes.is_lost());
        writes.note(range(5), &views[2]);
        assert!(writes.is_lost(), "what came before is not told yet");
        writes.note_told(0);
        assert!(writes.is_lost(), "asked again, it is told again");
        writes.note(range(7), &views[2]);
        assert!(!writes.is_lost());
        let ranges: Vec<u16> = writes.ranges().iter().map(Range::index).collect();
        assert_eq!(ranges, [7]);
    }

    #[test]
    fn what_was_acknowledged_outlives_its_primary() {
        let views = views(&[&[5]]);
        let mut writes = Writes::new(&views[0]);
        writes.note(range(5), &views[0]);
        writes.note_told(0);
        writes.note(range(6), &views[0]);
        assert!(writes.ranges().contains(range(5)), "nothing was told of it");
        writes.note_told(1);
        writes.follow(&views[1]);
        assert!(!writes.is_lost());
        writes.note(range(8), &views[1]);
        assert!(!writes.ranges().contains(range(5)));
    }
}
