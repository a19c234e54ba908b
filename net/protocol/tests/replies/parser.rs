//! A naive parser of replies.

use fulmar_protocol::ReplySink;
use fulmar_protocol::resp::{Encoder, RespVersion};

/// A reply of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Verbatim(String),
    Null,
    NullArray,
    Array(Vec<Self>),
    Set(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Reply {
    pub(crate) fn bulk(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }

    /// The value of `key` in a map.
    pub(crate) fn get(&self, key: &str) -> &Self {
        let Self::Map(pairs) = self else {
            panic!("not a map: {self:?}")
        };
        let (_, value) = pairs
            .iter()
            .find(|(name, _)| *name == Self::bulk(key))
            .expect(key);
        value
    }

    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Set(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }
}

/// What `send` replies, which is exactly one reply.
pub(crate) fn one_reply(version: RespVersion, send: impl FnOnce(&mut dyn ReplySink)) -> Reply {
    let mut bytes = Vec::new();
    send(&mut Encoder::new(&mut bytes, version));
    let (reply, rest) = parse(&bytes);
    assert_eq!(rest, b"", "one reply and no more");
    reply
}

/// The first reply in `bytes`, and what follows it.
pub(crate) fn parse(bytes: &[u8]) -> (Reply, &[u8]) {
    let end = bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .expect("a line ends");
    let line = std::str::from_utf8(&bytes[1..end]).expect("a line is text");
    let rest = &bytes[end + 2..];
    let count = || line.parse::<usize>().expect("a count");
    match (bytes[0], line) {
        (b'+', text) => (Reply::Status(text.to_owned()), rest),
        (b'-', text) => (Reply::Error(text.to_owned()), rest),
        (b':', text) => (Reply::Integer(text.parse().expect("an integer")), rest),
        (b'_', "") | (b'$', "-1") => (Reply::Null, rest),
        (b'*', "-1") => (Reply::NullArray, rest),
        (b'$', _) => {
            let (bytes, rest) = body(rest, count());
            (Reply::Bulk(bytes.to_vec()), rest)
        }
        (b'=', _) => {
            let (bytes, rest) = body(rest, count());
            let text = bytes.strip_prefix(b"txt:").expect("text");
            (
                Reply::Verbatim(String::from_utf8(text.to_vec()).expect("text")),
                rest,
            )
        }
        (b'*', _) => {
            let (items, rest) = replies(rest, count());
            (Reply::Array(items), rest)
        }
        (b'~', _) => {
            let (items, rest) = replies(rest, count());
            (Reply::Set(items), rest)
        }
        (b'%', _) => {
            let (items, rest) = replies(rest, 2 * count());
            let pairs = items
                .chunks(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()));
            (Reply::Map(pairs.collect()), rest)
        }
        (kind, _) => panic!("no reply begins with {kind}"),
    }
}

fn body(bytes: &[u8], count: usize) -> (&[u8], &[u8]) {
    assert_eq!(&bytes[count..count + 2], b"\r\n");
    (&bytes[..count], &bytes[count + 2..])
}

fn replies(mut bytes: &[u8], count: usize) -> (Vec<Reply>, &[u8]) {
    let mut items = Vec::new();
    for _ in 0..count {
        let (item, rest) = parse(bytes);
        items.push(item);
        bytes = rest;
    }
    (items, bytes)
}
