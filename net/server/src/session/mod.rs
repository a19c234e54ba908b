//! What a connection speaks: from its bytes to commands, and to the dispatcher.

mod http;
mod link;
mod lookahead;
mod node;
mod node_waits;
mod nodes;
mod resp;

use std::os::fd::OwnedFd;

use fulmar_engine::Time;
use fulmar_protocol::node::Goodbye;
use fulmar_shard::Now;
use fulmar_shard::session::Endpoint;
use http::HttpSession;
use link::LinkSession;
use node::NodeSession;
pub(crate) use nodes::{Here, execute_here, try_again};
use resp::RespSession;
pub(crate) use resp::error_of;
use rustix::net::getpeername;

use crate::cluster::Reply;

use crate::core::Service;
use crate::dispatch::{Dispatcher, Outcome};
use crate::output::Output;
use crate::ring::ConnectionId;
use crate::token::Tokens;

/// Commands of one connection that are executed in one turn; the rest waits for the next.
const COMMANDS_PER_TURN: u32 = 128;

/// Why a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No complete command is left.
    NeedInput,
    /// It had its share of the turn, or a token was taken.
    Again,
    /// It waits for a peer's replies, or for its own to be sent.
    Wait,
    /// No more commands: send what there is, then close.
    Close,
}

/// How far a session came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    /// Bytes of the input that are used up.
    pub(crate) consumed: usize,
    pub(crate) stop: Stop,
}

/// What a command needs to run.
struct Context<'c, 'n> {
    id: ConnectionId,
    tokens: &'c mut Tokens<'n>,
    output: &'c mut Output,
    dispatcher: &'c mut Dispatcher<'n>,
}

/// What a client's session stops for after a command, unless that is done.
fn stop_for(outcome: Outcome, context: &mut Context<'_, '_>) -> Option<Stop> {
    match outcome {
        Outcome::Done => None,
        Outcome::Busy => Some(Stop::Again),
        Outcome::Wait => Some(Stop::Wait),
        Outcome::Held => {
            let Some(nodes) = context.dispatcher.nodes_mut() else {
                return Some(Stop::Again);
            };
            nodes.hold(context.id);
            Some(Stop::Wait)
        }
    }
}

/// The protocol state of one connection.
pub(crate) enum Session {
    Resp(RespSession),
    Http(HttpSession),
    /// Another node speaks.
    Node(Box<NodeSession>),
    /// Another node is spoken to.
    Link(Box<LinkSession>),
}

impl Session {
    pub(crate) fn new(service: Service, socket: &OwnedFd, dispatcher: &Dispatcher<'_>) -> Self {
        match service {
            Service::Resp => Self::Resp(RespSession::new(socket, Endpoint::Primary, dispatcher)),
            Service::Replica => Self::Resp(RespSession::new(socket, Endpoint::Replica, dispatcher)),
            Service::Node => {
                // Only for what is logged of it.
                let address = getpeername(socket).ok().flatten();
                let address = address.and_then(|address| address.try_into().ok());
                let now = fulmar_cluster::Time(dispatcher.now().time.0);
                Self::Node(Box::new(NodeSession::new(address, now)))
            }
            Service::Link(name) => Self::Link(Box::new(LinkSession::new(name))),
            Service::Http => Self::Http(HttpSession::new(dispatcher)),
        }
    }

    /// Executes commands until it must stop.
    #[inline]
    pub(crate) fn serve(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        output: &mut Output,
        dispatcher: &mut Dispatcher<'_>,
    ) -> Served {
        match self {
            Self::Resp(session) => session.serve(id, input, output, dispatcher),
            Self::Http(session) => session.serve(id, input, output, dispatcher),
            Self::Node(session) => session.serve(id, input, output, dispatcher),
            Self::Link(session) => session.serve(id, input, output, dispatcher),
        }
    }

    /// A client takes what it is sent.
    pub(crate) fn note_active(&self, now: Now) {
        if let Self::Resp(session) = self {
            session.note_active(now);
        }
    }

    /// When a RESP client last sent or took something.
    pub(crate) fn last_active(&self) -> Option<Time> {
        match self {
            Self::Resp(session) => Some(session.last_active()),
            Self::Http(_) | Self::Node(_) | Self::Link(_) => None,
        }
    }

    /// Whether a command waits whose input is used up.
    pub(crate) fn has_pending(&self) -> bool {
        match self {
            Self::Resp(session) => session.has_pending(),
            Self::Http(session) => session.has_pending(),
            Self::Node(session) => session.has_pending(),
            Self::Link(_) => false,
        }
    }

    /// Memory held, outside the shards.
    #[inline]
    pub(crate) fn buffered_bytes(&self) -> usize {
        match self {
            Self::Resp(session) => session.buffered_bytes(),
            Self::Http(session) => session.buffered_bytes(),
            Self::Node(session) => session.buffered_bytes(),
            Self::Link(_) => 0,
        }
    }

    /// Gives back what is held in shards.
    pub(crate) fn close(&mut self, id: ConnectionId, dispatcher: &mut Dispatcher<'_>) {
        match self {
            Self::Resp(session) => session.close(dispatcher),
            Self::Link(session) => session.close(id, dispatcher),
            Self::Node(session) => session.close(dispatcher),
            Self::Http(_) => {}
        }
    }

    /// What a connection says before it has heard anything; false if it cannot.
    pub(crate) fn greet(&mut self, output: &mut Output, dispatcher: &Dispatcher<'_>) -> bool {
        match self {
            Self::Link(session) => session.greet(dispatcher, output.writer()),
            _ => true,
        }
    }

    // --- where another node is at the other end ---

    /// Length of the incomplete frame that is there; 0 if that is not known.
    #[inline]
    pub(crate) fn needed_bytes(&self) -> usize {
        match self {
            Self::Node(session) => session.needed_bytes,
            Self::Link(session) => session.needed_bytes,
            Self::Resp(_) | Self::Http(_) => 0,
        }
    }

    /// Whether nothing can be expected any more of the node that has connected.
    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        match self {
            Self::Node(session) => session.is_overdue(fulmar_cluster::Time(now.0)),
            _ => false,
        }
    }

    /// Whether a node has connected and not proven who it is.
    pub(crate) fn is_stranger(&self) -> bool {
        match self {
            Self::Node(session) => session.is_stranger(),
            _ => false,
        }
    }

    /// Asks whether the other node is there.
    pub(crate) fn ping(&self, output: &mut Output, now: Time) {
        if let Self::Link(_) = self {
            LinkSession::ping(output, fulmar_cluster::Time(now.0));
        }
    }

    /// Tells another node that nothing more will come.
    pub(crate) fn say_goodbye(&self, reason: Goodbye, output: &mut Output) {
        match self {
            Self::Node(session) => session.say_goodbye(reason, output),
            Self::Link(session) => session.say_goodbye(reason, output),
            Self::Resp(_) | Self::Http(_) => {}
        }
    }

    /// When it is to be served though nothing happens; `None` unless it waits for acknowledgements.
    pub(crate) fn wakes_at(&self) -> Option<fulmar_cluster::Time> {
        match self {
            Self::Resp(session) => session.wakes_at(),
            Self::Node(session) => session.wakes_at(),
            Self::Http(_) | Self::Link(_) => None,
        }
    }

    /// A part of the command that is gathered has come.
    pub(crate) fn fill_part(&mut self, part: usize, reply: Reply) {
        if let Self::Resp(session) = self {
            session.fill_part(part, reply);
        }
    }
}
