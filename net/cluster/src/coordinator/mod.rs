//! One node's part in deciding the topology: who lives, who is a member, who holds what.
//!
//! A pure state machine. Time comes in as an argument, of a clock that goes on while the machine
//! sleeps; there is no randomness. One [`Coordinator`] per node; the node's cores ask it whether they
//! may execute, and tell it what their copies are.
//!
//! | what happened | call |
//! |---|---|
//! | a stream message, a heartbeat arrived | `handle_message`, `handle_datagram` |
//! | `next_deadline` passed | `handle_timeout` |
//! | the state of `Event::Persist` is on disk | `handle_persisted` |
//! | the cores did what `Event::Seal` asked for | `handle_sealed` |
//! | the cores hold writes, as `Event::Hold` asked for, and the next primaries have everything | `handle_held` |
//! | learners' copies have become whole | `handle_complete` |
//! | a core finds that it did not run for long | `confirm`, then waits for `contact` |
//! | the operator stops this node, adopts a branch | `handle_leave`, `handle_adopt` |
//! | the operator steers moves, wants primaryships here | `handle_steer`, `handle_fail_over` |
//!
//! After each call: `poll_event` until it is empty, then `next_deadline`.
//!
//! # Invariants
//! 1. Nothing that depends on a vote leaves before the vote is on disk.
//! 2. Only a decided topology, or a branch of a side without a quorum, is installed; epochs of decided
//!    ones rise.
//! 3. A promise leaves only after the cores stopped to follow the accused.
//! 4. A node whose incarnation the topology does not name serves nothing.

mod acceptor;
mod branch;
mod config;
#[expect(clippy::module_inception, reason = "the module's one main type")]
mod coordinator;
mod event;
mod handover;
mod liveness;
#[cfg(test)]
mod operator_tests;
mod outbox;
mod receive;
mod requests;
mod steer;
#[cfg(test)]
mod tests;
pub mod timing;
mod turn;

#[cfg(feature = "sabotage")]
pub use config::Sabotage;
pub use config::{Config, Minority, PlaceFn, Saved, Start};
pub use coordinator::Coordinator;
pub use event::{Counters, Event, SealedPosition, Serving};
