//! What ends a connection.

/// Input that is no RESP: the connection answers [`write_to`](Self::write_to) and closes.
///
/// What follows in the input cannot be understood, so nothing more is decoded. None of them
/// changed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The number of arguments is no number, or above [`ARGUMENTS_MAX`](super::ARGUMENTS_MAX).
    MultibulkLength,
    /// A length is no number, negative, or above [`BULK_BYTES_MAX`](super::BULK_BYTES_MAX).
    BulkLength,
    /// This byte stands where a `$` should.
    ExpectedDollar(u8),
    /// The number of arguments has no end.
    MultibulkCountTooBig,
    /// A length has no end.
    BulkCountTooBig,
    /// An inline command has no end.
    InlineTooBig,
    /// An inline command opens a quote and does not close it.
    UnbalancedQuotes,
    /// HTTP, perhaps sent by a browser that a foreign page made attack this port. There is no
    /// reply: the connection just closes.
    CrossProtocol,
}

impl WireError {
    /// Appends the error as RESP, or nothing for [`CrossProtocol`](Self::CrossProtocol).
    pub fn write_to(self, out: &mut Vec<u8>) {
        let detail: &[u8] = match self {
            Self::MultibulkLength => b"invalid multibulk length",
            Self::BulkLength => b"invalid bulk length",
            Self::ExpectedDollar(_) => b"expected '$', got '",
            Self::MultibulkCountTooBig => b"too big mbulk count string",
            Self::BulkCountTooBig => b"too big bulk count string",
            Self::InlineTooBig => b"too big inline request",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::CrossProtocol => return,
        };
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(detail);
        if let Self::ExpectedDollar(byte) = self {
            out.push(if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            });
            out.push(b'\'');
        }
        out.extend_from_slice(b"\r\n");
    }
}
