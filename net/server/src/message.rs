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
        /// Whether it may keep the reply.
        keep: Keep,
    },
}

/// Whether another node may give a reply again, by itself, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It may not.
    No,
    /// It asks. Its copy has answered so many reads of the key since it last did.
    Asked { copy_reads: u32 },
    /// For so many milliseconds, counted from when it asked.
    For { ms: u16 },
}

impl Keep {
    /// The milliseconds that the reply says.
    pub(crate) fn ms(self) -> Option<u16> {
        match self {
            Self::No | Self::Asked { .. } => None,
            Self::For { ms } => Some(ms),
        }
    }
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
    /// How much of them is of commands that are dealt with.
    bytes_read: usize,
    replies: Replies,
    /// Where each reply ends in the bytes of `replies`; `None`: the command was not executed.
    reply_ends: Vec<Option<usize>>,
}

/// What its home core did with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Executed it, and appended the reply.
    Done,
    /// Nothing: its keys are not here.
    NotHere,
    /// Nothing: its keys are here, and their writes are held for a moment.
    NotYet,
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
            bytes_read: 0,
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

    /// Executes the commands that are left, in order: `execute` gets arguments, access and form, and
    /// appends the reply. False if it is to go on later: one that has to wait holds up those behind it.
    pub(crate) fn execute(
        &mut self,
        mut execute: impl FnMut(&[&[u8]], Access, ReplyForm, &mut Replies) -> Ran,
    ) -> bool {
        let mut rest = &self.bytes[self.bytes_read..];
        let mut args = Vec::new();
        for request in &self.requests[self.reply_ends.len()..] {
            split_args(&mut rest, request.args_count, &mut args);
            let end = match execute(&args, request.access, request.form, &mut self.replies) {
                Ran::Done => Some(self.replies.bytes.len()),
                Ran::NotHere => None,
                Ran::NotYet => return false,
            };
            self.reply_ends.push(end);
            self.bytes_read = self.bytes.len() - rest.len();
        }
        true
    }

    /// Hands what became of each command to `take`, then empties the batch for its next use.
    pub(crate) fn drain_replies(&mut self, mut take: impl FnMut(&Request, Answer<'_>)) {
        let mut start = 0;
        let mut rest = self.bytes.as_slice();
        let mut args = Vec::new();
        // Arguments in front of `rest` that nobody has asked for.
        let mut passed = 0;
        for (request, &end) in self.requests.iter().zip(&self.reply_ends) {
            let Some(end) = end else {
                split_args(&mut rest, std::mem::take(&mut passed), &mut args);
                split_args(&mut rest, request.args_count, &mut args);
                take(request, Answer::NotExecuted(&args, request.access));
                continue;
            };
            let values = self.replies.take_values(&(start..end));
            take(
                request,
                Answer::Reply(&self.replies.bytes[start..end], values),
            );
            start = end;
            passed += request.args_count;
        }
        self.requests.clear();
        self.bytes.clear();
        self.bytes_read = 0;
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

    use super::{Answer, Batch, Ran, ReplyForm};
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
            // The third has to wait, and the fourth with it.
            for (is_held, is_over) in [(true, false), (true, false), (false, true)] {
                let went = batch.execute(|args, _, _, replies| match args {
                    [b"GET", key] => {
                        replies.bytes.extend_from_slice(key);
                        Ran::Done
                    }
                    [_, b"c", _] if is_held => Ran::NotYet,
                    _ => Ran::NotHere,
                });
                assert_eq!(went, is_over);
            }
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
