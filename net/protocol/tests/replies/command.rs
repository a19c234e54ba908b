//! COMMAND and the HELP texts.

use fulmar_protocol::command::table::{COMMANDS, lookup};
use fulmar_protocol::command::{
    Argv, ConnectionCommand, reply_client_help, reply_command, reply_config_help,
};
use fulmar_protocol::resp::RespVersion;
use fulmar_protocol::{Command, ReplySink};

use crate::parser::{Reply, one_reply};

/// The reply to a COMMAND command, which is the same in both versions but for its types.
fn ask(line: &str) -> Reply {
    let args: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    let argv = Argv {
        args: &args,
        staged: &[],
    };
    let parsed = lookup(&args)
        .and_then(|spec| Command::parse(spec, argv))
        .expect(line);
    let Command::Connection(ConnectionCommand::Command(command)) = parsed else {
        panic!("not about commands: {line}");
    };
    one_reply(RespVersion::Resp2, |reply| reply_command(&command, reply));
    one_reply(RespVersion::Resp3, |reply| reply_command(&command, reply))
}

fn statuses(texts: &[&str]) -> Reply {
    Reply::Set(
        texts
            .iter()
            .map(|text| Reply::Status((*text).to_owned()))
            .collect(),
    )
}

fn bulks(texts: &[&str]) -> Reply {
    Reply::Array(texts.iter().map(|text| Reply::bulk(text)).collect())
}

#[test]
fn info_describes_a_command_as_redis_does() {
    let reply = ask("COMMAND INFO mset nope client|ID");
    let [mset, Reply::Null, client_id] = reply.items() else {
        panic!("{reply:?}")
    };
    let items = mset.items();
    assert_eq!(items[0], Reply::bulk("mset"));
    assert_eq!(items[1], Reply::Integer(-3));
    assert_eq!(items[2], statuses(&["write", "denyoom"]));
    assert_eq!(
        items[3..6],
        [Reply::Integer(1), Reply::Integer(-1), Reply::Integer(2)]
    );
    assert_eq!(items[6], statuses(&["@write", "@string", "@slow"]));
    assert_eq!(items[7].items().len(), 2);
    let key_spec = &items[8].items()[0];
    assert_eq!(*key_spec.get("flags"), statuses(&["OW", "update"]));
    assert_eq!(
        *key_spec.get("begin_search").get("spec").get("index"),
        Reply::Integer(1)
    );
    let range = key_spec.get("find_keys").get("spec");
    assert_eq!(*range.get("lastkey"), Reply::Integer(-1));
    assert_eq!(*range.get("keystep"), Reply::Integer(2));
    assert_eq!(items[9], Reply::Set(vec![]));

    let items = client_id.items();
    assert_eq!(items[0], Reply::bulk("client|id"));
    assert_eq!(items[6], statuses(&["@slow", "@connection"]));
}

#[test]
fn the_last_key_is_counted_from_the_first() {
    let reply = ask("COMMAND INFO get");
    let key_spec = &reply.items()[0].items()[8].items()[0];
    assert_eq!(
        *key_spec.get("find_keys").get("spec").get("lastkey"),
        Reply::Integer(0)
    );
}

#[test]
fn all_commands_are_described() {
    let commands = COMMANDS.iter().filter(|spec| !spec.is_subcommand()).count();
    assert_eq!(ask("COMMAND").items().len(), commands);
    assert_eq!(ask("COMMAND INFO").items().len(), commands);
    assert_eq!(ask("COMMAND LIST").items().len(), commands);
    assert_eq!(
        ask("COMMAND COUNT"),
        Reply::Integer(i64::try_from(commands).unwrap())
    );
    let docs = ask("COMMAND DOCS");
    for spec in COMMANDS.iter().filter(|spec| !spec.is_subcommand()) {
        let doc = docs.get(spec.name);
        assert_ne!(*doc.get("summary"), Reply::bulk(""), "{}", spec.name);
        assert_ne!(*doc.get("since"), Reply::bulk(""), "{}", spec.name);
        for subcommand in spec.subcommands() {
            let doc = doc.get("subcommands").get(subcommand.name);
            assert_ne!(*doc.get("summary"), Reply::bulk(""), "{}", subcommand.name);
        }
    }
}

#[test]
fn docs_leave_out_what_is_unknown() {
    let docs = ask("COMMAND DOCS nope GETSET client|id");
    assert_eq!(
        *docs.get("getset").get("doc_flags"),
        statuses(&["deprecated"])
    );
    assert_eq!(
        *docs.get("getset").get("replaced_by"),
        Reply::bulk("`SET` with the `!GET` argument")
    );
    assert_eq!(*docs.get("client|id").get("since"), Reply::bulk("5.0.0"));
    assert_eq!(ask("COMMAND DOCS nope"), Reply::Map(vec![]));
}

#[test]
fn list_is_filtered() {
    let transaction = ["multi", "exec", "discard", "watch", "unwatch"];
    assert_eq!(
        ask("COMMAND LIST FILTERBY ACLCAT Transaction"),
        bulks(&transaction)
    );
    let matching = ["client|id", "client|info"];
    assert_eq!(
        ask("COMMAND LIST FILTERBY PATTERN CLIENT|I*"),
        bulks(&matching)
    );
    assert_eq!(ask("COMMAND LIST filterby module x"), bulks(&[]));
    assert_eq!(ask("COMMAND LIST FILTERBY ACLCAT nope"), bulks(&[]));
}

#[test]
fn getkeys_finds_keys_or_says_why_not() {
    assert_eq!(ask("COMMAND GETKEYS mset a 1 b 2"), bulks(&["a", "b"]));
    assert_eq!(ask("COMMAND GETKEYS mset a 1 b"), bulks(&["a", "b"]));
    assert_eq!(ask("COMMAND GETKEYS SET k v EX 10"), bulks(&["k"]));
    let error = |text: &str| Reply::Error(text.to_owned());
    assert_eq!(
        ask("COMMAND GETKEYS nope a"),
        error("ERR Invalid command specified")
    );
    assert_eq!(
        ask("COMMAND GETKEYS client nope"),
        error("ERR Invalid command specified")
    );
    assert_eq!(
        ask("COMMAND GETKEYS ping a"),
        error("ERR The command has no key arguments")
    );
    assert_eq!(
        ask("COMMAND GETKEYS client id"),
        error("ERR The command has no key arguments")
    );
    let arity = error("ERR Invalid number of arguments specified for command");
    assert_eq!(ask("COMMAND GETKEYS get a b"), arity);
}

#[test]
fn help_is_lines_that_name_every_subcommand() {
    type Help = fn(&mut dyn ReplySink);
    let helps: [(&str, Help); 2] = [("client", reply_client_help), ("config", reply_config_help)];
    let mut texts: Vec<_> = helps
        .map(|(name, help)| (name, one_reply(RespVersion::Resp2, help)))
        .to_vec();
    texts.push(("command", ask("COMMAND HELP")));
    for (name, help) in texts {
        let container = lookup(&[name.as_bytes(), b"help"])
            .unwrap()
            .name
            .split('|')
            .next();
        assert_eq!(container, Some(name));
        let subcommands = COMMANDS
            .iter()
            .filter_map(|spec| spec.name.strip_prefix(name)?.strip_prefix('|'));
        for subcommand in subcommands {
            let wanted = subcommand.to_ascii_uppercase();
            let names_it = |line: &Reply| matches!(line, Reply::Status(text) if text.split(' ').next() == Some(&wanted));
            assert!(help.items().iter().any(names_it), "{name} {subcommand}");
        }
    }
}
