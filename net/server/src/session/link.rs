//! A connection to another node that this one has made: proves who it is, then carries frames out and
//! replies back.

use fulmar_cluster::{NodeId, Time};
use fulmar_protocol::node::{Decoded, Decoder, Encoder, Frame, Goodbye, HelloReply, OutOfStep};

use super::{Served, Stop};
use crate::cluster::{Greeter, LinkName, Nodes, Peer, Refusal};
use crate::dispatch::Dispatcher;
use crate::output::Output;
use crate::ring::ConnectionId;

/// Frames handled in a turn.
const FRAMES_PER_TURN: usize = 1_024;

/// See the module's head.
pub(crate) struct LinkSession {
    name: LinkName,
    decoder: Decoder,
    /// While the greeting lasts.
    greeter: Option<Greeter>,
    is_open: bool,
    /// The other side, or this one, does not want to speak.
    is_refused: bool,
    /// Length of the incomplete frame that is there; 0 if none is.
    pub(crate) needed_bytes: usize,
}

impl LinkSession {
    pub(crate) fn new(name: LinkName) -> Self {
        Self {
            name,
            decoder: Decoder::new(),
            greeter: None,
            is_open: false,
            is_refused: false,
            needed_bytes: 0,
        }
    }

    /// Says Hello. False if the link cannot begin.
    pub(crate) fn greet(&mut self, dispatcher: &Dispatcher<'_>, out: &mut Vec<u8>) -> bool {
        let mut challenge = [0; 32];
        let Some(nodes) = dispatcher.nodes() else {
            return false;
        };
        if let Err(error) = getrandom::fill(&mut challenge) {
            tracing::error!(%error, "no random numbers from the kernel: no links to other nodes");
            return false;
        }
        self.greeter = Some(Greeter::new(
            &nodes.own(),
            self.name.purpose,
            challenge,
            out,
        ));
        true
    }

    pub(crate) fn serve(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        output: &mut Output,
        dispatcher: &mut Dispatcher<'_>,
    ) -> Served {
        let mut consumed = 0;
        let Some(nodes) = dispatcher.nodes_mut() else {
            let stop = Stop::Close;
            return Served { consumed, stop };
        };
        nodes.link_heard(id);
        self.needed_bytes = 0;
        for _ in 0..FRAMES_PER_TURN {
            let stop = match self.decoder.decode(&input[consumed..]) {
                Decoded::Need(bytes) => {
                    self.needed_bytes = bytes;
                    Some(Stop::NeedInput)
                }
                Decoded::Skip { consumed: used } => {
                    consumed += used;
                    None
                }
                Decoded::Frame {
                    frame,
                    consumed: used,
                } => {
                    consumed += used;
                    self.handle(id, &frame, output, nodes)
                }
                Decoded::Error(error) => {
                    tracing::warn!(link = ?self.name, %error, "another node sends what it must not");
                    say(Goodbye::Protocol, output)
                }
            };
            if let Some(stop) = stop {
                return Served { consumed, stop };
            }
        }
        let stop = Stop::Again;
        Served { consumed, stop }
    }

    fn handle(
        &mut self,
        id: ConnectionId,
        frame: &Frame<'_>,
        output: &mut Output,
        nodes: &mut Nodes<'_>,
    ) -> Option<Stop> {
        let followed = match frame {
            Frame::HelloReply(reply) if !self.is_open => {
                return self.handle_hello_reply(id, reply, output, nodes);
            }
            Frame::Goodbye(reason) => {
                if let Some(refusal) = Refusal::of(*reason) {
                    self.refuse(refusal, None, nodes);
                }
                return Some(Stop::Close);
            }
            Frame::Reply(reply) if self.is_open => nodes.handle_reply(reply),
            Frame::Part(part) if self.is_open => nodes.handle_part(part),
            Frame::Status(status) if self.is_open => {
                nodes.handle_status(status);
                Ok(())
            }
            Frame::Pong { .. } if self.is_open => Ok(()),
            _ => Err(OutOfStep),
        };
        match followed {
            Ok(()) => None,
            Err(OutOfStep) => {
                tracing::warn!(link = ?self.name, "another node sends what it must not");
                say(Goodbye::Protocol, output)
            }
        }
    }

    fn handle_hello_reply(
        &mut self,
        id: ConnectionId,
        reply: &HelloReply,
        output: &mut Output,
        nodes: &mut Nodes<'_>,
    ) -> Option<Stop> {
        let greeter = self.greeter.take()?;
        let expected = match self.name.peer {
            Peer::Node(node) => Some(node),
            Peer::Seed(_) => None,
        };
        let own = nodes.own();
        match greeter.handle_reply(reply, &own, expected, output.writer()) {
            Ok(_) => {
                self.decoder.open();
                self.is_open = true;
                nodes.link_opened(id);
                None
            }
            Err(refusal) => {
                self.refuse(refusal, Some(NodeId(reply.identity.node)), nodes);
                match refusal.goodbye() {
                    Some(goodbye) => say(goodbye, output),
                    None => Some(Stop::Close),
                }
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, node: Option<NodeId>, nodes: &Nodes<'_>) {
        self.is_refused = true;
        let address = nodes.address_of(self.name.peer);
        let address = address.map_or_else(String::new, |address| format!(" at {address}"));
        let who = match (node, self.name.peer) {
            (Some(node), _) | (None, Peer::Node(node)) => format!("node {:016x}{address}", node.0),
            (None, Peer::Seed(_)) => format!("a node{address}"),
        };
        nodes.shared().complain(refusal, &who, nodes.now());
    }

    /// Asks whether the other side is there.
    pub(crate) fn ping(output: &mut Output, now: Time) {
        Encoder::new(output.writer()).ping(now.0);
    }

    /// Says that nothing more will come.
    pub(crate) fn say_goodbye(&self, reason: Goodbye, output: &mut Output) {
        if self.is_open {
            say(reason, output);
        }
    }

    pub(crate) fn close(&mut self, id: ConnectionId, dispatcher: &mut Dispatcher<'_>) {
        if let Some(nodes) = dispatcher.nodes_mut() {
            nodes.link_ended(id, self.is_refused);
        }
    }
}

fn say(reason: Goodbye, output: &mut Output) -> Option<Stop> {
    Encoder::new(output.writer()).goodbye(reason);
    Some(Stop::Close)
}
