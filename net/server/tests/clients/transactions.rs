//! Transactions of clients that ask any node.

use crate::support::three;

#[test]
fn a_queue_is_executed_by_the_node_that_has_its_keys() {
    let cluster = three();
    for (place, node) in cluster.nodes.iter().enumerate() {
        let mut client = node.client();
        for number in 0..24 {
            let tag = format!("{{{number}}}");
            let counter = format!("{tag}n");
            assert_eq!(client.run("MULTI"), "+OK");
            assert_eq!(client.run(&format!("SET {tag}a {place}")), "+QUEUED");
            assert_eq!(client.run("PING"), "+QUEUED");
            assert_eq!(client.run(&format!("INCR {counter}")), "+QUEUED");
            assert_eq!(client.run(&format!("INCR {tag}a{place}x")), "+QUEUED");
            assert_eq!(client.run(&format!("MGET {tag}a {tag}none")), "+QUEUED");
            assert_eq!(client.run(&format!("INCRBY {tag}a x")), "+QUEUED");
            let expected = format!(
                "[+OK +PONG {} 1 [{place} nil] -ERR value is not an integer or out of range]",
                place + 1
            );
            assert_eq!(client.run("EXEC"), expected);
            assert_eq!(client.number("WAIT 1 0"), 1, "what it wrote counts");
            assert_eq!(client.run(&format!("GET {tag}a")), place.to_string());
        }
    }
}

#[test]
fn long_values_are_queued_for_other_nodes() {
    let cluster = three();
    for length in [16_000, 17_000, 100_000] {
        let value = "v".repeat(length);
        for (place, node) in cluster.nodes.iter().enumerate() {
            let key = format!("{{long}}{place}");
            let mut client = node.client();
            client.run("MULTI");
            client.send(&[b"SET", key.as_bytes(), value.as_bytes()]);
            assert_eq!(client.reply(), "+QUEUED");
            client.run(&format!("STRLEN {key}"));
            assert_eq!(client.run("EXEC"), format!("[+OK {length}]"));
            assert!(cluster.nodes[0].client().run(&format!("GET {key}")) == value);
        }
    }
}

#[test]
fn a_queue_is_of_one_nodes_keys_and_what_is_watched_is_of_the_node_that_is_asked() {
    let cluster = three();
    let [primary, _, stranger] = cluster.roles("{a}1");
    let other = (0..)
        .map(|number| format!("other:{number}"))
        .find(|key| cluster.roles(key)[0] != primary)
        .expect("other nodes have keys, too");
    let mut client = cluster.nodes[stranger].client();
    client.run("MULTI");
    assert_eq!(client.run("SET {a}1 v"), "+QUEUED");
    assert!(
        client
            .run(&format!("SET {other} v"))
            .starts_with("-CROSSSLOT")
    );
    assert!(client.run("EXEC").starts_with("-EXECABORT"));
    assert_eq!(client.run("GET {a}1"), "nil");
    // Discarded, a queue leaves nothing behind.
    client.run("MULTI");
    client.run("SET {a}1 v");
    assert_eq!(client.run("DISCARD"), "+OK");
    client.run("MULTI");
    assert_eq!(client.run(&format!("SET {other} v")), "+QUEUED");
    assert_eq!(client.run("EXEC"), "[+OK]");
    let refused = "-CROSSSLOT WATCH and its transaction take keys of the node that is asked; use a \
                   cluster client";
    assert_eq!(client.run("WATCH {a}1"), refused);
    let mut there = cluster.nodes[primary].client();
    assert_eq!(there.run("WATCH {a}1"), "+OK");
    assert_eq!(client.run("SET {a}1 changed"), "+OK");
    there.run("MULTI");
    there.run("SET {a}1 mine");
    assert_eq!(
        there.run("EXEC"),
        "nil",
        "it was changed through another node"
    );
    assert_eq!(there.run("WATCH {a}1"), "+OK");
    there.run("MULTI");
    there.run("SET {a}1 mine");
    assert_eq!(there.run("EXEC"), "[+OK]");
    assert_eq!(client.run("GET {a}1"), "mine");
    // A queue for another node cannot be guarded by keys that are watched here.
    assert_eq!(there.run("WATCH {a}1"), "+OK");
    there.run("MULTI");
    assert_eq!(there.run(&format!("SET {other} w")), refused);
    assert!(there.run("EXEC").starts_with("-EXECABORT"));
}
