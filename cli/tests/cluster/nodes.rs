//! Nodes of a cluster on this machine, as processes.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Longest wait for anything: the machine may be busy with much else.
const PATIENCE: Duration = Duration::from_secs(60);
const LINES_SHOWN: usize = 30;
const LOOK: Duration = Duration::from_millis(50);

/// One process.
pub(crate) struct Node {
    process: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

impl Node {
    /// Starts one; its state is below `directory`.
    pub(crate) fn start(directory: &Path, port: u16, join: Option<u16>) -> Self {
        Self::start_with(directory, port, join, &[])
    }

    /// Starts one with more flags.
    pub(crate) fn start_with(
        directory: &Path,
        port: u16,
        join: Option<u16>,
        flags: &[&str],
    ) -> Self {
        let log = directory.join(format!("{port}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
        command
            .args([
                "serve",
                "--cluster",
                "--shards",
                "2",
                "--max-memory",
                "64MiB",
            ])
            .args(["--port", &port.to_string()])
            .args(["--http-port", &http_port(port).to_string()])
            .arg("--node-dir")
            .arg(directory.join(port.to_string()))
            .args(flags)
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .expect("a file"),
            );
        if let Some(port) = join {
            command.args(["--join", &format!("127.0.0.1:{}", cluster_port(port))]);
        }
        let process = command.spawn().expect("the binary starts");
        let mut node = Self { process, port, log };
        node.wait_until(|node| TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).is_ok());
        node
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        let connection = client.get_connection().expect("it listens");
        let timeout = Some(Duration::from_secs(10));
        connection.set_read_timeout(timeout).expect("a timeout");
        connection
    }

    /// CLUSTER STATUS.
    pub(crate) fn status(&self) -> Option<Value> {
        let client = redis::Client::open(("127.0.0.1", self.port)).ok()?;
        let mut connection = client.get_connection().ok()?;
        let mut command = redis::cmd("CLUSTER");
        let text: String = command.arg("STATUS").query(&mut connection).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// What `/-/readyz` says; nothing if nobody listens.
    pub(crate) fn readiness(&self) -> String {
        let ask = || -> std::io::Result<String> {
            let address = (Ipv4Addr::LOCALHOST, http_port(self.port));
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(
                b"GET /-/readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        ask().unwrap_or_default()
    }

    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_until(|node| node.readiness().contains(r#"{"status":"ready"}"#));
    }

    pub(crate) fn wait_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !is_so(self) {
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > PATIENCE {
                panic!(
                    "it takes too long, or it ended ({ended:?}):\n{}",
                    self.last_lines()
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// The end of its log.
    fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        let pid = Pid::from_raw(pid).expect("not 0");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits until it has ended.
    pub(crate) fn join(&mut self) -> (ExitStatus, Duration) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                return (status, started.elapsed());
            }
            assert!(started.elapsed() < PATIENCE, "it does not end");
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A RESP port with all the others that a node needs beside it free.
pub(crate) fn free_port() -> u16 {
    let mut next = RandomState::new().hash_one(0);
    loop {
        next = next.wrapping_add(4);
        // Below the ports that the kernel gives to those who connect.
        let port = 10_000 + u16::try_from(next % 10_000).expect("below 10,000") / 4 * 4;
        let tcp = [port, port + 1, http_port(port), cluster_port(port)];
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, cluster_port(port)));
        if tcp.iter().all(is_free) && udp.is_ok() {
            return port;
        }
    }
}

fn http_port(port: u16) -> u16 {
    port + 2
}

pub(crate) fn cluster_port(port: u16) -> u16 {
    port + 10_000
}

/// One cluster at a time: a machine that is busy with two takes nodes for dead.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nodes can be started here; says so if not.
pub(crate) fn can_serve() -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
    command.args(["serve", "--port", "0", "--http-port", "0", "--shards", "1"]);
    command.args(["--max-memory", "16MiB"]);
    let process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut process = process.expect("the binary starts");
    let mut output = process.stdout.take().expect("piped");
    // It greets once it serves, and says nothing there if it cannot.
    let can = output.read(&mut [0; 1]).is_ok_and(|count| count > 0);
    let _ = process.kill();
    let mut reason = String::new();
    let _ = process.wait();
    if !can && let Some(mut errors) = process.stderr.take() {
        let _ = errors.read_to_string(&mut reason);
        assert!(reason.contains("io_uring"), "{reason}");
        eprintln!("skipped: {reason}");
    }
    can
}
