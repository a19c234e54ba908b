//! Keys that are read here, for the copies: what is never told of its original's reads would be the
//! first to be evicted where memory is short.
//!
//! A key is told once in a while, not at each read: a table remembers what was told last at each of its
//! places, and forgets it all when a while is over. That is a minute, or less where an eighth of the
//! items of this core moves to the front in less, by reads here, or by writes here or at other primaries: then
//! a copy is never further behind its original than that part of the way to its eviction, if its node's
//! memory turns over as fast as this one's. A while is not shorter than the time between two tellings.
//!
//! What is to be told waits in a ring. When half of it was filled since the last telling, reads are passed over,
//! and told when they come again.

use super::limits::{TOUCH_MS, TOUCHES_BYTES_MAX, TOUCHES_PLACES, TOUCHES_TOLD_MS};
use super::{Log, LogEntry, LogKind, LogOffset};
use crate::{Range, Seq, Time};

/// A while ends when one in so many of the items moved to the front.
const ITEMS_SHARE: usize = 8;
/// What is added to the ring between two tellings, so that each link has time to read it.
const BYTES_PER_TELLING: usize = TOUCHES_BYTES_MAX / 2;

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
    /// Bytes that may still be added until `filled_at` is a telling ago.
    bytes_left: usize,
    filled_at: Time,
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
            bytes_left: BYTES_PER_TELLING,
            filled_at: Time(0),
        }
    }

    /// A key of this hash was read.
    #[inline]
    pub(super) fn note_read(&mut self, range: Range, key: &[u8], hash: u64) {
        let [place, rest] = halves(hash);
        let told = &mut self.told[place as usize % TOUCHES_PLACES];
        // Odd, as an empty place is not.
        let mark = rest.wrapping_add(self.turn.wrapping_mul(0x9E37_79B9)) | 1;
        if *told != mark && self.bytes_left > 0 {
            *told = mark;
            self.add(range, key);
        }
    }

    /// A key was written, by this primary or by the one that a copy here is of.
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
        let before = self.log.head();
        self.log.append(&entry, self.began, |_, _| {});
        let added = usize::try_from(self.log.head().0 - before.0).unwrap_or(usize::MAX);
        self.bytes_left = self.bytes_left.saturating_sub(added);
    }

    /// Ends the while, if it is time.
    pub(super) fn advance(&mut self, items_count: usize, now: Time) {
        if now.ms_since(self.filled_at) >= TOUCHES_TOLD_MS {
            self.filled_at = now;
            self.bytes_left = BYTES_PER_TELLING;
        }
        let ms = now.ms_since(self.began);
        let has_moved = ms >= TOUCHES_TOLD_MS && self.moved > items_count / ITEMS_SHARE;
        if ms >= TOUCH_MS || has_moved {
            self.turn = self.turn.wrapping_add(1);
            self.began = now;
            self.moved = 0;
        }
    }

    /// Where the next key will be.
    pub(super) fn head(&self) -> LogOffset {
        self.log.head()
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
    use super::{ITEMS_SHARE, TOUCH_MS, TOUCHES_BYTES_MAX, TOUCHES_TOLD_MS, Touches};
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
        let later = Time(TOUCH_MS + TOUCHES_TOLD_MS);
        read(&mut touches, b"one");
        for _ in 1..80 / ITEMS_SHARE {
            touches.note_write();
        }
        touches.advance(80, later);
        read(&mut touches, b"one");
        assert_eq!(told(&touches).len(), 1, "an eighth, not more");
        touches.note_write();
        touches.advance(80, Time(later.0 - 1));
        read(&mut touches, b"one");
        assert_eq!(told(&touches).len(), 1, "not sooner than it can be told");
        touches.advance(80, later);
        read(&mut touches, b"one");
        assert_eq!(told(&touches).len(), 2);
    }

    #[test]
    fn what_is_beyond_the_bound_is_told_when_it_is_read_again() {
        let mut touches = Touches::new();
        touches.advance(1_000_000, Time(TOUCH_MS));
        let count = TOUCHES_BYTES_MAX / 10;
        let read_all = |touches: &mut Touches| {
            for number in 0..count {
                read(touches, format!("{number:08}").as_bytes());
            }
        };
        read_all(&mut touches);
        let first = told(&touches).len();
        // 20 bytes each; half of the ring.
        assert!((first * 20).abs_diff(TOUCHES_BYTES_MAX / 2) < 40, "{first}");
        touches.advance(1_000_000, Time(TOUCH_MS + TOUCHES_TOLD_MS));
        read_all(&mut touches);
        let both = told(&touches);
        assert!(both.len() >= 2 * first - 2, "{} of {first}", both.len());
        // Those that share a place with another are told twice.
        let distinct: std::collections::BTreeSet<_> = both.iter().collect();
        assert!(
            distinct.len() * 10 > both.len() * 8,
            "{} of {}",
            distinct.len(),
            both.len()
        );
    }
}
