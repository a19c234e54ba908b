//! What a command answers, independent of the wire format.

use crate::command::CommandError;

/// Receives one command's reply, piece by piece, and encodes it.
///
/// Call order: exactly one reply per command. An aggregate is announced with its exact count
/// ([`array`](Self::array), [`map`](Self::map)) and followed by that many replies (a map: key and
/// value in turn). Methods never fail: a format that cannot express a reply encodes its own error.
pub trait ReplySink {
    /// `+OK`.
    fn ok(&mut self) {
        self.status("OK");
    }
    /// A simple string; no CR or LF.
    fn status(&mut self, text: &str);
    /// An error.
    fn error(&mut self, error: &CommandError);
    /// No value: RESP2 `$-1`, RESP3 `_`.
    fn null(&mut self);
    /// No array: RESP2 `*-1`, RESP3 `_`. An aborted EXEC answers it.
    fn null_array(&mut self);
    /// A 64-bit integer.
    fn integer(&mut self, value: i64);
    /// A binary-safe string.
    fn bulk(&mut self, bytes: &[u8]);
    /// A binary-safe string of `bytes_count` bytes that comes in parts.
    fn bulk_parts(&mut self, bytes_count: usize, parts: &mut dyn Iterator<Item = &[u8]>);
    /// An array of `count` replies follows.
    fn array(&mut self, count: usize);
    /// A set of `count` replies follows: RESP2 has an array instead.
    fn set(&mut self, count: usize) {
        self.array(count);
    }
    /// A map of `count` pairs follows: RESP2 flattens it to an array.
    fn map(&mut self, count: usize);
    /// Text for people: RESP3 verbatim string, RESP2 bulk.
    fn verbatim(&mut self, text: &str);
}
