//! Things that one node says to another, as owned values: how they are made up, encoded, and found
//! again in what was decoded.

use fulmar_protocol::node::{
    Blob, Decoded, Decoder, Encoder, Fence, Forward, ForwardHead, ForwardOptions, ForwardStatus,
    Frame, Goodbye, Hello, HelloReply, Identity, KEEP_MS_MAX, Part, PayloadEncoder, Proof, Purpose,
    Reply, ReplyForm, Status, Versions,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

/// An argument or a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnedBlob {
    Whole(Vec<u8>),
    InParts(usize),
}

impl OwnedBlob {
    pub(crate) fn borrow(&self) -> Blob<'_> {
        match self {
            Self::Whole(bytes) => Blob::Whole(bytes),
            Self::InParts(bytes_count) => Blob::InParts(*bytes_count),
        }
    }
}

/// One frame.
#[derive(Clone, Debug)]
pub(crate) enum Sample {
    Hello(Hello),
    HelloReply(HelloReply),
    Proof(Proof),
    Goodbye(Goodbye),
    Ping(u64),
    Pong(u64),
    Control(Vec<u8>),
    Forward(u32, ForwardHead, Vec<OwnedBlob>),
    Arguments(u32, Vec<OwnedBlob>),
    Part(u32, u64, Vec<u8>, bool),
    Abort(u32, u64),
    Reply(u32, Option<u16>, Vec<u8>, bool),
    Status(Status),
    Batch(Vec<u8>),
    Told(Vec<u8>),
}

impl Sample {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        match self {
            Self::Hello(hello) => encoder.hello(hello),
            Self::HelloReply(reply) => encoder.hello_reply(reply),
            Self::Proof(proof) => encoder.proof(proof),
            Self::Goodbye(reason) => encoder.goodbye(*reason),
            Self::Ping(nonce) => encoder.ping(*nonce),
            Self::Pong(nonce) => encoder.pong(*nonce),
            Self::Control(payload) => put(encoder.control(), payload),
            Self::Forward(request, head, arguments) => {
                let mut arguments = arguments.iter().map(OwnedBlob::borrow);
                encoder.forward(*request, head, &mut arguments);
            }
            Self::Arguments(request, arguments) => {
                encoder.arguments(*request, &mut arguments.iter().map(OwnedBlob::borrow));
            }
            Self::Part(stream, offset, bytes, is_last) => {
                encoder.part(*stream, *offset, bytes, *is_last);
            }
            Self::Abort(stream, offset) => encoder.abort(*stream, *offset),
            Self::Reply(request, keep_ms, bytes, is_last) => {
                encoder.reply(*request, *keep_ms, bytes, *is_last);
            }
            Self::Status(status) => encoder.status(status),
            Self::Batch(payload) => put(encoder.batch(), payload),
            Self::Told(payload) => put(encoder.told(), payload),
        }
        out
    }

    /// The sample that a frame was made from.
    pub(crate) fn of(frame: &Frame<'_>) -> Self {
        match frame {
            Frame::Hello(hello) => Self::Hello(*hello),
            Frame::HelloReply(reply) => Self::HelloReply(*reply),
            Frame::Proof(proof) => Self::Proof(*proof),
            Frame::Goodbye(reason) => Self::Goodbye(*reason),
            Frame::Ping { nonce } => Self::Ping(*nonce),
            Frame::Pong { nonce } => Self::Pong(*nonce),
            Frame::Control(payload) => Self::Control(payload.to_vec()),
            Frame::Forward(Forward {
                request,
                head,
                arguments,
                ..
            }) => Self::Forward(*request, *head, arguments.clone().map(own).collect()),
            Frame::Arguments(more) => {
                Self::Arguments(more.request, more.arguments.clone().map(own).collect())
            }
            Frame::Part(Part {
                stream,
                offset,
                is_aborted: true,
                ..
            }) => Self::Abort(*stream, *offset),
            Frame::Part(part) => {
                Self::Part(part.stream, part.offset, part.bytes.to_vec(), part.is_last)
            }
            Frame::Reply(Reply {
                request,
                keep_ms,
                bytes,
                is_last,
            }) => Self::Reply(*request, *keep_ms, bytes.to_vec(), *is_last),
            Frame::Status(status) => Self::Status(*status),
            Frame::Batch(payload) => Self::Batch(payload.to_vec()),
            Frame::Told(payload) => Self::Told(payload.to_vec()),
        }
    }
}

fn put(mut frame: PayloadEncoder<'_>, payload: &[u8]) {
    frame.payload().extend_from_slice(payload);
    frame.finish();
}

fn own(blob: Blob<'_>) -> OwnedBlob {
    match blob {
        Blob::Whole(bytes) => OwnedBlob::Whole(bytes.to_vec()),
        Blob::InParts(bytes_count) => OwnedBlob::InParts(bytes_count),
    }
}

/// A decoder behind the greeting.
pub(crate) fn open() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.open();
    decoder
}

/// The one frame that `input` is.
pub(crate) fn decode_one(input: &[u8]) -> Frame<'_> {
    match open().decode(input) {
        Decoded::Frame { frame, consumed } => {
            assert_eq!(consumed, input.len());
            frame
        }
        other => panic!("not a frame: {other:?}"),
    }
}

/// A frame of this kind around a body, whatever it is; flags and stream as given.
pub(crate) fn seal(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a few bytes");
    let mut frame = vec![0; 4];
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&stream.to_le_bytes());
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(body);
    let crc = crc32fast::hash(&frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Numbers of all lengths, small ones above all.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

pub(crate) fn fence() -> impl Strategy<Value = Fence> {
    (number(), number(), number()).prop_map(|(epoch, sender_incarnation, target_incarnation)| {
        Fence {
            epoch,
            sender_incarnation,
            target_incarnation,
        }
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..400)]
}

pub(crate) fn head() -> impl Strategy<Value = ForwardHead> {
    let form = select(&[ReplyForm::Resp2, ReplyForm::Resp3]);
    let flags = any::<[bool; 2]>();
    let copy_reads = option::of(any::<u32>());
    (fence(), form, 1..=2u8, flags, copy_reads).prop_map(
        |(fence, form, hops, [may_read_replica, is_local], copy_reads)| ForwardHead {
            fence,
            options: ForwardOptions {
                form,
                hops,
                may_read_replica,
                is_local,
            },
            copy_reads,
        },
    )
}

/// Arguments of which the last may be long.
fn arguments() -> impl Strategy<Value = Vec<OwnedBlob>> {
    (vec(bytes(), 1..6), option::of(16_384..1_000_000usize)).prop_map(|(whole, long)| {
        let whole = whole.into_iter().map(OwnedBlob::Whole);
        whole.chain(long.map(OwnedBlob::InParts)).collect()
    })
}

fn versions() -> impl Strategy<Value = Versions> {
    (any::<u16>(), any::<u16>(), any::<u64>()).prop_map(|(one, other, features)| Versions {
        min: one.min(other),
        max: one.max(other),
        features,
    })
}

fn identity() -> impl Strategy<Value = Identity> {
    (any::<(u64, u64, u64)>(), 1..=u16::MAX, any::<u16>()).prop_map(
        |((cluster, node, incarnation), cores, core)| Identity {
            cluster,
            node,
            incarnation,
            cores,
            core: core % cores,
        },
    )
}

fn greeting() -> impl Strategy<Value = Sample> {
    let purpose = select(&[Purpose::Forward, Purpose::Replicate, Purpose::Control]);
    let hello = (versions(), identity(), purpose, any::<[u8; 32]>());
    let hello = hello.prop_map(|(versions, identity, purpose, challenge)| Hello {
        versions,
        identity,
        purpose,
        challenge,
    });
    let reply = (versions(), identity(), any::<[u8; 32]>(), any::<[u8; 16]>());
    let reply = reply.prop_map(|(versions, identity, challenge, proof)| HelloReply {
        versions,
        identity,
        challenge,
        proof,
    });
    prop_oneof![
        hello.prop_map(Sample::Hello),
        reply.prop_map(Sample::HelloReply),
        any::<[u8; 16]>().prop_map(|proof| Sample::Proof(Proof(proof))),
        any::<u8>().prop_map(|byte| Sample::Goodbye(Goodbye::from_byte(byte))),
        any::<u64>().prop_map(Sample::Ping),
        any::<u64>().prop_map(Sample::Pong),
        vec(any::<u8>(), 0..200).prop_map(Sample::Control),
    ]
}

fn forwarding() -> impl Strategy<Value = Sample> {
    let stream = any::<u32>;
    let statuses = [
        ForwardStatus::Moved,
        ForwardStatus::TryAgain,
        ForwardStatus::Refused,
        ForwardStatus::OtherIncarnation,
        ForwardStatus::Down,
    ];
    let status = (stream(), select(statuses.to_vec()), number());
    let status = status.prop_map(|(request, status, epoch)| Status {
        request,
        status,
        epoch,
    });
    let part = (
        stream(),
        0..u64::MAX / 2,
        vec(any::<u8>(), 1..300),
        any::<bool>(),
    );
    let keep = option::of(1..=KEEP_MS_MAX);
    let reply = (stream(), keep, bytes(), any::<bool>());
    prop_oneof![
        3 => (stream(), head(), arguments()).prop_map(|(stream, head, all)| {
            Sample::Forward(stream, head, all)
        }),
        1 => (stream(), arguments()).prop_map(|(stream, all)| Sample::Arguments(stream, all)),
        1 => part.prop_map(|(stream, offset, bytes, is_last)| {
            Sample::Part(stream, offset, bytes, is_last)
        }),
        1 => (stream(), number()).prop_map(|(stream, offset)| Sample::Abort(stream, offset)),
        1 => reply.prop_map(|(request, keep_ms, bytes, is_last)| {
            Sample::Reply(request, keep_ms, bytes, is_last)
        }),
        1 => status.prop_map(Sample::Status),
    ]
}

fn replicating() -> impl Strategy<Value = Sample> {
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(Sample::Batch),
        vec(any::<u8>(), 0..200).prop_map(Sample::Told),
    ]
}

/// Anything that one frame holds.
pub(crate) fn sample() -> impl Strategy<Value = Sample> {
    prop_oneof![greeting(), forwarding(), replicating()]
}

/// The simplest command there is.
pub(crate) const HEAD: ForwardHead = ForwardHead {
    fence: Fence {
        epoch: 1,
        sender_incarnation: 1,
        target_incarnation: 1,
    },
    options: ForwardOptions {
        form: ReplyForm::Resp2,
        hops: 1,
        may_read_replica: false,
        is_local: false,
    },
    copy_reads: None,
};

/// A value that is always the same.
pub(crate) fn constant<T: Clone + std::fmt::Debug>(value: T) -> impl Strategy<Value = T> {
    Just(value)
}
