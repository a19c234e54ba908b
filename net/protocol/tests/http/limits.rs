//! Limits at their maximum and one above, and the memory that a decoder takes.

use fulmar_protocol::http::{Config, DRAIN_BYTES_MAX, KEY_BYTES_MAX};

use super::client::{Event, Server, decode_with};

const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn next() -> Event {
    Event::Get {
        key: b"next".to_vec(),
        keep: true,
    }
}

fn refuse(status: u16, keep: bool) -> Event {
    Event::Refuse { status, keep }
}

/// A body of this many bytes, and its value.
fn body(bytes_count: usize) -> (Vec<u8>, Vec<u8>) {
    let value: Vec<u8> = (b'a'..=b'z')
        .cycle()
        .take(bytes_count - r#"{"value":""}"#.len())
        .collect();
    ([br#"{"value":""#, value.as_slice(), b"\"}"].concat(), value)
}

fn stored(value: Vec<u8>) -> Event {
    Event::Set {
        key: b"k".to_vec(),
        value,
        ttl_ms: None,
        keep: true,
    }
}

fn head(framing: &str) -> Vec<u8> {
    format!(
        "POST /k HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    )
    .into_bytes()
}

fn exact(body: &[u8]) -> Vec<u8> {
    [
        head(&format!("Content-Length: {}", body.len())).as_slice(),
        body,
    ]
    .concat()
}

fn chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut input = head("Transfer-Encoding: chunked");
    for chunk in body.chunks(chunk_bytes) {
        input.extend(format!("{:x}\r\n", chunk.len()).bytes());
        input.extend_from_slice(chunk);
        input.extend(b"\r\n");
    }
    input.extend(b"0\r\n\r\n");
    input
}

/// Feeds in pieces as a socket would give them.
fn serve(config: &Config, input: &[u8], piece_bytes: usize) -> Server {
    let mut server = Server::new(config.clone());
    for piece in input.chunks(piece_bytes) {
        server.feed(piece);
    }
    server
}

#[test]
fn small_body_limit() {
    let config = Config {
        body_bytes_max: 40,
        ..Config::default()
    };
    for (bytes_count, is_allowed) in [(39, true), (40, true), (41, false)] {
        let (body, value) = body(bytes_count);
        let expected = if is_allowed {
            stored(value)
        } else {
            refuse(413, true)
        };
        for request in [
            exact(&body),
            chunked(&body, 100),
            chunked(&body, 7),
            chunked(&body, 1),
        ] {
            let input = [&request, NEXT].concat();
            assert_eq!(
                decode_with(&config, &input),
                [expected.clone(), next()],
                "{bytes_count}"
            );
        }
    }
}

#[test]
fn a_mebibyte_body_in_pieces() {
    let config = Config::default();
    let (body, value) = body(config.body_bytes_max);
    for request in [exact(&body), chunked(&body, 65_536), chunked(&body, 1000)] {
        for piece_bytes in [1460, 16_384, 3_000_000] {
            let server = serve(&config, &[&request, NEXT].concat(), piece_bytes);
            assert!(server.events == [stored(value.clone()), next()]);
            assert!(
                server.unconsumed_bytes_max <= 256,
                "{}",
                server.unconsumed_bytes_max
            );
            assert!(server.buffered_bytes_max <= config.body_bytes_max + 64);
            assert_eq!(server.decoder.buffered_bytes(), 0);
        }
    }
}

#[test]
fn a_body_above_the_limit_is_drained_and_refused() {
    let config = Config::default();
    let (body, _) = body(config.body_bytes_max + 1);
    for request in [exact(&body), chunked(&body, 65_536)] {
        let server = serve(&config, &[&request, NEXT].concat(), 16_384);
        assert_eq!(server.events, [refuse(413, true), next()]);
        assert!(server.buffered_bytes_max <= config.body_bytes_max + 64);
    }
    let server = serve(&config, &[&exact(&body), NEXT].concat(), 16_384);
    assert!(
        server.buffered_bytes_max < 64,
        "a declared length alone refuses"
    );
}

#[test]
fn what_is_not_worth_draining_closes() {
    let config = Config::default();
    let declared = |bytes_count: usize| {
        let mut server = Server::new(config.clone());
        server.feed(&head(&format!("Content-Length: {bytes_count}")));
        server.events
    };
    assert_eq!(declared(DRAIN_BYTES_MAX), []);
    assert_eq!(declared(DRAIN_BYTES_MAX + 1), [refuse(413, false)]);

    let (body, _) = body(config.body_bytes_max + DRAIN_BYTES_MAX + 100_000);
    // Chunks declare no sum, so their refusal must not wait for an end that may never come.
    let endless = chunked(&body, 65_536);
    let endless = endless.strip_suffix(b"0\r\n\r\n").expect("the last chunk");
    let mut server = serve(&config, endless, 16_384);
    assert_eq!(server.events, [refuse(413, false)]);
    server.feed(&[b"0\r\n\r\n", NEXT].concat());
    assert_eq!(server.events, [refuse(413, false)]);
    assert_eq!(server.decoder.buffered_bytes(), 0);
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut server = Server::new(Config::default());
    server.feed(&head("Content-Length: 1000000"));
    server.feed(b"{\"value\":\"");
    assert!(server.decoder.is_mid_request());
    assert!(
        server.decoder.buffered_bytes() < 64,
        "{}",
        server.decoder.buffered_bytes()
    );
    for _ in 0..100 {
        server.feed(&[b'x'; 100]);
    }
    assert!(server.decoder.buffered_bytes() < 2 * 10_100);
}

#[test]
fn an_idle_decoder_holds_nothing() {
    let mut server = Server::new(Config::default());
    let requests = [
        "GET /a%20b HTTP/1.1\r\nHost: localhost\r\n\r\n"
            .as_bytes()
            .to_vec(),
        { exact(br#"{"value":"\n"}"#) },
    ];
    for request in requests {
        server.feed(&request);
        assert!(server.buffered_bytes_max > 0);
        server.decoder.release();
        assert_eq!(server.decoder.buffered_bytes(), 0);
    }
}

#[test]
fn head_limit() {
    let config = Config {
        head_bytes_max: 100,
        ..Config::default()
    };
    let head = |bytes_count: usize| {
        let start = "GET /k HTTP/1.1\r\nHost: localhost\r\nX: ";
        format!(
            "{start}{}\r\n\r\n",
            "x".repeat(bytes_count - start.len() - 4)
        )
        .into_bytes()
    };
    let get = Event::Get {
        key: b"k".to_vec(),
        keep: true,
    };
    assert_eq!(
        decode_with(&config, &[&head(100), NEXT].concat()),
        [get, next()]
    );
    assert_eq!(
        decode_with(&config, &[&head(101), NEXT].concat()),
        [refuse(431, false)]
    );
    // One that never ends is refused at the limit.
    assert_eq!(decode_with(&config, &[b'A'; 99]), []);
    assert_eq!(decode_with(&config, &[b'A'; 100]), [refuse(431, false)]);
    assert_eq!(
        decode_with(&config, &b"\r\n".repeat(50)),
        [refuse(431, false)]
    );
}

#[test]
fn headers_count_limit() {
    let head = |count: usize| {
        let headers = "X: y\r\n".repeat(count - 1);
        format!("GET /next HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
    };
    assert_eq!(decode_with(&Config::default(), &head(64)), [next()]);
    assert_eq!(
        decode_with(&Config::default(), &head(65)),
        [refuse(431, false)]
    );
}

#[test]
fn key_limit() {
    let config = Config::default();
    let get = |path: &str| {
        let input = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(
            input.len() < config.head_bytes_max,
            "every key can be named"
        );
        serve(&config, &[input.as_bytes(), NEXT].concat(), 16_384).events
    };
    let key = |bytes_count| Event::Get {
        key: vec![b'a'; bytes_count],
        keep: true,
    };
    assert_eq!(
        get(&"a".repeat(KEY_BYTES_MAX)),
        [key(KEY_BYTES_MAX), next()]
    );
    assert_eq!(
        get(&"%61".repeat(KEY_BYTES_MAX)),
        [key(KEY_BYTES_MAX), next()]
    );
    assert_eq!(
        get(&"a".repeat(KEY_BYTES_MAX + 1)),
        [refuse(414, true), next()]
    );
    assert_eq!(
        get(&"%61".repeat(KEY_BYTES_MAX + 1)),
        [refuse(414, true), next()]
    );
}
