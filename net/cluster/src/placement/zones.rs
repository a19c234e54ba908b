//! Which nodes may fail together.

use crate::{Member, Zone};

use super::Rank;

/// The zone of each node.
pub(super) struct Zones {
    /// By rank: a number that those share who share a zone with a name.
    numbers: Vec<Option<usize>>,
}

impl Zones {
    pub(super) fn new(members: &[Member]) -> Self {
        let number = |member: &Member| {
            let has_name = member.zone != Zone::default();
            let mut all = members.iter();
            let first = all.position(|other| other.zone == member.zone);
            first.filter(|_| has_name)
        };
        Self {
            numbers: members.iter().map(number).collect(),
        }
    }

    /// Whether two nodes are in one zone.
    pub(super) fn are_mates(&self, one: Rank, other: Rank) -> bool {
        let number = self.numbers[usize::from(one)];
        number.is_some() && number == self.numbers[usize::from(other)]
    }
}
