//! Clusters for these tests: some nodes, and what they count.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;

use tempfile::{TempDir, tempdir};
use tokio::runtime::{Builder, Runtime};

use crate::between::Between;
use crate::nodes::{Node, alone, can_serve, free_port};
use crate::proxy::Proxy;

/// Nodes that have all their copies. Its fields are dropped in order: the nodes before their directory.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    /// `None` where nodes cannot be started.
    pub(crate) fn start(count: usize) -> Option<Self> {
        Self::start_announced(&vec![None; count])
    }

    /// One node for each element; clients are told the address that it has, if any.
    pub(crate) fn start_announced(announced: &[Option<String>]) -> Option<Self> {
        let mut cluster = Self::empty()?;
        for announced in announced {
            cluster.add(announced.as_deref());
        }
        cluster.wait_until_whole();
        Some(cluster)
    }

    /// One node for each proxy, which is where clients are told that it is; the nodes speak to each other through
    /// what lies between them.
    pub(crate) fn start_between(between: &Between, proxies: &[Proxy]) -> Option<Self> {
        let mut cluster = Self::empty()?;
        for (index, proxy) in proxies.iter().enumerate() {
            let (announced, join) = (proxy.address(), between.join_address(0));
            let mut flags = vec!["--announce", &announced];
            if index > 0 {
                flags.extend(["--join", &join]);
            }
            let node = Node::start_with(cluster.directory(), between.port(index), None, &flags);
            proxy.lead_to(node.port);
            cluster.nodes.push(node);
        }
        cluster.wait_until_whole();
        for (index, node) in cluster.nodes.iter().enumerate() {
            between.name(index, node_id(node));
        }
        Some(cluster)
    }

    fn empty() -> Option<Self> {
        if !can_serve() {
            return None;
        }
        let alone = alone();
        Some(Self {
            nodes: Vec::new(),
            directory: tempdir().expect("a directory"),
            _alone: alone,
        })
    }

    /// Starts one more.
    pub(crate) fn add(&mut self, announced: Option<&str>) {
        let flags: Vec<&str> = announced.map_or(vec![], |address| vec!["--announce", address]);
        let join = self.nodes.first().map(|node| node.port);
        let node = Node::start_with(self.directory(), free_port(), join, &flags);
        self.nodes.push(node);
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Until all nodes know each other, no copy is missing, and nothing is to be moved.
    pub(crate) fn wait_until_whole(&mut self) {
        let count = self.nodes.len();
        for node in &mut self.nodes {
            node.wait_until_ready();
            node.wait_until(|node| {
                node.status().is_some_and(|status| {
                    let members = status["members"].as_array().map_or(0, Vec::len);
                    let moves = &status["moves"];
                    let is_settled = moves["to_fill"] == 0 && moves["to_hand_over"] == 0;
                    members == count
                        && is_settled
                        && (count == 1 || status["shortage"]["copies"] == 0)
                })
            });
        }
    }

    pub(crate) fn seeds(&self) -> Vec<String> {
        self.nodes.iter().map(address).collect()
    }

    /// A number of INFO, over all nodes: `name:number`, or `name:calls=number,...`.
    pub(crate) fn sum(&self, section: &str, name: &str) -> u64 {
        self.nodes
            .iter()
            .map(|node| number(node, section, name))
            .sum()
    }
}

pub(crate) fn address(node: &Node) -> String {
    format!("127.0.0.1:{}", node.port)
}

/// A field of one node's INFO, if it has it.
fn field(node: &Node, section: &str, name: &str) -> Option<String> {
    let mut info = redis::cmd("INFO");
    let text: String = info
        .arg(section)
        .query(&mut node.connect())
        .expect("answered");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::to_owned)
}

/// A number of one node's INFO; 0 if it has none.
pub(crate) fn number(node: &Node, section: &str, name: &str) -> u64 {
    let value = field(node, section, name).unwrap_or_default();
    let digits = value.trim_start_matches("calls=").split(',').next();
    let digits = digits.filter(|digits| !digits.is_empty());
    digits.map_or(0, |digits| digits.parse().expect("a number"))
}

fn node_id(node: &Node) -> u64 {
    let digits = field(node, "cluster", "cluster_node_id").expect("a node has one");
    u64::from_str_radix(&digits, 16).expect("16 digits")
}

/// A runtime as an application has one.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads")
}

/// Whether the long runs are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var_os("FULMAR_LONG").is_some()
}

/// A server without a cluster.
pub(crate) struct Lone {
    process: Child,
    port: u16,
}

impl Lone {
    /// `None` where none can be started.
    pub(crate) fn start() -> Option<Self> {
        if !can_serve() {
            return None;
        }
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
        command.args([
            "serve",
            "--shards",
            "1",
            "--max-memory",
            "64MiB",
            "--http-port",
            "0",
        ]);
        command
            .args(["--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("the binary starts");
        // The client waits until it listens.
        Some(Self { process, port })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
