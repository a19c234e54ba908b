//! Several commands in one call.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;

use super::{commands, connect, ok, options};
use crate::command::Command;
use crate::fake::{Action, Map, until};
use crate::lock::lock;
use crate::options::ReadFrom;
use crate::value::Value;

fn text(reply: &crate::Result<Value>) -> String {
    match reply {
        Ok(Value::Bytes(bytes) | Value::Status(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_pipeline_answers_in_order_whatever_becomes_of_each() {
    let map = Map::default();
    let second = map
        .node(|command| Action::bulk(&format!("second {command}")))
        .await;
    let address = second.address.clone();
    let busy = Mutex::new(true);
    let first = map.node(move |command| match command {
        "GET moved" => Action::reply(format!("-MOVED 1 {address}\r\n")),
        "GET busy" if std::mem::take(&mut *lock(&busy)) => Action::reply("-BUSY x\r\n"),
        "GET wrong" => Action::reply("-WRONGTYPE x\r\n"),
        _ => Action::bulk(&format!("first {command}")),
    });
    let first = first.await;
    map.set(1, &[(0, 16_383, &[&first.address])]);
    let client = connect(&first, options()).await;
    let pipeline = client
        .pipeline()
        .get("a")
        .get("moved")
        .get("busy")
        .get("wrong");
    let replies = pipeline
        .command(Command::write("MULTI"))
        .get("b")
        .execute()
        .await;
    let replies: Vec<String> = replies.iter().map(text).collect();
    assert_eq!(replies[0], "first GET a");
    assert_eq!(replies[1], "second GET moved");
    assert_eq!(replies[2], "first GET busy");
    assert_eq!(replies[3], "the server answered: WRONGTYPE x");
    assert!(
        replies[4].contains("changes the connection"),
        "{}",
        replies[4]
    );
    assert_eq!(replies[5], "first GET b");
    assert_eq!(
        commands(&first),
        [
            "GET a",
            "GET moved",
            "GET busy",
            "GET wrong",
            "GET b",
            "GET busy"
        ]
    );
}

#[tokio::test]
async fn an_increment_in_a_pipeline_is_sent_once() {
    let map = Map::default();
    let node = map.node(|command| {
        if command == "GET close" {
            Action::Close
        } else {
            Action::reply(":1\r\n")
        }
    });
    let node = node.await;
    map.set_all(1, &node.address);
    let client = connect(&node, options().retries_max(2)).await;
    let pipeline = client
        .pipeline()
        .increment("a", 1)
        .get("close")
        .increment("b", 1)
        .set("c", "1");
    let replies = pipeline.execute().await;
    assert!(replies[0].is_ok());
    assert!(
        replies[1]
            .as_ref()
            .is_err_and(|error| !error.may_have_been_applied())
    );
    let error = replies[2].as_ref().expect_err("its reply is lost");
    assert!(error.may_have_been_applied());
    assert!(
        commands(&node)
            .iter()
            .filter(|command| *command == "INCRBY b 1")
            .count()
            <= 1
    );
}

#[tokio::test]
async fn what_a_pipeline_writes_it_reads_where_it_is_written() {
    let map = Map::default();
    let primary = map.node(|_| Action::bulk("primary")).await;
    let replica = map.node(|_| Action::bulk("replica")).await;
    map.set(1, &[(0, 16_383, &[&primary.address, &replica.address])]);
    let client = connect(&primary, options().read_from(ReadFrom::Replica)).await;
    let pipeline = client.pipeline().set("k", "v").get("k").get("other");
    let replies = pipeline.execute().await;
    let replies: Vec<String> = replies.iter().map(text).collect();
    assert_eq!(replies, ["primary", "primary", "replica"]);
    assert_eq!(commands(&primary), ["SET k v", "GET k"]);
}

#[tokio::test]
async fn what_is_redirected_waits_for_no_silent_node() {
    let map = Map::default();
    let owner = map.node(ok).await;
    let address = owner.address.clone();
    let first = map.node(move |_| Action::reply(format!("-MOVED 3300 {address}\r\n")));
    let (first, silent) = (first.await, map.node(|_| Action::Ignore).await);
    map.set_halves(1, &first.address, &silent.address);
    let long = Duration::from_secs(60);
    let client = connect(&first, options().timeout(long).reply_timeout(long)).await;
    // Slots 3,300 and 15,495.
    let pipeline = client.pipeline().get("b").get("a").execute();
    let pipeline = tokio::spawn(pipeline);
    until(|| commands(&owner) == ["GET b"]).await;
    assert!(!pipeline.is_finished());
}

#[tokio::test]
async fn a_pipeline_that_is_dropped_sends_no_more() {
    let map = Map::default();
    let node = map.node(ok).await;
    map.set_all(1, &node.address);
    let client = connect(&node, options().connections_per_node(1)).await;
    client.set("before", "1").await.expect("stored");
    let dropped = client.pipeline().set("a", "1").set("b", "1").execute();
    assert!(dropped.now_or_never().is_none(), "nothing is written yet");
    client.set("after", "1").await.expect("stored");
    assert_eq!(commands(&node), ["SET before 1", "SET after 1"]);
}
