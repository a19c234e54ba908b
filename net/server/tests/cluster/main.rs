//! Real sockets between nodes of a cluster in this process.

mod node;
mod peer;

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fulmar_protocol::node::{Decoded, Decoder, Encoder, Frame, Hello, Identity, Purpose, Versions};
use fulmar_server::Server;
use tempfile::TempDir;

use crate::node::{Client, Node, config, connect, ends, keys, read_some, wait, wait_until_shared};

#[test]
fn two_nodes_with_the_secret_form_a_cluster_and_answer_for_each_other() {
    let first = Node::start(b"secret", &[]);
    let second = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second]);
    let (mut one, mut two) = (first.client(), second.client());
    for key in keys() {
        assert_eq!(one.ask(&[b"SET", &key, b"value"]), b"+OK");
        assert_eq!(two.ask(&[b"GET", &key]), b"value");
        assert_eq!(two.ask(&[b"APPEND", &key, b"!"]), b":6");
        assert_eq!(one.ask(&[b"GET", &key]), b"value!");
    }
    assert_eq!(two.ask(&[b"DBSIZE"]), b":64");
    assert_eq!(one.ask(&[b"FLUSHALL"]), b"+OK");
    assert_eq!(two.ask(&[b"DBSIZE"]), b":0");
}

#[test]
fn a_node_with_another_secret_stays_outside() {
    let first = Node::start(b"secret", &[]);
    let stranger = Node::start(b"guess", &[&first]);
    let second = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second]);
    // It had more time than the one that was let in.
    assert_eq!(first.client().members(), 2);
    let refused = stranger.client().ask(&[b"GET", b"key"]);
    assert!(refused.starts_with(b"-CLUSTERDOWN"), "{refused:?}");
}

#[test]
fn clusters_do_not_merge() {
    let first = Node::start(b"secret", &[]);
    let second = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second]);
    // A cluster of its own, whose node is told of another one after a restart.
    let directory = TempDir::new().expect("a directory");
    let other = Server::start(config(b"secret", Vec::new(), directory.path())).expect("a node");
    let mut client = Client(connect(other.summary().resp));
    wait("a cluster of one", || client.info("cluster_state") == "ok");
    other.shutdown().begin();
    other.join().expect("it ends");
    let join = vec![first.cluster(), second.cluster()];
    let other = Server::start(config(b"secret", join, directory.path())).expect("a node");
    let mut client = Client(connect(other.summary().resp));
    wait("the cluster of one again", || {
        client.info("cluster_state") == "ok"
    });
    // A node that joins meanwhile shows that there was time to.
    let third = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second, &third]);
    assert_eq!(client.members(), 1);
    assert_eq!(first.client().members(), 3);
    other.shutdown().begin();
    other.join().expect("it ends");
}

fn hello() -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(&mut out).hello(&Hello {
        versions: Versions::own(0),
        identity: Identity {
            cluster: 0,
            node: 77,
            incarnation: 1,
            cores: 1,
            core: 0,
        },
        purpose: Purpose::Control,
        challenge: [3; 32],
    });
    out
}

#[test]
fn what_is_no_node_is_cut_off_and_harms_nobody() {
    let first = Node::start(b"secret", &[]);
    let second = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second]);
    let mut control = Vec::new();
    let mut encoder = Encoder::new(&mut control);
    encoder.control().finish();
    let mut long = control.clone();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut damaged = hello();
    damaged[40] ^= 1;
    let mut unproven = hello();
    Encoder::new(&mut unproven).proof(&fulmar_protocol::node::Proof([0; 16]));
    let greeted_and_early = [hello(), control.clone()].concat();
    for input in [
        b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n".to_vec(),
        vec![0xff; 4_096],
        control,
        long,
        damaged,
        unproven,
        greeted_and_early,
    ] {
        let mut stream = connect(first.cluster());
        stream.write_all(&input).expect("it listens");
        assert!(ends(&mut stream), "{input:?}");
    }
    // Half a greeting, and one that is never proven, get some time and no more.
    let mut half = connect(first.cluster());
    half.write_all(&hello()[..20]).expect("it listens");
    let mut unproven = connect(first.cluster());
    unproven.write_all(&hello()).expect("it listens");
    let mut answer = vec![0; 512];
    let length = read_some(&mut unproven, &mut answer);
    assert!(matches!(
        Decoder::new().decode(&answer[..length]),
        Decoded::Frame {
            frame: Frame::HelloReply(_),
            ..
        }
    ));
    let started = Instant::now();
    assert!(ends(&mut half));
    assert!(ends(&mut unproven));
    assert!(started.elapsed() < Duration::from_secs(10));
    let (mut one, mut two) = (first.client(), second.client());
    for key in keys() {
        assert_eq!(one.ask(&[b"SET", &key, b"value"]), b"+OK");
        assert_eq!(two.ask(&[b"GET", &key]), b"value");
    }
}

#[test]
fn more_strangers_than_there_is_room_for_are_turned_away() {
    let first = Node::start(b"secret", &[]);
    let mut strangers: Vec<TcpStream> = (0..64).map(|_| connect(first.cluster())).collect();
    let last = strangers.last_mut().expect("there are some");
    last.write_all(&hello()).expect("it listens");
    assert!(read_some(last, &mut [0; 512]) > 0);
    assert!(ends(&mut connect(first.cluster())));
    // The others are still there.
    let one = strangers.first_mut().expect("there are some");
    one.write_all(&hello()).expect("it listens");
    assert!(read_some(one, &mut [0; 512]) > 0);
}

#[test]
fn long_values_and_replies_pass_between_nodes_whole() {
    let first = Node::start(b"secret", &[]);
    let second = Node::start(b"secret", &[&first]);
    wait_until_shared(&[&first, &second]);
    let (mut one, mut two) = (first.client(), second.client());
    for bytes_count in [16_383, 16_384, 70_000, 4 << 20] {
        let byte = |at: usize| u8::try_from(at % 251).expect("below 251");
        let value: Vec<u8> = (0..bytes_count).map(byte).collect();
        // Some of the keys are the other node's, whichever is asked.
        for key in keys().take(6) {
            assert_eq!(one.ask(&[b"SET", &key, &value]), b"+OK");
            assert!(two.ask(&[b"GET", &key]) == value);
            assert!(one.ask(&[b"GET", &key]) == value);
            assert_eq!(two.ask(&[b"DEL", &key]), b":1");
        }
    }
    // Two values together are more than one command may take, which is said and nothing else.
    let value = vec![b'x'; 3 << 20];
    let pairs: [&[u8]; 5] = [b"MSET", b"{a}1", &value, b"{a}2", &value];
    let replies = [one.ask(&pairs), two.ask(&pairs)];
    assert!(replies.contains(&b"+OK".to_vec()), "where the keys are");
    assert!(replies.contains(&b"-ERR value is too long".to_vec()));
    assert_eq!(one.ask(&[b"SET", b"{a}1", b"short"]), b"+OK");
    assert_eq!(two.ask(&[b"GET", b"{a}1"]), b"short");
}

#[test]
fn forwarded_commands_survive_a_failover() {
    let first = Node::with_replicas(1, b"secret", &[]);
    let second = Node::with_replicas(1, b"secret", &[&first]);
    let mut third = Node::with_replicas(1, b"secret", &[&first]);
    wait_until_shared(&[&first, &second, &third]);
    let mut clients = [first.client(), second.client()];
    for key in keys() {
        assert_eq!(clients[0].ask(&[b"SET", &key, b"old"]), b"+OK");
    }
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let until = Instant::now() + Duration::from_secs(3);
                while Instant::now() < until {
                    for key in keys() {
                        // Either client writes keys of its own.
                        let key =
                            [&key[..], b"/", &[b'0' + u8::try_from(number).expect("few")]].concat();
                        assert_eq!(client.ask(&[b"SET", &key, b"new"]), b"+OK");
                        // What was written last to the node that died may not have a copy.
                        let got = client.ask(&[b"GET", &key]);
                        assert!(got == b"new" || got == b"$-1", "{got:?}");
                    }
                }
            });
        }
        scope.spawn(|| third.stop());
    });
    wait("the dead node is let go", || {
        clients.iter_mut().all(|client| client.members() == 2)
    });
    for key in keys() {
        assert_eq!(clients[0].ask(&[b"GET", &key]), b"old");
        assert_eq!(clients[1].ask(&[b"GET", &key]), b"old");
    }
}
