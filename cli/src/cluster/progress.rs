//! Commands that begin something, and show how it goes until it is done.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::SIGINT;

use super::Ending;
use super::node::{Node, NodeError};
use super::status::{self, Status};

const LOOK: Duration = Duration::from_millis(200);
/// Draining ends after half a minute in any case; then connections are given some seconds.
const DRAIN_MAX: Duration = Duration::from_secs(45);
/// A node repeats for ten seconds that it wants primaryships.
const FAILOVER_MAX: Duration = Duration::from_secs(20);

/// How moves are wanted.
pub(super) enum Moves {
    /// With so many copies at a time.
    Go(Option<u16>),
    Cancel,
}

/// A line on the terminal that is written over, and Ctrl-C.
struct Line {
    is_terminal: bool,
    last: String,
    interrupted: Arc<AtomicBool>,
}

impl Line {
    fn new() -> Result<Self, NodeError> {
        let interrupted = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))
            .map_err(NodeError::Signals)?;
        Ok(Self {
            is_terminal: stderr().is_terminal(),
            last: String::new(),
            interrupted,
        })
    }

    fn show(&mut self, text: String) {
        if text == self.last {
            return;
        }
        if self.is_terminal {
            eprint!("\r\x1b[K{text}");
            // What is not shown is shown next time.
            let _ = stderr().flush();
        } else {
            eprintln!("{text}");
        }
        self.last = text;
    }

    /// Waits until the next look; true if the operator does not want to wait any more.
    fn wait(&self) -> bool {
        thread::sleep(LOOK);
        self.interrupted.load(Ordering::Relaxed)
    }

    fn end(&self) {
        if self.is_terminal && !self.last.is_empty() {
            eprintln!();
        }
    }

    fn leave(&self, what: &str) -> Ending {
        self.end();
        println!("{what} goes on; `fulmar cluster status` shows how far it is");
        Ending::Interrupted
    }
}

/// CLUSTER DRAIN, seen from another member.
pub(super) fn drain(mut node: Node, waits: bool) -> Result<Ending, NodeError> {
    let status = node.status()?;
    let own = status.node.clone();
    let others = status
        .members
        .iter()
        .filter(|member| member.node != own && member.heard);
    let others: Vec<String> = others.map(status::Member::address).collect();
    node.ask::<()>(&["DRAIN"])?;
    if !waits {
        return Ok(Ending::Well);
    }
    let mut line = Line::new()?;
    let started = Instant::now();
    while started.elapsed() < DRAIN_MAX {
        let seen = look(&others).unwrap_or_else(|| status.clone());
        let is_gone = Node::connect(node.address()).is_err();
        match seen.member(&own) {
            Some(member) => line.show(format!(
                "{} of {} ranges are handed over",
                status.primaries(&own).saturating_sub(member.primaries),
                status.primaries(&own)
            )),
            None => line.show("all is handed over; the node answers its last clients".to_owned()),
        }
        if is_gone {
            line.end();
            println!("{} is drained and has stopped", node.address());
            return Ok(Ending::Well);
        }
        if line.wait() {
            return Ok(line.leave("draining"));
        }
    }
    line.end();
    println!("{} has not stopped yet", node.address());
    Ok(Ending::Unwell)
}

/// The status of the first that answers.
fn look(addresses: &[String]) -> Option<Status> {
    addresses
        .iter()
        .find_map(|address| Node::connect(address).ok()?.status().ok())
}

/// CLUSTER FAILOVER, at the node's endpoint for replicas.
pub(super) fn fail_over(mut node: Node, waits: bool) -> Result<Ending, NodeError> {
    let before = node.status()?;
    let own = before.node.clone();
    let unknown = || NodeError::Unknown(node.address().to_owned());
    let replica = before.member(&own).ok_or_else(unknown)?.replica_address();
    Node::connect(&replica)?.ask::<()>(&["FAILOVER"])?;
    if !waits {
        return Ok(Ending::Well);
    }
    let mut line = Line::new()?;
    let started = Instant::now();
    let mut was_failing_over = false;
    while started.elapsed() < FAILOVER_MAX {
        let status = node.status()?;
        let count = status.primaries(&own);
        let goes_on = status.failing_over || !was_failing_over;
        was_failing_over |= status.failing_over || count > before.primaries(&own);
        line.show(format!(
            "primary of {count} ranges, of {} before",
            before.primaries(&own)
        ));
        if !goes_on {
            line.end();
            let is_replica = status
                .member(&own)
                .is_some_and(|member| member.replicas > 0);
            return Ok(if is_replica {
                Ending::Unwell
            } else {
                Ending::Well
            });
        }
        if line.wait() {
            return Ok(line.leave("the failover"));
        }
    }
    line.end();
    println!("some primaryships were not handed over in time");
    Ok(Ending::Unwell)
}

/// CLUSTER REBALANCE.
pub(super) fn rebalance(mut node: Node, wanted: &Moves, waits: bool) -> Result<Ending, NodeError> {
    match wanted {
        Moves::Cancel => node.ask::<()>(&["REBALANCE", "CANCEL"])?,
        Moves::Go(None) => node.ask::<()>(&["REBALANCE"])?,
        Moves::Go(Some(limit)) => {
            node.ask::<()>(&["REBALANCE", "LIMIT", &limit.to_string()])?;
        }
    }
    let is_cancelled = matches!(wanted, Moves::Cancel);
    if !waits {
        return Ok(Ending::Well);
    }
    let mut line = Line::new()?;
    let mut calm = 0;
    loop {
        let status = node.status()?;
        let moves = &status.moves;
        line.show(status::moves(moves));
        let is_done = if is_cancelled {
            moves.paused && moves.filling == 0
        } else {
            !moves.paused && moves.to_fill == 0 && moves.to_hand_over == 0
        };
        // The request is taken up within a moment, and until then nothing has changed.
        calm = if is_done { calm + 1 } else { 0 };
        if calm == 2 {
            line.end();
            return Ok(Ending::Well);
        }
        if line.wait() {
            return Ok(line.leave("moving"));
        }
    }
}

/// CLUSTER ADOPT, of the founder of the branch.
pub(super) fn adopt(mut node: Node) -> Result<Ending, NodeError> {
    let status = node.status()?;
    let founder = status.branch_founder.as_ref();
    if let Some(founder) = founder.filter(|founder| **founder != status.node) {
        let member = status.member(founder);
        let address = member.map_or_else(|| founder.clone(), status::Member::address);
        println!("the branch was founded by {address}: adopt it there");
        return Ok(Ending::Unwell);
    }
    node.ask::<()>(&["ADOPT"])?;
    println!("adopted: this side is a cluster of its own from now on, with another name");
    Ok(Ending::Well)
}

impl Status {
    fn primaries(&self, node: &str) -> usize {
        self.member(node).map_or(0, |member| member.primaries)
    }
}
