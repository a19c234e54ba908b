//! `fulmar plan`: how many nodes a load needs, and what decides it.

mod measured;
mod model;

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;

use crate::size::Size;
use model::{Limit, Load, Plan, Usage};

/// What is to be stored, and on what.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Keys and values that live at a time, such as 1TB
    #[arg(long, value_name = "SIZE")]
    data: Size,
    /// Requests a second
    #[arg(long, value_name = "N")]
    rps: f64,
    /// Mean size of a value
    #[arg(long, value_name = "SIZE")]
    value_size: Size,
    /// Mean size of a key
    #[arg(long, value_name = "SIZE", default_value = "32")]
    key_size: Size,
    /// Replicas of each range
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3))]
    replicas: u64,
    /// Memory of a node that Fulmar may take in all
    #[arg(long, value_name = "SIZE", default_value = "64GiB")]
    node_memory: Size,
    /// Cores of a node that Fulmar may take
    #[arg(long, value_name = "N", default_value_t = 8)]
    node_cores: u64,
    /// Network of a node in Gbit/s
    #[arg(long, value_name = "GBIT", default_value_t = 10.0)]
    node_network: f64,
    /// Share of the requests that write, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    write_share: f64,
    /// Share of the items with a TTL, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    ttl_share: f64,
    /// Clients send batches of 16 or so
    #[arg(long)]
    pipelined: bool,
    /// Clients do not follow the cluster's map: nodes forward for them
    #[arg(long)]
    forwarded: bool,
    /// Zones that nodes are spread over; with more than one, a whole zone may be lost
    #[arg(long, value_name = "N", default_value_t = 1)]
    zones: u64,
}

/// Prints the plan, or why there is none.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let load = arguments.load();
    match load.plan() {
        Ok(plan) => {
            print!("{}", report(&load, &plan));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fulmar: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn load(&self) -> Load {
        Load {
            data_bytes: self.data.0,
            key_bytes: self.key_size.0,
            value_bytes: self.value_size.0,
            ttl_share: self.ttl_share,
            requests_per_second: self.rps,
            write_share: self.write_share,
            is_pipelined: self.pipelined,
            is_forwarded: self.forwarded,
            replicas: self.replicas,
            node_bytes: self.node_memory.0,
            node_cores: self.node_cores,
            node_bits_per_second: self.node_network * 1e9,
            zones: self.zones,
        }
    }
}

fn report(load: &Load, plan: &Plan) -> String {
    let mut text = String::new();
    write_report(load, plan, &mut text).expect("a String takes any text");
    text
}

fn write_report(load: &Load, plan: &Plan, out: &mut String) -> std::fmt::Result {
    let Plan {
        nodes, nodes_left, ..
    } = *plan;
    let why = match plan.decided_by {
        Limit::Memory => "memory",
        Limit::Cpu => "CPU",
        Limit::Network => "the network",
        Limit::Copies => "that copies and a quorum survive a loss",
    };
    writeln!(out, "{nodes} nodes; what decides is {why}\n")?;
    writeln!(
        out,
        "items      {} of {:.0} B in memory, {} copies of each",
        plan.items,
        plan.item_bytes,
        load.replicas + 1
    )?;
    writeln!(
        out,
        "a node     {} for items, of {} in all; start it with --shards {}",
        gib(plan.node_data_bytes),
        gib(load.node_bytes as f64),
        load.node_cores
    )?;
    writeln!(
        out,
        "\n{:<28}{:>16}{:>16}",
        "",
        "all nodes",
        format!("{nodes_left} left")
    )?;
    let mut row = |name: &str, of: &dyn Fn(&Usage) -> String| {
        writeln!(
            out,
            "{name:<28}{:>16}{:>16}",
            of(&plan.whole),
            of(&plan.after_loss)
        )
    };
    row("primaries of a node", &|one| spread(one.primaries))?;
    row("copies of a node", &|one| spread(one.copies))?;
    row("items of a node", &|one| gib(one.data_bytes))?;
    row("memory, fullest core", &|one| percent(one.memory_share))?;
    row("CPU, busiest node's cores", &|one| percent(one.cpu_share))?;
    row("network: clients", &|one| megabits(one.client_bits))?;
    row("network: replication", &|one| {
        megabits(one.replication_bits)
    })?;
    row("network: heartbeats, gossip", &|one| {
        megabits(one.membership_bits)
    })?;
    row("network, in all", &|one| percent(one.network_share))?;
    writeln!(
        out,
        "\nCPU is planned for half of each core, the network for half of its rate. A share of requests \
         that\nmeets few keys is not in it: a hot key is served by one core. docs/scale.md says what was \
         measured."
    )
}

fn spread((fewest, most): (u64, u64)) -> String {
    if fewest == most {
        most.to_string()
    } else {
        format!("{fewest} - {most}")
    }
}

fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / (1_u64 << 30) as f64)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn megabits(bits: f64) -> String {
    format!("{:.2} Mbit/s", bits / 1e6)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Arguments, report};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn a_plan_is_a_page_for_people() {
        let words = "plan --data 1TB --rps 100000 --value-size 1KiB --replicas 1";
        let line = Line::try_parse_from(words.split(' ')).expect("a command line");
        let load = line.arguments.load();
        let text = report(&load, &load.plan().expect("possible"));
        assert!(text.contains(" nodes; what decides is memory\n"), "{text}");
        assert!(text.contains("\nitems      946969697 of "), "{text}");
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    }
}
