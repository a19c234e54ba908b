//! What can be wrong with a command, in Redis's words.
//!
//! This file names the errors and their texts; who finds them is elsewhere. Text that a client
//! sent is quoted as Redis quotes it: up to its first NUL byte, with CR and LF turned into spaces,
//! so that an error stays one line of RESP.

use std::fmt;
use std::sync::Arc;

use super::table::CommandId;

/// A command's error reply.
///
/// All of them are normal in running; none of them changed state, but for `OutcomeUnknown`, which
/// cannot know. `Display` is the text after the
/// `-` of RESP, code word included; quoted bytes that are not UTF-8 are replaced there, and kept
/// by [`write_to`](Self::write_to). Making one allocates only where the text quotes the client; MOVED
/// shares the address with whoever knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// `ERR syntax error`
    Syntax,
    /// `ERR value is not an integer or out of range`, of an argument or of a stored value.
    NotAnInteger,
    /// `ERR value is not a valid float`, of an argument or of a stored value.
    NotAFloat,
    /// `ERR value is out of range, value must between -2147483648 and 2147483647`
    NotAnI32,
    /// `ERR wrong number of arguments for '...' command`
    WrongArity(CommandId),
    /// `ERR unknown command '...', with args beginning with: ...`; holds what follows the quote.
    UnknownCommand(Box<[u8]>),
    /// `ERR unknown subcommand '...'. Try ... HELP.`; holds what follows the quote.
    UnknownSubcommand(Box<[u8]>),
    /// `ERR invalid expire time in '...' command`
    InvalidExpireTime(CommandId),
    /// `ERR NX and XX, GT or LT options at the same time are not compatible`
    ExpireNxConflict,
    /// `ERR GT and LT options at the same time are not compatible`
    ExpireGtLtConflict,
    /// `ERR Unsupported option ...`
    UnsupportedOption(Box<[u8]>),
    /// `ERR offset is out of range`
    OffsetOutOfRange,
    /// `ERR string exceeds maximum allowed size (proto-max-bulk-len)`
    StringTooLong,
    /// `ERR decrement would overflow`: DECRBY of the smallest integer.
    DecrementOverflow,
    /// `ERR increment or decrement would overflow`
    IncrementOverflow,
    /// `ERR increment would produce NaN or Infinity`
    IncrementNotFinite,
    /// `ERR invalid cursor`
    InvalidCursor,
    /// `ERR DB index is out of range`
    DbIndexOutOfRange,
    /// `ERR Protocol version is not an integer or out of range`
    HelloVersionNotAnInteger,
    /// `NOPROTO unsupported protocol version`
    HelloVersionUnsupported,
    /// `ERR Syntax error in HELLO option '...'`
    HelloOption(Box<[u8]>),
    /// `ERR Client names cannot contain spaces, newlines or special characters.`
    ClientName,
    /// `ERR Unrecognized option '...'`: CLIENT SETINFO of something else.
    ClientAttribute(Box<[u8]>),
    /// `ERR ... cannot contain spaces, newlines or special characters.`; holds the attribute.
    ClientAttributeValue(Box<[u8]>),
    /// `ERR Unknown client type '...'`
    ClientType(Box<[u8]>),
    /// `ERR Invalid client ID`
    ClientId,
    /// `ERR Unknown option or number of arguments for CONFIG SET - '...'`
    ConfigUnknown(Box<[u8]>),
    /// `ERR CONFIG SET failed (possibly related to argument '...') - ...`; holds what follows the
    /// first quote.
    ConfigSet(Box<[u8]>),
    /// `ERR Invalid command specified`: COMMAND GETKEYS.
    GetKeysCommand,
    /// `ERR The command has no key arguments`: COMMAND GETKEYS.
    GetKeysNoKeys,
    /// `ERR Invalid number of arguments specified for command`: COMMAND GETKEYS.
    GetKeysArity,
    /// `ERR MULTI calls can not be nested`
    NestedMulti,
    /// `ERR EXEC without MULTI`
    ExecWithoutMulti,
    /// `ERR DISCARD without MULTI`
    DiscardWithoutMulti,
    /// `ERR WATCH inside MULTI is not allowed`
    WatchInsideMulti,
    /// `EXECABORT Transaction discarded because of previous errors.`
    ExecAbort,
    /// `OOM command not allowed when used memory > 'maxmemory'.`
    OutOfMemory,
    /// `ERR key is too long`: longer than the engine holds.
    KeyTooLong,
    /// `ERR value is too long`: longer than the configured maximum.
    ValueTooLong,
    /// `ERR argument is too long`: neither a key nor a value, and longer than
    /// [`ARGUMENT_BYTES_MAX`](crate::resp::ARGUMENT_BYTES_MAX).
    ArgumentTooLong,
    /// `ERR command is too large`: more than
    /// [`FRAME_BYTES_MAX`](crate::resp::FRAME_BYTES_MAX) had to be held for one command.
    CommandTooLarge,
    /// `ERR transaction is too large`: more than the node queues for one connection.
    TransactionTooLarge,
    /// `ERR reply is too large`: the answer would not fit into the connection's output.
    ReplyTooLarge,
    /// `BUSY ...`: the queue to the shard is full; the command was not executed.
    Busy,
    /// `ERR max number of clients reached`: said once to a connection that is then closed.
    TooManyClients,
    /// `ERR AUTH <password> called without any password configured for the default user. ...`
    AuthNotConfigured,
    /// `WRONGPASS invalid username-password pair or user is disabled.`
    WrongPassword,
    /// `NOAUTH Authentication required.`
    AuthRequired,
    /// `NOPERM this user has no permissions to run the '...' command`
    NoPermission(CommandId),
    /// `ERR timeout is not an integer or out of range`: WAIT.
    TimeoutNotAnInteger,
    /// `ERR timeout is negative`: WAIT.
    TimeoutNegative,
    /// `ERR This instance has cluster support disabled`
    ClusterDisabled,
    /// `MOVED <slot> <host>:<port>`: another node serves the slot.
    Moved {
        /// The keys' slot.
        slot: u16,
        /// Host and port of who serves it, divided by a colon; no CR or LF.
        address: Arc<str>,
    },
    /// `CROSSSLOT Keys in request don't hash to the same slot`
    CrossSlot,
    /// `CROSSSLOT WATCH and its transaction take keys of the node that is asked; ...`: a client that
    /// asks any node watched a key of another one, or has a queue for another one beside watched keys.
    WatchElsewhere,
    /// `TRYAGAIN Multiple keys request during rehashing of slot`: the slot is changing hands, or a
    /// command was forwarded too often; it was not executed.
    TryAgain,
    /// `CLUSTERDOWN Hash slot not served`: nobody is known to serve the slot.
    SlotNotServed,
    /// `CLUSTERDOWN The cluster is down`: too few nodes can be heard.
    ClusterDown,
    /// `CLUSTERDOWN The cluster is down and only accepts read commands`
    ClusterDownReadsOnly,
    /// `READONLY You can't write against a read only replica.`
    ReadOnlyReplica,
    /// `ERR outcome is unknown: ...`: a node that the command, or a part of it, was forwarded to did not
    /// answer in time, or a part was executed and another can't be. The one error after which a write may have
    /// been executed, wholly or in part.
    OutcomeUnknown,
    /// `ERR Invalid slot`
    InvalidSlot,
    /// `ERR Invalid slot or number of keys`
    InvalidSlotOrCount,
    /// `ERR Invalid range`: of slots, in CLUSTER DIGEST.
    InvalidRange,
    /// `ERR no branch was founded here, ...`: CLUSTER ADOPT.
    NoBranch,
    /// `ERR Unknown node ...`
    UnknownNode(Box<[u8]>),
    /// `ERR The specified node is not a master`
    NotAMaster,
    /// `ERR You should send CLUSTER FAILOVER to a replica`
    FailoverNotReplica,
    /// `ERR unknown subcommand or wrong number of arguments for '...'. Try CLUSTER HELP.`
    ClusterArity(Box<[u8]>),
}

impl CommandError {
    /// `ERR Unknown option or number of arguments for CONFIG SET - '<parameter>'`.
    #[must_use]
    pub fn config_unknown(parameter: &[u8]) -> Self {
        Self::ConfigUnknown(quoted(parameter))
    }

    /// `ERR CONFIG SET failed (possibly related to argument '<parameter>') - <reason>`.
    #[must_use]
    pub fn config_set(parameter: &[u8], reason: &str) -> Self {
        let mut text = Vec::new();
        quote_into(&mut text, parameter, usize::MAX);
        text.extend_from_slice(b"') - ");
        text.extend_from_slice(reason.as_bytes());
        Self::ConfigSet(text.into())
    }

    /// `ERR Unknown node <id>`.
    #[must_use]
    pub fn unknown_node(id: &[u8]) -> Self {
        Self::UnknownNode(quoted(id))
    }

    /// `ERR unknown subcommand or wrong number of arguments for '<subcommand>'. Try CLUSTER HELP.`
    #[must_use]
    pub fn cluster_arity(subcommand: &[u8]) -> Self {
        let mut text = Vec::new();
        quote_into(&mut text, subcommand, QUOTED_BYTES_MAX);
        Self::ClusterArity(text.into())
    }

    pub(super) fn unknown_command(args: &[&[u8]]) -> Self {
        let mut text = Vec::with_capacity(2 * QUOTED_BYTES_MAX);
        let (name, rest) = args
            .split_first()
            .map_or((&[][..], &[][..]), |(n, rest)| (*n, rest));
        quote_into(&mut text, name, QUOTED_BYTES_MAX);
        text.extend_from_slice(b"', with args beginning with: ");
        let start = text.len();
        for arg in rest {
            let shown = text.len() - start;
            if shown >= QUOTED_BYTES_MAX {
                break;
            }
            text.push(b'\'');
            quote_into(&mut text, arg, QUOTED_BYTES_MAX - shown);
            text.extend_from_slice(b"' ");
        }
        Self::UnknownCommand(text.into())
    }

    pub(super) fn unknown_subcommand(container: CommandId, subcommand: &[u8]) -> Self {
        let mut text = Vec::with_capacity(QUOTED_BYTES_MAX);
        quote_into(&mut text, subcommand, QUOTED_BYTES_MAX);
        text.extend_from_slice(b"'. Try ");
        text.extend(
            container
                .spec()
                .name
                .bytes()
                .map(|byte| byte.to_ascii_uppercase()),
        );
        text.extend_from_slice(b" HELP.");
        Self::UnknownSubcommand(text.into())
    }

    pub(super) fn unsupported_option(option: &[u8]) -> Self {
        let end = option
            .iter()
            .rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        Self::UnsupportedOption(quoted(&option[..end.map_or(0, |last| last + 1)]))
    }

    pub(super) fn hello_option(option: &[u8]) -> Self {
        Self::HelloOption(quoted(option))
    }

    pub(super) fn client_attribute(attribute: &[u8]) -> Self {
        Self::ClientAttribute(quoted(attribute))
    }

    pub(super) fn client_attribute_value(attribute: &[u8]) -> Self {
        Self::ClientAttributeValue(quoted(attribute))
    }

    pub(super) fn client_type(name: &[u8]) -> Self {
        Self::ClientType(quoted(name))
    }

    /// Appends the text after the `-` of RESP, without CR LF; it holds neither.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        if let Self::Moved { slot, address } = self {
            out.extend_from_slice(b"MOVED ");
            out.extend_from_slice(itoa::Buffer::new().format(*slot).as_bytes());
            out.push(b' ');
            return out.extend_from_slice(address.as_bytes());
        }
        let (before, quoted, after) = self.parts();
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(quoted);
        out.extend_from_slice(after.as_bytes());
    }

    /// The text: what stands before the variable part, that part, and what stands after it.
    fn parts(&self) -> (&'static str, &[u8], &'static str) {
        match self {
            // An EXEC that cannot run ends its transaction, and says so.
            Self::WrongArity(CommandId::Exec) => (
                "EXECABORT Transaction discarded because of: wrong number of arguments for '",
                b"exec",
                "' command",
            ),
            Self::WrongArity(id) => (
                "ERR wrong number of arguments for '",
                id.spec().name.as_bytes(),
                "' command",
            ),
            Self::InvalidExpireTime(id) => (
                "ERR invalid expire time in '",
                id.spec().name.as_bytes(),
                "' command",
            ),
            Self::NoPermission(id) => (
                "NOPERM this user has no permissions to run the '",
                id.spec().name.as_bytes(),
                "' command",
            ),
            Self::UnknownCommand(text) => ("ERR unknown command '", text, ""),
            Self::UnknownSubcommand(text) => ("ERR unknown subcommand '", text, ""),
            Self::UnsupportedOption(text) => ("ERR Unsupported option ", text, ""),
            Self::HelloOption(text) => ("ERR Syntax error in HELLO option '", text, "'"),
            Self::ClientAttribute(text) => ("ERR Unrecognized option '", text, "'"),
            Self::ClientAttributeValue(text) => (
                "ERR ",
                text,
                " cannot contain spaces, newlines or special characters.",
            ),
            Self::ClientType(text) => ("ERR Unknown client type '", text, "'"),
            Self::ConfigUnknown(text) => (
                "ERR Unknown option or number of arguments for CONFIG SET - '",
                text,
                "'",
            ),
            Self::ConfigSet(text) => (
                "ERR CONFIG SET failed (possibly related to argument '",
                text,
                "",
            ),
            Self::UnknownNode(text) => ("ERR Unknown node ", text, ""),
            Self::ClusterArity(text) => (
                "ERR unknown subcommand or wrong number of arguments for '",
                text,
                "'. Try CLUSTER HELP.",
            ),
            fixed => (fixed.fixed_text(), b"", ""),
        }
    }

    /// The text of an error that quotes nothing.
    fn fixed_text(&self) -> &'static str {
        match self {
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::NotAnI32 => {
                "ERR value is out of range, value must between -2147483648 and 2147483647"
            }
            Self::ExpireNxConflict => {
                "ERR NX and XX, GT or LT options at the same time are not compatible"
            }
            Self::ExpireGtLtConflict => "ERR GT and LT options at the same time are not compatible",
            Self::OffsetOutOfRange => "ERR offset is out of range",
            Self::StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::DecrementOverflow => "ERR decrement would overflow",
            Self::IncrementOverflow => "ERR increment or decrement would overflow",
            Self::IncrementNotFinite => "ERR increment would produce NaN or Infinity",
            Self::InvalidCursor => "ERR invalid cursor",
            Self::DbIndexOutOfRange => "ERR DB index is out of range",
            Self::HelloVersionNotAnInteger => {
                "ERR Protocol version is not an integer or out of range"
            }
            Self::HelloVersionUnsupported => "NOPROTO unsupported protocol version",
            Self::ClientName => {
                "ERR Client names cannot contain spaces, newlines or special characters."
            }
            Self::ClientId => "ERR Invalid client ID",
            Self::GetKeysCommand => "ERR Invalid command specified",
            Self::GetKeysNoKeys => "ERR The command has no key arguments",
            Self::GetKeysArity => "ERR Invalid number of arguments specified for command",
            Self::NestedMulti => "ERR MULTI calls can not be nested",
            Self::ExecWithoutMulti => "ERR EXEC without MULTI",
            Self::DiscardWithoutMulti => "ERR DISCARD without MULTI",
            Self::WatchInsideMulti => "ERR WATCH inside MULTI is not allowed",
            Self::ExecAbort => "EXECABORT Transaction discarded because of previous errors.",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::KeyTooLong => "ERR key is too long",
            Self::ValueTooLong => "ERR value is too long",
            Self::ArgumentTooLong => "ERR argument is too long",
            Self::CommandTooLarge => "ERR command is too large",
            Self::TransactionTooLarge => "ERR transaction is too large",
            Self::ReplyTooLarge => "ERR reply is too large",
            Self::Busy => "BUSY the shard's queue is full, try again",
            Self::TooManyClients => "ERR max number of clients reached",
            Self::AuthNotConfigured => {
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?"
            }
            Self::WrongPassword => "WRONGPASS invalid username-password pair or user is disabled.",
            Self::AuthRequired => "NOAUTH Authentication required.",
            Self::TimeoutNotAnInteger => "ERR timeout is not an integer or out of range",
            Self::TimeoutNegative => "ERR timeout is negative",
            Self::ClusterDisabled => "ERR This instance has cluster support disabled",
            Self::CrossSlot => "CROSSSLOT Keys in request don't hash to the same slot",
            Self::WatchElsewhere => {
                "CROSSSLOT WATCH and its transaction take keys of the node that is asked; \
                 use a cluster client"
            }
            Self::TryAgain => "TRYAGAIN Multiple keys request during rehashing of slot",
            Self::SlotNotServed => "CLUSTERDOWN Hash slot not served",
            Self::ClusterDown => "CLUSTERDOWN The cluster is down",
            Self::ClusterDownReadsOnly => {
                "CLUSTERDOWN The cluster is down and only accepts read commands"
            }
            Self::ReadOnlyReplica => "READONLY You can't write against a read only replica.",
            Self::OutcomeUnknown => {
                "ERR outcome is unknown: a node that holds a key did not answer in time"
            }
            Self::InvalidSlot => "ERR Invalid slot",
            Self::InvalidSlotOrCount => "ERR Invalid slot or number of keys",
            Self::InvalidRange => "ERR Invalid range",
            Self::NoBranch => "ERR no branch was founded here, so there is none to adopt",
            Self::NotAMaster => "ERR The specified node is not a master",
            Self::FailoverNotReplica => "ERR You should send CLUSTER FAILOVER to a replica",
            Self::WrongArity(_)
            | Self::UnknownCommand(_)
            | Self::UnknownSubcommand(_)
            | Self::InvalidExpireTime(_)
            | Self::UnsupportedOption(_)
            | Self::HelloOption(_)
            | Self::ClientAttribute(_)
            | Self::ClientAttributeValue(_)
            | Self::ClientType(_)
            | Self::ConfigUnknown(_)
            | Self::ConfigSet(_)
            | Self::NoPermission(_)
            | Self::Moved { .. }
            | Self::UnknownNode(_)
            | Self::ClusterArity(_) => "",
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Moved { slot, address } = self {
            return write!(f, "MOVED {slot} {address}");
        }
        let (before, quoted, after) = self.parts();
        write!(f, "{before}{}{after}", String::from_utf8_lossy(quoted))
    }
}

impl std::error::Error for CommandError {}

/// How much of a command's name, and of all its arguments, an error shows.
const QUOTED_BYTES_MAX: usize = 128;

fn quoted(text: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    quote_into(&mut out, text, usize::MAX);
    out.into()
}

/// Appends `text` as Redis's formatting prints it: a C string, on one line.
fn quote_into(out: &mut Vec<u8>, text: &[u8], bytes_max: usize) {
    let end = memchr::memchr(0, text).unwrap_or(text.len()).min(bytes_max);
    let line = text[..end].iter().map(|&byte| match byte {
        b'\r' | b'\n' => b' ',
        other => other,
    });
    out.extend(line);
}
