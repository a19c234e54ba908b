//! What a node must not forget: persisted by a thread of its own, since a disk may be slow.
//!
//! One file, replaced as a whole: written aside, synced, renamed, and its directory synced. A crash
//! leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FlockOperation, flock};

/// The file, and what it is written as at first.
const FILE_NAME: &str = "node.state";
const ASIDE_NAME: &str = "node.state.new";
/// Held by the process that uses the directory.
const LOCK_NAME: &str = "node.lock";
/// Longest state that is read: a topology and votes on another one, and some.
const STATE_BYTES_MAX: u64 = 1 << 20;
/// States on their way to the disk; the coordinator waits for each before it sends what depends on it.
const REQUESTS_MAX: usize = 16;

/// A state to persist.
struct Request {
    ticket: u64,
    state: Vec<u8>,
}

/// The directory of a node, and the thread that writes to it.
pub(crate) struct Disk {
    requests: Option<Sender<Request>>,
    done: Receiver<(u64, io::Result<()>)>,
    event: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// A node's directory, locked by this process.
pub(crate) struct Directory {
    path: PathBuf,
    /// Unlocked when it is closed.
    lock: File,
}

impl Directory {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::create(path.join(LOCK_NAME))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// What was persisted last, if anything was.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` for a file that is too long to be a state.
    pub(crate) fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let path = self.path.join(FILE_NAME);
        match fs::metadata(&path) {
            Ok(found) if found.len() > STATE_BYTES_MAX => Err(io::ErrorKind::InvalidData.into()),
            Ok(_) => fs::read(path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what is persisted; on the disk when it returns.
    ///
    /// # Errors
    /// Those of writing; the old state is still there.
    pub(crate) fn store(&self, state: &[u8]) -> io::Result<()> {
        let aside = self.path.join(ASIDE_NAME);
        let mut file = File::create(&aside)?;
        file.write_all(state)?;
        file.sync_all()?;
        fs::rename(&aside, self.path.join(FILE_NAME))?;
        File::open(&self.path)?.sync_all()
    }
}

impl Disk {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is no thread or descriptor to be had.
    pub(crate) fn start(directory: Directory) -> io::Result<Self> {
        let (requests, inbox) = bounded::<Request>(REQUESTS_MAX);
        let (outbox, done) = bounded(REQUESTS_MAX);
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let bell = Arc::clone(&event);
        let thread = thread::Builder::new().name("disk".into()).spawn(move || {
            for request in inbox {
                let outcome = directory.store(&request.state);
                if outbox.send((request.ticket, outcome)).is_err() {
                    break;
                }
                ring(&bell);
            }
            drop(directory.lock);
        })?;
        Ok(Self {
            requests: Some(requests),
            done,
            event,
            thread: Some(thread),
        })
    }

    /// Readable when something is done.
    pub(crate) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// Begins to persist a state; false if too many are on their way.
    pub(crate) fn persist(&self, ticket: u64, state: Vec<u8>) -> bool {
        let Some(requests) = &self.requests else {
            return false;
        };
        !matches!(
            requests.try_send(Request { ticket, state }),
            Err(TrySendError::Full(_))
        )
    }

    /// The tickets of what is persisted since the last call, or could not be.
    pub(crate) fn take_done(&self) -> impl Iterator<Item = (u64, io::Result<()>)> + '_ {
        let mut count = [0; 8];
        // Empty where a call before read it already.
        let _ = rustix::io::read(&self.event, &mut count);
        self.done.try_iter()
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
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say no longer matters.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::{Duration, Instant};

    use super::{Directory, Disk};

    #[test]
    fn the_last_state_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::open(folder.path()).expect("free");
        assert!(directory.load().expect("readable").is_none());
        let taken = Directory::open(folder.path()).err().expect("it is locked");
        assert_eq!(taken.kind(), ErrorKind::WouldBlock);
        let disk = Disk::start(directory).expect("a thread");
        for ticket in 1..=3u64 {
            assert!(disk.persist(ticket, vec![u8::try_from(ticket).expect("small"); 100]));
        }
        let started = Instant::now();
        let mut done = Vec::new();
        while done.len() < 3 && started.elapsed() < Duration::from_secs(20) {
            done.extend(disk.take_done().map(|(ticket, outcome)| {
                outcome.expect("written");
                ticket
            }));
        }
        assert_eq!(done, [1, 2, 3]);
        drop(disk);
        let again = Directory::open(folder.path()).expect("unlocked");
        assert_eq!(again.load().expect("readable"), Some(vec![3; 100]));
    }

    #[test]
    fn a_state_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::open(folder.path()).expect("free");
        directory.store(b"old").expect("written");
        std::fs::create_dir(folder.path().join(super::ASIDE_NAME)).expect("in the way");
        let _ = directory.store(b"new").expect_err("a folder is in the way");
        assert_eq!(directory.load().expect("readable"), Some(b"old".to_vec()));
    }
}
