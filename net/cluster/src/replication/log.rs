//! What was written last on one core: a ring of keys, for all of the core's ranges.
//!
//! ```text
//! offset  oldest                                                      head
//!         | range, seq, key | range, seq, key | (rest of the ring) | range, seq | ...
//!           10 + 2 + key      10 + 2 + key        skipped            flush: no key
//! ```
//! An entry's value is not here: it is read when it is sent. Appending is O(1), allocates nothing, and
//! drops the oldest entries when there is no room; so does age.
//!
//! # Invariants
//! 1. An entry lies in the ring in one piece. Offsets only rise; an offset's place is its remainder.
//! 2. `head - oldest` is at most the ring's size.
//! 3. Marks rise in time and offset, and the first one is not behind the oldest entry.

use std::collections::VecDeque;

use crate::{Range, Seq, Time};

/// A place in the log. Entries before it were appended before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogOffset(pub u64);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind<'a> {
    /// The key was written or deleted.
    Changed(&'a [u8]),
    /// The whole range was emptied.
    Flushed,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// The range.
    pub range: Range,
    /// The number of the write; in a follower's log, the range's last write when the value was read.
    pub seq: Seq,
    /// What happened.
    pub kind: LogKind<'a>,
}

/// The ring.
pub struct Log {
    ring: Box<[u8]>,
    oldest: u64,
    head: u64,
    entries_count: u64,
    age_ms_max: u64,
    marks: VecDeque<(Time, u64)>,
}

/// Range, seq and the length of the key.
const HEADER_BYTES: usize = 2 + 8 + 2;
/// In place of a key's length: the range was flushed.
const FLUSHED: u16 = u16::MAX;
/// In place of a range: the rest of the ring is skipped.
const SKIP: u16 = u16::MAX;
/// Ages are known to so many milliseconds.
const MARK_MS: u64 = 100;

impl Log {
    /// An empty log of at most so many bytes, whose entries are dropped at this age.
    ///
    /// # Panics
    /// If there is no room for the longest entry.
    #[must_use]
    pub fn new(bytes_max: usize, age_ms_max: u64) -> Self {
        assert!(bytes_max > 2 * (HEADER_BYTES + usize::from(u16::MAX)));
        Self {
            ring: vec![0; bytes_max].into_boxed_slice(),
            oldest: 0,
            head: 0,
            entries_count: 0,
            age_ms_max,
            marks: VecDeque::new(),
        }
    }

    /// Where the next entry will be.
    #[inline]
    #[must_use]
    pub fn head(&self) -> LogOffset {
        LogOffset(self.head)
    }

    /// Where the oldest entry is.
    #[must_use]
    pub fn oldest(&self) -> LogOffset {
        LogOffset(self.oldest)
    }

    /// Number of entries.
    #[must_use]
    pub fn entries_count(&self) -> u64 {
        self.entries_count
    }

    /// Size of the ring.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.ring.len()
    }

    /// Appends an entry. `dropped` is told of those that make room for it.
    #[inline]
    pub fn append(&mut self, entry: &LogEntry<'_>, now: Time, dropped: impl FnMut(Range, Seq)) {
        let (key, length): (&[u8], u16) = match entry.kind {
            LogKind::Changed(key) => {
                let length = u16::try_from(key.len()).expect("keys are shorter than 16 KiB");
                debug_assert!(length != FLUSHED);
                (key, length)
            }
            LogKind::Flushed => (&[], FLUSHED),
        };
        // A cursor that has read all stands before what is skipped: the mark does, too.
        let mark = self.head;
        let place = self.make_room(HEADER_BYTES + key.len(), dropped);
        let bytes = &mut self.ring[place..place + HEADER_BYTES + key.len()];
        let (header, rest) = bytes.split_at_mut(HEADER_BYTES);
        header[..2].copy_from_slice(&entry.range.index().to_le_bytes());
        header[2..10].copy_from_slice(&entry.seq.0.to_le_bytes());
        header[10..].copy_from_slice(&length.to_le_bytes());
        rest.copy_from_slice(key);
        let is_new_mark = self
            .marks
            .back()
            .is_none_or(|&(time, _)| now.ms_since(time) >= MARK_MS);
        if is_new_mark {
            self.marks.push_back((now, mark));
        }
        self.head += (HEADER_BYTES + key.len()) as u64;
        self.entries_count += 1;
    }

    /// Drops entries that are too old.
    pub fn expire(&mut self, now: Time, mut dropped: impl FnMut(Range, Seq)) {
        // What was appended from the second mark on is at least as young as that mark.
        while self.marks.len() > 1 && now.ms_since(self.marks[1].0) >= self.age_ms_max {
            let end = self.marks[1].1;
            while self.oldest < end {
                self.drop_oldest(&mut dropped);
            }
        }
    }

    /// The entry at `offset`, or behind a skipped rest of the ring, and where the next one is; `None`
    /// at the head.
    ///
    /// # Panics
    /// If `offset` is before the oldest entry, or inside one.
    #[inline]
    #[must_use]
    pub fn at(&self, offset: LogOffset) -> Option<(LogEntry<'_>, LogOffset)> {
        assert!(offset.0 >= self.oldest, "the cursor fell out of the log");
        let mut offset = offset.0;
        if offset < self.head && self.is_skip(offset) {
            offset += self.rest(offset);
        }
        if offset >= self.head {
            return None;
        }
        let place = self.place(offset);
        let header = &self.ring[place..place + HEADER_BYTES];
        let range = Range::from_index(u16::from_le_bytes([header[0], header[1]]))
            .expect("it was appended as a range");
        let seq = header[2..10].try_into().expect("eight bytes");
        let length = u16::from_le_bytes([header[10], header[11]]);
        let (kind, key_bytes) = match length {
            FLUSHED => (LogKind::Flushed, 0),
            length => {
                let start = place + HEADER_BYTES;
                let key = &self.ring[start..start + usize::from(length)];
                (LogKind::Changed(key), usize::from(length))
            }
        };
        let entry = LogEntry {
            range,
            seq: Seq(u64::from_le_bytes(seq)),
            kind,
        };
        Some((entry, LogOffset(offset + (HEADER_BYTES + key_bytes) as u64)))
    }

    /// A time before which nothing was appended that lies at `offset` or behind it; late by little.
    #[must_use]
    pub fn time_of(&self, offset: LogOffset) -> Option<Time> {
        let next = self.marks.partition_point(|&(_, at)| at <= offset.0);
        let mark = next.checked_sub(1)?;
        Some(self.marks[mark].0)
    }

    fn place(&self, offset: u64) -> usize {
        usize::try_from(offset % self.ring.len() as u64).expect("below the ring's size")
    }

    /// Bytes from `offset` to the end of the ring.
    fn rest(&self, offset: u64) -> u64 {
        (self.ring.len() - self.place(offset)) as u64
    }

    /// Whether the rest of the ring is skipped at `offset`. Less than a header is, always.
    fn is_skip(&self, offset: u64) -> bool {
        if self.rest(offset) < HEADER_BYTES as u64 {
            return true;
        }
        let place = self.place(offset);
        u16::from_le_bytes([self.ring[place], self.ring[place + 1]]) == SKIP
    }

    /// Frees the place of an entry of so many bytes at the head.
    #[inline]
    fn make_room(&mut self, bytes: usize, mut dropped: impl FnMut(Range, Seq)) -> usize {
        let rest = self.rest(self.head);
        let skipped = if rest < bytes as u64 { rest } else { 0 };
        let end = self.head + skipped + bytes as u64;
        while end - self.oldest > self.ring.len() as u64 {
            self.drop_oldest(&mut dropped);
        }
        if skipped > 0 {
            if skipped >= HEADER_BYTES as u64 {
                let place = self.place(self.head);
                self.ring[place..place + 2].copy_from_slice(&SKIP.to_le_bytes());
            }
            if self.oldest == self.head {
                self.oldest += skipped;
            }
            self.head += skipped;
        }
        self.place(self.head)
    }

    #[cold]
    fn drop_oldest(&mut self, dropped: &mut impl FnMut(Range, Seq)) {
        match self.at(LogOffset(self.oldest)) {
            Some((entry, next)) => {
                dropped(entry.range, entry.seq);
                self.oldest = next.0;
                self.entries_count -= 1;
            }
            None => self.oldest = self.head,
        }
        while self.marks.len() > 1 && self.marks[1].1 <= self.oldest {
            self.marks.pop_front();
        }
        if self.oldest == self.head {
            self.marks.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Log, LogEntry, LogKind, LogOffset};
    use crate::{Range, Seq, Time};

    const BYTES_MAX: usize = 2 * 66_000;

    fn read(log: &Log, mut at: LogOffset) -> Vec<(u16, u64, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        while let Some((entry, next)) = log.at(at) {
            let key = match entry.kind {
                LogKind::Changed(key) => Some(key.to_vec()),
                LogKind::Flushed => None,
            };
            found.push((entry.range.index(), entry.seq.0, key));
            assert!(next > at);
            at = next;
        }
        found
    }

    proptest! {
        #[test]
        fn entries_come_back_in_order_and_the_oldest_go(
            entries in prop::collection::vec(
                (0..2_048u16, any::<u64>(), prop::option::of(0..16_384usize), 0..400u64),
                1..60,
            ),
        ) {
            let mut log = Log::new(BYTES_MAX, 5_000);
            let mut model = VecDeque::new();
            let (mut gone, mut now) = (Vec::new(), Time(1));
            for (range, seq, key_bytes, ms) in entries {
                now = now.plus_ms(ms);
                let key = key_bytes.map(|count| vec![b'k'; count]);
                let kind = key.as_deref().map_or(LogKind::Flushed, LogKind::Changed);
                let range = Range::from_index(range).expect("below the count");
                let entry = LogEntry { range, seq: Seq(seq), kind };
                log.append(&entry, now, |range, seq| gone.push((range.index(), seq.0)));
                model.push_back((range.index(), seq, key, now));
                log.expire(now, |range, seq| gone.push((range.index(), seq.0)));
                for (range, seq) in gone.drain(..) {
                    let (first_range, first_seq, ..) = model.pop_front().expect("it was appended");
                    prop_assert_eq!((range, seq), (first_range, first_seq));
                }
                let expected: Vec<_> =
                    model.iter().map(|(range, seq, key, _)| (*range, *seq, key.clone())).collect();
                prop_assert_eq!(read(&log, log.oldest()), expected);
                prop_assert_eq!(log.entries_count(), model.len() as u64);
                let oldest = model.front().map_or(now, |entry| entry.3);
                assert!(now.ms_since(oldest) < 5_000 + super::MARK_MS + 400);
                let mut at = log.oldest();
                for (_, _, _, time) in &model {
                    let known = log.time_of(at).expect("there are entries");
                    assert!(known <= *time);
                    assert!(time.ms_since(known) < super::MARK_MS);
                    at = log.at(at).expect("there are more").1;
                }
            }
        }
    }

    #[test]
    fn a_cursor_at_the_head_sees_what_comes() {
        let mut log = Log::new(BYTES_MAX, 1_000);
        let key = vec![b'k'; 9_000];
        let mut at = log.head();
        for seq in 1..100 {
            let range = Range::of(&key);
            let entry = LogEntry {
                range,
                seq: Seq(seq),
                kind: LogKind::Changed(&key),
            };
            log.append(&entry, Time(1), |_, _| {});
            assert_eq!(read(&log, at), [(range.index(), seq, Some(key.clone()))]);
            at = log.at(at).expect("it is there").1;
        }
    }
}
