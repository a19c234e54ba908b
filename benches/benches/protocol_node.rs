//! Frames between nodes: a small forwarded command and its reply, batches, and parts.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fulmar_protocol::node::{
    Blob, Decoded, Decoder, Encoder, Fence, ForwardHead, ForwardOptions, Frame, PART_BYTES_MAX,
    ReplyForm,
};
use fulmar_protocol::resp::Slices;

const KEY: &[u8] = b"key:000000000042";
const VALUE: [u8; 32] = [b'v'; 32];

const FENCE: Fence = Fence {
    epoch: 1_234,
    sender_incarnation: 3,
    target_incarnation: 5,
};

const HEAD: ForwardHead = ForwardHead {
    fence: FENCE,
    options: ForwardOptions {
        form: ReplyForm::Resp2,
        hops: 1,
        may_read_replica: false,
        is_local: false,
    },
    copy_reads: None,
};

fn open() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.open();
    decoder
}

fn encode_forward(args: &[&[u8]], out: &mut Vec<u8>) {
    let mut arguments = args.iter().map(|argument| Blob::Whole(argument));
    Encoder::new(out).forward(77, &HEAD, &mut arguments);
}

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node_forward");
    group.throughput(Throughput::Elements(1));
    let commands: [(&str, &[&[u8]]); 2] =
        [("get", &[b"GET", KEY]), ("set_32", &[b"SET", KEY, &VALUE])];
    for (name, args) in commands {
        let mut out = Vec::with_capacity(1_024);
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_forward(black_box(args), black_box(&mut out));
            });
        });
        let decoder = open();
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter(|| {
                let Decoded::Frame { frame, .. } = decoder.decode(black_box(&out)) else {
                    panic!("it is a frame");
                };
                let Frame::Forward(forward) = frame else {
                    panic!("it is a command");
                };
                let mut slices = Slices::new();
                forward.collect(&mut slices);
                black_box(slices.as_slice().len())
            });
        });
    }
    group.finish();
}

fn reply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node_reply");
    group.throughput(Throughput::Elements(1));
    let bytes = [&b"$32\r\n"[..], &VALUE, b"\r\n"].concat();
    let mut out = Vec::with_capacity(1_024);
    group.bench_function("encode/bulk_32", |bencher| {
        bencher.iter(|| {
            out.clear();
            Encoder::new(black_box(&mut out)).reply(77, None, black_box(&bytes), true);
        });
    });
    let decoder = open();
    group.bench_function("decode/bulk_32", |bencher| {
        bencher.iter(|| match decoder.decode(black_box(&out)) {
            Decoded::Frame {
                frame: Frame::Reply(reply),
                ..
            } => black_box(reply.bytes.len()),
            other => panic!("it is a reply: {other:?}"),
        });
    });
    group.finish();
}

/// The frame around a batch, whose entries another crate writes.
fn batch(criterion: &mut Criterion) {
    const BYTES_COUNT: usize = 256 * 1_024;
    let mut group = criterion.benchmark_group("node_batch");
    group.throughput(Throughput::Bytes(BYTES_COUNT as u64));
    let bytes = vec![b'v'; BYTES_COUNT];
    let mut out = Vec::with_capacity(2 * BYTES_COUNT);
    group.bench_function("encode/256_kib", |bencher| {
        bencher.iter(|| {
            out.clear();
            let mut encoder = Encoder::new(black_box(&mut out));
            let mut batch = encoder.batch();
            batch.payload().extend_from_slice(black_box(&bytes));
            batch.finish();
        });
    });
    let decoder = open();
    group.bench_function("decode/256_kib", |bencher| {
        bencher.iter(|| match decoder.decode(black_box(&out)) {
            Decoded::Frame {
                frame: Frame::Batch(batch),
                ..
            } => black_box(batch.len()),
            other => panic!("it is a batch: {other:?}"),
        });
    });
    group.finish();
}

fn part(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node_part");
    group.throughput(Throughput::Bytes(PART_BYTES_MAX as u64));
    let bytes = vec![b'v'; PART_BYTES_MAX];
    let mut out = Vec::with_capacity(2 * PART_BYTES_MAX);
    group.bench_function("header", |bencher| {
        bencher.iter(|| {
            out.clear();
            let pieces = std::iter::once(black_box(&bytes[..]));
            Encoder::new(black_box(&mut out)).part_header(77, 1 << 20, false, pieces);
        });
    });
    out.extend_from_slice(&bytes);
    let decoder = open();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| match decoder.decode(black_box(&out)) {
            Decoded::Frame { consumed, .. } => consumed,
            other => panic!("it is a part: {other:?}"),
        });
    });
    group.finish();
}

criterion_group!(benches, forward, reply, batch, part);
criterion_main!(benches);
