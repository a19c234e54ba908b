//! `fulmar cluster`: what an operator asks of a running cluster, over RESP.
//!
//! A thin client: it sends `CLUSTER` subcommands to a node and shows what comes back. All that is decided
//! is decided by the nodes, and goes on without it.

mod node;
mod progress;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use node::{Node, NodeError};

/// The cluster is not as it should be: copies differ, or what was asked for did not come about.
const UNWELL: u8 = 1;
/// A node can't be reached, or refuses. 2 is for mistakes in the arguments.
const FAILED: u8 = 3;
/// Ctrl-C: what was begun goes on.
const INTERRUPTED: u8 = 130;

/// See the module's head.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show members, moves, shortages and lags
    Status {
        #[command(flatten)]
        target: Target,
        /// Print the node's JSON as it is
        #[arg(long)]
        json: bool,
    },
    /// Compare the digests of all copies of all ranges; exit code 1 if some differ
    Verify {
        #[command(flatten)]
        target: Target,
        /// How often a range that differs or is being written is looked at
        #[arg(long, default_value_t = 10)]
        attempts: u32,
    },
    /// Let the cluster take over what this node has, then stop it
    Drain {
        #[command(flatten)]
        target: Target,
        /// Only begin
        #[arg(long)]
        no_wait: bool,
    },
    /// Make this node the primary of all ranges that it has replicas of
    Failover {
        #[command(flatten)]
        target: Target,
        /// Only begin
        #[arg(long)]
        no_wait: bool,
    },
    /// Move ranges to where they belong now, or begin no moves any more
    Rebalance {
        #[command(flatten)]
        target: Target,
        /// Copies that a node fills at a time
        #[arg(long, value_name = "N")]
        limit: Option<u16>,
        /// Begin nothing new; what is being filled goes on. Without it, moves are resumed
        #[arg(long, conflicts_with = "limit")]
        cancel: bool,
        /// Only begin
        #[arg(long)]
        no_wait: bool,
    },
    /// Make the side of a partition that lost its quorum for good a cluster of its own
    Adopt {
        #[command(flatten)]
        target: Target,
    },
}

/// Whom to ask.
#[derive(Args)]
struct Target {
    /// RESP address of a node; several are tried in turn
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:6379",
        env = "FULMAR_NODE"
    )]
    node: Vec<String>,
}

impl Target {
    /// The first that answers.
    fn connect(&self) -> Result<Node, NodeError> {
        let mut failure = None;
        for address in &self.node {
            match Node::connect(address) {
                Ok(node) => return Ok(node),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("clap gives at least one"))
    }
}

/// How a command ended that nothing prevented.
enum Ending {
    Well,
    Unwell,
    Interrupted,
}

/// Runs it, and says in one line what went wrong.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match execute(&arguments.command) {
        Ok(Ending::Well) => ExitCode::SUCCESS,
        Ok(Ending::Unwell) => ExitCode::from(UNWELL),
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("fulmar: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn execute(command: &Command) -> Result<Ending, NodeError> {
    match command {
        Command::Status { target, json } => {
            let mut node = target.connect()?;
            let text = node.status_text()?;
            if *json {
                println!("{text}");
            } else {
                print!(
                    "{}",
                    status::table(&node.read_status(&text)?, node.address())
                );
            }
            Ok(Ending::Well)
        }
        Command::Verify { target, attempts } => verify::run(target.connect()?, *attempts),
        Command::Drain { target, no_wait } => progress::drain(target.connect()?, !no_wait),
        Command::Failover { target, no_wait } => progress::fail_over(target.connect()?, !no_wait),
        Command::Rebalance {
            target,
            limit,
            cancel,
            no_wait,
        } => {
            let wanted = match (cancel, limit) {
                (true, _) => progress::Moves::Cancel,
                (false, limit) => progress::Moves::Go(*limit),
            };
            progress::rebalance(target.connect()?, &wanted, !no_wait)
        }
        Command::Adopt { target } => progress::adopt(target.connect()?),
    }
}
