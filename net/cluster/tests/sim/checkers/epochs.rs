//! One decided topology per epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_cluster::{ClusterId, Epoch, Topology};

use super::Verdict;

#[derive(Debug, Default)]
pub(crate) struct Epochs {
    decided: BTreeMap<(ClusterId, Epoch), Arc<Topology>>,
}

impl Epochs {
    /// A node installed this.
    pub(crate) fn installed(&mut self, topology: &Arc<Topology>) -> Verdict {
        if topology.branch().is_some() {
            return Ok(());
        }
        let key = (topology.cluster(), topology.epoch());
        let first = self
            .decided
            .entry(key)
            .or_insert_with(|| Arc::clone(topology));
        if !Arc::ptr_eq(first, topology) && first != topology {
            return Err(format!("epoch {} has two topologies", topology.epoch().0));
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.decided.len() as u64
    }
}
