//! Random commands against a model: a map with deadlines. Time is set, keys lie in several shards.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, prop_assert_eq, prop_oneof, proptest};

use crate::support::{Client, Rig};

const KEYS_COUNT: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Set {
        key: u8,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
    },
    SetKeepTtl {
        key: u8,
        value: Vec<u8>,
    },
    SetNx {
        key: u8,
        value: Vec<u8>,
    },
    Get {
        key: u8,
    },
    GetDel {
        key: u8,
    },
    MGet {
        keys: Vec<u8>,
    },
    MSet {
        pairs: Vec<(u8, Vec<u8>)>,
    },
    MSetNx {
        pairs: Vec<(u8, Vec<u8>)>,
    },
    Append {
        key: u8,
        value: Vec<u8>,
    },
    GetRange {
        key: u8,
        start: i64,
        end: i64,
    },
    Del {
        keys: Vec<u8>,
    },
    Exists {
        keys: Vec<u8>,
    },
    PExpire {
        key: u8,
        ms: i32,
    },
    PTtl {
        key: u8,
    },
    Ttl {
        key: u8,
    },
    Persist {
        key: u8,
    },
    Walk {
        count: u8,
    },
    RandomKey,
    FlushAll,
    Advance {
        ms: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS_COUNT;
    let keys = || proptest::collection::vec(0..KEYS_COUNT, 1..6);
    let value = || {
        prop_oneof![
            5 => proptest::collection::vec(0..=255u8, 0..40),
            1 => (0usize..40_000).prop_map(|count| vec![b'v'; count]),
        ]
    };
    let pairs = move || proptest::collection::vec((0..KEYS_COUNT, value()), 1..5);
    let ttl_ms = proptest::option::of(1..300u32);
    prop_oneof![
        4 => (key(), value(), ttl_ms).prop_map(|(key, value, ttl_ms)| Step::Set { key, value, ttl_ms }),
        1 => (key(), value()).prop_map(|(key, value)| Step::SetKeepTtl { key, value }),
        1 => (key(), value()).prop_map(|(key, value)| Step::SetNx { key, value }),
        3 => key().prop_map(|key| Step::Get { key }),
        1 => key().prop_map(|key| Step::GetDel { key }),
        1 => keys().prop_map(|keys| Step::MGet { keys }),
        1 => pairs().prop_map(|pairs| Step::MSet { pairs }),
        1 => pairs().prop_map(|pairs| Step::MSetNx { pairs }),
        2 => (key(), value()).prop_map(|(key, value)| Step::Append { key, value }),
        1 => (key(), -50_000..50_000i64, -50_000..50_000i64)
            .prop_map(|(key, start, end)| Step::GetRange { key, start, end }),
        1 => keys().prop_map(|keys| Step::Del { keys }),
        1 => keys().prop_map(|keys| Step::Exists { keys }),
        2 => (key(), -20..300i32).prop_map(|(key, ms)| Step::PExpire { key, ms }),
        1 => key().prop_map(|key| Step::PTtl { key }),
        1 => key().prop_map(|key| Step::Ttl { key }),
        1 => key().prop_map(|key| Step::Persist { key }),
        1 => (1..20u8).prop_map(|count| Step::Walk { count }),
        1 => proptest::strategy::Just(Step::RandomKey),
        1 => proptest::strategy::Just(Step::FlushAll),
        3 => (0..120u32).prop_map(|ms| Step::Advance { ms }),
    ]
}

fn name(key: u8) -> Vec<u8> {
    format!("key:{key}").into_bytes()
}

/// A mini-Redis: every key with its value and its deadline.
#[derive(Default)]
struct Model {
    items: BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>,
    now: u64,
}

impl Model {
    fn advance(&mut self, now: u64) {
        self.now = now;
        self.items
            .retain(|_, (_, deadline)| deadline.is_none_or(|deadline| now < deadline));
    }

    fn value(&self, key: u8) -> Option<&Vec<u8>> {
        self.items.get(&name(key)).map(|(value, _)| value)
    }

    fn bulk(&self, key: u8) -> Vec<u8> {
        self.value(key)
            .map_or_else(|| b"$-1\r\n".to_vec(), |value| bulk(value))
    }

    fn ttl_ms(&self, key: u8) -> i64 {
        match self.items.get(&name(key)) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(deadline))) => (deadline - self.now).cast_signed(),
        }
    }
}

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

/// The node under test beside the model.
struct Pair {
    rig: Rig,
    client: Client,
    model: Model,
}

impl Pair {
    fn new(shards_count: u16) -> Self {
        let rig = Rig::new(shards_count);
        let (client, now) = (rig.client(), rig.now.time.0);
        Self {
            rig,
            client,
            model: Model {
                now,
                ..Model::default()
            },
        }
    }

    fn run(&mut self, args: &[&[u8]]) -> Vec<u8> {
        self.rig.run(&mut self.client, args)
    }

    fn run_keys(&mut self, command: &str, keys: &[u8]) -> Vec<u8> {
        let names: Vec<Vec<u8>> = keys.iter().copied().map(name).collect();
        let mut args = vec![command.as_bytes()];
        args.extend(names.iter().map(Vec::as_slice));
        self.run(&args)
    }

    fn run_pairs(&mut self, command: &str, pairs: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let names: Vec<Vec<u8>> = pairs.iter().map(|(key, _)| name(*key)).collect();
        let mut args = vec![command.as_bytes()];
        for (name, (_, value)) in names.iter().zip(pairs) {
            args.extend([name.as_slice(), value.as_slice()]);
        }
        self.run(&args)
    }

    fn store_pairs(&mut self, pairs: &[(u8, Vec<u8>)]) {
        for (key, value) in pairs {
            self.model.items.insert(name(*key), (value.clone(), None));
        }
    }

    /// Does one step on both sides; gives both replies.
    fn step(&mut self, step: &Step) -> (Vec<u8>, Vec<u8>) {
        match step {
            Step::Get { key } => (self.run(&[b"GET", &name(*key)]), self.model.bulk(*key)),
            Step::MGet { keys } => {
                let items: Vec<_> = keys.iter().map(|&key| self.model.bulk(key)).collect();
                (self.run_keys("MGET", keys), array(&items))
            }
            Step::Exists { keys } => {
                let count = keys
                    .iter()
                    .filter(|&&key| self.model.value(key).is_some())
                    .count();
                (
                    self.run_keys("EXISTS", keys),
                    integer(count.cast_signed() as i64),
                )
            }
            Step::GetRange { key, start, end } => {
                let (from, to) = (start.to_string(), end.to_string());
                let args: [&[u8]; 4] = [b"GETRANGE", &name(*key), from.as_bytes(), to.as_bytes()];
                let empty = Vec::new();
                let value = self.model.value(*key).unwrap_or(&empty);
                let expected = bulk(range(value, *start, *end));
                (self.run(&args), expected)
            }
            Step::PTtl { key } => (
                self.run(&[b"PTTL", &name(*key)]),
                integer(self.model.ttl_ms(*key)),
            ),
            Step::Ttl { key } => {
                let ms = self.model.ttl_ms(*key);
                let seconds = if ms < 0 { ms } else { (ms + 500) / 1_000 };
                (self.run(&[b"TTL", &name(*key)]), integer(seconds))
            }
            Step::Walk { count } => self.walk(*count),
            Step::RandomKey => self.random_key(),
            Step::Advance { ms } => {
                self.rig.advance_ms(*ms);
                self.model.advance(self.rig.now.time.0);
                (Vec::new(), Vec::new())
            }
            write => self.write(write),
        }
    }

    fn write(&mut self, step: &Step) -> (Vec<u8>, Vec<u8>) {
        let ok = b"+OK\r\n".to_vec();
        match step {
            Step::Set {
                key,
                value,
                ttl_ms: None,
            } => {
                self.model.items.insert(name(*key), (value.clone(), None));
                (self.run(&[b"SET", &name(*key), value]), ok)
            }
            Step::Set {
                key,
                value,
                ttl_ms: Some(ms),
            } => {
                let deadline = self.model.now + u64::from(*ms);
                self.model
                    .items
                    .insert(name(*key), (value.clone(), Some(deadline)));
                (
                    self.run(&[b"SET", &name(*key), value, b"PX", ms.to_string().as_bytes()]),
                    ok,
                )
            }
            Step::SetKeepTtl { key, value } => {
                let deadline = self.model.items.get(&name(*key)).and_then(|item| item.1);
                self.model
                    .items
                    .insert(name(*key), (value.clone(), deadline));
                (self.run(&[b"SET", &name(*key), value, b"KEEPTTL"]), ok)
            }
            Step::SetNx { key, value } => {
                let is_new = self.model.value(*key).is_none();
                if is_new {
                    self.model.items.insert(name(*key), (value.clone(), None));
                }
                (
                    self.run(&[b"SETNX", &name(*key), value]),
                    integer(i64::from(is_new)),
                )
            }
            Step::GetDel { key } => {
                let expected = self.model.bulk(*key);
                self.model.items.remove(&name(*key));
                (self.run(&[b"GETDEL", &name(*key)]), expected)
            }
            Step::MSet { pairs } => {
                self.store_pairs(pairs);
                (self.run_pairs("MSET", pairs), ok)
            }
            Step::MSetNx { pairs } => {
                let is_free = pairs
                    .iter()
                    .all(|(key, _)| self.model.value(*key).is_none());
                if is_free {
                    self.store_pairs(pairs);
                }
                (self.run_pairs("MSETNX", pairs), integer(i64::from(is_free)))
            }
            Step::Append { key, value } => {
                let item = self.model.items.entry(name(*key)).or_default();
                item.0.extend_from_slice(value);
                let expected = integer(item.0.len().cast_signed() as i64);
                (self.run(&[b"APPEND", &name(*key), value]), expected)
            }
            Step::Del { keys } => {
                let mut count = 0;
                for key in keys {
                    count += i64::from(self.model.items.remove(&name(*key)).is_some());
                }
                (self.run_keys("DEL", keys), integer(count))
            }
            Step::PExpire { key, ms } => {
                let now = self.model.now;
                let found = self.model.items.get_mut(&name(*key)).map(|item| {
                    item.1 = Some(now.saturating_add_signed(i64::from(*ms)));
                });
                self.model.advance(now);
                let ms = ms.to_string();
                let reply = self.run(&[b"PEXPIRE", &name(*key), ms.as_bytes()]);
                (reply, integer(i64::from(found.is_some())))
            }
            Step::Persist { key } => {
                let item = self.model.items.get_mut(&name(*key));
                let had_deadline = item.is_some_and(|item| item.1.take().is_some());
                (
                    self.run(&[b"PERSIST", &name(*key)]),
                    integer(i64::from(had_deadline)),
                )
            }
            Step::FlushAll => {
                self.model.items.clear();
                (self.run(&[b"FLUSHALL"]), ok)
            }
            _ => unreachable!("reads are elsewhere"),
        }
    }

    /// SCAN from its start to its end, and KEYS: both find all live keys and no other.
    fn walk(&mut self, count: u8) -> (Vec<u8>, Vec<u8>) {
        let mut found = BTreeSet::new();
        let mut cursor = b"0".to_vec();
        for _ in 0..1_000_000 {
            let count = count.to_string();
            let reply = self.run(&[
                b"SCAN",
                &cursor,
                b"COUNT",
                count.as_bytes(),
                b"MATCH",
                b"key:*",
            ]);
            let mut strings = bulks(&reply).into_iter();
            cursor = strings.next().expect("a cursor comes first");
            found.extend(strings);
            if cursor == b"0" {
                break;
            }
        }
        assert_eq!(cursor, b"0", "a walk ends");
        let keys: BTreeSet<_> = bulks(&self.run(&[b"KEYS", b"*"])).into_iter().collect();
        assert_eq!(keys, found);
        let live: Vec<Vec<u8>> = self.model.items.keys().map(|key| bulk(key)).collect();
        let found: Vec<Vec<u8>> = found.iter().map(|key| bulk(key)).collect();
        (array(&found), array(&live))
    }

    fn random_key(&mut self) -> (Vec<u8>, Vec<u8>) {
        let reply = self.run(&[b"RANDOMKEY"]);
        match bulks(&reply).pop() {
            Some(key) => {
                assert!(
                    self.model.items.contains_key(&key),
                    "{}",
                    key.escape_ascii()
                );
                (Vec::new(), Vec::new())
            }
            None => (array(&[]), array(&vec![Vec::new(); self.model.items.len()])),
        }
    }
}

/// All bulk strings of a reply, in order.
fn bulks(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = reply;
    while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        rest = after;
        if let Some(count) = line.strip_prefix(b"$") {
            let count = std::str::from_utf8(count).expect("digits");
            if let Ok(count) = count.parse::<usize>() {
                found.push(after[..count].to_vec());
                rest = &after[count + 2..];
            }
        }
    }
    found
}

/// GETRANGE, one byte at a time.
fn range(value: &[u8], start: i64, end: i64) -> &[u8] {
    let count = value.len().cast_signed() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let place = |at: i64| if at < 0 { (at + count).max(0) } else { at };
    let (start, end) = (place(start), place(end));
    let inside: Vec<usize> = (0..value.len())
        .filter(|&at| (start..=end).contains(&(at.cast_signed() as i64)))
        .collect();
    match (inside.first(), inside.last()) {
        (Some(&first), Some(&last)) => &value[first..=last],
        _ => &[],
    }
}

proptest! {
    #[test]
    fn shards_reply_as_the_model_does(
        shards_count in 1u16..6,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut pair = Pair::new(shards_count);
        for (index, step) in steps.iter().enumerate() {
            let (ours, expected) = pair.step(step);
            prop_assert_eq!(
                ours.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "step {}, {:?}", index, step
            );
        }
        pair.rig.check_integrity();
    }
}
