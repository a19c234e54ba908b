//! Fulmar's server: the only crate that does I/O.
//!
//! ```text
//! start --> one thread per shard: Core (core.rs)
//!             ring/          io_uring behind a safe interface
//!             connection.rs  a socket's input, output and session
//!             session/       RESP and HTTP: bytes to commands
//!             dispatch.rs    commands to shards: borrow or message
//!             token.rs       who may touch a shard
//!             message.rs     batches between cores
//!             output.rs      replies in order; replies.rs: with values sent from their chunks
//!           one thread for all: populate.rs makes memory resident before it is needed
//! ```
//!
//! `docs/ARCHITECTURE.md` follows a request through it. Unsafe code lives in `ring` and `token`.

mod clients;
mod clock;
mod cluster;
mod config;
mod connection;
mod connections;
mod core;
mod dispatch;
pub mod echo;
mod janitor;
mod listener;
pub mod machine;
mod message;
mod metrics;
mod node;
mod node_view;
mod output;
mod pending;
mod pool;
mod populate;
mod replies;
mod ring;
mod session;
mod start;
mod token;

pub use cluster::{ClusterConfig, ClusterStartError, Minority};
pub use config::{Config, Dispatch, HOT_COPY_MS_MAX};
pub use fulmar_cluster::Zone;
pub use fulmar_cluster::topology::ZONE_BYTES_MAX;
pub use fulmar_engine::Eviction;
pub use start::{Server, Shutdown, StartError, Summary};
