//! From a command's name to its row: one multiplication, one compare of at most 16 folded bytes.
//!
//! Names of commands are letters only, at most 16, so a name is folded to lower case by setting
//! one bit in each byte and compared as two words. The words' hash is perfect: the table of slots
//! is built while compiling, where a collision fails the build.

use super::{COMMANDS, CommandId, CommandSpec};
use crate::command::CommandError;

/// Bit 5 of a byte turns an ASCII capital into a small letter, and makes no letter of anything
/// that is none.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// Found by trial: with it no two names collide.
const MULTIPLIER: u64 = 0x847e_2dc7_79d8_6045;

const SLOT_BITS: u32 = 8;

/// Stands in the slots that no command has.
const NO_COMMAND: u8 = u8::MAX;

const _: () = assert!(CommandId::COUNT < NO_COMMAND as usize);

/// A name in lower case, as words that tell all names of one length apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Folded {
    first: u64,
    last: u64,
    bytes_count: usize,
}

impl Folded {
    /// `None` if no command's name has this length.
    #[inline]
    const fn new(name: &[u8]) -> Option<Self> {
        let (first, last) = match *name {
            [a, b] => (a as u64 | (b as u64) << 8, 0),
            [a, b, c] => (a as u64 | (b as u64) << 8 | (c as u64) << 16, 0),
            _ => {
                if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
                    if name.len() > 16 {
                        return None;
                    }
                    (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
                } else if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
                    let first = u32::from_le_bytes(*first) as u64;
                    (first | (u32::from_le_bytes(*last) as u64) << 32, 0)
                } else {
                    return None;
                }
            }
        };
        Some(Self {
            first: first | FOLD,
            last: last | FOLD,
            bytes_count: name.len(),
        })
    }

    #[inline]
    const fn slot(self) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(1)).wrapping_add(self.bytes_count as u64);
        (mixed.wrapping_mul(MULTIPLIER) >> (u64::BITS - SLOT_BITS)) as usize
    }
}

/// What is compared with a name, for each row; subcommands have theirs, but no slot.
static NAMES: [Folded; CommandId::COUNT] = {
    let mut names = [Folded {
        first: 0,
        last: 0,
        bytes_count: usize::MAX,
    }; CommandId::COUNT];
    let mut index = 0;
    while index < COMMANDS.len() {
        if is_command(&COMMANDS[index]) {
            names[index] = match Folded::new(COMMANDS[index].name.as_bytes()) {
                Some(name) => name,
                None => panic!("a command's name has 2 to 16 letters"),
            };
        }
        index += 1;
    }
    names
};

static SLOTS: [u8; 1 << SLOT_BITS] = {
    let mut slots = [NO_COMMAND; 1 << SLOT_BITS];
    let mut index = 0;
    while index < COMMANDS.len() {
        if is_command(&COMMANDS[index]) {
            let slot = NAMES[index].slot();
            assert!(
                slots[slot] == NO_COMMAND,
                "two names collide: find another MULTIPLIER"
            );
            slots[slot] = COMMANDS[index].id as u8;
        }
        index += 1;
    }
    slots
};

/// Not a subcommand: these have a `|`, all others letters only.
const fn is_command(spec: &CommandSpec) -> bool {
    let name = spec.name.as_bytes();
    let mut index = 0;
    while index < name.len() {
        if name[index] == b'|' {
            return false;
        }
        assert!(
            name[index].is_ascii_lowercase(),
            "names of commands are small letters"
        );
        index += 1;
    }
    true
}

/// The command or container called `name`, in any case.
#[must_use]
#[inline]
pub fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let name = Folded::new(name)?;
    let index = usize::from(SLOTS[name.slot()]);
    if *NAMES.get(index)? == name {
        COMMANDS.get(index)
    } else {
        None
    }
}

/// Finds the command that `args` call, name(s) first, and checks their number.
///
/// # Errors
///
/// Unknown command, unknown subcommand, or wrong number of arguments, in this order.
#[inline]
pub fn lookup(args: &[&[u8]]) -> Result<&'static CommandSpec, CommandError> {
    resolve_partial(args, args.len())
}

/// [`lookup`] for a command of `args_count` arguments of which only the first are known.
#[inline]
pub(crate) fn resolve_partial(
    args: &[&[u8]],
    args_count: usize,
) -> Result<&'static CommandSpec, CommandError> {
    let found = args.first().and_then(|name| find(name));
    let Some(mut spec) = found else {
        return Err(CommandError::unknown_command(args));
    };
    if spec.subcommands_count > 0 {
        spec = find_subcommand(spec, args)?;
    }
    if spec.takes(args_count) {
        Ok(spec)
    } else {
        Err(CommandError::WrongArity(spec.id))
    }
}

/// The subcommand that `args` name, or the container itself if they name none.
#[cold]
fn find_subcommand(
    container: &'static CommandSpec,
    args: &[&[u8]],
) -> Result<&'static CommandSpec, CommandError> {
    let Some(wanted) = args.get(1) else {
        return Ok(container);
    };
    let prefix_bytes = container.name.len() + 1;
    container
        .subcommands()
        .iter()
        .find(|spec| spec.name.as_bytes()[prefix_bytes..].eq_ignore_ascii_case(wanted))
        .ok_or_else(|| CommandError::unknown_subcommand(container.id, wanted))
}

#[cfg(test)]
mod tests {
    use super::{find, lookup};
    use crate::command::table::COMMANDS;

    #[test]
    fn every_command_is_found_in_any_case() {
        for spec in COMMANDS.iter().filter(|spec| !spec.is_subcommand()) {
            let name = spec.name.as_bytes();
            let capitals = name.to_ascii_uppercase();
            let mut mixed = name.to_vec();
            mixed[0].make_ascii_uppercase();
            for spelling in [name, &capitals, &mixed] {
                assert_eq!(
                    find(spelling).map(|found| found.id),
                    Some(spec.id),
                    "{}",
                    spec.name
                );
            }
        }
    }

    #[test]
    fn every_subcommand_is_found_behind_its_container() {
        for spec in COMMANDS.iter().filter(|spec| spec.is_subcommand()) {
            let (container, name) = spec.name.split_once('|').unwrap();
            let name = name.to_ascii_uppercase();
            let mut args = vec![container.as_bytes(), name.as_bytes()];
            args.resize(usize::from(spec.arity.unsigned_abs()), b"x");
            assert_eq!(
                lookup(&args).map(|found| found.id),
                Ok(spec.id),
                "{}",
                spec.name
            );
        }
    }

    #[test]
    fn what_differs_in_a_byte_is_not_found() {
        for spec in COMMANDS.iter().filter(|spec| !spec.is_subcommand()) {
            let name = spec.name.as_bytes();
            for position in 0..name.len() {
                for byte in 0..=u8::MAX {
                    let mut other = name.to_vec();
                    other[position] = byte;
                    let expected = COMMANDS
                        .iter()
                        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(&other));
                    assert_eq!(
                        find(&other).map(|found| found.id),
                        expected.map(|spec| spec.id)
                    );
                }
            }
            assert!(find(&[name, b"x"].concat()).is_none());
            assert!(find(&[name, name, name, name, name].concat()).is_none());
            assert!(find(&name[..name.len() - 1]).is_none_or(|found| found.id != spec.id));
        }
        assert!(find(b"").is_none());
        assert!(find(b"client|id").is_none());
    }
}
