//! From arguments to a typed command: all options, in Redis's order of checks.
//!
//! What depends on stored values is left to whoever executes. One check that Redis makes only
//! when the key exists is made always: the expire time of GETEX.

mod cluster;
mod connection;
mod expiry;
mod keyspace;
mod string;

use super::table::{CommandId as Id, CommandSpec};
use super::{
    Argv, ClientCommand, ClusterCommand, ClusterMap, Command, CommandCommand, CommandError,
    ConnectionCommand, DataCommand, SetCondition, SetReply, TtlForm,
};
use expiry::{Clock, Unit};

type Parsed<T> = Result<T, CommandError>;

impl<'a> Command<'a> {
    /// Reads `argv` as the command that [`lookup`](super::table::lookup) found.
    ///
    /// # Errors
    ///
    /// What Redis answers to these arguments whatever is stored.
    #[inline]
    pub fn parse(spec: &CommandSpec, argv: Argv<'a>) -> Parsed<Self> {
        if !spec.takes(argv.args.len()) {
            return Err(CommandError::WrongArity(spec.id));
        }
        // The two that make up most of a cache's load, before the long match.
        match (spec.id, argv.args) {
            (Id::Get, [_, key]) => Ok(Self::Data(DataCommand::Get { key })),
            (Id::Set, [_, key, _]) => string::plain_set(argv, key).map(Self::Data),
            (id, args) => parse_any(id, argv, args),
        }
    }
}

fn parse_any<'a>(id: Id, argv: Argv<'a>, args: &'a [&'a [u8]]) -> Parsed<Command<'a>> {
    let arity = || CommandError::WrongArity(id);
    let key = || args.get(1).copied().ok_or_else(arity);
    let rest = |from: usize| args.get(from..).ok_or_else(arity);
    let connection = match id {
        Id::Ping => connection::ping(args)?,
        Id::Echo => ConnectionCommand::Echo { message: key()? },
        Id::Quit => ConnectionCommand::Quit,
        Id::Hello => connection::hello(rest(1)?)?,
        Id::Select => connection::select(key()?)?,
        // Containers alone: only COMMAND is a command itself, and `lookup` refuses the others.
        Id::Client | Id::Cluster | Id::Config | Id::HotKeys => return Err(arity()),
        Id::ClientId => ConnectionCommand::Client(ClientCommand::Id),
        Id::ClientSetName => connection::client_set_name(rest(2)?)?,
        Id::ClientGetName => ConnectionCommand::Client(ClientCommand::GetName),
        Id::ClientSetInfo => connection::client_set_info(rest(2)?)?,
        Id::ClientInfo => ConnectionCommand::Client(ClientCommand::Info),
        Id::ClientList => connection::client_list(rest(2)?)?,
        Id::ClientNoEvict => connection::client_no_evict(rest(2)?)?,
        Id::ClientHelp => ConnectionCommand::Client(ClientCommand::Help),
        Id::Command => ConnectionCommand::Command(CommandCommand::All),
        Id::CommandCount => ConnectionCommand::Command(CommandCommand::Count),
        Id::CommandDocs => ConnectionCommand::Command(CommandCommand::Docs { names: rest(2)? }),
        Id::CommandInfo => ConnectionCommand::Command(CommandCommand::Info { names: rest(2)? }),
        Id::CommandList => connection::command_list(rest(2)?)?,
        Id::CommandGetKeys => {
            ConnectionCommand::Command(CommandCommand::GetKeys { argv: rest(2)? })
        }
        Id::CommandHelp => ConnectionCommand::Command(CommandCommand::Help),
        Id::ConfigGet => ConnectionCommand::ConfigGet { patterns: rest(2)? },
        Id::ConfigSet => connection::config_set(rest(2)?)?,
        Id::ConfigResetStat => ConnectionCommand::ConfigResetStat,
        Id::ConfigHelp => ConnectionCommand::ConfigHelp,
        Id::HotKeysGet => ConnectionCommand::HotKeysGet,
        Id::HotKeysHelp => ConnectionCommand::HotKeysHelp,
        Id::Info => ConnectionCommand::Info { sections: rest(1)? },
        Id::Time => ConnectionCommand::Time,
        Id::Multi => ConnectionCommand::Multi,
        Id::Exec => ConnectionCommand::Exec,
        Id::Discard => ConnectionCommand::Discard,
        Id::Watch => ConnectionCommand::Watch { keys: rest(1)? },
        Id::Unwatch => ConnectionCommand::Unwatch,
        Id::ClusterHelp => ConnectionCommand::Cluster(ClusterCommand::Help),
        Id::ClusterInfo => ConnectionCommand::Cluster(ClusterCommand::Info),
        Id::ClusterMyId => ConnectionCommand::Cluster(ClusterCommand::MyId),
        Id::ClusterNodes => ConnectionCommand::Cluster(ClusterCommand::Map(ClusterMap::Nodes)),
        Id::ClusterShards => ConnectionCommand::Cluster(ClusterCommand::Map(ClusterMap::Shards)),
        Id::ClusterSlots => ConnectionCommand::Cluster(ClusterCommand::Map(ClusterMap::Slots)),
        Id::ClusterAdopt => ConnectionCommand::Cluster(ClusterCommand::Adopt),
        Id::ClusterDrain => ConnectionCommand::Cluster(ClusterCommand::Drain),
        Id::ClusterStatus => ConnectionCommand::Cluster(ClusterCommand::Status),
        Id::ClusterDigest
        | Id::ClusterRebalance
        | Id::ClusterCountFailureReports
        | Id::ClusterCountKeysInSlot
        | Id::ClusterFailover
        | Id::ClusterGetKeysInSlot
        | Id::ClusterKeySlot
        | Id::ClusterReplicas
        | Id::ClusterSlaves => ConnectionCommand::Cluster(cluster::with_arguments(id, args)?),
        Id::ReadOnly => ConnectionCommand::ReadOnly,
        Id::ReadWrite => ConnectionCommand::ReadWrite,
        Id::Asking => ConnectionCommand::Asking,
        Id::Wait => cluster::wait(args)?,
        data => return parse_data(data, argv, args).map(Command::Data),
    };
    Ok(Command::Connection(connection))
}

fn parse_data<'a>(id: Id, argv: Argv<'a>, args: &'a [&'a [u8]]) -> Parsed<DataCommand<'a>> {
    let arity = || CommandError::WrongArity(id);
    let key = || args.get(1).copied().ok_or_else(arity);
    let keys = || args.get(1..).ok_or_else(arity);
    let options = || args.get(2..).ok_or_else(arity);
    let expire = |unit, clock| keyspace::expire(id, args, unit, clock);
    Ok(match id {
        Id::Get => DataCommand::Get { key: key()? },
        Id::Set => string::set(argv)?,
        Id::GetSet => string::store(id, argv, SetCondition::Always, SetReply::Old)?,
        Id::SetNx => string::store(id, argv, SetCondition::IfAbsent, SetReply::Stored)?,
        Id::SetEx => string::set_for(id, argv, Unit::Seconds)?,
        Id::PSetEx => string::set_for(id, argv, Unit::Milliseconds)?,
        Id::GetDel => DataCommand::GetDel { key: key()? },
        Id::GetEx => string::get_ex(key()?, options()?)?,
        Id::MGet => DataCommand::MGet { keys: keys()? },
        Id::MSet if args.len() % 2 == 1 => DataCommand::MSet { pairs: argv },
        Id::MSetNx if args.len() % 2 == 1 => DataCommand::MSetNx { pairs: argv },
        Id::StrLen => DataCommand::StrLen { key: key()? },
        Id::Append => string::append(argv)?,
        Id::GetRange | Id::Substr => string::get_range(args)?,
        Id::SetRange => string::set_range(argv)?,
        Id::Incr => DataCommand::IncrBy {
            key: key()?,
            delta: 1,
        },
        Id::Decr => DataCommand::IncrBy {
            key: key()?,
            delta: -1,
        },
        Id::IncrBy => string::incr_by(key()?, options()?)?,
        Id::DecrBy => string::decr_by(key()?, options()?)?,
        Id::IncrByFloat => string::incr_by_float(key()?, options()?)?,
        Id::Del | Id::Unlink => DataCommand::Del { keys: keys()? },
        Id::Exists => DataCommand::Exists { keys: keys()? },
        Id::Touch => DataCommand::Touch { keys: keys()? },
        Id::Type => DataCommand::Type { key: key()? },
        Id::Expire => expire(Unit::Seconds, Clock::FromNow)?,
        Id::PExpire => expire(Unit::Milliseconds, Clock::FromNow)?,
        Id::ExpireAt => expire(Unit::Seconds, Clock::Unix)?,
        Id::PExpireAt => expire(Unit::Milliseconds, Clock::Unix)?,
        Id::Ttl => DataCommand::Ttl {
            key: key()?,
            form: TtlForm::Seconds,
        },
        Id::PTtl => DataCommand::Ttl {
            key: key()?,
            form: TtlForm::Milliseconds,
        },
        Id::ExpireTime => DataCommand::Ttl {
            key: key()?,
            form: TtlForm::UnixSeconds,
        },
        Id::PExpireTime => DataCommand::Ttl {
            key: key()?,
            form: TtlForm::UnixMilliseconds,
        },
        Id::Persist => DataCommand::Persist { key: key()? },
        Id::RandomKey => DataCommand::RandomKey,
        Id::Scan => keyspace::scan(keys()?)?,
        Id::Keys => DataCommand::Keys { pattern: key()? },
        Id::DbSize => DataCommand::DbSize,
        Id::FlushAll | Id::FlushDb => keyspace::flush(keys()?)?,
        // MSET and MSETNX with a key that lacks its value; everything else is matched above.
        _ => return Err(arity()),
    })
}

/// Is `word` the option `option`, in any case? `option` is written in capitals.
#[inline]
fn is<const N: usize>(word: &[u8], option: &[u8; N]) -> bool {
    let Ok(word) = <&[u8; N]>::try_from(word) else {
        return false;
    };
    // One bit tells small letters from capitals; it counts in what is no letter.
    word.iter().zip(option).all(|(byte, wanted)| {
        let case_bit = if wanted.is_ascii_uppercase() { 0x20 } else { 0 };
        (byte ^ wanted) & !case_bit == 0
    })
}
