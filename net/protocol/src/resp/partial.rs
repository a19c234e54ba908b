//! A command that the decoder holds: its arguments did not come in one piece, or are not given as
//! they stand in the input.
//!
//! Completed arguments are copied here, values too long for that are passed through, and what is
//! refused is dropped while its frame is read to the end.
//!
//! Invariants:
//! 1. `ends` rises to `buffer.len()`; argument n is `buffer[ends[n-1]..ends[n]]`.
//! 2. `buffer` and `ends` hold at most `FRAME_BYTES_MAX` bytes; once refused they hold none.
//! 3. A staged argument is empty in `buffer`, and `staged` rises by position.

use super::header::{NoLength, read_length};
use super::{ARGUMENT_BYTES_MAX, FRAME_BYTES_MAX, WireError};
use crate::command::table::{CommandSpec, resolve_partial};
use crate::command::{CommandError, StagedArgument};

/// The state of a command that is held.
#[derive(Debug)]
pub(super) struct Partial {
    args_count: usize,
    completed_count: usize,
    buffer: Vec<u8>,
    ends: Vec<u32>,
    staged: Vec<StagedArgument>,
    value_bytes_max: usize,
    refused: Option<CommandError>,
    state: State,
}

/// What the next byte of input is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The first of an argument's length line, or behind the frame.
    Header,
    /// In a staged value of which so many bytes are to come.
    Value { bytes_left: usize },
    /// In something that is dropped: what is refused, or the end of a staged value's line.
    Drop { bytes_left: usize },
    /// Behind the frame, which has been given.
    Done,
}

/// What a call of [`Partial::step`] came to; offsets are into its input.
pub(super) enum Step {
    /// Nothing can be said without more input, and the input up to here is used.
    Need { consumed: usize },
    /// All arguments are here.
    Complete { consumed: usize },
    /// The frame was read to its end; this is the answer.
    Refused {
        error: CommandError,
        consumed: usize,
    },
    /// A long value begins.
    Begin {
        spec: &'static CommandSpec,
        staged: StagedArgument,
        consumed: usize,
    },
    /// A part of it, from `start`.
    Part { start: usize, consumed: usize },
    /// The connection must close.
    Wrong(WireError),
}

impl Partial {
    /// Holds a command of `args_count` arguments, of which `completed` are known.
    pub(super) fn new(args_count: usize, completed: &[&[u8]], value_bytes_max: usize) -> Self {
        let mut partial = Self {
            args_count,
            completed_count: 0,
            buffer: Vec::new(),
            ends: Vec::new(),
            staged: Vec::new(),
            value_bytes_max,
            refused: None,
            state: State::Header,
        };
        for arg in completed {
            partial.push(arg);
        }
        partial
    }

    /// Holds a complete command.
    pub(super) fn complete(buffer: Vec<u8>, ends: Vec<u32>) -> Self {
        let args_count = ends.len();
        Self {
            buffer,
            ends,
            completed_count: args_count,
            state: State::Done,
            ..Self::new(args_count, &[], 0)
        }
    }

    /// Has the whole frame been given? Then this can be dropped.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Heap memory that it takes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.buffer.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.staged.capacity() * size_of::<StagedArgument>()
    }

    /// The completed arguments.
    pub(super) fn args(&self) -> Vec<&[u8]> {
        let mut start = 0;
        let slice = |end: &u32| {
            let end = *end as usize;
            let arg = &self.buffer[start..end];
            start = end;
            arg
        };
        self.ends.iter().map(slice).collect()
    }

    /// The staged ones among them.
    pub(super) fn staged(&self) -> &[StagedArgument] {
        &self.staged
    }

    /// Reads on. What is consumed must not be given again, and all else must.
    pub(super) fn step(&mut self, input: &[u8]) -> Step {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Step::Need { consumed: at },
                State::Drop { bytes_left } => {
                    let dropped = bytes_left.min(input.len() - at);
                    at += dropped;
                    if dropped < bytes_left {
                        self.state = State::Drop {
                            bytes_left: bytes_left - dropped,
                        };
                        return Step::Need { consumed: at };
                    }
                    self.state = State::Header;
                }
                State::Value { bytes_left } => {
                    let part = bytes_left.min(input.len() - at);
                    if part == 0 {
                        return Step::Need { consumed: at };
                    }
                    self.state = if part < bytes_left {
                        State::Value {
                            bytes_left: bytes_left - part,
                        }
                    } else {
                        State::Drop {
                            bytes_left: LINE_END_BYTES,
                        }
                    };
                    return Step::Part {
                        start: at,
                        consumed: at + part,
                    };
                }
                State::Header if self.completed_count == self.args_count => {
                    self.state = State::Done;
                    return match self.refused.take() {
                        Some(error) => Step::Refused {
                            error,
                            consumed: at,
                        },
                        None => Step::Complete { consumed: at },
                    };
                }
                State::Header => match self.argument(input, at) {
                    Ok(next) => at = next,
                    Err(step) => return step,
                },
            }
        }
    }

    /// Reads an argument, or the length of one that is not held; gives the offset behind that.
    fn argument(&mut self, input: &[u8], at: usize) -> Result<usize, Step> {
        let (bytes_count, start) = read_length(input, at).map_err(|error| match error {
            NoLength::Incomplete => Step::Need { consumed: at },
            NoLength::Wrong(error) => Step::Wrong(error),
        })?;
        if self.refused.is_none() && bytes_count <= ARGUMENT_BYTES_MAX {
            let end = start + bytes_count;
            if input.len() < end + LINE_END_BYTES {
                return Err(Step::Need { consumed: at });
            }
            self.push(&input[start..end]);
            return Ok(end + LINE_END_BYTES);
        }
        if self.refused.is_none() {
            match self.judge_long(bytes_count) {
                Ok(spec) => {
                    let staged = StagedArgument {
                        position: self.completed_count,
                        bytes_count,
                    };
                    self.push(&[]);
                    self.staged.push(staged);
                    self.state = State::Value {
                        bytes_left: bytes_count,
                    };
                    return Err(Step::Begin {
                        spec,
                        staged,
                        consumed: start,
                    });
                }
                Err(Unfit::Refused(error)) => self.refuse(error),
                Err(Unfit::Wrong(error)) => return Err(Step::Wrong(error)),
            }
        }
        self.completed_count += 1;
        self.state = State::Drop {
            bytes_left: bytes_count + LINE_END_BYTES,
        };
        Ok(start)
    }

    /// May the next argument, of `bytes_count` bytes, be staged?
    fn judge_long(&self, bytes_count: usize) -> Result<&'static CommandSpec, Unfit> {
        let position = self.completed_count;
        let args = self.args();
        if args.first().is_some_and(|name| is_cross_protocol(name)) {
            return Err(Unfit::Wrong(WireError::CrossProtocol));
        }
        let spec = resolve_partial(&args, self.args_count).map_err(Unfit::Refused)?;
        if spec
            .key_positions(self.args_count)
            .any(|key| key == position)
        {
            return Err(Unfit::Refused(CommandError::KeyTooLong));
        }
        if spec.key_of_value(position, self.args_count).is_none() {
            return Err(Unfit::Refused(CommandError::ArgumentTooLong));
        }
        if bytes_count > self.value_bytes_max {
            return Err(Unfit::Refused(CommandError::ValueTooLong));
        }
        Ok(spec)
    }

    /// Holds a completed argument, or refuses the command if it gets too large by it.
    fn push(&mut self, arg: &[u8]) {
        self.completed_count += 1;
        let held_bytes = self.buffer.len() + (self.ends.len() + 1) * size_of::<u32>();
        if held_bytes + arg.len() > FRAME_BYTES_MAX {
            self.refuse(CommandError::CommandTooLarge);
            return;
        }
        self.make_room(arg.len());
        self.buffer.extend_from_slice(arg);
        let end = u32::try_from(self.buffer.len()).expect("FRAME_BYTES_MAX fits in 32 bits");
        self.ends.push(end);
    }

    /// Grows the buffer by doubling, but not beyond the limit.
    fn make_room(&mut self, bytes_count: usize) {
        let wanted = self.buffer.len() + bytes_count;
        if wanted > self.buffer.capacity() {
            let capacity = (2 * self.buffer.capacity()).clamp(wanted, FRAME_BYTES_MAX);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
    }

    fn refuse(&mut self, error: CommandError) {
        self.refused = Some(error);
        self.buffer = Vec::new();
        self.ends = Vec::new();
        self.staged = Vec::new();
    }
}

/// Why a long argument is not staged.
enum Unfit {
    Refused(CommandError),
    Wrong(WireError),
}

/// CR LF behind an argument; Redis looks at neither byte.
pub(super) const LINE_END_BYTES: usize = 2;

const _: () = assert!(FRAME_BYTES_MAX <= u32::MAX as usize);

/// Is this how an HTTP request's first line or its Host header begins?
#[inline]
pub(super) fn is_cross_protocol(name: &[u8]) -> bool {
    match name.len() {
        4 => name.eq_ignore_ascii_case(b"post"),
        5 => name.eq_ignore_ascii_case(b"host:"),
        _ => false,
    }
}
