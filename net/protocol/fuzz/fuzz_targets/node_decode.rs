//! The decoder of frames between nodes: a stream means the same whole and cut, lists can be read, and
//! what is decoded has one encoding.
//!
//! The input's first byte is the size of the pieces. Then come frames without their checksum, which is
//! put on here, else no damage would get past it: kind, flags, stream, two bytes of length, body. Run
//! with `-dict=node.dict`.
#![no_main]

use std::collections::HashMap;

use fulmar_protocol::node::{Decoded, Decoder, Encoder, Frame, PayloadEncoder, Progress};
use libfuzzer_sys::fuzz_target;

/// The frames that the input describes; what is left over of it comes last, as it is.
fn seal(mut input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let [kind, flags, id, low, high, rest @ ..] = input {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, rest) = rest.split_at(length);
        let start = stream.len();
        stream.extend_from_slice(&[0; 4]);
        stream.extend_from_slice(&(length as u32).to_le_bytes());
        stream.extend_from_slice(&u32::from(*id).to_le_bytes());
        stream.extend_from_slice(&[*kind, *flags]);
        stream.extend_from_slice(body);
        let crc = crc32fast::hash(&stream[start + 4..]);
        stream[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        input = rest;
    }
    stream.extend_from_slice(input);
    stream
}

/// The frame encoded again, if it can be known from it alone.
fn encode(frame: &Frame<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    match frame {
        Frame::Forward(forward) if forward.is_whole => {
            let arguments: Vec<_> = forward.arguments.clone().collect();
            encoder.forward(forward.request, &forward.head, &mut arguments.into_iter());
        }
        Frame::Part(part) if part.is_aborted => encoder.abort(part.stream, part.offset),
        Frame::Part(part) => encoder.part(part.stream, part.offset, part.bytes, part.is_last),
        Frame::Reply(reply) => {
            encoder.reply(reply.request, reply.keep_ms, reply.bytes, reply.is_last);
        }
        Frame::Status(status) => encoder.status(status),
        Frame::Proof(proof) => encoder.proof(proof),
        Frame::Goodbye(reason) => encoder.goodbye(*reason),
        Frame::Ping { nonce } => encoder.ping(*nonce),
        Frame::Pong { nonce } => encoder.pong(*nonce),
        Frame::Control(payload) => put(encoder.control(), payload),
        Frame::Batch(payload) => put(encoder.batch(), payload),
        Frame::Told(payload) => put(encoder.told(), payload),
        _ => return None,
    }
    Some(out)
}

fn put(mut frame: PayloadEncoder<'_>, payload: &[u8]) {
    frame.payload().extend_from_slice(payload);
    frame.finish();
}

/// Follows the commands of a stream.
fn follow(frame: &Frame<'_>, commands: &mut HashMap<u32, Progress>) -> Option<bool> {
    match frame {
        Frame::Forward(forward) => {
            let progress = Progress::begin(forward);
            assert_eq!(progress.is_complete(), forward.is_whole);
            commands.insert(forward.request, progress);
            Some(true)
        }
        Frame::Arguments(more) => {
            let progress = commands.get_mut(&more.request)?;
            Some(progress.arguments(more).is_ok())
        }
        Frame::Part(part) => Some(commands.get_mut(&part.stream)?.part(part).is_ok()),
        _ => None,
    }
}

/// What the stream comes to, written so that it can be compared.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_open: bool) -> Vec<String> {
    let mut decoder = Decoder::new();
    if is_open {
        decoder.open();
    }
    let mut outcomes = Vec::new();
    let mut commands = HashMap::new();
    let mut input = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match decoder.decode(&input[at..]) {
                Decoded::Need(wanted) => {
                    assert!(wanted > input.len() - at);
                    break;
                }
                Decoded::Skip { consumed } => {
                    outcomes.push("skip".to_owned());
                    at += consumed;
                }
                Decoded::Frame { frame, consumed } => {
                    if let Some(again) = encode(&frame) {
                        assert_eq!(again, input[at..at + consumed]);
                    }
                    let step = follow(&frame, &mut commands);
                    outcomes.push(format!("{frame:?} {step:?}"));
                    at += consumed;
                }
                Decoded::Error(error) => {
                    outcomes.push(format!("{error:?}"));
                    return outcomes;
                }
            }
        }
        input.drain(..at);
    }
    outcomes
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, input)) = data.split_first() else {
        return;
    };
    // The lowest bit says whether the greeting is over.
    let is_open = size & 1 == 1;
    let stream = seal(input);
    let whole = decode(std::iter::once(&stream[..]), is_open);
    let cut = decode(stream.chunks(usize::from(size).max(1)), is_open);
    assert_eq!(whole, cut);
});
