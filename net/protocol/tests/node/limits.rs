//! Every bound, at its most and one beyond.

use fulmar_protocol::node::{
    ARGUMENTS_MAX, Blob, CONTROL_BYTES_MAX, DATA_BYTES_MAX, DATA_FRAME_BYTES_MAX, Decoded, Encoder,
    Entry, Frame, HEADER_BYTES, INLINE_BYTES_MAX, KEEP_MS_MAX, PART_BYTES_MAX, Position,
    RANGES_COUNT, Touch, VALUE_BYTES_MAX, WireError, Write,
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

fn position_bytes(range: u16) -> Vec<u8> {
    [varint(range.into()), vec![1, 1]].concat()
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
        let entry = [
            &[1][..],
            &position_bytes(0),
            &[0],
            &varint(bytes_count as u64),
        ]
        .concat();
        let bytes = seal(32, 0, 1, &[&[1, 1, 1][..], &entry].concat());
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
fn control_has_a_mebibyte_at_most() {
    let longest = vec![7; CONTROL_BYTES_MAX];
    let bytes = Sample::Control(longest.clone()).encode();
    assert_eq!(decode_one(&bytes), Frame::Control(&longest));
    let bytes = seal(7, 0, 0, &vec![7; CONTROL_BYTES_MAX + 1]);
    for input in [&bytes[..], &bytes[..HEADER_BYTES]] {
        assert_eq!(open().decode(input), Decoded::Error(WireError::TooLong));
    }
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
    for kind in [16, 17, 18, 19, 20, 32, 33, 34, 35, 36, 37, 38] {
        let bytes = seal(kind, 0, 1, &body);
        assert_eq!(
            open().decode(&bytes),
            Decoded::Error(WireError::TooLong),
            "{kind}"
        );
    }
}

#[test]
fn entries_name_ranges_that_exist_and_have_deadlines_ahead() {
    let entry = |kind: u8, range: u16, rest: &[u8]| {
        seal(
            32,
            0,
            1,
            &[&[1, 1, 1, kind][..], &position_bytes(range), rest].concat(),
        )
    };
    let last = RANGES_COUNT - 1;
    assert!(!is_malformed(&entry(0, last, &[0])));
    assert!(is_malformed(&entry(0, RANGES_COUNT, &[0])));
    // A set with a time to live of 0 and of 1; a kind that does not exist; nothing at all.
    assert!(is_malformed(&entry(2, last, &[0, 0, 0])));
    assert!(!is_malformed(&entry(2, last, &[0, 1, 0])));
    assert!(is_malformed(&entry(3, last, &[0, 1, 0])));
    assert!(is_malformed(&seal(32, 0, 1, &[1, 1, 1])));
    // Behind a value that comes in parts there is no other entry.
    let announced = varint(INLINE_BYTES_MAX as u64 + 1);
    let long = [&[0][..], &announced].concat();
    assert!(!is_malformed(&entry(1, last, &long)));
    let delete = [&[0][..], &position_bytes(0), &[0]].concat();
    assert!(is_malformed(&entry(
        1,
        last,
        &[&long[..], &delete].concat()
    )));
    // The longest key; one byte more.
    let key = |bytes_count: usize| [varint(bytes_count as u64), vec![0; bytes_count]].concat();
    assert!(!is_malformed(&entry(0, last, &key(INLINE_BYTES_MAX))));
    assert!(is_malformed(&entry(0, last, &key(INLINE_BYTES_MAX + 1))));
    assert!(is_malformed(&seal(
        38,
        0,
        1,
        &[&varint(RANGES_COUNT.into())[..], &[0; 8]].concat()
    )));
    assert!(is_malformed(&seal(38, 0, 1, &[0; 8])));
}

#[test]
fn a_frame_of_writes_takes_what_fits() {
    let key = vec![1; INLINE_BYTES_MAX];
    let value = vec![2; INLINE_BYTES_MAX];
    let position = Position {
        range: RANGES_COUNT - 1,
        term: u64::MAX,
        seq: u64::MAX,
    };
    let entry = |value| Entry {
        position,
        key: &key,
        write: Write::Set {
            value,
            ttl_ms: Some(u64::MAX),
        },
    };
    let mut out = vec![9];
    let mut encoder = Encoder::new(&mut out);
    let mut frame = encoder.replicate(1, &HEAD.fence);
    let longest = entry(Blob::Whole(&value));
    assert!(frame.takes(&longest), "an empty frame takes any entry");
    frame.push(&longest);
    assert!(!frame.takes(&longest));
    let in_parts = entry(Blob::InParts(VALUE_BYTES_MAX));
    assert!(frame.takes(&in_parts));
    frame.push(&in_parts);
    let small = Entry {
        write: Write::Delete,
        key: b"",
        position,
    };
    assert!(!frame.takes(&small), "its value comes in parts");
    frame.finish();
    let Frame::Replicate(replicate) = decode_one(&out[1..]) else {
        panic!("they are writes");
    };
    assert_eq!(replicate.entries.collect::<Vec<_>>(), [longest, in_parts]);
    // Without entries, and when it is dropped, nothing is left.
    let mut encoder = Encoder::new(&mut out);
    let length = encoder.replicate(1, &HEAD.fence);
    length.finish();
    let mut dropped = Encoder::new(&mut out);
    let mut dropped = dropped.replicate(1, &HEAD.fence);
    dropped.push(&small);
    drop(dropped);
    assert!(
        matches!(open().decode(&out[1..]), Decoded::Frame { consumed, .. } if consumed == out.len() - 1)
    );
}

#[test]
fn long_lists_take_several_frames() {
    let positions = vec![
        Position {
            range: 2_047,
            term: u64::MAX,
            seq: u64::MAX,
        };
        5_000
    ];
    let touches = vec![
        Touch {
            range: 2_047,
            hash: u64::MAX,
        };
        20_000
    ];
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder.ack(3, &HEAD.fence, &positions);
    encoder.touches(3, &touches);
    let (mut acked, mut touched) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Decoded::Frame { frame, consumed } = open().decode(&out[at..]) {
        match frame {
            Frame::Ack(ack) => acked.extend(ack.positions),
            Frame::Touches(more) => touched.extend(more.touches),
            other => panic!("neither: {other:?}"),
        }
        at += consumed;
    }
    assert_eq!(at, out.len());
    assert_eq!((acked, touched), (positions, touches));
}
