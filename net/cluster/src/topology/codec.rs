//! A topology's bytes, as they are sent and persisted. Integers are little-endian.
//!
//! ```text
//! cluster u64 | epoch u64 | branch: count u64 (0: none), founder u64 | replicas wanted u8
//! | members count u16 | member*
//! | run*, until they cover all ranges
//!
//! member: id u64 | incarnation u64 | cores u16 | weight u16 | zone length u8, bytes
//! run:    ranges count u16 | term u64 | primary u16 | replicas count u8, u16* | learners count u8, u16*
//! ```
//! Nodes of a run are named by their members' positions. Ranges with the same copies and term that
//! follow one another make a run.

use bytes::{Buf, BufMut, TryGetError};
use thiserror::Error;

use super::{Branch, COPIES_MAX, Copies, CopyList, Inconsistent, MEMBERS_MAX, Member, Parts};
use super::{Topology, ZONE_BYTES_MAX, Zone};
use crate::{ClusterId, Epoch, Incarnation, NodeId, RANGES_COUNT};

const HEADER_BYTES: usize = 8 + 8 + 16 + 1 + 2;
const MEMBER_BYTES_MAX: usize = 8 + 8 + 2 + 2 + 1 + ZONE_BYTES_MAX;
const RUN_BYTES_MAX: usize = 2 + 8 + 2 + 2 * (1 + 2 * COPIES_MAX);

/// Most bytes of an encoded topology.
pub const TOPOLOGY_BYTES_MAX: usize =
    HEADER_BYTES + MEMBERS_MAX * MEMBER_BYTES_MAX + RANGES_COUNT as usize * RUN_BYTES_MAX;

/// Why bytes are no topology. Nothing was changed; whoever sent them is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// It ends early.
    #[error("a topology ends early")]
    Truncated,
    /// A count, a length or a position is beyond its bound, or a name is not UTF-8.
    #[error("a topology has a field out of range")]
    OutOfRange,
    /// Its parts don't fit together.
    #[error("a topology contradicts itself: {0}")]
    Inconsistent(#[from] Inconsistent),
}

impl From<TryGetError> for TopologyError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

impl Topology {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64_le(self.cluster.0);
        out.put_u64_le(self.epoch.0);
        let (count, founder) = self.branch.map_or((0, 0), |b| (b.count, b.founder.0));
        out.put_u64_le(count);
        out.put_u64_le(founder);
        out.put_u8(self.replicas_wanted);
        out.put_u16_le(u16::try_from(self.members.len()).expect("at most MEMBERS_MAX"));
        for member in &self.members {
            encode_member(member, out);
        }
        for run in self.table.chunk_by(|one, next| one == next) {
            self.encode_run(run, out);
        }
    }

    fn encode_run(&self, run: &[Copies], out: &mut Vec<u8>) {
        let copies = &run[0];
        let position = |node| {
            let rank = self.rank(node).expect("a copy's node is a member");
            u16::try_from(rank).expect("at most MEMBERS_MAX")
        };
        out.put_u16_le(u16::try_from(run.len()).expect("at most RANGES_COUNT"));
        out.put_u64_le(copies.term.0);
        out.put_u16_le(position(copies.primary));
        for list in [&copies.replicas, &copies.learners] {
            out.put_u8(u8::try_from(list.len()).expect("at most COPIES_MAX"));
            list.iter().for_each(|&node| out.put_u16_le(position(node)));
        }
    }

    /// Reads one from the front of `bytes`, and leaves what is behind it.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, TopologyError> {
        let cluster = ClusterId(bytes.try_get_u64_le()?);
        let epoch = Epoch(bytes.try_get_u64_le()?);
        let count = bytes.try_get_u64_le()?;
        let founder = NodeId(bytes.try_get_u64_le()?);
        let replicas_wanted = bytes.try_get_u8()?;
        let members_count = usize::from(bytes.try_get_u16_le()?);
        if members_count > MEMBERS_MAX {
            return Err(TopologyError::OutOfRange);
        }
        let members = (0..members_count)
            .map(|_| decode_member(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let mut table = Vec::with_capacity(usize::from(RANGES_COUNT));
        while table.len() < usize::from(RANGES_COUNT) {
            let count = usize::from(bytes.try_get_u16_le()?);
            if count == 0 || table.len() + count > usize::from(RANGES_COUNT) {
                return Err(TopologyError::OutOfRange);
            }
            let copies = decode_copies(bytes, &members)?;
            table.resize(table.len() + count, copies);
        }
        let parts = Parts {
            cluster,
            epoch,
            branch: (count > 0).then_some(Branch { count, founder }),
            replicas_wanted,
            members,
            table,
        };
        Ok(Self::new(parts)?)
    }
}

pub(crate) fn encode_member(member: &Member, out: &mut Vec<u8>) {
    out.put_u64_le(member.id.0);
    out.put_u64_le(member.incarnation.0);
    out.put_u16_le(member.cores);
    out.put_u16_le(member.weight);
    let zone = member.zone.as_str().as_bytes();
    out.put_u8(u8::try_from(zone.len()).expect("at most ZONE_BYTES_MAX"));
    out.put_slice(zone);
}

pub(crate) fn decode_member(bytes: &mut &[u8]) -> Result<Member, TopologyError> {
    let id = NodeId(bytes.try_get_u64_le()?);
    let incarnation = Incarnation(bytes.try_get_u64_le()?);
    let cores = bytes.try_get_u16_le()?;
    let weight = bytes.try_get_u16_le()?;
    let zone_len = usize::from(bytes.try_get_u8()?);
    let (zone, rest) = bytes
        .split_at_checked(zone_len)
        .ok_or(TopologyError::Truncated)?;
    *bytes = rest;
    let zone = str::from_utf8(zone).ok().map(Zone::new);
    let Some(Ok(zone)) = zone.filter(|_| cores > 0 && weight > 0) else {
        return Err(TopologyError::OutOfRange);
    };
    Ok(Member {
        id,
        incarnation,
        cores,
        weight,
        zone,
    })
}

fn decode_copies(bytes: &mut &[u8], members: &[Member]) -> Result<Copies, TopologyError> {
    let term = Epoch(bytes.try_get_u64_le()?);
    let primary = decode_node(bytes, members)?;
    let replicas = decode_list(bytes, members)?;
    let learners = decode_list(bytes, members)?;
    Ok(Copies {
        primary,
        replicas,
        learners,
        term,
    })
}

fn decode_list(bytes: &mut &[u8], members: &[Member]) -> Result<CopyList, TopologyError> {
    let count = usize::from(bytes.try_get_u8()?);
    if count > COPIES_MAX {
        return Err(TopologyError::OutOfRange);
    }
    (0..count).map(|_| decode_node(bytes, members)).collect()
}

fn decode_node(bytes: &mut &[u8], members: &[Member]) -> Result<NodeId, TopologyError> {
    let position = usize::from(bytes.try_get_u16_le()?);
    let member = members.get(position).ok_or(TopologyError::OutOfRange)?;
    Ok(member.id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop, proptest};

    use super::{Branch, Copies, CopyList, Member, Parts, TOPOLOGY_BYTES_MAX, Topology, Zone};
    use super::{MEMBERS_MAX, TopologyError};
    use crate::{ClusterId, Epoch, Incarnation, NodeId};

    fn encoded(topology: &Topology) -> Vec<u8> {
        let mut bytes = Vec::new();
        topology.encode(&mut bytes);
        bytes
    }

    fn member(index: u64) -> Member {
        Member {
            id: NodeId(index * 7 + 1),
            incarnation: Incarnation(index),
            cores: 1 + u16::try_from(index % 5).expect("below 5"),
            weight: 2,
            zone: Zone::new(&format!("zone-{}", index % 3)).expect("short"),
        }
    }

    /// Any consistent topology: each range's copies are rotations of the members.
    fn topologies() -> impl Strategy<Value = Topology> {
        let shape = (1..9u64, any::<u64>(), prop::option::of(1..9u64));
        shape.prop_flat_map(|(members_count, cluster, branch)| {
            let copies = (0..members_count, 0..4usize, 0..3usize, 1..9u64);
            let table = prop::collection::vec(copies, 40).prop_map(move |kinds| {
                let nodes = |from: u64, count: usize| -> CopyList {
                    let all = (0..members_count).map(|by| member((from + by) % members_count).id);
                    all.take(count).collect()
                };
                let rows = (0..2_048usize).map(|index| {
                    let (first, replicas, learners, term) = kinds[index * index % 40];
                    let followers = (replicas + learners)
                        .min(usize::try_from(members_count).expect("small") - 1)
                        .min(3);
                    let all = nodes(first, followers + 1);
                    let replicas_end = 1 + replicas.min(followers);
                    Copies {
                        primary: all[0],
                        replicas: all[1..replicas_end].iter().copied().collect(),
                        learners: all[replicas_end..].iter().copied().collect(),
                        term: Epoch(term),
                    }
                });
                rows.collect::<Vec<_>>()
            });
            let members: Vec<Member> = (0..members_count).map(member).collect();
            (Just(members), table).prop_map(move |(members, table)| {
                let parts = Parts {
                    cluster: ClusterId(cluster),
                    epoch: Epoch(9),
                    branch: branch.map(|count| Branch {
                        count,
                        founder: members[0].id,
                    }),
                    replicas_wanted: 1,
                    members,
                    table,
                };
                Topology::new(parts).expect("consistent")
            })
        })
    }

    proptest! {
        #[test]
        fn topologies_survive_encoding(topology in topologies()) {
            let mut bytes = encoded(&topology);
            assert!(bytes.len() <= TOPOLOGY_BYTES_MAX);
            bytes.extend(b"behind");
            let mut rest = bytes.as_slice();
            assert_eq!(Topology::decode(&mut rest), Ok(topology));
            assert_eq!(rest, b"behind");
        }

        #[test]
        fn damaged_bytes_are_refused_or_consistent(
            topology in topologies(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = encoded(&topology);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            // It must not panic; what it accepts has been checked.
            let _ = Topology::decode(&mut bytes.as_slice());
        }
    }

    #[test]
    fn every_prefix_is_truncated() {
        let founded = Topology::founded(ClusterId(1), member(1), 1);
        let bytes = encoded(&founded);
        for end in 0..bytes.len() {
            let result = Topology::decode(&mut &bytes[..end]);
            assert_eq!(result, Err(TopologyError::Truncated), "{end}");
        }
    }

    #[test]
    fn counts_beyond_their_bounds_are_refused() {
        let mut bytes = encoded(&Topology::founded(ClusterId(1), member(1), 1));
        let count = u16::try_from(MEMBERS_MAX + 1).expect("small");
        bytes[33..35].copy_from_slice(&count.to_le_bytes());
        let result = Topology::decode(&mut bytes.as_slice());
        assert_eq!(result, Err(TopologyError::OutOfRange));
    }
}
