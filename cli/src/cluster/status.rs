//! CLUSTER STATUS, and how people read it.

use std::fmt::Write;

use serde::Deserialize;

use crate::size::Size;

/// What is read of a node's status. What it tells beside that is left alone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub(super) cluster: String,
    pub(super) epoch: u64,
    pub(super) node: String,
    pub(super) provisional: bool,
    pub(super) branch_founder: Option<String>,
    pub(super) draining: bool,
    pub(super) failing_over: bool,
    pub(super) replicas_wanted: u8,
    pub(super) members: Vec<Member>,
    pub(super) moves: Moves,
    pub(super) shortage: Shortage,
    pub(super) lost_ranges: u64,
    pub(super) lag: Vec<Lag>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Member {
    pub(super) node: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) replica_port: u16,
    pub(super) zone: String,
    pub(super) weight: u16,
    pub(super) primaries: usize,
    pub(super) replicas: usize,
    pub(super) learners: usize,
    pub(super) heard: bool,
    pub(super) ready: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Moves {
    pub(super) paused: bool,
    pub(super) limit: Option<u16>,
    pub(super) filling: usize,
    pub(super) to_fill: usize,
    pub(super) to_hand_over: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shortage {
    pub(super) copies: usize,
    pub(super) zones: usize,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lag {
    pub(super) node: String,
    pub(super) disconnected: usize,
    pub(super) incomplete: usize,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) ms: u64,
}

impl Status {
    pub(super) fn member(&self, node: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }
}

impl Member {
    pub(super) fn address(&self) -> String {
        address(&self.host, self.port)
    }

    pub(super) fn replica_address(&self) -> String {
        address(&self.host, self.replica_port)
    }

    fn state(&self) -> &'static str {
        match (self.heard, self.ready) {
            (false, _) => "silent",
            (true, false) => "filling",
            (true, true) => "ready",
        }
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

const HEADINGS: [&str; 8] = [
    "node",
    "address",
    "zone",
    "weight",
    "primaries",
    "replicas",
    "filling",
    "state",
];

/// The report for people, as the node at `seen_by` sees it.
pub(super) fn table(status: &Status, seen_by: &str) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for member in &status.members {
        let is_own = member.node == status.node;
        rows.push([
            format!("{}{}", member.node, if is_own { " *" } else { "" }),
            member.address(),
            if member.zone.is_empty() {
                "-".into()
            } else {
                member.zone.clone()
            },
            member.weight.to_string(),
            member.primaries.to_string(),
            member.replicas.to_string(),
            member.learners.to_string(),
            if is_own && status.draining {
                "draining"
            } else {
                member.state()
            }
            .to_owned(),
        ]);
    }
    let mut text = String::new();
    write_all(status, seen_by, &rows, &mut text).expect("a String takes any text");
    text
}

fn write_all(
    status: &Status,
    seen_by: &str,
    rows: &[[String; 8]],
    out: &mut String,
) -> std::fmt::Result {
    let standing = match (&status.branch_founder, status.provisional) {
        (Some(founder), _) => format!("provisional: no quorum, as {founder} says"),
        (None, true) => "provisional: no quorum".to_owned(),
        (None, false) => "decided".to_owned(),
    };
    writeln!(
        out,
        "cluster {}, epoch {}, {standing}; seen by {seen_by} (*)\n",
        status.cluster, status.epoch
    )?;
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if (3..7).contains(&column) {
                write!(line, "{cell:>width$}  ")?;
            } else {
                write!(line, "{cell:<width$}  ")?;
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out, "\nmoves:    {}", moves(&status.moves))?;
    let Shortage { copies, zones } = status.shortage;
    writeln!(
        out,
        "shortage: {copies} ranges have less than {} copies, {zones} have two in one zone",
        u16::from(status.replicas_wanted) + 1
    )?;
    writeln!(
        out,
        "lost:     {} ranges, by decisions of this node",
        status.lost_ranges
    )?;
    for lag in &status.lag {
        let state = match (lag.disconnected, lag.incomplete) {
            (0, 0) => String::new(),
            (0, count) => format!(", {count} ranges incomplete"),
            (count, _) => format!(", {count} connections not open"),
        };
        writeln!(
            out,
            "lag:      {} is {} writes, {} and {} ms behind this node{state}",
            lag.node,
            lag.entries,
            Size(lag.bytes),
            lag.ms
        )?;
    }
    Ok(())
}

/// One line about moves.
pub(super) fn moves(moves: &Moves) -> String {
    let mut text = if moves.to_fill == 0 && moves.to_hand_over == 0 && moves.filling == 0 {
        "none".to_owned()
    } else {
        format!(
            "{} copies to fill ({} are being filled), {} primaryships to hand over",
            moves.to_fill, moves.filling, moves.to_hand_over
        )
    };
    if moves.paused {
        text.push_str("; paused");
    }
    if let Some(limit) = moves.limit {
        text.push_str(&format!("; {limit} copies a node at a time"));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Member, Moves, Shortage, Status, table};

    pub(in crate::cluster) fn member(node: &str, port: u16) -> Member {
        Member {
            node: node.into(),
            host: "10.0.0.1".into(),
            port,
            replica_port: port + 1,
            zone: String::new(),
            weight: 1,
            primaries: 1_024,
            replicas: 1_024,
            learners: 0,
            heard: true,
            ready: true,
        }
    }

    fn status() -> Status {
        Status {
            cluster: "c1".into(),
            epoch: 9,
            node: "a".into(),
            provisional: false,
            branch_founder: None,
            draining: false,
            failing_over: false,
            replicas_wanted: 1,
            members: vec![member("a", 7_000), member("b", 7_010)],
            moves: Moves {
                paused: false,
                limit: None,
                filling: 0,
                to_fill: 0,
                to_hand_over: 0,
            },
            shortage: Shortage {
                copies: 0,
                zones: 0,
            },
            lost_ranges: 0,
            lag: Vec::new(),
        }
    }

    #[test]
    fn people_see_who_is_there_and_what_moves() {
        let mut status = status();
        let text = table(&status, "10.0.0.1:7000");
        assert!(
            text.starts_with("cluster c1, epoch 9, decided; seen by 10.0.0.1:7000 (*)\n\nnode ")
        );
        assert!(text.contains(
            "\na *   10.0.0.1:7000  -          1       1024      1024        0  ready\n"
        ));
        assert!(text.contains("\nmoves:    none\n"));
        status.members[1].heard = false;
        status.moves.to_fill = 5;
        status.moves.paused = true;
        status.branch_founder = Some("a".into());
        let text = table(&status, "x");
        assert!(text.contains("provisional: no quorum, as a says"));
        assert!(text.contains("silent"));
        assert!(text.contains("5 copies to fill (0 are being filled), 0 primaryships"));
        assert!(text.contains("; paused"));
    }

    #[test]
    fn addresses_can_be_pasted() {
        let mut one = member("a", 7_000);
        assert_eq!(one.address(), "10.0.0.1:7000");
        one.host = "::1".into();
        assert_eq!(one.replica_address(), "[::1]:7001");
    }
}
