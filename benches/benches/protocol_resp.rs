//! RESP per command: decoding a frame, finding and parsing its command, encoding its reply.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fulmar_protocol::command::table::lookup;
use fulmar_protocol::command::{Argv, glob};
use fulmar_protocol::resp::{Decoded, Decoder, Encoder, RespVersion, Slices};
use fulmar_protocol::{Command, ReplySink};

const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Frames in a batch: what a pipelining client may send at once.
const BATCH: usize = 16;

fn frame(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Decodes all of `input` and hands each command's arguments to `visit`.
fn decode_all(decoder: &mut Decoder, input: &[u8], mut visit: impl FnMut(Argv<'_>)) {
    let mut slices = Slices::new();
    let mut at = 0;
    loop {
        match decoder.decode(&input[at..], &mut slices) {
            Decoded::Command { frame, consumed } => {
                at += consumed;
                visit(frame.argv());
            }
            Decoded::Need => break,
            other => panic!("the input holds commands only: {other:?}"),
        }
    }
    assert_eq!(at, input.len());
}

fn decode(criterion: &mut Criterion) {
    let key = b"key:000000000042";
    let get = frame(&[b"GET", key]);
    let set = frame(&[b"SET", key, &[b'v'; 32]]);
    let mget: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain([&key[..]; 10]).collect();
    let long = frame(&[b"SET", key, &[b'v'; 16_000]]);
    for (name, frame) in [
        ("get", get),
        ("set_32", set),
        ("mget_10", frame(&mget)),
        ("set_16000", long),
    ] {
        let mut group = criterion.benchmark_group("resp_decode");
        let mut decoder = Decoder::new(VALUE_BYTES_MAX);
        let batch = frame.repeat(BATCH);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{name}/alone"), |bencher| {
            bencher.iter(|| {
                decode_all(&mut decoder, black_box(&frame), |argv| {
                    black_box(argv);
                });
            });
        });
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("{name}/pipeline_{BATCH}"), |bencher| {
            bencher.iter(|| {
                decode_all(&mut decoder, black_box(&batch), |argv| {
                    black_box(argv);
                });
            });
        });
        group.finish();
    }
}

fn parse(criterion: &mut Criterion) {
    let key: &[u8] = b"key:000000000042";
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Elements(1));
    let commands: [(&str, &[&[u8]]); 6] = [
        ("get", &[b"GET", key]),
        ("set", &[b"SET", key, b"value"]),
        ("set_ex_nx", &[b"SET", key, b"value", b"EX", b"3600", b"NX"]),
        ("incr", &[b"incr", key]),
        ("mget", &[b"MGET", key, key, key]),
        ("pexpire", &[b"PEXPIRE", key, b"1000"]),
    ];
    for (name, args) in commands {
        group.bench_function(format!("lookup/{name}"), |bencher| {
            bencher.iter(|| lookup(black_box(args)).map(|spec| spec.id));
        });
        group.bench_function(format!("lookup_and_parse/{name}"), |bencher| {
            bencher.iter(|| {
                let argv = Argv {
                    args: black_box(args),
                    staged: &[],
                };
                let parsed = lookup(argv.args).and_then(|spec| Command::parse(spec, argv));
                black_box(&parsed).is_ok()
            });
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("resp_encode");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(64 * 1024);
    let mut bench = |name: &str, reply: &dyn Fn(&mut dyn ReplySink)| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                reply(&mut Encoder::new(black_box(&mut out), RespVersion::Resp2));
            });
        });
    };
    let value = [b'v'; 16_000];
    bench("ok", &|reply| reply.ok());
    bench("null", &|reply| reply.null());
    bench("integer", &|reply| reply.integer(black_box(1_234_567)));
    bench("bulk_32", &|reply| reply.bulk(black_box(&value[..32])));
    bench("bulk_16000", &|reply| reply.bulk(black_box(&value)));
    group.finish();
}

fn globs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("glob");
    let text = black_box(&b"user:000000000042:name"[..]);
    for pattern in ["user:*", "*:name", "user:????????????:[a-n]*", "*4*2*n*x"] {
        group.bench_function(pattern, |bencher| {
            bencher.iter(|| glob::is_match(black_box(pattern.as_bytes()), text));
        });
    }
    group.finish();
}

criterion_group!(benches, decode, parse, encode, globs);
criterion_main!(benches);
