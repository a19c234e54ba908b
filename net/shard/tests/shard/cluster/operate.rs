//! What operators ask a node, beyond Redis.

use fulmar_cluster::message::Moves;
use fulmar_cluster::replication::{Limits, Replication};
use fulmar_cluster::topology::Branch;
use fulmar_cluster::{ShardIndex, Topology};
use fulmar_protocol::command::Argv;
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_shard::session::{ClusterStatus, ClusterView, NodeLag, Operation, Progress};
use fulmar_shard::{Held, ShardMask, Sliced, execute};

use super::{
    Arc, Command, Config, Copies, Epoch, HomeTable, Incarnation, KeyHasher, Member, NOW, NodeId,
    Placement, Range, Shard, Zone, ask, client, lookup, member, node_with, topology, view, words,
};

#[test]
fn status_tells_all_of_the_cluster_in_one_text() {
    let mut node = node_with(Some(view([true, true, false])));
    node.progress.is_synced = true;
    node.progress.lags.push(NodeLag {
        node: NodeId(3),
        disconnected: 1,
        ranges: 3,
        incomplete: 0,
        entries: 5,
        bytes: 600,
        ms: 40,
    });
    let text = ask(&mut node, &mut client(), "CLUSTER STATUS");
    let text = text.split("\r\n").nth(1).expect("one bulk string");
    for part in [
        r#""cluster":"00000000000000c1","epoch":7,"node":"0000000000000001","ready":true"#,
        r#""host":"10.0.0.1","port":7010,"replica_port":7011"#,
        r#""primaries":5,"replicas":0,"learners":0,"heard":true"#,
        r#""primaries":0,"replicas":7,"learners":1,"heard":false,"ready":false"#,
        r#""paused":false,"limit":null,"filling":1,"#,
        r#""lag":[{"node":"0000000000000003","disconnected":1,"ranges":3,"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn operators_ask_for_what_is_begun_elsewhere() {
    let mut node = node_with(Some(view([true; 3])));
    let mut client = client();
    let mut asked = |line: &str| ask(&mut node, &mut client, line);
    for line in [
        "CLUSTER DRAIN",
        "CLUSTER REBALANCE",
        "cluster rebalance limit 4",
        "CLUSTER REBALANCE cancel",
    ] {
        assert_eq!(asked(line), "+OK\r\n", "{line}");
    }
    let syntax = "-ERR syntax error\r\n";
    assert_eq!(asked("CLUSTER REBALANCE NOW"), syntax);
    assert_eq!(asked("CLUSTER REBALANCE LIMIT"), syntax);
    let number = "-ERR value is not an integer or out of range\r\n";
    for count in ["0", "-1", "x", "65536"] {
        assert_eq!(asked(&format!("CLUSTER REBALANCE LIMIT {count}")), number);
    }
    let adopt = asked("CLUSTER ADOPT");
    assert_eq!(
        adopt,
        "-ERR no branch was founded here, so there is none to adopt\r\n"
    );
    assert_eq!(asked("CLUSTER DIGEST 2048"), "-ERR Invalid range\r\n");
    let steer = |is_paused, count| {
        Operation::Steer(Moves {
            is_paused,
            learners_per_node_max: std::num::NonZeroU16::new(count),
        })
    };
    let expected = [
        Operation::Drain,
        steer(false, 0),
        steer(false, 4),
        steer(true, 0),
    ];
    assert_eq!(node.operations, expected);
}

#[test]
fn a_branch_is_adopted_by_its_founder() {
    let mut parts = topology().to_parts();
    parts.branch = Some(Branch {
        count: 1,
        founder: NodeId(1),
    });
    let topology = Arc::new(Topology::new(parts).expect("consistent"));
    let members = (1..=3).map(|number| member(number, true)).collect();
    let own = (NodeId(1), member(1, true));
    let view = ClusterView::new(topology, own, members, ClusterStatus::default());
    let mut node = node_with(Some(view));
    assert_eq!(ask(&mut node, &mut client(), "CLUSTER ADOPT"), "+OK\r\n");
    assert_eq!(node.operations, [Operation::Adopt]);
    let text = ask(&mut node, &mut client(), "CLUSTER STATUS");
    assert!(text.contains(r#""branch_founder":"0000000000000001""#));
}

#[test]
fn without_a_cluster_nothing_is_operated() {
    let mut node = node_with(None);
    for line in [
        "CLUSTER STATUS",
        "CLUSTER DIGEST 0",
        "CLUSTER DIGEST x",
        "CLUSTER DRAIN",
        "CLUSTER ADOPT",
        "CLUSTER REBALANCE x",
    ] {
        let disabled = "-ERR This instance has cluster support disabled\r\n";
        assert_eq!(ask(&mut node, &mut client(), line), disabled, "{line}");
    }
    assert_eq!(Progress::default().lags, []);
}

/// Two shards of a node that has all ranges, or that has no replication.
fn shards(hasher: KeyHasher, is_replicated: bool) -> Vec<Shard> {
    let homes = HomeTable::even(2);
    let own = Member {
        id: NodeId(1),
        incarnation: Incarnation(1),
        cores: 2,
        weight: 1,
        zone: Zone::default(),
    };
    let mut parts = Topology::founded(super::CLUSTER, own, 1).to_parts();
    parts.table.fill(Copies::alone(NodeId(1), Epoch(1)));
    let topology = Topology::new(parts).expect("consistent");
    let shard = |index| {
        let mut config = Config::new(16 << 20, hasher);
        config.ranges_count = fulmar_cluster::RANGES_COUNT;
        config.range_of = |key| Range::of(key).index();
        let mut shard = Shard::new(ShardIndex(index), config, 7).expect("the limits are sane");
        if is_replicated {
            let (limits, index) = (Limits::for_memory(16 << 20), ShardIndex(index));
            let one = Replication::new(NodeId(1), Incarnation(1), index, &homes, limits);
            shard.start_replication(one, hasher);
            shard.replicate(NOW, |one, store| one.handle_topology(&topology, store));
        }
        shard
    };
    (0..2).map(shard).collect()
}

/// The replies to `lines`, and the number of slices that the last one took.
fn run(shards: &mut [Shard], hasher: KeyHasher, lines: &[String]) -> (String, usize) {
    let homes = HomeTable::even(2);
    let placement = Placement {
        homes: &homes,
        hasher,
    };
    let mut held: Vec<&mut Shard> = shards.iter_mut().collect();
    let mut out = Vec::new();
    let mut slices = 0;
    for line in lines {
        out.clear();
        let mut held = Held::new(&mut held, placement);
        let args = words(line);
        let argv = Argv {
            args: &args,
            staged: &[],
        };
        let spec = lookup(&args).expect("a command");
        let mut reply = Encoder::new(&mut out, RespVersion::Resp2);
        if Sliced::is_for(spec, &argv) {
            assert_eq!(spec.id, CommandId::ClusterDigest);
            let mut sliced = Sliced::begin(spec.id, &argv);
            let mut is_over = false;
            while !is_over {
                let needed: ShardMask = sliced.shards_needed(&placement);
                assert!(needed.iter().count() <= 1, "a slice is of one shard");
                is_over = sliced.step(&mut held, NOW, &mut reply);
                slices += 1;
            }
        } else if let Ok(Command::Data(command)) = Command::parse(spec, argv) {
            execute(&command, &mut held, &mut [], NOW, &mut reply);
        }
    }
    (String::from_utf8(out).expect("text"), slices)
}

#[test]
fn digests_are_taken_in_slices_and_agree_whatever_the_index() {
    let sets = |order: &mut dyn Iterator<Item = usize>| -> Vec<String> {
        let set = |number: usize| format!("SET key:{number} {}", "v".repeat(number % 97));
        let digest = ["CLUSTER DIGEST 0-2047".to_owned()];
        order.map(set).chain(digest).collect()
    };
    let one = KeyHasher::new([1, 2, 3, 4]);
    let (first, slices) = run(&mut shards(one, true), one, &sets(&mut (0..5_000)));
    assert!(first.starts_with("*2048\r\n*6\r\n:0\r\n$7\r\nprimary\r\n:1\r\n"));
    assert!(
        slices > 1_000,
        "{slices} slices: a range with items ends one"
    );
    let other = KeyHasher::new([5, 6, 7, 8]);
    let (second, _) = run(
        &mut shards(other, true),
        other,
        &sets(&mut (0..5_000).rev()),
    );
    // Positions agree, because each range had as many writes.
    assert_eq!(first, second);
    let without = |skipped: usize| (0..5_000).filter(move |&number| number != skipped);
    let (third, _) = run(&mut shards(one, true), one, &sets(&mut without(17)));
    assert_ne!(first, third);
}

#[test]
fn there_are_no_digests_without_replication() {
    let hasher = KeyHasher::new([1, 2, 3, 4]);
    let lines = ["CLUSTER DIGEST 3".to_owned()];
    let (reply, _) = run(&mut shards(hasher, false), hasher, &lines);
    assert_eq!(reply, "-ERR This instance has cluster support disabled\r\n");
}
