//! Nothing executes, and nothing is copied, in the name of an incarnation that the topology doesn't
//! name.

use fulmar_cluster::{Incarnation, NodeId, Topology};

use super::Verdict;

pub(crate) fn acted(topology: &Topology, node: NodeId, incarnation: Incarnation) -> Verdict {
    let named = topology.member(node).map(|member| member.incarnation);
    if named == Some(incarnation) {
        return Ok(());
    }
    Err(format!(
        "epoch {} names {named:?} of {node}, and {incarnation:?} acts",
        topology.epoch().0
    ))
}
