//! Each stream gives the same whole, split at each byte, and byte by byte.

use fulmar_protocol::resp::WireError;

use crate::driver::{Driver, Outcome};
use crate::reference;

fn check(stream: &[u8]) -> Vec<Outcome> {
    let value_bytes_max = 64 * 1024;
    let whole = Driver::run(value_bytes_max, [stream]);
    for at in 0..=stream.len() {
        let (left, right) = stream.split_at(at);
        assert_eq!(
            Driver::run(value_bytes_max, [left, right]),
            whole,
            "split at {at}"
        );
    }
    assert_eq!(
        Driver::run(value_bytes_max, stream.chunks(1)),
        whole,
        "byte by byte"
    );
    assert_eq!(
        Driver::run(value_bytes_max, stream.chunks(7)),
        whole,
        "by seven bytes"
    );
    assert_eq!(
        whole,
        reference::parse(stream, value_bytes_max),
        "naive parser"
    );
    whole
}

fn command(args: &[&str]) -> Outcome {
    Outcome::Command(args.iter().map(|arg| arg.as_bytes().to_vec()).collect())
}

#[test]
fn pipelined_frames_and_lines() {
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$11\r\nhello\r\nworl\r\nPING\r\n\r\n*0\r\n*-1\r\n  GET  k \n*1\r\n$0\r\n\r\n";
    assert_eq!(
        check(stream),
        [
            command(&["SET", "k", "hello\r\nworl"]),
            command(&["PING"]),
            command(&["GET", "k"]),
            command(&[""]),
        ]
    );
}

#[test]
fn line_ends_are_as_lax_as_in_redis() {
    assert_eq!(
        check(b"*1\rX$4\rYPINGZZPING\n"),
        [command(&["PING"]), command(&["PING"])]
    );
    assert_eq!(check(b"*1\n$4\nPING\n"), []);
    assert_eq!(
        check(b"*1\r\n$4\nPING\r\n"),
        [Outcome::Error(WireError::BulkLength)]
    );
    assert_eq!(
        check(b"*1\r\r\n$4\r\n"),
        [Outcome::Error(WireError::ExpectedDollar(b'\n'))]
    );
    assert_eq!(
        check(b"*1\r\n\r\n"),
        [Outcome::Error(WireError::ExpectedDollar(b'\r'))]
    );
}

#[test]
fn lengths_are_strict() {
    let count = [Outcome::Error(WireError::MultibulkLength)];
    for text in [
        "-0",
        "01",
        "+1",
        " 1",
        "",
        "a",
        "1a",
        "1048577",
        "9223372036854775808",
        "1\0",
    ] {
        assert_eq!(check(format!("*{text}\r\n").as_bytes()), count, "{text:?}");
    }
    assert_eq!(check(b"*1048576\r\n"), []);
    let length = [Outcome::Error(WireError::BulkLength)];
    for text in [
        "-1",
        "a",
        "",
        "04",
        "+4",
        "4 ",
        "-0",
        "536870913",
        "99999999999999999999",
    ] {
        assert_eq!(
            check(format!("*1\r\n${text}\r\nPING\r\n").as_bytes()),
            length,
            "{text:?}"
        );
    }
    for byte in *b"X:*+\0\xff" {
        let stream = [b"*2\r\n$4\r\nECHO\r\n", &[byte][..], b"5\r\n"].concat();
        assert_eq!(
            check(&stream),
            [Outcome::Error(WireError::ExpectedDollar(byte))]
        );
    }
}

#[test]
fn lines_are_split_as_redis_splits_them() {
    for (line, expected) in [
        (r#"ECHO "a\x41\n\r\t\b\a\q\"""#, "aA\n\r\t\x08\x07q\""),
        (r"ECHO 'a\'b\n'", "a'b\\n"),
        ("ECHO a\"b\"", "ab"),
        ("ECHO a'b'", "ab"),
        ("ECHO \"\"", ""),
        ("ECHO ''", ""),
        (r#"ECHO "\xZZ""#, "xZZ"),
        (r#"ECHO "\x4""#, "x4"),
        ("ECHO a\r", "a"),
        ("ECHO a\x0b\x0c", "a\x0b\x0c"),
        ("ECHO \x0b\x0ca", "a"),
    ] {
        assert_eq!(
            check(format!("{line}\r\n").as_bytes()),
            [command(&["ECHO", expected])]
        );
    }
    for line in [
        "ECHO \"abc",
        "ECHO 'abc",
        "ECHO \"a\"b",
        "ECHO 'a'b",
        r#"ECHO "abc\""#,
        "\"",
    ] {
        let stream = format!("{line}\r\nPING\r\n");
        assert_eq!(
            check(stream.as_bytes()),
            [Outcome::Error(WireError::UnbalancedQuotes)]
        );
    }
    assert_eq!(
        check(b"'' a\r\nPING\r\n"),
        [command(&["", "a"]), command(&["PING"])]
    );
}

#[test]
fn http_closes_the_connection_without_a_word() {
    for stream in [
        "POST / HTTP/1.1\r\n",
        "post\r\n",
        "\"post\" x\r\n",
        "Host: x\r\n",
        "*1\r\n$4\r\nPOST\r\n",
        "*2\r\n$5\r\nhOsT:\r\n$1\r\nx\r\n",
    ] {
        assert_eq!(
            check(stream.as_bytes()),
            [Outcome::Error(WireError::CrossProtocol)]
        );
    }
    assert_eq!(check(b"Host:x\r\n"), [command(&["Host:x"])]);
    let mut reply = Vec::new();
    WireError::CrossProtocol.write_to(&mut reply);
    assert_eq!(reply, b"");
}

#[test]
fn wire_errors_have_redis_text() {
    for (error, expected) in [
        (WireError::MultibulkLength, "invalid multibulk length"),
        (WireError::BulkLength, "invalid bulk length"),
        (WireError::ExpectedDollar(b'X'), "expected '$', got 'X'"),
        (WireError::ExpectedDollar(b'\n'), "expected '$', got ' '"),
        (WireError::ExpectedDollar(b'\r'), "expected '$', got ' '"),
        (
            WireError::MultibulkCountTooBig,
            "too big mbulk count string",
        ),
        (WireError::BulkCountTooBig, "too big bulk count string"),
        (WireError::InlineTooBig, "too big inline request"),
        (WireError::UnbalancedQuotes, "unbalanced quotes in request"),
    ] {
        let mut reply = Vec::new();
        error.write_to(&mut reply);
        assert_eq!(
            reply,
            format!("-ERR Protocol error: {expected}\r\n").as_bytes()
        );
    }
}
