//! Versions that are to understand each other, and strangers that are not heard.

use fulmar_protocol::node::{
    Decoded, Decoder, Frame, Goodbye, HEADER_BYTES, HELLO_BYTES_MAX, Hello, Identity, Proof,
    Purpose, Versions, WireError,
};

use crate::samples::{Sample, decode_one, open, seal};

const HELLO: Hello = Hello {
    versions: Versions {
        min: 1,
        max: 2,
        features: 0b101,
    },
    identity: Identity {
        cluster: 0x1122_3344_5566_7788,
        node: 9,
        incarnation: 3,
        cores: 4,
        core: 1,
    },
    purpose: Purpose::Replicate,
    challenge: [0xab; 32],
};

#[test]
fn hello_has_these_bytes_in_every_version() {
    let bytes = Sample::Hello(HELLO).encode();
    let body: Vec<u8> = [
        &b"FLMR\x01\0\x02\0\x05\0\0\0\0\0\0\0"[..],
        &[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
        &[
            9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 2,
        ],
        &[0xab; 32],
    ]
    .concat();
    assert_eq!(bytes, seal(1, 0, 0, &body));
}

#[test]
fn what_a_newer_version_appends_to_a_greeting_is_passed_over() {
    let mut body = Sample::Hello(HELLO).encode()[HEADER_BYTES..].to_vec();
    body.resize(HELLO_BYTES_MAX, 0x77);
    assert_eq!(decode_one(&seal(1, 0, 0, &body)), Frame::Hello(HELLO));
    body.push(0);
    let decoded =
        Decoder::new().decode(&seal(1, 0, 0, &body)) == Decoded::Error(WireError::TooLong);
    assert!(decoded);
}

#[test]
fn a_greeting_of_something_else_is_none() {
    let mut body = Sample::Hello(HELLO).encode()[HEADER_BYTES..].to_vec();
    body[0] = b'X';
    let bytes = seal(1, 0, 0, &body);
    assert_eq!(
        Decoder::new().decode(&bytes),
        Decoded::Error(WireError::Magic)
    );
    for strange in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n\r\n\r\n",
    ] {
        assert!(matches!(Decoder::new().decode(strange), Decoded::Error(_)));
    }
}

#[test]
fn versions_and_cores_that_cannot_be_are_refused() {
    let with = |change: fn(&mut Hello)| {
        let mut hello = HELLO;
        change(&mut hello);
        let bytes = Sample::Hello(hello).encode();
        matches!(
            Decoder::new().decode(&bytes),
            Decoded::Error(WireError::Malformed)
        )
    };
    assert!(with(|hello| hello.versions.min = 3));
    assert!(with(|hello| hello.identity.core = 4));
    assert!(with(|hello| hello.identity.cores = 0));
    assert!(!with(|_| {}));
}

#[test]
fn before_the_greeting_is_over_nothing_else_is_heard() {
    let decoder = Decoder::new();
    for sample in [
        Sample::Hello(HELLO),
        Sample::Proof(Proof([1; 16])),
        Sample::Goodbye(Goodbye::Version),
    ] {
        let bytes = sample.encode();
        assert!(matches!(decoder.decode(&bytes), Decoded::Frame { .. }));
    }
    // Refused by the header alone: nobody waits for a stranger's body.
    let control = Sample::Control(vec![0; 100_000]).encode();
    for input in [&control[..], &control[..HEADER_BYTES]] {
        assert_eq!(decoder.decode(input), Decoded::Error(WireError::TooEarly));
    }
    let ping = Sample::Ping(1).encode();
    assert_eq!(decoder.decode(&ping), Decoded::Error(WireError::TooEarly));
    assert!(matches!(open().decode(&ping), Decoded::Frame { .. }));
}

#[test]
fn unknown_kinds_are_passed_over_only_where_they_say_so() {
    let skippable = seal(99, 0x80, 5, &[1, 2, 3]);
    let consumed = skippable.len();
    assert_eq!(open().decode(&skippable), Decoded::Skip { consumed });
    assert_eq!(
        Decoder::new().decode(&skippable),
        Decoded::Skip { consumed }
    );
    let needed = seal(99, 0, 5, &[1, 2, 3]);
    assert_eq!(
        open().decode(&needed),
        Decoded::Error(WireError::UnknownKind(99))
    );
    let mut damaged = skippable.clone();
    damaged[HEADER_BYTES] ^= 1;
    assert_eq!(open().decode(&damaged), Decoded::Error(WireError::Checksum));
    // Flags that a kind does not have, even the one that others may be passed over by.
    for flags in [0x80, 0x40, 1] {
        let ping = seal(5, flags, 0, &[0; 8]);
        assert_eq!(
            open().decode(&ping),
            Decoded::Error(WireError::UnknownFlags)
        );
    }
    let long = seal(99, 0x80, 0, &vec![0; HELLO_BYTES_MAX + 1]);
    assert_eq!(
        Decoder::new().decode(&long),
        Decoded::Error(WireError::TooLong)
    );
    assert!(matches!(open().decode(&long), Decoded::Skip { .. }));
}

#[test]
fn what_has_no_stream_names_none() {
    let ping = seal(5, 0, 1, &[0; 8]);
    assert_eq!(open().decode(&ping), Decoded::Error(WireError::Malformed));
}
