//! Where a body ends: one reader for both ways of framing it.

use super::chunked::Chunked;
use super::error::RequestError;
use super::head::BodyLength;

/// A step through a body: `consumed` bytes of the input, of which the last ones are `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Go on with the rest of the input.
    Piece { consumed: usize, data: &'a [u8] },
    /// The body is complete.
    End { consumed: usize },
    /// The input is too short for a step.
    Need,
}

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyReader {
    /// So many bytes.
    Exact { remaining: u64 },
    /// Chunks.
    Chunked(Chunked),
}

impl BodyReader {
    /// Where the body of a head with this length begins.
    pub(super) fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Exact(remaining) => Self::Exact { remaining },
            BodyLength::Chunked => Self::Chunked(Chunked::SizeLine),
        }
    }

    /// Goes one run of data, or one line between them, further.
    pub(super) fn step<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, RequestError> {
        match self {
            Self::Exact { remaining: 0 } => Ok(Step::End { consumed: 0 }),
            Self::Exact { .. } if input.is_empty() => Ok(Step::Need),
            Self::Exact { remaining } => {
                let count = usize::try_from(*remaining).map_or(input.len(), |r| r.min(input.len()));
                *remaining -= count as u64;
                Ok(Step::Piece {
                    consumed: count,
                    data: &input[..count],
                })
            }
            Self::Chunked(chunked) => chunked.step(input),
        }
    }
}
