//! What a side of a partition without a quorum does: a branch of the decided topology, dictated by
//! the most senior member there.
//!
//! ```text
//! no quorum for QUORUM_LOST_MS --> founder: Gather ----> its side
//!                                           <---- Gathered(positions)
//!                                  BranchIs(topology) ----> all of its side install it
//! a quorum is heard again --> the next decision ends it
//! ```
//! Ranges whose primary is on this side stay where they are. The others are followed by those that answered:
//! who is late may have more than the heir, and keeps it. A branch has the epoch of the topology that it grew
//! from, and no acknowledgement in it counts for WAIT.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::timing::{GATHER_MS, RESEND_MS};
use super::{Coordinator, Event, Minority};
use crate::decision::{Change, successor};
use crate::message::{Envelope, Message, Position};
use crate::topology::Branch;
use crate::{ClusterId, Epoch, NodeId, Time, Topology};

/// What a node remembers of its branches.
#[derive(Debug, Default)]
pub(super) struct Branches {
    /// Number of those that this node founded in this epoch.
    count: u64,
    /// Who was there when it founded the last.
    side: BTreeSet<NodeId>,
    not_before: Time,
    adopted: Option<Adopted>,
}

/// A branch that became a cluster, for those who don't know yet.
#[derive(Debug)]
struct Adopted {
    cluster: ClusterId,
    base: Epoch,
    side: BTreeSet<NodeId>,
}

/// A branch that is being founded.
#[derive(Debug)]
pub(super) struct Gathering {
    count: u64,
    side: BTreeSet<NodeId>,
    answers: BTreeMap<NodeId, Vec<Position>>,
    until: Time,
}

impl Branches {
    pub(super) fn handle_topology(&mut self) {
        self.count = 0;
        self.side.clear();
    }
}

impl Coordinator {
    pub(super) fn gathering_deadline(&self) -> Option<Time> {
        self.gathering.as_ref().map(|gathering| gathering.until)
    }

    /// Founds a branch if there has to be one and it is this node's to found.
    pub(super) fn advance_branch(&mut self) {
        let now = self.now;
        let Some(topology) = self.decided.clone() else {
            return;
        };
        let is_gathered = |gathering: &mut Gathering| {
            now >= gathering.until || gathering.answers.len() == gathering.side.len()
        };
        if let Some(gathering) = self.gathering.take_if(is_gathered) {
            if self.is_cut_off(&topology) {
                self.found_branch(&topology, &gathering);
            }
            return;
        }
        let is_idle = self.gathering.is_some() || now < self.branches.not_before;
        if is_idle || !self.is_cut_off(&topology) {
            return;
        }
        let side = self.side(&topology);
        let founder = topology.members().iter().find(|m| side.contains(&m.id));
        if founder.is_some_and(|founder| founder.id == self.me) && self.is_side_new(&side) {
            self.gather(&topology, side);
        }
    }

    /// Whether this node is in the minority, and is to serve.
    fn is_cut_off(&self, topology: &Topology) -> bool {
        self.config.minority == Minority::Serve
            && self.is_current()
            && self.is_quorum_lost(self.now)
            && !self.is_behind()
            && !self.hears_quorum(topology)
    }

    /// The members that are heard, in the life that the topology names.
    fn side(&self, topology: &Topology) -> BTreeSet<NodeId> {
        let is_here = |id: NodeId, incarnation| {
            id == self.me
                || (self.is_heard(id) && self.liveness.incarnation(id) == Some(incarnation))
        };
        let members = topology.members().iter();
        let here = members.filter(|member| is_here(member.id, member.incarnation));
        here.map(|member| member.id).collect()
    }

    /// Whether the branch is not, or no longer, that of this side.
    fn is_side_new(&self, side: &BTreeSet<NodeId>) -> bool {
        let mine = self.branch.as_ref().and_then(|branch| branch.branch());
        let Some(mine) = mine.filter(|mine| mine.founder == self.me) else {
            return true;
        };
        let is_elsewhere = |&id: &NodeId| {
            let contact = self.liveness.get(id);
            id != self.me && contact.is_some_and(|c| c.branch != Some(mine) && !c.has_quorum)
        };
        self.branches.side != *side || side.iter().any(is_elsewhere)
    }

    fn gather(&mut self, topology: &Topology, side: BTreeSet<NodeId>) {
        self.branches.count += 1;
        self.branches.not_before = self.now.plus_ms(2 * GATHER_MS);
        let count = self.branches.count;
        let members = topology.members().iter().map(|member| member.id);
        let message = Message::Gather {
            count,
            silent: members.filter(|id| !side.contains(id)).collect(),
        };
        self.gathering = Some(Gathering {
            count,
            side: side.clone(),
            answers: BTreeMap::new(),
            until: self.now.plus_ms(GATHER_MS),
        });
        self.send_all(side, &message);
    }

    pub(super) fn receive_gather(&mut self, from: NodeId, count: u64, silent: &[NodeId]) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        // This node may notice somewhat later that it is cut off.
        let is_senior = topology.rank(from) <= topology.rank(self.me);
        if is_senior && self.config.minority == Minority::Serve {
            self.answer_gather(from, count, silent);
        }
    }

    pub(super) fn receive_gathered(&mut self, from: NodeId, count: u64, all: Vec<Position>) {
        if let Some(gathering) = &mut self.gathering
            && gathering.count == count
            && gathering.side.contains(&from)
        {
            gathering.answers.insert(from, all);
        }
    }

    fn found_branch(&mut self, topology: &Topology, gathering: &Gathering) {
        let members = topology.members().iter().map(|member| member.id);
        let change = Change {
            removed: members.filter(|id| !gathering.side.contains(id)).collect(),
            ..Change::default()
        };
        let answers = gathering.answers.iter();
        let positions = answers.flat_map(|(&node, all)| all.iter().map(move |p| (node, p)));
        let outcome = successor(topology, &change, positions);
        let mut parts = outcome.topology.to_parts();
        parts.epoch = topology.epoch();
        parts.members = topology.members().to_vec();
        parts.branch = Some(Branch {
            count: gathering.count,
            founder: self.me,
        });
        for ((_, before), copies) in topology.ranges().zip(&mut parts.table) {
            copies.term = copies.term.min(topology.epoch());
            if copies.primary != before.primary {
                let has_answered = |node: &mut NodeId| gathering.answers.contains_key(node);
                copies.replicas.retain(has_answered);
                copies.learners.retain(has_answered);
            }
        }
        let branch = Arc::new(Topology::new(parts).expect("of members, with older terms"));
        self.branches.side.clone_from(&gathering.side);
        self.install_branch(Arc::clone(&branch));
        self.send_others(gathering.side.iter().copied(), &Message::BranchIs(branch));
    }

    pub(super) fn receive_branch(&mut self, from: NodeId, branch: Arc<Topology>) {
        let Some(topology) = self.decided.clone() else {
            return;
        };
        let founded = branch.branch().filter(|branch| branch.founder == from);
        let is_of_this =
            branch.epoch() == topology.epoch() && branch.cluster() == topology.cluster();
        let Some(founded) = founded.filter(|_| is_of_this) else {
            return;
        };
        let mine = self.branch.as_ref().and_then(|branch| branch.branch());
        let is_newer = mine.is_none_or(|mine| {
            let is_senior = topology.rank(from) < topology.rank(mine.founder);
            let is_same = mine.founder == from;
            (is_same && founded.count > mine.count)
                || (!is_same && (is_senior || !self.is_heard(mine.founder)))
        });
        if is_newer && self.is_cut_off(&topology) {
            self.install_branch(branch);
        }
    }

    fn install_branch(&mut self, branch: Arc<Topology>) {
        self.hold = None;
        if self.plan.is_some() {
            // Nobody would hold what it hands over any more.
            self.abandon(RESEND_MS);
        }
        self.branch = Some(Arc::clone(&branch));
        self.outbox.push(Event::Install(branch));
        self.seal_again();
    }

    /// Makes the branch that this node founded a cluster of its own: with another name, so that what
    /// the lost quorum may have decided can never meet it.
    pub(super) fn adopt(&mut self, cluster: ClusterId) -> bool {
        let Some(topology) = self.decided.clone() else {
            return false;
        };
        let founded = self.branch.clone().filter(|branch| {
            branch
                .branch()
                .is_some_and(|branch| branch.founder == self.me)
        });
        let Some(branch) = founded else {
            return false;
        };
        let side = self.side(&topology);
        let members = topology.members().iter().map(|member| member.id);
        let change = Change {
            removed: members.filter(|id| !side.contains(id)).collect(),
            table: Some(branch.to_parts().table),
            ..Change::default()
        };
        let mut parts = successor(&topology, &change, std::iter::empty())
            .topology
            .to_parts();
        parts.cluster = cluster;
        let adopted = Arc::new(Topology::new(parts).expect("only its name is another"));
        self.branches.adopted = Some(Adopted {
            cluster: topology.cluster(),
            base: topology.epoch(),
            side: side.clone(),
        });
        let message = Message::AdoptedIs {
            base: topology.epoch(),
            topology: Arc::clone(&adopted),
        };
        self.send_others(side, &message);
        self.install(adopted);
        true
    }

    /// A member of the branch that became this cluster may have missed it.
    pub(super) fn tell_of_adoption(&mut self, envelope: &Envelope) {
        let Some((adopted, topology)) = self.branches.adopted.as_ref().zip(self.decided.clone())
        else {
            return;
        };
        let is_of_branch = envelope.cluster == Some(adopted.cluster)
            && adopted.side.contains(&envelope.from)
            && envelope.epoch == adopted.base;
        if !is_of_branch || envelope.heartbeat().is_none() {
            return;
        }
        let base = adopted.base;
        let cluster = adopted.cluster;
        let mut answer = self.envelope(Some(envelope.from), Message::AdoptedIs { base, topology });
        answer.cluster = Some(cluster);
        answer.to_incarnation = Some(envelope.from_incarnation);
        answer.epoch = base;
        self.outbox.send(envelope.from, answer);
    }

    pub(super) fn receive_adopted(&mut self, from: NodeId, base: Epoch, topology: Arc<Topology>) {
        let mine = self.branch.as_ref().and_then(|branch| branch.branch());
        let is_founder = mine.is_some_and(|mine| mine.founder == from);
        if is_founder && base == self.epoch() && topology.epoch() > base {
            self.install(topology);
        }
    }
}
