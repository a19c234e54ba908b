//! What goes wrong, and when.

use crate::random::Random;

/// Faults begin and end in this time.
pub(crate) const FIRST_MS: u64 = 3_000;
pub(crate) const LAST_MS: u64 = 16_000;
/// Most faults of a schedule.
const FAULTS_MAX: u64 = 7;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Processes die; each is started again after its time, without its directory if told so.
    Crash {
        slots: u64,
        down_ms: u64,
        loses_directory: bool,
    },
    /// A process gets no turn.
    Pause {
        slot: usize,
        ms: u64,
    },
    /// Nothing gets from one set to the other, and back unless one-way.
    Partition {
        from: u64,
        to: u64,
        is_one_way: bool,
        ms: u64,
    },
    /// Every node is alone, or nodes are in three parts.
    Shatter {
        parts: [u64; 3],
        ms: u64,
    },
    /// Heartbeats don't get through between the sets, streams do.
    Deaf {
        from: u64,
        to: u64,
        ms: u64,
    },
    Loss {
        permille: u64,
        ms: u64,
    },
    Delay {
        max_ms: u64,
        ms: u64,
    },
    Duplicates {
        permille: u64,
        ms: u64,
    },
    SlowDisk {
        slot: usize,
        disk_ms: u64,
        ms: u64,
    },
    SlowNode {
        slot: usize,
        node_ms: u64,
        ms: u64,
    },
    /// A node is told to stop.
    Leave {
        slot: usize,
    },
}

/// A schedule's faults with their times. Only the first crash of a schedule may lose a directory: a
/// quorum of them would leave nobody who can decide.
pub(crate) fn schedule(slots: usize, random: &mut Random) -> Vec<(u64, Fault)> {
    let count = random.below(FAULTS_MAX + 1);
    let mut can_lose = slots > 2;
    let mut faults = Vec::new();
    for _ in 0..count {
        let at = random.between(FIRST_MS, LAST_MS - 500);
        let fault = pick(slots, LAST_MS - at, &mut can_lose, random);
        faults.push((at, fault));
    }
    faults
}

fn pick(slots: usize, left_ms: u64, can_lose: &mut bool, random: &mut Random) -> Fault {
    let all = (1u64 << slots) - 1;
    let slot = usize::try_from(random.below(slots as u64)).expect("small");
    let some = 1 + random.below(all);
    let ms = random.between(100, 6_000).min(left_ms);
    let short_or_long = if random.permille(300) {
        random.between(1, 100)
    } else {
        random.between(200, 6_000).min(left_ms)
    };
    match random.below(14) {
        0..=2 => {
            let loses_directory = *can_lose && random.permille(200);
            *can_lose &= !loses_directory;
            let slots = 1 << slot;
            Fault::Crash {
                slots,
                down_ms: short_or_long,
                loses_directory,
            }
        }
        3 => Fault::Crash {
            slots: if random.permille(300) { all } else { some },
            down_ms: short_or_long,
            loses_directory: false,
        },
        4 => Fault::Pause { slot, ms },
        5 | 6 => Fault::Partition {
            from: some,
            to: all & !some,
            is_one_way: false,
            ms,
        },
        7 => Fault::Partition {
            from: some,
            to: 1 + random.below(all),
            is_one_way: true,
            ms,
        },
        8 => {
            let two = random.below(all + 1) & !some;
            Fault::Shatter {
                parts: [some, two, all & !some & !two],
                ms,
            }
        }
        9 => Fault::Deaf {
            from: some,
            to: all & !some,
            ms,
        },
        10 => Fault::Loss {
            permille: random.between(10, 400),
            ms,
        },
        11 if random.permille(500) => Fault::Duplicates { permille: 300, ms },
        11 => Fault::Delay {
            max_ms: random.between(10, 900),
            ms,
        },
        12 if random.permille(500) => Fault::SlowDisk {
            slot,
            disk_ms: random.between(20, 800),
            ms,
        },
        12 => Fault::SlowNode {
            slot,
            node_ms: random.between(20, 600),
            ms,
        },
        _ => Fault::Leave { slot },
    }
}
