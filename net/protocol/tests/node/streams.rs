//! Commands that take more than one frame, beside each other.

use fulmar_protocol::node::{
    Blob, Decoded, Encoder, Frame, INLINE_BYTES_MAX, KEEP_MS_MAX, OutOfStep, PART_BYTES_MAX,
    Progress,
};
use fulmar_protocol::resp::Slices;
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use crate::samples::{HEAD, OwnedBlob, Sample, constant, decode_one, open};

/// A command's arguments, of all lengths.
fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes_count = prop_oneof![
        6 => 0..50usize,
        2 => INLINE_BYTES_MAX - 2..INLINE_BYTES_MAX + 3,
        1 => 30_000..50_000usize,
    ];
    let argument = (bytes_count, any::<u8>());
    let argument = argument.prop_map(|(bytes_count, byte)| vec![byte; bytes_count]);
    prop_oneof![
        4 => vec(argument, 1..12),
        1 => constant(vec![vec![b'k'; 20]; 8_000]),
    ]
}

/// The frames of a command, each apart.
fn frames(request: u32, arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let blob = |argument: &Vec<u8>| match argument.len() {
        0..=INLINE_BYTES_MAX => OwnedBlob::Whole(argument.clone()),
        bytes_count => OwnedBlob::InParts(bytes_count),
    };
    let blobs: Vec<OwnedBlob> = arguments.iter().map(blob).collect();
    let mut left = blobs.iter().map(OwnedBlob::borrow);
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder.forward(request, &HEAD, &mut left);
    let mut long = arguments
        .iter()
        .filter(|argument| argument.len() > INLINE_BYTES_MAX);
    for argument in long.by_ref() {
        let parts = argument.chunks(PART_BYTES_MAX);
        let count = parts.len();
        for (index, part) in parts.enumerate() {
            let is_last = index + 1 == count && left.len() == 0;
            encoder.part(request, (index * PART_BYTES_MAX) as u64, part, is_last);
        }
        if left.len() > 0 {
            encoder.arguments(request, &mut left);
        }
    }
    split(&out)
}

fn split(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Decoded::Frame { consumed, .. } = open().decode(stream) {
        let (frame, rest) = stream.split_at(consumed);
        frames.push(frame.to_vec());
        stream = rest;
    }
    assert!(stream.is_empty());
    frames
}

/// A command as it comes in.
struct Incoming {
    progress: Progress,
    arguments: Vec<Vec<u8>>,
}

impl Incoming {
    fn take<'a>(&mut self, arguments: impl Iterator<Item = Blob<'a>>) {
        self.arguments
            .extend(arguments.map(|argument| match argument {
                Blob::Whole(bytes) => bytes.to_vec(),
                Blob::InParts(_) => Vec::new(),
            }));
    }
}

fn receive(incoming: &mut Option<Incoming>, frame: &Frame<'_>) {
    match (frame, incoming) {
        (Frame::Forward(forward), incoming) => {
            assert!(incoming.is_none());
            let progress = Progress::begin(forward);
            let mut begun = Incoming {
                progress,
                arguments: Vec::new(),
            };
            begun.take(forward.arguments.clone());
            *incoming = Some(begun);
        }
        (Frame::Arguments(more), Some(incoming)) => {
            incoming.progress.arguments(more).expect("they are in step");
            incoming.take(more.arguments.clone());
        }
        (Frame::Part(part), Some(incoming)) => {
            let left = incoming.progress.bytes_left();
            incoming.progress.part(part).expect("it is in step");
            assert!(part.bytes.len() as u64 <= left);
            let argument = incoming.arguments.last_mut().expect("it was announced");
            argument.extend_from_slice(part.bytes);
        }
        _ => panic!("nothing has begun"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn commands_beside_each_other_come_as_they_were(
        commands in vec(command(), 1..4),
        order in vec(any::<proptest::sample::Index>(), 0..60),
    ) {
        let mut queues: Vec<_> = (0..)
            .zip(&commands)
            .map(|(request, arguments)| frames(request, arguments).into_iter())
            .collect();
        // The streams' frames in a random order, each stream's own kept.
        let mut stream = Vec::new();
        for index in order {
            let index = index.index(queues.len());
            stream.extend(queues[index].next().unwrap_or_default());
        }
        queues.into_iter().flatten().for_each(|frame| stream.extend(frame));
        let mut incoming: Vec<Option<Incoming>> = commands.iter().map(|_| None).collect();
        let mut at = 0;
        while let Decoded::Frame { frame, consumed } = open().decode(&stream[at..]) {
            at += consumed;
            let request = match &frame {
                Frame::Forward(forward) => forward.request,
                Frame::Arguments(more) => more.request,
                Frame::Part(part) => part.stream,
                other => panic!("not of a command: {other:?}"),
            };
            receive(&mut incoming[request as usize], &frame);
        }
        prop_assert_eq!(at, stream.len());
        for (incoming, arguments) in incoming.iter().zip(&commands) {
            let incoming = incoming.as_ref().expect("it came");
            assert!(incoming.progress.is_complete());
            assert!(incoming.arguments == *arguments);
        }
    }
}

#[test]
fn a_small_command_is_one_frame_and_its_arguments_are_slices() {
    let arguments: [&[u8]; 3] = [b"SET", b"key", b"value"];
    let mut out = Vec::new();
    let mut blobs = arguments.iter().map(|argument| Blob::Whole(argument));
    Encoder::new(&mut out).forward(5, &HEAD, &mut blobs);
    // 14 of the header, 3 of the fence, options, count, and one before each argument.
    assert_eq!(out.len(), 14 + 3 + 2 + 3 + 11);
    let Frame::Forward(forward) = decode_one(&out) else {
        panic!("it is a command");
    };
    assert!(Progress::begin(&forward).is_complete());
    let mut slices = Slices::new();
    forward.collect(&mut slices);
    assert_eq!(slices.as_slice(), arguments);
    assert_eq!(
        (forward.request, forward.head, forward.arguments_count),
        (5, HEAD, 3)
    );
}

#[test]
fn frames_out_of_step_are_refused() {
    let long = vec![1; PART_BYTES_MAX + 1];
    let all = frames(1, &[b"SET".to_vec(), long, b"NX".to_vec()]);
    assert_eq!(all.len(), 4);
    let Frame::Forward(forward) = decode_one(&all[0]) else {
        panic!("it is a command");
    };
    let begun = Progress::begin(&forward);
    let step = |progress: &mut Progress, bytes: &[u8]| match decode_one(bytes) {
        Frame::Arguments(more) => progress.arguments(&more),
        Frame::Part(part) => progress.part(&part),
        other => panic!("not of a command: {other:?}"),
    };
    // Arguments before the parts; the second part first; a part too many.
    assert_eq!(step(&mut begun.clone(), &all[3]), Err(OutOfStep));
    assert_eq!(step(&mut begun.clone(), &all[2]), Err(OutOfStep));
    let mut progress = begun;
    assert_eq!(step(&mut progress, &all[1]), Ok(()));
    assert_eq!(step(&mut progress.clone(), &all[1]), Err(OutOfStep));
    assert_eq!(step(&mut progress, &all[2]), Ok(()));
    assert_eq!(progress.bytes_left(), 0);
    assert_eq!(step(&mut progress.clone(), &all[2]), Err(OutOfStep));
    // An end too early, too many arguments, and arguments that do not say that they end.
    let early = Sample::Part(1, 0, vec![1], true).encode();
    assert_eq!(step(&mut begun.clone(), &early), Err(OutOfStep));
    let too_many = Sample::Arguments(1, vec![OwnedBlob::Whole(vec![]); 2]).encode();
    assert_eq!(step(&mut progress.clone(), &too_many), Err(OutOfStep));
    let endless = Sample::Arguments(1, vec![OwnedBlob::InParts(20_000)]).encode();
    let mut unended = progress;
    assert_eq!(step(&mut unended, &endless), Ok(()));
    assert_eq!(unended.bytes_left(), 20_000);
    assert_eq!(step(&mut progress, &all[3]), Ok(()));
    assert!(progress.is_complete());
    assert_eq!(step(&mut progress, &all[3]), Err(OutOfStep));
    // Whoever gives up says so at any point.
    let aborted = Sample::Abort(1, 0).encode();
    assert_eq!(step(&mut begun.clone(), &aborted), Ok(()));
}

/// The bytes of an answer, put together from its frames.
fn answer(stream: &[u8], request: u32) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut begun = 0;
    for frame in split(stream) {
        match decode_one(&frame) {
            Frame::Reply(reply) => {
                assert!(answer.is_empty());
                assert_eq!(reply.request, request);
                answer.extend_from_slice(reply.bytes);
                begun = reply.bytes.len();
            }
            Frame::Part(part) => {
                assert_eq!(part.stream, request);
                assert_eq!(part.offset, (answer.len() - begun) as u64);
                answer.extend_from_slice(part.bytes);
            }
            other => panic!("not of an answer: {other:?}"),
        }
    }
    answer
}

#[test]
fn an_answer_written_in_place_takes_the_frames_it_needs() {
    let most = PART_BYTES_MAX;
    for (bytes_count, frames_count) in [
        (0, 1),
        (5, 1),
        (most, 1),
        (most + 1, 2),
        (2 * most, 2),
        (2 * most + 1, 3),
    ] {
        let bytes: Vec<u8> = (0..bytes_count)
            .map(|at| u8::try_from(at % 251).expect("below 251"))
            .collect();
        let mut out = b"before".to_vec();
        let mut encoder = Encoder::new(&mut out);
        let keep_ms = (bytes_count % 2 == 0).then_some(KEEP_MS_MAX);
        let mut reply = encoder.reply_in_place(7, keep_ms);
        reply.payload().extend_from_slice(&bytes);
        reply.finish();
        let frames = split(&out[6..]);
        assert_eq!(frames.len(), frames_count);
        assert!(matches!(decode_one(&frames[0]), Frame::Reply(reply) if reply.keep_ms == keep_ms));
        assert!(answer(&out[6..], 7) == bytes, "{bytes_count}");
        let is_last = |frame: &Vec<u8>| match decode_one(frame) {
            Frame::Reply(reply) => reply.is_last,
            Frame::Part(part) => part.is_last,
            other => panic!("not of an answer: {other:?}"),
        };
        let lasts: Vec<bool> = frames.iter().map(is_last).collect();
        let expected: Vec<bool> = (1..=frames_count).map(|at| at == frames_count).collect();
        assert_eq!(lasts, expected);
    }
}

#[test]
fn what_is_dropped_half_way_leaves_no_trace() {
    let mut out = b"before".to_vec();
    let mut encoder = Encoder::new(&mut out);
    let mut batch = encoder.batch();
    batch.payload().extend_from_slice(b"gone");
    drop(batch);
    let mut reply = encoder.reply_in_place(1, None);
    reply.payload().extend_from_slice(b"gone");
    drop(reply);
    let mut told = encoder.told();
    told.payload().extend_from_slice(b"sold");
    told.body_mut()[0] = b't';
    told.finish();
    assert_eq!(out[..6], *b"before");
    assert_eq!(decode_one(&out[6..]), Frame::Told(b"told"));
}
