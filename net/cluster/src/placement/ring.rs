//! The consistent-hash ring: the order in which a range prefers nodes (Karger et al., 1997).
//!
//! Each node has points on a circle, by murmur3 of its name and the point's number, more of them the
//! more it weighs. A range prefers the nodes in the order in which their points follow its own place.
//! Ranges lie on the circle in the order of their indices, not at hashes: slots are hashes of keys
//! already, and neighbours that prefer the same nodes make runs, which keep a map of them short.

use std::io::Cursor;

use murmur3::murmur3_x64_128;

use crate::{Member, RANGES_COUNT, Range};

use super::Rank;

/// Points of a node per unit of its weight. Few points make long runs; the balance comes from the
/// quotas, not from the ring.
const POINTS_PER_WEIGHT: u32 = 8;
/// Most points of a node.
const POINTS_MAX: u32 = 128;
/// From one range to the next on the circle.
const STRIDE: u64 = 1 << (u64::BITS - RANGES_COUNT.ilog2());

const _: () = assert!(RANGES_COUNT.is_power_of_two());

/// How far each node is from each range. 16 KiB per node.
pub(super) struct Ring {
    /// By rank, then by range.
    distances: Vec<Box<[u64]>>,
}

impl Ring {
    /// The ring of these members. O(members * (ranges + points * log points)).
    pub(super) fn new(members: &[Member]) -> Self {
        Self {
            distances: members.iter().map(distances).collect(),
        }
    }

    /// How far along the circle the nearest point of a node is: the nearest node is the one that
    /// the range prefers.
    pub(super) fn distance(&self, range: Range, node: Rank) -> u64 {
        self.distances[usize::from(node)][usize::from(range.index())]
    }
}

fn distances(member: &Member) -> Box<[u64]> {
    let points = points(member);
    let mut next = 0;
    Range::all()
        .map(|range| {
            let place = u64::from(range.index()) * STRIDE;
            while points.get(next).is_some_and(|&point| point < place) {
                next += 1;
            }
            let point = points.get(next).unwrap_or(&points[0]);
            point.wrapping_sub(place)
        })
        .collect()
}

/// The points of a node, at least one, by their place on the circle.
fn points(member: &Member) -> Vec<u64> {
    let count = (u32::from(member.weight) * POINTS_PER_WEIGHT).clamp(1, POINTS_MAX);
    let mut points: Vec<u64> = (0..count)
        .map(|number| point(member.id.0, number))
        .collect();
    points.sort_unstable();
    points
}

fn point(node: u64, number: u32) -> u64 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&node.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    let hash = murmur3_x64_128(&mut Cursor::new(bytes), 0).expect("reading memory cannot fail");
    (hash >> u64::BITS) as u64
}
