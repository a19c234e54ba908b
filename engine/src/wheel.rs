//! The timing wheel: which items expire next, in bounded steps.
//!
//! A hierarchical wheel after Varghese and Lauck, "Hashed and Hierarchical Timing Wheels": eight
//! levels of 256 slots over ticks of 32 ms, so that any u64 of milliseconds has its place. An item
//! lies on the level of the highest byte in which its tick differs from the wheel's, in the slot
//! of its own byte there; when the wheel reaches that slot its items move to finer levels, one unit
//! of work each. Lists are linked through the TTL extension; a slot's first item names the slot in
//! its back link, so leaving costs O(1) and no search.
//!
//! ```text
//! level 0   32 ms a slot       level 2   35 min a slot      level 4   4.4 years a slot
//! level 1   8.2 s a slot       level 3   6.2 days a slot    ...
//! ```
//!
//! # Invariants
//! 1. Every deadline in the wheel is at or after `time_ms()`: that is what makes 32-bit deadlines
//!    unambiguous.
//! 2. On levels above 0 only slots after the wheel's own byte are occupied, and between two steps
//!    of a cascade also the slot at it.
//! 3. A bit of `occupied` is set iff its slot has items.

use crate::item::{Extensions, TtlForm};
use crate::slab::{Handle, Slab};
use crate::time::Time;

/// Milliseconds in a tick: the most by which reclaiming lags behind a deadline.
const TICK_MS: u64 = 32;
const LEVELS_COUNT: usize = 8;
const SLOTS_PER_LEVEL: usize = 256;
const SLOTS_COUNT: usize = LEVELS_COUNT * SLOTS_PER_LEVEL;
/// A deadline further away than this is stored in 64 bits.
const NEAR_MS_MAX: u64 = 1 << 31;

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This item has expired. It is in the wheel until the caller removes it.
    Expired(Handle),
    /// An item moved to a finer level.
    Moved,
    /// Nothing is due.
    Idle,
}

/// The wheel.
pub(crate) struct Wheel {
    tick: u64,
    heads: Box<[Handle; SLOTS_COUNT]>,
    occupied: [[u64; SLOTS_PER_LEVEL / 64]; LEVELS_COUNT],
    count: usize,
}

impl Wheel {
    /// Bytes it takes beside the items.
    pub(crate) const BYTES: usize = SLOTS_COUNT * size_of::<Handle>();

    pub(crate) fn new() -> Self {
        Self {
            tick: 0,
            heads: Box::new([Handle::NONE; SLOTS_COUNT]),
            occupied: [[0; SLOTS_PER_LEVEL / 64]; LEVELS_COUNT],
            count: 0,
        }
    }

    /// The time up to which everything is reclaimed, in ms.
    #[inline]
    pub(crate) const fn time_ms(&self) -> u64 {
        self.tick * TICK_MS
    }

    /// Number of items with a deadline.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How a deadline must be stored now.
    #[inline]
    pub(crate) fn form(&self, deadline: Option<Time>) -> TtlForm {
        match deadline {
            None => TtlForm::None,
            Some(Time(ms)) if ms.saturating_sub(self.time_ms()) < NEAR_MS_MAX => TtlForm::Near,
            Some(_) => TtlForm::Far,
        }
    }

    /// Adds an item whose deadline is stored already. O(1).
    pub(crate) fn insert(&mut self, slab: &mut Slab, handle: Handle) {
        self.count += 1;
        self.link(slab, handle);
    }

    /// Takes an item out. O(1).
    pub(crate) fn remove(&mut self, slab: &mut Slab, handle: Handle) {
        self.count -= 1;
        self.unlink(slab, handle);
    }

    /// Forgets all items, as if each had been removed.
    pub(crate) fn clear(&mut self) {
        self.heads.fill(Handle::NONE);
        self.occupied = [[0; SLOTS_PER_LEVEL / 64]; LEVELS_COUNT];
        self.count = 0;
    }

    /// One step towards `now`: O(1), touches one item and its neighbours.
    pub(crate) fn step(&mut self, slab: &mut Slab, now: Time) -> Step {
        let Some((level, slot)) = self.first_occupied() else {
            self.tick = self.tick.max(now.0 / TICK_MS);
            return Step::Idle;
        };
        let start = self.slot_tick(level, slot);
        let due = if level == 0 { start + 1 } else { start };
        if due.saturating_mul(TICK_MS) > now.0 {
            self.tick = self.tick.max((now.0 / TICK_MS).min(start));
            return Step::Idle;
        }
        self.tick = start;
        let handle = self.heads[level * SLOTS_PER_LEVEL + slot];
        if level == 0 {
            return Step::Expired(handle);
        }
        self.unlink(slab, handle);
        self.link(slab, handle);
        Step::Moved
    }

    /// When `step` next finds something: never late, early when it is only a move.
    pub(crate) fn next_due(&self) -> Option<Time> {
        let (level, slot) = self.first_occupied()?;
        let start = self.slot_tick(level, slot);
        let due = if level == 0 { start + 1 } else { start };
        Some(Time(due.saturating_mul(TICK_MS)))
    }

    /// The slot to work on next: one whose cascade is under way, else the earliest.
    fn first_occupied(&self) -> Option<(usize, usize)> {
        if self.count == 0 {
            return None;
        }
        for level in (1..LEVELS_COUNT).rev() {
            let slot = self.byte(self.tick, level);
            if self.occupied[level][slot / 64] & (1 << (slot % 64)) != 0 {
                return Some((level, slot));
            }
        }
        for level in 0..LEVELS_COUNT {
            for (word, &bits) in self.occupied[level].iter().enumerate() {
                if bits != 0 {
                    return Some((level, word * 64 + bits.trailing_zeros() as usize));
                }
            }
        }
        None
    }

    #[expect(clippy::cast_possible_truncation, reason = "one byte")]
    fn byte(&self, tick: u64, level: usize) -> usize {
        (tick >> (8 * level)) as usize % SLOTS_PER_LEVEL
    }

    /// First tick of a slot.
    fn slot_tick(&self, level: usize, slot: usize) -> u64 {
        let below = (1 << (8 * level)) - 1;
        let own = 0xFF << (8 * level);
        self.tick & !(below | own) | (slot as u64) << (8 * level)
    }

    fn slot_for(&self, deadline_ms: u64) -> (usize, usize) {
        let tick = (deadline_ms / TICK_MS).max(self.tick);
        let differing = tick ^ self.tick;
        let level = (63 - (differing | 1).leading_zeros() as usize) / 8;
        (level, self.byte(tick, level))
    }

    #[expect(clippy::cast_possible_truncation, reason = "there are 2,048 slots")]
    fn link(&mut self, slab: &mut Slab, handle: Handle) {
        let deadline_ms = Extensions::deadline_ms(slab, handle, slab.meta(handle), self.time_ms());
        let (level, slot) = self.slot_for(deadline_ms);
        let index = level * SLOTS_PER_LEVEL + slot;
        let head = self.heads[index];
        Extensions::set_wheel_previous(slab, handle, Handle::from_wheel_slot(index as u32));
        Extensions::set_wheel_next(slab, handle, head);
        if let Some(head) = head.some() {
            Extensions::set_wheel_previous(slab, head, handle);
        }
        self.heads[index] = handle;
        self.occupied[level][slot / 64] |= 1 << (slot % 64);
    }

    /// Lets `to`, a copy of `from`, take its place.
    pub(crate) fn replace(&mut self, slab: &mut Slab, from: Handle, to: Handle) {
        let previous = Extensions::wheel_previous(slab, from);
        if let Some(next) = Extensions::wheel_next(slab, from).some() {
            Extensions::set_wheel_previous(slab, next, to);
        }
        match previous.wheel_slot() {
            Some(slot) => self.heads[slot as usize] = to,
            None => Extensions::set_wheel_next(slab, previous, to),
        }
    }

    fn unlink(&mut self, slab: &mut Slab, handle: Handle) {
        let previous = Extensions::wheel_previous(slab, handle);
        let next = Extensions::wheel_next(slab, handle);
        if let Some(next) = next.some() {
            Extensions::set_wheel_previous(slab, next, previous);
        }
        match previous.wheel_slot() {
            Some(slot) => {
                let index = slot as usize;
                self.heads[index] = next;
                if next.is_none() {
                    let (level, slot) = (index / SLOTS_PER_LEVEL, index % SLOTS_PER_LEVEL);
                    self.occupied[level][slot / 64] &= !(1 << (slot % 64));
                }
            }
            None => Extensions::set_wheel_next(slab, previous, next),
        }
    }

    /// Panics unless the lists are whole and every item is in the slot its deadline asks for.
    pub(crate) fn check_integrity(&self, slab: &Slab) {
        let mut count = 0;
        for (index, head) in self.heads.iter().enumerate() {
            let (level, slot) = (index / SLOTS_PER_LEVEL, index % SLOTS_PER_LEVEL);
            let bit = self.occupied[level][slot / 64] & (1 << (slot % 64)) != 0;
            assert_eq!(bit, head.is_chunk(), "occupied bit of wheel slot {index}");
            let mut back = None;
            let mut at = head.some();
            while let Some(handle) = at {
                let previous = Extensions::wheel_previous(slab, handle);
                match back {
                    None => {
                        let slot = previous.wheel_slot().map(|slot| slot as usize);
                        assert_eq!(slot, Some(index), "wheel slot's first item");
                    }
                    Some(back) => assert_eq!(previous, back, "wheel links aren't mutual"),
                }
                let meta = slab.meta(handle);
                let deadline = Extensions::deadline_ms(slab, handle, meta, self.time_ms());
                assert!(
                    deadline >= self.time_ms(),
                    "deadline behind the wheel's time"
                );
                let cascading = level > 0 && slot == self.byte(self.tick, level);
                assert!(
                    cascading || self.slot_for(deadline) == (level, slot),
                    "wrong wheel slot"
                );
                count += 1;
                assert!(count <= self.count, "wheel list is longer than its count");
                back = Some(handle);
                at = Extensions::wheel_next(slab, handle).some();
            }
        }
        assert_eq!(count, self.count, "wheel count");
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_oneof, proptest};

    use super::{LEVELS_COUNT, Step, TICK_MS, Wheel};
    use crate::item::{Extensions, Meta};
    use crate::slab::{ClassId, Handle, Slab};
    use crate::time::Time;

    fn add(slab: &mut Slab, wheel: &mut Wheel, deadline_ms: u64) -> Handle {
        let class = ClassId::fitting(32).expect("small");
        let handle = slab.allocate(class).expect("room");
        let meta = Meta::item(0, 0, wheel.form(Some(Time(deadline_ms))).flag());
        slab.set_meta(handle, meta);
        Extensions::set_deadline_ms(slab, handle, meta, deadline_ms);
        wheel.insert(slab, handle);
        handle
    }

    /// Takes out all that is due, and checks that it was due and within a tick.
    fn drain(slab: &mut Slab, wheel: &mut Wheel, now: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        loop {
            match wheel.step(slab, Time(now)) {
                Step::Idle => return expired,
                Step::Moved => wheel.check_integrity(slab),
                Step::Expired(handle) => {
                    let meta = slab.meta(handle);
                    expired.push(Extensions::deadline_ms(slab, handle, meta, wheel.time_ms()));
                    wheel.remove(slab, handle);
                    slab.free(handle);
                }
            }
        }
    }

    #[test]
    fn an_item_moves_at_most_once_per_level() {
        for deadline_ms in [0, 31, 32, 8_191, 8_192, 1 << 21, 1 << 31, 1 << 40, 1 << 62] {
            let (mut slab, mut wheel) = (Slab::new(1).expect("address space"), Wheel::new());
            add(&mut slab, &mut wheel, deadline_ms);
            let mut moves = 0;
            while let Some(Time(due)) = wheel.next_due() {
                assert!(due <= (deadline_ms / TICK_MS + 1) * TICK_MS, "due too late");
                match wheel.step(&mut slab, Time(due)) {
                    Step::Idle => panic!("nothing is due at the due time"),
                    Step::Moved => moves += 1,
                    Step::Expired(handle) => {
                        assert!(due > deadline_ms, "expired too early");
                        wheel.remove(&mut slab, handle);
                    }
                }
            }
            assert!(moves < LEVELS_COUNT, "{moves} moves for {deadline_ms}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_a_sorted_list(
            steps in vec(
                (
                    prop_oneof![0u64..100, 0u64..20_000, 0u64..1 << 24, 0u64..1 << 36],
                    prop_oneof![0u64..64, 0u64..10_000, 0u64..1 << 23, 0u64..1 << 34],
                ),
                1..60,
            )
        ) {
            let (mut slab, mut wheel) = (Slab::new(4).expect("address space"), Wheel::new());
            let (mut now, mut oracle) = (0, Vec::new());
            for (ttl, elapsed) in steps {
                add(&mut slab, &mut wheel, now + 1 + ttl);
                oracle.push(now + 1 + ttl);
                wheel.check_integrity(&slab);
                now += elapsed;
                let mut expired = drain(&mut slab, &mut wheel, now);
                wheel.check_integrity(&slab);
                expired.sort_unstable();
                let ticks = now / TICK_MS * TICK_MS;
                let mut expected: Vec<u64> =
                    oracle.iter().copied().filter(|&deadline| deadline < ticks).collect();
                expected.sort_unstable();
                assert_eq!(expired, expected);
                oracle.retain(|&deadline| deadline >= ticks);
                assert_eq!(wheel.count(), oracle.len());
            }
        }
    }
}
