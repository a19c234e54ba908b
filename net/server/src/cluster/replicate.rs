//! What a core's shard has for its copies on other nodes, and for the primaries that it follows: put on
//! the links at the turn's end.

use fulmar_cluster::replication::{
    Address, ControlEncoder, EntryEncoder, HEADER_BYTES, Header, Replication,
};
use fulmar_cluster::{NodeId, Time};
use fulmar_protocol::node::{Encoder, PayloadEncoder, Purpose};
use fulmar_shard::{Now, Shard, ShardStore};

use super::links::{Links, Peer};

/// Batches to one core in a turn; the rest waits for the next.
const BATCHES_PER_TURN: usize = 4;

/// Which nodes' links broke since the last turn.
#[derive(Debug, Default)]
pub(super) struct Broken(Vec<NodeId>);

impl Broken {
    pub(super) fn note(&mut self, node: NodeId) {
        if !self.0.contains(&node) {
            self.0.push(node);
        }
    }
}

/// What is left to be said after a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// There is more for the next turn.
    pub(super) is_more: bool,
    /// A full sync keeps its pace, and goes on at this time.
    pub(super) sync_at: Option<Time>,
}

/// Puts on `links` what `shard` has to say.
pub(super) fn replicate(
    shard: &mut Shard,
    links: &mut Links,
    broken: &mut Broken,
    now: Now,
) -> Left {
    let replicated = shard.replicate(now, |replication, store| {
        end_sessions(replication, store, broken);
        let time = Time(now.time.0);
        let mut is_more = replication.advance(store, time);
        let followers: Vec<Address> = replication.followers().collect();
        for to in followers {
            is_more |= send_batches(to, replication, store, links, time);
        }
        let sources: Vec<Address> = replication.sources().collect();
        for from in sources {
            tell(from, replication, links, time);
        }
        let sync_at = replication.sync_resumes_at();
        Left { is_more, sync_at }
    });
    replicated.unwrap_or_default()
}

fn end_sessions(replication: &mut Replication, store: &mut ShardStore<'_>, broken: &mut Broken) {
    if broken.0.is_empty() {
        return;
    }
    let is_broken = |address: &Address| broken.0.contains(&address.core.node);
    let followers: Vec<Address> = replication.followers().filter(is_broken).collect();
    for follower in followers {
        replication.handle_disconnected(follower.core);
    }
    let sources: Vec<Address> = replication.sources().filter(is_broken).collect();
    for source in sources {
        replication.handle_source_closed(source.core, store);
    }
    broken.0.clear();
}

/// True if there is more to send than fits a turn.
fn send_batches(
    to: Address,
    replication: &mut Replication,
    store: &ShardStore<'_>,
    links: &mut Links,
    now: Time,
) -> bool {
    let link = Peer::Node(to.core.node).link_for(Purpose::Replicate);
    if !links.want(link, now) {
        return false;
    }
    if !replication.is_connected(to) && !replication.handle_connected(to) {
        return false;
    }
    for _ in 0..BATCHES_PER_TURN {
        let Some(out) = links.writer(link, now) else {
            // What is there must be sent first; then the core gets another turn.
            return false;
        };
        let mut encoder = Encoder::new(out);
        let mut batch = encoder.batch();
        begin(&mut batch);
        let mut entries = EntryEncoder(batch.payload());
        match replication.poll_batch(to.core, store, now, &mut entries) {
            Some(header) => finish(batch, &header),
            None => return false,
        }
    }
    true
}

fn tell(from: Address, replication: &mut Replication, links: &mut Links, now: Time) {
    let link = Peer::Node(from.core.node).link_for(Purpose::Replicate);
    if !links.want(link, now) {
        return;
    }
    let Some(out) = links.writer(link, now) else {
        return;
    };
    let mut encoder = Encoder::new(out);
    let mut told = encoder.told();
    begin(&mut told);
    let mut messages = ControlEncoder(told.payload());
    if let Some(header) = replication.poll_control(from.core, &mut messages) {
        finish(told, &header);
    }
}

/// Leaves room for the header, which is known last.
fn begin(frame: &mut PayloadEncoder<'_>) {
    frame.payload().extend_from_slice(&[0; HEADER_BYTES]);
}

fn finish(mut frame: PayloadEncoder<'_>, header: &Header) {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    header.encode(&mut bytes);
    frame.body_mut()[..HEADER_BYTES].copy_from_slice(&bytes);
    frame.finish();
}
