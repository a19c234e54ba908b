//! Commands: the const table that names them, and their typed form.
//!
//! Parsing is in two steps, because a transaction queues a command after the first:
//! [`lookup`](table::lookup) checks name and arity; [`Command::parse`] reads the options.

mod describe;
mod error;
pub mod glob;
pub mod number;
mod parse;
pub mod table;

pub use describe::{
    reply_client_help, reply_cluster_help, reply_command, reply_config_help, reply_hot_keys_help,
};
pub use error::CommandError;

/// The arguments of one command, its name first.
///
/// An argument longer than [`ARGUMENT_BYTES_MAX`](crate::resp::ARGUMENT_BYTES_MAX) is staged: it
/// went part by part to whoever executes, and stands in `args` as an empty slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argv<'a> {
    /// Name and arguments.
    pub args: &'a [&'a [u8]],
    /// The staged ones, by rising position; almost always empty.
    pub staged: &'a [StagedArgument],
}

impl<'a> Argv<'a> {
    /// The argument at `position` as a value to store.
    #[must_use]
    #[inline]
    pub fn value(&self, position: usize) -> Option<Value<'a>> {
        let bytes = *self.args.get(position)?;
        if !bytes.is_empty() || self.staged.is_empty() {
            return Some(Value::Bytes(bytes));
        }
        let staged = self
            .staged
            .binary_search_by_key(&position, |staged| staged.position);
        Some(staged.map_or(Value::Bytes(bytes), Value::Staged))
    }

    /// The length of the argument at `position`, staged or not; 0 if there is none.
    #[must_use]
    pub fn bytes_count(&self, position: usize) -> usize {
        match self.value(position) {
            Some(Value::Bytes(bytes)) => bytes.len(),
            Some(Value::Staged(index)) => self.staged.get(index).map_or(0, |s| s.bytes_count),
            None => 0,
        }
    }
}

/// An argument that was streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedArgument {
    /// Where it stands in `args`.
    pub position: usize,
    /// Its length.
    pub bytes_count: usize,
}

/// A value to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Borrowed from the input.
    Bytes(&'a [u8]),
    /// The n-th staged argument of this command, 0-based.
    Staged(usize),
}

/// A parsed command; borrows its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command<'a> {
    /// Answered by the connection and the node: no shard is touched, except by EXEC and WATCH.
    Connection(ConnectionCommand<'a>),
    /// Reads or writes keys.
    Data(DataCommand<'a>),
}

/// Commands on the connection, its transaction, or the node.
#[expect(missing_docs, reason = "fields are the words of the syntax")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConnectionCommand<'a> {
    /// PING \[message\]
    Ping { message: Option<&'a [u8]> },
    /// ECHO message
    Echo { message: &'a [u8] },
    /// QUIT: replies OK, then closes.
    Quit,
    /// HELLO \[2|3\] \[AUTH user pass\] \[SETNAME name\]
    Hello {
        version: Option<u8>,
        auth: Option<(&'a [u8], &'a [u8])>,
        name: Option<&'a [u8]>,
    },
    /// SELECT index; only 0 exists.
    Select { index: i64 },
    /// CLIENT subcommands.
    Client(ClientCommand<'a>),
    /// COMMAND subcommands; answered from the table alone.
    Command(CommandCommand<'a>),
    /// CONFIG GET pattern \[pattern ...\]
    ConfigGet { patterns: &'a [&'a [u8]] },
    /// CONFIG SET parameter value \[parameter value ...\]
    ConfigSet { pairs: &'a [&'a [u8]] },
    /// CONFIG RESETSTAT
    ConfigResetStat,
    /// CONFIG HELP
    ConfigHelp,
    /// HOTKEYS GET
    HotKeysGet,
    /// HOTKEYS HELP
    HotKeysHelp,
    /// INFO \[section ...\]
    Info { sections: &'a [&'a [u8]] },
    /// TIME
    Time,
    /// MULTI
    Multi,
    /// EXEC
    Exec,
    /// DISCARD
    Discard,
    /// WATCH key \[key ...\]
    Watch { keys: &'a [&'a [u8]] },
    /// UNWATCH
    Unwatch,
    /// CLUSTER subcommands.
    Cluster(ClusterCommand<'a>),
    /// READONLY: reads may be answered by a replica.
    ReadOnly,
    /// READWRITE: takes READONLY back.
    ReadWrite,
    /// ASKING: no slot is ever half moved here, so it changes nothing.
    Asking,
    /// WAIT numreplicas timeout; a timeout of 0 never ends.
    Wait { replicas: i64, timeout_ms: u64 },
}

/// CLUSTER subcommands.
///
/// Arguments stand here as they came: without a cluster they are not looked at.
#[expect(missing_docs, reason = "fields are the words of the syntax")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCommand<'a> {
    /// CLUSTER COUNT-FAILURE-REPORTS node-id
    CountFailureReports { id: &'a [u8] },
    /// CLUSTER COUNTKEYSINSLOT slot
    CountKeysInSlot { slot: &'a [u8] },
    /// CLUSTER FAILOVER \[FORCE|TAKEOVER\]; `argv` is the whole, name included.
    Failover { argv: &'a [&'a [u8]] },
    /// CLUSTER GETKEYSINSLOT slot count
    GetKeysInSlot { slot: &'a [u8], count: &'a [u8] },
    /// CLUSTER INFO
    Info,
    /// CLUSTER KEYSLOT key
    KeySlot { key: &'a [u8] },
    /// CLUSTER MYID
    MyId,
    /// CLUSTER REPLICAS node-id (and SLAVES)
    Replicas { id: &'a [u8] },
    /// CLUSTER NODES, SHARDS and SLOTS: who serves what.
    Map(ClusterMap),
    /// CLUSTER HELP
    Help,
    /// CLUSTER STATUS
    Status,
    /// CLUSTER DIGEST range|first-last \[range|first-last ...\]
    Digest { ranges: &'a [&'a [u8]] },
    /// CLUSTER DRAIN
    Drain,
    /// CLUSTER ADOPT
    Adopt,
    /// CLUSTER REBALANCE \[LIMIT count | CANCEL\]
    Rebalance { options: &'a [&'a [u8]] },
}

/// The three forms in which a cluster is described to its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMap {
    /// CLUSTER NODES
    Nodes,
    /// CLUSTER SHARDS
    Shards,
    /// CLUSTER SLOTS
    Slots,
}

/// CLIENT subcommands.
#[expect(missing_docs, reason = "fields are the words of the syntax")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCommand<'a> {
    /// CLIENT ID
    Id,
    /// CLIENT SETNAME name; already checked for spaces and control characters.
    SetName { name: &'a [u8] },
    /// CLIENT GETNAME
    GetName,
    /// CLIENT SETINFO LIB-NAME|LIB-VER value
    SetInfo {
        attribute: ClientAttribute,
        value: &'a [u8],
    },
    /// CLIENT INFO
    Info,
    /// CLIENT LIST \[TYPE type | ID id ...\]: `ids` holds the raw, checked decimal ids (none: all);
    /// `normal` is false for a type that no connection has here.
    List { ids: &'a [&'a [u8]], normal: bool },
    /// CLIENT NO-EVICT ON|OFF
    NoEvict { on: bool },
    /// CLIENT HELP
    Help,
}

/// What CLIENT SETINFO can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAttribute {
    /// LIB-NAME
    LibName,
    /// LIB-VER
    LibVer,
}

/// COMMAND and its subcommands.
#[expect(missing_docs, reason = "fields are the words of the syntax")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandCommand<'a> {
    /// COMMAND: the whole table.
    All,
    /// COMMAND COUNT
    Count,
    /// COMMAND DOCS \[name ...\]
    Docs { names: &'a [&'a [u8]] },
    /// COMMAND INFO \[name ...\]
    Info { names: &'a [&'a [u8]] },
    /// COMMAND LIST \[FILTERBY MODULE name|ACLCAT category|PATTERN pattern\]
    List { filter: Option<CommandFilter<'a>> },
    /// COMMAND GETKEYS command \[argument ...\]
    GetKeys { argv: &'a [&'a [u8]] },
    /// COMMAND HELP
    Help,
}

/// Which commands COMMAND LIST names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFilter<'a> {
    /// Those of a module; there are no modules.
    Module,
    /// Those in an access-control category.
    Category(&'a [u8]),
    /// Those whose names match a glob pattern.
    Pattern(&'a [u8]),
}

/// Commands that read or write keys.
#[expect(missing_docs, reason = "fields are the words of the syntax")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DataCommand<'a> {
    /// GET key
    Get { key: &'a [u8] },
    /// SET, SETNX, SETEX, PSETEX and GETSET: all the ways to store a whole value.
    Set(Set<'a>),
    /// GETDEL key
    GetDel { key: &'a [u8] },
    /// GETEX key \[EX|PX|EXAT|PXAT|PERSIST\]; `None` leaves the TTL alone.
    GetEx {
        key: &'a [u8],
        expiry: Option<Expiry>,
    },
    /// MGET key \[key ...\]
    MGet { keys: &'a [&'a [u8]] },
    /// MSET key value \[key value ...\]; `pairs` is the whole argv, name included.
    MSet { pairs: Argv<'a> },
    /// MSETNX key value \[key value ...\]; `pairs` is the whole argv, name included.
    MSetNx { pairs: Argv<'a> },
    /// STRLEN key
    StrLen { key: &'a [u8] },
    /// APPEND key value
    Append { key: &'a [u8], value: Value<'a> },
    /// GETRANGE key start end (and SUBSTR)
    GetRange { key: &'a [u8], start: i64, end: i64 },
    /// SETRANGE key offset value
    SetRange {
        key: &'a [u8],
        offset: i64,
        value: Value<'a>,
    },
    /// INCR, DECR, INCRBY, DECRBY
    IncrBy { key: &'a [u8], delta: i64 },
    /// INCRBYFLOAT key increment; the text as given, which the execution reads.
    IncrByFloat { key: &'a [u8], delta: &'a [u8] },
    /// DEL and UNLINK
    Del { keys: &'a [&'a [u8]] },
    /// EXISTS key \[key ...\]; a key named twice counts twice.
    Exists { keys: &'a [&'a [u8]] },
    /// TOUCH key \[key ...\]
    Touch { keys: &'a [&'a [u8]] },
    /// TYPE key
    Type { key: &'a [u8] },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT
    Expire {
        key: &'a [u8],
        at: Deadline,
        condition: ExpireCondition,
    },
    /// TTL, PTTL, EXPIRETIME, PEXPIRETIME
    Ttl { key: &'a [u8], form: TtlForm },
    /// PERSIST key
    Persist { key: &'a [u8] },
    /// RANDOMKEY
    RandomKey,
    /// SCAN cursor \[MATCH pattern\] \[COUNT count\] \[TYPE type\]
    Scan {
        cursor: u64,
        pattern: Option<&'a [u8]>,
        count: u64,
        of_type: Option<&'a [u8]>,
    },
    /// KEYS pattern
    Keys { pattern: &'a [u8] },
    /// DBSIZE
    DbSize,
    /// FLUSHALL and FLUSHDB
    FlushAll,
}

/// Stores a whole value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
    /// When to store at all.
    pub condition: SetCondition,
    /// What becomes of the TTL.
    pub expiry: SetExpiry,
    /// How to reply.
    pub reply: SetReply,
}

/// NX and XX of SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCondition {
    /// Store always.
    Always,
    /// Only if the key does not exist.
    IfAbsent,
    /// Only if the key exists.
    IfPresent,
}

/// TTL options of SET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetExpiry {
    /// No TTL; an old one is forgotten.
    Never,
    /// KEEPTTL.
    Keep,
    /// EX, PX, EXAT, PXAT: already checked to be positive.
    At(Deadline),
}

/// How a store is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetReply {
    /// `OK`, or null if the condition failed (SET, SETEX, PSETEX).
    Ok,
    /// The old value or null, whether stored or not (SET GET, GETSET).
    Old,
    /// 1 or 0 (SETNX).
    Stored,
}

/// A point in time as the client named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// So many milliseconds from now; may be negative for EXPIRE. Immune to wall-clock jumps.
    In {
        /// Milliseconds from now.
        ms: i64,
    },
    /// At this Unix time.
    AtUnix {
        /// Milliseconds since the Unix epoch.
        ms: i64,
    },
}

/// TTL options of GETEX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// PERSIST.
    Never,
    /// EX, PX, EXAT, PXAT: already checked to be positive.
    At(Deadline),
    /// A time that cannot be used: an error, but only for a key that exists.
    Bad(BadExpiry),
}

/// Why an expire time cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadExpiry {
    /// It is no integer.
    NotAnInteger,
    /// It is not positive, or too far away.
    OutOfRange,
}

/// NX, XX, GT and LT of EXPIRE: flags, since XX goes together with GT or LT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// NX: only if the key has no TTL.
    pub if_none: bool,
    /// XX: only if the key has a TTL.
    pub if_some: bool,
    /// GT: only if the new deadline is later; no TTL counts as infinitely late.
    pub if_later: bool,
    /// LT: only if the new deadline is earlier.
    pub if_earlier: bool,
}

/// Which of the four TTL questions is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlForm {
    /// TTL: seconds left, rounded as Redis rounds.
    Seconds,
    /// PTTL: milliseconds left.
    Milliseconds,
    /// EXPIRETIME: Unix seconds.
    UnixSeconds,
    /// PEXPIRETIME: Unix milliseconds.
    UnixMilliseconds,
}
