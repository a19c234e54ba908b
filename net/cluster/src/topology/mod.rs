//! Who belongs to the cluster, and who holds which range: one decided value per epoch.
//!
//! A topology is immutable. The next one is built by `placement` or `decision` from the one before,
//! decided by its members, and handed around as a whole. Addresses are not in it: they may change
//! without a decision.

mod codec;
mod copies;
mod member;

use thiserror::Error;

use crate::{ClusterId, Epoch, Incarnation, NodeId, RANGES_COUNT, Range};

pub use codec::{TOPOLOGY_BYTES_MAX, TopologyError};
pub(crate) use codec::{decode_member, encode_member};
pub use copies::{COPIES_MAX, Copies, CopyList, REPLICAS_MAX};
pub use member::{Member, ZONE_BYTES_MAX, Zone, ZoneTooLong};

/// Most members of a cluster.
pub const MEMBERS_MAX: usize = 256;

/// Marks a topology that one side of a partition dictated to itself, without a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch {
    /// Counts the founder's branches from one decided epoch.
    pub count: u64,
    /// Who dictates it: the most senior member on this side.
    pub founder: NodeId,
}

/// Members and the copies of all ranges. About 200 KiB.
///
/// # Invariants
/// 1. Members are distinct, in the order of seniority: who joined first, first. There is at least
///    one.
/// 2. Every copy's node is a member, and holds at most one copy of a range.
/// 3. No range's term is above the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    cluster: ClusterId,
    epoch: Epoch,
    branch: Option<Branch>,
    replicas_wanted: u8,
    members: Box<[Member]>,
    table: Box<[Copies]>,
}

/// Why members and copies make no topology: a programmer's error where it was built here, a forgery
/// where it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Inconsistent {
    /// No member, more than [`MEMBERS_MAX`], or one twice.
    #[error("members are none, too many, or not distinct")]
    Members,
    /// A range held by a stranger, or twice by one node.
    #[error("range {0} is held by a stranger or twice by one node")]
    Copies(u16),
    /// A range whose term is in the future.
    #[error("range {0} has a term above the epoch")]
    Term(u16),
    /// Not [`RANGES_COUNT`] ranges, or more replicas wanted than [`REPLICAS_MAX`].
    #[error("the number of ranges or of replicas wanted is wrong")]
    Shape,
}

/// What a topology is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The cluster's name.
    pub cluster: ClusterId,
    /// Its number.
    pub epoch: Epoch,
    /// Whether it is a branch.
    pub branch: Option<Branch>,
    /// Replicas that each range should have, beside its primary; at most [`REPLICAS_MAX`].
    pub replicas_wanted: u8,
    /// By seniority.
    pub members: Vec<Member>,
    /// By range.
    pub table: Vec<Copies>,
}

impl Topology {
    /// Checks the invariants.
    ///
    /// # Errors
    /// The first one that does not hold.
    pub fn new(parts: Parts) -> Result<Self, Inconsistent> {
        let Parts {
            cluster,
            epoch,
            branch,
            replicas_wanted,
            members,
            table,
        } = parts;
        if table.len() != usize::from(RANGES_COUNT) || replicas_wanted > REPLICAS_MAX {
            return Err(Inconsistent::Shape);
        }
        let mut ids: Vec<NodeId> = members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        if ids.is_empty() || ids.len() > MEMBERS_MAX || ids.windows(2).any(|two| two[0] == two[1]) {
            return Err(Inconsistent::Members);
        }
        for (index, copies) in (0..).zip(&table) {
            let are_members = copies.nodes().all(|node| ids.binary_search(&node).is_ok());
            if !are_members || !copies.are_distinct() {
                return Err(Inconsistent::Copies(index));
            }
            if copies.term > epoch {
                return Err(Inconsistent::Term(index));
            }
        }
        Ok(Self {
            cluster,
            epoch,
            branch,
            replicas_wanted,
            members: members.into_boxed_slice(),
            table: table.into_boxed_slice(),
        })
    }

    /// The first topology of a new cluster: one member that holds all ranges, empty. More than
    /// [`REPLICAS_MAX`] replicas are not wanted.
    #[must_use]
    pub fn founded(cluster: ClusterId, founder: Member, replicas_wanted: u8) -> Self {
        let epoch = Epoch(1);
        let copies = Copies::alone(founder.id, epoch);
        let parts = Parts {
            cluster,
            epoch,
            branch: None,
            replicas_wanted: replicas_wanted.min(REPLICAS_MAX),
            members: vec![founder],
            table: vec![copies; usize::from(RANGES_COUNT)],
        };
        Self::new(parts).expect("one member holds everything")
    }

    /// Its parts, to build the next one from.
    #[must_use]
    pub fn to_parts(&self) -> Parts {
        Parts {
            cluster: self.cluster,
            epoch: self.epoch,
            branch: self.branch,
            replicas_wanted: self.replicas_wanted,
            members: self.members.to_vec(),
            table: self.table.to_vec(),
        }
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its number. A branch has the number of the decided topology that it grew from.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether, and by whom, it was dictated instead of decided.
    #[must_use]
    pub fn branch(&self) -> Option<Branch> {
        self.branch
    }

    /// Replicas that each range should have, if there are enough members.
    #[must_use]
    pub fn replicas_wanted(&self) -> u8 {
        self.replicas_wanted
    }

    /// All members, the most senior first.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by its name. O(members).
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Whether it names this start of a node as a member. O(members).
    #[must_use]
    pub fn is_life_of(&self, id: NodeId, incarnation: Incarnation) -> bool {
        let member = self.member(id);
        member.is_some_and(|member| member.incarnation == incarnation)
    }

    /// A member's place in the order of seniority, 0 for the most senior. O(members).
    #[must_use]
    pub fn rank(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// Who holds a range. O(1).
    #[must_use]
    #[inline]
    pub fn copies(&self, range: Range) -> &Copies {
        &self.table[usize::from(range.index())]
    }

    /// All ranges with who holds them.
    pub fn ranges(&self) -> impl Iterator<Item = (Range, &Copies)> {
        Range::all().zip(&self.table)
    }

    /// Whether the members among `nodes` are a quorum: more than half of all, or half of them and
    /// the most senior is among them. Any two quorums of one topology share a member.
    #[must_use]
    pub fn is_quorum(&self, nodes: impl Fn(NodeId) -> bool) -> bool {
        let count = self
            .members
            .iter()
            .filter(|member| nodes(member.id))
            .count();
        let all = self.members.len();
        count * 2 > all || (count * 2 == all && nodes(self.members[0].id))
    }
}

#[cfg(test)]
mod tests {
    use super::{Copies, Inconsistent, Member, Parts, Topology};
    use crate::{ClusterId, Epoch, Incarnation, NodeId, Range, Zone};

    fn member(id: u64) -> Member {
        Member {
            id: NodeId(id),
            incarnation: Incarnation(1),
            cores: 2,
            weight: 1,
            zone: Zone::default(),
        }
    }

    fn parts(members: &[u64]) -> Parts {
        let founded = Topology::founded(ClusterId(7), member(members[0]), 1);
        Parts {
            members: members.iter().map(|&id| member(id)).collect(),
            ..founded.to_parts()
        }
    }

    #[test]
    fn any_two_quorums_share_a_member() {
        for count in 1..=7u64 {
            let ids: Vec<u64> = (1..=count).collect();
            let topology = Topology::new(parts(&ids)).expect("consistent");
            let is_quorum = |set: u64| topology.is_quorum(|id| set >> (id.0 - 1) & 1 == 1);
            let sets = 0..1u64 << count;
            let quorums: Vec<u64> = sets.filter(|&set| is_quorum(set)).collect();
            assert!(quorums.contains(&((1 << count) - 1)));
            for one in &quorums {
                assert!(quorums.iter().all(|other| one & other != 0));
            }
            // Of two halves, exactly one decides.
            assert_eq!(quorums.len(), 1 << (count - 1));
        }
    }

    #[test]
    fn strangers_and_second_copies_are_refused() {
        let mut with_stranger = parts(&[1, 2]);
        with_stranger.table[5] = Copies::alone(NodeId(9), Epoch(1));
        assert_eq!(Topology::new(with_stranger), Err(Inconsistent::Copies(5)));
        let mut twice = parts(&[1, 2]);
        twice.table[6].replicas.push(NodeId(1));
        assert_eq!(Topology::new(twice), Err(Inconsistent::Copies(6)));
        let mut early = parts(&[1, 2]);
        early.table[7].term = Epoch(2);
        assert_eq!(Topology::new(early), Err(Inconsistent::Term(7)));
        assert_eq!(Topology::new(parts(&[1, 1])), Err(Inconsistent::Members));
        let mut short = parts(&[1]);
        short.table.pop();
        assert_eq!(Topology::new(short), Err(Inconsistent::Shape));
    }

    #[test]
    fn a_founder_holds_every_range() {
        let topology = Topology::founded(ClusterId(7), member(3), 1);
        assert_eq!(topology.ranges().count(), 2_048);
        let range = Range::of(b"foo");
        assert_eq!(topology.copies(range).primary, NodeId(3));
        assert_eq!(topology.rank(NodeId(3)), Some(0));
        assert_eq!(topology.member(NodeId(4)), None);
    }
}
