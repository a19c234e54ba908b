//! Every limit at its maximum and one above it.

use fulmar_protocol::resp::{
    ARGUMENT_BYTES_MAX, BULK_BYTES_MAX, Decoded, Decoder, FRAME_BYTES_MAX, INPUT_KEPT_MAX, Slices,
    WireError,
};

use crate::driver::{Driver, Outcome};
use crate::reference;

const VALUE_BYTES_MAX: usize = 100_000;

fn frame(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The one outcome of `args`, which is the same however the frame is cut, and a PING behind it.
fn outcome(args: &[&[u8]]) -> Outcome {
    let stream = [frame(args), b"PING\r\n".to_vec()].concat();
    let expected = reference::parse(&stream, VALUE_BYTES_MAX);
    for size in [1, 1460, 4096, 16_384, 65_535, stream.len()] {
        let outcomes = Driver::run(VALUE_BYTES_MAX, stream.chunks(size));
        assert!(outcomes == expected, "in chunks of {size}");
    }
    let [outcome, Outcome::Command(ping)] = expected.as_slice() else {
        panic!("the connection stays");
    };
    assert_eq!(ping, &[b"PING"]);
    outcome.clone()
}

fn refused(text: &str) -> Outcome {
    Outcome::Refused(text.to_owned())
}

#[test]
fn values_are_borrowed_staged_or_refused_by_length() {
    for bytes_count in [ARGUMENT_BYTES_MAX, ARGUMENT_BYTES_MAX + 1, VALUE_BYTES_MAX] {
        let value = vec![b'v'; bytes_count];
        assert!(
            matches!(outcome(&[b"SET", b"k", &value]), Outcome::Command(_)),
            "{bytes_count}"
        );
        let more: [&[u8]; 5] = [b"SET", b"k", &value, b"EX", b"10"];
        assert!(
            matches!(outcome(&more), Outcome::Command(_)),
            "{bytes_count}"
        );
    }
    let value = vec![b'v'; VALUE_BYTES_MAX + 1];
    assert_eq!(
        outcome(&[b"SET", b"k", &value]),
        refused("ERR value is too long")
    );
    assert_eq!(
        outcome(&[b"SET", b"k", &value, b"NX"]),
        refused("ERR value is too long")
    );
}

#[test]
fn a_value_of_the_maximum_is_staged_and_no_other() {
    let mut decoder = Decoder::new(VALUE_BYTES_MAX);
    let mut slices = Slices::new();
    let begin = |bytes_count: usize| {
        format!("*4\r\n$6\r\nPSETEX\r\n$3\r\nkey\r\n$2\r\n10\r\n${bytes_count}\r\n")
    };
    let input = begin(ARGUMENT_BYTES_MAX + 1);
    let Decoded::StagedBegin {
        spec,
        frame,
        key,
        staged,
        consumed,
    } = decoder.decode(input.as_bytes(), &mut slices)
    else {
        panic!("it is staged");
    };
    assert_eq!(spec.name, "psetex");
    assert_eq!(frame.argv().args, [&b"PSETEX"[..], b"key", b"10"]);
    assert_eq!(key, b"key");
    assert_eq!(
        (staged.position, staged.bytes_count),
        (3, ARGUMENT_BYTES_MAX + 1)
    );
    assert_eq!(consumed, input.len());

    let mut decoder = Decoder::new(VALUE_BYTES_MAX);
    let input = begin(ARGUMENT_BYTES_MAX);
    assert!(matches!(
        decoder.decode(input.as_bytes(), &mut slices),
        Decoded::Need
    ));
}

#[test]
fn several_values_of_one_command_are_staged() {
    let (long, longer) = (vec![b'a'; 20_000], vec![b'b'; 90_000]);
    let args: [&[u8]; 9] = [
        b"MSET", b"1", &long, b"2", b"short", b"3", &longer, b"4", &long,
    ];
    let Outcome::Command(decoded) = outcome(&args) else {
        panic!("it is a command")
    };
    assert!(decoded == args);
    let args: [&[u8]; 5] = [b"MSET", b"1", &long, &long, b"v"];
    assert_eq!(outcome(&args), refused("ERR key is too long"));
}

#[test]
fn long_arguments_that_are_no_values_are_refused() {
    let long = vec![b'x'; ARGUMENT_BYTES_MAX + 1];
    assert_eq!(
        outcome(&[b"SET", &long, b"v"]),
        refused("ERR key is too long")
    );
    assert_eq!(
        outcome(&[b"SET", b"k", b"v", &long]),
        refused("ERR argument is too long")
    );
    assert_eq!(
        outcome(&[b"ECHO", &long]),
        refused("ERR argument is too long")
    );
    let arity = refused("ERR wrong number of arguments for 'set' command");
    assert_eq!(outcome(&[b"SET", &long]), arity);
    let unknown = refused("ERR unknown command 'NOPE', with args beginning with: 'a' ");
    assert_eq!(outcome(&[b"NOPE", b"a", &long, b"b"]), unknown);
    let key = &long[..ARGUMENT_BYTES_MAX];
    assert!(matches!(outcome(&[b"SET", key, b"v"]), Outcome::Command(_)));
}

#[test]
fn a_refused_command_still_ends_the_connection_if_its_rest_is_wrong() {
    let long = vec![b'x'; ARGUMENT_BYTES_MAX + 1];
    let mut stream = frame(&[b"ECHO", &long]);
    stream[1] = b'3';
    stream.extend_from_slice(b"$-1\r\n");
    let outcomes = Driver::run(VALUE_BYTES_MAX, stream.chunks(1000));
    assert_eq!(outcomes, [Outcome::Error(WireError::BulkLength)]);
}

#[test]
fn long_arguments_behind_an_http_name_close_the_connection() {
    let long = vec![b'x'; ARGUMENT_BYTES_MAX + 1];
    let stream = frame(&[b"post", &long]);
    let outcomes = Driver::run(VALUE_BYTES_MAX, stream.chunks(1000));
    assert_eq!(outcomes, [Outcome::Error(WireError::CrossProtocol)]);
}

#[test]
fn announced_lengths_reserve_nothing() {
    let mut driver = Driver::new(BULK_BYTES_MAX);
    driver.feed(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${BULK_BYTES_MAX}\r\n").as_bytes());
    assert!(driver.decoder.buffered_bytes() < 1024);
    driver.feed(&vec![0; 1_000_000]);
    assert!(driver.decoder.buffered_bytes() < 1024);
    assert_eq!(driver.outcomes, []);
    assert!(driver.decoder.is_inside_command());

    let mut driver = Driver::new(BULK_BYTES_MAX);
    driver.feed(b"*1048576\r\n$3\r\nDEL\r\n");
    assert!(driver.decoder.buffered_bytes() < 1024);
}

#[test]
fn commands_of_many_short_arguments_work() {
    let keys: Vec<_> = (0..20_000)
        .map(|n| format!("key:{n}").into_bytes())
        .collect();
    let mut args: Vec<&[u8]> = vec![b"MSET"];
    args.extend(keys.iter().map(Vec::as_slice));
    let Outcome::Command(decoded) = outcome(&args) else {
        panic!("it is a command")
    };
    assert!(decoded == args);
}

#[test]
fn memory_of_a_large_command_is_counted_and_freed() {
    let arg = vec![b'x'; 10_000];
    let mut args: Vec<&[u8]> = vec![b"DEL"];
    args.resize(100, &arg);
    let stream = frame(&args);
    let (begin, end) = stream.split_at(stream.len() - 1);
    let mut driver = Driver::new(VALUE_BYTES_MAX);
    for chunk in begin.chunks(16_384) {
        driver.feed(chunk);
    }
    let held = driver.decoder.buffered_bytes();
    assert!((980_000..2_100_000).contains(&held), "{held}");
    driver.feed(end);
    assert_eq!(driver.outcomes.len(), 1);
    assert_eq!(driver.decoder.buffered_bytes(), 0);
}

#[test]
fn a_command_above_what_may_be_held_is_refused() {
    let arg = vec![b'x'; ARGUMENT_BYTES_MAX];
    let each = ARGUMENT_BYTES_MAX + 4;
    // DEL takes 3 + 4 bytes; so many arguments still fit behind it.
    let fitting = (FRAME_BYTES_MAX - 7) / each;
    for (count, is_held) in [(fitting, true), (fitting + 1, false)] {
        let mut driver = Driver::new(VALUE_BYTES_MAX);
        driver.feed(format!("*{}\r\n$3\r\nDEL\r\n", count + 1).as_bytes());
        let argument = [format!("${}\r\n", arg.len()).as_bytes(), &arg, b"\r\n"].concat();
        for _ in 0..count {
            driver.feed(&argument);
            assert!(driver.decoder.buffered_bytes() < FRAME_BYTES_MAX + 64 * 1024);
        }
        match driver.outcomes.as_slice() {
            [Outcome::Command(args)] => assert!(is_held && args.len() == count + 1),
            [outcome] => assert_eq!(
                (outcome, is_held),
                (&refused("ERR command is too large"), false)
            ),
            _ => panic!("one command, one outcome"),
        }
        driver.feed(b"PING\r\n");
        assert_eq!(driver.outcomes.len(), 2);
    }
}

#[test]
fn an_inline_command_ends_within_the_limit() {
    // Arguments have a limit of their own, so the line is mostly spaces.
    let line = |bytes_count: usize| [&vec![b' '; bytes_count - 5][..], b"PING\n"].concat();
    let ping = Outcome::Command(vec![b"PING".to_vec()]);
    for size in [1000, 65_535, usize::MAX] {
        let outcomes = Driver::run(VALUE_BYTES_MAX, line(INPUT_KEPT_MAX).chunks(size));
        assert_eq!(outcomes, std::slice::from_ref(&ping));
        let outcomes = Driver::run(VALUE_BYTES_MAX, line(INPUT_KEPT_MAX + 1).chunks(size));
        assert_eq!(outcomes, [Outcome::Error(WireError::InlineTooBig)]);
    }
}

#[test]
fn an_inline_argument_is_limited_like_others() {
    let line = |name: &str, bytes_count: usize| {
        format!("{name} {}\r\nPING\r\n", "x".repeat(bytes_count)).into_bytes()
    };
    let run = |line: Vec<u8>| Driver::run(VALUE_BYTES_MAX, [line.as_slice()])[0].clone();
    assert!(matches!(
        run(line("ECHO", ARGUMENT_BYTES_MAX)),
        Outcome::Command(_)
    ));
    let too_long = refused("ERR argument is too long");
    assert_eq!(run(line("ECHO", ARGUMENT_BYTES_MAX + 1)), too_long);
    assert_eq!(
        run(line("ECHO ''", ARGUMENT_BYTES_MAX + 1)).clone(),
        refused("ERR wrong number of arguments for 'echo' command")
    );
}

#[test]
fn lengths_end_within_the_limit() {
    let count = [b"*".to_vec(), vec![b'1'; INPUT_KEPT_MAX]].concat();
    let length = [b"*2\r\n$3\r\nDEL\r\n".to_vec(), vec![b'$'; INPUT_KEPT_MAX]].concat();
    for size in [1000, 65_535, usize::MAX] {
        let outcomes = Driver::run(VALUE_BYTES_MAX, count.chunks(size));
        assert_eq!(outcomes, [Outcome::Error(WireError::MultibulkCountTooBig)]);
        let outcomes = Driver::run(VALUE_BYTES_MAX, length.chunks(size));
        assert_eq!(outcomes, [Outcome::Error(WireError::BulkCountTooBig)]);
    }
    let short = [
        b"*".to_vec(),
        vec![b'1'; INPUT_KEPT_MAX - 10],
        b"\r\n".to_vec(),
    ]
    .concat();
    let outcomes = Driver::run(VALUE_BYTES_MAX, short.chunks(1000));
    assert_eq!(outcomes, [Outcome::Error(WireError::MultibulkLength)]);
}
