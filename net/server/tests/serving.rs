//! Real sockets against a server in this process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use fulmar_server::{Config, Dispatch, Eviction, Server, machine};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is drained when the test is over.
struct Running(Option<Server>);

impl Running {
    fn start(shards: u16, dispatch: Dispatch) -> Self {
        Self::with(|config| {
            config.shards = shards;
            config.dispatch = dispatch;
        })
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            http_port: Some(0),
            http_hosts: Vec::new(),
            shards: 1,
            cpus: machine::cpus(),
            memory_bytes_max: 64 << 20,
            value_bytes_max: 4 << 20,
            eviction: Eviction::Lru,
            hot_key_rps: 1_000,
            hot_copy_ms: 250,
            clients_max: 256,
            dispatch: Dispatch::Borrow,
            cluster: None,
        };
        change(&mut config);
        Self(Some(Server::start(config).expect("a server on free ports")))
    }

    fn resp(&self) -> SocketAddr {
        self.0.as_ref().expect("running").summary().resp
    }

    fn http(&self) -> SocketAddr {
        self.0
            .as_ref()
            .expect("running")
            .summary()
            .http
            .expect("HTTP is on")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.shutdown().begin();
            server.join().expect("the cores end without an error");
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream
        .set_write_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream
}

/// Sends `request` and expects exactly `reply`.
fn exchange(stream: &mut TcpStream, request: &[u8], reply: &[u8]) {
    stream.write_all(request).expect("the server takes it");
    expect(stream, reply);
}

fn expect(stream: &mut TcpStream, reply: &[u8]) {
    let mut got = vec![0; reply.len()];
    stream.read_exact(&mut got).expect("a whole reply in time");
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert!(
        got == reply,
        "{:?} instead of {:?}",
        shown(&got),
        shown(reply)
    );
}

/// Nothing more comes, and the connection ends in order. A signal may interrupt the wait.
fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert!(rest.is_empty());
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut frame = format!("${}\r\n", bytes.len()).into_bytes();
    frame.extend_from_slice(bytes);
    frame.extend_from_slice(b"\r\n");
    frame
}

fn frame(args: &[&[u8]]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", args.len()).into_bytes();
    args.iter()
        .for_each(|arg| frame.extend_from_slice(&bulk(arg)));
    frame
}

fn in_all_modes(test: impl Fn(&Running)) {
    for dispatch in [Dispatch::Borrow, Dispatch::Message] {
        for shards in [1, 2, 4] {
            test(&Running::start(shards, dispatch));
        }
    }
}

#[test]
fn a_pipeline_over_all_shards_is_answered_in_order() {
    in_all_modes(|server| {
        let mut client = connect(server.resp());
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for number in 0..2_000 {
            let key = format!("key:{number}");
            let value = format!("value {number}").repeat(number % 7);
            requests.extend_from_slice(&frame(&[b"SET", key.as_bytes(), value.as_bytes()]));
            replies.extend_from_slice(b"+OK\r\n");
            requests.extend_from_slice(&frame(&[b"GET", key.as_bytes()]));
            replies.extend_from_slice(&bulk(value.as_bytes()));
            if number % 100 == 0 {
                requests.extend_from_slice(&frame(&[b"DBSIZE"]));
                replies.extend_from_slice(format!(":{}\r\n", number + 1).as_bytes());
            }
        }
        let mut writer = client.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&requests).expect("the server takes it"));
            expect(&mut client, &replies);
        });
    });
}

/// The policy reaches the engine, and is told.
#[test]
fn items_that_are_read_survive_a_scan_with_s3_fifo() {
    for (eviction, name, survives) in [
        (Eviction::Lru, "allkeys-lru", false),
        (Eviction::S3Fifo, "allkeys-s3-fifo", true),
    ] {
        let server = Running::with(|config| {
            config.eviction = eviction;
            config.memory_bytes_max = 8 << 20;
        });
        let mut client = connect(server.resp());
        let set_policy =
            |name: &str| frame(&[b"CONFIG", b"SET", b"maxmemory-policy", name.as_bytes()]);
        let mut requests = frame(&[b"CONFIG", b"GET", b"maxmemory-policy"]);
        let mut replies = frame(&[b"maxmemory-policy", name.as_bytes()]);
        requests.extend(set_policy(name));
        replies.extend_from_slice(b"+OK\r\n");
        let value = [b'v'; 1_000];
        let set = |key: &str| frame(&[b"SET", key.as_bytes(), &value]);
        requests.extend(set("read"));
        requests.extend(frame(&[b"GET", b"read"]));
        replies.extend_from_slice(b"+OK\r\n");
        replies.extend(bulk(&value));
        for number in 0..20_000 {
            requests.extend(set(&format!("scanned:{number}")));
            replies.extend_from_slice(b"+OK\r\n");
        }
        requests.extend(frame(&[b"EXISTS", b"read"]));
        replies.extend_from_slice(format!(":{}\r\n", u8::from(survives)).as_bytes());
        let mut writer = client.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&requests).expect("the server takes it"));
            expect(&mut client, &replies);
        });
        client.write_all(&set_policy("noeviction")).expect("sent");
        let refused = b"-ERR CONFIG SET failed (possibly related to argument \
            'maxmemory-policy') - can't set immutable config\r\n";
        expect(&mut client, refused);
    }
}

#[test]
fn no_reply_and_no_end_waits_for_a_tick() {
    let server = Running::start(1, Dispatch::Borrow);
    let mut client = connect(server.resp());
    let started = Instant::now();
    for count in [1, 129, 140, 200, 300, 1_000, 3_000].repeat(10) {
        let requests = frame(&[b"ECHO", b"0123456789"]).repeat(count);
        exchange(&mut client, &requests, &bulk(b"0123456789").repeat(count));
    }
    for _ in 0..70 {
        let mut client = connect(server.resp());
        exchange(&mut client, b"PING\r\nQUIT\r\n", b"+PONG\r\n+OK\r\n");
        expect_end(&mut client);
        get(&server, "/-/healthz");
    }
    // A tick is 100 ms.
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[test]
fn long_values_stream_in_and_out_whole() {
    in_all_modes(|server| {
        let mut client = connect(server.resp());
        for bytes_count in [0, 1, 16_383, 16_384, 65_536, 1 << 20] {
            let value: Vec<u8> = (0..bytes_count)
                .map(|at: usize| u8::try_from(at % 251).expect("small"))
                .collect();
            exchange(&mut client, &frame(&[b"SET", b"long", &value]), b"+OK\r\n");
            exchange(&mut client, &frame(&[b"GET", b"long"]), &bulk(&value));
            let pairs: [&[u8]; 5] = [b"MSET", b"one", &value, b"two", &value];
            exchange(&mut client, &frame(&pairs), b"+OK\r\n");
            exchange(&mut client, &frame(&[b"GET", b"two"]), &bulk(&value));
        }
    });
}

#[test]
fn a_value_over_the_limit_is_refused_and_the_connection_stays() {
    let server = Running::start(2, Dispatch::Borrow);
    let mut client = connect(server.resp());
    let value = vec![b'x'; (4 << 20) + 1];
    exchange(
        &mut client,
        &frame(&[b"SET", b"k", &value]),
        b"-ERR value is too long\r\n",
    );
    exchange(&mut client, &frame(&[b"EXISTS", b"k"]), b":0\r\n");
}

#[test]
fn transactions_are_not_torn_and_vanished_clients_hold_nothing() {
    const KEYS: [&[u8]; 4] = [b"alpha", b"beta", b"gamma", b"delta"];
    in_all_modes(|server| {
        let until = Instant::now() + Duration::from_millis(300);
        thread::scope(|scope| {
            for writer in 0..2 {
                scope.spawn(move || {
                    let mut client = connect(server.resp());
                    for round in 0.. {
                        if Instant::now() > until {
                            break;
                        }
                        let value = format!("{writer}:{round}");
                        let mut requests = frame(&[b"MULTI"]);
                        let mut replies = b"+OK\r\n".to_vec();
                        for key in KEYS {
                            requests.extend_from_slice(&frame(&[b"SET", key, value.as_bytes()]));
                            replies.extend_from_slice(b"+QUEUED\r\n");
                        }
                        requests.extend_from_slice(&frame(&[b"EXEC"]));
                        replies.extend_from_slice(b"*4\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n");
                        exchange(&mut client, &requests, &replies);
                        // One that vanishes in the middle.
                        let mut vanishing = connect(server.resp());
                        let begun = [frame(&[b"WATCH", b"alpha"]), frame(&[b"MULTI"])].concat();
                        exchange(&mut vanishing, &begun, b"+OK\r\n+OK\r\n");
                    }
                });
            }
            scope.spawn(move || {
                let mut client = connect(server.resp());
                let mut args: Vec<&[u8]> = vec![b"MGET"];
                args.extend(KEYS);
                while Instant::now() < until {
                    client
                        .write_all(&frame(&args))
                        .expect("the server takes it");
                    let values = read_array(&mut client, KEYS.len());
                    assert!(
                        values.iter().all(|value| *value == values[0]),
                        "torn: {values:?}"
                    );
                }
            });
        });
    });
}

/// Reads an array of bulk strings or nulls.
fn read_array(stream: &mut TcpStream, count: usize) -> Vec<Option<Vec<u8>>> {
    expect(stream, format!("*{count}\r\n").as_bytes());
    let read_one = |_| {
        let header = read_line(stream);
        let length: i64 = header[1..].parse().expect("a length");
        let length = usize::try_from(length).ok()?;
        let mut value = vec![0; length + 2];
        stream.read_exact(&mut value).expect("a whole value");
        value.truncate(length);
        Some(value)
    };
    (0..count).map(read_one).collect()
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("a whole line");
        line.push(byte[0]);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).expect("text")
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    in_all_modes(|server| {
        let mut client = connect(server.resp());
        let requests: Vec<u8> = (0..500)
            .flat_map(|n: u32| frame(&[b"INCR", format!("n{}", n % 5).as_bytes()]))
            .collect();
        client.write_all(&requests).expect("the server takes it");
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("open until now");
        let mut replies = String::new();
        client
            .read_to_string(&mut replies)
            .expect("replies, then the end");
        assert_eq!(replies.lines().count(), 500);
        assert!(replies.ends_with(":100\r\n"));
    });
}

#[test]
fn a_client_that_never_reads_is_bounded_and_harms_nobody() {
    let server = Running::start(1, Dispatch::Borrow);
    let mut greedy = connect(server.resp());
    let value = vec![b'v'; 1 << 20];
    exchange(&mut greedy, &frame(&[b"SET", b"big", &value]), b"+OK\r\n");
    greedy
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a socket option");
    let requests = frame(&[b"GET", b"big"]).repeat(1_000_000);
    let stuck = greedy
        .write_all(&requests)
        .expect_err("the server stops reading");
    assert!(
        matches!(stuck.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{stuck}"
    );
    let mut other = connect(server.resp());
    exchange(&mut other, &frame(&[b"PING"]), b"+PONG\r\n");
    let until = Instant::now() + PATIENCE;
    let mut held = 0;
    while held == 0 {
        held = memory_of_connections(&server);
        assert!(
            Instant::now() < until,
            "what the greedy one holds is not counted"
        );
    }
    assert!(
        held < 8 << 20,
        "{held} bytes are held for a client that does not read"
    );
}

/// What connections hold, as the gauge has it, which follows within a tick.
fn memory_of_connections(server: &Running) -> u64 {
    let text = get(server, "/-/metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with("fulmar_connection_bytes{"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .expect("the gauge is there")
}

/// The whole response to one GET.
fn get(server: &Running, path: &str) -> String {
    let mut client = connect(server.http());
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client
        .write_all(request.as_bytes())
        .expect("the server takes it");
    let mut response = String::new();
    client
        .read_to_string(&mut response)
        .expect("a response, then the end");
    response
}

#[test]
fn http_and_resp_see_the_same_keys() {
    in_all_modes(|server| {
        let mut resp = connect(server.resp());
        for number in 0..20 {
            let key = format!("shared:{number}");
            exchange(
                &mut resp,
                &frame(&[b"SET", key.as_bytes(), b"v\"1"]),
                b"+OK\r\n",
            );
            let response = get(server, &format!("/{key}"));
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
            assert!(response.ends_with(r#"{"value":"v\"1"}"#), "{response}");
        }
        assert!(get(server, "/missing").starts_with("HTTP/1.1 404 "));
        assert!(get(server, "/-/healthz").starts_with("HTTP/1.1 200 "));
        assert!(get(server, "/-/metrics").contains("fulmar_hits_total{core=\"0\"}"));
    });
}

#[test]
fn one_client_too_many_gets_an_error_and_room_comes_back() {
    let server = Running::with(|config| config.clients_max = 2);
    let mut first = connect(server.resp());
    exchange(&mut first, &frame(&[b"PING"]), b"+PONG\r\n");
    let mut second = connect(server.resp());
    exchange(&mut second, &frame(&[b"PING"]), b"+PONG\r\n");
    let mut third = connect(server.resp());
    expect(&mut third, b"-ERR max number of clients reached\r\n");
    drop(second);
    let until = Instant::now() + PATIENCE;
    loop {
        let mut next = connect(server.resp());
        next.write_all(&frame(&[b"PING"]))
            .expect("a fresh connection");
        let mut first_byte = [0];
        if next.read_exact(&mut first_byte).is_ok() && first_byte == *b"+" {
            break;
        }
        assert!(Instant::now() < until, "room never came back");
    }
}

#[test]
fn draining_answers_what_came_and_refuses_new_connections() {
    let mut server = Running::start(2, Dispatch::Borrow);
    let mut client = connect(server.resp());
    exchange(&mut client, &frame(&[b"SET", b"k", b"v"]), b"+OK\r\n");
    let address = server.resp();
    let running = server.0.take().expect("running");
    running.shutdown().begin();
    running.join().expect("the cores end without an error");
    expect_end(&mut client);
    TcpStream::connect(address).expect_err("nobody listens any more");
}

#[test]
fn a_client_that_is_idle_too_long_is_closed() {
    let server = Running::start(2, Dispatch::Borrow);
    let mut idle = connect(server.resp());
    exchange(
        &mut idle,
        &frame(&[b"CONFIG", b"SET", b"timeout", b"1"]),
        b"+OK\r\n",
    );
    let started = Instant::now();
    expect_end(&mut idle);
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "after {:?}",
        started.elapsed()
    );
}

#[test]
fn a_client_that_comes_during_a_drain_harms_nobody() {
    let mut server = Running::start(1, Dispatch::Borrow);
    let mut slow = connect(server.resp());
    let value = vec![b'v'; 1 << 20];
    exchange(&mut slow, &frame(&[b"SET", b"big", &value]), b"+OK\r\n");
    // More than the sockets hold: the drain must wait for this client to read.
    let count = 12;
    slow.write_all(&frame(&[b"GET", b"big"]).repeat(count))
        .expect("the server takes it");
    expect(&mut slow, &bulk(&value));
    let address = server.resp();
    let running = server.0.take().expect("running");
    running.shutdown().begin();
    // The drain begins within a tick; whoever knocks from then on is turned away.
    let until = Instant::now() + Duration::from_millis(400);
    while Instant::now() < until {
        drop(TcpStream::connect(address));
    }
    expect(&mut slow, &bulk(&value).repeat(count - 1));
    expect_end(&mut slow);
    running.join().expect("the cores end without an error");
}
