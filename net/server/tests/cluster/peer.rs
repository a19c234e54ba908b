//! A node made by hand, which knows the secret and says what it likes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fulmar_cluster::replication::{Address, Header, RemoteCore};
use fulmar_cluster::{ClusterSecret, Epoch, Incarnation, NodeId, Role, ShardIndex};
use fulmar_protocol::node::{
    Blob, Decoded, Decoder, Encoder, Fence, ForwardHead, ForwardOptions, ForwardStatus, Frame,
    Goodbye, Hello, Identity, PART_BYTES_MAX, Proof, Purpose, ReplyForm, Versions,
};

use crate::node::{Node, connect, ends, read_some, wait};

const OWN: Identity = Identity {
    cluster: 0,
    node: 77,
    incarnation: 1,
    cores: 1,
    core: 0,
};

/// What came, as far as the tests ask.
#[derive(Debug, PartialEq)]
enum Said {
    Pong(u64),
    Reply(Vec<u8>),
    Status(ForwardStatus),
    Goodbye(Goodbye),
}

/// Its connection to a node.
struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    decoder: Decoder,
    incarnation: u64,
}

impl Peer {
    /// Connects with this secret, and proves that it knows it.
    fn greet(node: &Node, secret: &[u8], purpose: Purpose, own: Identity) -> Self {
        let mut peer = Self {
            stream: connect(node.cluster()),
            input: Vec::new(),
            decoder: Decoder::new(),
            incarnation: 0,
        };
        peer.say(|encoder| {
            encoder.hello(&Hello {
                versions: Versions::own(0),
                identity: own,
                purpose,
                challenge: [5; 32],
            });
        });
        let secret = ClusterSecret::new(secret);
        let reply = peer.hear(|frame| match frame {
            Frame::HelloReply(reply) => reply,
            other => panic!("not an answer: {other:?}"),
        });
        assert!(secret.is_answer(&[5; 32], Role::Server, &reply.proof));
        peer.incarnation = reply.identity.incarnation;
        let proof = secret.answer(&reply.challenge, Role::Client);
        peer.say(|encoder| encoder.proof(&Proof(proof)));
        peer.decoder.open();
        peer
    }

    fn say(&mut self, say: impl FnOnce(&mut Encoder<'_>)) {
        let mut out = Vec::new();
        say(&mut Encoder::new(&mut out));
        self.stream.write_all(&out).expect("the node listens");
    }

    fn hear<T>(&mut self, hear: impl FnOnce(Frame<'_>) -> T) -> T {
        loop {
            let decoder = self.decoder;
            if let Decoded::Frame { frame, consumed } = decoder.decode(&self.input) {
                let heard = hear(frame);
                self.input.drain(..consumed);
                return heard;
            }
            let mut bytes = [0; 4_096];
            let count = read_some(&mut self.stream, &mut bytes);
            assert!(count > 0, "it ended");
            self.input.extend_from_slice(&bytes[..count]);
        }
    }

    fn said(&mut self) -> Said {
        self.hear(|frame| match frame {
            Frame::Pong { nonce } => Said::Pong(nonce),
            Frame::Reply(reply) => Said::Reply(reply.bytes.to_vec()),
            Frame::Status(status) => Said::Status(status.status),
            Frame::Goodbye(reason) => Said::Goodbye(reason),
            other => panic!("not expected: {other:?}"),
        })
    }

    fn head(&self, epoch: u64) -> ForwardHead {
        ForwardHead {
            fence: Fence {
                epoch,
                sender_incarnation: 1,
                target_incarnation: self.incarnation,
            },
            options: ForwardOptions {
                form: ReplyForm::Resp2,
                hops: 1,
                may_read_replica: false,
                is_local: false,
            },
            copy_reads: None,
        }
    }

    fn forward(&mut self, head: &ForwardHead, args: &[&[u8]]) -> Said {
        let mut blobs = args.iter().map(|arg| Blob::Whole(arg));
        self.say(|encoder| encoder.forward(1, head, &mut blobs));
        self.said()
    }
}

/// A cluster of one that serves.
fn alone() -> Node {
    let node = Node::start(b"secret", &[]);
    let mut client = node.client();
    wait("it serves", || client.info("cluster_state") == "ok");
    node
}

#[test]
fn a_node_that_proved_itself_is_answered() {
    let node = alone();
    let mut peer = Peer::greet(&node, b"secret", Purpose::Forward, OWN);
    peer.say(|encoder| encoder.ping(42));
    assert_eq!(peer.said(), Said::Pong(42));
    let head = peer.head(1);
    let set = peer.forward(&head, &[b"SET", b"key", b"value"]);
    assert_eq!(set, Said::Reply(b"+OK\r\n".to_vec()));
    let get = peer.forward(&head, &[b"GET", b"key"]);
    assert_eq!(get, Said::Reply(b"$5\r\nvalue\r\n".to_vec()));
    // What is wrong with a command is for its client.
    let wrong = peer.forward(&head, &[b"INCR", b"key"]);
    assert!(matches!(wrong, Said::Reply(text) if text.starts_with(b"-ERR")));
    let unknown = peer.forward(&head, &[b"NEVERMADE", b"key"]);
    assert!(matches!(unknown, Said::Reply(text) if text.starts_with(b"-ERR")));
}

#[test]
fn commands_for_another_start_or_for_all_nodes_are_not_executed() {
    let node = alone();
    let mut peer = Peer::greet(&node, b"secret", Purpose::Forward, OWN);
    let mut head = peer.head(1);
    head.fence.target_incarnation += 1;
    let other = peer.forward(&head, &[b"SET", b"key", b"value"]);
    assert_eq!(other, Said::Status(ForwardStatus::OtherIncarnation));
    let mut head = peer.head(1);
    let everywhere = peer.forward(&head, &[b"FLUSHALL"]);
    assert_eq!(everywhere, Said::Status(ForwardStatus::Refused));
    assert_eq!(node.client().ask(&[b"GET", b"key"]), b"$-1");
    head.options.is_local = true;
    let local = peer.forward(&head, &[b"DBSIZE"]);
    assert_eq!(local, Said::Reply(b":0\r\n".to_vec()));
}

#[test]
fn keys_of_another_node_are_not_answered_and_newer_topologies_waited_for() {
    let first = Node::start(b"secret", &[]);
    let second = Node::start(b"secret", &[&first]);
    crate::node::wait_until_shared(&[&first, &second]);
    let mut peer = Peer::greet(&first, b"secret", Purpose::Forward, OWN);
    for (epoch, is_waited_for) in [(1, false), (1 << 40, true)] {
        let head = peer.head(epoch);
        let mut moved = 0;
        let started = Instant::now();
        for key in crate::node::keys().take(16) {
            match peer.forward(&head, &[b"GET", &key]) {
                Said::Status(ForwardStatus::Moved) => moved += 1,
                said => assert_eq!(said, Said::Reply(b"$-1\r\n".to_vec())),
            }
        }
        assert!((1..16).contains(&moved), "{moved}");
        let waited = started.elapsed() >= Duration::from_millis(100) * moved;
        assert_eq!(waited, is_waited_for);
    }
}

#[test]
fn a_command_in_parts_may_be_given_up_and_begun_again() {
    let node = alone();
    let mut peer = Peer::greet(&node, b"secret", Purpose::Forward, OWN);
    let head = peer.head(1);
    let value = vec![b'v'; PART_BYTES_MAX + 1];
    // Two at the same time, their frames mixed; one is given up.
    for request in [1, 2] {
        let mut blobs = [
            Blob::Whole(b"SET"),
            Blob::Whole(if request == 1 { b"one" } else { b"two" }),
            Blob::InParts(value.len()),
        ]
        .into_iter();
        peer.say(|encoder| encoder.forward(request, &head, &mut blobs));
    }
    for request in [1, 2] {
        peer.say(|encoder| encoder.part(request, 0, &value[..PART_BYTES_MAX], false));
    }
    peer.say(|encoder| encoder.abort(2, PART_BYTES_MAX as u64));
    peer.say(|encoder| encoder.part(1, PART_BYTES_MAX as u64, &value[PART_BYTES_MAX..], true));
    assert_eq!(peer.said(), Said::Reply(b"+OK\r\n".to_vec()));
    let mut client = node.client();
    assert!(client.ask(&[b"GET", b"one"]) == value);
    assert_eq!(client.ask(&[b"GET", b"two"]), b"$-1");
    // What was given up is not there to go on with.
    peer.say(|encoder| encoder.part(2, PART_BYTES_MAX as u64, b"v", true));
    assert_eq!(peer.said(), Said::Goodbye(Goodbye::Protocol));
    assert!(ends(&mut peer.stream));
}

#[test]
fn half_commands_take_their_share_of_memory_and_no_more() {
    let node = alone();
    // 64 MiB a core, and a command of 4 MiB and 64 KiB at most: sixteen fit, and not one more.
    let begin = |peer: &mut Peer| {
        let head = peer.head(1);
        let arguments = [
            Blob::Whole(b"SET".as_slice()),
            Blob::Whole(b"key"),
            Blob::InParts(4 << 20),
        ];
        peer.say(|encoder| encoder.forward(1, &head, &mut arguments.into_iter()));
        peer.say(|encoder| encoder.ping(7));
    };
    let greet = || Peer::greet(&node, b"secret", Purpose::Forward, OWN);
    let mut peers: Vec<Peer> = (0..15).map(|_| greet()).collect();
    for peer in &mut peers {
        begin(peer);
        assert_eq!(peer.said(), Said::Pong(7));
    }
    let mut waiting = greet();
    begin(&mut waiting);
    waiting
        .stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("an option");
    assert!(waiting.stream.read(&mut [0; 64]).is_err(), "it waits");
    waiting
        .stream
        .set_read_timeout(Some(crate::node::PATIENCE))
        .expect("an option");
    // What one gives back, with its connection, is enough.
    drop(peers.pop());
    assert_eq!(waiting.said(), Said::Pong(7));
}

#[test]
fn a_connection_is_for_its_purpose() {
    let node = alone();
    let mut head = None;
    for purpose in [Purpose::Forward, Purpose::Replicate, Purpose::Control] {
        let mut peer = Peer::greet(&node, b"secret", purpose, OWN);
        let head = *head.get_or_insert_with(|| peer.head(1));
        peer.say(|encoder| encoder.ping(1));
        assert_eq!(peer.said(), Said::Pong(1));
        match purpose {
            Purpose::Forward => peer.say(|encoder| encoder.batch().finish()),
            Purpose::Replicate => peer.say(|encoder| encoder.control().finish()),
            Purpose::Control => {
                let mut arguments = [Blob::Whole(b"PING".as_slice())].into_iter();
                peer.say(|encoder| encoder.forward(1, &head, &mut arguments));
            }
        }
        assert_eq!(peer.said(), Said::Goodbye(Goodbye::Protocol));
        assert!(ends(&mut peer.stream));
    }
}

#[test]
fn a_node_speaks_for_itself_alone() {
    let node = alone();
    let mut peer = Peer::greet(&node, b"secret", Purpose::Forward, OWN);
    let mut head = peer.head(1);
    head.fence.sender_incarnation += 1;
    let refused = peer.forward(&head, &[b"GET", b"key"]);
    assert_eq!(refused, Said::Goodbye(Goodbye::Protocol));
    assert!(ends(&mut peer.stream));
    let address = |node, incarnation| Address {
        core: RemoteCore {
            node: NodeId(node),
            core: ShardIndex(0),
        },
        incarnation: Incarnation(incarnation),
    };
    for (from, is_right) in [
        (address(OWN.node, OWN.incarnation), true),
        (address(OWN.node + 1, OWN.incarnation), false),
        (address(OWN.node, OWN.incarnation + 1), false),
    ] {
        for is_batch in [true, false] {
            let mut peer = Peer::greet(&node, b"secret", Purpose::Replicate, OWN);
            let header = Header {
                epoch: Epoch(0),
                from,
                to: address(1, peer.incarnation),
                session: 1,
                number: 1,
                group: 0,
            };
            peer.say(|encoder| {
                let mut frame = if is_batch {
                    encoder.batch()
                } else {
                    encoder.told()
                };
                header.encode(frame.payload());
                frame.finish();
            });
            peer.say(|encoder| encoder.ping(3));
            let expected = if is_right {
                Said::Pong(3)
            } else {
                Said::Goodbye(Goodbye::Protocol)
            };
            assert_eq!(peer.said(), expected);
        }
    }
}

#[test]
fn an_answer_with_another_secret_is_wrong() {
    let node = alone();
    let mut stream = connect(node.cluster());
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out);
    encoder.hello(&Hello {
        versions: Versions::own(0),
        identity: OWN,
        purpose: Purpose::Control,
        challenge: [5; 32],
    });
    encoder.proof(&Proof([9; 16]));
    stream.write_all(&out).expect("the node listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    let Decoded::Frame { consumed, .. } = Decoder::new().decode(&answer) else {
        panic!("it answered first");
    };
    assert!(matches!(
        Decoder::new().decode(&answer[consumed..]),
        Decoded::Frame {
            frame: Frame::Goodbye(Goodbye::Proof),
            ..
        }
    ));
}

#[test]
fn a_silent_node_is_given_up() {
    let node = alone();
    let mut peer = Peer::greet(&node, b"secret", Purpose::Replicate, OWN);
    peer.say(|encoder| encoder.ping(1));
    assert_eq!(peer.said(), Said::Pong(1));
    let started = Instant::now();
    assert!(ends(&mut peer.stream));
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_secs(4), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}
