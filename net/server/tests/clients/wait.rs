//! WAIT: what it answers is so, and it comes without polling.

use std::time::{Duration, Instant};

use fulmar_server::Minority;

use crate::support::{Cluster, alone, settle, three};

/// Keys of all nodes and cores.
fn keys() -> impl Iterator<Item = String> {
    (0..24).map(|number| format!("key:{number}"))
}

#[test]
fn wait_counts_followers_wherever_the_key_is_written() {
    let cluster = three();
    for node in &cluster.nodes {
        let mut client = node.client();
        assert_eq!(client.number("WAIT 1 0"), 1, "nothing is written");
        let mut prompt = 0;
        for key in keys() {
            assert_eq!(client.run(&format!("SET {key} v")), "+OK");
            let start = Instant::now();
            assert_eq!(client.number("WAIT 1 0"), 1, "{key}");
            prompt += usize::from(start.elapsed() < Duration::from_millis(40));
        }
        assert!(prompt > 12, "only {prompt} came before the next tick");
        for key in keys() {
            assert_eq!(client.run(&format!("INCR n:{key}")), "1");
        }
        assert_eq!(client.number("WAIT 1 5000"), 1, "of all of them");
        assert_eq!(client.number("WAIT 0 0"), 1);
        assert_eq!(client.number("WAIT 1 0"), 1, "asked again");
        client.run("FLUSHALL");
        assert_eq!(client.number("WAIT 1 5000"), 1);
    }
}

#[test]
fn wait_for_more_than_there_are_ends_with_what_there_is() {
    let cluster = three();
    for node in &cluster.nodes {
        for key in ["a", "b", "c", "d"] {
            let mut client = node.client();
            assert_eq!(client.run(&format!("SET {key} v")), "+OK");
            let start = Instant::now();
            assert_eq!(client.number("WAIT 2 250"), 1, "{key}");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(245), "{took:?}");
            assert!(took < Duration::from_secs(2), "{took:?}");
        }
    }
}

#[test]
fn nothing_behind_a_wait_is_executed_and_nobody_else_waits() {
    let cluster = three();
    let node = &cluster.nodes[0];
    let (mut waiting, mut other) = (node.client(), node.client());
    waiting.run("SET a 1");
    waiting.send(&[b"WAIT", b"2", b"600"]);
    waiting.send(&[b"SET", b"a", b"2"]);
    assert_eq!(other.run("PING"), "+PONG");
    let start = Instant::now();
    assert_eq!(other.run("GET a"), "1");
    assert!(start.elapsed() < Duration::from_millis(500));
    assert_eq!(waiting.reply(), "1");
    assert_eq!(waiting.reply(), "+OK");
    assert_eq!(other.run("GET a"), "2");
    // Inside a transaction it answers at once, with what is known.
    waiting.run("MULTI");
    waiting.run("WAIT 2 60000");
    let start = Instant::now();
    assert_eq!(waiting.run("EXEC"), "[0]");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_write_of_a_term_that_is_over_is_not_acknowledged() {
    let _machine = alone();
    let mut cluster = Cluster::start(2, Minority::Serve);
    let mut client = cluster.nodes[0].client();
    for key in keys() {
        assert_eq!(client.run(&format!("SET {key} v")), "+OK");
    }
    let second = cluster.nodes.pop();
    drop(second);
    settle("the first node has all ranges", || {
        cluster.nodes[0].client().info("cluster_ranges_primary") == "2048"
    });
    let start = Instant::now();
    assert_eq!(client.number("WAIT 1 0"), 0, "no follower can have it");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(client.run("SET a v"), "+OK");
    let start = Instant::now();
    assert_eq!(client.number("WAIT 1 200"), 0, "there is no follower");
    assert!(start.elapsed() >= Duration::from_millis(195));
}
