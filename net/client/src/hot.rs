//! The keys that the servers call hot, and which of them this client wrote of late.
//!
//! A node keeps a copy of another node's hot key for a while after it was asked for it, at most
//! [`COPY_AGE_MAX`]. What this client wrote it must read: so for that long after a write the key's reads go to
//! its owner. That goes for writes before it was known to be hot, too, of which one time for many keys is
//! remembered: for those that are hot one each.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::lock::{read, write};
use crate::slot::slot_of;
use crate::value::Value;

/// Keys that are remembered, at most: the servers list 64 for each core.
const KEYS_MAX: usize = 4_096;
/// The oldest that a copy can be; the servers' bound of `--hot-copy-ms`.
const COPY_AGE_MAX: Duration = Duration::from_millis(1_000);
/// What a node listed is believed for so many intervals.
const INTERVALS_KEPT: u32 = 3;
/// Times of writes of keys that are not known to be hot.
const TIMES_COUNT: usize = 4_096;

#[derive(Debug)]
pub(crate) struct HotKeys {
    /// Spares the lock where nothing is hot.
    has_some: AtomicBool,
    keys: RwLock<HashMap<Bytes, Hot>>,
    started: Instant,
    /// When a key of these slots was last written, in milliseconds since `started`, modulo 2^32.
    written_ms: Box<[AtomicU32]>,
}

#[derive(Clone, Copy, Debug)]
struct Hot {
    until: Instant,
    written: Option<Instant>,
}

impl HotKeys {
    pub(crate) fn new() -> Self {
        Self {
            has_some: AtomicBool::new(false),
            keys: RwLock::default(),
            started: Instant::now(),
            written_ms: (0..TIMES_COUNT).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whether any node may answer a read of this key.
    pub(crate) fn may_be_read_anywhere(&self, key: &[u8]) -> bool {
        if !self.has_some.load(Ordering::Relaxed) {
            return false;
        }
        let now = Instant::now();
        read(&self.keys).get(key).is_some_and(|hot| {
            let is_settled = hot
                .written
                .is_none_or(|at| now.duration_since(at) > COPY_AGE_MAX);
            hot.until > now && is_settled
        })
    }

    /// A write of this key has ended, in whatever way.
    pub(crate) fn mark_written(&self, key: &[u8]) {
        let now = Instant::now();
        // Before the look at the keys: `learn` sees this, or is seen.
        self.time_of(key).store(self.ms(now), Ordering::SeqCst);
        if !self.has_some.load(Ordering::SeqCst) || !read(&self.keys).contains_key(key) {
            return;
        }
        if let Some(hot) = write(&self.keys).get_mut(key) {
            hot.written = Some(now);
        }
    }

    /// A node listed these keys.
    pub(crate) fn learn(&self, listed: Vec<Bytes>, interval: Duration) {
        let now = Instant::now();
        let until = now + interval * INTERVALS_KEPT;
        let mut keys = write(&self.keys);
        // Before the look at the times: a write that ends now is seen, or waits for the lock.
        self.has_some.store(true, Ordering::SeqCst);
        keys.retain(|_, hot| hot.until > now);
        for key in listed {
            if let Some(hot) = keys.get_mut(&key) {
                hot.until = until;
            } else if keys.len() < KEYS_MAX {
                let key = Bytes::copy_from_slice(&key);
                let written = self.last_written(&key);
                keys.insert(key, Hot { until, written });
            }
        }
        self.has_some.store(!keys.is_empty(), Ordering::SeqCst);
    }

    /// When a key that was not known to be hot may have been written last: it was not later.
    fn last_written(&self, key: &[u8]) -> Option<Instant> {
        let time_ms = self.time_of(key).load(Ordering::SeqCst);
        // Read behind it, so that it is no earlier. Both are rounded down.
        let now = Instant::now();
        let age_ms = self.ms(now).wrapping_sub(time_ms).saturating_sub(1);
        now.checked_sub(Duration::from_millis(age_ms.into()))
    }

    fn time_of(&self, key: &[u8]) -> &AtomicU32 {
        &self.written_ms[usize::from(slot_of(key)) % TIMES_COUNT]
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "modulo 2^32 is enough for ages of a second"
    )]
    fn ms(&self, now: Instant) -> u32 {
        now.duration_since(self.started).as_millis() as u32
    }

    /// How many are known.
    pub(crate) fn count(&self) -> usize {
        read(&self.keys).len()
    }
}

/// The keys that are hot by their reads, in a reply to HOTKEYS GET; none if it is another one, or of a
/// node that lets no other keep copies: then its keys are best read there.
pub(crate) fn listed(reply: Value) -> Vec<Bytes> {
    let mut fields = reply.into_array().unwrap_or_default().into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let Ok(Some(name)) = name.into_bytes() else {
            break;
        };
        if name == "hot-copy-ms" && value == Value::Integer(0) {
            break;
        }
        if name == "by-reads-per-second" {
            let keys = value
                .into_array()
                .unwrap_or_default()
                .into_iter()
                .step_by(2);
            return keys
                .filter_map(|key| key.into_bytes().ok()?)
                .take(KEYS_MAX)
                .collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::advance;

    use super::{HotKeys, KEYS_MAX, listed};
    use crate::value::Value;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_here_is_read_at_its_owner() {
        let hot = HotKeys::new();
        advance(10 * SECOND).await;
        hot.learn(vec![key("a")], SECOND);
        assert!(hot.may_be_read_anywhere(b"a"));
        assert!(!hot.may_be_read_anywhere(b"b"));
        hot.learn(vec![key("a")], SECOND);
        hot.mark_written(b"a");
        advance(SECOND).await;
        assert!(!hot.may_be_read_anywhere(b"a"));
        advance(Duration::from_millis(1)).await;
        assert!(hot.may_be_read_anywhere(b"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_before_it_was_hot_is_read_at_its_owner() {
        let hot = HotKeys::new();
        advance(10 * SECOND).await;
        hot.mark_written(b"a");
        advance(SECOND / 2).await;
        hot.learn(vec![key("a"), key("b")], SECOND);
        assert!(!hot.may_be_read_anywhere(b"a"));
        assert!(hot.may_be_read_anywhere(b"b"));
        advance(SECOND / 2 + Duration::from_millis(2)).await;
        assert!(hot.may_be_read_anywhere(b"a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_listed_again_cools() {
        let hot = HotKeys::new();
        advance(10 * SECOND).await;
        hot.learn(vec![key("a")], SECOND);
        assert!(hot.may_be_read_anywhere(b"a"));
        advance(3 * SECOND).await;
        assert!(!hot.may_be_read_anywhere(b"a"));
        hot.learn(vec![], SECOND);
        assert_eq!(hot.count(), 0);
    }

    #[test]
    fn the_set_is_bounded() {
        let hot = HotKeys::new();
        let keys = (0..KEYS_MAX + 10).map(|number| Bytes::from(number.to_string()));
        hot.learn(keys.collect(), SECOND);
        assert_eq!(hot.count(), KEYS_MAX);
    }

    #[test]
    fn keys_that_are_read_are_listed() {
        let rated = |text| Value::Array(vec![Value::Bytes(key(text)), Value::Integer(2_000)]);
        let reply = |copy_ms| {
            Value::Array(vec![
                Value::Bytes(key("tracking-active")),
                Value::Integer(1),
                Value::Bytes(key("hot-copy-ms")),
                Value::Integer(copy_ms),
                Value::Bytes(key("by-reads-per-second")),
                rated("read"),
                Value::Bytes(key("by-writes-per-second")),
                rated("written"),
            ])
        };
        assert_eq!(listed(reply(250)), [key("read")]);
        assert!(listed(reply(0)).is_empty());
        for reply in [
            Value::Null,
            Value::Integer(1),
            Value::Array(vec![Value::Null]),
        ] {
            assert!(listed(reply).is_empty());
        }
    }
}
