//! Driving the load: event loops, connections and the thread that oversees them.
//!
//! ```text
//!   coordinator (main thread) ---phase, start time, stop---> worker (one a thread)
//!               ^                                              |  Source: which request next
//!               |                                              |  Connection: socket
//!               +------- tallies once a second, end -----------+    Exchange: what is in flight
//! ```
//!
//! A worker drives its own sockets (`worker`) or the client library (`library`). Only these, `prepare`,
//! `connection`, `timer` and `clock` touch the system; `source`, `exchange` and `intervals` are pure.

mod clock;
mod connection;
mod coordinator;
mod exchange;
mod failure;
mod intervals;
mod library;
mod meter;
mod prepare;
mod shared;
mod source;
mod timer;
mod worker;

pub(crate) use coordinator::{RunEnd, run};
pub(crate) use failure::Failure;

use connection::Connection;
use exchange::{Exchange, Purpose};
use library::LibraryWorker;
use meter::Meter;
use shared::{Event, LoadEnd, Phase, Shared};
use source::Source;
use timer::Timer;
use worker::Worker;
