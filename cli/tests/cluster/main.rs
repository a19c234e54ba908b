//! Clusters of real processes: how nodes stop and come back, and the commands for operators.

mod nodes;

use std::time::Duration;

use tempfile::tempdir;

use crate::nodes::{Node, can_serve, free_port};

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

#[test]
fn a_drained_node_hands_over_in_one_epoch_and_is_filled_when_it_returns() {
    if !can_serve() {
        return;
    }
    let directory = tempdir().expect("a directory");
    let first_port = free_port();
    let mut first = Node::start(directory.path(), first_port, None);
    let second_port = free_port();
    let mut second = Node::start(directory.path(), second_port, Some(first_port));
    second.wait_until_ready();
    first.wait_until(|node| {
        let status = node.status();
        status.is_some_and(|status| status["shortage"]["copies"] == 0)
    });
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
