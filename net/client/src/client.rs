//! The client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use crate::batch::{BatchOptions, Batcher};
use crate::command::{Command, Kind};
use crate::commands::{self, SetOptions, Ttl};
use crate::compute::Flights;
use crate::connection::Role;
use crate::counter::Counter;
use crate::discovery::Discovery;
use crate::error::{Error, Result};
use crate::hot::{self, HotKeys};
use crate::nodes::Nodes;
use crate::options::Options;
use crate::pipeline::Pipeline;
use crate::router::Router;
use crate::value::Value;

/// A client of a cluster, or of a single server. Cheap to clone; all clones share its connections.
///
/// Every method waits at most [`Options::timeout`], unless it says otherwise, and may be dropped at any
/// time: what was not sent then is never sent. The connections close when the last clone is gone.
///
/// ```no_run
/// # async fn example() -> fulmar_client::Result<()> {
/// let client = fulmar_client::Client::connect(["127.0.0.1:6379"]).await?;
/// client.set("greeting", "hello").await?;
/// assert_eq!(client.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) router: Arc<Router>,
    pub(crate) flights: Flights,
    /// Ended with the last clone.
    _tasks: JoinSet<()>,
}

impl Client {
    /// Connects with the default [`Options`]. Seeds are some of the nodes, as `host:port`; names are
    /// resolved again whenever the cluster has to be found anew.
    ///
    /// # Errors
    /// No seed answered within [`Options::timeout`], for which they are tried.
    pub async fn connect<S: Into<String>>(seeds: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::connect_with(seeds, Options::default()).await
    }

    /// Connects.
    ///
    /// # Errors
    /// No seed answered within [`Options::timeout`], for which they are tried, or there is none.
    pub async fn connect_with<S: Into<String>>(
        seeds: impl IntoIterator<Item = S>,
        options: Options,
    ) -> Result<Self> {
        let seeds: Vec<String> = seeds.into_iter().map(Into::into).collect();
        if seeds.is_empty() {
            return Err(Error::invalid("no seed is given"));
        }
        let options = Arc::new(options);
        let nodes = Arc::new(Nodes::new(Arc::clone(&options)));
        let discovery = Discovery::start(seeds, Arc::clone(&nodes), Arc::clone(&options)).await?;
        let router = Arc::new(Router {
            discovery,
            nodes,
            hot: HotKeys::new(),
            options,
        });
        let mut tasks = JoinSet::new();
        let refreshed = Arc::clone(&router);
        tasks.spawn(async move { refreshed.discovery.run().await });
        if let Some(interval) = router.options.hot_keys_interval {
            tasks.spawn(learn_hot_keys(Arc::clone(&router), interval));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                router,
                flights: Flights::default(),
                _tasks: tasks,
            }),
        })
    }

    /// The value of a key, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        commands::optional_bytes(self.command(commands::get(key)).await?)
    }

    /// The values of several keys, in their order; one trip to each node that has any.
    ///
    /// # Errors
    /// See [`Error`]; the first error of any key. A [`pipeline`](Self::pipeline) gives what the others have.
    pub async fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let pipeline = keys.into_iter().fold(self.pipeline(), Pipeline::get);
        let replies = pipeline.execute().await.into_iter();
        replies
            .map(|reply| commands::optional_bytes(reply?))
            .collect()
    }

    /// Stores a value, for ever; retried if need be.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.set_with(key, value, SetOptions::default())
            .await
            .map(|_| ())
    }

    /// Stores a value with a TTL, or on a condition; whether it was stored.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool> {
        commands::was_set(self.command(commands::set(key, value, options)).await?)
    }

    /// Deletes a key; whether it was there. After a retry `false` may mean that the first try deleted it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        commands::boolean(self.command(commands::delete(key)).await?, Kind::Write)
    }

    /// Deletes several keys; how many were there, with the reservation of [`delete`](Self::delete).
    ///
    /// # Errors
    /// See [`Error`]; the first error of any key. The others may be deleted all the same.
    pub async fn delete_many<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<usize> {
        let pipeline = keys.into_iter().fold(self.pipeline(), Pipeline::delete);
        let mut count = 0;
        for reply in pipeline.execute().await {
            count += usize::from(commands::boolean(reply?, Kind::Write)?);
        }
        Ok(count)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        commands::boolean(self.command(commands::exists(key)).await?, Kind::Read)
    }

    /// Lets a key expire after `ttl`, in whole milliseconds, at least one; whether it is there. Retried if
    /// need be, which makes it live that much longer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        commands::boolean(self.command(commands::expire(key, ttl)).await?, Kind::Write)
    }

    /// How long a key lives.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl> {
        commands::remaining(self.command(commands::ttl(key)).await?)
    }

    /// Adds to the number at a key, 0 if nothing is there; what is there now. Never executed twice.
    ///
    /// # Errors
    /// See [`Error`]; after one, look whether it [may have been
    /// applied](Error::may_have_been_applied).
    pub async fn increment(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64> {
        commands::integer(
            self.command(commands::increment(key, by)).await?,
            Kind::Write,
        )
    }

    /// Appends to the value at a key; its length in bytes now. Never executed twice.
    ///
    /// # Errors
    /// See [`Error`]; after one, look whether it [may have been
    /// applied](Error::may_have_been_applied).
    pub async fn append(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<usize> {
        let length = self.command(commands::append(key, value)).await?;
        let length = commands::integer(length, Kind::Write)?;
        Ok(usize::try_from(length).unwrap_or(0))
    }

    /// Runs any command.
    ///
    /// # Errors
    /// See [`Error`]; an error that the server answers is one.
    pub async fn command(&self, command: Command) -> Result<Value> {
        self.shared.router.call(&command.encode()?).await
    }

    /// An empty pipeline.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(Arc::clone(&self.shared.router))
    }

    /// A buffer for writes, which sends them merged.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn batcher(&self, options: BatchOptions) -> Batcher {
        Batcher::start(self.clone(), options)
    }

    /// A counter split over `parts` keys, 1 to 1,024; each increment is sent by itself.
    ///
    /// # Errors
    /// Another number of parts, or a name with a `{hash tag}`, which would put all parts into one slot.
    pub fn counter(&self, name: impl AsRef<[u8]>, parts: usize) -> Result<Counter> {
        Counter::direct(self.clone(), name.as_ref(), parts)
    }

    /// Where the primaries are by the newest map, as `host:port`.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let map = self.shared.router.discovery.map();
        map.nodes().iter().map(|node| (**node).to_owned()).collect()
    }

    /// How many keys the nodes called hot of late.
    #[must_use]
    pub fn hot_keys_count(&self) -> usize {
        self.shared.router.hot.count()
    }
}

/// Asks all nodes, each interval, for ever; nobody where one node has everything.
async fn learn_hot_keys(router: Arc<Router>, interval: Duration) {
    // Clients that started together don't ask together.
    let first = Instant::now() + interval.mul_f64(fastrand::f64());
    let mut ticks = interval_at(first, interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut asked = JoinSet::new();
        let map = router.discovery.map();
        let nodes = map.nodes();
        for node in nodes.iter().filter(|_| nodes.len() > 1) {
            let pool = router.nodes.pool(node, Role::Routed);
            let request = Command::read("HOTKEYS").arg("GET").into_request();
            let longest = router.options.reply_timeout;
            asked.spawn(timeout(longest, async move {
                let connection = pool.connection().await.ok()?;
                connection.send(request.frame).await.ok()?.wait().await.ok()
            }));
        }
        let mut listed = Vec::new();
        while let Some(reply) = asked.join_next().await {
            if let Ok(Ok(Some(reply))) = reply {
                listed.extend(hot::listed(reply));
            }
        }
        router.hot.learn(listed, interval);
    }
}

#[cfg(test)]
mod tests;
