//! Input that is no frame: never a panic, never a frame that was not sent, no waiting for more than
//! a frame may be.

use fulmar_protocol::node::{
    CONTROL_BYTES_MAX, Decoded, Decoder, Frame, HEADER_BYTES, HELLO_BYTES_MAX, WireError,
};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

use crate::samples::{Sample, open, sample, seal};

const KINDS: [u8; 14] = [1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 32, 33];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_flipped_bit_is_noticed(sample in sample()) {
        let mut bytes = sample.encode();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match open().decode(&bytes) {
                Decoded::Error(_) => {}
                // The length grew.
                Decoded::Need(wanted) => prop_assert!(wanted > bytes.len()),
                other => panic!("bit {bit}: {other:?}"),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_changed_run_of_bytes_is_noticed(
        sample in sample(),
        at in any::<proptest::sample::Index>(),
        noise in vec(any::<u8>(), 1..40),
    ) {
        let bytes = sample.encode();
        let mut damaged = bytes.clone();
        let at = at.index(bytes.len());
        damaged.iter_mut().skip(at).zip(noise).for_each(|(byte, noise)| *byte = noise);
        if damaged != bytes {
            let decoded = open().decode(&damaged);
            prop_assert!(matches!(decoded, Decoded::Error(_) | Decoded::Need(_)), "{decoded:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn any_bytes_are_decoded_without_harm(input in vec(any::<u8>(), 0..100), is_open in any::<bool>()) {
        let mut decoder = Decoder::new();
        if is_open {
            decoder.open();
        }
        if let Decoded::Need(wanted) = decoder.decode(&input) {
            let most = if is_open { CONTROL_BYTES_MAX } else { HELLO_BYTES_MAX };
            prop_assert!(wanted > input.len() && wanted <= HEADER_BYTES + most);
        }
    }

    /// With a checksum that fits, the bodies themselves are put to the test.
    #[test]
    fn any_body_is_refused_or_has_this_one_encoding(
        kind in select(&KINDS[..]),
        flags in select(&[0, 0, 1, 2, 4, 5][..]),
        stream in select(&[0, 7][..]),
        body in prop_oneof![vec(0..4u8, 0..12), vec(any::<u8>(), 0..90)],
    ) {
        let bytes = seal(kind, flags, stream, &body);
        match open().decode(&bytes) {
            Decoded::Frame { frame, consumed } => {
                prop_assert_eq!(consumed, bytes.len());
                is_reproduced(&frame, &bytes);
            }
            Decoded::Error(_) => {}
            other => panic!("it is there whole: {other:?}"),
        }
    }

    /// Bodies that are nearly right: one byte changed, added or lost, and sealed again.
    #[test]
    fn nearly_right_bodies_are_refused_or_have_this_one_encoding(
        sample in sample(),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        change in 0..3,
    ) {
        let bytes = sample.encode();
        let (kind, flags) = (bytes[12], bytes[13]);
        let stream = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        let mut body = bytes[HEADER_BYTES..].to_vec();
        let at = at.index(body.len() + 1);
        match change {
            0 => body.insert(at, byte),
            1 if at < body.len() => body[at] = byte,
            _ if at < body.len() => drop(body.remove(at)),
            _ => {}
        }
        let bytes = seal(kind, flags, stream, &body);
        if let Decoded::Frame { frame, .. } = open().decode(&bytes) {
            is_reproduced(&frame, &bytes);
        }
    }
}

/// The frame encoded again is what it was decoded from, but for what is behind a greeting; and the
/// flag that says whether arguments end.
fn is_reproduced(frame: &Frame<'_>, bytes: &[u8]) {
    let again = Sample::of(frame).encode();
    match frame {
        Frame::Hello(_) | Frame::HelloReply(_) => {
            assert_eq!(again[HEADER_BYTES..], bytes[HEADER_BYTES..again.len()]);
        }
        // Whether all arguments are there is not to be seen from the frame alone.
        Frame::Forward(_) | Frame::Arguments(_) => {
            let _ = format!("{frame:?}");
        }
        _ => assert_eq!(again, bytes),
    }
}

#[test]
fn a_damaged_length_does_not_make_anyone_wait_for_long() {
    for kind in KINDS {
        let mut bytes = seal(kind, 0, 0, &[]);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(open().decode(&bytes), Decoded::Error(WireError::TooLong));
    }
}
