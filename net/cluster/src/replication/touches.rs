//! Keys that are read here, for the copies: what is never told of its original's reads would be the
//! first to be evicted where memory is short.
//!
//! A key is told once in a while, not at each read: a table remembers what was told last at each of its
//! places, and forgets it all when a while is over. That is a minute, or less where an eighth of the
//! items moves to the front in less: then a copy is never further behind its original than that part of
//! the way to its eviction. What is to be told waits in a ring, whose oldest keys give way.

use super::limits::{TOUCH_MS, TOUCHES_BYTES_MAX, TOUCHES_PLACES};
use super::{Log, LogEntry, LogKind, LogOffset};
use crate::{Range, Seq, Time};

/// A while ends when one in so many of the items moved to the front.
const ITEMS_SHARE: usize = 8;

/// See the module's head.
pub(super) struct Touches {
    log: Log,
    /// By part of a key's hash: the rest of it, mixed with the while in which it was told.
    told: Box<[u32]>,
    /// Numbers the while.
    turn: u32,
    began: Time,
    /// Items told or written in this while.
    moved: usize,
}

impl Touches {
    /// Memory, once it is full.
    pub(super) const BYTES_MAX: usize = TOUCHES_BYTES_MAX + TOUCHES_PLACES * size_of::<u32>();

    pub(super) fn new() -> Self {
        Self {
            log: Log::new(TOUCHES_BYTES_MAX, u64::MAX),
            told: vec![0; TOUCHES_PLACES].into_boxed_slice(),
            turn: 1,
            began: Time(0),
            moved: 0,
        }
    }

    /// A key of this hash was read.
    #[inline]
    pub(super) fn note_read(&mut self, range: Range, key: &[u8], hash: u64) {
        let [place, rest] = halves(hash);
        let told = &mut self.told[place as usize % TOUCHES_PLACES];
        // Odd, as an empty place is not.
        let mark = rest.wrapping_add(self.turn.wrapping_mul(0x9E37_79B9)) | 1;
        if *told != mark {
            *told = mark;
            self.add(range, key);
        }
    }

    /// A key was written: its copies move to the front by that.
    #[inline]
    pub(super) fn note_write(&mut self) {
        self.moved += 1;
    }

    fn add(&mut self, range: Range, key: &[u8]) {
        self.moved += 1;
        let entry = LogEntry {
            range,
            seq: Seq(0),
            kind: LogKind::Changed(key),
        };
        self.log.append(&entry, self.began, |_, _| {});
    }

    /// Ends the while, if it is time.
    pub(super) fn advance(&mut self, items_count: usize, now: Time) {
        let is_over = now.ms_since(self.began) >= TOUCH_MS;
        if is_over || self.moved > items_count / ITEMS_SHARE {
            self.turn = self.turn.wrapping_add(1);
            self.began = now;
            self.moved = 0;
        }
    }

    /// The first key at `offset` or behind it, with its range, and where the next one is.
    pub(super) fn next(&self, offset: LogOffset) -> Option<(Range, &[u8], LogOffset)> {
        let (entry, next) = self.log.at(offset.max(self.log.oldest()))?;
        match entry.kind {
            LogKind::Changed(key) => Some((entry.range, key, next)),
            LogKind::Flushed => None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
const fn halves(hash: u64) -> [u32; 2] {
    [hash as u32, (hash >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::{ITEMS_SHARE, TOUCH_MS, TOUCHES_BYTES_MAX, Touches};
    use crate::replication::LogOffset;
    use crate::{Range, Time};

    fn hash(key: &[u8]) -> u64 {
        u64::from(murmur3::murmur3_32(&mut &*key, 0).expect("a slice"))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn read(touches: &mut Touches, key: &[u8]) {
        touches.note_read(Range::of(key), key, hash(key));
    }

    fn told(touches: &Touches) -> Vec<Vec<u8>> {
        let (mut keys, mut from) = (Vec::new(), LogOffset(0));
        while let Some((range, key, next)) = touches.next(from) {
            assert_eq!(range, Range::of(key));
            keys.push(key.to_vec());
            from = next;
        }
        keys
    }

    #[test]
    fn a_key_is_told_once_in_a_while() {
        let mut touches = Touches::new();
        let mut now = Time(TOUCH_MS);
        touches.advance(1_000_000, now);
        for _ in 0..3 {
            for _ in 0..5 {
                read(&mut touches, b"one");
                read(&mut touches, b"other");
            }
            now = now.plus_ms(TOUCH_MS - 1);
            touches.advance(1_000_000, now);
            read(&mut touches, b"one");
            now = now.plus_ms(1);
            touches.advance(1_000_000, now);
        }
        let keys = told(&touches);
        assert_eq!(keys, [b"one" as &[u8], b"other"].repeat(3));
    }

    #[test]
    fn a_while_ends_when_many_items_moved() {
        let mut touches = Touches::new();
        touches.advance(80, Time(TOUCH_MS));
        for step in 0..=80 / ITEMS_SHARE {
            read(&mut touches, b"one");
            touches.advance(80, Time(TOUCH_MS));
            assert_eq!(told(&touches).len(), 1, "step {step}");
            touches.note_write();
        }
        touches.advance(80, Time(TOUCH_MS));
        read(&mut touches, b"one");
        assert_eq!(told(&touches).len(), 2);
    }

    #[test]
    fn the_oldest_give_way() {
        let mut touches = Touches::new();
        let count = TOUCHES_BYTES_MAX / 10;
        for number in 0..count {
            read(&mut touches, format!("{number:08}").as_bytes());
        }
        let keys = told(&touches);
        assert!(keys.len() * 20 > TOUCHES_BYTES_MAX - 40, "{}", keys.len());
        assert!(keys.len() < count);
        assert_eq!(keys[keys.len() - 1], format!("{:08}", count - 1).as_bytes());
    }
}
