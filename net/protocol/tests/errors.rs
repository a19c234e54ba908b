//! Redis's error texts: each request of a list that Redis 7.0.15 was asked gets Redis's answer.

use fulmar_protocol::command::table::lookup;
use fulmar_protocol::resp::{Decoded, Decoder, Slices};
use fulmar_protocol::{Command, CommandError};

const LIST: &str = include_str!("redis_errors.txt");

/// The answer to `line`, as the list spells it.
fn answer(line: &str) -> String {
    let input = [line.as_bytes(), b"\n"].concat();
    let mut decoder = Decoder::new(1024);
    let mut slices = Slices::new();
    let Decoded::Command { frame, .. } = decoder.decode(&input, &mut slices) else {
        panic!("not an inline command: {line}");
    };
    let argv = frame.argv();
    let parsed = lookup(argv.args).and_then(|spec| Command::parse(spec, argv));
    parsed.map_or_else(spell, |_| "parsed".to_owned())
}

fn spell(error: CommandError) -> String {
    let mut text = Vec::new();
    error.write_to(&mut text);
    text.iter().fold(String::new(), |spelled, byte| match byte {
        b' '..=b'~' => spelled + std::str::from_utf8(&[*byte]).expect("ASCII"),
        other => spelled + &format!("\\x{other:02x}"),
    })
}

#[test]
fn every_error_has_redis_text() {
    let mut failures = Vec::new();
    let mut count = 0;
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        let (request, expected) = line.split_once(" => ").expect("a line has an arrow");
        let got = answer(request);
        if got != expected {
            failures.push(format!(
                "{request}\n  expected {expected}\n  got      {got}"
            ));
        }
        count += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 300, "the list is complete");
}

/// What Redis 7.0.15 says while a command runs, or when it is queued.
#[test]
fn errors_of_execution_have_redis_text() {
    for (error, expected) in [
        (
            CommandError::NotAnInteger,
            "ERR value is not an integer or out of range",
        ),
        (CommandError::NotAFloat, "ERR value is not a valid float"),
        (
            CommandError::IncrementOverflow,
            "ERR increment or decrement would overflow",
        ),
        (
            CommandError::IncrementNotFinite,
            "ERR increment would produce NaN or Infinity",
        ),
        (
            CommandError::StringTooLong,
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        (
            CommandError::NestedMulti,
            "ERR MULTI calls can not be nested",
        ),
        (CommandError::ExecWithoutMulti, "ERR EXEC without MULTI"),
        (
            CommandError::DiscardWithoutMulti,
            "ERR DISCARD without MULTI",
        ),
        (
            CommandError::WatchInsideMulti,
            "ERR WATCH inside MULTI is not allowed",
        ),
        (
            CommandError::ExecAbort,
            "EXECABORT Transaction discarded because of previous errors.",
        ),
        (
            CommandError::OutOfMemory,
            "OOM command not allowed when used memory > 'maxmemory'.",
        ),
        (
            CommandError::TooManyClients,
            "ERR max number of clients reached",
        ),
        (
            CommandError::WrongPassword,
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
        (
            CommandError::AuthNotConfigured,
            "ERR AUTH <password> called without any password configured for the default user. Are \
             you sure your configuration is correct?",
        ),
        (
            CommandError::AuthRequired,
            "NOAUTH Authentication required.",
        ),
        (
            CommandError::ClusterDisabled,
            "ERR This instance has cluster support disabled",
        ),
        (
            CommandError::Moved {
                slot: 12_182,
                address: "127.0.0.1:6381".into(),
            },
            "MOVED 12182 127.0.0.1:6381",
        ),
        (
            CommandError::WatchElsewhere,
            "CROSSSLOT WATCH and its transaction take keys of the node that is asked; use a cluster \
             client",
        ),
        (
            CommandError::CrossSlot,
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            CommandError::TryAgain,
            "TRYAGAIN Multiple keys request during rehashing of slot",
        ),
        (
            CommandError::SlotNotServed,
            "CLUSTERDOWN Hash slot not served",
        ),
        (CommandError::ClusterDown, "CLUSTERDOWN The cluster is down"),
        (
            CommandError::ClusterDownReadsOnly,
            "CLUSTERDOWN The cluster is down and only accepts read commands",
        ),
        (
            CommandError::ReadOnlyReplica,
            "READONLY You can't write against a read only replica.",
        ),
        (CommandError::InvalidSlot, "ERR Invalid slot"),
        (
            CommandError::InvalidSlotOrCount,
            "ERR Invalid slot or number of keys",
        ),
        (CommandError::InvalidRange, "ERR Invalid range"),
        (
            CommandError::NoBranch,
            "ERR no branch was founded here, so there is none to adopt",
        ),
        (CommandError::unknown_node(b"a\nb"), "ERR Unknown node a b"),
        (
            CommandError::NotAMaster,
            "ERR The specified node is not a master",
        ),
        (
            CommandError::FailoverNotReplica,
            "ERR You should send CLUSTER FAILOVER to a replica",
        ),
        (
            CommandError::cluster_arity(b"FAILOVER"),
            "ERR unknown subcommand or wrong number of arguments for 'FAILOVER'. Try CLUSTER HELP.",
        ),
    ] {
        assert_eq!(error.to_string(), expected);
        assert_eq!(spell(error), expected);
    }
}
