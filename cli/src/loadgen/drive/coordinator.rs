//! The main thread's part: prepares the system, starts the workers, leads them through the
//! phases, collects what they count, and ends everything in bounded time.

use super::clock::now_ns;
use super::intervals::Intervals;
use super::prepare::{raise_file_limit, resolve};
use super::{Event, Failure, LibraryWorker, LoadEnd, Phase, Shared, Worker};
use crate::config::Config;
use crate::report::{IntervalSink, Progress, RunFacts, Tally, Timeline, begin_log};
use crate::units::grouped;
use hdrhistogram::serialization::V2DeflateSerializer;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// Events that may wait for the main thread, beside one for each worker.
const EVENTS_WAITING_MAX: usize = 64;
/// How often signals are looked for.
const SIGNAL_POLL: Duration = Duration::from_millis(50);
/// How long before its start the load phase is announced, so that all workers see it in time.
const START_DELAY_NS: u64 = 10_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct RunEnd {
    /// All that was counted.
    pub(crate) tally: Tally,
    /// The same, second by second, if it is to be plotted.
    pub(crate) timeline: Timeline,
    /// All else that is reported.
    pub(crate) facts: RunFacts,
    /// The interval log could not be written.
    pub(crate) log_error: Option<io::Error>,
}

impl RunEnd {
    /// Whether it ended by a failure or a signal.
    pub(crate) fn is_early(&self) -> bool {
        self.facts.failure.is_some() || self.facts.signal.is_some()
    }

    /// One that did not begin.
    pub(crate) fn failed(failure: &Failure) -> Self {
        let facts = RunFacts {
            failure: Some(failure.to_string()),
            ..RunFacts::default()
        };
        Self {
            tally: Tally::new(),
            timeline: Timeline::new(),
            facts,
            log_error: None,
        }
    }

    /// Adds another run with the same target.
    pub(crate) fn append(&mut self, next: Self) {
        self.tally.add(&next.tally);
        self.timeline.append(&next.timeline);
        self.facts.add(next.facts);
        self.log_error = self.log_error.take().or(next.log_error);
    }
}

/// Runs the load to its end, a prefill before it if it `is_first` and one is asked for. `signal` becomes the
/// number of a signal that asks to stop.
///
/// Errors are failures before the first request; later ones are in `RunEnd::facts`.
pub(crate) fn run(
    config: &Arc<Config>,
    is_first: bool,
    log_file: Option<&mut File>,
    signal: &AtomicUsize,
) -> Result<RunEnd, Failure> {
    raise_file_limit(config.connections, config.threads)?;
    let addresses: Arc<[SocketAddr]> = match config.library {
        // The library resolves names itself, and again when nodes change.
        Some(_) => Arc::default(),
        None => config.targets().map(resolve).collect::<Result<_, _>>()?,
    };
    let prefills = is_first && config.prefill;
    let shared = Arc::new(Shared::new(config.requests, config.threads, prefills));
    let (sender, events) = sync_channel(EVENTS_WAITING_MAX + config.threads);
    let mut workers = Vec::new();
    for thread in 0..config.threads {
        let (config, shared, sender) = (Arc::clone(config), Arc::clone(&shared), sender.clone());
        let builder = thread::Builder::new().name(format!("loadgen-{thread}"));
        let started = if let Some(library) = config.library {
            let worker = LibraryWorker {
                thread,
                config,
                library,
                shared,
                coordinator: sender,
            };
            builder.spawn(move || worker.run())
        } else {
            let addresses = Arc::clone(&addresses);
            let worker = Worker::new(thread, config, shared, sender, addresses)?;
            builder.spawn(move || worker.run())
        };
        workers.push(started.map_err(Failure::Thread)?);
    }
    drop(sender);
    let mut coordinator = Coordinator {
        threads: config.threads,
        progress: Progress::new(config.progress),
        total: Tally::new(),
        timeline: Timeline::new(),
        ends: Vec::new(),
        failure: None,
        signal: None,
        config: Arc::clone(config),
        shared,
        events,
        workers,
    };
    coordinator.connect_and_prefill(signal);
    if coordinator.total.prefill_errors == 0
        && let Some(failure) = coordinator.failure.take()
    {
        coordinator.progress.end();
        return Err(failure);
    }
    let mut serializer = V2DeflateSerializer::new();
    let (start_ns, base) = coordinator.begin_load();
    let log_result = match log_file {
        None => coordinator.collect(signal, start_ns, None),
        Some(file) => begin_log(file, &mut serializer, base)
            .and_then(|mut log| coordinator.collect(signal, start_ns, Some(&mut log))),
    };
    coordinator.join();
    Ok(coordinator.into_end(start_ns, log_result.err()))
}

struct Coordinator {
    threads: usize,
    config: Arc<Config>,
    shared: Arc<Shared>,
    events: Receiver<Event>,
    workers: Vec<JoinHandle<()>>,
    progress: Progress,
    total: Tally,
    timeline: Timeline,
    ends: Vec<LoadEnd>,
    failure: Option<Failure>,
    signal: Option<i32>,
}

impl Coordinator {
    /// Leads the workers until all are ready for the load (or have ended).
    fn connect_and_prefill(&mut self, signal: &AtomicUsize) {
        let mut connected = 0;
        let mut prefilled = 0;
        let mut shown = Instant::now();
        while self.ends.len() < self.threads {
            match self.next_event(signal) {
                Some(Event::Connected) => {
                    connected += 1;
                    if connected == self.threads && self.shared.prefills {
                        self.shared.begin(Phase::Prefill, 0);
                    }
                }
                Some(Event::Prefilled(tally)) => {
                    prefilled += 1;
                    self.total.prefill_errors += tally.prefill_errors;
                    self.total.add_error_texts(&tally);
                }
                Some(Event::Ended { end, result, .. }) => self.end_worker(*end, result),
                Some(Event::Interval { .. }) | None => {}
            }
            let is_ready = if self.shared.prefills {
                prefilled
            } else {
                connected
            };
            if is_ready == self.threads {
                return;
            }
            if shown.elapsed() >= SECOND {
                shown = Instant::now();
                self.progress.show(&self.preparation_text(connected));
            }
        }
    }

    fn preparation_text(&self, connected: usize) -> String {
        if connected < self.threads {
            return format!("connecting to {} ...", self.config.name);
        }
        let prefilled = self.shared.prefilled.load(Ordering::Relaxed);
        format!(
            "prefill: {} of {} keys",
            grouped(prefilled),
            grouped(self.config.keys)
        )
    }

    /// Begins the load; answers when that is on the monotonic clock, and when measuring begins
    /// on the wall clock.
    fn begin_load(&self) -> (u64, SystemTime) {
        let start_ns = now_ns() + START_DELAY_NS;
        self.shared.begin(Phase::Load, start_ns);
        let until_measured = START_DELAY_NS.saturating_add(self.config.warmup_ns);
        (
            start_ns,
            SystemTime::now() + Duration::from_nanos(until_measured),
        )
    }

    /// Collects intervals until all workers have ended.
    fn collect(
        &mut self,
        signal: &AtomicUsize,
        start_ns: u64,
        mut log: Option<&mut dyn IntervalSink>,
    ) -> io::Result<()> {
        let measured_from_ns = start_ns.saturating_add(self.config.warmup_ns);
        let mut intervals = Intervals::new(self.threads);
        let mut log_result = Ok(());
        let mut last = Tally::new();
        let mut shown = Instant::now();
        while self.ends.len() < self.threads {
            match self.next_event(signal) {
                Some(Event::Interval {
                    thread,
                    index,
                    tally,
                }) => {
                    intervals.add(thread, index, &tally);
                }
                Some(Event::Ended {
                    thread,
                    mut end,
                    result,
                }) => {
                    if let Some(tally) = end.tally.take() {
                        last.add(&tally);
                    }
                    intervals.end(thread);
                    self.end_worker(*end, result);
                }
                _ => {}
            }
            while let Some((index, tally)) = intervals.next_complete() {
                self.total.add(&tally);
                let (start, length) = (Duration::from_secs(index), SECOND);
                self.plot(&tally, start, length);
                self.progress.show_interval(&tally, start + length, length);
                if let (Some(log), Ok(())) = (log.as_deref_mut(), &log_result) {
                    log_result = log.take(&tally, start, length);
                }
                shown = Instant::now();
            }
            if shown.elapsed() >= SECOND && now_ns() < measured_from_ns {
                shown = Instant::now();
                self.progress.show("warming up ...");
            }
        }
        // What came after the last whole second, of all workers.
        let end_ns = self.end_ns(start_ns).saturating_sub(measured_from_ns);
        let start = Duration::from_secs(intervals.taken_until());
        let length = Duration::from_nanos(end_ns).saturating_sub(start);
        let length = length.max(Duration::from_millis(1));
        if let (Some(log), Ok(())) = (log, &log_result) {
            log_result = log.take(&last, start, length);
        }
        self.plot(&last, start, length);
        self.total.add(&last);
        self.progress.end();
        log_result
    }

    fn plot(&mut self, tally: &Tally, start: Duration, length: Duration) {
        if self.config.plots {
            self.timeline.add(tally, start, length);
        }
    }

    /// The next event, if there is one in a while; also looks for signals and lost workers.
    fn next_event(&mut self, signal: &AtomicUsize) -> Option<Event> {
        if self.signal.is_none() {
            self.signal = i32::try_from(signal.load(Ordering::Relaxed))
                .ok()
                .filter(|n| *n != 0);
            if self.signal.is_some() {
                self.shared.stop();
            }
        }
        match self.events.recv_timeout(SIGNAL_POLL) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Workers end by an event, unless they panic.
                self.end_worker(LoadEnd::default(), Err(Failure::Panicked));
                None
            }
        }
    }

    /// Notes a worker's end; the first failure stops the others.
    fn end_worker(&mut self, mut end: LoadEnd, result: Result<(), Failure>) {
        if let Some(tally) = end.tally.take() {
            self.total.add(&tally);
        }
        self.ends.push(end);
        if let Err(failure) = result {
            self.shared.stop();
            self.failure.get_or_insert(failure);
        }
    }

    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                self.failure.get_or_insert(Failure::Panicked);
            }
        }
    }

    /// When the measurement ended: the planned end, or the last reply if that came later; when
    /// it was cut short, now.
    fn end_ns(&self, start_ns: u64) -> u64 {
        let last_reply_ns = self
            .ends
            .iter()
            .map(|end| end.last_reply_ns)
            .max()
            .unwrap_or(0);
        if self.failure.is_some() || self.signal.is_some() {
            return now_ns();
        }
        let planned_ns = match (self.config.rate, self.config.requests) {
            // A closed loop with a number of requests ends when they are done.
            (None, Some(_)) => None,
            _ => self
                .config
                .end_ns()
                .map(|end_ns| start_ns.saturating_add(end_ns)),
        };
        last_reply_ns.max(planned_ns.unwrap_or(0))
    }

    fn into_end(self, start_ns: u64, log_error: Option<io::Error>) -> RunEnd {
        let end_ns = self.end_ns(start_ns);
        let sum = |of: fn(&LoadEnd) -> u64| self.ends.iter().map(of).sum();
        let unsent = sum(|end| end.unsent);
        let oldest_unsent_ns = self
            .ends
            .iter()
            .filter(|end| end.unsent > 0)
            .filter_map(|end| end.unsent_due_ns)
            .min()
            .unwrap_or(end_ns);
        let largest_share = |of: fn(&LoadEnd) -> u64| {
            let share = |end: &LoadEnd| of(end) as f64 / end.wall_ns.max(1) as f64;
            self.ends.iter().map(share).fold(0.0, f64::max)
        };
        let facts = RunFacts {
            elapsed_ns: end_ns.saturating_sub(start_ns.saturating_add(self.config.warmup_ns)),
            unanswered: sum(|end| end.unanswered),
            unsent,
            unsent_age_ns: end_ns.saturating_sub(oldest_unsent_ns),
            backlog_max: sum(|end| end.backlog_max),
            generator_cpu_ns: sum(|end| end.cpu_ns),
            generator_replies: sum(|end| end.replies),
            generator_busy: largest_share(|end| end.cpu_ns),
            generator_waited: largest_share(|end| end.cpu_wait_ns),
            failure: self.failure.map(|failure| failure.to_string()),
            signal: self.signal,
        };
        RunEnd {
            tally: self.total,
            timeline: self.timeline,
            facts,
            log_error,
        }
    }
}
