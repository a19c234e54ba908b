//! Sans-io codecs: bytes to commands, replies to bytes. No socket, no clock, no unsafe.
//!
//! ```text
//! bytes --resp::Decoder--> argv --command::table + Command::parse--> Command
//! bytes --http::Decoder--> Request ------------------------------------^
//! bytes <--resp::Encoder / http::...-- ReplySink <-- whoever executes the command
//! bytes <--node::Decoder, node::Encoder--> frames between nodes
//! ```
#![forbid(unsafe_code)]

pub mod command;
pub mod http;
pub mod node;
pub mod reply;
pub mod resp;

pub use command::{Command, CommandError};
pub use reply::ReplySink;
