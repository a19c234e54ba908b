//! No write that WAIT acknowledged is lost while one acknowledger, still having it, voted for the
//! decision that gave its range another primary: voted in the attempt that built the topology.
//!
//! Branches are left out: WAIT answers 0 in them, and what their primaries have goes before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fulmar_cluster::{Epoch, Incarnation, NodeId, Range, Term, Topology};

use super::Verdict;
use crate::items::Held;

type Process = (NodeId, Incarnation);

#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// By range and write: the term of its acknowledgement, and who gave one and still has it.
    holders: BTreeMap<Range, BTreeMap<u64, (Term, BTreeSet<Process>)>>,
    /// What a process lost, or what does not count any more, and the newest epoch in which it did.
    lost: BTreeMap<(Range, u64, Process), Epoch>,
    /// By topology: who promised before it was built.
    builds: Vec<Build>,
    /// By range: what the newest reign started with.
    reigns: BTreeMap<Range, (Term, Held, BTreeSet<Process>)>,
    pub(crate) count: u64,
    pub(crate) checked: u64,
}

/// How a topology came about.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) topology: Arc<Topology>,
    pub(crate) voters: BTreeSet<Process>,
    /// Who said that it is the primary of a range in a branch.
    pub(crate) heirs: BTreeSet<(Range, NodeId)>,
}

impl Acknowledged {
    pub(crate) fn built(&mut self, build: Build) {
        let is_known = |known: &Build| Arc::ptr_eq(&known.topology, &build.topology);
        if !self.builds.iter().any(is_known) {
            self.builds.push(build);
        }
    }

    /// A primary counts that `by` has a write of `term`, as `by` said by the topology of `said`.
    pub(crate) fn acknowledged(
        &mut self,
        range: Range,
        term: Term,
        said: Epoch,
        by: Process,
        write: u64,
    ) -> Verdict {
        self.count += 1;
        // It was under way when the copy was lost.
        let lost = self.lost.get(&(range, write, by));
        if lost.is_some_and(|&lost| lost > said) {
            return Ok(());
        }
        let holders = self.holders.entry(range).or_default();
        let (_, holders) = holders.entry(write).or_insert((term, BTreeSet::new()));
        holders.insert(by);
        if let Some((newest, had, voters)) = self.reigns.get(&range)
            && *newest > term
            && voters.contains(&by)
            && !had.contains(&write)
        {
            return Err(format!(
                "range {}: {by:?} voted for term {} and acknowledged write {write} of term {} after it",
                range.index(),
                newest.0,
                term.0
            ));
        }
        Ok(())
    }

    /// A process that does not have a write acknowledged it: then it must have had it.
    pub(crate) fn never_had(&self, range: Range, by: Process, write: u64) -> Verdict {
        if self.lost.contains_key(&(range, write, by)) {
            return Ok(());
        }
        Err(format!(
            "range {}: {by:?} acknowledged write {write} and never had it",
            range.index()
        ))
    }

    /// A copy does not have a write any more, by the topology of `epoch`.
    pub(crate) fn lost(&mut self, range: Range, holder: Process, write: u64, epoch: Epoch) {
        self.lost.insert((range, write, holder), epoch);
        let holders = self.holders.get_mut(&range);
        if let Some((_, holders)) = holders.and_then(|holders| holders.get_mut(&write)) {
            holders.remove(&holder);
        }
    }

    /// A process is gone, with all that it held.
    pub(crate) fn died(&mut self, holder: Process) {
        let writes = self
            .holders
            .values_mut()
            .flat_map(|writes| writes.values_mut());
        for (_, holders) in writes {
            holders.remove(&holder);
        }
    }

    /// A primary began its reign by `topology`, and has these writes.
    pub(crate) fn began(
        &mut self,
        topology: &Arc<Topology>,
        range: Range,
        term: Term,
        has: Held,
    ) -> Verdict {
        let built = self
            .builds
            .iter()
            .find(|build| Arc::ptr_eq(&build.topology, topology));
        let Some(Build { voters, heirs, .. }) = built.filter(|_| term == topology.epoch()) else {
            return Ok(());
        };
        let holders = self.holders.entry(range).or_default();
        let is_heir = heirs.contains(&(range, topology.copies(range).primary));
        // A node that slept may begin a reign that is long over.
        let is_late = self
            .reigns
            .get(&range)
            .is_some_and(|(newest, _, _)| *newest > term);
        for (write, (acknowledged, holders)) in holders.iter() {
            if is_late || *acknowledged >= term {
                continue;
            }
            self.checked += 1;
            let holds = |holder: &&Process| voters.contains(holder);
            if let Some(holder) = holders.iter().find(holds)
                && !has.contains(write)
                && !is_heir
            {
                return Err(format!(
                    "range {}: write {write} is lost in term {}, though {holder:?} had it and voted",
                    range.index(),
                    term.0
                ));
            }
        }
        if is_late {
            return Ok(());
        }
        // What was lost by right may not come back as a duty.
        holders.retain(|write, _| has.contains(write));
        self.reigns.insert(range, (term, has, voters.clone()));
        Ok(())
    }
}
