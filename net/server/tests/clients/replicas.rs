//! The endpoint for reads of replicas, and READONLY.

use fulmar_server::Minority;

use crate::support::{Client, Cluster, alone, settle, three};

#[test]
fn replicas_answer_reads_and_send_writes_to_the_primary() {
    let cluster = three();
    for number in 0..40 {
        let key = format!("key:{number}");
        let mut plain = cluster.nodes[0].client();
        assert_eq!(plain.run(&format!("SET {key} v{number}")), "+OK");
        assert_eq!(plain.number("WAIT 1 0"), 1);
        let [primary, replica, stranger] = cluster.roles(&key);
        let slot = plain.number(&format!("CLUSTER KEYSLOT {key}"));
        let moved = format!("-MOVED {slot} {}", cluster.nodes[primary].resp());
        let mut at_replica = Client::connect(cluster.nodes[replica].replica());
        let value = format!("v{number}");
        assert_eq!(at_replica.run(&format!("GET {key}")), value);
        assert_eq!(
            at_replica.run(&format!("MGET {key} {key}")),
            format!("[{value} {value}]")
        );
        assert_eq!(at_replica.run(&format!("SET {key} w")), moved);
        at_replica.run("MULTI");
        assert_eq!(at_replica.run(&format!("SET {key} w")), moved);
        assert!(at_replica.run("EXEC").starts_with("-EXECABORT"));
        let mut at_stranger = Client::connect(cluster.nodes[stranger].replica());
        assert_eq!(at_stranger.run(&format!("GET {key}")), moved);
        // The primary's own second endpoint has it, too.
        let mut at_primary = Client::connect(cluster.nodes[primary].replica());
        assert_eq!(at_primary.run(&format!("GET {key}")), value);
        // At the normal port READONLY makes the difference.
        let mut normal = cluster.nodes[replica].client();
        normal.run("CLUSTER SLOTS");
        assert_eq!(normal.run(&format!("GET {key}")), moved);
        assert_eq!(normal.run("READONLY"), "+OK");
        assert_eq!(normal.run(&format!("GET {key}")), value);
        assert_eq!(normal.run(&format!("APPEND {key} x")), moved);
        assert_eq!(normal.run("READWRITE"), "+OK");
        assert_eq!(normal.run(&format!("GET {key}")), moved);
    }
}

#[test]
fn a_pipeline_of_reads_at_a_replica_is_answered_by_all_its_cores() {
    let cluster = three();
    let mut plain = cluster.nodes[0].client();
    let keys: Vec<String> = (0..400).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        plain.run(&format!("SET {key} {key}"));
    }
    assert_eq!(plain.number("WAIT 1 0"), 1);
    for node in &cluster.nodes {
        let mut client = Client::connect(node.replica());
        for key in &keys {
            client.send(&[b"GET", key.as_bytes()]);
        }
        let mut answered = 0;
        for key in &keys {
            let reply = client.reply();
            assert!(reply == *key || reply.starts_with("-MOVED"), "{reply}");
            answered += usize::from(reply == *key);
        }
        assert!((150..400).contains(&answered), "{answered} of two thirds");
    }
}

#[test]
fn http_is_answered_by_any_node() {
    let cluster = three();
    for (place, node) in cluster.nodes.iter().enumerate() {
        for number in 0..8 {
            let key = format!("web:{place}:{number}");
            let answer = node.http(&format!("PUT /{key}"), r#"{"value":"v"}"#);
            assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
            for other in &cluster.nodes {
                let answer = other.http(&format!("GET /{key}"), "");
                assert!(answer.ends_with(r#"{"value":"v"}"#), "{answer}");
            }
            let answer = cluster.nodes[0].http(&format!("DELETE /{key}"), "");
            assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
            let gone = node.http(&format!("GET /{key}"), "");
            assert!(gone.starts_with("HTTP/1.1 404"), "{gone}");
        }
    }
}

#[test]
fn a_minority_that_refuses_serves_reads_alone() {
    let _machine = alone();
    let mut cluster = Cluster::start(2, Minority::Refuse);
    let mut client = cluster.nodes[1].client();
    client.run("CLUSTER NODES");
    let own = (0..64)
        .map(|number| format!("key:{number}"))
        .find(|key| client.run(&format!("SET {key} v")) == "+OK")
        .expect("it has half of them");
    let first = cluster.nodes.remove(0);
    drop(first);
    // The second of two is no quorum.
    let mut plain = cluster.nodes[0].client();
    settle("writes are refused", || {
        plain
            .run(&format!("SET {own} w"))
            .starts_with("-CLUSTERDOWN")
    });
    assert_ne!(plain.run(&format!("GET {own}")), "nil");
    let node = &cluster.nodes[0];
    let answer = node.http(&format!("PUT /{own}"), r#"{"value":"x"}"#);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let answer = node.http(&format!("GET /{own}"), "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(node.readyz().starts_with("HTTP/1.1 503"));
    assert!(plain.run("CLUSTER INFO").starts_with("cluster_state:fail"));
}
