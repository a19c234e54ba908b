//! What holds for any key, any value and any way the bytes arrive; and for any bytes at all.

use fulmar_protocol::ReplySink;
use fulmar_protocol::http::{Config, Encoder, Persistence, ReplyForm, ReplyKind};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::Index;

use super::client::{Event, Response, Server, decode_whole};

/// Pieces of requests, good and bad, for streams of them.
const FRAGMENTS: &[&str] = &[
    "GET /k HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /k HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
     Content-Length: 22\r\n\r\n{\"value\":\"\\n\",\"ttl\":1}",
    "PUT /%41 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
     Transfer-Encoding: chunked\r\n\r\n6\r\n{\"valu\r\n7\r\ne\":\"v\"}\r\n0\r\nT: x\r\n\r\n",
    "DELETE /k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab",
    "HEAD /-/metrics?x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /k HTTP/1.1\r\nHost: evil\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "\r\n\r\n",
    "ffffffffffffffff\r\n",
    "%",
    "\n",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let fragments = vec(
        (0..FRAGMENTS.len()).prop_map(|index| FRAGMENTS[index]),
        1..6,
    );
    // Bytes that have a meaning somewhere, and any others.
    let byte = prop_oneof![
        Just(b'\r'),
        Just(b'\n'),
        Just(b' '),
        Just(b'0'),
        Just(b':'),
        any::<u8>()
    ];
    let mutation = (any::<Index>(), 0..4, byte);
    (fragments, vec(mutation, 0..4)).prop_map(|(fragments, mutations)| {
        let mut bytes = fragments.concat().into_bytes();
        for (position, operation, byte) in mutations {
            let position = position.index(bytes.len() + 1);
            match operation {
                0 => bytes.insert(position, byte),
                1 if position < bytes.len() => bytes[position] = byte,
                2 if position < bytes.len() => drop(bytes.remove(position)),
                _ => bytes.truncate(position),
            }
        }
        bytes
    })
}

/// Feeds pieces whose lengths are taken from `lengths` in turn.
fn serve_in_pieces(input: &[u8], lengths: &[usize]) -> Vec<Event> {
    let mut server = Server::new(Config::default());
    let mut rest = input;
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at((*length).min(rest.len()));
        server.feed(piece);
        rest = tail;
    }
    server.events
}

/// The event of a refusal that ends the connection, of whatever status: which of several mistakes
/// is found first depends on what is there of the request.
const CLOSES: Event = Event::Refuse {
    status: 0,
    keep: false,
};

/// The events without what depends on the way the bytes arrived.
fn comparable(events: Vec<Event>) -> Vec<Event> {
    let is_refusal = |event: &Event| matches!(event, Event::Refuse { keep: false, .. });
    let events = events.into_iter().filter(|event| *event != Event::Continue);
    events
        .map(|event| if is_refusal(&event) { CLOSES } else { event })
        .collect()
}

proptest! {
    #[test]
    fn any_bytes_mean_the_same_however_they_arrive(
        input in stream(),
        lengths in vec(1_usize..40, 1..10),
    ) {
        let whole = comparable(decode_whole(&Config::default(), &input));
        let mut pieces = comparable(serve_in_pieces(&input, &lengths));
        // What can never become a request is refused at the latest when its length has doubled.
        if pieces.len() < whole.len() && whole.last() == Some(&CLOSES) {
            pieces.push(CLOSES);
        }
        assert_eq!(pieces, whole);
    }

    #[test]
    fn noise_never_panics(input in vec(any::<u8>(), 0..300), length in 1_usize..20) {
        serve_in_pieces(&input, &[length]);
    }

    #[test]
    fn any_key_and_value_survive(
        key in vec(any::<u8>(), 1..40),
        value in any::<String>(),
        control in vec(0_u8..0x80, 0..20),
        ttl_ms in 1_i64..=4_294_967_295_000,
        lengths in vec(1_usize..40, 1..10),
        is_chunked in any::<bool>(),
    ) {
        let key = if key.starts_with(b"-/") { b"k".to_vec() } else { key };
        let value = value + &String::from_utf8(control).unwrap();
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let ttl = ttl_ms as f64 / 1000.0;
        let body = serde_json::json!({ "value": value, "ttl": ttl }).to_string();
        let path = percent_encode(&key, NON_ALPHANUMERIC);
        let (length, body) = if is_chunked {
            let body = format!("{:X}\r\n{body}\r\n0\r\n\r\n", body.len());
            ("Transfer-Encoding: chunked".to_owned(), body)
        } else {
            (format!("Content-Length: {}", body.len()), body)
        };
        let input = format!(
            "POST /{path} HTTP/1.1\r\nHost: [::1]\r\ncontent-type: application/json\r\n\
             {length}\r\n\r\n{body}"
        );
        let events = serve_in_pieces(input.as_bytes(), &lengths);
        let bytes = value.clone().into_bytes();
        let expected = Event::Set { key, value: bytes, ttl_ms: Some(ttl_ms), keep: true };
        assert_eq!(events, [expected]);

        let form = ReplyForm {
            kind: ReplyKind::Get,
            persistence: Persistence::Implied,
            head_only: false,
        };
        let mut out = Vec::new();
        Encoder::new(form, &mut out).bulk(value.as_bytes());
        assert_eq!(Response::parse(&out, true).json(), serde_json::json!({ "value": value }));
    }

    #[test]
    fn any_bytes_survive_as_text_or_base64(value in vec(any::<u8>(), 0..100)) {
        let form = ReplyForm {
            kind: ReplyKind::Get,
            persistence: Persistence::Implied,
            head_only: false,
        };
        let mut out = Vec::new();
        Encoder::new(form, &mut out).bulk(&value);
        let json = Response::parse(&out, true).json();
        let decoded = match (json.get("value"), json.get("value_base64")) {
            (Some(text), None) => text.as_str().unwrap().as_bytes().to_vec(),
            (None, Some(digits)) => from_base64(digits.as_str().unwrap()),
            _ => panic!("{json}"),
        };
        assert_eq!(decoded, value);
    }
}

/// The naive way, to check the other.
fn from_base64(digits: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = digits
        .trim_end_matches('=')
        .chars()
        .map(|digit| format!("{:06b}", ALPHABET.find(digit).expect("a digit")))
        .collect();
    (0..bits.len() / 8)
        .map(|index| u8::from_str_radix(&bits[index * 8..index * 8 + 8], 2).expect("bits"))
        .collect()
}
