//! Answering an offer: from where this copy can follow.

use super::Source;
use crate::replication::copies::{Copies, Follow, RangeCopy};
use crate::replication::{Fork, History, RemoteCore, StartFrom};
use crate::{Range, Seq};

impl Source {
    /// The primary, which is at `seq` and came there by `forks`, offers a range.
    pub(super) fn consider(&mut self, copies: &mut Copies, range: Range, seq: Seq, forks: &[Fork]) {
        let Some(copy) = copies.get_mut(range) else {
            return;
        };
        copy.note_offer(seq);
        let history = Self::history_of(copy, forks);
        // An offer is repeated when the answer takes long.
        let is_repeated = copy.offered.as_deref() == Some(&history);
        let reign_of = |history: &History| history.last().map(|fork| fork.reign);
        let is_same_reign = reign_of(&copy.certain().0) == reign_of(&history);
        match copy.follow {
            Follow::Emptying { .. } => {}
            Follow::Rewinding { .. } if is_repeated => return,
            // The answer is on its way, or what follows it.
            Follow::Starting { .. } if is_repeated => copy.is_start_due = true,
            Follow::Empty => copy.is_start_due = true,
            _ if copy.sync.is_some() && is_same_reign => {
                copy.follow = Follow::Starting { from: copy.seq };
                copy.is_start_due = true;
            }
            _ => {
                if !self.choose_start(copy, seq, &history, is_same_reign) {
                    copies.begin_emptying(range);
                }
            }
        }
        if let Some(copy) = copies.get_mut(range) {
            copy.offered = Some(Box::new(history));
        }
        self.note_due(range);
    }

    /// What the primary says of its reigns. That its branch was adopted it may not know yet.
    pub(super) fn history_of(copy: &RangeCopy, forks: &[Fork]) -> History {
        let mut history = History::new(forks);
        if let Some(source) = copy.source.filter(|_| copy.branch.is_none()) {
            history.note_decided(source.core.node, copy.term);
        }
        history
    }

    /// Where a copy that holds something starts from; false if with nothing.
    fn choose_start(
        &mut self,
        copy: &mut RangeCopy,
        seq: Seq,
        history: &History,
        is_same_reign: bool,
    ) -> bool {
        // What a rewind has replaced the primary does not send again by its numbers: they may be lower there.
        let goes_on = is_same_reign && copy.rewound_to.is_none();
        let (certain, certain_seq) = copy.certain();
        let common = certain.common(certain_seq, history, seq);
        let from = common.filter(|&from| {
            let can_rewind = copy.floor <= from || copy.head <= from || goes_on;
            copy.is_complete && can_rewind
        });
        match from {
            None => {}
            // Later values than the position tells of are of the same primary.
            Some(from) if copy.head <= from || goes_on => {
                copy.follow = Follow::Starting { from };
                copy.is_start_due = true;
            }
            Some(from) => {
                copy.follow = Follow::Rewinding {
                    from,
                    is_listed: false,
                };
                self.needs_pass = true;
            }
        }
        from.is_some()
    }

    /// The primary follows up what was asked for.
    pub(super) fn follow(&mut self, copy: &mut RangeCopy) {
        let Follow::Starting { from } = copy.follow else {
            return;
        };
        copy.follow = Follow::Live;
        copy.is_start_due = false;
        copy.seq = from;
        let start = copy
            .offered
            .as_ref()
            .and_then(|one| one.last())
            .map(|fork| fork.start);
        // Else it takes the history over when it reaches the start.
        if copy.sync.is_some() || start.is_some_and(|start| from >= start) {
            copy.rewound_to = None;
            copy.history = copy
                .offered
                .take()
                .map_or_else(History::default, |one| *one);
        } else {
            copy.note_rewound(from);
        }
        copy.note_progress();
        copy.is_ack_due = copy.offered.is_none();
        self.note_due(copy.range);
    }

    /// A new session begins: what was agreed in the last one is to be agreed again.
    pub(in crate::replication) fn forget_agreements(from: RemoteCore, copies: &mut Copies) {
        let is_of = |copy: &&mut RangeCopy| copy.source.is_some_and(|source| source.core == from);
        for copy in copies.iter_mut().filter(is_of) {
            if copy.is_holding() {
                copy.follow = Follow::Waiting;
            }
            copy.offered = None;
            copy.is_start_due = false;
        }
    }
}

/// What a copy says it has.
pub(super) fn start_of(copy: &RangeCopy) -> Option<StartFrom> {
    match (copy.follow, copy.sync) {
        (Follow::Empty, _) => Some(StartFrom::Nothing),
        (Follow::Starting { from }, Some(sync)) => Some(StartFrom::Sync { sync, seq: from }),
        (Follow::Starting { from }, None) => Some(StartFrom::Seq(from)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::replication::copies::{Copies, Follow, RangeCopy};
    use crate::replication::{Address, Fork, History, LogOffset, Reign, RemoteCore};
    use crate::{Epoch, HomeTable, Incarnation, NodeId, Range, Seq, ShardIndex, Term};

    fn fork(term: u64, primary: u64, seq: u64) -> Fork {
        Fork {
            reign: Reign {
                term: Epoch(term),
                primary: NodeId(primary),
                incarnation: Incarnation(1),
                number: 1,
            },
            seq: Seq(seq),
            start: Seq(seq),
            is_branch: false,
        }
    }

    /// A copy of what node 1 wrote up to `seq`, and what follows node 2.
    fn follower(seq: u64) -> (Copies, Source) {
        let mut copies = Copies::new(&HomeTable::even(1), ShardIndex(0));
        let copy = copies.get_mut(range()).expect("it is at home here");
        copy.history = History::new(&[fork(3, 1, 0)]);
        (copy.seq, copy.head, copy.is_complete) = (Seq(seq), Seq(seq), true);
        copy.log_start = LogOffset(0);
        copy.follow = Follow::Waiting;
        let source = Source::new(Address {
            core: RemoteCore {
                node: NodeId(2),
                core: ShardIndex(0),
            },
            incarnation: Incarnation(1),
        });
        (copies, source)
    }

    fn range() -> Range {
        Range::of(b"a")
    }

    /// It begins to rewind to 7 for node 2, and node 1 offers again.
    #[test]
    fn a_rewind_that_has_not_ended_is_undone_by_the_primary_before() {
        let (mut copies, mut source) = follower(10);
        source.consider(
            &mut copies,
            range(),
            Seq(8),
            &[fork(3, 1, 0), fork(5, 2, 7)],
        );
        let copy = copies.get_mut(range()).expect("it is at home here");
        let Follow::Rewinding { from, .. } = copy.follow else {
            panic!("{:?}", copy.follow);
        };
        assert_eq!(from, Seq(7));
        copy.stop_following();
        source.consider(&mut copies, range(), Seq(12), &[fork(3, 1, 0)]);
        let copy = copies.get_mut(range()).expect("it is at home here");
        assert_eq!(copy.follow, Follow::Starting { from: Seq(10) });
        copy.note_rewound(from);
        copy.stop_following();
        source.consider(&mut copies, range(), Seq(12), &[fork(3, 1, 0)]);
        let copy = copies.get(range()).expect("it is at home here");
        let is_listed = false;
        assert_eq!(copy.follow, Follow::Rewinding { from, is_listed });
    }

    /// Node 2 started with 8 and 9, which are not named: it has some values of them.
    fn before_a_start() -> (Copies, Source) {
        let (mut copies, mut source) = follower(7);
        let reign = Fork {
            start: Seq(9),
            ..fork(5, 2, 7)
        };
        source.consider(&mut copies, range(), Seq(12), &[fork(3, 1, 0), reign]);
        let copy = copies.get_mut(range()).expect("it is at home here");
        assert_eq!(copy.follow, Follow::Starting { from: Seq(7) });
        source.follow(copy);
        // A value arrives.
        copy.head = Seq(12);
        assert_eq!(position(copy), Some((Epoch(3), Seq(7))));
        (copies, source)
    }

    fn position(copy: &RangeCopy) -> Option<(Term, Seq)> {
        copy.position().map(|one| (one.term, one.seq))
    }

    #[test]
    fn what_came_before_a_start_is_undone_by_the_primary_before() {
        let (mut copies, mut source) = before_a_start();
        let copy = copies.get_mut(range()).expect("it is at home here");
        copy.stop_following();
        source.consider(&mut copies, range(), Seq(12), &[fork(3, 1, 0)]);
        let copy = copies.get(range()).expect("it is at home here");
        let (from, is_listed) = (Seq(7), false);
        assert_eq!(copy.follow, Follow::Rewinding { from, is_listed });
    }

    #[test]
    fn who_has_reached_a_start_is_in_that_reign() {
        let (mut copies, mut source) = before_a_start();
        let copy = copies.get_mut(range()).expect("it is at home here");
        source.reach(copy, Seq(9));
        assert_eq!(position(copy), Some((Epoch(5), Seq(9))));
    }
}
