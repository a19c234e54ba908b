//! Servers that do as they are told, for tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::decode::Decoder;
use crate::lock::lock;

/// What a server does with a command.
pub(crate) enum Action {
    /// These bytes, at once.
    Reply(String),
    /// Nothing, to this and to all that comes behind it on its connection.
    Ignore,
    /// The connection ends.
    Close,
}

impl Action {
    pub(crate) fn reply(text: impl Into<String>) -> Self {
        Self::Reply(text.into())
    }

    pub(crate) fn bulk(text: &str) -> Self {
        Self::Reply(format!("${}\r\n{text}\r\n", text.len()))
    }
}

/// Waits until it is so; the test fails if that takes long.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("in time");
}

type Script = dyn Fn(&str) -> Action + Send + Sync;

/// Greetings are answered by themselves; all else is as the script says, which sees a command's words.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    script: Box<Script>,
    commands: Mutex<Vec<String>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

impl FakeServer {
    pub(crate) async fn start(script: impl Fn(&str) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::serve(listener, script)
    }

    pub(crate) fn serve(
        listener: TcpListener,
        script: impl Fn(&str) -> Action + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("bound").to_string();
        let state = Arc::new(State {
            script: Box::new(script),
            commands: Mutex::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            task,
        }
    }

    /// All commands that came, but for greetings and PINGs.
    pub(crate) fn commands(&self) -> Vec<String> {
        lock(&self.state.commands).clone()
    }

    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut clients = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        clients.spawn(async move {
            state.accepted.fetch_add(1, Ordering::SeqCst);
            state.open.fetch_add(1, Ordering::SeqCst);
            serve(stream, &state).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(mut stream: TcpStream, state: &State) {
    let (mut decoder, mut input) = (Decoder::new(1 << 30), BytesMut::new());
    let mut is_silent = false;
    while stream
        .read_buf(&mut input)
        .await
        .is_ok_and(|count| count > 0)
    {
        while let Ok(Some(command)) = decoder.decode(&mut input) {
            let words: Vec<String> = command
                .into_array()
                .expect("commands are arrays")
                .into_iter()
                .map(|word| word.into_bytes().expect("of bytes").unwrap_or_default())
                .map(|word| String::from_utf8_lossy(&word).into_owned())
                .collect();
            let command = words.join(" ");
            let action = match command.as_str() {
                "READONLY" | "READWRITE" => Action::reply("+OK\r\n"),
                "PING" if !matches!((state.script)("PING"), Action::Ignore) => {
                    Action::reply("+PONG\r\n")
                }
                _ => {
                    lock(&state.commands).push(command.clone());
                    (state.script)(&command)
                }
            };
            match action {
                Action::Reply(_) if is_silent => {}
                Action::Reply(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Action::Ignore => is_silent = true,
                Action::Close => return,
            }
        }
    }
}

/// What all fake nodes say of the cluster; tests change it.
#[derive(Clone, Default)]
pub(crate) struct Map(Arc<Mutex<Said>>);

#[derive(Clone, Default)]
struct Said {
    epoch: u64,
    is_provisional: bool,
    /// What the names of endpoints begin with.
    cluster: &'static str,
    entries: Vec<Entry>,
}

/// First and last slot, the primary and its replicas.
type Entry = (u16, u16, Vec<String>);

impl Map {
    pub(crate) fn set(&self, epoch: u64, entries: &[(u16, u16, &[&str])]) {
        let owned = |(first, last, nodes): &(u16, u16, &[&str])| {
            (
                *first,
                *last,
                nodes.iter().map(|node| (*node).to_owned()).collect(),
            )
        };
        let mut said = lock(&self.0);
        (said.epoch, said.entries) = (epoch, entries.iter().map(owned).collect());
    }

    /// The cluster's name, of 16 digits.
    pub(crate) fn set_cluster(&self, cluster: &'static str) {
        lock(&self.0).cluster = cluster;
    }

    /// Those who say it have no quorum.
    pub(crate) fn set_provisional(&self) {
        lock(&self.0).is_provisional = true;
    }

    /// About half of the slots are at each of two nodes.
    pub(crate) fn set_halves(&self, epoch: u64, first: &str, second: &str) {
        self.set(epoch, &[(0, 8_000, &[first]), (8_001, 16_383, &[second])]);
    }

    /// All slots are at `node`.
    pub(crate) fn set_all(&self, epoch: u64, node: &str) {
        self.set(epoch, &[(0, 16_383, &[node])]);
    }

    fn answer(&self, command: &str) -> Option<Action> {
        let Said {
            epoch,
            is_provisional,
            cluster,
            entries,
        } = lock(&self.0).clone();
        match command {
            "CLUSTER INFO" => {
                let is_provisional = u8::from(is_provisional);
                Some(Action::bulk(&format!(
                    "cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n\
                     cluster_provisional:{is_provisional}\r\n"
                )))
            }
            "CLUSTER SLOTS" => {
                let mut text = format!("*{}\r\n", entries.len());
                for (first, last, nodes) in entries {
                    text += &format!("*{}\r\n:{first}\r\n:{last}\r\n", 2 + nodes.len());
                    for node in nodes {
                        let (host, port) = node.rsplit_once(':').expect("an address");
                        text += &format!("*3\r\n${}\r\n{host}\r\n:{port}\r\n", host.len());
                        text += &format!("${}\r\n{cluster}\r\n", cluster.len());
                    }
                }
                Some(Action::reply(text))
            }
            _ => None,
        }
    }

    /// A node that knows this map and answers all else by the script.
    pub(crate) async fn node(
        &self,
        script: impl Fn(&str) -> Action + Send + Sync + 'static,
    ) -> FakeServer {
        let map = self.clone();
        FakeServer::start(move |command| map.answer(command).unwrap_or_else(|| script(command)))
            .await
    }
}
