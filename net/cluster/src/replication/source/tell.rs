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
        }
        if !positions.is_empty() {
            let positions = &positions;
            sink.control(&Control::Ack { positions });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ACK_POSITIONS_MAX, Control, ControlSink, Copies, Follow, KeySet, Log, Source};
    use crate::replication::{Address, Fork, History, Reign, RemoteCore};
    use crate::{Epoch, HomeTable, Incarnation, NodeId, Range, Seq, ShardIndex};

    #[derive(Default)]
    struct Acknowledged(Vec<Range>);

    impl ControlSink for Acknowledged {
        fn control(&mut self, control: &Control<'_>) {
            let Control::Ack { positions } = control else {
                panic!("{control:?}");
            };
            self.0.extend(positions.iter().map(|one| one.range));
        }
    }

    #[test]
    fn what_has_no_room_is_told_the_next_time() {
        let from = Address {
            core: RemoteCore {
                node: NodeId(1),
                core: ShardIndex(0),
            },
            incarnation: Incarnation(1),
        };
        let reign = Reign {
            term: Epoch(3),
            primary: NodeId(1),
            incarnation: Incarnation(1),
            number: 1,
        };
        let fork = Fork {
            reign,
            seq: Seq(0),
            start: Seq(0),
            is_branch: false,
        };
        let mut copies = Copies::new(&HomeTable::even(1), ShardIndex(0));
        let mut source = Source::new(from);
        source.is_open = true;
        let ranges: Vec<Range> = Range::all().take(ACK_POSITIONS_MAX + 7).collect();
        for &range in &ranges {
            let copy = copies.get_mut(range).expect("all are at home here");
            (copy.source, copy.follow) = (Some(from), Follow::Live);
            copy.history = History::new(&[fork]);
            copy.is_ack_due = true;
            source.note_due(range);
        }
        let (log, mut keys) = (Log::new(1 << 20, 60_000), KeySet::new());
        let mut told = Acknowledged::default();
        for count in [ACK_POSITIONS_MAX, ranges.len(), ranges.len()] {
            source.tell(NodeId(2), &mut copies, &log, &mut keys, &mut told);
            assert_eq!(told.0, ranges[..count]);
        }
    }
}
