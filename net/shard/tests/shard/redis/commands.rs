//! Random commands for the referee: mostly sensible, on few keys, with values that matter.

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::BoxedStrategy;

use super::{Args, Line, args_of};

fn text(options: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> + Clone {
    select(options).prop_map(|word| word.as_bytes().to_vec())
}

fn key() -> impl Strategy<Value = Vec<u8>> + Clone {
    text(&[
        "a",
        "b",
        "{t}1",
        "{t}2",
        "",
        "foo",
        "counter",
        "number",
        "k\r\n\x01",
    ])
}

fn value() -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![
        8 => text(&[
            "", "0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808", "007", "+5",
            " 5", "5 ", "1.5", "-0", "3.0e3", "1e2", "abc", "0.1", "10.50", "1e-5", "99999999999",
            "inf", "nan", "12345678901234567890", "-.5", "5.", "3.14159265358979",
        ]),
        2 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
        2 => any::<i32>().prop_map(|number| (f64::from(number) / 1000.0).to_string().into_bytes()),
        2 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (1usize..3).prop_map(|count| vec![b'x'; count * 3_000]),
    ]
}

/// A value where it is stored: perhaps so long that it is streamed.
fn stored() -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![
        9 => value(),
        1 => (1usize..3).prop_map(|count| vec![b'y'; count * 17_000]),
    ]
}

fn number() -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![
        6 => (-12i64..12).prop_map(|number| number.to_string().into_bytes()),
        1 => text(&[
            "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x", "", "1.0",
            " 1", "100", "-100", "2147483648", "600000000",
        ]),
    ]
}

/// An increment of at most 15 digits, and finite: others are cut or refused before the value is
/// looked at, because the parser reads an `f64`.
fn increment() -> impl Strategy<Value = Vec<u8>> + Clone {
    value().prop_filter("short and finite", |text| {
        let is_number = text.iter().all(|byte| b"-.0123456789".contains(byte));
        *text != b"inf" && !(is_number && text.len() > 15)
    })
}

fn seconds() -> impl Strategy<Value = Vec<u8>> + Clone {
    text(&[
        "100",
        "1000",
        "100000",
        "0",
        "-1",
        "x",
        "9223372036854775807",
        "9223372036854775",
        "-9223372036854775808",
        "2000",
    ])
}

fn milliseconds() -> impl Strategy<Value = Vec<u8>> + Clone {
    text(&[
        "100000",
        "1000000",
        "0",
        "-5",
        "9223372036854775807",
        "-9223372036854775808",
        "x",
    ])
}

fn unix_seconds() -> impl Strategy<Value = Vec<u8>> + Clone {
    text(&[
        "4000000000",
        "4000000001",
        "1",
        "0",
        "-1",
        "9223372036854775807",
        "1500000000",
    ])
}

fn unix_milliseconds() -> impl Strategy<Value = Vec<u8>> + Clone {
    text(&[
        "4000000000000",
        "4000000000499",
        "4000000000500",
        "1",
        "0",
        "1500000000000",
    ])
}

fn cased(word: &'static str) -> impl Strategy<Value = Vec<u8>> + Clone {
    any::<bool>().prop_map(move |is_lower| {
        if is_lower {
            word.to_ascii_lowercase().into_bytes()
        } else {
            word.as_bytes().to_vec()
        }
    })
}

/// A command from its parts, in order.
fn command<const N: usize>(
    name: &'static str,
    parts: [BoxedStrategy<Vec<u8>>; N],
) -> BoxedStrategy<Args> {
    let parts = parts.to_vec();
    (cased(name), parts)
        .prop_map(|(name, rest)| std::iter::once(name).chain(rest).collect())
        .boxed()
}

/// Not in the past: Redis counts a key that was born expired in DBSIZE until it finds it.
fn expiry_option() -> impl Strategy<Value = Args> + Clone {
    let unix_seconds = text(&["4000000000", "4000000001", "0", "-1", "9223372036854775807"]);
    let unix_milliseconds = text(&["4000000000000", "4000000000499", "4000000000500", "0"]);
    prop_oneof![
        (cased("EX"), seconds()).prop_map(|(option, time)| vec![option, time]),
        (cased("PX"), milliseconds()).prop_map(|(option, time)| vec![option, time]),
        (cased("EXAT"), unix_seconds).prop_map(|(option, time)| vec![option, time]),
        (cased("PXAT"), unix_milliseconds).prop_map(|(option, time)| vec![option, time]),
    ]
}

fn set() -> impl Strategy<Value = Args> {
    let option = prop_oneof![
        2 => text(&["NX", "XX", "GET", "KEEPTTL"]).prop_map(|word| vec![word]),
        2 => expiry_option(),
        1 => text(&["EX", "BAD", "PERSIST"]).prop_map(|word| vec![word]),
    ];
    let options = proptest::collection::vec(option, 0..3);
    (key(), stored(), options).prop_map(|(key, value, options)| {
        let mut args = vec![b"SET".to_vec(), key, value];
        args.extend(options.into_iter().flatten());
        args
    })
}

fn get_ex() -> impl Strategy<Value = Args> {
    let option = prop_oneof![
        Just(Vec::new()),
        Just(vec![b"PERSIST".to_vec()]),
        // A bad time on a missing key is refused here, and by Redis only if the key exists.
        (cased("EX"), text(&["100", "1000"])).prop_map(|(option, time)| vec![option, time]),
        (cased("PXAT"), text(&["4000000000000", "1"])).prop_map(|(o, time)| vec![o, time]),
    ];
    (key(), option).prop_map(|(key, option)| {
        let mut args = vec![b"GETEX".to_vec(), key];
        args.extend(option);
        args
    })
}

fn expire() -> impl Strategy<Value = Args> {
    let time = prop_oneof![
        (Just("EXPIRE"), seconds().boxed()),
        (Just("PEXPIRE"), milliseconds().boxed()),
        (Just("EXPIREAT"), unix_seconds().boxed()),
        (Just("PEXPIREAT"), unix_milliseconds().boxed()),
    ];
    let options = proptest::collection::vec(text(&["NX", "XX", "GT", "LT", "gt", "ZZ"]), 0..3);
    (time, key(), options).prop_map(|((name, time), key, options)| {
        let mut args = vec![name.as_bytes().to_vec(), key, time];
        args.extend(options);
        args
    })
}

/// Names of commands whose replies are the same whatever their arguments.
const COMPARABLE: &[&str] = &[
    "GET",
    "SET",
    "SETNX",
    "SETEX",
    "PSETEX",
    "GETSET",
    "GETDEL",
    "MGET",
    "MSET",
    "MSETNX",
    "STRLEN",
    "APPEND",
    "GETRANGE",
    "SUBSTR",
    "SETRANGE",
    "INCR",
    "DECR",
    "INCRBY",
    "DECRBY",
    "INCRBYFLOAT",
    "DEL",
    "UNLINK",
    "EXISTS",
    "TOUCH",
    "TYPE",
    "EXPIRE",
    "PEXPIRE",
    "EXPIREAT",
    "PEXPIREAT",
    "TTL",
    "EXPIRETIME",
    "PEXPIRETIME",
    "PERSIST",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "UNWATCH",
    "PING",
    "ECHO",
    "SELECT",
    "NOSUCH",
    "KEYS",
];

/// Any command with any number of arguments that hardly ever fit.
fn unfit() -> impl Strategy<Value = Args> {
    let argument = prop_oneof![
        key(),
        value(),
        number(),
        text(&["NX", "EX", "XX", "GET", "*"])
    ];
    (text(COMPARABLE), proptest::collection::vec(argument, 0..5))
        .prop_map(|(name, rest)| {
            let mut args = vec![name];
            // KEYS answers in any order, and lists of several cannot be compared.
            if args[0] == b"KEYS" && rest.len() == 1 {
                args[0] = b"EXISTS".to_vec();
            }
            args.extend(rest);
            args
        })
        // See `increment`.
        .prop_filter("comparable", |args| {
            args[0] != b"INCRBYFLOAT" || args.len() != 3
        })
}

fn keys_command(name: &'static str) -> impl Strategy<Value = Args> {
    (cased(name), proptest::collection::vec(key(), 1..4))
        .prop_map(|(name, keys)| std::iter::once(name).chain(keys).collect())
}

fn pairs_command(name: &'static str) -> impl Strategy<Value = Args> {
    (
        cased(name),
        proptest::collection::vec((key(), stored()), 1..4),
    )
        .prop_map(|(name, pairs)| {
            let flat = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            std::iter::once(name).chain(flat).collect()
        })
}

pub(super) fn any_command() -> BoxedStrategy<Args> {
    let key = || key().boxed();
    let value = || value().boxed();
    let number = || number().boxed();
    let stored = || stored().boxed();
    let strings = prop_oneof![
        6 => set(),
        3 => command("GET", [key()]),
        1 => command("SETNX", [key(), stored()]),
        1 => command("SETEX", [key(), seconds().boxed(), stored()]),
        1 => command("PSETEX", [key(), milliseconds().boxed(), stored()]),
        1 => command("GETSET", [key(), stored()]),
        1 => command("GETDEL", [key()]),
        2 => get_ex(),
        2 => keys_command("MGET"),
        2 => pairs_command("MSET"),
        2 => pairs_command("MSETNX"),
        1 => command("STRLEN", [key()]),
        2 => command("APPEND", [key(), stored()]),
        2 => command("GETRANGE", [key(), number(), number()]),
        1 => command("SUBSTR", [key(), number(), number()]),
        2 => command("SETRANGE", [key(), number(), stored()]),
    ];
    let numbers = prop_oneof![
        1 => command("INCR", [key()]),
        1 => command("DECR", [key()]),
        1 => command("INCRBY", [key(), number()]),
        1 => command("DECRBY", [key(), number()]),
        2 => command("INCRBY", [key(), value()]),
        5 => command("INCRBYFLOAT", [key(), increment().boxed()]),
    ];
    let keyspace = prop_oneof![
        1 => keys_command("DEL"),
        1 => keys_command("UNLINK"),
        1 => keys_command("EXISTS"),
        1 => keys_command("TOUCH"),
        1 => command("TYPE", [key()]),
        4 => expire(),
        2 => command("TTL", [key()]),
        1 => command("PTTL", [key()]),
        1 => command("EXPIRETIME", [key()]),
        1 => command("PEXPIRETIME", [key()]),
        1 => command("PERSIST", [key()]),
        1 => command("DBSIZE", []),
        1 => command("KEYS", [text(&["nosuch*", "[z-y]", "\\"]).boxed()]),
        1 => command("SCAN", [text(&["x", "-"]).boxed()]),
    ];
    let connection = prop_oneof![
        4 => command("MULTI", []),
        4 => command("EXEC", []),
        1 => command("DISCARD", []),
        2 => keys_command("WATCH"),
        1 => command("UNWATCH", []),
        1 => command("PING", []),
        1 => command("PING", [value()]),
        1 => command("ECHO", [value()]),
        1 => command("SELECT", [text(&["0", "16", "x", "99999999999"]).boxed()]),
        1 => command("CLIENT", [text(&["GETNAME", "NOSUCH"]).boxed()]),
        1 => command("CONFIG", [text(&["GET"]).boxed(), text(&["save", "append*y", "q"]).boxed()]),
        1 => command("HELLO", [text(&["4", "x"]).boxed()]),
    ];
    prop_oneof![
        10 => strings,
        6 => numbers,
        6 => keyspace,
        4 => connection,
        3 => unfit(),
        1 => command("FLUSHALL", []),
    ]
    .boxed()
}

/// One of many writes of few keys, most of which change something.
fn contended_command() -> impl Strategy<Value = Args> + Clone {
    let lines: &[&str] = &[
        "SET a 1",
        "SET b 1 NX",
        "SET a 2 XX",
        "SET a 1 XX GET",
        "DEL a",
        "DEL a b",
        "UNLINK b",
        "INCR a",
        "DECRBY b 2",
        "APPEND b x",
        "APPEND b ",
        "SETRANGE a 0 7",
        "SETRANGE a 1 ",
        "EXPIRE a 100",
        "EXPIRE a 0",
        "EXPIRE a 100 NX",
        "PERSIST a",
        "GETEX a EX 100",
        "GETEX a PERSIST",
        "GETEX a",
        "GETDEL a",
        "GETSET a 3",
        "SETNX a 4",
        "SETEX b 100 9",
        "MSETNX a 1 b 2",
        "MSET a 5 b 6",
        "FLUSHALL",
        "GET a",
        "MGET a b",
        "TTL a",
        "INCRBYFLOAT a 0.5",
        "TOUCH a",
        "STRLEN b",
        "SET a 1 KEEPTTL",
        "SELECT 0",
        "PING",
    ];
    select(lines).prop_map(args_of)
}

/// What goes wrong or ends early, now and then.
fn disturbance() -> impl Strategy<Value = Args> + Clone {
    let lines: &[&str] = &[
        "UNWATCH", "MULTI", "EXEC", "DISCARD", "WATCH a", "NOSUCH", "EXEC x", "INCR a b", "WATCH",
    ];
    select(lines).prop_map(args_of)
}

/// Keys are written, watched, perhaps written again by either client, and a transaction follows.
pub(super) fn episode() -> impl Strategy<Value = Vec<Line>> {
    let commands = |count: usize| proptest::collection::vec(contended_command(), 0..count);
    let line = (0usize..2, contended_command()).prop_map(|(client, args)| Line { client, args });
    let disturbances = proptest::collection::vec((0usize..2, 0usize..8, disturbance()), 0..2);
    let watch = text(&["a", "b", "a b", "a a"]);
    (
        commands(3),
        watch,
        proptest::option::of(line),
        commands(3),
        disturbances,
    )
        .prop_map(|(before, watched, between, queued, disturbances)| {
            let first = |args| Line { client: 0, args };
            let watched = std::str::from_utf8(&watched).expect("ASCII");
            let mut lines: Vec<Line> = before.into_iter().map(first).collect();
            lines.push(first(args_of(&format!("WATCH {watched}"))));
            lines.extend(between);
            lines.push(first(args_of("MULTI")));
            lines.extend(queued.into_iter().map(first));
            lines.push(first(args_of("EXEC")));
            lines.push(first(args_of("MGET a b")));
            for (client, position, args) in disturbances {
                lines.insert(position.min(lines.len()), Line { client, args });
            }
            lines
        })
}
