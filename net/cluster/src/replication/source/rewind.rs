//! Rewinding: a copy that went on after the fork asks the primary for what it wrote, or was sent, since.
//!
//! One pass over this core's log lists the keys of all copies that wait for it, in groups; the next group
//! is asked for when the last one was answered. Then the copies start from their forks.

use super::Source;
use crate::NodeId;
use crate::replication::copies::{Copies, Follow};
use crate::replication::key_set::KeySet;
use crate::replication::limits::{FETCH_KEYS_MAX, REWIND_SCAN_MAX};
use crate::replication::{Control, ControlSink, Log, LogEntry, LogKind, LogOffset};

/// A pass over the log.
pub(super) struct Pass {
    cursor: LogOffset,
    end: LogOffset,
}

impl Source {
    /// Whether the log is to be read on.
    pub(in crate::replication) fn is_rewinding(&self) -> bool {
        self.is_open && self.is_fetch_answered && (self.pass.is_some() || self.needs_pass)
    }

    /// Asks for the next group of keys; gives how many of them this node wrote as their primary.
    pub(super) fn go_on_rewinding(
        &mut self,
        own: NodeId,
        copies: &mut Copies,
        log: &Log,
        keys: &mut KeySet,
        sink: &mut dyn ControlSink,
    ) -> u64 {
        if !self.is_rewinding() {
            return 0;
        }
        self.begin_pass(copies, log);
        let Some(mut pass) = self.pass.take() else {
            return 0;
        };
        keys.clear();
        let (mut asked, mut divergent) = (0, 0);
        pass.cursor = pass.cursor.max(log.oldest());
        for _ in 0..REWIND_SCAN_MAX {
            if asked == FETCH_KEYS_MAX || pass.cursor >= pass.end {
                break;
            }
            let Some((entry, next)) = log.at(pass.cursor) else {
                pass.cursor = pass.end;
                break;
            };
            if self.is_beyond_fork(copies, pass.cursor, &entry) {
                let copy = copies.get_mut(entry.range).expect("it was found");
                match entry.kind {
                    // What was lost with it is not listed anywhere.
                    LogKind::Flushed => copies.begin_emptying(entry.range),
                    LogKind::Changed(key) => {
                        if keys.insert(log, pass.cursor, entry.range, key) {
                            let (range, term) = (entry.range, copy.term);
                            sink.control(&Control::Fetch { range, term, key });
                            asked += 1;
                            let last = copy.history.last();
                            let is_own = last.is_some_and(|fork| fork.reign.primary == own);
                            divergent += u64::from(is_own);
                        }
                    }
                }
            }
            pass.cursor = next;
        }
        if asked > 0 {
            sink.control(&Control::FetchEnd);
            self.is_fetch_answered = false;
            self.pass = Some(pass);
        } else if pass.cursor < pass.end {
            self.pass = Some(pass);
        } else {
            self.end_pass(copies);
        }
        divergent
    }

    fn begin_pass(&mut self, copies: &mut Copies, log: &Log) {
        if self.pass.is_some() || !std::mem::take(&mut self.needs_pass) {
            return;
        }
        let from = self.from;
        for copy in copies.iter_mut().filter(|copy| copy.source == Some(from)) {
            if let Follow::Rewinding { is_listed, .. } = &mut copy.follow {
                *is_listed = true;
            }
        }
        self.pass = Some(Pass {
            cursor: log.oldest(),
            end: log.head(),
        });
    }

    fn is_beyond_fork(&self, copies: &Copies, at: LogOffset, entry: &LogEntry<'_>) -> bool {
        let copy = copies.get(entry.range);
        let Some(copy) = copy.filter(|copy| copy.source == Some(self.from)) else {
            return false;
        };
        match copy.follow {
            Follow::Rewinding { from, is_listed } => {
                is_listed && at >= copy.log_start && entry.seq > from
            }
            _ => false,
        }
    }

    /// All keys were asked for and came.
    fn end_pass(&mut self, copies: &mut Copies) {
        let own = self.from;
        let mut given_up = Vec::new();
        for copy in copies.iter_mut().filter(|copy| copy.source == Some(own)) {
            let Follow::Rewinding { from, is_listed } = copy.follow else {
                continue;
            };
            if !is_listed {
                self.needs_pass = true;
            } else if copy.floor > from {
                // Some of them fell out of the log before they were listed.
                given_up.push(copy.range);
            } else {
                copy.follow = Follow::Starting { from };
                copy.is_start_due = true;
                self.note_due(copy.range);
            }
        }
        for range in given_up {
            copies.begin_emptying(range);
        }
    }
}
