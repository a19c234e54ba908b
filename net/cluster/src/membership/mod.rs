//! Who is there, and where: gossip among nodes (SWIM, Das et al., 2002; the crate `foca` runs it).
//!
//! Pure: datagrams, timeouts and a seed in; datagrams and events out. It finds nodes, spreads their
//! addresses and says who it thinks is gone. That is a hint: what counts for decisions is `decision`'s
//! heartbeats, and who belongs to the cluster is in the topology.
//!
//! # Identities
//! A node is known by its [`NodeId`](crate::NodeId); its [`Identity`] says the rest. Of two identities
//! of one node the newer one counts: that of the higher incarnation, then of the higher revision. So
//! a node that comes back under the same name replaces its former self at once, and one whose address
//! changes while it runs takes a new revision.
//!
//! # Joining
//! A node that knows only an address announces itself there, to node 0, which is whoever receives it,
//! and with cluster 0, which stands for not knowing it. Members answer it. It takes on the cluster of
//! the first datagram that is addressed to itself, and from then on drops those of other clusters, as
//! members do.
//!
//! ```text
//! datagram: | kind, cluster | to: node, incarnation, revision | from: identity | message | updates | code |
//! ```

mod codec;
mod config;
mod event;
mod gossip;
mod identity;
mod outbox;
mod random;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use event::{Counters, Event, PeerState};
pub use gossip::Membership;
pub use identity::{HOST_BYTES_MAX, Host, HostTooLong, Identity};
