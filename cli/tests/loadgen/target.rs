//! A tiny server to point the load generator at: a map behind RESP or HTTP, one thread for each
//! connection, with faults on request. It counts every request that it has read.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// When it has read so many requests, it answers nobody for a while, once.
    Stall { at_request: u64, pause: Duration },
    /// When it has read so many requests, it closes all connections and the listener.
    Die { at_request: u64 },
    /// It reads and never answers.
    Silent,
    /// Each `every`-th value has a wrong byte.
    Corrupt { every: u64 },
    /// Writes are answered by an error.
    RefuseWrites,
    /// Every reply comes twice.
    AnswerTwice,
}

/// How the server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp,
    Http,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    fault: Fault,
    requests: AtomicU64,
    corrupted: AtomicU64,
    values: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    streams: Mutex<Option<Vec<TcpStream>>>,
    /// Held for every reply, and throughout a stall.
    gate: Mutex<()>,
}

/// A running server; its threads end with the test process.
#[derive(Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    state: Arc<State>,
}

enum Request {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>),
}

impl Target {
    /// Starts a server on a free loopback port.
    pub(crate) fn start(protocol: Protocol, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            protocol,
            fault,
            requests: AtomicU64::new(0),
            corrupted: AtomicU64::new(0),
            values: Mutex::new(HashMap::new()),
            streams: Mutex::new(Some(Vec::new())),
            gate: Mutex::new(()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accepted");
                stream.set_nodelay(true).expect("a TCP socket");
                let copy = stream.try_clone().expect("a free descriptor");
                match shared.streams.lock().expect("not poisoned").as_mut() {
                    Some(streams) => streams.push(copy),
                    None => return,
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, state }
    }

    /// Where it listens, as --target takes it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Requests read so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Values sent with a wrong byte.
    pub(crate) fn corrupted(&self) -> u64 {
        self.state.corrupted.load(Ordering::SeqCst)
    }

    /// Keys that have been written.
    pub(crate) fn keys(&self) -> usize {
        self.state.values.lock().expect("not poisoned").len()
    }
}

impl State {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a free descriptor"));
        let mut writer = stream;
        let read = match self.protocol {
            Protocol::Resp => read_resp,
            Protocol::Http => read_http,
        };
        while let Some(request) = read(&mut reader) {
            let number = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
            match self.fault {
                Fault::Silent => continue,
                Fault::Die { at_request } if number >= at_request => return self.die(),
                _ => {}
            }
            let gate = self.gate.lock().expect("not poisoned");
            if let Fault::Stall { at_request, pause } = self.fault
                && number == at_request
            {
                thread::sleep(pause);
            }
            let mut reply = self.answer(request);
            if matches!(self.fault, Fault::AnswerTwice) {
                reply.extend_from_within(..);
            }
            drop(gate);
            if writer.write_all(&reply).is_err() {
                return;
            }
        }
    }

    fn die(&self) {
        let streams = self.streams.lock().expect("not poisoned").take();
        for stream in streams.unwrap_or_default() {
            // A connection may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn answer(&self, request: Request) -> Vec<u8> {
        let mut values = self.values.lock().expect("not poisoned");
        let is_http = self.protocol == Protocol::Http;
        match request {
            Request::Set(..) if matches!(self.fault, Fault::RefuseWrites) && is_http => {
                b"HTTP/1.1 507 Full\r\nContent-Length: 7\r\n\r\nno room".to_vec()
            }
            Request::Set(..) if matches!(self.fault, Fault::RefuseWrites) => {
                b"-OOM no room\r\n".to_vec()
            }
            Request::Set(key, value) => {
                values.insert(key, value);
                let reply: &[u8] = if is_http {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
                } else {
                    b"+OK\r\n"
                };
                reply.to_vec()
            }
            Request::Get(key) => match values.get(&key) {
                None if is_http => {
                    b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec()
                }
                None => b"$-1\r\n".to_vec(),
                Some(value) => self.value_reply(value.clone()),
            },
        }
    }

    fn value_reply(&self, mut value: Vec<u8>) -> Vec<u8> {
        if let Fault::Corrupt { every } = self.fault
            && self.requests.load(Ordering::SeqCst).is_multiple_of(every)
        {
            self.corrupted.fetch_add(1, Ordering::SeqCst);
            let last = value.len() - 1;
            value[last] ^= 1;
        }
        match self.protocol {
            Protocol::Resp => {
                let head = format!("${}\r\n", value.len());
                [head.as_bytes(), &value, b"\r\n"].concat()
            }
            Protocol::Http => {
                let value = String::from_utf8(value).expect("text was written");
                let body = serde_json::json!({ "value": value }).to_string();
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
        }
    }
}

/// The next RESP command, or `None` at the end of the stream.
fn read_resp(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let count: usize = read_line(reader)?.strip_prefix('*')?.parse().ok()?;
    let mut arguments = Vec::new();
    for _ in 0..count {
        let length: usize = read_line(reader)?.strip_prefix('$')?.parse().ok()?;
        let mut argument = vec![0; length + 2];
        reader.read_exact(&mut argument).ok()?;
        assert_eq!(argument.split_off(length), b"\r\n");
        arguments.push(argument);
    }
    let mut arguments = arguments.into_iter();
    match (
        arguments.next()?.as_slice(),
        arguments.next()?,
        arguments.next(),
    ) {
        (b"GET", key, None) => Some(Request::Get(key)),
        (b"SET", key, Some(value)) => Some(Request::Set(key, value)),
        other => panic!("unknown command {other:?}"),
    }
}

/// The next HTTP request, or `None` at the end of the stream.
fn read_http(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let line = read_line(reader)?;
    let mut parts = line.split(' ');
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut body_bytes = 0;
    loop {
        let field = read_line(reader)?;
        if field.is_empty() {
            break;
        }
        if let Some(length) = field.strip_prefix("Content-Length: ") {
            body_bytes = length.parse().expect("a number");
        }
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body).ok()?;
    let key = path.strip_prefix('/').expect("a path").as_bytes().to_vec();
    match method.as_str() {
        "GET" => Some(Request::Get(key)),
        "POST" => {
            let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            Some(Request::Set(
                key,
                body["value"].as_str().expect("a value").into(),
            ))
        }
        other => panic!("unknown method {other}"),
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    match reader.read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.strip_suffix("\r\n").expect("CRLF").to_owned()),
    }
}
