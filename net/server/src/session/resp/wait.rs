//! WAIT: until enough followers have what this connection wrote.
//!
//! ```text
//! own ranges:      looked at under their shards' tokens, again when an acknowledgement has come
//! others' ranges:  their primaries are asked, and answer when they have enough, or after a while
//! ```
//! Nothing behind it is decoded meanwhile. It ends at once, with 0, where no acknowledgement can come
//! any more: the primary that had a write has died, or there is no majority.

use fulmar_cluster::{Epoch, NodeId, RangeSet, Time};
use fulmar_protocol::ReplySink;
use fulmar_protocol::command::table::{CommandId, CommandSpec, Scope};
use fulmar_protocol::command::{Argv, table};
use fulmar_protocol::resp::{RespVersion, Token, next_token};
use fulmar_shard::Outcome as Executed;

use super::{Context, RespSession, Stop};
use crate::cluster::{Acknowledgements, Destination, Forward, Owner, Reply, Target, View, Writes};
use crate::dispatch::Outcome;
use crate::message::ReplyForm;
use crate::pending::Pending;

/// How long another node keeps a question at a time.
const QUESTION_MS_MAX: u64 = 2_000;
/// How long after its end a WAIT still listens to nodes that it asked.
const GRACE_MS: u64 = 100;
/// The pause after a node could not be asked.
const PAUSE_MS: u64 = 50;

/// A WAIT under way.
#[derive(Debug)]
pub(super) struct Waiting {
    needed: usize,
    /// `None`: it has no end.
    deadline: Option<Time>,
    /// The topology by which the ranges were dealt out.
    epoch: Option<Epoch>,
    own: Option<Acknowledgements>,
    others: Vec<Question>,
    has_asked: bool,
}

/// Numbers of questions are no numbers of parts of a reply that is gathered.
const QUESTIONS_START: usize = 1 << 32;

/// What another node is asked.
#[derive(Debug)]
struct Question {
    node: NodeId,
    ranges: RangeSet,
    /// The question on its way.
    asked: Option<usize>,
    not_before: Time,
    /// What it last answered.
    count: usize,
}

/// Whether a WAIT goes on.
enum Looked {
    /// With this answer it ends.
    Over(usize),
    /// It waits for an acknowledgement, an answer or its end.
    Open,
    /// A token is taken.
    Busy,
}

impl RespSession {
    /// Begins a WAIT.
    pub(super) fn begin_wait(
        &mut self,
        replicas: i64,
        timeout_ms: u64,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        // What was written before must have been executed.
        if context.output.holes_count() > 0 {
            return Outcome::Wait;
        }
        let now = Time(context.dispatcher.now().time.0);
        self.waiting = Some(Box::new(Waiting {
            needed: usize::try_from(replicas).unwrap_or(0),
            deadline: (timeout_ms > 0).then(|| Time(now.0.saturating_add(timeout_ms))),
            epoch: None,
            own: None,
            others: Vec::new(),
            has_asked: false,
        }));
        Outcome::Done
    }

    /// Goes on with the WAIT; `None` if there is none any more.
    pub(super) fn run_wait(&mut self, context: &mut Context<'_, '_>) -> Option<Stop> {
        let mut waiting = self.waiting.take()?;
        let count = match self.look(&mut waiting, context) {
            Looked::Over(count) => count,
            Looked::Busy => {
                self.waiting = Some(waiting);
                return Some(Stop::Again);
            }
            Looked::Open => {
                context.dispatcher.note_waiting(context.id);
                self.waiting = Some(waiting);
                return Some(Stop::Wait);
            }
        };
        if let Some(writes) = &mut self.writes {
            writes.note_told(count);
        }
        self.client.replicas_acknowledged = u32::try_from(count).unwrap_or(u32::MAX);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.encoder(context.output).integer(count);
        context.dispatcher.count(CommandId::Wait, Executed::Done);
        None
    }

    fn look(&mut self, waiting: &mut Waiting, context: &mut Context<'_, '_>) -> Looked {
        let view = context.dispatcher.nodes().and_then(|nodes| nodes.view());
        let Some(view) = view.cloned() else {
            return Looked::Over(0);
        };
        if view.cluster.status().is_provisional {
            return Looked::Over(0);
        }
        let writes = match &mut self.writes {
            Some(writes) if !writes.ranges().is_empty() => writes,
            // Nothing written is everywhere.
            _ => return Looked::Over(view.cluster.replicas_count_min()),
        };
        writes.follow(&view);
        if writes.is_lost() {
            return Looked::Over(0);
        }
        if waiting.epoch != Some(view.topology().epoch()) {
            waiting.deal(writes, &view);
        }
        if let Some(own) = &mut waiting.own
            && !own.is_enough()
        {
            let placement = context.dispatcher.placement();
            let shards = own.shards(&placement);
            if !context.dispatcher.try_take_all(context.tokens, shards) {
                return Looked::Busy;
            }
            own.look(&placement, context.tokens);
        }
        waiting.ask(writes.epoch(), &mut self.questions_count, context);
        let now = Time(context.dispatcher.now().time.0);
        if waiting.is_over(now) {
            return Looked::Over(waiting.count());
        }
        Looked::Open
    }

    /// Another node has answered, or did not.
    pub(super) fn fill_wait(&mut self, number: usize, reply: &Reply) {
        if let Some(waiting) = &mut self.waiting {
            waiting.answered(number, reply);
        }
    }

    /// When the WAIT is to be looked at though nothing happens; `None` if there is none.
    pub(crate) fn wakes_at(&self) -> Option<Time> {
        let waiting = self.waiting.as_ref()?;
        Some(match waiting.deadline {
            None => Time(u64::MAX),
            Some(deadline) if waiting.is_asking() => deadline.plus_ms(GRACE_MS),
            Some(deadline) => deadline,
        })
    }

    // --- what is written ---

    /// A command is executed, or about to be.
    pub(super) fn note_writes(
        &mut self,
        spec: &CommandSpec,
        args: &[&[u8]],
        context: &Context<'_, '_>,
    ) {
        let Some(view) = context.dispatcher.nodes().and_then(|nodes| nodes.view()) else {
            return;
        };
        let knows_the_map = self.client.is_cluster_client;
        if spec.id == CommandId::Exec {
            let (writes, transaction) = (&mut self.writes, &self.transaction);
            transaction.visit_queue(|args| {
                if let Ok(spec) = table::lookup(args)
                    && spec.is_write()
                {
                    note(writes, spec, args, view, knows_the_map);
                }
            });
        } else if spec.is_write() {
            note(&mut self.writes, spec, args, view, knows_the_map);
        } else {
            return;
        }
        self.client.replicas_acknowledged = 0;
    }

    /// A write of one range.
    #[inline]
    pub(super) fn note_write(&mut self, range: fulmar_cluster::Range, context: &Context<'_, '_>) {
        if let Some(view) = context.dispatcher.nodes().and_then(|nodes| nodes.view()) {
            self.writes
                .get_or_insert_with(|| Box::new(Writes::new(view)))
                .note(range, view);
            self.client.replicas_acknowledged = 0;
        }
    }
}

fn note(
    writes: &mut Option<Box<Writes>>,
    spec: &CommandSpec,
    args: &[&[u8]],
    view: &View,
    knows_the_map: bool,
) {
    let writes = writes.get_or_insert_with(|| Box::new(Writes::new(view)));
    if spec.scope == Scope::AllShards {
        let is_meant = |range| !knows_the_map || view.owner(range) == Owner::Own;
        fulmar_cluster::Range::all()
            .filter(|&range| is_meant(range))
            .for_each(|range| writes.note(range, view));
    }
    for key in spec.keys_in(args) {
        writes.note(fulmar_cluster::Range::of(key), view);
    }
}

impl Waiting {
    /// Memory held, in bytes.
    pub(super) fn bytes_held(&self) -> usize {
        size_of::<Self>() + self.others.capacity() * size_of::<Question>()
    }

    /// Deals the ranges out to who has them.
    fn deal(&mut self, writes: &Writes, view: &View) {
        self.epoch = Some(view.topology().epoch());
        self.others.clear();
        let mut own = RangeSet::EMPTY;
        for range in writes.ranges().iter() {
            match view.owner(range) {
                Owner::Own => own.insert(range),
                Owner::Node(node) => self.question(node).ranges.insert(range),
            }
        }
        self.own =
            (!own.is_empty()).then(|| Acknowledgements::new(&own, writes.epoch(), self.needed));
    }

    fn question(&mut self, node: NodeId) -> &mut Question {
        let found = self.others.iter().position(|one| one.node == node);
        let place = found.unwrap_or_else(|| {
            self.others.push(Question {
                node,
                ranges: RangeSet::EMPTY,
                asked: None,
                not_before: Time(0),
                count: 0,
            });
            self.others.len() - 1
        });
        &mut self.others[place]
    }

    /// Asks those nodes that have not said that there are enough.
    ///
    /// Each question has a number of its own, `asked_count` being how many this connection has asked:
    /// late answers are known for what they are.
    fn ask(&mut self, epoch: Epoch, asked_count: &mut usize, context: &mut Context<'_, '_>) {
        let now = Time(context.dispatcher.now().time.0);
        let needed = self.needed;
        let left_ms = self
            .deadline
            .map_or(u64::MAX, |end| end.0.saturating_sub(now.0));
        let is_first = !std::mem::replace(&mut self.has_asked, true);
        for question in &mut self.others {
            let is_enough = question.count >= needed && (needed > 0 || !is_first);
            let is_late = left_ms == 0 && !is_first;
            if question.asked.is_some() || is_enough || is_late || now < question.not_before {
                continue;
            }
            let Some(nodes) = context.dispatcher.nodes_mut() else {
                return;
            };
            if !nodes.has_room(1, context.id) {
                return;
            }
            let number = QUESTIONS_START + *asked_count;
            *asked_count += 1;
            let texts = [needed as u64, left_ms.min(QUESTION_MS_MAX), epoch.0];
            let texts = texts.map(|value| value.to_string());
            let ranges = question.ranges.encode();
            let args: [&[u8]; 5] = [
                b"WAIT",
                texts[0].as_bytes(),
                texts[1].as_bytes(),
                texts[2].as_bytes(),
                &ranges,
            ];
            let argv = Argv {
                args: &args,
                staged: &[],
            };
            let destination = Destination {
                connection: context.id,
                target: Target::Part(number),
                form: ReplyForm::Resp(RespVersion::Resp2),
            };
            let args = Pending::new(&argv, Vec::new());
            nodes.forward(Forward::new(
                destination,
                CommandId::Wait,
                args,
                true,
                question.node,
                None,
                now,
            ));
            question.asked = Some(number);
            question.not_before = now.plus_ms(PAUSE_MS);
        }
    }

    fn answered(&mut self, number: usize, reply: &Reply) {
        let mut questions = self.others.iter_mut();
        let Some(question) = questions.find(|one| one.asked == Some(number)) else {
            return;
        };
        question.asked = None;
        if let Reply::Bytes(bytes) = reply
            && let Some(Token::Integer(count)) = next_token(&mut bytes.as_slice())
        {
            question.count = usize::try_from(count).unwrap_or(0);
        }
    }

    fn is_asking(&self) -> bool {
        self.others.iter().any(|question| question.asked.is_some())
    }

    fn is_over(&self, now: Time) -> bool {
        let own = self.own.as_ref().is_none_or(Acknowledgements::is_enough);
        let others = self.others.iter().all(|one| one.count >= self.needed);
        if own && others && (self.needed > 0 || !self.is_asking()) {
            return true;
        }
        self.deadline.is_some_and(|deadline| {
            now >= deadline.plus_ms(GRACE_MS) || (now >= deadline && !self.is_asking())
        })
    }

    fn count(&self) -> usize {
        let own = self.own.iter().map(Acknowledgements::count);
        let others = self.others.iter().map(|question| question.count);
        own.chain(others).min().unwrap_or(0)
    }
}
