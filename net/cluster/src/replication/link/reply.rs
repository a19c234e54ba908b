//! What a follower's core says to the primary's.

use super::{Due, Fetch, Followed, Link, Stage};
use crate::replication::copies::Copies;
use crate::replication::limits::FETCH_KEYS_MAX;
use crate::replication::{Control, CopyPosition, Header, Log, LogOffset, StartFrom};
use crate::{Epoch, Range, Seq, Term, Time};

impl Link {
    /// Takes note of messages; false if they do not count.
    pub(in crate::replication) fn hear(&mut self, header: &Header, now: Time) -> bool {
        let is_next = header.session == self.session && header.group > self.group;
        if !self.is_connected || !is_next {
            return false;
        }
        self.group = header.group;
        self.acknowledge(header.number, now);
        true
    }

    /// Takes one of the messages that were heard, said by the topology of `said`.
    pub(in crate::replication) fn handle(
        &mut self,
        control: &Control<'_>,
        said: Epoch,
        copies: &Copies,
        log: &Log,
    ) {
        match *control {
            Control::Ack { positions } => {
                for position in positions {
                    self.note_position(position, said, copies);
                }
            }
            Control::Start { range, term, from } => self.start(range, term, from, copies, log),
            Control::Fetch { range, term, key } => {
                let is_followed = self
                    .of_range(copies, range)
                    .is_some_and(|one| one.term == term);
                if is_followed && self.fetches.len() <= FETCH_KEYS_MAX {
                    self.fetches.push_back(Fetch::Key(range, term, key.into()));
                }
            }
            Control::FetchEnd => {
                if self.fetches.len() <= FETCH_KEYS_MAX {
                    self.fetches.push_back(Fetch::End);
                }
            }
            Control::Refuse { range, term } => {
                if let Some(followed) = self.of_range(copies, range)
                    && followed.term == term
                {
                    followed.stage = Stage::Refused;
                    followed.due = None;
                    self.give_up(range);
                }
            }
            // Whoever has the sessions' numbers begins a new one.
            Control::Reset => {}
        }
    }

    fn acknowledge(&mut self, number: u64, now: Time) {
        while let Some(flight) = self.flights.front()
            && flight.number <= number
        {
            let flight = self.flights.pop_front().expect("it is there");
            self.flying_bytes -= flight.bytes;
            self.acked_number = flight.number;
            self.progress = now;
            self.acked_cursor = flight.cursor;
            self.covered = self.covered.max(flight.covered);
            if let Some((range, id, walk)) = flight.sync {
                self.note_sync_acked(range, id, walk);
            }
        }
    }

    /// A position from before the follower began to follow, or to be filled, says nothing of now.
    fn note_position(&mut self, position: &CopyPosition, said: Epoch, copies: &Copies) {
        let acked_number = self.acked_number;
        if let Some(followed) = self.of_range(copies, position.range)
            && followed.term == position.term
            && followed.is_served()
            && followed.began <= acked_number
        {
            if said > followed.said {
                (followed.said, followed.acked) = (said, position.seq);
            }
            followed.acked = followed.acked.max(position.seq);
            followed.is_complete = position.is_complete;
        }
    }

    fn start(&mut self, range: Range, term: Term, from: StartFrom, copies: &Copies, log: &Log) {
        let resume_cursor = self.resume_cursor;
        let Some(followed) = self.of_range(copies, range).filter(|one| one.term == term) else {
            return;
        };
        if from == StartFrom::Nothing {
            if matches!(followed.stage, Stage::Refused | Stage::Waiting) {
                return;
            }
            followed.stage = Stage::Waiting;
            followed.due = None;
            followed.sync = None;
            (followed.is_complete, followed.is_resumable) = (false, false);
            self.wants_sync = true;
            self.give_up(range);
            return;
        }
        if !matches!(followed.stage, Stage::Offering { .. }) {
            return;
        }
        let copy = copies.get(range).expect("it is at home here");
        let (stage, seq) = match from {
            StartFrom::Sync { sync, seq } => {
                let held = followed.sync.as_mut().filter(|held| held.id == sync);
                match held {
                    Some(held) => held.rewind(),
                    None => return self.resync(range, copies),
                }
                (Stage::Syncing, seq)
            }
            StartFrom::Seq(seq) => (Stage::Following, seq),
            StartFrom::Nothing => unreachable!("it was dealt with"),
        };
        if seq > copy.seq || copy.floor > seq {
            return self.resync(range, copies);
        }
        let is_new = seq == copy.seq;
        let oldest = log.oldest().max(copy.log_start);
        let cursor = match (is_new, followed.is_resumable && seq >= followed.acked) {
            (true, _) => log.head(),
            (false, true) => resume_cursor.max(oldest),
            (false, false) => oldest,
        };
        followed.stage = stage;
        followed.due = Some(Due::Follow);
        followed.is_resumable = false;
        followed.began = u64::MAX;
        followed.begin_at(seq, cursor);
        followed.is_catching_up = seq < copy.start();
        self.is_catching_up |= followed.is_catching_up;
        self.wants_sync |= stage == Stage::Syncing;
        self.needs_attention = true;
        self.go_back(cursor, range);
    }

    /// Reads the log again from `cursor`, for `range` alone.
    fn go_back(&mut self, cursor: LogOffset, range: Range) {
        if cursor >= self.cursor {
            return;
        }
        for followed in self.followed.iter_mut().filter(|one| one.range != range) {
            followed.cursor = followed.cursor.max(self.cursor);
        }
        self.cursor = cursor;
    }

    fn resync(&mut self, range: Range, copies: &Copies) {
        if let Some(followed) = self.of_range(copies, range) {
            followed.resync();
        }
        self.needs_attention = true;
        self.give_up(range);
    }

    /// Sends no more of what was under way for a range.
    fn give_up(&mut self, range: Range) {
        if self.is_long_of(range) {
            self.abort_long();
        }
    }
}

impl Followed {
    /// Everything up to `seq` is there; what comes is in the log from `cursor` on.
    pub(super) fn begin_at(&mut self, seq: Seq, cursor: LogOffset) {
        (self.from, self.sent, self.reached) = (seq, seq, seq);
        self.cursor = cursor;
    }

    /// Lets the follower empty its copy, and start from nothing.
    pub(super) fn resync(&mut self) {
        self.stage = Stage::Offering { since: Time(0) };
        self.due = Some(Due::Resync);
        self.sync = None;
        self.is_resumable = false;
        self.is_complete = false;
        self.is_catching_up = false;
    }
}
