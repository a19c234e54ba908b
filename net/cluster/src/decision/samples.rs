//! Small topologies for tests.

use crate::{ClusterId, Copies, Epoch, Incarnation, Member, NodeId, Topology, Zone};

pub(crate) fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        incarnation: Incarnation(1),
        cores: 2,
        weight: 1,
        zone: Zone::default(),
    }
}

pub(crate) fn copies(primary: u64, replicas: &[u64], learners: &[u64], term: u64) -> Copies {
    Copies {
        primary: NodeId(primary),
        replicas: replicas.iter().map(|&id| NodeId(id)).collect(),
        learners: learners.iter().map(|&id| NodeId(id)).collect(),
        term: Epoch(term),
    }
}

/// All ranges with the same copies.
pub(crate) fn topology_of(epoch: u64, members: &[u64], copies: Copies) -> Topology {
    let mut parts = Topology::founded(ClusterId(7), member(members[0]), 1).to_parts();
    parts.epoch = Epoch(epoch);
    parts.members = members.iter().map(|&id| member(id)).collect();
    parts.table.fill(copies);
    Topology::new(parts).expect("consistent")
}

pub(crate) fn topology(epoch: u64, members: &[u64]) -> Topology {
    topology_of(epoch, members, copies(members[0], &[], &[], 1))
}
