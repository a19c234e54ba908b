//! Keeps the map up to date.
//!
//! A refresh asks one node after the other, known ones and seeds by turns, without waiting long for any: the
//! first map that is not older than the one at hand is taken. Seeds' names are resolved each time, so that a
//! cluster all of whose addresses changed is found again by them.
//!
//! Refreshes are made by one task, when someone asks for one, a connection ended, or an interval has passed, and with a pause
//! between them that grows while nothing changes.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::command::Command;
use crate::connection::{Connection, Role};
use crate::error::{ConnectError, Error, ErrorKind, Result};
use crate::lock::{read, write};
use crate::nodes::Nodes;
use crate::options::Options;
use crate::topology::Topology;
use crate::value::Value;

/// How long one node is waited for before the next is asked too.
const HEAD_START: Duration = Duration::from_millis(100);
/// Pause between refreshes: at least, and while nothing changes at most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// When a map that did not change on trouble is asked for again, at the latest.
const DECISION_TIME: Duration = Duration::from_secs(2);
/// Addresses that are asked in one refresh.
const ASKED_MAX: usize = 256;
/// Addresses that one seed may stand for.
const SEED_ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Discovery {
    seeds: Box<[String]>,
    nodes: Arc<Nodes>,
    options: Arc<Options>,
    map: RwLock<Arc<Topology>>,
    wanted: Arc<Notify>,
}

impl Discovery {
    /// Asks the seeds for the first map.
    pub(crate) async fn start(
        seeds: Vec<String>,
        nodes: Arc<Nodes>,
        options: Arc<Options>,
    ) -> Result<Self> {
        let deadline = Instant::now() + options.timeout;
        let map = loop {
            let addresses = resolve(&seeds).await;
            let found = timeout_at(deadline, find(addresses, &nodes, &options, 0)).await;
            let reason = match found.unwrap_or(Err(ConnectError::TimedOut)) {
                Ok(map) => break map,
                Err(reason) => reason,
            };
            // A seed that is just starting is given the time.
            if Instant::now() + PAUSE_MAX >= deadline {
                let address = seeds.join(", ").into();
                return Err(Error::new(ErrorKind::Unreachable { address, reason }));
            }
            sleep(PAUSE_MAX).await;
        };
        let map = RwLock::new(Arc::new(map));
        let wanted = Arc::clone(nodes.trouble());
        let discovery = Self {
            seeds: seeds.into(),
            nodes,
            options,
            map,
            wanted,
        };
        discovery.forget_others();
        Ok(discovery)
    }

    pub(crate) fn map(&self) -> Arc<Topology> {
        Arc::clone(&read(&self.map))
    }

    /// Asks for a refresh, and does not wait for it.
    pub(crate) fn request(&self) {
        self.wanted.notify_one();
    }

    /// Refreshes for ever.
    pub(crate) async fn run(&self) {
        let mut pause = PAUSE_MIN;
        let mut wait = self.options.refresh_interval;
        loop {
            let is_wanted = timeout(wait, self.wanted.notified()).await.is_ok();
            let has_changed = self.refresh().await;
            pause = if has_changed {
                PAUSE_MIN
            } else {
                (pause * 2).min(PAUSE_MAX)
            };
            // A node was lost, and the cluster has not decided yet what becomes of it.
            let is_early = is_wanted && !has_changed;
            wait = if is_early {
                DECISION_TIME
            } else {
                self.options.refresh_interval
            };
            wait = wait.min(self.options.refresh_interval);
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Whether there was another map.
    async fn refresh(&self) -> bool {
        let old = self.map();
        let addresses = self.addresses(&old).await;
        let Ok(new) = find(addresses, &self.nodes, &self.options, old.epoch()).await else {
            return false;
        };
        let has_changed = new != *old;
        if has_changed {
            *write(&self.map) = Arc::new(new);
            self.forget_others();
        }
        has_changed
    }

    fn forget_others(&self) {
        let map = self.map();
        self.nodes.retain(|address| map.has(address));
    }

    /// Whom to ask: known nodes and seeds by turns, each in random order.
    async fn addresses(&self, map: &Topology) -> Vec<String> {
        let mut known: Vec<String> = map.nodes().iter().map(|node| (**node).to_owned()).collect();
        fastrand::shuffle(&mut known);
        let mut seeds = resolve(&self.seeds).await.into_iter();
        let mut addresses: Vec<String> = Vec::new();
        for node in known {
            addresses.push(node);
            addresses.extend(seeds.next());
        }
        addresses.extend(seeds);
        addresses
    }
}

/// The addresses that names stand for now, in random order.
async fn resolve(seeds: &[String]) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for seed in seeds {
        if seed.parse::<SocketAddr>().is_ok() {
            addresses.push(seed.clone());
        } else if let Ok(Ok(resolved)) = timeout(HEAD_START, lookup_host(seed)).await {
            addresses.extend(
                resolved
                    .take(SEED_ADDRESSES_MAX)
                    .map(|address| address.to_string()),
            );
        } else {
            // The connection tries once more, and has more time.
            addresses.push(seed.clone());
        }
    }
    fastrand::shuffle(&mut addresses);
    addresses
}

/// The first map that is of this epoch or later; else the latest that anybody has. If nobody has any: why one
/// of them has none.
async fn find(
    mut addresses: Vec<String>,
    nodes: &Arc<Nodes>,
    options: &Options,
    epoch: u64,
) -> std::result::Result<Topology, ConnectError> {
    addresses.truncate(ASKED_MAX);
    let longest = options.connect_timeout + options.reply_timeout;
    let mut waiting = addresses.into_iter();
    let mut asked = JoinSet::new();
    let mut best = Err(ConnectError::TimedOut);
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            let nodes = Arc::clone(nodes);
            asked.spawn(async move { timeout(longest, ask(&address, &nodes)).await });
        }
        let until = Instant::now() + if is_last { longest } else { HEAD_START };
        match timeout_at(until, asked.join_next()).await {
            Ok(Some(Ok(Ok(Ok(map))))) if map.epoch() >= epoch => return Ok(map),
            Ok(Some(Ok(Ok(answer)))) => best = better(best, answer),
            // Nobody is left.
            Ok(None) if is_last => return best,
            Ok(_) | Err(_) => {}
        }
    }
}

type Answer = std::result::Result<Topology, ConnectError>;

fn better(one: Answer, other: Answer) -> Answer {
    match (&one, &other) {
        (Ok(map), Ok(other_map)) if map.epoch() < other_map.epoch() => other,
        (Ok(_), _) | (_, Err(ConnectError::Backoff)) => one,
        (Err(_), _) => other,
    }
}

/// What one node says.
async fn ask(address: &str, nodes: &Nodes) -> Answer {
    let connection = nodes.pool(address, Role::Routed).connection().await;
    let connection = connection.map_err(|error| match error.kind() {
        ErrorKind::Unreachable { reason, .. } => *reason,
        _ => ConnectError::TimedOut,
    })?;
    let (info, slots) = tokio::join!(query(&connection, "INFO"), query(&connection, "SLOTS"));
    match slots.ok_or(ConnectError::TimedOut)? {
        // It has no cluster, or never heard of any.
        Value::Error(error) if error.code() == "ERR" => Ok(Topology::of_one(address)),
        slots => {
            let epoch = info.and_then(epoch_of).unwrap_or(0);
            Topology::from_slots(slots, address, epoch).ok_or(ConnectError::NoMap)
        }
    }
}

async fn query(connection: &Connection, subcommand: &str) -> Option<Value> {
    let request = Command::read("CLUSTER").arg(subcommand).into_request();
    connection.send(request.frame).await.ok()?.wait().await.ok()
}

fn epoch_of(info: Value) -> Option<u64> {
    let info = info.into_bytes().ok()??;
    let info = std::str::from_utf8(&info).ok()?;
    let epoch = info
        .lines()
        .find_map(|line| line.strip_prefix("cluster_current_epoch:"))?;
    epoch.trim().parse().ok()
}
