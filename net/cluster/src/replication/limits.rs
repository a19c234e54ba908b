//! Named bounds of replication.

/// Memory and time that one core gives to replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the log. Its memory is touched as it fills.
    pub log_bytes_max: usize,
    /// Age at which entries of the log are dropped.
    pub log_age_ms_max: u64,
    /// Bytes on their way to one follower that are not acknowledged.
    pub window_bytes_max: usize,
    /// Bytes a second of full syncs, so that a core's clients don't wait for them; `u64::MAX`: as many as can
    /// be sent.
    pub sync_bytes_per_second: u64,
}

/// Share of a core's memory that the log takes unless told otherwise: one part in so many.
pub const LOG_MEMORY_DIVISOR: usize = 20;
/// Age of the log's oldest entries unless told otherwise.
pub const LOG_AGE_MS_MAX: u64 = 60_000;
/// Smallest log: a few entries with the longest keys.
pub const LOG_BYTES_MIN: usize = 256 * 1024;
/// Largest log, whatever the memory limit.
pub const LOG_BYTES_MAX: usize = 1 << 31;
/// Unacknowledged bytes to one follower unless told otherwise.
pub const WINDOW_BYTES_MAX: usize = 4 << 20;

/// Bytes a second of a core's full syncs unless told otherwise.
pub const SYNC_BYTES_PER_SECOND: u64 = 32 << 20;
/// With so many bytes of it to one follower that are not acknowledged a full sync pauses, but for the parts of
/// long values: what is written meanwhile, and the end of a hand-over, come behind them.
pub const SYNC_WINDOW_BYTES_MAX: usize = 512 * 1024;
/// What was not sent for so long is not made up for.
pub const SYNC_BURST_MS: u64 = 20;
/// Batches on their way to one follower that are not acknowledged.
pub const WINDOW_BATCHES_MAX: usize = 64;
/// A batch ends with the entry that brings it to so many bytes of keys and values.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Most entries of a batch.
pub const BATCH_ENTRIES_MAX: usize = 1_024;
/// Entries of the log that the making of one batch looks at; those of other nodes' ranges and those
/// that coalesce cost no bytes.
pub const BATCH_SCAN_MAX: usize = 8_192;
/// Longest value that is sent as one entry. Longer ones are sent in parts.
pub const SET_BYTES_MAX: usize = 64 * 1024;
/// Most pieces of a value that is sent as one entry.
pub const SET_PARTS_MAX: usize = 32;
/// Longest part of a long value.
pub const PART_BYTES_MAX: usize = 64 * 1024;
/// Items that a full sync takes from the index at a time; a call may give an index table more.
pub const SYNC_ITEMS_PER_STEP: usize = 64;
/// Items of a range that are dropped at a time; a call may drop an index table more.
pub const DROP_ITEMS_PER_STEP: usize = 512;
/// Items that a batch drops while it is applied, when ranges are flushed. A copy with more is dropped
/// in steps, and filled again.
pub const FLUSH_ITEMS_PER_BATCH: usize = 8_192;
/// Keys that a rewinding copy asks for at a time.
pub const FETCH_KEYS_MAX: usize = 256;
/// Entries of its own log that a rewinding core looks at in one step.
pub const REWIND_SCAN_MAX: usize = 8_192;
/// Positions in one acknowledgement.
pub const ACK_POSITIONS_MAX: usize = 512;
/// A range that was offered and not answered is offered again after this time.
pub const OFFER_RETRY_MS: u64 = 2_000;
/// Such offers are looked for this often.
pub const OFFERS_CHECKED_MS: u64 = 100;
/// A session in which nothing that was sent is acknowledged for so long is begun anew.
pub const STALL_MS: u64 = 10_000;
/// A key that is read all the time is told to its copies again after this time, or sooner.
pub const TOUCH_MS: u64 = 60_000;
/// What was read is told this often.
pub const TOUCHES_TOLD_MS: u64 = 250;
/// Keys that were read and are to be told: a ring, of which half is filled between two tellings.
pub const TOUCHES_BYTES_MAX: usize = 256 * 1024;
/// Of these, as many are looked at for one batch.
pub const TOUCHES_PER_BATCH: usize = 512;
/// Places that remember a key that was told.
pub const TOUCHES_PLACES: usize = 64 * 1024;
/// Changes of a range's primary that a copy remembers.
pub const FORKS_MAX: usize = 8;
/// What a batch's entry costs beside its key and value: an estimate, for windows and lags.
pub const ENTRY_OVERHEAD_BYTES: usize = 24;

impl Limits {
    /// The usual ones for a core with so much memory.
    #[must_use]
    pub fn for_memory(memory_bytes: usize) -> Self {
        Self {
            log_bytes_max: (memory_bytes / LOG_MEMORY_DIVISOR).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX),
            log_age_ms_max: LOG_AGE_MS_MAX,
            window_bytes_max: WINDOW_BYTES_MAX,
            sync_bytes_per_second: SYNC_BYTES_PER_SECOND,
        }
    }
}

const _: () = assert!(SET_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(PART_BYTES_MAX <= BATCH_BYTES_MAX);
