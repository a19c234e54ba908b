//! What the follower's core has to say.

use arrayvec::ArrayVec;

use super::Source;
use super::offer::start_of;
use crate::replication::copies::{Copies, Follow};
use crate::replication::key_set::KeySet;
use crate::replication::limits::ACK_POSITIONS_MAX;
use crate::replication::{Control, ControlSink, CopyPosition, Log};
use crate::{NodeId, Range, RangeSet};

/// What there was to say.
pub(in crate::replication) struct Told {
    /// The number that all messages acknowledge; `None` if there are none.
    pub(in crate::replication) number: Option<u64>,
    /// Keys asked for that this node wrote as their primary: its divergent writes.
    pub(in crate::replication) divergent: u64,
}

/// Counts what passes.
struct Counting<'a> {
    sink: &'a mut dyn ControlSink,
    count: usize,
}

impl ControlSink for Counting<'_> {
    fn control(&mut self, control: &Control<'_>) {
        self.sink.control(control);
        self.count += 1;
    }
}

impl Source {
    /// Notes that a copy has something to be told.
    pub(in crate::replication) fn note_due(&mut self, range: Range) {
        self.dues.insert(range);
    }

    /// Notes that those of these copies that come from here have.
    pub(in crate::replication) fn note_dues(&mut self, ranges: &RangeSet) {
        self.dues.insert_all(ranges);
    }

    /// Says what is to be said.
    pub(in crate::replication) fn tell(
        &mut self,
        own: NodeId,
        copies: &mut Copies,
        log: &Log,
        keys: &mut KeySet,
        sink: &mut dyn ControlSink,
    ) -> Told {
        let mut told = Told {
            number: None,
            divergent: 0,
        };
        let mut sink = Counting { sink, count: 0 };
        if std::mem::take(&mut self.is_reset_due) {
            sink.control(&Control::Reset);
            if !self.is_open {
                self.group += 1;
                told.number = Some(self.number);
            }
        }
        if !self.is_open {
            return told;
        }
        for (range, term) in self.refusals.drain(..) {
            sink.control(&Control::Refuse { range, term });
        }
        told.divergent = self.go_on_rewinding(own, copies, log, keys, &mut sink);
        if !self.dues.is_empty() {
            self.tell_dues(copies, &mut sink);
        }
        if sink.count == 0 && self.told < self.number {
            sink.control(&Control::Ack { positions: &[] });
        }
        if sink.count > 0 {
            self.told = self.number;
            self.group += 1;
            told.number = Some(self.number);
        }
        told
    }

    fn tell_dues(&mut self, copies: &mut Copies, sink: &mut Counting<'_>) {
        let mut positions = ArrayVec::<CopyPosition, ACK_POSITIONS_MAX>::new();
        let own = self.from;
        for range in std::mem::take(&mut self.dues).iter() {
            let copy = copies.get_mut(range);
            let Some(copy) = copy.filter(|copy| copy.source == Some(own)) else {
                continue;
            };
            if positions.is_full() {
                self.dues.insert(range);
                continue;
            }
            let start = start_of(copy).filter(|_| copy.is_start_due);
            if let Some(from) = start {
                copy.is_start_due = false;
                let term = copy.term;
                sink.control(&Control::Start { range, term, from });
            }
            if copy.is_ack_due && copy.follow == Follow::Live && copy.offered.is_none() {
                copy.is_ack_due = false;
                positions.extend(copy.position());
            }
            if copy.is_start_due || copy.is_ack_due {
                // Not yet.
                self.dues.insert(range);
            }
        }
        if !positions.is_empty() {
            let positions = &positions;
            sink.control(&Control::Ack { positions });
        }
    }
}
