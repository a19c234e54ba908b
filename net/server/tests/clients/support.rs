//! Nodes of one cluster in this process, and clients that speak plain RESP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fulmar_server::{ClusterConfig, Config, Dispatch, Eviction, Minority, Server, Zone, machine};
use tempfile::TempDir;

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for a cluster to come to rest.
const SETTLING: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);
const SHARDS: u16 = 2;

/// A node that stops when the test is over, and hands nothing over.
pub(crate) struct Running {
    server: Option<Server>,
    _directory: TempDir,
}

impl Running {
    fn start(join: Vec<SocketAddr>, minority: Minority, dispatch: Dispatch) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let cluster = ClusterConfig {
            port: 0,
            announce_host: Ipv4Addr::LOCALHOST.to_string(),
            announce_port: None,
            join,
            bootstrap_expect: None,
            replicas: 1,
            zone: Zone::default(),
            weight: 1,
            directory: directory.path().to_owned(),
            minority,
            rebuild_delay: Duration::ZERO,
            secret: b"secret".to_vec(),
        };
        let config = Config {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            http_port: Some(0),
            http_hosts: Vec::new(),
            shards: SHARDS,
            cpus: machine::cpus(),
            memory_bytes_max: 64 << 20,
            value_bytes_max: 4 << 20,
            hot_key_rps: 1_000,
            hot_copy_ms: 250,
            clients_max: 64,
            dispatch,
            eviction: Eviction::Lru,
            cluster: Some(cluster),
        };
        Self {
            server: Some(Server::start(config).expect("a server on free ports")),
            _directory: directory,
        }
    }

    pub(crate) fn resp(&self) -> SocketAddr {
        self.server.as_ref().expect("running").summary().resp
    }

    pub(crate) fn replica(&self) -> SocketAddr {
        let port = self.client().info("cluster_replica_port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.resp())
    }

    /// The answer to an HTTP request whose head is `head`, of which the connection is the last.
    pub(crate) fn http(&self, head: &str, body: &str) -> String {
        let address = self.server.as_ref().expect("running").summary().http;
        let mut client = Client::connect(address.expect("HTTP is on"));
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let stream = client.stream.get_mut();
        stream.write_all(request.as_bytes()).expect("it takes it");
        let mut answer = String::new();
        client
            .stream
            .read_to_string(&mut answer)
            .expect("an answer");
        answer
    }

    pub(crate) fn readyz(&self) -> String {
        self.http("GET /-/readyz", "")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().hurry();
            server.join().expect("the cores end without an error");
        }
    }
}

/// A cluster of a few nodes.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Running>,
}

impl Cluster {
    /// Starts nodes one after the other, and waits until they have shared the ranges.
    pub(crate) fn start(count: usize, minority: Minority) -> Self {
        let nodes = vec![Running::start(Vec::new(), minority, Dispatch::Borrow)];
        let mut cluster = Self { nodes };
        settle("the first node founds", || {
            !cluster.nodes[0].client().info("cluster_port").is_empty()
        });
        for _ in 1..count {
            cluster.join(minority);
        }
        cluster.wait();
        cluster
    }

    /// Starts one node more.
    pub(crate) fn join(&mut self, minority: Minority) {
        let port = self.nodes[0].client().info("cluster_port");
        let seed = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
        // Every other node has its cores send each other messages.
        let dispatch = match self.nodes.len() % 2 {
            0 => Dispatch::Borrow,
            _ => Dispatch::Message,
        };
        let node = Running::start(vec![seed], minority, dispatch);
        self.nodes.push(node);
    }

    /// Waits until all nodes agree on the topology, and have their even share of whole copies.
    pub(crate) fn wait(&self) {
        let count = self.nodes.len();
        let copies = if count == 1 { 1 } else { 2 };
        let is_even = |held: usize, all: usize| (all / count..=all.div_ceil(count)).contains(&held);
        settle("the ranges are shared", || {
            let mut epochs = Vec::new();
            let is_settled = self.nodes.iter().all(|node| {
                let mut client = node.client();
                let mut number = |field| client.info(field).parse().unwrap_or(0);
                epochs.push(number("cluster_epoch"));
                let primaries = number("cluster_ranges_primary");
                number("cluster_members") == count
                    && is_even(primaries, 2_048)
                    && is_even(primaries + number("cluster_ranges_replica"), 2_048 * copies)
                    && node.readyz().starts_with("HTTP/1.1 200")
            });
            epochs.dedup();
            is_settled && epochs.len() == 1
        });
    }

    /// The nodes that have `key`: as its primary, as its replica, and not.
    pub(crate) fn roles(&self, key: &str) -> [usize; 3] {
        let answers = |address| {
            let mut client = Client::connect(address);
            client.run("READONLY");
            !client.run(&format!("GET {key}")).starts_with("-MOVED")
        };
        let is_primary = |node: &Running| {
            let mut client = node.client();
            client.run("CLUSTER NODES");
            !client.run(&format!("GET {key}")).starts_with("-MOVED")
        };
        let places = 0..self.nodes.len();
        let (primaries, others): (Vec<usize>, Vec<usize>) =
            places.partition(|&place| is_primary(&self.nodes[place]));
        let (replicas, strangers): (Vec<usize>, Vec<usize>) = others
            .into_iter()
            .partition(|&place| answers(self.nodes[place].replica()));
        assert_eq!(
            [primaries.len(), replicas.len(), strangers.len()],
            [1, 1, 1]
        );
        [primaries[0], replicas[0], strangers[0]]
    }
}

/// The cluster of three that tests share; whoever holds it has the machine for itself.
static THREE: Mutex<Option<Cluster>> = Mutex::new(None);

/// The cluster of three, empty, for one test at a time.
pub(crate) fn three() -> Held {
    let mut held = alone();
    let three = held
        .0
        .get_or_insert_with(|| Cluster::start(3, Minority::Serve));
    assert_eq!(three.nodes[0].client().run("FLUSHALL"), "+OK");
    held
}

/// No other test runs meanwhile: timing is that of a cluster that has the machine.
pub(crate) fn alone() -> Held {
    Held(THREE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// See [`three`] and [`alone`].
pub(crate) struct Held(MutexGuard<'static, Option<Cluster>>);

impl Deref for Held {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("three() has started it")
    }
}

/// Looks again and again until something is so.
pub(crate) fn settle(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SETTLING, "not in time: {what}");
        thread::sleep(LOOK);
    }
}

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        let patience = Some(PATIENCE);
        stream.set_read_timeout(patience).expect("a socket option");
        stream.set_write_timeout(patience).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a command whose arguments are divided by blanks; gives its reply as text: arrays as
    /// `[a b]`, null as `nil`.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let args: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.send(&args);
        self.reply()
    }

    pub(crate) fn send(&mut self, args: &[&[u8]]) {
        let mut frame = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            frame.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            frame.extend_from_slice(arg);
            frame.extend_from_slice(b"\r\n");
        }
        let stream = self.stream.get_mut();
        stream.write_all(&frame).expect("the server takes it");
    }

    pub(crate) fn reply(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply in time");
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).expect("a reply");
        let count: i64 = rest.parse().unwrap_or(0);
        match kind {
            "$" | "*" if count < 0 => "nil".to_owned(),
            "$" => {
                let mut bytes = vec![0; usize::try_from(count).expect("not negative") + 2];
                self.stream.read_exact(&mut bytes).expect("a whole reply");
                bytes.truncate(bytes.len() - 2);
                String::from_utf8(bytes).expect("text")
            }
            "=" => {
                let mut bytes = vec![0; usize::try_from(count).expect("not negative") + 2];
                self.stream.read_exact(&mut bytes).expect("a whole reply");
                format!("={}", String::from_utf8_lossy(&bytes).trim_end())
            }
            "%" => {
                let items: Vec<String> = (0..2 * count).map(|_| self.reply()).collect();
                format!("{{{}}}", items.join(" "))
            }
            "*" => {
                let items: Vec<String> = (0..count).map(|_| self.reply()).collect();
                format!("[{}]", items.join(" "))
            }
            ":" => rest.to_owned(),
            _ => line.to_owned(),
        }
    }

    /// A field of INFO; empty if there is none.
    pub(crate) fn info(&mut self, field: &str) -> String {
        let text = self.run("INFO everything");
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }

    pub(crate) fn number(&mut self, command: &str) -> i64 {
        let reply = self.run(command);
        reply
            .parse()
            .unwrap_or_else(|_| panic!("{command}: {reply}"))
    }
}
