//! A client of Fulmar, a distributed in-memory cache.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "being built")]

mod backoff;
mod client;
mod command;
mod commands;
mod connection;
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

pub use client::Client;
pub use command::{Command, Kind};
pub use commands::{SetOptions, Ttl};
pub use decode::DecodeError;
pub use error::{ConnectError, Disconnect, Error, ErrorKind, Result};
pub use options::{Options, ReadFrom};
pub use pipeline::Pipeline;
pub use value::{ServerError, Value};
