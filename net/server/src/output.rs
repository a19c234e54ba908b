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

use crate::pool::Pool;

/// Names a hole; rises by one with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoleId(u64);

enum Piece {
    Hole(HoleId),
    Bytes(Range<usize>),
}

/// Replies of one connection; see the module's head.
#[derive(Default)]
pub(crate) struct Output {
    ready: Vec<u8>,
    behind: Vec<u8>,
    /// How much of `behind` the pieces cover.
    behind_covered: usize,
    pieces: VecDeque<Piece>,
    holes_count: usize,
    next_hole: u64,
}

impl Output {
    /// Where the next reply goes.
    pub(crate) fn writer(&mut self) -> &mut Vec<u8> {
        if self.pieces.is_empty() {
            &mut self.ready
        } else {
            &mut self.behind
        }
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

    /// Brings the reply of a hole. An unknown hole is ignored.
    pub(crate) fn fill(&mut self, id: HoleId, reply: &[u8]) {
        let is_it = |piece: &Piece| matches!(piece, Piece::Hole(hole) if *hole == id);
        let Some(place) = self.pieces.iter().position(is_it) else {
            return;
        };
        self.holes_count -= 1;
        self.cover_behind();
        if place > 0 {
            let start = self.behind.len();
            self.behind.extend_from_slice(reply);
            self.behind_covered = self.behind.len();
            self.pieces[place] = Piece::Bytes(start..self.behind.len());
            return;
        }
        self.pieces.pop_front();
        self.ready.extend_from_slice(reply);
        while let Some(Piece::Bytes(range)) = self.pieces.front() {
            self.ready.extend_from_slice(&self.behind[range.clone()]);
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.behind.clear();
            self.behind_covered = 0;
        }
    }

    /// Replies that are still to come.
    pub(crate) fn holes_count(&self) -> usize {
        self.holes_count
    }

    /// Bytes that wait for a hole to be filled.
    pub(crate) fn behind_bytes(&self) -> usize {
        self.behind.len()
    }

    /// Bytes held, sendable or not.
    pub(crate) fn bytes(&self) -> usize {
        self.ready.len() + self.behind.len()
    }

    /// Memory held.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.ready.capacity() + self.behind.capacity()
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
        if self.ready.capacity() == 0 {
            self.ready = pool.take();
        }
    }

    /// Gives the buffer back if nothing was written.
    #[inline]
    pub(crate) fn give_back_unused(&mut self, pool: &mut Pool) {
        if self.ready.is_empty() {
            pool.give(std::mem::take(&mut self.ready));
        }
        if self.pieces.is_empty() && self.behind.capacity() > 0 {
            pool.give(std::mem::take(&mut self.behind));
        }
    }

    /// What may be sent.
    pub(crate) fn take_ready(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.ready)
    }

    fn cover_behind(&mut self) {
        if self.behind_covered < self.behind.len() {
            self.pieces
                .push_back(Piece::Bytes(self.behind_covered..self.behind.len()));
            self.behind_covered = self.behind.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HoleId, Output};

    fn write(output: &mut Output, text: &str) {
        output.writer().extend_from_slice(text.as_bytes());
    }

    fn sendable(output: &mut Output) -> String {
        String::from_utf8(output.take_ready()).expect("text")
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
                output.fill(holes[hole], hole.to_string().as_bytes());
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
    fn an_unknown_hole_is_ignored() {
        let mut output = Output::default();
        let hole = output.reserve();
        output.fill(HoleId(99), b"x");
        assert_eq!(output.holes_count(), 1);
        output.fill(hole, b"y");
        output.fill(hole, b"y");
        assert_eq!(sendable(&mut output), "y");
    }
}
