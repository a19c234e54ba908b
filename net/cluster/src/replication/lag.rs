//! What followers are behind: what a failover now would lose.

use super::copies::Role;
use super::{Address, Replication};
use crate::{NodeId, Range, Time};

/// How far one follower's core is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The follower's core.
    pub follower: Address,
    /// Whether a connection is open.
    pub is_connected: bool,
    /// Ranges that it follows, and those of which it has no whole copy.
    pub ranges: usize,
    /// Of those, the ones that are not whole.
    pub incomplete: usize,
    /// Writes that it has not acknowledged. Of ranges that changed their primary, somewhat more.
    pub entries: u64,
    /// An estimate of what it would take to send them.
    pub bytes: u64,
    /// Age of the oldest of them, at most.
    pub ms: u64,
}

impl Replication {
    /// How far each follower's core is behind.
    pub fn lags(&self, now: Time) -> impl Iterator<Item = Lag> + '_ {
        self.links.iter().map(move |link| {
            let behind = |range, acked: crate::Seq| {
                let seq = self.copies.get(range).map_or(0, |copy| copy.seq.0);
                seq.saturating_sub(acked.0)
            };
            let followed = link.followed();
            let entries = followed
                .iter()
                .map(|one| behind(one.range, one.acked))
                .sum();
            Lag {
                follower: link.to,
                is_connected: link.is_connected,
                ranges: followed.len(),
                incomplete: followed.iter().filter(|one| !one.is_complete).count(),
                entries,
                bytes: entries * link.entry_bytes_mean(),
                ms: if entries == 0 {
                    0
                } else {
                    now.ms_since(link.covered())
                },
            }
        })
    }

    /// Whether a follower has acknowledged all writes of a range: a hand-over loses nothing.
    #[must_use]
    pub fn is_caught_up(&self, range: Range, follower: NodeId) -> bool {
        let Some(place) = self.copies.place(range) else {
            return false;
        };
        let copy = self.copies.at(place);
        let mut links = self
            .links
            .iter()
            .filter(|link| link.core().node == follower);
        copy.role == Role::Primary
            && links.any(|link| {
                link.of_place(place)
                    .is_some_and(|one| one.has(copy.seq, self.epoch))
            })
    }

    /// The followers that have a whole copy: learners among them can become replicas.
    pub fn complete_copies(&self) -> impl Iterator<Item = (Range, NodeId)> + '_ {
        self.links.iter().flat_map(|link| {
            let complete = link.followed().iter().filter(|one| one.is_complete);
            complete.map(|one| (one.range, link.core().node))
        })
    }
}
