//! Whether the frames of a forwarded command come as they must.

use thiserror::Error;

use super::blob::Blob;
use super::forward::{Arguments, Forward, MoreArguments, Part};

/// Follows one forwarded command that does not come in one frame.
///
/// Call order: [`begin`](Self::begin), then [`arguments`](Self::arguments) and
/// [`part`](Self::part) as frames of its stream come, until [`is_complete`](Self::is_complete), an
/// aborted part, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    arguments_left: usize,
    /// Of a long argument: the bytes that came, and those that are missing, at least 1.
    long: Option<(u64, u64)>,
    is_complete: bool,
}

/// A frame came that its stream's earlier ones do not allow: the connection closes. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a frame does not follow from the earlier ones of its stream")]
pub struct OutOfStep;

impl Progress {
    /// The first frame of a command.
    #[must_use]
    pub fn begin(forward: &Forward<'_>) -> Self {
        let mut progress = Self {
            arguments_left: forward.arguments_count,
            long: None,
            is_complete: forward.is_whole,
        };
        let taken = progress.take(&forward.arguments);
        debug_assert!(taken.is_ok(), "the decoder counts them");
        progress
    }

    /// Whether the command is there with all its arguments.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes of the current long argument that have not come; 0 if there is none.
    #[must_use]
    pub fn bytes_left(&self) -> u64 {
        self.long.map_or(0, |(_, left)| left)
    }

    /// More arguments.
    ///
    /// # Errors
    /// They are too many, a long argument is not complete, or the command does not end as it says.
    pub fn arguments(&mut self, more: &MoreArguments<'_>) -> Result<(), OutOfStep> {
        if self.is_complete || self.long.is_some() {
            return Err(OutOfStep);
        }
        self.take(&more.arguments)?;
        self.end(more.is_last)
    }

    /// A part of the long argument that was announced.
    ///
    /// # Errors
    /// There is none, the part is not the next one or too long, or the command does not end as it
    /// says.
    pub fn part(&mut self, part: &Part<'_>) -> Result<(), OutOfStep> {
        let (came, left) = self.long.ok_or(OutOfStep)?;
        let bytes_count = part.bytes.len() as u64;
        if part.is_aborted {
            return Ok(());
        }
        if part.offset != came || bytes_count == 0 || bytes_count > left {
            return Err(OutOfStep);
        }
        let left = left - bytes_count;
        self.long = (left > 0).then_some((came + bytes_count, left));
        self.end(part.is_last)
    }

    fn take(&mut self, arguments: &Arguments<'_>) -> Result<(), OutOfStep> {
        for argument in arguments.clone() {
            self.arguments_left = self.arguments_left.checked_sub(1).ok_or(OutOfStep)?;
            if let Blob::InParts(bytes_count) = argument {
                self.long = Some((0, bytes_count as u64));
            }
        }
        Ok(())
    }

    /// A command says that it ends exactly where nothing is missing.
    fn end(&mut self, is_last: bool) -> Result<(), OutOfStep> {
        self.is_complete = self.arguments_left == 0 && self.long.is_none();
        if self.is_complete == is_last {
            Ok(())
        } else {
            Err(OutOfStep)
        }
    }
}
