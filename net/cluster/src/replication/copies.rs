//! One core's copies: what each of its ranges holds, and where that comes from.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::limits::DROP_ITEMS_PER_STEP;
use super::{Address, Fork, History, LogOffset, Store};
use super::{CopyPosition, Reign};
use crate::{Epoch, HomeTable, NodeId, RANGES_COUNT, Range, Seq, ShardIndex, Term};

/// What this node is to a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It holds no copy, or one that no topology names.
    #[default]
    None,
    /// It executes the writes.
    Primary,
    /// It follows the primary, and may take over.
    Replica,
    /// It follows the primary; a replica once it is complete.
    Learner,
}

/// How far a follower is with its primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Follow {
    /// Holds something, and waits for an offer.
    Waiting,
    /// Drops what it holds, step by step.
    Emptying { cursor: u64 },
    /// Holds nothing.
    #[default]
    Empty,
    /// Asks for what it has beyond the fork.
    Rewinding { from: Seq, is_listed: bool },
    /// Asked to follow from here.
    Starting { from: Seq },
    /// Follows, or is being filled.
    Live,
}

/// One range's copy.
#[derive(Debug)]
pub(super) struct RangeCopy {
    pub(super) range: Range,
    pub(super) role: Role,
    /// The term of the newest topology.
    pub(super) term: Term,
    /// If that is a branch, the epoch that it grew from: the term of its heirs.
    pub(super) branch: Option<Epoch>,
    /// The primary that the newest topology lets this copy follow.
    pub(super) source: Option<Address>,
    /// The term in which it follows that.
    pub(super) followed_term: Term,
    pub(super) history: History,
    /// All writes up to here are in it, by the numbers of its history.
    pub(super) seq: Seq,
    /// No value is of a later write.
    pub(super) head: Seq,
    /// The log has all its changes after this.
    pub(super) floor: Seq,
    /// What the log has of the range before this is of an earlier life of the copy.
    pub(super) log_start: LogOffset,
    pub(super) is_complete: bool,
    /// What it holds is from before its node was let in again: it counts for nothing before it has caught
    /// up with what its primary had when that offered it.
    pub(super) is_base: bool,
    base_goal: Option<Seq>,
    /// From the first key that was replaced on a rewind, or the first that follows it, until it has all that its
    /// primary started with: where that began. Of what came after it has some, and some of its primary's.
    pub(super) rewound_to: Option<Seq>,
    pub(super) follow: Follow,
    /// The history that it will have when it has caught up with its primary's start.
    pub(super) offered: Option<Box<History>>,
    /// The full sync that fills it.
    pub(super) sync: Option<u64>,
    /// The end of the log when the own reign began.
    pub(super) start_offset: LogOffset,
    /// A `Start` is to be sent.
    pub(super) is_start_due: bool,
    /// A position is to be acknowledged.
    pub(super) is_ack_due: bool,
}

impl RangeCopy {
    fn new(range: Range) -> Self {
        Self {
            range,
            role: Role::None,
            term: Term::default(),
            branch: None,
            source: None,
            followed_term: Term::default(),
            history: History::default(),
            seq: Seq(0),
            head: Seq(0),
            floor: Seq(0),
            log_start: LogOffset(0),
            is_complete: false,
            is_base: false,
            base_goal: None,
            rewound_to: None,
            follow: Follow::Empty,
            offered: None,
            sync: None,
            start_offset: LogOffset(0),
            is_start_due: false,
            is_ack_due: false,
        }
    }

    /// How far it is; `None` if it holds nothing of any decided reign, or a base. What was written in a
    /// branch that is void does not count.
    pub(super) fn position(&self) -> Option<CopyPosition> {
        if self.is_base {
            return None;
        }
        let (history, seq) = self.certain();
        let counts = |fork: &Fork| !fork.is_branch || self.branch == Some(fork.reign.term);
        let last = history.forks().iter().rposition(counts)?;
        Some(CopyPosition {
            range: self.range,
            term: history.forks()[last].reign.term,
            seq: history.end(last, seq),
            is_complete: self.is_complete,
        })
    }

    /// The same for who chooses heirs: what started anew in a branch has term 0, and so goes behind whole copies
    /// of decided reigns.
    pub(super) fn position_as_heir(&self) -> Option<CopyPosition> {
        let mut position = self.position()?;
        if !self.is_of_decided() {
            position.term = Epoch(0);
        }
        Some(position)
    }

    /// Whether it has something of a decided reign.
    pub(super) fn is_of_decided(&self) -> bool {
        self.history.forks().iter().any(|fork| !fork.is_branch)
    }

    /// A decided topology names this primary in the copy's term.
    pub(super) fn note_decided(&mut self, primary: NodeId) {
        self.history.note_decided(primary, self.term);
        if let Some(offered) = &mut self.offered {
            offered.note_decided(primary, self.term);
        }
    }

    /// Where it comes from and how far it is, without what a rewind that has not ended makes uncertain.
    pub(super) fn certain(&self) -> (Cow<'_, History>, Seq) {
        match self.rewound_to {
            Some(to) => (Cow::Owned(self.history.until(to)), to),
            None => (Cow::Borrowed(&self.history), self.seq),
        }
    }

    /// Something that came after `to` is about to be replaced by what its primary has.
    pub(super) fn note_rewound(&mut self, to: Seq) {
        self.rewound_to = Some(self.rewound_to.map_or(to, |before| before.min(to)));
    }

    /// Where the current reign's own numbers begin.
    pub(super) fn start(&self) -> Seq {
        self.history.last().map_or(Seq(0), |fork| fork.start)
    }

    /// What it holds, if anything, is a base.
    pub(super) fn begin_base(&mut self) {
        self.is_base = self.is_holding();
        self.base_goal = None;
    }

    /// Its primary is at `seq` and offers the range.
    pub(super) fn note_offer(&mut self, seq: Seq) {
        self.base_goal.get_or_insert(seq);
    }

    /// Notes that a base is none any more, if it has caught up.
    pub(super) fn note_progress(&mut self) {
        let has_goal = self.base_goal.is_some_and(|goal| self.seq >= goal);
        if has_goal && self.offered.is_none() && self.follow == Follow::Live {
            self.is_base = false;
        }
    }

    /// Takes over: what it holds is from now on what counts. What a part of a range is missing cannot be told
    /// by numbers, so nobody is to find a fork in it.
    pub(super) fn begin_reign(&mut self, reign: Reign, log_head: LogOffset) {
        let start = self.seq.max(self.head);
        let (history, seq) = self.certain();
        if self.is_complete {
            self.history = history.into_owned();
        } else {
            self.history = History::default();
            self.floor = start;
            self.log_start = log_head;
        }
        self.history.push(Fork {
            reign,
            seq,
            start,
            is_branch: self.branch.is_some(),
        });
        (self.is_base, self.rewound_to) = (false, None);
        (self.seq, self.head) = (start, start);
        self.is_complete = true;
        self.start_offset = log_head;
        self.stop_following();
        self.follow = Follow::Waiting;
    }

    /// Forgets what it was told by the primary so far. What it holds stays.
    pub(super) fn stop_following(&mut self) {
        self.offered = None;
        self.base_goal = None;
        self.sync = None;
        self.is_start_due = false;
        self.is_ack_due = false;
        if self.is_holding() {
            self.follow = Follow::Waiting;
        }
    }

    fn begin_emptying(&mut self) {
        self.stop_following();
        self.forget();
        self.follow = Follow::Emptying { cursor: 0 };
    }

    /// Notes that all it held is gone.
    pub(super) fn set_empty(&mut self) {
        let offered = self.offered.take();
        self.stop_following();
        self.forget();
        self.follow = Follow::Empty;
        self.offered = offered;
        self.is_start_due = true;
    }

    fn forget(&mut self) {
        self.history = History::default();
        (self.seq, self.head, self.floor) = (Seq(0), Seq(0), Seq(0));
        (self.is_complete, self.is_base, self.rewound_to) = (false, false, None);
    }

    /// Whether it may hold something that is not being dropped.
    pub(super) fn is_holding(&self) -> bool {
        !matches!(self.follow, Follow::Emptying { .. } | Follow::Empty)
    }

    fn is_emptying(&self) -> bool {
        matches!(self.follow, Follow::Emptying { .. })
    }

    /// Drops some more of what it holds; true if there is more.
    pub(super) fn go_on_emptying(&mut self, store: &mut dyn Store) -> bool {
        let Follow::Emptying { cursor } = self.follow else {
            return false;
        };
        let cursor = store.drop_range(self.range, cursor, DROP_ITEMS_PER_STEP);
        if cursor == 0 {
            self.set_empty();
        } else {
            self.follow = Follow::Emptying { cursor };
        }
        cursor != 0
    }
}

/// The copies of all ranges at home on one core.
#[derive(Debug)]
pub(super) struct Copies {
    places: Box<[u16; RANGES_COUNT as usize]>,
    list: Vec<RangeCopy>,
    /// Ranges of which what was held is dropped, in this order; some may be empty already. Each once.
    emptying: VecDeque<Range>,
}

/// No copy can be here.
const ELSEWHERE: u16 = u16::MAX;

impl Copies {
    pub(super) fn new(homes: &HomeTable, core: ShardIndex) -> Self {
        let mut places = Box::new([ELSEWHERE; RANGES_COUNT as usize]);
        let mut list = Vec::new();
        for range in Range::all().filter(|&range| homes.home(range) == core) {
            let place = u16::try_from(list.len()).expect("below RANGES_COUNT");
            places[usize::from(range.index())] = place;
            list.push(RangeCopy::new(range));
        }
        Self {
            places,
            list,
            emptying: VecDeque::new(),
        }
    }

    /// Number of ranges at home here.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// A range's position among those of this core.
    #[inline]
    pub(super) fn place(&self, range: Range) -> Option<usize> {
        let place = self.places[usize::from(range.index())];
        (place != ELSEWHERE).then_some(usize::from(place))
    }

    #[inline]
    pub(super) fn get(&self, range: Range) -> Option<&RangeCopy> {
        Some(&self.list[self.place(range)?])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, range: Range) -> Option<&mut RangeCopy> {
        let place = self.place(range)?;
        Some(&mut self.list[place])
    }

    pub(super) fn at(&self, place: usize) -> &RangeCopy {
        &self.list[place]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RangeCopy> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut RangeCopy> {
        self.list.iter_mut()
    }

    /// Gives up what is held of a range, to be dropped in steps.
    pub(super) fn begin_emptying(&mut self, range: Range) {
        let Some(copy) = self.get_mut(range) else {
            return;
        };
        copy.begin_emptying();
        if !self.emptying.contains(&range) {
            self.emptying.push_back(range);
        }
    }

    /// The copy that is being dropped.
    pub(super) fn first_emptying(&mut self) -> Option<&mut RangeCopy> {
        while let Some(&range) = self.emptying.front()
            && !self.get(range).is_some_and(RangeCopy::is_emptying)
        {
            self.emptying.pop_front();
        }
        self.get_mut(*self.emptying.front()?)
    }

    /// Notes that an entry fell out of the log. Numbers above the head are of a life before.
    pub(super) fn note_dropped(&mut self, range: Range, seq: Seq) {
        if let Some(copy) = self.get_mut(range)
            && seq <= copy.head
        {
            copy.floor = copy.floor.max(seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, LogOffset, RangeCopy, Reign};
    use crate::replication::{CopyPosition, Fork, History, RemoteCore};
    use crate::{Epoch, Incarnation, NodeId, Range, Seq, ShardIndex};

    fn reign(term: u64, primary: u64) -> Reign {
        Reign {
            term: Epoch(term),
            primary: NodeId(primary),
            incarnation: Incarnation(1),
            number: 1,
        }
    }

    fn source(node: u64) -> Address {
        Address {
            core: RemoteCore {
                node: NodeId(node),
                core: ShardIndex(0),
            },
            incarnation: Incarnation(1),
        }
    }

    /// A copy with all writes up to 10 of node 1, primary since epoch `term`.
    fn replica(term: u64) -> RangeCopy {
        let mut copy = RangeCopy::new(Range::of(b"a"));
        let fork = Fork {
            reign: reign(term, 1),
            seq: Seq(0),
            start: Seq(0),
            is_branch: false,
        };
        copy.history = History::new(&[fork]);
        (copy.term, copy.source) = (Epoch(term), Some(source(1)));
        (copy.seq, copy.head, copy.is_complete) = (Seq(10), Seq(10), true);
        copy
    }

    /// It is the heir of branches of these epochs, writes something, and they are over.
    fn after_branches(mut copy: RangeCopy, epochs: &[u64]) -> Option<CopyPosition> {
        let (term, source) = (copy.term, copy.source.take());
        for &epoch in epochs {
            (copy.term, copy.branch) = (Epoch(epoch), Some(Epoch(epoch)));
            copy.begin_reign(reign(epoch, 2), LogOffset(0));
            assert_eq!(copy.position().map(|one| one.term), Some(Epoch(epoch)));
            (copy.seq, copy.head) = (Seq(99), Seq(99));
        }
        (copy.term, copy.branch, copy.source) = (term, None, source);
        copy.position()
    }

    #[test]
    fn what_a_void_branch_wrote_is_no_part_of_a_position() {
        // Also if the decided primary reigns since the epoch of the branch.
        for (term, branches) in [(3, &[5][..]), (5, &[5]), (3, &[5, 6, 8])] {
            let expected = CopyPosition {
                range: Range::of(b"a"),
                term: Epoch(term),
                seq: Seq(10),
                is_complete: true,
            };
            assert_eq!(after_branches(replica(term), branches), Some(expected));
        }
        let many = after_branches(replica(3), &[5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(
            many.map(|one| (one.term, one.seq)),
            Some((Epoch(3), Seq(10)))
        );
        let mut part = replica(3);
        part.is_complete = false;
        assert_eq!(after_branches(part, &[5]), None);
    }

    #[test]
    fn what_started_anew_in_a_branch_is_the_last_heir_there() {
        let mut copy = RangeCopy::new(Range::of(b"a"));
        (copy.term, copy.branch) = (Epoch(5), Some(Epoch(5)));
        copy.begin_reign(reign(5, 2), LogOffset(0));
        (copy.seq, copy.head) = (Seq(99), Seq(99));
        let position = |copy: &RangeCopy| copy.position_as_heir().map(|one| (one.term, one.seq));
        assert_eq!(position(&copy), Some((Epoch(0), Seq(99))));
        assert_eq!(copy.position().map(|one| one.term), Some(Epoch(5)));
        let mut whole = replica(3);
        (whole.term, whole.branch) = (Epoch(5), Some(Epoch(5)));
        whole.begin_reign(reign(5, 2), LogOffset(0));
        assert_eq!(position(&whole), Some((Epoch(5), Seq(10))));
        copy.branch = None;
        assert_eq!(position(&copy), None);
        copy.note_decided(NodeId(2));
        assert_eq!(position(&copy), Some((Epoch(5), Seq(99))));
    }

    #[test]
    fn a_branch_before_counts_for_nothing_in_another_and_one_that_was_adopted_does() {
        let mut copy = replica(3);
        (copy.term, copy.branch) = (Epoch(5), Some(Epoch(5)));
        copy.begin_reign(reign(5, 2), LogOffset(0));
        let term = |copy: &RangeCopy| copy.position().map(|one| one.term);
        copy.branch = Some(Epoch(6));
        assert_eq!(term(&copy), Some(Epoch(3)));
        copy.branch = None;
        copy.note_decided(NodeId(1));
        assert_eq!(term(&copy), Some(Epoch(3)));
        copy.note_decided(NodeId(2));
        assert_eq!(term(&copy), Some(Epoch(5)));
        copy.term = Epoch(9);
        assert_eq!(term(&copy), Some(Epoch(5)));
    }

    #[test]
    fn who_was_being_rewound_reigns_from_where_it_rewound_to() {
        for (rewound_to, seq, forks) in [(None, 10, 3), (Some(Seq(7)), 7, 2)] {
            let mut copy = replica(3);
            copy.history.push(Fork {
                reign: reign(4, 2),
                seq: Seq(8),
                start: Seq(8),
                is_branch: false,
            });
            copy.rewound_to = rewound_to;
            // The connection broke meanwhile.
            copy.stop_following();
            copy.begin_reign(reign(5, 2), LogOffset(0));
            let last = copy.history.last().map(|fork| (fork.seq, fork.start));
            assert_eq!(last, Some((Seq(seq), Seq(10))));
            assert_eq!(copy.history.forks().len(), forks);
            assert_eq!(copy.rewound_to, None);
        }
    }

    #[test]
    fn a_copy_that_is_being_rewound_is_as_far_as_it_is_rewound() {
        let mut copy = replica(3);
        let fork = Fork {
            reign: reign(4, 2),
            seq: Seq(8),
            start: Seq(8),
            is_branch: false,
        };
        copy.history.push(fork);
        (copy.term, copy.source) = (Epoch(4), Some(source(2)));
        let position = |copy: &RangeCopy| copy.position().map(|one| (one.term, one.seq));
        assert_eq!(position(&copy), Some((Epoch(4), Seq(10))));
        for (to, expected) in [(9, (4, 9)), (7, (3, 7)), (9, (3, 7))] {
            copy.note_rewound(Seq(to));
            // The connection broke meanwhile.
            copy.stop_following();
            assert_eq!(position(&copy), Some((Epoch(expected.0), Seq(expected.1))));
        }
    }
}
