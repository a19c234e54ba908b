//! Transactions in a cluster: a queue belongs to the node that has its keys, and is executed there as
//! a whole.

use fulmar_cluster::{Range, Slot, Time};
use fulmar_protocol::command::table::{CommandId, CommandSpec, lookup};
use fulmar_protocol::command::{Argv, CommandError};
use fulmar_shard::StagedChain;

use super::{Context, RespSession, release};
use crate::cluster::{
    Destination, FORWARD_MS_MAX, Forward, Gather, LAST_TRY_MS, Owner, Target, View, Way, bundle,
    way,
};
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
            Some(key) if self.asker().knows_the_map => {
                let slot = Slot::of(key);
                if view.is_owner_informed(slot.range()) {
                    view.cluster.moved(slot.number())
                } else {
                    CommandError::TryAgain
                }
            }
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
        if context.output.holes_count() > 0 {
            return Some(Outcome::Wait);
        }
        let now = Time(context.dispatcher.now().time.0);
        let since = self.exec_since.unwrap_or(now);
        let is_late = now.ms_since(since) + LAST_TRY_MS > FORWARD_MS_MAX;
        if is_late || !self.transaction.is_portable() {
            return Some(self.refuse_queue(&CommandError::TryAgain, context));
        }
        if !context.dispatcher.nodes_mut()?.has_room(1, context.id) {
            return Some(Outcome::Wait);
        }
        let Some(args) = bundle(&self.transaction) else {
            return Some(self.refuse_queue(&CommandError::TransactionTooLarge, context));
        };
        self.note_writes(CommandId::Exec.spec(), &[], context);
        let nodes = context.dispatcher.nodes_mut()?;
        let view = nodes.view()?;
        let mut gather = Gather::new(CommandId::Exec, since);
        let part = gather.deal_whole(view, now);
        let destination = Destination {
            connection: context.id,
            target: Target::Part(part),
            form: ReplyForm::Resp(self.client.version()),
        };
        let forward = Forward::new(destination, CommandId::Exec, args, false, node, None, now);
        nodes.forward(forward.due_by(gather.deadline()));
        self.gather = Some(Box::new(gather));
        Some(Outcome::Done)
    }

    /// EXEC of keys that have moved since they were queued here: true if it is tried again, by whoever has
    /// them now. A client that knows the map is told instead, and so is one that watches keys or queued long
    /// values.
    pub(super) fn follow_queue(&mut self, context: &mut Context<'_, '_>) -> bool {
        let now = Time(context.dispatcher.now().time.0);
        let since = *self.exec_since.get_or_insert(now);
        let is_late = now.ms_since(since) >= FORWARD_MS_MAX;
        if is_late || self.asker().knows_the_map || !self.transaction.is_portable() {
            return false;
        }
        let Some(nodes) = context.dispatcher.nodes() else {
            return false;
        };
        let view = nodes.view().cloned();
        if let Some(owner) = view.and_then(|view| self.owner_of_queue(&view)) {
            self.queue_owner = Some(owner);
        }
        true
    }

    /// EXEC was not executed: its keys were changing hands. It is run once more, by whoever has them now.
    pub(super) fn exec_again(&mut self, view: &View, context: &mut Context<'_, '_>) {
        let now = Time(context.dispatcher.now().time.0);
        self.gather = None;
        self.exec_since.get_or_insert(now);
        if let Some(owner) = self.owner_of_queue(view) {
            self.queue_owner = Some(owner);
        }
        let argv = Argv {
            args: &[b"EXEC"],
            staged: &[],
        };
        self.pending = Some(Box::new(Pending::new(&argv, Vec::new())));
    }

    /// Ends the queue with this error.
    pub(super) fn refuse_queue(
        &mut self,
        error: &CommandError,
        context: &mut Context<'_, '_>,
    ) -> Outcome {
        self.end_queue(context);
        self.reject(
            Some(CommandId::Exec.spec()),
            error,
            &mut Vec::new(),
            context,
        )
    }

    pub(super) fn queue_writes(&self) -> bool {
        let mut writes = false;
        self.transaction.visit_queue(|args| {
            writes |= lookup(args).is_ok_and(|spec| spec.is_write());
        });
        writes
    }

    /// Who has all keys of the queue; `None` if nobody has.
    fn owner_of_queue(&self, view: &View) -> Option<Owner> {
        let mut owners = Vec::new();
        self.transaction.visit_queue(|args| {
            if let Ok(spec) = lookup(args) {
                owners.extend(spec.keys_in(args).map(|key| view.owner(Range::of(key))));
            }
        });
        owners.dedup();
        match owners[..] {
            [owner] => Some(owner),
            _ => None,
        }
    }

    /// The queue was executed, or never will be.
    pub(super) fn end_queue(&mut self, context: &mut Context<'_, '_>) {
        release(self.transaction.abandon(), context.dispatcher);
        self.queue_owner = None;
        self.exec_since = None;
    }
}
