//! What well-framed requests mean.

use std::slice;
use std::sync::Arc;

use fulmar_protocol::command::{DataCommand, SetCondition, SetReply};
use fulmar_protocol::http::{
    CONTINUE, Config, Decoded, Decoder, KnownHosts, Page, Persistence, ReplyForm, ReplyKind,
    Request,
};

use super::client::{Event, Server, decode, decode_with};

fn get(key: &str) -> Event {
    Event::Get {
        key: key.as_bytes().to_vec(),
        keep: true,
    }
}

fn set(key: &str, value: &str, ttl_ms: Option<i64>) -> Event {
    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    Event::Set {
        key,
        value,
        ttl_ms,
        keep: true,
    }
}

fn refuse(status: u16) -> Event {
    Event::Refuse { status, keep: true }
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn post(body: &str) -> String {
    format!(
        "POST /k HTTP/1.1\r\nHost: localhost:8379\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_pipeline_of_all_requests() {
    let input = [
        request("GET /k"),
        post(r#"{"value": "v", "ttl": 10}"#),
        post(r#"{"value": "w"}"#).replace("POST", "PUT"),
        request("DELETE /k"),
        request("HEAD /k"),
        request("GET /-/healthz"),
        request("HEAD /-/readyz?verbose=1"),
        request("GET /-/metrics"),
        // Blank lines before a request are skipped.
        format!("\r\n\r\n{}", request("GET /last")),
    ];
    let page = |page| Event::Page { page, keep: true };
    assert_eq!(
        decode(input.concat().as_bytes()),
        [
            get("k"),
            set("k", "v", Some(10_000)),
            set("k", "w", None),
            Event::Delete {
                key: b"k".to_vec(),
                keep: true
            },
            get("k"),
            page(Page::Healthz),
            page(Page::Readyz),
            page(Page::Metrics),
            get("last"),
        ]
    );
}

#[test]
fn commands_are_those_that_shards_execute() {
    let input = [
        request("GET /k"),
        post(r#"{"value": "v"}"#),
        request("DELETE /k"),
    ]
    .concat();
    let mut decoder = Decoder::new(Arc::new(Config::default()));
    let (mut rest, mut seen) = (input.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let Decoded::Request {
            request: Request::Command(command),
            form,
            consumed,
        } = decoder.decode(rest)
        else {
            panic!("three commands")
        };
        assert_eq!(command.key(), b"k");
        match command.as_data() {
            DataCommand::Get { key: b"k" } => {}
            DataCommand::Set(set) => {
                assert_eq!(
                    (set.condition, set.reply),
                    (SetCondition::Always, SetReply::Ok)
                );
            }
            DataCommand::Del { keys: [b"k"] } => {}
            other => panic!("{other:?}"),
        }
        seen.push(form.kind);
        rest = &rest[consumed..];
    }
    assert_eq!(seen, [ReplyKind::Get, ReplyKind::Set, ReplyKind::Delete]);
}

#[test]
fn keys_are_whole_decoded_paths() {
    for (path, key) in [
        ("/a/b%20c", &b"a/b c"[..]),
        ("//", b"/"),
        ("/%00%ff%25", b"\0\xff%"),
        ("/a+b&c=d;e", b"a+b&c=d;e"),
        ("/%3F%23", b"?#"),
        ("/-", b"-"),
        ("/-x/", b"-x/"),
        ("/x-/metrics", b"x-/metrics"),
        ("/../a/./b", b"../a/./b"),
        ("http://LOCALHOST:1/a%2fb", b"a/b"),
    ] {
        let expected = Event::Get {
            key: key.to_vec(),
            keep: true,
        };
        assert_eq!(
            decode(request(&format!("GET {path}")).as_bytes()),
            [expected],
            "{path}"
        );
    }
}

#[test]
fn bad_paths_are_refused_and_the_connection_stays() {
    for (path, status) in [
        ("/", 400),
        ("http://localhost", 400),
        ("/a%", 400),
        ("/a%2", 400),
        ("/a%zz", 400),
        ("/a%2%20", 400),
        ("/a?ttl=1", 400),
        ("/?", 400),
        ("/a#b", 400),
        ("*", 400),
        ("a", 400),
        ("https://localhost/a", 400),
        ("http://a@localhost/a", 400),
        ("http://evil.example/a", 421),
        ("/-/", 404),
        ("/-/nothing", 404),
        ("/-/healthz/", 404),
        ("/-/Healthz", 404),
        ("/%2D/nothing", 404),
    ] {
        let input = request(&format!("GET {path}")) + &request("GET /next");
        assert_eq!(
            decode(input.as_bytes()),
            [refuse(status), get("next")],
            "{path}"
        );
    }
}

#[test]
fn no_spelling_of_a_page_is_a_key() {
    for path in [
        "/-/healthz",
        "/%2D/healthz",
        "/-%2fhealthz",
        "/%2d%2Fhealthz",
        "/-/health%7a",
    ] {
        let page = Event::Page {
            page: Page::Healthz,
            keep: true,
        };
        assert_eq!(
            decode(request(&format!("GET {path}")).as_bytes()),
            [page],
            "{path}"
        );
        for method in ["POST", "PUT"] {
            let input = post("{\"value\":\"v\"}").replace("POST /k", &format!("{method} {path}"));
            assert_eq!(decode(input.as_bytes()), [refuse(405)], "{method} {path}");
        }
        let input = request(&format!("DELETE {path}"));
        assert_eq!(decode(input.as_bytes()), [refuse(405)], "{path}");
    }
}

#[test]
fn other_methods_are_refused_with_allow() {
    for (line, allow) in [
        ("OPTIONS /k", "GET, HEAD, POST, PUT, DELETE"),
        ("OPTIONS *", "GET, HEAD, POST, PUT, DELETE"),
        ("PATCH /k", "GET, HEAD, POST, PUT, DELETE"),
        ("get /k", "GET, HEAD, POST, PUT, DELETE"),
        ("CONNECT localhost:1", "GET, HEAD, POST, PUT, DELETE"),
        ("OPTIONS /-/metrics", "GET, HEAD"),
        ("DELETE /-/metrics", "GET, HEAD"),
    ] {
        let input = request(line) + &request("GET /next");
        assert_eq!(
            decode(input.as_bytes()),
            [refuse(405), get("next")],
            "{line}"
        );
        let mut server = Server::new(Config::default());
        server.feed(input.as_bytes());
        assert!(
            server.refusals[0].contains(&format!("\r\nAllow: {allow}\r\n")),
            "{line}"
        );
    }
}

#[test]
fn bodies() {
    for (body, value, ttl_ms) in [
        (r#"{"value":""}"#, "", None),
        (r#" { "ttl" : null , "value" : "v" } "#, "v", None),
        (
            r#"{"value":"\u0000\"\\\/\n\ud83d\ude00"}"#,
            "\0\"\\/\n\u{1f600}",
            None,
        ),
        (r#"{"v\u0061lue":"v"}"#, "v", None),
        ("{\"value\":\"\u{e9}\u{7f}\"}", "\u{e9}\u{7f}", None),
        (r#"{"value":"v","ttl":1}"#, "v", Some(1000)),
        (r#"{"value":"v","ttl":1.0}"#, "v", Some(1000)),
        (r#"{"value":"v","ttl":1e1}"#, "v", Some(10_000)),
        (r#"{"value":"v","ttl":0.0005}"#, "v", Some(1)),
        (r#"{"value":"v","ttl":1.2346}"#, "v", Some(1235)),
        (
            r#"{"value":"v","ttl":4294967295}"#,
            "v",
            Some(4_294_967_295_000),
        ),
        (
            r#"{"value":"v","ttl":4294967295.0}"#,
            "v",
            Some(4_294_967_295_000),
        ),
    ] {
        assert_eq!(
            decode(post(body).as_bytes()),
            [set("k", value, ttl_ms)],
            "{body}"
        );
    }
}

#[test]
fn bad_bodies_are_refused_and_the_connection_stays() {
    for (body, message) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("value=v", "expected"),
        ("{}", "missing"),
        ("null", "an object"),
        ("\"v\"", "an object"),
        (r#"["v"]"#, "an object"),
        (r#"["v", 1]"#, "an object"),
        (r#"{"value":1}"#, "a string"),
        (r#"{"value":null}"#, "a string"),
        (r#"{"value":["v"]}"#, "a string"),
        (r#"{"value":"v","other":1}"#, "known"),
        (r#"{"value":"v","Value":"v"}"#, "known"),
        (r#"{"value":"v","value":"v"}"#, "twice"),
        (r#"{"value":"v","ttl":1,"ttl":1}"#, "twice"),
        (r#"{"value":"v","ttl":null,"ttl":1}"#, "twice"),
        (r#"{"value":"v"}{"#, "trailing"),
        (r#"{"value":"v",}"#, "trailing"),
        (r#"{"value":"\ud800"}"#, "hex escape"),
        ("{\"value\":\"a\nb\"}", "control"),
        (r#"{"value":"v","ttl":0}"#, "from 0.001"),
        (r#"{"value":"v","ttl":-0.0}"#, "from 0.001"),
        (r#"{"value":"v","ttl":-1}"#, "from 0.001"),
        (r#"{"value":"v","ttl":0.0004}"#, "from 0.001"),
        (r#"{"value":"v","ttl":4294967296}"#, "from 0.001"),
        (r#"{"value":"v","ttl":4294967295.001}"#, "from 0.001"),
        (r#"{"value":"v","ttl":18446744073709551616}"#, "from 0.001"),
        (r#"{"value":"v","ttl":1e300}"#, "from 0.001"),
        (r#"{"value":"v","ttl":1e999}"#, "out of range"),
        (r#"{"value":"v","ttl":"1"}"#, "a number of seconds"),
        (r#"{"value":"v","ttl":true}"#, "a number of seconds"),
        (r#"{"value":"v","ttl":[1]}"#, "a number of seconds"),
        (r#"{"value":"v","ttl":{}}"#, "a number of seconds"),
    ] {
        let input = post(body) + &request("GET /next");
        assert_eq!(
            decode(input.as_bytes()),
            [refuse(400), get("next")],
            "{body}"
        );
        let mut server = Server::new(Config::default());
        server.feed(input.as_bytes());
        assert!(
            server.refusals[0].contains(message),
            "{body}: {}",
            server.refusals[0]
        );
    }
    let head = post("{\"value\":\"ab\"}");
    let invalid = [&head.as_bytes()[..head.len() - 4], b"\xff\xfe\"}"].concat();
    assert_eq!(decode(&invalid), [refuse(400)]);
}

#[test]
fn messages_repeat_no_long_input() {
    for body in [
        format!(r#"{{"value":"v","ttl":"{}"}}"#, "x".repeat(10_000)),
        format!(r#"{{"value":"v","{}":1}}"#, "x".repeat(10_000)),
        format!(r#""{}""#, "x".repeat(10_000)),
    ] {
        let mut server = Server::new(Config::default());
        server.feed(post(&body).as_bytes());
        assert_eq!(server.events, [refuse(400)]);
        assert!(
            server.refusals[0].len() < 500,
            "{}",
            server.refusals[0].len()
        );
    }
}

#[test]
fn only_json_is_stored() {
    for (content_type, is_known) in [
        ("application/json", true),
        ("Application/JSON; charset=utf-8", true),
        ("application/json;x", true),
        ("application/jsonp", false),
        ("application/x-www-form-urlencoded", false),
        ("text/plain; application/json", false),
        ("multipart/form-data", false),
        ("", false),
        ("application/json\r\nContent-Type: application/json", false),
        ("text/plain\r\nContent-Type: application/json", false),
    ] {
        let input = post(r#"{"value":"v"}"#).replace("application/json", content_type)
            + &request("GET /next");
        let expected = if is_known {
            set("k", "v", None)
        } else {
            refuse(415)
        };
        assert_eq!(
            decode(input.as_bytes()),
            [expected, get("next")],
            "{content_type}"
        );
    }
    let input = post("").replace("Content-Type: application/json\r\n", "");
    assert_eq!(decode(input.as_bytes()), [refuse(415)]);
}

#[test]
fn methods_without_a_body_refuse_one() {
    for method in ["GET", "HEAD", "DELETE"] {
        let line = format!("{method} /k HTTP/1.1\r\nHost: localhost\r\n");
        let input = format!("{line}Content-Length: 3\r\n\r\nabc") + &request("GET /next");
        assert_eq!(decode(input.as_bytes()), [refuse(400), get("next")]);
        let input =
            format!("{line}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") + &request("GET /next");
        assert_eq!(decode(input.as_bytes()), [refuse(400), get("next")]);
        let input = format!("{line}Content-Length: 0\r\n\r\n") + &request("GET /next");
        assert_eq!(decode(input.as_bytes())[1..], [get("next")]);
    }
}

#[test]
fn hosts() {
    let mut known_hosts = KnownHosts::default();
    known_hosts.add("cache.internal");
    let config = Config {
        known_hosts,
        ..Config::default()
    };
    for (host, expected) in [
        ("localhost", get("k")),
        ("localhost:1", get("k")),
        ("127.0.0.1:8379", get("k")),
        ("[::1]:8379", get("k")),
        ("Cache.Internal", get("k")),
        ("evil.example", refuse(421)),
        ("evil.example:8379", refuse(421)),
        ("localhost.evil.example", refuse(421)),
        ("192.168.0.1", refuse(421)),
        ("", refuse(400)),
        ("localhost:port", refuse(400)),
        ("user@localhost", refuse(400)),
    ] {
        let input = format!(
            "GET /k HTTP/1.1\r\nHost: {host}\r\n\r\n{}",
            request("GET /next")
        );
        assert_eq!(
            decode_with(&config, input.as_bytes()),
            [expected, get("next")],
            "{host}"
        );
    }
    // The host in the target goes before the header.
    let input = request("GET http://evil.example/k");
    assert_eq!(decode(input.as_bytes()), [refuse(421)]);
    let input = request("GET http://127.0.0.1/k").replace("localhost", "evil.example");
    assert_eq!(decode(input.as_bytes()), [get("k")]);
}

#[test]
fn connections_stay_as_the_version_and_header_say() {
    let form = |head: &str| {
        let input = format!("GET /k {head}\r\n\r\n");
        match Decoder::new(Arc::new(Config::default())).decode(input.as_bytes()) {
            Decoded::Request { form, .. } => form.persistence,
            other => panic!("{head}: {other:?}"),
        }
    };
    for (head, persistence) in [
        ("HTTP/1.1\r\nHost: localhost", Persistence::Implied),
        (
            "HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive",
            Persistence::Implied,
        ),
        (
            "HTTP/1.1\r\nHost: localhost\r\nConnection: Close",
            Persistence::Close,
        ),
        (
            "HTTP/1.1\r\nHost: localhost\r\nConnection: foo , close,bar",
            Persistence::Close,
        ),
        (
            "HTTP/1.1\r\nHost: localhost\r\nConnection: x\r\nConnection: close",
            Persistence::Close,
        ),
        (
            "HTTP/1.1\r\nHost: localhost\r\nConnection: closed",
            Persistence::Implied,
        ),
        ("HTTP/1.0", Persistence::Close),
        (
            "HTTP/1.0\r\nHost: localhost\r\nConnection: Keep-Alive",
            Persistence::KeepAlive,
        ),
        (
            "HTTP/1.0\r\nConnection: keep-alive, close",
            Persistence::Close,
        ),
    ] {
        assert_eq!(form(head), persistence, "{head}");
    }
}

#[test]
fn nothing_is_decoded_after_a_close() {
    let next = request("GET /next");
    let last = Event::Get {
        key: b"k".to_vec(),
        keep: false,
    };
    for head in [
        "HTTP/1.0\r\n\r\n",
        "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        let input = format!("GET /k {head}{next}");
        assert_eq!(decode(input.as_bytes()), slice::from_ref(&last));
        let input = format!("GET /? {head}{next}");
        assert_eq!(
            decode(input.as_bytes()),
            [Event::Refuse {
                status: 400,
                keep: false
            }]
        );
    }
}

#[test]
fn the_form_of_a_head_request_has_no_body() {
    let mut decoder = Decoder::new(Arc::new(Config::default()));
    let input = request("HEAD /k");
    let Decoded::Request { form, .. } = decoder.decode(input.as_bytes()) else {
        panic!()
    };
    let persistence = Persistence::Implied;
    assert_eq!(
        form,
        ReplyForm {
            kind: ReplyKind::Get,
            persistence,
            head_only: true
        }
    );
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let body = r#"{"value":"v"}"#;
    let input = post(body).replace("Content-Type", "Expect: 100-Continue\r\nContent-Type");
    let (head, body) = input.as_bytes().split_at(input.len() - body.len());

    let mut server = Server::new(Config::default());
    server.feed(head);
    assert_eq!(server.events, [Event::Continue]);
    server.feed(body);
    assert_eq!(server.events, [Event::Continue, set("k", "v", None)]);
    assert_eq!(CONTINUE, b"HTTP/1.1 100 Continue\r\n\r\n");

    // It did not wait.
    assert_eq!(decode(input.as_bytes()), [set("k", "v", None)]);
    // HTTP/1.0 has no interim replies.
    let mut server = Server::new(Config::default());
    server.feed(
        &String::from_utf8_lossy(head)
            .replace("HTTP/1.1", "HTTP/1.0")
            .into_bytes(),
    );
    assert_eq!(server.events, []);
    // With no body there is nothing to wait for.
    let mut server = Server::new(Config::default());
    server.feed(
        request("GET /k")
            .replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n")
            .as_bytes(),
    );
    assert_eq!(server.events, [get("k")]);
}

#[test]
fn a_client_that_waits_for_a_refusal_gets_it_at_once() {
    let input = post("12345").replace("Content-Type", "Expect: 100-continue\r\nX-Type");
    let mut server = Server::new(Config::default());
    server.feed(&input.as_bytes()[..input.len() - 5]);
    let expected = [Event::Refuse {
        status: 415,
        keep: false,
    }];
    assert_eq!(server.events, expected);
    // The same when it does not wait, as whether it did is not known for sure.
    assert_eq!(decode(input.as_bytes()), expected);
}

#[test]
fn other_expectations_fail() {
    for expect in [
        "200-ok",
        "200-ok\r\nExpect: 100-continue",
        "100-continue\r\nExpect: 200-ok",
    ] {
        let input = request("GET /k").replace("\r\n\r\n", &format!("\r\nExpect: {expect}\r\n\r\n"));
        assert_eq!(decode(input.as_bytes()), [refuse(417)], "{expect}");
    }
}
