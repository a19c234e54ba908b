//! What a well-framed request asks for, and whether it may.

use std::borrow::Cow;

use super::body::SetBody;
use super::decoder::Config;
use super::error::RequestError;
use super::head::{BodyLength, Expectation, Head, Method};
use super::request::{KeyCommand, ReplyKind};
use super::target::{Route, Target};
use crate::command::{Deadline, Set, SetCondition, SetExpiry, SetReply, Value};

/// The body bytes of a refused request that are read so that its connection may stay.
///
/// Above it the connection is closed instead. It is above the default limit of a body, so that a
/// client that sends somewhat too much still reads its 413.
pub const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Decides what a well-framed request asks for, or why it is refused. A key that has to be decoded
/// goes to `decoded_key`.
pub(super) fn judge<'a>(
    head: &Head<'a>,
    config: &Config,
    decoded_key: &mut Vec<u8>,
) -> Result<Route<'a>, RequestError> {
    let target = Target::parse(head.target);
    let authority = target.as_ref().ok().and_then(|target| target.authority);
    if let Some(host) = authority.or(head.host) {
        match config.known_hosts.knows(host) {
            Some(true) => {}
            Some(false) => return Err(RequestError::UnknownHost),
            None => return Err(RequestError::Host),
        }
    }
    if head.expectation == Expectation::Unknown {
        return Err(RequestError::Expectation);
    }
    let route = match target {
        // OPTIONS and CONNECT have targets of their own.
        Err(_) if head.method == Method::Other => return Err(RequestError::KeyMethod),
        target => target?.route(decoded_key)?,
    };
    match (route, head.method) {
        (Route::Key(_), Method::Other) => return Err(RequestError::KeyMethod),
        (Route::Page(_), Method::Set | Method::Delete | Method::Other) => {
            return Err(RequestError::PageMethod);
        }
        (Route::Key(_), Method::Set) => {
            if !head.is_json {
                return Err(RequestError::MediaType);
            }
        }
        (_, Method::Get | Method::Delete) => {
            if head.length != BodyLength::Exact(0) {
                return Err(RequestError::UnexpectedBody);
            }
        }
    }
    match head.length {
        BodyLength::Exact(length) if length > config.body_bytes_max as u64 => {
            Err(RequestError::BodyTooLong)
        }
        _ => Ok(route),
    }
}

/// Whether the body of a refused request is read so that the connection may stay.
pub(super) fn is_worth_draining(head: &Head<'_>) -> bool {
    match head.length {
        BodyLength::Exact(0) => true,
        // Whether a client that waits still sends the body when told no is anyone's guess.
        _ if head.expectation != Expectation::None => false,
        BodyLength::Exact(length) => length <= DRAIN_BYTES_MAX as u64,
        BodyLength::Chunked => true,
    }
}

/// Builds the command, whose body is complete. A value with escapes goes to `unescaped`.
pub(super) fn key_command<'a>(
    kind: ReplyKind,
    key: &'a [u8],
    body: &'a [u8],
    unescaped: &'a mut String,
) -> Result<KeyCommand<'a>, RequestError> {
    match kind {
        ReplyKind::Get => return Ok(KeyCommand::Get { key }),
        ReplyKind::Delete => return Ok(KeyCommand::Delete { key }),
        ReplyKind::Set | ReplyKind::Page => {}
    }
    let SetBody { value, ttl_ms } = SetBody::parse(body).map_err(RequestError::Body)?;
    let value = match value {
        Cow::Borrowed(value) => value,
        Cow::Owned(value) => {
            *unescaped = value;
            unescaped
        }
    };
    Ok(KeyCommand::Set(Set {
        key,
        value: Value::Bytes(value.as_bytes()),
        condition: SetCondition::Always,
        expiry: ttl_ms.map_or(SetExpiry::Never, |ms| SetExpiry::At(Deadline::In { ms })),
        reply: SetReply::Ok,
    }))
}
