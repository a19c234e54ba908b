//! How the members of one topology decide the next.
//!
//! Topologies are a chain: the members of epoch e decide that of e + 1 by one instance of
//! single-decree Paxos (Lamport, "Paxos Made Simple"). Any two quorums of a topology share a member,
//! so no epoch ever has two decided topologies.
//!
//! ```text
//! proposer              acceptors (all members)
//!   Prepare(ballot) ----> promise on disk, streams of the accused sealed
//!   <---- Promise(accepted, positions)
//!   value = the accepted one of the highest ballot, else `successor`
//!   Accept(ballot, value) ----> on disk
//!   <---- Accepted
//!   a quorum: decided, Commit to all
//! ```
//!
//! # Invariants
//! 1. An acceptor promises and accepts only what its [`Vote`] has on disk before it answers.
//! 2. A proposer never uses a ballot for two values: it holds the incarnation of its process.
//! 3. A vote is about one epoch. It is forgotten when the topology of the next one is installed.

mod ballot;
mod proposer;
#[cfg(test)]
pub(crate) mod samples;
mod successor;
mod vote;

pub use ballot::Ballot;
pub use proposer::{HOLDERS_WAIT_MS, Proposer};
pub use successor::{Change, Outcome, successor};
pub use vote::Vote;
