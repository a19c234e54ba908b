//! What ends a connection between nodes.

use thiserror::Error;

/// Input that is no frame, or one that must not come: the connection closes.
///
/// None of them is normal in running: the other node is broken, of a version that was not agreed
/// on, or no node. None of them changed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WireError {
    /// The CRC does not match.
    #[error("a frame's checksum does not match")]
    Checksum,
    /// The body is longer than its kind may be.
    #[error("a frame is longer than its kind may be")]
    TooLong,
    /// The kind is unknown, and may not be skipped.
    #[error("a frame is of unknown kind {0}")]
    UnknownKind(u8),
    /// A flag is set that the kind does not have.
    #[error("a frame has unknown flags")]
    UnknownFlags,
    /// It is of a kind that comes only after the greeting.
    #[error("a frame came before the greeting was over")]
    TooEarly,
    /// The greeting does not begin as it must: this is no node.
    #[error("a greeting is of another protocol")]
    Magic,
    /// The body does not have the form of its kind.
    #[error("a frame's body has not the form of its kind")]
    Malformed,
}
