//! Commands on keys of any type, and on the whole keyspace.

use super::expiry::{Clock, Unit, deadline};
use super::{Parsed, is};
use crate::command::table::CommandId;
use crate::command::{CommandError, DataCommand, ExpireCondition, number};

/// COUNT of SCAN when it is not given.
const SCAN_COUNT: u64 = 10;

/// EXPIRE and its kind: key time options. Options are checked before the time.
pub(super) fn expire<'a>(
    id: CommandId,
    args: &'a [&'a [u8]],
    unit: Unit,
    clock: Clock,
) -> Parsed<DataCommand<'a>> {
    let [_, key, time, options @ ..] = args else {
        return Err(CommandError::WrongArity(id));
    };
    let condition = expire_condition(options)?;
    Ok(DataCommand::Expire {
        key,
        at: deadline(id, time, unit, clock)?,
        condition,
    })
}

fn expire_condition(options: &[&[u8]]) -> Parsed<ExpireCondition> {
    let mut condition = ExpireCondition::default();
    for option in options {
        let flag = if is(option, b"NX") {
            &mut condition.if_none
        } else if is(option, b"XX") {
            &mut condition.if_some
        } else if is(option, b"GT") {
            &mut condition.if_later
        } else if is(option, b"LT") {
            &mut condition.if_earlier
        } else {
            return Err(CommandError::unsupported_option(option));
        };
        *flag = true;
    }
    let ExpireCondition {
        if_none,
        if_some,
        if_later,
        if_earlier,
    } = condition;
    if if_none && (if_some || if_later || if_earlier) {
        return Err(CommandError::ExpireNxConflict);
    }
    if if_later && if_earlier {
        return Err(CommandError::ExpireGtLtConflict);
    }
    Ok(condition)
}

/// SCAN: cursor and options.
pub(super) fn scan<'a>(args: &'a [&'a [u8]]) -> Parsed<DataCommand<'a>> {
    let [cursor, options @ ..] = args else {
        return Err(CommandError::WrongArity(CommandId::Scan));
    };
    let cursor = number::parse_cursor(cursor).ok_or(CommandError::InvalidCursor)?;
    let mut pattern = None;
    let mut count = SCAN_COUNT;
    let mut of_type = None;
    for option in options.chunks(2) {
        let [name, value] = *option else {
            return Err(CommandError::Syntax);
        };
        if is(name, b"COUNT") {
            let given = number::parse_i64(value).ok_or(CommandError::NotAnInteger)?;
            count = u64::try_from(given).map_err(|_negative| CommandError::Syntax)?;
            if count == 0 {
                return Err(CommandError::Syntax);
            }
        } else if is(name, b"MATCH") {
            pattern = Some(value);
        } else if is(name, b"TYPE") {
            of_type = Some(value);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(DataCommand::Scan {
        cursor,
        pattern,
        count,
        of_type,
    })
}

/// FLUSHALL and FLUSHDB: SYNC and ASYNC are the same here, and allowed.
pub(super) fn flush<'a>(args: &[&[u8]]) -> Parsed<DataCommand<'a>> {
    match args {
        [] => Ok(DataCommand::FlushAll),
        [mode] if is(mode, b"SYNC") || is(mode, b"ASYNC") => Ok(DataCommand::FlushAll),
        _ => Err(CommandError::Syntax),
    }
}
