//! The map of the cluster: which node has which slots. Pure: made from a reply to CLUSTER SLOTS.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::slot::SLOTS_COUNT;
use crate::value::Value;

/// Replicas of a slot that are remembered.
const REPLICAS_MAX: usize = 16;
/// Longest host name or address, in bytes (RFC 1035).
const HOST_BYTES_MAX: usize = 255;

/// Who has a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holders {
    pub(crate) primary: Arc<str>,
    pub(crate) replicas: Box<[Arc<str>]>,
}

/// A map. At most 16,384 different holders, 32 KiB for the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    /// The epoch that it was read in, 0 if the server has none.
    epoch: u64,
    /// Of the servers' cluster, which the names of all its endpoints begin with; others' have none.
    cluster: Option<u64>,
    holders: Vec<Holders>,
    /// Index into `holders`, or `NOBODY`.
    slots: Box<[u16]>,
    /// Addresses of the primaries, each once.
    nodes: Box<[Arc<str>]>,
    /// Those, and where replicas are.
    endpoints: HashSet<Arc<str>>,
}

const NOBODY: u16 = u16::MAX;
const _: () = assert!(SLOTS_COUNT < NOBODY);

impl Topology {
    /// The map of a server that has no cluster: it has everything.
    pub(crate) fn of_one(address: &str) -> Self {
        let address: Arc<str> = address.into();
        let endpoints = HashSet::from([Arc::clone(&address)]);
        let nodes = [Arc::clone(&address)].into();
        let holders = vec![Holders {
            primary: address,
            replicas: Box::default(),
        }];
        let slots = vec![0; usize::from(SLOTS_COUNT)].into();
        Self {
            epoch: 0,
            cluster: None,
            holders,
            slots,
            nodes,
            endpoints,
        }
    }

    /// From a reply to CLUSTER SLOTS of the node at `asked`. `None` if it is malformed, or names no node.
    pub(crate) fn from_slots(reply: Value, asked: &str, epoch: u64) -> Option<Self> {
        let mut builder = Builder {
            asked,
            ..Builder::default()
        };
        builder.slots = vec![NOBODY; usize::from(SLOTS_COUNT)];
        for entry in reply.into_array().ok()? {
            builder.add(entry)?;
        }
        let mut seen = HashSet::new();
        let primaries = builder.holders.iter().map(|holders| &holders.primary);
        let nodes: Box<[Arc<str>]> = primaries
            .filter(|primary| seen.insert(Arc::clone(primary)))
            .cloned()
            .collect();
        let is_empty = nodes.is_empty();
        let Builder {
            holders,
            slots,
            addresses,
            clusters,
            ..
        } = builder;
        let cluster = match clusters.len() {
            1 => clusters.into_iter().next().flatten(),
            _ => None,
        };
        let endpoints = addresses.into_values().collect();
        let map = Self {
            epoch,
            cluster,
            holders,
            slots: slots.into(),
            nodes,
            endpoints,
        };
        (!is_empty).then_some(map)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether it is of the same cluster, as far as `other` knows its own.
    pub(crate) fn is_of_cluster_of(&self, other: &Self) -> bool {
        other.cluster.is_none() || self.cluster == other.cluster
    }

    /// Who has a slot, if anybody.
    pub(crate) fn holders(&self, slot: u16) -> Option<&Holders> {
        let index = *self.slots.get(usize::from(slot))?;
        self.holders.get(usize::from(index))
    }

    /// Where the primaries are; at least one.
    pub(crate) fn nodes(&self) -> &[Arc<str>] {
        &self.nodes
    }

    /// One of the nodes at random.
    pub(crate) fn any_node(&self) -> Option<&Arc<str>> {
        fastrand::choice(self.nodes.iter())
    }

    /// Whether an endpoint is in the map.
    pub(crate) fn has(&self, address: &str) -> bool {
        self.endpoints.contains(address)
    }
}

#[derive(Default)]
struct Builder<'a> {
    asked: &'a str,
    holders: Vec<Holders>,
    indexes: HashMap<Holders, u16>,
    /// Each address once, however many entries name it.
    addresses: HashMap<String, Arc<str>>,
    slots: Vec<u16>,
    /// What the endpoints' names begin with.
    clusters: HashSet<Option<u64>>,
}

impl Builder<'_> {
    /// `[first, last, primary, replica...]`.
    fn add(&mut self, entry: Value) -> Option<()> {
        let mut fields = entry.into_array().ok()?.into_iter();
        let mut slot = || u16::try_from(fields.next()?.into_integer().ok()?).ok();
        let (first, last) = (slot()?, slot()?);
        let slots = self
            .slots
            .get(usize::from(first)..=usize::from(last))?
            .len();
        let primary = self.endpoint(fields.next()?)?;
        let replicas = fields
            .take(REPLICAS_MAX)
            .map(|field| self.endpoint(field))
            .collect::<Option<_>>()?;
        let holders = Holders { primary, replicas };
        let index = match self.indexes.get(&holders) {
            Some(&index) => index,
            None => {
                let index = u16::try_from(self.holders.len())
                    .ok()
                    .filter(|&index| index < SLOTS_COUNT)?;
                self.holders.push(holders.clone());
                self.indexes.insert(holders, index);
                index
            }
        };
        let first = usize::from(first);
        self.slots.get_mut(first..first + slots)?.fill(index);
        Some(())
    }

    /// `[host, port, name, ...]`.
    fn endpoint(&mut self, field: Value) -> Option<Arc<str>> {
        let mut fields = field.into_array().ok()?.into_iter();
        let host = fields.next()?.into_bytes().ok()?.unwrap_or_default();
        let port = u16::try_from(fields.next()?.into_integer().ok()?).ok()?;
        let address = address(std::str::from_utf8(&host).ok()?, port, self.asked)?;
        let name = fields.next().and_then(|name| name.into_bytes().ok()?);
        self.clusters.insert(name.as_deref().and_then(cluster_of));
        let known = self.addresses.entry(address);
        Some(Arc::clone(
            known.or_insert_with_key(|address| address.as_str().into()),
        ))
    }
}

/// The cluster in an endpoint's name: its first 16 digits of 40.
fn cluster_of(name: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(name.get(..16)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// `host:port` as it is connected to. An empty host, or `?`, is the one that was asked.
pub(crate) fn address(host: &str, port: u16, asked: &str) -> Option<String> {
    if port == 0 || host.len() > HOST_BYTES_MAX || !host.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return None;
    }
    match host {
        "" | "?" => Some(format!("{}:{port}", asked.rsplit_once(':')?.0)),
        _ if host.contains(':') && !host.starts_with('[') => Some(format!("[{host}]:{port}")),
        _ => Some(format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::{any, prop};
    use proptest::proptest;

    use super::Topology;
    use crate::decode::Decoder;
    use crate::value::Value;

    fn endpoint(host: &'static str, port: i64) -> Value {
        let id = Value::Bytes(Bytes::from_static(
            b"57589b8c6bb6296fcd70ee6327f2cf0e00000000",
        ));
        let host = Value::Bytes(Bytes::from_static(host.as_bytes()));
        Value::Array(vec![host, Value::Integer(port), id, Value::Array(vec![])])
    }

    fn entry(first: i64, last: i64, endpoints: Vec<Value>) -> Value {
        let slots = [Value::Integer(first), Value::Integer(last)];
        Value::Array(slots.into_iter().chain(endpoints).collect())
    }

    fn map(entries: Vec<Value>) -> Option<Topology> {
        Topology::from_slots(Value::Array(entries), "10.0.0.9:7000", 3)
    }

    #[test]
    fn a_slot_has_its_holders() {
        let map = map(vec![
            entry(
                0,
                99,
                vec![endpoint("a", 7001), endpoint("b", 7002), endpoint("", 7003)],
            ),
            entry(200, 16_383, vec![endpoint("b", 7001)]),
        ]);
        let map = map.expect("well formed");
        let holders = map.holders(99).expect("held");
        assert_eq!(&*holders.primary, "a:7001");
        assert_eq!(*holders.replicas, ["b:7002".into(), "10.0.0.9:7003".into()]);
        assert!(map.holders(100).is_none());
        assert_eq!(&*map.holders(16_383).expect("held").primary, "b:7001");
        assert_eq!(map.nodes(), ["a:7001".into(), "b:7001".into()]);
        assert!(map.has("b:7002") && map.has("b:7001") && !map.has("c:7001"));
        assert_eq!(map.epoch(), 3);
    }

    #[test]
    fn the_names_of_endpoints_tell_the_cluster() {
        let named = |name: &'static [u8]| {
            let host = Value::Bytes(Bytes::from_static(b"a"));
            let name = Value::Bytes(Bytes::from_static(name));
            Value::Array(vec![host, Value::Integer(1), name])
        };
        let map = |names: &[&'static [u8]]| {
            let endpoints = names.iter().map(|name| named(name)).collect();
            map(vec![entry(0, 16_383, endpoints)]).expect("well formed")
        };
        let ours = map(&[b"57589b8c6bb6296f01", b"57589b8c6bb6296f02"]);
        let same = map(&[b"57589b8c6bb6296f03"]);
        let other = map(&[b"57589b8c6bb6296e01"]);
        // As Redis names nodes.
        let mixed = map(&[b"57589b8c6bb6296f01", b"57589b8c6bb6296e01"]);
        let none = Topology::of_one("a:1");
        assert!(ours.is_of_cluster_of(&same) && same.is_of_cluster_of(&ours));
        for foreign in [&other, &mixed, &none] {
            assert!(!foreign.is_of_cluster_of(&ours));
        }
        for any in [&ours, &other, &mixed, &none] {
            assert!(any.is_of_cluster_of(&mixed) && any.is_of_cluster_of(&none));
        }
    }

    #[test]
    fn malformed_maps_are_refused() {
        for entries in [
            vec![],
            vec![Value::Null],
            vec![entry(0, 16_384, vec![endpoint("a", 1)])],
            vec![entry(5, 3, vec![endpoint("a", 1)])],
            vec![entry(-1, 3, vec![endpoint("a", 1)])],
            vec![entry(0, 1, vec![])],
            vec![entry(0, 1, vec![endpoint("a", 0)])],
            vec![entry(0, 1, vec![endpoint("a", 65_536)])],
            vec![entry(0, 1, vec![endpoint("a b", 1)])],
            vec![entry(0, 1, vec![endpoint("a", 1), Value::Null])],
        ] {
            assert!(map(entries.clone()).is_none(), "{entries:?}");
        }
    }

    #[test]
    fn one_server_has_everything() {
        let map = Topology::of_one("localhost:6379");
        assert_eq!(
            &*map.holders(16_383).expect("held").primary,
            "localhost:6379"
        );
    }

    proptest! {
        #[test]
        fn no_reply_panics(first in any::<i64>(), last in any::<i64>(), cut in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = map(vec![entry(first, last, vec![endpoint("a", 1)])]);
            let mut input = BytesMut::from(&b"*1\r\n*3\r\n:0\r\n:5\r\n*2\r\n$1\r\na\r\n"[..]);
            input.extend_from_slice(&cut);
            if let Ok(Some(reply)) = Decoder::new(1 << 20).decode(&mut input) {
                let _ = Topology::from_slots(reply, "a:1", 0);
            }
        }
    }
}
