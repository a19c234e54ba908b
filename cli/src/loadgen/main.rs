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
//! part that touches sockets, clocks and threads. Of the project's crates it uses the client's alone.

mod args;
mod config;
mod drive;
mod report;
mod units;
mod wire;
mod workload;

use args::Args;
use config::Config;
use drive::{Failure, RunEnd};
use report::{Figures, Side, html_page, write_comparison, write_table};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::BTreeMap;
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
    let configs = match Config::each(&args) {
        Ok(configs) => configs,
        Err(line) => return fail(&line, EXIT_USAGE),
    };
    let outputs = create(args.hdr.as_deref()).and_then(|hdr| {
        let files = ReportFiles {
            json: create(args.json.as_deref())?,
            html: create(args.html.as_deref())?,
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
    let rounds = if configs.len() > 1 { args.rounds } else { 1 };
    match run_in_turns(configs, rounds, hdr_file.as_mut(), &signal) {
        Ok(runs) => finish(runs, files),
        Err(failure) => fail(&failure.to_string(), EXIT_FAILED),
    }
}

/// Loads the targets one after the other, and all again in each further round, so that what else the machine
/// does meets each of them. One that fails, or a signal, ends it all; what was measured is reported.
fn run_in_turns(
    configs: Vec<Config>,
    rounds: u32,
    mut hdr_file: Option<&mut File>,
    signal: &AtomicUsize,
) -> Result<Vec<(Arc<Config>, RunEnd)>, Failure> {
    let mut runs: Vec<(Arc<Config>, RunEnd)> = Vec::with_capacity(configs.len());
    for config in configs {
        let config = Arc::new(config);
        let end = match drive::run(&config, true, hdr_file.as_deref_mut(), signal) {
            Err(failure) if runs.is_empty() => return Err(failure),
            end => end.unwrap_or_else(|failure| RunEnd::failed(&failure)),
        };
        let is_over = end.is_early();
        runs.push((config, end));
        if is_over {
            return Ok(runs);
        }
    }
    for _ in 1..rounds {
        for (config, end) in &mut runs {
            let next = drive::run(config, false, None, signal);
            end.append(next.unwrap_or_else(|failure| RunEnd::failed(&failure)));
            if end.is_early() {
                return Ok(runs);
            }
        }
    }
    Ok(runs)
}

/// Where a report goes beside the terminal.
struct ReportFiles {
    json: Option<File>,
    html: Option<File>,
}

/// Reports what the targets did, and decides the exit code.
fn finish(runs: Vec<(Arc<Config>, RunEnd)>, files: ReportFiles) -> ExitCode {
    let mut problems = Vec::new();
    let mut signal = None;
    let mut sides = Vec::with_capacity(runs.len());
    let is_alone = runs.len() == 1;
    for (config, end) in runs {
        let RunEnd {
            tally,
            timeline,
            facts,
            log_error,
        } = end;
        if let Some(error) = log_error {
            problems.push(format!("cannot write the --hdr file: {error}"));
        }
        if tally.errors() > 0 {
            let of_whom = if is_alone {
                String::new()
            } else {
                format!("{}: ", config.name)
            };
            problems.push(format!(
                "{of_whom}{} replies were errors or wrong",
                tally.errors()
            ));
        }
        problems.extend(facts.failure.clone());
        signal = signal.or(facts.signal);
        sides.push((Figures::new(&config, &tally, facts), tally, timeline));
    }
    let figures: Vec<&Figures> = sides.iter().map(|(figures, ..)| figures).collect();
    let mut table = Vec::new();
    // Writing to memory cannot fail.
    let _ = match figures.as_slice() {
        [one] => write_table(one, &mut table),
        several => write_comparison(several, &mut table),
    };
    print(&String::from_utf8_lossy(&table));
    if let Some(file) = files.json
        && let Err(error) = write_json(&figures, file)
    {
        problems.push(format!("cannot write the --json file: {error}"));
    }
    if let Some(file) = files.html {
        let sides = sides.iter().map(|(figures, tally, timeline)| Side {
            figures,
            tally,
            timeline,
        });
        let sides: Vec<Side<'_>> = sides.collect();
        if let Err(error) = write_html(&sides, file) {
            problems.push(format!("cannot write the --html file: {error}"));
        }
    }
    problems.iter().for_each(|problem| complain(problem));
    let code = match signal {
        Some(signal) => EXIT_SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(0)),
        None if problems.is_empty() => 0,
        None => EXIT_FAILED,
    };
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

/// Of one target an object, of several `{"targets": [...]}`.
fn write_json(figures: &[&Figures], mut file: File) -> io::Result<()> {
    let mut text = match figures {
        [one] => serde_json::to_string_pretty(one),
        several => serde_json::to_string_pretty(&BTreeMap::from([("targets", several)])),
    }?;
    text.push('\n');
    file.write_all(text.as_bytes())
}

fn write_html(sides: &[Side<'_>], mut file: File) -> io::Result<()> {
    let page = html_page(sides).map_err(|error| io::Error::other(error.to_string()))?;
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
