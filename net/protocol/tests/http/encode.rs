//! Responses.

use fulmar_protocol::ReplySink;
use fulmar_protocol::command::CommandError;
use fulmar_protocol::http::{ContentType, Encoder, Persistence, ReplyForm, ReplyKind, Status};
use serde_json::json;

use super::client::Response;

fn form(kind: ReplyKind) -> ReplyForm {
    ReplyForm {
        kind,
        persistence: Persistence::Implied,
        head_only: false,
    }
}

fn encode(form: ReplyForm, reply: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    // What is already there stays.
    let mut out = b"earlier".to_vec();
    reply(&mut Encoder::new(form, &mut out));
    assert_eq!(&out[..7], b"earlier");
    out.split_off(7)
}

fn respond(kind: ReplyKind, reply: impl FnOnce(&mut Encoder<'_>)) -> Response {
    Response::parse(&encode(form(kind), reply), true)
}

#[test]
fn the_bytes_of_a_value() {
    let out = encode(form(ReplyKind::Get), |encoder| encoder.bulk(b"value"));
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                    Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
                    Content-Length: 17\r\n\r\n{\"value\":\"value\"}";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn replies_of_each_kind() {
    let response = respond(ReplyKind::Get, |e| e.null());
    assert_eq!(
        (response.status, response.json()),
        (404, json!({"error": "no such key"}))
    );
    let response = respond(ReplyKind::Set, |e| e.ok());
    assert_eq!((response.status, response.headers.len()), (204, 0));
    assert_eq!(respond(ReplyKind::Delete, |e| e.integer(1)).status, 204);
    let response = respond(ReplyKind::Delete, |e| e.integer(0));
    assert_eq!(
        (response.status, response.json()),
        (404, json!({"error": "no such key"}))
    );
}

#[test]
fn values_are_escaped_and_bytes_are_base64() {
    for value in [
        "",
        "v",
        "\"",
        "\\",
        "a\nb\tc\rd\u{8}\u{c}",
        "\0\u{1f}\u{7f}",
        "\u{e9}\u{1f600}\u{2028}",
    ] {
        let response = respond(ReplyKind::Get, |e| e.bulk(value.as_bytes()));
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"value": value}))
        );
    }
    for (value, digits) in [
        (&b"\xff"[..], "/w=="),
        (b"\xff\xfe", "//4="),
        (b"\xff\xfe\xfd", "//79"),
        (b"abc\xc3", "YWJjww=="),
    ] {
        let response = respond(ReplyKind::Get, |e| e.bulk(value));
        assert_eq!(
            (response.status, response.json()),
            (200, json!({"value_base64": digits}))
        );
    }
}

#[test]
fn parts_are_as_the_whole() {
    for value in ["", "plain text", "with \"quotes\"", "\u{e9}\u{1f600}"] {
        for bytes in [
            value.as_bytes().to_vec(),
            [value.as_bytes(), b"\xff"].concat(),
        ] {
            for head_only in [false, true] {
                let form = ReplyForm {
                    head_only,
                    ..form(ReplyKind::Get)
                };
                let whole = encode(form, |e| e.bulk(&bytes));
                for part_bytes in 1..=bytes.len().max(1) {
                    // Parts end within characters, too.
                    let mut parts = bytes.chunks(part_bytes);
                    let out = encode(form, |e| e.bulk_parts(bytes.len(), &mut parts));
                    assert_eq!(out, whole);
                }
            }
        }
    }
}

#[test]
fn head_has_the_headers_of_get() {
    for value in [&b"value"[..], b"\"", b"\xff"] {
        let get = encode(form(ReplyKind::Get), |e| e.bulk(value));
        let head_form = ReplyForm {
            head_only: true,
            ..form(ReplyKind::Get)
        };
        let head = encode(head_form, |e| e.bulk(value));
        assert!(get.starts_with(&head));
        assert!(head.ends_with(b"\r\n\r\n"));
        assert_eq!(Response::parse(&head, false).status, 200);
    }
    let head_form = ReplyForm {
        head_only: true,
        ..form(ReplyKind::Get)
    };
    assert_eq!(
        Response::parse(&encode(head_form, |e| e.null()), false).status,
        404
    );
    let page = encode(head_form, |e| e.page(Status::Ok, ContentType::Text, b"ok"));
    assert_eq!(
        Response::parse(&page, false).header("Content-Length"),
        Some("2")
    );
}

#[test]
fn connections() {
    for (persistence, header) in [
        (Persistence::Implied, None),
        (Persistence::KeepAlive, Some("keep-alive")),
        (Persistence::Close, Some("close")),
    ] {
        for kind in [ReplyKind::Get, ReplyKind::Set] {
            let form = ReplyForm {
                persistence,
                ..form(kind)
            };
            let out = encode(form, |e| match kind {
                ReplyKind::Get => e.bulk(b"v"),
                _ => e.ok(),
            });
            assert_eq!(Response::parse(&out, true).header("Connection"), header);
            assert_eq!(form.keep_alive(), header != Some("close"));
        }
    }
}

#[test]
fn errors_have_their_status() {
    for (error, status, message) in [
        (
            CommandError::OutOfMemory,
            507,
            "OOM command not allowed when used memory > 'maxmemory'.",
        ),
        (CommandError::ValueTooLong, 413, "value is too long"),
        (CommandError::Syntax, 500, "syntax error"),
    ] {
        for kind in [ReplyKind::Get, ReplyKind::Set, ReplyKind::Delete] {
            let response = respond(kind, |e| e.error(&error));
            assert_eq!(
                (response.status, response.json()),
                (status, json!({"error": message}))
            );
        }
    }
    assert_eq!(
        respond(ReplyKind::Set, |e| e.error(&CommandError::Busy)).status,
        503
    );
    assert_eq!(
        respond(ReplyKind::Set, |e| e.error(&CommandError::KeyTooLong)).status,
        414
    );
    let response = respond(ReplyKind::Page, |e| {
        e.refuse(Status::ServiceUnavailable, "say \"later\"");
    });
    assert_eq!(
        (response.status, response.json()),
        (503, json!({"error": "say \"later\""}))
    );
}

#[test]
fn pages() {
    for (content_type, name) in [
        (ContentType::Json, "application/json"),
        (ContentType::Text, "text/plain; charset=utf-8"),
        (
            ContentType::OpenMetrics,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ] {
        let response = respond(ReplyKind::Page, |e| {
            e.page(Status::Ok, content_type, b"body");
        });
        assert_eq!(
            (response.status, response.header("Content-Type")),
            (200, Some(name))
        );
        assert_eq!(response.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(response.header("Cache-Control"), Some("no-store"));
        assert_eq!(response.body, b"body");
    }
}

#[test]
fn a_request_has_exactly_one_response() {
    for kind in [
        ReplyKind::Get,
        ReplyKind::Set,
        ReplyKind::Delete,
        ReplyKind::Page,
    ] {
        let response = respond(kind, |e| {
            e.array(2);
            e.bulk(b"a");
            e.integer(1);
            e.ok();
            e.null();
            e.bulk_parts(1, &mut [&b"b"[..]].into_iter());
            e.page(Status::Ok, ContentType::Json, b"{}");
        });
        assert_eq!(response.status, 500);
    }
    for (kind, reply) in [
        (ReplyKind::Get, (|e| e.integer(1)) as fn(&mut Encoder<'_>)),
        (ReplyKind::Set, |e| e.null()),
        (ReplyKind::Set, |e| e.bulk(b"")),
        (ReplyKind::Delete, |e| e.ok()),
        (ReplyKind::Get, |e| e.null_array()),
        (ReplyKind::Get, |e| e.map(0)),
        (ReplyKind::Get, |e| e.verbatim("")),
    ] {
        assert_eq!(respond(kind, reply).status, 500);
    }
}

#[test]
fn every_status_has_its_line() {
    for (status, line) in [
        (Status::Ok, "HTTP/1.1 200 OK\r\n"),
        (
            Status::ServiceUnavailable,
            "HTTP/1.1 503 Service Unavailable\r\n",
        ),
    ] {
        let out = encode(form(ReplyKind::Page), |e| {
            e.page(status, ContentType::Text, b"");
        });
        assert!(out.starts_with(line.as_bytes()));
        assert_eq!(Response::parse(&out, true).status, status.code());
    }
}
