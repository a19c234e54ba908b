//! Where a copy comes from: the reigns of primaries whose writes it holds, and where two copies part.
//!
//! ```text
//! reign 1 ......... reign 4 ...... reign 7 ....      a copy of today's primary
//!           fork 30 | start 33
//! reign 1 ................ 41                        a copy of the primary before, which went on to 41:
//!                                                    both have 1 to 30, so it rewinds to 30
//! ```
//! A follower that holds position 30 may have some values of later writes, up to 33: values are read
//! when they are sent. So it numbers its own writes from 34 on when it becomes the primary, and 31 to 33
//! name nothing in its reign.

use arrayvec::ArrayVec;

use super::limits::FORKS_MAX;
use crate::{Incarnation, NodeId, Seq, Term};

/// One primary's time with a range. The term alone does not name it: two sides of a partition may each have a
/// primary of the same term, and a node may be the heir in two branches of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reign {
    /// The term in which it began.
    pub term: Term,
    /// The primary.
    pub primary: NodeId,
    /// The primary's start.
    pub incarnation: Incarnation,
    /// Counts the reigns that began on the primary's core since then.
    pub number: u64,
}

/// The beginning of a reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The reign.
    pub reign: Reign,
    /// The last write of the reign before that still counts.
    pub seq: Seq,
    /// The number after which the reign's own writes are numbered: `seq` or somewhat more.
    pub start: Seq,
    /// It began in a branch, and no decided topology knows of it.
    pub is_branch: bool,
}

/// The last reigns of a copy, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(ArrayVec<Fork, FORKS_MAX>);

impl History {
    /// The last `FORKS_MAX` of `forks`.
    #[must_use]
    pub fn new(forks: &[Fork]) -> Self {
        let skipped = forks.len().saturating_sub(FORKS_MAX);
        Self(forks[skipped..].iter().copied().collect())
    }

    /// All that is remembered, the oldest first.
    #[must_use]
    pub fn forks(&self) -> &[Fork] {
        &self.0
    }

    /// The newest reign.
    #[must_use]
    pub fn last(&self) -> Option<&Fork> {
        self.0.last()
    }

    /// What of it was there at `seq`.
    #[must_use]
    pub fn until(&self, seq: Seq) -> Self {
        let count = self.0.partition_point(|fork| fork.seq <= seq);
        Self::new(&self.0[..count])
    }

    /// A decided topology names this primary since that term: if it is of a branch, that was adopted.
    pub fn note_decided(&mut self, primary: NodeId, term: Term) {
        if let Some(fork) = self.0.last_mut() {
            let is_named = (fork.reign.primary, fork.reign.term) == (primary, term);
            fork.is_branch &= !is_named;
        }
    }

    /// Adds a reign. If there is no room, one of a branch that another branch followed is forgotten, or else
    /// the oldest: who is in branches all the time still knows where they began.
    pub fn push(&mut self, fork: Fork) {
        if self.0.is_full() {
            let followed = self
                .0
                .windows(2)
                .position(|two| two[0].is_branch && two[1].is_branch);
            let forgotten = self.0.remove(followed.unwrap_or(0));
            if let Some(followed) = followed {
                self.0[followed].seq = forgotten.seq;
            }
        }
        self.0.push(fork);
    }

    /// The last write that is in both copies, of which one has everything up to `seq` and the other up
    /// to `other_seq`; `None` if they share no reign.
    #[must_use]
    pub fn common(&self, seq: Seq, other: &Self, other_seq: Seq) -> Option<Seq> {
        let (position, other_position) = (0..self.0.len()).rev().find_map(|position| {
            let reign = self.0[position].reign;
            let is_same = |fork: &Fork| fork.reign == reign;
            Some((position, other.0.iter().rposition(is_same)?))
        })?;
        let end = self.end(position, seq);
        Some(end.min(other.end(other_position, other_seq)))
    }

    /// The last write of the reign at `position` in a copy that has everything up to `seq`.
    pub(super) fn end(&self, position: usize, seq: Seq) -> Seq {
        let next = self.0.get(position + 1);
        next.map_or(seq, |fork| fork.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::{FORKS_MAX, Fork, History, Reign};
    use crate::{Epoch, Incarnation, NodeId, Seq};

    fn fork(term: u64, primary: u64, seq: u64) -> Fork {
        let reign = Reign {
            term: Epoch(term),
            primary: NodeId(primary),
            incarnation: Incarnation(1),
            number: 1,
        };
        Fork {
            reign,
            seq: Seq(seq),
            start: Seq(seq + 3),
            is_branch: false,
        }
    }

    #[test]
    fn copies_part_where_the_reigns_do() {
        let loser = History::new(&[fork(1, 1, 0)]);
        let winner = History::new(&[fork(1, 1, 0), fork(4, 2, 30), fork(7, 3, 60)]);
        let common = |seq| loser.common(Seq(seq), &winner, Seq(80));
        assert_eq!(common(41), Some(Seq(30)));
        assert_eq!(common(20), Some(Seq(20)));
        let between = History::new(&[fork(1, 1, 0), fork(4, 2, 30)]);
        assert_eq!(between.common(Seq(50), &winner, Seq(80)), Some(Seq(50)));
        assert_eq!(between.common(Seq(70), &winner, Seq(80)), Some(Seq(60)));
        assert_eq!(winner.common(Seq(75), &winner, Seq(80)), Some(Seq(75)));
    }

    #[test]
    fn reigns_of_one_term_are_told_apart() {
        let one = History::new(&[fork(1, 1, 0), fork(5, 2, 30)]);
        let other = History::new(&[fork(1, 1, 0), fork(5, 3, 20)]);
        assert_eq!(one.common(Seq(40), &other, Seq(90)), Some(Seq(20)));
        let stranger = History::new(&[fork(5, 4, 0)]);
        assert_eq!(stranger.common(Seq(40), &other, Seq(90)), None);
    }

    #[test]
    fn reigns_of_one_node_in_one_term_are_told_apart() {
        let again = |number| {
            let mut again = fork(5, 2, 30);
            again.reign.number = number;
            again
        };
        let one = History::new(&[fork(1, 1, 0), again(1)]);
        let other = History::new(&[fork(1, 1, 0), again(2)]);
        assert_eq!(one.common(Seq(40), &other, Seq(90)), Some(Seq(30)));
    }

    #[test]
    fn the_oldest_reigns_are_forgotten() {
        let mut history = History::default();
        for term in 0..20 {
            history.push(fork(term, term, term * 10));
        }
        assert_eq!(history.forks().len(), FORKS_MAX);
        assert_eq!(history.last(), Some(&fork(19, 19, 190)));
        let old = History::new(&[fork(11, 11, 110)]);
        assert_eq!(old.common(Seq(119), &history, Seq(200)), None);
    }
}
