//! How quantities are written on the command line and in reports: sizes, durations, rates.
//!
//! Pure text to number and back. Every parser takes the whole text or answers one sentence that
//! says what is accepted; clap puts the flag's name before it.

use std::time::Duration;

/// Longest duration accepted (a year): keeps every sum of nanoseconds inside a u64.
const DURATION_SECONDS_MAX: f64 = 366.0 * 24.0 * 3600.0;

/// Parses a size in bytes: `512`, `64B`, `1KiB`, `2MiB`, `1GiB`, or decimal `1kB`, `1MB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(size_message(text)),
    };
    let count: u64 = number.parse().map_err(|_| size_message(text))?;
    count
        .checked_mul(factor)
        .ok_or_else(|| format!("size '{text}' is too large"))
}

/// Parses a duration: plain numbers are seconds; suffixes `us`, `ms`, `s`, `m`, `h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(duration_message(text)),
    };
    let count: f64 = number.parse().map_err(|_| duration_message(text))?;
    let seconds = count * factor;
    if !(0.0..=DURATION_SECONDS_MAX).contains(&seconds) {
        return Err(format!("duration '{text}' is out of range (0 to 366 days)"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Parses a duration that must not be zero.
pub(crate) fn parse_duration_nonzero(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// Splits `1.5KiB` into `1.5` and `KiB`.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn size_message(text: &str) -> String {
    format!("'{text}' is not a size (bytes, or with B, KiB, MiB, GiB, kB, MB, GB)")
}

fn duration_message(text: &str) -> String {
    format!("'{text}' is not a duration (seconds, or with us, ms, s, m, h)")
}

/// A count with thousands separated by commas, as tables show it.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in the unit a reader would pick: `950 ns`, `12.3 us`, `4.56 ms`, `1.23 s`.
pub(crate) fn human_ns(ns: u64) -> String {
    let value = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// A duration in nanoseconds, saturated (it is bounded by the parsers far below that).
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{grouped, human_ns, parse_duration, parse_size};
    use std::time::Duration;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("7B", 7),
            ("1KiB", 1024),
            ("2mib", 2 << 20),
            ("3kB", 3000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1.5KiB",
            "-1",
            "1 KiB",
            "1XB",
            "99999999999999999999",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_size("18446744073709551615KiB").is_err());
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, millis) in [
            ("10", 10_000),
            ("0.25", 250),
            ("500ms", 500),
            ("2s", 2_000),
            ("1.5m", 90_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "1x", "-1", "nan", "1e3", "1..2", "999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }

    #[test]
    fn latencies_pick_a_readable_unit() {
        assert_eq!(human_ns(999), "999 ns");
        assert_eq!(human_ns(12_345), "12.3 us");
        assert_eq!(human_ns(300_000_000), "300.00 ms");
        assert_eq!(human_ns(2_500_000_000), "2.50 s");
    }
}
