//! Clusters of real processes: how nodes stop and come back, and the commands for operators.

mod nodes;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::tempdir;

use crate::nodes::{Node, alone, can_serve, free_port};

const KEYS: usize = 300;

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn store_all(node: &Node) {
    let mut connection = node.connect();
    for number in 0..KEYS {
        let mut set = redis::cmd("SET");
        set.arg(key(number)).arg(number);
        set.exec(&mut connection).expect("stored");
    }
}

fn count_present(node: &Node) -> usize {
    let mut connection = node.connect();
    let is_there = |number: &usize| {
        let mut get = redis::cmd("GET");
        let value: redis::RedisResult<Option<usize>> = get.arg(key(*number)).query(&mut connection);
        value.expect("answered") == Some(*number)
    };
    (0..KEYS).filter(is_there).count()
}

fn members(node: &Node) -> usize {
    let status = node.status();
    let members = status
        .as_ref()
        .and_then(|status| status["members"].as_array());
    members.map_or(0, Vec::len)
}

fn lacks_no_copy(node: &Node) -> bool {
    let status = node.status();
    status.is_some_and(|status| status["shortage"]["copies"] == 0)
}

/// Two nodes, each of which has everything.
fn two_nodes(directory: &Path) -> [Node; 2] {
    let mut first = Node::start(directory, free_port(), None);
    let mut second = Node::start(directory, free_port(), Some(first.port));
    second.wait_until_ready();
    first.wait_until(|node| members(node) == 2 && lacks_no_copy(node));
    [first, second]
}

#[test]
fn a_drained_node_hands_over_in_one_epoch_and_is_filled_when_it_returns() {
    if !can_serve() {
        return;
    }
    let _alone = alone();
    let directory = tempdir().expect("a directory");
    let [mut first, mut second] = two_nodes(directory.path());
    let [first_port, second_port] = [first.port, second.port];
    store_all(&first);
    let epoch = |node: &Node| node.status().and_then(|status| status["epoch"].as_u64());
    let before = epoch(&first).expect("a number");
    second.terminate();
    // The signal takes a moment; that the node is ready must not be its last word.
    let mut said = second.readiness();
    while said.contains("ready\"}") {
        said = second.readiness();
    }
    assert!(said.is_empty() || said.contains("draining"), "{said}");
    let (status, _) = second.join();
    assert!(status.success());
    first.wait_until(|node| members(node) == 1);
    assert_eq!(epoch(&first), Some(before + 1));
    assert_eq!(count_present(&first), KEYS, "nothing is lost");

    let mut second = Node::start(directory.path(), second_port, Some(first_port));
    second.wait_until_ready();
    assert_eq!(members(&second), 2);
    assert_eq!(count_present(&second), KEYS);
    // Whoever is filled can be what is left.
    first.terminate();
    assert!(first.join().0.success());
    second.wait_until(|node| members(node) == 1);
    assert_eq!(count_present(&second), KEYS);
    second.terminate();
    let (status, took) = second.join();
    assert!(status.success());
    assert!(
        took < Duration::from_secs(10),
        "nobody is waited for: {took:?}"
    );
}

/// Runs `fulmar cluster` with these words: its exit code, and all that it said.
fn operate(port: u16, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
    command.arg("cluster").args(words);
    command.args(["--node", &format!("127.0.0.1:{port}")]);
    let output = command.output().expect("the binary starts");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it was not killed");
    (code, String::from_utf8(said).expect("text"))
}

#[test]
fn operators_see_and_steer_a_cluster() {
    if !can_serve() {
        return;
    }
    let _alone = alone();
    let directory = tempdir().expect("a directory");
    let first_port = free_port();
    let (code, said) = operate(first_port, &["status"]);
    assert_eq!(code, 3);
    assert!(said.starts_with("fulmar: 127.0.0.1:"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");

    let mut first = Node::start(directory.path(), first_port, None);
    first.wait_until_ready();
    store_all(&first);
    let mut second = Node::start(directory.path(), free_port(), Some(first_port));
    second.wait_until_ready();
    let primaries = |node: &Node| {
        let status = node.status().expect("answered");
        let own = status["node"].clone();
        let members = status["members"].as_array().expect("a list").clone();
        let own = members.iter().find(|member| member["node"] == own);
        own.and_then(|own| own["primaries"].as_u64())
            .expect("a member")
    };
    let (code, said) = operate(second.port, &["rebalance"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(primaries(&first), 1_024);

    let (code, said) = operate(second.port, &["status"]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("\nshortage: 0 ranges have less than 2 copies"),
        "{said}"
    );
    let (code, said) = operate(first_port, &["status", "--json"]);
    assert_eq!((code, &said[..1]), (0, "{"));

    let (code, said) = operate(first_port, &["verify"]);
    assert_eq!(code, 0, "{said}");
    let equal = format!("2048 ranges are equal on all nodes, 0 have one copy; {KEYS} items\n");
    assert_eq!(said, equal);

    let (code, said) = operate(second.port, &["failover"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(primaries(&second), 2_048);
    let (code, said) = operate(second.port, &["failover"]);
    assert_eq!(code, 3, "there is nothing to take over");
    assert!(said.contains("to a replica"), "{said}");
    assert_eq!(count_present(&first), KEYS);

    let (code, _) = operate(first_port, &["rebalance", "--cancel", "--no-wait"]);
    assert_eq!(code, 0);
    second.wait_until(|node| node.status().is_some_and(|s| s["moves"]["paused"] == true));
    let (code, said) = operate(second.port, &["adopt"]);
    assert_eq!(code, 3, "{said}");

    let (code, said) = operate(second.port, &["drain"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(" is drained and has stopped\n"), "{said}");
    assert!(second.join().0.success());
    assert_eq!(count_present(&first), KEYS);
}

/// The `redis` crate's cluster client, from the address of one node: values of all sizes, whoever has
/// their keys, and still when a node has left.
#[test]
fn a_cluster_client_follows_its_keys() {
    if !can_serve() {
        return;
    }
    let _alone = alone();
    let directory = tempdir().expect("a directory");
    let first_port = free_port();
    let mut first = Node::start(directory.path(), first_port, None);
    let mut others = [(); 2].map(|()| Node::start(directory.path(), free_port(), Some(first_port)));
    for node in &mut others {
        node.wait_until_ready();
    }
    first.wait_until(lacks_no_copy);
    let client = redis::cluster::ClusterClient::new([format!("redis://127.0.0.1:{first_port}")]);
    let client = client.expect("an address");
    let mut connection = client.get_connection().expect("it listens");
    let sizes = [0, 1, 100, 20_000];
    let value = |number: usize| match number {
        7 => vec![b'v'; 3 << 20],
        _ => vec![b'v'; sizes[number % sizes.len()]],
    };
    for number in 0..KEYS {
        let mut set = redis::cmd("SET");
        set.arg(key(number)).arg(value(number));
        set.exec(&mut connection).expect("stored");
    }
    let check = |connection: &mut redis::cluster::ClusterConnection| {
        for number in 0..KEYS {
            let mut get = redis::cmd("GET");
            let found: Vec<u8> = get.arg(key(number)).query(connection).expect("answered");
            assert!(found == value(number), "{} bytes of {number}", found.len());
        }
    };
    check(&mut connection);
    let mut plain = others[0].connect();
    let count = redis::cmd("DBSIZE");
    assert_eq!(count.query::<usize>(&mut plain).expect("answered"), KEYS);
    let owned = |node: &Node| {
        node.status().is_some_and(|s| {
            s["members"].as_array().is_some_and(|all| {
                all.iter()
                    .all(|member| member["primaries"].as_u64() > Some(600))
            })
        })
    };
    assert!(owned(&first), "each node has its third");
    others[1].terminate();
    assert!(others[1].join().0.success());
    // A connection of this client does not ask for the map again when a node refuses to be connected to.
    check(&mut client.get_connection().expect("it listens"));
}

#[test]
fn loadgen_goes_through_the_client_library() {
    if !can_serve() {
        return;
    }
    let _alone = alone();
    let directory = tempdir().expect("a directory");
    let [first, _second] = two_nodes(directory.path());
    let figures_path = directory.path().join("figures.json");
    let mut loadgen = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    loadgen
        .args([
            "--cluster",
            "--target",
            &format!("127.0.0.1:{}", first.port),
        ])
        .args(["--keys", "100", "--prefill", "--verify", "--batch", "50ms"])
        .args(["--ratio", "1:2:3", "--requests", "6000", "--rate", "4000"])
        .args(["--counter-parts", "4", "--hot-keys", "2", "--json"])
        .arg(&figures_path);
    let done = loadgen.output().expect("the binary starts");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let text = std::fs::read_to_string(&figures_path).expect("written");
    let figures: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let row = |name: &str| {
        let rows = figures["operations"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"] == name);
        row.cloned().unwrap_or_default()
    };
    assert_eq!(row("all")["count"], 6_000);
    assert_eq!(row("GET")["hit_ratio"], 1.0, "all keys were written first");
    // Each increment was flushed, and counts once.
    let mut connection = first.connect();
    let mut sum = 0;
    for (counter, part) in (0..100).flat_map(|counter| (0..4).map(move |part| (counter, part))) {
        let mut get = redis::cmd("GET");
        get.arg(format!("counter:{counter}:{part}"));
        let value: Option<i64> = get.query(&mut connection).expect("answered");
        sum += value.unwrap_or(0);
    }
    assert_eq!(row("INCR")["count"], sum);
    assert!(sum > 2_500, "{sum}");
}
