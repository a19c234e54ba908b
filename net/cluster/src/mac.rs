//! Proof that a message comes from a node that knows the cluster's secret.
//!
//! BLAKE3 in keyed mode, cut to 16 bytes, with a key of its own for each use, derived from the
//! secret: an answer to a challenge is worth nothing as a datagram's code. It keeps strangers and
//! damage out. It hides nothing, and a datagram that was recorded can be sent again: whoever reads one
//! must not mind.

use std::fmt;

use blake3::Hash;

/// Bytes of a message authentication code.
pub const MAC_BYTES: usize = 16;

/// A message authentication code.
pub type Mac = [u8; MAC_BYTES];

/// Which side of a connection answers a challenge, so that an answer can't be sent back as one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one that opened the connection.
    Client,
    /// The one that accepted it.
    Server,
}

/// The keys that the members of a cluster share.
#[derive(Clone)]
pub struct ClusterSecret {
    datagrams: [u8; 32],
    handshakes: [u8; 32],
}

impl ClusterSecret {
    /// Keys from a secret of any length. An empty one gives keys that everybody knows: they find
    /// damage, and keep nobody out.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self {
            datagrams: blake3::derive_key("Fulmar 2026 cluster datagrams", secret),
            handshakes: blake3::derive_key("Fulmar 2026 cluster handshakes", secret),
        }
    }

    /// The answer to a challenge that the other side of a connection drew at random.
    #[must_use]
    pub fn answer(&self, challenge: &[u8; 32], role: Role) -> Mac {
        let mut message = [0; 33];
        message[..32].copy_from_slice(challenge);
        message[32] = match role {
            Role::Client => 0,
            Role::Server => 1,
        };
        mac(&self.handshakes, &message)
    }

    /// Whether `answer` is the one to this challenge. Takes as long for any answer.
    #[must_use]
    pub fn is_answer(&self, challenge: &[u8; 32], role: Role, answer: &Mac) -> bool {
        are_equal(&self.answer(challenge, role), answer)
    }

    /// The code of a datagram with these bytes.
    pub(crate) fn of_datagram(&self, bytes: &[u8]) -> Mac {
        mac(&self.datagrams, bytes)
    }

    /// Whether `code` is the one of these bytes. Takes as long for any code.
    pub(crate) fn is_of_datagram(&self, bytes: &[u8], code: &Mac) -> bool {
        are_equal(&self.of_datagram(bytes), code)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

fn mac(key: &[u8; 32], message: &[u8]) -> Mac {
    let hash = blake3::keyed_hash(key, message);
    let mut code = [0; MAC_BYTES];
    code.copy_from_slice(&hash.as_bytes()[..MAC_BYTES]);
    code
}

/// Compares in constant time, as [`Hash`] does.
fn are_equal(one: &Mac, other: &Mac) -> bool {
    let padded = |code: &Mac| {
        let mut bytes = [0; 32];
        bytes[..MAC_BYTES].copy_from_slice(code);
        Hash::from_bytes(bytes)
    };
    padded(one) == padded(other)
}

#[cfg(test)]
mod tests {
    use super::{ClusterSecret, Role};

    #[test]
    fn an_answer_is_good_for_its_challenge_role_and_secret_alone() {
        let secret = ClusterSecret::new(b"swordfish");
        let challenge = [7; 32];
        let answer = secret.answer(&challenge, Role::Client);
        assert!(secret.is_answer(&challenge, Role::Client, &answer));
        assert!(!secret.is_answer(&challenge, Role::Server, &answer));
        assert!(!secret.is_answer(&[8; 32], Role::Client, &answer));
        let other = ClusterSecret::new(b"");
        assert!(!other.is_answer(&challenge, Role::Client, &answer));
        for byte in 0..answer.len() {
            let mut wrong = answer;
            wrong[byte] ^= 1;
            assert!(!secret.is_answer(&challenge, Role::Client, &wrong));
        }
        // The key of datagrams is another one.
        let mut message = challenge.to_vec();
        message.push(0);
        assert!(!secret.is_of_datagram(&message, &answer));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let printed = format!("{:?}", ClusterSecret::new(b"swordfish"));
        assert_eq!(printed, "ClusterSecret(..)");
    }
}
