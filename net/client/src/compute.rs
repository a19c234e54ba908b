//! A value from the cache, or computed once for all who miss it.
//!
//! Who misses a key joins its flight: one of them computes while it holds the flight's lock, the others wait
//! for it. Whoever gets the lock and finds no result computes: if the first was cancelled, the next one takes
//! over.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::client::Client;
use crate::commands::{self, SetOptions};
use crate::error::{Error, ErrorKind};
use crate::lock::lock;

/// The TTL is drawn from this part of it below to as much above, so that what was stored together does not
/// expire together.
const TTL_JITTER: f64 = 0.1;

/// What computing a value failed with; all who waited for it get the same.
#[derive(Clone)]
pub struct ComputeError(Arc<dyn StdError + Send + Sync>);

impl ComputeError {
    /// The error of the function that computes.
    #[must_use]
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }
}

impl fmt::Debug for ComputeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ComputeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value could not be computed: {}", self.0)
    }
}

impl StdError for ComputeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

type Computed = Result<Bytes, ComputeError>;

/// Locked by whoever computes; then what came of it.
type Flight = Arc<tokio::sync::Mutex<Option<Computed>>>;

/// Keys that are being computed: as many at most as there are callers.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    by_key: Mutex<HashMap<Bytes, Flight>>,
}

/// A caller's part in a flight. The last one to leave removes it.
struct Seat<'f> {
    flights: &'f Flights,
    key: Bytes,
    flight: Flight,
}

impl Flights {
    fn join(&self, key: Bytes) -> Seat<'_> {
        let flight = Arc::clone(lock(&self.by_key).entry(key.clone()).or_default());
        Seat {
            flights: self,
            key,
            flight,
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        lock(&self.by_key).len()
    }

    #[cfg(test)]
    fn seats_count(&self, key: &[u8]) -> usize {
        let by_key = lock(&self.by_key);
        by_key
            .get(key)
            .map_or(0, |flight| Arc::strong_count(flight) - 1)
    }
}

impl Seat<'_> {
    /// Who comes from now on begins another flight.
    fn close(&self) {
        let mut by_key = lock(&self.flights.by_key);
        if by_key
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
        {
            by_key.remove(&self.key);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // Nobody joins while the map is locked: what is left are this seat and the map.
        let mut by_key = lock(&self.flights.by_key);
        let is_listed = by_key
            .get(&self.key)
            .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        if is_listed && Arc::strong_count(&self.flight) == 2 {
            by_key.remove(&self.key);
        }
    }
}

impl Client {
    /// The value of a key; if there is none, computes it, stores it for `ttl` give or take a tenth, and gives
    /// it to all who asked for the key meanwhile.
    ///
    /// At any time one caller of this client and its clones computes a key; if it is cancelled, another that
    /// waits takes over. Other processes compute for themselves. A cache that cannot be reached counts as a
    /// miss, and a value that can't be stored is given all the same: what is behind the cache answers then, once
    /// per key at a time. What is there and no value, such as a list, is not overwritten.
    ///
    /// Waits as long as `compute` takes: bound that yourself. Beside that it waits at most twice the
    /// [time-out](crate::Options::timeout), to read and to store; who gets what another computed does not wait
    /// for it to be stored. A future of this that is neither polled nor dropped may keep all others of its key
    /// waiting, and so does a `compute` that asks for the same key in this way.
    ///
    /// # Errors
    /// What `compute` failed with, for all who waited for it. Who comes later tries again.
    ///
    /// ```no_run
    /// # async fn read_user(_: u64) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
    /// # async fn example(client: fulmar_client::Client) -> Result<(), fulmar_client::ComputeError> {
    /// use std::time::Duration;
    ///
    /// let user = client
    ///     .get_or_compute("user:7", Duration::from_secs(60), || read_user(7))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_compute<V, E, F>(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Duration,
        compute: impl FnOnce() -> F,
    ) -> Result<Bytes, ComputeError>
    where
        F: Future<Output = Result<V, E>>,
        V: Into<Bytes>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let key = Bytes::copy_from_slice(key.as_ref());
        let mut found = self.get(&key).await;
        if let Ok(Some(value)) = found {
            return Ok(value);
        }
        let seat = self.shared.flights.join(key.clone());
        let mut result = seat.flight.lock().await;
        if let Some(result) = &*result {
            return result.clone();
        }
        if found.is_ok() {
            // A flight may have ended between this caller's look and its own.
            let look = self.command(commands::get(&key).at_primary());
            found = look.await.and_then(commands::optional_bytes);
        }
        let (computed, is_new) = match found {
            Ok(Some(value)) => (Ok(value), false),
            Ok(None) => (computed(compute().await), true),
            Err(error) => (computed(compute().await), !is_of_other_type(&error)),
        };
        *result = Some(computed.clone());
        drop(result);
        if let (Ok(value), true) = (&computed, is_new) {
            let options = SetOptions::default().ttl(jittered(ttl));
            // The caller has its value whether others will find it or not.
            let _ = self.set_with(&key, value, options).await;
        }
        seat.close();
        computed
    }
}

fn computed<V, E>(result: Result<V, E>) -> Computed
where
    V: Into<Bytes>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    let computed = result.map(Into::into);
    computed.map_err(|error| ComputeError(error.into().into()))
}

/// Whether something is there that a GET can't read.
fn is_of_other_type(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Server(error) => error.code() == "WRONGTYPE",
        ErrorKind::UnexpectedReply(_) => true,
        _ => false,
    }
}

fn jittered(ttl: Duration) -> Duration {
    let factor = 1.0 - TTL_JITTER + 2.0 * TTL_JITTER * fastrand::f64();
    Duration::try_from_secs_f64(ttl.as_secs_f64() * factor).unwrap_or(ttl)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::jittered;
    use crate::client::Client;
    use crate::fake::{Action, FakeServer, until};
    use crate::lock::lock;
    use crate::options::Options;

    const SECOND: Duration = Duration::from_secs(1);

    /// A cache of one value.
    async fn cache() -> (FakeServer, Client) {
        let stored: Mutex<Option<String>> = Mutex::default();
        let server = FakeServer::start(move |command| {
            let words: Vec<&str> = command.split(' ').collect();
            match words[..] {
                ["CLUSTER", ..] => {
                    Action::reply("-ERR This instance has cluster support disabled\r\n")
                }
                ["GET", ..] => match &*lock(&stored) {
                    Some(value) => Action::bulk(value),
                    None => Action::reply("$-1\r\n"),
                },
                ["SET", _, value, ..] => {
                    *lock(&stored) = Some(value.to_owned());
                    Action::reply("+OK\r\n")
                }
                _ => Action::reply("*0\r\n"),
            }
        });
        let server = server.await;
        let client = Client::connect([server.address.clone()])
            .await
            .expect("it answers");
        (server, client)
    }

    #[tokio::test]
    async fn a_thousand_who_miss_compute_once() {
        let (server, client) = cache().await;
        let computed = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..1_000)
            .map(|_| {
                let (client, computed) = (client.clone(), Arc::clone(&computed));
                tokio::spawn(async move {
                    let compute = || async {
                        computed.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok::<_, std::io::Error>("value")
                    };
                    client.get_or_compute("k", SECOND, compute).await
                })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.expect("no panic").expect("computed"), "value");
        }
        assert_eq!(computed.load(Ordering::SeqCst), 1);
        let sets = server
            .commands()
            .into_iter()
            .filter(|command| command.starts_with("SET"));
        assert_eq!(sets.count(), 1);
        assert_eq!(client.shared.flights.count(), 0);
    }

    #[tokio::test]
    async fn an_error_reaches_all_who_wait_and_nobody_later() {
        let (_server, client) = cache().await;
        let computed = AtomicUsize::new(0);
        let all_wait = Notify::new();
        let fail = || async {
            computed.fetch_add(1, Ordering::SeqCst);
            all_wait.notified().await;
            Err::<&str, _>("no database")
        };
        let one = || client.get_or_compute("k", SECOND, fail);
        let gate = async {
            until(|| client.shared.flights.seats_count(b"k") == 3).await;
            all_wait.notify_one();
        };
        let (first, second, third, ()) = tokio::join!(one(), one(), one(), gate);
        for result in [first, second, third] {
            let error = result.expect_err("it fails").to_string();
            assert_eq!(error, "the value could not be computed: no database");
        }
        assert_eq!(computed.load(Ordering::SeqCst), 1);
        let compute = || async { Ok::<_, std::io::Error>("value") };
        assert_eq!(
            client
                .get_or_compute("k", SECOND, compute)
                .await
                .expect("computed"),
            "value"
        );
    }

    #[tokio::test]
    async fn when_who_computes_is_cancelled_another_takes_over() {
        let (_server, client) = cache().await;
        let has_begun = Notify::new();
        let never = client.get_or_compute("k", SECOND, || async {
            has_begun.notify_one();
            std::future::pending::<()>().await;
            Ok::<_, std::io::Error>("never")
        });
        let mut never = Box::pin(never);
        tokio::select! {
            _ = &mut never => panic!("it computes for ever"),
            () = has_begun.notified() => {}
        }
        let other = client.clone();
        let waits = tokio::spawn(async move {
            let compute = || async { Ok::<_, std::io::Error>("value") };
            other.get_or_compute("k", SECOND, compute).await
        });
        until(|| client.shared.flights.seats_count(b"k") == 2).await;
        assert!(!waits.is_finished());
        drop(never);
        assert_eq!(waits.await.expect("no panic").expect("computed"), "value");
        assert_eq!(client.shared.flights.count(), 0);
    }

    #[tokio::test]
    async fn who_waits_for_a_value_does_not_wait_until_it_is_stored() {
        let server = FakeServer::start(|command| match &command[..3] {
            "CLU" => Action::reply("-ERR This instance has cluster support disabled\r\n"),
            "GET" => Action::reply("$-1\r\n"),
            _ => Action::Ignore,
        });
        let server = server.await;
        let options = Options::default()
            .hot_keys_interval(None)
            .timeout(60 * SECOND)
            .reply_timeout(60 * SECOND);
        let client = Client::connect_with([server.address.clone()], options)
            .await
            .expect("it answers");
        let (has_begun, all_wait) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (first, begins, waits) = (client.clone(), has_begun.clone(), all_wait.clone());
        let first = tokio::spawn(async move {
            let compute = || async {
                begins.notify_one();
                waits.notified().await;
                Ok::<_, std::io::Error>("value")
            };
            first.get_or_compute("k", SECOND, compute).await
        });
        has_begun.notified().await;
        let other = client.clone();
        let second = tokio::spawn(async move {
            let compute = || async { Err::<&str, _>("another computes it") };
            other.get_or_compute("k", SECOND, compute).await
        });
        until(|| client.shared.flights.seats_count(b"k") == 2).await;
        all_wait.notify_one();
        let second = tokio::time::timeout(10 * SECOND, second).await;
        let second = second.expect("in time").expect("no panic");
        assert_eq!(second.expect("computed"), "value");
        assert!(!first.is_finished());
        first.abort();
    }

    #[tokio::test]
    async fn what_is_no_value_is_not_overwritten() {
        let server = FakeServer::start(|command| match &command[..3] {
            "CLU" => Action::reply("-ERR This instance has cluster support disabled\r\n"),
            _ => Action::reply("-WRONGTYPE x\r\n"),
        });
        let server = server.await;
        let options = Options::default().hot_keys_interval(None);
        let client = Client::connect_with([server.address.clone()], options)
            .await
            .expect("it answers");
        let compute = || async { Ok::<_, std::io::Error>("value") };
        let computed = client.get_or_compute("list", SECOND, compute).await;
        assert_eq!(computed.expect("computed"), "value");
        let mut commands = server.commands();
        commands.retain(|command| !command.starts_with("CLUSTER"));
        assert_eq!(commands, ["GET list"]);
    }

    #[test]
    fn ttls_differ_by_a_tenth_at_most() {
        let ttls: Vec<Duration> = (0..1_000).map(|_| jittered(100 * SECOND)).collect();
        assert!(
            ttls.iter()
                .all(|ttl| (90 * SECOND..=110 * SECOND).contains(ttl))
        );
        assert!(
            ttls.iter().any(|ttl| *ttl < 95 * SECOND) && ttls.iter().any(|ttl| *ttl > 105 * SECOND)
        );
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
        assert!(jittered(Duration::MAX) > Duration::ZERO);
    }
}
