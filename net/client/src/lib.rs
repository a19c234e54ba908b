//! A client of Fulmar, a distributed in-memory cache.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "being built")]

mod backoff;
mod command;
mod connection;
mod decode;
mod error;
#[cfg(test)]
mod fake;
mod lock;
mod nodes;
mod options;
mod pool;
mod slot;
mod topology;
mod value;

pub use command::{Command, Kind};
pub use decode::DecodeError;
pub use error::{ConnectError, Disconnect, Error, ErrorKind, Result};
pub use options::{Options, ReadFrom};
pub use value::{ServerError, Value};
