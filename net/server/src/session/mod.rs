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
use fulmar_shard::Now;
use fulmar_shard::session::Endpoint;
use http::HttpSession;
use link::LinkSession;
use node::NodeSession;
use resp::RespSession;
pub(crate) use resp::error_of;

use crate::cluster::Reply;

use crate::core::Service;
use crate::dispatch::Dispatcher;
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

/// The protocol state of one connection.
pub(crate) enum Session {
    Resp(RespSession),
    Http(HttpSession),
    /// Another node speaks.
    Node(NodeSession),
    /// Another node is spoken to.
    Link(LinkSession),
}

impl Session {
    pub(crate) fn new(service: Service, socket: &OwnedFd, dispatcher: &Dispatcher<'_>) -> Self {
        match service {
            Service::Resp => Self::Resp(RespSession::new(socket, Endpoint::Primary, dispatcher)),
            Service::Replica => Self::Resp(RespSession::new(socket, Endpoint::Replica, dispatcher)),
            Service::Node => Self::Node(NodeSession::default()),
            Service::Link(peer) => Self::Link(LinkSession::new(peer)),
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
            Self::Link(session) => session.serve(id, input, dispatcher),
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
            Self::Node(_) | Self::Link(_) => false,
        }
    }

    /// Memory held, outside the shards.
    #[inline]
    pub(crate) fn buffered_bytes(&self) -> usize {
        match self {
            Self::Resp(session) => session.buffered_bytes(),
            Self::Http(session) => session.buffered_bytes(),
            Self::Node(_) | Self::Link(_) => 0,
        }
    }

    /// Gives back what is held in shards.
    pub(crate) fn close(&mut self, id: ConnectionId, dispatcher: &mut Dispatcher<'_>) {
        match self {
            Self::Resp(session) => session.close(dispatcher),
            Self::Link(session) => session.close(id, dispatcher),
            Self::Http(_) | Self::Node(_) => {}
        }
    }

    /// What a connection says before it has heard anything.
    pub(crate) fn greet(&self, output: &mut Output, dispatcher: &Dispatcher<'_>) {
        if let Self::Link(session) = self {
            session.greet(dispatcher, output.writer());
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
