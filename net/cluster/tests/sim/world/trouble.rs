//! What faults do to a world, and how they end.

use super::{Job, Mended, World};
use crate::checkers::Verdict;
use crate::faults::Fault;
use crate::network::Network;
use crate::node::DISK_MS;

impl World {
    pub(super) fn fault(&mut self, fault: &Fault) {
        let now_ms = self.now_ms();
        self.trace(0, || format!("fault {fault:?}"));
        match *fault {
            Fault::Crash {
                slots,
                down_ms,
                loses_directory,
            } => {
                self.crash_some(slots, down_ms, loses_directory);
                return;
            }
            Fault::Pause { slot, ms } => {
                if self.nodes[slot].process.is_some() {
                    self.nodes[slot].is_paused = true;
                    self.scheduler.after(ms, Job::Resume { slot });
                }
            }
            Fault::Partition {
                from,
                to,
                is_one_way,
                ms,
            } => {
                self.network.cut(from, to);
                if !is_one_way {
                    self.network.cut(to, from);
                }
                self.scheduler.after(ms, Job::Mend(Mended::Links));
            }
            Fault::Shatter { parts, ms } => {
                for one in parts {
                    for other in parts.into_iter().filter(|other| *other != one) {
                        self.network.cut(one, other);
                    }
                }
                self.scheduler.after(ms, Job::Mend(Mended::Links));
            }
            Fault::Deaf { from, to, ms } => {
                self.network.deafen(from, to);
                self.network.deafen(to, from);
                self.scheduler.after(ms, Job::Mend(Mended::Links));
            }
            Fault::Loss { permille, ms } => {
                self.network.drop_permille = permille;
                self.scheduler.after(ms, Job::Mend(Mended::Loss));
            }
            Fault::Delay { max_ms, ms } => {
                self.network.delay_max_ms = max_ms;
                self.scheduler.after(ms, Job::Mend(Mended::Delay));
            }
            Fault::Duplicates { permille, ms } => {
                self.network.duplicate_permille = permille;
                self.scheduler.after(ms, Job::Mend(Mended::Duplicates));
            }
            Fault::SlowDisk { slot, disk_ms, ms } => {
                self.nodes[slot].disk_ms = disk_ms;
                self.scheduler.after(ms, Job::Mend(Mended::Disk(slot)));
            }
            Fault::SlowNode { slot, node_ms, ms } => {
                self.network.slow_ms[slot] = node_ms;
                self.scheduler.after(ms, Job::Mend(Mended::Slowness(slot)));
            }
            Fault::Leave { slot } => {
                let now = self.nodes[slot].local(now_ms);
                if let Some(process) = &mut self.nodes[slot].process {
                    process.coordinator.handle_leave(now);
                }
            }
        }
        self.owners.disturbed(now_ms);
    }

    pub(super) fn crash_some(&mut self, slots: u64, down_ms: u64, loses_directory: bool) {
        let now_ms = self.now_ms();
        for slot in (0..self.nodes.len()).filter(|slot| slots >> slot & 1 == 1) {
            if self.nodes[slot].process.is_some() {
                self.halt(slot);
                self.owners.crashed(now_ms);
            }
            if loses_directory {
                let name = self.new_name();
                self.nodes[slot].lose_directory(name, self.rules.slots);
            }
            let jitter_ms = if slots.count_ones() > 1 {
                self.random.below(500)
            } else {
                0
            };
            self.scheduler
                .after(down_ms + jitter_ms, Job::Boot { slot });
        }
    }

    pub(super) fn mend(&mut self, mended: Mended) {
        self.owners.disturbed(self.now_ms());
        let fresh = Network::new(self.nodes.len());
        match mended {
            Mended::Links => self.network.mend_links(),
            Mended::Loss => self.network.drop_permille = 0,
            Mended::Delay => self.network.delay_max_ms = fresh.delay_max_ms,
            Mended::Duplicates => self.network.duplicate_permille = 0,
            Mended::Disk(slot) => self.nodes[slot].disk_ms = DISK_MS,
            Mended::Slowness(slot) => self.network.slow_ms[slot] = 0,
        }
    }

    /// The end of all faults.
    pub(super) fn quiet(&mut self) -> Verdict {
        self.network.heal();
        self.owners.disturbed(self.now_ms());
        for slot in 0..self.nodes.len() {
            self.nodes[slot].disk_ms = DISK_MS;
            self.resume(slot)?;
            self.boot(slot)?;
        }
        Ok(())
    }
}
