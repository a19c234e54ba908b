//! How two nodes that are connected find out who they are. Pure: bytes of the challenges come in.
//!
//! ```text
//! Greeter                                   Welcome
//!    Hello, challenge ---------------------->  versions, cluster, not this node itself
//!    <---------- HelloReply, answer, challenge
//!    the same, and the answer
//!    Proof: answer ------------------------->  the answer
//!    open                                      open
//! ```
//! Invariants:
//! 1. Neither side takes or sends anything else before the other has proven that it knows the secret.
//! 2. Nodes whose clusters are known and different go apart.

use fulmar_cluster::{ClusterId, ClusterSecret, Incarnation, NodeId, Role};
use fulmar_protocol::node::{
    Challenge, Encoder, Goodbye, Hello, HelloReply, Identity, Proof, Purpose, Versions,
};

/// What this node says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'s> {
    pub(crate) secret: &'s ClusterSecret,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Number of its cores, and which of them speaks.
    pub(crate) cores: u16,
    pub(crate) core: u16,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) purpose: Purpose,
}

/// Why two nodes do not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no version that both speak.
    Version,
    /// The other belongs to another cluster.
    OtherCluster,
    /// The other does not know the secret.
    Proof,
    /// The other is this node.
    Itself,
    /// Not the node that was to be reached: it has the address now.
    OtherNode,
}

impl Refusal {
    /// What the other side is told.
    pub(crate) fn goodbye(self) -> Option<Goodbye> {
        match self {
            Self::Version => Some(Goodbye::Version),
            Self::OtherCluster => Some(Goodbye::OtherCluster),
            Self::Proof => Some(Goodbye::Proof),
            Self::Itself => Some(Goodbye::Itself),
            // It did nothing wrong.
            Self::OtherNode => None,
        }
    }

    /// What the other side's goodbye means to this one, if it refuses this node.
    pub(crate) fn of(goodbye: Goodbye) -> Option<Self> {
        match goodbye {
            Goodbye::Version => Some(Self::Version),
            Goodbye::OtherCluster => Some(Self::OtherCluster),
            Goodbye::Proof => Some(Self::Proof),
            Goodbye::Itself => Some(Self::Itself),
            _ => None,
        }
    }
}

impl Own<'_> {
    fn identity(&self) -> Identity {
        Identity {
            cluster: self.cluster.map_or(0, |cluster| cluster.0),
            node: self.node.0,
            incarnation: self.incarnation.0,
            cores: self.cores,
            core: self.core,
        }
    }

    /// Whether to speak with who says this of itself.
    fn judge(&self, versions: Versions, identity: Identity) -> Result<(), Refusal> {
        if Versions::own(0).agree(versions).is_none() {
            return Err(Refusal::Version);
        }
        if identity.node == self.node.0 {
            return Err(Refusal::Itself);
        }
        match self.cluster {
            Some(cluster) if identity.cluster != 0 && identity.cluster != cluster.0 => {
                Err(Refusal::OtherCluster)
            }
            _ => Ok(()),
        }
    }
}

/// The side that connected.
#[derive(Debug)]
pub(crate) struct Greeter {
    challenge: Challenge,
    purpose: Purpose,
}

impl Greeter {
    /// Says Hello.
    pub(crate) fn new(
        own: &Own<'_>,
        purpose: Purpose,
        challenge: Challenge,
        out: &mut Vec<u8>,
    ) -> Self {
        Encoder::new(out).hello(&Hello {
            versions: Versions::own(0),
            identity: own.identity(),
            purpose,
            challenge,
        });
        Self { challenge, purpose }
    }

    /// Proves who this node is if the other has, and is the `expected` one.
    ///
    /// # Errors
    /// Why not; nothing was said.
    pub(crate) fn handle_reply(
        &self,
        reply: &HelloReply,
        own: &Own<'_>,
        expected: Option<NodeId>,
        out: &mut Vec<u8>,
    ) -> Result<Proven, Refusal> {
        let judged = own.judge(reply.versions, reply.identity);
        if judged == Err(Refusal::Version) {
            return Err(Refusal::Version);
        }
        let is_answer = own
            .secret
            .is_answer(&self.challenge, Role::Server, &reply.proof);
        if !is_answer {
            return Err(Refusal::Proof);
        }
        judged?;
        if expected.is_some_and(|expected| expected.0 != reply.identity.node) {
            return Err(Refusal::OtherNode);
        }
        let proof = own.secret.answer(&reply.challenge, Role::Client);
        Encoder::new(out).proof(&Proof(proof));
        Ok(Proven {
            node: NodeId(reply.identity.node),
            incarnation: Incarnation(reply.identity.incarnation),
            purpose: self.purpose,
        })
    }
}

/// The side that was connected to, after Hello.
#[derive(Debug)]
pub(crate) struct Welcome {
    hello: Hello,
    challenge: Challenge,
}

impl Welcome {
    /// Answers Hello.
    ///
    /// # Errors
    /// Why not; nothing was said.
    pub(crate) fn new(
        hello: Hello,
        own: &Own<'_>,
        challenge: Challenge,
        out: &mut Vec<u8>,
    ) -> Result<Self, Refusal> {
        own.judge(hello.versions, hello.identity)?;
        Encoder::new(out).hello_reply(&HelloReply {
            versions: Versions::own(0),
            identity: own.identity(),
            challenge,
            proof: own.secret.answer(&hello.challenge, Role::Server),
        });
        Ok(Self { hello, challenge })
    }

    /// Whether the other knows the secret.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn handle_proof(&self, proof: &Proof, own: &Own<'_>) -> Result<Proven, Refusal> {
        let is_answer = own
            .secret
            .is_answer(&self.challenge, Role::Client, &proof.0);
        if !is_answer {
            return Err(Refusal::Proof);
        }
        Ok(Proven {
            node: NodeId(self.hello.identity.node),
            incarnation: Incarnation(self.hello.identity.incarnation),
            purpose: self.hello.purpose,
        })
    }
}

#[cfg(test)]
mod tests {
    use fulmar_cluster::{ClusterId, ClusterSecret, Incarnation, NodeId};
    use fulmar_protocol::node::{Decoded, Decoder, Frame, Purpose};

    use super::{Greeter, Own, Proven, Refusal, Welcome};

    fn own(secret: &ClusterSecret, node: u64, cluster: u64) -> Own<'_> {
        Own {
            secret,
            cluster: (cluster > 0).then_some(ClusterId(cluster)),
            node: NodeId(node),
            incarnation: Incarnation(7),
            cores: 2,
            core: 1,
        }
    }

    fn frame(bytes: &[u8]) -> Frame<'_> {
        match Decoder::new().decode(bytes) {
            Decoded::Frame { frame, consumed } => {
                assert_eq!(consumed, bytes.len());
                frame
            }
            other => panic!("one frame of a greeting: {other:?}"),
        }
    }

    /// A greeting of two; each side's end of it, and which one refused.
    fn greet(one: &Own<'_>, two: &Own<'_>, expected: u64) -> Result<[Proven; 2], (u8, Refusal)> {
        let (mut to_two, mut to_one) = (Vec::new(), Vec::new());
        let greeter = Greeter::new(one, Purpose::Control, [1; 32], &mut to_two);
        let Frame::Hello(hello) = frame(&to_two) else {
            panic!("it says Hello");
        };
        let welcome = Welcome::new(hello, two, [2; 32], &mut to_one);
        let welcome = welcome.map_err(|refusal| (2, refusal))?;
        let Frame::HelloReply(reply) = frame(&to_one) else {
            panic!("it answers");
        };
        to_two.clear();
        let first = greeter.handle_reply(&reply, one, Some(NodeId(expected)), &mut to_two);
        let first = first.inspect_err(|_| assert!(to_two.is_empty(), "nothing is proven"));
        let first = first.map_err(|refusal| (1, refusal))?;
        let Frame::Proof(proof) = frame(&to_two) else {
            panic!("it proves");
        };
        let second = welcome.handle_proof(&proof, two);
        Ok([first, second.map_err(|refusal| (2, refusal))?])
    }

    #[test]
    fn nodes_that_know_the_secret_learn_who_they_are() {
        let secret = ClusterSecret::new(b"same");
        for clusters in [(5, 5), (0, 5), (5, 0), (0, 0)] {
            let ends = greet(
                &own(&secret, 1, clusters.0),
                &own(&secret, 2, clusters.1),
                2,
            );
            let proven = |node| Proven {
                node: NodeId(node),
                incarnation: Incarnation(7),
                purpose: Purpose::Control,
            };
            assert_eq!(ends, Ok([proven(2), proven(1)]));
        }
    }

    #[test]
    fn strangers_other_clusters_and_a_node_itself_are_refused() {
        let (secret, other) = (ClusterSecret::new(b"ours"), ClusterSecret::new(b"theirs"));
        let (one, two) = (own(&secret, 1, 5), own(&secret, 2, 5));
        let stranger = own(&other, 2, 0);
        assert_eq!(greet(&one, &stranger, 2), Err((1, Refusal::Proof)));
        assert_eq!(greet(&one, &two, 3), Err((1, Refusal::OtherNode)));
        assert_eq!(greet(&one, &one, 1), Err((2, Refusal::Itself)));
        let far = own(&secret, 2, 6);
        assert_eq!(greet(&one, &far, 2), Err((2, Refusal::OtherCluster)));
    }

    #[test]
    fn an_answer_to_another_challenge_proves_nothing() {
        let (secret, other) = (ClusterSecret::new(b"ours"), ClusterSecret::new(b"theirs"));
        let (two, liar) = (own(&secret, 2, 5), own(&other, 1, 5));
        let mut out = Vec::new();
        Greeter::new(&liar, Purpose::Forward, [1; 32], &mut out);
        let Frame::Hello(hello) = frame(&out) else {
            panic!("it says Hello");
        };
        let mut reply = Vec::new();
        let welcome = Welcome::new(hello, &two, [2; 32], &mut reply).expect("not known yet");
        let Frame::HelloReply(reply) = frame(&reply) else {
            panic!("it answers");
        };
        // What the node itself answered is no proof for who asked it.
        let echoed = fulmar_protocol::node::Proof(reply.proof);
        assert_eq!(welcome.handle_proof(&echoed, &two), Err(Refusal::Proof));
        // A challenge, and not the secret, is what is answered.
        let greeter = Greeter {
            challenge: [9; 32],
            purpose: Purpose::Forward,
        };
        let one = own(&secret, 1, 5);
        let refused = greeter.handle_reply(&reply, &one, None, &mut Vec::new());
        assert_eq!(refused, Err(Refusal::Proof));
    }

    #[test]
    fn versions_that_do_not_meet_are_told_first() {
        let secret = ClusterSecret::new(b"");
        let (one, two) = (own(&secret, 1, 5), own(&secret, 2, 6));
        let mut out = Vec::new();
        Greeter::new(&one, Purpose::Forward, [1; 32], &mut out);
        let Frame::Hello(mut hello) = frame(&out) else {
            panic!("it says Hello");
        };
        hello.versions.min = 60_000;
        hello.versions.max = 60_001;
        let refused = Welcome::new(hello, &two, [2; 32], &mut Vec::new());
        assert_eq!(refused.map(|_| ()), Err(Refusal::Version));
    }
}
