//! Stopgap until the cluster crate's membership is there.
use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use fulmar_cluster::{Incarnation, NodeId, Time};
use fulmar_shard::session::MemberPorts;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) host: String,
    pub(crate) ports: MemberPorts,
    pub(crate) cluster: SocketAddr,
}

pub(crate) struct Membership {
    own: Identity,
    seeds: Vec<SocketAddr>,
    peers: Vec<Identity>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    next: Time,
    changed: bool,
}

impl Membership {
    pub(crate) fn new(own: Identity, seeds: Vec<SocketAddr>) -> Self {
        Self {
            own,
            seeds,
            peers: Vec::new(),
            out: VecDeque::new(),
            next: Time(0),
            changed: true,
        }
    }
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        Some(self.next)
    }
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        self.next = now.plus_ms(200);
        let mut bytes = Vec::new();
        for one in std::iter::once(&self.own).chain(&self.peers) {
            put(one, &mut bytes);
        }
        for to in self
            .seeds
            .iter()
            .copied()
            .chain(self.peers.iter().map(|p| p.cluster))
        {
            if to != self.own.cluster {
                self.out.push_back((to, bytes.clone()));
            }
        }
    }
    pub(crate) fn handle_datagram(&mut self, mut bytes: &[u8], _now: Time) {
        while let Some(one) = take(&mut bytes) {
            if one.id == self.own.id {
                continue;
            }
            match self.peers.iter_mut().find(|p| p.id == one.id) {
                Some(known) if known.incarnation < one.incarnation => {
                    *known = one;
                    self.changed = true;
                }
                Some(_) => {}
                None => {
                    self.peers.push(one);
                    self.changed = true;
                }
            }
        }
    }
    pub(crate) fn poll_datagram(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }
    pub(crate) fn poll_event(&mut self) -> Option<()> {
        std::mem::take(&mut self.changed).then_some(())
    }
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Identity> {
        self.peers.iter()
    }
    pub(crate) fn peer(&self, id: NodeId) -> Option<&Identity> {
        self.peers.iter().find(|p| p.id == id)
    }
}

fn put(one: &Identity, out: &mut Vec<u8>) {
    out.put_u64_le(one.id.0);
    out.put_u64_le(one.incarnation.0);
    for text in [&one.host, &one.cluster.to_string()] {
        out.put_u8(text.len() as u8);
        out.put_slice(text.as_bytes());
    }
    out.put_u16_le(one.ports.resp);
    out.put_u16_le(one.ports.replica);
    out.put_u16_le(one.ports.http.unwrap_or(0));
    out.put_u16_le(one.ports.cluster);
}

fn take(bytes: &mut &[u8]) -> Option<Identity> {
    let id = NodeId(bytes.try_get_u64_le().ok()?);
    let incarnation = Incarnation(bytes.try_get_u64_le().ok()?);
    let mut text = || {
        let length = usize::from(bytes.try_get_u8().ok()?);
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    };
    let host = text()?;
    let cluster = text()?.parse().ok()?;
    let ports = MemberPorts {
        resp: bytes.try_get_u16_le().ok()?,
        replica: bytes.try_get_u16_le().ok()?,
        http: Some(bytes.try_get_u16_le().ok()?).filter(|p| *p != 0),
        cluster: bytes.try_get_u16_le().ok()?,
    };
    Some(Identity {
        id,
        incarnation,
        host,
        ports,
        cluster,
    })
}
