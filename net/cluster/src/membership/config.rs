//! Settings of the gossip.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use crate::datagram::DATAGRAM_PAYLOAD_BYTES_MAX;
use crate::{ClusterId, ClusterSecret};

/// Nodes that are asked to probe one that does not answer, and that a change is told at once.
const HELPERS: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");
/// Nodes that are asked for all others: an answer has room for some 15 of them.
const ASKED: NonZeroUsize = NonZeroUsize::new(2).expect("not zero");
/// How often a change is passed on; enough for 256 nodes.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(12).expect("not zero");
const PAYLOAD_BYTES_MAX: NonZeroUsize =
    NonZeroUsize::new(DATAGRAM_PAYLOAD_BYTES_MAX).expect("not zero");

/// How a node gossips. All nodes should have the same times.
#[derive(Clone, Debug)]
pub struct Config {
    /// The keys that all nodes share.
    pub secret: ClusterSecret,
    /// The cluster, if it is known already.
    pub cluster: Option<ClusterId>,
    /// Each so often one node is probed.
    pub probe_period_ms: u64,
    /// How long an answer may take until others are asked to probe; less than half of the period.
    pub probe_answer_ms: u64,
    /// How long a node that doesn't answer may defend itself.
    pub suspect_ms: u64,
    /// How long a node that is gone is remembered.
    pub down_ms: u64,
    /// Each so often changes are passed on.
    pub gossip_period_ms: u64,
    /// Each so often some are asked for all nodes, and one that is gone is called.
    pub announce_period_ms: u64,
}

impl Config {
    /// The default times: one that falls silent among five is known as gone after about 5 s.
    #[must_use]
    pub fn new(secret: ClusterSecret, cluster: Option<ClusterId>) -> Self {
        Self {
            secret,
            cluster,
            probe_period_ms: 1_000,
            probe_answer_ms: 300,
            suspect_ms: 3_000,
            down_ms: 24 * 60 * 60 * 1_000,
            gossip_period_ms: 200,
            announce_period_ms: 2_000,
        }
    }

    pub(super) fn to_foca(&self) -> foca::Config {
        let every = |period_ms, num_members| {
            Some(PeriodicParams {
                frequency: Duration::from_millis(period_ms),
                num_members,
            })
        };
        foca::Config {
            probe_period: Duration::from_millis(self.probe_period_ms),
            probe_rtt: Duration::from_millis(self.probe_answer_ms),
            num_indirect_probes: HELPERS,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: Duration::from_millis(self.suspect_ms),
            remove_down_after: Some(Duration::from_millis(self.down_ms)),
            max_packet_size: PAYLOAD_BYTES_MAX,
            notify_down_members: true,
            periodic_announce: every(self.announce_period_ms, ASKED),
            periodic_announce_to_down_members: every(self.announce_period_ms, NonZeroUsize::MIN),
            periodic_gossip: every(self.gossip_period_ms, HELPERS),
        }
    }
}
