//! A node's directory: a lock, and one file with places for two states, which take turns.
//!
//! ```text
//! place: magic 8 B | crc32 u32 of what follows | length u32 | number u64 | state    (little-endian)
//! ```
//! A new state is written over the older one and synced: in place, and at about the same size, so that a
//! file system with a journal has nothing to commit but these bytes. A rename waits for what all others
//! write. A crash in the middle damages the place of a state that nobody was told is on the disk; the other
//! one counts. A newest state that the disk itself lost can't be told from that: it is logged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use fulmar_cluster::topology::TOPOLOGY_BYTES_MAX;
use rustix::fs::{FlockOperation, flock};

const FILE_NAME: &str = "node.state";
/// Held by the process that uses the directory.
const LOCK_NAME: &str = "node.lock";
/// Longest state: a topology and votes on another one, and some.
const STATE_BYTES_MAX: usize = 1 << 20;
/// From one place to the next.
const PLACE_BYTES: usize = STATE_BYTES_MAX + 4096;
const _: () = assert!(2 * TOPOLOGY_BYTES_MAX + 256 <= STATE_BYTES_MAX);
const _: () =
    assert!(PLACE_BYTES.is_multiple_of(4096) && PLACE_BYTES >= HEADER_BYTES + STATE_BYTES_MAX);
/// Names the format and its version.
const MAGIC: &[u8; 8] = b"FULMARs\x01";
const HEADER_BYTES: usize = 24;
/// Where the checksum ends, and what it covers begins.
const COVERED_FROM: usize = 12;

/// A directory, locked by this process.
pub(crate) struct Directory {
    path: PathBuf,
    /// The number of the newest state; 0 if there is none.
    newest: u64,
    /// Unlocked when it is closed.
    _lock: File,
}

/// What a place has.
enum Place {
    Blank,
    /// Not written by this version.
    Foreign,
    /// Written in part.
    Damaged,
    State(u64, Vec<u8>),
}

impl Directory {
    /// Makes the directory and its file if they are not there, and locks it.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::create(path.join(LOCK_NAME))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let mut options = OpenOptions::new();
        options
            .create(true)
            .append(true)
            .open(path.join(FILE_NAME))?;
        File::open(path)?.sync_all()?;
        Ok(Self {
            path: path.to_owned(),
            newest: 0,
            _lock: lock,
        })
    }

    /// What was stored last, if anything was.
    ///
    /// # Errors
    /// Those of reading, and `InvalidData` if there is something else, or both states are damaged.
    pub(crate) fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = File::open(self.path.join(FILE_NAME))?;
        // What a process that was killed has written and not synced: it must not be the only one.
        file.sync_data()?;
        let mut bytes = Vec::new();
        file.take(2 * PLACE_BYTES as u64).read_to_end(&mut bytes)?;
        let (first, second) = bytes.split_at(bytes.len().min(PLACE_BYTES));
        let places = [Place::decode(first), Place::decode(second)];
        if places
            .iter()
            .any(|place| matches!(place, Place::Foreign | Place::Damaged))
        {
            tracing::warn!(path = %self.path.display(), "one of two states in the node directory is damaged");
        }
        if let [Place::Blank | Place::Damaged, Place::Blank] = places {
            // No node has said anything before its first state is there.
            return Ok(None);
        }
        let states = places.into_iter().filter_map(|place| match place {
            Place::State(number, state) => Some((number, state)),
            _ => None,
        });
        let newest = states.max_by_key(|(number, _)| *number);
        let (number, state) = newest.ok_or(io::ErrorKind::InvalidData)?;
        self.newest = number;
        Ok(Some(state))
    }

    /// Stores a state after [`load`](Self::load); it is on the disk when this returns.
    ///
    /// # Errors
    /// Those of writing, and `InvalidInput` if it is too long; the newest state is still there.
    pub(crate) fn store(&mut self, state: &[u8]) -> io::Result<()> {
        if state.len() > STATE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let number = self.newest + 1;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len());
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(0);
        bytes.put_u32_le(u32::try_from(state.len()).expect("checked above"));
        bytes.put_u64_le(number);
        bytes.put_slice(state);
        let checksum = crc32fast::hash(&bytes[COVERED_FROM..]);
        bytes[MAGIC.len()..COVERED_FROM].copy_from_slice(&checksum.to_le_bytes());
        let file = OpenOptions::new()
            .write(true)
            .open(self.path.join(FILE_NAME))?;
        file.write_all_at(&bytes, (number - 1) % 2 * PLACE_BYTES as u64)?;
        file.sync_data()?;
        self.newest = number;
        Ok(())
    }
}

impl Place {
    fn decode(bytes: &[u8]) -> Self {
        let header = &bytes[..bytes.len().min(HEADER_BYTES)];
        if header.iter().all(|&byte| byte == 0) {
            return Self::Blank;
        }
        // A header lies within a sector, which is written as a whole or not at all.
        let Some(mut fields) = header
            .strip_prefix(MAGIC)
            .filter(|_| header.len() == HEADER_BYTES)
        else {
            return Self::Foreign;
        };
        let (checksum, length, number) = (
            fields.get_u32_le(),
            fields.get_u32_le() as usize,
            fields.get_u64_le(),
        );
        if length > STATE_BYTES_MAX {
            return Self::Foreign;
        }
        match bytes.get(COVERED_FROM..HEADER_BYTES + length) {
            Some(covered) if crc32fast::hash(covered) == checksum => {
                Self::State(number, bytes[HEADER_BYTES..HEADER_BYTES + length].to_vec())
            }
            _ => Self::Damaged,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::ErrorKind;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::{Directory, FILE_NAME, HEADER_BYTES, PLACE_BYTES, STATE_BYTES_MAX};

    /// Puts something in the way of the file, or takes it away again.
    pub(crate) fn obstruct(folder: &Path, is_obstructed: bool) {
        let (file, aside) = (folder.join(FILE_NAME), folder.join("aside"));
        if is_obstructed {
            fs::rename(&file, aside).expect("moved");
            fs::create_dir(file).expect("made");
        } else {
            fs::remove_dir(&file).expect("removed");
            fs::rename(aside, file).expect("moved back");
        }
    }

    fn loaded(folder: &Path) -> Result<Option<Vec<u8>>, ErrorKind> {
        let mut directory = Directory::open(folder).expect("free");
        directory.load().map_err(|error| error.kind())
    }

    #[test]
    fn one_process_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = Directory::open(folder.path()).expect("free");
        let second = Directory::open(folder.path()).err().expect("it is locked");
        assert_eq!(second.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn the_newest_state_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(loaded(folder.path()), Ok(None));
        for count in [1usize, 5_000, 0, 3, STATE_BYTES_MAX, 2] {
            let state = vec![7; count];
            let mut directory = Directory::open(folder.path()).expect("free");
            directory.load().expect("readable");
            directory.store(&state).expect("written");
            directory.store(&state).expect("written over the other one");
            directory.store(&state).expect("and again");
            drop(directory);
            assert_eq!(loaded(folder.path()), Ok(Some(state)));
        }
        let mut directory = Directory::open(folder.path()).expect("free");
        directory.load().expect("readable");
        let error = directory.store(&vec![0; STATE_BYTES_MAX + 1]);
        let _ = error.expect_err("too long");
        drop(directory);
        assert_eq!(loaded(folder.path()), Ok(Some(vec![7; 2])));
    }

    /// However much of a state a crash leaves: the one before it is there, and the next ones can be stored.
    #[test]
    fn a_state_that_was_cut_off_does_not_count() {
        let states: [&[u8]; 3] = [b"the first", b"the second state", b"the third"];
        for before in 0..3 {
            for cut in (HEADER_BYTES..HEADER_BYTES + states[before].len()).chain([0]) {
                let folder = tempfile::tempdir().expect("a folder");
                let mut directory = Directory::open(folder.path()).expect("free");
                for state in &states[..=before] {
                    directory.store(state).expect("written");
                }
                drop(directory);
                let place = (before % 2 * PLACE_BYTES) as u64;
                let path = folder.path().join(FILE_NAME);
                let file = OpenOptions::new().write(true).open(path).expect("there");
                let rest = vec![0; HEADER_BYTES + states[before].len() - cut];
                file.write_all_at(&rest, place + cut as u64)
                    .expect("written");
                let expected = before.checked_sub(1).map(|last| states[last].to_vec());
                let mut directory = Directory::open(folder.path()).expect("free");
                assert_eq!(
                    directory.load().expect("readable"),
                    expected,
                    "{before} {cut}"
                );
                directory.store(b"after it").expect("written");
                drop(directory);
                assert_eq!(loaded(folder.path()), Ok(Some(b"after it".to_vec())));
            }
        }
    }

    #[test]
    fn what_is_damaged_or_not_a_state_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE_NAME), b"of something else").expect("written");
        assert_eq!(loaded(folder.path()), Err(ErrorKind::InvalidData));
        fs::remove_file(folder.path().join(FILE_NAME)).expect("removed");
        let mut directory = Directory::open(folder.path()).expect("free");
        directory.store(b"one").expect("written");
        directory.store(b"two").expect("written");
        drop(directory);
        let path = folder.path().join(FILE_NAME);
        let file = OpenOptions::new().write(true).open(path).expect("there");
        for place in [0, PLACE_BYTES] {
            file.write_all_at(b"x", (place + HEADER_BYTES) as u64)
                .expect("written");
        }
        assert_eq!(loaded(folder.path()), Err(ErrorKind::InvalidData));
    }

    #[test]
    fn a_state_that_cannot_be_stored_leaves_the_last() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut directory = Directory::open(folder.path()).expect("free");
        directory.store(b"old").expect("written");
        obstruct(folder.path(), true);
        let _ = directory
            .store(b"new")
            .expect_err("something is in the way");
        obstruct(folder.path(), false);
        assert_eq!(directory.load().expect("readable"), Some(b"old".to_vec()));
    }
}
