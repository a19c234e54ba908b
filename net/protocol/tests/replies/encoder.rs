//! The encoder's bytes.

use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_protocol::{CommandError, ReplySink};
use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use crate::parser::{Reply, one_reply};

fn bytes(version: RespVersion, send: impl FnOnce(&mut dyn ReplySink)) -> String {
    let mut out = b"before".to_vec();
    send(&mut Encoder::new(&mut out, version));
    let text = String::from_utf8(out).expect("text");
    text.strip_prefix("before")
        .expect("what was there stays")
        .to_owned()
}

#[test]
fn replies_are_the_bytes_of_redis() {
    type Send = fn(&mut dyn ReplySink);
    let cases: [(Send, &str, &str); 19] = [
        (|reply| reply.ok(), "+OK\r\n", "+OK\r\n"),
        (|reply| reply.status("PONG"), "+PONG\r\n", "+PONG\r\n"),
        (
            |reply| reply.error(&CommandError::Syntax),
            "-ERR syntax error\r\n",
            "-ERR syntax error\r\n",
        ),
        (|reply| reply.null(), "$-1\r\n", "_\r\n"),
        (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
        (|reply| reply.integer(0), ":0\r\n", ":0\r\n"),
        (|reply| reply.integer(-2), ":-2\r\n", ":-2\r\n"),
        (
            |reply| reply.integer(i64::MIN),
            ":-9223372036854775808\r\n",
            ":-9223372036854775808\r\n",
        ),
        (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (
            |reply| reply.bulk(b"a\r\nb"),
            "$4\r\na\r\nb\r\n",
            "$4\r\na\r\nb\r\n",
        ),
        (
            |reply| reply.bulk_parts(5, &mut [&b"ab"[..], b"", b"cde"].into_iter()),
            "$5\r\nabcde\r\n",
            "$5\r\nabcde\r\n",
        ),
        (
            |reply| reply.bulk_parts(0, &mut std::iter::empty()),
            "$0\r\n\r\n",
            "$0\r\n\r\n",
        ),
        (|reply| reply.array(0), "*0\r\n", "*0\r\n"),
        (|reply| reply.array(12), "*12\r\n", "*12\r\n"),
        (|reply| reply.set(3), "*3\r\n", "~3\r\n"),
        (|reply| reply.map(0), "*0\r\n", "%0\r\n"),
        (|reply| reply.map(7), "*14\r\n", "%7\r\n"),
        (|reply| reply.verbatim(""), "$0\r\n\r\n", "=4\r\ntxt:\r\n"),
        (
            |reply| reply.verbatim("a\r\n"),
            "$3\r\na\r\n\r\n",
            "=7\r\ntxt:a\r\n\r\n",
        ),
    ];
    for (send, resp2, resp3) in cases {
        assert_eq!(bytes(RespVersion::Resp2, send), resp2);
        assert_eq!(bytes(RespVersion::Resp3, send), resp3);
    }
}

#[test]
fn a_bulk_sent_around_its_bytes_is_a_bulk() {
    let mut out = Vec::new();
    Encoder::new(&mut out, RespVersion::Resp2).bulk_begin(5);
    out.extend_from_slice(b"value");
    Encoder::new(&mut out, RespVersion::Resp2).bulk_end();
    assert_eq!(out, b"$5\r\nvalue\r\n");
}

fn send(reply: &Reply, sink: &mut dyn ReplySink) {
    match reply {
        Reply::Status(text) => sink.status(text),
        Reply::Error(_) => sink.error(&CommandError::Syntax),
        Reply::Integer(value) => sink.integer(*value),
        Reply::Bulk(bytes) => sink.bulk_parts(bytes.len(), &mut bytes.chunks(3)),
        Reply::Verbatim(text) => sink.verbatim(text),
        Reply::Null => sink.null(),
        Reply::NullArray => sink.null_array(),
        Reply::Array(items) => {
            sink.array(items.len());
            items.iter().for_each(|item| send(item, sink));
        }
        Reply::Set(items) => {
            sink.set(items.len());
            items.iter().for_each(|item| send(item, sink));
        }
        Reply::Map(pairs) => {
            sink.map(pairs.len());
            for (key, value) in pairs {
                send(key, sink);
                send(value, sink);
            }
        }
    }
}

/// What RESP2 makes of a reply.
fn flattened(reply: &Reply) -> Reply {
    match reply {
        Reply::Verbatim(text) => Reply::bulk(text),
        Reply::Array(items) | Reply::Set(items) => {
            Reply::Array(items.iter().map(flattened).collect())
        }
        Reply::Map(pairs) => Reply::Array(
            pairs
                .iter()
                .flat_map(|(key, value)| [flattened(key), flattened(value)])
                .collect(),
        ),
        other => other.clone(),
    }
}

fn reply() -> BoxedStrategy<Reply> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(Reply::Status),
        Just(Reply::Error("ERR syntax error".to_owned())),
        any::<i64>().prop_map(Reply::Integer),
        vec(any::<u8>(), 0..40).prop_map(Reply::Bulk),
        "[ -~\r\n]{0,12}".prop_map(Reply::Verbatim),
        Just(Reply::Null),
    ];
    let tree = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Reply::Array),
            vec(inner.clone(), 0..5).prop_map(Reply::Set),
            vec((inner.clone(), inner), 0..5).prop_map(Reply::Map),
        ]
    });
    tree.boxed()
}

proptest! {
    #[test]
    fn what_is_encoded_is_read_again(reply in reply()) {
        prop_assert_eq!(&one_reply(RespVersion::Resp3, |sink| send(&reply, sink)), &reply);
        let resp2 = one_reply(RespVersion::Resp2, |sink| send(&reply, sink));
        prop_assert_eq!(resp2, flattened(&reply));
    }
}
