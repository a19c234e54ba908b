//! WAITs of another node's clients, as far as they are about ranges of this one.
//!
//! Each is answered when enough followers have what was written before the question came, or when it
//! has waited as long as it said; answers need not come in the order of the questions.

use fulmar_cluster::{Epoch, RangeSet, Time};

use super::Context;
use crate::cluster::Acknowledgements;
use crate::dispatch::{Outcome, with_sink};
use crate::message::ReplyForm;

/// Questions that one connection may have open; more wait until one is answered.
const WAITS_MAX: usize = 4_096;

/// See the module's head.
#[derive(Default)]
pub(super) struct NodeWaits(Vec<NodeWait>);

struct NodeWait {
    form: ReplyForm,
    deadline: Time,
    acknowledgements: Acknowledgements,
}

impl NodeWaits {
    /// Takes a question: how many followers, for how long, terms up to which epoch, which ranges.
    /// `None` if it is none.
    pub(super) fn begin(
        &mut self,
        form: ReplyForm,
        args: &[&[u8]],
        context: &mut Context<'_, '_>,
    ) -> Option<Outcome> {
        let &[needed, ms, epoch, ranges] = args else {
            return None;
        };
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        let needed = usize::try_from(number(needed)?).ok()?;
        let (ms, epoch) = (number(ms)?, Epoch(number(epoch)?));
        let ranges = RangeSet::decode(ranges)?;
        if context.output.holes_count() > 0 {
            return Some(Outcome::Wait);
        }
        if self.0.len() >= WAITS_MAX {
            return Some(Outcome::Wait);
        }
        let now = Time(context.dispatcher.now().time.0);
        let mut wait = NodeWait {
            form,
            deadline: Time(now.0.saturating_add(ms)),
            acknowledgements: Acknowledgements::new(&ranges, epoch, needed),
        };
        if !wait.look(context) {
            return Some(Outcome::Busy);
        }
        if !wait.answer(now, context) {
            self.0.push(wait);
            context.dispatcher.note_waiting(context.id);
        }
        Some(Outcome::Done)
    }

    /// Answers what can be answered; false if a token was taken.
    #[inline]
    pub(super) fn run(&mut self, context: &mut Context<'_, '_>) -> bool {
        self.0.is_empty() || self.run_some(context)
    }

    fn run_some(&mut self, context: &mut Context<'_, '_>) -> bool {
        let now = Time(context.dispatcher.now().time.0);
        let mut has_looked = true;
        self.0.retain_mut(|wait| {
            has_looked &= wait.look(context);
            !wait.answer(now, context)
        });
        has_looked
    }

    /// When the first of them has waited long enough; `None` if there is none.
    pub(super) fn wakes_at(&self) -> Option<Time> {
        self.0.iter().map(|wait| wait.deadline).min()
    }
}

impl NodeWait {
    /// False if a token is taken.
    fn look(&mut self, context: &mut Context<'_, '_>) -> bool {
        let placement = context.dispatcher.placement();
        let shards = self.acknowledgements.shards(&placement);
        let is_taken = context.dispatcher.try_take_all(context.tokens, shards);
        if is_taken {
            self.acknowledgements.look(&placement, context.tokens);
        }
        is_taken
    }

    /// True if it was answered.
    fn answer(&self, now: Time, context: &mut Context<'_, '_>) -> bool {
        if !self.acknowledgements.is_enough() && now < self.deadline {
            return false;
        }
        let count = i64::try_from(self.acknowledgements.count()).unwrap_or(i64::MAX);
        with_sink(self.form, context.output.replies(), |sink| {
            sink.integer(count);
        });
        true
    }
}
