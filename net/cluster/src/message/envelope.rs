//! The frame around every message.

use super::{Heartbeat, Message};
use crate::topology::Branch;
use crate::{ClusterId, Epoch, Incarnation, NodeId};

/// Most bytes of an encoded heartbeat with its envelope.
pub const HEARTBEAT_BYTES_MAX: usize = 128;

/// A message with what makes it safe to handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender's cluster; `None` before it joined or founded one.
    pub cluster: Option<ClusterId>,
    /// The sender.
    pub from: NodeId,
    /// The sender's start.
    pub from_incarnation: Incarnation,
    /// The target; `None` if only its address is known.
    pub to: Option<NodeId>,
    /// The start of the target that the message is meant for; `None` if the sender knows of none.
    pub to_incarnation: Option<Incarnation>,
    /// The newest decided topology that the sender has, 0 for none.
    pub epoch: Epoch,
    /// The branch that it lives in meanwhile.
    pub branch: Option<Branch>,
    /// What it says.
    pub message: Message,
}

impl Envelope {
    /// The heartbeat in it, if it is one.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        match self.message {
            Message::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        }
    }
}
