//! A machine: its clock, its disk, and the process on it, if one runs.

use fulmar_cluster::coordinator::{
    Config, Coordinator, Event, Minority, Sabotage, Saved, SealedPosition, Start,
};
use fulmar_cluster::decision::Ballot;
use fulmar_cluster::{Incarnation, Member, NodeId, Range, Time, Zone};

use crate::data::{CORES, Data, Faithless};
use crate::network::Packet;
use crate::place;
use crate::random::Random;

/// What waits for a process.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Packet(Packet),
    Persisted(u64),
    Sealed(u64, Vec<SealedPosition>),
    Held(Ballot, Vec<Range>),
    /// What the coordinator asks of the cores.
    Order(Event),
    Wake,
    Tick,
}

/// What all nodes of a schedule have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) minority: Minority,
    pub(crate) replicas_wanted: u8,
    pub(crate) slots: u16,
    pub(crate) faithless: Faithless,
    pub(crate) sabotage: Sabotage,
    pub(crate) has_real_placement: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) coordinator: Coordinator,
    pub(crate) data: Data,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) saved: Saved,
    pub(crate) process: Option<Process>,
    /// Counts processes: what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    pub(crate) is_paused: bool,
    pub(crate) inbox: Vec<Input>,
    pub(crate) disk_ms: u64,
    /// Whether the disk is busy, and what it is to write next: the newest of what was asked for.
    pub(crate) is_writing: bool,
    pub(crate) to_write: Option<(u64, Saved)>,
    pub(crate) wake_ms: u64,
    /// When the cores get the last order, at the latest.
    pub(crate) ordered_ms: u64,
    pub(crate) start: Start,
    /// The clock, which nobody sets, differs from that of others by this, and goes faster or slower.
    offset_ms: u64,
    drift_ppm: u64,
}

/// Usual time to have a vote on disk, at most.
pub(crate) const DISK_MS: u64 = 5;

impl Node {
    pub(crate) fn new(id: u64, start: Start, random: &mut Random) -> Self {
        Self {
            id: NodeId(id),
            incarnation: Incarnation(0),
            saved: Saved::default(),
            process: None,
            life: 0,
            is_paused: false,
            inbox: Vec::new(),
            disk_ms: DISK_MS,
            is_writing: false,
            to_write: None,
            wake_ms: 0,
            ordered_ms: 0,
            start,
            offset_ms: random.below(1 << 30),
            drift_ppm: random.below(400),
        }
    }

    /// This node's clock at a time of the world.
    pub(crate) fn local(&self, world_ms: u64) -> Time {
        Time(self.offset_ms + world_ms + world_ms * self.drift_ppm / 1_000_000)
    }

    /// The first time of the world at which this node's clock shows `local`.
    pub(crate) fn world_ms(&self, local: Time) -> u64 {
        let elapsed = local.0.saturating_sub(self.offset_ms);
        let mut world_ms = elapsed * 1_000_000 / (1_000_000 + self.drift_ppm);
        while self.local(world_ms) < local {
            world_ms += 1;
        }
        world_ms
    }

    pub(crate) fn boot(&mut self, rules: &Rules, world_ms: u64) {
        self.incarnation = self.incarnation.next();
        self.life += 1;
        self.is_paused = false;
        self.inbox.clear();
        self.wake_ms = 0;
        self.is_writing = false;
        self.to_write = None;
        let member = Member {
            id: self.id,
            incarnation: self.incarnation,
            cores: CORES,
            weight: 1,
            zone: Zone::default(),
        };
        let mut config = Config::new(member, self.saved.clone(), self.start.clone());
        config.replicas_wanted = rules.replicas_wanted;
        config.minority = rules.minority;
        config.rebuild_delay_ms = 3_000;
        if !rules.has_real_placement {
            config.place = place::by_turns;
        }
        config.sabotage = rules.sabotage;
        let ignores = rules.sabotage.ignores_incarnations;
        self.process = Some(Process {
            data: Data::new(self.id, self.incarnation, rules.faithless, ignores),
            coordinator: Coordinator::new(config, self.local(world_ms)),
        });
    }

    /// The process ends, and what it had in memory. What was not on disk is gone.
    pub(crate) fn halt(&mut self) {
        self.process = None;
        self.life += 1;
        self.is_paused = false;
        self.inbox.clear();
    }

    /// The directory is gone: another name, and nothing of a cluster.
    pub(crate) fn lose_directory(&mut self, id: u64, targets: u16) {
        self.id = NodeId(id);
        self.incarnation = Incarnation(0);
        self.saved = Saved::default();
        self.start = Start::Join { targets };
    }
}
