//! The one table of commands: what each is called, how many arguments it takes, where its keys
//! and values stand, and which shards it needs.
//!
//! [`COMMANDS`] is a constant in the program's read-only data. [`lookup`] finds a command by the
//! name and number of its arguments; it reads no argument beyond a subcommand's name.
//!
//! Invariants, checked while compiling:
//! 1. `COMMANDS[id as usize].id == id`; per-command counters are arrays of [`CommandId::COUNT`].
//! 2. A container's subcommands stand right behind it, named `container|subcommand`.
//! 3. No two names of commands share a slot of the lookup's hash table.

mod commands;
mod id;
mod lookup;
mod spec;

pub use commands::COMMANDS;
pub use id::CommandId;
pub(crate) use lookup::resolve_partial;
pub use lookup::{find, lookup};
pub use spec::{Category, CommandSpec, Flags, Group, KeySpec, Positions, Scope};
