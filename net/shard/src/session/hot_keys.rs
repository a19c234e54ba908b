//! HOTKEYS: which keys are hot now.
//!
//! Redis measures when it is told to, shares of CPU time and bytes; here all that is executed is measured
//! all the time, in accesses a second.

use fulmar_protocol::ReplySink;

use super::Node;
use crate::{HotKey, hot_keys};

/// A list of keys: its name, and a key's rate in it.
type List = (&'static str, fn(&HotKey) -> u64);

const LISTS: [List; 2] = [
    ("by-reads-per-second", |hot| hot.reads_per_second),
    ("by-writes-per-second", |hot| hot.writes_per_second),
];

/// HOTKEYS GET.
pub(super) fn get(node: &mut dyn Node, reply: &mut dyn ReplySink) {
    let (threshold, copy_ms) = (node.config().hot_key_rps, node.config().hot_copy_ms);
    let stats = node.stats();
    reply.map(4 + LISTS.len());
    for (name, number) in [
        ("tracking-active", u32::from(threshold > 0)),
        ("sample-ratio", hot_keys::gap(threshold)),
        ("hot-key-rps", threshold),
        ("hot-copy-ms", u32::from(copy_ms)),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(number.into());
    }
    for (name, rate) in LISTS {
        let mut hot: Vec<&HotKey> = stats.shards.hot_keys.iter().collect();
        hot.retain(|hot| rate(hot) > 0);
        hot.sort_by_key(|hot| std::cmp::Reverse(rate(hot)));
        reply.bulk(name.as_bytes());
        reply.array(2 * hot.len());
        for hot in hot {
            reply.bulk(&hot.key);
            reply.integer(i64::try_from(rate(hot)).unwrap_or(i64::MAX));
        }
    }
}
