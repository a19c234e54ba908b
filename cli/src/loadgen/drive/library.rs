//! One thread's load through the client library: callers that each make one call at a time.
//!
//! ```text
//! Source --next request--> caller (one of many tasks) --call--> client --> nodes
//!    ^                        |
//!    +--- pacer wakes the idle when requests are due
//! ```
//! A caller that is done takes the next request that is due, and is idle if there is none. A call that fails
//! is an error in the report and ends nothing: what nodes that die do to callers is to be seen.

use super::clock::now_ns;
use super::exchange::{InFlight, Verdict};
use super::{Event, Failure, LoadEnd, Meter, Phase, Purpose, Shared, Source};
use crate::config::{Config, Library};
use crate::wire::{COUNTER_PREFIX, Operation};
use fulmar_client::{BatchOptions, Batcher, Client, Counter, Error, Options, SetOptions};
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{interval, sleep};

/// How often the thread looks for a stop, hands its tally over and says how far it is.
const HOUSEKEEPING: Duration = Duration::from_millis(20);
/// How long the pacer waits when requests are due and all callers are busy: they take the next themselves.
const BUSY_WAIT: Duration = Duration::from_millis(1);

/// What a thread of this kind needs.
#[derive(Debug)]
pub(super) struct LibraryWorker {
    pub(super) thread: usize,
    pub(super) config: Arc<Config>,
    pub(super) library: Library,
    pub(super) shared: Arc<Shared>,
    pub(super) coordinator: SyncSender<Event>,
}

/// What the callers of a thread share.
struct Callers {
    worker: LibraryWorker,
    client: Client,
    batcher: Option<Batcher>,
    source: RefCell<Source>,
    meter: RefCell<Meter>,
    in_flight: Cell<u64>,
    idle: Notify,
    idle_count: Cell<usize>,
}

impl LibraryWorker {
    /// Runs to the end and tells the coordinator how it went.
    pub(super) fn run(self) {
        let (thread, coordinator) = (self.thread, self.coordinator.clone());
        let mut end = Box::<LoadEnd>::default();
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::EventLoop)
            .and_then(|runtime| LocalSet::new().block_on(&runtime, self.run_phases(&mut end)));
        // Fails only if the coordinator is gone, and the process with it.
        let _ = coordinator.send(Event::Ended {
            thread,
            end,
            result,
        });
    }

    async fn run_phases(self, end: &mut LoadEnd) -> Result<(), Failure> {
        let options = Options::default().timeout(Duration::from_nanos(self.config.timeout_ns));
        let client = Client::connect_with(self.config.targets(), options)
            .await
            .map_err(|error| Failure::Library {
                target: self.config.target.clone(),
                error,
            })?;
        let callers = Rc::new(Callers {
            batcher: self
                .library
                .batch_window
                .map(|window| client.batcher(BatchOptions::default().window(window))),
            client,
            source: RefCell::new(Source::prefill(&self.config, self.thread)),
            meter: RefCell::new(Meter::new()),
            in_flight: Cell::new(0),
            idle: Notify::new(),
            idle_count: Cell::new(0),
            worker: self,
        });
        let result = callers.run_phases(end).await;
        end.unanswered = callers.in_flight.get();
        callers.meter.replace(Meter::new()).finish(end);
        result
    }
}

impl Callers {
    async fn run_phases(self: &Rc<Self>, end: &mut LoadEnd) -> Result<(), Failure> {
        let (worker, config) = (&self.worker, &self.worker.config);
        worker.tell(Event::Connected);
        if worker.shared.prefills && worker.wait_for(Phase::Prefill).await.is_some() {
            self.carry(config.prefill_pipeline).await?;
            let failed = self.flush().await;
            self.meter.borrow_mut().tally.prefill_errors += failed;
            let counted = self.meter.borrow_mut().take_prefill();
            worker.tell(Event::Prefilled(counted));
        }
        let Some(start_ns) = worker.wait_for(Phase::Load).await else {
            return Ok(());
        };
        self.source
            .replace(Source::load(config, worker.thread, start_ns));
        let measure_from_ns = start_ns.saturating_add(config.warmup_ns);
        self.meter.borrow_mut().begin_load(measure_from_ns);
        let result = self.carry(config.pipeline).await;
        let failed = self.flush().await;
        self.meter.borrow_mut().tally.sets.errors += failed;
        self.meter.borrow().end_load(end);
        let source = self.source.borrow();
        end.unsent = source.unsent();
        end.unsent_due_ns = source.next_due_ns();
        result
    }

    /// Makes a phase's calls, so many at once for each connection asked for.
    async fn carry(self: &Rc<Self>, depth: usize) -> Result<(), Failure> {
        let config = &self.worker.config;
        let callers_count = config.share_of(self.worker.thread) * depth;
        let all: Vec<_> = (0..callers_count)
            .map(|_| tokio::task::spawn_local(Rc::clone(self).call_until_over()))
            .collect();
        let over = async {
            for caller in all {
                caller.await.map_err(|_| Failure::Panicked)?;
            }
            Ok(())
        };
        tokio::select! {
            result = over => result,
            error = self.pace() => Err(Failure::EventLoop(error)),
            () = self.keep_house() => Ok(()),
        }
    }

    /// One caller.
    async fn call_until_over(self: Rc<Self>) {
        let (config, shared) = (&self.worker.config, &self.worker.shared);
        while !shared.is_stopped() {
            let now = now_ns();
            let next = self.source.borrow_mut().next(now, config, &shared.budget);
            if let Some(request) = next {
                let is_measured = request.purpose == Purpose::Measure;
                if config.rate.is_some() && is_measured {
                    let delay_ns = now - request.start_ns;
                    self.meter.borrow_mut().tally.send_delays.record(delay_ns);
                }
                self.in_flight.set(self.in_flight.get() + 1);
                let result = self.call(&request).await;
                self.in_flight.set(self.in_flight.get() - 1);
                self.judge(&request, result);
            } else if self.source.borrow().is_exhausted(now, config) {
                return;
            } else {
                self.idle_count.set(self.idle_count.get() + 1);
                self.idle.notified().await;
                self.idle_count.set(self.idle_count.get() - 1);
            }
        }
    }

    /// Wakes as many callers as there are requests due, and all when there are no more. Ends only by an error.
    async fn pace(&self) -> io::Error {
        // In a closed loop nobody is idle.
        if self.due(now_ns()).1.is_none() {
            return pending().await;
        }
        let timer = match Timer::start() {
            Ok(timer) => timer,
            Err(error) => return error,
        };
        loop {
            let now = now_ns();
            let (due, next_ns) = self.due(now);
            let is_over = self.source.borrow().is_exhausted(now, &self.worker.config);
            match next_ns.filter(|_| !is_over) {
                None => {
                    self.idle.notify_waiters();
                    return pending().await;
                }
                Some(at_ns) if due == 0 => timer.wait_until(at_ns).await,
                Some(_) => {
                    (0..due).for_each(|_| self.idle.notify_one());
                    yield_now().await;
                    if self.idle_count.get() == 0 {
                        sleep(BUSY_WAIT).await;
                    }
                }
            }
        }
    }

    /// How many requests are due, and when the next one is.
    fn due(&self, now: u64) -> (u64, Option<u64>) {
        let source = self.source.borrow();
        let mut meter = self.meter.borrow_mut();
        let due = source.due(now);
        meter.backlog_max = meter.backlog_max.max(due);
        (due, source.next_due_ns())
    }

    /// Ends when the run is to be stopped.
    async fn keep_house(&self) {
        let mut ticks = interval(HOUSEKEEPING);
        while !self.worker.shared.is_stopped() {
            ticks.tick().await;
            let now = now_ns();
            let mut meter = self.meter.borrow_mut();
            meter.begin_measuring(now);
            meter.hand_over(now, self.worker.thread, &self.worker.coordinator);
        }
    }

    /// Whether a read found something, and that it was right.
    async fn call(&self, request: &InFlight) -> Result<Verdict, Error> {
        let config = &self.worker.config;
        let mut key = Vec::new();
        match (request.operation, &self.batcher) {
            (Operation::Get, _) => {
                config.request_encoder.write_key(request.key, &mut key);
                let value = self.client.get(&key).await?;
                let expected = config.values.of(request.key);
                let is_right = |value: &[u8]| {
                    !config.verify || (value.len() == expected.len() && expected.matches(0, value))
                };
                Ok(match value {
                    Some(value) if is_right(&value) => Verdict::Hit,
                    Some(_) => Verdict::WrongValue,
                    None => Verdict::Miss,
                })
            }
            (Operation::Set, batcher) => {
                config.request_encoder.write_key(request.key, &mut key);
                let mut value = Vec::new();
                config.values.of(request.key).write(&mut value);
                match (batcher, self.worker.library.ttl) {
                    (Some(batcher), None) => batcher.set(&key, &value).await?,
                    (Some(batcher), Some(ttl)) => batcher.set_with_ttl(&key, &value, ttl).await?,
                    (None, None) => self.client.set(&key, &value).await?,
                    (None, Some(ttl)) => {
                        let options = SetOptions::default().ttl(ttl);
                        self.client.set_with(&key, &value, options).await?;
                    }
                }
                Ok(Verdict::Done)
            }
            (Operation::Incr, _) => {
                key.extend_from_slice(COUNTER_PREFIX);
                key.extend_from_slice(itoa::Buffer::new().format(request.key).as_bytes());
                self.increment(&key).await.map(|()| Verdict::Done)
            }
        }
    }

    async fn increment(&self, key: &[u8]) -> Result<(), Error> {
        let parts = self.worker.library.counter_parts;
        let split = |counter: Counter| async move { counter.increment(1).await };
        match (&self.batcher, parts) {
            (Some(batcher), 1) => batcher.increment(key, 1).await,
            (Some(batcher), parts) => split(batcher.counter(key, parts)?).await,
            (None, 1) => self.client.increment(key, 1).await.map(|_| ()),
            (None, parts) => split(self.client.counter(key, parts)?).await,
        }
    }

    fn judge(&self, request: &InFlight, result: Result<Verdict, Error>) {
        let now = now_ns();
        let mut meter = self.meter.borrow_mut();
        meter.begin_measuring(now);
        meter.replies += 1;
        meter.last_reply_ns = now;
        if request.purpose == Purpose::Prefill {
            self.worker.shared.prefilled.fetch_add(1, Ordering::Relaxed);
        }
        let verdict = *result.as_ref().unwrap_or(&Verdict::Error);
        if request.record(verdict, now, &mut meter.tally) {
            let text = result.map_or_else(|error| error.to_string(), |_| "wrong value".to_owned());
            meter.tally.count_error_text(&text);
        }
    }

    /// Sends what is buffered, unless the run is to be stopped; how many writes failed.
    async fn flush(&self) -> u64 {
        let Some(batcher) = self
            .batcher
            .as_ref()
            .filter(|_| !self.worker.shared.is_stopped())
        else {
            return 0;
        };
        let Err(error) = batcher.flush().await else {
            return 0;
        };
        let text = error.to_string();
        self.meter.borrow_mut().tally.count_error_text(&text);
        error.failures.len() as u64 + error.unlisted_count
    }
}

impl LibraryWorker {
    fn tell(&self, event: Event) {
        // Fails only if the coordinator is gone, and the process with it.
        let _ = self.coordinator.send(event);
    }

    /// Waits until the coordinator begins `phase`; `None` when it says stop instead.
    async fn wait_for(&self, phase: Phase) -> Option<u64> {
        while !self.shared.is_stopped() {
            match self.shared.start_of(phase) {
                Some(start_ns) if now_ns() >= start_ns => return Some(start_ns),
                _ => sleep(BUSY_WAIT).await,
            }
        }
        None
    }
}

/// A timer that is exact to some 10 us: the runtime's own rounds up to a millisecond, which an open loop would
/// report as latency. Its thread sleeps, and ends with it.
struct Timer {
    wanted: mpsc::Sender<u64>,
    expired: Arc<Notify>,
}

impl Timer {
    fn start() -> io::Result<Self> {
        let (wanted, times) = mpsc::channel::<u64>();
        let expired = Arc::new(Notify::new());
        let theirs = Arc::clone(&expired);
        let sleep_and_tell = move || {
            for at_ns in times {
                thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
                theirs.notify_one();
            }
        };
        thread::Builder::new()
            .name("loadgen-timer".to_owned())
            .spawn(sleep_and_tell)?;
        Ok(Self { wanted, expired })
    }

    async fn wait_until(&self, at_ns: u64) {
        if self.wanted.send(at_ns).is_ok() {
            self.expired.notified().await;
        }
    }
}
