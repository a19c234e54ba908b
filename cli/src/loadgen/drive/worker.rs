//! One thread's event loop: its connections, from opening them to the last reply.
//!
//! Invariants:
//! 1. Requests of one turn to one connection go out in one write; a readable connection is read
//!    once (again only if the buffer was filled).
//! 2. Nothing is allocated per request. Per connection: the requests in flight, and what the
//!    socket did not take, at most `BATCH_BYTES` and one request.
//! 3. No wait is longer than `HOUSEKEEPING_NS`, so a stop is seen and a hang found in time.
//! 4. Open loop: a connection is queued if and only if it is flushed and has room.

use super::clock::now_ns;
use super::connection::ReadEnd;
use super::exchange::Broken;
use super::{
    Connection, Event, Exchange, Failure, LoadEnd, Meter, Phase, Purpose, Shared, Source, Timer,
};
use crate::config::Config;
use crate::wire::Operation;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Connection attempts under way at once, so as not to overflow the target's accept queue.
const CONNECTING_MAX: usize = 64;
/// Longest wait for a connection to open.
const CONNECT_TIMEOUT_NS: u64 = 5_000_000_000;
/// How often hangs and stops are looked for, at least.
const HOUSEKEEPING_NS: u64 = 100_000_000;
/// How often workers that are done with a phase look whether the next one began.
const PHASE_POLL_NS: u64 = 2_000_000;
/// No further request is added to a write that is this long, in bytes.
const BATCH_BYTES: usize = 256 * 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;
const TIMER_TOKEN: Token = Token(usize::MAX - 1);

/// A thread's state. `run` does everything, in phases that the coordinator begins.
#[derive(Debug)]
pub(super) struct Worker {
    thread: usize,
    config: Arc<Config>,
    shared: Arc<Shared>,
    coordinator: SyncSender<Event>,
    addresses: Arc<[SocketAddr]>,
    poll: Poll,
    timer: Timer,
    connections: Vec<Connection>,
    /// Open loop: connections that can take a request, in turn.
    queue: VecDeque<usize>,
    read_buffer: Box<[u8]>,
    batch: Vec<u8>,
    meter: Meter,
    /// Requests in flight on all connections.
    in_flight: u64,
    housekeeping_ns: u64,
}

/// What goes with a phase in which requests are sent.
#[derive(Debug)]
struct Load {
    source: Source,
    /// Most requests in flight on a connection.
    depth: usize,
    is_open_loop: bool,
    is_prefill: bool,
}

impl Worker {
    /// A worker whose events go to `coordinator`.
    pub(super) fn new(
        thread: usize,
        config: Arc<Config>,
        shared: Arc<Shared>,
        coordinator: SyncSender<Event>,
        addresses: Arc<[SocketAddr]>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER_TOKEN)?;
        Ok(Self {
            thread,
            config,
            shared,
            coordinator,
            addresses,
            poll,
            timer,
            connections: Vec::new(),
            queue: VecDeque::new(),
            read_buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            batch: Vec::with_capacity(READ_BUFFER_BYTES),
            meter: Meter::new(),
            in_flight: 0,
            housekeeping_ns: 0,
        })
    }

    /// Runs to the end and tells the coordinator how it went.
    pub(super) fn run(mut self) {
        let mut end = Box::<LoadEnd>::default();
        let result = self.run_phases(&mut end);
        end.unanswered = self.in_flight;
        self.meter.finish(&mut end);
        // Fails only if the coordinator is gone, and the process with it.
        let _ = self.coordinator.send(Event::Ended {
            thread: self.thread,
            end,
            result,
        });
    }

    fn run_phases(&mut self, end: &mut LoadEnd) -> Result<(), Failure> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.open_connections(&mut events)?;
        self.tell(Event::Connected);

        if self.shared.prefills && self.wait_for(Phase::Prefill, &mut events)?.is_some() {
            let mut load = Load {
                source: Source::prefill(&self.config, self.thread),
                depth: self.config.prefill_pipeline,
                is_open_loop: false,
                is_prefill: true,
            };
            self.carry(&mut load, &mut events)?;
            let counted = self.meter.take_prefill();
            self.tell(Event::Prefilled(counted));
        }

        let Some(start_ns) = self.wait_for(Phase::Load, &mut events)? else {
            return Ok(());
        };
        let mut load = Load {
            source: Source::load(&self.config, self.thread, start_ns),
            depth: self.config.pipeline,
            is_open_loop: self.config.rate.is_some(),
            is_prefill: false,
        };
        self.meter
            .begin_load(start_ns.saturating_add(self.config.warmup_ns));
        self.meter.begin_measuring(now_ns());
        let result = self.carry(&mut load, &mut events);
        self.meter.end_load(end);
        end.unsent = load.source.unsent();
        end.unsent_due_ns = load.source.next_due_ns();
        result
    }

    fn tell(&self, event: Event) {
        // Fails only if the coordinator is gone, and the process with it.
        let _ = self.coordinator.send(event);
    }

    /// Opens this thread's share of the connections, a bounded number at a time.
    fn open_connections(&mut self, events: &mut Events) -> Result<(), Failure> {
        let share = self.config.share_of(self.thread);
        self.connections.reserve_exact(share);
        let mut open = 0;
        while open < share {
            if self.shared.is_stopped() {
                return Ok(());
            }
            let now = now_ns();
            while self.connections.len() < share && self.connections.len() - open < CONNECTING_MAX {
                self.begin_connect(now)?;
            }
            self.wait(events, HOUSEKEEPING_NS)?;
            for event in &*events {
                let index = event.token().0;
                let Some(connection) = self.connections.get_mut(index) else {
                    continue;
                };
                if !connection.is_open {
                    connection
                        .finish_connect()
                        .map_err(|source| self.cannot_connect(source))?;
                    open += usize::from(self.connections[index].is_open);
                }
                // A target with too many clients says so at once, and closes.
                let may_read = event.is_readable() || event.is_read_closed();
                if self.connections[index].is_open && may_read {
                    self.receive(index, event.is_read_closed())?;
                }
            }
            let is_late = |connection: &Connection| {
                !connection.is_open
                    && now.saturating_sub(connection.progress_ns) > CONNECT_TIMEOUT_NS
            };
            if self.connections.iter().any(is_late) {
                let seconds = CONNECT_TIMEOUT_NS / 1_000_000_000;
                return Err(Failure::ConnectTimeout {
                    target: self.target(),
                    seconds,
                });
            }
        }
        Ok(())
    }

    fn begin_connect(&mut self, now: u64) -> Result<(), Failure> {
        let depth = match self.shared.prefills {
            true => self.config.prefill_pipeline,
            false => self.config.pipeline,
        };
        let protocol = self.config.request_encoder.protocol();
        let exchange = Exchange::new(protocol, self.config.verify, depth);
        let token = Token(self.connections.len());
        let registry = self.poll.registry();
        // In turn over all threads.
        let number = self.connections.len() * self.config.threads + self.thread;
        let address = self.addresses[number % self.addresses.len()];
        let connection = Connection::connect(address, registry, token, exchange, now)
            .map_err(|source| self.cannot_connect(source))?;
        self.connections.push(connection);
        Ok(())
    }

    /// Waits until the coordinator begins `phase`; `None` when it says stop instead.
    fn wait_for(&mut self, phase: Phase, events: &mut Events) -> Result<Option<u64>, Failure> {
        loop {
            if self.shared.is_stopped() {
                return Ok(None);
            }
            match self.shared.start_of(phase) {
                Some(start_ns) if now_ns() >= start_ns => return Ok(Some(start_ns)),
                _ => {}
            }
            self.wait(events, PHASE_POLL_NS)?;
            self.handle(events, None)?;
        }
    }

    /// Sends a phase's requests and receives all replies.
    fn carry(&mut self, load: &mut Load, events: &mut Events) -> Result<(), Failure> {
        let start = now_ns();
        self.housekeeping_ns = start + HOUSEKEEPING_NS;
        self.queue.clear();
        for index in 0..self.connections.len() {
            if load.is_open_loop {
                self.enqueue_if_ready(index, load);
            } else {
                self.fill(index, now_ns(), load)?;
            }
        }
        let mut now = start;
        loop {
            if load.is_open_loop {
                self.send_due(now, load)?;
            }
            let is_done = self.in_flight == 0 && load.source.is_exhausted(now, &self.config);
            if is_done || self.shared.is_stopped() {
                return Ok(());
            }
            match load.source.next_due_ns() {
                // Without room on any connection only a reply can change anything.
                Some(due_ns) if !self.queue.is_empty() => self.timer.arm(due_ns)?,
                _ => {}
            }
            self.wait(events, HOUSEKEEPING_NS)?;
            self.handle(events, Some(load))?;
            now = now_ns();
            self.meter.begin_measuring(now);
            self.meter.hand_over(now, self.thread, &self.coordinator);
            let all_seen = events.iter().count() < EVENTS_MAX;
            self.keep_house(now, load, all_seen)?;
        }
    }

    fn wait(&mut self, events: &mut Events, wait_ns: u64) -> Result<(), Failure> {
        match self.poll.poll(events, Some(Duration::from_nanos(wait_ns))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result.map_err(Failure::EventLoop),
        }
    }

    /// Handles what the poll brought. Without `load` nothing is sent, and replies are an error.
    fn handle(&mut self, events: &Events, mut load: Option<&mut Load>) -> Result<(), Failure> {
        for event in events {
            if event.token() == TIMER_TOKEN {
                self.timer.expired();
                continue;
            }
            let index = event.token().0;
            if event.is_writable() && !self.connections[index].is_flushed() {
                self.connections[index]
                    .flush()
                    .map_err(|error| self.broken(index, error))?;
                if let Some(load) = load.as_deref_mut() {
                    self.refill(index, now_ns(), load)?;
                }
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                let now = self.receive(index, event.is_read_closed())?;
                if let (Some(now), Some(load)) = (now, load.as_deref_mut()) {
                    self.refill(index, now, load)?;
                }
            }
        }
        Ok(())
    }

    /// Reads what is there; answers the time if that completed a reply.
    fn receive(&mut self, index: usize, is_closed: bool) -> Result<Option<u64>, Failure> {
        let mut completed_ns = None;
        loop {
            let connection = &mut self.connections[index];
            let bytes = match connection.read(&mut self.read_buffer) {
                Ok(ReadEnd::Bytes(bytes)) => bytes,
                Ok(ReadEnd::Empty) => return Ok(completed_ns),
                Ok(ReadEnd::Closed) => return Err(self.closed(index)),
                Err(error) => return Err(self.broken(index, error)),
            };
            let now = now_ns();
            connection.progress_ns = now;
            self.meter.tally.bytes_received += to_u64(bytes);
            let input = &self.read_buffer[..bytes];
            let completed = connection
                .exchange
                .receive(input, now, &self.config.values, &mut self.meter.tally)
                .map_err(|broken| self.unusable(broken))?;
            if completed > 0 {
                self.in_flight -= completed;
                self.meter.replies += completed;
                self.meter.last_reply_ns = now;
                completed_ns = Some(now);
            }
            // A short read has emptied the socket; only the end may still be there.
            if bytes < self.read_buffer.len() && !is_closed {
                return Ok(completed_ns);
            }
        }
    }

    /// Uses the room that a connection has now.
    fn refill(&mut self, index: usize, now: u64, load: &mut Load) -> Result<(), Failure> {
        if load.is_open_loop {
            self.enqueue_if_ready(index, load);
            Ok(())
        } else {
            self.fill(index, now, load)
        }
    }

    /// Closed loop: sends requests until `depth` are in flight or the socket is full.
    fn fill(&mut self, index: usize, now: u64, load: &mut Load) -> Result<(), Failure> {
        while self.connections[index].is_flushed() {
            let room = load.depth - self.connections[index].exchange.in_flight();
            if room == 0 || self.send_up_to(room, index, now, load)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Open loop: sends all requests that are due, as far as connections have room.
    ///
    /// Those due at one moment are dealt evenly to the connections with room.
    fn send_due(&mut self, now: u64, load: &mut Load) -> Result<(), Failure> {
        let mut due = load.source.due(now);
        self.meter.backlog_max = self.meter.backlog_max.max(due);
        while due > 0 {
            let ready = to_u64(self.queue.len());
            let Some(index) = self.queue.pop_front() else {
                break;
            };
            let connection = &mut self.connections[index];
            connection.is_queued = false;
            let room = load.depth - connection.exchange.in_flight();
            let share = usize::try_from(due.div_ceil(ready)).map_or(room, |share| share.min(room));
            let sent = self.send_up_to(share, index, now, load)?;
            self.enqueue_if_ready(index, load);
            if sent == 0 {
                break;
            }
            due = due.saturating_sub(to_u64(sent));
        }
        Ok(())
    }

    fn enqueue_if_ready(&mut self, index: usize, load: &Load) {
        let connection = &mut self.connections[index];
        let has_room = connection.exchange.in_flight() < load.depth;
        if has_room && connection.is_flushed() && !connection.is_queued {
            connection.is_queued = true;
            self.queue.push_back(index);
        }
    }

    /// Encodes up to `count` requests and sends them in one write; answers how many there were.
    fn send_up_to(
        &mut self,
        count: usize,
        index: usize,
        now: u64,
        load: &mut Load,
    ) -> Result<usize, Failure> {
        let (config, connection) = (&*self.config, &mut self.connections[index]);
        self.batch.clear();
        if connection.exchange.in_flight() == 0 {
            connection.progress_ns = now;
        }
        let mut sent = 0;
        while sent < count && self.batch.len() < BATCH_BYTES {
            let Some(request) = load.source.next(now, config, &self.shared.budget) else {
                break;
            };
            match request.operation {
                Operation::Get => config.request_encoder.get(request.key, &mut self.batch),
                Operation::Incr => config
                    .request_encoder
                    .increment(request.key, &mut self.batch),
                Operation::Set => {
                    let value = config.values.of(request.key);
                    config
                        .request_encoder
                        .set(request.key, &value, &mut self.batch);
                }
            }
            if load.is_open_loop && request.purpose == Purpose::Measure {
                self.meter.tally.send_delays.record(now - request.start_ns);
            }
            connection.exchange.begin(request);
            sent += 1;
        }
        if sent > 0 {
            self.in_flight += to_u64(sent);
            self.meter.tally.bytes_sent += to_u64(self.batch.len());
            connection
                .send(&self.batch)
                .map_err(|error| self.broken(index, error))?;
        }
        if self.batch.capacity() > 2 * BATCH_BYTES {
            self.batch.clear();
            self.batch.shrink_to(BATCH_BYTES);
        }
        Ok(sent)
    }

    /// Looks for connections that owe replies for too long, and reports progress.
    ///
    /// `all_seen`: the poll brought all events there were, so silence is the target's.
    fn keep_house(&mut self, now: u64, load: &Load, all_seen: bool) -> Result<(), Failure> {
        if now < self.housekeeping_ns {
            return Ok(());
        }
        self.housekeeping_ns = now + HOUSEKEEPING_NS;
        if load.is_prefill {
            self.shared
                .prefilled
                .fetch_add(std::mem::take(&mut self.meter.replies), Ordering::Relaxed);
        }
        let timeout_ns = self.config.timeout_ns;
        let silence = |connection: &Connection| now.saturating_sub(connection.progress_ns);
        let hangs = |connection: &&Connection| {
            connection.exchange.in_flight() > 0 && silence(connection) > timeout_ns
        };
        match self.connections.iter().find(hangs) {
            Some(connection) if all_seen => Err(Failure::Hang {
                target: self.target(),
                seconds: silence(connection) as f64 / 1e9,
                in_flight: self.in_flight,
            }),
            _ => Ok(()),
        }
    }

    fn target(&self) -> String {
        self.config.target.clone()
    }

    #[cold]
    fn cannot_connect(&self, source: io::Error) -> Failure {
        Failure::Connect {
            target: self.target(),
            source,
        }
    }

    #[cold]
    fn closed(&self, index: usize) -> Failure {
        let in_flight = self.connections[index].exchange.in_flight();
        Failure::Closed {
            target: self.target(),
            in_flight,
        }
    }

    #[cold]
    fn broken(&self, index: usize, source: io::Error) -> Failure {
        let in_flight = self.connections[index].exchange.in_flight();
        Failure::Broken {
            target: self.target(),
            source,
            in_flight,
        }
    }

    #[cold]
    fn unusable(&self, broken: Broken) -> Failure {
        let target = self.target();
        match broken {
            Broken::Wire(source) => {
                let protocol = self.config.request_encoder.protocol().name();
                Failure::Wire {
                    target,
                    protocol,
                    source,
                }
            }
            Broken::Refused(text) => Failure::Refused { target, text },
            Broken::Unsolicited => Failure::Unsolicited { target },
        }
    }
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("usize has at most 64 bits")
}
