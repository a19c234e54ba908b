//! Clients of a cluster: real nodes in this process, real sockets.

mod all_keys;
mod figures;
mod map;
mod replicas;
mod support;
mod transactions;
mod wait;
