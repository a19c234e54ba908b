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

mod step;

use crate::{Copies, Topology};

pub use step::{HANDOVERS_PER_STEP_MAX, LEARNERS_PER_NODE_MAX, Limits, Step, next_table};

/// Where every range should be, by range: what the steps of [`next_table`] lead to. It has primaries
/// and replicas, and no learners. The same topology gives the same target on every node.
#[must_use]
pub fn target(topology: &Topology) -> Vec<Copies> {
    topology
        .ranges()
        .map(|(_, copies)| copies.clone())
        .collect()
}
