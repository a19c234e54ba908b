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
    /// Where each reply ends in the bytes of `replies`; `None`: the command was not executed.
    reply_ends: Vec<Option<usize>>,
}

/// What became of a command in a batch.
pub(crate) enum Answer<'b> {
    /// Its reply, with its values.
    Reply(&'b [u8], Vec<Placed>),
    /// It was not executed, for its keys were changing hands: its arguments.
    NotExecuted(&'b [&'b [u8]], Access),
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

    /// Executes each command: `execute` gets its arguments, access and form, and appends the reply;
    /// false if the command was not executed.
    pub(crate) fn execute(
        &mut self,
        mut execute: impl FnMut(&[&[u8]], Access, ReplyForm, &mut Replies) -> bool,
    ) {
        let mut rest = self.bytes.as_slice();
        let mut args = Vec::new();
        for request in &self.requests {
            split_args(&mut rest, request.args_count, &mut args);
            let is_executed = execute(&args, request.access, request.form, &mut self.replies);
            self.reply_ends
                .push(is_executed.then_some(self.replies.bytes.len()));
        }
    }

    /// Hands what became of each command to `take`, then empties the batch for its next use.
    pub(crate) fn drain_replies(&mut self, mut take: impl FnMut(&Request, Answer<'_>)) {
        let mut start = 0;
        let mut rest = self.bytes.as_slice();
        let mut args = Vec::new();
        for (request, &end) in self.requests.iter().zip(&self.reply_ends) {
            split_args(&mut rest, request.args_count, &mut args);
            let Some(end) = end else {
                take(request, Answer::NotExecuted(&args, request.access));
                continue;
            };
            let values = self.replies.take_values(&(start..end));
            take(
                request,
                Answer::Reply(&self.replies.bytes[start..end], values),
            );
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

/// Takes the next command's arguments off the front.
fn split_args<'b>(rest: &mut &'b [u8], count: usize, args: &mut Vec<&'b [u8]>) {
    args.clear();
    for _ in 0..count {
        let (length, behind) = rest
            .split_first_chunk()
            .expect("each argument was pushed behind its length");
        let (arg, behind) = behind.split_at(usize::from_le_bytes(*length));
        args.push(arg);
        *rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use fulmar_protocol::resp::RespVersion;
    use fulmar_shard::Access;

    use super::{Answer, Batch, ReplyForm};
    use crate::output::Output;
    use crate::ring::ConnectionId;

    #[test]
    fn what_was_not_executed_comes_back_with_its_arguments() {
        let mut output = Output::default();
        let mut batch = Batch::new(0);
        let commands: [&[&[u8]]; 4] = [
            &[b"GET", b"a"],
            &[b"SET", b"b", b""],
            &[b"SET", b"c", b"value"],
            &[b"GET", b"d"],
        ];
        // Twice, as a batch is used again.
        for _ in 0..2 {
            for args in commands {
                let form = ReplyForm::Resp(RespVersion::Resp2);
                let id = ConnectionId::new(0, 0);
                batch.push(id, output.reserve(), form, Access::Write, args);
            }
            batch.execute(|args, _, _, replies| {
                let is_executed = args[0] == b"GET";
                if is_executed {
                    replies.bytes.extend_from_slice(args[1]);
                }
                is_executed
            });
            let mut came = Vec::new();
            batch.drain_replies(|_, answer| {
                came.push(match answer {
                    Answer::Reply(reply, _) => vec![reply.to_vec()],
                    Answer::NotExecuted(args, access) => {
                        assert_eq!(access, Access::Write);
                        args.iter().map(|arg| arg.to_vec()).collect()
                    }
                });
            });
            let expected: [&[&[u8]]; 4] = [&[b"a"], commands[1], commands[2], &[b"d"]];
            assert_eq!(came, expected);
            assert_eq!(batch.len(), 0);
        }
    }
}
