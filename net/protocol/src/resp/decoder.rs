//! From input to commands: the fast way for a command that lies in the input whole, and the way
//! into [`Partial`] for all others.

use super::frame::{Frame, Slices};
use super::header::{NoLength, read_count, read_length};
use super::partial::{LINE_END_BYTES, Partial, Step, is_cross_protocol};
use super::{ARGUMENT_BYTES_MAX, INPUT_KEPT_MAX, WireError, inline};
use crate::command::table::{CommandSpec, lookup};
use crate::command::{CommandError, StagedArgument};

/// Decodes a connection's input; one per connection.
///
/// It holds no input: bytes that it has not consumed are given again, in front of those that came
/// since. A command whole in the input is decoded without a copy or an allocation, its arguments
/// borrowed from there. Nothing is reserved from a length that a client announces.
///
/// ```
/// use fulmar_protocol::resp::{Decoded, Decoder, Slices};
///
/// let mut decoder = Decoder::new(1024 * 1024);
/// let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n*1\r\n$4\r\nPI";
/// let mut commands = Vec::new();
/// let mut at = 0;
/// let mut slices = Slices::new();
/// loop {
///     match decoder.decode(&input[at..], &mut slices) {
///         // Nothing more to do: keep `input[at..]` until more has come.
///         Decoded::Need => break,
///         Decoded::Skip { consumed } => at += consumed,
///         Decoded::Command { frame, consumed } => {
///             at += consumed;
///             // table::lookup(frame.argv().args), Command::parse, execute, reply.
///             commands.push(frame.argv().args.len());
///         }
///         // A long value comes: find the shard of `key` and begin a chain there.
///         Decoded::StagedBegin { consumed, .. } => at += consumed,
///         // Push `bytes` to the chain, or drop them if that has failed before.
///         Decoded::StagedPart { bytes: _, consumed } => at += consumed,
///         // Free the command's chains; reply with the error. The connection stays.
///         Decoded::Refused { error: _, consumed } => at += consumed,
///         // Free the chains, reply with the error, close.
///         Decoded::Error(_) => break,
///     }
/// }
/// assert_eq!(commands, [2, 1]);
/// assert_eq!(&input[at..], b"*1\r\n$4\r\nPI");
/// ```
///
/// A command with long values comes as: for each of them `StagedBegin` and `StagedPart`s whose
/// lengths add up to what was announced; then `Command`, whose argv has an empty slice at each
/// staged position, or `Refused`, or `Error`. Until then no other command comes.
///
/// After `Error` the decoder must not be used again. A caller that stops for a while must first
/// have seen `Need`, so that no memory is held for a command that has been given.
#[derive(Debug)]
pub struct Decoder {
    value_bytes_max: usize,
    /// With less input than this, the answer is `Need` again.
    input_bytes_wanted: usize,
    partial: Option<Box<Partial>>,
}

/// What [`Decoder::decode`] found; `consumed` bytes of the input are used and not given again.
#[derive(Debug)]
pub enum Decoded<'d> {
    /// The input is used up, or ends in a command that is not complete; then it is shorter than
    /// [`INPUT_KEPT_MAX`].
    Need,
    /// Input without meaning for the caller: dropped, empty, or held by the decoder.
    Skip {
        /// More than 0.
        consumed: usize,
    },
    /// A complete command.
    Command {
        /// Its arguments.
        frame: Frame<'d>,
        /// May be 0 if all its input was consumed before.
        consumed: usize,
    },
    /// A value longer than [`ARGUMENT_BYTES_MAX`] begins. The command exists and the number of its
    /// arguments is right; its options are not known yet.
    StagedBegin {
        /// The command.
        spec: &'static CommandSpec,
        /// The arguments before the value.
        frame: Frame<'d>,
        /// The key that the value belongs to.
        key: &'d [u8],
        /// Where the value stands among the arguments, and its whole length, which is more than
        /// `ARGUMENT_BYTES_MAX` and at most the decoder's `value_bytes_max`.
        staged: StagedArgument,
        /// More than 0.
        consumed: usize,
    },
    /// The next part of the value that began last.
    StagedPart {
        /// Not empty.
        bytes: &'d [u8],
        /// More than 0.
        consumed: usize,
    },
    /// A command was read to its end and dropped: it is too large, or wrong in a way that was
    /// clear when something too large came. The error is its reply; the connection stays.
    Refused {
        /// The reply.
        error: CommandError,
        /// May be 0.
        consumed: usize,
    },
    /// The input is no RESP: the connection must close.
    Error(WireError),
}

impl Decoder {
    /// A decoder that refuses values above `value_bytes_max` bytes, of those that are staged:
    /// shorter arguments are given whatever `value_bytes_max` is.
    #[must_use]
    pub fn new(value_bytes_max: usize) -> Self {
        Self {
            value_bytes_max,
            input_bytes_wanted: 0,
            partial: None,
        }
    }

    /// Heap memory held for an incomplete command; 0 for a connection that sends short commands.
    /// At most [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX) and a few KiB.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.heap_bytes())
    }

    /// Is a command under way of which input has been consumed?
    #[must_use]
    pub fn is_inside_command(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| !partial.is_done())
    }

    /// Decodes what `input` begins with; see [`Decoder`] for the loop around it.
    ///
    /// Takes time in proportion to what it consumes; an incomplete command is read again from its
    /// start when more has come, as long as it is small (32 arguments, 32 KiB).
    #[inline]
    pub fn decode<'d, 'i: 'd>(
        &'d mut self,
        input: &'i [u8],
        slices: &'d mut Slices<'i>,
    ) -> Decoded<'d> {
        if self.partial.is_some() {
            if self.is_inside_command() {
                return self.resume(input, 0);
            }
            self.partial = None;
        }
        if input.len() < self.input_bytes_wanted {
            return Decoded::Need;
        }
        self.input_bytes_wanted = 0;
        let scan = match input.first() {
            Some(b'*') => scan_multibulk(input, slices),
            Some(_) => self.scan_inline(input, slices),
            None => return Decoded::Need,
        };
        match scan {
            Scan::Complete { consumed } => Decoded::Command {
                frame: Frame::borrowed(slices.as_slice()),
                consumed,
            },
            scan => self.decode_slowly(scan, input, slices),
        }
    }

    /// Everything but a command that lies whole in the input.
    #[cold]
    fn decode_slowly<'d>(
        &'d mut self,
        scan: Scan,
        input: &'d [u8],
        slices: &'d Slices<'_>,
    ) -> Decoded<'d> {
        match scan {
            Scan::Complete { consumed } => Decoded::Command {
                frame: Frame::borrowed(slices.as_slice()),
                consumed,
            },
            Scan::Unquoted { consumed } => Decoded::Command {
                frame: self.held(),
                consumed,
            },
            Scan::Empty { consumed } => Decoded::Skip { consumed },
            Scan::Refused { error, consumed } => Decoded::Refused { error, consumed },
            Scan::Wrong(error) => Decoded::Error(error),
            Scan::Incomplete { input_bytes_wanted } => {
                debug_assert!(
                    input.len() < INPUT_KEPT_MAX,
                    "a line must be complete by then"
                );
                self.input_bytes_wanted = input_bytes_wanted;
                Decoded::Need
            }
            Scan::Cut {
                args_count,
                argument_at,
                input_bytes_wanted,
            } => {
                let completed = slices.as_slice();
                let is_small =
                    completed.len() < RESCANNED_ARGS_MAX && input.len() < RESCANNED_BYTES_MAX;
                if is_small && let Some(wanted) = input_bytes_wanted {
                    self.input_bytes_wanted = wanted;
                    return Decoded::Need;
                }
                let partial = Partial::new(args_count, completed, self.value_bytes_max);
                self.partial = Some(Box::new(partial));
                self.resume(&input[argument_at..], argument_at)
            }
        }
    }

    /// Goes on with the command that is held; `before` bytes in front of `input` are used.
    #[cold]
    fn resume<'d>(&'d mut self, input: &'d [u8], before: usize) -> Decoded<'d> {
        let step = match &mut self.partial {
            Some(partial) => partial.step(input),
            None => Step::Need { consumed: 0 },
        };
        match step {
            Step::Need { consumed } if before + consumed == 0 => Decoded::Need,
            Step::Need { consumed } => Decoded::Skip {
                consumed: before + consumed,
            },
            Step::Complete { consumed } => {
                let frame = self.held();
                if frame
                    .argv()
                    .args
                    .first()
                    .is_some_and(|name| is_cross_protocol(name))
                {
                    return Decoded::Error(WireError::CrossProtocol);
                }
                Decoded::Command {
                    frame,
                    consumed: before + consumed,
                }
            }
            Step::Refused { error, consumed } => Decoded::Refused {
                error,
                consumed: before + consumed,
            },
            Step::Begin {
                spec,
                staged,
                consumed,
            } => {
                let args = self
                    .partial
                    .as_ref()
                    .map_or_else(Vec::new, |partial| partial.args());
                let known = args.len().saturating_sub(1);
                let key_at = spec.key_positions(known).last();
                let key = key_at
                    .and_then(|at| args.get(at))
                    .copied()
                    .unwrap_or_default();
                let frame = Frame::collected(args[..known].to_vec(), &[]);
                Decoded::StagedBegin {
                    spec,
                    frame,
                    key,
                    staged,
                    consumed: before + consumed,
                }
            }
            Step::Part { start, consumed } => Decoded::StagedPart {
                bytes: &input[start..consumed],
                consumed: before + consumed,
            },
            Step::Wrong(error) => Decoded::Error(error),
        }
    }

    /// The command that is held.
    fn held(&self) -> Frame<'_> {
        self.partial.as_ref().map_or_else(
            || Frame::borrowed(&[]),
            |partial| Frame::collected(partial.args(), partial.staged()),
        )
    }

    #[cold]
    fn scan_inline<'i>(&mut self, input: &'i [u8], slices: &mut Slices<'i>) -> Scan {
        let (line, consumed) = match inline::find_line(input) {
            Ok(Some(found)) => found,
            Ok(None) => {
                return Scan::Incomplete {
                    input_bytes_wanted: input.len() + 1,
                };
            }
            Err(error) => return Scan::Wrong(error),
        };
        slices.clear();
        if inline::is_plain(line) {
            for word in inline::plain_words(line) {
                slices.push(word);
            }
            return judge_inline(slices.as_slice(), Scan::Complete { consumed });
        }
        let partial = match unquote(line) {
            Ok(partial) => self.partial.insert(Box::new(partial)),
            Err(error) => return Scan::Wrong(error),
        };
        judge_inline(&partial.args(), Scan::Unquoted { consumed })
    }
}

/// The length of the command that `input` begins with, its arguments left in `slices`, if it is an
/// array that lies there whole. For looking ahead: it decides nothing and keeps nothing.
#[inline]
pub fn peek<'i>(input: &'i [u8], slices: &mut Slices<'i>) -> Option<usize> {
    if input.first() != Some(&b'*') {
        return None;
    }
    match scan_multibulk(input, slices) {
        Scan::Complete { consumed } => Some(consumed),
        _ => None,
    }
}

/// An incomplete command is held only if it has at least so many complete arguments ...
const RESCANNED_ARGS_MAX: usize = 32;

/// ... or so many bytes; else it is read again from its start.
const RESCANNED_BYTES_MAX: usize = 32 * 1024;

// What is left to the caller of a command that is held: one argument with its length line.
const _: () = assert!(RESCANNED_BYTES_MAX <= INPUT_KEPT_MAX);
const _: () = assert!(ARGUMENT_BYTES_MAX + 64 < RESCANNED_BYTES_MAX);

/// What a look at the input came to.
enum Scan {
    /// The slices are a command.
    Complete { consumed: usize },
    /// The command is held, its quotes removed.
    Unquoted { consumed: usize },
    /// A command without arguments.
    Empty { consumed: usize },
    /// An inline command with too long an argument.
    Refused {
        error: CommandError,
        consumed: usize,
    },
    /// No line is complete.
    Incomplete { input_bytes_wanted: usize },
    /// The slices are some of the arguments of a command. The next begins at `argument_at`; it can
    /// be complete in an input of `input_bytes_wanted`, if it isn't too long for that.
    Cut {
        args_count: usize,
        argument_at: usize,
        input_bytes_wanted: Option<usize>,
    },
    /// The connection must close.
    Wrong(WireError),
}

/// Reads a frame of bulk strings into `slices`.
#[inline]
fn scan_multibulk<'i>(input: &'i [u8], slices: &mut Slices<'i>) -> Scan {
    slices.clear();
    let (count, mut at) = match read_count(input) {
        Ok(found) => found,
        Err(NoLength::Incomplete) => {
            return Scan::Incomplete {
                input_bytes_wanted: input.len() + 1,
            };
        }
        Err(NoLength::Wrong(error)) => return Scan::Wrong(error),
    };
    let Some(args_count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        return Scan::Empty { consumed: at };
    };
    for _ in 0..args_count {
        let (bytes_count, start) = match read_length(input, at) {
            Ok(found) => found,
            Err(NoLength::Incomplete) => {
                let input_bytes_wanted = Some(input.len() + 1);
                return Scan::Cut {
                    args_count,
                    argument_at: at,
                    input_bytes_wanted,
                };
            }
            Err(NoLength::Wrong(error)) => return Scan::Wrong(error),
        };
        if bytes_count > ARGUMENT_BYTES_MAX {
            return Scan::Cut {
                args_count,
                argument_at: at,
                input_bytes_wanted: None,
            };
        }
        let end = start + bytes_count;
        if input.len() < end + LINE_END_BYTES {
            let input_bytes_wanted = Some(end + LINE_END_BYTES);
            return Scan::Cut {
                args_count,
                argument_at: at,
                input_bytes_wanted,
            };
        }
        slices.push(&input[start..end]);
        at = end + LINE_END_BYTES;
    }
    if slices
        .as_slice()
        .first()
        .is_some_and(|name| is_cross_protocol(name))
    {
        return Scan::Wrong(WireError::CrossProtocol);
    }
    Scan::Complete { consumed: at }
}

/// Checks an inline command's arguments, which may be longer than those of others come.
fn judge_inline(args: &[&[u8]], complete: Scan) -> Scan {
    let (Scan::Complete { consumed } | Scan::Unquoted { consumed }) = complete else {
        return complete;
    };
    let Some(name) = args.first() else {
        return Scan::Empty { consumed };
    };
    if is_cross_protocol(name) {
        return Scan::Wrong(WireError::CrossProtocol);
    }
    if args.iter().all(|arg| arg.len() <= ARGUMENT_BYTES_MAX) {
        return complete;
    }
    let error = lookup(args).err().unwrap_or(CommandError::ArgumentTooLong);
    Scan::Refused { error, consumed }
}

/// Splits an inline command with quotes.
fn unquote(line: &[u8]) -> Result<Partial, WireError> {
    let mut words = Vec::new();
    let mut ends = Vec::new();
    let mut rest = line;
    while let Some(after) = inline::next_word(rest, &mut words)? {
        ends.push(u32::try_from(words.len()).expect("a line is shorter than INPUT_KEPT_MAX"));
        rest = after;
    }
    Ok(Partial::complete(words, ends))
}
