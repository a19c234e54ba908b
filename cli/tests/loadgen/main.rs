//! `loadgen` from outside: what it measures, and how it ends when the target misbehaves.
//!
//! Every run has a time limit of its own, so that a hang of the program is a failure here.

mod target;

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use target::{Fault, Protocol, Target};

const RUN_TIME_MAX: Duration = Duration::from_secs(60);

/// A finished run.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
    elapsed: Duration,
}

fn start(target: &str, flags: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["--target", target])
        .args(flags.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// Waits for the end; a run that does not end is killed and fails the test.
fn finish(child: Child, began: Instant) -> Run {
    let pid = Pid::from_child(&child);
    let (ended, waiting) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let is_hung = waiting.recv_timeout(RUN_TIME_MAX).is_err();
        if is_hung {
            // Not yet waited for, so the id is still this child's.
            kill_process(pid, Signal::KILL).expect("the child runs");
        }
        is_hung
    });
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().expect("a child");
    // The watchdog may have given up waiting already.
    let _ = ended.send(());
    assert!(!watchdog.join().expect("no panic"), "loadgen did not end");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Run {
        code: status.code().expect("an exit code"),
        stdout: text(stdout),
        stderr: text(stderr),
        elapsed: began.elapsed(),
    }
}

fn run(target: &str, flags: &str) -> Run {
    let began = Instant::now();
    finish(start(target, flags), began)
}

/// Runs with --json; answers the figures too.
fn run_json(target: &Target, flags: &str) -> (Run, Value) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("figures.json");
    let run = run(
        &target.address(),
        &format!("{flags} --json {}", path.display()),
    );
    let figures = serde_json::from_slice(&std::fs::read(path).expect("written")).expect("JSON");
    (run, figures)
}

/// The row of an operation in the figures.
fn row<'a>(figures: &'a Value, name: &str) -> &'a Value {
    let rows = figures["operations"].as_array().expect("rows");
    rows.iter()
        .find(|row| row["name"] == name)
        .expect("the row")
}

fn count(figures: &Value, name: &str) -> u64 {
    row(figures, name)["count"].as_u64().expect("a count")
}

fn latency_ms(figures: &Value, figure: &str) -> f64 {
    row(figures, "all")["latency_ns"][figure]
        .as_f64()
        .expect("a latency")
        / 1e6
}

fn slower_than(figures: &Value, limit: &str) -> u64 {
    row(figures, "all")["latency_ns"][limit]
        .as_u64()
        .expect("a count")
}

#[test]
fn a_stall_shows_in_full_in_an_open_loop_and_hides_in_a_closed_one() {
    // Nobody is answered for 300 ms, half-way. 2,000 requests a second are due meanwhile: 600
    // late by 300 ms down to 0, so 400 by more than 100 ms and 580 by more than 10 ms.
    let pause = Duration::from_millis(300);
    let stall = Fault::Stall {
        at_request: 2_000,
        pause,
    };
    let target = Target::start(Protocol::Resp, stall);
    let (run, open) = run_json(&target, "--rate 2000 --duration 2 --connections 8");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count(&open, "all"), 4_000);
    assert!(
        (300.0..600.0).contains(&latency_ms(&open, "max")),
        "{}",
        run.stdout
    );
    assert!(latency_ms(&open, "p99_9") > 285.0, "{}", run.stdout);
    let slow = slower_than(&open, "over_100ms");
    assert!(
        (395..=800).contains(&slow),
        "{slow} above 100 ms\n{}",
        run.stdout
    );
    let slow = slower_than(&open, "over_10ms");
    assert!(
        (575..=1_600).contains(&slow),
        "{slow} above 10 ms\n{}",
        run.stdout
    );
    let behind = open["open_loop"]["backlog_max"].as_u64().expect("a count");
    assert!((500..=1_200).contains(&behind), "{behind} behind");
    assert!(
        run.stdout.contains("open loop at 2,000 requests/s"),
        "{}",
        run.stdout
    );

    // The closed loop stops asking while it waits: 8 connections, so 8 slow requests.
    let target = Target::start(Protocol::Resp, stall);
    let (run, closed) = run_json(&target, "--requests 4000 --connections 8");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(latency_ms(&closed, "max") >= 300.0, "{}", run.stdout);
    assert!(slower_than(&closed, "over_100ms") <= 40, "{}", run.stdout);
    assert!(run.stdout.contains("closed loop"), "{}", run.stdout);
}

#[test]
fn the_number_of_requests_is_exact() {
    for flags in [
        "--requests 1",
        "--requests 10007 --threads 3 --connections 7 --pipeline 5",
        "--requests 1234 --rate 5k --threads 2 --connections 4",
        "--requests 500 --connections 50 --pipeline 16 --ratio 1:0",
    ] {
        let target = Target::start(Protocol::Resp, Fault::None);
        let (run, figures) = run_json(&target, flags);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let requests: u64 = flags
            .split(' ')
            .nth(1)
            .expect("N")
            .parse()
            .expect("a number");
        assert_eq!(target.requests(), requests, "{flags}: seen by the target");
        assert_eq!(count(&figures, "all"), requests, "{flags}: reported");
    }
}

#[test]
fn prefill_and_warm_up_are_sent_but_not_counted() {
    let target = Target::start(Protocol::Resp, Fault::None);
    let flags = "--keys 300 --prefill --requests 200 --rate 1000 --warmup 0.1 --ratio 0:1 \
        --threads 2 --verify --value-size uniform:0..5000";
    let (run, figures) = run_json(&target, flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(target.keys(), 300);
    assert_eq!(target.requests(), 300 + 100 + 200);
    assert_eq!(count(&figures, "GET"), 200);
    assert_eq!(row(&figures, "GET")["hits"], 200);
}

#[test]
fn http_targets_are_served_and_checked() {
    let target = Target::start(Protocol::Http, Fault::None);
    let flags = "--protocol http --keys 100 --prefill --requests 2000 --pipeline 4 --verify \
        --value-size 1:1,100:5,100KiB:1 --ratio 1:1 --connections 5";
    let (run, figures) = run_json(&target, flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count(&figures, "GET") + count(&figures, "SET"), 2_000);
    assert_eq!(row(&figures, "GET")["hit_ratio"], 1.0);
    assert_eq!(target.requests(), 2_100);
}

#[test]
fn misses_are_no_errors() {
    for (protocol, flag) in [(Protocol::Resp, "resp"), (Protocol::Http, "http")] {
        let target = Target::start(protocol, Fault::None);
        let flags = format!("--protocol {flag} --requests 300 --ratio 0:1");
        let (run, figures) = run_json(&target, &flags);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(
            (
                row(&figures, "GET")["misses"].as_u64(),
                count(&figures, "GET")
            ),
            (Some(300), 300)
        );
    }
}

#[test]
fn wrong_values_are_found_and_counted() {
    for (protocol, flag) in [(Protocol::Resp, "resp"), (Protocol::Http, "http")] {
        let target = Target::start(protocol, Fault::Corrupt { every: 10 });
        let flags =
            format!("--protocol {flag} --keys 50 --prefill --requests 2000 --ratio 0:1 --verify");
        let (run, figures) = run_json(&target, &flags);
        assert_eq!(run.code, 1);
        assert!(target.corrupted() > 0);
        assert_eq!(
            row(&figures, "GET")["wrong_values"].as_u64(),
            Some(target.corrupted())
        );
        assert_eq!(
            figures["errors"]["wrong value"].as_u64(),
            Some(target.corrupted())
        );
        assert_eq!(count(&figures, "GET") + target.corrupted(), 2_000);
    }
}

#[test]
fn error_replies_are_counted_by_text() {
    let cases = [
        (Protocol::Resp, "resp", "OOM no room"),
        (Protocol::Http, "http", "HTTP 507 no room"),
    ];
    for (protocol, flag, text) in cases {
        let target = Target::start(protocol, Fault::RefuseWrites);
        let flags = format!("--protocol {flag} --requests 100 --ratio 1:0");
        let (run, figures) = run_json(&target, &flags);
        assert_eq!(run.code, 1);
        assert_eq!(figures["errors"][text], 100, "{}", run.stdout);
        assert!(run.stdout.contains(text), "{}", run.stdout);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    }
}

#[test]
fn a_target_that_dies_ends_the_run_with_the_results_so_far() {
    for flags in [
        "--duration 30",
        "--duration 30 --rate 2000 --threads 2 --connections 4",
    ] {
        let target = Target::start(Protocol::Resp, Fault::Die { at_request: 1_000 });
        let (run, figures) = run_json(&target, flags);
        assert_eq!(run.code, 1, "{}", run.stdout);
        assert!(run.elapsed < Duration::from_secs(10), "{:?}", run.elapsed);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(&target.address()), "{}", run.stderr);
        assert!(run.stdout.contains("FAILED"), "{}", run.stdout);
        assert!(
            (500..1_000).contains(&count(&figures, "all")),
            "{}",
            run.stdout
        );
        assert!(figures["failure"].is_string());
    }
}

#[test]
fn a_target_that_never_answers_ends_the_run_by_timeout() {
    for flags in ["", "--rate 1000", "--prefill", "--requests 5 --pipeline 16"] {
        let target = Target::start(Protocol::Resp, Fault::Silent);
        let flags = format!("{flags} --timeout 500ms --connections 3");
        let run = run(&target.address(), &flags);
        assert_eq!(run.code, 1, "{flags}: {}", run.stdout);
        assert!(
            run.elapsed > Duration::from_millis(500),
            "{flags}: {:?}",
            run.elapsed
        );
        assert!(
            run.elapsed < Duration::from_secs(10),
            "{flags}: {:?}",
            run.elapsed
        );
        assert!(
            run.stderr.contains("hangs: no reply"),
            "{flags}: {}",
            run.stderr
        );
    }
}

#[test]
fn what_an_overloaded_target_never_got_is_reported() {
    // One connection without pipelining, and a target that stops for longer than the run and the
    // grace period: 1,000 requests were due, most were never sent.
    let stall = Fault::Stall {
        at_request: 100,
        pause: Duration::from_secs(2),
    };
    let target = Target::start(Protocol::Resp, stall);
    let flags = "--rate 1000 --duration 1 --grace 0.2 --connections 1";
    let (run, figures) = run_json(&target, flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let unsent = figures["open_loop"]["unsent"].as_u64().expect("a count");
    assert_eq!(
        count(&figures, "all") + unsent,
        1_000,
        "none is lost\n{}",
        run.stdout
    );
    assert!(unsent > 800, "{unsent}");
    assert_eq!(target.requests() + unsent, 1_000);
    assert!(run.stdout.contains("RATE NOT KEPT"), "{}", run.stdout);
}

#[test]
fn late_requests_are_sent_in_the_grace_period() {
    let stall = Fault::Stall {
        at_request: 900,
        pause: Duration::from_millis(400),
    };
    let target = Target::start(Protocol::Resp, stall);
    let flags = "--rate 1000 --duration 1 --grace 30 --connections 2";
    let (run, figures) = run_json(&target, flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(count(&figures, "all"), 1_000);
    assert_eq!(figures["open_loop"]["unsent"], 0);
}

#[test]
fn replies_nobody_asked_for_end_the_run() {
    let target = Target::start(Protocol::Resp, Fault::AnswerTwice);
    let run = run(&target.address(), "--requests 100 --connections 1");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("without a request"), "{}", run.stderr);
}

#[test]
fn a_target_of_another_protocol_ends_the_run() {
    // The RESP server sees a line that is no array and closes.
    let target = Target::start(Protocol::Resp, Fault::None);
    let run = run(&target.address(), "--protocol http --requests 10");
    assert_eq!(run.code, 1);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
}

#[test]
fn a_refused_connection_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let run = run(&address, "");
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains(&format!("cannot connect to {address}")),
        "{}",
        run.stderr
    );
    assert_eq!((run.stderr.lines().count(), run.stdout.as_str()), (1, ""));
}

#[test]
fn a_target_that_never_accepts_ends_the_run() {
    // The kernel completes as many handshakes as the listener's queue holds, and no more.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let run = run(&address, "--connections 5000");
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("no answer within 5 s"),
        "{}",
        run.stderr
    );
    assert!(run.elapsed < Duration::from_secs(20), "{:?}", run.elapsed);
}

#[test]
fn signals_print_the_results_so_far() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let target = Target::start(Protocol::Resp, Fault::None);
        let began = Instant::now();
        let child = start(&target.address(), "--duration 60 --connections 4");
        while target.requests() < 500 {
            assert!(began.elapsed() < RUN_TIME_MAX, "no load arrives");
            std::thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).expect("the child runs");
        let run = finish(child, began);
        assert_eq!(run.code, code, "{}", run.stderr);
        assert!(run.elapsed < Duration::from_secs(20), "{:?}", run.elapsed);
        let row = run
            .stdout
            .lines()
            .find(|line| line.starts_with("all"))
            .expect("the table");
        assert_ne!(row.split_whitespace().nth(1), Some("0"), "{row}");
        assert!(run.stdout.contains("STOPPED by signal"), "{}", run.stdout);
    }
}

#[test]
fn bad_flags_are_one_line_and_exit_2() {
    for flags in [
        "--rate x",
        "--threads 2 --connections 1",
        "--distribution zipf:2",
        "--value-size 65MiB",
        "--ttl 0",
        "--json /nonexistent/directory/file",
        "--unknown",
    ] {
        let run = run("127.0.0.1:1", flags);
        assert_eq!(run.code, 2, "{flags}");
        assert_eq!(run.stderr.lines().count(), 1, "{flags}: {}", run.stderr);
        assert!(
            run.stderr.starts_with("loadgen: "),
            "{flags}: {}",
            run.stderr
        );
    }
}

#[test]
fn the_interval_log_holds_every_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log.hdr");
    let target = Target::start(Protocol::Resp, Fault::None);
    let flags = format!(
        "--rate 500 --duration 2.5 --connections 4 --threads 2 --ratio 1:1 --progress --hdr {}",
        path.display()
    );
    let run = run(&target.address(), &flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(logged(&path, "GET"), [0.0, 1.0, 2.0]);
    assert_eq!(logged(&path, "SET"), [0.0, 1.0, 2.0]);
    assert!(
        run.stderr
            .lines()
            .filter(|line| line.contains("requests/s"))
            .count()
            >= 2
    );
}

#[test]
fn connections_are_spread_over_all_targets() {
    let targets = [(); 3].map(|()| Target::start(Protocol::Resp, Fault::None));
    let addresses = targets.each_ref().map(Target::address).join(",");
    let run = run(&addresses, "-c 9 -t 2 -n 9000 --ratio 0:1 --hot-keys 2");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let requests = targets.each_ref().map(Target::requests);
    assert_eq!(requests.iter().sum::<u64>(), 9_000);
    assert!(requests.iter().all(|&count| count > 1_000), "{requests:?}");
}

#[test]
fn the_page_with_plots_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.html");
    let target = Target::start(Protocol::Resp, Fault::None);
    let flags = format!("-r 500 -d 1.5 --html {}", path.display());
    let run = run(&target.address(), &flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let page = std::fs::read_to_string(path).expect("written");
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("open loop at 500 requests/s"), "{page}");
}

/// The starts of an operation's intervals, in seconds of the measurement.
fn logged(path: &Path, operation: &str) -> Vec<f64> {
    let log = std::fs::read(path).expect("written");
    let entries = IntervalLogIterator::new(&log).map(|entry| entry.expect("readable"));
    entries
        .filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        })
        .filter(|interval| interval.tag().is_some_and(|tag| tag.as_str() == operation))
        .map(|interval| interval.start_timestamp().as_secs_f64())
        .collect()
}

#[test]
fn targets_have_their_turns_and_are_compared() {
    let targets = [(), ()].map(|()| Target::start(Protocol::Resp, Fault::None));
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let flags = format!(
        "--target other={} --rounds 3 --requests 500 --keys 100 --prefill --verify -c 4 \
         --json {} --html {}",
        targets[1].address(),
        path("figures.json").display(),
        path("page.html").display()
    );
    let run = run(&format!("first={}", targets[0].address()), &flags);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("other / first: per second"),
        "{}",
        run.stdout
    );
    let text = std::fs::read_to_string(path("figures.json")).expect("written");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let names = ["first", "other"];
    for ((side, target), name) in figures["targets"]
        .as_array()
        .expect("two")
        .iter()
        .zip(&targets)
        .zip(names)
    {
        assert_eq!(side["name"], name);
        assert_eq!(count(side, "all"), 1_500);
        // Filled once, not in each round.
        assert_eq!(target.requests(), 1_600);
    }
    let page = std::fs::read_to_string(path("page.html")).expect("written");
    assert!(page.contains("<title>loadgen: first beside other</title>"));
}

#[test]
fn what_was_measured_of_others_is_reported_when_a_target_cannot_be_reached() {
    let target = Target::start(Protocol::Resp, Fault::None);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("bound");
    drop(nobody);
    let flags = format!("--target gone={address} --requests 500 -c 4");
    let run = run(&format!("there={}", target.address()), &flags);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("there all"), "{}", run.stdout);
    assert!(
        run.stdout.contains("FAILED: cannot connect"),
        "{}",
        run.stdout
    );
}
