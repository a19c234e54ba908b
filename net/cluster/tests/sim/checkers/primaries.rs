//! One writable primary per range and decided term.

use std::collections::BTreeMap;

use fulmar_cluster::{ClusterId, Incarnation, NodeId, Range, Term};

use super::Verdict;

#[derive(Debug, Default)]
pub(crate) struct Primaries {
    writers: BTreeMap<(ClusterId, Range, Term), (NodeId, Incarnation)>,
}

impl Primaries {
    /// A node executed a write, with a quorum behind it.
    pub(crate) fn wrote(
        &mut self,
        cluster: ClusterId,
        range: Range,
        term: Term,
        writer: (NodeId, Incarnation),
    ) -> Verdict {
        let first = *self.writers.entry((cluster, range, term)).or_insert(writer);
        if first != writer {
            return Err(format!(
                "range {} has two primaries in term {}: {first:?} and {writer:?}",
                range.index(),
                term.0
            ));
        }
        Ok(())
    }
}
