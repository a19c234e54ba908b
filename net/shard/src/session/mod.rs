//! Commands that the connection and the node answer, without a shard: PING, HELLO, CLIENT, CLUSTER,
//! COMMAND, CONFIG, INFO, TIME and their like.
//!
//! Pure like the rest: [`ClientState`] is one connection's part, and [`Node`] is asked for what only
//! the process knows. MULTI, EXEC, DISCARD, WATCH and UNWATCH are not answered here but by
//! [`Transaction`](crate::Transaction), because they hold shards.

mod client;
mod cluster;
mod config;
mod hot_keys;
mod info;
mod node;

use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::command::{
    ClientAttribute, ClientCommand, ConnectionCommand, reply_client_help, reply_command,
    reply_config_help, reply_hot_keys_help,
};
use fulmar_protocol::resp::RespVersion;
use fulmar_protocol::{CommandError, ReplySink};

use crate::{Now, Outcome};

pub use client::ClientState;
pub use cluster::{
    ClusterStatus, ClusterView, Endpoint, EndpointId, Failover, MemberPorts, MemberView, NodeLag,
    Operation, Progress, SLOT_KEYS_MAX, visit_slot,
};
pub use config::{ConfigChange, NotChangeable};
pub use node::{ClusterCounts, Node, NodeConfig, NodeFacts, NodeStats};

/// The version of Redis whose behaviour clients may expect: HELLO and INFO name it.
pub const REDIS_VERSION: &str = "7.0.15";
/// Fulmar's own version.
pub const FULMAR_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The user that every connection is.
const USER: &[u8] = b"default";

/// Whether a command waits in the queue of an open transaction, instead of being executed at once.
#[inline]
pub fn is_queued(id: CommandId) -> bool {
    let ends_or_guards = [
        CommandId::Multi,
        CommandId::Exec,
        CommandId::Discard,
        CommandId::Watch,
        CommandId::Quit,
    ];
    !ends_or_guards.contains(&id)
}

/// The version that the reply to `command` is encoded in: HELLO's is the one it asks for.
///
/// The sink given to [`execute_connection`] must speak it.
pub fn reply_version(command: &ConnectionCommand<'_>, client: &ClientState) -> RespVersion {
    match command {
        ConnectionCommand::Hello {
            version: Some(3), ..
        } => RespVersion::Resp3,
        ConnectionCommand::Hello {
            version: Some(_), ..
        } => RespVersion::Resp2,
        _ => client.version(),
    }
}

/// Answers a command of the connection or the node, and changes `client` as it says.
///
/// After QUIT, `client.is_closing` is set: the connection closes once the reply is sent.
pub fn execute_connection(
    command: &ConnectionCommand<'_>,
    client: &mut ClientState,
    node: &mut dyn Node,
    now: Now,
    reply: &mut dyn ReplySink,
) -> Outcome {
    match answer(command, client, node, now, reply) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            reply.error(&error);
            Outcome::Failed
        }
    }
}

fn answer(
    command: &ConnectionCommand<'_>,
    client: &mut ClientState,
    node: &mut dyn Node,
    now: Now,
    reply: &mut dyn ReplySink,
) -> Result<(), CommandError> {
    match *command {
        ConnectionCommand::Ping { message: None } => reply.status("PONG"),
        ConnectionCommand::Ping {
            message: Some(message),
        }
        | ConnectionCommand::Echo { message } => reply.bulk(message),
        ConnectionCommand::Quit => {
            client.is_closing = true;
            reply.ok();
        }
        ConnectionCommand::Hello {
            version,
            auth,
            name,
        } => {
            // There are no passwords, and one user.
            if auth.is_some_and(|(user, _)| user != USER) {
                return Err(CommandError::WrongPassword);
            }
            client.greet(version, name);
            reply_hello(client, node.cluster().is_some(), reply);
        }
        // The index was checked: there is only one.
        ConnectionCommand::Select { .. } => reply.ok(),
        ConnectionCommand::Client(ref command) => {
            answer_client(command, client, node, now, reply);
        }
        ConnectionCommand::Command(ref command) => reply_command(command, reply),
        ConnectionCommand::ConfigGet { patterns } => config::get(patterns, node, reply),
        ConnectionCommand::ConfigSet { pairs } => {
            config::set(pairs, node)?;
            reply.ok();
        }
        ConnectionCommand::ConfigResetStat => {
            node.reset_stats();
            reply.ok();
        }
        ConnectionCommand::ConfigHelp => reply_config_help(reply),
        ConnectionCommand::HotKeysGet => hot_keys::get(node, reply),
        ConnectionCommand::HotKeysHelp => reply_hot_keys_help(reply),
        ConnectionCommand::Info { sections } => {
            reply.verbatim(&info::render(sections, node, now));
        }
        ConnectionCommand::Time => reply_time(now, reply),
        ConnectionCommand::Cluster(ref command) => {
            cluster::answer(command, client, node, now, reply)?;
        }
        ConnectionCommand::ReadOnly => {
            cluster::require(node)?;
            client.is_cluster_client = true;
            client.is_readonly = true;
            reply.ok();
        }
        ConnectionCommand::ReadWrite => {
            cluster::require(node)?;
            client.is_readonly = false;
            reply.ok();
        }
        ConnectionCommand::Asking => {
            cluster::require(node)?;
            reply.ok();
        }
        // Answered at once, as inside MULTI. Who waits for more has the connection wait before.
        ConnectionCommand::Wait { .. } => reply.integer(client.replicas_acknowledged.into()),
        // The transaction's own. Queued, UNWATCH has nothing left to do: EXEC forgets all keys.
        // The others are not queued, and these are the errors that would be right in a queue.
        ConnectionCommand::Unwatch => reply.ok(),
        ConnectionCommand::Multi => return Err(CommandError::NestedMulti),
        ConnectionCommand::Exec => return Err(CommandError::ExecWithoutMulti),
        ConnectionCommand::Discard => return Err(CommandError::DiscardWithoutMulti),
        ConnectionCommand::Watch { .. } => return Err(CommandError::WatchInsideMulti),
    }
    Ok(())
}

fn answer_client(
    command: &ClientCommand<'_>,
    client: &mut ClientState,
    node: &mut dyn Node,
    now: Now,
    reply: &mut dyn ReplySink,
) {
    match *command {
        ClientCommand::Id => reply.integer(client.id.cast_signed()),
        ClientCommand::SetName { name } => {
            client.name = name.into();
            reply.ok();
        }
        ClientCommand::GetName if client.name.is_empty() => reply.null(),
        ClientCommand::GetName => reply.bulk(&client.name),
        ClientCommand::SetInfo { attribute, value } => {
            match attribute {
                ClientAttribute::LibName => client.lib_name = value.into(),
                ClientAttribute::LibVer => client.lib_version = value.into(),
            }
            reply.ok();
        }
        ClientCommand::Info => {
            let mut line = String::new();
            client.describe(now, &mut line);
            reply.verbatim(&line);
        }
        ClientCommand::List { ids, normal } => {
            let mut lines = String::new();
            node.visit_clients(&mut |listed| {
                if normal && (ids.is_empty() || listed.is_among(ids)) {
                    listed.describe(now, &mut lines);
                }
            });
            reply.verbatim(&lines);
        }
        ClientCommand::NoEvict { on } => {
            client.is_no_evict = on;
            reply.ok();
        }
        ClientCommand::Help => reply_client_help(reply),
    }
}

fn reply_hello(client: &ClientState, is_cluster: bool, reply: &mut dyn ReplySink) {
    reply.map(7);
    reply_text_pair("server", "redis", reply);
    reply_text_pair("version", REDIS_VERSION, reply);
    reply.bulk(b"proto");
    reply.integer(match client.version() {
        RespVersion::Resp2 => 2,
        RespVersion::Resp3 => 3,
    });
    reply.bulk(b"id");
    reply.integer(client.id.cast_signed());
    reply_text_pair("mode", info::mode(is_cluster), reply);
    let role = match client.endpoint {
        Endpoint::Primary => "master",
        Endpoint::Replica => "replica",
    };
    reply_text_pair("role", role, reply);
    reply.bulk(b"modules");
    reply.array(0);
}

fn reply_text_pair(name: &str, value: &str, reply: &mut dyn ReplySink) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

/// Seconds and microseconds; the latter in steps of a thousand, as fine as the clock that is given.
fn reply_time(now: Now, reply: &mut dyn ReplySink) {
    let seconds = now.unix_ms.div_euclid(1_000);
    let microseconds = now.unix_ms.rem_euclid(1_000) * 1_000;
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(seconds).as_bytes());
    reply.bulk(itoa::Buffer::new().format(microseconds).as_bytes());
}
