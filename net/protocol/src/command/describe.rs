//! COMMAND and the HELP texts, answered from the table alone.

use super::table::{COMMANDS, CommandSpec, find};
use super::{CommandCommand, CommandError, CommandFilter, glob, table};
use crate::ReplySink;

/// Answers COMMAND and its subcommands.
pub fn reply_command(command: &CommandCommand<'_>, reply: &mut dyn ReplySink) {
    match *command {
        CommandCommand::All => reply_infos(reply),
        CommandCommand::Count => {
            reply.integer(i64::try_from(top_level().count()).unwrap_or(i64::MAX));
        }
        CommandCommand::Docs { names } => reply_docs(names, reply),
        CommandCommand::Info { names: [] } => reply_infos(reply),
        CommandCommand::Info { names } => {
            reply.array(names.len());
            for name in names {
                match find_by_full_name(name) {
                    Some(spec) => reply_info(spec, reply),
                    None => reply.null(),
                }
            }
        }
        CommandCommand::List { filter } => reply_list(filter, reply),
        CommandCommand::GetKeys { argv } => reply_keys(argv, reply),
        CommandCommand::Help => reply_lines(COMMAND_HELP, reply),
    }
}

/// Answers CLIENT HELP.
pub fn reply_client_help(reply: &mut dyn ReplySink) {
    reply_lines(CLIENT_HELP, reply);
}

/// Answers CONFIG HELP.
pub fn reply_config_help(reply: &mut dyn ReplySink) {
    reply_lines(CONFIG_HELP, reply);
}

/// Answers HOTKEYS HELP.
pub fn reply_hot_keys_help(reply: &mut dyn ReplySink) {
    reply_lines(HOT_KEYS_HELP, reply);
}

/// Answers CLUSTER HELP.
pub fn reply_cluster_help(reply: &mut dyn ReplySink) {
    reply_lines(CLUSTER_HELP, reply);
}

fn top_level() -> impl Iterator<Item = &'static CommandSpec> {
    COMMANDS.iter().filter(|spec| !spec.is_subcommand())
}

/// Finds a command, or a subcommand by `container|subcommand`.
fn find_by_full_name(name: &[u8]) -> Option<&'static CommandSpec> {
    find(name).or_else(|| {
        COMMANDS
            .iter()
            .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
    })
}

fn reply_infos(reply: &mut dyn ReplySink) {
    reply.array(top_level().count());
    for spec in top_level() {
        reply_info(spec, reply);
    }
}

/// The ten elements that COMMAND INFO says of a command.
fn reply_info(spec: &CommandSpec, reply: &mut dyn ReplySink) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(spec.arity.into());
    reply.set(spec.flags.names().count());
    for name in spec.flags.names() {
        reply.status(name);
    }
    reply.integer(spec.keys.first.into());
    reply.integer(spec.keys.last.into());
    reply.integer(spec.keys.step.into());
    reply.set(spec.categories().count());
    for category in spec.categories() {
        reply.status(&format!("@{}", category.name()));
    }
    reply.set(spec.tips.len());
    for tip in spec.tips {
        reply.bulk(tip.as_bytes());
    }
    reply_key_specs(spec, reply);
    reply.set(spec.subcommands().len());
    for subcommand in spec.subcommands() {
        reply_info(subcommand, reply);
    }
}

/// At most one key specification: an index and a range.
fn reply_key_specs(spec: &CommandSpec, reply: &mut dyn ReplySink) {
    if spec.keys.first == 0 {
        reply.set(0);
        return;
    }
    // A key specification counts its last key from the first one, or from the end.
    let first = i64::from(spec.keys.first);
    let last = i64::from(spec.keys.last);
    reply.set(1);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(spec.key_access.len());
    for access in spec.key_access {
        reply.status(access);
    }
    reply.bulk(b"begin_search");
    reply.map(2);
    reply_text(reply, "type", "index");
    reply.bulk(b"spec");
    reply.map(1);
    reply_number(reply, "index", first);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply_text(reply, "type", "range");
    reply.bulk(b"spec");
    reply.map(3);
    reply_number(reply, "lastkey", if last < 0 { last } else { last - first });
    reply_number(reply, "keystep", spec.keys.step.into());
    reply_number(reply, "limit", 0);
}

fn reply_text(reply: &mut dyn ReplySink, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn reply_number(reply: &mut dyn ReplySink, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}

/// COMMAND DOCS; names that no command has are left out.
fn reply_docs(names: &[&[u8]], reply: &mut dyn ReplySink) {
    let named = || names.iter().filter_map(|name| find_by_full_name(name));
    if names.is_empty() {
        reply.map(top_level().count());
        top_level().for_each(|spec| reply_doc(spec, reply));
    } else {
        reply.map(named().count());
        named().for_each(|spec| reply_doc(spec, reply));
    }
}

fn reply_doc(spec: &CommandSpec, reply: &mut dyn ReplySink) {
    let has_subcommands = !spec.subcommands().is_empty();
    let deprecated_count = if spec.deprecated.is_some() { 3 } else { 0 };
    reply.bulk(spec.name.as_bytes());
    reply.map(4 + deprecated_count + usize::from(has_subcommands));
    reply_text(reply, "summary", spec.summary);
    reply_text(reply, "since", spec.since);
    reply_text(reply, "group", spec.group.name());
    reply_text(reply, "complexity", spec.complexity);
    if let Some((since, instead)) = spec.deprecated {
        reply.bulk(b"doc_flags");
        reply.set(1);
        reply.status("deprecated");
        reply_text(reply, "deprecated_since", since);
        reply_text(reply, "replaced_by", instead);
    }
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands().len());
        for subcommand in spec.subcommands() {
            reply_doc(subcommand, reply);
        }
    }
}

/// COMMAND LIST: a pattern and a category select subcommands too, as in Redis.
fn reply_list(filter: Option<CommandFilter<'_>>, reply: &mut dyn ReplySink) {
    let is_listed = |spec: &&CommandSpec| match filter {
        None => !spec.is_subcommand(),
        Some(CommandFilter::Module) => false,
        Some(CommandFilter::Category(name)) => spec
            .categories()
            .any(|category| category.name().as_bytes().eq_ignore_ascii_case(name)),
        Some(CommandFilter::Pattern(pattern)) => {
            glob::is_match(&pattern.to_ascii_lowercase(), spec.name.as_bytes())
        }
    };
    reply.array(COMMANDS.iter().filter(is_listed).count());
    for spec in COMMANDS.iter().filter(is_listed) {
        reply.bulk(spec.name.as_bytes());
    }
}

/// COMMAND GETKEYS: Redis tells unknown commands, those without keys and wrong arity apart.
fn reply_keys(argv: &[&[u8]], reply: &mut dyn ReplySink) {
    let (spec, has_right_arity) = match table::lookup(argv) {
        Ok(spec) => (spec, true),
        Err(CommandError::WrongArity(id)) => (id.spec(), false),
        Err(_) => return reply.error(&CommandError::GetKeysCommand),
    };
    if spec.keys.first == 0 {
        return reply.error(&CommandError::GetKeysNoKeys);
    }
    if !has_right_arity {
        return reply.error(&CommandError::GetKeysArity);
    }
    reply.array(spec.keys_in(argv).count());
    for key in spec.keys_in(argv) {
        reply.bulk(key);
    }
}

fn reply_lines(lines: &[&str], reply: &mut dyn ReplySink) {
    reply.array(lines.len());
    for line in lines {
        reply.status(line);
    }
}

const COMMAND_HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands.",
    "    If no command names are given, details for all commands are returned.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands.",
    "    If no command names are given, documentation details for all",
    "    commands are returned.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "HELP",
    "    Prints this help.",
];

const CLIENT_HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <client-id> [<client-id> ...]",
    "      Return clients with the specified IDs.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are:",
    "    * LIB-NAME: the client lib name.",
    "    * LIB-VER: the client lib version.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "NO-EVICT (ON|OFF)",
    "    Protect current client connection from eviction.",
    "HELP",
    "    Prints this help.",
];

const CONFIG_HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set the configuration <directive> to <value>.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Prints this help.",
];

const HOT_KEYS_HELP: &[&str] = &[
    "HOTKEYS <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET",
    "    Return the keys of this node that are hot now, with their rates.",
    "HELP",
    "    Prints this help.",
];

const CLUSTER_HELP: &[&str] = &[
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ADOPT",
    "    Make the branch that this node founded without a quorum a cluster of its own.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Return number of failure reports for <node-id>.",
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "DIGEST <range>|<first>-<last> [...]",
    "    Return the digests of the copies of ranges that this node has.",
    "DRAIN",
    "    Hand over what this node has, then stop it.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Promote current replica node to being a master.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MYID",
    "    Return the node id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    "REBALANCE [LIMIT <count>|CANCEL]",
    "    Begin moves of ranges now, at most <count> per node at a time, or begin none any more.",
    "REPLICAS <node-id>",
    "    Return <node-id> replicas.",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "STATUS",
    "    Return the state of the cluster as JSON.",
    "HELP",
    "    Prints this help.",
];
