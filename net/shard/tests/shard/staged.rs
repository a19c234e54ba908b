//! Long values that are streamed in: stored by every command that takes one, and freed otherwise.

use crate::support::{Client, Rig, encode, words};

/// Longer than what the decoder gives as a slice.
const VALUE_BYTES: usize = 20_000;
/// So many values would not fit into the shards together.
const ROUNDS: usize = 2_500;

fn long(byte: u8) -> Vec<u8> {
    vec![byte; VALUE_BYTES]
}

fn pages_in_use(rig: &Rig) -> u64 {
    rig.shards
        .iter()
        .map(|shard| shard.cache.stats().pages_in_use)
        .sum()
}

/// Runs `round` many times, and checks that nothing piles up.
fn repeat(mut round: impl FnMut(&mut Rig, &mut Client)) {
    let mut rig = Rig::new(2);
    let mut client = rig.client();
    rig.run(&mut client, &words("SET a old"));
    round(&mut rig, &mut client);
    let at_first = pages_in_use(&rig);
    for _ in 0..ROUNDS {
        round(&mut rig, &mut client);
    }
    assert!(
        pages_in_use(&rig) <= at_first + 4,
        "{} then {at_first}",
        pages_in_use(&rig)
    );
    rig.check_integrity();
}

#[test]
fn values_that_a_condition_refuses_are_freed() {
    repeat(|rig, client| {
        let value = long(b'x');
        assert_eq!(rig.run(client, &[b"SET", b"a", &value, b"NX"]), b"$-1\r\n");
        assert_eq!(rig.run(client, &[b"SETNX", b"a", &value]), b":0\r\n");
        assert_eq!(
            rig.run(client, &[b"SET", b"missing", &value, b"XX"]),
            b"$-1\r\n"
        );
        assert_eq!(
            rig.run(client, &[b"MSETNX", b"b", &value, b"a", &value]),
            b":0\r\n"
        );
    });
}

#[test]
fn values_of_wrong_commands_are_freed() {
    repeat(|rig, client| {
        let value = long(b'x');
        let reply = rig.run(client, &[b"SET", b"a", &value, b"NOSUCH"]);
        assert_eq!(reply, b"-ERR syntax error\r\n");
        let reply = rig.run(client, &[b"SETRANGE", b"a", b"-1", &value]);
        assert_eq!(reply, b"-ERR offset is out of range\r\n");
        let reply = rig.run(client, &[b"SETRANGE", b"a", b"1048576", &value]);
        assert!(
            reply.starts_with(b"-ERR string exceeds"),
            "{}",
            reply.escape_ascii()
        );
    });
}

#[test]
fn values_of_discarded_transactions_are_freed() {
    repeat(|rig, client| {
        let value = long(b'x');
        rig.run(client, &[b"MULTI"]);
        assert_eq!(rig.run(client, &[b"SET", b"a", &value]), b"+QUEUED\r\n");
        assert_eq!(rig.run(client, &[b"DISCARD"]), b"+OK\r\n");
        // An aborted one, which does not even keep what comes after the error.
        rig.run(client, &[b"MULTI"]);
        rig.run(client, &[b"SET", b"a", &value]);
        rig.run(client, &[b"NOSUCH"]);
        rig.run(client, &[b"SET", b"b", &value]);
        assert!(rig.run(client, &[b"EXEC"]).starts_with(b"-EXECABORT"));
    });
}

#[test]
fn values_and_watches_of_vanished_clients_are_given_back() {
    repeat(|rig, _| {
        let value = long(b'x');
        let mut gone = rig.client();
        rig.run(&mut gone, &words("WATCH a b c"));
        rig.run(&mut gone, &words("MULTI"));
        assert_eq!(rig.run(&mut gone, &[b"SET", b"a", &value]), b"+QUEUED\r\n");
        // The connection breaks in the middle of a second value.
        let half = &encode(&[b"SET", b"b", &value])[..VALUE_BYTES / 2 + 9_000];
        rig.feed(&mut gone, half, &mut Vec::new());
        rig.vanish(gone);
        assert!(
            rig.shards
                .iter()
                .all(|shard| shard.stats(rig.now).watched_keys == 0)
        );
    });
}

#[test]
fn every_command_stores_long_values() {
    let mut rig = Rig::new(3);
    let mut client = rig.client();
    let (x, y) = (long(b'x'), long(b'y'));
    let both = [x.clone(), y.clone()].concat();
    let get = |rig: &mut Rig, client: &mut Client, key: &[u8]| {
        let reply = rig.run(client, &[b"GET", key]);
        let start = reply
            .iter()
            .position(|&byte| byte == b'\n')
            .expect("a line")
            + 1;
        reply[start..reply.len() - 2].to_vec()
    };
    assert_eq!(rig.run(&mut client, &[b"SET", b"a", &x]), b"+OK\r\n");
    assert_eq!(get(&mut rig, &mut client, b"a"), x);
    assert_eq!(rig.run(&mut client, &[b"APPEND", b"a", &y]), b":40000\r\n");
    assert_eq!(get(&mut rig, &mut client, b"a"), both);
    assert_eq!(
        rig.run(&mut client, &[b"APPEND", b"new", &y]),
        b":20000\r\n"
    );
    assert_eq!(get(&mut rig, &mut client, b"new"), y);
    assert_eq!(
        rig.run(&mut client, &[b"SETRANGE", b"a", b"20000", &x]),
        b":40000\r\n"
    );
    assert_eq!(
        get(&mut rig, &mut client, b"a"),
        [x.clone(), x.clone()].concat()
    );
    assert_eq!(
        rig.run(&mut client, &[b"MSET", b"b", &x, b"s", b"short", b"c", &y]),
        b"+OK\r\n"
    );
    assert_eq!(get(&mut rig, &mut client, b"b"), x);
    assert_eq!(get(&mut rig, &mut client, b"s"), b"short");
    assert_eq!(get(&mut rig, &mut client, b"c"), y);
    let reply = rig.run(&mut client, &[b"GETSET", b"b", &y]);
    assert!(
        reply.starts_with(b"$20000\r\nxxx"),
        "{}",
        reply[..20].escape_ascii()
    );
    rig.run(&mut client, &[b"MULTI"]);
    rig.run(&mut client, &[b"PING"]);
    rig.run(&mut client, &[b"MSET", b"d", &y, b"e", &x]);
    rig.run(&mut client, &[b"APPEND", b"d", &x]);
    let reply = rig.run(&mut client, &[b"EXEC"]);
    assert_eq!(reply, b"*3\r\n+PONG\r\n+OK\r\n:40000\r\n");
    assert_eq!(get(&mut rig, &mut client, b"d"), [y, x].concat());
    rig.check_integrity();
}

#[test]
fn a_transaction_is_bounded() {
    let mut rig = Rig::new(1);
    let mut client = rig.client();
    rig.run(&mut client, &words("MULTI"));
    let argument = vec![b'k'; 16_000];
    let mut queued = 0;
    let refused = loop {
        let reply = rig.run(&mut client, &[b"PING", &argument]);
        if reply != b"+QUEUED\r\n" {
            break reply;
        }
        queued += 1;
    };
    assert_eq!(refused, b"-ERR transaction is too large\r\n");
    let most = fulmar_shard::QUEUE_BYTES_MAX / 16_000;
    assert!((most - 50..=most).contains(&queued), "{queued}");
    assert!(
        rig.run(&mut client, &words("EXEC"))
            .starts_with(b"-EXECABORT")
    );
    assert_eq!(rig.run(&mut client, &words("PING")), b"+PONG\r\n");
}

#[test]
fn watched_keys_are_bounded() {
    let mut rig = Rig::new(2);
    let mut client = rig.client();
    for number in 0..fulmar_shard::WATCHES_MAX {
        let reply = rig.run(&mut client, &words(&format!("WATCH key:{number}")));
        assert_eq!(reply, b"+OK\r\n");
    }
    let reply = rig.run(&mut client, &words("WATCH one:more"));
    assert_eq!(reply, b"-ERR transaction is too large\r\n");
    rig.run(&mut client, &words("UNWATCH"));
    assert!(
        rig.shards
            .iter()
            .all(|shard| shard.stats(rig.now).watched_keys == 0)
    );
    assert_eq!(rig.run(&mut client, &words("WATCH one:more")), b"+OK\r\n");
}
