//! A command as frames between nodes, and frames as a command. Pure.
//!
//! A small command is one frame, and never comes here on its way in. A longer one is put together in
//! an [`Assembly`], whose memory is taken out of a core's [`Budget`] before it is used: what was
//! announced may come, and nothing else.

use fulmar_protocol::node::{
    Arguments, Blob, Encoder, Forward, ForwardHead, INLINE_BYTES_MAX, MoreArguments, OutOfStep,
    PART_BYTES_MAX, Part, Progress,
};

use crate::ring::ConnectionId;

/// What one long command or reply may take beside its value.
const BESIDE_VALUE_BYTES: usize = 64 * 1_024;
/// What a core gives to long commands of other nodes, and to long replies, at least.
const CORE_BYTES_MIN: usize = 64 << 20;

/// Most bytes of one command that comes in several frames.
pub(crate) fn command_bytes_max(value_bytes_max: usize) -> usize {
    value_bytes_max.saturating_add(BESIDE_VALUE_BYTES)
}

/// Most bytes of all such commands of a core, and of all long replies.
pub(crate) fn core_bytes_max(value_bytes_max: usize) -> usize {
    command_bytes_max(value_bytes_max).max(CORE_BYTES_MIN)
}

/// Appends a command with these arguments.
pub(crate) fn encode(out: &mut Vec<u8>, request: u32, head: &ForwardHead, args: &[&[u8]]) {
    let is_long = |arg: &&&[u8]| arg.len() > INLINE_BYTES_MAX;
    let mut blobs = args.iter().map(|arg| match arg.len() {
        0..=INLINE_BYTES_MAX => Blob::Whole(arg),
        bytes_count => Blob::InParts(bytes_count),
    });
    let mut encoder = Encoder::new(out);
    encoder.forward(request, head, &mut blobs);
    for arg in args.iter().filter(is_long) {
        let is_end = blobs.len() == 0;
        let mut offset = 0;
        for part in arg.chunks(PART_BYTES_MAX) {
            let end = offset + part.len();
            encoder.part(request, offset as u64, part, is_end && end == arg.len());
            offset = end;
        }
        if !is_end {
            encoder.arguments(request, &mut blobs);
        }
    }
}

/// A command that comes in several frames.
#[derive(Debug)]
pub(crate) struct Assembly {
    pub(crate) request: u32,
    pub(crate) head: ForwardHead,
    progress: Progress,
    bytes: Vec<u8>,
    /// Where each argument ends in `bytes`; the last one's while it comes is where it will.
    ends: Vec<usize>,
    /// What it may take.
    reserved: usize,
    /// It is not executed: what comes is dropped, up to its end.
    is_refused: bool,
}

impl Assembly {
    /// The first frame's arguments. Nothing is reserved yet.
    pub(crate) fn begin(forward: &Forward<'_>) -> Self {
        Self {
            request: forward.request,
            head: forward.head,
            progress: Progress::begin(forward),
            bytes: Vec::new(),
            ends: Vec::new(),
            reserved: 0,
            is_refused: false,
        }
    }

    /// Bytes that these arguments take, those included that are announced.
    pub(crate) fn bytes_of(arguments: &Arguments<'_>) -> usize {
        let one = |argument| match argument {
            Blob::Whole(bytes) => bytes.len(),
            Blob::InParts(bytes_count) => bytes_count,
        };
        let overhead = size_of::<usize>();
        arguments
            .clone()
            .map(|argument| one(argument) + overhead)
            .sum()
    }

    /// What it may take.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Gives up what came, and takes nothing more of what comes. Returns what was reserved.
    pub(crate) fn refuse(&mut self) -> usize {
        self.is_refused = true;
        self.bytes = Vec::new();
        self.ends = Vec::new();
        std::mem::take(&mut self.reserved)
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Keeps arguments, for which so many bytes are reserved.
    pub(crate) fn keep(&mut self, arguments: &Arguments<'_>, reserved: usize) {
        if self.is_refused {
            return;
        }
        self.reserved += reserved;
        for argument in arguments.clone() {
            let end = match argument {
                Blob::Whole(bytes) => {
                    self.bytes.extend_from_slice(bytes);
                    self.bytes.len()
                }
                Blob::InParts(bytes_count) => self.bytes.len() + bytes_count,
            };
            self.ends.push(end);
        }
    }

    /// More arguments, of which [`keep`](Self::keep) is to be told.
    ///
    /// # Errors
    /// They may not come now.
    pub(crate) fn arguments(&mut self, more: &MoreArguments<'_>) -> Result<(), OutOfStep> {
        self.progress.arguments(more)
    }

    /// A part of the long argument.
    ///
    /// # Errors
    /// It may not come now.
    pub(crate) fn part(&mut self, part: &Part<'_>) -> Result<(), OutOfStep> {
        self.progress.part(part)?;
        if !self.is_refused {
            self.bytes.extend_from_slice(part.bytes);
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.progress.is_complete()
    }

    /// Gives the arguments to `use_args`. It is complete.
    pub(crate) fn with_args<R>(&self, use_args: impl FnOnce(&[&[u8]]) -> R) -> R {
        let mut args = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            args.push(&self.bytes[start..end]);
            start = end;
        }
        use_args(&args)
    }

    /// Memory held.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// What a core gives to the long commands of other nodes. Who finds too little of it waits for it
/// holding nothing, so that those who hold some always come to their end.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    waiting: Vec<ConnectionId>,
    has_grown: bool,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            left: bytes,
            waiting: Vec::new(),
            has_grown: false,
        }
    }

    /// Takes so many bytes out of it, if they are there.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let is_there = bytes <= self.left;
        if is_there {
            self.left -= bytes;
        }
        is_there
    }

    /// Gives them back.
    pub(crate) fn give(&mut self, bytes: usize) {
        self.left += bytes;
        self.has_grown |= bytes > 0;
    }

    /// Tells this connection when it has grown.
    pub(crate) fn wait(&mut self, connection: ConnectionId) {
        if !self.waiting.contains(&connection) {
            self.waiting.push(connection);
        }
    }

    /// Those who may try again.
    pub(crate) fn take_woken(&mut self) -> Vec<ConnectionId> {
        if std::mem::take(&mut self.has_grown) {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use fulmar_protocol::node::{
        Decoded, Decoder, Fence, ForwardHead, ForwardOptions, Frame, INLINE_BYTES_MAX, ReplyForm,
    };

    use super::{Assembly, Budget, encode};
    use crate::ring::ConnectionId;

    const HEAD: ForwardHead = ForwardHead {
        fence: Fence {
            epoch: 3,
            sender_incarnation: 1,
            target_incarnation: 2,
        },
        options: ForwardOptions {
            form: ReplyForm::Resp2,
            hops: 1,
            may_read_replica: false,
            is_local: false,
        },
        copy_reads: None,
    };

    /// The command that these frames are, if it takes more than one.
    fn assemble(mut bytes: &[u8]) -> Option<Assembly> {
        let mut decoder = Decoder::new();
        decoder.open();
        let mut assembly: Option<Assembly> = None;
        while let Decoded::Frame { frame, consumed } = decoder.decode(bytes) {
            bytes = &bytes[consumed..];
            match (frame, &mut assembly) {
                (Frame::Forward(forward), None) if forward.is_whole => return None,
                (Frame::Forward(forward), None) => {
                    let mut begun = Assembly::begin(&forward);
                    begun.keep(&forward.arguments, Assembly::bytes_of(&forward.arguments));
                    assembly = Some(begun);
                }
                (Frame::Arguments(more), Some(assembly)) => {
                    assembly.arguments(&more).expect("in step");
                    assembly.keep(&more.arguments, Assembly::bytes_of(&more.arguments));
                }
                (Frame::Part(part), Some(assembly)) => assembly.part(&part).expect("in step"),
                (other, _) => panic!("not of a command: {other:?}"),
            }
        }
        assert!(bytes.is_empty());
        assembly
    }

    #[test]
    fn long_commands_come_as_they_were() {
        let value = |bytes_count: usize| -> Vec<u8> {
            let byte = |at| u8::try_from(at % 251).expect("below 251");
            (0..bytes_count).map(byte).collect()
        };
        for counts in [
            vec![3, INLINE_BYTES_MAX + 1],
            vec![3, 5, 1 << 20, 2],
            vec![4, 3, 50_000, 3, 20_000, INLINE_BYTES_MAX],
            vec![10_000; 20],
            vec![0; 100_000],
        ] {
            let args: Vec<Vec<u8>> = counts.iter().map(|&count| value(count)).collect();
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            let mut out = Vec::new();
            encode(&mut out, 9, &HEAD, &args);
            let assembly = assemble(&out).expect("it takes several frames");
            assert!(assembly.is_complete());
            assert_eq!((assembly.request, assembly.head), (9, HEAD));
            assert!(assembly.with_args(|got| got == args));
            let bytes: usize = counts.iter().map(|count| count + size_of::<usize>()).sum();
            assert_eq!(assembly.reserved(), bytes);
        }
        let mut out = Vec::new();
        encode(&mut out, 9, &HEAD, &[b"GET", b"key"]);
        assert!(assemble(&out).is_none(), "it is one frame");
    }

    #[test]
    fn a_budget_is_given_once_and_its_growth_is_told() {
        let mut budget = Budget::new(100);
        let id = ConnectionId::new(1, 0);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        budget.wait(id);
        budget.wait(id);
        assert!(budget.take_woken().is_empty());
        budget.give(60);
        assert_eq!(budget.take_woken(), [id]);
        assert!(budget.take_woken().is_empty());
        assert!(budget.take(100));
    }
}
