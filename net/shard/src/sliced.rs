//! Commands on many keys, slice by slice, so that no other client waits for all of one.
//!
//! MGET, DEL, UNLINK, EXISTS and TOUCH of more than [`SLICE_KEYS`] keys, KEYS and CLUSTER DIGEST. Other commands may
//! come between two slices: each slice is atomic, the whole is not. Inside a transaction nothing is
//! sliced.

use fulmar_cluster::ShardIndex;
use fulmar_engine::Item;
use fulmar_protocol::command::Argv;
use fulmar_protocol::command::glob;
use fulmar_protocol::command::table::{CommandId, CommandSpec};

use crate::digests::{Digests, parse_ranges};
use crate::execute::{count_slice, get_slice};
use crate::{Now, Placement, ShardMask, ShardSet, ValueSink};

/// Keys of one slice.
pub const SLICE_KEYS: usize = 1_024;

/// A command under way.
#[derive(Debug)]
pub struct Sliced {
    id: CommandId,
    /// Its keys, or its pattern; later the keys found.
    keys: KeyList,
    /// Keys that are dealt with.
    done: usize,
    /// Of those, the ones that count.
    count: i64,
    walk: Option<Walk>,
    digests: Option<Digests>,
}

/// How far KEYS has come.
#[derive(Debug)]
struct Walk {
    pattern: Vec<u8>,
    shard: ShardIndex,
    cursor: u64,
}

impl Sliced {
    /// Whether a command is one of those that are executed in slices.
    #[inline]
    #[must_use]
    pub fn is_for(spec: &CommandSpec, argv: &Argv<'_>) -> bool {
        let is_long = argv.args.len() > SLICE_KEYS + 1;
        match spec.id {
            CommandId::Keys => true,
            // One with mistakes in it is answered as a whole.
            CommandId::ClusterDigest => parse_ranges(&argv.args[2..]).is_ok(),
            CommandId::MGet
            | CommandId::Del
            | CommandId::Unlink
            | CommandId::Exists
            | CommandId::Touch => is_long && argv.staged.is_empty(),
            _ => false,
        }
    }

    /// A parsed command that [`is_for`](Self::is_for) names. Copies its arguments.
    #[cold]
    #[must_use]
    pub fn begin(id: CommandId, argv: &Argv<'_>) -> Self {
        let (mut keys, mut walk, mut digests) = (KeyList::default(), None, None);
        if id == CommandId::ClusterDigest {
            let ranges = parse_ranges(&argv.args[2..]).unwrap_or_default();
            digests = Some(Digests::new(ranges));
        } else if id == CommandId::Keys {
            walk = Some(Walk {
                pattern: argv.args[1].to_vec(),
                shard: ShardIndex(0),
                cursor: 0,
            });
        } else {
            argv.args[1..].iter().for_each(|key| keys.push(key));
        }
        Self {
            id,
            keys,
            done: 0,
            count: 0,
            walk,
            digests,
        }
    }

    /// Which command it is.
    #[must_use]
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Whether a slice was executed.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.done > 0
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        let digests = self.digests.as_ref().map_or(0, Digests::bytes_held);
        self.keys.bytes.capacity() + self.keys.ends.capacity() * size_of::<usize>() + digests
    }

    /// The shards that the next slice needs.
    #[must_use]
    pub fn shards_needed(&mut self, placement: &Placement<'_>) -> ShardMask {
        let mut mask = ShardMask::EMPTY;
        if let Some(digests) = &mut self.digests {
            digests
                .shard_needed(placement)
                .into_iter()
                .for_each(|shard| mask.insert(shard));
            return mask;
        }
        match &self.walk {
            Some(walk) => mask.insert(walk.shard),
            // The keys found are only replied.
            None if self.id == CommandId::Keys => {}
            None => self
                .slice()
                .for_each(|key| mask.insert(placement.shard_of(key))),
        }
        mask
    }

    /// The keys of the next slice. Those of KEYS are only replied.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let is_replied = self.id == CommandId::Keys;
        self.slice().filter(move |_| !is_replied)
    }

    /// Executes a slice on the shards that it needs, and replies what can be replied; true after the
    /// last one.
    pub fn step(&mut self, shards: &mut dyn ShardSet, now: Now, reply: &mut dyn ValueSink) -> bool {
        if let Some(digests) = &mut self.digests {
            return digests.step(shards, now, reply);
        }
        if let Some(mut walk) = self.walk.take() {
            if !self.keys.walk(&mut walk, shards, now) {
                self.walk = Some(walk);
            }
            return false;
        }
        if self.done == 0 && matches!(self.id, CommandId::Keys | CommandId::MGet) {
            reply.array(self.keys.count());
        }
        let slice: Vec<&[u8]> = self.slice().collect();
        let mut count = 0;
        match self.id {
            CommandId::Keys => slice.iter().for_each(|key| reply.bulk(key)),
            CommandId::MGet => get_slice(&slice, shards, now, reply),
            id => count = count_slice(id, &slice, shards, now, reply),
        }
        self.done += slice.len();
        self.count += count;
        let is_over = self.done == self.keys.count();
        if is_over && !matches!(self.id, CommandId::Keys | CommandId::MGet) {
            reply.integer(self.count);
        }
        is_over
    }

    fn slice(&self) -> impl Iterator<Item = &[u8]> {
        let end = (self.done + SLICE_KEYS).min(self.keys.count());
        (self.done..end).map(|number| self.keys.get(number))
    }
}

/// Keys, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyList {
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }

    /// Adds the matching keys of the next slice of a walk; true when all shards are done.
    fn walk(&mut self, walk: &mut Walk, shards: &mut dyn ShardSet, now: Now) -> bool {
        let shard = &*shards.at(walk.shard.index());
        let mut visit = |item: Item<'_>| {
            if glob::is_match(&walk.pattern, item.key()) && shard.shows(item.key()) {
                self.push(item.key());
            }
        };
        walk.cursor = shard
            .cache
            .walk(walk.cursor, SLICE_KEYS, now.time, &mut visit);
        if walk.cursor == 0 {
            walk.shard = ShardIndex(walk.shard.0 + 1);
        }
        walk.shard.index() == shards.count()
    }
}
