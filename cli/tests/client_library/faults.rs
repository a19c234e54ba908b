//! A thousand who call while nodes are killed, paused, replaced, and cut off from them or from each other.
//!
//! What must hold: nobody waits beyond the time-out or gets another's reply, all are served again after a fault,
//! no increment is applied twice, and no connection is left behind.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fulmar_client::{Client, Options, blocking};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::between::{Between, HOST};
use crate::cluster::{Cluster, is_long, number, runtime};
use crate::nodes::Node;
use crate::proxy::{Path, Proxy};
use crate::workers::{ANY_LOST, Summary, Worker, count_stuck, key};

const WORKERS: usize = 1_000;
const TIMEOUT: Duration = Duration::from_secs(3);
/// A machine that is busy with a thousand tasks and three nodes is late by that much.
const SLACK: Duration = Duration::from_secs(1);
/// Between a worker's calls.
const PAUSE: Duration = Duration::from_millis(200);
/// For all to be served again.
const PATIENCE: Duration = Duration::from_secs(30);
/// For a write to be replicated.
const REPLICATED: Duration = Duration::from_millis(500);
/// For all to leave a node that the others do not hear: it serves a branch.
const LEFT: Duration = Duration::from_secs(4);

fn fault_time() -> Duration {
    Duration::from_millis(if is_long() { 20_000 } else { 1_200 })
}

fn options() -> Options {
    Options::default()
        .timeout(TIMEOUT)
        .reply_timeout(Duration::from_millis(700))
        .connect_timeout(Duration::from_millis(500))
        .ping_interval(Duration::from_secs(1))
}

/// A client, and a crowd of which all are served.
async fn begin(seeds: impl IntoIterator<Item = impl Into<String>>) -> (Client, Crowd) {
    let client = Client::connect_with(seeds, options())
        .await
        .expect("it answers");
    let crowd = Crowd::start(&client).await;
    crowd.wait_until_all_are_served("start").await;
    (client, crowd)
}

/// A key whose value is itself: whoever reads it knows whether the reply is its own.
fn name(worker: usize) -> String {
    format!("name:{worker}")
}

/// Tasks that call until they are told to stop.
struct Crowd {
    workers: Arc<Vec<Worker>>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Crowd {
    async fn start(client: &Client) -> Self {
        let names = (0..WORKERS).map(name);
        let names = names.fold(client.pipeline(), |all, name| all.set(&name, &name));
        assert!(names.execute().await.iter().all(Result::is_ok));
        let workers: Arc<Vec<Worker>> = Arc::new((0..WORKERS).map(|_| Worker::default()).collect());
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for index in 0..WORKERS {
            let (client, workers, is_over) =
                (client.clone(), Arc::clone(&workers), Arc::clone(&is_over));
            tasks.spawn(async move {
                let key = key(index);
                // Not all at once.
                tokio::time::sleep(PAUSE * u32::try_from(index).unwrap_or(0) / 1_000).await;
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    let number = client.increment(&key, 1).await;
                    workers[index].note(started, &number, true);
                    number
                        .iter()
                        .for_each(|&number| workers[index].check_reply(number, ANY_LOST));
                    let started = Instant::now();
                    let own = client.get(name(index)).await;
                    workers[index].note(started, &own, false);
                    own.iter()
                        .flatten()
                        .for_each(|own| assert_eq!(*own, name(index), "another's reply"));
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self {
            workers,
            is_over,
            tasks,
        }
    }

    /// Until every worker has had a call served that began later than now.
    async fn wait_until_all_are_served(&self, after: &str) {
        let started = Instant::now();
        // A call that began before may end in this time.
        tokio::time::sleep(PAUSE).await;
        count_stuck(&self.workers);
        let mut stuck = WORKERS;
        while stuck > 0 {
            assert!(
                started.elapsed() < PATIENCE,
                "{stuck} are stuck after {after}"
            );
            tokio::time::sleep(2 * PAUSE).await;
            stuck = count_stuck(&self.workers);
        }
        let summary = Summary::of(&self.workers);
        eprintln!(
            "{after}, all served after {:?}: {summary}",
            started.elapsed()
        );
        let longest = summary.longest;
        assert!(longest < TIMEOUT + SLACK, "{longest:?}");
    }

    /// What each worker's confirmed increments come to.
    fn added(&self) -> Vec<i64> {
        self.workers.iter().map(Worker::added).collect()
    }

    async fn stop(mut self) -> Arc<Vec<Worker>> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.expect("no panic");
        }
        self.workers
    }
}

/// Changes when a range's primary does, on purpose or not: what was not replicated then is lost.
fn epochs(cluster: &Cluster) -> u64 {
    cluster.sum("cluster", "cluster_epoch")
}

/// Compares each worker's number with what it was told, of which so much may be lost; how much is, at least.
async fn check_numbers(
    client: &Client,
    workers: &[Worker],
    lost_max: impl Fn(usize) -> i64,
) -> i64 {
    let mut lost = 0;
    for (index, worker) in workers.iter().enumerate() {
        let value = client.get(key(index)).await;
        let value = value.as_ref().unwrap_or_else(|error| panic!("{error}"));
        let digits = value.as_deref().unwrap_or(b"0");
        let number: i64 = std::str::from_utf8(digits)
            .expect("digits")
            .parse()
            .expect("a number");
        worker.check_reply(number, lost_max(index));
        lost += (worker.added() - number).max(0);
    }
    lost
}

fn connections(node: &Node) -> u64 {
    // But for the one that asks.
    number(node, "clients", "connected_clients").saturating_sub(1)
}

/// Until no node has more connections than this.
async fn wait_until_connections_are_at_most(cluster: &Cluster, most: u64) {
    let started = Instant::now();
    loop {
        let counts: Vec<u64> = cluster.nodes.iter().map(connections).collect();
        if counts.iter().all(|&count| count <= most) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{counts:?} connections");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn paths_that_lose_replies_or_are_cut_lose_no_write_and_apply_none_twice() {
    let runtime = runtime();
    runtime.block_on(async {
        let proxies = Proxy::start_all(3, Ipv4Addr::LOCALHOST).await;
        let announced: Vec<_> = proxies.iter().map(|proxy| Some(proxy.address())).collect();
        let Some(cluster) = tokio::task::block_in_place(|| Cluster::start_announced(&announced))
        else {
            return;
        };
        for (proxy, node) in proxies.iter().zip(&cluster.nodes) {
            proxy.lead_to(node.port);
        }
        let epochs_before = epochs(&cluster);
        let (client, crowd) = begin(proxies.iter().map(Proxy::address)).await;
        proxies
            .iter()
            .for_each(|proxy| proxy.set(Path::LosesReplies));
        tokio::time::sleep(fault_time()).await;
        proxies.iter().for_each(|proxy| proxy.set(Path::Open));
        crowd.wait_until_all_are_served("lost replies").await;
        proxies[1].set(Path::Cut);
        tokio::time::sleep(fault_time()).await;
        proxies[1].set(Path::Open);
        crowd.wait_until_all_are_served("a cut path").await;
        let workers = crowd.stop().await;
        assert!(Summary::of(&workers).doubtful > 0, "the faults were felt");
        // On a machine that is too busy for them, nodes take over from each other.
        let is_kept = epochs(&cluster) == epochs_before;
        eprintln!("nothing can be lost: {is_kept}");
        let lost_max = if is_kept { 0 } else { ANY_LOST };
        check_numbers(&client, &workers, |_| lost_max).await;
        drop(client);
        wait_until_connections_are_at_most(&cluster, 0).await;
    });
}

#[test]
fn nodes_that_stand_still_die_and_are_replaced_apply_nothing_twice() {
    let Some(mut cluster) = Cluster::start(3) else {
        return;
    };
    runtime().block_on(async {
        let (client, crowd) = begin(cluster.seeds()).await;

        cluster.nodes[1].signal(Signal::STOP);
        tokio::time::sleep(fault_time()).await;
        crowd
            .wait_until_all_are_served("a node paused, and still is")
            .await;
        cluster.nodes[1].signal(Signal::CONT);
        tokio::time::sleep(5 * PAUSE).await;
        crowd.wait_until_all_are_served("the node goes on").await;

        tokio::task::block_in_place(|| cluster.wait_until_whole());
        let mut dead = cluster.nodes.pop().expect("three");
        dead.signal(Signal::KILL);
        dead.join();
        crowd.wait_until_all_are_served("a node killed").await;
        tokio::task::block_in_place(|| {
            cluster.add(None);
            cluster.nodes.last_mut().expect("added").wait_until_ready();
        });
        crowd
            .wait_until_all_are_served("another node at another address")
            .await;

        let workers = crowd.stop().await;
        check_numbers(&client, &workers, |_| ANY_LOST).await;
        // Two for each role that is used: routed, and plain for hot keys.
        wait_until_connections_are_at_most(&cluster, 4).await;
        drop(client);
        wait_until_connections_are_at_most(&cluster, 0).await;
    });
    threads(&cluster);
}

#[test]
fn nodes_that_the_others_do_not_hear_are_left_and_only_what_they_had_alone_is_lost() {
    part(5, &[1, 3]);
    if is_long() {
        part(3, &[1]);
    }
}

/// Clients hear all of so many nodes, but these and the others don't hear each other for a while.
fn part(count: usize, apart: &[usize]) {
    runtime().block_on(async {
        let between = Between::start(count).await;
        let proxies = Proxy::start_all(count, HOST).await;
        let cluster = tokio::task::block_in_place(|| Cluster::start_between(&between, &proxies));
        let Some(mut cluster) = cluster else {
            return;
        };
        let (client, crowd) = begin(proxies.iter().map(Proxy::address)).await;

        let replicated = crowd.added();
        tokio::time::sleep(REPLICATED).await;
        between.part(apart);
        tokio::time::sleep(LEFT).await;
        let left = crowd.added();
        tokio::time::sleep(fault_time()).await;
        crowd
            .wait_until_all_are_served("a partition, which lasts")
            .await;
        wait_until_connections_are_at_most(&cluster, 4).await;
        between.heal();
        tokio::task::block_in_place(|| cluster.wait_until_whole());
        crowd.wait_until_all_are_served("together again").await;

        let workers = crowd.stop().await;
        let lost_max = |worker: usize| left[worker] - replicated[worker];
        let at_risk: i64 = (0..WORKERS).map(lost_max).sum();
        let lost = check_numbers(&client, &workers, lost_max).await;
        eprintln!("{lost} increments lost, of {at_risk} confirmed before all had left");
        drop(client);
        wait_until_connections_are_at_most(&cluster, 0).await;
    });
}

/// A thousand threads while a node stands still and goes on.
fn threads(cluster: &Cluster) {
    let client = blocking::Client::connect_with(cluster.seeds(), options()).expect("it answers");
    let workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::default()).collect();
    let is_over = AtomicBool::new(false);
    let key = |index: usize| format!("thread:{index}");
    std::thread::scope(|threads| {
        for (index, worker) in workers.iter().enumerate() {
            let (client, is_over) = (client.clone(), &is_over);
            let call = move || {
                while !is_over.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    worker.note(started, &client.increment(key(index), 1), true);
                    std::thread::sleep(2 * PAUSE);
                }
            };
            let thread = std::thread::Builder::new().stack_size(256 * 1024);
            thread.spawn_scoped(threads, call).expect("a thread");
        }
        std::thread::sleep(2 * PAUSE);
        cluster.nodes[2].signal(Signal::STOP);
        std::thread::sleep(fault_time());
        cluster.nodes[2].signal(Signal::CONT);
        std::thread::sleep(5 * PAUSE);
        is_over.store(true, Ordering::Relaxed);
    });
    let summary = Summary::of(&workers);
    eprintln!("threads, a node paused: {summary}");
    let longest = summary.longest;
    assert!(longest < TIMEOUT + SLACK, "{longest:?}");
    for (index, worker) in workers.iter().enumerate() {
        worker.check_reply(client.increment(key(index), 0).expect("answered"), ANY_LOST);
    }
}
