//! Glob patterns as KEYS, SCAN, CONFIG GET and COMMAND LIST use them.
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[a-c]`, `[^abc]` one of a class, `\x` the byte `x`.
//! Malformed patterns have the meaning that Redis's matcher gives them: a class that is not closed
//! ends with the pattern, a last `\` is itself, and the ends of a range may be swapped.

/// Does the whole of `text` match `pattern`?
///
/// Takes O(`pattern` x `text`) steps at worst, O(`text`) without `*` in the middle, and no memory:
/// a mismatch goes back to the last `*` only, because what an earlier one could give up, the last
/// one can take.
#[must_use]
pub fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    // The empty text is matched by one `*`, and by none but that: so does Redis.
    if text.is_empty() {
        return matches!(pattern, [] | [b'*']);
    }
    let mut pattern_rest = pattern;
    let mut text_rest = text;
    let mut last_star = None;
    while let [byte, after_byte @ ..] = text_rest {
        if let [b'*', after_star @ ..] = pattern_rest {
            if after_star.is_empty() {
                return true;
            }
            let Some(found) = seek(after_star, text_rest) else {
                return false;
            };
            last_star = Some((after_star, found));
            pattern_rest = after_star;
            text_rest = found;
            continue;
        }
        if let Some(after_item) = match_item(pattern_rest, *byte) {
            pattern_rest = after_item;
            text_rest = after_byte;
            continue;
        }
        // Let the last star take one more byte, and try again behind it.
        let Some((after_star, [_, rest @ ..])) = last_star else {
            return false;
        };
        let Some(found) = seek(after_star, rest) else {
            return false;
        };
        last_star = Some((after_star, found));
        pattern_rest = after_star;
        text_rest = found;
    }
    pattern_rest.iter().all(|&byte| byte == b'*')
}

/// The rest of `text` from the first place where `pattern`, which follows a star, may match;
/// `None` if that is nowhere.
fn seek<'a>(pattern: &[u8], text: &'a [u8]) -> Option<&'a [u8]> {
    match pattern {
        [] | [b'*' | b'?' | b'[' | b'\\', ..] => Some(text),
        [literal, ..] => memchr::memchr(*literal, text).map(|at| &text[at..]),
    }
}

/// Matches one byte with the first item of `pattern`, which is no star; gives what follows it.
fn match_item(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (matched, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte, rest),
    };
    matched.then_some(rest)
}

/// Is `byte` in the class whose text begins behind its `[`? Gives also what follows the class.
fn match_class(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match class {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        match rest {
            [b'\\', literal, after @ ..] => {
                found |= *literal == byte;
                rest = after;
            }
            [b']', after @ ..] => return (found != negated, after),
            [] => return (found != negated, rest),
            [start, b'-', end, after @ ..] => {
                // Redis compares C chars, which are signed where it is mostly run.
                let (start, end) = (start.cast_signed(), end.cast_signed());
                found |= (start.min(end)..=start.max(end)).contains(&byte.cast_signed());
                rest = after;
            }
            [literal, after @ ..] => {
                found |= *literal == byte;
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::is_match;

    /// Redis's matcher, transcribed: recursive at each star.
    fn model(mut pattern: &[u8], mut text: &[u8]) -> bool {
        let at = |slice: &[u8], index: usize| slice.get(index).copied().unwrap_or(0);
        while !pattern.is_empty() && !text.is_empty() {
            match pattern[0] {
                b'*' => {
                    while at(pattern, 1) == b'*' {
                        pattern = &pattern[1..];
                    }
                    if pattern.len() == 1 {
                        return true;
                    }
                    return (0..text.len()).any(|skip| model(&pattern[1..], &text[skip..]));
                }
                b'?' => text = &text[1..],
                b'[' => {
                    pattern = &pattern[1..];
                    let negated = at(pattern, 0) == b'^';
                    if negated {
                        pattern = &pattern[1..];
                    }
                    let mut found = false;
                    let mut closed = true;
                    loop {
                        if pattern.len() >= 2 && pattern[0] == b'\\' {
                            pattern = &pattern[1..];
                            found |= pattern[0] == text[0];
                        } else if at(pattern, 0) == b']' {
                            break;
                        } else if pattern.is_empty() {
                            closed = false;
                            break;
                        } else if pattern.len() >= 3 && pattern[1] == b'-' {
                            let (mut start, mut end) = (pattern[0] as i8, pattern[2] as i8);
                            if start > end {
                                (start, end) = (end, start);
                            }
                            pattern = &pattern[2..];
                            found |= (text[0] as i8) >= start && (text[0] as i8) <= end;
                        } else {
                            found |= pattern[0] == text[0];
                        }
                        pattern = &pattern[1..];
                    }
                    if found == negated {
                        return false;
                    }
                    text = &text[1..];
                    if !closed {
                        continue;
                    }
                }
                first => {
                    if first == b'\\' && pattern.len() >= 2 {
                        pattern = &pattern[1..];
                    }
                    if pattern[0] != text[0] {
                        return false;
                    }
                    text = &text[1..];
                }
            }
            pattern = &pattern[1..];
            if text.is_empty() {
                while at(pattern, 0) == b'*' {
                    pattern = &pattern[1..];
                }
                break;
            }
        }
        pattern.is_empty() && text.is_empty()
    }

    #[test]
    fn hand_cases_match_as_redis_answers_them() {
        // Asked of Redis 7.0.15 by KEYS.
        for (pattern, text, expected) in CASES {
            assert_eq!(is_match(pattern, text), *expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(1000);
        let text = vec![b'a'; 10_000];
        assert!(is_match(&pattern, &text));
        assert!(!is_match(&[pattern.as_slice(), b"b"].concat(), &text));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn it_agrees_with_the_recursive_matcher(
            pattern in vec(select(&b"ab*?[]^-\\\xff"[..]), 0..10),
            text in vec(select(&b"ab-]^\\\xff"[..]), 0..8),
        ) {
            let expected = pattern == b"*" || model(&pattern, &text);
            prop_assert_eq!(is_match(&pattern, &text), expected);
        }
    }

    const CASES: &[(&[u8], &[u8], bool)] = &[
        (b"*", b"", true),
        (b"**", b"", false),
        (b"a*", b"a", true),
        (b"a**", b"a", true),
        (b"**", b"a", true),
        (b"", b"a", false),
        (b"", b"", true),
        (b"?", b"a", true),
        (b"?", b"", false),
        (b"a?c", b"abc", true),
        (b"[abc]", b"b", true),
        (b"[a-c]", b"b", true),
        (b"[c-a]", b"b", true),
        (b"[^a]", b"b", true),
        (b"[^a]", b"a", false),
        (b"[", b"[", false),
        (b"[", b"a", false),
        (b"[a", b"a", true),
        (b"[ab", b"b", true),
        (b"[^", b"x", true),
        (b"[]", b"]", false),
        (b"[]a]", b"a", false),
        (b"[^]a]", b"b]a]", false),
        (b"[^]", b"x", true),
        (b"[a-]", b"-", false),
        (b"[a-]", b"a", true),
        (b"[a-", b"a", true),
        (b"[a-", b"-", true),
        (b"\\", b"\\", true),
        (b"a\\", b"a\\", true),
        (b"\\*", b"*", true),
        (b"\\*", b"a", false),
        (b"\\a", b"a", true),
        (b"[\\]]", b"]", true),
        (b"[\\", b"\\", true),
        (b"[\\-a]", b"-", true),
        (b"a*b*c", b"axxbyyc", true),
        (b"a*b*c", b"axxbyy", false),
        (b"*a", b"ba", true),
        (b"*a*", b"bab", true),
        (b"a*a", b"a", false),
        (b"a*?", b"a", false),
        (b"a*?", b"ab", true),
        (b"*[ab]", b"xb", true),
        (b"*\\", b"x\\", true),
        (b"[\xe0-\xff]", b"\xf0", true),
        (b"[a-\xff]", b"b", false),
        (b"[a-\xff]", b" ", true),
        (b"[a-\xff]", b"A", true),
        (b"\x00", b"\x00", true),
        (b"a\x00b", b"a\x00b", true),
        (b"*\x00*", b"a\x00b", true),
        (b"h[^e]llo", b"hallo", true),
        (b"h[^e]llo", b"hello", false),
        (b"h[a-b]llo", b"hbllo", true),
        (b"[a-z-9]", b"-", true),
        (b"[a-z-9]", b"9", true),
        (b"[a\\-z]", b"b", false),
        (b"[a-\\]]", b"]", false),
        (b"[^a-c]", b"d", true),
        (b"GE*", b"get", false),
        (b"x***y", b"xy", true),
        (b"x***y", b"xzzy", true),
        (b"?*", b"a", true),
        (b"*?", b"", false),
        (b"[*]", b"*", true),
        (b"[?]", b"a", false),
        (b"a]", b"a]", true),
    ];
}
