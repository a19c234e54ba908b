//! What becomes of a packet on its way.

use fulmar_cluster::message::Envelope;

use crate::data::DataMessage;
use crate::random::Random;

/// Anything that nodes send.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Control(Box<Envelope>),
    Datagram(Vec<u8>),
    /// By a stream, to the process that opened it.
    Data {
        message: DataMessage,
        life: u64,
    },
}

/// The links between slots, and what is wrong with them.
#[derive(Debug)]
pub(crate) struct Network {
    slots: usize,
    /// By sender and receiver: nothing gets through.
    blocked: Vec<bool>,
    /// By sender and receiver: heartbeats don't get through.
    deaf: Vec<bool>,
    pub(crate) drop_permille: u64,
    pub(crate) duplicate_permille: u64,
    pub(crate) delay_max_ms: u64,
    /// By slot: what comes to it takes longer.
    pub(crate) slow_ms: Vec<u64>,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
}

/// Usual time on the way, at most.
const DELAY_MS: u64 = 3;
/// A lost packet of a stream is sent again after this, the next time after twice as long.
const RESEND_MS: u64 = 50;
/// So often at most.
const RESENDS_MAX: u32 = 5;

impl Network {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots,
            blocked: vec![false; slots * slots],
            deaf: vec![false; slots * slots],
            drop_permille: 0,
            duplicate_permille: 0,
            delay_max_ms: DELAY_MS,
            slow_ms: vec![0; slots],
            delivered: 0,
            dropped: 0,
        }
    }

    /// Cuts what `from` sends to `to`, both sets of bits.
    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        Self::mark(self.slots, &mut self.blocked, from, to);
    }

    /// Cuts the heartbeats.
    pub(crate) fn deafen(&mut self, from: u64, to: u64) {
        Self::mark(self.slots, &mut self.deaf, from, to);
    }

    fn mark(slots: usize, links: &mut [bool], from: u64, to: u64) {
        for sender in 0..slots {
            for receiver in 0..slots {
                if from >> sender & 1 == 1 && to >> receiver & 1 == 1 && sender != receiver {
                    links[sender * slots + receiver] = true;
                }
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        let delivered = (self.delivered, self.dropped);
        *self = Self::new(self.slots);
        (self.delivered, self.dropped) = delivered;
    }

    pub(crate) fn mend_links(&mut self) {
        self.blocked.fill(false);
        self.deaf.fill(false);
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_calm(&self) -> bool {
        let is_open = |links: &[bool]| links.iter().all(|blocked| !blocked);
        is_open(&self.blocked)
            && is_open(&self.deaf)
            && self.drop_permille == 0
            && self.delay_max_ms == DELAY_MS
            && self.slow_ms.iter().all(|&ms| ms == 0)
    }

    /// When the next bytes of a stream arrive, counted from now; `None` if nothing gets through.
    pub(crate) fn stream(&mut self, from: usize, to: usize, random: &mut Random) -> Option<u64> {
        if self.blocked[from * self.slots + to] {
            self.dropped += 1;
            return None;
        }
        self.delivered += 1;
        let losses = (0..RESENDS_MAX).take_while(|_| random.permille(self.drop_permille));
        let resend_ms: u64 = losses.map(|nth| RESEND_MS << nth).sum();
        Some(resend_ms + self.delay(random) + self.slow_ms[to])
    }

    /// Most are quick, some take very long: so that many overtake each other.
    fn delay(&self, random: &mut Random) -> u64 {
        let max_ms = if random.permille(200) {
            self.delay_max_ms
        } else {
            self.delay_max_ms / 4
        };
        random.between(0, max_ms.max(1))
    }

    /// When copies of a packet arrive, counted from now.
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: usize,
        packet: &Packet,
        random: &mut Random,
    ) -> Vec<u64> {
        let link = from * self.slots + to;
        let is_heartbeat = matches!(packet, Packet::Datagram(_));
        if self.blocked[link] || (is_heartbeat && self.deaf[link]) {
            self.dropped += 1;
            return Vec::new();
        }
        let mut delays = Vec::new();
        let copies = 1 + u64::from(random.permille(self.duplicate_permille));
        for _ in 0..copies {
            if random.permille(self.drop_permille) {
                self.dropped += 1;
                continue;
            }
            self.delivered += 1;
            delays.push(self.delay(random) + self.slow_ms[to]);
        }
        delays
    }
}
