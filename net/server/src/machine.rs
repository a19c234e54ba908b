//! What the machine offers, checked before the first thread starts.

use std::{fs, io};

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::start::StartError;

/// What glommio demands of RLIMIT_MEMLOCK.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1_024;
/// Descriptors beside those of clients and cores.
const DESCRIPTORS_RESERVED: u64 = 128;
/// Listeners, rings and event descriptors of a core.
const DESCRIPTORS_PER_CORE: u64 = 8;
/// Those of a core for streams to and from 50 other nodes, one for each purpose.
const DESCRIPTORS_FOR_LINKS: u64 = 2 * 3 * 50;

/// Memory that this process may use: the machine's, or its control group's if that is less.
pub fn memory_bytes() -> u64 {
    let total = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| parse_meminfo(&text));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    total.unwrap_or(u64::MAX).min(group.unwrap_or(u64::MAX))
}

/// CPUs that this process may run on, in ascending order.
pub fn cpus() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Lets this thread run on these CPUs alone; on any, if that is refused.
pub(crate) fn pin_to(cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Lets this thread run mostly when no other wants to.
pub(crate) fn yield_to_others() {
    const NICENESS: i32 = 15;
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

/// Checks that io_uring is there with all that the rings use.
pub(crate) fn check_io_uring() -> Result<(), StartError> {
    let refused = |error: io::Error| match error.raw_os_error() {
        Some(libc::EINVAL) => StartError::KernelTooOld,
        _ => StartError::IoUringForbidden(error),
    };
    let io: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .map_err(refused)?;
    let mut probe = Probe::new();
    io.submitter().register_probe(&mut probe).map_err(refused)?;
    let needed = [
        opcode::AcceptMulti::CODE,
        opcode::RecvMulti::CODE,
        opcode::Send::CODE,
        opcode::SendMsg::CODE,
        opcode::Timeout::CODE,
        opcode::AsyncCancel::CODE,
        opcode::MsgRingData::CODE,
    ];
    if needed.into_iter().all(|code| probe.is_supported(code)) {
        Ok(())
    } else {
        Err(StartError::KernelTooOld)
    }
}

/// Raises the limit of locked memory as far as needed and allowed.
pub(crate) fn raise_memlock() -> Result<(), StartError> {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_none_or(|bytes| bytes >= MEMLOCK_BYTES_MIN) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(MEMLOCK_BYTES_MIN),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Memlock, raised).map_err(|_| StartError::MemlockTooLow {
        bytes: limit.current.unwrap_or(0),
        bytes_min: MEMLOCK_BYTES_MIN,
    })
}

/// Raises the limit of open files for `clients_max` clients of so many cores as far as allowed, and
/// returns how many clients fit.
pub(crate) fn raise_descriptors(clients_max: usize, cores: u16, is_clustered: bool) -> usize {
    let links = u64::from(is_clustered) * DESCRIPTORS_FOR_LINKS;
    let reserved = DESCRIPTORS_RESERVED + u64::from(cores) * (DESCRIPTORS_PER_CORE + links);
    let limit = getrlimit(Resource::Nofile);
    // Streams to other nodes must not leave a small limit without clients.
    let reserved = reserved.min(limit.maximum.unwrap_or(u64::MAX) / 2);
    let wanted = clients_max as u64 + reserved;
    if limit.current.is_none_or(|current| current >= wanted) {
        return clients_max;
    }
    let current = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(current),
            ..limit
        },
    );
    let now = if raised.is_ok() {
        current
    } else {
        limit.current.unwrap_or(u64::MAX)
    };
    let clients = now.saturating_sub(reserved).max(1).min(clients_max as u64);
    usize::try_from(clients).expect("at most clients_max")
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::{cpus, memory_bytes, parse_meminfo};

    #[test]
    fn meminfo_is_in_kibibytes() {
        assert_eq!(
            parse_meminfo("MemFree: 1 kB\nMemTotal:       2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(parse_meminfo("nothing"), None);
    }

    #[test]
    fn this_machine_has_memory_and_a_cpu() {
        assert!(memory_bytes() > 1 << 20);
        assert!(!cpus().is_empty());
    }
}
