//! Compares the copies of all ranges.
//!
//! Copies are compared where they stand at the same term and position. Ranges that are written
//! meanwhile are looked at again, and so are those that differ: an item may have expired on one node
//! a moment before the other.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::Ending;
use super::node::{Node, NodeError};

const RANGES: u16 = 2_048;
/// Ranges asked for at a time, so that no reply takes long.
const RANGES_PER_QUESTION: usize = 128;
const PAUSE: Duration = Duration::from_millis(500);
/// Ranges that are listed; of more, the number.
const LISTED_MAX: usize = 50;

/// One line of CLUSTER DIGEST: range, role, term, position, items, digest.
type Row = (u16, String, u64, u64, Option<u64>, Option<String>);

/// A copy, as its node told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Copy {
    node: String,
    role: String,
    term: u64,
    seq: u64,
    items: Option<u64>,
    digest: Option<String>,
}

/// What the copies of a range say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    /// There is one copy.
    Alone,
    /// There is none, or no primary.
    Missing,
    /// They don't stand at the same position, or one is not whole.
    Moving,
    /// They stand at the same position, and differ.
    Different,
}

/// Looks at all ranges.
pub(super) fn run(mut node: Node, attempts: u32) -> Result<Ending, NodeError> {
    let status = node.status()?;
    for member in status.members.iter().filter(|member| !member.heard) {
        println!(
            "{} is silent: its copies are not compared",
            member.address()
        );
    }
    let heard = status.members.iter().filter(|member| member.heard);
    let mut nodes = Vec::new();
    for member in heard {
        nodes.push(Node::connect(&member.address())?);
    }
    let mut open: Vec<u16> = (0..RANGES).collect();
    let mut verdicts = BTreeMap::new();
    let mut items = 0;
    for attempt in 0..attempts.max(1) {
        if attempt > 0 {
            thread::sleep(PAUSE);
        }
        for ranges in open.chunks(RANGES_PER_QUESTION) {
            let copies = copies_of(&mut nodes, ranges)?;
            for range in ranges {
                let copies = copies.get(range).map_or(&[][..], Vec::as_slice);
                let verdict = judge(copies);
                if matches!(verdict, Verdict::Equal | Verdict::Alone) {
                    items += copies[0].items.unwrap_or(0);
                }
                verdicts.insert(*range, verdict);
            }
        }
        open.retain(|range| !matches!(verdicts[range], Verdict::Equal | Verdict::Alone));
        if open.is_empty() {
            break;
        }
    }
    let of = |wanted: Verdict| -> Vec<u16> {
        let all = verdicts.iter().filter(|(_, verdict)| **verdict == wanted);
        all.map(|(&range, _)| range).collect()
    };
    println!(
        "{} ranges are equal on all nodes, {} have one copy; {items} items",
        of(Verdict::Equal).len(),
        of(Verdict::Alone).len()
    );
    report("differ", &of(Verdict::Different));
    report(
        "were written or moved all the time, and are not compared",
        &of(Verdict::Moving),
    );
    report("have no primary that answers", &of(Verdict::Missing));
    Ok(if open.is_empty() {
        Ending::Well
    } else {
        Ending::Unwell
    })
}

fn copies_of(nodes: &mut [Node], ranges: &[u16]) -> Result<BTreeMap<u16, Vec<Copy>>, NodeError> {
    let mut words = vec!["DIGEST".to_owned()];
    words.extend(spans(ranges));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut copies: BTreeMap<u16, Vec<Copy>> = BTreeMap::new();
    for node in nodes {
        let rows: Vec<Row> = node.ask(&words)?;
        for (range, role, term, seq, items, digest) in rows {
            copies.entry(range).or_default().push(Copy {
                node: node.address().to_owned(),
                role,
                term,
                seq,
                items,
                digest,
            });
        }
    }
    Ok(copies)
}

fn judge(copies: &[Copy]) -> Verdict {
    // What is being filled, or is left from before, is no copy yet.
    let counts = |copy: &&Copy| copy.role == "primary" || copy.role == "replica";
    let copies: Vec<&Copy> = copies.iter().filter(counts).collect();
    let primaries = copies.iter().filter(|copy| copy.role == "primary").count();
    match (primaries, copies.as_slice()) {
        (0, _) => Verdict::Missing,
        (1, [one]) if one.digest.is_some() => Verdict::Alone,
        (1, [one, others @ ..]) => {
            let stands_with = |other: &&Copy| (other.term, other.seq) == (one.term, one.seq);
            if one.digest.is_none() || !others.iter().all(stands_with) {
                return Verdict::Moving;
            }
            if others.iter().any(|other| other.digest.is_none()) {
                return Verdict::Moving;
            }
            if others.iter().all(|other| other.digest == one.digest) {
                Verdict::Equal
            } else {
                Verdict::Different
            }
        }
        _ => Verdict::Moving,
    }
}

fn report(what: &str, ranges: &[u16]) {
    if ranges.is_empty() {
        return;
    }
    let listed: Vec<String> = spans(ranges).take(LISTED_MAX).collect();
    let more = if spans(ranges).count() > LISTED_MAX {
        " ..."
    } else {
        ""
    };
    println!("{} ranges {what}: {}{more}", ranges.len(), listed.join(" "));
}

/// `1 2 3 5` as `1-3 5`.
fn spans(ranges: &[u16]) -> impl Iterator<Item = String> + '_ {
    let runs = ranges.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run[0].to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Copy, Verdict, judge, spans};

    fn copy(role: &str, seq: u64, digest: Option<&str>) -> Copy {
        Copy {
            node: String::new(),
            role: role.into(),
            term: 1,
            seq,
            items: digest.map(|_| 1),
            digest: digest.map(Into::into),
        }
    }

    #[test]
    fn copies_are_compared_at_one_position() {
        let primary = copy("primary", 5, Some("x"));
        let case = |copies: &[Copy]| judge(&[std::slice::from_ref(&primary), copies].concat());
        assert_eq!(case(&[]), Verdict::Alone);
        assert_eq!(case(&[copy("replica", 5, Some("x"))]), Verdict::Equal);
        assert_eq!(case(&[copy("replica", 5, Some("y"))]), Verdict::Different);
        assert_eq!(case(&[copy("replica", 4, Some("y"))]), Verdict::Moving);
        assert_eq!(case(&[copy("replica", 5, None)]), Verdict::Moving);
        assert_eq!(case(&[copy("primary", 5, Some("x"))]), Verdict::Moving);
        assert_eq!(case(&[copy("learner", 1, None)]), Verdict::Alone);
        assert_eq!(judge(&[]), Verdict::Missing);
        assert_eq!(judge(&[copy("replica", 5, Some("x"))]), Verdict::Missing);
        assert_eq!(judge(&[copy("primary", 5, None)]), Verdict::Moving);
        let one_of_three = [copy("replica", 5, Some("x")), copy("replica", 5, Some("z"))];
        assert_eq!(case(&one_of_three), Verdict::Different);
    }

    #[test]
    fn runs_are_written_as_spans() {
        let text = |ranges: &[u16]| spans(ranges).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&[1, 2, 3, 5, 7, 8]), "1-3 5 7-8");
        assert_eq!(text(&[]), "");
    }
}
