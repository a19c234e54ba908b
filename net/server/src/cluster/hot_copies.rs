//! Values of other nodes' hot keys, which this core may give its clients by itself for a moment. Pure.
//!
//! ```text
//! GET --no copy--> owner --reply, "keep L ms"--> copy --> answers GETs until L after the request was sent
//!                                                 |
//!               a write of the key comes by ------+--> spent
//! ```
//! The owner read a value after the request for it was sent: no copy gives what was replaced more than L before.
//! What a client has written through this core it reads from here or from the owner, never an older value: a
//! reply to what was asked before the write is not kept.
//!
//! In a lease's last quarter a read goes to the owner again, so that not all of them do at its end. It tells how
//! many reads the copy has answered since the last one. Who asks so gets no answers from the copy any more:
//! they would come behind the owner's, which may be newer.

use std::collections::HashMap;
use std::hash::BuildHasher;

use fulmar_cluster::{NodeId, Range, Time};
use fulmar_protocol::command::table::{Scope, lookup};
use fulmar_protocol::resp::{Token, next_token};

use super::bundle::{bundled, take_command};
use crate::ring::ConnectionId;

/// Copies of one core.
const COPIES_MAX: usize = 256;
/// Their bytes: at most this,
const BYTES_MAX: usize = 4 << 20;
/// and at most one part in so many of the core's memory.
const MEMORY_SHARE: usize = 64;
/// How long the reads that a spent copy has answered wait to be told.
const SPENT_MS: u64 = 1_000;
/// Keys whose last writes are told apart; more share a place, and then forbid each other's copies.
const WRITES_COUNT: usize = 1_024;
/// What a copy takes beside its key and value.
const OVERHEAD_BYTES: usize = size_of::<HotCopy>() + 2 * size_of::<Box<[u8]>>();

#[derive(Debug)]
struct HotCopy {
    /// `None`: it is spent.
    value: Option<Box<[u8]>>,
    /// The owner that gave it.
    node: NodeId,
    until: Time,
    /// From when on a read is to go to the owner, and the time from one such to the next.
    renew_at: Time,
    renew_ms: u64,
    /// Whose reads went there.
    renewers: Vec<ConnectionId>,
    /// Reads that it has answered since the owner was last told.
    reads: u32,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct HotCopies {
    copies: HashMap<Box<[u8]>, HotCopy>,
    bytes: usize,
    bytes_max: usize,
    /// Longest lease that is taken.
    lease_ms_max: u16,
    /// By the key's hash, when one was last written through this core.
    written: Box<[Time]>,
    all_written: Time,
    reads: u64,
}

/// A read that was sent to a key's owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentRead {
    pub(crate) node: NodeId,
    pub(crate) at: Time,
}

impl HotCopies {
    /// Of a core with so much memory, for leases of at most `lease_ms_max`.
    pub(crate) fn new(lease_ms_max: u16, memory_bytes: usize) -> Self {
        Self {
            copies: HashMap::new(),
            bytes: 0,
            bytes_max: BYTES_MAX.min(memory_bytes / MEMORY_SHARE),
            lease_ms_max,
            written: vec![Time(0); WRITES_COUNT].into(),
            all_written: Time(0),
            reads: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// How many there are that were not spent at the last tick.
    pub(crate) fn count(&self) -> usize {
        self.copies
            .values()
            .filter(|copy| copy.value.is_some())
            .count()
    }

    /// Reads that were answered from here, in all.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Memory held.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes
    }

    // --- reads ---

    /// The value of a key, if this core may give it to a client. `None`: ask the owner.
    pub(crate) fn read(
        &mut self,
        key: &[u8],
        connection: ConnectionId,
        now: Time,
    ) -> Option<&[u8]> {
        if self.copies.is_empty() {
            return None;
        }
        let copy = self.copies.get_mut(key)?;
        let value = copy.value.as_deref()?;
        if now >= copy.until || copy.renewers.contains(&connection) {
            return None;
        }
        if now >= copy.renew_at {
            // If that one does not get through, another tries it.
            copy.renew_at = now.plus_ms(copy.renew_ms);
            copy.renewers.push(connection);
            return None;
        }
        copy.reads = copy.reads.saturating_add(1);
        self.reads += 1;
        Some(value)
    }

    /// A GET of a key is about to be sent to its owner: how many reads the key's copy has answered since the
    /// owner was last told.
    pub(crate) fn take_reads(&mut self, key: &[u8]) -> u32 {
        let copy = self.copies.get_mut(key);
        copy.map_or(0, |copy| std::mem::take(&mut copy.reads))
    }

    /// The reply to a GET of `key`, and for how many milliseconds from when it was sent it may be kept. What
    /// was kept before is spent in any case: the reply may be newer.
    pub(crate) fn handle_reply(
        &mut self,
        key: &[u8],
        mut reply: &[u8],
        keep_ms: Option<u16>,
        read: SentRead,
        now: Time,
    ) {
        self.spend(key, now);
        let (Some(ms), Some(Token::Bulk(value))) = (keep_ms, next_token(&mut reply)) else {
            return;
        };
        let ms = u64::from(ms.min(self.lease_ms_max));
        let until = read.at.plus_ms(ms);
        let written = self.written[self.place(key)].max(self.all_written);
        if written >= read.at || until <= now {
            return;
        }
        let before = self.copies.remove(key);
        let reads = before.map_or(0, |copy| {
            self.bytes -= copy.bytes(key);
            copy.reads
        });
        let bytes = OVERHEAD_BYTES + key.len() + value.len();
        if self.copies.len() >= COPIES_MAX || self.bytes + bytes > self.bytes_max {
            return;
        }
        self.bytes += bytes;
        let copy = HotCopy {
            value: Some(value.into()),
            node: read.node,
            until,
            renew_at: read.at.plus_ms(ms - ms / 4),
            renew_ms: (ms / 8).max(1),
            renewers: Vec::new(),
            reads,
        };
        self.copies.insert(key.into(), copy);
    }

    // --- what ends a copy ---

    /// A command comes by on its way to another node: what it writes is spent, and a reply to what was asked
    /// before it is not kept.
    pub(crate) fn handle_command(&mut self, args: &[&[u8]], now: Time) {
        let Some(mut queue) = bundled(args) else {
            return self.note_writes(args, now);
        };
        while let Some(args) = take_command(&mut queue) {
            self.note_writes(args, now);
        }
    }

    fn note_writes(&mut self, args: &[&[u8]], now: Time) {
        let Ok(spec) = lookup(args) else {
            return;
        };
        if !spec.is_write() {
            return;
        }
        if spec.scope == Scope::AllShards {
            self.all_written = now;
            return self.spend_where(now, |_, _| true);
        }
        for key in spec.keys_in(args) {
            let place = self.place(key);
            self.written[place] = now;
            self.spend(key, now);
        }
    }

    fn place(&self, key: &[u8]) -> usize {
        let hash = self.copies.hasher().hash_one(key);
        usize::try_from(hash % WRITES_COUNT as u64).expect("small")
    }

    /// Keeps those alone whose owner has not changed: what this node wrote as the owner meanwhile is newer.
    pub(crate) fn handle_owners(&mut self, now: Time, is_owner: impl Fn(NodeId, Range) -> bool) {
        self.spend_where(now, |key, copy| !is_owner(copy.node, Range::of(key)));
    }

    /// Drops the values whose lease is over, and what was not told in time of those that were spent.
    pub(crate) fn expire(&mut self, now: Time) {
        self.spend_where(now, |_, copy| copy.until <= now);
        let bytes = &mut self.bytes;
        self.copies.retain(|key, copy| {
            let is_told = copy.reads == 0 || now >= copy.until.plus_ms(SPENT_MS);
            let stays = copy.value.is_some() || !is_told;
            if !stays {
                *bytes -= copy.bytes(key);
            }
            stays
        });
    }

    fn spend_where(&mut self, now: Time, is_over: impl Fn(&[u8], &HotCopy) -> bool) {
        for (key, copy) in &mut self.copies {
            if is_over(key, copy) {
                self.bytes -= copy.spend(now);
            }
        }
    }

    fn spend(&mut self, key: &[u8], now: Time) {
        if let Some(copy) = self.copies.get_mut(key) {
            self.bytes -= copy.spend(now);
        }
    }
}

impl HotCopy {
    /// Gives no value any more, and remembers the reads that are to be told; the bytes of its value.
    fn spend(&mut self, now: Time) -> usize {
        let value = self.value.take();
        value.map_or(0, |value| {
            self.until = self.until.min(now);
            value.len()
        })
    }

    fn bytes(&self, key: &[u8]) -> usize {
        OVERHEAD_BYTES + key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use fulmar_cluster::{NodeId, Range, Time};

    use super::{
        BYTES_MAX, COPIES_MAX, HotCopies, MEMORY_SHARE, OVERHEAD_BYTES, SPENT_MS, SentRead,
    };
    use crate::ring::ConnectionId;

    const LEASE_MS: u16 = 100;
    const OWNER: NodeId = NodeId(2);
    /// Of the slow network, one way.
    const DELAY_MS_MAX: u64 = 40;

    fn copies() -> HotCopies {
        HotCopies::new(LEASE_MS, 1 << 30)
    }

    fn read_at(ms: u64) -> SentRead {
        SentRead {
            node: OWNER,
            at: Time(ms),
        }
    }

    fn client(number: u32) -> ConnectionId {
        ConnectionId::new(number, 0)
    }

    /// What client 1 reads.
    fn read<'c>(copies: &'c mut HotCopies, key: &[u8], now: u64) -> Option<&'c [u8]> {
        copies.read(key, client(1), Time(now))
    }

    fn bulk(value: &str) -> Vec<u8> {
        format!("${}\r\n{value}\r\n", value.len()).into_bytes()
    }

    fn keep(copies: &mut HotCopies, key: &[u8], value: &str, sent: u64, now: u64) {
        let keep_ms = Some(LEASE_MS);
        copies.handle_reply(key, &bulk(value), keep_ms, read_at(sent), Time(now));
    }

    #[test]
    fn a_lease_counts_from_when_the_request_was_sent() {
        let mut copies = copies();
        keep(&mut copies, b"k", "v", 1_000, 1_060);
        assert_eq!(read(&mut copies, b"k", 1_070), Some(&b"v"[..]));
        assert_eq!(read(&mut copies, b"other", 1_070), None);
        assert_eq!(read(&mut copies, b"k", 1_074), Some(&b"v"[..]));
        assert_eq!(copies.read(b"k", client(2), Time(1_100)), None);
        copies.expire(Time(1_100));
        assert_eq!(copies.count(), 0);
        copies.expire(Time(1_100 + SPENT_MS));
        assert!(copies.is_empty());
        assert_eq!(copies.held_bytes(), 0);
        // A reply that took longer than the lease is worth nothing.
        keep(&mut copies, b"k", "v", 1_000, 1_100);
        assert!(copies.is_empty());
    }

    #[test]
    fn one_client_renews_it_and_reads_no_older_value_behind() {
        let mut copies = copies();
        keep(&mut copies, b"k", "v", 1_000, 1_001);
        assert_eq!(read(&mut copies, b"k", 1_075), None);
        assert_eq!(read(&mut copies, b"k", 1_076), None);
        assert_eq!(copies.read(b"k", client(2), Time(1_076)), Some(&b"v"[..]));
        // That did not come through: the next one tries.
        assert_eq!(copies.read(b"k", client(2), Time(1_087)), None);
        assert_eq!(copies.read(b"k", client(3), Time(1_088)), Some(&b"v"[..]));
        keep(&mut copies, b"k", "w", 1_075, 1_090);
        assert_eq!(read(&mut copies, b"k", 1_091), Some(&b"w"[..]));
    }

    #[test]
    fn the_shorter_of_two_leases_counts() {
        let mut copies = copies();
        let keep_ms = Some(10 * LEASE_MS);
        copies.handle_reply(b"k", &bulk("v"), keep_ms, read_at(0), Time(1));
        assert_eq!(read(&mut copies, b"k", u64::from(LEASE_MS)), None);
    }

    #[test]
    fn a_write_drops_the_copy_and_what_was_asked_before_it() {
        let writes: [&[&[u8]]; 6] = [
            &[b"SET", b"k", b"w"],
            &[b"DEL", b"other", b"k"],
            &[b"MSET", b"x", b"1", b"k", b"w"],
            &[b"EXPIRE", b"k", b"1"],
            &[b"FLUSHALL"],
            &[
                b"EXEC",
                b"\x02\0\0\0",
                b"GET",
                b"k",
                b"\x03\0\0\0",
                b"SET",
                b"k",
                b"w",
            ],
        ];
        for write in writes {
            let mut copies = copies();
            keep(&mut copies, b"k", "v", 1_000, 1_001);
            copies.handle_command(write, Time(1_010));
            assert_eq!(read(&mut copies, b"k", 1_010), None, "{write:?}");
            for (sent, is_kept) in [(1_005, false), (1_010, false), (1_011, true)] {
                keep(&mut copies, b"k", "v", sent, 1_020);
                let is_there = read(&mut copies, b"k", 1_020).is_some();
                assert_eq!(is_there, is_kept, "{write:?}, {sent}");
            }
        }
        // What only reads, or writes other keys, ends nothing.
        let mut copies = copies();
        keep(&mut copies, b"k", "v", 1_000, 1_001);
        let others: [&[&[u8]]; 4] = [
            &[b"GET", b"k"],
            &[b"MGET", b"k"],
            &[b"DEL", b"other"],
            &[
                b"EXEC",
                b"\x02\0\0\0",
                b"GET",
                b"k",
                b"\x02\0\0\0",
                b"DEL",
                b"other",
            ],
        ];
        for args in others {
            copies.handle_command(args, Time(1_002));
            assert!(read(&mut copies, b"k", 1_002).is_some(), "{args:?}");
        }
    }

    #[test]
    fn a_reply_without_a_lease_ends_the_copy() {
        for (reply, keep_ms) in [
            (bulk("w"), None),
            (b"$-1\r\n".to_vec(), Some(LEASE_MS)),
            (b"-ERR no\r\n".to_vec(), Some(LEASE_MS)),
        ] {
            let mut copies = copies();
            keep(&mut copies, b"k", "v", 1_000, 1_001);
            copies.handle_reply(b"k", &reply, keep_ms, read_at(1_002), Time(1_003));
            assert_eq!(read(&mut copies, b"k", 1_003), None);
        }
    }

    #[test]
    fn the_owner_is_told_each_read_once() {
        let mut copies = copies();
        assert_eq!(copies.take_reads(b"k"), 0);
        keep(&mut copies, b"k", "v", 1_000, 1_001);
        for _ in 0..7 {
            read(&mut copies, b"k", 1_002);
        }
        assert_eq!(copies.take_reads(b"k"), 7);
        read(&mut copies, b"k", 1_004);
        // Those between the question and its answer are told with the next.
        keep(&mut copies, b"k", "v", 1_003, 1_005);
        assert_eq!(copies.take_reads(b"k"), 1);
        assert_eq!(copies.take_reads(b"k"), 0);
        // So are those before a write, for a while.
        read(&mut copies, b"k", 1_006);
        copies.handle_command(&[b"SET", b"k", b"w"], Time(1_007));
        copies.expire(Time(1_007));
        assert_eq!(copies.take_reads(b"k"), 1);
        copies.expire(Time(1_008));
        assert!(copies.is_empty());
        assert_eq!(copies.held_bytes(), 0);
        assert_eq!(copies.reads(), 9);
    }

    #[test]
    fn who_owns_the_key_now_decides() {
        let mut copies = copies();
        keep(&mut copies, b"k", "v", 1_000, 1_001);
        copies.handle_owners(Time(1_002), |node, range| {
            node == OWNER && range == Range::of(b"k")
        });
        assert_eq!(copies.count(), 1);
        copies.handle_owners(Time(1_002), |node, _| node != OWNER);
        assert_eq!(copies.count(), 0);
    }

    #[test]
    fn they_are_bounded_in_number_and_bytes() {
        let mut copies = copies();
        for number in 0..2 * COPIES_MAX {
            keep(
                &mut copies,
                format!("key:{number}").as_bytes(),
                "v",
                1_000,
                1_001,
            );
        }
        assert_eq!(copies.count(), COPIES_MAX);
        let small = 3 * (OVERHEAD_BYTES + 101) * MEMORY_SHARE;
        let mut copies = HotCopies::new(LEASE_MS, small);
        for key in [b"a", b"b", b"c", b"d", b"a"] {
            keep(&mut copies, key, &"v".repeat(100), 1_000, 1_001);
        }
        assert_eq!(copies.count(), 3);
        assert!(copies.held_bytes() <= small / MEMORY_SHARE);
        assert_eq!(HotCopies::new(LEASE_MS, usize::MAX).bytes_max, BYTES_MAX);
    }

    /// One owner, one core with copies, a slow network, and a writer elsewhere: the age of the oldest value
    /// that a reader got, and how many a copy gave. `is_right`: the lease counts from the request, as it must.
    fn oldest_read_ms(seed: u64, is_right: bool, delay_ms_max: u64) -> (u64, u64) {
        let mut random = seed;
        let mut below = |count: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % count
        };
        let mut copies = copies();
        // When each value was written; what is on its way to the owner and back: when it comes, and when it
        // was sent.
        let mut written = vec![0];
        let mut asked: VecDeque<(u64, u64)> = VecDeque::new();
        let mut answers: VecDeque<(u64, u64, usize)> = VecDeque::new();
        let mut oldest = 0;
        for now in 1..20_000 {
            if below(100) == 0 {
                written.push(now);
            }
            while asked.front().is_some_and(|&(at, _)| at <= now) {
                let (_, sent) = asked.pop_front().expect("one");
                // Streams keep their order.
                let last = answers.back().map_or(0, |&(at, ..)| at);
                let at = (now + below(delay_ms_max)).max(last);
                answers.push_back((at, sent, written.len() - 1));
            }
            while answers.front().is_some_and(|&(at, ..)| at <= now) {
                let (_, sent, value) = answers.pop_front().expect("one");
                let counted_from = if is_right { sent } else { now };
                keep(&mut copies, b"k", &value.to_string(), counted_from, now);
            }
            let number = u32::try_from(now % 8).expect("small");
            let Some(value) = copies.read(b"k", client(number), Time(now)) else {
                let last = asked.back().map_or(0, |&(at, _)| at);
                asked.push_back(((now + below(delay_ms_max)).max(last), now));
                continue;
            };
            let value: usize = std::str::from_utf8(value)
                .expect("a number")
                .parse()
                .expect("a number");
            // It was the newest one until the next was written.
            let age = written.get(value + 1).map_or(0, |next| now - next);
            oldest = oldest.max(age);
        }
        (oldest, copies.reads())
    }

    #[test]
    fn no_value_is_older_than_the_lease_over_a_slow_network() {
        let lease = u64::from(LEASE_MS);
        let mut has_failed = false;
        for seed in 1..40 {
            let (age, reads) = oldest_read_ms(seed, true, DELAY_MS_MAX);
            assert!(age <= lease, "seed {seed}: {age} ms");
            assert!(reads > 1_000, "seed {seed}: {reads} reads only");
            // The rule broken on purpose: the lease counts from when the reply came.
            has_failed |= oldest_read_ms(seed, false, DELAY_MS_MAX).0 > lease;
        }
        assert!(has_failed, "a broken rule is not seen");
    }
}
