//! The binary protocol between nodes: [`Encoder`] appends frames to a buffer, [`Decoder`] reads them
//! from one. `docs/protocol.md` has the tables of bytes.
//!
//! ```text
//! Hello -> <- HelloReply  Proof ->      versions, features, who is who; then, in any order:
//! Forward | Part* ->   <- Reply | Part*     a command for another node, and its answer
//! Batch ->   <- Told                        a core's writes for copies, and what these say to it
//! Control, Ping, Pong, Goodbye              either way
//!
//!  0       4        8        12     13      14
//! +-------+--------+--------+------+-------+---------+
//! | crc32 | length | stream | kind | flags | body    |   little endian; the CRC is of all behind it
//! +-------+--------+--------+------+-------+---------+
//! ```
//!
//! Pure: no socket, no clock. Who may speak is not decided here: challenges and their answers are
//! bytes that `fulmar-cluster` makes and checks, as it does those in Control, Batch and Told.
//!
//! Invariants:
//! 1. A decoded frame borrows from the input and is checked whole: its iterators do not fail.
//! 2. No length that a frame announces is reserved, and none is waited for above the bound of its
//!    kind. Before [`Decoder::open`] the longest body is [`HELLO_BYTES_MAX`].
//! 3. A value has one encoding: what is decoded and encoded again gives the same bytes, except for
//!    what a newer version added to Hello.

mod blob;
mod decoder;
mod encoder;
mod error;
mod forward;
mod header;
mod hello;
mod items;
mod progress;
mod varint;

pub use blob::Blob;
pub use decoder::{Decoded, Decoder, Frame};
pub use encoder::{Encoder, PayloadEncoder, ReplyEncoder};
pub use error::WireError;
pub use forward::{
    Arguments, Fence, Forward, ForwardHead, ForwardOptions, ForwardStatus, MoreArguments, Part,
    Reply, ReplyForm, Status,
};
pub use header::HEADER_BYTES;
pub use hello::{
    Agreed, CHALLENGE_BYTES, Challenge, Goodbye, Hello, HelloReply, Identity, PROOF_BYTES, Proof,
    Purpose, VERSION_MAX, VERSION_MIN, Versions,
};
pub use items::Items;
pub use progress::{OutOfStep, Progress};

/// Longest body of Hello and HelloReply, of which this version uses less.
pub const HELLO_BYTES_MAX: usize = 512;

/// Longest frame of a command or an answer, header included.
pub const DATA_FRAME_BYTES_MAX: usize = 64 * 1024;

/// Longest body of such a frame.
pub const DATA_BYTES_MAX: usize = DATA_FRAME_BYTES_MAX - HEADER_BYTES;

/// Longest body of Control, and of a frame that is skipped because its kind is unknown.
pub const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// Longest frame of replication, header included.
pub const BATCH_FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Longest body of Batch and Told.
pub const BATCH_BYTES_MAX: usize = BATCH_FRAME_BYTES_MAX - HEADER_BYTES;

/// Longest frame of all: whoever reads keeps as much of an incomplete one.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + CONTROL_BYTES_MAX;

/// Longest key, argument or value inside a frame; a longer argument or value comes in parts.
pub const INLINE_BYTES_MAX: usize = crate::resp::ARGUMENT_BYTES_MAX;

/// Longest value, all its parts together.
pub const VALUE_BYTES_MAX: usize = crate::resp::BULK_BYTES_MAX;

/// Most bytes in one part.
pub const PART_BYTES_MAX: usize = 16 * 1024;

/// Most arguments of a command.
pub const ARGUMENTS_MAX: usize = crate::resp::ARGUMENTS_MAX;

/// How often a command may be forwarded.
pub const HOPS_MAX: u8 = 2;

/// Longest time for which a reply may be kept and given again, in milliseconds.
pub const KEEP_MS_MAX: u16 = 1_000;

// A command's head and its longest argument fit into a frame.
const _: () = assert!(INLINE_BYTES_MAX + 128 < DATA_BYTES_MAX);
const _: () = assert!(PART_BYTES_MAX + varint::BYTES_MAX <= DATA_BYTES_MAX);
const _: () = assert!(CONTROL_BYTES_MAX > DATA_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX >= BATCH_FRAME_BYTES_MAX);
