//! A naive parser of a whole stream: Redis's rules, one after the other, on a copy of everything.

use fulmar_protocol::resp::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, BULK_BYTES_MAX, WireError};

use crate::driver::Outcome;

/// What the complete commands of `stream` come to.
pub(crate) fn parse(mut stream: &[u8], value_bytes_max: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while !stream.is_empty() {
        let parsed = if stream[0] == b'*' {
            multibulk(stream, value_bytes_max)
        } else {
            inline(stream)
        };
        match parsed {
            Ok((outcome, rest)) => {
                outcomes.extend(outcome);
                stream = rest;
            }
            Err(Stop::Incomplete) => break,
            Err(Stop::Wrong(error)) => {
                outcomes.push(Outcome::Error(error));
                break;
            }
        }
    }
    outcomes
}

enum Stop {
    Incomplete,
    Wrong(WireError),
}

type Parsed<'a, T> = Result<(T, &'a [u8]), Stop>;

fn multibulk(stream: &[u8], value_bytes_max: usize) -> Parsed<'_, Option<Outcome>> {
    let (line, mut rest) = line(stream)?;
    let count = integer(&line[1..]).filter(|count| *count <= ARGUMENTS_MAX as i128);
    let count = count.ok_or(Stop::Wrong(WireError::MultibulkLength))?;
    let mut args = Vec::new();
    let mut refused = None;
    for position in 0..count.max(0) {
        let (line, after) = self::line(rest)?;
        let kind = line.first().copied().unwrap_or(b'\r');
        if kind != b'$' {
            return Err(Stop::Wrong(WireError::ExpectedDollar(kind)));
        }
        let length =
            integer(&line[1..]).filter(|length| (0..=BULK_BYTES_MAX as i128).contains(length));
        let length = length.ok_or(Stop::Wrong(WireError::BulkLength))? as usize;
        if length > ARGUMENT_BYTES_MAX && refused.is_none() {
            refused = refusal(&args, position, count, length, value_bytes_max)?;
        }
        if after.len() < length + 2 {
            return Err(Stop::Incomplete);
        }
        args.push(after[..length].to_vec());
        rest = &after[length + 2..];
    }
    if let Some(text) = refused {
        return Ok((Some(Outcome::Refused(text)), rest));
    }
    if args.first().is_some_and(|name| is_http(name)) {
        return Err(Stop::Wrong(WireError::CrossProtocol));
    }
    Ok(((!args.is_empty()).then_some(Outcome::Command(args)), rest))
}

/// Why a long argument is refused; knows the commands that the tests send.
fn refusal(
    args: &[Vec<u8>],
    position: i128,
    count: i128,
    length: usize,
    value_bytes_max: usize,
) -> Result<Option<String>, Stop> {
    let name = args
        .first()
        .map(|name| name.to_ascii_lowercase())
        .unwrap_or_default();
    if is_http(&name) {
        return Err(Stop::Wrong(WireError::CrossProtocol));
    }
    let arity = |name: &str| format!("ERR wrong number of arguments for '{name}' command");
    let text = match (name.as_slice(), position) {
        (b"set", _) if count < 3 => arity("set"),
        (b"mset", _) if count < 3 => arity("mset"),
        (b"echo", _) if count != 2 => arity("echo"),
        (b"set", 2) if length > value_bytes_max => "ERR value is too long".to_owned(),
        (b"set", 2) => return Ok(None),
        (b"set" | b"mset", 1) => "ERR key is too long".to_owned(),
        (b"mset", position) if position % 2 == 1 => "ERR key is too long".to_owned(),
        (b"mset", _) if length > value_bytes_max => "ERR value is too long".to_owned(),
        (b"mset", _) => return Ok(None),
        (b"echo" | b"set", _) => "ERR argument is too long".to_owned(),
        _ => unknown(args),
    };
    Ok(Some(text))
}

fn unknown(args: &[Vec<u8>]) -> String {
    let cut = |text: &[u8], max: usize| {
        let end = text
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(text.len());
        let text = &text[..end.min(max)];
        text.iter()
            .map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b })
            .collect::<Vec<_>>()
    };
    let mut shown = Vec::new();
    for arg in args.iter().skip(1) {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        shown.push(b'\'');
        shown.extend(cut(arg, room));
        shown.extend(b"' ");
    }
    let name = cut(args.first().map_or(&[], Vec::as_slice), 128);
    let text = [
        b"ERR unknown command '",
        &name[..],
        b"', with args beginning with: ",
        &shown,
    ]
    .concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn is_http(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name == b"post" || name == b"host:"
}

/// A line up to its CR, and what follows the byte behind that.
fn line(stream: &[u8]) -> Parsed<'_, &[u8]> {
    match stream.iter().position(|byte| *byte == b'\r') {
        Some(end) if stream.len() >= end + 2 => Ok((&stream[..end], &stream[end + 2..])),
        _ => Err(Stop::Incomplete),
    }
}

/// A number is what prints as its text.
fn integer(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number.into())
}

fn inline(stream: &[u8]) -> Parsed<'_, Option<Outcome>> {
    let end = stream
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Stop::Incomplete)?;
    let mut line = &stream[..end];
    if line.ends_with(b"\r") {
        line = &line[..end - 1];
    }
    let args = split(line).ok_or(Stop::Wrong(WireError::UnbalancedQuotes))?;
    if args.first().is_some_and(|name| is_http(name)) {
        return Err(Stop::Wrong(WireError::CrossProtocol));
    }
    Ok((
        (!args.is_empty()).then_some(Outcome::Command(args)),
        &stream[end + 1..],
    ))
}

/// Redis's `sdssplitargs`, transcribed; `None`: unbalanced quotes.
fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let at = |index: usize| line.get(index).copied();
    let is_space = |byte: Option<u8>| matches!(byte, Some(b' ' | b'\t' | b'\n' | b'\r' | 11 | 12));
    let mut words = Vec::new();
    let mut p = 0;
    loop {
        while is_space(at(p)) {
            p += 1;
        }
        if p >= line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            match (quote, at(p)) {
                (Some(_), None) => return None,
                (None, None | Some(b' ' | b'\n' | b'\r' | b'\t')) => break,
                (Some(b'"'), Some(b'\\'))
                    if at(p + 1) == Some(b'x') && hex(&line[p + 2..]).is_some() =>
                {
                    word.extend(hex(&line[p + 2..]));
                    p += 3;
                }
                (Some(b'"'), Some(b'\\')) if at(p + 1).is_some() => {
                    p += 1;
                    word.push(match line[p] {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                }
                (Some(b'\''), Some(b'\\')) if at(p + 1) == Some(b'\'') => {
                    p += 1;
                    word.push(b'\'');
                }
                (Some(open), Some(byte)) if open == byte => {
                    p += 1;
                    if at(p).is_some() && !is_space(at(p)) {
                        return None;
                    }
                    break;
                }
                (None, Some(byte @ (b'"' | b'\''))) => quote = Some(byte),
                (_, Some(byte)) => word.push(byte),
            }
            p += 1;
        }
        words.push(word);
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits.get(..2)?).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}
