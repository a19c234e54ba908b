//! Asynchronous replication of ranges between the cores of nodes.
//!
//! Pure: what is sent and received is plain data, items are reached through [`Store`], time is an
//! argument. One `Replication` per core; whoever calls it holds that core's shard.
//!
//! | when | call |
//! |---|---|
//! | a topology was decided | `handle_topology` |
//! | a promise was given | `seal`, `positions` |
//! | a command changed a key | `log_change`; FLUSHALL: `log_flush_all` |
//! | a command read a key | `note_read` |
//! | a connection to a follower's core opens, closes | `handle_connected`, `handle_disconnected` |
//! | it can take bytes | `poll_batch`, until it gives none |
//! | messages of that core arrive | `begin_control`, `handle_control` for each message |
//! | a batch of a primary's core arrives | `begin_batch`, `handle_entry` for each entry, `end_batch` |
//! | that connection can take bytes | `poll_control`; when it closes, `handle_source_closed` |
//! | at the turn's end and on every tick | `advance` |

mod codec;
mod copies;
mod digest;
mod history;
mod key_set;
mod lag;
pub mod limits;
mod link;
mod log;
mod message;
mod source;
mod state;
mod store;
mod topology;
mod touches;

pub use codec::{
    ControlEncoder, EntryEncoder, HEADER_BYTES, ReplicationError, decode_control, decode_entry,
};
pub use copies::Role;
pub use digest::{Digest, DigestWalk, NoDigest};
pub use history::{Fork, History, Reign};
pub use lag::Lag;
pub use limits::{
    ACK_POSITIONS_MAX, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, FORKS_MAX, Limits, PART_BYTES_MAX,
    SET_BYTES_MAX, SET_PARTS_MAX,
};
pub use log::{Log, LogEntry, LogKind, LogOffset};
pub use message::{
    Address, Control, ControlSink, CopyPosition, Entry, EntryKind, EntrySink, Header, RemoteCore,
    StartFrom,
};
pub use source::Verdict;
pub use state::{Counts, Replication, Write};
pub use store::{ItemView, StageId, Store};
