//! A bare echo on the network ring: what any server on it costs at least.
//!
//! It sends back what it receives, which `redis-benchmark` takes for replies, since a command is
//! itself an array. It parses nothing and has no bounds: a yardstick, not a service.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::listener::listen;
use crate::ring::{Completion, ConnectionId, Operation, Ring};

/// One echoing connection.
struct Echo {
    fd: OwnedFd,
    output: Vec<u8>,
    is_sending: bool,
}

/// Echoes on `ip:port` for ever, on the calling thread, pinned to `cpu`. `ready` is called with
/// the port when it listens.
///
/// # Errors
/// A port in use, a missing CPU, or a ring that cannot be set up or entered.
pub fn run(ip: IpAddr, port: u16, cpu: usize, ready: impl FnOnce(u16)) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus)?;
    let (listeners, port) = listen(ip, port, 1)?;
    let mut ring = Ring::new()?;
    ring.accept(listeners[0].as_raw_fd(), 0);
    ready(port);
    let mut echoes: Vec<Option<Echo>> = Vec::new();
    let mut completions = Vec::new();
    loop {
        ring.wait()?;
        ring.completions(&mut completions);
        for completion in completions.drain(..) {
            match completion.user_data.operation() {
                Operation::Accept if completion.result >= 0 => {
                    let fd = Ring::accepted(&completion);
                    let index = u32::try_from(echoes.len()).expect("fewer connections than fds");
                    ring.receive(fd.as_raw_fd(), ConnectionId::new(index, 0));
                    echoes.push(Some(Echo {
                        fd,
                        output: Vec::new(),
                        is_sending: false,
                    }));
                }
                Operation::Receive => received(&mut ring, &mut echoes, &completion),
                Operation::Send | Operation::SendNow => {
                    let id = completion.user_data.id();
                    let mut buffer = ring.take_sent(id).bytes;
                    if let Some(Some(echo)) = echoes.get_mut(id.index()) {
                        let sent = usize::try_from(completion.result).unwrap_or(0);
                        if sent < buffer.len() && is_short(completion.result) {
                            ring.send_rest(echo.fd.as_raw_fd(), id, buffer.into(), sent);
                            continue;
                        }
                        buffer.clear();
                        echo.is_sending = false;
                        let rest = std::mem::replace(&mut echo.output, buffer);
                        send(&mut ring, echo, id, rest);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a send without waiting found too little room.
fn is_short(result: i32) -> bool {
    result >= 0 || result == -libc::EAGAIN
}

fn received(ring: &mut Ring, echoes: &mut [Option<Echo>], completion: &Completion) {
    let id = completion.user_data.id();
    let place = &mut echoes[id.index()];
    let Some(buffer) = completion.buffer else {
        if completion.result == -libc::ENOBUFS {
            let fd = place.as_ref().map(|echo| echo.fd.as_raw_fd());
            fd.inspect(|&fd| ring.receive(fd, id));
        } else {
            *place = None;
        }
        return;
    };
    if let Some(echo) = place {
        let bytes_count = usize::try_from(completion.result).unwrap_or(0);
        echo.output
            .extend_from_slice(ring.received(buffer, bytes_count));
        if !completion.more {
            ring.receive(echo.fd.as_raw_fd(), id);
        }
        if !echo.is_sending {
            let output = std::mem::take(&mut echo.output);
            send(ring, echo, id, output);
        }
    }
    ring.recycle(buffer);
}

fn send(ring: &mut Ring, echo: &mut Echo, id: ConnectionId, output: Vec<u8>) {
    if output.is_empty() {
        if output.capacity() > echo.output.capacity() && echo.output.is_empty() {
            echo.output = output;
        }
        return;
    }
    echo.is_sending = true;
    ring.send(echo.fd.as_raw_fd(), id, output.into());
}
