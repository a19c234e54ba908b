//! Keeps the map up to date.
//!
//! A refresh asks one node after the other, known ones and seeds by turns, without waiting long for any: the
//! first map of the same cluster that is not older than the one at hand is taken. Seeds' names are resolved
//! each time, while known nodes are asked, so that a cluster all of whose addresses changed is found again by
//! them. A map of another cluster, to which an address was given meanwhile, is taken if nobody has one of ours;
//! so is that of a node without a quorum, which is cut off from the others or serves a branch.
//!
//! Refreshes are made by one task, when someone asks for one, a connection ended, or an interval has passed,
//! and with a pause between them that grows while nothing changes. Between them a node is asked now and then
//! whether the map is old: one that is cut off from the others, and not from here, answers as if all were well.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::command::Command;
use crate::connection::{Connection, Role};
use crate::error::{ConnectError, Error, ErrorKind, Result};
use crate::lock::{read, write};
use crate::name::Name;
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
/// Between two looks whether the map is old.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses that are asked in one refresh.
const ASKED_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Discovery {
    seeds: Box<[Name]>,
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
        let names: Box<[Name]> = seeds.iter().map(|seed| Name::new(&**seed)).collect();
        let map = loop {
            let found = find(&names, None, &nodes, &options);
            let found = timeout_at(deadline, found).await;
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
            seeds: names,
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
            let is_wanted = tokio::select! {
                () = self.wanted.notified() => true,
                () = sleep(wait) => false,
                () = self.look_until_old() => false,
            };
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

    /// Asks one node after the other, for as long as the map at hand is what it has.
    async fn look_until_old(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let map = self.map();
            // A server without a cluster has no other map.
            let asked = map.any_node().filter(|_| map.epoch() > 0);
            let Some(node) = asked else { continue };
            let standing = timeout(self.options.reply_timeout, async {
                let connection = self.nodes.pool(node, Role::Routed).connection().await;
                let info = query(&connection.ok()?, "INFO").await;
                Some(Standing::of(info))
            });
            if let Ok(Some(standing)) = standing.await
                && (standing.epoch > map.epoch() || !standing.has_quorum)
            {
                return;
            }
        }
    }

    /// Whether there was another map.
    async fn refresh(&self) -> bool {
        let old = self.map();
        let found = find(&self.seeds, Some(&old), &self.nodes, &self.options).await;
        let changed = found.ok().filter(|new| *new != *old);
        let has_changed = changed.is_some();
        if let Some(new) = changed {
            *write(&self.map) = Arc::new(new);
        }
        self.forget_others();
        has_changed
    }

    /// Closes the connections to those who left, and to seeds that were asked by other addresses.
    fn forget_others(&self) {
        let map = self.map();
        self.nodes.retain(|address| map.has(address));
    }
}

/// The first map that is of the old one's cluster and as new; else the newest of that cluster, of those who have a
/// quorum first; else of another, which has the addresses now. If nobody has any: why one of them has none.
async fn find(
    seeds: &[Name],
    old: Option<&Topology>,
    nodes: &Nodes,
    options: &Options,
) -> std::result::Result<Topology, ConnectError> {
    let longest = options.connect_timeout + options.reply_timeout;
    let mut known: Vec<String> = Vec::new();
    known.extend(
        old.into_iter()
            .flat_map(|map| map.nodes())
            .map(|node| (**node).to_owned()),
    );
    fastrand::shuffle(&mut known);
    let lookups = seeds.iter().map(|seed| timeout(longest, seed.resolve()));
    let mut lookups: FuturesUnordered<_> = lookups.collect();
    let mut resolved: Vec<String> = Vec::new();
    let mut asked = FuturesUnordered::new();
    let mut asked_count = 0;
    let mut next_at = Instant::now();
    let mut best = Err(ConnectError::TimedOut);
    let newest = (true, true, old.map_or(0, Topology::epoch));
    loop {
        let has_next = asked_count < ASKED_MAX && !(known.is_empty() && resolved.is_empty());
        tokio::select! {
            biased;
            Some(answer) = asked.next() => {
                match answer {
                    Ok(Ok(found)) if Found::rank(&found, old) >= newest => return Ok(found.map),
                    Ok(answer) => best = better(best, answer, old),
                    Err(_) => {}
                }
                next_at = Instant::now();
            }
            Some(found) = lookups.next() => match found {
                Ok(Ok(addresses)) => {
                    resolved.extend(addresses.iter().map(ToString::to_string));
                    fastrand::shuffle(&mut resolved);
                }
                Ok(Err(error)) => best = better(best, Err(ConnectError::Io(error.kind())), old),
                Err(_) => {}
            },
            () = sleep_until(next_at), if has_next => {
                // By turns, beginning with those who are known.
                let is_seeds_turn = asked_count % 2 == 1;
                let (first, second) = if is_seeds_turn {
                    (&mut resolved, &mut known)
                } else {
                    (&mut known, &mut resolved)
                };
                if let Some(address) = first.pop().or_else(|| second.pop()) {
                    asked.push(timeout(longest, ask(address, nodes)));
                }
                asked_count += 1;
                next_at = Instant::now() + HEAD_START;
            }
            else => return best.map(|found| found.map),
        }
    }
}

/// What one node says, or why it says nothing.
type Answer = std::result::Result<Found, ConnectError>;

struct Found {
    map: Topology,
    has_quorum: bool,
}

impl Found {
    /// A map of the old one's cluster is better than another's, then one of a node with a quorum, then the newer.
    fn rank(&self, old: Option<&Topology>) -> (bool, bool, u64) {
        let is_ours = old.is_none_or(|old| self.map.is_of_cluster_of(old));
        (is_ours, self.has_quorum, self.map.epoch())
    }
}

fn better(one: Answer, other: Answer, old: Option<&Topology>) -> Answer {
    match (&one, &other) {
        (Ok(found), Ok(other_found)) if found.rank(old) < other_found.rank(old) => other,
        (Ok(_), _) | (_, Err(ConnectError::Backoff)) => one,
        (Err(_), _) => other,
    }
}

async fn ask(address: String, nodes: &Nodes) -> Answer {
    let connection = nodes.pool(&address, Role::Routed).connection().await;
    let connection = connection.map_err(|error| match error.kind() {
        ErrorKind::Unreachable { reason, .. } => *reason,
        _ => ConnectError::TimedOut,
    })?;
    let (info, slots) = tokio::join!(query(&connection, "INFO"), query(&connection, "SLOTS"));
    let Standing { epoch, has_quorum } = Standing::of(info);
    let map = match slots.ok_or(ConnectError::TimedOut)? {
        // It has no cluster, or never heard of any.
        Value::Error(error) if error.code() == "ERR" => Topology::of_one(&address),
        slots => Topology::from_slots(slots, &address, epoch).ok_or(ConnectError::NoMap)?,
    };
    Ok(Found { map, has_quorum })
}

async fn query(connection: &Connection, subcommand: &str) -> Option<Value> {
    let request = Command::read("CLUSTER").arg(subcommand).into_request();
    connection.send(request.frame).await.ok()?.wait().await.ok()
}

/// What CLUSTER INFO of a node says of it.
struct Standing {
    epoch: u64,
    has_quorum: bool,
}

impl Standing {
    /// Of a server that has no cluster, too.
    fn of(info: Option<Value>) -> Self {
        let info = info.and_then(|info| info.into_bytes().ok()?);
        let text = info
            .as_deref()
            .and_then(|info| std::str::from_utf8(info).ok());
        let lines = || text.unwrap_or_default().lines();
        let epoch = lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
        Self {
            epoch: epoch
                .and_then(|epoch| epoch.trim().parse().ok())
                .unwrap_or(0),
            has_quorum: !lines()
                .any(|line| ["cluster_state:fail", "cluster_provisional:1"].contains(&line)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::find;
    use crate::fake::{Action, Map};
    use crate::name::Name;
    use crate::nodes::Nodes;
    use crate::options::Options;
    use crate::topology::Topology;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn known_nodes_and_other_seeds_do_not_wait_for_a_slow_name() {
        let map = Map::default();
        let node = map.node(|_| Action::Close).await;
        map.set_all(1, &node.address);
        let options = Options::default()
            .connect_timeout(MINUTE)
            .reply_timeout(MINUTE);
        let nodes = Nodes::new(Arc::new(options.clone()));
        let slow = Name::new("slow.example:1");
        let _under_way = slow.hold().await;
        let old = Topology::of_one(&node.address);
        let seeds = [slow, Name::new(&*node.address)];
        for (seeds, old) in [(&seeds[..1], Some(&old)), (&seeds, None)] {
            let found = find(seeds, old, &nodes, &options);
            let found = tokio::time::timeout(MINUTE / 6, found).await;
            assert_eq!(found.expect("in time").expect("it answers").epoch(), 1);
        }
    }
}
