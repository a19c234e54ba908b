//! Starting and stopping a server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use fulmar_cluster::coordinator::{
    Config as CoordinatorConfig, Coordinator, Minority as CoordinatorMinority, Start,
};
use fulmar_cluster::membership::{Config as Gossip, Host, Identity, Membership};
use fulmar_cluster::replication::{Limits, Replication};
use fulmar_cluster::{ClusterId, HomeTable, Member, NodeId, ShardIndex, Time};
use fulmar_engine::{Eviction, KeyHasher};
use fulmar_shard::Shard;
use fulmar_shard::session::{MemberPorts, MemberView};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use crate::clock::{self, Clock};
use crate::cluster::{ClusterStartError, ControlParts, Disk, Minority, Prepared, Shared};
use crate::config::{Config, Dispatch};
use crate::core::{Core, Listener, Service};
use crate::listener::listen;
use crate::machine;
use crate::node::{Node, Parts};
use crate::populate;
use crate::ring::Ring;

/// The fixed base beside the memory limit: what the process needs with no data and no clients.
const BASE_BYTES_MAX: u64 = 24 << 20;
/// The same for each further shard: its ring's buffers, its executor, its pools.
const BASE_BYTES_MAX_PER_SHARD: u64 = 12 << 20;
/// What glommio is given for storage I/O: its minimum, since the data path uses none of it.
const EXECUTOR_IO_BYTES: usize = 64 << 10;
const EXECUTOR_RING_DEPTH: usize = 16;
/// How often glommio lets another task queue run: there is one. Should this pass before the first task runs, since
/// the machine had no time for the thread, glommio 0.9 puts the executor to sleep and never wakes it.
const EXECUTOR_PREEMPT: Duration = Duration::from_secs(24 * 3_600);

/// Why a server does not start. Each says what to do; nothing keeps running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {error}; choose another port or stop who has it")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// io_uring_setup is refused.
    #[error(
        "io_uring is not allowed here ({0}); allow it in the container's seccomp profile and set \
         sysctl kernel.io_uring_disabled=0"
    )]
    IoUringForbidden(io::Error),
    /// A feature of io_uring is missing.
    #[error("the kernel's io_uring lacks what Fulmar uses; run Linux 6.1 or later")]
    KernelTooOld,
    /// RLIMIT_MEMLOCK cannot be raised far enough.
    #[error(
        "the limit of locked memory is {bytes} bytes, {bytes_min} are needed; raise it with \
         `ulimit -l` or LimitMEMLOCK="
    )]
    MemlockTooLow {
        /// The limit in force.
        bytes: u64,
        /// What is needed.
        bytes_min: u64,
    },
    /// A shard's memory cannot be reserved.
    #[error("cannot reserve the shards' memory: {0}; lower --max-memory")]
    Memory(#[from] fulmar_engine::ConfigError),
    /// A core's thread, executor or ring failed to start.
    #[error("core {core} does not start: {reason}")]
    Core {
        /// Its index.
        core: usize,
        /// Why.
        reason: String,
    },
    /// What the node needs for its cluster is not there.
    #[error(transparent)]
    Cluster(#[from] ClusterStartError),
    /// There is no thread beside the cores' to be had.
    #[error("cannot start a thread: {0}; raise `ulimit -u`")]
    Thread(io::Error),
    /// The kernel gives no random numbers.
    #[error("no random numbers from the kernel: {0}")]
    Random(getrandom::Error),
}

/// What is really served, for people and tests.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Number of shards.
    pub shards: u16,
    /// CPUs that the shards' threads are pinned to, in turn.
    pub cpus: Vec<usize>,
    /// How a core reaches another core's shard.
    pub dispatch: Dispatch,
    /// Which items go when memory is needed.
    pub eviction: Eviction,
    /// Limit of data and connections, in bytes.
    pub memory_bytes_max: u64,
    /// What the process may need beside it, in bytes.
    pub base_bytes_max: u64,
    /// Most clients at once, after the limit of open files.
    pub clients_max: usize,
    /// RESP address.
    pub resp: SocketAddr,
    /// HTTP address, if it is on.
    pub http: Option<SocketAddr>,
    /// Address for other nodes, if this is one of a cluster.
    pub cluster: Option<SocketAddr>,
}

/// A running server.
pub struct Server {
    node: Arc<Node>,
    cores: Vec<ExecutorJoinHandle<io::Result<()>>>,
    summary: Summary,
}

/// Ends a server, from any thread.
#[derive(Clone)]
pub struct Shutdown {
    node: Arc<Node>,
}

impl Shutdown {
    /// Lets the cluster take over what this node has, for half a minute at most; then it stops accepting,
    /// connections get the replies to what they have sent, and all cores end. A node without a cluster
    /// begins with the second.
    pub fn begin(&self) {
        self.node.leave();
    }

    /// Does not wait for the cluster any more.
    pub fn hurry(&self) {
        self.node.stop();
    }
}

impl Server {
    /// Checks the machine, listens, and starts one pinned thread per shard. Returns when all of
    /// them serve.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        machine::check_io_uring()?;
        machine::raise_memlock()?;
        let is_clustered = config.cluster.is_some();
        let clients_max =
            machine::raise_descriptors(config.clients_max, config.shards, is_clustered);
        if clients_max < config.clients_max {
            tracing::warn!(
                clients_max,
                "fewer clients than asked for: raise `ulimit -n`"
            );
            config.clients_max = clients_max;
        }
        let cores_count = usize::from(config.shards);
        let (resp, port) = listeners(config.bind, Some(config.port), cores_count)?;
        let (http, http_port) = listeners(config.bind, config.http_port, cores_count)?;
        let resp_port = port.expect("RESP is always on");
        let cluster = ClusterParts::prepare(&config, resp_port, http_port)?;
        let mut seeds = [0u64; 4];
        for seed in &mut seeds {
            *seed = random()?;
        }
        let hasher = KeyHasher::new(seeds);
        let mut shards = (0..config.shards)
            .map(|index| new_shard(&config, hasher, ShardIndex(index)))
            .collect::<Result<Vec<_>, _>>()?;
        populate::start(&mut shards, &config.cpus).map_err(StartError::Thread)?;
        if let Some(shared) = &cluster.shared {
            replicate(&mut shards, &config, hasher, shared);
        }
        let summary = Summary {
            shards: config.shards,
            cpus: config.cpus.clone(),
            dispatch: config.dispatch,
            eviction: config.eviction,
            memory_bytes_max: config.memory_bytes_max,
            base_bytes_max: base_bytes_max(config.shards),
            clients_max,
            resp: SocketAddr::new(config.bind, resp_port),
            http: http_port.map(|port| SocketAddr::new(config.bind, port)),
            cluster: cluster.port.map(|port| SocketAddr::new(config.bind, port)),
        };
        let started = Clock::new().now();
        let port = summary.resp.port();
        let run_id = format!(
            "{:016x}{:016x}{:08x}",
            random()?,
            random()?,
            random()? >> 32
        );
        let parts = Parts {
            config,
            hasher,
            shards,
            port,
            http_port,
            started,
            run_id,
            cluster: cluster.shared,
        };
        let node = Arc::new(Node::new(parts));
        let sockets = Sockets {
            resp,
            http,
            replica: cluster.replica,
            nodes: cluster.nodes,
        };
        let cores = start_cores(&node, sockets, cluster.control)?;
        Ok(Self {
            node,
            cores,
            summary,
        })
    }

    /// What is served.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// A handle that ends this server.
    pub fn shutdown(&self) -> Shutdown {
        Shutdown {
            node: Arc::clone(&self.node),
        }
    }

    /// Waits until all cores have ended.
    ///
    /// # Errors
    /// The first core's failure.
    pub fn join(self) -> io::Result<()> {
        let mut outcome = Ok(());
        for core in self.cores {
            let ended = match core.join() {
                Ok(ended) => ended,
                Err(error) => Err(io::Error::other(error.to_string())),
            };
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// What the process may need beside the memory limit.
fn base_bytes_max(shards: u16) -> u64 {
    BASE_BYTES_MAX + u64::from(shards) * BASE_BYTES_MAX_PER_SHARD
}

fn listeners(
    ip: IpAddr,
    port: Option<u16>,
    count: usize,
) -> Result<(Vec<OwnedFd>, Option<u16>), StartError> {
    let Some(port) = port else {
        return Ok((Vec::new(), None));
    };
    match listen(ip, port, count) {
        Ok((sockets, port)) => Ok((sockets, Some(port))),
        Err(error) => Err(StartError::Listen {
            address: SocketAddr::new(ip, port),
            error,
        }),
    }
}

fn new_shard(config: &Config, hasher: KeyHasher, index: ShardIndex) -> Result<Shard, StartError> {
    let bytes = config.memory_bytes_max / u64::from(config.shards);
    let engine = fulmar_engine::Config {
        memory_bytes_max: usize::try_from(bytes).unwrap_or(usize::MAX),
        value_bytes_max: config.value_bytes_max,
        eviction: config.eviction,
        ranges_count: fulmar_cluster::RANGES_COUNT,
        hasher,
        range_of: |key| fulmar_cluster::Range::of(key).index(),
        // Room above it for more versions than are ever given.
        first_version: fulmar_engine::Version(random()? >> 2),
    };
    let mut shard = Shard::new(index, engine, random()?)?;
    shard.detect_hot_keys(config.hot_key_rps);
    Ok(shard)
}

/// What a node of a cluster has beside the others; nothing of it where there is no cluster.
#[derive(Default)]
struct ClusterParts {
    shared: Option<Shared>,
    control: Option<ControlParts>,
    replica: Vec<OwnedFd>,
    nodes: Vec<OwnedFd>,
    port: Option<u16>,
}

impl ClusterParts {
    fn prepare(
        config: &Config,
        resp_port: u16,
        http_port: Option<u16>,
    ) -> Result<Self, StartError> {
        let Some(cluster) = &config.cluster else {
            return Ok(Self::default());
        };
        let cores_count = usize::from(config.shards);
        let wanted = match config.port {
            0 => 0,
            _ => resp_port
                .checked_add(1)
                .ok_or(ClusterStartError::NoReplicaPort)?,
        };
        let (replica, replica_port) = listeners(config.bind, Some(wanted), cores_count)?;
        let fresh = NodeId(random()?);
        let prepared = Prepared::new(cluster, config.bind, cores_count, fresh)?;
        let offset = |port: u16| match cluster.announce_port {
            Some(announced) => announced.wrapping_add(port.wrapping_sub(resp_port)),
            None => port,
        };
        let ports = MemberPorts {
            resp: offset(resp_port),
            replica: offset(replica_port.unwrap_or_default()),
            http: http_port,
            cluster: prepared.port,
        };
        let host = cluster.announce_host.as_str();
        let member_view = MemberView::new(host.into(), ports, true);
        let ip = host.parse().unwrap_or(config.bind);
        let identity = Identity {
            node: prepared.node,
            incarnation: prepared.incarnation,
            revision: 0,
            cluster_address: SocketAddr::new(ip, prepared.port),
            announce_host: Host::new(host).map_err(|_| ClusterStartError::Host)?,
            resp_port: ports.resp,
            replica_read_port: ports.replica,
            http_port,
            cores: config.shards,
            weight: cluster.weight,
            zone: cluster.zone.clone(),
        };
        let member = Member {
            id: prepared.node,
            incarnation: prepared.incarnation,
            cores: config.shards,
            weight: cluster.weight,
            zone: cluster.zone.clone(),
        };
        let name = ClusterId(random()?);
        let targets = u16::try_from(cluster.join.len()).unwrap_or(u16::MAX);
        // One node founds, whoever else has met enough others.
        let own = [config.bind, ip].map(|ip| SocketAddr::new(ip, prepared.port));
        let is_founder = cluster
            .join
            .first()
            .is_some_and(|first| own.contains(first));
        let start = match (targets, cluster.bootstrap_expect) {
            (0, _) => Start::Found(name),
            (targets, Some(expect)) if is_founder => Start::Bootstrap {
                cluster: name,
                expect,
                targets,
            },
            (targets, _) => Start::Join { targets },
        };
        let known = prepared.saved.topology.as_ref();
        let name_known = known.map(|topology| topology.cluster());
        let mut coordinator = CoordinatorConfig::new(member, prepared.saved, start);
        coordinator.replicas_wanted = cluster.replicas;
        coordinator.rebuild_delay_ms =
            u64::try_from(cluster.rebuild_delay.as_millis()).unwrap_or(u64::MAX);
        coordinator.minority = match cluster.minority {
            Minority::Serve => CoordinatorMinority::Serve,
            Minority::Refuse => CoordinatorMinority::Refuse,
        };
        let shared = Shared::new(
            cluster.clone(),
            prepared.node,
            prepared.incarnation,
            member_view,
        );
        let control = ControlParts {
            coordinator: Coordinator::new(coordinator, Time(clock::boot_ms())),
            membership: Membership::new(
                identity,
                Gossip::new(shared.secret.clone(), name_known),
                random()?,
            ),
            udp: prepared.udp,
            disk: Disk::start(prepared.directory).map_err(ClusterStartError::Thread)?,
        };
        Ok(Self {
            shared: Some(shared),
            control: Some(control),
            replica,
            nodes: prepared.listeners,
            port: Some(prepared.port),
        })
    }
}

/// Lets the shards of a cluster's node have copies elsewhere.
fn replicate(shards: &mut [Shard], config: &Config, hasher: KeyHasher, shared: &Shared) {
    let homes = HomeTable::even(config.shards);
    let bytes = config.memory_bytes_max / u64::from(config.shards);
    let limits = Limits::for_memory(usize::try_from(bytes).unwrap_or(usize::MAX));
    for shard in shards {
        let index = shard.index();
        let replication = Replication::new(shared.own, shared.incarnation, index, &homes, limits);
        shard.start_replication(replication, hasher);
    }
}

fn random() -> Result<u64, StartError> {
    getrandom::u64().map_err(StartError::Random)
}

/// Listening sockets, one a core, of each service that is on.
struct Sockets {
    resp: Vec<OwnedFd>,
    http: Vec<OwnedFd>,
    replica: Vec<OwnedFd>,
    nodes: Vec<OwnedFd>,
}

fn start_cores(
    node: &Arc<Node>,
    sockets: Sockets,
    mut control: Option<ControlParts>,
) -> Result<Vec<ExecutorJoinHandle<io::Result<()>>>, StartError> {
    let (ready_sender, ready) = bounded(sockets.resp.len());
    let mut others = [
        (sockets.http.into_iter(), Service::Http),
        (sockets.replica.into_iter(), Service::Replica),
        (sockets.nodes.into_iter(), Service::Node),
    ];
    let mut cores = Vec::with_capacity(sockets.resp.len());
    for (index, resp) in sockets.resp.into_iter().enumerate() {
        let mut listeners = vec![Listener::new(resp, Service::Resp)];
        for (sockets, service) in &mut others {
            listeners.extend(sockets.next().map(|fd| Listener::new(fd, *service)));
        }
        let cpu = node.config.cpus[index % node.config.cpus.len()];
        let started = start_core(
            Arc::clone(node),
            index,
            cpu,
            listeners,
            control.take(),
            ready_sender.clone(),
        );
        match started {
            Ok(core) => cores.push(core),
            Err(error) => {
                let reason = error.to_string();
                return Err(abandon(
                    node,
                    cores,
                    StartError::Core {
                        core: index,
                        reason,
                    },
                ));
            }
        }
    }
    drop(ready_sender);
    match wait_until_ready(&ready, cores.len()) {
        Ok(()) => Ok(cores),
        Err(error) => Err(abandon(node, cores, error)),
    }
}

fn start_core(
    node: Arc<Node>,
    index: usize,
    cpu: usize,
    listeners: Vec<Listener>,
    control: Option<ControlParts>,
    ready: Sender<(usize, Result<(), String>)>,
) -> glommio::Result<ExecutorJoinHandle<io::Result<()>>, ()> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .name("fulmar")
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(EXECUTOR_PREEMPT)
        .spawn(move || async move {
            let ring = Ring::new();
            let outcome = ring.as_ref().map(|_| ()).map_err(ToString::to_string);
            // Nobody listens only if the start was abandoned; then `stop` has been called.
            let _ = ready.send((index, outcome));
            drop(ready);
            // However a core ends, the others must not wait for it.
            let _stop = StopAtEnd(&node);
            Core::new(&node, index, ring?, listeners, control).run()
        })
}

/// Stops the node when a core ends, by panic or error too.
struct StopAtEnd<'n>(&'n Node);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn wait_until_ready(
    ready: &Receiver<(usize, Result<(), String>)>,
    count: usize,
) -> Result<(), StartError> {
    for _ in 0..count {
        match ready.recv() {
            Ok((_, Ok(()))) => {}
            Ok((core, Err(reason))) => return Err(StartError::Core { core, reason }),
            // A thread ended before it said anything: its executor was refused.
            Err(_) => {
                let reason = "its executor failed; is io_uring limited by memory?".to_owned();
                return Err(StartError::Core { core: 0, reason });
            }
        }
    }
    Ok(())
}

fn abandon(
    node: &Node,
    cores: Vec<ExecutorJoinHandle<io::Result<()>>>,
    error: StartError,
) -> StartError {
    node.stop();
    for core in cores {
        // `error` is the cause; what follows from it is not reported.
        let _ = core.join();
    }
    error
}
