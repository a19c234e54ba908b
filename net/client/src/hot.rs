//! The keys that the servers call hot, and which of them this client wrote of late.
//!
//! A node keeps a copy of another node's hot key for a while after it was asked for it, at most
//! [`COPY_AGE_MAX`]. What this client wrote it must read: so for that long after a write the key's reads go to
//! its owner.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::lock::{read, write};
use crate::value::Value;

/// Keys that are remembered, at most: the servers list 64 for each core.
const KEYS_MAX: usize = 4_096;
/// The oldest that a copy can be; the servers' bound of `--hot-copy-ms`.
const COPY_AGE_MAX: Duration = Duration::from_millis(1_000);
/// What a node listed is believed for so many intervals.
const INTERVALS_KEPT: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    /// Spares the lock where nothing is hot.
    has_some: AtomicBool,
    keys: RwLock<HashMap<Bytes, Hot>>,
}

#[derive(Clone, Copy, Debug)]
struct Hot {
    until: Instant,
    written: Option<Instant>,
}

impl HotKeys {
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
        if !self.has_some.load(Ordering::Relaxed) || !read(&self.keys).contains_key(key) {
            return;
        }
        if let Some(hot) = write(&self.keys).get_mut(key) {
            hot.written = Some(Instant::now());
        }
    }

    /// A node listed these keys.
    pub(crate) fn learn(&self, listed: Vec<Bytes>, interval: Duration) {
        let now = Instant::now();
        let until = now + interval * INTERVALS_KEPT;
        let mut keys = write(&self.keys);
        keys.retain(|_, hot| hot.until > now);
        for key in listed {
            if let Some(hot) = keys.get_mut(&key) {
                hot.until = until;
            } else if keys.len() < KEYS_MAX {
                // A write just before it was known to be hot is not known here.
                let key = Bytes::copy_from_slice(&key);
                keys.insert(
                    key,
                    Hot {
                        until,
                        written: Some(now),
                    },
                );
            }
        }
        self.has_some.store(!keys.is_empty(), Ordering::Relaxed);
    }

    /// How many are known.
    pub(crate) fn count(&self) -> usize {
        read(&self.keys).len()
    }
}

/// The keys that are hot by their reads, in a reply to HOTKEYS GET; none if it is another one.
pub(crate) fn listed(reply: Value) -> Vec<Bytes> {
    let mut fields = reply.into_array().unwrap_or_default().into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if name == Value::Bytes(Bytes::from_static(b"by-reads-per-second")) {
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
        let hot = HotKeys::default();
        hot.learn(vec![key("a")], SECOND);
        assert!(
            !hot.may_be_read_anywhere(b"a"),
            "it may have been written a moment ago"
        );
        advance(SECOND + Duration::from_millis(1)).await;
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
    async fn what_is_not_listed_again_cools() {
        let hot = HotKeys::default();
        hot.learn(vec![key("a")], SECOND);
        advance(3 * SECOND).await;
        assert!(!hot.may_be_read_anywhere(b"a"));
        hot.learn(vec![], SECOND);
        assert_eq!(hot.count(), 0);
    }

    #[test]
    fn the_set_is_bounded() {
        let hot = HotKeys::default();
        let keys = (0..KEYS_MAX + 10).map(|number| Bytes::from(number.to_string()));
        hot.learn(keys.collect(), SECOND);
        assert_eq!(hot.count(), KEYS_MAX);
    }

    #[test]
    fn keys_that_are_read_are_listed() {
        let rated = |text| Value::Array(vec![Value::Bytes(key(text)), Value::Integer(2_000)]);
        let reply = Value::Array(vec![
            Value::Bytes(key("tracking-active")),
            Value::Integer(1),
            Value::Bytes(key("by-reads-per-second")),
            rated("read"),
            Value::Bytes(key("by-writes-per-second")),
            rated("written"),
        ]);
        assert_eq!(listed(reply), [key("read")]);
        for reply in [
            Value::Null,
            Value::Integer(1),
            Value::Array(vec![Value::Null]),
        ] {
            assert!(listed(reply).is_empty());
        }
    }
}
