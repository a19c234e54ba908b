//! A schedule: some nodes, one seed, and all that happens to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use fulmar_cluster::coordinator::{Coordinator, Event, Minority, Sabotage, Saved, Serving, Start};
use fulmar_cluster::{ClusterId, Incarnation, NodeId, Range, Time, Topology};

use crate::checkers::acknowledged::{Acknowledged, Build};
use crate::checkers::epochs::Epochs;
use crate::checkers::handed_over::HandedOver;
use crate::checkers::owners::Owners;
use crate::checkers::primaries::Primaries;
use crate::checkers::{Verdict, incarnations};
use crate::data::{Deed, Faithless, modelled};
use crate::faults::{self, Fault};
use crate::network::{Network, Packet};
use crate::node::{Input, Node, Process, Rules};
use crate::random::Random;
use crate::scheduler::Scheduler;

mod look;
mod streams;
mod trouble;

use streams::Streams;

const TICK_MS: u64 = 50;
const LOOK_MS: u64 = 20;
/// Writes stop.
const WRITES_END_MS: u64 = faults::LAST_MS + 4_000;
/// By then everything has to be settled.
const SETTLED_MS: u64 = faults::LAST_MS + 60_000;

/// What a schedule is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) faithless: Faithless,
    pub(crate) sabotage: Sabotage,
    pub(crate) has_real_placement: bool,
    /// Without faults of chance.
    pub(crate) is_calm: bool,
    /// So many nodes with one replica that serve in a minority, if not 0.
    pub(crate) slots: u16,
    /// Five nodes with slow disks, of which one and three others don't hear each other, while their
    /// streams are open: it is accused by a quorum, and has one.
    pub(crate) is_deaf: bool,
    /// Cores do what the coordinator asks for so late, at most.
    pub(crate) lag_ms: u64,
}

/// What came of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) faults: u64,
    pub(crate) decisions: u64,
    pub(crate) elections: u64,
    pub(crate) lost_ranges: u64,
    pub(crate) divergences: u64,
    pub(crate) aborted_hand_overs: u64,
    pub(crate) writes: u64,
    pub(crate) acknowledged: u64,
    pub(crate) checked: u64,
    pub(crate) handed_over: u64,
    pub(crate) packets: u64,
    pub(crate) failovers_ms: Vec<u64>,
    pub(crate) settled_ms: u64,
    pub(crate) is_quorum_gone: bool,
    pub(crate) virtual_ms: u64,
    /// Writes that are there at the end.
    pub(crate) held: u64,
}

#[derive(Debug)]
enum Job {
    Input {
        slot: usize,
        life: Option<u64>,
        input: Input,
    },
    Written {
        slot: usize,
        life: u64,
        serial: u64,
        saved: Saved,
    },
    /// A stream of this process to a node broke.
    Broken {
        slot: usize,
        life: u64,
        to: NodeId,
        stream: u64,
    },
    Boot {
        slot: usize,
    },
    Resume {
        slot: usize,
    },
    Fault(Fault),
    Mend(Mended),
    Quiet,
    Look,
}

#[derive(Clone, Copy, Debug)]
enum Mended {
    Links,
    Loss,
    Delay,
    Duplicates,
    Disk(usize),
    Slowness(usize),
}

pub(crate) struct World {
    random: Random,
    scheduler: Scheduler<Job>,
    network: Network,
    streams: Streams,
    pub(crate) nodes: Vec<Node>,
    rules: Rules,
    lag_ms: u64,
    epochs: Epochs,
    primaries: Primaries,
    acknowledged: Acknowledged,
    handed_over: HandedOver,
    owners: Owners,
    report: Report,
    names: u64,
    trace: bool,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64, options: Options) -> Report {
    let mut world = World::new(seed, options);
    world.run();
    world.finish()
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let slots =
            [1, 2, 3, 3, 4, 4, 5, 6, 7, 7][usize::try_from(random.below(10)).expect("small")];
        let slots = if options.is_deaf { 5 } else { slots };
        let is_given = options.slots > 0;
        let slots = if is_given { options.slots } else { slots };
        let rules = Rules {
            minority: if random.permille(700) || is_given {
                Minority::Serve
            } else {
                Minority::Refuse
            },
            replicas_wanted: match random.below(4) {
                _ if is_given => 1,
                _ if options.is_deaf => 2,
                0 => 0,
                1 | 2 => 1,
                _ => 2,
            },
            slots,
            faithless: options.faithless,
            sabotage: options.sabotage,
            has_real_placement: options.has_real_placement,
        };
        let mut world = Self {
            random,
            scheduler: Scheduler::new(1_000),
            network: Network::new(usize::from(slots)),
            streams: Streams::default(),
            nodes: Vec::new(),
            rules,
            lag_ms: options.lag_ms,
            epochs: Epochs::default(),
            primaries: Primaries::default(),
            acknowledged: Acknowledged::default(),
            handed_over: HandedOver::default(),
            owners: Owners::default(),
            report: Report::default(),
            names: 0,
            trace: std::env::var_os("FULMAR_SIM_TRACE").is_some(),
        };
        world.set_up(slots, options);
        world
    }

    fn set_up(&mut self, slots: u16, options: Options) {
        let is_bootstrap = self.random.permille(300);
        let cluster = ClusterId(self.random.next());
        for slot in 0..slots {
            let start = match slot {
                0 if is_bootstrap => Start::Bootstrap {
                    cluster,
                    expect: slots,
                    targets: slots,
                },
                0 => Start::Found(cluster),
                _ => Start::Join { targets: slots },
            };
            let id = self.new_name();
            let node = Node::new(id, start, &mut self.random);
            self.nodes.push(node);
            let late = self.random.permille(150) && !is_bootstrap;
            let wait_ms = if late { 9_000 } else { 200 };
            let slot = usize::from(slot);
            let wait_ms = self.random.below(wait_ms);
            self.scheduler.after(wait_ms, Job::Boot { slot });
        }
        if options.is_deaf {
            self.network.delay_max_ms = 80;
            self.nodes.iter_mut().for_each(|node| node.disk_ms = 120);
            for time in 2..faults::LAST_MS / 2_000 {
                let one = self.random.below(5);
                let others = 0b111 << ((one + 1 + self.random.below(2)) % 5);
                let (from, to) = (1 << one, (others | others >> 5) & 0b1_1111);
                let fault = Fault::Deaf {
                    from,
                    to,
                    ms: 1_500,
                };
                self.scheduler.at(2_000 * time, Job::Fault(fault));
            }
        } else if !options.is_calm {
            for (at, fault) in faults::schedule(usize::from(slots), &mut self.random) {
                self.scheduler.at(at, Job::Fault(fault));
            }
        }
        self.scheduler.at(faults::LAST_MS, Job::Quiet);
        self.scheduler.after(LOOK_MS, Job::Look);
    }

    fn new_name(&mut self) -> u64 {
        self.names += 1;
        // Names in no order, so that the lowest is not the oldest.
        (self.random.below(1 << 16) << 16) | self.names
    }

    pub(crate) fn run(&mut self) {
        while self.report.violation.is_none() && self.report.settled_ms == 0 {
            let Some(job) = self.scheduler.pop() else {
                return;
            };
            if let Err(violation) = self.handle(job) {
                self.report.violation = Some(violation);
            }
        }
    }

    /// Runs until a time; nothing may be violated.
    pub(crate) fn run_until(&mut self, time_ms: u64) {
        while self.now_ms() < time_ms {
            let job = self.scheduler.pop().expect("ticks never end");
            self.handle(job).expect("nothing is violated");
        }
    }

    /// Ends processes, or starts them again.
    pub(crate) fn crash(&mut self, slot: usize) {
        self.halt(slot);
        self.owners.disturbed(self.now_ms());
    }

    pub(crate) fn restart(&mut self, slot: usize) {
        self.boot(slot).expect("nothing is violated");
    }

    /// Calls a process, and does what it asks for.
    pub(crate) fn call<T>(
        &mut self,
        slot: usize,
        call: impl FnOnce(&mut Coordinator, Time) -> T,
    ) -> T {
        let now = self.nodes[slot].local(self.now_ms());
        let process = self.nodes[slot].process.as_mut().expect("it runs");
        let result = call(&mut process.coordinator, now);
        self.drain(slot).expect("nothing is violated");
        result
    }

    pub(crate) fn finish(mut self) -> Report {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                add_counters(&mut self.report, process);
            }
        }
        self.report.virtual_ms = self.scheduler.now_ms();
        self.report.decisions = self.epochs.count();
        self.report.acknowledged = self.acknowledged.count;
        self.report.checked = self.acknowledged.checked;
        self.report.handed_over = self.handed_over.checked;
        self.report.packets = self.network.delivered;
        self.report.held = self.held_by_primaries();
        self.report.failovers_ms = std::mem::take(&mut self.owners.failovers_ms);
        self.report
    }

    fn held_by_primaries(&self) -> u64 {
        let data = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let held = data.flat_map(|Process { data, .. }| {
            data.primaries().map(|(range, _)| data.held(range).len())
        });
        held.sum::<usize>() as u64
    }

    fn now_ms(&self) -> u64 {
        self.scheduler.now_ms()
    }

    fn handle(&mut self, job: Job) -> Verdict {
        match job {
            Job::Input {
                slot,
                input: Input::Packet(Packet::Data { message, life }),
                ..
            } if self.nodes[slot].process.is_none() || self.nodes[slot].life != life => {
                self.refuse(&message);
                Ok(())
            }
            Job::Input { slot, life, input } => {
                let node = &mut self.nodes[slot];
                if node.process.is_none() || life.is_some_and(|life| life != node.life) {
                    return Ok(());
                }
                if node.is_paused {
                    node.inbox.push(input);
                    return Ok(());
                }
                self.input(slot, input)
            }
            Job::Written {
                slot,
                life,
                serial,
                saved,
            } => {
                let node = &mut self.nodes[slot];
                if node.life == life {
                    node.saved = saved;
                    node.is_writing = false;
                    self.write(slot);
                    let input = Input::Persisted(serial);
                    return self.handle(Job::Input {
                        slot,
                        life: Some(life),
                        input,
                    });
                }
                Ok(())
            }
            Job::Broken {
                slot,
                life,
                to,
                stream,
            } => self.handle_broken(slot, life, to, stream),
            Job::Boot { slot } => self.boot(slot),
            Job::Resume { slot } => self.resume(slot),
            Job::Fault(fault) => {
                self.report.faults += 1;
                self.fault(&fault);
                Ok(())
            }
            Job::Mend(mended) => {
                self.mend(mended);
                Ok(())
            }
            Job::Quiet => self.quiet(),
            Job::Look => self.look(),
        }
    }

    fn boot(&mut self, slot: usize) -> Verdict {
        let now_ms = self.now_ms();
        self.owners.disturbed(now_ms);
        if self.nodes[slot].process.is_some() {
            return Ok(());
        }
        self.nodes[slot].boot(&self.rules, now_ms);
        self.trace(slot, || "boots".to_owned());
        let life = Some(self.nodes[slot].life);
        let wait_ms = self.random.below(TICK_MS);
        self.scheduler.after(
            wait_ms,
            Job::Input {
                slot,
                life,
                input: Input::Tick,
            },
        );
        self.drain(slot)
    }

    fn resume(&mut self, slot: usize) -> Verdict {
        let now_ms = self.now_ms();
        self.owners.disturbed(now_ms);
        let node = &mut self.nodes[slot];
        if !node.is_paused {
            return Ok(());
        }
        node.is_paused = false;
        let mut inbox = std::mem::take(&mut node.inbox).into_iter();
        for input in inbox.by_ref() {
            if self.nodes[slot].process.is_none() {
                break;
            }
            self.input(slot, input)?;
        }
        Ok(())
    }

    fn halt(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        if let Some(process) = &node.process {
            add_counters(&mut self.report, process);
            self.acknowledged.died((node.id, node.incarnation));
        }
        node.halt();
        self.trace(slot, || "halts".to_owned());
    }

    /// Gives a process what waits for it, and does what it asks for.
    fn input(&mut self, slot: usize, input: Input) -> Verdict {
        let now = self.nodes[slot].local(self.now_ms());
        let Some(process) = &mut self.nodes[slot].process else {
            return Ok(());
        };
        let coordinator = &mut process.coordinator;
        match input {
            Input::Packet(Packet::Control(envelope)) => coordinator.handle_message(now, *envelope),
            Input::Packet(Packet::Datagram(bytes)) => coordinator.handle_datagram(now, &bytes),
            Input::Packet(Packet::Data { message, .. }) => {
                let counts = coordinator.serves(now) == Serving::Decided;
                process.data.receive(message, counts, now);
                self.say(slot);
                self.report_held(slot)?;
            }
            Input::Persisted(serial) => coordinator.handle_persisted(now, serial),
            Input::Sealed(serial, positions) => coordinator.handle_sealed(now, serial, &positions),
            Input::Held(ballot, ranges) => coordinator.handle_held(now, ballot, &ranges),
            Input::Order(order) => self.obey(slot, order)?,
            Input::Wake => {
                self.nodes[slot].wake_ms = 0;
                if let Some(process) = &mut self.nodes[slot].process {
                    process.coordinator.handle_timeout(now);
                }
            }
            Input::Tick => self.tick(slot)?,
        }
        self.drain(slot)
    }

    /// Writes, what other nodes are to be told, and copies that became whole.
    fn tick(&mut self, slot: usize) -> Verdict {
        let now_ms = self.now_ms();
        let node = &mut self.nodes[slot];
        let now = node.local(now_ms);
        let process = (node.id, node.incarnation);
        let Some(Process { coordinator, data }) = &mut node.process else {
            return Ok(());
        };
        let serving = coordinator.serves(now);
        let primaries: Vec<_> = data.primaries().collect();
        for (range, term) in primaries {
            let is_time = now_ms < WRITES_END_MS && self.random.permille(300);
            let write = self.report.writes + 1;
            if !serving.is_writable() || !is_time || !data.write(range, write, now) {
                continue;
            }
            self.report.writes += 1;
            let topology = data.topology.as_ref().expect("it serves");
            // The cores can be behind.
            if serving == Serving::Decided && topology.branch().is_none() {
                incarnations::acted(topology, process.0, process.1)?;
                self.primaries
                    .wrote(topology.cluster(), range, term, process)?;
            }
        }
        let whole = data.poll_complete();
        if !whole.is_empty() {
            coordinator.handle_complete(now, &whole);
        }
        data.receive_all(serving == Serving::Decided, now);
        let life = Some(node.life);
        self.say(slot);
        self.report_held(slot)?;
        self.scheduler.after(
            TICK_MS,
            Job::Input {
                slot,
                life,
                input: Input::Tick,
            },
        );
        Ok(())
    }

    fn report_held(&mut self, slot: usize) -> Verdict {
        let node = &mut self.nodes[slot];
        let life = Some(node.life);
        let process = node.process.as_mut();
        if let Some((ballot, held)) = process.and_then(|process| process.data.poll_held()) {
            let input = Input::Held(ballot, held);
            let wait_ms = self.random.below(3);
            self.scheduler
                .after(wait_ms, Job::Input { slot, life, input });
        }
        Ok(())
    }

    /// Does what a process asked for.
    fn drain(&mut self, slot: usize) -> Verdict {
        self.note_attempt(slot);
        loop {
            let process = self.nodes[slot].process.as_mut();
            let Some(event) = process.and_then(|process| process.coordinator.poll_event()) else {
                break;
            };
            self.event(slot, event)?;
        }
        self.deeds(slot)?;
        self.schedule_wake(slot);
        Ok(())
    }

    fn schedule_wake(&mut self, slot: usize) {
        let now_ms = self.now_ms();
        let node = &mut self.nodes[slot];
        let Some(process) = &node.process else {
            return;
        };
        let at_ms = node.world_ms(process.coordinator.next_deadline());
        if node.wake_ms == 0 || at_ms < node.wake_ms || node.wake_ms < now_ms {
            node.wake_ms = at_ms.max(now_ms + 1);
            let job = Job::Input {
                slot,
                life: Some(node.life),
                input: Input::Wake,
            };
            self.scheduler.at(node.wake_ms, job);
        }
    }

    fn event(&mut self, slot: usize, event: Event) -> Verdict {
        match event {
            Event::Send { to, envelope } => {
                self.transmit(slot, to, Packet::Control(Box::new(envelope)));
            }
            Event::Hello { target, envelope } => {
                let packet = Packet::Control(Box::new(envelope));
                self.transmit_to(slot, usize::from(target), packet);
            }
            Event::Datagram { to, bytes } => self.transmit(slot, to, Packet::Datagram(bytes)),
            Event::Persist { serial, saved } => {
                self.nodes[slot].to_write = Some((serial, saved));
                self.write(slot);
            }
            Event::Install(ref topology) => {
                self.epochs.installed(topology)?;
                return self.order(slot, event);
            }
            Event::Seal { .. } | Event::Hold { .. } | Event::Release => {
                return self.order(slot, event);
            }
            Event::Left => {
                self.halt(slot);
                self.owners.disturbed(self.now_ms());
                let wait_ms = self.random.between(200, 4_000);
                self.scheduler.after(wait_ms, Job::Boot { slot });
            }
        }
        Ok(())
    }

    /// Has the cores do what the coordinator asks for: in order, now or later.
    fn order(&mut self, slot: usize, order: Event) -> Verdict {
        if self.lag_ms == 0 {
            return self.obey(slot, order);
        }
        let at_ms = self.now_ms() + self.random.below(self.lag_ms);
        let node = &mut self.nodes[slot];
        node.ordered_ms = node.ordered_ms.max(at_ms);
        let job = Job::Input {
            slot,
            life: Some(node.life),
            input: Input::Order(order),
        };
        self.scheduler.at(node.ordered_ms, job);
        Ok(())
    }

    fn obey(&mut self, slot: usize, order: Event) -> Verdict {
        let life = Some(self.nodes[slot].life);
        match order {
            Event::Install(topology) => return self.install(slot, topology),
            Event::Seal {
                serial,
                nodes,
                ranges,
            } => {
                let process = self.nodes[slot].process.as_mut();
                let positions = process.map(|process| process.data.seal(&nodes, &ranges));
                self.trace(slot, || {
                    let told = positions.iter().flatten();
                    let told = told.filter(|told| modelled().any(|range| range == told.range));
                    let told = told.map(|p| (p.range.index(), p.term.0, p.seq.0, p.is_complete));
                    format!("seals {nodes:?} with {:?}", told.collect::<Vec<_>>())
                });
                let input = Input::Sealed(serial, positions.unwrap_or_default());
                let wait_ms = self.random.below(3);
                self.scheduler
                    .after(wait_ms, Job::Input { slot, life, input });
            }
            Event::Hold { ballot, hand_overs } => {
                if let Some(process) = &mut self.nodes[slot].process {
                    process.data.hold(ballot, hand_overs);
                }
                self.say(slot);
                self.report_held(slot)?;
            }
            Event::Release => {
                if let Some(process) = &mut self.nodes[slot].process {
                    process.data.release();
                }
            }
            _ => unreachable!("that is not the cores'"),
        }
        Ok(())
    }

    /// Starts to write what is to be written, unless the disk is busy.
    fn write(&mut self, slot: usize) {
        let node = &mut self.nodes[slot];
        if node.is_writing {
            return;
        }
        if let Some((serial, saved)) = node.to_write.take() {
            node.is_writing = true;
            let wait_ms = self.random.between(1, node.disk_ms.max(1));
            let life = node.life;
            let job = Job::Written {
                slot,
                life,
                serial,
                saved,
            };
            self.scheduler.after(wait_ms, job);
        }
    }

    fn install(&mut self, slot: usize, topology: Arc<Topology>) -> Verdict {
        self.trace(slot, || {
            let members: Vec<NodeId> = topology.members().iter().map(|m| m.id).collect();
            format!(
                "installs {} {:?} {members:x?} first {:?}",
                topology.epoch().0,
                topology.branch(),
                modelled()
                    .map(|range| topology.copies(range).clone())
                    .next(),
            )
        });
        if let Some(process) = &mut self.nodes[slot].process {
            process.data.install(topology);
        }
        self.say(slot);
        self.deeds(slot)
    }

    /// Tells the checkers what the data plane did.
    fn deeds(&mut self, slot: usize) -> Verdict {
        let node = &mut self.nodes[slot];
        let me = (node.id, node.incarnation);
        let Some(process) = &mut node.process else {
            return Ok(());
        };
        let deeds = std::mem::take(&mut process.data.deeds);
        let Some(topology) = process.data.topology.clone() else {
            return Ok(());
        };
        for deed in deeds {
            match deed {
                Deed::Lost { range, write } => {
                    self.acknowledged.lost(range, me, write, topology.epoch());
                }
                Deed::Gave { range, term, had } => {
                    let reign = (topology.cluster(), range, term);
                    self.handed_over.gave(reign, had)?;
                }
                Deed::Began { range, term, has } => {
                    let reign = (topology.cluster(), range, term);
                    self.handed_over.took(reign, &has)?;
                    self.acknowledged.began(&topology, range, term, has)?;
                }
                Deed::Acknowledged {
                    range,
                    term,
                    by,
                    incarnation,
                    said,
                    write,
                } => {
                    incarnations::acted(&topology, by, incarnation)?;
                    // A topology may have taken its copy since it sent this.
                    let process = (by, incarnation);
                    if self.has(by, incarnation, range, write) {
                        self.acknowledged
                            .acknowledged(range, term, said, process, write)?;
                    } else if self.lives(by, incarnation) {
                        self.acknowledged.never_had(range, process, write)?;
                    }
                }
                Deed::Applied { from, incarnation } => {
                    incarnations::acted(&topology, from, incarnation)?;
                }
            }
        }
        Ok(())
    }

    fn lives(&self, id: NodeId, incarnation: Incarnation) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| (node.id, node.incarnation) == (id, incarnation) && node.process.is_some())
    }

    /// Whether a process lives and has a write.
    fn has(&self, id: NodeId, incarnation: Incarnation, range: Range, write: u64) -> bool {
        let is_it = |node: &&Node| node.id == id && node.incarnation == incarnation;
        let process = self.nodes.iter().find(is_it);
        let process = process.and_then(|node| node.process.as_ref());
        process.is_some_and(|process| process.data.has(range, write))
    }

    /// Remembers who promised for a value that was just built.
    fn note_attempt(&mut self, slot: usize) {
        let process = self.nodes[slot].process.as_ref();
        let Some(attempt) = process.and_then(|process| process.coordinator.proposer()) else {
            return;
        };
        self.trace(slot, || {
            let accused = attempt.accused();
            format!("attempts {:?} against {accused:?}", attempt.ballot())
        });
        let Some(value) = attempt.value().filter(|_| !attempt.is_inherited()) else {
            return;
        };
        let value = Arc::clone(value);
        let ids: BTreeSet<NodeId> = attempt.voters().collect();
        let voters = self.nodes.iter().filter(|node| ids.contains(&node.id));
        let voters = voters.map(|node| (node.id, node.incarnation)).collect();
        let positions = attempt.positions();
        let heirs = positions.filter(|(_, position)| position.is_branch_primary);
        let heirs = heirs
            .map(|(node, position)| (position.range, node))
            .collect();
        self.acknowledged.built(Build {
            topology: value,
            voters,
            heirs,
        });
    }

    fn transmit(&mut self, from: usize, to: NodeId, packet: Packet) {
        if let Some(slot) = self.nodes.iter().position(|node| node.id == to) {
            self.transmit_to(from, slot, packet);
        }
    }

    fn transmit_to(&mut self, from: usize, to: usize, packet: Packet) {
        let delays = self.network.send(from, to, &packet, &mut self.random);
        for delay_ms in delays {
            let input = Input::Packet(packet.clone());
            let job = Job::Input {
                slot: to,
                life: None,
                input,
            };
            self.scheduler.after(delay_ms, job);
        }
    }

    fn trace(&self, slot: usize, what: impl Fn() -> String) {
        if self.trace {
            let node = self.nodes.get(slot);
            let name = node.map(|node| (node.id, node.incarnation.0));
            eprintln!("{:6} {name:?} {}", self.now_ms(), what());
        }
    }
}

fn add_counters(report: &mut Report, process: &Process) {
    let counters = process.coordinator.counters();
    report.elections += counters.elections;
    report.lost_ranges += counters.lost_ranges;
    report.divergences += counters.divergences;
    report.aborted_hand_overs += counters.aborted_hand_overs;
}
