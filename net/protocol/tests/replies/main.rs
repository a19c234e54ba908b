//! Replies: the encoder's bytes, and what COMMAND and the HELP texts answer.

mod command;
mod encoder;
mod parser;
