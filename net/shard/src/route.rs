//! Placement of commands: which shards must be held to execute one.

use fulmar_cluster::ShardIndex;
use fulmar_engine::Key;
use fulmar_protocol::command::Argv;
use fulmar_protocol::command::table::{CommandSpec, Scope};

use crate::{Placement, ShardMask};

/// What a command needs to be held.
#[derive(Clone, Copy, Debug)]
pub enum Route<'a> {
    /// No shard: the connection or the node answers.
    Connection,
    /// One shard. The key is the command's first one, hashed; give it to [`Single`](crate::Single).
    One(ShardIndex, Key<'a>),
    /// Two shards or more.
    Many(ShardMask),
    /// All shards of the node.
    All,
}

/// Where the command `spec` with these arguments must run.
///
/// The arguments' number has been checked. Hashes one key; the others of a command only get their
/// ranges computed, and not even those where there is one shard.
#[inline]
pub fn route<'a>(spec: &CommandSpec, argv: &Argv<'a>, placement: &Placement<'_>) -> Route<'a> {
    match spec.scope {
        Scope::Connection => Route::Connection,
        Scope::AllShards => Route::All,
        Scope::Keys => {
            let mut keys = spec.keys_in(argv.args);
            // A command without the keys it should have is answered with an error.
            let Some(first) = keys.next() else {
                return Route::Connection;
            };
            let (shard, key) = placement.place(first);
            if placement.homes.shards_count() == 1 {
                return Route::One(shard, key);
            }
            match keys.find(|key| placement.shard_of(key) != shard) {
                None => Route::One(shard, key),
                Some(other) => {
                    let mut mask = ShardMask::EMPTY;
                    mask.insert(shard);
                    mask.insert(placement.shard_of(other));
                    keys.for_each(|key| mask.insert(placement.shard_of(key)));
                    Route::Many(mask)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::HomeTable;
    use fulmar_engine::KeyHasher;
    use fulmar_protocol::command::Argv;
    use fulmar_protocol::command::table::CommandId;

    use super::{Route, route};
    use crate::Placement;

    #[test]
    fn commands_need_the_shards_of_their_keys() {
        let homes = HomeTable::even(4);
        let placement = Placement {
            homes: &homes,
            hasher: KeyHasher::new([1, 2, 3, 4]),
        };
        let routed = |id: CommandId, args: &'static [&'static [u8]]| {
            route(id.spec(), &Argv { args, staged: &[] }, &placement)
        };
        assert!(matches!(
            routed(CommandId::Ping, &[b"ping"]),
            Route::Connection
        ));
        assert!(matches!(
            routed(CommandId::DbSize, &[b"dbsize"]),
            Route::All
        ));
        let Route::One(shard, key) = routed(CommandId::Get, &[b"get", b"foo"]) else {
            panic!("one key is one shard");
        };
        assert_eq!(
            (shard, key.bytes()),
            (placement.shard_of(b"foo"), &b"foo"[..])
        );
        assert_eq!(key.hash(), placement.hasher.hash(b"foo"));
        let tagged: &[&[u8]] = &[b"mset", b"{t}a", b"foo", b"{t}b", b"bar"];
        assert!(matches!(routed(CommandId::MSet, tagged), Route::One(..)));
        let Route::Many(mask) = routed(
            CommandId::MGet,
            &[b"mget", b"foo", b"bar", b"somekey", b"foo"],
        ) else {
            panic!("they are at home in different shards");
        };
        let homes = [&b"foo"[..], b"bar", b"somekey"].map(|key| placement.shard_of(key));
        assert!(homes.iter().all(|&shard| mask.contains(shard)));
        assert!(mask.iter().all(|shard| homes.contains(&shard)));
    }
}
