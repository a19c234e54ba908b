//! Commands on string values.

use super::expiry::{Clock, Unit, expiry_option, positive_deadline};
use super::{Parsed, is};
use crate::command::table::CommandId;
use crate::command::{
    Argv, BadExpiry, CommandError, DataCommand, Expiry, Set, SetCondition, SetExpiry, SetReply,
    Value, number,
};
use crate::resp::BULK_BYTES_MAX;

/// SET without options.
#[inline]
pub(super) fn plain_set<'a>(argv: Argv<'a>, key: &'a [u8]) -> Parsed<DataCommand<'a>> {
    Ok(DataCommand::Set(Set {
        key,
        value: value_at(CommandId::Set, argv, 2)?,
        condition: SetCondition::Always,
        expiry: SetExpiry::Never,
        reply: SetReply::Ok,
    }))
}

/// GETSET and SETNX: key value.
pub(super) fn store(
    id: CommandId,
    argv: Argv<'_>,
    condition: SetCondition,
    reply: SetReply,
) -> Parsed<DataCommand<'_>> {
    let [_, key, _] = argv.args else {
        return Err(CommandError::WrongArity(id));
    };
    let value = value_at(id, argv, 2)?;
    Ok(DataCommand::Set(Set {
        key,
        value,
        condition,
        expiry: SetExpiry::Never,
        reply,
    }))
}

/// SETEX and PSETEX: key time value.
pub(super) fn set_for(id: CommandId, argv: Argv<'_>, unit: Unit) -> Parsed<DataCommand<'_>> {
    let [_, key, time, _] = argv.args else {
        return Err(CommandError::WrongArity(id));
    };
    let deadline = positive_deadline(id, time, unit, Clock::FromNow)?;
    Ok(DataCommand::Set(Set {
        key,
        value: value_at(id, argv, 3)?,
        condition: SetCondition::Always,
        expiry: SetExpiry::At(deadline),
        reply: SetReply::Ok,
    }))
}

/// SET with options: each may be repeated, those of one kind exclude each other.
pub(super) fn set(argv: Argv<'_>) -> Parsed<DataCommand<'_>> {
    let [_, key, _, options @ ..] = argv.args else {
        return Err(CommandError::WrongArity(CommandId::Set));
    };
    let mut condition = SetCondition::Always;
    let mut reply = SetReply::Ok;
    let mut keep = false;
    let mut time = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, b"NX") && condition != SetCondition::IfPresent {
            condition = SetCondition::IfAbsent;
        } else if is(option, b"XX") && condition != SetCondition::IfAbsent {
            condition = SetCondition::IfPresent;
        } else if is(option, b"GET") {
            reply = SetReply::Old;
        } else if is(option, b"KEEPTTL") && time.is_none() {
            keep = true;
        } else if !keep {
            time = Some(time_option(option, time, &mut options)?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let expiry = match time {
        Some(Time { text, unit, clock }) => {
            SetExpiry::At(positive_deadline(CommandId::Set, text, unit, clock)?)
        }
        None if keep => SetExpiry::Keep,
        None => SetExpiry::Never,
    };
    let value = value_at(CommandId::Set, argv, 2)?;
    Ok(DataCommand::Set(Set {
        key,
        value,
        condition,
        expiry,
        reply,
    }))
}

/// GETEX: key and options.
pub(super) fn get_ex<'a>(key: &'a [u8], options: &'a [&'a [u8]]) -> Parsed<DataCommand<'a>> {
    let mut persist = false;
    let mut time = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, b"PERSIST") && time.is_none() {
            persist = true;
        } else if !persist {
            time = Some(time_option(option, time, &mut options)?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let expiry = match time {
        Some(Time { text, unit, clock }) => {
            let deadline = positive_deadline(CommandId::GetEx, text, unit, clock);
            Some(match deadline {
                Ok(deadline) => Expiry::At(deadline),
                Err(CommandError::NotAnInteger) => Expiry::Bad(BadExpiry::NotAnInteger),
                Err(_) => Expiry::Bad(BadExpiry::OutOfRange),
            })
        }
        None => persist.then_some(Expiry::Never),
    };
    Ok(DataCommand::GetEx { key, expiry })
}

/// EX, PX, EXAT or PXAT with its argument, whose text is read after all options.
#[derive(Clone, Copy)]
struct Time<'a> {
    text: &'a [u8],
    unit: Unit,
    clock: Clock,
}

/// Reads `option` as one that sets a time; it may repeat the `earlier` one, not join another.
fn time_option<'a>(
    option: &[u8],
    earlier: Option<Time<'_>>,
    rest: &mut std::slice::Iter<'_, &'a [u8]>,
) -> Parsed<Time<'a>> {
    let (unit, clock) = expiry_option(option).ok_or(CommandError::Syntax)?;
    if earlier.is_some_and(|time| (time.unit, time.clock) != (unit, clock)) {
        return Err(CommandError::Syntax);
    }
    let text = rest.next().copied().ok_or(CommandError::Syntax)?;
    Ok(Time { text, unit, clock })
}

pub(super) fn append(argv: Argv<'_>) -> Parsed<DataCommand<'_>> {
    let [_, key, _] = argv.args else {
        return Err(CommandError::WrongArity(CommandId::Append));
    };
    Ok(DataCommand::Append {
        key,
        value: value_at(CommandId::Append, argv, 2)?,
    })
}

/// GETRANGE and SUBSTR: key start end.
pub(super) fn get_range<'a>(args: &'a [&'a [u8]]) -> Parsed<DataCommand<'a>> {
    let [_, key, start, end] = args else {
        return Err(CommandError::WrongArity(CommandId::GetRange));
    };
    Ok(DataCommand::GetRange {
        key,
        start: integer(start)?,
        end: integer(end)?,
    })
}

/// SETRANGE key offset value. An empty value writes nothing, so that no offset is too large.
pub(super) fn set_range(argv: Argv<'_>) -> Parsed<DataCommand<'_>> {
    let [_, key, offset, _] = argv.args else {
        return Err(CommandError::WrongArity(CommandId::SetRange));
    };
    let offset = integer(offset)?;
    let start = usize::try_from(offset).map_err(|_negative| CommandError::OffsetOutOfRange)?;
    let bytes_count = argv.bytes_count(3);
    if bytes_count > 0 && start.saturating_add(bytes_count) > BULK_BYTES_MAX {
        return Err(CommandError::StringTooLong);
    }
    Ok(DataCommand::SetRange {
        key,
        offset,
        value: value_at(CommandId::SetRange, argv, 3)?,
    })
}

pub(super) fn incr_by<'a>(key: &'a [u8], rest: &[&[u8]]) -> Parsed<DataCommand<'a>> {
    let delta = integer(
        rest.first()
            .ok_or(CommandError::WrongArity(CommandId::IncrBy))?,
    )?;
    Ok(DataCommand::IncrBy { key, delta })
}

pub(super) fn decr_by<'a>(key: &'a [u8], rest: &[&[u8]]) -> Parsed<DataCommand<'a>> {
    let amount = integer(
        rest.first()
            .ok_or(CommandError::WrongArity(CommandId::DecrBy))?,
    )?;
    let delta = amount
        .checked_neg()
        .ok_or(CommandError::DecrementOverflow)?;
    Ok(DataCommand::IncrBy { key, delta })
}

/// INCRBYFLOAT: an infinite increment has an infinite result, whatever number is stored.
pub(super) fn incr_by_float<'a>(key: &'a [u8], rest: &[&'a [u8]]) -> Parsed<DataCommand<'a>> {
    let text = rest
        .first()
        .ok_or(CommandError::WrongArity(CommandId::IncrByFloat))?;
    let number = number::parse_float(text).ok_or(CommandError::NotAFloat)?;
    if number.is_infinite() {
        return Err(CommandError::IncrementNotFinite);
    }
    Ok(DataCommand::IncrByFloat { key, delta: text })
}

fn integer(text: &[u8]) -> Parsed<i64> {
    number::parse_i64(text).ok_or(CommandError::NotAnInteger)
}

#[inline]
fn value_at(id: CommandId, argv: Argv<'_>, position: usize) -> Parsed<Value<'_>> {
    argv.value(position).ok_or(CommandError::WrongArity(id))
}
