//! Counts of executed commands, and the snapshot of a shard's or a node's statistics.

use fulmar_engine::Stats;
use fulmar_protocol::command::table::CommandId;

use crate::{HotKey, Outcome, ReplicationStats};

/// Counts of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCounts {
    /// Executed, whatever the outcome.
    pub calls: u64,
    /// Executed, and replied an error.
    pub failed: u64,
    /// Refused before execution: wrong number of arguments, bad options.
    pub rejected: u64,
}

/// Counts by command: a dense array, 24 bytes a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(Box<[CommandCounts; CommandId::COUNT]>);

impl Counters {
    /// Counts an executed command.
    #[inline]
    pub fn record(&mut self, id: CommandId, outcome: Outcome) {
        let counts = &mut self.0[id.index()];
        counts.calls += 1;
        counts.failed += u64::from(outcome == Outcome::Failed);
    }

    /// Counts a command that was refused before execution.
    pub fn record_rejected(&mut self, id: CommandId) {
        self.0[id.index()].rejected += 1;
    }

    /// The counts of one command.
    pub fn of(&self, id: CommandId) -> CommandCounts {
        self.0[id.index()]
    }

    /// The commands that were ever called or refused, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, CommandCounts)> + use<'_> {
        let ids = fulmar_protocol::command::table::COMMANDS
            .iter()
            .map(|spec| spec.id);
        ids.zip(self.0.iter().copied())
            .filter(|(_, counts)| *counts != CommandCounts::default())
    }

    /// All commands ever called.
    pub fn calls(&self) -> u64 {
        self.0.iter().map(|counts| counts.calls).sum()
    }

    /// Error replies, of executed and of refused commands.
    pub fn errors(&self) -> u64 {
        self.0
            .iter()
            .map(|counts| counts.failed + counts.rejected)
            .sum()
    }

    /// Adds counts of one command.
    pub fn add_to(&mut self, id: CommandId, more: CommandCounts) {
        let counts = &mut self.0[id.index()];
        counts.calls += more.calls;
        counts.failed += more.failed;
        counts.rejected += more.rejected;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (counts, more) in self.0.iter_mut().zip(other.0.iter()) {
            counts.calls += more.calls;
            counts.failed += more.failed;
            counts.rejected += more.rejected;
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self(Box::new([CommandCounts::default(); CommandId::COUNT]))
    }
}

/// What there is to report of a shard, or the sum of it over shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Commands executed.
    pub commands: Counters,
    /// The engine's counts and sizes.
    pub engine: Stats,
    /// Items that count as this node's: those of ranges whose primary it is.
    pub shown_items: u64,
    /// Keys watched right now.
    pub watched_keys: u64,
    /// What its replication tells.
    pub replication: ReplicationStats,
    /// Its hot keys, in no order.
    pub hot_keys: Vec<HotKey>,
}

impl ShardStats {
    /// Adds the statistics of another shard.
    pub fn add(&mut self, other: &Self) {
        self.commands.add(&other.commands);
        add_engine(&mut self.engine, &other.engine);
        self.shown_items += other.shown_items;
        self.watched_keys += other.watched_keys;
        self.replication.add(&other.replication);
        self.hot_keys.extend_from_slice(&other.hot_keys);
    }
}

fn add_engine(sum: &mut Stats, other: &Stats) {
    // Named one by one, so that a new field cannot be forgotten.
    let Stats {
        hits,
        misses,
        sets,
        evicted,
        evicted_early,
        expired,
        deleted,
        replaced,
        flushed,
        pages_given_up,
        items,
        items_with_ttl,
        key_bytes,
        value_bytes,
        pages_in_use,
        pages_resident,
        pages_total,
        index_bytes,
        reserved_bytes,
        leased_bytes,
        zombies,
        memory_bytes_max,
    } = *other;
    sum.hits += hits;
    sum.misses += misses;
    sum.sets += sets;
    sum.evicted += evicted;
    sum.evicted_early += evicted_early;
    sum.expired += expired;
    sum.deleted += deleted;
    sum.replaced += replaced;
    sum.flushed += flushed;
    sum.pages_given_up += pages_given_up;
    sum.items += items;
    sum.items_with_ttl += items_with_ttl;
    sum.key_bytes += key_bytes;
    sum.value_bytes += value_bytes;
    sum.pages_in_use += pages_in_use;
    sum.pages_resident += pages_resident;
    sum.pages_total += pages_total;
    sum.index_bytes += index_bytes;
    sum.reserved_bytes += reserved_bytes;
    sum.leased_bytes += leased_bytes;
    sum.zombies += zombies;
    sum.memory_bytes_max += memory_bytes_max;
}

#[cfg(test)]
mod tests {
    use fulmar_protocol::command::table::CommandId;

    use super::{CommandCounts, Counters};
    use crate::Outcome;

    #[test]
    fn counts_add_up_over_shards() {
        let mut sum = Counters::default();
        let mut other = Counters::default();
        sum.record(CommandId::Get, Outcome::Done);
        other.record(CommandId::Get, Outcome::Failed);
        other.record_rejected(CommandId::Set);
        sum.add(&other);
        let get = CommandCounts {
            calls: 2,
            failed: 1,
            rejected: 0,
        };
        assert_eq!(sum.of(CommandId::Get), get);
        assert_eq!((sum.calls(), sum.errors()), (2, 2));
        let named: Vec<CommandId> = sum.iter().map(|(id, _)| id).collect();
        assert_eq!(named, [CommandId::Get, CommandId::Set]);
    }
}
