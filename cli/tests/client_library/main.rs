//! `fulmar-client` against real nodes: all it offers, and what becomes of it under faults.
//!
//! The runs are short; `FULMAR_LONG=1` makes the faults last longer. What is measured is printed with
//! `--nocapture`.

mod between;
mod cluster;
mod counters;
mod faults;
mod interface;
#[allow(
    dead_code,
    reason = "shared with the tests of clusters, which use more of it"
)]
#[path = "../cluster/nodes.rs"]
mod nodes;
mod proxy;
mod relay;
mod workers;
