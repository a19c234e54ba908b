//! What must hold before the first connection: enough file descriptors, and an address.

use super::Failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

/// Longest wait for a name to be resolved, and for one of several addresses to answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// File descriptors that the process needs beside connections: standard streams, files, and
/// what a resolver uses; and for each thread: poll and timer.
const FILES_BASE: u64 = 32;
const FILES_PER_THREAD: u64 = 2;

/// Raises the soft limit of open files to what the run needs, as far as the hard limit allows.
pub(super) fn raise_file_limit(connections: usize, threads: usize) -> Result<(), Failure> {
    let to_u64 = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let needed = to_u64(connections) + FILES_PER_THREAD * to_u64(threads) + FILES_BASE;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let is_enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= needed);
    if is_enough(current) {
        return Ok(());
    }
    let limit = maximum.unwrap_or(u64::MAX);
    if !is_enough(maximum) {
        return Err(Failure::FileLimit {
            connections,
            needed,
            limit,
        });
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum,
        },
    )
    .map_err(|_| Failure::FileLimit {
        connections,
        needed,
        limit,
    })
}

/// Finds the address to connect to; of several the first that accepts a connection.
pub(super) fn resolve(target: &str) -> Result<SocketAddr, Failure> {
    let failed = |reason: String| Failure::Resolve {
        target: target.to_owned(),
        reason,
    };
    let (sender, answer) = sync_channel(1);
    let name = target.to_owned();
    // The system's resolver has no time limit of its own that one could set.
    thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || sender.send(name.to_socket_addrs().map(Vec::from_iter)))
        .map_err(Failure::Thread)?;
    let addresses = match answer.recv_timeout(RESOLVE_TIMEOUT) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => {
            return Err(failed(format!(
                "no answer within {} s",
                RESOLVE_TIMEOUT.as_secs()
            )));
        }
    };
    match addresses[..] {
        [] => Err(failed("no address".to_owned())),
        [address] => Ok(address),
        _ => first_that_accepts(target, &addresses),
    }
}

fn first_that_accepts(target: &str, addresses: &[SocketAddr]) -> Result<SocketAddr, Failure> {
    let mut last_error = None;
    for address in addresses {
        match TcpStream::connect_timeout(address, RESOLVE_TIMEOUT) {
            Ok(_) => return Ok(*address),
            Err(error) => last_error = Some(error),
        }
    }
    let source = last_error.unwrap_or_else(|| io::Error::other("no address"));
    Err(Failure::Connect {
        target: target.to_owned(),
        source,
    })
}
