//! Nodes in this process, and clients of theirs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fulmar_server::{ClusterConfig, Config, Dispatch, Eviction, Minority, Server, Zone, machine};
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node that is stopped when the test is over, or before.
pub(crate) struct Node {
    server: Option<Server>,
    _directory: TempDir,
}

impl Node {
    /// A node with this secret that joins `others`, or founds a cluster without copies if there are
    /// none.
    pub(crate) fn start(secret: &[u8], others: &[&Self]) -> Self {
        Self::with_replicas(0, secret, others)
    }

    pub(crate) fn with_replicas(replicas: u8, secret: &[u8], others: &[&Self]) -> Self {
        let join = others.iter().map(|node| node.cluster()).collect();
        let directory = TempDir::new().expect("a directory");
        let mut config = config(secret, join, directory.path());
        if let Some(cluster) = &mut config.cluster {
            cluster.replicas = replicas;
        }
        let server = Server::start(config).expect("a node on free ports");
        Self {
            server: Some(server),
            _directory: directory,
        }
    }

    pub(crate) fn resp(&self) -> SocketAddr {
        self.server.as_ref().expect("running").summary().resp
    }

    pub(crate) fn cluster(&self) -> SocketAddr {
        let summary = self.server.as_ref().expect("running").summary();
        summary.cluster.expect("it is a node of a cluster")
    }

    pub(crate) fn client(&self) -> Client {
        Client(connect(self.resp()))
    }

    /// Stops without a word to the other nodes' coordinators: to them it is silent.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown().begin();
            server.join().expect("the cores end without an error");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn config(secret: &[u8], join: Vec<SocketAddr>, directory: &Path) -> Config {
    Config {
        bind: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        http_port: None,
        http_hosts: Vec::new(),
        shards: 1,
        cpus: machine::cpus(),
        memory_bytes_max: 64 << 20,
        value_bytes_max: 4 << 20,
        hot_key_rps: 1_000,
        hot_copy_ms: 250,
        clients_max: 64,
        dispatch: Dispatch::Borrow,
        eviction: Eviction::Lru,
        cluster: Some(ClusterConfig {
            port: 0,
            announce_host: "127.0.0.1".to_owned(),
            announce_port: None,
            join,
            bootstrap_expect: None,
            replicas: 1,
            zone: Zone::default(),
            weight: 1,
            directory: directory.to_owned(),
            minority: Minority::Serve,
            rebuild_delay: Duration::from_secs(60),
            secret: secret.to_vec(),
        }),
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.set_write_timeout(Some(PATIENCE)).expect("an option");
    stream
}

/// A client that knows nothing of clusters.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    /// The reply to a command: its first line, and the bytes if it is a bulk string.
    pub(crate) fn ask(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.0.write_all(&request).expect("the node takes it");
        let line = self.read_line();
        let length = line.strip_prefix(b"$").map(<[u8]>::to_vec);
        let Some(length) = length.filter(|length| *length != b"-1") else {
            return line;
        };
        let length = String::from_utf8(length).expect("digits");
        let length: usize = length.parse().expect("a length");
        let mut bulk = vec![0; length + 2];
        self.0.read_exact(&mut bulk).expect("all of it");
        bulk.truncate(length);
        bulk
    }

    fn read_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte).expect("a reply in time");
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        line
    }

    /// What CLUSTER INFO tells of this node's cluster.
    pub(crate) fn info(&mut self, name: &str) -> String {
        let text = String::from_utf8(self.ask(&[b"CLUSTER", b"INFO"])).expect("text");
        let prefix = format!("{name}:");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found.unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn members(&mut self) -> usize {
        self.info("cluster_known_nodes").parse().unwrap_or(0)
    }

    /// Primaries that own slots, as CLUSTER NODES lists them, and how many slots each has.
    fn shares(&mut self) -> Vec<usize> {
        let text = String::from_utf8(self.ask(&[b"CLUSTER", b"NODES"])).expect("text");
        let slots = |range: &str| {
            let mut ends = range.split('-').map(|end| end.parse::<usize>());
            match (ends.next(), ends.next()) {
                (Some(Ok(first)), Some(Ok(last))) => last - first + 1,
                (Some(Ok(_)), None) => 1,
                _ => 0,
            }
        };
        let share = |line: &str| line.split(' ').skip(8).map(slots).sum();
        text.lines().map(share).filter(|&share| share > 0).collect()
    }
}

/// Waits until `is_so`.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// Waits until each of these nodes has its share of the slots, and every node knows it.
pub(crate) fn wait_until_shared(nodes: &[&Node]) {
    let mut clients: Vec<Client> = nodes.iter().map(|node| node.client()).collect();
    let least = 16_384 / nodes.len() - 100;
    wait("all nodes have their share", || {
        clients.iter_mut().all(|client| {
            let shares = client.shares();
            shares.len() == nodes.len() && shares.iter().all(|&share| share >= least)
        })
    });
}

pub(crate) fn keys() -> impl Iterator<Item = Vec<u8>> {
    (0..64).map(|number| format!("key:{number}").into_bytes())
}

/// Reads what is there, at least a byte; 0 is the end. A signal may interrupt the wait.
pub(crate) fn read_some(stream: &mut TcpStream, bytes: &mut [u8]) -> usize {
    loop {
        match stream.read(bytes) {
            Ok(count) => return count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// Whether the other side ends the connection, after whatever it says.
pub(crate) fn ends(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}
