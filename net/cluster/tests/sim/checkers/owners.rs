//! No range is without an owner that executes its writes for longer than the stated window while a quorum
//! is connected and nothing is wrong with network and disks.

use std::collections::BTreeMap;

use fulmar_cluster::Range;

use super::Verdict;

/// The stated window, after the last disturbance.
pub(crate) const WINDOW_MS: u64 = 2_500;
/// The window when no living process is named by the topology: all were restarted.
pub(crate) const RESTART_WINDOW_MS: u64 = 13_000;

/// A crash shows at one of the next looks; what shows later is the moment of a hand-over.
const LOOKS_MS: u64 = 40;

#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// By range: since when it has no owner.
    missing: BTreeMap<Range, u64>,
    /// When something last happened to a process or the network.
    disturbed_ms: u64,
    /// When the only disturbance since the last quiet moment was one crash.
    crash_ms: Option<u64>,
    is_restart: bool,
    /// Times from a crash to an owner.
    pub(crate) failovers_ms: Vec<u64>,
}

impl Owners {
    /// Something happened that may take a range its owner.
    pub(crate) fn disturbed(&mut self, now_ms: u64) {
        self.disturbed_ms = now_ms;
        self.crash_ms = None;
    }

    /// A process died, and nothing else is wrong.
    pub(crate) fn crashed(&mut self, now_ms: u64) {
        let is_only = self.missing.is_empty();
        self.disturbed(now_ms);
        self.crash_ms = is_only.then_some(now_ms);
    }

    /// Looks at all ranges. `is_calm`: a quorum is connected, and nothing is wrong.
    pub(crate) fn look(
        &mut self,
        now_ms: u64,
        is_calm: bool,
        is_restart: bool,
        has_owner: &BTreeMap<Range, bool>,
    ) -> Verdict {
        if !is_calm || is_restart != self.is_restart {
            self.disturbed(now_ms);
        }
        self.is_restart = is_restart;
        for (&range, &has_owner) in has_owner {
            if !has_owner {
                let since = *self.missing.entry(range).or_insert(now_ms);
                let window = if is_restart {
                    RESTART_WINDOW_MS
                } else {
                    WINDOW_MS
                };
                let gap = now_ms - since.max(self.disturbed_ms);
                if gap > window {
                    return Err(format!("range {} has no owner for {gap} ms", range.index()));
                }
            } else if let Some(since) = self.missing.remove(&range)
                && let Some(crash_ms) = self.crash_ms
                && since - crash_ms <= LOOKS_MS
            {
                self.failovers_ms.push(now_ms - crash_ms);
            }
        }
        Ok(())
    }
}
