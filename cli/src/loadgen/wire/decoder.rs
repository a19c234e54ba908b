//! One connection's reply decoder, for either protocol.

use super::http::ResponseParser;
use super::resp::ReplyParser;
use super::{Operation, Protocol, Reply, WireError};

/// Takes what was read and says which replies it completes.
#[derive(Debug)]
pub(crate) struct Decoder(Parser);

#[derive(Debug)]
enum Parser {
    Resp(Box<ReplyParser>),
    Http(Box<ResponseParser>),
}

impl Decoder {
    /// A decoder at the start of a stream. `check_values`: values are handed to the sink (with
    /// RESP they always are).
    pub(crate) fn new(protocol: Protocol, check_values: bool) -> Self {
        match protocol {
            Protocol::Resp => Self(Parser::Resp(Box::new(ReplyParser::new()))),
            Protocol::Http => Self(Parser::Http(Box::new(ResponseParser::new(check_values)))),
        }
    }

    /// Takes bytes until the reply to `operation` is complete or `input` is used up; answers how
    /// many were used and the reply. `sink` gets pieces of the value with their offsets.
    ///
    /// After an error the stream cannot be decoded further.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        operation: Operation,
        sink: &mut impl FnMut(usize, &[u8]),
    ) -> Result<(usize, Option<Reply>), WireError> {
        match &mut self.0 {
            Parser::Resp(parser) => parser.decode(input, sink),
            Parser::Http(parser) => parser.decode(input, operation, sink),
        }
    }

    /// The text of the last error reply, cut to its first 128 bytes.
    pub(crate) fn text(&self) -> &[u8] {
        match &self.0 {
            Parser::Resp(parser) => parser.text(),
            Parser::Http(parser) => parser.text(),
        }
    }
}
