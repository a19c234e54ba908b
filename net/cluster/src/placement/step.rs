//! One step from the table of a topology to its target.

use crate::{Copies, NodeId, Range, Topology};

/// Most learners that a node has at a time, by default.
pub const LEARNERS_PER_NODE_MAX: usize = 32;
/// Most ranges that change their primary in one step, by default: their writes are held meanwhile.
pub const HANDOVERS_PER_STEP_MAX: usize = 128;

/// How much one step may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most learners that a receiving node has at a time.
    pub learners_per_node_max: usize,
    /// Most ranges that change their primary.
    pub handovers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            learners_per_node_max: LEARNERS_PER_NODE_MAX,
            handovers_max: HANDOVERS_PER_STEP_MAX,
        }
    }
}

/// The table of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// By range.
    pub table: Vec<Copies>,
    /// The ranges whose primary changes, by rising index: before this is decided, the writes of each
    /// are held and its next primary catches up.
    pub handovers: Vec<Range>,
}

/// The next table on the way to the target, or `None` if nothing can be done now: the target is
/// reached, or copies are not complete yet. `is_complete` tells of a learner whether its copy is.
#[must_use]
pub fn next_table(
    topology: &Topology,
    is_complete: &dyn Fn(Range, NodeId) -> bool,
    limits: Limits,
) -> Option<Step> {
    let _ = (topology, is_complete, limits);
    None
}
