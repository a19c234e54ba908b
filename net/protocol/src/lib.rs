//! Sans-io codecs: bytes to commands, replies to bytes. No socket, no clock, no unsafe.
//!
//! ```text
//! bytes --resp::Decoder--> argv --command::table + Command::parse--> Command
//! bytes --http::Decoder--> Request ------------------------------------^
//! bytes <--resp::Encoder / http::...-- ReplySink <-- whoever executes the command
//! ```
#![forbid(unsafe_code)]

pub mod command;
pub mod http;
pub mod reply;
pub mod resp;

pub use command::{Command, CommandError};
pub use reply::ReplySink;
