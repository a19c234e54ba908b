//! The referee: the same random commands to redis-server and to a node of shards, byte for byte.
//!
//! Skipped, with a message, where there is no redis-server. What legitimately differs is not sent
//! (RANDOMKEY, the order of SCAN) or compared with tolerance (milliseconds left).

use std::cell::RefCell;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::{ProptestConfig, Strategy};
use proptest::test_runner::{TestCaseError, TestRunner};

use commands::{any_command, episode};

use crate::support::{Rig, encode, words};

mod commands;

/// Milliseconds by which the two may differ in time left: they do not execute at one moment.
const TOLERANCE_MS: i64 = 2_000;
const TIMEOUT: Duration = Duration::from_secs(10);

type Args = Vec<Vec<u8>>;

/// A command and which of two clients sends it; printed readably when a test fails.
#[derive(Clone)]
struct Line {
    client: usize,
    args: Args,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.client, show(&self.args))
    }
}

/// A redis-server of our own, killed when dropped.
struct Referee {
    process: Child,
    connections: [Connection; 2],
    socket: PathBuf,
}

struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Referee {
    /// Listens on a socket file: a port found free might be another's by the time it is bound.
    fn start() -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("fulmar-referee-{}-{number}", std::process::id());
        let directory = std::env::temp_dir();
        let socket = directory.join(name);
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .args(["--databases", "1", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => panic!("redis-server does not start: {error}"),
        };
        Some(Self {
            process,
            connections: [connect(&socket), connect(&socket)],
            socket,
        })
    }

    /// Sends a command from one client; gives its reply.
    fn ask(&mut self, client: usize, args: &Args) -> Vec<u8> {
        self.connections[client]
            .ask(std::slice::from_ref(args))
            .remove(0)
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        self.process
            .kill()
            .and_then(|()| self.process.wait())
            .expect("it is our own process");
        // Killed, it left its file; the test's result matters more than that.
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Connection {
    /// Sends commands in one go; gives a reply for each.
    fn ask(&mut self, commands: &[Args]) -> Vec<Vec<u8>> {
        let mut output = Vec::new();
        for args in commands {
            let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            output.extend_from_slice(&encode(&args));
        }
        self.stream
            .write_all(&output)
            .expect("redis-server listens");
        commands.iter().map(|_| self.read_reply()).collect()
    }

    fn read_reply(&mut self) -> Vec<u8> {
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some(end) = reply_end(&self.input, 0) {
                let rest = self.input.split_off(end);
                return std::mem::replace(&mut self.input, rest);
            }
            let count = self
                .stream
                .read(&mut buffer)
                .expect("redis-server answers in time");
            assert!(count > 0, "redis-server closed the connection");
            self.input.extend_from_slice(&buffer[..count]);
        }
    }
}

fn connect(socket: &Path) -> Connection {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                stream
                    .set_read_timeout(Some(TIMEOUT))
                    .expect("a duration above zero");
                return Connection {
                    stream,
                    input: Vec::new(),
                };
            }
            Err(error) => assert!(
                Instant::now() < deadline,
                "redis-server is not there: {error}"
            ),
        }
        std::thread::yield_now();
    }
}

/// Where the reply that starts at `start` ends, if it is complete.
fn reply_end(bytes: &[u8], start: usize) -> Option<usize> {
    let line = bytes
        .get(start..)?
        .windows(2)
        .position(|pair| pair == b"\r\n")?;
    let text = std::str::from_utf8(&bytes[start + 1..start + line]).unwrap_or("");
    let after = start + line + 2;
    let count = || text.parse::<i64>().expect("a count");
    match bytes[start] {
        b'$' | b'=' => {
            let Ok(count) = usize::try_from(count()) else {
                return Some(after);
            };
            let end = after + count + 2;
            (bytes.len() >= end).then_some(end)
        }
        kind @ (b'*' | b'%' | b'~') => {
            let each = if kind == b'%' { 2 } else { 1 };
            let mut end = after;
            for _ in 0..count().max(0) * each {
                end = reply_end(bytes, end)?;
            }
            Some(end)
        }
        _ => Some(after),
    }
}

fn show(args: &Args) -> String {
    let shown = args.iter().map(|arg| {
        let start = &arg[..arg.len().min(40)];
        format!(
            "{}{}",
            start.escape_ascii(),
            if arg.len() > 40 { "..." } else { "" }
        )
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn integer(reply: &[u8]) -> Option<i64> {
    let text = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// All integers inside a reply may be times left; everything else must be the same.
fn agree(ours: &[u8], theirs: &[u8]) -> bool {
    if ours == theirs {
        return true;
    }
    let lines = |reply: &[u8]| -> Vec<Vec<u8>> {
        reply
            .split_inclusive(|&byte| byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (ours, theirs) = (lines(ours), lines(theirs));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|(ours, theirs)| {
            ours == theirs
                || match (integer(ours), integer(theirs)) {
                    (Some(ours), Some(theirs)) => {
                        ours > 50_000 && theirs > 50_000 && (ours - theirs).abs() <= TOLERANCE_MS
                    }
                    _ => false,
                }
        })
}

fn now_unix_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million")
}

/// How the two sides are set up.
#[derive(Clone, Copy)]
struct Setup {
    cases: u32,
    shards_count: u16,
    /// Version of RESP that both clients speak.
    version: u8,
}

fn compare(referee: &mut Referee, setup: Setup, lines: &[Line]) -> Result<(), String> {
    let hello = format!("HELLO {}", setup.version);
    let mut rig = Rig::new(setup.shards_count);
    let mut clients = [rig.client(), rig.client()];
    for (connection, client) in referee.connections.iter_mut().zip(&mut clients) {
        connection.ask(&["DISCARD", "UNWATCH", "FLUSHALL", &hello].map(args_of));
        rig.run(client, &words(&hello));
    }
    rig.now.unix_ms = now_unix_ms();
    let mut theirs = Vec::new();
    // One after the other where the client changes, else in one go.
    for run in lines.chunk_by(|a, b| a.client == b.client) {
        let commands: Vec<Args> = run.iter().map(|line| line.args.clone()).collect();
        theirs.extend(referee.connections[run[0].client].ask(&commands));
    }
    for (index, (line, theirs)) in lines.iter().zip(&theirs).enumerate() {
        let args: Vec<&[u8]> = line.args.iter().map(Vec::as_slice).collect();
        let ours = rig.run(&mut clients[line.client], &args);
        if !agree(&ours, theirs) {
            return Err(format!(
                "command {index}, {line:?}: ours {}, redis-server's {}",
                ours.escape_ascii(),
                theirs.escape_ascii()
            ));
        }
    }
    rig.check_integrity();
    Ok(())
}

fn args_of(line: &str) -> Args {
    words(line).into_iter().map(<[u8]>::to_vec).collect()
}

fn any_sequence() -> impl Strategy<Value = Vec<Line>> {
    let is_second = proptest::bool::weighted(0.2);
    let line = (is_second, any_command()).prop_map(|(is_second, args)| Line {
        client: usize::from(is_second),
        args,
    });
    proptest::collection::vec(line, 1..60).prop_map(with_times_apart)
}

/// Relative times of a sequence are at least ten seconds apart: Redis's clock goes on between two commands,
/// and GT or LT between deadlines that were meant to be the same is anybody's guess.
fn with_times_apart(mut lines: Vec<Line>) -> Vec<Line> {
    for (index, line) in (0u64..).zip(&mut lines) {
        for arg in &mut line.args {
            let step = match &arg[..] {
                b"100" | b"1000" | b"2000" => 10,
                b"100000" | b"1000000" => 10_000,
                _ => continue,
            };
            let time: u64 = std::str::from_utf8(arg)
                .expect("digits")
                .parse()
                .expect("a number");
            *arg = (time + index * step).to_string().into_bytes();
        }
    }
    lines
}

fn judge(setup: Setup, sequences: impl Strategy<Value = Vec<Line>>) {
    let Some(server) = Referee::start() else {
        eprintln!("skipped: there is no redis-server on PATH");
        return;
    };
    let server = RefCell::new(server);
    let cases = setup.cases;
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&sequences, |lines| {
        let compared = compare(&mut server.borrow_mut(), setup, &lines);
        compared.map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn one_shard_replies_as_redis_does() {
    judge(
        Setup {
            cases: 300,
            shards_count: 1,
            version: 2,
        },
        any_sequence(),
    );
}

#[test]
fn four_shards_reply_as_redis_does() {
    judge(
        Setup {
            cases: 300,
            shards_count: 4,
            version: 2,
        },
        any_sequence(),
    );
}

#[test]
fn replies_in_resp3_are_those_of_redis() {
    judge(
        Setup {
            cases: 150,
            shards_count: 2,
            version: 3,
        },
        any_sequence(),
    );
}

#[test]
fn transactions_abort_when_those_of_redis_do() {
    let episodes = proptest::collection::vec(episode(), 1..6)
        .prop_map(|episodes| episodes.into_iter().flatten().collect());
    judge(
        Setup {
            cases: 600,
            shards_count: 4,
            version: 2,
        },
        episodes,
    );
}

#[test]
fn expiry_agrees_with_redis_in_real_time() {
    let Some(mut server) = Referee::start() else {
        eprintln!("skipped: there is no redis-server on PATH");
        return;
    };
    let mut rig = Rig::new(2);
    let mut client = rig.client();
    let before = [
        "SET short x PX 30",
        "SET long x PX 100000",
        "SET w 1 PX 30",
        "WATCH w",
    ];
    let after = [
        "GET short",
        "EXISTS short long",
        "TTL short",
        "TTL long",
        "MULTI",
        "INCR other",
        "EXEC",
        "GET other",
    ];
    let mut ask_both = |line: &str, rig: &mut Rig| {
        let ours = rig.run(&mut client, &words(line));
        assert_eq!(ours, server.ask(0, &args_of(line)), "{line}");
    };
    before.iter().for_each(|line| ask_both(line, &mut rig));
    // The referee's clock cannot be set; 30 ms must pass on it.
    std::thread::sleep(Duration::from_millis(40));
    rig.advance_ms(40);
    after.iter().for_each(|line| ask_both(line, &mut rig));
}
