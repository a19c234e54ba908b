//! Requests whose end two parsers could see in different places, and what is no request at all.

use fulmar_protocol::http::Config;

use super::client::{Event, Server, decode};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /k HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         {headers}\r\n\r\n{body}"
    )
}

fn stored(value: &str) -> Event {
    Event::Set {
        key: b"k".to_vec(),
        value: value.into(),
        ttl_ms: None,
        keep: true,
    }
}

/// The only event is a refusal that closes.
fn assert_closes(input: &str, status: u16) {
    let input = format!("{input}{SMUGGLED}{SMUGGLED}");
    assert_eq!(
        decode(input.as_bytes()),
        [Event::Refuse {
            status,
            keep: false
        }],
        "{input}"
    );
}

#[test]
fn ambiguous_lengths_close() {
    let body = r#"{"value":"v"}"#;
    let chunked = "d\r\n{\"value\":\"v\"}\r\n0\r\n\r\n";
    for (headers, body, status) in [
        (
            "Content-Length: 13\r\nTransfer-Encoding: chunked",
            chunked,
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 13",
            chunked,
            400,
        ),
        ("Content-Length: 13\r\nContent-Length: 14", body, 400),
        ("Content-Length: 13\r\nContent-Length: 13", body, 400),
        ("Content-Length: 13, 13", body, 400),
        ("Content-Length: 13,14", body, 400),
        ("Content-Length: +13", body, 400),
        ("Content-Length: -13", body, 400),
        ("Content-Length: 0x0d", body, 400),
        ("Content-Length: 1 3", body, 400),
        ("Content-Length: 13.0", body, 400),
        ("Content-Length: \"13\"", body, 400),
        ("Content-Length:", body, 400),
        ("Content-Length : 13", body, 400),
        ("Content-Length\t: 13", body, 400),
        (" Content-Length: 13", body, 400),
        ("X: y\r\n Content-Length: 13", body, 400),
        ("X: y\r\n\tfolded", body, 400),
        ("X: y\nContent-Length: 13", body, 400),
        ("X: y\rContent-Length: 13", body, 400),
        ("X: y\0\r\nContent-Length: 13", body, 400),
        ("Content-Length: 13\0", body, 400),
        (": 13", body, 400),
        ("Transfer-Encoding: gzip, chunked", chunked, 501),
        ("Transfer-Encoding: chunked, identity", chunked, 501),
        ("Transfer-Encoding: identity", body, 501),
        ("Transfer-Encoding: xchunked", chunked, 501),
        ("Transfer-Encoding: \"chunked\"", chunked, 501),
        ("Transfer-Encoding: chunked;q=1", chunked, 501),
        ("Transfer-Encoding:", chunked, 501),
        ("Transfer-Encoding : chunked", chunked, 400),
        ("Transfer-Encoding: \x0bchunked", chunked, 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            chunked,
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            chunked,
            501,
        ),
        ("Content-Length: 99999999999999999999999999", body, 413),
        ("Content-Length: 18446744073709551615", body, 413),
        ("Content-Length: 536870913", body, 413),
    ] {
        assert_closes(&post(headers, body), status);
    }
    let input = post("Transfer-Encoding: chunked", chunked).replace("HTTP/1.1", "HTTP/1.0");
    assert_closes(&input, 400);
}

#[test]
fn chunked_bodies() {
    for body in [
        "d\r\n{\"value\":\"v\"}\r\n0\r\n\r\n",
        "0D\r\n{\"value\":\"v\"}\r\n00\r\nTrailer: x\r\n\r\n",
        "1;a=b\r\n{\r\nc ; d=\"e\"\r\n\"value\":\"v\"}\r\n0;f\r\n\r\n",
    ] {
        let input = post("transfer-encoding: Chunked", body) + SMUGGLED;
        let next = Event::Get {
            key: b"smuggled".to_vec(),
            keep: true,
        };
        assert_eq!(decode(input.as_bytes()), [stored("v"), next], "{body}");
    }
}

#[test]
fn broken_chunks_close() {
    for body in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x1\r\n",
        " d\r\n{\"value\":\"v\"}\r\n0\r\n\r\n",
        "d\n{\"value\":\"v\"}\r\n0\r\n\r\n",
        "d\r\n{\"value\":\"v\"}0\r\n\r\n",
        "d\r\n{\"value\":\"v\"}\n0\r\n\r\n",
        "d;\n\r\n{\"value\":\"v\"}\r\n0\r\n\r\n",
        "d\r\n{\"value\":\"v\"}\r\n0\r\nTrailer: x\n\r\n",
        "11111111111111111\r\n",
        "d x\r\n{\"value\":\"v\"}\r\n0\r\n\r\n",
        "d\r\n{\"value\":\"v\"}X\r\n0\r\n\r\n",
    ] {
        assert_closes(&post("Transfer-Encoding: chunked", body), 400);
    }
}

#[test]
fn what_is_not_http_closes() {
    for (input, status) in [
        ("*1\r\n$4\r\nPING\r\n", 400),
        ("PING\r\n", 400),
        ("\x16\x03\x01\x02", 400),
        ("GET /\r\n", 400),
        ("GET / k HTTP/1.1\r\n", 400),
        ("GET  /k HTTP/1.1\r\n", 400),
        ("GET /k HTTP/1.1 \r\n", 400),
        ("GET /k HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET /k HTTP/1.1\r\nHost: localhost\n\n", 400),
        ("\nGET /k HTTP/1.1\r\n", 400),
        ("GET /k\0 HTTP/1.1\r\n", 400),
        ("G\0T /k HTTP/1.1\r\n", 400),
        ("GET /k HTTP/1.1\r\nHost localhost\r\n", 400),
        ("GET /k HTTP/1.1\r\nH\u{e9}: localhost\r\n", 400),
        ("GET /k HTTP/2.0\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET /k HTTP/1.2\r\n\r\n", 505),
    ] {
        let events = decode(format!("{input}{SMUGGLED}").as_bytes());
        assert_eq!(
            events,
            [Event::Refuse {
                status,
                keep: false
            }],
            "{input:?}"
        );
    }
}

#[test]
fn what_can_never_be_http_is_refused_before_its_end() {
    for input in [
        "*1\r\n$4\r\nPING\r\n",
        "\x16\x03\x01\x02",
        "GET /k HTTP/3.0\r\n",
    ] {
        let mut server = Server::new(Config::default());
        server.feed(input.as_bytes());
        assert_eq!(server.events.len(), 1, "{input:?}");
    }
}

#[test]
fn hosts_are_exactly_one() {
    for head in [
        "",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: evil\r\n",
    ] {
        assert_closes(&format!("GET /k HTTP/1.1\r\n{head}\r\n"), 400);
    }
}

#[test]
fn refusals_of_head_requests_have_no_body() {
    let mut server = Server::new(Config::default());
    server.feed(b"HEAD /? HTTP/1.1\r\nHost: localhost\r\n\r\nHEAD /k HTTP/1.1\r\n\r\n");
    assert_eq!(server.refusals.len(), 2);
    for refusal in &server.refusals {
        assert!(refusal.ends_with("\r\n\r\n"), "{refusal}");
    }
}
