//! A node's part in its cluster.
//!
//! ```text
//! shared.rs    what the cores of this node share of it
//! desk.rs      what operators asked, and are told
//! view.rs      topology, addresses, who owns a range: a snapshot that all cores look at
//! nodes.rs     one core's way to the other nodes
//!   links.rs     its streams; greeting.rs: how they begin
//!   forwards.rs  commands on their way, and their replies; command.rs: as frames
//!   replicate.rs what a shard has for its copies elsewhere
//! way.rs       where a command goes
//! scan.rs      SCAN over all members
//! gather.rs    a command whose parts several nodes execute
//! writes.rs    what a connection has written, for WAIT
//! acknowledgements.rs  who has it
//! control.rs   the first core's extra duty: coordinator, membership
//! prepare.rs   before the cores start
//! disk.rs      what a node must not forget, persisted by a thread of its own; directory.rs: where
//! ```

mod acknowledgements;
mod bundle;
mod command;
mod config;
mod control;
mod desk;
mod directory;
mod disk;
mod forwards;
mod gather;
mod greeting;
mod hot_copies;
mod links;
mod nodes;
mod prepare;
mod replicate;
mod scan;
mod shared;
mod state;
mod view;
mod way;
mod writes;

pub(crate) use acknowledgements::Acknowledgements;
pub(crate) use bundle::{bundle, bundled, take_command};
pub(crate) use command::{Assembly, command_bytes_max};
pub use config::{ClusterConfig, Minority};
pub(crate) use control::{Control, Parts as ControlParts};
pub(crate) use desk::Request;
pub(crate) use disk::Disk;
pub(crate) use forwards::{Destination, FORWARD_MS_MAX, Failure, Forward, Reply, Target};
pub(crate) use gather::{Gather, LAST_TRY_MS, PartCommand, Whole};
pub(crate) use greeting::{Greeter, Proven, Refusal, Welcome};
pub(crate) use hot_copies::HotCopies;
pub(crate) use links::{Care, LinkName, Peer, socket_for};
pub(crate) use nodes::Nodes;
pub use prepare::ClusterStartError;
pub(crate) use prepare::Prepared;
pub(crate) use scan::{member_at, places_of};
pub(crate) use shared::{Mail, Serving, Shared};
pub(crate) use view::{Owner, View};
pub(crate) use way::{Asker, Way, way, way_of_keys};
pub(crate) use writes::Writes;
