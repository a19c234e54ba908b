//! A connection against servers that answer, stand still, lie, or go away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Connection, Lost, Role};
use crate::command::Command;
use crate::decode::DecodeError;
use crate::error::{ConnectError, Disconnect};
use crate::fake::{Action, FakeServer};
use crate::lock::lock;
use crate::name::Name;
use crate::options::Options;
use crate::value::Value;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(10);

fn options() -> Options {
    Options::default()
        .reply_timeout(SHORT)
        .connect_timeout(SHORT)
}

fn frame(text: &str) -> Bytes {
    Command::read("ECHO")
        .arg(text)
        .encode()
        .expect("allowed")
        .frame
}

async fn open_to(address: &str, options: &Options) -> Result<Connection, ConnectError> {
    let name = Name::new(address);
    Connection::open(&name, Role::Routed, options, Arc::new(Notify::new())).await
}

async fn open(server: &FakeServer, options: &Options) -> Connection {
    open_to(&server.address, options).await.expect("it listens")
}

async fn echo() -> FakeServer {
    FakeServer::start(|command| match command {
        "ECHO close" => Action::Close,
        "ECHO ignore" => Action::Ignore,
        "ECHO lie" => Action::reply("!\r\n"),
        "ECHO twice" => Action::reply("+1\r\n+2\r\n"),
        _ => Action::bulk(command),
    })
    .await
}

fn is_echo(reply: Result<Value, Lost>, text: &str) -> bool {
    reply == Ok(Value::Bytes(Bytes::from(format!("ECHO {text}"))))
}

fn lost(reason: Disconnect, was_sent: bool) -> Result<Value, Lost> {
    Err(Lost { reason, was_sent })
}

#[tokio::test]
async fn replies_come_to_who_asked() {
    let server = echo().await;
    let connection = open(&server, &options()).await;
    let long = "v".repeat(300_000);
    let texts: Vec<String> = (0..500)
        .map(|n| {
            if n % 100 == 7 {
                format!("{n}{long}")
            } else {
                n.to_string()
            }
        })
        .collect();
    let mut pending = Vec::new();
    for text in &texts {
        pending.push(connection.send(frame(text)).await.expect("open"));
    }
    for (mut pending, text) in pending.into_iter().zip(&texts) {
        assert!(is_echo(pending.wait().await, text));
    }
}

#[tokio::test]
async fn who_leaves_after_sending_keeps_its_place() {
    let server = echo().await;
    let connection = open(&server, &options()).await;
    for round in 0..50 {
        let left = connection.send(frame("left")).await.expect("open");
        let mut stays = connection
            .send(frame(&round.to_string()))
            .await
            .expect("open");
        tokio::task::yield_now().await;
        drop(left);
        assert!(is_echo(stays.wait().await, &round.to_string()));
    }
}

#[tokio::test]
async fn who_leaves_before_sending_never_sends() {
    let server = echo().await;
    let connection = open(&server, &options()).await;
    // Nothing is written before this task waits.
    let left = connection.send(frame("left")).await.expect("open");
    assert!(!left.cancel(), "it was not sent");
    let mut stays = connection.send(frame("stays")).await.expect("open");
    assert!(is_echo(stays.wait().await, "stays"));
    assert!(stays.cancel(), "it was sent");
    assert_eq!(server.commands(), ["ECHO stays"]);
}

#[tokio::test]
async fn a_silent_server_loses_all_that_wait() {
    let server = echo().await;
    let connection = open(&server, &options()).await;
    let started = Instant::now();
    let mut first = connection.send(frame("ignore")).await.expect("open");
    let mut second = connection.send(frame("ignore")).await.expect("open");
    assert_eq!(first.wait().await, lost(Disconnect::Silent, true));
    assert_eq!(second.wait().await, lost(Disconnect::Silent, true));
    assert!(started.elapsed() >= SHORT);
    assert!(started.elapsed() < 10 * SHORT, "{:?}", started.elapsed());
    assert!(!connection.is_open());
    assert!(
        connection
            .send(frame("late"))
            .await
            .is_err_and(|lost| !lost.was_sent)
    );
}

/// The server is in a thread of its own, as another process would be.
#[tokio::test]
async fn a_client_that_stood_still_reads_what_came_meanwhile() {
    let others = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread");
    let (gate, closed_gate) = std::sync::mpsc::channel::<()>();
    let closed_gate = Mutex::new(closed_gate);
    let served = others.spawn(FakeServer::start(move |command| {
        let _ = lock(&closed_gate).recv();
        Action::bulk(command)
    }));
    let server = served.await.expect("no panic");
    let patient = options().reply_timeout(4 * SHORT).connect_timeout(LONG);
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(open(&server, &patient).await);
    }
    let mut waiting = Vec::new();
    for connection in &connections {
        waiting.push(connection.send(frame("late")).await.expect("open"));
    }
    // All is written; then this runtime stands still while the replies come.
    tokio::time::sleep(SHORT / 10).await;
    drop(gate);
    let stood_still = Instant::now();
    while server.commands().len() < waiting.len() || stood_still.elapsed() < 6 * SHORT {
        assert!(stood_still.elapsed() < LONG);
        std::thread::sleep(SHORT / 10);
    }
    for mut pending in waiting {
        assert!(is_echo(pending.wait().await, "late"));
    }
    others.shutdown_background();
}

#[tokio::test]
async fn trouble_is_told_and_the_socket_closed_before_the_queue_is_empty() {
    let server = echo().await;
    let trouble = Arc::new(Notify::new());
    let options = options().queue_max(1);
    let name = Name::new(&*server.address);
    let connection = Connection::open(&name, Role::Routed, &options, Arc::clone(&trouble)).await;
    let connection = connection.expect("it listens");
    // Room that is taken and not used, as by a caller that is not polled.
    let room = connection.requests.reserve().await.expect("open");
    let told = tokio::time::timeout(LONG, trouble.notified());
    drop(server);
    told.await.expect("its end is noticed");
    drop(room);
}

#[tokio::test]
async fn an_idle_server_that_does_not_answer_pings_is_found_out() {
    let server = FakeServer::start(|_| Action::Ignore).await;
    let connection = open(&server, &options().ping_interval(SHORT)).await;
    let gone = async {
        while connection.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it is probed");
    let healthy = echo().await;
    let patient = options().reply_timeout(LONG).connect_timeout(LONG);
    let connection = open(&healthy, &patient.ping_interval(SHORT)).await;
    tokio::time::sleep(4 * SHORT).await;
    assert!(connection.is_open());
}

#[tokio::test]
async fn the_queue_is_bounded_and_what_was_not_sent_is_known() {
    let server = echo().await;
    let connection = open(&server, &options().queue_max(2).reply_timeout(5 * SHORT)).await;
    let mut pending = Vec::new();
    // Two in flight, one that the writer holds back at most, two queued.
    while let Ok(sent) = tokio::time::timeout(SHORT, connection.send(frame("ignore"))).await {
        pending.push(sent.expect("open"));
        assert!(pending.len() <= 5);
    }
    assert!(pending.len() >= 4);
    let mut sent = 0;
    for mut pending in pending {
        let reply = pending.wait().await;
        sent += usize::from(reply == lost(Disconnect::Silent, true));
        assert!(reply.is_err());
    }
    assert_eq!(sent, 2);
    assert_eq!(server.commands().len(), 2);
}

#[tokio::test]
async fn a_server_that_goes_or_lies_ends_the_connection() {
    let unasked = Disconnect::NotResp(DecodeError::Unasked);
    let unknown = Disconnect::NotResp(DecodeError::UnknownType(b'!'));
    let server = echo().await;
    for (text, reason) in [("close", Disconnect::Closed), ("lie", unknown)] {
        let connection = open(&server, &options()).await;
        let mut pending = connection.send(frame(text)).await.expect("open");
        assert_eq!(pending.wait().await, lost(reason, true));
    }
    let connection = open(&server, &options()).await;
    let mut answered = connection.send(frame("twice")).await.expect("open");
    assert!(answered.wait().await.is_ok());
    let late = async { connection.send(frame("late")).await?.wait().await };
    assert!(
        [
            lost(unasked, true),
            lost(unasked, false),
            lost(Disconnect::Closed, false)
        ]
        .contains(&late.await)
    );
}

#[tokio::test]
async fn the_last_handle_closes_it_after_the_last_reply() {
    let server = echo().await;
    let connection = open(&server, &options()).await;
    let mut pending = connection.send(frame("last")).await.expect("open");
    drop(connection);
    assert!(is_echo(pending.wait().await, "last"));
    let closed = async {
        while server.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("it closes");
}

#[tokio::test]
async fn connecting_is_bounded_and_says_why_not() {
    let refused = open_to("127.0.0.1:1", &options()).await;
    assert!(
        matches!(
            refused,
            Err(ConnectError::Io(std::io::ErrorKind::ConnectionRefused))
        ),
        "{refused:?}"
    );
    // The kernel takes the connection, nobody answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let silent = open_to(&address, &options()).await;
    assert!(matches!(silent, Err(ConnectError::TimedOut)), "{silent:?}");
}
