//! Random commands, on the nodes that think they are the primaries of the keys.

use std::collections::BTreeMap;

use fulmar_cluster::Range;
use fulmar_cluster::replication::Write;

use crate::random::Random;
use crate::world::{TAGS, World};

/// Keys of each kind under each tag.
const KEYS_COUNT: usize = 12;
/// Writes that are remembered, to see whether they are where they were acknowledged.
const RECORDED_MAX: usize = 64;

/// A write whose value tells its version.
pub(crate) struct Recorded {
    pub(crate) write: Write,
    pub(crate) key: Vec<u8>,
    pub(crate) version: u64,
}

/// What a run of commands knows.
pub(crate) struct Client {
    version: u64,
    pub(crate) recorded: Vec<Recorded>,
    /// From which version on a key may be missing.
    pub(crate) absent: BTreeMap<Vec<u8>, u64>,
    flushed: u64,
    pub(crate) value_bytes_max: usize,
    pub(crate) key_bytes_max: usize,
    pub(crate) flushes: bool,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            version: 0,
            recorded: Vec::new(),
            absent: BTreeMap::new(),
            flushed: 0,
            value_bytes_max: 1 << 20,
            key_bytes_max: 0,
            flushes: true,
        }
    }

    /// From which version on `key` may be missing.
    pub(crate) fn absent_from(&self, key: &[u8]) -> u64 {
        self.absent.get(key).copied().unwrap_or(0).max(self.flushed)
    }

    fn key(&self, random: &mut Random, kind: char, tag: &str) -> Vec<u8> {
        let mut key = format!("{{{tag}}}{kind}{}", random.below(KEYS_COUNT)).into_bytes();
        if self.key_bytes_max > 0 {
            // The same key always has the same length.
            let length = (usize::from(key[key.len() - 1]) * 7_919) % self.key_bytes_max;
            key.resize(key.len().max(length), b'k');
        }
        key
    }

    fn value(&mut self, random: &mut Random) -> Vec<u8> {
        self.version += 1;
        let bytes = match random.below(40) {
            0 => random.below(self.value_bytes_max),
            1..4 => 60_000 + random.below(10_000),
            4..10 => random.below(10_000),
            _ => random.below(100),
        };
        let mut value = self.version.to_le_bytes().to_vec();
        value.resize(8 + bytes.min(self.value_bytes_max), b'v');
        value
    }

    /// Runs a command on some node that is the primary of a tag's range.
    pub(crate) fn run_one(&mut self, world: &mut World, random: &mut Random) {
        let tag = TAGS[random.below(TAGS.len())];
        let range = Range::of(tag.as_bytes());
        let primaries: Vec<usize> = (0..world.nodes.len())
            .filter(|&index| world.nodes[index].is_primary(range))
            .collect();
        if let Some(&index) = random.pick(&primaries) {
            self.run(world, random, index, tag);
        }
    }

    fn run(&mut self, world: &mut World, random: &mut Random, index: usize, tag: &str) {
        let number = random.below(100).to_string().into_bytes();
        let key = self.key(random, 'm', tag);
        match random.below(24) {
            0..10 => self.set_versioned(world, random, index, tag),
            10..12 => self.delete_versioned(world, random, index, tag),
            12 => self.expire_versioned(world, random, index, tag),
            13 => {
                let suffix = self.value(random);
                world.run(index, &[b"APPEND", &key, &suffix[8..]]);
            }
            14 => {
                let part = self.value(random);
                world.run(index, &[b"SETRANGE", &key, &number, &part]);
            }
            15 => {
                let key = self.key(random, 'n', tag);
                world.run(index, &[b"INCRBY", &key, &number]);
            }
            16 => {
                let key = self.key(random, 'n', tag);
                world.run(index, &[b"INCRBYFLOAT", &key, b"1.5"]);
            }
            17 => {
                world.run(index, &[b"GETDEL", &key]);
            }
            18 => {
                world.run(index, &[b"PEXPIRE", &key, b"3600000"]);
            }
            19 => {
                world.run(index, &[b"PERSIST", &key]);
            }
            20 => {
                world.run(index, &[b"GETEX", &key, b"PX", b"7200000"]);
            }
            21 => {
                let (one, other) = (self.value(random), self.value(random));
                let more = self.key(random, 'm', tag);
                world.run(index, &[b"MSET", &key, &one, &more, &other]);
            }
            22 => {
                let value = self.value(random);
                world.run(index, &[b"SET", &key, &value, b"PX", b"5400000"]);
            }
            _ => {
                if self.flushes && random.one_in(40) {
                    self.version += 1;
                    self.flushed = self.version;
                    world.run(index, &[b"FLUSHALL"]);
                }
            }
        }
    }

    fn record(&mut self, world: &World, index: usize, key: Vec<u8>) {
        let replication = world.nodes[index].replication(Range::of(&key));
        let write = replication.last_write().expect("it was just written");
        assert_eq!(write.range, Range::of(&key));
        if self.recorded.len() == RECORDED_MAX {
            self.recorded.remove(0);
        }
        let version = self.version;
        self.recorded.push(Recorded {
            write,
            key,
            version,
        });
    }

    fn set_versioned(&mut self, world: &mut World, random: &mut Random, index: usize, tag: &str) {
        let key = self.key(random, 'v', tag);
        let value = self.value(random);
        let reply = if random.one_in(8) {
            self.absent.insert(key.clone(), self.version);
            world.run(index, &[b"SET", &key, &value, b"PX", b"20"])
        } else {
            world.run(index, &[b"SET", &key, &value])
        };
        if reply == b"+OK\r\n" {
            self.record(world, index, key);
        }
    }

    fn delete_versioned(
        &mut self,
        world: &mut World,
        random: &mut Random,
        index: usize,
        tag: &str,
    ) {
        let key = self.key(random, 'v', tag);
        self.version += 1;
        self.absent.insert(key.clone(), self.version);
        world.run(index, &[b"DEL", &key]);
        self.record(world, index, key);
    }

    fn expire_versioned(
        &mut self,
        world: &mut World,
        random: &mut Random,
        index: usize,
        tag: &str,
    ) {
        let key = self.key(random, 'v', tag);
        self.version += 1;
        self.absent.insert(key.clone(), self.version);
        world.run(index, &[b"PEXPIRE", &key, b"30"]);
    }
}

/// The version in a value.
pub(crate) fn version_of(value: &[u8]) -> u64 {
    value
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
