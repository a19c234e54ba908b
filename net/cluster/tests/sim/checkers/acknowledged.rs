//! No write that WAIT acknowledged is lost while one acknowledger, still having it, voted for the
//! decision that gave its range another primary: voted in the attempt that built the topology.
//!
//! Branches are left out: WAIT answers 0 in them, and what their primaries have goes before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fulmar_cluster::{Incarnation, NodeId, Range, Term, Topology};

use super::Verdict;
use crate::data::Log;

type Process = (NodeId, Incarnation);

#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// By range and write: the term of its acknowledgement, and who gave one and still has it.
    holders: BTreeMap<Range, BTreeMap<u64, (Term, BTreeSet<Process>)>>,
    /// By topology: who promised before it was built.
    builds: Vec<Build>,
    /// By range: where the newest reign started.
    reigns: BTreeMap<Range, (Term, Log, BTreeSet<Process>)>,
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

    pub(crate) fn acknowledged(
        &mut self,
        range: Range,
        term: Term,
        by: Process,
        writes: &[u64],
    ) -> Verdict {
        let holders = self.holders.entry(range).or_default();
        for &write in writes {
            self.count += 1;
            let (_, holders) = holders.entry(write).or_insert((term, BTreeSet::new()));
            holders.insert(by);
        }
        if let Some((newest, log, voters)) = self.reigns.get(&range)
            && *newest > term
            && voters.contains(&by)
        {
            let lost = writes.iter().find(|write| !log.contains(write));
            if let Some(write) = lost {
                return Err(format!(
                    "range {}: {by:?} voted for term {} and acknowledged write {write} of term {} \
                     after it",
                    range.index(),
                    newest.0,
                    term.0
                ));
            }
        }
        Ok(())
    }

    /// A copy had one log, and has another.
    pub(crate) fn lost(&mut self, range: Range, holder: Process, had: &[u64], has: &[u64]) {
        let Some(holders) = self.holders.get_mut(&range) else {
            return;
        };
        let has: BTreeSet<u64> = has.iter().copied().collect();
        for write in had.iter().filter(|write| !has.contains(write)) {
            if let Some((_, holders)) = holders.get_mut(write) {
                holders.remove(&holder);
            }
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

    /// A primary began its reign by `topology`, with this log.
    pub(crate) fn began(
        &mut self,
        topology: &Arc<Topology>,
        range: Range,
        term: Term,
        log: &Log,
    ) -> Verdict {
        let built = self
            .builds
            .iter()
            .find(|build| Arc::ptr_eq(&build.topology, topology));
        let Some(Build { voters, heirs, .. }) = built.filter(|_| term == topology.epoch()) else {
            return Ok(());
        };
        let holders = self.holders.entry(range).or_default();
        let has: BTreeSet<u64> = log.iter().copied().collect();
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
        self.reigns
            .insert(range, (term, log.clone(), voters.clone()));
        Ok(())
    }
}
