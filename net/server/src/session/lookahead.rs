//! The keys of the commands that come next in a pipeline, loaded before they are needed.
//!
//! One command waits for memory several times: for its bucket of the index, its entry, its item.
//! Commands of one pipeline are independent until they execute, so their waits can overlap: the
//! keys of the next few are hashed and their items prefetched, and the hashes are kept for when
//! their turn comes. Nothing is decided here; a key that is no key costs a useless load.

use fulmar_cluster::ShardIndex;
use fulmar_engine::Key;
use fulmar_protocol::resp::{Slices, peek};
use fulmar_shard::{PLACED_KEYS_MAX, Placed};

use crate::dispatch::Dispatcher;
use crate::output::Output;
use crate::token::Tokens;

/// See the module's head. A command without a key has an empty place.
pub(super) struct Lookahead<'i> {
    placed: Placed<'i>,
    next: usize,
}

impl<'i> Lookahead<'i> {
    pub(super) fn new() -> Self {
        Self {
            placed: Placed::new(),
            next: 0,
        }
    }

    /// Whether all commands that were looked at have come.
    #[inline]
    pub(super) fn is_used_up(&self) -> bool {
        self.next == self.placed.count()
    }

    /// Looks at the commands at the front of `input`, and loads what lies in shards that can be
    /// had.
    pub(super) fn look(
        &mut self,
        input: &'i [u8],
        dispatcher: &Dispatcher<'_>,
        tokens: &mut Tokens<'_>,
        output: &Output,
    ) {
        let placement = dispatcher.placement();
        let mut slices = Slices::new();
        let mut at = 0;
        self.next = 0;
        self.placed.clear();
        while self.placed.count() < PLACED_KEYS_MAX
            && let Some(bytes_count) = peek(&input[at..], &mut slices)
        {
            at += bytes_count;
            let key = slices.as_slice().get(1).map(|key| placement.place(key));
            self.placed.push(key);
        }
        self.placed.for_each_shard(|shard| {
            if dispatcher.runs_in_place(shard, output) && tokens.try_take(shard) {
                let cache = &tokens.shard(shard).cache;
                cache.prefetch(self.placed.of(shard));
            }
        });
    }

    /// What is known of `key`, the first key of the command whose turn it is.
    #[inline]
    pub(super) fn known(&self, key: &[u8]) -> Option<(ShardIndex, Key<'i>)> {
        let (shard, known) = self.placed.get(self.next)?;
        std::ptr::eq(known.bytes(), key).then_some((*shard, *known))
    }

    /// The command whose turn it was has been executed.
    #[inline]
    pub(super) fn step(&mut self) {
        self.next = (self.next + 1).min(self.placed.count());
    }
}
