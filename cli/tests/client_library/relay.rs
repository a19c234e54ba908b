//! Two streams joined, piece by piece.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Which way a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the first stream to the second.
    There,
    /// From the second to the first.
    Back,
}

/// What pieces meet on their way.
pub(crate) trait Gate {
    /// Waits for as long as a piece of this length has to, and tells whether it may pass then. The length is 0 at
    /// the end of what it comes from.
    fn may_pass(&self, direction: Direction, count: usize) -> impl Future<Output = bool> + Send;
}

/// Passes on what comes on either, until one ends or a piece may not pass.
pub(crate) async fn relay(first: TcpStream, second: TcpStream, gate: &impl Gate) {
    let (from_first, to_first) = first.into_split();
    let (from_second, to_second) = second.into_split();
    // The first to end drops, and so closes, both.
    tokio::select! {
        _ = pass(from_first, to_second, Direction::There, gate) => {}
        _ = pass(from_second, to_first, Direction::Back, gate) => {}
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    gate: &impl Gate,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if !gate.may_pass(direction, count).await || count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
