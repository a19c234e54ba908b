//! Sends commands where the map says, and again where the rules of retrying say so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::command::{Kind, Request};
use crate::connection::{Connection, PendingReply, Role};
use crate::discovery::Discovery;
use crate::error::{Error, Result};
use crate::hot::HotKeys;
use crate::nodes::Nodes;
use crate::options::{Options, ReadFrom};
use crate::retry::{Attempts, Outcome, Verdict};
use crate::topology::Topology;
use crate::value::Value;

#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) discovery: Discovery,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) hot: HotKeys,
    pub(crate) options: Arc<Options>,
}

/// An endpoint, and what for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    address: Arc<str>,
    role: Role,
}

/// A command of a batch, until it is answered.
#[derive(Debug)]
struct Call {
    /// Its place in the batch.
    index: usize,
    request: Request,
    attempts: Attempts,
    /// Where a redirection named.
    named: Option<Arc<str>>,
}

/// What is done with a part of a batch.
#[derive(Debug)]
enum Step {
    /// One attempt at what goes to one node.
    Ask(Target, Vec<Call>),
    Pause(Instant, Vec<Call>),
}

impl Router {
    /// Runs one command, within the time-out.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value> {
        let deadline = Instant::now() + self.options.timeout;
        let mut attempts = Attempts::new(request);
        let mut named = None;
        let result = loop {
            if Instant::now() >= deadline {
                break Err(attempts.end());
            }
            let target = self.target(request, &attempts, named.take(), &self.discovery.map());
            let outcome = self.attempt(request, &target, deadline).await;
            match attempts.judge(outcome, &target.address, &self.options) {
                Verdict::Done(result) => break result,
                Verdict::Redirect(address) => named = Some(address),
                Verdict::Again(pause) => sleep_until(deadline.min(Instant::now() + pause)).await,
            }
            self.discovery.request();
        };
        self.note_write(request);
        result
    }

    /// Runs commands that don't depend on each other, within the time-out: results are in their order.
    ///
    /// What goes to one node goes there in this order on one connection, what one slot has to one node. What
    /// has to be sent again comes later than what has not, and waits for no other node. Dropped, it sends no
    /// more: nothing of it runs in tasks of its own.
    pub(crate) async fn call_all(&self, mut requests: Vec<Request>) -> Vec<Result<Value>> {
        let deadline = Instant::now() + self.options.timeout;
        read_what_is_written(&mut requests);
        let mut results: Vec<Result<Value>> =
            requests.iter().map(|_| Err(Error::timed_out())).collect();
        let calls = requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| Call {
                index,
                attempts: Attempts::new(&request),
                request,
                named: None,
            });
        let mut round = Round {
            again: calls.collect(),
            ..Round::default()
        };
        let mut steps = FuturesUnordered::new();
        loop {
            for (index, result) in round.done.drain(..) {
                results[index] = result;
            }
            if Instant::now() >= deadline {
                for mut call in round.again.drain(..) {
                    self.note_write(&call.request);
                    results[call.index] = Err(call.attempts.end());
                }
            }
            steps.extend(
                self.plan(round)
                    .into_iter()
                    .map(|step| self.take(step, deadline)),
            );
            match steps.next().await {
                Some(next) => round = next,
                None => return results,
            }
        }
    }

    /// What to do with what is to be sent again.
    fn plan(&self, round: Round) -> Vec<Step> {
        if let Some(until) = round.not_before {
            return vec![Step::Pause(until, round.again)];
        }
        let map = self.discovery.map();
        let mut groups: HashMap<Target, Vec<Call>> = HashMap::new();
        for mut call in round.again {
            let target = self.target(&call.request, &call.attempts, call.named.take(), &map);
            groups.entry(target).or_default().push(call);
        }
        groups
            .into_iter()
            .map(|(target, calls)| Step::Ask(target, calls))
            .collect()
    }

    async fn take(&self, step: Step, deadline: Instant) -> Round {
        match step {
            Step::Ask(target, calls) => self.ask(&target, calls, deadline).await,
            Step::Pause(until, again) => {
                sleep_until(deadline.min(until)).await;
                Round {
                    again,
                    ..Round::default()
                }
            }
        }
    }

    async fn ask(&self, target: &Target, calls: Vec<Call>, deadline: Instant) -> Round {
        let mut round = Round::default();
        let connection = match self.connection(target, deadline).await {
            Ok(connection) => connection,
            Err(outcome) => {
                for call in calls {
                    round.add(call, outcome.clone(), self, target);
                }
                return round;
            }
        };
        let (sender, mut pending) = mpsc::channel(calls.len().max(1));
        let send_all = async {
            for call in calls {
                let sent = send(&connection, &call.request, deadline).await;
                // There is room for all, and the receiver outlives this.
                let _ = sender.try_send((call, sent));
            }
            drop(sender);
        };
        let receive_all = async {
            while let Some((call, sent)) = pending.recv().await {
                let outcome = match sent {
                    Ok(reply) => wait(reply, deadline).await,
                    Err(outcome) => outcome,
                };
                round.add(call, outcome, self, target);
            }
        };
        tokio::join!(send_all, receive_all);
        round
    }

    async fn attempt(&self, request: &Request, target: &Target, deadline: Instant) -> Outcome {
        let connection = match self.connection(target, deadline).await {
            Ok(connection) => connection,
            Err(outcome) => return outcome,
        };
        match send(&connection, request, deadline).await {
            Ok(pending) => wait(pending, deadline).await,
            Err(outcome) => outcome,
        }
    }

    async fn connection(
        &self,
        target: &Target,
        deadline: Instant,
    ) -> std::result::Result<Connection, Outcome> {
        let pool = self.nodes.pool(&target.address, target.role);
        match timeout_at(deadline, pool.connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Outcome::Unreachable(error)),
            Err(_) => Err(Outcome::TimedOut { was_sent: false }),
        }
    }

    /// Where a command goes. Copies and replicas are asked once; if that fails, the primary is.
    fn target(
        &self,
        request: &Request,
        attempts: &Attempts,
        named: Option<Arc<str>>,
        map: &Topology,
    ) -> Target {
        let any_node = || map.any_node().cloned().unwrap_or_else(|| "".into());
        let Some((slot, key)) = request.slot().zip(request.key.as_deref()) else {
            return Target {
                address: any_node(),
                role: Role::Plain,
            };
        };
        if let Some(address) = named {
            return Target {
                address,
                role: Role::Routed,
            };
        }
        let is_new_read = request.may_be_old() && attempts.is_first();
        let has_others = map.nodes().len() > 1;
        if is_new_read && has_others && request.is_get() && self.hot.may_be_read_anywhere(key) {
            return Target {
                address: any_node(),
                role: Role::Plain,
            };
        }
        let Some(holders) = map.holders(slot) else {
            return Target {
                address: any_node(),
                role: Role::Routed,
            };
        };
        let replica = match self.options.read_from {
            ReadFrom::Replica if is_new_read => fastrand::choice(holders.replicas.iter()),
            ReadFrom::Any if is_new_read => holders
                .replicas
                .get(fastrand::usize(..=holders.replicas.len())),
            _ => None,
        };
        match replica {
            Some(address) => Target {
                address: Arc::clone(address),
                role: Role::Replica,
            },
            None => Target {
                address: Arc::clone(&holders.primary),
                role: Role::Routed,
            },
        }
    }

    fn note_write(&self, request: &Request) {
        if let (Some(key), Kind::IdempotentWrite | Kind::Write) = (&request.key, request.kind) {
            self.hot.mark_written(key);
        }
    }
}

/// Has a batch's reads of what it writes answered by who executes the writes, on the same connection. By slots,
/// which all keys of a command share.
fn read_what_is_written(requests: &mut [Request]) {
    let writes = requests.iter().filter(|request| request.kind != Kind::Read);
    let written: HashSet<u16> = writes.filter_map(Request::slot).collect();
    if written.is_empty() {
        return;
    }
    for request in requests {
        if request.slot().is_some_and(|slot| written.contains(&slot)) {
            request.read_at_primary();
        }
    }
}

async fn send(
    connection: &Connection,
    request: &Request,
    deadline: Instant,
) -> std::result::Result<PendingReply, Outcome> {
    let unsent = Outcome::TimedOut { was_sent: false };
    // Where there is room, a passed deadline would not keep it from being queued.
    if Instant::now() >= deadline {
        return Err(unsent);
    }
    match timeout_at(deadline, connection.send(request.frame.clone())).await {
        Ok(sent) => sent.map_err(Outcome::Lost),
        Err(_) => Err(unsent),
    }
}

async fn wait(mut pending: PendingReply, deadline: Instant) -> Outcome {
    match timeout_at(deadline, pending.wait()).await {
        Ok(Ok(value)) => Outcome::Answered(value),
        Ok(Err(lost)) => Outcome::Lost(lost),
        Err(_) => Outcome::TimedOut {
            was_sent: pending.cancel(),
        },
    }
}

/// What became of one attempt at several commands, in their order.
#[derive(Debug, Default)]
struct Round {
    done: Vec<(usize, Result<Value>)>,
    again: Vec<Call>,
    /// When to go on, if not at once.
    not_before: Option<Instant>,
}

impl Round {
    fn add(&mut self, mut call: Call, outcome: Outcome, router: &Router, target: &Target) {
        match call
            .attempts
            .judge(outcome, &target.address, &router.options)
        {
            Verdict::Done(result) => {
                router.note_write(&call.request);
                self.done.push((call.index, result));
            }
            Verdict::Redirect(address) => {
                call.named = Some(address);
                self.add_again(call, router);
            }
            Verdict::Again(pause) => {
                self.not_before = self.not_before.max(Some(Instant::now() + pause));
                self.add_again(call, router);
            }
        }
    }

    fn add_again(&mut self, call: Call, router: &Router) {
        router.discovery.request();
        self.again.push(call);
    }
}
