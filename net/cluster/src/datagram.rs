//! What every datagram between nodes has around it. Integers are little-endian.
//!
//! ```text
//! kind u8 | cluster u64 (0: not known yet) | payload | code of all that, 16 bytes
//! ```

use bytes::{Buf, BufMut};
use thiserror::Error;

use crate::ClusterId;
use crate::mac::{ClusterSecret, MAC_BYTES};

/// Longest datagram: it passes any path without being cut into fragments.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;
const HEADER_BYTES: usize = 1 + 8;
/// Longest payload of a datagram.
pub const DATAGRAM_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - MAC_BYTES;

/// The id of a cluster that a node has yet to learn.
const CLUSTER_UNKNOWN: u64 = 0;

/// Who reads a datagram's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatagramKind {
    /// `membership`.
    Gossip,
    /// `decision`: a node shows that it is there.
    Heartbeat,
}

/// A datagram that is whole and comes from a node with the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who reads it.
    pub kind: DatagramKind,
    /// The sender's cluster, if it knows it.
    pub cluster: Option<ClusterId>,
    /// What it says.
    pub payload: &'a [u8],
}

/// Why a datagram is dropped. No state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// Shorter than what every datagram has, or longer than any. Foreign traffic does that.
    #[error("a datagram has {0} bytes")]
    Length(usize),
    /// Its code is wrong: the sender has another secret, or it was damaged.
    #[error("a datagram's code is wrong")]
    Mac,
    /// Whole, of a kind that this version doesn't know.
    #[error("a datagram is of unknown kind {0}")]
    Kind(u8),
}

impl DatagramKind {
    const fn code(self) -> u8 {
        match self {
            Self::Gossip => 1,
            Self::Heartbeat => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Gossip),
            2 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// Appends a datagram with this payload.
///
/// # Panics
/// If the payload is longer than [`DATAGRAM_PAYLOAD_BYTES_MAX`].
pub fn seal_datagram(
    secret: &ClusterSecret,
    cluster: Option<ClusterId>,
    kind: DatagramKind,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    assert!(payload.len() <= DATAGRAM_PAYLOAD_BYTES_MAX);
    let start = out.len();
    out.put_u8(kind.code());
    out.put_u64_le(cluster.map_or(CLUSTER_UNKNOWN, |cluster| cluster.0));
    out.put_slice(payload);
    let code = secret.of_datagram(&out[start..]);
    out.put_slice(&code);
}

/// Reads a datagram. Whether it is of one's own cluster is for the caller to see.
///
/// # Errors
/// See [`DatagramError`].
pub fn open_datagram<'a>(
    secret: &ClusterSecret,
    bytes: &'a [u8],
) -> Result<Datagram<'a>, DatagramError> {
    let wrong_length = DatagramError::Length(bytes.len());
    if bytes.len() > DATAGRAM_BYTES_MAX || bytes.len() < HEADER_BYTES + MAC_BYTES {
        return Err(wrong_length);
    }
    let (signed, code) = bytes.split_last_chunk().ok_or(wrong_length)?;
    if !secret.is_of_datagram(signed, code) {
        return Err(DatagramError::Mac);
    }
    let mut payload = signed;
    let kind = payload.get_u8();
    let cluster = payload.get_u64_le();
    Ok(Datagram {
        kind: DatagramKind::of(kind).ok_or(DatagramError::Kind(kind))?,
        cluster: (cluster != CLUSTER_UNKNOWN).then_some(ClusterId(cluster)),
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::{DATAGRAM_BYTES_MAX, DATAGRAM_PAYLOAD_BYTES_MAX, Datagram, DatagramError};
    use super::{DatagramKind, open_datagram, seal_datagram};
    use crate::ClusterId;
    use crate::mac::ClusterSecret;

    fn sealed(secret: &ClusterSecret, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        seal_datagram(
            secret,
            Some(ClusterId(5)),
            DatagramKind::Heartbeat,
            payload,
            &mut bytes,
        );
        bytes
    }

    #[test]
    fn a_datagram_says_what_it_was_told() {
        let secret = ClusterSecret::new(b"");
        for payload in [&[][..], b"beat", &[3; DATAGRAM_PAYLOAD_BYTES_MAX]] {
            let bytes = sealed(&secret, payload);
            assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
            let datagram = Datagram {
                kind: DatagramKind::Heartbeat,
                cluster: Some(ClusterId(5)),
                payload,
            };
            assert_eq!(open_datagram(&secret, &bytes), Ok(datagram));
        }
    }

    #[test]
    fn damaged_cut_and_foreign_datagrams_are_refused() {
        let secret = ClusterSecret::new(b"ours");
        let bytes = sealed(&secret, b"beat");
        for end in 0..bytes.len() {
            assert!(open_datagram(&secret, &bytes[..end]).is_err(), "{end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let result = open_datagram(&secret, &damaged);
            assert_eq!(result, Err(DatagramError::Mac), "{bit}");
        }
        let foreign = sealed(&ClusterSecret::new(b"theirs"), b"beat");
        assert_eq!(open_datagram(&secret, &foreign), Err(DatagramError::Mac));
        let long = vec![0; DATAGRAM_BYTES_MAX + 1];
        assert_eq!(
            open_datagram(&secret, &long),
            Err(DatagramError::Length(long.len()))
        );
    }

    #[test]
    fn an_unknown_kind_is_told_apart_from_damage() {
        let secret = ClusterSecret::new(b"");
        let mut bytes = sealed(&secret, b"");
        bytes[0] = 200;
        bytes.truncate(9);
        let code = secret.of_datagram(&bytes);
        bytes.extend(code);
        assert_eq!(
            open_datagram(&secret, &bytes),
            Err(DatagramError::Kind(200))
        );
    }
}
