//! Random streams, right and mutated, against the naive parser.

use proptest::collection::vec;
use proptest::prelude::{
    BoxedStrategy, Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof,
    proptest,
};
use proptest::sample::{Index, select};

use crate::driver::Driver;
use crate::reference;

const VALUE_BYTES_MAX: usize = 30_000;

fn encode(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    select(vec!["SET", "mset", "Echo", "NOPE", "post", "x"]).prop_map(|name| name.into())
}

/// A frame with arguments of up to `bytes_max`.
fn frame(args_max: usize, bytes_max: usize) -> BoxedStrategy<Vec<u8>> {
    let arg = vec(any::<u8>(), 0..bytes_max);
    (name(), vec(arg, 0..args_max))
        .prop_map(|(name, mut args)| {
            args.insert(0, name);
            encode(&args)
        })
        .boxed()
}

/// A frame with arguments around the length from which they are staged, or refused.
fn long_frame() -> impl Strategy<Value = Vec<u8>> {
    let long = (
        select(vec![16_383, 16_384, 20_000, 30_000, 30_001]),
        any::<u8>(),
    )
        .prop_map(|(bytes_count, byte)| vec![byte; bytes_count]);
    let arg = prop_oneof![2 => vec(any::<u8>(), 0..20), 1 => long];
    (name(), vec(arg, 1..6)).prop_map(|(name, mut args)| {
        args.insert(0, name);
        encode(&args)
    })
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => frame(5, 40),
        1 => frame(120, 8),
        2 => long_frame(),
        2 => select(vec!["*0\r\n", "*-1\r\n", "\r\n", "\n", "  \r\n"]).prop_map(Into::into),
        3 => vec(select(b"PING x\"'\\x41\t\r\x0b\0\xff".to_vec()), 0..20).prop_map(|mut line| {
            line.push(b'\n');
            line
        }),
    ]
}

/// Cuts a stream at the given places.
fn cut<'a>(stream: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &stream[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn streams_mean_the_same_however_they_are_cut(
        pieces in vec(piece(), 0..12),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream = pieces.concat();
        let expected = reference::parse(&stream, VALUE_BYTES_MAX);
        prop_assert!(Driver::run(VALUE_BYTES_MAX, [stream.as_slice()]) == expected);
        prop_assert!(Driver::run(VALUE_BYTES_MAX, cut(&stream, &cuts)) == expected);
        prop_assert!(Driver::run(VALUE_BYTES_MAX, stream.chunks(1)) == expected);
    }

    #[test]
    fn mutated_streams_are_judged_as_the_naive_parser_judges_them(
        pieces in vec(prop_oneof![frame(5, 12), Just(b"PING \"a\"\r\n".to_vec())], 1..5),
        mutations in vec((any::<Index>(), select(b"*$-+0129\r\n\0 \"'xX\xff".to_vec())), 0..6),
        cuts in vec(any::<Index>(), 0..5),
    ) {
        let mut stream = pieces.concat();
        for (place, byte) in mutations {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        let expected = reference::parse(&stream, VALUE_BYTES_MAX);
        prop_assert_eq!(&Driver::run(VALUE_BYTES_MAX, [stream.as_slice()]), &expected);
        prop_assert_eq!(&Driver::run(VALUE_BYTES_MAX, cut(&stream, &cuts)), &expected);
        prop_assert_eq!(&Driver::run(VALUE_BYTES_MAX, stream.chunks(1)), &expected);
    }

    #[test]
    fn random_bytes_do_no_harm(stream in vec(any::<u8>(), 0..300)) {
        let whole = Driver::run(VALUE_BYTES_MAX, [stream.as_slice()]);
        prop_assert_eq!(Driver::run(VALUE_BYTES_MAX, stream.chunks(1)), whole);
    }
}
