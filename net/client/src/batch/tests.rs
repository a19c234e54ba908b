//! The batcher against a server that counts what reaches it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{BatchOptions, BufferedWrite};
use crate::client::Client;
use crate::error::ErrorKind;
use crate::fake::{Action, FakeServer};
use crate::lock::lock;
use crate::options::Options;

const LONG: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_millis(500);

/// Answers writes; with these words, by the action.
async fn server(
    special: impl Fn(&str) -> Option<Action> + Send + Sync + 'static,
) -> (FakeServer, Client) {
    let server = FakeServer::start(move |command| {
        if command.starts_with("CLUSTER") {
            return Action::reply("-ERR This instance has cluster support disabled\r\n");
        }
        special(command).unwrap_or_else(|| match &command[..3] {
            "SET" => Action::reply("+OK\r\n"),
            _ => Action::reply(":1\r\n"),
        })
    });
    let server = server.await;
    let options = Options::default()
        .hot_keys_interval(None)
        .retries_max(2)
        .timeout(TIMEOUT)
        .connections_per_node(1);
    let client = Client::connect_with([server.address.clone()], options)
        .await
        .expect("it answers");
    (server, client)
}

fn writes(server: &FakeServer) -> Vec<String> {
    let mut commands = server.commands();
    commands.retain(|command| !command.starts_with("CLUSTER"));
    commands
}

#[tokio::test]
async fn writes_of_a_window_are_merged() {
    let (server, client) = server(|_| None).await;
    let batcher = client.batcher(BatchOptions::default().window(LONG));
    for number in 0..100 {
        batcher.increment("n", number).await.expect("buffered");
        batcher
            .set("k", number.to_string())
            .await
            .expect("buffered");
    }
    batcher.increment("k", 5).await.expect("buffered");
    batcher
        .set_with_ttl("t", "v", Duration::from_secs(1))
        .await
        .expect("buffered");
    batcher.delete("d").await.expect("buffered");
    assert!(writes(&server).is_empty());
    batcher.flush().await.expect("all is well");
    let mut sent = writes(&server);
    assert_eq!(sent.pop().as_deref(), Some("INCRBY k 5"), "behind its set");
    sent.sort();
    assert_eq!(
        sent,
        ["DEL d", "INCRBY n 4950", "SET k 99", "SET t v PX 1000"]
    );
    batcher.flush().await.expect("nothing to do");
}

#[tokio::test]
async fn a_window_ends_by_itself() {
    let (server, client) = server(|_| None).await;
    let batcher = client.batcher(BatchOptions::default().window(Duration::from_millis(50)));
    let started = Instant::now();
    batcher.increment("n", 1).await.expect("buffered");
    while writes(&server).is_empty() {
        assert!(started.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_full_buffer_is_sent_and_writes_wait_for_that_no_longer_than_the_time_out() {
    let is_stuck = Arc::new(AtomicBool::new(false));
    let sticks = Arc::clone(&is_stuck);
    let (server, client) = server(move |command| {
        (command != "PING" && sticks.load(Ordering::SeqCst)).then_some(Action::Ignore)
    })
    .await;
    let batcher = client.batcher(BatchOptions::default().window(LONG).items_max(10));
    for number in 0..35 {
        batcher
            .set(format!("k{number}"), "v")
            .await
            .expect("buffered");
    }
    let started = Instant::now();
    while writes(&server).len() < 30 {
        assert!(started.elapsed() < LONG, "{}", writes(&server).len());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    batcher.flush().await.expect("all is well");
    is_stuck.store(true, Ordering::SeqCst);
    let calls: JoinSet<_> = (0..60)
        .map(|number| {
            let batcher = batcher.clone();
            async move {
                let started = Instant::now();
                let result = batcher.set(format!("k{number}"), "v").await;
                result.map_err(|error| (error, started.elapsed()))
            }
        })
        .collect();
    let calls = calls.join_all().await;
    let refused: Vec<_> = calls.into_iter().filter_map(Result::err).collect();
    // Ten are on their way, ten wait, and ten find room when the first have failed.
    assert!(refused.len() >= 30, "{refused:?}");
    for (error, waited) in refused {
        assert!(
            error.is_timeout() && !error.may_have_been_applied(),
            "{error}"
        );
        assert!((TIMEOUT..LONG).contains(&waited), "{waited:?}");
    }
    let failed = batcher.flush().await.expect_err("nobody answers");
    assert!(!failed.failures.is_empty(), "{failed}");
}

#[tokio::test]
async fn each_failure_is_reported_once_and_to_the_handler() {
    let (server, client) = server(|command| match command {
        "INCRBY lost 7" => Some(Action::Close),
        "SET wrong v" | "INCRBY text 1" => Some(Action::reply("-WRONGTYPE x\r\n")),
        _ => None,
    })
    .await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let options = BatchOptions::default()
        .window(LONG)
        .on_failure(move |failure| lock(&tells).push(failure.key.clone()));
    let batcher = client.batcher(options);
    batcher.increment("lost", 3).await.expect("buffered");
    batcher.increment("lost", 4).await.expect("buffered");
    let error = batcher.flush().await.expect_err("its connection closes");
    assert_eq!(error.failures.len(), 1);
    assert_eq!(error.failures[0].key, "lost");
    assert_eq!(error.failures[0].write, BufferedWrite::Increment(7));
    assert!(error.failures[0].error.may_have_been_applied());
    assert_eq!(writes(&server), ["INCRBY lost 7"], "never again");

    batcher.set("wrong", "v").await.expect("buffered");
    batcher.increment("wrong", 2).await.expect("buffered");
    batcher.increment("text", 1).await.expect("buffered");
    let mut failures = batcher.flush().await.expect_err("refused").failures;
    failures.sort_by_key(|failure| failure.key.clone());
    assert_eq!(failures.len(), 3);
    assert_eq!(failures[0].key, "text");
    assert!(!failures[0].error.may_have_been_applied());
    let skipped = failures
        .iter()
        .find(|failure| failure.write == BufferedWrite::Increment(2));
    assert!(matches!(
        skipped.expect("reported").error.kind(),
        ErrorKind::Skipped
    ));
    batcher.flush().await.expect("told already");
    assert_eq!(lock(&told).len(), 4);
}

#[tokio::test]
async fn a_handler_that_panics_ends_nothing() {
    let (_server, client) = server(|command| {
        let is_wrong = command == "SET wrong v";
        is_wrong.then(|| Action::reply("-WRONGTYPE x\r\n"))
    })
    .await;
    let options = BatchOptions::default()
        .window(LONG)
        .on_failure(|failure| panic!("told of {failure}"));
    let batcher = client.batcher(options);
    for _ in 0..2 {
        batcher.set("wrong", "v").await.expect("buffered");
        let flushed = tokio::time::timeout(LONG, batcher.flush()).await;
        let failed = flushed.expect("it goes on").expect_err("refused");
        assert_eq!(failed.failures.len(), 1);
        assert!(!failed.has_ended);
    }
}

#[tokio::test]
async fn who_outlives_the_runtime_is_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread");
    let made = runtime.spawn(async {
        let (server, client) = server(|_| None).await;
        let options = BatchOptions::default().window(LONG).items_max(1);
        (client.batcher(options), server)
    });
    let (batcher, _server) = made.await.expect("no panic");
    runtime.shutdown_background();
    let told = async {
        let error = batcher.increment("n", 1).await.err();
        if error.is_none() {
            // The runtime was still going down.
            let failed = batcher.flush().await.expect_err("nobody sends it");
            assert!(failed.has_ended);
        }
        let error = batcher
            .increment("n", 1)
            .await
            .expect_err("nobody sends it");
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)));
        let failed = batcher.flush().await.expect_err("nobody sends it");
        assert!(failed.has_ended, "{failed}");
    };
    tokio::time::timeout(LONG, told).await.expect("no wait");
}

#[tokio::test]
async fn what_is_left_is_sent_when_the_last_handle_goes() {
    let (server, client) = server(|_| None).await;
    let batcher = client.batcher(BatchOptions::default().window(LONG));
    let clone = batcher.clone();
    batcher.increment("n", 1).await.expect("buffered");
    drop(batcher);
    clone.increment("n", 1).await.expect("buffered");
    assert!(writes(&server).is_empty());
    drop(clone);
    let started = Instant::now();
    while writes(&server).is_empty() {
        assert!(started.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(writes(&server), ["INCRBY n 2"]);
}

#[tokio::test]
async fn a_split_counter_sends_one_part_per_window() {
    let (server, client) =
        server(|command| command.starts_with("GET c:").then(|| Action::bulk("4"))).await;
    let batcher = client.batcher(BatchOptions::default().window(LONG));
    let counter = batcher.counter("c", 5).expect("valid");
    for _ in 0..5 {
        counter.increment(1).await.expect("buffered");
        counter.increment(2).await.expect("buffered");
        batcher.flush().await.expect("all is well");
    }
    let mut sent = writes(&server);
    sent.sort();
    assert_eq!(
        sent,
        [0, 1, 2, 3, 4].map(|part| format!("INCRBY c:{part} 3"))
    );
    assert_eq!(counter.get().await.expect("numbers"), 20);
    for (name, parts) in [("c", 0), ("c", 1_025), ("{c}", 2)] {
        assert!(client.counter(name, parts).is_err());
    }
    assert!(client.counter("{c}", 1).is_ok());
}
