//! The same client for threads: each call waits for its result.
//!
//! A [`Client`] owns a runtime with one thread, which does the input and output of all its clones. Any number
//! of threads may call at once; their calls share connections as tasks' do.
//!
//! # Panics
//! All calls that wait panic inside an async runtime, whose thread they would hold up: use the async
//! [`Client`](crate::Client) there.
//!
//! ```no_run
//! fn main() -> fulmar_client::Result<()> {
//!     let client = fulmar_client::blocking::Client::connect(["127.0.0.1:6379"])?;
//!     client.set("greeting", "hello")?;
//!     assert_eq!(client.get("greeting")?.as_deref(), Some(&b"hello"[..]));
//!     Ok(())
//! }
//! ```

mod pipeline;
mod writes;

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::task::block_in_place;

use crate::batch::BatchOptions;
use crate::command::Command;
use crate::commands::{SetOptions, Ttl};
use crate::compute::ComputeError;
use crate::error::{ConnectError, Error, ErrorKind, Result};
use crate::options::Options;
use crate::value::Value;

pub use pipeline::Pipeline;
pub use writes::{Batcher, Counter};

/// The runtime; its thread ends with the last handle that uses it.
#[derive(Debug)]
struct Runtime(Option<runtime::Runtime>);

impl Runtime {
    fn start() -> Result<Self> {
        let mut builder = runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("fulmar-client")
            .enable_all();
        let runtime = builder.build().map_err(|error| {
            let reason = ConnectError::Io(error.kind());
            Error::new(ErrorKind::Unreachable {
                address: "a thread of its own".into(),
                reason,
            })
        })?;
        Ok(Self(Some(runtime)))
    }

    fn inner(&self) -> &runtime::Runtime {
        self.0
            .as_ref()
            .expect("it is taken out only when this is dropped")
    }

    fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.inner().block_on(call)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Waiting for its thread is not allowed everywhere, and nothing is left to wait for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// [`crate::Client`], blocking. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

/// Each method is that of the same name of [`crate::Client`], with its bounds and errors.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Client {
    /// Connects with the default [`Options`].
    pub fn connect<S: Into<String>>(seeds: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::connect_with(seeds, Options::default())
    }

    /// Connects.
    pub fn connect_with<S: Into<String>>(
        seeds: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self> {
        let runtime = Arc::new(Runtime::start()?);
        let client = runtime.run(crate::Client::connect_with(seeds, options))?;
        Ok(Self { client, runtime })
    }

    /// The value of a key, if there is one.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.runtime.run(self.client.get(key))
    }

    /// The values of several keys.
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.runtime.run(self.client.get_many(keys))
    }

    /// Stores a value.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.runtime.run(self.client.set(key, value))
    }

    /// Stores a value with a TTL, or on a condition.
    pub fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool> {
        self.runtime.run(self.client.set_with(key, value, options))
    }

    /// Deletes a key.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.runtime.run(self.client.delete(key))
    }

    /// Deletes several keys.
    pub fn delete_many<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<usize> {
        self.runtime.run(self.client.delete_many(keys))
    }

    /// Whether a key is there.
    pub fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.runtime.run(self.client.exists(key))
    }

    /// Lets a key expire.
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        self.runtime.run(self.client.expire(key, ttl))
    }

    /// How long a key lives.
    pub fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
        self.runtime.run(self.client.ttl(key))
    }

    /// Adds to the number at a key.
    pub fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        self.runtime.run(self.client.increment(key, by))
    }

    /// Appends to the value at a key.
    pub fn append(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<usize> {
        self.runtime.run(self.client.append(key, value))
    }

    /// Runs any command.
    pub fn command(&self, command: Command) -> Result<Value> {
        self.runtime.run(self.client.command(command))
    }

    /// An empty pipeline.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline {
            pipeline: self.client.pipeline(),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// The value of a key; computes and stores it if there is none, once for all threads that miss it.
    ///
    /// `compute` may call this client, but for the same key in this way, and wait for as long as it takes.
    pub fn get_or_compute<V, E>(
        &self,
        key: impl AsRef<[u8]>,
        ttl: Duration,
        compute: impl FnOnce() -> std::result::Result<V, E>,
    ) -> std::result::Result<Bytes, ComputeError>
    where
        V: Into<Bytes>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.runtime
            .run(self.client.get_or_compute(key, ttl, || async {
                // This thread waits inside the runtime, where what waits again would panic.
                block_in_place(compute)
            }))
    }

    /// A buffer for writes.
    #[must_use]
    pub fn batcher(&self, options: BatchOptions) -> Batcher {
        // Its task lives in this client's runtime, wherever the call comes from.
        let _entered = self.runtime.inner().enter();
        Batcher {
            batcher: self.client.batcher(options),
            runtime: Arc::clone(&self.runtime),
        }
    }

    /// A counter split over `parts` keys.
    pub fn counter(&self, name: impl AsRef<[u8]>, parts: usize) -> Result<Counter> {
        let counter = self.client.counter(name, parts)?;
        Ok(Counter {
            counter,
            runtime: Arc::clone(&self.runtime),
        })
    }

    /// Where the primaries are, as `host:port`.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.client.nodes()
    }

    /// How many keys the nodes called hot of late.
    #[must_use]
    pub fn hot_keys_count(&self) -> usize {
        self.client.hot_keys_count()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::Client;
    use crate::batch::BatchOptions;
    use crate::fake::{Action, FakeServer};

    /// A server in a runtime of its own, as another process would be.
    fn with_server(test: impl FnOnce(&FakeServer)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a thread");
        let server = runtime.block_on(FakeServer::start(|command| match command {
            "GET k" => Action::bulk("v"),
            "GET miss" => Action::reply("$-1\r\n"),
            _ if command.starts_with("SET") => Action::reply("+OK\r\n"),
            _ if command.starts_with("CLUSTER") => Action::reply("-ERR unknown command\r\n"),
            _ => Action::reply(":1\r\n"),
        }));
        test(&server);
    }

    #[test]
    fn threads_share_a_client() {
        with_server(|server| {
            let client = Client::connect([server.address.clone()]).expect("it answers");
            let threads: Vec<_> = (0..100)
                .map(|_| {
                    let client = client.clone();
                    thread::spawn(move || client.get("k").expect("answered").expect("there"))
                })
                .collect();
            for thread in threads {
                assert_eq!(thread.join().expect("no panic"), "v");
            }
            let replies = client
                .pipeline()
                .get("k")
                .set("k", "v")
                .increment("n", 1)
                .execute();
            assert!(replies.iter().all(Result::is_ok));
            let compute = || Ok::<_, std::io::Error>("computed");
            let computed = client.get_or_compute("miss", Duration::from_secs(1), compute);
            assert_eq!(computed.expect("computed"), "computed");
            let nested = || client.increment("miss, too", 1).map(|_| "computed");
            let computed = client.get_or_compute("miss", Duration::from_secs(1), nested);
            assert_eq!(computed.expect("computed"), "computed");
            let batcher = client.batcher(BatchOptions::default());
            batcher.increment("n", 2).expect("buffered");
            batcher.flush().expect("all is well");
            assert!(server.commands().contains(&"INCRBY n 2".to_owned()));
        });
    }

    #[test]
    fn dropping_it_anywhere_is_harmless() {
        with_server(|server| {
            let client = Client::connect([server.address.clone()]).expect("it answers");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("none of its own");
            runtime.block_on(async move { drop(client) });
        });
    }
}
