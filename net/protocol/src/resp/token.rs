//! Replies taken apart again: what one node answered another, in RESP2.

/// The next piece of a reply. An array is followed by its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// `+text`
    Status(&'a [u8]),
    /// `-text`
    Error(&'a [u8]),
    /// `:number`
    Integer(i64),
    /// `$length`, then the bytes.
    Bulk(&'a [u8]),
    /// `$-1`, `*-1`
    Null,
    /// `*count`
    Array(usize),
}

/// Takes a token from the front of `bytes`; `None` if there is no whole one, or none at all.
pub fn next_token<'a>(bytes: &mut &'a [u8]) -> Option<Token<'a>> {
    let (&kind, rest) = bytes.split_first()?;
    let end = memchr::memmem::find(rest, b"\r\n")?;
    let (line, behind) = (&rest[..end], &rest[end + 2..]);
    let number = || str::from_utf8(line).ok()?.parse::<i64>().ok();
    let (token, behind) = match kind {
        b'+' => (Token::Status(line), behind),
        b'-' => (Token::Error(line), behind),
        b':' => (Token::Integer(number()?), behind),
        b'$' | b'*' if line == b"-1" => (Token::Null, behind),
        b'$' => {
            let length = usize::try_from(number()?).ok()?;
            let bulk = behind.get(..length)?;
            let behind = behind[length..].strip_prefix(b"\r\n")?;
            (Token::Bulk(bulk), behind)
        }
        b'*' => (Token::Array(usize::try_from(number()?).ok()?), behind),
        _ => return None,
    };
    *bytes = behind;
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::{Token, next_token};
    use crate::ReplySink;
    use crate::resp::{Encoder, RespVersion};

    #[test]
    fn what_is_encoded_is_taken_apart() {
        let mut bytes = Vec::new();
        let mut sink = Encoder::new(&mut bytes, RespVersion::Resp2);
        sink.array(4);
        sink.status("OK");
        sink.integer(-7);
        sink.bulk(b"a\r\nb");
        sink.null();
        let mut rest = bytes.as_slice();
        let mut tokens = Vec::new();
        while let Some(token) = next_token(&mut rest) {
            tokens.push(token);
        }
        let expected = [
            Token::Array(4),
            Token::Status(b"OK"),
            Token::Integer(-7),
            Token::Bulk(b"a\r\nb"),
            Token::Null,
        ];
        assert_eq!(tokens, expected);
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_incomplete_or_no_reply_is_left() {
        for bytes in [
            &b""[..],
            b"$",
            b"$3\r\nab",
            b"$3\r\nabc",
            b"$3\r\nabcde",
            b":x\r\n",
            b"*-2\r\n",
            b"?x\r\n",
        ] {
            let mut rest = bytes;
            assert_eq!(next_token(&mut rest), None, "{bytes:?}");
            assert_eq!(rest, bytes);
        }
    }
}
