//! What the cores of a node share of its cluster.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use fulmar_cluster::{ClusterId, ClusterSecret, Incarnation, NodeId, Time};

use fulmar_shard::session::MemberView;

use super::config::ClusterConfig;
use super::desk::Desk;
use super::greeting::Refusal;
use super::view::Views;

/// Messages of other nodes' coordinators that wait for this one's; more are dropped, and sent again by
/// whoever sent them.
const MAIL_MAX: usize = 1_024;

/// Between two complaints of the same kind in the log.
const COMPLAINT_MS_MIN: u64 = 10_000;

/// Whether this node may execute commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Serving {
    /// It holds nothing: it is no member, or not with this start.
    Outside,
    /// It is what the topology says.
    Everything,
    /// It hears no quorum, and is told to refuse writes.
    Reads,
    /// It was asleep, and doesn't know yet what it missed.
    Unconfirmed,
}

impl Serving {
    /// Whether a command on this node's own keys may be executed.
    pub(crate) fn executes(self, is_write: bool) -> bool {
        match self {
            Self::Everything => true,
            Self::Reads => !is_write,
            Self::Outside | Self::Unconfirmed => false,
        }
    }
}

/// A message for the coordinator.
#[derive(Debug)]
pub(crate) struct Mail {
    pub(crate) from: NodeId,
    pub(crate) message: Vec<u8>,
}

/// See the module's head.
pub(crate) struct Shared {
    pub(crate) config: ClusterConfig,
    /// What the members prove to each other that they know.
    pub(crate) secret: ClusterSecret,
    pub(crate) own: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) views: Views,
    pub(crate) desk: Desk,
    /// This node as clients are told of it.
    pub(crate) member_view: MemberView,
    cluster: Mutex<Option<ClusterId>>,
    serving: AtomicU8,
    /// Some core found that it was asleep for too long; control has not seen it yet.
    was_asleep: AtomicBool,
    mail: (Sender<Mail>, Receiver<Mail>),
    /// Counts what may end a WAIT.
    news: AtomicU64,
    /// When it was last complained of each of: secrets, clusters, versions.
    complained_ms: [AtomicU64; 3],
    /// Where nodes listen for each other, members or not.
    addresses: Mutex<Vec<(NodeId, SocketAddr)>>,
}

impl Shared {
    pub(crate) fn new(
        config: ClusterConfig,
        own: NodeId,
        incarnation: Incarnation,
        member_view: MemberView,
    ) -> Self {
        Self {
            secret: ClusterSecret::new(&config.secret),
            config,
            own,
            incarnation,
            views: Views::default(),
            desk: Desk::default(),
            member_view,
            cluster: Mutex::default(),
            serving: AtomicU8::new(Serving::Outside as u8),
            was_asleep: AtomicBool::new(false),
            mail: bounded(MAIL_MAX),
            news: AtomicU64::new(0),
            complained_ms: Default::default(),
            addresses: Mutex::default(),
        }
    }

    #[inline]
    pub(crate) fn serving(&self) -> Serving {
        match self.serving.load(Ordering::Acquire) {
            0 => Serving::Outside,
            1 => Serving::Everything,
            2 => Serving::Reads,
            _ => Serving::Unconfirmed,
        }
    }

    pub(crate) fn set_serving(&self, serving: Serving) {
        self.serving.store(serving as u8, Ordering::Release);
    }

    /// A core was asleep for so long that others may have taken over: nothing is executed until
    /// control knows better.
    pub(crate) fn note_asleep(&self) {
        self.was_asleep.store(true, Ordering::SeqCst);
        self.set_serving(Serving::Unconfirmed);
    }

    /// Whether a core has called [`note_asleep`](Self::note_asleep) since the last call.
    pub(crate) fn take_asleep(&self) -> bool {
        self.was_asleep.swap(false, Ordering::SeqCst)
    }

    /// A follower has acknowledged something, or the view is another: a WAIT may be over.
    pub(crate) fn note_news(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
    }

    /// How often there was something.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    /// Leaves a message for the coordinator; drops it if there are too many.
    pub(crate) fn post(&self, mail: Mail) {
        // It is sent again: nothing in the cluster relies on one message.
        let _ = self.mail.0.try_send(mail);
    }

    pub(crate) fn take_mail(&self) -> Option<Mail> {
        self.mail.1.try_recv().ok()
    }

    /// Logs that this node and `who` do not speak, and what to do; now and then only.
    pub(crate) fn complain(&self, refusal: Refusal, who: &str, now: Time) {
        let (kind, advice) = match refusal {
            Refusal::Proof => (0, "it has another secret: give all nodes the same one"),
            Refusal::OtherCluster => (
                1,
                "it is of another cluster, and clusters do not merge: correct --join, or start one of \
                 them with a new --node-dir",
            ),
            Refusal::Version => (
                2,
                "it speaks no version of the protocol that this node speaks: upgrade the older one",
            ),
            Refusal::Itself | Refusal::OtherNode => {
                tracing::debug!(who, ?refusal, "no link");
                return;
            }
        };
        let last = &self.complained_ms[kind];
        let before = last.load(Ordering::Relaxed);
        if before > 0 && now.0.saturating_sub(before) < COMPLAINT_MS_MIN {
            return;
        }
        // Of several cores at once, one complains.
        let is_first = last.compare_exchange(before, now.0, Ordering::Relaxed, Ordering::Relaxed);
        if is_first.is_ok() {
            tracing::warn!(who, "no connection with this node: {advice}");
        }
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

    /// Where a node listens for others, if that is known.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<SocketAddr> {
        let addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = addresses.iter().find(|(known, _)| *known == node);
        known.map(|&(_, address)| address)
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<(NodeId, SocketAddr)>) {
        *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}
