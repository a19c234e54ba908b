//! Streams between processes: what is said comes in order or not at all, and who says it learns, after
//! a while, that a stream has broken.

use std::collections::BTreeMap;

use fulmar_cluster::NodeId;

use super::{Job, World};
use crate::checkers::Verdict;
use crate::data::DataMessage;
use crate::network::Packet;
use crate::node::Input;

/// What a sender's kernel, or its patience, takes to notice.
const NOTICE_MS_MAX: u64 = 3_000;

/// By the sender's slot and life, and the stream's number.
#[derive(Debug, Default)]
pub(super) struct Streams(BTreeMap<(usize, u64, u64), State>);

#[derive(Clone, Copy, Debug)]
struct State {
    to: usize,
    /// The process at the other end.
    life: u64,
    /// When the last that was sent arrives.
    last_ms: u64,
    is_broken: bool,
}

impl World {
    /// Sends what a process has for the copies and the primaries elsewhere.
    pub(super) fn say(&mut self, slot: usize) {
        let now = self.nodes[slot].local(self.now_ms());
        let process = self.nodes[slot].process.as_mut();
        let messages = process.map(|process| process.data.poll(now));
        for message in messages.unwrap_or_default() {
            self.say_one(slot, message);
        }
    }

    fn say_one(&mut self, slot: usize, message: DataMessage) {
        let Some(to) = self.nodes.iter().position(|node| node.id == message.to()) else {
            return;
        };
        let now_ms = self.now_ms();
        let name = (slot, self.nodes[slot].life, message.stream);
        let there = &self.nodes[to];
        let is_refused = there.process.is_none();
        let fresh = State {
            to,
            life: there.life,
            last_ms: now_ms,
            is_broken: false,
        };
        let state = self.streams.0.entry(name).or_insert(fresh);
        if state.is_broken {
            return;
        }
        let delay_ms = self.network.stream(slot, to, &mut self.random);
        let Some(delay_ms) = delay_ms.filter(|_| !is_refused && state.to == to) else {
            state.is_broken = true;
            let notice_ms = if is_refused && delay_ms.is_some() {
                2
            } else {
                NOTICE_MS_MAX
            };
            return self.notice(slot, message.to(), message.stream, notice_ms);
        };
        state.last_ms = state.last_ms.max(now_ms + delay_ms);
        let (at_ms, life) = (state.last_ms, state.life);
        let input = Input::Packet(Packet::Data { message, life });
        let job = Job::Input {
            slot: to,
            life: None,
            input,
        };
        self.scheduler.at(at_ms, job);
    }

    /// The sender learns that a stream has broken.
    fn notice(&mut self, slot: usize, to: NodeId, stream: u64, ms_max: u64) {
        let life = self.nodes[slot].life;
        let wait_ms = self.random.between(1, ms_max);
        let job = Job::Broken {
            slot,
            life,
            to,
            stream,
        };
        self.scheduler.after(wait_ms, job);
    }

    /// What comes for a process that is not there any more breaks its stream.
    pub(super) fn refuse(&mut self, message: &DataMessage) {
        if let Some(slot) = self.nodes.iter().position(|node| node.id == message.from()) {
            let name = (slot, self.nodes[slot].life, message.stream);
            if let Some(state) = self.streams.0.get_mut(&name).filter(|one| !one.is_broken) {
                state.is_broken = true;
                self.notice(slot, message.to(), message.stream, 5);
            }
        }
    }

    pub(super) fn handle_broken(
        &mut self,
        slot: usize,
        life: u64,
        to: NodeId,
        stream: u64,
    ) -> Verdict {
        let now = self.nodes[slot].local(self.now_ms());
        self.streams.0.remove(&(slot, life, stream));
        let node = &mut self.nodes[slot];
        if let Some(process) = node.process.as_mut().filter(|_| node.life == life) {
            process.data.handle_broken(to, stream, now);
        }
        self.deeds(slot)
    }
}
