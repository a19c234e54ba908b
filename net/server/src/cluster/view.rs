//! What all cores know of the cluster: the topology in force, and where its members are reached.
//!
//! A view is immutable. Control publishes a new one; each core takes it over at the start of a turn,
//! so that within a turn every look-up agrees. It only says where to send a command. Whether a shard
//! may execute it is decided by the shard, under its token.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use fulmar_cluster::{Epoch, NodeId, RANGES_COUNT, Range, Topology};
use fulmar_protocol::command::ClusterMap;
use fulmar_protocol::resp::RespVersion;
use fulmar_shard::session::ClusterView;

/// The forms of the map: three, each in two versions of RESP.
const MAPS_COUNT: usize = 6;

/// Who executes the commands on a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This node.
    Own,
    /// Another one.
    Node(NodeId),
}

/// See the module's head. About 56 KiB beside the topology.
#[derive(Debug)]
pub(crate) struct View {
    /// The cluster as clients are told of it.
    pub(crate) cluster: Arc<ClusterView>,
    owners: Box<[Owner]>,
    /// By the members' rank, the newest epoch that they are known to act on; 0: none.
    informed: Box<[AtomicU64]>,
    /// Members had their time to show that they act on it: who did not is not waited for.
    is_late: AtomicBool,
    /// A newer topology is decided, and others may know that this node acts on it.
    is_superseded: AtomicBool,
    /// By range, the epoch in which its primary last changed and may have lost writes.
    breaks: Box<[Epoch]>,
    /// The map in each form that was asked for.
    maps: [OnceLock<Box<[u8]>>; MAPS_COUNT],
}

impl View {
    /// A view behind `before`, the one that this node had.
    pub(crate) fn new(cluster: ClusterView, before: Option<&Self>) -> Self {
        let own = cluster.own();
        let topology = Arc::clone(cluster.topology());
        let owner = |range| match topology.copies(range).primary {
            node if node == own => Owner::Own,
            node => Owner::Node(node),
        };
        let owners: Box<[Owner]> = Range::all().map(owner).collect();
        debug_assert_eq!(owners.len(), usize::from(RANGES_COUNT));
        Self {
            cluster: Arc::new(cluster),
            owners,
            informed: informed(&topology, before),
            is_late: AtomicBool::new(false),
            is_superseded: AtomicBool::new(false),
            breaks: breaks(&topology, before),
            maps: Default::default(),
        }
    }

    /// The reply to CLUSTER SLOTS, SHARDS or NODES; rendered once.
    pub(crate) fn map(&self, map: ClusterMap, version: RespVersion) -> &[u8] {
        let version_place = usize::from(version == RespVersion::Resp3);
        let rendered = &self.maps[map as usize * 2 + version_place];
        rendered.get_or_init(|| self.cluster.render(map, version).into())
    }

    pub(crate) fn own(&self) -> NodeId {
        self.cluster.own()
    }

    pub(crate) fn topology(&self) -> &Topology {
        self.cluster.topology()
    }

    /// Who executes commands on `range`. One load.
    #[inline]
    pub(crate) fn owner(&self, range: Range) -> Owner {
        self.owners[usize::from(range.index())]
    }

    /// Notes the members that act on this topology.
    pub(crate) fn note_informed(&self, is_informed: impl Fn(NodeId) -> bool) {
        let epoch = self.topology().epoch().0;
        for (member, informed) in self.topology().members().iter().zip(&self.informed) {
            if informed.load(Ordering::Relaxed) < epoch && is_informed(member.id) {
                informed.store(epoch, Ordering::Relaxed);
            }
        }
    }

    /// Who has not shown that it acts on this topology may be reached by clients, if not by this node.
    pub(crate) fn note_late(&self) {
        self.is_late.store(true, Ordering::Release);
    }

    /// A newer topology is about to take this one's place.
    pub(crate) fn note_superseded(&self) {
        self.is_superseded.store(true, Ordering::Release);
    }

    /// Whether clients may be sent to the owner of `range`: it knows that it is. One that does not yet, or that
    /// is the owner no more and knows it, would send them back.
    pub(crate) fn is_owner_informed(&self, range: Range) -> bool {
        if self.is_superseded.load(Ordering::Acquire) {
            return false;
        }
        if self.is_late.load(Ordering::Acquire) {
            return true;
        }
        let copies = self.topology().copies(range);
        let rank = self.topology().rank(copies.primary);
        rank.is_some_and(|rank| self.informed[rank].load(Ordering::Relaxed) >= copies.term.0)
    }

    /// The epoch in which the primary of `range` last changed other than by a hand-over: what was
    /// written before may be lost.
    pub(crate) fn last_break(&self, range: Range) -> Epoch {
        self.breaks[usize::from(range.index())]
    }

    /// Whether this node follows `range`: it may answer reads of it to those who accept old values.
    pub(crate) fn is_replica(&self, range: Range) -> bool {
        self.topology().copies(range).replicas.contains(&self.own())
    }
}

/// What the members are known to act on when a topology is new. A branch has its epoch from where it parted,
/// so that nothing follows from the epochs before it, nor from its own after it.
fn informed(topology: &Topology, before: Option<&View>) -> Box<[AtomicU64]> {
    let is_chain = |view: &&View| topology.branch().is_none() && view.topology().branch().is_none();
    let before = before.filter(is_chain);
    let members = topology.members().iter();
    let known = members.map(|member| {
        let view = before?;
        let rank = view.topology().rank(member.id)?;
        // Another start of it may act on an older one than the last did.
        let is_same = view.topology().members()[rank].incarnation == member.incarnation;
        is_same.then_some(())?;
        Some(view.informed[rank].load(Ordering::Relaxed))
    });
    known.map(|epoch| epoch.unwrap_or(0).into()).collect()
}

/// A hand-over leaves its primary a member, and waits until the next one has everything. One that died
/// is none any more, or another start of its node; and of epochs that passed unseen nothing is known.
fn breaks(topology: &Topology, before: Option<&View>) -> Box<[Epoch]> {
    let Some(before) = before else {
        return vec![Epoch(0); usize::from(RANGES_COUNT)].into();
    };
    let old = before.topology();
    let is_next = topology.epoch() == old.epoch().next()
        && topology.branch().is_none()
        && old.branch().is_none();
    let lives_on = |node| {
        let start = |topology: &Topology| topology.member(node).map(|member| member.incarnation);
        start(topology) == start(old)
    };
    let last = |range| {
        let (was, is) = (old.copies(range), topology.copies(range));
        if was.term == is.term || (is_next && lives_on(was.primary)) {
            before.last_break(range)
        } else {
            topology.epoch()
        }
    };
    Range::all().map(last).collect()
}

/// The view in force, and how cores notice a new one.
#[derive(Default)]
pub(crate) struct Views {
    version: AtomicU64,
    current: Mutex<Option<Arc<View>>>,
}

impl Views {
    /// Lets all cores take over `view` at their next turn.
    pub(crate) fn publish(&self, view: Arc<View>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Some(view);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The view in force; `None` before there is one. Whoever answers with the map takes it from here:
    /// no client has been sent away by a newer one then, by whatever core of this node.
    pub(crate) fn current(&self) -> Option<Arc<View>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

/// A core's own hold of the view in force.
#[derive(Default)]
pub(crate) struct CachedView {
    version: u64,
    view: Option<Arc<View>>,
}

impl CachedView {
    /// Takes over a newer view, and tells whether there was one; one load if not.
    #[inline]
    pub(crate) fn refresh(&mut self, views: &Views) -> bool {
        let version = views.version.load(Ordering::Acquire);
        let is_new = version != self.version;
        if is_new {
            self.version = version;
            self.view = views.current();
        }
        is_new
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&Arc<View>> {
        self.view.as_ref()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use fulmar_cluster::{ClusterId, Epoch, Incarnation, Member, NodeId, Range, Topology, Zone};

    use fulmar_shard::session::{ClusterStatus, ClusterView, MemberPorts, MemberView};

    use fulmar_protocol::command::ClusterMap;
    use fulmar_protocol::resp::RespVersion;

    use super::{CachedView, Owner, View, Views};

    /// A view of `own` with this topology, in which all members are heard and act on it.
    pub(in crate::cluster) fn view_of(own: NodeId, topology: Topology) -> View {
        let view = view_behind(None, own, topology);
        view.note_informed(|_| true);
        view
    }

    /// One behind another, that no other member acts on yet.
    pub(in crate::cluster) fn view_behind(
        before: Option<&View>,
        own: NodeId,
        topology: Topology,
    ) -> View {
        let ports = MemberPorts {
            resp: 1,
            replica: 2,
            http: None,
            cluster: 3,
        };
        let member = MemberView::new("host".into(), ports, true);
        let members = vec![member.clone(); topology.members().len()];
        let status = ClusterStatus::default();
        let own = (own, member);
        View::new(
            ClusterView::new(Arc::new(topology), own, members, status),
            before,
        )
    }

    fn view(own: u64) -> View {
        view_of(
            NodeId(own),
            Topology::founded(ClusterId(1), member(1, 1), 1),
        )
    }

    fn member(id: u64, incarnation: u64) -> Member {
        Member {
            id: NodeId(id),
            incarnation: Incarnation(incarnation),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        }
    }

    #[test]
    fn a_hand_over_breaks_nothing_and_a_death_does() {
        let mut parts = Topology::founded(ClusterId(1), member(1, 1), 1).to_parts();
        parts.members.push(member(2, 1));
        let mut view = view_of(NodeId(1), Topology::new(parts.clone()).expect("consistent"));
        let mut epoch = 1;
        let mut next = |view: &View, skipped: u64, primary, incarnation| {
            epoch += 1 + skipped;
            parts.epoch = Epoch(epoch);
            parts.members[0].incarnation = Incarnation(incarnation);
            parts.table[7].primary = NodeId(primary);
            parts.table[7].term = Epoch(epoch);
            let topology = Topology::new(parts.clone()).expect("consistent");
            view_behind(Some(view), NodeId(1), topology)
        };
        let [seven, eight] = [7, 8].map(|index| Range::from_index(index).expect("small"));
        // Skipped epochs, next primary, node 1's incarnation, the last break expected.
        for (skipped, primary, incarnation, expected) in [
            (0, 2, 1, 0),
            (0, 1, 2, 0),
            (0, 2, 3, 4),
            (0, 1, 3, 4),
            (1, 2, 3, 7),
        ] {
            view = next(&view, skipped, primary, incarnation);
            assert_eq!(view.last_break(seven), Epoch(expected));
            assert_eq!(view.last_break(eight), Epoch(0));
        }
    }

    #[test]
    fn what_a_member_acts_on_is_not_known_of_another_start_of_it() {
        let mut parts = Topology::founded(ClusterId(1), member(1, 1), 1).to_parts();
        parts.members.push(member(2, 1));
        let range = Range::from_index(7).expect("small");
        parts.table[7].primary = NodeId(2);
        let before = view_of(NodeId(1), Topology::new(parts.clone()).expect("consistent"));
        assert!(before.is_owner_informed(range));
        parts.epoch = parts.epoch.next();
        for (incarnation, expected) in [(1, true), (2, false)] {
            parts.members[1].incarnation = Incarnation(incarnation);
            let topology = Topology::new(parts.clone()).expect("consistent");
            let view = view_behind(Some(&before), NodeId(1), topology);
            assert_eq!(view.is_owner_informed(range), expected);
        }
    }

    #[test]
    fn a_map_is_rendered_once_for_each_form() {
        let view = view(1);
        let mut distinct = std::collections::BTreeSet::new();
        for map in [ClusterMap::Nodes, ClusterMap::Shards, ClusterMap::Slots] {
            for version in [RespVersion::Resp2, RespVersion::Resp3] {
                let rendered = view.map(map, version);
                assert_eq!(rendered, view.cluster.render(map, version));
                assert!(std::ptr::eq(rendered, view.map(map, version)));
                distinct.insert(rendered.to_vec());
            }
        }
        assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn a_core_takes_over_what_is_published() {
        let views = Views::default();
        let mut cached = CachedView::default();
        cached.refresh(&views);
        assert!(cached.get().is_none());
        let range = Range::of(b"foo");
        for (own, owner) in [(1, Owner::Own), (2, Owner::Node(NodeId(1)))] {
            views.publish(Arc::new(view(own)));
            cached.refresh(&views);
            let view = cached.get().expect("published");
            assert_eq!(view.owner(range), owner);
            assert!(!view.is_replica(range));
        }
    }
}
