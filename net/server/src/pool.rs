//! Byte buffers that connections take while they need them, so that an idle one holds none.

/// Buffers kept for the next taker.
const KEPT_COUNT: usize = 64;
/// A larger buffer is freed, not kept.
const KEPT_BYTES_MAX: usize = 64 * 1_024;
/// What a fresh buffer holds at first.
const FRESH_BYTES: usize = 4 * 1_024;

/// The spare buffers of one core: 4 MiB at most.
#[derive(Default)]
pub(crate) struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    pub(crate) fn give(&mut self, mut buffer: Vec<u8>) {
        let worth_keeping = buffer.capacity() > 0 && buffer.capacity() <= KEPT_BYTES_MAX;
        if worth_keeping && self.spare.len() < KEPT_COUNT {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
