//! Where the copies of the ranges should be, and the steps that lead there.
//!
//! Pure: a topology in, a table out. The table is state that is carried from epoch to epoch, so a
//! change of members moves only what the balance asks for. Who died, and who takes over its ranges,
//! is `decision`'s; this starts from what that left: members without ranges, and ranges with too few
//! or too many copies.
//!
//! ```text
//! topology --target--> where everything should be
//!          --next_table--> one step: learners added, complete ones made replicas, primaries handed
//!                          over, surplus copies dropped; None when the target is reached
//! ```
//!
//! # What the target promises
//! 1. A range has `replicas_wanted + 1` copies, or one on each member if they are fewer.
//! 2. The primaries of two nodes, each divided by its weight, differ by at most 1; so do all copies,
//!    unless a node holds a copy of every range.
//! 3. Within that, as few copies are new as can be.
//! 4. Copies of a range are in different zones where 2 and 3 leave the choice. [`Shortage`] counts
//!    where they are not.

mod assignment;
mod exchange;
mod held;
mod plan;
mod quota;
mod ring;
mod shortage;
mod step;
#[cfg(test)]
mod tests;
mod transfers;
mod zones;

use crate::topology::CopyList;
use crate::{Copies, Topology};

pub use shortage::Shortage;
pub use step::{HANDOVERS_PER_STEP_MAX, LEARNERS_PER_NODE_MAX, Limits, Step, next_table};

/// A member's place in the order of seniority.
type Rank = u16;

/// Where every range should be, by range: what the steps of [`next_table`] lead to. It has primaries
/// and replicas, and no learners. The same topology gives the same target on every node.
#[must_use]
pub fn target(topology: &Topology) -> Vec<Copies> {
    let id = |rank: Rank| topology.members()[usize::from(rank)].id;
    let wanted = plan::plan(topology);
    let ranges = topology.ranges().zip(wanted);
    ranges
        .map(|((_, copies), wanted)| {
            let primary = id(wanted[0]);
            let is_changed = primary != copies.primary;
            Copies {
                primary,
                replicas: wanted[1..].iter().map(|&rank| id(rank)).collect(),
                learners: CopyList::new(),
                term: if is_changed {
                    topology.epoch().next()
                } else {
                    copies.term
                },
            }
        })
        .collect()
}
