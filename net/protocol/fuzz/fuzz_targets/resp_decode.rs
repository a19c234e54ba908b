//! The RESP decoder: a stream means the same whole and cut, and its promises hold.
//!
//! The input's first byte is the size of the pieces. Run with `-dict=resp.dict`.
#![no_main]

use fulmar_protocol::resp::{Decoded, Decoder, INPUT_KEPT_MAX, Slices};
use libfuzzer_sys::fuzz_target;

const VALUE_BYTES_MAX: usize = 20_000;

/// What the stream comes to, written so that it can be compared.
fn decode(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
    let mut decoder = Decoder::new(VALUE_BYTES_MAX);
    let mut outcomes = Vec::new();
    let mut staged: Vec<Vec<u8>> = Vec::new();
    let mut input = Vec::new();
    for chunk in chunks {
        input.extend_from_slice(&chunk);
        let mut slices = Slices::new();
        let mut at = 0;
        loop {
            at += match decoder.decode(&input[at..], &mut slices) {
                Decoded::Need => break,
                Decoded::Skip { consumed } => {
                    assert!(consumed > 0);
                    consumed
                }
                Decoded::Command { frame, consumed } => {
                    let argv = frame.argv();
                    assert!(!argv.args.is_empty());
                    assert_eq!(argv.staged.len(), staged.len());
                    for (announced, came) in argv.staged.iter().zip(&staged) {
                        assert_eq!(announced.bytes_count, came.len());
                    }
                    outcomes.push(format!("{argv:?} {staged:?}"));
                    staged.clear();
                    consumed
                }
                Decoded::StagedBegin {
                    key,
                    staged: value,
                    consumed,
                    ..
                } => {
                    assert!(value.bytes_count <= VALUE_BYTES_MAX && key.len() < value.bytes_count);
                    staged.push(Vec::new());
                    consumed
                }
                Decoded::StagedPart { bytes, consumed } => {
                    assert!(!bytes.is_empty());
                    staged
                        .last_mut()
                        .expect("a part follows a begin")
                        .extend_from_slice(bytes);
                    consumed
                }
                Decoded::Refused { error, consumed } => {
                    staged.clear();
                    outcomes.push(error.to_string());
                    consumed
                }
                Decoded::Error(error) => {
                    outcomes.push(format!("{error:?}"));
                    return outcomes;
                }
            };
        }
        input.drain(..at);
        assert!(input.len() < INPUT_KEPT_MAX);
    }
    outcomes
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let whole = decode(std::iter::once(stream.to_vec()));
    let cut = decode(stream.chunks(usize::from(size).max(1)).map(<[u8]>::to_vec));
    assert_eq!(whole, cut);
});
