//! A primary that lives hands a range over with all that it has: what it executed until then, nobody
//! waited for, and no machine failed, so nothing excuses its loss.

use std::collections::BTreeMap;

use fulmar_cluster::{ClusterId, Range, Term};

use super::Verdict;
use crate::items::Held;

type Reign = (ClusterId, Range, Term);

#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// What the primary had that this reign followed.
    given: BTreeMap<Reign, Held>,
    /// What it began with.
    taken: BTreeMap<Reign, Held>,
    pub(crate) checked: u64,
}

impl HandedOver {
    /// A primary learnt that it is one no more, and had this.
    pub(crate) fn gave(&mut self, reign: Reign, had: Held) -> Verdict {
        self.given.insert(reign, had);
        self.compare(reign)
    }

    /// The next one began, and has this.
    pub(crate) fn took(&mut self, reign: Reign, has: &Held) -> Verdict {
        self.taken.entry(reign).or_insert_with(|| has.clone());
        self.compare(reign)
    }

    fn compare(&mut self, reign: Reign) -> Verdict {
        let (Some(given), Some(taken)) = (self.given.get(&reign), self.taken.get(&reign)) else {
            return Ok(());
        };
        self.checked += 1;
        match given.difference(taken).next() {
            None => Ok(()),
            Some(write) => Err(format!(
                "range {}: write {write} was not handed over in term {}",
                reign.1.index(),
                reign.2.0
            )),
        }
    }
}
