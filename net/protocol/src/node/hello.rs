//! The greeting: what both sides speak, and who they say they are.
//!
//! Hello and HelloReply begin alike in every version, and whoever reads one passes over what a newer
//! version appended to it.

use super::WireError;
use super::varint::Reader;

/// First bytes of Hello and HelloReply.
const MAGIC: [u8; 4] = *b"FLMR";

/// The oldest version of this protocol that is spoken here.
pub const VERSION_MIN: u16 = 2;
/// The newest one.
pub const VERSION_MAX: u16 = 2;

/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of the answer to a challenge.
pub const PROOF_BYTES: usize = 16;

/// Random bytes that the other side answers with a MAC of them.
pub type Challenge = [u8; CHALLENGE_BYTES];

/// What a node speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Oldest version.
    pub min: u16,
    /// Newest version.
    pub max: u16,
    /// Optional parts of the protocol, a bit for each.
    pub features: u64,
}

/// What both sides speak from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The newest version that both have.
    pub version: u16,
    /// The features that both have.
    pub features: u64,
}

impl Versions {
    /// What is spoken here, with these features.
    #[must_use]
    pub const fn own(features: u64) -> Self {
        Self {
            min: VERSION_MIN,
            max: VERSION_MAX,
            features,
        }
    }

    /// What both speak; none if there is no such version: then [`Goodbye::Version`].
    #[must_use]
    pub fn agree(self, other: Self) -> Option<Agreed> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(Agreed {
            version,
            features: self.features & other.features,
        })
    }
}

/// What a connection is for. Each purpose has connections of its own, so that a long value does not
/// keep a vote waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Commands for the other node.
    Forward = 1,
    /// Writes for the other node's replicas.
    Replicate = 2,
    /// What the members agree on.
    Control = 3,
}

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name; 0 while it belongs to none.
    pub cluster: u64,
    /// The node's name.
    pub node: u64,
    /// Which of its starts this is.
    pub incarnation: u64,
    /// Number of its cores.
    pub cores: u16,
    /// Which of them speaks here.
    pub core: u16,
}

/// The first frame of whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub versions: Versions,
    /// Who it is.
    pub identity: Identity,
    /// What it connects for.
    pub purpose: Purpose,
    /// To be answered in [`HelloReply`].
    pub challenge: Challenge,
}

/// The first frame of whoever was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloReply {
    /// What it speaks: both sides compute alike what that comes to, with [`Versions::agree`].
    pub versions: Versions,
    /// Who it is.
    pub identity: Identity,
    /// To be answered in [`Proof`].
    pub challenge: Challenge,
    /// The answer to the challenge in [`Hello`].
    pub proof: [u8; PROOF_BYTES],
}

/// The second frame of whoever connected: the answer to the challenge in [`HelloReply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(pub [u8; PROOF_BYTES]);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Goodbye {
    /// The node stops.
    Stopping,
    /// Nothing was said for long.
    Idle,
    /// There is no version that both speak.
    Version,
    /// The other belongs to another cluster.
    OtherCluster,
    /// A challenge was not answered as by who knows the secret.
    Proof,
    /// A frame could not be understood.
    Protocol,
    /// There are too many connections, or too much is asked.
    Overloaded,
    /// The other's incarnation is not the newest.
    OldIncarnation,
    /// The node has connected to itself.
    Itself,
    /// A reason that a newer version has.
    Other(u8),
}

impl Goodbye {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Stopping => 1,
            Self::Idle => 2,
            Self::Version => 3,
            Self::OtherCluster => 4,
            Self::Proof => 5,
            Self::Protocol => 6,
            Self::Overloaded => 7,
            Self::OldIncarnation => 8,
            Self::Itself => 9,
            Self::Other(byte) => byte,
        }
    }

    /// The reason that a byte stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Stopping,
            2 => Self::Idle,
            3 => Self::Version,
            4 => Self::OtherCluster,
            5 => Self::Proof,
            6 => Self::Protocol,
            7 => Self::Overloaded,
            8 => Self::OldIncarnation,
            9 => Self::Itself,
            other => Self::Other(other),
        }
    }
}

impl Purpose {
    const fn from_byte(byte: u8) -> Result<Self, WireError> {
        match byte {
            1 => Ok(Self::Forward),
            2 => Ok(Self::Replicate),
            3 => Ok(Self::Control),
            _ => Err(WireError::Malformed),
        }
    }
}

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_start(self.versions, self.identity, out);
        out.push(self.purpose as u8);
        out.extend_from_slice(&self.challenge);
    }

    pub(super) fn decode(mut body: Reader<'_>) -> Result<Self, WireError> {
        let (versions, identity) = decode_start(&mut body)?;
        Ok(Self {
            versions,
            identity,
            purpose: Purpose::from_byte(body.byte()?)?,
            challenge: body.array()?,
        })
    }
}

impl HelloReply {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        encode_start(self.versions, self.identity, out);
        out.extend_from_slice(&self.challenge);
        out.extend_from_slice(&self.proof);
    }

    pub(super) fn decode(mut body: Reader<'_>) -> Result<Self, WireError> {
        let (versions, identity) = decode_start(&mut body)?;
        Ok(Self {
            versions,
            identity,
            challenge: body.array()?,
            proof: body.array()?,
        })
    }
}

fn encode_start(versions: Versions, identity: Identity, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&versions.min.to_le_bytes());
    out.extend_from_slice(&versions.max.to_le_bytes());
    out.extend_from_slice(&versions.features.to_le_bytes());
    out.extend_from_slice(&identity.cluster.to_le_bytes());
    out.extend_from_slice(&identity.node.to_le_bytes());
    out.extend_from_slice(&identity.incarnation.to_le_bytes());
    out.extend_from_slice(&identity.cores.to_le_bytes());
    out.extend_from_slice(&identity.core.to_le_bytes());
}

fn decode_start(body: &mut Reader<'_>) -> Result<(Versions, Identity), WireError> {
    if body.array() != Ok(MAGIC) {
        return Err(WireError::Magic);
    }
    let versions = Versions {
        min: u16::from_le_bytes(body.array()?),
        max: u16::from_le_bytes(body.array()?),
        features: u64::from_le_bytes(body.array()?),
    };
    let identity = Identity {
        cluster: u64::from_le_bytes(body.array()?),
        node: u64::from_le_bytes(body.array()?),
        incarnation: u64::from_le_bytes(body.array()?),
        cores: u16::from_le_bytes(body.array()?),
        core: u16::from_le_bytes(body.array()?),
    };
    if versions.min > versions.max || identity.core >= identity.cores {
        return Err(WireError::Malformed);
    }
    Ok((versions, identity))
}

#[cfg(test)]
mod tests {
    use super::{Agreed, Goodbye, Versions};

    fn versions(min: u16, max: u16, features: u64) -> Versions {
        Versions { min, max, features }
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let agreed = |version, features| Some(Agreed { version, features });
        for (one, other, expected) in [
            (versions(1, 1, 0b11), versions(1, 3, 0b110), agreed(1, 0b10)),
            (versions(1, 4, 0), versions(3, 9, 1), agreed(4, 0)),
            (versions(1, 2, 7), versions(3, 9, 7), None),
            (versions(5, 5, 7), versions(5, 5, 7), agreed(5, 7)),
        ] {
            assert_eq!(one.agree(other), expected);
            assert_eq!(other.agree(one), expected);
        }
    }

    #[test]
    fn reasons_survive() {
        for byte in 0..=u8::MAX {
            assert_eq!(Goodbye::from_byte(byte).to_byte(), byte);
        }
    }
}
