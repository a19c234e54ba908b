//! What is encoded is decoded, whole and cut.

use fulmar_protocol::node::{Decoded, Encoder};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use crate::samples::{Sample, decode_one, open, sample};

/// What a stream comes to when its input comes in these pieces.
fn decode_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let decoder = open();
    let mut frames = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match decoder.decode(&input[at..]) {
                Decoded::Frame { frame, consumed } => {
                    frames.push(Sample::of(&frame).encode());
                    at += consumed;
                }
                Decoded::Need(bytes_count) => {
                    assert!(bytes_count > input.len() - at);
                    break;
                }
                other => panic!("the input is frames: {other:?}"),
            }
        }
        input.drain(..at);
    }
    assert!(input.is_empty());
    frames
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn frames_survive(sample in sample()) {
        let bytes = sample.encode();
        let found = Sample::of(&decode_one(&bytes));
        prop_assert_eq!(format!("{found:?}"), format!("{sample:?}"));
        prop_assert_eq!(found.encode(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(
        samples in vec(sample(), 1..4),
        cuts in vec(any::<proptest::sample::Index>(), 0..5),
    ) {
        let frames: Vec<Vec<u8>> = samples.iter().map(Sample::encode).collect();
        let stream = frames.concat();
        prop_assert_eq!(&decode_pieces(std::iter::once(&stream[..])), &frames);
        prop_assert_eq!(&decode_pieces(stream.chunks(1)), &frames);
        for at in 0..=stream.len() {
            let (first, second) = stream.split_at(at);
            prop_assert_eq!(&decode_pieces([first, second].into_iter()), &frames);
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]);
        prop_assert_eq!(&decode_pieces(pieces), &frames);
    }

    #[test]
    fn every_prefix_asks_for_more_and_not_for_too_much(sample in sample()) {
        let bytes = sample.encode();
        for at in 0..bytes.len() {
            let Decoded::Need(wanted) = open().decode(&bytes[..at]) else {
                panic!("a prefix of {at} bytes is no frame");
            };
            prop_assert!(wanted > at && wanted <= bytes.len());
        }
    }

    #[test]
    fn a_part_may_be_sent_from_pieces(
        pieces in vec(vec(any::<u8>(), 1..100), 1..5),
        offset in 0..1u64 << 40,
    ) {
        let mut whole = Vec::new();
        Encoder::new(&mut whole).part(7, offset, &pieces.concat(), false);
        let mut gathered = Vec::new();
        let slices = pieces.iter().map(Vec::as_slice);
        Encoder::new(&mut gathered).part_header(7, offset, false, slices);
        gathered.extend_from_slice(&pieces.concat());
        prop_assert_eq!(gathered, whole);
    }
}
