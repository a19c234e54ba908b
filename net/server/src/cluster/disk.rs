//! What a node must not forget: persisted by a thread of its own, since a disk may be slow.
//!
//! A newer state takes the place of one that waits, and one that could not be written is tried again
//! until it is, or a newer one comes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::directory::Directory;

/// From a write that failed to the next attempt.
const RETRY: Duration = Duration::from_millis(200);

/// A state to persist.
struct Request {
    ticket: u64,
    state: Vec<u8>,
}

/// What happened since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The newest ticket whose state is on the disk; all before it need not be any more.
    pub(crate) ticket: Option<u64>,
    /// Why a state could not be written; said once until one can be.
    pub(crate) error: Option<io::Error>,
}

/// What the thread and its owner share.
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
    event: OwnedFd,
}

#[derive(Default)]
struct State {
    /// The newest state that was asked for and is not being written.
    next: Option<Request>,
    done: Done,
    is_over: bool,
}

/// The directory of a node, and the thread that writes to it.
pub(crate) struct Disk {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is no thread or descriptor to be had.
    pub(crate) fn start(mut directory: Directory) -> io::Result<Self> {
        let desk = Arc::new(Desk {
            state: Mutex::default(),
            changed: Condvar::new(),
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        });
        let theirs = Arc::clone(&desk);
        let thread = thread::Builder::new().name("disk".into()).spawn(move || {
            theirs.write_all(&mut directory);
        })?;
        Ok(Self {
            desk,
            thread: Some(thread),
        })
    }

    /// Readable when something is done.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.desk.event
    }

    /// Begins to persist a state; it takes the place of one that is not being written yet.
    pub(crate) fn persist(&self, ticket: u64, state: Vec<u8>) {
        self.desk.lock().next = Some(Request { ticket, state });
        self.desk.changed.notify_one();
    }

    /// What happened since the last call.
    pub(crate) fn take_done(&self) -> Done {
        let mut count = [0; 8];
        // Empty where a call before read it already.
        let _ = rustix::io::read(&self.desk.event, &mut count);
        std::mem::take(&mut self.desk.lock().done)
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is asked for until it is over and nothing is left.
    fn write_all(&self, directory: &mut Directory) {
        let mut is_failing = false;
        let mut state = self.lock();
        loop {
            let Some(request) = state.next.take() else {
                if state.is_over {
                    return;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let outcome = directory.store(&request.state);
            state = self.lock();
            match outcome {
                Ok(()) => {
                    is_failing = false;
                    state.done.ticket = Some(request.ticket);
                    ring(&self.event);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        state.done.error = Some(error);
                        ring(&self.event);
                    }
                    if state.is_over {
                        return;
                    }
                    state.next.get_or_insert(request);
                    let waited = self
                        .changed
                        .wait_timeout_while(state, RETRY, |state| !state.is_over);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

/// Makes the descriptor readable.
fn ring(event: &OwnedFd) {
    #[expect(
        clippy::host_endian_bytes,
        reason = "the kernel adds a number of the machine's own order"
    )]
    let one = 1u64.to_ne_bytes();
    // A full counter rings as well.
    let _ = rustix::io::write(event, &one);
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.desk.lock().is_over = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // What it had to say no longer matters.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::directory::{Directory, tests::obstruct};
    use super::{Disk, Done};

    /// Waits for what is done.
    fn until(disk: &Disk, mut is_it: impl FnMut(&Done) -> bool) {
        let started = Instant::now();
        while !is_it(&disk.take_done()) {
            assert!(started.elapsed() < Duration::from_secs(20), "too late");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_last_state_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::open(folder.path()).expect("free");
        let disk = Disk::start(directory).expect("a thread");
        for ticket in 1..=30u64 {
            disk.persist(ticket, vec![u8::try_from(ticket).expect("small"); 100]);
        }
        until(&disk, |done| {
            assert!(done.error.is_none());
            done.ticket == Some(30)
        });
        drop(disk);
        let mut again = Directory::open(folder.path()).expect("unlocked");
        assert_eq!(again.load().expect("readable"), Some(vec![30; 100]));
    }

    #[test]
    fn what_cannot_be_written_is_told_and_tried_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut directory = Directory::open(folder.path()).expect("free");
        directory.store(b"old").expect("written");
        obstruct(folder.path(), true);
        let disk = Disk::start(directory).expect("a thread");
        disk.persist(1, b"new".to_vec());
        until(&disk, |done| {
            assert_eq!(done.ticket, None);
            done.error.is_some()
        });
        obstruct(folder.path(), false);
        until(&disk, |done| {
            assert!(done.error.is_none(), "said once");
            done.ticket == Some(1)
        });
        drop(disk);
        let mut directory = Directory::open(folder.path()).expect("unlocked");
        assert_eq!(directory.load().expect("readable"), Some(b"new".to_vec()));
    }
}
