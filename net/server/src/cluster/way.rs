//! The way of a command in a cluster: executed here, sent on, or answered with where to go.

use fulmar_cluster::{NodeId, Slot};
use fulmar_protocol::command::table::{CommandId, CommandSpec, Scope};

use super::view::{Owner, View};

/// What is known of who asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Asked for the map: it finds its way, and is told where to go.
    pub(crate) knows_the_map: bool,
    /// Accepts what a replica has.
    pub(crate) reads_replicas: bool,
}

/// See the module's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// This node executes it.
    Here,
    /// A client that knows the map is to go there.
    Moved(Slot, NodeId),
    /// Keys of several slots, from a client that knows the map; or of several nodes, in a command
    /// that cannot be taken apart.
    CrossSlot,
    /// That node executes all of it.
    To(NodeId),
    /// Each node executes a part of it.
    Apart,
    /// All nodes execute it.
    Everywhere,
    /// One node after the other executes it; its cursor says whose turn it is.
    InTurn,
}

/// The way of the command `spec` with these arguments.
pub(crate) fn way(spec: &CommandSpec, args: &[&[u8]], view: &View, asker: Asker) -> Way {
    match spec.scope {
        Scope::Connection => Way::Here,
        Scope::AllShards if spec.id == CommandId::Scan && !asker.knows_the_map => Way::InTurn,
        Scope::AllShards if asker.knows_the_map || is_alone(view) => Way::Here,
        Scope::AllShards => Way::Everywhere,
        Scope::Keys => way_of_keys(spec, args, view, asker),
    }
}

/// Whether this node is all of the cluster. Who has not joined yet is not: it has nothing.
fn is_alone(view: &View) -> bool {
    let mut members = view.topology().members().iter();
    members.all(|member| member.id == view.own())
}

/// As [`way`], by the keys alone, whatever the command's scope is.
pub(crate) fn way_of_keys(spec: &CommandSpec, args: &[&[u8]], view: &View, asker: Asker) -> Way {
    let mut slots = spec.keys_in(args).map(Slot::of);
    let Some(first) = slots.next() else {
        return Way::Here;
    };
    let reads_here = asker.reads_replicas && !spec.is_write();
    let owner = |slot: Slot| match view.owner(slot.range()) {
        Owner::Node(_) if reads_here && view.is_replica(slot.range()) => Owner::Own,
        owner => owner,
    };
    let first_owner = owner(first);
    if asker.knows_the_map {
        return match first_owner {
            _ if slots.any(|slot| slot != first) => Way::CrossSlot,
            Owner::Own => Way::Here,
            Owner::Node(node) if view.is_owner_informed(first.range()) => Way::Moved(first, node),
            // It would send the client back.
            Owner::Node(node) => Way::To(node),
        };
    }
    if slots.any(|slot| owner(slot) != first_owner) {
        return if can_be_taken_apart(spec.id) {
            Way::Apart
        } else {
            Way::CrossSlot
        };
    }
    match first_owner {
        Owner::Own => Way::Here,
        // Its keys may move to different nodes while it is under way.
        Owner::Node(_) if can_be_taken_apart(spec.id) && has_several_ranges(spec, args) => {
            Way::Apart
        }
        Owner::Node(node) => Way::To(node),
    }
}

fn has_several_ranges(spec: &CommandSpec, args: &[&[u8]]) -> bool {
    let mut ranges = spec.keys_in(args).map(|key| Slot::of(key).range());
    let first = ranges.next();
    ranges.any(|range| Some(range) != first)
}

/// Whether the parts of a command, executed by different nodes, make the whole: its keys don't
/// depend on each other.
fn can_be_taken_apart(id: CommandId) -> bool {
    use CommandId as Id;
    matches!(
        id,
        Id::MGet | Id::MSet | Id::Del | Id::Unlink | Id::Exists | Id::Touch
    )
}

#[cfg(test)]
pub(super) mod tests {
    use fulmar_cluster::topology::Parts;
    use fulmar_cluster::{ClusterId, Copies, Epoch, Incarnation, Member, NodeId, Range, Slot};
    use fulmar_cluster::{Topology, Zone};
    use fulmar_protocol::command::table::lookup;

    use super::{Asker, Way, way};
    use crate::cluster::view::View;
    use crate::cluster::view::tests::{view_behind, view_of};

    const PLAIN: Asker = Asker {
        knows_the_map: false,
        reads_replicas: false,
    };
    const CLUSTER: Asker = Asker {
        knows_the_map: true,
        ..PLAIN
    };
    const READER: Asker = Asker {
        reads_replicas: true,
        ..CLUSTER
    };

    /// Node 1, which asks itself, has `foo`; node 2 has all else, and 1 is a replica of `bar`.
    pub(in crate::cluster) fn view() -> View {
        let member = |id| Member {
            id: NodeId(id),
            incarnation: Incarnation(1),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let founded = Topology::founded(ClusterId(1), member(1), 1);
        let members = vec![member(1), member(2)];
        let mut table = vec![Copies::alone(NodeId(2), Epoch(1)); 2_048];
        table[usize::from(Range::of(b"foo").index())].primary = NodeId(1);
        table[usize::from(Range::of(b"bar").index())]
            .replicas
            .push(NodeId(1));
        let parts = Parts {
            members,
            table,
            ..founded.to_parts()
        };
        view_of(NodeId(1), Topology::new(parts).expect("consistent"))
    }

    fn of(command: &str, asker: Asker) -> Way {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        way(lookup(&args).expect("a command"), &args, &view(), asker)
    }

    #[test]
    fn plain_clients_are_served_wherever_the_keys_are() {
        assert_eq!(of("get foo", PLAIN), Way::Here);
        assert_eq!(of("get bar", PLAIN), Way::To(NodeId(2)));
        assert_eq!(of("mget {bar}1 {bar}2", PLAIN), Way::To(NodeId(2)));
        assert_eq!(of("mget bar hello", PLAIN), Way::Apart);
        assert_eq!(of("mget foo bar", PLAIN), Way::Apart);
        assert_eq!(of("mset foo 1 bar 2", PLAIN), Way::Apart);
        assert_eq!(of("msetnx foo 1 bar 2", PLAIN), Way::CrossSlot);
        assert_eq!(of("dbsize", PLAIN), Way::Everywhere);
        assert_eq!(of("scan 0", PLAIN), Way::InTurn);
        assert_eq!(of("ping", PLAIN), Way::Here);
    }

    #[test]
    fn only_the_whole_cluster_answers_for_all_keys() {
        let member = Member {
            id: NodeId(1),
            incarnation: Incarnation(1),
            cores: 1,
            weight: 1,
            zone: Zone::default(),
        };
        let founded = Topology::founded(ClusterId(1), member, 1);
        let args: &[&[u8]] = &[b"dbsize"];
        let spec = lookup(args).expect("a command");
        for (own, expected) in [(1, Way::Here), (2, Way::Everywhere)] {
            let view = view_of(NodeId(own), founded.clone());
            assert_eq!(way(spec, args, &view, PLAIN), expected);
        }
    }

    #[test]
    fn clients_that_know_the_map_are_told_where_to_go() {
        assert_eq!(of("get foo", CLUSTER), Way::Here);
        let slot = Slot::of(b"bar");
        assert_eq!(of("get bar", CLUSTER), Way::Moved(slot, NodeId(2)));
        assert_eq!(of("mget foo bar", CLUSTER), Way::CrossSlot);
        assert_eq!(of("mget {foo}1 {foo}2", CLUSTER), Way::Here);
        assert_eq!(of("dbsize", CLUSTER), Way::Here);
        assert_eq!(of("scan 0", CLUSTER), Way::Here);
    }

    #[test]
    fn nobody_is_sent_to_a_node_that_would_send_them_back() {
        let args: &[&[u8]] = &[b"get", b"bar"];
        let spec = lookup(args).expect("a command");
        let moved = Way::Moved(Slot::of(b"bar"), NodeId(2));
        let view = view_behind(None, NodeId(1), view().topology().clone());
        for (informed, expected) in [(1, Way::To(NodeId(2))), (2, moved)] {
            view.note_informed(|member| member == NodeId(informed));
            assert_eq!(way(spec, args, &view, CLUSTER), expected);
        }
    }

    #[test]
    fn an_owner_stays_informed_of_what_it_keeps() {
        let args: &[&[u8]] = &[b"get", b"bar"];
        let spec = lookup(args).expect("a command");
        let moved = Way::Moved(Slot::of(b"bar"), NodeId(2));
        let before = view();
        // Whether the next epoch gives it the range anew, what is decided before it shows that epoch.
        for (is_new, expected) in [(false, moved), (true, Way::To(NodeId(2)))] {
            let mut parts = before.topology().to_parts();
            parts.epoch = parts.epoch.next();
            if is_new {
                parts.table[usize::from(Range::of(b"bar").index())].term = parts.epoch;
            }
            let topology = Topology::new(parts).expect("consistent");
            let view = view_behind(Some(&before), NodeId(1), topology);
            assert_eq!(way(spec, args, &view, CLUSTER), expected);
            view.note_informed(|_| true);
            assert_eq!(way(spec, args, &view, CLUSTER), moved);
            // Nor is it known of an owner that showed nothing in time.
            let late = view_behind(None, NodeId(1), view.topology().clone());
            late.note_late();
            assert_eq!(way(spec, args, &late, CLUSTER), moved);
            // By the next topology it may be this node that the owner sends clients to.
            view.note_superseded();
            assert_eq!(way(spec, args, &view, CLUSTER), Way::To(NodeId(2)));
        }
    }

    #[test]
    fn readers_of_replicas_read_here_and_write_there() {
        let slot = Slot::of(b"bar");
        assert_eq!(of("get bar", READER), Way::Here);
        assert_eq!(of("set bar 1", READER), Way::Moved(slot, NodeId(2)));
        let slot = Slot::of(b"hello");
        assert_eq!(of("get hello", READER), Way::Moved(slot, NodeId(2)));
    }
}
