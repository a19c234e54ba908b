//! Exchanges of ranges among nodes, what they cost, and those that lower the cost.

use arrayvec::ArrayVec;

use crate::Range;
use crate::topology::{COPIES_MAX, MEMBERS_MAX};

use super::Rank;

/// What it costs that nodes have a range.
pub(super) trait Cost {
    /// Whether having the range costs this node nothing, because it has it already.
    fn is_there(&self, range: Range, node: Rank) -> bool;

    /// Whether two nodes should rather not have the same range.
    fn are_close(&self, one: Rank, other: Rank) -> bool;

    /// The cost of a range that these nodes have.
    fn of(&self, range: Range, nodes: &[Rank]) -> i32 {
        let mut cost = 0;
        for (place, &node) in nodes.iter().enumerate() {
            cost += self.of_one(range, node, &nodes[..place]);
        }
        cost
    }

    /// What it adds to the cost that a range of `nodes` goes from one of them to another.
    fn of_exchange(&self, range: Range, nodes: &[Rank], from: Rank, to: Rank) -> i32 {
        let others: ArrayVec<Rank, COPIES_MAX> =
            nodes.iter().copied().filter(|&node| node != from).collect();
        self.of_one(range, to, &others) - self.of_one(range, from, &others)
    }

    /// What a node adds to the cost of a range that `others` have.
    fn of_one(&self, range: Range, node: Rank, others: &[Rank]) -> i32 {
        let close: i32 = others
            .iter()
            .map(|&other| i32::from(self.are_close(node, other)))
            .sum();
        close
            + if self.is_there(range, node) {
                0
            } else {
                MOVE_COST
            }
    }
}

/// What a move costs, so much that no number of zones makes up for it: the exchanges of a cycle, at
/// most one for each node and one range each, can part fewer copies than this.
const MOVE_COST: i32 = 1 << 16;

const _: () = assert!(MEMBERS_MAX * COPIES_MAX * COPIES_MAX < MOVE_COST as usize);

/// A range that goes from one node to another; or, without a range, the right to have one more than
/// the least, which goes the other way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) from: Rank,
    pub(super) to: Rank,
    pub(super) range: Option<Range>,
    /// What it adds to the cost.
    pub(super) cost: i32,
}

/// The cheapest exchange for each pair of nodes.
pub(super) struct Exchanges {
    nodes_count: usize,
    /// By `from`, then by `to`.
    cheapest: Vec<Option<Exchange>>,
}

impl Exchanges {
    pub(super) fn new(nodes_count: usize) -> Self {
        Self {
            nodes_count,
            cheapest: vec![None; nodes_count * nodes_count],
        }
    }

    pub(super) fn allow(&mut self, exchange: Exchange) {
        let index = usize::from(exchange.from) * self.nodes_count + usize::from(exchange.to);
        let place = &mut self.cheapest[index];
        if place.is_none_or(|known| exchange.cost < known.cost) {
            *place = Some(exchange);
        }
    }

    /// Exchanges after which each node has as many ranges as before, and the cost is lower, if there
    /// are any: a negative cycle, found as Bellman and Ford do. O(nodes^3).
    pub(super) fn negative_cycle(&self) -> Option<Vec<Exchange>> {
        let mut costs = vec![0; self.nodes_count];
        let mut came_by: Vec<Option<Exchange>> = vec![None; self.nodes_count];
        let mut last_changed = None;
        for _ in 0..=self.nodes_count {
            last_changed = None;
            for exchange in self.cheapest.iter().flatten() {
                let cost = costs[usize::from(exchange.from)] + exchange.cost;
                let to = usize::from(exchange.to);
                if cost < costs[to] {
                    costs[to] = cost;
                    came_by[to] = Some(*exchange);
                    last_changed = Some(exchange.to);
                }
            }
            last_changed?;
        }
        let before = |node: Rank| came_by[usize::from(node)].expect("a cycle has no beginning");
        let mut start = last_changed?;
        for _ in 0..self.nodes_count {
            start = before(start).from;
        }
        let mut cycle = vec![before(start)];
        while cycle[cycle.len() - 1].from != start {
            cycle.push(before(cycle[cycle.len() - 1].from));
        }
        Some(cycle)
    }
}
