//! RESP2 and RESP3: [`Decoder`] turns bytes into argv, [`Encoder`] turns replies into bytes.
//!
//! Requests are the same in both versions: an array of bulk strings, or an inline line. What is
//! too long for memory to be risked on is refused: the limits are the constants here.

mod decoder;
mod encoder;
mod error;
mod frame;
mod header;
mod inline;
mod partial;
mod token;

pub use decoder::{Decoded, Decoder, peek};
pub use encoder::{Encoder, RespVersion};
pub use error::WireError;
pub use frame::{Frame, Slices};
pub use token::{Token, next_token};

/// Longest argument that is given as a slice; a longer one is staged or refused. It is the
/// longest key, too.
pub const ARGUMENT_BYTES_MAX: usize = 16 * 1024 - 1;

/// Longest bulk string that a frame may announce, as Redis's `proto-max-bulk-len`.
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Most arguments in a frame.
pub const ARGUMENTS_MAX: usize = 1024 * 1024;

/// What the caller must be able to keep of an incomplete command: [`Decoded::Need`] is answered to
/// shorter inputs only. A line, be it an inline command or a length, ends within so many bytes.
pub const INPUT_KEPT_MAX: usize = 64 * 1024;

/// Most bytes that the decoder holds for one command whose arguments are many.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
