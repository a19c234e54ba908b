//! The glob matcher against a recursive one, on short patterns.
//!
//! The input is a pattern, a NUL byte and a text. Both are cut short, because the recursive
//! matcher takes exponential time.
#![no_main]

use fulmar_protocol::command::glob::is_match;
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 12;

/// Stars by recursion, everything else one item and one byte at a time by the matcher itself.
fn model(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
        pattern => {
            let Some((byte, text)) = text.split_first() else {
                return false;
            };
            let item = item_bytes(pattern);
            is_match(&pattern[..item], &[*byte]) && model(&pattern[item..], text)
        }
    }
}

/// The length of the pattern's first item, which is no star.
fn item_bytes(pattern: &[u8]) -> usize {
    match pattern {
        [b'\\', _, ..] => 2,
        [b'[', class @ ..] => {
            let mut at = usize::from(class.first() == Some(&b'^'));
            loop {
                match &class[at..] {
                    [] => return 1 + at,
                    [b']', ..] => return 2 + at,
                    [b'\\', _, ..] => at += 2,
                    [_, b'-', _, ..] => at += 3,
                    [_, ..] => at += 1,
                }
            }
        }
        _ => 1,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let pattern = parts.next().unwrap_or_default();
    let text = parts.next().unwrap_or_default();
    let matched = is_match(pattern, text);
    if pattern.len() <= BYTES_MAX && text.len() <= BYTES_MAX && !text.is_empty() {
        assert_eq!(matched, model(pattern, text));
    }
});
