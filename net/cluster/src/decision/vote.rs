//! An acceptor's memory of one instance.

use std::sync::Arc;

use super::Ballot;
use crate::{Epoch, Topology};

/// What a member promised and accepted about the epoch that follows `epoch`. It must be on disk before
/// an answer that depends on it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The epoch whose members decide.
    pub epoch: Epoch,
    /// It takes part in nothing below this.
    pub promised: Ballot,
    /// The last that it accepted.
    pub accepted: Option<(Ballot, Arc<Topology>)>,
}

impl Vote {
    /// That of a member that hasn't heard of the instance.
    #[must_use]
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            promised: Ballot::NONE,
            accepted: None,
        }
    }

    /// First phase. The same ballot may be promised again: a ballot has one proposer in one life.
    ///
    /// # Errors
    /// The higher ballot that was promised; nothing changed.
    pub fn prepare(&mut self, ballot: Ballot) -> Result<(), Ballot> {
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        Ok(())
    }

    /// Second phase.
    ///
    /// # Errors
    /// The higher ballot that was promised; nothing changed.
    pub fn accept(&mut self, ballot: Ballot, topology: Arc<Topology>) -> Result<(), Ballot> {
        assert_eq!(topology.epoch(), self.epoch.next());
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, topology));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Ballot, Vote};
    use crate::decision::samples::{member, topology};
    use crate::{ClusterId, Epoch, Incarnation, NodeId, Topology};

    fn ballot(counter: u64, id: u64) -> Ballot {
        Ballot {
            counter,
            id: NodeId(id),
            incarnation: Incarnation(1),
        }
    }

    #[test]
    fn lower_ballots_are_refused_in_both_phases() {
        let mut vote = Vote::new(Epoch(0));
        let value = Arc::new(Topology::founded(ClusterId(1), member(1), 1));
        assert_eq!(vote.prepare(ballot(2, 1)), Ok(()));
        assert_eq!(vote.prepare(ballot(2, 1)), Ok(()));
        assert_eq!(vote.prepare(ballot(1, 9)), Err(ballot(2, 1)));
        assert_eq!(
            vote.accept(ballot(1, 9), Arc::clone(&value)),
            Err(ballot(2, 1))
        );
        assert_eq!(vote.accepted, None);
        assert_eq!(vote.accept(ballot(2, 1), Arc::clone(&value)), Ok(()));
        assert_eq!(vote.accepted, Some((ballot(2, 1), value)));
    }

    #[test]
    fn a_higher_accept_is_also_a_promise() {
        let mut vote = Vote::new(Epoch(1));
        let value = Arc::new(topology(2, &[1, 2, 3]));
        assert_eq!(vote.accept(ballot(4, 2), value), Ok(()));
        assert_eq!(vote.prepare(ballot(3, 3)), Err(ballot(4, 2)));
    }
}
