//! A command that could not be executed yet, kept with its own copy of its arguments.

use fulmar_protocol::command::{Argv, StagedArgument};
use fulmar_shard::StagedChain;

/// Owned arguments and streamed values of one command.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    /// Where each argument ends in `bytes`.
    ends: Vec<usize>,
    staged: Vec<StagedArgument>,
    /// The streamed values, one per entry of `staged`.
    pub(crate) chains: Vec<Option<StagedChain>>,
}

impl Pending {
    /// Copies the arguments; takes the streamed values over.
    pub(crate) fn new(argv: &Argv<'_>, chains: Vec<Option<StagedChain>>) -> Self {
        let mut pending = Self {
            chains,
            staged: argv.staged.to_vec(),
            ..Self::default()
        };
        for arg in argv.args {
            pending.bytes.extend_from_slice(arg);
            pending.ends.push(pending.bytes.len());
        }
        pending
    }

    /// Gives the arguments to `use_argv`.
    pub(crate) fn with_argv<R>(&self, use_argv: impl FnOnce(&Argv<'_>) -> R) -> R {
        let mut args = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            args.push(&self.bytes[start..end]);
            start = end;
        }
        use_argv(&Argv {
            args: &args,
            staged: &self.staged,
        })
    }

    /// Memory held, outside the shards.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}
