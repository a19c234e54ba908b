//! A client of Fulmar, a distributed in-memory cache.
//!
//! It finds the nodes of a cluster and follows them, sends each command to the node that has its key, retries
//! what does no harm twice, and lets no call outlast its time-out. On top of that: batched writes, counters
//! split over keys, reads of hot keys from all nodes, and values computed once for all who miss them. Servers
//! without a cluster, and others that speak RESP2 and Redis Cluster's MOVED, are served too.
//!
//! [`Client`] is for tokio, [`blocking::Client`] for threads; the methods are the same.
//!
//! ```no_run
//! use std::time::Duration;
//! use fulmar_client::{BatchOptions, Client, SetOptions};
//!
//! # async fn read_user(_: u64) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Some of the nodes; the others are found.
//! let client = Client::connect(["cache-1:6379", "cache-2:6379"]).await?;
//!
//! client.set_with("session:7", "alice", SetOptions::default().ttl(Duration::from_secs(600))).await?;
//! let session = client.get("session:7").await?;
//! assert_eq!(session.as_deref(), Some(&b"alice"[..]));
//!
//! // Computed by one of all who miss it.
//! let user = client.get_or_compute("user:7", Duration::from_secs(60), || read_user(7)).await?;
//!
//! // Ten thousand increments, thirteen operations a second.
//! let batcher = client.batcher(BatchOptions::default());
//! let visits = batcher.counter("visits", 10)?;
//! visits.increment(1).await?;
//! batcher.flush().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - **No call waits longer than [`Options::timeout`]**, whatever becomes of the nodes; the methods that wait
//!   for more than one say so. A call may be dropped at any time: what was not sent is never sent.
//! - **Nothing is executed twice that must not be.** A read, and a write that is as good twice as once (`set`,
//!   `delete`, `expire`), is retried. `increment`, `append` and conditional sets are sent again only if they
//!   surely were not executed: the node was never reached, or refused them.
//! - **An error tells what may have happened**: [`Error::may_have_been_applied`].
//! - **Everything is bounded**: connections, queues, retries, replies, buffers. [`Options`] and
//!   [`BatchOptions`] have the bounds; where one is reached, callers wait within their time-out.
//!
//! # What it does not
//!
//! - A retried write may be overtaken: if a node stands still, and goes on without having been replaced, it
//!   may execute an old copy of a `set` after a newer `set` of the same key. Values that must not go back
//!   need a version of their own.
//! - Hot keys may be read up to a second late (a quarter by default at the servers), though never what this
//!   client wrote itself: [`Options::hot_keys_interval`].
//! - No passwords and no TLS: the servers have neither. Keep both on a network that you trust.
//! - No transactions, no subscriptions: connections are shared. [`Command`] runs everything else.
//!
//! # How it works
//!
//! A few connections per node carry all calls: requests are sent as they come, those that are queued in one
//! write, and replies come in the same order. A server that owes a reply and is silent for
//! [`Options::reply_timeout`] loses its connection; one that owes nothing is probed now and then.
//!
//! The map of the cluster is asked for at the start, when a node redirects a call, when a connection fails or
//! ends, and now and then; of known nodes and of the seeds by turns, whose names are resolved again each time.
//! So a cluster is found again after all its addresses changed, if a seed's name leads to it.
//!
//! A client lives in the runtime it was connected in.
#![forbid(unsafe_code)]

mod backoff;
mod batch;
pub mod blocking;
mod client;
mod command;
mod commands;
mod compute;
mod connection;
mod counter;
mod decode;
mod discovery;
mod error;
#[cfg(test)]
mod fake;
mod hot;
mod lock;
mod name;
mod nodes;
mod options;
mod pipeline;
mod pool;
mod retry;
mod router;
mod slot;
mod topology;
mod value;

pub use batch::{BatchOptions, Batcher, BufferedWrite, FlushError, WriteFailure};
pub use client::Client;
pub use command::{Command, Kind};
pub use commands::{SetOptions, Ttl};
pub use compute::ComputeError;
pub use counter::Counter;
pub use decode::DecodeError;
pub use error::{ConnectError, Disconnect, Error, ErrorKind, Result};
pub use options::{Options, ReadFrom};
pub use pipeline::Pipeline;
pub use value::{ServerError, Value};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
