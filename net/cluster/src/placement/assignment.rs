//! Ranges dealt out to nodes within quotas: a maximum flow, found by augmenting paths.
//!
//! ```text
//! range --(allowed)--> node --> its quota
//!                        \----> one more, from a pool shared by all
//! ```
//! What is dealt out greedily in the order of preference stays unless a path has to go through it,
//! so the order decides wherever there is a choice, and the paths only make the result complete.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use crate::topology::COPIES_MAX;
use crate::{RANGES_COUNT, Range};

use super::Rank;
use super::exchange::{Cost, Exchange, Exchanges};
use super::quota::Quotas;

/// The nodes of one range.
pub(super) type Ranks = ArrayVec<Rank, COPIES_MAX>;

/// Which nodes have which ranges.
pub(super) struct Assignment {
    quotas: Quotas,
    /// Nodes that each range needs.
    needed: usize,
    /// By range.
    nodes: Vec<Ranks>,
    /// By rank.
    loads: Vec<u32>,
    /// How many nodes have one more than the least.
    more_used: u32,
}

/// How the search came to a node.
#[derive(Clone, Copy)]
enum Step {
    /// A range that needs a node would take it.
    Gain(Range),
    /// It would take over a range from another.
    Move(Range, Rank),
    /// It would give up its one more for another.
    Pool(Rank),
}

impl Assignment {
    pub(super) fn new(quotas: Quotas, needed: usize) -> Self {
        let loads = vec![0; quotas.least.len()];
        Self {
            quotas,
            needed,
            nodes: vec![Ranks::new(); usize::from(RANGES_COUNT)],
            loads,
            more_used: 0,
        }
    }

    /// The nodes of a range so far.
    pub(super) fn nodes(&self, range: Range) -> &Ranks {
        &self.nodes[usize::from(range.index())]
    }

    /// How many more nodes a range needs.
    pub(super) fn missing(&self, range: Range) -> usize {
        self.needed - self.nodes(range).len()
    }

    /// Whether a node can have one more range.
    pub(super) fn is_open(&self, node: Rank) -> bool {
        let index = usize::from(node);
        let (load, least) = (self.loads[index], self.quotas.least[index]);
        let can_have_more =
            self.quotas.may_have_more[index] && self.more_used < self.quotas.more_count;
        load < least || (load == least && can_have_more)
    }

    /// Gives a range to a node, if it needs one and the node can have it.
    pub(super) fn offer(&mut self, range: Range, node: Rank) -> bool {
        let is_taken =
            self.missing(range) > 0 && !self.nodes(range).contains(&node) && self.is_open(node);
        if is_taken {
            self.add(range, node);
        }
        is_taken
    }

    /// Gives a range to a node beyond its quota.
    pub(super) fn force(&mut self, range: Range, node: Rank) {
        self.add(range, node);
    }

    /// Deals out as much as can be, if a range can have only the nodes that `is_allowed` allows, and
    /// can be taken from those only that `is_movable` allows. O(ranges * nodes) for each path.
    pub(super) fn complete(
        &mut self,
        is_allowed: impl Fn(Range, Rank) -> bool,
        is_movable: impl Fn(Range, Rank) -> bool,
    ) {
        while self.augment(&is_allowed, &is_movable) {}
    }

    fn augment(
        &mut self,
        is_allowed: &impl Fn(Range, Rank) -> bool,
        is_movable: &impl Fn(Range, Rank) -> bool,
    ) -> bool {
        let mut search = Search::new(self.loads.len());
        for range in Range::all().filter(|&range| self.missing(range) > 0) {
            search.visit(Step::Gain(range), |node| {
                self.can_take(range, node, is_allowed)
            });
        }
        if search.queue.is_empty() {
            return false;
        }
        let held = self.by_node();
        let mut is_pool_seen = false;
        while let Some(node) = search.queue.pop_front() {
            if self.is_open(node) {
                self.apply(&search, node);
                return true;
            }
            let index = usize::from(node);
            for &range in held[index].iter().filter(|&&range| is_movable(range, node)) {
                search.visit(Step::Move(range, node), |to| {
                    self.can_take(range, to, is_allowed)
                });
            }
            let wants_more = self.quotas.may_have_more[index] && !self.has_more(node);
            if wants_more && !is_pool_seen {
                is_pool_seen = true;
                search.visit(Step::Pool(node), |other| self.has_more(other));
            }
        }
        false
    }

    /// Exchanges ranges between nodes until no exchange lowers the cost. A cycle of exchanges that
    /// lowers it is left as long as there is a cheaper assignment (Klein, 1967), so moves are the
    /// least; `apart` is met as far as it costs none.
    ///
    /// O(ranges * nodes + nodes^3) for each kind of exchange, and once more.
    pub(super) fn cheapen(&mut self, is_allowed: impl Fn(Range, Rank) -> bool, cost: &impl Cost) {
        while let Some(cycle) = self.exchanges(&is_allowed, cost).negative_cycle() {
            if !self.exchange(&cycle, cost) {
                return;
            }
            while let Some(again) = self.alike(&cycle, &is_allowed, cost) {
                if !self.exchange(&again, cost) {
                    break;
                }
            }
        }
    }

    /// Carries out exchanges, unless they turn out not to lower the cost: those of one range count
    /// as if there were no others.
    fn exchange(&mut self, cycle: &[Exchange], cost: &impl Cost) -> bool {
        let mut touched: Vec<Range> = cycle.iter().filter_map(|exchange| exchange.range).collect();
        touched.sort_unstable();
        touched.dedup();
        let before: Vec<Ranks> = touched
            .iter()
            .map(|&range| self.nodes(range).clone())
            .collect();
        let total = |assignment: &Self| -> i32 {
            let costs = touched
                .iter()
                .map(|&range| cost.of(range, assignment.nodes(range)));
            costs.sum()
        };
        let total_before = total(self);
        for exchange in cycle {
            if let Some(range) = exchange.range {
                self.remove(range, exchange.from);
            }
        }
        for exchange in cycle {
            if let Some(range) = exchange.range {
                self.add(range, exchange.to);
            }
        }
        let is_lower = total(self) < total_before;
        if !is_lower {
            for (&range, nodes) in touched.iter().zip(&before) {
                for node in self.nodes(range).clone() {
                    self.remove(range, node);
                }
                for &node in nodes {
                    self.add(range, node);
                }
            }
        }
        is_lower
    }

    fn exchanges(&self, is_allowed: &impl Fn(Range, Rank) -> bool, cost: &impl Cost) -> Exchanges {
        let mut exchanges = Exchanges::new(self.loads.len());
        let last = Rank::try_from(self.loads.len()).expect("at most MEMBERS_MAX");
        for (range, nodes) in Range::all().zip(&self.nodes) {
            for to in (0..last).filter(|&to| self.can_take(range, to, is_allowed)) {
                for &from in nodes {
                    exchanges.allow(Exchange {
                        from,
                        to,
                        range: Some(range),
                        cost: cost.of_exchange(range, nodes, from, to),
                    });
                }
            }
        }
        let may_have_more = |node: Rank| self.quotas.may_have_more[usize::from(node)];
        for from in (0..last).filter(|&node| may_have_more(node) && !self.has_more(node)) {
            for to in (0..last).filter(|&node| self.has_more(node)) {
                exchanges.allow(Exchange {
                    from,
                    to,
                    range: None,
                    cost: 0,
                });
            }
        }
        exchanges
    }

    /// Exchanges among the same nodes at the same costs, of other ranges.
    fn alike(
        &self,
        cycle: &[Exchange],
        is_allowed: &impl Fn(Range, Rank) -> bool,
        cost: &impl Cost,
    ) -> Option<Vec<Exchange>> {
        let alike = |exchange: &Exchange| {
            let Exchange { from, to, .. } = *exchange;
            exchange.range?;
            let range = Range::all().find(|&range| {
                let nodes = self.nodes(range);
                nodes.contains(&from)
                    && self.can_take(range, to, is_allowed)
                    && cost.of_exchange(range, nodes, from, to) == exchange.cost
            })?;
            Some(Exchange {
                range: Some(range),
                ..*exchange
            })
        };
        cycle.iter().map(alike).collect()
    }

    fn can_take(&self, range: Range, node: Rank, is_allowed: impl Fn(Range, Rank) -> bool) -> bool {
        !self.nodes(range).contains(&node) && is_allowed(range, node)
    }

    fn has_more(&self, node: Rank) -> bool {
        let index = usize::from(node);
        self.loads[index] > self.quotas.least[index]
    }

    fn by_node(&self) -> Vec<Vec<Range>> {
        let mut held = vec![Vec::new(); self.loads.len()];
        for (range, nodes) in Range::all().zip(&self.nodes) {
            for &node in nodes {
                held[usize::from(node)].push(range);
            }
        }
        held
    }

    /// Changes everything along the path that ends at `last`.
    fn apply(&mut self, search: &Search, last: Rank) {
        let mut node = last;
        loop {
            match search.steps[usize::from(node)].expect("the search came this way") {
                Step::Gain(range) => {
                    self.add(range, node);
                    return;
                }
                Step::Move(range, from) => {
                    self.remove(range, from);
                    self.add(range, node);
                    node = from;
                }
                Step::Pool(from) => node = from,
            }
        }
    }

    fn add(&mut self, range: Range, node: Rank) {
        self.nodes[usize::from(range.index())].push(node);
        self.loads[usize::from(node)] += 1;
        self.more_used += u32::from(self.has_more(node));
    }

    fn remove(&mut self, range: Range, node: Rank) {
        self.more_used -= u32::from(self.has_more(node));
        self.loads[usize::from(node)] -= 1;
        self.nodes[usize::from(range.index())].retain(|other| *other != node);
    }
}

/// A breadth-first search for a node that is open.
struct Search {
    steps: Vec<Option<Step>>,
    unseen: Vec<Rank>,
    queue: VecDeque<Rank>,
}

impl Search {
    fn new(nodes_count: usize) -> Self {
        let last = Rank::try_from(nodes_count).expect("at most MEMBERS_MAX");
        Self {
            steps: vec![None; nodes_count],
            unseen: (0..last).collect(),
            queue: VecDeque::new(),
        }
    }

    fn visit(&mut self, step: Step, mut can_go: impl FnMut(Rank) -> bool) {
        let Self {
            steps,
            unseen,
            queue,
        } = self;
        unseen.retain(|&node| {
            let goes = can_go(node);
            if goes {
                steps[usize::from(node)] = Some(step);
                queue.push_back(node);
            }
            !goes
        });
    }
}
