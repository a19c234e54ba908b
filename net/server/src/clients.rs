//! The connected RESP clients of all cores, for CLIENT LIST, and the count of all connections.
//!
//! A connection owns its state; the register holds a copy that follows its names, and two atomics
//! that follow its activity. The locks are taken when a client comes, goes, renames itself, or
//! lists the others: never per command.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fulmar_engine::Time;
use fulmar_protocol::command::table::{COMMANDS, CommandId};
use fulmar_shard::Now;
use fulmar_shard::session::ClientState;
use rustix::net::{getpeername, getsockname};

use crate::config::Config;

/// Stands for no command.
const NO_COMMAND: u8 = u8::MAX;

const _: () = assert!(CommandId::COUNT <= NO_COMMAND as usize);

/// See the module's head.
pub(crate) struct Clients {
    count: AtomicUsize,
    count_max: AtomicU32,
    timeout_seconds: AtomicU32,
    next_id: AtomicU64,
    entries: Mutex<BTreeMap<u64, Registration>>,
}

/// A client's entry; the connection holds it, too.
pub(crate) type Registration = Arc<Entry>;

/// What the register knows of a client.
pub(crate) struct Entry {
    state: Mutex<ClientState>,
    last_active: AtomicU64,
    last_command: AtomicU8,
}

impl Clients {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            count: AtomicUsize::new(0),
            count_max: AtomicU32::new(u32::try_from(config.clients_max).unwrap_or(u32::MAX)),
            timeout_seconds: AtomicU32::new(0),
            next_id: AtomicU64::new(1),
            entries: Mutex::default(),
        }
    }

    // --- how many there are ---

    /// Counts one connection more, unless there are as many as may be.
    pub(crate) fn try_enter(&self) -> bool {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let enters = before < self.count_max.load(Ordering::Relaxed) as usize;
        if !enters {
            self.leave();
        }
        enters
    }

    pub(crate) fn leave(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn count_max(&self) -> u32 {
        self.count_max.load(Ordering::Relaxed)
    }

    pub(crate) fn set_count_max(&self, count_max: u32) {
        self.count_max.store(count_max, Ordering::Relaxed);
    }

    /// Seconds after which an idle client is closed; 0: never.
    pub(crate) fn timeout_seconds(&self) -> u32 {
        self.timeout_seconds.load(Ordering::Relaxed)
    }

    pub(crate) fn set_timeout_seconds(&self, seconds: u32) {
        self.timeout_seconds.store(seconds, Ordering::Relaxed);
    }

    // --- who they are ---

    /// Enters a client, and gives its state with a fresh id.
    pub(crate) fn register(&self, socket: &OwnedFd, now: Now) -> (ClientState, Registration) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // A client that is gone already has no address any more.
        let peer = getpeername(socket)
            .ok()
            .flatten()
            .and_then(|address| address.try_into().ok());
        let local = getsockname(socket)
            .ok()
            .and_then(|address| address.try_into().ok());
        let state = ClientState::new(id, peer.unwrap_or(unknown), local.unwrap_or(unknown), now);
        let registration = Arc::new(Entry {
            state: Mutex::new(state.clone()),
            last_active: AtomicU64::new(now.time.0),
            last_command: AtomicU8::new(NO_COMMAND),
        });
        lock(&self.entries).insert(id, Arc::clone(&registration));
        (state, registration)
    }

    pub(crate) fn unregister(&self, id: u64) {
        lock(&self.entries).remove(&id);
    }

    /// Shows every client, by rising id.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&ClientState)) {
        let entries: Vec<Registration> = lock(&self.entries).values().cloned().collect();
        for entry in entries {
            visit(&entry.state());
        }
    }
}

impl Entry {
    /// Notes that the client sent something just now.
    #[inline]
    pub(crate) fn note_active(&self, now: Now, last_command: Option<CommandId>) {
        self.last_active.store(now.time.0, Ordering::Relaxed);
        if let Some(id) = last_command {
            self.last_command.store(id as u8, Ordering::Relaxed);
        }
    }

    /// Takes over what the client calls itself and how it speaks.
    pub(crate) fn note_state(&self, state: &ClientState) {
        *lock(&self.state) = state.clone();
    }

    pub(crate) fn last_active(&self) -> Time {
        Time(self.last_active.load(Ordering::Relaxed))
    }

    fn state(&self) -> ClientState {
        let mut state = lock(&self.state).clone();
        state.last_active = self.last_active();
        let last_command = usize::from(self.last_command.load(Ordering::Relaxed));
        state.last_command = COMMANDS.get(last_command).map(|spec| spec.id);
        state
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
