//! The rows of the command table, as Redis 7.0 describes these commands (CLIENT SETINFO: 7.2).

use super::{Category, CommandId, CommandId as Id, CommandSpec, Flags, Group, KeySpec, Scope};

const ALWAYS: Flags = Flags::LOADING.and(Flags::STALE);
const ALWAYS_FAST: Flags = ALWAYS.and(Flags::FAST);
const SESSION: Flags = ALWAYS.and(Flags::NO_SCRIPT);
const OPERATOR: Flags = SESSION.and(Flags::ADMIN);
const TRANSACTION: Flags = SESSION.and(Flags::FAST).and(Flags::ALLOW_BUSY);
const HANDSHAKE: Flags = TRANSACTION.and(Flags::NO_AUTH);
const CLUSTER_OPERATOR: Flags = Flags::ADMIN.and(Flags::STALE);
/// The version of Redis that has them: none.
const FULMAR: &str = "";
const CLUSTER_CHANGE: Flags = CLUSTER_OPERATOR.and(Flags::NO_ASYNC_LOADING);
const EXEC: Flags = SESSION.and(Flags::SKIP_SLOWLOG);
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const STORE: Flags = Flags::WRITE.and(Flags::DENY_OOM);
const STORE_FAST: Flags = STORE.and(Flags::FAST);

/// Every command and subcommand, in the order of [`CommandId`].
// Formatted by hand: a line for each property, so that rows can be compared.
#[rustfmt::skip]
pub static COMMANDS: [CommandSpec; CommandId::COUNT] = [
    spec(Id::Ping, "ping", -1, Group::Connection, Flags::FAST)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("1.0.0", "O(1)", "Ping the server"),
    spec(Id::Echo, "echo", 2, Group::Connection, ALWAYS_FAST)
        .docs("1.0.0", "O(1)", "Echo the given string"),
    spec(Id::Quit, "quit", -1, Group::Connection, HANDSHAKE)
        .docs("1.0.0", "O(1)", "Close the connection"),
    spec(Id::Hello, "hello", -1, Group::Connection, HANDSHAKE)
        .docs("6.0.0", "O(1)", "Handshake with Redis"),
    spec(Id::Select, "select", 2, Group::Connection, ALWAYS_FAST)
        .docs("1.0.0", "O(1)", "Change the selected database for the current connection"),
    spec(Id::Client, "client", -2, Group::Connection, Flags::NONE)
        .only_categories(&[])
        .container(8)
        .docs("2.4.0", "Depends on subcommand.", "A container for client connection commands"),
    spec(Id::ClientId, "client|id", 2, Group::Connection, SESSION)
        .docs("5.0.0", "O(1)", "Returns the client ID for the current connection"),
    spec(Id::ClientSetName, "client|setname", 3, Group::Connection, SESSION)
        .docs("2.6.9", "O(1)", "Set the current connection name"),
    spec(Id::ClientGetName, "client|getname", 2, Group::Connection, SESSION)
        .docs("2.6.9", "O(1)", "Get the current connection name"),
    spec(Id::ClientSetInfo, "client|setinfo", 4, Group::Connection, SESSION)
        .docs("7.2.0", "O(1)", "Set information specific to the client or connection"),
    spec(Id::ClientInfo, "client|info", 2, Group::Connection, SESSION)
        .tips(&["nondeterministic_output"])
        .docs("6.2.0", "O(1)", "Returns information about the current client connection."),
    spec(Id::ClientList, "client|list", -2, Group::Connection, OPERATOR)
        .tips(&["nondeterministic_output"])
        .docs(
            "2.4.0",
            "O(N) where N is the number of client connections",
            "Get the list of client connections",
        ),
    spec(Id::ClientNoEvict, "client|no-evict", 3, Group::Connection, OPERATOR)
        .docs("7.0.0", "O(1)", "Set client eviction mode for the current connection"),
    spec(Id::ClientHelp, "client|help", 2, Group::Connection, ALWAYS)
        .docs("5.0.0", "O(1)", "Show helpful text about the different subcommands"),
    spec(Id::Command, "command", -1, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .container(6)
        .docs(
            "2.8.13",
            "O(N) where N is the total number of Redis commands",
            "Get array of Redis command details",
        ),
    spec(Id::CommandCount, "command|count", 2, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .docs("2.8.13", "O(1)", "Get total number of Redis commands"),
    spec(Id::CommandDocs, "command|docs", -2, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .docs(
            "7.0.0",
            "O(N) where N is the number of commands to look up",
            "Get array of specific Redis command documentation",
        ),
    spec(Id::CommandInfo, "command|info", -2, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .docs(
            "2.8.13",
            "O(N) where N is the number of commands to look up",
            "Get array of specific Redis command details, or all when no argument is given.",
        ),
    spec(Id::CommandList, "command|list", -2, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .docs(
            "7.0.0",
            "O(N) where N is the total number of Redis commands",
            "Get an array of Redis command names",
        ),
    spec(Id::CommandGetKeys, "command|getkeys", -4, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .docs(
            "2.8.13",
            "O(N) where N is the number of arguments to the command",
            "Extract keys given a full Redis command",
        ),
    spec(Id::CommandHelp, "command|help", 2, Group::Server, ALWAYS)
        .only_categories(&[Category::Connection])
        .docs("5.0.0", "O(1)", "Show helpful text about the different subcommands"),
    spec(Id::Config, "config", -2, Group::Server, Flags::NONE)
        .container(4)
        .docs("2.0.0", "Depends on subcommand.", "A container for server configuration commands"),
    spec(Id::ConfigGet, "config|get", -3, Group::Server, OPERATOR)
        .docs(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "Get the values of configuration parameters",
        ),
    spec(Id::ConfigSet, "config|set", -4, Group::Server, OPERATOR)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
            "2.0.0",
            "O(N) when N is the number of configuration parameters provided",
            "Set configuration parameters to the given values",
        ),
    spec(Id::ConfigResetStat, "config|resetstat", 2, Group::Server, OPERATOR)
        .scope(Scope::AllShards)
        .docs("2.0.0", "O(1)", "Reset the stats returned by INFO"),
    spec(Id::ConfigHelp, "config|help", 2, Group::Server, ALWAYS)
        .docs("5.0.0", "O(1)", "Show helpful text about the different subcommands"),
    spec(Id::HotKeys, "hotkeys", -2, Group::Server, Flags::NONE)
        .container(2)
        .docs("8.6.0", "Depends on subcommand.", "A container for commands on hot keys"),
    spec(Id::HotKeysGet, "hotkeys|get", 2, Group::Server, OPERATOR)
        .scope(Scope::AllShards)
        .tips(&["nondeterministic_output"])
        .docs(
            "8.6.0",
            "O(N) where N is the number of hot keys",
            "Returns the keys of this node that are hot now, with their rates",
        ),
    spec(Id::HotKeysHelp, "hotkeys|help", 2, Group::Server, ALWAYS)
        .docs("8.6.0", "O(1)", "Show helpful text about the different subcommands"),
    spec(Id::Info, "info", -1, Group::Server, ALWAYS)
        .scope(Scope::AllShards)
        .only_categories(&[Category::Dangerous])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("1.0.0", "O(1)", "Get information and statistics about the server"),
    spec(Id::DbSize, "dbsize", 1, Group::Server, READ_FAST)
        .scope(Scope::AllShards)
        .only_categories(&[Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .docs("1.0.0", "O(1)", "Return the number of keys in the selected database"),
    spec(Id::FlushAll, "flushall", -1, Group::Server, Flags::WRITE)
        .scope(Scope::AllShards)
        .only_categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs(
            "1.0.0",
            "O(N) where N is the total number of keys",
            "Remove all keys from all databases",
        ),
    spec(Id::FlushDb, "flushdb", -1, Group::Server, Flags::WRITE)
        .scope(Scope::AllShards)
        .only_categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs(
            "1.0.0",
            "O(N) where N is the total number of keys",
            "Remove all keys from the current database",
        ),
    spec(Id::Time, "time", 1, Group::Server, ALWAYS_FAST)
        .tips(&["nondeterministic_output"])
        .docs("2.6.0", "O(1)", "Return the current server time"),
    spec(Id::Get, "get", 2, Group::String, READ_FAST)
        .keys(KeySpec::one(1), &["RO", "access"])
        .docs("1.0.0", "O(1)", "Get the value of a key"),
    spec(Id::Set, "set", -3, Group::String, STORE)
        .keys(KeySpec::one(1), &["RW", "access", "update", "variable_flags"])
        .values(KeySpec::one(2))
        .docs("1.0.0", "O(1)", "Set the string value of a key"),
    spec(Id::GetSet, "getset", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .values(KeySpec::one(2))
        .deprecated("6.2.0", "`SET` with the `!GET` argument")
        .docs("1.0.0", "O(1)", "Set the string value of a key and return its old value"),
    spec(Id::GetDel, "getdel", 2, Group::String, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "delete"])
        .docs("6.2.0", "O(1)", "Get the value of a key and delete the key"),
    spec(Id::GetEx, "getex", -2, Group::String, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("6.2.0", "O(1)", "Get the value of a key and optionally set its expiration"),
    spec(Id::SetNx, "setnx", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["OW", "insert"])
        .values(KeySpec::one(2))
        .docs("1.0.0", "O(1)", "Set the value of a key, only if the key does not exist"),
    spec(Id::SetEx, "setex", 4, Group::String, STORE)
        .keys(KeySpec::one(1), &["OW", "update"])
        .values(KeySpec::one(3))
        .docs("2.0.0", "O(1)", "Set the value and expiration of a key"),
    spec(Id::PSetEx, "psetex", 4, Group::String, STORE)
        .keys(KeySpec::one(1), &["OW", "update"])
        .values(KeySpec::one(3))
        .docs("2.6.0", "O(1)", "Set the value and expiration in milliseconds of a key"),
    spec(Id::MGet, "mget", -2, Group::String, READ_FAST)
        .keys(KeySpec::from(1, 1), &["RO", "access"])
        .tips(&["request_policy:multi_shard"])
        .docs(
            "1.0.0",
            "O(N) where N is the number of keys to retrieve.",
            "Get the values of all the given keys",
        ),
    spec(Id::MSet, "mset", -3, Group::String, STORE)
        .keys(KeySpec::from(1, 2), &["OW", "update"])
        .values(KeySpec::from(2, 2))
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .docs(
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values",
        ),
    spec(Id::MSetNx, "msetnx", -3, Group::String, STORE)
        .keys(KeySpec::from(1, 2), &["OW", "insert"])
        .values(KeySpec::from(2, 2))
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .docs(
            "1.0.1",
            "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values, only if none of the keys exist",
        ),
    spec(Id::StrLen, "strlen", 2, Group::String, READ_FAST)
        .keys(KeySpec::one(1), &["RO"])
        .docs("2.2.0", "O(1)", "Get the length of the value stored in a key"),
    spec(Id::Append, "append", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "insert"])
        .values(KeySpec::one(2))
        .docs(
            "2.0.0",
            "O(N) where N is the length of the resulting string",
            "Append a value to a key",
        ),
    spec(Id::GetRange, "getrange", 4, Group::String, Flags::READONLY)
        .keys(KeySpec::one(1), &["RO", "access"])
        .docs(
            "2.4.0",
            "O(N) where N is the length of the returned string",
            "Get a substring of the string stored at a key",
        ),
    spec(Id::Substr, "substr", 4, Group::String, Flags::READONLY)
        .keys(KeySpec::one(1), &["RO", "access"])
        .deprecated("2.0.0", "`GETRANGE`")
        .docs(
            "1.0.0",
            "O(N) where N is the length of the returned string",
            "Get a substring of the string stored at a key",
        ),
    spec(Id::SetRange, "setrange", 4, Group::String, STORE)
        .keys(KeySpec::one(1), &["RW", "update"])
        .values(KeySpec::one(3))
        .docs(
            "2.2.0",
            "O(N) where N is the length of the resulting string",
            "Overwrite part of a string at key starting at the specified offset",
        ),
    spec(Id::Incr, "incr", 2, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("1.0.0", "O(1)", "Increment the integer value of a key by one"),
    spec(Id::Decr, "decr", 2, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("1.0.0", "O(1)", "Decrement the integer value of a key by one"),
    spec(Id::IncrBy, "incrby", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("1.0.0", "O(1)", "Increment the integer value of a key by the given amount"),
    spec(Id::DecrBy, "decrby", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("1.0.0", "O(1)", "Decrement the integer value of a key by the given number"),
    spec(Id::IncrByFloat, "incrbyfloat", 3, Group::String, STORE_FAST)
        .keys(KeySpec::one(1), &["RW", "access", "update"])
        .docs("2.6.0", "O(1)", "Increment the float value of a key by the given amount"),
    spec(Id::Del, "del", -2, Group::Generic, Flags::WRITE)
        .keys(KeySpec::from(1, 1), &["RM", "delete"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs("1.0.0", "O(N) where N is the number of keys that will be removed", "Delete a key"),
    spec(Id::Unlink, "unlink", -2, Group::Generic, WRITE_FAST)
        .keys(KeySpec::from(1, 1), &["RM", "delete"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs(
            "4.0.0",
            "O(N) where N is the number of keys that will be removed",
            "Delete a key; the same as DEL",
        ),
    spec(Id::Exists, "exists", -2, Group::Generic, READ_FAST)
        .keys(KeySpec::from(1, 1), &["RO"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs("1.0.0", "O(N) where N is the number of keys to check.", "Determine if a key exists"),
    spec(Id::Touch, "touch", -2, Group::Generic, READ_FAST)
        .keys(KeySpec::from(1, 1), &["RO"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs(
            "3.2.1",
            "O(N) where N is the number of keys that will be touched.",
            "Alters the last access time of keys. Returns the number of existing keys specified.",
        ),
    spec(Id::Type, "type", 2, Group::Generic, READ_FAST)
        .keys(KeySpec::one(1), &["RO"])
        .docs("1.0.0", "O(1)", "Determine the type stored at key"),
    spec(Id::Expire, "expire", -3, Group::Generic, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "update"])
        .docs("1.0.0", "O(1)", "Set a key's time to live in seconds"),
    spec(Id::PExpire, "pexpire", -3, Group::Generic, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "update"])
        .docs("2.6.0", "O(1)", "Set a key's time to live in milliseconds"),
    spec(Id::ExpireAt, "expireat", -3, Group::Generic, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "update"])
        .docs("1.2.0", "O(1)", "Set the expiration for a key as a UNIX timestamp"),
    spec(Id::PExpireAt, "pexpireat", -3, Group::Generic, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "update"])
        .docs(
            "2.6.0",
            "O(1)",
            "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
        ),
    spec(Id::Ttl, "ttl", 2, Group::Generic, READ_FAST)
        .keys(KeySpec::one(1), &["RO", "access"])
        .tips(&["nondeterministic_output"])
        .docs("1.0.0", "O(1)", "Get the time to live for a key in seconds"),
    spec(Id::PTtl, "pttl", 2, Group::Generic, READ_FAST)
        .keys(KeySpec::one(1), &["RO", "access"])
        .tips(&["nondeterministic_output"])
        .docs("2.6.0", "O(1)", "Get the time to live for a key in milliseconds"),
    spec(Id::ExpireTime, "expiretime", 2, Group::Generic, READ_FAST)
        .keys(KeySpec::one(1), &["RO", "access"])
        .docs("7.0.0", "O(1)", "Get the expiration Unix timestamp for a key"),
    spec(Id::PExpireTime, "pexpiretime", 2, Group::Generic, READ_FAST)
        .keys(KeySpec::one(1), &["RO", "access"])
        .docs("7.0.0", "O(1)", "Get the expiration Unix timestamp for a key in milliseconds"),
    spec(Id::Persist, "persist", 2, Group::Generic, WRITE_FAST)
        .keys(KeySpec::one(1), &["RW", "update"])
        .docs("2.2.0", "O(1)", "Remove the expiration from a key"),
    spec(Id::RandomKey, "randomkey", 1, Group::Generic, Flags::READONLY)
        .scope(Scope::AllShards)
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .docs("1.0.0", "O(1)", "Return a random key from the keyspace"),
    spec(Id::Scan, "scan", -2, Group::Generic, Flags::READONLY)
        .scope(Scope::AllShards)
        .tips(&["nondeterministic_output", "request_policy:special"])
        .docs(
            "2.8.0",
            "O(1) for every call, O(N) for a complete iteration where N is the number of keys",
            "Incrementally iterate the keys space",
        ),
    spec(Id::Keys, "keys", 2, Group::Generic, Flags::READONLY)
        .scope(Scope::AllShards)
        .only_categories(&[Category::Keyspace, Category::Dangerous])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .docs(
            "1.0.0",
            "O(N) where N is the total number of keys",
            "Find all keys matching the given pattern",
        ),
    spec(Id::Multi, "multi", 1, Group::Transactions, TRANSACTION)
        .docs("1.2.0", "O(1)", "Mark the start of a transaction block"),
    spec(Id::Exec, "exec", 1, Group::Transactions, EXEC)
        .docs(
            "1.2.0",
            "Depends on commands in the transaction",
            "Execute all commands issued after MULTI",
        ),
    spec(Id::Discard, "discard", 1, Group::Transactions, TRANSACTION)
        .docs(
            "2.0.0",
            "O(N), when N is the number of queued commands",
            "Discard all commands issued after MULTI",
        ),
    spec(Id::Watch, "watch", -2, Group::Transactions, TRANSACTION)
        .keys(KeySpec::from(1, 1), &["RO"])
        .docs(
            "2.2.0",
            "O(1) for every key.",
            "Watch the given keys to determine execution of the MULTI/EXEC block",
        ),
    spec(Id::Unwatch, "unwatch", 1, Group::Transactions, TRANSACTION)
        .docs("2.2.0", "O(1)", "Forget about all watched keys"),
    spec(Id::Cluster, "cluster", -2, Group::Cluster, Flags::NONE)
        .container(18)
        .docs("3.0.0", "Depends on subcommand.", "A container for cluster commands"),
    spec(
        Id::ClusterCountFailureReports,
        "cluster|count-failure-reports",
        3,
        Group::Cluster,
        CLUSTER_OPERATOR,
    )
        .tips(&["nondeterministic_output"])
        .docs(
            "3.0.0",
            "O(N) where N is the number of failure reports",
            "Return the number of failure reports active for a given node",
        ),
    spec(Id::ClusterCountKeysInSlot, "cluster|countkeysinslot", 3, Group::Cluster, Flags::STALE)
        .scope(Scope::AllShards)
        .docs("3.0.0", "O(1)", "Return the number of local keys in the specified hash slot"),
    spec(Id::ClusterFailover, "cluster|failover", -2, Group::Cluster, CLUSTER_CHANGE)
        .docs("3.0.0", "O(1)", "Forces a replica to perform a manual failover of its master."),
    spec(Id::ClusterGetKeysInSlot, "cluster|getkeysinslot", 4, Group::Cluster, Flags::STALE)
        .scope(Scope::AllShards)
        .tips(&["nondeterministic_output"])
        .docs(
            "3.0.0",
            "O(log(N)) where N is the number of requested keys",
            "Return local key names in the specified hash slot",
        ),
    spec(Id::ClusterInfo, "cluster|info", 2, Group::Cluster, Flags::STALE)
        .tips(&["nondeterministic_output"])
        .docs("3.0.0", "O(1)", "Provides info about Redis Cluster node state"),
    spec(Id::ClusterKeySlot, "cluster|keyslot", 3, Group::Cluster, Flags::STALE)
        .docs(
            "3.0.0",
            "O(N) where N is the number of bytes in the key",
            "Returns the hash slot of the specified key",
        ),
    spec(Id::ClusterMyId, "cluster|myid", 2, Group::Cluster, Flags::STALE)
        .docs("3.0.0", "O(1)", "Return the node id"),
    spec(Id::ClusterNodes, "cluster|nodes", 2, Group::Cluster, Flags::STALE)
        .tips(&["nondeterministic_output"])
        .docs(
            "3.0.0",
            "O(N) where N is the total number of Cluster nodes",
            "Get Cluster config for the node",
        ),
    spec(Id::ClusterReplicas, "cluster|replicas", 3, Group::Cluster, CLUSTER_OPERATOR)
        .tips(&["nondeterministic_output"])
        .docs("5.0.0", "O(1)", "List replica nodes of the specified master node"),
    spec(Id::ClusterShards, "cluster|shards", 2, Group::Cluster, Flags::STALE)
        .tips(&["nondeterministic_output"])
        .docs(
            "7.0.0",
            "O(N) where N is the total number of cluster nodes",
            "Get array of cluster slots to node mappings",
        ),
    spec(Id::ClusterSlaves, "cluster|slaves", 3, Group::Cluster, CLUSTER_OPERATOR)
        .tips(&["nondeterministic_output"])
        .deprecated("5.0.0", "`CLUSTER REPLICAS`")
        .docs("3.0.0", "O(1)", "List replica nodes of the specified master node"),
    spec(Id::ClusterSlots, "cluster|slots", 2, Group::Cluster, Flags::STALE)
        .tips(&["nondeterministic_output"])
        .deprecated("7.0.0", "`CLUSTER SHARDS`")
        .docs(
            "3.0.0",
            "O(N) where N is the total number of Cluster nodes",
            "Get array of Cluster slot to node mappings",
        ),
    spec(Id::ClusterHelp, "cluster|help", 2, Group::Cluster, ALWAYS)
        .docs("5.0.0", "O(1)", "Show helpful text about the different subcommands"),
    spec(Id::ClusterAdopt, "cluster|adopt", 2, Group::Cluster, CLUSTER_CHANGE)
        .docs(FULMAR, "O(1)", "Makes the branch of a side without a quorum a cluster of its own"),
    spec(Id::ClusterDigest, "cluster|digest", -3, Group::Cluster, CLUSTER_OPERATOR)
        .scope(Scope::AllShards)
        .tips(&["nondeterministic_output"])
        .docs(
            FULMAR,
            "O(N) where N is the number of items in the ranges, in slices between other commands",
            "Returns digests of the copies of ranges that this node has",
        ),
    spec(Id::ClusterDrain, "cluster|drain", 2, Group::Cluster, CLUSTER_CHANGE)
        .docs(FULMAR, "O(1)", "Hands over all that this node has, and stops it"),
    spec(Id::ClusterRebalance, "cluster|rebalance", -2, Group::Cluster, CLUSTER_CHANGE)
        .docs(FULMAR, "O(1)", "Begins, slows down or cancels the moves of ranges"),
    spec(Id::ClusterStatus, "cluster|status", 2, Group::Cluster, CLUSTER_OPERATOR)
        .scope(Scope::AllShards)
        .tips(&["nondeterministic_output"])
        .docs(
            FULMAR,
            "O(N) where N is the number of ranges and copies",
            "Returns the state of the cluster as JSON",
        ),
    spec(Id::ReadOnly, "readonly", 1, Group::Cluster, ALWAYS_FAST)
        .only_categories(&[Category::Connection])
        .docs(
            "3.0.0",
            "O(1)",
            "Enables read queries for a connection to a cluster replica node",
        ),
    spec(Id::ReadWrite, "readwrite", 1, Group::Cluster, ALWAYS_FAST)
        .only_categories(&[Category::Connection])
        .docs(
            "3.0.0",
            "O(1)",
            "Disables read queries for a connection to a cluster replica node",
        ),
    spec(Id::Asking, "asking", 1, Group::Cluster, Flags::FAST)
        .only_categories(&[Category::Connection])
        .docs("3.0.0", "O(1)", "Sent by cluster clients after an -ASK redirect"),
    spec(Id::Wait, "wait", 3, Group::Generic, Flags::NO_SCRIPT)
        .only_categories(&[Category::Connection])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .docs(
            "3.0.0",
            "O(1)",
            "Wait for the synchronous replication of all the write commands sent in the context of \
             the current connection",
        ),
];

/// A row with the parts that every command has.
const fn spec(
    id: CommandId,
    name: &'static str,
    arity: i8,
    group: Group,
    flags: Flags,
) -> CommandSpec {
    CommandSpec {
        name,
        id,
        arity,
        flags,
        keys: KeySpec::NONE,
        key_access: &[],
        values: KeySpec::NONE,
        scope: Scope::Connection,
        group,
        categories: match group {
            Group::Generic => Category::Keyspace.bit(),
            Group::String => Category::String.bit(),
            Group::Connection => Category::Connection.bit(),
            Group::Server | Group::Cluster => 0,
            Group::Transactions => Category::Transaction.bit(),
        },
        since: "",
        complexity: "",
        summary: "",
        tips: &[],
        deprecated: None,
        subcommands_count: 0,
    }
}

impl CommandSpec {
    const fn keys(mut self, keys: KeySpec, access: &'static [&'static str]) -> Self {
        self.keys = keys;
        self.key_access = access;
        self.scope = Scope::Keys;
        self
    }

    const fn values(mut self, values: KeySpec) -> Self {
        self.values = values;
        self
    }

    const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Replaces the categories that follow from the group.
    const fn only_categories(mut self, categories: &[Category]) -> Self {
        self.categories = 0;
        let mut index = 0;
        while index < categories.len() {
            self.categories |= categories[index].bit();
            index += 1;
        }
        self
    }

    const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    const fn container(mut self, subcommands_count: u8) -> Self {
        self.subcommands_count = subcommands_count;
        self
    }

    const fn deprecated(mut self, since: &'static str, instead: &'static str) -> Self {
        self.deprecated = Some((since, instead));
        self
    }

    const fn docs(
        mut self,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Self {
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }
}
