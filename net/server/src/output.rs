//! A connection's replies, in the order of its commands.
//!
//! Pure. A command whose reply comes later (another core executes it) reserves a hole; what is
//! answered behind an open hole waits in `behind`, and moves to `ready` when all before it is
//! filled.
//!
//! ```text
//! ready: bytes that may be sent      pieces: Hole 7 | Bytes | Hole 8 | Bytes
//!                                                     |                |
//!                                            behind: [.....]........[.....]
//! ```

use std::collections::VecDeque;
use std::ops::Range;

use fulmar_cluster::Epoch;
use fulmar_shard::Leased;

use crate::pool::Pool;
use crate::replies::{Placed, Replies};

/// Names a hole; rises by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HoleId(u64);

enum Piece {
    Hole(HoleId),
    Bytes(Range<usize>),
}

/// Replies of one connection; see the module's head.
#[derive(Default)]
pub(crate) struct Output {
    ready: Replies,
    behind: Replies,
    /// How much of `behind` the pieces cover.
    behind_covered: usize,
    pieces: VecDeque<Piece>,
    holes_count: usize,
    next_hole: u64,
    /// Holes whose commands wait to be tried again.
    delayed: Vec<HoleId>,
    /// The epoch in which the commands of the open holes were sent.
    epoch: Epoch,
}

impl Output {
    /// Where the next reply goes.
    #[inline]
    pub(crate) fn replies(&mut self) -> &mut Replies {
        if self.pieces.is_empty() {
            &mut self.ready
        } else {
            &mut self.behind
        }
    }

    /// Where the bytes of the next reply go.
    #[inline]
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        &mut self.replies().bytes
    }

    /// Keeps the place of a reply that [`fill`](Self::fill) brings.
    pub(crate) fn reserve(&mut self) -> HoleId {
        self.cover_behind();
        let id = HoleId(self.next_hole);
        self.next_hole += 1;
        self.pieces.push_back(Piece::Hole(id));
        self.holes_count += 1;
        id
    }

    /// Brings the reply of a hole, with its values.
    ///
    /// # Errors
    /// The values, if there is no such hole.
    pub(crate) fn fill(
        &mut self,
        id: HoleId,
        reply: &[u8],
        values: Vec<Placed>,
    ) -> Result<(), Vec<Placed>> {
        let is_it = |piece: &Piece| matches!(piece, Piece::Hole(hole) if *hole == id);
        let Some(place) = self.pieces.iter().position(is_it) else {
            return Err(values);
        };
        self.holes_count -= 1;
        self.delayed.retain(|&hole| hole != id);
        self.cover_behind();
        if place > 0 {
            let start = self.behind.bytes.len();
            self.behind.append(reply, values);
            self.behind_covered = self.behind.bytes.len();
            self.pieces[place] = Piece::Bytes(start..self.behind_covered);
            return Ok(());
        }
        self.pieces.pop_front();
        self.ready.append(reply, values);
        while let Some(Piece::Bytes(range)) = self.pieces.front() {
            self.ready.append_part(&mut self.behind, range.clone());
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.behind.bytes.clear();
            self.behind_covered = 0;
        }
        Ok(())
    }

    /// The command of a hole waits to be tried again.
    pub(crate) fn note_delayed(&mut self, id: HoleId) {
        if !self.delayed.contains(&id) {
            self.delayed.push(id);
        }
    }

    /// Whether commands wait to be tried again: later ones must not go before them.
    pub(crate) fn is_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Whether commands that were sent by an older topology are on their way: later ones may take another
    /// way, and must not go before them. `epoch` is that of the topology in force.
    pub(crate) fn is_between_epochs(&mut self, epoch: Epoch) -> bool {
        if self.holes_count == 0 {
            self.epoch = epoch;
        }
        self.epoch != epoch
    }

    /// Replies that are still to come.
    pub(crate) fn holes_count(&self) -> usize {
        self.holes_count
    }

    /// Bytes that wait for a hole to be filled, values included.
    pub(crate) fn behind_bytes(&self) -> usize {
        self.behind.len()
    }

    /// Bytes to send, now or later, values included.
    pub(crate) fn bytes(&self) -> usize {
        self.ready.len() + self.behind.len()
    }

    /// Memory held.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.ready.bytes.capacity() + self.behind.bytes.capacity()
    }

    /// Whether there is something to send.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing is held and nothing is to come.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.pieces.is_empty()
    }

    /// Makes sure there is a buffer to write to.
    #[inline]
    pub(crate) fn lend(&mut self, pool: &mut Pool) {
        if self.ready.bytes.capacity() == 0 {
            self.ready.bytes = pool.take();
        }
    }

    /// Gives the buffer back if nothing was written.
    #[inline]
    pub(crate) fn give_back_unused(&mut self, pool: &mut Pool) {
        if self.ready.is_empty() {
            pool.give(std::mem::take(&mut self.ready.bytes));
        }
        if self.pieces.is_empty() && self.behind.bytes.capacity() > 0 {
            pool.give(std::mem::take(&mut self.behind.bytes));
        }
    }

    /// What may be sent.
    pub(crate) fn take_ready(&mut self) -> Replies {
        std::mem::take(&mut self.ready)
    }

    /// The leases of all values, when nothing will be sent any more.
    pub(crate) fn take_leases(&mut self) -> impl Iterator<Item = Leased> + use<> {
        let ready = self.ready.take_leases();
        ready.chain(self.behind.take_leases())
    }

    fn cover_behind(&mut self) {
        let length = self.behind.bytes.len();
        if self.behind_covered < length {
            self.pieces
                .push_back(Piece::Bytes(self.behind_covered..length));
            self.behind_covered = length;
        }
    }
}

#[cfg(test)]
mod tests {
    use fulmar_protocol::resp::RespVersion;
    use fulmar_shard::ValueSink;

    use super::{HoleId, Output};
    use crate::replies::Replies;
    use crate::replies::tests::{Values, all_bytes};

    fn write(output: &mut Output, text: &str) {
        output.writer().extend_from_slice(text.as_bytes());
    }

    fn sendable(output: &mut Output) -> String {
        String::from_utf8(output.take_ready().bytes).expect("text")
    }

    #[test]
    fn replies_keep_the_order_of_commands_in_every_order_of_filling() {
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for order in orders {
            let mut output = Output::default();
            let mut holes = Vec::new();
            write(&mut output, "a");
            holes.push(output.reserve());
            write(&mut output, "b");
            write(&mut output, "c");
            holes.push(output.reserve());
            holes.push(output.reserve());
            write(&mut output, "d");
            let mut sent = sendable(&mut output);
            assert_eq!(sent, "a");
            for hole in order {
                let reply = hole.to_string();
                output
                    .fill(holes[hole], reply.as_bytes(), Vec::new())
                    .expect("a hole");
                write(&mut output, ".");
                sent.push_str(&sendable(&mut output));
            }
            assert_eq!(sent.replace('.', ""), "a0bc12d", "{order:?}");
            assert_eq!(output.holes_count(), 0);
            assert!(output.is_empty());
            assert_eq!(output.behind_bytes(), 0);
        }
    }

    #[test]
    fn an_unknown_hole_is_refused() {
        let mut output = Output::default();
        let hole = output.reserve();
        assert!(output.fill(HoleId(99), b"x", Vec::new()).is_err());
        assert_eq!(output.holes_count(), 1);
        assert!(output.fill(hole, b"y", Vec::new()).is_ok());
        assert!(output.fill(hole, b"y", Vec::new()).is_err());
        assert_eq!(sendable(&mut output), "y");
    }

    #[test]
    fn values_keep_their_places_behind_holes() {
        for order in [[0, 1], [1, 0]] {
            let mut values = Values::new();
            let mut output = Output::default();
            let holes = [output.reserve(), output.reserve()];
            let (leased, own) = values.lease(30_000);
            output
                .replies()
                .sink(RespVersion::Resp2)
                .bulk_leased(leased);
            let mut expected = Vec::new();
            let mut replies = Vec::new();
            for _ in holes {
                let (leased, bytes) = values.lease(20_000);
                let mut reply = Replies::default();
                reply.sink(RespVersion::Resp2).bulk_leased(leased);
                replies.push(Some(reply));
                expected.extend([b"$20000\r\n", &bytes[..], b"\r\n"].concat());
            }
            expected.extend([b"$30000\r\n", &own[..], b"\r\n"].concat());
            for hole in order {
                let mut reply = replies[hole].take().expect("once");
                let held = reply.take_values(&(0..usize::MAX));
                output
                    .fill(holes[hole], &reply.bytes, held)
                    .expect("a hole");
            }
            assert_eq!(output.bytes(), expected.len());
            let mut ready = output.take_ready();
            assert!(all_bytes(&ready, 0) == expected);
            values.release(ready.take_leases().chain(output.take_leases()));
        }
    }
}
