//! The report that people read.

use super::{Figures, LatencyFigures, OperationFigures};
use crate::units::{grouped, human_ns};
use crate::wire::Operation;
use std::io::{self, Write};

const HEADINGS: [&str; 12] = [
    "",
    "count",
    "per second",
    "hit ratio",
    "errors",
    "mean",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "max",
];

/// Writes the whole report.
pub(crate) fn write_table(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    write_head(figures, out)?;
    let rows = figures.operations.iter();
    write_rows(rows.map(|row| (row.name.to_owned(), row)), out)?;
    writeln!(out)?;
    write_rest(figures, out)
}

/// Writes the report of several targets, which had their turns in one run: each operation's rows beside each
/// other, and how the others' figures relate to those of the first.
pub(crate) fn write_comparison<'f>(sides: &[&'f Figures], out: &mut dyn Write) -> io::Result<()> {
    let Some((first, others)) = sides.split_first() else {
        return Ok(());
    };
    write_head(first, out)?;
    let operations = [Operation::Get, Operation::Set, Operation::Incr];
    let names = operations.map(Operation::name).into_iter().chain(["all"]);
    let rows = names.flat_map(|name| {
        let named = move |side: &&'f Figures| {
            let row = side.operations.iter().find(|row| row.name == name)?;
            Some((format!("{} {name}", side.name), row))
        };
        sides.iter().filter_map(named)
    });
    write_rows(rows, out)?;
    writeln!(out)?;
    for other in others {
        write_ratios(first, other, out)?;
    }
    for side in sides {
        writeln!(out, "\n{}: {} to {}", side.name, side.protocol, side.target)?;
        write_rest(side, out)?;
    }
    Ok(())
}

fn write_ratios(first: &Figures, other: &Figures, out: &mut dyn Write) -> io::Result<()> {
    let (one, two) = (first.all(), other.all());
    let (Some(ours), Some(theirs)) = (&one.latency_ns, &two.latency_ns) else {
        return writeln!(
            out,
            "{} / {}: no answers to compare",
            other.name, first.name
        );
    };
    let ratio = |of: fn(&LatencyFigures) -> u64| of(theirs) as f64 / of(ours).max(1) as f64;
    writeln!(
        out,
        "{} / {}: per second {:.2}, mean {:.2}, p50 {:.2}, p99 {:.2}, p99.9 {:.2}",
        other.name,
        first.name,
        two.per_second / one.per_second.max(f64::MIN_POSITIVE),
        theirs.mean / ours.mean.max(1.0),
        ratio(|latency| latency.p50),
        ratio(|latency| latency.p99),
        ratio(|latency| latency.p99_9)
    )
}

/// How the schedule was kept, what the generator used, and what went wrong.
fn write_rest(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    write_schedule(figures, out)?;
    write_generator(figures, out)?;
    write_errors(figures, out)
}

/// What was measured, where and how.
fn write_head(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    let machine = &figures.machine;
    writeln!(out, "loadgen {}: {}", figures.version, machine.command_line)?;
    writeln!(
        out,
        "{}, {} CPUs: {}",
        machine.kernel, machine.cpus, machine.cpu_model
    )?;
    let Figures {
        target,
        protocol,
        connections,
        threads,
        pipeline,
        ..
    } = figures;
    let kind = match &figures.open_loop {
        Some(open) => format!("open loop at {} requests/s", rate(open.rate)),
        None => "closed loop".to_owned(),
    };
    writeln!(
        out,
        "{kind}, {protocol} to {target}, {connections} connections, {threads} threads, \
         pipeline {pipeline}"
    )?;
    let counted_from = match &figures.open_loop {
        Some(_) => "from the intended start (no coordinated omission)",
        None => "from the send; a closed loop sends less while the target is slow",
    };
    writeln!(
        out,
        "measured {:.2} s after {:.2} s of warm-up; latency in microseconds, {counted_from}\n",
        figures.measured_seconds, figures.warmup_seconds
    )
}

fn write_rows<'f>(
    rows: impl Iterator<Item = (String, &'f OperationFigures)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut cells = vec![HEADINGS.map(str::to_owned)];
    cells.extend(rows.map(|(name, row)| row_cells(name, row)));
    let mut widths = [0; HEADINGS.len()];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in &cells {
        let padded: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        writeln!(out, "{}", padded.join("  "))?;
    }
    Ok(())
}

fn row_cells(name: String, row: &OperationFigures) -> [String; HEADINGS.len()] {
    let hit_ratio = row
        .hit_ratio
        .map_or_else(|| "-".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
    let us = |of: fn(&LatencyFigures) -> f64| {
        row.latency_ns.as_ref().map_or_else(
            || "-".to_owned(),
            |latency| format!("{:.1}", of(latency) / 1e3),
        )
    };
    [
        name,
        grouped(row.count),
        rate(row.per_second),
        hit_ratio,
        grouped(row.errors),
        us(|latency| latency.mean),
        us(|latency| latency.p50 as f64),
        us(|latency| latency.p90 as f64),
        us(|latency| latency.p99 as f64),
        us(|latency| latency.p99_9 as f64),
        us(|latency| latency.p99_99 as f64),
        us(|latency| latency.max as f64),
    ]
}

/// How the schedule was kept, and what has no reply.
fn write_schedule(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    if let Some(open) = &figures.open_loop {
        if let Some(delay) = &open.send_delay_ns {
            writeln!(
                out,
                "schedule: sent after due time p50 {}, p99 {}, max {}; at most {} requests behind",
                human_ns(delay.p50),
                human_ns(delay.p99),
                human_ns(delay.max),
                grouped(open.backlog_max)
            )?;
        }
        if open.unsent > 0 {
            writeln!(
                out,
                "RATE NOT KEPT: {} scheduled requests were never sent, the oldest {:.2} s late at \
                 the end; they are in no percentile, the true ones are worse",
                grouped(open.unsent),
                open.unsent_age_seconds
            )?;
        }
    }
    if figures.unanswered > 0 {
        writeln!(
            out,
            "UNANSWERED: {} requests were sent and got no reply; they are in no percentile",
            grouped(figures.unanswered)
        )?;
    }
    let saturated: u64 = figures
        .operations
        .iter()
        .filter(|row| row.name == "all")
        .filter_map(|row| row.latency_ns.as_ref())
        .map(|latency| latency.saturated)
        .sum();
    if saturated > 0 {
        writeln!(
            out,
            "{} latencies above an hour are recorded as an hour",
            grouped(saturated)
        )?;
    }
    Ok(())
}

fn write_generator(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    let generator = &figures.generator;
    let per_request = generator
        .cpu_us_per_request
        .map_or(String::new(), |us| format!(", {us:.2} us per request"));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // The client library does not tell.
    let traffic = if figures.bytes_sent + figures.bytes_received == 0 {
        String::new()
    } else {
        let (sent, received) = (mib(figures.bytes_sent), mib(figures.bytes_received));
        format!("; {sent:.1} MiB sent, {received:.1} MiB received")
    };
    writeln!(
        out,
        "generator: {:.2} s CPU{per_request}; at most {:.0} % of a thread's time busy, {:.0} % \
         waiting for a CPU{traffic}",
        generator.cpu_seconds,
        generator.busiest_thread * 100.0,
        generator.waited_for_cpu * 100.0,
    )?;
    if figures.is_generator_busy() {
        writeln!(
            out,
            "note: a generator thread was always busy, so the generator may be the limit, not the \
             target; try more --threads (and CPUs)"
        )?;
    }
    if figures.is_generator_starved() {
        writeln!(
            out,
            "note: the generator often had to wait for a CPU; that time is in the latencies"
        )?;
    }
    Ok(())
}

fn write_errors(figures: &Figures, out: &mut dyn Write) -> io::Result<()> {
    if figures.prefill_errors > 0 {
        writeln!(
            out,
            "PREFILL: {} writes failed",
            grouped(figures.prefill_errors)
        )?;
    }
    for (text, count) in &figures.errors {
        // The text is the target's: nothing of it may reach the terminal as a control sequence.
        writeln!(
            out,
            "error, {} times: {}",
            grouped(*count),
            text.escape_debug()
        )?;
    }
    if let Some(failure) = &figures.failure {
        writeln!(out, "FAILED: {failure}")?;
    }
    if let Some(signal) = figures.signal {
        writeln!(out, "STOPPED by signal {signal}: results so far")?;
    }
    Ok(())
}

/// A number per second: whole, unless it is small.
fn rate(per_second: f64) -> String {
    if per_second < 100.0 {
        return format!("{per_second:.2}");
    }
    let digits = format!("{per_second:.0}");
    digits.parse().map_or(digits, grouped)
}

#[cfg(test)]
mod tests {
    use super::{write_comparison, write_table};
    use crate::report::figures::tests::{config, facts, tally};
    use crate::report::{Figures, RunFacts, Tally};

    fn table(figures: &Figures) -> String {
        let mut out = Vec::new();
        write_table(figures, &mut out).expect("memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_table_shows_every_row_in_aligned_columns() {
        let text = table(&Figures::new(&config("-r 5000 -c 7"), &tally(), facts()));
        assert!(text.contains("open loop at 5,000 requests/s, resp to 127.0.0.1:6379, 7 conn"));
        let rows: Vec<&str> = text.lines().skip(5).take(4).collect();
        assert!(rows[0].contains("p99.99"), "{text}");
        assert!(rows[1].trim_start().starts_with("GET  10,000"), "{text}");
        assert!(rows[1].contains("75.00 %"), "{text}");
        assert!(rows[2].trim_start().starts_with("SET"), "{text}");
        assert!(rows[3].trim_start().starts_with("all  10,010"), "{text}");
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
        assert!(text.contains("error, 1 times: OOM full"), "{text}");
    }

    #[test]
    fn targets_are_compared_with_the_first() {
        let one = Figures::new(&config("--target ours=h:1"), &tally(), facts());
        let slower = RunFacts {
            elapsed_ns: 4 * facts().elapsed_ns,
            failure: Some("target hangs".to_owned()),
            ..facts()
        };
        let two = Figures::new(&config("--target theirs=h:2"), &tally(), slower);
        let mut out = Vec::new();
        write_comparison(&[&one, &two], &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let names: Vec<&str> = text.lines().skip(6).take(6).map(str::trim_start).collect();
        let expected = [
            "ours GET",
            "theirs GET",
            "ours SET",
            "theirs SET",
            "ours all",
            "theirs all",
        ];
        for (line, name) in names.iter().zip(expected) {
            assert!(line.starts_with(name), "{name} in {text}");
        }
        assert!(
            text.contains("theirs / ours: per second 0.25, mean 1.00, p50 1.00"),
            "{text}"
        );
        assert!(text.contains("theirs: resp to h:2\n"), "{text}");
        assert!(text.contains("FAILED: target hangs"), "{text}");
        let none = Figures::new(&config("--target none=h:3"), &Tally::new(), facts());
        let mut out = Vec::new();
        write_comparison(&[&one, &none], &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("none / ours: no answers to compare"),
            "{text}"
        );
    }

    #[test]
    fn what_went_wrong_is_said() {
        let facts = RunFacts {
            unanswered: 3,
            unsent: 1_234,
            unsent_age_ns: 2_500_000_000,
            generator_busy: 0.99,
            generator_waited: 0.2,
            failure: Some("target hangs".to_owned()),
            signal: Some(2),
            ..facts()
        };
        let mut tally = tally();
        tally.count_error_text("bad \x1b[2J text");
        tally.prefill_errors = 9;
        let text = table(&Figures::new(&config("-r 1000"), &tally, facts));
        for part in [
            "RATE NOT KEPT: 1,234 scheduled requests were never sent, the oldest 2.50 s late",
            "UNANSWERED: 3",
            "always busy",
            "had to wait for a CPU",
            "PREFILL: 9",
            "bad \\u{1b}[2J text",
            "FAILED: target hangs",
            "STOPPED by signal 2",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_empty_run_has_dashes() {
        let text = table(&Figures::new(
            &config(""),
            &Tally::new(),
            RunFacts::default(),
        ));
        assert!(text.contains("closed loop, resp"), "{text}");
        assert!(
            text.lines()
                .any(|line| line.contains("all") && line.contains('-')),
            "{text}"
        );
    }
}
