//! What a node of a cluster tells its clients. Shapes are those of redis-server 7.0.15 with
//! `--cluster-enabled yes`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fulmar_cluster::{
    ClusterId, Copies, Epoch, HomeTable, Incarnation, Member, NodeId, Range, Topology, Zone,
};
use fulmar_engine::{Config, Expiry, KeyHasher, Time};
use fulmar_protocol::command::table::lookup;
use fulmar_protocol::command::{Argv, ClusterMap, Command, CommandError};
use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_shard::session::{
    ClientState, ClusterStatus, ClusterView, ConfigChange, Endpoint, EndpointId, Failover,
    MemberPorts, MemberView, Node, NodeConfig, NodeFacts, NodeStats, NotChangeable, Operation,
    Progress, SLOT_KEYS_MAX, execute_connection, reply_version, visit_slot,
};
use fulmar_shard::{FollowerLag, Now, Placement, Shard};

use crate::support::words;

mod operate;

const CLUSTER: ClusterId = ClusterId(0xc1);
const NOW: Now = Now {
    time: Time(1_000_000),
    unix_ms: 1_700_000_000_000,
};

/// A node of a cluster, or of none, with one shard.
struct ClusterNode {
    view: Option<Arc<ClusterView>>,
    shard: Shard,
    failovers: Vec<Failover>,
    stats: NodeStats,
    operations: Vec<Operation>,
    progress: Progress,
}

impl Node for ClusterNode {
    fn facts(&self) -> NodeFacts {
        NodeFacts::default()
    }

    fn config(&self) -> NodeConfig {
        NodeConfig::default()
    }

    fn stats(&mut self) -> NodeStats {
        self.stats.clone()
    }

    fn visit_clients(&mut self, _: &mut dyn FnMut(&ClientState)) {}

    fn change_config(&mut self, _: &[ConfigChange]) -> Result<(), NotChangeable> {
        Ok(())
    }

    fn reset_stats(&mut self) {}

    fn cluster(&self) -> Option<Arc<ClusterView>> {
        self.view.clone()
    }

    fn visit_slot(
        &mut self,
        slot: u16,
        now: Now,
        visit: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), CommandError> {
        visit_slot(&self.shard, slot, now, visit);
        Ok(())
    }

    fn operate(&mut self, operation: Operation) -> Result<(), CommandError> {
        self.operations.push(operation);
        Ok(())
    }

    fn progress(&mut self, _: Now) -> Progress {
        self.progress.clone()
    }

    fn fail_over(&mut self, how: Failover) -> Result<(), CommandError> {
        self.failovers.push(how);
        Ok(())
    }
}

/// Members 1, 2 and 3 of two replicas each at most: node 1 has ranges 0 to 3, node 2 the ranges 4
/// to 2,047 but for 8, which node 1 has again. Node 3 is primary of none, replica of ranges 2 to 8,
/// and a learner of 9.
fn topology() -> Topology {
    let member = |id| Member {
        id: NodeId(id),
        incarnation: Incarnation(1),
        cores: 2,
        weight: 1,
        zone: Zone::default(),
    };
    let mut parts = Topology::founded(CLUSTER, member(1), 2).to_parts();
    parts.epoch = Epoch(7);
    parts.members = [1, 2, 3].map(member).into();
    for (index, copies) in parts.table.iter_mut().enumerate() {
        *copies = match index {
            0..4 => Copies::alone(NodeId(1), Epoch(3)),
            8 => Copies::alone(NodeId(1), Epoch(5)),
            _ => Copies::alone(NodeId(2), Epoch(6)),
        };
        if (2..=8).contains(&index) {
            copies.replicas.push(NodeId(3));
        }
        if index == 9 {
            copies.learners.push(NodeId(3));
        }
    }
    Topology::new(parts).expect("consistent")
}

fn member(number: u16, is_heard: bool) -> MemberView {
    let ports = MemberPorts {
        resp: 7_000 + 10 * number,
        replica: 7_001 + 10 * number,
        http: None,
        cluster: 7_002 + 10 * number,
    };
    MemberView::new(format!("10.0.0.{number}").into(), ports, is_heard)
}

fn view(heard: [bool; 3]) -> ClusterView {
    let members = (1..)
        .zip(heard)
        .map(|(number, is_heard)| member(number, is_heard));
    let status = ClusterStatus {
        is_serving: true,
        is_ready: true,
        ..ClusterStatus::default()
    };
    ClusterView::new(
        Arc::new(topology()),
        (NodeId(1), member(1, true)),
        members.collect(),
        status,
    )
}

fn node_with(view: Option<ClusterView>) -> ClusterNode {
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let mut config = Config::new(16 << 20, hasher);
    config.ranges_count = fulmar_cluster::RANGES_COUNT;
    config.range_of = |key| Range::of(key).index();
    ClusterNode {
        view: view.map(Arc::new),
        shard: Shard::new(fulmar_cluster::ShardIndex(0), config, 7).expect("the limits are sane"),
        failovers: Vec::new(),
        stats: NodeStats::default(),
        operations: Vec::new(),
        progress: Progress::default(),
    }
}

fn client() -> ClientState {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    ClientState::new(1, address, address, NOW)
}

fn ask(node: &mut ClusterNode, client: &mut ClientState, line: &str) -> String {
    let args = words(line);
    let mut out = Vec::new();
    let spec = lookup(&args).expect("it is a command");
    match Command::parse(
        spec,
        Argv {
            args: &args,
            staged: &[],
        },
    ) {
        Ok(Command::Connection(command)) => {
            let version = reply_version(&command, client);
            let mut reply = Encoder::new(&mut out, version);
            execute_connection(&command, client, node, NOW, &mut reply);
        }
        Ok(Command::Data(_)) => panic!("{line} needs no node"),
        Err(error) => out = format!("-{error}\r\n").into(),
    }
    String::from_utf8(out).expect("replies here are text")
}

fn id(node: u64, role: u8) -> String {
    format!("00000000000000c1{node:016x}{role:08x}")
}

#[test]
fn slots_lists_both_endpoints_in_runs_of_the_same_holders() {
    let endpoint = |node: u64, role: u8, metadata: &str| {
        let port = 7_000 + 10 * node + u64::from(role);
        format!(
            "*4\r\n$8\r\n10.0.0.{node}\r\n:{port}\r\n$40\r\n{}\r\n{metadata}",
            id(node, role)
        )
    };
    for (version, metadata) in [
        (RespVersion::Resp2, "*0\r\n"),
        (RespVersion::Resp3, "%0\r\n"),
    ] {
        let run = |first: u16, last: u16, primary: u64, is_replicated: bool| {
            let count = 3 + u8::from(is_replicated);
            let primary = endpoint(primary, 0, metadata);
            let replica = if is_replicated {
                endpoint(3, 1, metadata)
            } else {
                String::new()
            };
            format!("*{count}\r\n:{first}\r\n:{last}\r\n{primary}{replica}")
        };
        let expected = [
            run(0, 15, 1, false),
            run(16, 31, 1, true),
            run(32, 63, 2, true),
            run(64, 71, 1, true),
            run(72, 16_383, 2, false),
        ];
        let rendered = view([true; 3]).render(ClusterMap::Slots, version);
        let rendered = String::from_utf8(rendered).expect("text");
        assert_eq!(rendered, format!("*5\r\n{}", expected.concat()));
        // A replica that is not heard is left out, and runs grow together.
        let rendered = view([true, true, false]).render(ClusterMap::Slots, version);
        let expected = [
            run(0, 31, 1, false),
            run(32, 63, 2, false),
            run(64, 71, 1, false),
            run(72, 16_383, 2, false),
        ];
        let rendered = String::from_utf8(rendered).expect("text");
        assert_eq!(rendered, format!("*4\r\n{}", expected.concat()));
    }
}

#[test]
fn nodes_has_a_line_for_each_primary_endpoint() {
    let mut node = node_with(Some(view([true, false, true])));
    let reply = ask(&mut node, &mut client(), "CLUSTER NODES");
    let lines = format!(
        "{} 10.0.0.1:7010@7012 myself,master - 0 0 5 connected 0-31 64-71\n\
         {} 10.0.0.2:7020@7022 master,fail? - 0 0 6 disconnected 32-63 72-16383\n\
         {} 10.0.0.3:7030@7032 master - 0 0 0 connected\n",
        id(1, 0),
        id(2, 0),
        id(3, 0)
    );
    assert_eq!(reply, format!("${}\r\n{lines}\r\n", lines.len()));
    let rendered = node
        .view
        .expect("there is one")
        .render(ClusterMap::Nodes, RespVersion::Resp3);
    let length = lines.len() + 4;
    assert_eq!(
        rendered,
        format!("={length}\r\ntxt:{lines}\r\n").into_bytes()
    );
}

#[test]
fn who_is_no_member_yet_lists_itself() {
    let members = (1..=3).map(|number| member(number, true)).collect();
    let topology = Arc::new(topology());
    let own = (NodeId(9), member(9, true));
    let view = ClusterView::new(topology, own, members, ClusterStatus::default());
    let mut node = node_with(Some(view));
    let reply = ask(&mut node, &mut client(), "CLUSTER NODES");
    let line = format!(
        "{} 10.0.0.9:7090@7092 myself,master - 0 0 0 connected\n",
        id(9, 0)
    );
    assert!(reply.ends_with(&format!("{line}\r\n")), "{reply}");
    assert_eq!(reply.matches("myself").count(), 1);
    assert!(ask(&mut node, &mut client(), "CLUSTER INFO").contains("cluster_state:fail\r\n"));
    assert!(ask(&mut node, &mut client(), "INFO replication").contains("connected_slaves:0\r\n"));
}

#[test]
fn shards_lists_primaries_with_their_slots() {
    let rendered = view([true, true, false]).render(ClusterMap::Shards, RespVersion::Resp3);
    let shard = |slots: &[u16], node: u64, health: &str| {
        let slots: String = slots.iter().map(|slot| format!(":{slot}\r\n")).collect();
        let count = slots.matches(':').count();
        format!(
            "%2\r\n$5\r\nslots\r\n*{count}\r\n{slots}$5\r\nnodes\r\n*1\r\n%7\r\n$2\r\nid\r\n\
             $40\r\n{}\r\n$4\r\nport\r\n:70{node}0\r\n$2\r\nip\r\n$8\r\n10.0.0.{node}\r\n\
             $8\r\nendpoint\r\n$8\r\n10.0.0.{node}\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
             $18\r\nreplication-offset\r\n:0\r\n$6\r\nhealth\r\n${}\r\n{health}\r\n",
            id(node, 0),
            health.len()
        )
    };
    let expected = [
        shard(&[0, 31, 64, 71], 1, "online"),
        shard(&[32, 63, 72, 16_383], 2, "online"),
        shard(&[], 3, "fail"),
    ];
    let rendered = String::from_utf8(rendered).expect("text");
    assert_eq!(rendered, format!("*3\r\n{}", expected.concat()));
}

/// The most entries a map can have: no two neighbours have the same holders.
#[test]
fn a_map_has_at_most_an_entry_for_each_range() {
    let mut parts = topology().to_parts();
    for (index, copies) in (0..).zip(&mut parts.table) {
        *copies = Copies::alone(NodeId(1 + index % 3), Epoch(1));
    }
    let topology = Arc::new(Topology::new(parts).expect("consistent"));
    let members = (1..=3).map(|number| member(number, true)).collect();
    let own = (NodeId(1), member(1, true));
    let view = ClusterView::new(topology, own, members, ClusterStatus::default());
    let rendered = view.render(ClusterMap::Slots, RespVersion::Resp2);
    assert!(rendered.starts_with(b"*2048\r\n"));
}

#[test]
fn whoever_looks_hears_itself() {
    let mut node = node_with(Some(view([false, true, true])));
    let reply = ask(&mut node, &mut client(), "CLUSTER INFO");
    assert!(reply.contains("cluster_slots_ok:16384\r\n"), "{reply}");
    let reply = ask(&mut node, &mut client(), "CLUSTER SHARDS");
    assert!(!reply.contains("fail"), "{reply}");
}

#[test]
fn moved_names_the_primary_of_a_slot() {
    let view = view([true; 3]);
    for (slot, address) in [
        (0, "1:7010"),
        (40, "2:7020"),
        (71, "1:7010"),
        (16_383, "2:7020"),
    ] {
        let expected = format!("MOVED {slot} 10.0.0.{address}");
        assert_eq!(view.moved(slot).to_string(), expected);
    }
}

#[test]
fn info_tells_what_is_served_and_heard() {
    let mut node = node_with(Some(view([true, false, true])));
    let info = ask(&mut node, &mut client(), "CLUSTER INFO");
    let expected = "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:40\r\n\
                    cluster_slots_pfail:16344\r\ncluster_slots_fail:0\r\ncluster_known_nodes:3\r\n\
                    cluster_size:2\r\ncluster_current_epoch:7\r\ncluster_my_epoch:5\r\n\
                    cluster_provisional:0\r\n";
    assert_eq!(info, format!("${}\r\n{expected}\r\n", expected.len()));
    let info = ask(&mut node, &mut client(), "INFO server replication cluster");
    for field in [
        "redis_mode:cluster\r\n",
        "role:master\r\nconnected_slaves:1\r\nslave0:ip=10.0.0.3,port=7031,state=online\r\n",
        "# Cluster\r\ncluster_enabled:1\r\ncluster_id:00000000000000c1\r\n",
        "cluster_node_id:0000000000000001\r\n",
        "cluster_epoch:7\r\ncluster_ready:1\r\ncluster_provisional:0\r\n",
        "cluster_members:3\r\ncluster_members_heard:2\r\n",
        "cluster_ranges_primary:5\r\ncluster_ranges_replica:0\r\n",
        "cluster_replica_port:7011\r\ncluster_port:7012\r\n",
    ] {
        assert!(info.contains(field), "{field} in {info}");
    }
    let reply = ask(&mut node, &mut client(), "CONFIG GET cluster-enabled");
    assert_eq!(reply, "*2\r\n$15\r\ncluster-enabled\r\n$3\r\nyes\r\n");
    assert_eq!(
        ask(&mut node, &mut client(), "CONFIG SET cluster-enabled yes"),
        "+OK\r\n"
    );
    let refused = ask(&mut node, &mut client(), "CONFIG SET cluster-enabled no");
    assert!(refused.starts_with("-ERR CONFIG SET failed"));
}

#[test]
fn info_tells_what_a_failover_would_lose() {
    let mut node = node_with(Some(view([true; 3])));
    let lag = |number, incomplete, entries| FollowerLag {
        node: NodeId(number),
        is_connected: true,
        ranges: 5,
        incomplete,
        entries,
        bytes: entries * 100,
        ms: entries * 3,
    };
    node.stats.shards.replication.followers = vec![lag(3, 0, 7), lag(2, 1, 2)];
    node.stats.shards.replication.divergent_keys = 4;
    node.stats.cluster.forwards_sent = 11;
    node.stats.cluster.lost_ranges = 12;
    let info = ask(&mut node, &mut client(), "INFO replication cluster");
    for field in [
        "connected_slaves:2\r\nslave0:ip=10.0.0.2,port=7021,state=sync,ranges=5,incomplete=1,",
        "lag_entries=2,lag_bytes=200,lag_ms=6\r\nslave1:ip=10.0.0.3,port=7031,state=online,",
        "lag_entries=7,lag_bytes=700,lag_ms=21\r\nreplication_lag_entries:9\r\n",
        "replication_lag_bytes:900\r\nreplication_lag_ms:21\r\n",
        "replication_divergent_keys:4\r\n",
        "cluster_forwards_sent:11\r\n",
        "cluster_lost_ranges:12\r\n",
    ] {
        assert!(info.contains(field), "{field} in {info}");
    }
}

#[test]
fn a_minority_that_refuses_writes_says_so() {
    let members = (1..=3).map(|number| member(number, number == 1)).collect();
    let status = ClusterStatus {
        is_serving: true,
        is_ready: true,
        is_provisional: true,
        refuses_writes: true,
    };
    let own = (NodeId(1), member(1, true));
    let view = ClusterView::new(Arc::new(topology()), own, members, status);
    let mut node = node_with(Some(view));
    let info = ask(&mut node, &mut client(), "CLUSTER INFO");
    assert!(info.contains("cluster_state:fail\r\n"));
    assert!(info.contains("cluster_provisional:1\r\n"));
    let info = ask(&mut node, &mut client(), "INFO cluster");
    assert!(info.contains("cluster_provisional:1\r\n"));
}

#[test]
fn endpoints_have_names_and_roles_of_their_own() {
    let mut node = node_with(Some(view([true; 3])));
    let mut primary = client();
    let mut replica = client();
    replica.endpoint = Endpoint::Replica;
    let name = |role| format!("$40\r\n{}\r\n", id(1, role));
    assert_eq!(ask(&mut node, &mut primary, "CLUSTER MYID"), name(0));
    assert_eq!(ask(&mut node, &mut replica, "CLUSTER MYID"), name(1));
    let hello = ask(&mut node, &mut primary, "HELLO");
    assert!(hello.contains("mode\r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"));
    let hello = ask(&mut node, &mut replica, "HELLO");
    assert!(hello.contains("role\r\n$7\r\nreplica\r\n"));
    let named = EndpointId {
        cluster: CLUSTER,
        node: NodeId(1),
        endpoint: Endpoint::Replica,
    };
    assert_eq!(named.to_string(), id(1, 1));
}

#[test]
fn nodes_are_asked_for_by_their_ids() {
    let mut node = node_with(Some(view([true, false, true])));
    let mut ask = |line: String| ask(&mut node, &mut client(), &line);
    assert_eq!(ask(format!("CLUSTER REPLICAS {}", id(1, 0))), "*0\r\n");
    assert_eq!(
        ask(format!("CLUSTER SLAVES {}", id(2, 0).to_uppercase())),
        "*0\r\n"
    );
    let refused = ask(format!("CLUSTER REPLICAS {}", id(1, 1)));
    assert_eq!(refused, "-ERR The specified node is not a master\r\n");
    let reports = |role| format!("CLUSTER COUNT-FAILURE-REPORTS {}", id(role, 0));
    assert_eq!(ask(reports(1)), ":0\r\n");
    assert_eq!(ask(reports(2)), ":1\r\n");
    let other_cluster = id(1, 0).replace("c1", "c2");
    for unknown in ["abc", &id(4, 0), &id(1, 2), &other_cluster, &"+".repeat(40)] {
        let reply = ask(format!("CLUSTER REPLICAS {unknown}"));
        assert_eq!(reply, format!("-ERR Unknown node {unknown}\r\n"));
    }
}

#[test]
fn keys_of_a_slot_are_counted_and_listed() {
    let mut node = node_with(Some(view([true; 3])));
    let homes = HomeTable::even(1);
    let placement = Placement {
        homes: &homes,
        hasher: KeyHasher::new([1, 2, 3, 4]),
    };
    let keys_count = SLOT_KEYS_MAX + 5;
    // `c` is in the range of `foo`, but in another slot.
    let neighbour = (0..100_000)
        .map(|number| format!("n{number}"))
        .find(|key| Range::of(key.as_bytes()) == Range::of(b"foo") && slot(key) != slot("foo"))
        .expect("there is one");
    let keys = (0..keys_count).map(|number| format!("{{foo}}{number}"));
    for key in keys.chain([neighbour]) {
        let (_, key) = placement.place(key.as_bytes());
        node.shard
            .cache
            .set(&key, b"v", Expiry::Never, NOW.time)
            .expect("there is room");
    }
    let mut ask = |line: &str| ask(&mut node, &mut client(), line);
    let slot = slot("foo");
    assert_eq!(ask("CLUSTER KEYSLOT {foo}1"), format!(":{slot}\r\n"));
    assert_eq!(
        ask(&format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        format!(":{keys_count}\r\n")
    );
    assert_eq!(ask("CLUSTER COUNTKEYSINSLOT 3"), ":0\r\n");
    let some = ask(&format!("CLUSTER GETKEYSINSLOT {slot} 3"));
    assert!(
        some.starts_with("*3\r\n") && some.matches("{foo}").count() == 3,
        "{some}"
    );
    let all = ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1000000"));
    assert!(all.starts_with(&format!("*{SLOT_KEYS_MAX}\r\n")));
    assert_eq!(ask(&format!("CLUSTER GETKEYSINSLOT {slot} 0")), "*0\r\n");
    for (line, error) in [
        (
            "COUNTKEYSINSLOT x",
            "value is not an integer or out of range",
        ),
        ("COUNTKEYSINSLOT -1", "Invalid slot"),
        ("COUNTKEYSINSLOT 16384", "Invalid slot"),
        (
            "GETKEYSINSLOT x 1",
            "value is not an integer or out of range",
        ),
        (
            "GETKEYSINSLOT 1 x",
            "value is not an integer or out of range",
        ),
        ("GETKEYSINSLOT 16384 1", "Invalid slot or number of keys"),
        ("GETKEYSINSLOT 5 -1", "Invalid slot or number of keys"),
    ] {
        assert_eq!(
            ask(&format!("CLUSTER {line}")),
            format!("-ERR {error}\r\n"),
            "{line}"
        );
    }
}

fn slot(key: &str) -> u16 {
    fulmar_cluster::Slot::of(key.as_bytes()).number()
}

#[test]
fn failover_is_asked_of_a_replica() {
    let mut node = node_with(Some(view([true; 3])));
    let mut primary = client();
    let mut replica = client();
    replica.endpoint = Endpoint::Replica;
    let not_here = "-ERR You should send CLUSTER FAILOVER to a replica\r\n";
    assert_eq!(ask(&mut node, &mut primary, "CLUSTER FAILOVER"), not_here);
    assert_eq!(
        ask(&mut node, &mut primary, "CLUSTER FAILOVER FORCE"),
        not_here
    );
    assert_eq!(
        ask(&mut node, &mut primary, "CLUSTER FAILOVER X"),
        "-ERR syntax error\r\n"
    );
    assert_eq!(
        ask(&mut node, &mut primary, "CLUSTER failover FORCE X"),
        "-ERR unknown subcommand or wrong number of arguments for 'failover'. Try CLUSTER HELP.\r\n"
    );
    assert!(node.failovers.is_empty());
    for line in [
        "CLUSTER FAILOVER",
        "CLUSTER FAILOVER force",
        "CLUSTER FAILOVER TAKEOVER",
    ] {
        assert_eq!(ask(&mut node, &mut replica, line), "+OK\r\n");
    }
    assert_eq!(
        node.failovers,
        [Failover::Orderly, Failover::Force, Failover::TakeOver]
    );
}

#[test]
fn a_client_shows_that_it_knows_of_the_cluster() {
    let mut node = node_with(Some(view([true; 3])));
    for line in [
        "CLUSTER SLOTS",
        "CLUSTER SHARDS",
        "CLUSTER NODES",
        "READONLY",
    ] {
        let mut client = client();
        ask(&mut node, &mut client, line);
        assert!(client.is_cluster_client, "{line}");
    }
    let mut client = client();
    for line in [
        "CLUSTER INFO",
        "CLUSTER MYID",
        "CLUSTER KEYSLOT a",
        "ASKING",
        "READWRITE",
    ] {
        ask(&mut node, &mut client, line);
    }
    assert!(!client.is_cluster_client);
    assert_eq!(ask(&mut node, &mut client, "READONLY"), "+OK\r\n");
    assert!(client.is_readonly);
    assert!(ask(&mut node, &mut client, "CLIENT INFO").contains(" flags=r "));
    assert_eq!(ask(&mut node, &mut client, "READWRITE"), "+OK\r\n");
    assert!(!client.is_readonly);
    assert_eq!(ask(&mut node, &mut client, "ASKING"), "+OK\r\n");
    assert_eq!(ask(&mut node, &mut client, "WAIT 1 0"), ":0\r\n");
    client.replicas_acknowledged = 2;
    assert_eq!(ask(&mut node, &mut client, "WAIT 1 0"), ":2\r\n");
    assert!(ask(&mut node, &mut client, "CLUSTER HELP").contains("+KEYSLOT <key>\r\n"));
}

#[test]
fn without_a_cluster_redis_refuses_whatever_is_asked_of_it() {
    let mut node = node_with(None);
    let mut client = client();
    for line in [
        "CLUSTER SLOTS",
        "CLUSTER MYID",
        "CLUSTER HELP",
        "CLUSTER COUNTKEYSINSLOT x",
        "CLUSTER FAILOVER A B",
        "READONLY",
        "READWRITE",
        "ASKING",
    ] {
        let disabled = "-ERR This instance has cluster support disabled\r\n";
        assert_eq!(ask(&mut node, &mut client, line), disabled, "{line}");
    }
    assert!(!client.is_cluster_client && !client.is_readonly);
    assert_eq!(ask(&mut node, &mut client, "WAIT 5 1000"), ":0\r\n");
    assert_eq!(
        ask(&mut node, &mut client, "INFO cluster"),
        "$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n"
    );
}
