//! The follower's side of one primary's core: which of its batches count, and what it is told.
//!
//! # Invariants
//! 1. Entries are applied once and in order: batches of an older session, repeated ones, and those
//!    behind a gap change nothing.
//! 2. Entries are applied only from the start of the node that the topology names as the range's
//!    primary, and only in its term.
//! 3. A position is acknowledged in the term in which it was numbered, and only when all writes before
//!    it are applied.

mod apply;
mod offer;
mod rewind;
mod tell;

use super::copies::Copies;
use super::{Address, Header, RemoteCore, StageId, Store};
use crate::{Range, RangeSet, Term};

pub(super) use apply::Bench;
use rewind::Pass;

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its entries are to be given, and then `end_batch`.
    Apply,
    /// It was applied already, or its session is over: forget it.
    Old,
    /// A batch before it is missing: forget it; a new session is asked for.
    Gap,
    /// Its sender is sealed: forget it.
    Sealed,
    /// Its sender acts on a newer topology than this core: fetch that, then ask again.
    Ahead,
    /// It is from a core, or for one, that by this core's topology has no business with it: forget it,
    /// and send the topology.
    Stale,
}

/// What comes from one primary's core.
pub(super) struct Source {
    pub(super) from: Address,
    pub(super) session: u64,
    pub(super) is_open: bool,
    /// The last batch applied, and the last number told.
    number: u64,
    told: u64,
    /// Number of the last group of messages told.
    group: u64,
    is_reset_due: bool,
    /// Something is missing in this session: nothing more of it is applied.
    is_broken: bool,
    refusals: Vec<(Range, Term)>,
    /// The long value that is under way.
    stage: Option<Staged>,
    /// Items that this batch may still drop.
    droppable: usize,
    /// The keys that are being asked for.
    pass: Option<Pass>,
    is_fetch_answered: bool,
    needs_pass: bool,
    /// Copies that may have something to be told.
    dues: RangeSet,
}

struct Staged {
    range: Range,
    key: Box<[u8]>,
    value_bytes: u64,
    ttl_ms: Option<u64>,
    /// When it began, by the receiver's clock.
    begun: crate::Time,
    seq: crate::Seq,
    pushed: u64,
    /// `None` if there was no room for it.
    place: Option<StageId>,
}

/// Refusals kept to be told; more are of the same kind and can wait for the next entries.
const REFUSALS_MAX: usize = 64;

impl Source {
    pub(super) fn new(from: Address) -> Self {
        Self {
            from,
            session: 0,
            is_open: false,
            number: 0,
            told: 0,
            group: 0,
            is_reset_due: false,
            is_broken: false,
            refusals: Vec::new(),
            stage: None,
            droppable: 0,
            pass: None,
            is_fetch_answered: true,
            needs_pass: false,
            dues: RangeSet::EMPTY,
        }
    }

    pub(super) fn core(&self) -> RemoteCore {
        self.from.core
    }

    /// Number of the last group of messages told.
    pub(super) fn group(&self) -> u64 {
        self.group
    }

    /// Judges a batch by its session and number; `is_new` if a session begins with it.
    pub(super) fn judge(&mut self, header: &Header, is_new: &mut bool) -> Verdict {
        let is_over = header.session == self.session && !self.is_open;
        if header.session < self.session || is_over {
            return Verdict::Old;
        }
        *is_new = header.session > self.session;
        if *is_new {
            self.begin_session(header.session);
        }
        if header.number <= self.number {
            return Verdict::Old;
        }
        if header.number > self.number + 1 || self.is_broken {
            self.is_reset_due = true;
            return Verdict::Gap;
        }
        self.number = header.number;
        Verdict::Apply
    }

    /// Lets a batch of a sealed sender go by; when the seal ends, a new session is to bring it again.
    pub(super) fn pass_over(&mut self, header: &Header, is_new: &mut bool) -> Verdict {
        *is_new = header.session > self.session;
        if *is_new {
            self.begin_session(header.session);
        }
        self.is_reset_due = true;
        Verdict::Sealed
    }

    fn begin_session(&mut self, session: u64) {
        self.session = session;
        self.is_open = true;
        (self.number, self.told, self.group) = (0, 0, 0);
        (self.is_reset_due, self.is_broken) = (false, false);
        self.refusals.clear();
        self.pass = None;
        self.needs_pass = false;
        self.is_fetch_answered = true;
    }

    /// What was to come before is not there: a new session is to bring it.
    fn break_session(&mut self) {
        (self.is_reset_due, self.is_broken) = (true, true);
    }

    /// What was told may be lost: this session is over, even if more of it arrives, and a new one is to
    /// be asked for. The primary may not know: what it sends goes by another connection.
    pub(super) fn close(&mut self, store: &mut dyn Store) {
        self.is_open = false;
        self.is_reset_due = self.session > 0;
        self.abort_stage(store);
    }

    /// Frees what there is of a long value.
    pub(super) fn abort_stage(&mut self, store: &mut dyn Store) {
        if let Some(place) = self.stage.take().and_then(|staged| staged.place) {
            store.stage_abort(place);
        }
    }

    /// Frees what there is of a long value of `range`.
    pub(super) fn abort_stage_of(&mut self, range: Range, store: &mut dyn Store) {
        if self
            .stage
            .as_ref()
            .is_some_and(|staged| staged.range == range)
        {
            self.abort_stage(store);
        }
    }

    /// Whether the long value under way is of a range that is not followed from here any more.
    pub(super) fn is_staging_unfollowed(&self, copies: &Copies) -> bool {
        let is_followed = |range| {
            copies
                .get(range)
                .is_some_and(|one| one.source == Some(self.from))
        };
        self.stage
            .as_ref()
            .is_some_and(|staged| !is_followed(staged.range))
    }

    /// A newer topology may say otherwise.
    pub(super) fn forget_refusals(&mut self) {
        self.refusals.clear();
    }

    fn refuse(&mut self, range: Range, term: Term) {
        if self.refusals.len() < REFUSALS_MAX && !self.refusals.contains(&(range, term)) {
            self.refusals.push((range, term));
        }
    }
}

/// Milliseconds that are left of a time to live that was told so long ago.
fn ms_left(ttl_ms: Option<u64>, passed_ms: u64) -> Option<u64> {
    ttl_ms.map(|ttl_ms| ttl_ms.saturating_sub(passed_ms))
}
