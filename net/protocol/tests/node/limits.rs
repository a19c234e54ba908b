//! Every bound, at its most and one beyond.

use fulmar_protocol::node::{
    ARGUMENTS_MAX, BATCH_BYTES_MAX, BATCH_FRAME_BYTES_MAX, Blob, CONTROL_BYTES_MAX, DATA_BYTES_MAX,
    DATA_FRAME_BYTES_MAX, Decoded, FRAME_BYTES_MAX, Frame, HEADER_BYTES, INLINE_BYTES_MAX,
    KEEP_MS_MAX, PART_BYTES_MAX, VALUE_BYTES_MAX, WireError,
};

use crate::samples::{HEAD, OwnedBlob, Sample, decode_one, open, seal};

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("below 0x80"));
    out
}

fn is_malformed(bytes: &[u8]) -> bool {
    open().decode(bytes) == Decoded::Error(WireError::Malformed)
}

/// Fence, options, and so many arguments of which these bytes are the first.
fn forward_body(options: u8, count: usize, arguments: &[u8]) -> Vec<u8> {
    [&[1, 1, 1, options][..], &varint(count as u64), arguments].concat()
}

#[test]
fn an_argument_is_in_the_frame_up_to_its_limit() {
    let longest = vec![b'x'; INLINE_BYTES_MAX];
    let sample = Sample::Forward(1, HEAD, vec![OwnedBlob::Whole(longest.clone()); 3]);
    let bytes = sample.encode();
    let Frame::Forward(forward) = decode_one(&bytes) else {
        panic!("it is a command");
    };
    assert!(forward.is_whole);
    assert!(
        forward
            .arguments
            .clone()
            .all(|argument| argument == Blob::Whole(&longest))
    );
    // One byte more is no argument in the frame but the announcement of parts.
    let announced = varint(INLINE_BYTES_MAX as u64 + 1);
    let bytes = seal(16, 0, 1, &forward_body(2, 1, &announced));
    let Frame::Forward(forward) = decode_one(&bytes) else {
        panic!("it is a command");
    };
    assert_eq!(
        forward.arguments.collect::<Vec<_>>(),
        [Blob::InParts(INLINE_BYTES_MAX + 1)]
    );
    // Behind an announcement there is nothing in the frame, and no command ends with one.
    assert!(is_malformed(&seal(
        16,
        0,
        1,
        &forward_body(2, 2, &[&announced[..], &[0]].concat())
    )));
    assert!(is_malformed(&seal(
        16,
        1,
        1,
        &forward_body(2, 1, &announced)
    )));
}

#[test]
fn a_value_is_announced_up_to_its_limit() {
    for (bytes_count, is_right) in [(VALUE_BYTES_MAX, true), (VALUE_BYTES_MAX + 1, false)] {
        let bytes = seal(16, 0, 1, &forward_body(2, 1, &varint(bytes_count as u64)));
        assert_eq!(is_malformed(&bytes), !is_right);
    }
}

#[test]
fn a_command_has_from_one_to_the_most_arguments() {
    for (count, is_right) in [
        (0, false),
        (1, true),
        (ARGUMENTS_MAX, true),
        (ARGUMENTS_MAX + 1, false),
    ] {
        // One empty argument, the others to come.
        let is_last = u8::from(count == 1);
        let bytes = seal(16, is_last, 1, &forward_body(2, count, &[0]));
        assert_eq!(is_malformed(&bytes), !is_right, "{count}");
    }
    // As many as it says, and not said to be the last; more than it says; fewer, and the last.
    assert!(is_malformed(&seal(16, 0, 1, &forward_body(2, 1, &[0]))));
    assert!(is_malformed(&seal(16, 0, 1, &forward_body(2, 1, &[0, 0]))));
    assert!(is_malformed(&seal(16, 1, 1, &forward_body(2, 2, &[0]))));
    assert!(is_malformed(&seal(16, 1, 1, &forward_body(2, 1, &[]))));
}

#[test]
fn a_command_is_forwarded_twice_at_most() {
    for (hops, is_right) in [(0, false), (1, true), (2, true), (3, false)] {
        let bytes = seal(16, 1, 1, &forward_body(hops << 1, 1, &[0]));
        assert_eq!(is_malformed(&bytes), !is_right);
    }
    assert!(is_malformed(&seal(
        16,
        1,
        1,
        &forward_body(2 | 1 << 5, 1, &[0])
    )));
}

#[test]
fn a_part_has_from_one_to_the_most_bytes() {
    let part = |bytes_count: usize, flags| seal(18, flags, 1, &vec![0; 1 + bytes_count]);
    for (bytes_count, flags, is_right) in [
        (0, 0, false),
        (0, 1, true),
        (1, 0, true),
        (PART_BYTES_MAX, 0, true),
        (PART_BYTES_MAX + 1, 0, false),
        (PART_BYTES_MAX + 1, 1, false),
        (0, 2, true),
        (1, 2, false),
        (0, 3, false),
    ] {
        assert_eq!(
            is_malformed(&part(bytes_count, flags)),
            !is_right,
            "{bytes_count} {flags}"
        );
    }
    // The end of a value is below 2^64.
    let offset = varint(u64::MAX);
    assert!(!is_malformed(&seal(18, 1, 1, &offset)));
    assert!(is_malformed(&seal(18, 1, 1, &[&offset[..], &[0]].concat())));
}

#[test]
fn a_reply_has_the_most_bytes_of_a_part_and_is_kept_for_a_second() {
    for (bytes_count, is_right) in [
        (0, true),
        (PART_BYTES_MAX, true),
        (PART_BYTES_MAX + 1, false),
    ] {
        assert_eq!(
            is_malformed(&seal(19, 1, 1, &vec![0; bytes_count])),
            !is_right
        );
    }
    let most = KEEP_MS_MAX.into();
    for (ms, is_right) in [(0, false), (1, true), (most, true), (most + 1, false)] {
        assert_eq!(
            is_malformed(&seal(19, 5, 1, &varint(ms))),
            !is_right,
            "{ms}"
        );
    }
}

#[test]
fn payloads_have_a_mebibyte_at_most() {
    let control = vec![7; CONTROL_BYTES_MAX];
    let bytes = Sample::Control(control.clone()).encode();
    assert_eq!(decode_one(&bytes), Frame::Control(&control));
    assert_eq!(bytes.len(), FRAME_BYTES_MAX);
    let batch = &control[..BATCH_BYTES_MAX];
    let bytes = Sample::Batch(batch.to_vec()).encode();
    assert_eq!(decode_one(&bytes), Frame::Batch(batch));
    assert_eq!(bytes.len(), BATCH_FRAME_BYTES_MAX);
    let bytes = Sample::Told(batch.to_vec()).encode();
    assert_eq!(decode_one(&bytes), Frame::Told(batch));
    for (kind, most) in [
        (7, CONTROL_BYTES_MAX),
        (32, BATCH_BYTES_MAX),
        (33, BATCH_BYTES_MAX),
    ] {
        let bytes = seal(kind, 0, 0, &vec![7; most + 1]);
        for input in [&bytes[..], &bytes[..HEADER_BYTES]] {
            assert_eq!(open().decode(input), Decoded::Error(WireError::TooLong));
        }
        // They belong to no stream.
        let bytes = seal(kind, 0, 1, &[7]);
        assert!(is_malformed(&bytes));
    }
}

#[test]
#[should_panic(expected = "body_bytes_max")]
fn a_payload_beyond_its_limit_is_not_encoded() {
    let _ = Sample::Batch(vec![7; BATCH_BYTES_MAX + 1]).encode();
}

#[test]
fn data_has_frames_of_64_kib_at_most() {
    let argument = [&varint(16_000)[..], &[0; 16_000]].concat();
    let mut body = forward_body(2, ARGUMENTS_MAX, &argument.repeat(4));
    body.resize(DATA_BYTES_MAX, 0);
    let bytes = seal(16, 0, 1, &body);
    assert_eq!(bytes.len(), DATA_FRAME_BYTES_MAX);
    assert!(matches!(open().decode(&bytes), Decoded::Frame { .. }));
    body.push(0);
    for kind in [16, 17, 18, 19, 20] {
        let bytes = seal(kind, 0, 1, &body);
        assert_eq!(
            open().decode(&bytes),
            Decoded::Error(WireError::TooLong),
            "{kind}"
        );
    }
}
