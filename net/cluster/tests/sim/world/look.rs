//! Looks at a world from outside: who owns what, and whether all is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_cluster::Topology;
use fulmar_cluster::coordinator::Serving;

use super::{Job, LOOK_MS, SETTLED_MS, WRITES_END_MS, World};
use crate::checkers::Verdict;
use crate::checkers::quiet::{Seen, unsettled};
use crate::data::modelled;
use crate::node::{DISK_MS, Node, Process};

impl World {
    pub(super) fn look(&mut self) -> Verdict {
        self.scheduler.after(LOOK_MS, Job::Look);
        let now_ms = self.now_ms();
        let Some(newest) = self.newest() else {
            // The only founder lost its directory before anybody joined.
            self.report.is_quorum_gone = now_ms > WRITES_END_MS;
            self.report.settled_ms = if now_ms > WRITES_END_MS { now_ms } else { 0 };
            return Ok(());
        };
        self.look_at_owners(&newest)?;
        if now_ms < WRITES_END_MS + 500 || !now_ms.is_multiple_of(10 * LOOK_MS) {
            return Ok(());
        }
        let has_vote = |id| self.nodes.iter().any(|node| node.id == id);
        if !newest.is_quorum(has_vote) {
            self.report.is_quorum_gone = true;
            self.report.settled_ms = now_ms;
            return Ok(());
        }
        match self.unsettled() {
            None => self.report.settled_ms = now_ms,
            Some(_) if now_ms < SETTLED_MS => {}
            Some(reason) => return Err(format!("not settled: {reason}")),
        }
        Ok(())
    }

    /// The newest topology that a process or a disk knows. One that only a lost directory knew may be
    /// newer: then its quorum is gone, whoever its members are.
    pub(super) fn newest(&self) -> Option<Arc<Topology>> {
        self.known_by(|_| true)
    }

    fn known_by(&self, is_asked: impl Fn(&&Node) -> bool) -> Option<Arc<Topology>> {
        let known = self.nodes.iter().filter(is_asked).filter_map(|node| {
            let process = node.process.as_ref();
            let decided = process.and_then(|process| process.coordinator.decided());
            decided.or(node.saved.topology.as_ref())
        });
        known.max_by_key(|topology| topology.epoch()).cloned()
    }

    pub(super) fn unsettled(&self) -> Option<String> {
        let seen = self.nodes.iter().filter_map(|node| {
            let Process { coordinator, data } = node.process.as_ref()?;
            let decided = coordinator.decided();
            let member = decided.and_then(|topology| topology.member(node.id));
            Some(Seen {
                decided,
                is_member: member.is_some_and(|m| m.incarnation == node.incarnation),
                is_provisional: coordinator.is_provisional(),
                data,
            })
        });
        let seen: Vec<_> = seen.collect();
        if seen.len() < self.nodes.len() {
            return Some("a node does not run".to_owned());
        }
        unsettled(&seen)
    }

    pub(super) fn look_at_owners(&mut self, newest: &Topology) -> Verdict {
        let now_ms = self.now_ms();
        let mut has_owner: BTreeMap<_, _> = modelled().map(|range| (range, false)).collect();
        let is_up = |node: &&Node| node.process.is_some() && !node.is_paused;
        for node in self.nodes.iter().filter(is_up) {
            if let Some(Process { coordinator, data }) = &node.process
                && coordinator.serves(node.local(now_ms)) == Serving::Decided
            {
                for (range, _) in data.primaries().filter(|(range, _)| !data.is_held(*range)) {
                    has_owner.insert(range, true);
                }
            }
        }
        let runs = |id| self.nodes.iter().any(|node| node.id == id && is_up(&node));
        let is_named = |node: &Node| {
            let member = newest.member(node.id);
            member.is_some_and(|member| member.incarnation == node.incarnation)
        };
        let is_restart = !self.nodes.iter().any(|node| is_up(&node) && is_named(node));
        let are_disks_quick = self.nodes.iter().all(|node| node.disk_ms == DISK_MS);
        // One that only the disk of a dead node knows is nothing by which the others could decide.
        let has_quorum = self
            .known_by(is_up)
            .is_some_and(|known| known.is_quorum(runs));
        let is_calm = self.network.is_calm() && are_disks_quick && has_quorum;
        self.owners.look(now_ms, is_calm, is_restart, &has_owner)
    }
}
