//! The dense identities of commands.

use super::{COMMANDS, CommandSpec};

/// A command or subcommand, dense from 0: an index for arrays of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum CommandId {
    /// PING
    Ping,
    /// ECHO
    Echo,
    /// QUIT
    Quit,
    /// HELLO
    Hello,
    /// SELECT
    Select,
    /// CLIENT
    Client,
    /// CLIENT ID
    ClientId,
    /// CLIENT SETNAME
    ClientSetName,
    /// CLIENT GETNAME
    ClientGetName,
    /// CLIENT SETINFO
    ClientSetInfo,
    /// CLIENT INFO
    ClientInfo,
    /// CLIENT LIST
    ClientList,
    /// CLIENT NO-EVICT
    ClientNoEvict,
    /// CLIENT HELP
    ClientHelp,
    /// COMMAND
    Command,
    /// COMMAND COUNT
    CommandCount,
    /// COMMAND DOCS
    CommandDocs,
    /// COMMAND INFO
    CommandInfo,
    /// COMMAND LIST
    CommandList,
    /// COMMAND GETKEYS
    CommandGetKeys,
    /// COMMAND HELP
    CommandHelp,
    /// CONFIG
    Config,
    /// CONFIG GET
    ConfigGet,
    /// CONFIG SET
    ConfigSet,
    /// CONFIG RESETSTAT
    ConfigResetStat,
    /// CONFIG HELP
    ConfigHelp,
    /// HOTKEYS
    HotKeys,
    /// HOTKEYS GET
    HotKeysGet,
    /// HOTKEYS HELP
    HotKeysHelp,
    /// INFO
    Info,
    /// DBSIZE
    DbSize,
    /// FLUSHALL
    FlushAll,
    /// FLUSHDB
    FlushDb,
    /// TIME
    Time,
    /// GET
    Get,
    /// SET
    Set,
    /// GETSET
    GetSet,
    /// GETDEL
    GetDel,
    /// GETEX
    GetEx,
    /// SETNX
    SetNx,
    /// SETEX
    SetEx,
    /// PSETEX
    PSetEx,
    /// MGET
    MGet,
    /// MSET
    MSet,
    /// MSETNX
    MSetNx,
    /// STRLEN
    StrLen,
    /// APPEND
    Append,
    /// GETRANGE
    GetRange,
    /// SUBSTR
    Substr,
    /// SETRANGE
    SetRange,
    /// INCR
    Incr,
    /// DECR
    Decr,
    /// INCRBY
    IncrBy,
    /// DECRBY
    DecrBy,
    /// INCRBYFLOAT
    IncrByFloat,
    /// DEL
    Del,
    /// UNLINK
    Unlink,
    /// EXISTS
    Exists,
    /// TOUCH
    Touch,
    /// TYPE
    Type,
    /// EXPIRE
    Expire,
    /// PEXPIRE
    PExpire,
    /// EXPIREAT
    ExpireAt,
    /// PEXPIREAT
    PExpireAt,
    /// TTL
    Ttl,
    /// PTTL
    PTtl,
    /// EXPIRETIME
    ExpireTime,
    /// PEXPIRETIME
    PExpireTime,
    /// PERSIST
    Persist,
    /// RANDOMKEY
    RandomKey,
    /// SCAN
    Scan,
    /// KEYS
    Keys,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// WATCH
    Watch,
    /// UNWATCH
    Unwatch,
    /// CLUSTER
    Cluster,
    /// CLUSTER COUNT-FAILURE-REPORTS
    ClusterCountFailureReports,
    /// CLUSTER COUNTKEYSINSLOT
    ClusterCountKeysInSlot,
    /// CLUSTER FAILOVER
    ClusterFailover,
    /// CLUSTER GETKEYSINSLOT
    ClusterGetKeysInSlot,
    /// CLUSTER INFO
    ClusterInfo,
    /// CLUSTER KEYSLOT
    ClusterKeySlot,
    /// CLUSTER MYID
    ClusterMyId,
    /// CLUSTER NODES
    ClusterNodes,
    /// CLUSTER REPLICAS
    ClusterReplicas,
    /// CLUSTER SHARDS
    ClusterShards,
    /// CLUSTER SLAVES
    ClusterSlaves,
    /// CLUSTER SLOTS
    ClusterSlots,
    /// CLUSTER HELP
    ClusterHelp,
    /// CLUSTER ADOPT
    ClusterAdopt,
    /// CLUSTER DIGEST
    ClusterDigest,
    /// CLUSTER DRAIN
    ClusterDrain,
    /// CLUSTER REBALANCE
    ClusterRebalance,
    /// CLUSTER STATUS
    ClusterStatus,
    /// READONLY
    ReadOnly,
    /// READWRITE
    ReadWrite,
    /// ASKING
    Asking,
    /// WAIT
    Wait,
}

impl CommandId {
    /// How many there are.
    pub const COUNT: usize = Self::Wait as usize + 1;

    /// Its index, below [`COUNT`](Self::COUNT).
    #[must_use]
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its row of the table.
    #[must_use]
    #[inline]
    pub fn spec(self) -> &'static CommandSpec {
        &COMMANDS[self.index()]
    }
}

const _: () = {
    let mut index = 0;
    while index < CommandId::COUNT {
        assert!(
            COMMANDS[index].id as usize == index,
            "rows stand in the order of their ids"
        );
        index += 1;
    }
};
