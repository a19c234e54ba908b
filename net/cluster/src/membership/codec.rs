//! The bytes of identities and messages. Integers are little-endian.
//!
//! ```text
//! header:   to: key | from: identity | from's count u16 | message
//! key:      node u64 | incarnation u64 | revision u32
//! identity: key | address | host length u8, bytes | resp port u16 | replica read port u16
//!           | http port u16 (0: none) | cores u16 | weight u16 | zone length u8, bytes
//! address:  4 u8, bytes | port u16  or  6 u8, 16 bytes | port u16
//! message:  tag u8 [| probe u8 [| identity]]
//! update:   identity | count u16 | state u8
//! ```
//! A receiver is named by its key alone: it knows the rest, and three whole identities would leave
//! little of a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, TryGetError};
use foca::{Header, Member, Message, State};
use thiserror::Error;

use crate::topology::ZONE_BYTES_MAX;
use crate::{Incarnation, NodeId, Zone};

use super::identity::{HOST_BYTES_MAX, Host, Identity, Key, Known};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 8 + 8 + 4;
const IDENTITY_BYTES_MAX: usize =
    KEY_BYTES + (1 + 16 + 2) + (1 + HOST_BYTES_MAX) + 5 * 2 + (1 + ZONE_BYTES_MAX);
const HEADER_BYTES_MAX: usize = KEY_BYTES + 2 * IDENTITY_BYTES_MAX + 2 + 2;
const UPDATE_BYTES_MAX: usize = IDENTITY_BYTES_MAX + 2 + 1;

// Whatever the names, a datagram has room for an update.
const _: () =
    assert!(HEADER_BYTES_MAX + 2 + UPDATE_BYTES_MAX <= crate::datagram::DATAGRAM_PAYLOAD_BYTES_MAX);

/// Why bytes can't be read or written. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum GossipError {
    /// They end early.
    #[error("gossip ends early")]
    Truncated,
    /// A tag, a length or a number is none that is written.
    #[error("gossip has a field out of range")]
    OutOfRange,
    /// There is no room for what should be written. Can happen: updates fill what is left.
    #[error("there is no room for more gossip")]
    Full,
}

impl From<TryGetError> for GossipError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// Writes and reads for `foca`.
pub(super) struct GossipCodec;

impl foca::Codec<Known> for GossipCodec {
    type Error = GossipError;

    fn encode_header(
        &mut self,
        header: &Header<Known>,
        mut out: impl BufMut,
    ) -> Result<(), GossipError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX);
        encode_key(header.dst.0.key(), &mut bytes);
        encode_identity(&header.src.0, &mut bytes);
        bytes.put_u16_le(header.src_incarnation);
        encode_message(&header.message, &mut bytes);
        put_whole(&bytes, &mut out)
    }

    fn decode_header(&mut self, mut bytes: impl Buf) -> Result<Header<Known>, GossipError> {
        let to = decode_key(&mut bytes)?;
        Ok(Header {
            dst: Known::new(Identity::named(to)),
            src: decode_identity(&mut bytes)?,
            src_incarnation: bytes.try_get_u16_le()?,
            message: decode_message(&mut bytes)?,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Known>,
        mut out: impl BufMut,
    ) -> Result<(), GossipError> {
        let mut bytes = Vec::with_capacity(UPDATE_BYTES_MAX);
        encode_identity(&member.id().0, &mut bytes);
        bytes.put_u16_le(member.incarnation());
        bytes.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        put_whole(&bytes, &mut out)
    }

    fn decode_member(&mut self, mut bytes: impl Buf) -> Result<Member<Known>, GossipError> {
        let identity = decode_identity(&mut bytes)?;
        let count = bytes.try_get_u16_le()?;
        let state = match bytes.try_get_u8()? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(GossipError::OutOfRange),
        };
        Ok(Member::new(identity, count, state))
    }
}

pub(super) fn encode_key(key: Key, out: &mut Vec<u8>) {
    out.put_u64_le(key.node.0);
    out.put_u64_le(key.incarnation.0);
    out.put_u32_le(key.revision);
}

pub(super) fn decode_key(bytes: &mut impl Buf) -> Result<Key, GossipError> {
    Ok(Key {
        node: NodeId(bytes.try_get_u64_le()?),
        incarnation: Incarnation(bytes.try_get_u64_le()?),
        revision: bytes.try_get_u32_le()?,
    })
}

fn encode_identity(identity: &Identity, out: &mut Vec<u8>) {
    encode_key(identity.key(), out);
    match identity.cluster_address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16_le(identity.cluster_address.port());
    encode_text(identity.announce_host.as_str(), out);
    out.put_u16_le(identity.resp_port);
    out.put_u16_le(identity.replica_read_port);
    out.put_u16_le(identity.http_port.unwrap_or(0));
    out.put_u16_le(identity.cores);
    out.put_u16_le(identity.weight);
    encode_text(identity.zone.as_str(), out);
}

fn decode_identity(bytes: &mut impl Buf) -> Result<Known, GossipError> {
    let key = decode_key(bytes)?;
    let ip = match bytes.try_get_u8()? {
        4 => IpAddr::V4(Ipv4Addr::from_bits(bytes.try_get_u32()?)),
        6 => IpAddr::V6(Ipv6Addr::from_bits(bytes.try_get_u128()?)),
        _ => return Err(GossipError::OutOfRange),
    };
    let port = bytes.try_get_u16_le()?;
    let host = Host::new(&decode_text(bytes)?).map_err(|_| GossipError::OutOfRange)?;
    let identity = Identity {
        node: key.node,
        incarnation: key.incarnation,
        revision: key.revision,
        cluster_address: SocketAddr::new(ip, port),
        announce_host: host,
        resp_port: bytes.try_get_u16_le()?,
        replica_read_port: bytes.try_get_u16_le()?,
        http_port: Some(bytes.try_get_u16_le()?).filter(|&port| port != 0),
        cores: bytes.try_get_u16_le()?,
        weight: bytes.try_get_u16_le()?,
        zone: Zone::new(&decode_text(bytes)?).map_err(|_| GossipError::OutOfRange)?,
    };
    let is_node = identity.node != Key::ANYBODY.node;
    if !is_node || identity.cores == 0 || identity.weight == 0 {
        return Err(GossipError::OutOfRange);
    }
    Ok(Known::new(identity))
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    out.put_u8(u8::try_from(text.len()).expect("hosts and zones are at most 253 bytes"));
    out.put_slice(text.as_bytes());
}

fn decode_text(bytes: &mut impl Buf) -> Result<String, GossipError> {
    let len = usize::from(bytes.try_get_u8()?);
    let mut text = vec![0; len];
    bytes.try_copy_to_slice(&mut text)?;
    String::from_utf8(text).map_err(|_| GossipError::OutOfRange)
}

fn encode_message(message: &Message<Known>, out: &mut Vec<u8>) {
    let (tag, probe, identity) = match message {
        Message::Ping(probe) => (0, Some(*probe), None),
        Message::Ack(probe) => (1, Some(*probe), None),
        Message::PingReq {
            target,
            probe_number,
        } => (2, Some(*probe_number), Some(target)),
        Message::IndirectPing {
            origin,
            probe_number,
        } => (3, Some(*probe_number), Some(origin)),
        Message::IndirectAck {
            target,
            probe_number,
        } => (4, Some(*probe_number), Some(target)),
        Message::ForwardedAck {
            origin,
            probe_number,
        } => (5, Some(*probe_number), Some(origin)),
        Message::Announce => (6, None, None),
        Message::Feed => (7, None, None),
        Message::Gossip => (8, None, None),
        Message::Broadcast => (9, None, None),
        Message::TurnUndead => (10, None, None),
    };
    out.put_u8(tag);
    if let Some(probe) = probe {
        out.put_u8(probe);
    }
    if let Some(identity) = identity {
        encode_identity(&identity.0, out);
    }
}

fn decode_message(bytes: &mut impl Buf) -> Result<Message<Known>, GossipError> {
    let tag = bytes.try_get_u8()?;
    let probe_number = if tag <= 5 { bytes.try_get_u8()? } else { 0 };
    Ok(match tag {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq {
            target: decode_identity(bytes)?,
            probe_number,
        },
        3 => Message::IndirectPing {
            origin: decode_identity(bytes)?,
            probe_number,
        },
        4 => Message::IndirectAck {
            target: decode_identity(bytes)?,
            probe_number,
        },
        5 => Message::ForwardedAck {
            origin: decode_identity(bytes)?,
            probe_number,
        },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        9 => Message::Broadcast,
        10 => Message::TurnUndead,
        _ => return Err(GossipError::OutOfRange),
    })
}

/// Writes all or nothing.
fn put_whole(bytes: &[u8], out: &mut impl BufMut) -> Result<(), GossipError> {
    if out.remaining_mut() < bytes.len() {
        return Err(GossipError::Full);
    }
    out.put_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr};

    use foca::{Codec as _, Header, Member, Message, State};
    use proptest::prelude::{any, prop, proptest};

    use super::{GossipCodec, GossipError, HEADER_BYTES_MAX, UPDATE_BYTES_MAX};
    use crate::membership::identity::{HOST_BYTES_MAX, Known};
    use crate::membership::{Host, Identity};
    use crate::topology::ZONE_BYTES_MAX;
    use crate::{Incarnation, NodeId, Zone};

    /// One with all fields at their longest.
    fn long(node: u64) -> Known {
        Known::new(Identity {
            node: NodeId(node),
            incarnation: Incarnation(u64::MAX),
            revision: 3,
            cluster_address: SocketAddr::from((Ipv6Addr::LOCALHOST, 7_000)),
            announce_host: Host::new(&"h".repeat(HOST_BYTES_MAX)).expect("just short enough"),
            resp_port: 1,
            replica_read_port: 2,
            http_port: Some(3),
            cores: 4,
            weight: 5,
            zone: Zone::new(&"z".repeat(ZONE_BYTES_MAX)).expect("just short enough"),
        })
    }

    fn messages() -> Vec<Message<Known>> {
        let target = long(3);
        let origin = long(3);
        vec![
            Message::Ping(9),
            Message::Ack(9),
            Message::PingReq {
                target: target.clone(),
                probe_number: 9,
            },
            Message::IndirectPing {
                origin: origin.clone(),
                probe_number: 9,
            },
            Message::IndirectAck {
                target,
                probe_number: 9,
            },
            Message::ForwardedAck {
                origin,
                probe_number: 9,
            },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ]
    }

    fn headers() -> impl Iterator<Item = (Header<Known>, Vec<u8>)> {
        messages().into_iter().map(|message| {
            let header = Header {
                src: long(1),
                src_incarnation: 500,
                dst: long(2),
                message,
            };
            let mut bytes = Vec::new();
            let result = GossipCodec.encode_header(&header, &mut bytes);
            assert_eq!(result, Ok(()));
            (header, bytes)
        })
    }

    fn update() -> (Member<Known>, Vec<u8>) {
        let member = Member::new(long(1), 7, State::Suspect);
        let mut bytes = Vec::new();
        assert_eq!(GossipCodec.encode_member(&member, &mut bytes), Ok(()));
        (member, bytes)
    }

    #[test]
    fn headers_and_updates_survive_encoding() {
        for (header, bytes) in headers() {
            assert!(bytes.len() <= HEADER_BYTES_MAX);
            let mut rest = &bytes[..];
            let decoded = GossipCodec
                .decode_header(&mut rest)
                .expect("it was encoded");
            assert_eq!(decoded, header);
            // Known by its key; here all of it counts.
            assert_eq!(decoded.src.0, header.src.0);
            assert_eq!(rest, b"");
        }
        let (member, bytes) = update();
        assert_eq!(bytes.len(), UPDATE_BYTES_MAX);
        let decoded = GossipCodec
            .decode_member(&bytes[..])
            .expect("it was encoded");
        assert_eq!(decoded, member);
        assert_eq!(decoded.id().0, member.id().0);
    }

    #[test]
    fn every_prefix_is_truncated() {
        for (_, bytes) in headers() {
            for end in 0..bytes.len() {
                let result = GossipCodec.decode_header(&bytes[..end]);
                assert_eq!(result, Err(GossipError::Truncated), "{end}");
            }
        }
        let (_, bytes) = update();
        for end in 0..bytes.len() {
            let result = GossipCodec.decode_member(&bytes[..end]);
            assert_eq!(result, Err(GossipError::Truncated), "{end}");
        }
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let (member, bytes) = update();
        let mut room = vec![0; bytes.len() - 1];
        let result = GossipCodec.encode_member(&member, &mut room[..]);
        assert_eq!(result, Err(GossipError::Full));
        assert!(room.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        let (_, bytes) = update();
        let state = bytes.len() - 1;
        let cores = bytes.len() - 3 - (1 + ZONE_BYTES_MAX) - 4;
        for (at, len, value) in [(0, 8, 0), (20, 1, 5), (state, 1, 3), (cores, 2, 0)] {
            let mut wrong = bytes.clone();
            wrong[at..at + len].fill(value);
            let result = GossipCodec.decode_member(&wrong[..]);
            assert_eq!(result, Err(GossipError::OutOfRange), "{at}");
        }
    }

    proptest! {
        #[test]
        fn damage_does_not_panic(
            which in 0..11usize,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let (_, mut bytes) = headers().nth(which).expect("one of eleven");
            bytes.extend(update().1);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let _ = GossipCodec.decode_header(&bytes[..]);
            let _ = GossipCodec.decode_member(&bytes[..]);
        }
    }
}
