//! Replies to bytes, exactly as Redis writes them.

use crate::{CommandError, ReplySink};

/// The version of RESP that a connection speaks; HELLO changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RespVersion {
    /// RESP2, what a connection begins with.
    #[default]
    Resp2,
    /// RESP3: maps, sets, verbatim strings and one null.
    Resp3,
}

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    version: RespVersion,
}

impl<'a> Encoder<'a> {
    /// Encodes into `out`, behind what is there.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, version: RespVersion) -> Self {
        Self { out, version }
    }

    /// The version it writes.
    #[must_use]
    pub fn version(&self) -> RespVersion {
        self.version
    }

    /// How many bytes are in the buffer.
    #[must_use]
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Begins a bulk string of `bytes_count` bytes that the caller sends itself, and then
    /// [`bulk_end`](Self::bulk_end): for values sent from where they lie.
    #[inline]
    pub fn bulk_begin(&mut self, bytes_count: usize) {
        self.header(b'$', bytes_count);
    }

    /// Ends what [`bulk_begin`](Self::bulk_begin) began.
    #[inline]
    pub fn bulk_end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, count: usize) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(count);
        self.out.reserve(digits.len() + 3);
        self.out.push(kind);
        self.out.extend_from_slice(digits.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

impl ReplySink for Encoder<'_> {
    #[inline]
    fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    fn status(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line");
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn error(&mut self, error: &CommandError) {
        self.out.push(b'-');
        error.write_to(self.out);
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn null(&mut self) {
        self.out.extend_from_slice(match self.version {
            RespVersion::Resp2 => b"$-1\r\n",
            RespVersion::Resp3 => b"_\r\n",
        });
    }

    fn null_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            RespVersion::Resp2 => b"*-1\r\n",
            RespVersion::Resp3 => b"_\r\n",
        });
    }

    #[inline]
    fn integer(&mut self, value: i64) {
        let mut buffer = itoa::Buffer::new();
        self.out.push(b':');
        self.out.extend_from_slice(buffer.format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.out.reserve(bytes.len() + 2);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    fn bulk_parts(&mut self, bytes_count: usize, parts: &mut dyn Iterator<Item = &[u8]>) {
        self.header(b'$', bytes_count);
        self.out.reserve(bytes_count + 2);
        let start = self.out.len();
        for part in parts {
            self.out.extend_from_slice(part);
        }
        debug_assert_eq!(
            self.out.len() - start,
            bytes_count,
            "the parts are what was announced"
        );
        self.out.extend_from_slice(b"\r\n");
    }

    fn array(&mut self, count: usize) {
        self.header(b'*', count);
    }

    fn set(&mut self, count: usize) {
        match self.version {
            RespVersion::Resp2 => self.header(b'*', count),
            RespVersion::Resp3 => self.header(b'~', count),
        }
    }

    fn map(&mut self, count: usize) {
        match self.version {
            RespVersion::Resp2 => self.header(b'*', 2 * count),
            RespVersion::Resp3 => self.header(b'%', count),
        }
    }

    fn verbatim(&mut self, text: &str) {
        match self.version {
            RespVersion::Resp2 => self.bulk(text.as_bytes()),
            RespVersion::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }
}
