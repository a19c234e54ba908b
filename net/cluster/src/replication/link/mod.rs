//! The primary's side of one follower's core: what it was sent, and what it acknowledged.
//!
//! ```text
//! Offering --Start(seq)--> Following <--------------- SyncEnd --+
//!    ^  |\--Start(nothing)--> Waiting --turn, SyncBegin--> Syncing
//!    |  \--Refuse--> Refused (until the next topology)
//! new session                        log too short: Resync, and Start(nothing) comes
//! ```
//!
//! # Invariants
//! 1. Whatever an entry of the log tells of a followed range is sent before its `Reached`, as the value
//!    that the key has when it is sent, or is being sent as the long value that holds `Reached` up.
//! 2. A followed range has been served up to its own cursor or the link's, whichever is further.
//! 3. Bytes and batches that are not acknowledged are bounded; so is the work of making a batch.

mod batch;
mod item;
mod long;
mod reply;
mod sync;

use std::collections::VecDeque;

use super::copies::Copies;
use super::limits::{OFFER_RETRY_MS, OFFERS_CHECKED_MS, STALL_MS};
use super::{Address, Log, LogOffset, RemoteCore};
use crate::{Epoch, Range, Seq, Term, Time};

pub(super) use batch::Scene;
use long::LongValue;
use sync::FullSync;
pub(super) use sync::Turn;

/// What one follower's core is to be sent.
pub(super) struct Link {
    pub(super) to: Address,
    pub(super) session: u64,
    pub(super) is_connected: bool,
    /// Number of the last batch sent and of the last one acknowledged.
    number: u64,
    acked_number: u64,
    /// The last group of messages heard.
    group: u64,
    /// Up to where the log was read, and up to where that is acknowledged.
    cursor: LogOffset,
    acked_cursor: LogOffset,
    /// Where the session began to read.
    resume_cursor: LogOffset,
    flights: VecDeque<Flight>,
    flying_bytes: usize,
    followed: Vec<Followed>,
    /// By the range's place: its position in `followed`.
    positions: Vec<u16>,
    long: Option<LongValue>,
    /// A long value was given up: the follower is to forget its parts.
    aborted: Option<(Range, Term)>,
    fetches: VecDeque<Fetch>,
    /// Up to where the keys that were read are told, and when they were last.
    touches_cursor: LogOffset,
    touches_told: Time,
    /// Where this telling ends.
    touches_end: Option<LogOffset>,
    /// Some followed range has something to be told.
    needs_attention: bool,
    has_reached: bool,
    /// Followers of ranges may wait for a full sync, or for one to go on.
    wants_sync: bool,
    is_catching_up: bool,
    /// All writes before this were acknowledged.
    covered: Time,
    /// When unanswered offers were looked for.
    offers_checked: Time,
    /// When the last acknowledgement came, or the first batch after all were acknowledged was sent.
    progress: Time,
    /// Mean size of an entry, as sent.
    entry_bytes: usize,
}

/// A batch on its way.
struct Flight {
    number: u64,
    bytes: usize,
    /// Of these, what a full sync sent, without long values.
    sync_bytes: usize,
    cursor: LogOffset,
    /// All writes before this are in it or in those before.
    covered: Time,
    /// The sync that it has a part of, and where that would go on.
    sync: Option<(Range, u64, sync::Walk)>,
}

/// One range that the follower's core follows.
pub(super) struct Followed {
    pub(super) range: Range,
    pub(super) term: Term,
    pub(super) stage: Stage,
    /// Something is to be said in the next batch.
    due: Option<Due>,
    /// Entries up to this number are not sent.
    from: Seq,
    /// Entries of the log before this are not sent.
    cursor: LogOffset,
    /// All writes up to here are sent, up to here the follower knows that, and has said so.
    sent: Seq,
    reached: Seq,
    pub(super) acked: Seq,
    pub(super) is_complete: bool,
    /// The topology by which it said so: since an older one than today's it may have been rewound in a branch.
    pub(super) said: Epoch,
    /// Whether entries from before the own reign are still to be sent.
    is_catching_up: bool,
    /// The batch in which following began.
    began: u64,
    /// Whether a new session may go on where the old one was acknowledged.
    is_resumable: bool,
    sync: Option<Box<FullSync>>,
}

/// How far a followed range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Offering { since: Time },
    Refused,
    Waiting,
    Syncing,
    Following,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Offer,
    Follow,
    Resync,
}

/// What a rewinding follower asked for.
enum Fetch {
    Key(Range, Term, Box<[u8]>),
    /// A group ends.
    End,
}

const NOWHERE: u16 = u16::MAX;

impl Link {
    pub(super) fn new(to: Address, log: &Log, copies: &Copies) -> Self {
        Self {
            to,
            session: 0,
            is_connected: false,
            number: 0,
            acked_number: 0,
            group: 0,
            cursor: log.head(),
            acked_cursor: log.head(),
            resume_cursor: log.head(),
            flights: VecDeque::new(),
            flying_bytes: 0,
            followed: Vec::new(),
            positions: vec![NOWHERE; copies.count()],
            long: None,
            aborted: None,
            fetches: VecDeque::new(),
            touches_cursor: LogOffset(0),
            touches_told: Time(0),
            touches_end: None,
            needs_attention: false,
            has_reached: false,
            wants_sync: false,
            is_catching_up: false,
            covered: Time(0),
            offers_checked: Time(0),
            progress: Time(0),
            entry_bytes: 0,
        }
    }

    pub(super) fn core(&self) -> RemoteCore {
        self.to.core
    }

    pub(super) fn followed(&self) -> &[Followed] {
        &self.followed
    }

    /// Whether a full sync of the range at `place` runs.
    pub(super) fn is_syncing(&self, place: usize) -> bool {
        let followed = self.of_place(place);
        followed.is_some_and(|one| one.stage == Stage::Syncing && one.sync.is_some())
    }

    /// All writes before this were acknowledged.
    pub(super) fn covered(&self) -> Time {
        self.covered
    }

    /// Mean size of an entry, as sent.
    pub(super) fn entry_bytes_mean(&self) -> u64 {
        self.entry_bytes as u64
    }

    #[inline]
    pub(super) fn of_place(&self, place: usize) -> Option<&Followed> {
        self.followed.get(usize::from(self.positions[place]))
    }

    fn of_range(&mut self, copies: &Copies, range: Range) -> Option<&mut Followed> {
        let place = copies.place(range)?;
        self.followed.get_mut(usize::from(self.positions[place]))
    }

    /// Sets the ranges to be followed, in order, with their terms. Those that are the same go on.
    pub(super) fn set_followed(&mut self, wanted: &[(Range, Term)], copies: &Copies) {
        let mut old = std::mem::take(&mut self.followed).into_iter().peekable();
        self.positions.fill(NOWHERE);
        for &(range, term) in wanted {
            while old.next_if(|followed| followed.range < range).is_some() {}
            let is_same = |followed: &Followed| followed.range == range && followed.term == term;
            let kept = old.next_if(is_same);
            let mut followed = kept.unwrap_or_else(|| Followed::new(range, term));
            if followed.stage == Stage::Refused {
                followed.offer();
            }
            let place = copies.place(range).expect("it is at home here");
            self.positions[place] = u16::try_from(self.followed.len()).expect("few ranges");
            self.followed.push(followed);
        }
        let goes_on = |long: &LongValue| wanted.contains(&(long.range, long.term));
        if self.long.as_ref().is_some_and(|long| !goes_on(long)) {
            self.abort_long();
        }
        self.needs_attention = true;
    }

    /// Begins anew: everything that was not acknowledged is lost.
    pub(super) fn begin_session(&mut self, session: u64) {
        self.session = session;
        self.is_connected = true;
        self.stop();
    }

    /// Followers may come back with less than they had.
    pub(super) fn resume_nothing(&mut self) {
        for followed in &mut self.followed {
            (followed.is_resumable, followed.began) = (false, 0);
        }
    }

    /// The connection is gone.
    pub(super) fn end_session(&mut self) {
        self.is_connected = false;
        self.stop();
    }

    fn stop(&mut self) {
        for followed in &mut self.followed {
            let was_served = matches!(followed.stage, Stage::Following | Stage::Syncing);
            // A session that ends before the follower answered leaves things as they were, if nothing
            // was read meanwhile.
            followed.is_resumable = if was_served {
                followed.began > 0 && self.acked_number >= followed.began
            } else {
                followed.is_resumable && self.acked_cursor == self.resume_cursor
            };
            followed.began = 0;
            followed.offer();
        }
        (self.number, self.acked_number, self.group) = (0, 0, 0);
        self.cursor = self.acked_cursor;
        self.resume_cursor = self.acked_cursor;
        self.flights.clear();
        self.flying_bytes = 0;
        self.long = None;
        self.aborted = None;
        self.fetches.clear();
        self.needs_attention = true;
    }

    fn abort_long(&mut self) {
        if let Some(long) = self.long.take() {
            self.aborted = Some((long.range, long.term));
        }
    }

    /// Lets offers that nobody answered be repeated; true if the session is at a stand.
    pub(super) fn tick(&mut self, now: Time) -> bool {
        if now.ms_since(self.offers_checked) >= OFFERS_CHECKED_MS {
            self.offers_checked = now;
            self.repeat_offers(now);
        }
        !self.flights.is_empty() && now.ms_since(self.progress) >= STALL_MS
    }

    fn repeat_offers(&mut self, now: Time) {
        for followed in &mut self.followed {
            if let Stage::Offering { since } = followed.stage
                && followed.due.is_none()
                && now.ms_since(since) >= OFFER_RETRY_MS
            {
                followed.due = Some(Due::Offer);
                self.needs_attention = true;
            }
        }
    }
}

impl Followed {
    fn new(range: Range, term: Term) -> Self {
        Self {
            range,
            term,
            stage: Stage::Offering { since: Time(0) },
            due: Some(Due::Offer),
            from: Seq(0),
            cursor: LogOffset(0),
            sent: Seq(0),
            reached: Seq(0),
            acked: Seq(0),
            is_complete: false,
            said: Epoch(0),
            is_catching_up: false,
            began: 0,
            is_resumable: false,
            sync: None,
        }
    }

    fn offer(&mut self) {
        self.stage = Stage::Offering { since: Time(0) };
        self.due = Some(Due::Offer);
        self.is_catching_up = false;
    }

    /// Whether it has said, by the topology of this epoch or a later one, that it has a whole copy up to `seq`.
    pub(super) fn has(&self, seq: Seq, epoch: Epoch) -> bool {
        self.is_complete && self.said >= epoch && self.acked >= seq
    }

    fn is_served(&self) -> bool {
        matches!(self.stage, Stage::Following | Stage::Syncing)
    }
}

#[cfg(test)]
mod tests {
    use super::{Copies, Link, Log, Seq};
    use crate::replication::{Address, RemoteCore};
    use crate::{Epoch, HomeTable, Incarnation, NodeId, Range, ShardIndex};

    #[test]
    fn what_is_followed_on_in_the_same_term_goes_on() {
        let copies = Copies::new(&HomeTable::even(1), ShardIndex(0));
        let to = Address {
            core: RemoteCore {
                node: NodeId(2),
                core: ShardIndex(0),
            },
            incarnation: Incarnation(1),
        };
        let mut link = Link::new(to, &Log::new(1 << 20, 60_000), &copies);
        let ranges: Vec<Range> = Range::all().take(6).collect();
        link.set_followed(
            &ranges.iter().map(|&r| (r, Epoch(3))).collect::<Vec<_>>(),
            &copies,
        );
        for followed in &mut link.followed {
            followed.acked = Seq(7);
        }
        // The first and the fourth go, the third is of another term.
        let wanted = [(1, 3), (2, 4), (4, 3), (5, 3)].map(|(at, term)| (ranges[at], Epoch(term)));
        link.set_followed(&wanted, &copies);
        let acked = ranges
            .iter()
            .map(|&range| link.of_range(&copies, range).map(|one| one.acked));
        let expected = [None, Some(7), Some(0), None, Some(7), Some(7)];
        assert_eq!(acked.collect::<Vec<_>>(), expected.map(|seq| seq.map(Seq)));
    }
}
