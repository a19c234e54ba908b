//! Nodes of one cluster in this process, and clients that speak plain RESP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fulmar_server::{ClusterConfig, Config, Dispatch, Minority, Server, Zone, machine};
use tempfile::TempDir;

/// Longest wait for a reply.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for a cluster to come to rest.
const SETTLING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const SHARDS: u16 = 2;

/// A node that is drained when the test is over.
pub(crate) struct Running {
    server: Option<Server>,
    _directory: TempDir,
}

impl Running {
    fn start(join: Vec<SocketAddr>, minority: Minority) -> Self {
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
            clients_max: 64,
            dispatch: Dispatch::Borrow,
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

    pub(crate) fn http(&self) -> SocketAddr {
        let summary = self.server.as_ref().expect("running").summary();
        summary.http.expect("HTTP is on")
    }

    pub(crate) fn replica(&self) -> SocketAddr {
        let port = self.client().info("cluster_replica_port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.resp())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().begin();
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
        let first = Running::start(Vec::new(), minority);
        let mut port = String::new();
        settle("the first node founds", || {
            port = first.client().info("cluster_port");
            !port.is_empty()
        });
        let seed = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("a port")));
        let mut nodes = vec![first];
        for _ in 1..count {
            nodes.push(Running::start(vec![seed], minority));
        }
        let cluster = Self { nodes };
        cluster.wait();
        cluster
    }

    /// Waits until all nodes agree on the members, and have their share.
    pub(crate) fn wait(&self) {
        let count = self.nodes.len();
        settle("the ranges are shared", || {
            self.nodes.iter().all(|node| {
                let mut client = node.client();
                let number = |text: String| text.parse().unwrap_or(0);
                client.info("cluster_members") == count.to_string()
                    && number(client.info("cluster_ranges_primary")) >= 2_048 / count
                    && (count == 1
                        || number(client.info("cluster_ranges_replica")) >= 2_048 / count)
            })
        });
    }

    /// The node that has `key`, and one that has nothing to do with it.
    pub(crate) fn owner_and_stranger(&self, key: &str) -> (usize, usize) {
        let holds = |node: &Running, endpoint: SocketAddr| {
            let mut client = Client::connect(endpoint);
            client.run("READONLY");
            let _ = node;
            !client.run(&format!("GET {key}")).starts_with("-MOVED")
        };
        let is_owner = |node: &&Running| {
            let mut client = node.client();
            client.run("CLUSTER NODES");
            !client.run(&format!("GET {key}")).starts_with("-MOVED")
        };
        let owner = self.nodes.iter().position(|node| is_owner(&node));
        let stranger = self
            .nodes
            .iter()
            .position(|node| !holds(node, node.replica()));
        (
            owner.expect("a node has it"),
            stranger.expect("three nodes, two copies"),
        )
    }
}

/// The cluster of three that tests share, emptied, for one test at a time.
pub(crate) fn three() -> MutexGuard<'static, Cluster> {
    static THREE: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let three = THREE.get_or_init(|| Mutex::new(Cluster::start(3, Minority::Serve)));
    let three = three.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(three.nodes[0].client().run("FLUSHALL"), "+OK");
    three
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
