//! After quiet there is one chain, everybody is a member of its end, and copies are equal.

use std::sync::Arc;

use fulmar_cluster::Topology;

use crate::data::{Data, modelled};

/// What a living node shows.
pub(crate) struct Seen<'a> {
    pub(crate) decided: Option<&'a Arc<Topology>>,
    pub(crate) is_member: bool,
    pub(crate) is_provisional: bool,
    pub(crate) data: &'a Data,
}

/// What is not settled yet, or `None`.
pub(crate) fn unsettled(nodes: &[Seen<'_>]) -> Option<String> {
    let Some(first) = nodes.first().and_then(|node| node.decided) else {
        return (!nodes.is_empty()).then(|| "a node has no topology".to_owned());
    };
    for node in nodes {
        let Some(decided) = node.decided else {
            return Some("a node has no topology".to_owned());
        };
        if decided != first {
            let epochs = (decided.epoch().0, first.epoch().0);
            return Some(format!("nodes are at different epochs: {epochs:?}"));
        }
        if !node.is_member {
            return Some("a node is not a member".to_owned());
        }
        if node.is_provisional {
            return Some("a node is in a branch".to_owned());
        }
    }
    if first.members().len() != nodes.len() {
        return Some("a member does not live".to_owned());
    }
    unequal_copies(nodes, first)
}

fn unequal_copies(nodes: &[Seen<'_>], topology: &Topology) -> Option<String> {
    for range in modelled() {
        let copies = topology.copies(range);
        if !copies.learners.is_empty() {
            return Some(format!("range {} has learners", range.index()));
        }
        let mut held = Vec::new();
        for node in copies.nodes() {
            let seen = nodes.iter().find(|seen| seen.data.is_of(node));
            let copy = seen.and_then(|seen| Some((seen.data.position(range)?, seen)));
            let Some((position, seen)) = copy else {
                return Some(format!("range {}: {node} has no copy", range.index()));
            };
            held.push((position, seen.data.held(range)));
        }
        if nodes.iter().any(|seen| seen.data.is_held(range)) {
            return Some(format!("range {}: writes are held", range.index()));
        }
        if held.windows(2).any(|two| two[0] != two[1]) {
            let sizes = held.iter().map(|(position, held)| (position, held.len()));
            let sizes: Vec<_> = sizes.collect();
            return Some(format!("range {}: copies differ: {sizes:?}", range.index()));
        }
        // Everybody else has dropped what it had.
        let holders: Vec<_> = copies.nodes().collect();
        let others = nodes
            .iter()
            .filter(|seen| !holders.iter().any(|&node| seen.data.is_of(node)));
        for other in others {
            if !other.data.held(range).is_empty() {
                return Some(format!(
                    "range {}: {:?} has items",
                    range.index(),
                    other.data
                ));
            }
        }
    }
    None
}
