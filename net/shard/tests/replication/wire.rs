//! Messages on their way: owned copies of what replication says.

use fulmar_cluster::replication::{
    Control, ControlSink, CopyPosition, Entry, EntryKind, EntrySink, Fork, Header, StartFrom,
};
use fulmar_cluster::{Range, Seq, Term};

/// An entry on its way.
#[derive(Clone, Debug)]
pub(crate) struct OwnedEntry {
    range: Range,
    term: Term,
    seq: Seq,
    kind: OwnedKind,
}

#[derive(Clone, Debug)]
enum OwnedKind {
    Offer(Vec<Fork>),
    Follow,
    Resync,
    SyncBegin(u64, Vec<Fork>),
    SyncEnd,
    Set(Vec<u8>, Vec<Vec<u8>>, Option<u64>),
    ValueBegin(Vec<u8>, u64, Option<u64>),
    ValuePart(Vec<u8>),
    ValueEnd,
    ValueAbort,
    Delete(Vec<u8>),
    Touch(Vec<u8>),
    Flush,
    Reached,
    Fetched,
}

impl OwnedEntry {
    fn new(entry: &Entry<'_>) -> Self {
        let kind = match entry.kind {
            EntryKind::Offer { history } => OwnedKind::Offer(history.to_vec()),
            EntryKind::Follow => OwnedKind::Follow,
            EntryKind::Resync => OwnedKind::Resync,
            EntryKind::SyncBegin { sync, history } => OwnedKind::SyncBegin(sync, history.to_vec()),
            EntryKind::SyncEnd => OwnedKind::SyncEnd,
            EntryKind::Set { key, value, ttl_ms } => {
                let parts = value.iter().map(|part| part.to_vec()).collect();
                OwnedKind::Set(key.to_vec(), parts, ttl_ms)
            }
            EntryKind::ValueBegin {
                key,
                value_bytes,
                ttl_ms,
            } => OwnedKind::ValueBegin(key.to_vec(), value_bytes, ttl_ms),
            EntryKind::ValuePart { bytes } => OwnedKind::ValuePart(bytes.to_vec()),
            EntryKind::ValueEnd => OwnedKind::ValueEnd,
            EntryKind::ValueAbort => OwnedKind::ValueAbort,
            EntryKind::Delete { key } => OwnedKind::Delete(key.to_vec()),
            EntryKind::Touch { key } => OwnedKind::Touch(key.to_vec()),
            EntryKind::Flush => OwnedKind::Flush,
            EntryKind::Reached => OwnedKind::Reached,
            EntryKind::Fetched => OwnedKind::Fetched,
        };
        Self {
            range: entry.range,
            term: entry.term,
            seq: entry.seq,
            kind,
        }
    }

    pub(crate) fn give(&self, take: &mut dyn FnMut(&Entry<'_>)) {
        let parts: Vec<&[u8]>;
        let kind = match &self.kind {
            OwnedKind::Offer(history) => EntryKind::Offer { history },
            OwnedKind::Follow => EntryKind::Follow,
            OwnedKind::Resync => EntryKind::Resync,
            OwnedKind::SyncBegin(sync, history) => EntryKind::SyncBegin {
                sync: *sync,
                history,
            },
            OwnedKind::SyncEnd => EntryKind::SyncEnd,
            OwnedKind::Set(key, value, ttl_ms) => {
                parts = value.iter().map(Vec::as_slice).collect();
                EntryKind::Set {
                    key,
                    value: &parts,
                    ttl_ms: *ttl_ms,
                }
            }
            OwnedKind::ValueBegin(key, value_bytes, ttl_ms) => EntryKind::ValueBegin {
                key,
                value_bytes: *value_bytes,
                ttl_ms: *ttl_ms,
            },
            OwnedKind::ValuePart(bytes) => EntryKind::ValuePart { bytes },
            OwnedKind::ValueEnd => EntryKind::ValueEnd,
            OwnedKind::ValueAbort => EntryKind::ValueAbort,
            OwnedKind::Delete(key) => EntryKind::Delete { key },
            OwnedKind::Touch(key) => EntryKind::Touch { key },
            OwnedKind::Flush => EntryKind::Flush,
            OwnedKind::Reached => EntryKind::Reached,
            OwnedKind::Fetched => EntryKind::Fetched,
        };
        take(&Entry {
            range: self.range,
            term: self.term,
            seq: self.seq,
            kind,
        });
    }

    /// Whether it begins a full sync.
    pub(crate) fn is_sync_begin(&self) -> bool {
        matches!(self.kind, OwnedKind::SyncBegin(..))
    }

    /// The key and value bytes of a whole item.
    pub(crate) fn item_bytes(&self) -> Option<usize> {
        match &self.kind {
            OwnedKind::Set(key, value, _) => {
                Some(key.len() + value.iter().map(Vec::len).sum::<usize>())
            }
            _ => None,
        }
    }
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(crate) struct OwnedBatch {
    pub(crate) header: Header,
    pub(crate) entries: Vec<OwnedEntry>,
}

/// Collects a batch.
#[derive(Default)]
pub(crate) struct Entries(pub(crate) Vec<OwnedEntry>);

impl EntrySink for Entries {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.0.push(OwnedEntry::new(entry));
    }
}

/// A follower's message on its way.
#[derive(Clone, Debug)]
pub(crate) enum OwnedControl {
    Ack(Vec<CopyPosition>),
    Start(Range, Term, StartFrom),
    Fetch(Range, Term, Vec<u8>),
    FetchEnd,
    Refuse(Range, Term),
    Reset,
}

impl OwnedControl {
    fn new(control: &Control<'_>) -> Self {
        match *control {
            Control::Ack { positions } => Self::Ack(positions.to_vec()),
            Control::Start { range, term, from } => Self::Start(range, term, from),
            Control::Fetch { range, term, key } => Self::Fetch(range, term, key.to_vec()),
            Control::FetchEnd => Self::FetchEnd,
            Control::Refuse { range, term } => Self::Refuse(range, term),
            Control::Reset => Self::Reset,
        }
    }

    pub(crate) fn as_control(&self) -> Control<'_> {
        match self {
            Self::Ack(positions) => Control::Ack { positions },
            Self::Start(range, term, from) => Control::Start {
                range: *range,
                term: *term,
                from: *from,
            },
            Self::Fetch(range, term, key) => Control::Fetch {
                range: *range,
                term: *term,
                key,
            },
            Self::FetchEnd => Control::FetchEnd,
            Self::Refuse(range, term) => Control::Refuse {
                range: *range,
                term: *term,
            },
            Self::Reset => Control::Reset,
        }
    }
}

/// Messages that were told together.
#[derive(Clone, Debug)]
pub(crate) struct OwnedReply {
    pub(crate) header: Header,
    pub(crate) controls: Vec<OwnedControl>,
}

/// Collects messages.
#[derive(Default)]
pub(crate) struct Controls(pub(crate) Vec<OwnedControl>);

impl ControlSink for Controls {
    fn control(&mut self, control: &Control<'_>) {
        self.0.push(OwnedControl::new(control));
    }
}
