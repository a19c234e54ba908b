//! Reads that others than the primary answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{commands, connect, ok, options};
use crate::fake::{Action, Map, until};
use crate::options::ReadFrom;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn replicas_answer_reads_and_the_primary_when_they_do_not() {
    let map = Map::default();
    let primary = map.node(|_| Action::bulk("primary")).await;
    let replica = map.node(|_| Action::bulk("replica")).await;
    map.set(1, &[(0, 16_383, &[&primary.address, &replica.address])]);
    let client = connect(&primary, options().read_from(ReadFrom::Replica)).await;
    let get = async || client.get("k").await.expect("answered").expect("there");
    assert_eq!(get().await, "replica");
    drop(replica);
    until(|| commands(&primary).is_empty()).await;
    assert_eq!(get().await, "primary");
    let any = connect(&primary, options().read_from(ReadFrom::Any)).await;
    assert!(any.get("k").await.is_ok());
}

#[tokio::test]
async fn reads_of_hot_keys_go_to_all_nodes() {
    let map = Map::default();
    let script = |name: &'static str| {
        move |command: &str| match command {
            "HOTKEYS GET" => {
                Action::reply("*2\r\n$19\r\nby-reads-per-second\r\n*2\r\n$3\r\nhot\r\n:5000\r\n")
            }
            "SET hot 1" => ok(command),
            _ => Action::bulk(name),
        }
    };
    let (first, second) = (
        map.node(script("first")).await,
        map.node(script("second")).await,
    );
    // Slot 16,383 is the second node's, all others are the first's.
    map.set(
        1,
        &[
            (0, 16_382, &[&first.address]),
            (16_383, 16_383, &[&second.address]),
        ],
    );
    let client = connect(&first, options().hot_keys_interval(Some(SECOND))).await;
    until(|| client.hot_keys_count() == 1).await;
    let count_second = async || {
        let mut count = 0;
        for _ in 0..100 {
            count +=
                usize::from(client.get("hot").await.expect("answered").expect("there") == "second");
        }
        count
    };
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    let count = count_second().await;
    assert!((20..=80).contains(&count), "{count}");
    let written = Instant::now();
    client.set("hot", "1").await.expect("stored");
    let count = count_second().await;
    assert!(
        count == 0 || written.elapsed() >= SECOND,
        "what it wrote it reads at the owner: {count}"
    );
    assert_eq!(
        client.get("cold").await.expect("answered").expect("there"),
        "first"
    );
}

#[tokio::test]
async fn where_one_node_has_all_it_is_not_asked_for_hot_keys() {
    let map = Map::default();
    let node = map.node(ok).await;
    map.set_all(1, &node.address);
    let often = Duration::from_millis(5);
    let client = connect(&node, options().hot_keys_interval(Some(often))).await;
    tokio::time::sleep(20 * often).await;
    client.set("k", "v").await.expect("stored");
    let mut commands = node.commands();
    commands.retain(|command| !command.starts_with("CLUSTER"));
    assert_eq!(commands, ["SET k v"]);
}
