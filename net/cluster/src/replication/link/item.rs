//! One key's value as it is now, as an entry.

use arrayvec::ArrayVec;

use super::batch::{Batch, Scene};
use crate::replication::limits::{SET_BYTES_MAX, SET_PARTS_MAX};
use crate::replication::{Entry, EntryKind};
use crate::{Range, Term};

/// What became of a key that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is sent, or that it is not there.
    Whole,
    /// Its value is too long for one entry; nothing was sent.
    Long,
}

impl Scene<'_> {
    /// Sends a key's value unless it is long.
    pub(super) fn send_item(
        &self,
        range: Range,
        term: Term,
        key: &[u8],
        batch: &mut Batch<'_>,
    ) -> Sent {
        let seq = self.copies.get(range).expect("it is at home here").seq;
        let mut sent = Sent::Whole;
        let is_there = self.store.read(range, key, &mut |item| {
            if item.value_bytes > SET_BYTES_MAX {
                sent = Sent::Long;
                return;
            }
            let mut parts = ArrayVec::<&[u8], SET_PARTS_MAX>::new();
            for part in item.parts {
                if parts.try_push(part).is_err() {
                    sent = Sent::Long;
                    return;
                }
            }
            let kind = EntryKind::Set {
                key,
                value: &parts,
                ttl_ms: item.ttl_ms,
            };
            let entry = Entry {
                range,
                term,
                seq,
                kind,
            };
            batch.push(&entry, key.len() + item.value_bytes);
        });
        if !is_there {
            let entry = Entry {
                range,
                term,
                seq,
                kind: EntryKind::Delete { key },
            };
            batch.push(&entry, key.len());
        }
        sent
    }
}
