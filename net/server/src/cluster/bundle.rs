//! A transaction's queue as the arguments of one command to another node: EXEC, then for each command the
//! number of its arguments, 4 bytes little-endian, and the arguments. Pure.

use fulmar_protocol::command::Argv;
use fulmar_protocol::node::ARGUMENTS_MAX;
use fulmar_shard::Transaction;

use crate::pending::Pending;

const NAME: &[u8] = b"EXEC";

/// `None` if the queue has too many arguments for one command.
pub(crate) fn bundle(transaction: &Transaction) -> Option<Pending> {
    let mut counts = Vec::new();
    transaction.visit_queue(|args| {
        let count = u32::try_from(args.len()).expect("at most ARGUMENTS_MAX");
        counts.push(count.to_le_bytes());
    });
    let mut bundled: Vec<&[u8]> = vec![NAME];
    let mut counts = counts.iter();
    transaction.visit_queue(|args| {
        bundled.extend(counts.next().map(|count| &count[..]));
        bundled.extend(args);
    });
    let argv = Argv {
        args: &bundled,
        staged: &[],
    };
    (bundled.len() <= ARGUMENTS_MAX).then(|| Pending::new(&argv, Vec::new()))
}

/// What is bundled in a command, if it is a queue.
pub(crate) fn bundled<'a, 'b>(args: &'a [&'b [u8]]) -> Option<&'a [&'b [u8]]> {
    let (&name, rest) = args.split_first()?;
    (name == NAME).then_some(rest)
}

/// Takes the next command off the front; `None` if that is none.
pub(crate) fn take_command<'a, 'b>(bundled: &mut &'a [&'b [u8]]) -> Option<&'a [&'b [u8]]> {
    let (count, rest) = bundled.split_first()?;
    let count = u32::from_le_bytes((*count).try_into().ok()?);
    let (args, rest) = rest.split_at_checked(count as usize)?;
    *bundled = rest;
    Some(args)
}
