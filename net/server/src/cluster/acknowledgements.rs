//! How many followers have acknowledged what was written to some ranges whose primary this node is.
//!
//! Counted for what was written before the first look. A range that enough have acknowledged is not
//! looked at again, so that a look costs what is still open.

use fulmar_cluster::replication::Write;
use fulmar_cluster::{Epoch, Range, RangeSet, ShardIndex};
use fulmar_shard::Placement;

use crate::token::Tokens;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    open: Vec<(Range, Option<Write>)>,
    /// Terms that began later are not those of the writes in question.
    epoch: Epoch,
    needed: usize,
    /// The least of what counts for the ranges that are done.
    least_done: usize,
    least: usize,
}

impl Acknowledgements {
    /// `needed` followers of each of `ranges`, whose terms began by `epoch`.
    pub(crate) fn new(ranges: &RangeSet, epoch: Epoch, needed: usize) -> Self {
        Self {
            open: ranges.iter().map(|range| (range, None)).collect(),
            epoch,
            needed,
            least_done: usize::MAX,
            least: 0,
        }
    }

    /// The shards that the next look needs.
    pub(crate) fn shards(&self, placement: &Placement<'_>) -> impl Iterator<Item = ShardIndex> {
        let homes = self
            .open
            .iter()
            .map(|(range, _)| placement.homes.home(*range));
        let mut homes: Vec<ShardIndex> = homes.collect();
        homes.sort_unstable();
        homes.dedup();
        homes.into_iter()
    }

    /// Looks at the shards, whose tokens are held.
    pub(crate) fn look(&mut self, placement: &Placement<'_>, tokens: &mut Tokens<'_>) {
        let (needed, epoch) = (self.needed, self.epoch);
        let (mut least_done, mut least) = (self.least_done, usize::MAX);
        self.open.retain_mut(|(range, write)| {
            let shard = tokens.shard(placement.homes.home(*range));
            let count = shard.replication().map_or(0, |replication| {
                let position = replication
                    .position(*range)
                    .filter(|_| replication.is_primary(*range));
                if write.is_none()
                    && let Some(position) = position
                {
                    *write = Some(Write {
                        range: *range,
                        term: position.term,
                        seq: position.seq,
                    });
                }
                let write = write.filter(|write| write.term <= epoch);
                write.map_or(0, |write| replication.acknowledged_by(write))
            });
            let is_done = count >= needed;
            let of = if is_done { &mut least_done } else { &mut least };
            *of = (*of).min(count);
            !is_done
        });
        self.least_done = least_done;
        self.least = least_done.min(least);
    }

    /// Whether there are enough of every range.
    pub(crate) fn is_enough(&self) -> bool {
        self.open.is_empty()
    }

    /// How many have acknowledged everything, at the last look.
    pub(crate) fn count(&self) -> usize {
        self.least
    }
}
