//! Commands on the connection and the node.

use super::{Parsed, is};
use crate::command::table::CommandId;
use crate::command::{
    ClientAttribute, ClientCommand, CommandCommand, CommandError, CommandFilter, ConnectionCommand,
    number,
};

pub(super) fn ping<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    match args {
        [_] => Ok(ConnectionCommand::Ping { message: None }),
        [_, message] => Ok(ConnectionCommand::Ping {
            message: Some(message),
        }),
        _ => Err(CommandError::WrongArity(CommandId::Ping)),
    }
}

/// HELLO: version and options. Options are checked as they come, a client's name with them.
pub(super) fn hello<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let Some((text, mut options)) = args.split_first() else {
        return Ok(ConnectionCommand::Hello {
            version: None,
            auth: None,
            name: None,
        });
    };
    let version = match number::parse_i64(text).ok_or(CommandError::HelloVersionNotAnInteger)? {
        2 => 2,
        3 => 3,
        _ => return Err(CommandError::HelloVersionUnsupported),
    };
    let mut auth = None;
    let mut name = None;
    while let [option, rest @ ..] = options {
        options = match rest {
            [user, password, rest @ ..] if is(option, b"AUTH") => {
                auth = Some((*user, *password));
                rest
            }
            [wanted, rest @ ..] if is(option, b"SETNAME") => {
                name = Some(client_name(wanted)?);
                rest
            }
            _ => return Err(CommandError::hello_option(option)),
        };
    }
    Ok(ConnectionCommand::Hello {
        version: Some(version),
        auth,
        name,
    })
}

/// SELECT: Redis tells apart what is no integer, no 32-bit integer, and no database.
pub(super) fn select<'a>(text: &[u8]) -> Parsed<ConnectionCommand<'a>> {
    let index = number::parse_i64(text).ok_or(CommandError::NotAnInteger)?;
    match i32::try_from(index) {
        Ok(0) => Ok(ConnectionCommand::Select { index }),
        Ok(_) => Err(CommandError::DbIndexOutOfRange),
        Err(_) => Err(CommandError::NotAnI32),
    }
}

pub(super) fn client_set_name<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let [name] = args else {
        return Err(CommandError::WrongArity(CommandId::ClientSetName));
    };
    Ok(ConnectionCommand::Client(ClientCommand::SetName {
        name: client_name(name)?,
    }))
}

fn client_name(name: &[u8]) -> Parsed<&[u8]> {
    if is_plain(name) {
        Ok(name)
    } else {
        Err(CommandError::ClientName)
    }
}

/// No spaces, no control characters, ASCII: so that lists of clients can be split again.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

pub(super) fn client_set_info<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let [name, value] = args else {
        return Err(CommandError::WrongArity(CommandId::ClientSetInfo));
    };
    let attribute = if is(name, b"LIB-NAME") {
        ClientAttribute::LibName
    } else if is(name, b"LIB-VER") {
        ClientAttribute::LibVer
    } else {
        return Err(CommandError::client_attribute(name));
    };
    if !is_plain(value) {
        return Err(CommandError::client_attribute_value(name));
    }
    Ok(ConnectionCommand::Client(ClientCommand::SetInfo {
        attribute,
        value,
    }))
}

pub(super) fn client_list<'a>(options: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let (ids, normal) = match options {
        [] => (options, true),
        [option, name] if is(option, b"TYPE") => (&options[2..], is_normal_type(name)?),
        [option, ids @ ..] if is(option, b"ID") && !ids.is_empty() => {
            if ids.iter().any(|id| number::parse_i64(id).is_none()) {
                return Err(CommandError::ClientId);
            }
            (ids, true)
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(ConnectionCommand::Client(ClientCommand::List {
        ids,
        normal,
    }))
}

/// Is this the type that all connections have here? The others exist in Redis only.
fn is_normal_type(name: &[u8]) -> Parsed<bool> {
    let is_other =
        is(name, b"REPLICA") || is(name, b"SLAVE") || is(name, b"PUBSUB") || is(name, b"MASTER");
    if is(name, b"NORMAL") {
        Ok(true)
    } else if is_other {
        Ok(false)
    } else {
        Err(CommandError::client_type(name))
    }
}

pub(super) fn client_no_evict<'a>(args: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let on = match args {
        [mode] if is(mode, b"ON") => true,
        [mode] if is(mode, b"OFF") => false,
        _ => return Err(CommandError::Syntax),
    };
    Ok(ConnectionCommand::Client(ClientCommand::NoEvict { on }))
}

pub(super) fn command_list<'a>(options: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    let filter = match options {
        [] => None,
        [option, kind, value] if is(option, b"FILTERBY") => Some(if is(kind, b"MODULE") {
            CommandFilter::Module
        } else if is(kind, b"ACLCAT") {
            CommandFilter::Category(value)
        } else if is(kind, b"PATTERN") {
            CommandFilter::Pattern(value)
        } else {
            return Err(CommandError::Syntax);
        }),
        _ => return Err(CommandError::Syntax),
    };
    Ok(ConnectionCommand::Command(CommandCommand::List { filter }))
}

pub(super) fn config_set<'a>(pairs: &'a [&'a [u8]]) -> Parsed<ConnectionCommand<'a>> {
    if pairs.len().is_multiple_of(2) {
        Ok(ConnectionCommand::ConfigSet { pairs })
    } else {
        Err(CommandError::Syntax)
    }
}
