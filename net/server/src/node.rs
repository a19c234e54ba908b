//! What the cores of one process share.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use fulmar_cluster::HomeTable;
use fulmar_engine::KeyHasher;
use fulmar_protocol::command::table::CommandId;
use fulmar_protocol::http;
use fulmar_shard::{CommandCounts, Outcome, Shard, ShardStats};

use crate::clients::Clients;
use crate::cluster::{Request, Shared};
use crate::config::Config;
use crate::message::{BATCHES_IN_FLIGHT_MAX, Message};
use crate::token::TokenCell;

/// Shards, their tokens, and the links between cores.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) homes: HomeTable,
    pub(crate) hasher: KeyHasher,
    pub(crate) shards: Box<[TokenCell]>,
    pub(crate) links: Box<[Link]>,
    pub(crate) clients: Clients,
    /// Ports that are really listened on.
    pub(crate) port: u16,
    pub(crate) http_port: Option<u16>,
    /// When this node started, by both clocks.
    pub(crate) started: fulmar_shard::Now,
    /// 40 hexadecimal digits, different at every start.
    pub(crate) run_id: String,
    pub(crate) http_config: Arc<http::Config>,
    /// What the cores share of the cluster, if this is a node of one.
    pub(crate) cluster: Option<Shared>,
    stopping: AtomicBool,
    /// Cores that have no clients any more.
    drained: AtomicUsize,
}

/// How the others reach one core.
pub(crate) struct Link {
    inbox: Receiver<Message>,
    sender: Sender<Message>,
    asleep: Line<AtomicBool>,
    /// Something was left for the core outside its inbox.
    nudged: AtomicBool,
    /// Connections of the core wait for followers' acknowledgements.
    awaits_news: AtomicBool,
    doorbell: AtomicI32,
    pub(crate) counters: Counters,
    pub(crate) commands: CommandCounters,
    /// What the core's shard last told of itself.
    shard_stats: Mutex<ShardStats>,
}

/// Alone on its cache lines, since other cores write it.
#[repr(align(128))]
struct Line<T>(T);

/// What a core counts. Only that core adds, so a load and a store make an increment.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) borrows: Counter,
    pub(crate) borrows_failed: Counter,
    pub(crate) messages: Counter,
    pub(crate) commands_by_message: Counter,
    pub(crate) doorbells: Counter,
    pub(crate) turns: Counter,
    pub(crate) buffers_exhausted: Counter,
    pub(crate) accepts_failed: Counter,
    pub(crate) forwards_sent: Counter,
    pub(crate) forwards_retried: Counter,
    pub(crate) forwards_failed: Counter,
    /// A gauge: values of other nodes' hot keys.
    pub(crate) hot_copies: Counter,
    pub(crate) hot_copy_reads: Counter,
    /// A gauge: what connections hold beside the shards.
    pub(crate) connection_bytes: Counter,
}

impl Counters {
    /// Sets those to zero that CONFIG RESETSTAT means. The core that owns them may be adding at
    /// this moment; then one addition survives.
    fn reset(&self) {
        let counts = [
            &self.connections_accepted,
            &self.connections_refused,
            &self.received_bytes,
            &self.sent_bytes,
        ];
        counts.into_iter().for_each(|count| count.set(0));
    }
}

/// A number that one thread writes and all may read.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    #[inline]
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a node is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) hasher: KeyHasher,
    pub(crate) shards: Vec<Shard>,
    pub(crate) port: u16,
    pub(crate) http_port: Option<u16>,
    pub(crate) started: fulmar_shard::Now,
    pub(crate) run_id: String,
    pub(crate) cluster: Option<Shared>,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Self {
        let cores_count = parts.shards.len();
        Self {
            homes: HomeTable::even(parts.config.shards),
            hasher: parts.hasher,
            shards: parts.shards.into_iter().map(TokenCell::new).collect(),
            links: (0..cores_count).map(|_| Link::new(cores_count)).collect(),
            clients: Clients::new(&parts.config),
            run_id: parts.run_id,
            port: parts.port,
            http_port: parts.http_port,
            started: parts.started,
            http_config: Arc::new(http_config(&parts.config)),
            cluster: parts.cluster,
            stopping: AtomicBool::new(false),
            drained: AtomicUsize::new(0),
            config: parts.config,
        }
    }

    /// Asks all cores to finish. They see it at their next tick at the latest.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Asks all cores to finish once the cluster, if there is one, has taken over what this node has.
    pub(crate) fn leave(&self) {
        match &self.cluster {
            Some(shared) => {
                shared.desk.ask(Request::Leave);
            }
            None => self.stop(),
        }
    }

    /// Whether this node finishes, or is about to.
    pub(crate) fn is_draining(&self) -> bool {
        let is_leaving = |shared: &Shared| shared.desk.is_leaving();
        self.is_stopping() || self.cluster.as_ref().is_some_and(is_leaving)
    }

    /// Notes that one more core has no clients any more; true if it was the last.
    pub(crate) fn note_drained(&self) -> bool {
        self.drained.fetch_add(1, Ordering::AcqRel) + 1 == self.links.len()
    }

    /// Whether no core has clients any more, so that none needs another's shard.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire) == self.links.len()
    }

    /// Sets the counts of events to zero, except those of the shards.
    pub(crate) fn reset_stats(&self) {
        for link in &self.links {
            link.counters.reset();
            link.commands.reset();
        }
    }

    /// Sum of one counter over the cores.
    pub(crate) fn total(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.links
            .iter()
            .map(|link| counter(&link.counters).get())
            .sum()
    }
}

impl Link {
    fn new(cores_count: usize) -> Self {
        // Room for every batch that can come here, as requests or with replies.
        let (sender, inbox) = bounded(2 * BATCHES_IN_FLIGHT_MAX * cores_count);
        Self {
            inbox,
            sender,
            asleep: Line(AtomicBool::new(false)),
            nudged: AtomicBool::new(false),
            awaits_news: AtomicBool::new(false),
            doorbell: AtomicI32::new(-1),
            counters: Counters::default(),
            commands: CommandCounters::default(),
            shard_stats: Mutex::default(),
        }
    }

    /// The core's ring is there and may be rung.
    pub(crate) fn open(&self, doorbell: RawFd) {
        self.doorbell.store(doorbell, Ordering::Release);
    }

    /// The core's ring is about to close.
    pub(crate) fn close(&self) {
        self.doorbell.store(-1, Ordering::Release);
    }

    /// Leaves a message; true if the core sleeps and must be rung, by this caller alone.
    pub(crate) fn send(&self, message: Message) -> bool {
        let sent = self.sender.try_send(message);
        assert!(sent.is_ok(), "an inbox has room for every batch in flight");
        self.must_be_rung()
    }

    /// Makes the core look once more at what was left for it; true if it sleeps and must be rung, by
    /// this caller alone.
    pub(crate) fn nudge(&self) -> bool {
        self.nudged.store(true, Ordering::Relaxed);
        self.must_be_rung()
    }

    /// Whether connections of the core wait for acknowledgements.
    pub(crate) fn awaits_news(&self) -> bool {
        self.awaits_news.load(Ordering::SeqCst)
    }

    /// Notes whether some do. To be set before the look that finds nothing.
    pub(crate) fn set_awaits_news(&self, awaits: bool) {
        self.awaits_news.store(awaits, Ordering::SeqCst);
    }

    fn must_be_rung(&self) -> bool {
        // Between leaving something and reading `asleep`; its twin stands in `fall_asleep`.
        fence(Ordering::SeqCst);
        self.asleep.0.load(Ordering::Relaxed) && self.asleep.0.swap(false, Ordering::Relaxed)
    }

    /// The fd to ring at, unless the core is gone.
    pub(crate) fn doorbell(&self) -> Option<RawFd> {
        let fd = self.doorbell.load(Ordering::Acquire);
        (fd >= 0).then_some(fd)
    }

    /// Announces sleep; false if there is a message or a nudge, then the core must not sleep.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.0.store(true, Ordering::Relaxed);
        // Between storing `asleep` and checking what was left.
        fence(Ordering::SeqCst);
        let is_nudged = self.nudged.load(Ordering::Relaxed);
        if self.inbox.is_empty() && !is_nudged {
            return true;
        }
        if is_nudged {
            self.nudged.store(false, Ordering::Relaxed);
        }
        self.wake_up();
        false
    }

    pub(crate) fn wake_up(&self) {
        self.asleep.0.store(false, Ordering::Relaxed);
    }

    /// Notes what the core's shard tells of itself.
    pub(crate) fn publish(&self, stats: ShardStats) {
        *self
            .shard_stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stats;
    }

    /// What the core's shard last told of itself: at most a tick ago.
    pub(crate) fn shard_stats(&self) -> ShardStats {
        self.shard_stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn receive(&self) -> Option<Message> {
        self.inbox.try_recv().ok()
    }
}

/// Counts by command, of one core.
pub(crate) struct CommandCounters([CommandCounter; CommandId::COUNT]);

#[derive(Default)]
struct CommandCounter {
    calls: Counter,
    failed: Counter,
    rejected: Counter,
}

impl Default for CommandCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| CommandCounter::default()))
    }
}

impl CommandCounters {
    /// Counts an executed command.
    #[inline]
    pub(crate) fn record(&self, id: CommandId, outcome: Outcome) {
        let counter = &self.0[id.index()];
        counter.calls.add(1);
        if outcome == Outcome::Failed {
            counter.failed.add(1);
        }
    }

    /// Counts a command that was refused before execution.
    pub(crate) fn record_rejected(&self, id: CommandId) {
        self.0[id.index()].rejected.add(1);
    }

    fn reset(&self) {
        for counter in &self.0 {
            counter.calls.set(0);
            counter.failed.set(0);
            counter.rejected.set(0);
        }
    }

    pub(crate) fn of(&self, id: CommandId) -> CommandCounts {
        let counter = &self.0[id.index()];
        CommandCounts {
            calls: counter.calls.get(),
            failed: counter.failed.get(),
            rejected: counter.rejected.get(),
        }
    }
}

fn http_config(config: &Config) -> http::Config {
    let mut http_config = http::Config::default();
    http_config.known_hosts.add_bound(config.bind);
    for name in &config.http_hosts {
        http_config.known_hosts.add(name);
    }
    http_config
}
