//! Listening sockets: one per core on the same port, over which the kernel spreads connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted, per core; `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4_096;
/// How long a port that is taken is tried, and how often.
const TAKEN_WAIT: Duration = Duration::from_millis(500);
const TAKEN_PAUSE: Duration = Duration::from_millis(10);
/// When a client whose machine vanished is found out: as Redis does with `tcp-keepalive 300`.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(300))
    .with_interval(Duration::from_secs(100))
    .with_retries(3);

/// Binds `count` sockets to one port, and returns them with the port (asked for as 0: any).
///
/// A port that is taken is tried for a while: a killed process's sockets are closed some time after its
/// end, when the kernel has taken its io_uring apart.
///
/// # Errors
/// `AddrInUse` if anyone listens there, another Fulmar with SO_REUSEPORT included.
pub(crate) fn listen(ip: IpAddr, port: u16, count: usize) -> io::Result<(Vec<OwnedFd>, u16)> {
    // Without SO_REUSEPORT first: sharing a port with a stranger must fail.
    let began = Instant::now();
    let probe = loop {
        match bind(SocketAddr::new(ip, port), false) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < TAKEN_WAIT =>
            {
                thread::sleep(TAKEN_PAUSE);
            }
            bound => break bound?,
        }
    };
    let port = local_port(&probe)?;
    drop(probe);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bind(SocketAddr::new(ip, port), true)?;
        socket.listen(BACKLOG)?;
        sockets.push(socket.into());
    }
    Ok((sockets, port))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?;
    address
        .as_socket()
        .map(|address| address.port())
        .ok_or_else(|| io::ErrorKind::Other.into())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::listen;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn cores_share_a_port_but_strangers_do_not() {
        let (sockets, port) = listen(LOOPBACK, 0, 3).expect("three sockets on a free port");
        assert_eq!(sockets.len(), 3);
        let error = listen(LOOPBACK, port, 1).expect_err("the port is taken");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
}
