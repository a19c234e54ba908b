//! Where a decoded command's arguments are.

use crate::command::{Argv, StagedArgument};

/// So many arguments need no allocation.
const INLINE_COUNT: usize = 16;

/// Scratch for the slices of one command's arguments.
///
/// One per batch of input, on the stack: up to 16 arguments need no allocation, more of them
/// one that all frames of the batch share.
#[derive(Debug)]
pub struct Slices<'i> {
    inline: [&'i [u8]; INLINE_COUNT],
    inline_count: usize,
    /// All of them, once they are too many for `inline`; else empty.
    many: Vec<&'i [u8]>,
}

impl<'i> Slices<'i> {
    /// Empty scratch.
    #[must_use]
    #[inline]
    pub fn new() -> Self {
        Self {
            inline: [&[]; INLINE_COUNT],
            inline_count: 0,
            many: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.inline_count = 0;
        self.many.clear();
    }

    #[inline]
    pub(crate) fn push(&mut self, slice: &'i [u8]) {
        match self.inline.get_mut(self.inline_count) {
            Some(place) => {
                *place = slice;
                self.inline_count += 1;
            }
            None => self.push_to_many(slice),
        }
    }

    #[cold]
    fn push_to_many(&mut self, slice: &'i [u8]) {
        if self.many.is_empty() {
            self.many.extend_from_slice(&self.inline);
        }
        self.many.push(slice);
    }

    /// The arguments that were decoded last.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[&'i [u8]] {
        if self.many.is_empty() {
            &self.inline[..self.inline_count]
        } else {
            &self.many
        }
    }
}

impl Default for Slices<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The arguments of a command; borrows them from the input or from the decoder.
#[derive(Debug)]
pub struct Frame<'d> {
    args: Args<'d>,
    staged: &'d [StagedArgument],
}

#[derive(Debug)]
enum Args<'d> {
    Borrowed(&'d [&'d [u8]]),
    Collected(Vec<&'d [u8]>),
}

impl<'d> Frame<'d> {
    #[inline]
    pub(super) fn borrowed(args: &'d [&'d [u8]]) -> Self {
        Self {
            args: Args::Borrowed(args),
            staged: &[],
        }
    }

    pub(super) fn collected(args: Vec<&'d [u8]>, staged: &'d [StagedArgument]) -> Self {
        Self {
            args: Args::Collected(args),
            staged,
        }
    }

    /// The arguments, the command's name first; at least one.
    #[must_use]
    #[inline]
    pub fn argv(&self) -> Argv<'_> {
        let args = match &self.args {
            Args::Borrowed(args) => args,
            Args::Collected(args) => args.as_slice(),
        };
        Argv {
            args,
            staged: self.staged,
        }
    }
}
