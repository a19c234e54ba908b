//! The line about the last second, on standard error.

use super::{LatencyFigures, Tally};
use crate::units::{grouped, human_ns};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Shows progress: on a terminal one line that is overwritten, elsewhere a line each time.
#[derive(Debug)]
pub(crate) struct Progress {
    is_shown: bool,
    is_terminal: bool,
    is_line_open: bool,
}

impl Progress {
    /// `is_asked`: shown even without a terminal.
    pub(crate) fn new(is_asked: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self {
            is_shown: is_asked || is_terminal,
            is_terminal,
            is_line_open: false,
        }
    }

    /// Shows a text.
    pub(crate) fn show(&mut self, text: &str) {
        if !self.is_shown {
            return;
        }
        let mut out = io::stderr().lock();
        // Nobody can be told that standard error is closed.
        let _ = if self.is_terminal {
            write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{text}")
        };
        self.is_line_open = self.is_terminal;
    }

    /// Shows what was counted in the interval that ends `at` into the measurement.
    pub(crate) fn show_interval(&mut self, tally: &Tally, at: Duration, length: Duration) {
        if self.is_shown {
            self.show(&interval_text(tally, at, length));
        }
    }

    /// Ends the line, so that what follows stands on its own.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.is_line_open) {
            let _ = writeln!(io::stderr());
        }
    }
}

fn interval_text(tally: &Tally, at: Duration, length: Duration) -> String {
    let latencies = tally.latencies();
    let per_second = tally.answered() as f64 / length.as_secs_f64();
    let mut text = format!("{:6.1} s  {:.0} requests/s", at.as_secs_f64(), per_second);
    if let Some(figures) = LatencyFigures::new(&latencies) {
        let LatencyFigures { p50, p99, max, .. } = figures;
        for (name, ns) in [("p50", p50), ("p99", p99), ("max", max)] {
            text.push_str(&format!("  {name} {}", human_ns(ns)));
        }
    }
    let lookups = tally.gets.hits + tally.gets.misses;
    if lookups > 0 {
        let percent = tally.gets.hits as f64 / lookups as f64 * 100.0;
        text.push_str(&format!("  hits {percent:.1} %"));
    }
    if let Some(delay) = LatencyFigures::new(&tally.send_delays) {
        text.push_str(&format!("  behind by at most {}", human_ns(delay.max)));
    }
    if tally.errors() > 0 {
        text.push_str(&format!("  ERRORS {}", grouped(tally.errors())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::interval_text;
    use crate::report::figures::tests::tally;
    use std::time::Duration;

    #[test]
    fn an_interval_is_one_line() {
        let text = interval_text(&tally(), Duration::from_secs(3), Duration::from_secs(2));
        assert!(
            text.starts_with("   3.0 s  5006 requests/s  p50 "),
            "{text}"
        );
        assert!(
            text.contains("hits 75.0 %") && text.ends_with("ERRORS 1"),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }
}
