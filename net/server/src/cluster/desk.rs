//! What operators asked of this node, on whatever core, until control takes it up; and what control
//! tells of it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fulmar_cluster::coordinator::Counters;
use fulmar_cluster::message::Moves;

/// Requests that wait; more are refused.
const ASKED_MAX: usize = 64;

/// Something to do for control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Hand over everything, then stop the node.
    Leave,
    /// Make a cluster of the branch that was founded here.
    Adopt,
    /// Move ranges so.
    Steer(Moves),
    /// Become the primary of what this node has replicas of.
    FailOver,
}

/// What control tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) moves: Moves,
    pub(crate) counters: Counters,
    pub(crate) is_failing_over: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    asked: Mutex<VecDeque<Request>>,
    told: Mutex<Told>,
    is_leaving: AtomicBool,
    is_synced: AtomicBool,
}

impl Desk {
    /// Leaves a request; false if too many wait.
    pub(crate) fn ask(&self, request: Request) -> bool {
        let mut asked = lock(&self.asked);
        let has_room = asked.len() < ASKED_MAX || request == Request::Leave;
        if has_room {
            asked.push_back(request);
        }
        if request == Request::Leave {
            self.is_leaving.store(true, Ordering::Relaxed);
        }
        has_room
    }

    pub(crate) fn take(&self) -> Option<Request> {
        lock(&self.asked).pop_front()
    }

    /// Whether this node was asked to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, told: Told) {
        *lock(&self.told) = told;
    }

    pub(crate) fn told(&self) -> Told {
        *lock(&self.told)
    }

    /// All copies that this node should have were complete, once since its start.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::Relaxed)
    }

    pub(crate) fn note_synced(&self) {
        self.is_synced.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{ASKED_MAX, Desk, Request};

    #[test]
    fn requests_are_taken_in_order_and_bounded() {
        let desk = Desk::default();
        for _ in 0..ASKED_MAX {
            assert!(desk.ask(Request::FailOver));
        }
        assert!(!desk.ask(Request::Adopt));
        assert!(!desk.is_leaving());
        assert!(desk.ask(Request::Leave), "a signal is never lost");
        assert!(desk.is_leaving());
        for _ in 0..ASKED_MAX {
            assert_eq!(desk.take(), Some(Request::FailOver));
        }
        assert_eq!((desk.take(), desk.take()), (Some(Request::Leave), None));
    }
}
