//! HTTP per request: decoding it, encoding the response.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fulmar_protocol::ReplySink;
use fulmar_protocol::http::{
    Config, Decoded, Decoder, Encoder, Persistence, ReplyForm, ReplyKind, Request,
};

const GET: &str = "GET /key:000000000042 HTTP/1.1\r\nHost: 127.0.0.1:8379\r\n\
                   User-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";

/// Stores `value`, which stands in the body as it is.
fn post(value: &str) -> String {
    let body = format!(r#"{{"value":"{value}","ttl":60}}"#);
    format!(
        "POST /key:000000000042 HTTP/1.1\r\nHost: 127.0.0.1:8379\r\nUser-Agent: curl/8.5.0\r\n\
         Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http_decode");
    for (name, input) in [
        ("get", GET.to_owned()),
        ("get_percent", GET.replace("key:", "key%3A")),
        ("post_32", post(&"v".repeat(32))),
        ("post_1024", post(&"v".repeat(1024))),
        ("post_16384", post(&"v".repeat(16_384))),
        ("post_1024_escapes", post(&r#"\"v\" "#.repeat(146))),
    ] {
        let mut decoder = Decoder::new(Arc::new(Config::default()));
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| match decoder.decode(black_box(input.as_bytes())) {
                Decoded::Request {
                    request: Request::Command(command),
                    consumed,
                    ..
                } => {
                    assert_eq!(consumed, input.len());
                    black_box(command.key().len())
                }
                other => panic!("the input is one request: {other:?}"),
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http_encode");
    let form = ReplyForm {
        kind: ReplyKind::Get,
        persistence: Persistence::Implied,
        head_only: false,
    };
    let mut out = Vec::new();
    for (name, value) in [
        ("value_32", "v".repeat(32).into_bytes()),
        ("value_1024", "v".repeat(1024).into_bytes()),
        ("value_16384", "v".repeat(16_384).into_bytes()),
        ("json_1024", r#"{"a":1},"#.repeat(128).into_bytes()),
        ("bytes_1024", vec![0xff; 1024]),
    ] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                Encoder::new(form, &mut out).bulk(black_box(&value));
                black_box(out.len())
            });
        });
        group.bench_function(format!("{name}/parts"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut parts = black_box(&value).chunks(4096);
                Encoder::new(form, &mut out).bulk_parts(value.len(), &mut parts);
                black_box(out.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
