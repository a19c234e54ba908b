//! The cluster as its clients are told of it.

use fulmar_server::Minority;

use crate::support::{Cluster, alone, settle, three};

#[test]
fn a_node_is_ready_when_its_copies_are_whole() {
    let _machine = alone();
    let mut cluster = Cluster::start(1, Minority::Serve);
    assert!(cluster.nodes[0].readyz().contains(r#"{"status":"ready"}"#));
    let value = "v".repeat(4_000);
    let mut client = cluster.nodes[0].client();
    for number in 0..1_000 {
        client.send(&[b"SET", format!("key:{number}").as_bytes(), value.as_bytes()]);
    }
    for _ in 0..1_000 {
        assert_eq!(client.reply(), "+OK");
    }
    cluster.join(Minority::Serve);
    let joiner = &cluster.nodes[1];
    let first = joiner.readyz();
    assert!(first.starts_with("HTTP/1.1 503"), "{first}");
    assert!(first.ends_with(r#"{"status":"syncing"}"#), "{first}");
    let mut saw_learners = false;
    settle("it is whole", || {
        let readyz = joiner.readyz();
        let mut client = joiner.client();
        let is_member = client.info("cluster_members") == "2";
        saw_learners |= is_member && readyz.contains("syncing");
        if !is_member {
            assert!(readyz.contains("syncing"), "{readyz}");
        }
        is_member
            && client.info("cluster_ranges_primary") == "1024"
            && client.info("cluster_ranges_replica") == "1024"
            && readyz.starts_with("HTTP/1.1 200")
    });
    assert!(saw_learners, "it was a member before it was ready");
    assert!(
        joiner
            .client()
            .run("CLUSTER INFO")
            .starts_with("cluster_state:ok")
    );
    assert_eq!(joiner.client().number("DBSIZE"), 1_000);
}

#[test]
fn slots_tell_what_they_hold() {
    let cluster = three();
    let mut client = cluster.nodes[0].client();
    for key in ["{a}1", "{a}2", "{a}3"] {
        assert_eq!(client.run(&format!("SET {key} v")), "+OK");
    }
    let slot = client.number("CLUSTER KEYSLOT {a}");
    let [primary, _, stranger] = cluster.roles("{a}1");
    let mut there = cluster.nodes[primary].client();
    assert_eq!(there.number(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), 3);
    let two = there.run(&format!("CLUSTER GETKEYSINSLOT {slot} 2"));
    assert_eq!(two.matches("{a}").count(), 2, "{two}");
    let all = there.run(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
    assert_eq!(all.matches("{a}").count(), 3, "{all}");
    let mut elsewhere = cluster.nodes[stranger].client();
    assert_eq!(
        elsewhere.number(&format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        0
    );
    let refused = there.run("CLUSTER COUNTKEYSINSLOT 16384");
    assert_eq!(refused, "-ERR Invalid slot");
}

#[test]
fn all_nodes_tell_the_same_map() {
    let cluster = three();
    let maps: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| node.client().run("CLUSTER SLOTS"))
        .collect();
    assert_eq!(maps[0], maps[1]);
    assert_eq!(maps[0], maps[2]);
    for node in &cluster.nodes {
        let port = node.resp().port().to_string();
        assert!(maps[0].contains(&port));
        let mut client = node.client();
        client.run("HELLO 3");
        let nodes = client.run("CLUSTER NODES");
        assert!(nodes.starts_with('='), "verbatim in RESP3: {nodes}");
    }
}
