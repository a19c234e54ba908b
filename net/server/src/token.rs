//! The ownership token of a shard, and the set of tokens that a core holds.
//!
//! A shard has one owner at any moment: whoever holds its token. Tokens are only ever tried for,
//! never waited for, so no order of taking them can deadlock.
//!
//! 1. `taken` is true from a successful `try_take` to the `release` that follows; only the
//!    [`Tokens`] that took it touches the shard meanwhile.
//! 2. A token is neither taken nor given back inside a shard's method: `Tokens` hands out
//!    `&mut Shard` bound to its own borrow.
//! 3. `Tokens` gives back what it holds when it is dropped.

use std::cell::UnsafeCell;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};

use fulmar_cluster::ShardIndex;
use fulmar_shard::Shard;

/// Most shards of one process.
pub(crate) const SHARDS_MAX: usize = 1_024;
/// Looks at a taken token before giving up; about a microsecond.
const SPINS_MAX: u32 = 32;
const WORDS_COUNT: usize = SHARDS_MAX / 64;

/// A shard behind its token. The token has a cache line pair of its own, since other cores
/// write it.
#[repr(align(128))]
pub(crate) struct TokenCell<T = Shard> {
    taken: AtomicBool,
    owned: Line<UnsafeCell<T>>,
}

#[repr(align(128))]
struct Line<T>(T);

// SAFETY: the shard is reached only by the holder of the token (invariant 1), one thread at a
// time; taking acquires what the last holder released. It may move between threads: `T: Send`.
unsafe impl<T: Send> Sync for TokenCell<T> {}

impl<T> TokenCell<T> {
    pub(crate) fn new(owned: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            owned: Line(UnsafeCell::new(owned)),
        }
    }

    fn try_take(&self) -> bool {
        for _ in 0..SPINS_MAX {
            let free = !self.taken.load(Ordering::Relaxed);
            if free && !self.taken.swap(true, Ordering::Acquire) {
                return true;
            }
            hint::spin_loop();
        }
        false
    }

    fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }
}

/// The tokens that a core holds for one batch of commands.
pub(crate) struct Tokens<'n, T = Shard> {
    cells: &'n [TokenCell<T>],
    held: [u64; WORDS_COUNT],
}

impl<'n, T> Tokens<'n, T> {
    /// Holds nothing yet.
    pub(crate) fn new(cells: &'n [TokenCell<T>]) -> Self {
        assert!(cells.len() <= SHARDS_MAX);
        Self {
            cells,
            held: [0; WORDS_COUNT],
        }
    }

    /// Takes a token unless another core has it; true if it is held now.
    pub(crate) fn try_take(&mut self, shard: ShardIndex) -> bool {
        if self.is_held(shard) {
            return true;
        }
        let taken = self.cells[shard.index()].try_take();
        if taken {
            self.held[shard.index() / 64] |= 1 << (shard.index() % 64);
        }
        taken
    }

    /// Takes all the tokens, in order, or gives back everything that is held.
    pub(crate) fn try_take_all(&mut self, shards: impl Iterator<Item = ShardIndex>) -> bool {
        for shard in shards {
            if !self.try_take(shard) {
                self.release_all();
                return false;
            }
        }
        true
    }

    pub(crate) fn is_held(&self, shard: ShardIndex) -> bool {
        self.held[shard.index() / 64] & 1 << (shard.index() % 64) != 0
    }

    /// The shard, whose token is held.
    ///
    /// # Panics
    /// If it is not held.
    pub(crate) fn shard(&mut self, shard: ShardIndex) -> &mut T {
        assert!(
            self.is_held(shard),
            "a shard is reached only with its token"
        );
        let cell = self.cells[shard.index()].owned.0.get();
        // SAFETY: this set holds the token (invariant 1), and the reference borrows the set
        // mutably, so there is no other one (invariant 2).
        unsafe { &mut *cell }
    }

    /// All shards of the process, held or not.
    pub(crate) fn shards_count(&self) -> usize {
        self.cells.len()
    }

    /// Gives all held tokens back.
    pub(crate) fn release_all(&mut self) {
        for (index, word) in self.held.iter_mut().enumerate() {
            while *word != 0 {
                let bit = word.trailing_zeros() as usize;
                self.cells[index * 64 + bit].release();
                *word &= *word - 1;
            }
        }
    }
}

impl<T> Drop for Tokens<'_, T> {
    fn drop(&mut self) {
        self.release_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use fulmar_cluster::ShardIndex;

    use super::{TokenCell, Tokens};

    const THREADS_COUNT: u64 = 4;
    const ROUNDS_COUNT: u64 = 20_000;

    #[test]
    fn a_token_has_one_holder() {
        let cells = [TokenCell::new(0), TokenCell::new(0)];
        let mut first = Tokens::new(&cells);
        let mut second = Tokens::new(&cells);
        assert!(first.try_take(ShardIndex(1)));
        assert!(first.try_take(ShardIndex(1)), "it is held already");
        assert!(!second.try_take(ShardIndex(1)));
        assert!(!second.try_take_all([ShardIndex(0), ShardIndex(1)].into_iter()));
        assert!(!second.is_held(ShardIndex(0)), "all or none");
        *first.shard(ShardIndex(1)) = 7;
        drop(first);
        assert!(second.try_take_all([ShardIndex(0), ShardIndex(1)].into_iter()));
        assert_eq!(*second.shard(ShardIndex(1)), 7);
    }

    #[test]
    #[should_panic(expected = "only with its token")]
    fn without_its_token_a_shard_is_out_of_reach() {
        let cells = [TokenCell::new(0)];
        Tokens::new(&cells).shard(ShardIndex(0));
    }

    #[test]
    fn holders_exclude_each_other() {
        // Plain additions lose counts as soon as two threads hold a token at once.
        let cells: Vec<TokenCell<u64>> = (0..3).map(|_| TokenCell::new(0)).collect();
        thread::scope(|scope| {
            for thread in 0..THREADS_COUNT {
                let cells = &cells;
                scope.spawn(move || {
                    let mut rounds = 0;
                    while rounds < ROUNDS_COUNT {
                        let mut tokens = Tokens::new(cells);
                        let other = ShardIndex(u16::from((rounds + thread) % 2 == 0));
                        if tokens.try_take_all([other, ShardIndex(2)].into_iter()) {
                            for shard in [other, ShardIndex(2)] {
                                let count = *tokens.shard(shard);
                                std::hint::black_box(&count);
                                *tokens.shard(shard) = count + 1;
                            }
                            rounds += 1;
                        } else {
                            thread::yield_now();
                        }
                    }
                });
            }
        });
        let mut tokens = Tokens::new(&cells);
        assert!(tokens.try_take_all((0..3).map(ShardIndex)));
        assert_eq!(*tokens.shard(ShardIndex(2)), THREADS_COUNT * ROUNDS_COUNT);
        let others = *tokens.shard(ShardIndex(0)) + *tokens.shard(ShardIndex(1));
        assert_eq!(others, THREADS_COUNT * ROUNDS_COUNT);
    }
}
