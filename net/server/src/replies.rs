//! Replies on their way: bytes, and between them long values that stay where they lie.
//!
//! Pure. A value is there by its lease; whoever takes replies out of here and does not send them
//! gives the leases back to their shards.
//!
//! ```text
//! bytes:   $70000\r\n|\r\n:1\r\n$90000\r\n|\r\n
//! values:            0                    1
//! ```

use std::ops::Range;

use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_protocol::{CommandError, ReplySink};
use fulmar_shard::{Leased, ValueSink};

/// A value, and where it belongs.
#[derive(Debug)]
pub(crate) struct Placed {
    /// How many of the bytes come before it.
    at: usize,
    pub(crate) leased: Leased,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub(crate) bytes: Vec<u8>,
    /// By rising place.
    values: Vec<Placed>,
    values_bytes: usize,
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Length of all that is to be sent.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.values_bytes
    }

    /// Whether there is nothing but bytes.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.values.is_empty()
    }

    /// Where RESP replies go.
    #[inline]
    pub(crate) fn sink(&mut self, version: RespVersion) -> RespSink<'_> {
        RespSink {
            encoder: Encoder::new(&mut self.bytes, version),
            values: &mut self.values,
            values_bytes: &mut self.values_bytes,
        }
    }

    /// Takes the values out of a range of the bytes; their places become relative to its start.
    pub(crate) fn take_values(&mut self, range: &Range<usize>) -> Vec<Placed> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.values);
        let (mut taken, kept): (Vec<_>, _) = all
            .into_iter()
            .partition(|placed| range.contains(&placed.at));
        self.values = kept;
        for placed in &mut taken {
            placed.at -= range.start;
            self.values_bytes -= placed.leased.lease.value_bytes();
        }
        taken
    }

    /// Appends a reply with its values.
    pub(crate) fn append(&mut self, reply: &[u8], values: Vec<Placed>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(reply);
        for placed in values {
            self.values_bytes += placed.leased.lease.value_bytes();
            self.values.push(Placed {
                at: start + placed.at,
                leased: placed.leased,
            });
        }
    }

    /// Moves a range of another's replies to the end of this one; the other keeps the bytes.
    pub(crate) fn append_part(&mut self, from: &mut Self, range: Range<usize>) {
        let values = from.take_values(&range);
        self.append(&from.bytes[range], values);
    }

    /// The leases of all values, to be given back.
    pub(crate) fn take_leases(&mut self) -> impl Iterator<Item = Leased> + use<> {
        self.values_bytes = 0;
        let values = std::mem::take(&mut self.values);
        values.into_iter().map(|placed| placed.leased)
    }

    /// The pieces from the `offset`-th byte on, as addresses and lengths, `count_max` at most. They
    /// may be read until the replies are changed or a lease is given back.
    pub(crate) fn pieces(&self, offset: usize, count_max: usize) -> Vec<(*const u8, usize)> {
        let mut pieces = Vec::new();
        let mut skip = offset;
        let mut add = |pointer: *const u8, length: usize| {
            let skipped = skip.min(length);
            skip -= skipped;
            if skipped < length && pieces.len() < count_max {
                pieces.push((pointer.wrapping_add(skipped), length - skipped));
            }
            pieces.len() < count_max
        };
        let mut start = 0;
        for placed in &self.values {
            let bytes = &self.bytes[start..placed.at];
            start = placed.at;
            let mut goes_on = add(bytes.as_ptr(), bytes.len());
            for part in placed.leased.lease.parts() {
                goes_on = goes_on && add(part.as_ptr(), part.len());
            }
            if !goes_on {
                return pieces;
            }
        }
        let rest = &self.bytes[start..];
        add(rest.as_ptr(), rest.len());
        pieces
    }
}

impl From<Vec<u8>> for Replies {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }
}

/// Encodes RESP replies, and takes leases of long values.
pub(crate) struct RespSink<'a> {
    encoder: Encoder<'a>,
    values: &'a mut Vec<Placed>,
    values_bytes: &'a mut usize,
}

impl ReplySink for RespSink<'_> {
    #[inline]
    fn ok(&mut self) {
        self.encoder.ok();
    }

    fn status(&mut self, text: &str) {
        self.encoder.status(text);
    }

    fn error(&mut self, error: &CommandError) {
        self.encoder.error(error);
    }

    #[inline]
    fn null(&mut self) {
        self.encoder.null();
    }

    fn null_array(&mut self) {
        self.encoder.null_array();
    }

    #[inline]
    fn integer(&mut self, value: i64) {
        self.encoder.integer(value);
    }

    #[inline]
    fn bulk(&mut self, bytes: &[u8]) {
        self.encoder.bulk(bytes);
    }

    fn bulk_parts(&mut self, bytes_count: usize, parts: &mut dyn Iterator<Item = &[u8]>) {
        self.encoder.bulk_parts(bytes_count, parts);
    }

    fn array(&mut self, count: usize) {
        self.encoder.array(count);
    }

    fn set(&mut self, count: usize) {
        self.encoder.set(count);
    }

    fn map(&mut self, count: usize) {
        self.encoder.map(count);
    }

    fn verbatim(&mut self, text: &str) {
        self.encoder.verbatim(text);
    }
}

impl ValueSink for RespSink<'_> {
    fn takes_leases(&self) -> bool {
        true
    }

    fn bulk_leased(&mut self, leased: Leased) {
        let value_bytes = leased.lease.value_bytes();
        self.encoder.bulk_begin(value_bytes);
        let at = self.encoder.position();
        self.encoder.bulk_end();
        *self.values_bytes += value_bytes;
        self.values.push(Placed { at, leased });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use fulmar_cluster::ShardIndex;
    use fulmar_engine::{Cache, Config, Expiry, Key, KeyHasher, Time};
    use fulmar_protocol::ReplySink;
    use fulmar_protocol::resp::RespVersion;
    use fulmar_shard::{Leased, ValueSink};

    use super::Replies;

    /// A cache of long values to lease.
    pub(crate) struct Values {
        cache: Cache,
        count: u8,
    }

    impl Values {
        pub(crate) fn new() -> Self {
            let config = Config::new(8 << 20, KeyHasher::new([1, 2, 3, 4]));
            Self {
                cache: Cache::new(config).expect("address space"),
                count: 0,
            }
        }

        /// A fresh value of this length, and its bytes.
        pub(crate) fn lease(&mut self, length: usize) -> (Leased, Vec<u8>) {
            self.count += 1;
            let name = [self.count];
            let key = Key::new(&name, 0, KeyHasher::new([1, 2, 3, 4]).hash(&name));
            let seed = usize::from(self.count);
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from((at * 7 + at / 300 + seed) % 251).expect("below 251"))
                .collect();
            self.cache
                .set(&key, &bytes, Expiry::Never, Time(0))
                .expect("fits");
            let lease = self.cache.lease(&key, Time(0)).expect("it is there");
            let shard = ShardIndex(0);
            (Leased { shard, lease }, bytes)
        }

        pub(crate) fn release(&mut self, leases: impl Iterator<Item = Leased>) {
            leases.for_each(|leased| self.cache.release(leased.lease));
            assert_eq!(self.cache.stats().leased_bytes, 0);
        }
    }

    /// All bytes as a client would get them.
    pub(crate) fn all_bytes(replies: &Replies, offset: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for placed in &replies.values {
            assert!(placed.leased.lease.value_bytes() > 0);
        }
        loop {
            let pieces = replies.pieces(offset + bytes.len(), 3);
            if pieces.is_empty() {
                return bytes;
            }
            for (pointer, length) in pieces {
                // SAFETY: the leases are held, and nothing changes the replies meanwhile.
                bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(pointer, length) });
            }
        }
    }

    #[test]
    fn values_lie_between_their_headers_wherever_sending_begins() {
        let mut values = Values::new();
        let mut replies = Replies::default();
        let mut expected = Vec::new();
        for length in [5_000, 70_000, 200_000] {
            let (leased, bytes) = values.lease(length);
            let mut sink = replies.sink(RespVersion::Resp2);
            sink.integer(1);
            sink.bulk_leased(leased);
            sink.ok();
            expected.extend_from_slice(format!(":1\r\n${length}\r\n").as_bytes());
            expected.extend_from_slice(&bytes);
            expected.extend_from_slice(b"\r\n+OK\r\n");
        }
        assert_eq!(replies.len(), expected.len());
        for offset in (0..expected.len()).step_by(997).chain([0, expected.len()]) {
            assert!(
                all_bytes(&replies, offset) == expected[offset..],
                "from {offset}"
            );
        }
        values.release(replies.take_leases());
    }

    #[test]
    fn parts_move_with_their_values() {
        let mut values = Values::new();
        let mut from = Replies::default();
        let mut ends = vec![0];
        let mut expected = Vec::new();
        for length in [20_000, 30_000, 40_000] {
            let (leased, bytes) = values.lease(length);
            from.sink(RespVersion::Resp3).bulk_leased(leased);
            ends.push(from.bytes.len());
            expected.push(
                [
                    format!("${length}\r\n").into_bytes(),
                    bytes,
                    b"\r\n".to_vec(),
                ]
                .concat(),
            );
        }
        let mut to = Replies::default();
        for part in [1, 2, 0] {
            to.append_part(&mut from, ends[part]..ends[part + 1]);
        }
        let order = [&expected[1][..], &expected[2], &expected[0]].concat();
        assert!(all_bytes(&to, 0) == order);
        assert!(from.is_plain());
        assert_eq!(from.len(), from.bytes.len());
        values.release(to.take_leases());
    }
}
