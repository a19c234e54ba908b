//! Nodes with real shards, and the connections between their cores.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use fulmar_cluster::replication::{
    Address, CopyPosition, Limits, RemoteCore, Replication, Verdict,
};
use fulmar_cluster::topology::Branch;
use fulmar_cluster::{
    ClusterId, Copies, Epoch, HomeTable, Incarnation, Member, NodeId, RANGES_COUNT, Range,
    ShardIndex, Topology, Zone,
};
use fulmar_engine::{Config, KeyHasher, Time};
use fulmar_protocol::command::table::lookup;
use fulmar_protocol::command::{Argv, Command};
use fulmar_protocol::resp::{Encoder, RespVersion};
use fulmar_shard::{Held, Now, Placement, Shard, ShardStore, execute};

use crate::wire::{Controls, Entries, OwnedBatch, OwnedReply};

/// A process, or what is left of it.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) shards: Vec<Shard>,
    pub(crate) topology: Option<Rc<Topology>>,
    pub(crate) is_alive: bool,
    homes: HomeTable,
    hasher: KeyHasher,
}

/// A connection from a primary's core to a follower's, and what is on its way.
#[derive(Default)]
pub(crate) struct Pipe {
    pub(crate) is_open: bool,
    pub(crate) batches: VecDeque<OwnedBatch>,
    pub(crate) replies: VecDeque<OwnedReply>,
    /// What was sent on earlier connections, or twice, and may still arrive.
    pub(crate) late_batches: Vec<OwnedBatch>,
    pub(crate) late_replies: Vec<OwnedReply>,
}

/// Hash tags of the keys: six ranges, on both cores of a node of two.
pub(crate) const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// How big things are.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) memory_bytes: usize,
    pub(crate) limits: Limits,
}

pub(crate) const ROOMY: Sizes = Sizes {
    memory_bytes: 64 << 20,
    limits: Limits {
        log_bytes_max: 4 << 20,
        log_age_ms_max: 60_000,
        window_bytes_max: 1 << 20,
        sync_bytes_per_second: u64::MAX,
    },
};

pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) pipes: BTreeMap<(RemoteCore, RemoteCore), Pipe>,
    pub(crate) newest: Rc<Topology>,
    /// The ranges that have copies; the others stay where they were.
    /// Nodes that the next topology does not name.
    pub(crate) absent: Vec<NodeId>,
    pub(crate) ranges: Vec<Range>,
    pub(crate) now: Now,
    pub(crate) sizes: Sizes,
    /// Counts what happened, to see that a test tests something.
    pub(crate) syncs: u64,
    pub(crate) item_bytes: u64,
    pub(crate) entries: u64,
}

impl Node {
    fn new(id: u64, cores: u16, incarnation: u64, sizes: &Sizes) -> Self {
        let hasher = KeyHasher::new([id, incarnation, 3, 4]);
        let homes = HomeTable::even(cores);
        let mut config = Config::new(sizes.memory_bytes, hasher);
        config.value_bytes_max = 4 << 20;
        config.ranges_count = RANGES_COUNT;
        config.range_of = |key| Range::of(key).index();
        let (id, incarnation) = (NodeId(id), Incarnation(incarnation));
        let shard = |core| {
            let mut shard = Shard::new(ShardIndex(core), config, 7).expect("the limits are sane");
            let core = ShardIndex(core);
            let replication = Replication::new(id, incarnation, core, &homes, sizes.limits);
            shard.start_replication(replication, hasher);
            shard
        };
        Self {
            id,
            incarnation,
            shards: (0..cores).map(shard).collect(),
            topology: None,
            is_alive: true,
            homes,
            hasher,
        }
    }

    pub(crate) fn shard(&self, range: Range) -> &Shard {
        &self.shards[self.homes.home(range).index()]
    }

    pub(crate) fn shard_mut(&mut self, range: Range) -> &mut Shard {
        &mut self.shards[self.homes.home(range).index()]
    }

    pub(crate) fn replication(&self, range: Range) -> &Replication {
        self.shard(range).replication().expect("it has one")
    }

    pub(crate) fn is_primary(&self, range: Range) -> bool {
        self.is_alive && self.replication(range).is_primary(range)
    }

    pub(crate) fn position(&self, range: Range) -> Option<CopyPosition> {
        self.replication(range).position(range)
    }
}

impl World {
    /// Nodes 1, 2 and so on, with so many cores each; the first one holds everything.
    pub(crate) fn new(cores: &[u16], sizes: Sizes) -> Self {
        let nodes: Vec<Node> = (1..)
            .zip(cores)
            .map(|(id, &cores)| Node::new(id, cores, 1, &sizes))
            .collect();
        let founded = Topology::founded(ClusterId(1), member(&nodes[0]), 1);
        let mut parts = founded.to_parts();
        parts.members = nodes.iter().map(member).collect();
        let newest = Rc::new(Topology::new(parts).expect("consistent"));
        let mut world = Self {
            nodes,
            pipes: BTreeMap::new(),
            newest,
            ranges: TAGS.iter().map(|tag| Range::of(tag.as_bytes())).collect(),
            now: Now {
                time: Time(1_000_000),
                unix_ms: 1_700_000_000_000,
            },
            sizes,
            absent: Vec::new(),
            syncs: 0,
            item_bytes: 0,
            entries: 0,
        };
        world.learn_all();
        world
    }

    /// Decides the next topology: `change` gets each range's copies.
    pub(crate) fn decide(&mut self, mut change: impl FnMut(&mut Self, Range, &mut Copies)) {
        let mut parts = self.newest.to_parts();
        parts.epoch = parts.epoch.next();
        let members = self
            .nodes
            .iter()
            .filter(|node| !self.absent.contains(&node.id));
        parts.members = members.map(member).collect();
        for range in self.ranges.clone() {
            let copies = &mut parts.table[usize::from(range.index())];
            let primary = copies.primary;
            change(self, range, copies);
            if copies.primary != primary {
                copies.term = parts.epoch;
            }
        }
        self.newest = Rc::new(Topology::new(parts).expect("consistent"));
    }

    /// Gives each range these copies, the primary first.
    pub(crate) fn decide_copies(&mut self, ids: &[u64]) {
        self.decide(|_, _, copies| {
            copies.primary = NodeId(ids[0]);
            copies.replicas = ids[1..].iter().map(|&id| NodeId(id)).collect();
            copies.learners.clear();
        });
    }

    pub(crate) fn learn(&mut self, index: usize) {
        let newest = self.newest.clone();
        let node = &self.nodes[index];
        let is_new = node
            .topology
            .as_ref()
            .is_none_or(|topology| topology.epoch() < newest.epoch());
        if node.is_alive && is_new {
            self.install(index, newest);
        }
    }

    /// These nodes found a branch, in which the first one is the primary of each range.
    pub(crate) fn found_branch(&mut self, ids: &[u64]) {
        self.found_branch_with(ids, &[]);
    }

    /// So do these, and `others` are there and follow nobody.
    pub(crate) fn found_branch_with(&mut self, ids: &[u64], others: &[u64]) {
        let founder = NodeId(ids[0]);
        let mut parts = self.newest.to_parts();
        parts.branch = Some(Branch { count: 1, founder });
        for range in &self.ranges {
            let copies = &mut parts.table[usize::from(range.index())];
            if copies.primary != founder {
                copies.term = parts.epoch;
            }
            copies.primary = founder;
            copies.replicas = ids[1..].iter().map(|&id| NodeId(id)).collect();
        }
        let branch = Rc::new(Topology::new(parts).expect("consistent"));
        for &id in ids.iter().chain(others) {
            self.install(self.index_of(NodeId(id)), Rc::clone(&branch));
        }
    }

    /// Decides what this node's branch says.
    pub(crate) fn adopt(&mut self, index: usize) {
        let branch = self.nodes[index].topology.as_ref();
        let mut parts = branch.expect("it has one").to_parts();
        parts.branch = None;
        parts.epoch = parts.epoch.next();
        let founder = self.nodes[index].id;
        let is_alive = |id| self.is_alive(id);
        parts.members.retain(|member| is_alive(member.id));
        for copies in &mut parts.table {
            if !is_alive(copies.primary) {
                (copies.primary, copies.term) = (founder, parts.epoch);
            }
        }
        self.newest = Rc::new(Topology::new(parts).expect("consistent"));
    }

    fn install(&mut self, index: usize, newest: Rc<Topology>) {
        let now = self.now;
        let node = &mut self.nodes[index];
        for shard in &mut node.shards {
            shard.replicate(now, |replication, store| {
                replication.handle_topology(&newest, store);
            });
        }
        node.topology = Some(newest);
    }

    pub(crate) fn learn_all(&mut self) {
        (0..self.nodes.len()).for_each(|index| self.learn(index));
    }

    /// The process dies; what it sent may still arrive.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].is_alive = false;
        let id = self.nodes[index].id;
        let touching: Vec<_> = self.pipes.keys().copied().collect();
        for (from, to) in touching {
            if from.node == id || to.node == id {
                self.cut(from, to, usize::MAX);
            }
        }
    }

    /// The process starts again, and holds nothing.
    pub(crate) fn restart(&mut self, index: usize) {
        self.kill(index);
        let old = &self.nodes[index];
        let cores = u16::try_from(old.shards.len()).expect("few cores");
        self.nodes[index] = Node::new(old.id.0, cores, old.incarnation.0 + 1, &self.sizes);
    }

    pub(crate) fn index_of(&self, id: NodeId) -> usize {
        usize::try_from(id.0).expect("few nodes") - 1
    }

    fn is_alive(&self, id: NodeId) -> bool {
        self.nodes[self.index_of(id)].is_alive
    }

    /// The connection breaks; of what is on its way only the first `kept` batches may still arrive.
    pub(crate) fn cut(&mut self, from: RemoteCore, to: RemoteCore, kept: usize) {
        let Some(pipe) = self.pipes.get_mut(&(from, to)).filter(|pipe| pipe.is_open) else {
            return;
        };
        pipe.is_open = false;
        pipe.late_batches.extend(pipe.batches.drain(..).take(kept));
        pipe.late_replies.extend(pipe.replies.drain(..).take(kept));
        if self.is_alive(from.node) {
            self.on_core(from, |replication, _| replication.handle_disconnected(to));
        }
        if self.is_alive(to.node) {
            self.on_core(to, |replication, store| {
                replication.handle_source_closed(from, store);
            });
        }
    }

    /// The connection by which the follower answers breaks, and the primary's core does not notice: what
    /// was told and is on its way is lost.
    pub(crate) fn cut_back(&mut self, from: RemoteCore, to: RemoteCore) {
        if let Some(pipe) = self.pipes.get_mut(&(from, to)).filter(|pipe| pipe.is_open)
            && self
                .nodes
                .iter()
                .any(|node| node.id == to.node && node.is_alive)
        {
            pipe.replies.clear();
            self.on_core(to, |replication, store| {
                replication.handle_source_closed(from, store);
            });
        }
    }

    /// Calls `act` with a core's replication and items.
    pub(crate) fn on_core<R>(
        &mut self,
        core: RemoteCore,
        act: impl FnOnce(&mut Replication, &mut ShardStore<'_>) -> R,
    ) -> R {
        let (index, now) = (self.index_of(core.node), self.now);
        let shard = &mut self.nodes[index].shards[core.core.index()];
        shard.replicate(now, act).expect("it is replicated")
    }

    /// All pairs of cores of which the first has something for the second to follow.
    pub(crate) fn wanted(&self) -> Vec<(RemoteCore, RemoteCore)> {
        let mut wanted = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            for shard in &node.shards {
                let from = RemoteCore {
                    node: node.id,
                    core: shard.index(),
                };
                let replication = shard.replication().expect("it has one");
                let followers = replication.followers().map(|to| (from, to.core));
                wanted.extend(followers.filter(|(_, to)| self.is_alive(to.node)));
            }
        }
        wanted
    }

    /// Opens the connection, if it is not open.
    pub(crate) fn connect(&mut self, from: RemoteCore, to: RemoteCore) {
        let address = Address {
            core: to,
            incarnation: self.nodes[self.index_of(to.node)].incarnation,
        };
        let is_connected = |replication: &mut Replication, _: &mut ShardStore<'_>| {
            replication.is_connected(address)
        };
        if self.pipes.entry((from, to)).or_default().is_open && self.on_core(from, is_connected) {
            return;
        }
        self.cut(from, to, 2);
        let is_wanted = self.on_core(from, |replication, _| replication.handle_connected(address));
        self.pipes.entry((from, to)).or_default().is_open = is_wanted;
    }

    /// Lets `from` send a batch; false if there is none.
    pub(crate) fn send_batch(&mut self, from: RemoteCore, to: RemoteCore) -> bool {
        let time = fulmar_cluster::Time(self.now.time.0);
        let mut entries = Entries::default();
        let header = self.on_core(from, |replication, store| {
            replication.poll_batch(to, store, time, &mut entries)
        });
        let Some(header) = header else {
            return false;
        };
        let entries = entries.0;
        assert!(!entries.is_empty());
        self.entries += entries.len() as u64;
        self.syncs += entries.iter().filter(|one| one.is_sync_begin()).count() as u64;
        let bytes: usize = entries.iter().filter_map(|one| one.item_bytes()).sum();
        self.item_bytes += bytes as u64;
        let pipe = self.pipes.entry((from, to)).or_default();
        pipe.batches.push_back(OwnedBatch { header, entries });
        true
    }

    /// Lets `to` tell `from` what it has to say; false if there is nothing.
    pub(crate) fn send_reply(&mut self, from: RemoteCore, to: RemoteCore) -> bool {
        let mut controls = Controls::default();
        let header = self.on_core(to, |replication, _| {
            replication.poll_control(from, &mut controls)
        });
        let Some(header) = header else {
            return false;
        };
        let controls = controls.0;
        let pipe = self.pipes.entry((from, to)).or_default();
        pipe.replies.push_back(OwnedReply { header, controls });
        true
    }

    /// A batch arrives. If its receiver is to learn of a newer topology first, that happens.
    pub(crate) fn deliver_batch(&mut self, batch: &OwnedBatch) {
        let to = batch.header.to.core;
        if !self.is_alive(to.node) {
            return;
        }
        let time = fulmar_cluster::Time(self.now.time.0);
        let begin = |world: &mut Self| {
            world.on_core(to, |replication, store| {
                replication.begin_batch(&batch.header, store)
            })
        };
        let mut verdict = begin(self);
        if verdict == Verdict::Ahead {
            let index = self.index_of(to.node);
            self.learn(index);
            verdict = begin(self);
        }
        if verdict != Verdict::Apply {
            return;
        }
        self.on_core(to, |replication, store| {
            for entry in &batch.entries {
                entry.give(&mut |entry| replication.handle_entry(entry, store, time));
            }
            replication.end_batch();
        });
    }

    pub(crate) fn deliver_reply(&mut self, reply: &OwnedReply) {
        let to = reply.header.to.core;
        if !self.is_alive(to.node) {
            return;
        }
        if reply.header.epoch > self.epoch_of(to.node) {
            let index = self.index_of(to.node);
            self.learn(index);
        }
        let time = fulmar_cluster::Time(self.now.time.0);
        self.on_core(to, |replication, _| {
            if replication.begin_control(&reply.header, time) {
                for control in &reply.controls {
                    replication.handle_control(&control.as_control());
                }
            }
        });
    }

    fn epoch_of(&self, id: NodeId) -> Epoch {
        let topology = &self.nodes[self.index_of(id)].topology;
        topology.as_ref().map_or(Epoch(0), |one| one.epoch())
    }

    /// Background work of all cores; true if there is more.
    pub(crate) fn advance(&mut self) -> bool {
        let now = self.now;
        let time = fulmar_cluster::Time(now.time.0);
        let mut is_more = false;
        for node in self.nodes.iter_mut().filter(|node| node.is_alive) {
            for shard in &mut node.shards {
                is_more |= shard
                    .replicate(now, |replication, store| replication.advance(store, time))
                    .expect("it is replicated");
            }
        }
        is_more
    }

    /// Passes everything on until nothing moves.
    pub(crate) fn settle(&mut self) {
        self.learn_all();
        for _ in 0..20_000 {
            let mut has_moved = self.advance();
            for (from, to) in self.wanted() {
                self.connect(from, to);
                self.send_reply(from, to);
                while self.send_batch(from, to) || self.is_something_on_its_way(from, to) {
                    has_moved = true;
                    while let Some(batch) = self.pipe(from, to).batches.pop_front() {
                        self.deliver_batch(&batch);
                        self.send_reply(from, to);
                    }
                    while let Some(reply) = self.pipe(from, to).replies.pop_front() {
                        self.deliver_reply(&reply);
                    }
                }
            }
            if !has_moved {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn pipe(&mut self, from: RemoteCore, to: RemoteCore) -> &mut Pipe {
        self.pipes.get_mut(&(from, to)).expect("it is open")
    }

    fn is_something_on_its_way(&mut self, from: RemoteCore, to: RemoteCore) -> bool {
        let pipe = self.pipe(from, to);
        !pipe.batches.is_empty() || !pipe.replies.is_empty()
    }

    /// Executes a command on a node, and gives its reply.
    pub(crate) fn run(&mut self, index: usize, args: &[&[u8]]) -> Vec<u8> {
        let now = self.now;
        let node = &mut self.nodes[index];
        let spec = lookup(args).expect("the command exists");
        let argv = Argv { args, staged: &[] };
        let Ok(Command::Data(command)) = Command::parse(spec, argv) else {
            panic!("it is a data command with the right arguments");
        };
        let placement = Placement {
            homes: &node.homes,
            hasher: node.hasher,
        };
        let mut held: Vec<&mut Shard> = node.shards.iter_mut().collect();
        let mut shards = Held::new(&mut held, placement);
        let mut out = Vec::new();
        let mut reply = Encoder::new(&mut out, RespVersion::Resp2);
        execute(&command, &mut shards, &mut [], now, &mut reply);
        out
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.now.time.0 += ms;
        self.now.unix_ms += i64::try_from(ms).expect("short");
    }
}

fn member(node: &Node) -> Member {
    Member {
        id: node.id,
        incarnation: node.incarnation,
        cores: u16::try_from(node.shards.len()).expect("few cores"),
        weight: 1,
        zone: Zone::default(),
    }
}
