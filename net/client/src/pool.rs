//! The connections to one endpoint, opened when they are needed, and again when they have ended.
//!
//! Each is opened by a task of its own, for all who wait for it and whether anybody still does. Where one of
//! several is open, nobody waits for the others. After a failure nobody tries before a growing, random pause
//! has passed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::backoff::backoff;
use crate::connection::{Connection, Role};
use crate::error::{ConnectError, Error, ErrorKind};
use crate::lock::lock;
use crate::name::Name;
use crate::options::Options;

#[derive(Debug)]
pub(crate) struct Pool {
    name: Name,
    role: Role,
    places: Box<[Mutex<Place>]>,
    next: AtomicUsize,
    options: Arc<Options>,
    trouble: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Place {
    open: Option<Connection>,
    /// The attempt to open it that is under way.
    attempt: Option<Attempt>,
    failures: u32,
    not_before: Option<Instant>,
}

type Opened = Result<Connection, ConnectError>;

/// Has its result once it ended.
type Attempt = watch::Receiver<Option<Opened>>;

impl Pool {
    /// `trouble` is told when a connection ends by itself.
    pub(crate) fn new(
        address: Arc<str>,
        role: Role,
        options: Arc<Options>,
        trouble: Arc<Notify>,
    ) -> Self {
        let places = (0..options.connections_per_node).map(|_| Mutex::default());
        Self {
            name: Name::new(address),
            role,
            places: places.collect(),
            next: AtomicUsize::new(0),
            options,
            trouble,
        }
    }

    /// An open connection, by turns. Waits for at most one attempt to open one.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection, Error> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.places.len();
        if let Some(connection) = self.open_at(turn) {
            return Ok(connection);
        }
        let attempt = self.begin(turn);
        if let Some(connection) = (0..self.places.len()).find_map(|index| self.open_at(index)) {
            return Ok(connection);
        }
        let opened = match attempt {
            Ok(mut attempt) => match attempt.wait_for(Option::is_some).await {
                Ok(opened) => (*opened).clone(),
                Err(_) => None,
            },
            Err(reason) => Some(Err(reason)),
        };
        // Its task ends without a result only with the runtime.
        let opened = opened.unwrap_or(Err(ConnectError::TimedOut));
        opened.map_err(|reason| {
            let address = (**self.name.text()).into();
            Error::new(ErrorKind::Unreachable { address, reason })
        })
    }

    fn open_at(&self, index: usize) -> Option<Connection> {
        lock(&self.places[index]).open()
    }

    /// Begins to open a connection, unless that is under way; or it failed a moment ago.
    fn begin(self: &Arc<Self>, index: usize) -> Result<Attempt, ConnectError> {
        let mut place = lock(&self.places[index]);
        if let Some(connection) = place.open() {
            // Since the caller looked.
            return Ok(watch::channel(Some(Ok(connection))).1);
        }
        let under_way = place.attempt.clone();
        // The runtime of another caller may have ended, and the task with it.
        if let Some(attempt) = under_way.filter(|attempt| attempt.has_changed().is_ok()) {
            return Ok(attempt);
        }
        if place.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(ConnectError::Backoff);
        }
        let (result, attempt) = watch::channel(None);
        place.attempt = Some(attempt.clone());
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let trouble = Arc::clone(&pool.trouble);
            let opened = Connection::open(&pool.name, pool.role, &pool.options, trouble).await;
            lock(&pool.places[index]).end(&opened, &pool.options);
            result.send_replace(Some(opened));
        });
        Ok(attempt)
    }
}

impl Place {
    fn open(&self) -> Option<Connection> {
        self.open.clone().filter(Connection::is_open)
    }

    /// The attempt has ended.
    fn end(&mut self, opened: &Opened, options: &Options) {
        self.attempt = None;
        match opened {
            Ok(connection) => {
                self.open = Some(connection.clone());
                (self.failures, self.not_before) = (0, None);
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                self.not_before = Some(Instant::now() + backoff(self.failures, options));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::net::TcpListener;

    use super::Pool;
    use crate::command::Command;
    use crate::connection::Role;
    use crate::error::{ConnectError, ErrorKind};
    use crate::fake::{Action, FakeServer, until};
    use crate::options::Options;

    fn pool(address: &str, options: Options) -> Arc<Pool> {
        Arc::new(Pool::new(
            address.into(),
            Role::Plain,
            Arc::new(options),
            Arc::default(),
        ))
    }

    #[tokio::test]
    async fn all_share_few_connections() {
        let server = FakeServer::start(Action::bulk).await;
        let pool = pool(&server.address, Options::default().connections_per_node(3));
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.connection().await.is_ok() })
            })
            .collect();
        for caller in callers {
            assert!(caller.await.expect("no panic"));
        }
        until(|| server.open() == 3).await;
        for _ in 0..30 {
            pool.connection().await.expect("open");
        }
        assert_eq!(server.accepted(), 3);
        drop(pool);
        until(|| server.open() == 0).await;
    }

    #[tokio::test]
    async fn a_connection_that_ends_is_opened_again() {
        let server = FakeServer::start(|_| Action::Close).await;
        let pool = pool(&server.address, Options::default().connections_per_node(1));
        for round in 1..=3 {
            let connection = pool.connection().await.expect("it listens");
            assert_eq!(server.accepted(), round);
            let frame = Command::read("ECHO").encode().expect("allowed").frame;
            let reply = connection.send(frame).await.expect("open").wait().await;
            assert!(reply.is_err());
            until(|| !connection.is_open()).await;
        }
    }

    #[tokio::test]
    async fn who_leaves_or_stands_still_keeps_no_connection_from_being_opened() {
        let server = FakeServer::start(Action::bulk).await;
        let pool = pool(&server.address, Options::default().connections_per_node(1));
        let mut stands_still = Box::pin(pool.connection());
        assert!((&mut stands_still).now_or_never().is_none());
        let leaves = pool.connection().now_or_never();
        assert!(leaves.is_none(), "it takes a moment");
        let opened = tokio::time::timeout(Duration::from_secs(10), pool.connection()).await;
        opened.expect("in time").expect("it listens");
        assert!(stands_still.await.is_ok());
        assert_eq!(server.accepted(), 1);
    }

    #[tokio::test]
    async fn an_attempt_that_ends_with_its_runtime_is_made_again() {
        let is_silent = Arc::new(AtomicBool::new(true));
        let ignores = Arc::clone(&is_silent);
        let server = FakeServer::start(move |command| match command {
            "PING" if ignores.load(Ordering::SeqCst) => Action::Ignore,
            _ => Action::bulk(command),
        });
        let server = server.await;
        let patient = Options::default().connect_timeout(Duration::from_secs(60));
        let pool = pool(&server.address, patient.connections_per_node(1));
        let other = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let theirs = Arc::clone(&pool);
        other.spawn(async move { theirs.connection().await });
        until(|| server.accepted() == 1).await;
        is_silent.store(false, Ordering::SeqCst);
        other.shutdown_background();
        let opened = async {
            while pool.connection().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), opened).await;
        in_time.expect("another attempt is made");
    }

    #[tokio::test]
    async fn a_node_that_refuses_is_left_alone_for_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let pause = Duration::from_millis(200);
        let pool = pool(
            &address,
            Options::default()
                .connections_per_node(1)
                .backoff(pause, pause),
        );
        let why = |error: &crate::Error| match error.kind() {
            ErrorKind::Unreachable { reason, .. } => *reason,
            other => panic!("{other}"),
        };
        let first = pool.connection().await.expect_err("nobody listens");
        assert_eq!(
            why(&first),
            ConnectError::Io(std::io::ErrorKind::ConnectionRefused)
        );
        let listener = TcpListener::bind(&address).await.expect("still free");
        let _server = FakeServer::serve(listener, |_| Action::Ignore);
        let second = pool.connection().await.expect_err("too soon");
        assert_eq!(why(&second), ConnectError::Backoff);
        tokio::time::sleep(pause).await;
        // PING is not answered: the connection is not taken for one.
        let third = pool.connection().await.expect_err("it is silent");
        assert_eq!(why(&third), ConnectError::TimedOut);
    }
}
