//! From bytes to frames.

use super::forward::{Forward, MoreArguments, Part, Reply, Status};
use super::header::{CRC_BYTES, Flags, HEADER_BYTES, Header, Kind};
use super::hello::{Goodbye, Hello, HelloReply, Proof};
use super::varint::Reader;
use super::{HELLO_BYTES_MAX, WireError};

/// Decodes a connection's input; one per connection.
///
/// It holds no input: bytes that it has not consumed are given again, in front of those that came
/// since. A frame is decoded when it is there whole, and borrows from the input: no copy, no
/// allocation. Frames of different streams come in any order; what belongs together is told by their
/// stream.
///
/// ```
/// use fulmar_protocol::node::{Decoded, Decoder, Encoder, Frame};
///
/// let mut input = Vec::new();
/// Encoder::new(&mut input).ping(42);
/// let mut decoder = Decoder::new();
/// decoder.open();
/// assert!(matches!(decoder.decode(&input[..5]), Decoded::Need(14)));
/// let Decoded::Frame { frame, consumed } = decoder.decode(&input) else {
///     panic!("it is there whole");
/// };
/// assert_eq!((frame, consumed), (Frame::Ping { nonce: 42 }, input.len()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    is_open: bool,
}

/// What [`Decoder::decode`] found; `consumed` bytes of the input are used and not given again.
#[derive(Debug, PartialEq)]
pub enum Decoded<'a> {
    /// The input does not hold a whole frame: no use to ask again before it is so long, which is
    /// more than it is. The bound of the frame's kind is kept.
    Need(usize),
    /// A frame.
    Frame {
        /// What it says.
        frame: Frame<'a>,
        /// More than 0.
        consumed: usize,
    },
    /// A frame of a kind that a newer version has, and that may be passed over.
    Skip {
        /// More than 0.
        consumed: usize,
    },
    /// The connection must close; the decoder is of no more use.
    Error(WireError),
}

/// What one node says to another.
#[derive(Debug, PartialEq)]
pub enum Frame<'a> {
    /// Whoever connected speaks first.
    Hello(Hello),
    /// The answer to Hello.
    HelloReply(HelloReply),
    /// The end of the greeting.
    Proof(Proof),
    /// The connection will be closed.
    Goodbye(Goodbye),
    /// To be answered with a Pong of the same nonce.
    Ping {
        /// Any number.
        nonce: u64,
    },
    /// The answer to a Ping.
    Pong {
        /// That of the Ping.
        nonce: u64,
    },
    /// What the members say to each other; encoded by `fulmar-cluster`.
    Control(&'a [u8]),
    /// A command.
    Forward(Forward<'a>),
    /// More of a command.
    Arguments(MoreArguments<'a>),
    /// More of what is too long for a frame.
    Part(Part<'a>),
    /// The answer to a command.
    Reply(Reply<'a>),
    /// A command was not executed.
    Status(Status),
    /// What a core has for the copies of its ranges; encoded by `fulmar-cluster`.
    Batch(&'a [u8]),
    /// What the core of a copy says to its primary's core; encoded by `fulmar-cluster`.
    Told(&'a [u8]),
}

impl Decoder {
    /// A decoder that takes a greeting only, so that a stranger makes nobody wait for more than
    /// [`HELLO_BYTES_MAX`] bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { is_open: false }
    }

    /// The greeting is over, and the other side proved who it is: takes everything from now on.
    pub const fn open(&mut self) {
        self.is_open = true;
    }

    /// Decodes the frame at the start of `input`. O(its length).
    #[inline]
    pub fn decode<'a>(&self, input: &'a [u8]) -> Decoded<'a> {
        match self.frame(input) {
            Ok(decoded) => decoded,
            Err(error) => Decoded::Error(error),
        }
    }

    #[inline]
    fn frame<'a>(&self, input: &'a [u8]) -> Result<Decoded<'a>, WireError> {
        let Some(header) = input.first_chunk() else {
            return Ok(Decoded::Need(HEADER_BYTES));
        };
        let header = Header::decode(header, self.is_open)?;
        let consumed = header.frame_bytes();
        let Some(bytes) = input.get(..consumed) else {
            return Ok(Decoded::Need(consumed));
        };
        if crc32fast::hash(&bytes[CRC_BYTES..]) != header.crc {
            return Err(WireError::Checksum);
        }
        let Some(kind) = header.kind else {
            return Ok(Decoded::Skip { consumed });
        };
        let body = Reader::new(&bytes[HEADER_BYTES..]);
        let frame = Frame::decode(kind, header.stream, header.flags, body)?;
        Ok(Decoded::Frame { frame, consumed })
    }
}

const _: () = assert!(HELLO_BYTES_MAX < super::DATA_BYTES_MAX);

impl<'a> Frame<'a> {
    #[inline]
    fn decode(
        kind: Kind,
        stream: u32,
        flags: Flags,
        mut body: Reader<'a>,
    ) -> Result<Self, WireError> {
        let is_last = flags.contains(Flags::LAST);
        Ok(match kind {
            Kind::Forward => Self::Forward(Forward::decode(stream, body, is_last)?),
            Kind::Arguments => Self::Arguments(MoreArguments::decode(stream, body, is_last)?),
            Kind::Part => {
                let is_aborted = flags.contains(Flags::ABORTED);
                Self::Part(Part::decode(stream, body, is_last, is_aborted)?)
            }
            Kind::Reply => {
                let has_keep = flags.contains(Flags::KEEP);
                Self::Reply(Reply::decode(stream, body, is_last, has_keep)?)
            }
            Kind::Status => Self::Status(Status::decode(stream, body)?),
            // The rest belongs to no stream.
            _ if stream != 0 => return Err(WireError::Malformed),
            Kind::Hello => Self::Hello(Hello::decode(body)?),
            Kind::HelloReply => Self::HelloReply(HelloReply::decode(body)?),
            Kind::Control => Self::Control(body.rest()),
            Kind::Batch => Self::Batch(body.rest()),
            Kind::Told => Self::Told(body.rest()),
            Kind::Proof => {
                let proof = Proof(body.array()?);
                body.finish()?;
                Self::Proof(proof)
            }
            Kind::Goodbye => {
                let reason = Goodbye::from_byte(body.byte()?);
                body.finish()?;
                Self::Goodbye(reason)
            }
            Kind::Ping | Kind::Pong => {
                let nonce = u64::from_le_bytes(body.array()?);
                body.finish()?;
                if kind == Kind::Ping {
                    Self::Ping { nonce }
                } else {
                    Self::Pong { nonce }
                }
            }
        })
    }
}
