//! Typed commands: what each is parsed to, and that no arguments do harm.

use fulmar_protocol::command::table::{COMMANDS, CommandId, Scope, lookup};
use fulmar_protocol::command::{
    Argv, ClientAttribute, ClientCommand, ClusterCommand, ClusterMap, ConnectionCommand,
    DataCommand, Deadline, ExpireCondition, Expiry, Set, SetCondition, SetExpiry, SetReply,
    StagedArgument, TtlForm, Value,
};
use fulmar_protocol::{Command, CommandError};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use proptest::sample::select;

fn parse<'a>(args: &'a [&'a [u8]]) -> Result<Command<'a>, CommandError> {
    lookup(args).and_then(|spec| Command::parse(spec, Argv { args, staged: &[] }))
}

fn check(line: &str, expected: DataCommand<'_>) {
    let args: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    assert_eq!(parse(&args), Ok(Command::Data(expected)), "{line}");
}

fn check_connection(line: &str, expected: ConnectionCommand<'_>) {
    let args: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    assert_eq!(parse(&args), Ok(Command::Connection(expected)), "{line}");
}

const SET: Set<'static> = Set {
    key: b"k",
    value: Value::Bytes(b"v"),
    condition: SetCondition::Always,
    expiry: SetExpiry::Never,
    reply: SetReply::Ok,
};

#[test]
fn set_and_its_kind() {
    let set = |line: &str, set: Set<'_>| check(line, DataCommand::Set(set));
    let until = |at| SetExpiry::At(at);
    set("set k v", SET);
    set(
        "SET k v NX",
        Set {
            condition: SetCondition::IfAbsent,
            ..SET
        },
    );
    set(
        "SET k v xx get",
        Set {
            condition: SetCondition::IfPresent,
            reply: SetReply::Old,
            ..SET
        },
    );
    set(
        "SET k v KEEPTTL",
        Set {
            expiry: SetExpiry::Keep,
            ..SET
        },
    );
    set(
        "SET k v EX 10",
        Set {
            expiry: until(Deadline::In { ms: 10_000 }),
            ..SET
        },
    );
    set(
        "SET k v EX 1 EX 10",
        Set {
            expiry: until(Deadline::In { ms: 10_000 }),
            ..SET
        },
    );
    set(
        "SET k v px 10",
        Set {
            expiry: until(Deadline::In { ms: 10 }),
            ..SET
        },
    );
    set(
        "SET k v EXAT 10",
        Set {
            expiry: until(Deadline::AtUnix { ms: 10_000 }),
            ..SET
        },
    );
    set(
        "SET k v PXAT 10",
        Set {
            expiry: until(Deadline::AtUnix { ms: 10 }),
            ..SET
        },
    );
    set(
        "SETEX k 10 v",
        Set {
            expiry: until(Deadline::In { ms: 10_000 }),
            ..SET
        },
    );
    set(
        "PSETEX k 10 v",
        Set {
            expiry: until(Deadline::In { ms: 10 }),
            ..SET
        },
    );
    set(
        "SETNX k v",
        Set {
            condition: SetCondition::IfAbsent,
            reply: SetReply::Stored,
            ..SET
        },
    );
    set(
        "GETSET k v",
        Set {
            reply: SetReply::Old,
            ..SET
        },
    );
}

#[test]
fn commands_on_one_key() {
    let key = &b"k"[..];
    check("GET k", DataCommand::Get { key });
    check("GETDEL k", DataCommand::GetDel { key });
    check("GETEX k", DataCommand::GetEx { key, expiry: None });
    check(
        "GETEX k PERSIST",
        DataCommand::GetEx {
            key,
            expiry: Some(Expiry::Never),
        },
    );
    let expiry = Some(Expiry::At(Deadline::In { ms: 2000 }));
    check("GETEX k EX 2", DataCommand::GetEx { key, expiry });
    check("STRLEN k", DataCommand::StrLen { key });
    check(
        "APPEND k v",
        DataCommand::Append {
            key,
            value: SET.value,
        },
    );
    check(
        "GETRANGE k -5 7",
        DataCommand::GetRange {
            key,
            start: -5,
            end: 7,
        },
    );
    check(
        "SUBSTR k 0 -1",
        DataCommand::GetRange {
            key,
            start: 0,
            end: -1,
        },
    );
    check(
        "SETRANGE k 7 v",
        DataCommand::SetRange {
            key,
            offset: 7,
            value: SET.value,
        },
    );
    check("INCR k", DataCommand::IncrBy { key, delta: 1 });
    check("DECR k", DataCommand::IncrBy { key, delta: -1 });
    check("INCRBY k -7", DataCommand::IncrBy { key, delta: -7 });
    check("DECRBY k -7", DataCommand::IncrBy { key, delta: 7 });
    check(
        "INCRBYFLOAT k 1.5e3",
        DataCommand::IncrByFloat {
            key,
            delta: b"1.5e3",
        },
    );
    check("TYPE k", DataCommand::Type { key });
    check("PERSIST k", DataCommand::Persist { key });
    for (line, form) in [
        ("TTL k", TtlForm::Seconds),
        ("PTTL k", TtlForm::Milliseconds),
        ("EXPIRETIME k", TtlForm::UnixSeconds),
        ("PEXPIRETIME k", TtlForm::UnixMilliseconds),
    ] {
        check(line, DataCommand::Ttl { key, form });
    }
    for (line, at) in [
        ("EXPIRE k 2", Deadline::In { ms: 2000 }),
        ("PEXPIRE k -2", Deadline::In { ms: -2 }),
        ("EXPIREAT k 2", Deadline::AtUnix { ms: 2000 }),
        ("PEXPIREAT k 2", Deadline::AtUnix { ms: 2 }),
    ] {
        check(
            line,
            DataCommand::Expire {
                key,
                at,
                condition: ExpireCondition::default(),
            },
        );
    }
    let condition = ExpireCondition {
        if_some: true,
        if_later: true,
        ..ExpireCondition::default()
    };
    check(
        "EXPIRE k 2 gt XX",
        DataCommand::Expire {
            key,
            at: Deadline::In { ms: 2000 },
            condition,
        },
    );
}

#[test]
fn commands_on_many_keys_and_on_all() {
    let keys: &[&[u8]] = &[b"a", b"b", b"a"];
    check("MGET a b a", DataCommand::MGet { keys });
    check("DEL a b a", DataCommand::Del { keys });
    check("UNLINK a b a", DataCommand::Del { keys });
    check("EXISTS a b a", DataCommand::Exists { keys });
    check("TOUCH a b a", DataCommand::Touch { keys });
    let args: &[&[u8]] = &[b"MSET", b"a", b"1", b"b", b"2"];
    check(
        "MSET a 1 b 2",
        DataCommand::MSet {
            pairs: Argv { args, staged: &[] },
        },
    );
    let args: &[&[u8]] = &[b"MSETNX", b"a", b"1"];
    check(
        "MSETNX a 1",
        DataCommand::MSetNx {
            pairs: Argv { args, staged: &[] },
        },
    );
    check("RANDOMKEY", DataCommand::RandomKey);
    check("DBSIZE", DataCommand::DbSize);
    check("FLUSHALL", DataCommand::FlushAll);
    check("FLUSHDB async", DataCommand::FlushAll);
    check("KEYS a*", DataCommand::Keys { pattern: b"a*" });
    let scan = DataCommand::Scan {
        cursor: 0,
        pattern: None,
        count: 10,
        of_type: None,
    };
    check("SCAN 0", scan);
    let pattern = Some(&b"a*"[..]);
    let of_type = Some(&b"string"[..]);
    let scan = DataCommand::Scan {
        cursor: u64::MAX,
        pattern,
        count: 5,
        of_type,
    };
    check(
        "SCAN 18446744073709551615 match x count 5 type string match a*",
        scan,
    );
}

#[test]
fn commands_on_the_connection() {
    check_connection("PING", ConnectionCommand::Ping { message: None });
    check_connection(
        "PING x",
        ConnectionCommand::Ping {
            message: Some(b"x"),
        },
    );
    check_connection("SELECT 0", ConnectionCommand::Select { index: 0 });
    let hello = ConnectionCommand::Hello {
        version: None,
        auth: None,
        name: None,
    };
    check_connection("HELLO", hello);
    let auth = Some((&b"u"[..], &b"p"[..]));
    let hello = ConnectionCommand::Hello {
        version: Some(3),
        auth,
        name: Some(b"n"),
    };
    check_connection("HELLO 3 setname n auth u p", hello);
    let client = |line: &str, command| check_connection(line, ConnectionCommand::Client(command));
    client("CLIENT SETNAME x", ClientCommand::SetName { name: b"x" });
    let attribute = ClientAttribute::LibVer;
    client(
        "CLIENT SETINFO lib-ver 1.0",
        ClientCommand::SetInfo {
            attribute,
            value: b"1.0",
        },
    );
    client(
        "CLIENT LIST",
        ClientCommand::List {
            ids: &[],
            normal: true,
        },
    );
    client(
        "CLIENT LIST TYPE pubsub",
        ClientCommand::List {
            ids: &[],
            normal: false,
        },
    );
    client(
        "CLIENT LIST ID 1 2",
        ClientCommand::List {
            ids: &[b"1", b"2"],
            normal: true,
        },
    );
    client("CLIENT NO-EVICT off", ClientCommand::NoEvict { on: false });
    check_connection(
        "CONFIG GET a b",
        ConnectionCommand::ConfigGet {
            patterns: &[b"a", b"b"],
        },
    );
    check_connection(
        "CONFIG SET a b",
        ConnectionCommand::ConfigSet {
            pairs: &[b"a", b"b"],
        },
    );
    check_connection(
        "INFO a b",
        ConnectionCommand::Info {
            sections: &[b"a", b"b"],
        },
    );
    check_connection(
        "WATCH a b",
        ConnectionCommand::Watch {
            keys: &[b"a", b"b"],
        },
    );
}

#[test]
fn commands_of_a_clusters_clients() {
    let cluster = |line: &str, command| {
        check_connection(line, ConnectionCommand::Cluster(command));
    };
    cluster("CLUSTER slots", ClusterCommand::Map(ClusterMap::Slots));
    cluster("CLUSTER SHARDS", ClusterCommand::Map(ClusterMap::Shards));
    cluster("cluster nodes", ClusterCommand::Map(ClusterMap::Nodes));
    cluster("CLUSTER INFO", ClusterCommand::Info);
    cluster("CLUSTER MYID", ClusterCommand::MyId);
    cluster("CLUSTER HELP", ClusterCommand::Help);
    cluster("CLUSTER STATUS", ClusterCommand::Status);
    cluster("CLUSTER DRAIN", ClusterCommand::Drain);
    cluster("cluster adopt", ClusterCommand::Adopt);
    let ranges: &[&[u8]] = &[b"0", b"7-9"];
    cluster("CLUSTER DIGEST 0 7-9", ClusterCommand::Digest { ranges });
    let options: &[&[u8]] = &[b"LIMIT", b"4"];
    cluster(
        "CLUSTER REBALANCE LIMIT 4",
        ClusterCommand::Rebalance { options },
    );
    cluster(
        "CLUSTER REBALANCE",
        ClusterCommand::Rebalance { options: &[] },
    );
    cluster("CLUSTER KEYSLOT k", ClusterCommand::KeySlot { key: b"k" });
    let slot = &b"x"[..];
    cluster(
        "CLUSTER COUNTKEYSINSLOT x",
        ClusterCommand::CountKeysInSlot { slot },
    );
    let count = &b"-1"[..];
    cluster(
        "CLUSTER GETKEYSINSLOT x -1",
        ClusterCommand::GetKeysInSlot { slot, count },
    );
    cluster("CLUSTER REPLICAS i", ClusterCommand::Replicas { id: b"i" });
    cluster("CLUSTER SLAVES i", ClusterCommand::Replicas { id: b"i" });
    cluster(
        "CLUSTER COUNT-FAILURE-REPORTS i",
        ClusterCommand::CountFailureReports { id: b"i" },
    );
    let argv: &[&[u8]] = &[b"CLUSTER", b"FAILOVER", b"FORCE"];
    cluster("CLUSTER FAILOVER FORCE", ClusterCommand::Failover { argv });
    check_connection("READONLY", ConnectionCommand::ReadOnly);
    check_connection("READWRITE", ConnectionCommand::ReadWrite);
    check_connection("ASKING", ConnectionCommand::Asking);
    let (replicas, timeout_ms) = (2, 100);
    check_connection(
        "WAIT 2 100",
        ConnectionCommand::Wait {
            replicas,
            timeout_ms,
        },
    );
}

#[test]
fn client_setinfo_has_the_texts_of_redis_7_2() {
    for (args, expected) in [
        (
            ["LIB-NAME", "a b"],
            "ERR LIB-NAME cannot contain spaces, newlines or special characters.",
        ),
        (["foo", "x"], "ERR Unrecognized option 'foo'"),
        (["LIB\rNAME", "x"], "ERR Unrecognized option 'LIB NAME'"),
    ] {
        let args: [&[u8]; 4] = [
            b"CLIENT",
            b"SETINFO",
            args[0].as_bytes(),
            args[1].as_bytes(),
        ];
        assert_eq!(
            parse(&args).map_err(|error| error.to_string()),
            Err(expected.to_owned())
        );
    }
}

#[test]
fn config_errors_have_redis_texts() {
    assert_eq!(
        CommandError::config_unknown(b"a\nb").to_string(),
        "ERR Unknown option or number of arguments for CONFIG SET - 'a b'"
    );
    assert_eq!(
        CommandError::config_set(b"maxmemory", "argument must be a memory value").to_string(),
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a \
         memory value"
    );
}

#[test]
fn staged_arguments_are_values() {
    let staged = |position| StagedArgument {
        position,
        bytes_count: 100_000,
    };
    let values = [staged(2), staged(6)];
    let args: [&[u8]; 7] = [b"MSET", b"a", b"", b"b", b"", b"c", b""];
    let argv = Argv {
        args: &args,
        staged: &values,
    };
    assert_eq!(argv.value(2), Some(Value::Staged(0)));
    assert_eq!(argv.value(4), Some(Value::Bytes(b"")));
    assert_eq!(argv.value(6), Some(Value::Staged(1)));
    assert_eq!(argv.value(7), None);
    assert_eq!(
        [2, 4, 6, 7].map(|position| argv.bytes_count(position)),
        [100_000, 0, 100_000, 0]
    );

    let value = [staged(3)];
    let too_far: [&[u8]; 4] = [b"SETRANGE", b"k", b"536800000", b""];
    let argv = Argv {
        args: &too_far,
        staged: &value,
    };
    let spec = lookup(argv.args).unwrap();
    assert_eq!(Command::parse(spec, argv), Err(CommandError::StringTooLong));
    let args: [&[u8]; 4] = [b"SETRANGE", b"k", b"536700000", b""];
    let argv = Argv {
        args: &args,
        staged: &value,
    };
    let command = DataCommand::SetRange {
        key: b"k",
        offset: 536_700_000,
        value: Value::Staged(0),
    };
    assert_eq!(Command::parse(spec, argv), Ok(Command::Data(command)));
}

#[test]
fn a_spec_that_does_not_fit_its_arguments_is_an_arity_error() {
    let args: [&[u8]; 1] = [b"SET"];
    let argv = Argv {
        args: &args,
        staged: &[],
    };
    let parsed = Command::parse(CommandId::Set.spec(), argv);
    assert_eq!(parsed, Err(CommandError::WrongArity(CommandId::Set)));
}

#[test]
fn scopes_follow_from_keys() {
    for spec in &COMMANDS {
        assert_eq!(
            spec.scope == Scope::Keys,
            spec.keys.first != 0,
            "{}",
            spec.name
        );
        assert!(
            spec.scope == Scope::Keys || spec.values.first == 0,
            "{}",
            spec.name
        );
    }
    assert!(CommandId::Set.spec().is_write());
    assert!(!CommandId::Get.spec().is_write());
    let keys: Vec<_> = CommandId::MSet
        .spec()
        .keys_in(&[b"MSET", b"a", b"1", b"b", b"2"])
        .collect();
    assert_eq!(keys, [b"a", b"b"]);
}

/// Words that options are made of, and others.
fn argument() -> impl Strategy<Value = Vec<u8>> {
    let words = "EX PX EXAT PXAT NX XX GET KEEPTTL PERSIST GT LT MATCH COUNT TYPE AUTH SETNAME ID \
                 0 1 -1 10 9223372036854775807 -9223372036854775808 1.5 inf default ON k";
    let words: Vec<_> = words
        .split_whitespace()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    prop_oneof![4 => select(words), 1 => vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn any_arguments_are_a_command_or_one_line_of_error(
        id in 0..CommandId::COUNT,
        rest in vec(argument(), 0..8),
    ) {
        let mut args: Vec<&[u8]> = COMMANDS[id].name.split('|').map(str::as_bytes).collect();
        args.extend(rest.iter().map(Vec::as_slice));
        let id = COMMANDS[id].id;
        match lookup(&args) {
            Ok(spec) => {
                prop_assert!(spec.takes(args.len()));
                prop_assert!(spec.id == id || spec.name.starts_with(id.spec().name));
                prop_assert!(spec.key_positions(args.len()).all(|key| key < args.len()));
            }
            Err(error) => prop_assert!(matches!(
                error,
                CommandError::WrongArity(_) | CommandError::UnknownSubcommand(_)
            )),
        }
        if let Err(error) = parse(&args) {
            let mut text = Vec::new();
            error.write_to(&mut text);
            prop_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            prop_assert!(text.starts_with(b"ERR ") || text.starts_with(b"NOPROTO ")
                || text.starts_with(b"EXECABORT "));
        }
    }
}
