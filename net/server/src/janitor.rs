//! The pace at which a core reclaims its shard's expired items: a portion a turn, so many a
//! millisecond.
//!
//! However many expire at once, a request waits for one portion at most, and whoever shares the
//! CPU with the core keeps most of it. Reclaiming is not what ends an item (reading is exact): it
//! gives its memory back.

/// Items reclaimed per turn; some tens of microseconds.
const PORTION: usize = 128;
/// Items reclaimed per millisecond: about a quarter of a core, as much as Redis spends.
const ITEMS_PER_MS: usize = 1_024;
/// No timer is set for what is due later than this; a tick comes sooner.
const TIMER_MS_MAX: u64 = 100;

/// See the module's head. Times are in ms of the boot-time clock.
#[derive(Default)]
pub(crate) struct Janitor {
    /// When there is something to reclaim, as far as is known.
    due_ms: Option<u64>,
    /// The last millisecond in which something was reclaimed, and how much more may be in it.
    current_ms: u64,
    items_left: usize,
    is_timer_set: bool,
}

impl Janitor {
    /// There may be something due that is not known of.
    pub(crate) fn look(&mut self, now_ms: u64) {
        self.due_ms = Some(now_ms);
    }

    /// Its timer has come.
    pub(crate) fn timer_came(&mut self) {
        self.is_timer_set = false;
    }

    /// How many items to reclaim in this turn.
    #[inline]
    pub(crate) fn portion(&mut self, now_ms: u64) -> usize {
        if self.due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return 0;
        }
        if self.current_ms != now_ms {
            self.current_ms = now_ms;
            self.items_left = ITEMS_PER_MS;
        }
        self.items_left.min(PORTION)
    }

    /// Up to `portion` items were reclaimed; more will be due at `next_ms`.
    pub(crate) fn reclaimed(&mut self, portion: usize, next_ms: Option<u64>) {
        self.items_left -= portion;
        let earliest_ms = self.current_ms + u64::from(self.items_left == 0);
        self.due_ms = next_ms.map(|next_ms| next_ms.max(earliest_ms));
    }

    /// The time to set its timer for, if it needs one.
    pub(crate) fn timer_wanted(&mut self, now_ms: u64) -> Option<u64> {
        let soon = now_ms + 1..now_ms + TIMER_MS_MAX;
        let due_ms = self.due_ms.filter(|due_ms| soon.contains(due_ms))?;
        (!std::mem::replace(&mut self.is_timer_set, true)).then_some(due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::{ITEMS_PER_MS, Janitor, PORTION};

    #[test]
    fn a_backlog_is_reclaimed_so_much_a_millisecond() {
        let mut janitor = Janitor::default();
        assert_eq!(janitor.portion(7), 0, "nothing is known to be due");
        janitor.look(7);
        for now_ms in 7..10 {
            let mut reclaimed = 0;
            while janitor.portion(now_ms) > 0 {
                assert_eq!(janitor.portion(now_ms), PORTION);
                reclaimed += PORTION;
                assert_eq!(janitor.timer_wanted(now_ms), None, "the core is awake");
                janitor.reclaimed(PORTION, Some(5));
            }
            assert_eq!(reclaimed, ITEMS_PER_MS);
            assert_eq!(janitor.timer_wanted(now_ms), Some(now_ms + 1));
            assert_eq!(janitor.timer_wanted(now_ms), None, "it is set");
            janitor.timer_came();
        }
    }

    #[test]
    fn a_timer_is_set_for_what_comes_before_the_next_tick() {
        let mut janitor = Janitor::default();
        janitor.look(1_000);
        assert_eq!(janitor.portion(1_000), PORTION);
        janitor.reclaimed(PORTION, Some(1_032));
        assert_eq!(janitor.portion(1_031), 0);
        assert_eq!(janitor.timer_wanted(1_000), Some(1_032));
        assert_eq!(janitor.portion(1_032), PORTION);
        janitor.timer_came();
        janitor.reclaimed(PORTION, Some(9_000));
        assert_eq!(janitor.timer_wanted(1_032), None);
        janitor.look(1_100);
        assert_eq!(janitor.portion(1_100), PORTION);
        janitor.reclaimed(PORTION, None);
        assert_eq!(janitor.timer_wanted(1_100), None);
    }
}
