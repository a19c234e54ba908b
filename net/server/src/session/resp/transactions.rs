//! Transactions in a cluster: a queue belongs to the node that has its keys, and is executed there as
//! a whole.

use fulmar_cluster::Slot;
use fulmar_protocol::command::table::{CommandId, CommandSpec, lookup};
use fulmar_protocol::command::{Argv, CommandError};
use fulmar_shard::{Outcome as Executed, StagedChain};

use super::{Context, RespSession, release};
use crate::cluster::{Destination, Forward, Owner, Target, View, Way, way};
use crate::dispatch::{Dispatcher, Outcome};
use crate::message::ReplyForm;
use crate::pending::Pending;
use crate::token::Tokens;

/// Why a queue is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It is tried again.
    ForNow,
    /// Another node has its keys.
    Moved,
}

impl RespSession {
    /// Whether a command may be queued beside those that are, and says where the queue belongs; the
    /// error to answer if not.
    #[cold]
    pub(super) fn place_queued(
        &mut self,
        spec: &'static CommandSpec,
        args: &[&[u8]],
        context: &Context<'_, '_>,
    ) -> Result<(), CommandError> {
        let view = context.dispatcher.nodes().and_then(|nodes| nodes.view());
        let Some(view) = view else {
            return Err(CommandError::ClusterDown);
        };
        let owner = match way(spec, args, view, self.asker()) {
            Way::Here if spec.keys_in(args).next().is_none() => return Ok(()),
            Way::Here => Owner::Own,
            Way::To(node) => Owner::Node(node),
            Way::Moved(slot, _) => return Err(view.cluster.moved(slot.number())),
            Way::CrossSlot | Way::Apart | Way::Everywhere | Way::InTurn => {
                return Err(CommandError::CrossSlot);
            }
        };
        match self.queue_owner {
            Some(other) if other != owner => {
                Err(self.not_beside(spec, args, view, CommandError::CrossSlot))
            }
            // What is watched is watched here.
            None if owner != Owner::Own && self.transaction.watches_count() > 0 => {
                Err(self.not_beside(spec, args, view, CommandError::WatchElsewhere))
            }
            _ => {
                self.queue_owner = Some(owner);
                Ok(())
            }
        }
    }

    /// Why a command does not fit to what is queued or watched: a client that knows the map has an old one.
    fn not_beside(
        &self,
        spec: &CommandSpec,
        args: &[&[u8]],
        view: &View,
        error: CommandError,
    ) -> CommandError {
        match spec.keys_in(args).next() {
            Some(key) if self.asker().knows_the_map => view.cluster.moved(Slot::of(key).number()),
            _ => error,
        }
    }

    /// Values that were streamed to a shard of this node, for a transaction of another: queues them as
    /// plain arguments.
    pub(super) fn queue_unstaged(
        &mut self,
        spec: &'static CommandSpec,
        argv: &Argv<'_>,
        chains: &mut Vec<Option<StagedChain>>,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        let values = match self.unstage(chains, context) {
            Ok(values) => values,
            Err(Some(error)) => return self.reject(Some(spec), &error, chains, context),
            Err(None) => return Outcome::Busy,
        };
        let mut args = argv.args.to_vec();
        for (staged, value) in argv.staged.iter().zip(&values) {
            args[staged.position] = value;
        }
        let argv = Argv {
            args: &args,
            staged: &[],
        };
        self.queue(spec, &argv, chains, context)
    }

    /// What keeps the shards of the queue's keys, whose tokens are held, from executing it, if
    /// something does: writes that are held for a moment, or keys that have moved since they were
    /// queued. With these it is over, and nothing was executed.
    pub(super) fn obstacle<'n>(
        &self,
        dispatcher: &mut Dispatcher<'n>,
        tokens: &mut Tokens<'n>,
    ) -> Option<Obstacle> {
        if self.transaction.is_aborted() || dispatcher.nodes().is_none() {
            return None;
        }
        let (mut may_execute, mut owns_all) = (true, true);
        self.transaction.visit_queue(|args| {
            if let Ok(spec) = lookup(args) {
                may_execute &= dispatcher.may_execute(spec, args, false, tokens);
                owns_all &= dispatcher.owns_all(spec, args, false);
            }
        });
        match (may_execute, owns_all) {
            (true, _) => None,
            (false, true) => Some(Obstacle::ForNow),
            (false, false) => Some(Obstacle::Moved),
        }
    }

    /// EXEC of a queue that belongs to another node; `None` if it is executed here.
    pub(super) fn exec_elsewhere(&mut self, context: &mut Context<'_, '_>) -> Option<Outcome> {
        let Some(Owner::Node(node)) = self.queue_owner else {
            return None;
        };
        if !self.transaction.is_open() || self.transaction.is_aborted() {
            return None;
        }
        if context.output.holes_count() > 0 {
            return Some(Outcome::Wait);
        }
        self.note_writes(CommandId::Exec.spec(), &[], context);
        let now = fulmar_cluster::Time(context.dispatcher.now().time.0);
        let nodes = context.dispatcher.nodes_mut()?;
        if !nodes.has_room(1, context.id) {
            return Some(Outcome::Wait);
        }
        let args = bundle(&self.transaction);
        let destination = Destination {
            connection: context.id,
            target: Target::Hole(context.output.reserve()),
            form: ReplyForm::Resp(self.client.version()),
        };
        nodes.forward(Forward::new(destination, args, false, node, None, now));
        release(self.transaction.abandon(), context.dispatcher);
        self.queue_owner = None;
        context.dispatcher.count(CommandId::Exec, Executed::Done);
        Some(Outcome::Done)
    }
}

/// A queue as the arguments of one command: EXEC, then for each command the number of its arguments
/// and the arguments. Taken apart in `session::node`.
fn bundle(transaction: &fulmar_shard::Transaction) -> Pending {
    let mut counts = Vec::new();
    transaction.visit_queue(|args| {
        let count = u32::try_from(args.len()).expect("at most ARGUMENTS_MAX");
        counts.push(count.to_le_bytes());
    });
    let mut bundled: Vec<&[u8]> = vec![b"EXEC"];
    let mut counts = counts.iter();
    transaction.visit_queue(|args| {
        bundled.extend(counts.next().map(|count| &count[..]));
        bundled.extend(args);
    });
    let argv = Argv {
        args: &bundled,
        staged: &[],
    };
    Pending::new(&argv, Vec::new())
}
