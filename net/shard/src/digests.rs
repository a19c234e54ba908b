//! CLUSTER DIGEST: digests of this node's copies of ranges, in slices.

use fulmar_cluster::replication::{Digest, DigestWalk, NoDigest, Role};
use fulmar_cluster::{Range, Seq, ShardIndex, Term};
use fulmar_protocol::command::number::parse_i64;
use fulmar_protocol::{CommandError, ReplySink};

use crate::{Now, Placement, Shard, ShardSet};

/// Ranges that a slice looks at, if they have no items.
const RANGES_PER_SLICE: usize = 64;

/// The command under way.
#[derive(Debug)]
pub(crate) struct Digests {
    ranges: Vec<Range>,
    done: usize,
    /// The shard that the next slice is in, and the end of its ranges.
    next: Option<(ShardIndex, usize)>,
    walk: Option<DigestWalk>,
    found: Vec<Found>,
}

/// What is replied of one copy.
#[derive(Debug)]
struct Found {
    range: Range,
    role: Role,
    term: Term,
    seq: Seq,
    /// None if the copy is not whole, or was written meanwhile.
    digest: Option<Digest>,
}

impl Digests {
    pub(crate) fn new(ranges: Vec<Range>) -> Self {
        Self {
            ranges,
            done: 0,
            next: None,
            walk: None,
            found: Vec::new(),
        }
    }

    pub(crate) fn bytes_held(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>() + self.found.capacity() * size_of::<Found>()
    }

    /// The shard that the next slice needs; none if only the reply is left.
    pub(crate) fn shard_needed(&mut self, placement: &Placement<'_>) -> Option<ShardIndex> {
        let home = |range: &Range| placement.homes.home(*range);
        let shard = self.ranges.get(self.done).map(home);
        self.next = shard.map(|shard| {
            let rest = self.ranges[self.done..].iter().take(RANGES_PER_SLICE);
            let count = rest.take_while(|range| home(range) == shard).count();
            (shard, self.done + count)
        });
        shard
    }

    /// A slice on the shard that [`shard_needed`](Self::shard_needed) said; true if all is replied.
    pub(crate) fn step(
        &mut self,
        shards: &mut dyn ShardSet,
        now: Now,
        reply: &mut dyn ReplySink,
    ) -> bool {
        let Some((shard, end)) = self.next else {
            self.reply(reply);
            return true;
        };
        let shard = shards.at(shard.index());
        if shard.replication().is_none() {
            reply.error(&CommandError::ClusterDisabled);
            return true;
        }
        while self.done < end {
            if self.step_in(self.ranges[self.done], shard, now) {
                break;
            }
        }
        false
    }

    /// One step in a range; true if the slice is long enough.
    fn step_in(&mut self, range: Range, shard: &mut Shard, now: Now) -> bool {
        let walk = self.walk.take();
        let stepped = shard.replicate(now, |replication, store| {
            let mut walk = match walk {
                Some(walk) => walk,
                None => DigestWalk::new(range, replication)?,
            };
            let digest = walk.step(replication, store)?;
            Ok((digest, walk))
        });
        let outcome = stepped.unwrap_or(Err(NoDigest::NoCopy));
        let (digest, is_enough) = match outcome {
            Ok((None, walk)) => {
                self.walk = Some(walk);
                return true;
            }
            Ok((Some(digest), _)) => (Some(digest), digest.items > 0),
            Err(NoDigest::Moved) => (None, true),
            Err(NoDigest::NoCopy) => (None, false),
        };
        self.done += 1;
        let Some(replication) = shard.replication() else {
            return true;
        };
        let position = replication.position(range);
        self.found.extend(position.map(|position| Found {
            range,
            role: replication.role(range),
            term: position.term,
            seq: position.seq,
            digest,
        }));
        is_enough
    }

    fn reply(&self, reply: &mut dyn ReplySink) {
        reply.array(self.found.len());
        for found in &self.found {
            let role: &[u8] = match found.role {
                Role::Primary => b"primary",
                Role::Replica => b"replica",
                Role::Learner => b"learner",
                Role::None => b"none",
            };
            reply.array(6);
            reply.integer(found.range.index().into());
            reply.bulk(role);
            reply.integer(found.term.0.cast_signed());
            reply.integer(found.seq.0.cast_signed());
            if let Some(digest) = found.digest {
                reply.integer(digest.items.cast_signed());
                reply.bulk(format!("{:032x}", digest.sum).as_bytes());
            } else {
                reply.null();
                reply.null();
            }
        }
    }
}

/// Reads `range` and `first-last`.
///
/// # Errors
/// [`CommandError::InvalidRange`].
pub(crate) fn parse_ranges(words: &[&[u8]]) -> Result<Vec<Range>, CommandError> {
    let mut ranges = Vec::new();
    for word in words {
        let mut ends = word.splitn(2, |&byte| byte == b'-');
        let first = ends.next().unwrap_or_default();
        let (first, last) = (number(first)?, number(ends.next().unwrap_or(first))?);
        if first > last {
            return Err(CommandError::InvalidRange);
        }
        ranges.extend((first..=last).filter_map(Range::from_index));
    }
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges)
}

fn number(word: &[u8]) -> Result<u16, CommandError> {
    let number = parse_i64(word).and_then(|number| u16::try_from(number).ok());
    let number = number.filter(|&number| Range::from_index(number).is_some());
    number.ok_or(CommandError::InvalidRange)
}

#[cfg(test)]
mod tests {
    use fulmar_protocol::CommandError;

    use super::parse_ranges;

    #[test]
    fn ranges_are_numbers_and_spans() {
        let indexes = |words: &[&[u8]]| -> Result<Vec<u16>, CommandError> {
            let ranges = parse_ranges(words)?;
            Ok(ranges.iter().map(|range| range.index()).collect())
        };
        assert_eq!(indexes(&[b"0"]), Ok(vec![0]));
        assert_eq!(indexes(&[b"2047"]), Ok(vec![2_047]));
        assert_eq!(indexes(&[b"5-7", b"6", b"1"]), Ok(vec![1, 5, 6, 7]));
        assert_eq!(indexes(&[b"0-2047"]).map(|all| all.len()), Ok(2_048));
        for wrong in [&b"2048"[..], b"-1", b"1-", b"7-6", b"a", b"", b"1-2-3"] {
            assert_eq!(indexes(&[wrong]), Err(CommandError::InvalidRange));
        }
    }
}
