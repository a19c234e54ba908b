//! How many ranges each node should have, by its weight.

use crate::RANGES_COUNT;

use super::Rank;

/// The share of each node: a count, and for those whose share is not whole, possibly one more. As
/// many get one more as the whole needs, and which ones is left to whoever deals out.
#[derive(Clone, Debug)]
pub(super) struct Quotas {
    /// By rank.
    pub(super) least: Vec<u32>,
    /// By rank: whether it may have one more.
    pub(super) may_have_more: Vec<bool>,
    /// How many have one more.
    pub(super) more_count: u32,
}

impl Quotas {
    /// Shares of `copies` copies of each range, in proportion to the weights; no node can have more
    /// than one copy of each, and what it can't take goes to the others.
    ///
    /// The shares of two nodes, each divided by its weight, differ by at most 1 unless one of them
    /// has a copy of every range.
    pub(super) fn new(weights: &[u16], copies: usize) -> Self {
        let node_max = u64::from(RANGES_COUNT);
        let mut left = node_max * copies as u64;
        let mut weight_left: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut is_full = vec![false; weights.len()];
        loop {
            let is_filled = |rank: &usize| {
                !is_full[*rank] && u64::from(weights[*rank]) * left >= node_max * weight_left
            };
            let Some(full) = (0..weights.len()).find(is_filled) else {
                break;
            };
            is_full[full] = true;
            left -= node_max.min(left);
            weight_left -= u64::from(weights[full]);
        }
        let mut quotas = Self {
            least: Vec::with_capacity(weights.len()),
            may_have_more: Vec::with_capacity(weights.len()),
            more_count: 0,
        };
        let mut dealt = 0;
        for (&weight, &is_full) in weights.iter().zip(&is_full) {
            let share = u64::from(weight) * left;
            let (least, has_rest) = if is_full {
                (node_max, false)
            } else {
                dealt += share / weight_left;
                (share / weight_left, !share.is_multiple_of(weight_left))
            };
            quotas.least.push(narrow(least));
            quotas.may_have_more.push(has_rest);
        }
        quotas.more_count = narrow(left - dealt);
        quotas
    }

    /// Shares of one node each, where those who have the most of `loads` have one more.
    pub(super) fn nearest(&self, loads: &[u32]) -> Vec<u32> {
        let mut shares = self.least.clone();
        let mut eligible: Vec<usize> = (0..shares.len())
            .filter(|&rank| self.may_have_more[rank])
            .collect();
        eligible.sort_by_key(|&rank| (shares[rank] >= loads[rank], rank));
        for &rank in eligible.iter().take(self.more_count as usize) {
            shares[rank] += 1;
        }
        shares
    }

    /// Whether a node should have a copy of every range.
    pub(super) fn is_full(&self, node: Rank) -> bool {
        self.least[usize::from(node)] == u32::from(RANGES_COUNT)
    }
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).expect("at most the copies of all ranges")
}

#[cfg(test)]
mod tests {
    use super::Quotas;

    #[test]
    fn shares_follow_the_weights_up_to_every_range() {
        let even = Quotas::new(&[1, 1, 1], 1);
        assert_eq!((even.least, even.more_count), (vec![682; 3], 2));
        let weighted = Quotas::new(&[1, 3], 1);
        assert_eq!(weighted.least, vec![512, 1536]);
        // The heavy one can have no more than all; the others share what is left.
        let capped = Quotas::new(&[4, 1, 1], 2);
        assert_eq!(capped.least, vec![2_048, 1_024, 1_024]);
        assert_eq!(capped.more_count, 0);
        let everything = Quotas::new(&[4, 1, 1], 3);
        assert_eq!(everything.least, vec![2_048; 3]);
    }
}
