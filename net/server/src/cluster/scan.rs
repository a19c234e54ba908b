//! SCAN over the whole cluster: the shards of all members stand in one row, members by seniority, and
//! the cursor says at which of them it is.
//!
//! A member that joins stands at the end, so that a SCAN under way goes on; one that leaves shifts
//! those behind it.

use fulmar_cluster::{NodeId, Topology};
use fulmar_shard::ScanPlaces;

/// The places of a member's shards; `None` if it is none.
pub(crate) fn places_of(topology: &Topology, node: NodeId) -> Option<ScanPlaces> {
    let rank = topology.rank(node)?;
    let members = topology.members();
    let first = members[..rank].iter().map(|member| u64::from(member.cores));
    let total = members.iter().map(|member| u64::from(member.cores));
    Some(ScanPlaces::in_cluster(first.sum(), total.sum()))
}

/// The member at whose shards a cursor is; `None` behind the last.
pub(crate) fn member_at(topology: &Topology, cursor: u64) -> Option<NodeId> {
    let mut place = ScanPlaces::of_cursor(cursor);
    let mut members = topology.members().iter();
    let found = members.find(|member| {
        let cores = u64::from(member.cores);
        let is_here = place < cores;
        place -= if is_here { 0 } else { cores };
        is_here
    });
    found.map(|member| member.id)
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{ClusterId, Incarnation, Member, NodeId, Topology, Zone};
    use fulmar_shard::ScanPlaces;

    use super::{member_at, places_of};

    #[test]
    fn the_shards_of_all_members_stand_in_one_row() {
        let member = |id, cores| Member {
            id: NodeId(id),
            incarnation: Incarnation(1),
            cores,
            weight: 1,
            zone: Zone::default(),
        };
        let mut parts = Topology::founded(ClusterId(1), member(7, 2), 1).to_parts();
        parts.members.push(member(5, 1));
        parts.members.push(member(6, 3));
        let topology = Topology::new(parts).expect("consistent");
        let places = |first| Some(ScanPlaces::in_cluster(first, 6));
        assert_eq!(places_of(&topology, NodeId(7)), places(0));
        assert_eq!(places_of(&topology, NodeId(5)), places(2));
        assert_eq!(places_of(&topology, NodeId(6)), places(3));
        assert_eq!(places_of(&topology, NodeId(8)), None);
        let at = |place: u64| member_at(&topology, 99 << 16 | place).map(|node| node.0);
        let row: Vec<Option<u64>> = (0..7).map(at).collect();
        let expected = [7, 7, 5, 6, 6, 6].map(Some);
        assert_eq!(row[..6], expected);
        assert_eq!(row[6], None);
    }
}
