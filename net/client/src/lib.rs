//! A client of Fulmar, a distributed in-memory cache.
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
