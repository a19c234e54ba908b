//! The connections to one endpoint, opened when they are needed, and again when they have ended.
//!
//! Where one of several is open, nobody waits for the others: they are opened beside. Who has none waits
//! for one attempt, which all share; after a failure nobody tries before a growing, random pause has passed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::backoff;
use crate::connection::{Connection, Role};
use crate::error::{ConnectError, Error, ErrorKind};
use crate::lock::lock;
use crate::options::Options;

#[derive(Debug)]
pub(crate) struct Pool {
    address: Arc<str>,
    role: Role,
    places: Box<[Place]>,
    next: AtomicUsize,
    options: Arc<Options>,
    trouble: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Place {
    open: Mutex<Option<Connection>>,
    /// Held by whoever opens it.
    opening: Arc<tokio::sync::Mutex<Attempts>>,
}

/// What became of the last attempts to open a connection.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
}

impl Pool {
    /// `trouble` is told when a connection ends by itself.
    pub(crate) fn new(
        address: Arc<str>,
        role: Role,
        options: Arc<Options>,
        trouble: Arc<Notify>,
    ) -> Self {
        let places = (0..options.connections_per_node)
            .map(|_| Place::default())
            .collect();
        Self {
            address,
            role,
            places,
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
        if let Some(connection) = (0..self.places.len()).find_map(|index| self.open_at(index)) {
            self.open_beside(turn);
            return Ok(connection);
        }
        let mut attempts = self.places[turn].opening.lock().await;
        self.open(turn, &mut attempts).await.map_err(|reason| {
            let address = (*self.address).into();
            Error::new(ErrorKind::Unreachable { address, reason })
        })
    }

    fn open_at(&self, index: usize) -> Option<Connection> {
        lock(&self.places[index].open)
            .clone()
            .filter(Connection::is_open)
    }

    /// Opens a connection in a task of its own, unless somebody does already.
    fn open_beside(self: &Arc<Self>, index: usize) {
        let Ok(mut attempts) = Arc::clone(&self.places[index].opening).try_lock_owned() else {
            return;
        };
        if attempts.not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // Who comes next tries again, or is told.
            let _ = pool.open(index, &mut attempts).await;
        });
    }

    async fn open(
        &self,
        index: usize,
        attempts: &mut Attempts,
    ) -> Result<Connection, ConnectError> {
        // Whoever had the lock before may have opened it.
        if let Some(connection) = self.open_at(index) {
            return Ok(connection);
        }
        if attempts.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(ConnectError::Backoff);
        }
        match Connection::open(
            &self.address,
            self.role,
            &self.options,
            Arc::clone(&self.trouble),
        )
        .await
        {
            Ok(connection) => {
                *attempts = Attempts::default();
                *lock(&self.places[index].open) = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                attempts.failures = attempts.failures.saturating_add(1);
                attempts.not_before =
                    Some(Instant::now() + backoff(attempts.failures, &self.options));
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::Pool;
    use crate::command::Command;
    use crate::connection::Role;
    use crate::error::{ConnectError, ErrorKind};
    use crate::fake::{Action, FakeServer};
    use crate::options::Options;

    fn pool(address: &str, options: Options) -> Arc<Pool> {
        Arc::new(Pool::new(
            address.into(),
            Role::Plain,
            Arc::new(options),
            Arc::default(),
        ))
    }

    async fn until(mut is_so: impl FnMut() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .expect("in time");
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
