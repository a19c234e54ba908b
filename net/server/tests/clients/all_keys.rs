//! Commands on all keys: what a plain client is told is the whole cluster's, once.

use std::collections::BTreeSet;

use crate::support::{Client, Cluster, settle, three};

const KEYS: usize = 600;

fn fill(cluster: &Cluster) {
    let mut client = cluster.nodes[0].client();
    for number in 0..KEYS {
        assert_eq!(client.run(&format!("SET key:{number} v")), "+OK");
    }
}

/// A client that asked for the map, to whom a node answers for itself.
fn knowing(cluster: &Cluster, node: usize) -> Client {
    let mut client = cluster.nodes[node].client();
    client.run("CLUSTER NODES");
    client
}

#[test]
fn what_is_held_as_a_replica_does_not_count() {
    let cluster = three();
    fill(&cluster);
    let total: i64 = KEYS.try_into().expect("small");
    let sizes = |cluster: &Cluster| -> Vec<i64> {
        let nodes = 0..cluster.nodes.len();
        nodes
            .map(|node| knowing(cluster, node).number("DBSIZE"))
            .collect()
    };
    assert_eq!(sizes(&cluster).iter().sum::<i64>(), total);
    assert!(sizes(&cluster).iter().all(|&size| size > 0));
    let mut keys = BTreeSet::new();
    for node in 0..cluster.nodes.len() {
        assert_eq!(cluster.nodes[node].client().number("DBSIZE"), total);
        let mut client = knowing(&cluster, node);
        let own = client.run("KEYS *");
        let own: Vec<&str> = own[1..own.len() - 1].split(' ').collect();
        assert_eq!(i64::try_from(own.len()), Ok(sizes(&cluster)[node]));
        for _ in 0..20 {
            let random = client.run("RANDOMKEY");
            assert!(own.contains(&random.as_str()), "{random}");
        }
        let keyspace = client.info("db0");
        assert!(
            keyspace.starts_with(&format!("keys={},", own.len())),
            "{keyspace}"
        );
        keys.extend(own.into_iter().map(str::to_owned));
        let all = cluster.nodes[node].client().run("KEYS *");
        assert_eq!(all.split(' ').count(), KEYS);
    }
    assert_eq!(keys.len(), KEYS);
}

#[test]
fn flushall_of_a_plain_client_empties_all_nodes_and_their_copies() {
    let cluster = three();
    fill(&cluster);
    let mut client = cluster.nodes[1].client();
    assert_eq!(client.run("FLUSHALL"), "+OK");
    for node in &cluster.nodes {
        assert_eq!(node.client().number("DBSIZE"), 0);
    }
    settle("the copies are empty", || {
        cluster.nodes.iter().all(|node| {
            let mut client = Client::connect(node.replica());
            (0..KEYS).step_by(7).all(|number| {
                let reply = client.run(&format!("GET key:{number}"));
                reply == "nil" || reply.starts_with("-MOVED")
            })
        })
    });
}

#[test]
fn a_scan_goes_through_all_nodes_and_gives_each_key() {
    let cluster = three();
    fill(&cluster);
    for node in &cluster.nodes {
        let mut client = node.client();
        let (mut cursor, mut keys, mut calls) = ("0".to_owned(), Vec::new(), 0);
        loop {
            // Each call through another connection: nothing is kept between them.
            let reply = client.run(&format!("SCAN {cursor} COUNT 40 MATCH key:*"));
            let reply = reply.trim_matches(['[', ']']).replace('[', "");
            let mut words = reply.split(' ').filter(|word| !word.is_empty());
            words.next().expect("a cursor").clone_into(&mut cursor);
            keys.extend(words.map(str::to_owned));
            calls += 1;
            client = cluster.nodes[calls % 3].client();
            if cursor == "0" {
                break;
            }
        }
        assert!(calls > 10, "{calls}");
        let distinct: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), KEYS);
        assert!(
            keys.len() < KEYS * 11 / 10,
            "{} are twice",
            keys.len() - KEYS
        );
        assert_eq!(client.run("SCAN 65535"), "[0 []]");
    }
    // Who knows the map asks each node by itself.
    let own = knowing(&cluster, 1).run("SCAN 0 COUNT 10000");
    let size = knowing(&cluster, 1).number("DBSIZE");
    assert!(own.starts_with("[0 ["));
    assert_eq!(i64::try_from(own.split(' ').count() - 1), Ok(size));
}

#[test]
fn a_random_key_is_any_nodes() {
    let cluster = three();
    fill(&cluster);
    let mut owners = BTreeSet::new();
    let lists: Vec<String> = (0..3)
        .map(|node| knowing(&cluster, node).run("KEYS *"))
        .collect();
    let mut client = cluster.nodes[0].client();
    for _ in 0..60 {
        let key = client.run("RANDOMKEY");
        let has = |list: &String| list[1..list.len() - 1].split(' ').any(|one| one == key);
        owners.insert(lists.iter().position(has).expect("a node has it"));
    }
    assert_eq!(owners.len(), 3);
}

#[test]
fn a_long_deletion_reaches_the_copies_at_once() {
    let cluster = three();
    let tagged: Vec<String> = (0..1_500).map(|number| format!("{{t}}{number}")).collect();
    let [primary, ..] = cluster.roles(&tagged[0]);
    let mut client = cluster.nodes[primary].client();
    for key in &tagged {
        client.send(&[b"SET", key.as_bytes(), b"v"]);
    }
    for _ in &tagged {
        assert_eq!(client.reply(), "+OK");
    }
    let mut command: Vec<&[u8]> = vec![b"DEL"];
    command.extend(tagged.iter().map(|key| key.as_bytes()));
    client.send(&command);
    assert_eq!(client.reply(), "1500");
    assert_eq!(client.number("WAIT 1 0"), 1);
    assert_eq!(client.number("DBSIZE"), 0);
}
