//! What a table lacks: a status to report, not an error.

use crate::{Topology, Zone};

use super::plan::copies_wanted;

/// What the ranges of a topology lack of what is wanted of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Ranges that have fewer complete copies than replicas are wanted beside the primary.
    pub ranges_short_of_copies: usize,
    /// Ranges with two complete copies in one zone.
    pub ranges_sharing_a_zone: usize,
    /// Ranges with copies that are being filled.
    pub ranges_moving: usize,
}

impl Shortage {
    /// Counts. Fewer members than copies wanted are a shortage, too. O(ranges * members).
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let wanted = usize::from(topology.replicas_wanted()) + 1;
        debug_assert!(copies_wanted(topology) <= wanted);
        let mut shortage = Self::default();
        for (_, copies) in topology.ranges() {
            let complete = 1 + copies.replicas.len();
            shortage.ranges_short_of_copies += usize::from(complete < wanted);
            shortage.ranges_moving += usize::from(!copies.learners.is_empty());
            let holders = copies.nodes().take(complete);
            let mut zones: Vec<&Zone> = holders
                .filter_map(|node| topology.member(node))
                .map(|member| &member.zone)
                .filter(|zone| **zone != Zone::default())
                .collect();
            zones.sort_unstable();
            let shares_zone = zones.windows(2).any(|two| two[0] == two[1]);
            shortage.ranges_sharing_a_zone += usize::from(shares_zone);
        }
        shortage
    }
}
