//! `loadgen`: a load generator for caches that speak RESP or HTTP, which measures honestly.
//!
//! In an open loop (`--rate`) latency counts from the moment a request was due, so that what a
//! stalled target does to waiting clients is in the figures (no coordinated omission). See
//! docs/loadgen.md for the flags and the method.
//!
//! ```text
//!   args -> config -> drive (threads, sockets) -> report (tally -> figures -> table, JSON, log)
//!                       |  uses
//!                       +-> workload (keys, values, schedule), wire (requests, replies)
//! ```
//!
//! `workload`, `wire` and `report` are pure except for writing their output; `drive` is the only
//! part that touches sockets, clocks and threads. Nothing here depends on the server's crates.

mod args;
mod config;
mod drive;
mod report;
mod units;
mod wire;
mod workload;

use args::Args;
use config::Config;
use drive::RunEnd;
use report::{Figures, Tally, Timeline, html_page, write_table};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// The target failed or gave wrong answers, or a report could not be written.
const EXIT_FAILED: u8 = 1;
/// The flags cannot be used.
const EXIT_USAGE: u8 = 2;
/// A signal's number is added to this.
const EXIT_SIGNAL: u8 = 128;

fn main() -> ExitCode {
    let args = match Args::from_command_line() {
        Ok(args) => args,
        Err((text, 0)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Err((line, code)) => return fail(&line, code),
    };
    let config = match Config::new(args) {
        Ok(config) => Arc::new(config),
        Err(line) => return fail(&line, EXIT_USAGE),
    };
    let outputs = create(config.hdr_path.as_deref()).and_then(|hdr| {
        let files = ReportFiles {
            json: create(config.json_path.as_deref())?,
            html: create(config.html_path.as_deref())?,
        };
        Ok((hdr, files))
    });
    let (mut hdr_file, files) = match outputs {
        Ok(files) => files,
        Err(line) => return fail(&line, EXIT_USAGE),
    };
    let signal = match watch_signals() {
        Ok(signal) => signal,
        Err(error) => return fail(&format!("cannot watch signals: {error}"), EXIT_FAILED),
    };
    match drive::run(&config, hdr_file.as_mut(), &signal) {
        Ok(end) => finish(&config, end, files),
        Err(failure) => fail(&failure.to_string(), EXIT_FAILED),
    }
}

/// Where a report goes beside the terminal.
struct ReportFiles {
    json: Option<File>,
    html: Option<File>,
}

/// Reports a run and decides the exit code.
fn finish(config: &Config, end: RunEnd, files: ReportFiles) -> ExitCode {
    let RunEnd {
        tally,
        timeline,
        facts,
        log_error,
    } = end;
    let (failure, signal) = (facts.failure.clone(), facts.signal);
    let figures = Figures::new(config, &tally, facts);
    let mut table = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_table(&figures, &mut table);
    print(&String::from_utf8_lossy(&table));

    let mut code = 0;
    if let (Some(file), Some(timeline)) = (files.html, timeline)
        && let Err(error) = write_html(&figures, &tally, &timeline, file)
    {
        complain(&format!("cannot write the --html file: {error}"));
        code = EXIT_FAILED;
    }
    if let Some(file) = files.json
        && let Err(error) = write_json(&figures, file)
    {
        complain(&format!("cannot write the --json file: {error}"));
        code = EXIT_FAILED;
    }
    if let Some(error) = log_error {
        complain(&format!("cannot write the --hdr file: {error}"));
        code = EXIT_FAILED;
    }
    if tally.errors() > 0 {
        complain(&format!("{} replies were errors or wrong", tally.errors()));
        code = EXIT_FAILED;
    }
    if let Some(failure) = failure {
        complain(&failure);
        code = EXIT_FAILED;
    }
    if let Some(signal) = signal {
        code = EXIT_SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(0));
    }
    ExitCode::from(code)
}

/// Creates an output file before anything runs, so that a bad path is known at once.
fn create(path: Option<&Path>) -> Result<Option<File>, String> {
    let Some(path) = path else { return Ok(None) };
    File::create(path)
        .map(Some)
        .map_err(|error| format!("cannot create '{}': {error}", path.display()))
}

/// A number that becomes that of SIGINT or SIGTERM; a second signal ends the process at once.
fn watch_signals() -> io::Result<Arc<AtomicUsize>> {
    let signal = Arc::new(AtomicUsize::new(0));
    let is_second = Arc::new(AtomicBool::new(false));
    for number in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the switch off, and turns it on.
        signal_hook::flag::register_conditional_default(number, Arc::clone(&is_second))?;
        signal_hook::flag::register(number, Arc::clone(&is_second))?;
        let value = usize::try_from(number).expect("signal numbers are positive");
        signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
    }
    Ok(signal)
}

fn write_json(figures: &Figures, mut file: File) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(figures)?;
    text.push('\n');
    file.write_all(text.as_bytes())
}

fn write_html(
    figures: &Figures,
    tally: &Tally,
    timeline: &Timeline,
    mut file: File,
) -> io::Result<()> {
    let page =
        html_page(figures, tally, timeline).map_err(|error| io::Error::other(error.to_string()))?;
    file.write_all(page.as_bytes())
}

fn print(text: &str) {
    // A reader that went away does not change what the exit code says.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "loadgen: {line}");
}

fn fail(line: &str, code: u8) -> ExitCode {
    complain(line);
    ExitCode::from(code)
}
