//! Tests of the crate's public behaviour, over bytes: decoder, route, execution, encoder.

mod cluster;
mod model;
mod redis;
mod session;
mod staged;
mod support;
