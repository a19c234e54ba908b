//! Batches of commands from core to core, and of their replies back.
//!
//! One [`Batch`] makes the whole round trip: its home core adds the replies and sends it back, so
//! its memory is used again. A core has at most [`BATCHES_IN_FLIGHT_MAX`] batches at a peer, and
//! every inbox has room for all of them, there and back: sending never blocks and never fails.

use fulmar_protocol::http;
use fulmar_protocol::resp::RespVersion;
use fulmar_shard::Access;

use crate::output::HoleId;
use crate::replies::{Placed, Replies};
use crate::ring::ConnectionId;

/// Batches that one core may have at one peer.
pub(crate) const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// Size of commands in a batch above which it takes no more.
pub(crate) const BATCH_BYTES_MAX: usize = 256 * 1_024;

/// What lies in an inbox.
pub(crate) enum Message {
    /// Execute these, and send the batch back.
    Requests(Batch),
    /// Executed.
    Replies(Batch),
}

/// How a reply is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyForm {
    /// RESP2 or RESP3.
    Resp(RespVersion),
    /// One HTTP response.
    Http(http::ReplyForm),
    /// To another node, as the reply to its request.
    Node {
        /// The request's name.
        request: u32,
        /// What the client over there speaks.
        version: RespVersion,
    },
}

/// One command of a batch, and where its reply goes.
pub(crate) struct Request {
    pub(crate) connection: ConnectionId,
    pub(crate) hole: HoleId,
    pub(crate) form: ReplyForm,
    access: Access,
    args_count: usize,
}

/// Commands of one core for the shard of another.
pub(crate) struct Batch {
    /// Index of the core that sent the commands.
    pub(crate) sender: usize,
    /// Index of the core whose shard they are for.
    pub(crate) home: usize,
    requests: Vec<Request>,
    /// The arguments, each behind its length.
    bytes: Vec<u8>,
    replies: Replies,
    /// Where each reply ends in the bytes of `replies`.
    reply_ends: Vec<usize>,
}

impl Batch {
    pub(crate) fn new(sender: usize) -> Self {
        Self {
            sender,
            home: sender,
            requests: Vec::new(),
            bytes: Vec::new(),
            replies: Replies::default(),
            reply_ends: Vec::new(),
        }
    }

    /// Adds a command.
    pub(crate) fn push(
        &mut self,
        connection: ConnectionId,
        hole: HoleId,
        form: ReplyForm,
        access: Access,
        args: &[&[u8]],
    ) {
        for arg in args {
            self.bytes.extend_from_slice(&arg.len().to_le_bytes());
            self.bytes.extend_from_slice(arg);
        }
        self.requests.push(Request {
            connection,
            hole,
            form,
            access,
            args_count: args.len(),
        });
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES_MAX
    }

    /// Number of commands.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Executes each command: `execute` gets its arguments, access and form, and appends the reply.
    pub(crate) fn execute(
        &mut self,
        mut execute: impl FnMut(&[&[u8]], Access, ReplyForm, &mut Replies),
    ) {
        let mut rest = self.bytes.as_slice();
        let mut args = Vec::new();
        for request in &self.requests {
            args.clear();
            for _ in 0..request.args_count {
                let (arg, behind) = split_arg(rest);
                args.push(arg);
                rest = behind;
            }
            execute(&args, request.access, request.form, &mut self.replies);
            self.reply_ends.push(self.replies.bytes.len());
        }
    }

    /// Hands each reply with its values to `take`, then empties the batch for its next use.
    pub(crate) fn drain_replies(
        &mut self,
        mut take: impl FnMut(ConnectionId, HoleId, &[u8], Vec<Placed>),
    ) {
        let mut start = 0;
        for (request, &end) in self.requests.iter().zip(&self.reply_ends) {
            let values = self.replies.take_values(&(start..end));
            let reply = &self.replies.bytes[start..end];
            take(request.connection, request.hole, reply, values);
            start = end;
        }
        self.requests.clear();
        self.bytes.clear();
        self.replies.bytes.clear();
        self.reply_ends.clear();
        // A batch with a large value or reply must not keep its memory.
        self.bytes.shrink_to(BATCH_BYTES_MAX);
        self.replies.bytes.shrink_to(BATCH_BYTES_MAX);
    }
}

fn split_arg(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes
        .split_first_chunk()
        .expect("each argument was pushed behind its length");
    rest.split_at(usize::from_le_bytes(*length))
}
