//! The client against servers that do as they are told: who is asked, how often, and what comes of it.

mod pipelines;
mod reads;

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::Client;
use crate::error::{Disconnect, ErrorKind};
use crate::fake::{Action, FakeServer, Map, until};
use crate::lock::lock;
use crate::options::Options;
use crate::slot::slot_of;
use crate::value::Value;

const SHORT: Duration = Duration::from_millis(100);

/// What came, but for questions about the cluster.
fn commands(server: &FakeServer) -> Vec<String> {
    let mut commands = server.commands();
    commands.retain(|command| !command.starts_with("CLUSTER") && !command.starts_with("HOTKEYS"));
    commands
}

fn options() -> Options {
    Options::default()
        .timeout(20 * SHORT)
        .reply_timeout(2 * SHORT)
        .connect_timeout(2 * SHORT)
        .backoff(Duration::from_millis(5), Duration::from_millis(20))
        .hot_keys_interval(None)
}

async fn connect(server: &FakeServer, options: Options) -> Client {
    Client::connect_with([server.address.clone()], options)
        .await
        .expect("it answers")
}

/// The client, which often asks for maps, does without that of `left`, of which `left` alone is one, until
/// `right` is gone.
async fn the_last_resort_is(client: &Client, left: FakeServer, right: FakeServer) {
    let asked = || left.commands().len();
    let before = asked();
    until(|| asked() >= before + 10).await;
    assert_eq!(client.nodes().len(), 2);
    drop(right);
    until(|| client.nodes() == std::slice::from_ref(&left.address)).await;
}

fn ok(_: &str) -> Action {
    Action::reply("+OK\r\n")
}

#[tokio::test]
async fn keys_go_to_their_owners_and_moved_teaches_the_map() {
    let map = Map::default();
    let second = map.node(ok).await;
    let address = second.address.clone();
    let first = map.node(move |command| {
        let key = command.split(' ').nth(1).unwrap_or_default();
        Action::reply(format!("-MOVED {} {address}\r\n", slot_of(key.as_bytes())))
    });
    let first = first.await;
    map.set_all(1, &first.address);
    let client = connect(&first, options()).await;
    map.set_all(2, &second.address);
    client.set("a", "1").await.expect("stored");
    assert_eq!(commands(&first), ["SET a 1"]);
    assert_eq!(commands(&second), ["SET a 1"]);
    until(|| client.nodes() == std::slice::from_ref(&second.address)).await;
    client.set("a", "2").await.expect("stored");
    assert_eq!(commands(&first).len(), 1);
    // The node that left the map has no connection any more.
    until(|| first.open() == 0).await;
}

#[tokio::test]
async fn a_write_whose_outcome_is_unknown_is_sent_again_only_if_that_does_no_harm() {
    let map = Map::default();
    let node = map.node(|_| Action::Close).await;
    map.set_all(1, &node.address);
    let client = connect(&node, options().retries_max(3)).await;
    let error = client.increment("n", 1).await.expect_err("it closes");
    assert!(error.may_have_been_applied());
    assert!(
        matches!(error.kind(), ErrorKind::Disconnected(_)),
        "{error}"
    );
    assert_eq!(commands(&node), ["INCRBY n 1"]);
    let error = client.set("k", "v").await.expect_err("it closes");
    assert!(error.may_have_been_applied());
    let error = client.get("k").await.expect_err("it closes");
    assert!(!error.may_have_been_applied(), "a read changes nothing");
    let commands = commands(&node);
    assert_eq!(
        commands
            .iter()
            .filter(|command| *command == "SET k v")
            .count(),
        4
    );
    assert_eq!(
        commands
            .iter()
            .filter(|command| *command == "GET k")
            .count(),
        4
    );
}

#[tokio::test]
async fn what_was_refused_is_sent_again() {
    let map = Map::default();
    let refusals = Mutex::new(vec!["-TRYAGAIN x\r\n", "-CLUSTERDOWN x\r\n", "-BUSY x\r\n"]);
    let node = map.node(move |_| Action::reply(lock(&refusals).pop().unwrap_or(":1\r\n")));
    let node = node.await;
    map.set_all(1, &node.address);
    let client = connect(&node, options()).await;
    assert_eq!(client.increment("n", 1).await.expect("at last"), 1);
    assert_eq!(commands(&node).len(), 4);
}

#[tokio::test]
async fn a_node_that_stands_still_costs_no_more_than_the_time_out() {
    let map = Map::default();
    let node = map.node(|_| Action::Ignore).await;
    map.set_all(1, &node.address);
    let client = connect(&node, options().timeout(5 * SHORT)).await;
    let started = Instant::now();
    let error = client.get("k").await.expect_err("silence");
    let is_silent = matches!(
        error.kind(),
        ErrorKind::TimedOut | ErrorKind::Disconnected(Disconnect::Silent)
    );
    assert!(is_silent, "{error}");
    let error = client.increment("k", 1).await.expect_err("silence");
    assert!(error.may_have_been_applied(), "{error}");
    assert!(started.elapsed() < 15 * SHORT, "{:?}", started.elapsed());
    let increments = || {
        let mut commands = commands(&node);
        commands.retain(|command| command.starts_with("INCRBY"));
        commands.len()
    };
    until(|| increments() > 0).await;
    assert_eq!(increments(), 1);
}

#[tokio::test]
async fn a_cluster_is_found_again_when_all_its_addresses_changed() {
    let map = Map::default();
    let (seed, old, new) = (map.node(ok).await, map.node(ok).await, map.node(ok).await);
    map.set_all(1, &old.address);
    let client = connect(&seed, options()).await;
    client.set("a", "1").await.expect("stored");
    map.set_all(2, &new.address);
    drop(old);
    // The old node's connections are still open, but silent or closed: the seed knows.
    client
        .set("a", "2")
        .await
        .expect("stored at the new address, or as the old node goes");
    until(|| client.nodes() == std::slice::from_ref(&new.address)).await;
    client.set("a", "3").await.expect("stored");
    assert!(commands(&new).contains(&"SET a 3".to_owned()));
}

#[tokio::test]
async fn a_node_that_goes_is_noticed_without_a_call() {
    let map = Map::default();
    let (first, second) = (map.node(ok).await, map.node(ok).await);
    map.set_halves(1, &first.address, &second.address);
    let client = connect(
        &first,
        options().refresh_interval(Duration::from_secs(3_600)),
    )
    .await;
    client.get_many(["a", "b", "c"]).await.expect("answered");
    assert!(first.open() > 0, "it was asked");
    map.set_all(2, &second.address);
    drop(first);
    until(|| client.nodes() == std::slice::from_ref(&second.address)).await;
}

#[tokio::test]
async fn an_older_map_is_taken_only_if_nobody_has_a_newer() {
    let (behind, ahead) = (Map::default(), Map::default());
    let left = behind.node(ok).await;
    let right = ahead.node(ok).await;
    behind.set_all(1, &left.address);
    ahead.set_halves(2, &left.address, &right.address);
    let client = connect(
        &right,
        options().refresh_interval(Duration::from_millis(10)),
    )
    .await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(client.nodes().len(), 2);
    }
    drop(right);
    until(|| client.nodes() == std::slice::from_ref(&left.address)).await;
}

#[tokio::test]
async fn a_branch_is_taken_only_if_nobody_has_a_quorum() {
    let (branch, decided) = (Map::default(), Map::default());
    let (left, right) = (branch.node(ok).await, decided.node(ok).await);
    decided.set_halves(1, &left.address, &right.address);
    branch.set_all(1, &left.address);
    branch.set_provisional();
    let often = Duration::from_millis(10);
    let client = connect(&right, options().refresh_interval(often)).await;
    the_last_resort_is(&client, left, right).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_and_answers_is_noticed() {
    let (branch, decided) = (Map::default(), Map::default());
    let (left, right) = (branch.node(ok).await, decided.node(ok).await);
    branch.set_halves(1, &left.address, &right.address);
    decided.set_halves(1, &left.address, &right.address);
    let never = Duration::from_secs(3_600);
    let client = connect(&left, options().refresh_interval(never)).await;
    branch.set_all(1, &left.address);
    branch.set_provisional();
    decided.set_all(2, &right.address);
    until(|| client.nodes() == std::slice::from_ref(&right.address)).await;
}

#[tokio::test]
async fn another_clusters_map_is_taken_only_if_nobody_has_one_of_ours() {
    let (reused, ours) = (Map::default(), Map::default());
    let (left, right) = (reused.node(ok).await, ours.node(ok).await);
    for map in [&reused, &ours] {
        map.set_cluster("00000000000000aa");
        map.set_halves(1, &left.address, &right.address);
    }
    let often = Duration::from_millis(10);
    let client = connect(&left, options().refresh_interval(often)).await;
    // The left address was given to a node of another cluster.
    reused.set_cluster("00000000000000bb");
    reused.set_all(9, &left.address);
    the_last_resort_is(&client, left, right).await;
}

#[tokio::test]
async fn connections_to_seeds_that_are_no_nodes_are_closed() {
    let map = Map::default();
    let (seed, node) = (map.node(ok).await, map.node(ok).await);
    map.set_all(1, &node.address);
    let client = connect(&seed, options()).await;
    client.set("a", "1").await.expect("stored");
    drop(node);
    let before = seed.accepted();
    until(|| seed.accepted() > before).await;
    until(|| seed.open() == 0).await;
}

#[tokio::test]
async fn a_server_without_a_cluster_has_all_keys() {
    let disabled = "-ERR This instance has cluster support disabled\r\n";
    let node = FakeServer::start(move |command| match command {
        "CLUSTER INFO" | "CLUSTER SLOTS" => Action::reply(disabled),
        _ => ok(command),
    });
    let node = node.await;
    let client = connect(&node, options()).await;
    client.set("a", "1").await.expect("stored");
    client.set("b", "1").await.expect("stored");
    assert_eq!(commands(&node), ["SET a 1", "SET b 1"]);
}

#[tokio::test]
async fn when_time_is_up_the_last_reason_is_told_and_nothing_is_sent_any_more() {
    let map = Map::default();
    let node = map.node(|_| Action::reply("-CLUSTERDOWN x\r\n")).await;
    map.set_all(1, &node.address);
    let long = 20 * SHORT;
    let options = options().timeout(5 * SHORT).backoff(long, long);
    let client = connect(&node, options.retries_max(u32::MAX)).await;
    let alone = client.increment("n", 1).await.map(Value::Integer);
    let replies = client.pipeline().increment("m", 1).execute().await;
    for reply in replies.into_iter().chain([alone]) {
        let error = reply.expect_err("refused");
        assert!(matches!(error.kind(), ErrorKind::Server(_)), "{error}");
        assert!(!error.may_have_been_applied(), "{error}");
    }
    assert_eq!(commands(&node), ["INCRBY n 1", "INCRBY m 1"]);
}

#[tokio::test]
async fn no_seed_is_an_error_and_so_is_a_silent_one() {
    let none = Client::connect(Vec::<String>::new())
        .await
        .expect_err("nobody to ask");
    assert!(matches!(none.kind(), ErrorKind::InvalidArgument(_)));
    let started = Instant::now();
    let silent = Client::connect_with(["127.0.0.1:1"], options().timeout(SHORT)).await;
    let refused = "cannot connect to 127.0.0.1:1: connection refused";
    assert_eq!(silent.expect_err("nobody listens").to_string(), refused);
    assert!(started.elapsed() < 10 * SHORT);
}

#[tokio::test]
async fn connections_close_with_the_last_clone() {
    let map = Map::default();
    let node = map.node(ok).await;
    map.set_all(1, &node.address);
    let client = connect(&node, options()).await;
    let clone = client.clone();
    clone.set("a", "1").await.expect("stored");
    drop(client);
    clone.set("a", "1").await.expect("stored");
    drop(clone);
    until(|| node.open() == 0).await;
}
