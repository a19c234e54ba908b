//! What a client can be told, with its defaults and bounds.

use std::time::Duration;

/// Which nodes answer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// The one that takes the key's writes.
    #[default]
    Primary,
    /// A replica, by turns if there are several; the primary if there is none or it does not answer.
    ///
    /// Replication is asynchronous: a replica may lack the newest writes, those of this client too.
    Replica,
    /// Primary or replica at random: the most nodes for a key's reads, as old as a replica's.
    Any,
}

/// How a client behaves. Each has a default that suits a cluster in one data centre.
///
/// ```
/// use std::time::Duration;
/// use fulmar_client::{Options, ReadFrom};
///
/// let options = Options::default()
///     .timeout(Duration::from_millis(500))
///     .read_from(ReadFrom::Any);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) reply_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) connections_per_node: usize,
    pub(crate) queue_max: usize,
    pub(crate) retries_max: u32,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) refresh_interval: Duration,
    pub(crate) read_from: ReadFrom,
    pub(crate) hot_keys_interval: Option<Duration>,
    pub(crate) reply_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            reply_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(5),
            connections_per_node: 2,
            queue_max: 1_024,
            retries_max: 16,
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(200),
            refresh_interval: Duration::from_secs(30),
            read_from: ReadFrom::Primary,
            hot_keys_interval: Some(Duration::from_millis(500)),
            reply_bytes_max: REPLY_BYTES_MAX,
        }
    }
}

/// Most retries of a call.
const RETRIES_MAX: u32 = 1_024;
/// The servers' longest value.
const REPLY_BYTES_MAX: usize = 512 << 20;
/// Shortest of all times: a millisecond is the unit of timers.
const TIME_MIN: Duration = Duration::from_millis(1);
/// Longest of all times, so that sums of them don't overflow.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

fn bounded(time: Duration) -> Duration {
    time.clamp(TIME_MIN, TIME_MAX)
}

/// Times below 1 ms count as 1 ms, above a day as a day.
impl Options {
    /// Longest time for a call: waiting for a connection, all retries, the reply. 3 s by default.
    ///
    /// A pipeline is one call. Nothing of this crate waits longer, but for what says so: flushing a
    /// [`Batcher`](crate::Batcher), and computing a value.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = bounded(timeout);
        self
    }

    /// Longest time to open a connection, the server's first answer included. 1 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = bounded(timeout);
        self
    }

    /// Longest silence of a server that owes a reply; then the connection is closed, and what waits on it
    /// fails or is retried elsewhere. 1 s by default.
    ///
    /// Must be longer than the slowest command takes, and shorter than [`timeout`](Self::timeout) for
    /// reads to survive a node that stands still.
    #[must_use]
    pub fn reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = bounded(timeout);
        self
    }

    /// How long a connection is idle before the server has to show that it is there. 5 s by default.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = bounded(interval);
        self
    }

    /// Connections to each node, 1 to 64, 2 by default. Calls share them: many calls are on their way on
    /// one connection at once, so that more help only where one core of the client can't keep up with one.
    ///
    /// As many more are opened, on first use, for hot keys and commands without a key, and as many for
    /// reads of replicas.
    #[must_use]
    pub fn connections_per_node(mut self, count: usize) -> Self {
        self.connections_per_node = count.clamp(1, 64);
        self
    }

    /// Calls that wait to be sent on one connection, and as many that wait for a reply; further ones wait
    /// for room. 1 to 65,536, 1,024 by default.
    #[must_use]
    pub fn queue_max(mut self, count: usize) -> Self {
        self.queue_max = count.clamp(1, 65_536);
        self
    }

    /// How often a call is sent again within its time-out, at most; redirections count. 16 by default, at
    /// most 1,024.
    #[must_use]
    pub fn retries_max(mut self, count: u32) -> Self {
        self.retries_max = count.min(RETRIES_MAX);
        self
    }

    /// The pause before a retry: from `min` on, doubled each time up to `max`, of which a random half to
    /// all is waited. 10 and 200 ms by default.
    ///
    /// With 16 retries that bridges the second or so that a failover takes.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff_min = bounded(min);
        self.backoff_max = bounded(max).max(self.backoff_min);
        self
    }

    /// How often the map of the cluster is asked for when nothing tells that it changed. 30 s by default.
    #[must_use]
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = bounded(interval);
        self
    }

    /// Which nodes answer reads. The primary by default.
    #[must_use]
    pub fn read_from(mut self, read_from: ReadFrom) -> Self {
        self.read_from = read_from;
        self
    }

    /// How often each node is asked for its hot keys, whose reads then go to nodes at random: each keeps a
    /// copy for a while (`--hot-copy-ms`, 250 by default, at most 1,000). 500 ms by default, by which a hot key's
    /// reads are spread within 2 s; `None` sends all reads to the keys' owners. With very many clients ask less
    /// often: each asks each node, which takes it some 20 us.
    ///
    /// Values of hot keys that others wrote may be as old as that, and a later read may see an older one
    /// than an earlier read. What was written through this client and its clones it reads.
    #[must_use]
    pub fn hot_keys_interval(mut self, interval: Option<Duration>) -> Self {
        self.hot_keys_interval = interval.map(bounded);
        self
    }

    /// Longest reply, with 40 bytes for each element of an array; a longer one ends the connection. 512 MiB
    /// by default, the servers' longest value. At most 4 GiB, at least 1 KiB.
    #[must_use]
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes.clamp(1 << 10, 4 << 30);
        self
    }
}
