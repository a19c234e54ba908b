//! A connection to another node that this one has made: says who it is, then carries frames out and
//! replies back.

use super::{Served, Stop};
use crate::cluster::Peer;
use crate::cluster::frame::{self, Kind};
use crate::dispatch::Dispatcher;
use crate::ring::ConnectionId;

/// Frames handled in a turn.
const FRAMES_PER_TURN: usize = 1_024;

/// See the module's head.
pub(crate) struct LinkSession {
    peer: Peer,
    is_open: bool,
}

impl LinkSession {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            is_open: false,
        }
    }

    /// The first frame of a new link.
    pub(crate) fn greet(&self, dispatcher: &Dispatcher<'_>, out: &mut Vec<u8>) {
        if let Some(nodes) = dispatcher.nodes() {
            frame::put_hello(out, nodes.shared());
        }
    }

    pub(crate) fn serve(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        dispatcher: &mut Dispatcher<'_>,
    ) -> Served {
        let mut consumed = 0;
        let Some(nodes) = dispatcher.nodes_mut() else {
            let stop = Stop::Close;
            return Served { consumed, stop };
        };
        let mut stop = Stop::Again;
        for _ in 0..FRAMES_PER_TURN {
            let frame = match frame::decode(&input[consumed..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    stop = Stop::NeedInput;
                    break;
                }
                Err(()) => {
                    stop = Stop::Close;
                    break;
                }
            };
            consumed += frame.length;
            match frame.kind {
                Kind::HelloReply if !self.is_open && frame::is_hello_of(&frame, self.peer) => {
                    self.is_open = true;
                    nodes.link_opened(id);
                }
                Kind::Reply if self.is_open => nodes.handle_reply(frame.id, frame.body, true),
                Kind::ReplyPart if self.is_open => nodes.handle_reply(frame.id, frame.body, false),
                Kind::Refused if self.is_open => nodes.handle_refused(frame.id),
                _ => {
                    stop = Stop::Close;
                    break;
                }
            }
        }
        Served { consumed, stop }
    }

    pub(crate) fn close(&mut self, id: ConnectionId, dispatcher: &mut Dispatcher<'_>) {
        if let Some(nodes) = dispatcher.nodes_mut() {
            nodes.link_ended(id);
        }
    }
}
