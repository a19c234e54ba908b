//! Sends commands where the map says, and again where the rules of retrying say so.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::command::{Kind, Request};
use crate::connection::{PendingReply, Role};
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

impl Router {
    /// Runs one command, within the time-out.
    pub(crate) async fn call(&self, request: &Request) -> Result<Value> {
        let deadline = Instant::now() + self.options.timeout;
        let mut attempts = Attempts::new(request);
        let mut named = None;
        let result = loop {
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
    /// What goes to one node goes there in this order on one connection; what has to be sent again comes
    /// later than what has not.
    pub(crate) async fn call_all(self: &Arc<Self>, requests: Vec<Request>) -> Vec<Result<Value>> {
        let deadline = Instant::now() + self.options.timeout;
        let mut results: Vec<Result<Value>> =
            requests.iter().map(|_| Err(Error::timed_out())).collect();
        let calls = requests.into_iter().enumerate();
        let mut calls: Vec<Call> = calls
            .map(|(index, request)| {
                let attempts = Attempts::new(&request);
                Call {
                    index,
                    request,
                    attempts,
                    named: None,
                }
            })
            .collect();
        while !calls.is_empty() {
            let round = self.round(calls, deadline).await;
            for (index, result) in round.done {
                results[index] = result;
            }
            calls = round.again;
            // Retries keep the caller's order.
            calls.sort_unstable_by_key(|call| call.index);
            if !calls.is_empty() {
                self.discovery.request();
                if let Some(at) = round.not_before {
                    sleep_until(deadline.min(at)).await;
                }
            }
        }
        results
    }

    /// One attempt at each, all nodes at once.
    async fn round(self: &Arc<Self>, calls: Vec<Call>, deadline: Instant) -> Round {
        let map = self.discovery.map();
        let mut groups: HashMap<Target, Vec<Call>> = HashMap::new();
        for mut call in calls {
            let target = self.target(&call.request, &call.attempts, call.named.take(), &map);
            groups.entry(target).or_default().push(call);
        }
        let mut round = Round::default();
        let mut nodes = JoinSet::new();
        for (target, calls) in groups {
            let router = Arc::clone(self);
            nodes.spawn(async move { router.group(&target, calls, deadline).await });
        }
        while let Some(group) = nodes.join_next().await {
            // A task ends otherwise only with its runtime: then nobody looks at results.
            round.extend(group.unwrap_or_default());
        }
        round
    }

    /// One attempt at what goes to one node.
    async fn group(&self, target: &Target, calls: Vec<Call>, deadline: Instant) -> Round {
        let pool = self.nodes.pool(&target.address, target.role);
        let connection = match timeout_at(deadline, pool.connection()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                let unreachable = |_: &Call| Outcome::Unreachable(error.clone());
                return self.judge_all(calls, target, unreachable);
            }
            Err(_) => {
                return self.judge_all(calls, target, |_| Outcome::TimedOut { was_sent: false });
            }
        };
        let (sender, mut pending) = mpsc::channel(calls.len().max(1));
        let send = async {
            for call in calls {
                let sent = timeout_at(deadline, connection.send(call.request.frame.clone())).await;
                let sent = match sent {
                    Ok(sent) => sent.map_err(Outcome::Lost),
                    Err(_) => Err(Outcome::TimedOut { was_sent: false }),
                };
                // There is room for all, and the receiver outlives this.
                let _ = sender.try_send((call, sent));
            }
            drop(sender);
        };
        let receive = async {
            let mut round = Round::default();
            while let Some((call, sent)) = pending.recv().await {
                let outcome = match sent {
                    Ok(reply) => wait(reply, deadline).await,
                    Err(outcome) => outcome,
                };
                round.add(call, outcome, self, target);
            }
            round
        };
        tokio::join!(send, receive).1
    }

    fn judge_all(
        &self,
        calls: Vec<Call>,
        target: &Target,
        outcome: impl Fn(&Call) -> Outcome,
    ) -> Round {
        let mut round = Round::default();
        for call in calls {
            let outcome = outcome(&call);
            round.add(call, outcome, self, target);
        }
        round
    }

    async fn attempt(&self, request: &Request, target: &Target, deadline: Instant) -> Outcome {
        let unsent = Outcome::TimedOut { was_sent: false };
        let pool = self.nodes.pool(&target.address, target.role);
        let connection = match timeout_at(deadline, pool.connection()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Outcome::Unreachable(error),
            Err(_) => return unsent,
        };
        match timeout_at(deadline, connection.send(request.frame.clone())).await {
            Ok(Ok(pending)) => wait(pending, deadline).await,
            Ok(Err(lost)) => Outcome::Lost(lost),
            Err(_) => unsent,
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

async fn wait(mut pending: PendingReply, deadline: Instant) -> Outcome {
    match timeout_at(deadline, pending.wait()).await {
        Ok(Ok(value)) => Outcome::Answered(value),
        Ok(Err(lost)) => Outcome::Lost(lost),
        Err(_) => Outcome::TimedOut {
            was_sent: pending.cancel(),
        },
    }
}

/// What became of one attempt at several commands.
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
                self.again.push(call);
            }
            Verdict::Again(pause) => {
                self.not_before = self.not_before.max(Some(Instant::now() + pause));
                self.again.push(call);
            }
        }
    }

    fn extend(&mut self, other: Self) {
        self.done.extend(other.done);
        self.again.extend(other.again);
        self.not_before = self.not_before.max(other.not_before);
    }
}
