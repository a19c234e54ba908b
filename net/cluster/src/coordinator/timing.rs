//! All times and bounds of the protocol. `docs/cluster.md` says why they are what they are.

/// From one heartbeat to the next.
pub const HEARTBEAT_MS: u64 = 200;
/// A member that wasn't heard for so long is silent.
pub const SILENT_MS: u64 = 800;
/// A member that wasn't heard for so long is asked for an answer each `ASK_MS` until it is silent: what
/// is lost of all packets is not taken for a death.
pub const QUIET_MS: u64 = 400;
/// From one question to a quiet member to the next.
pub const ASK_MS: u64 = 50;
/// A node that got no turn for so long executes nothing until a quorum answered it.
pub const PAUSE_MS: u64 = 500;
/// A node that no quorum answered for so long is in the minority.
pub const QUORUM_LOST_MS: u64 = 1_000;
/// The k-th most senior member that could propose waits k times this.
pub const TURN_MS: u64 = 150;
/// Least time between two decisions.
pub const EPOCH_GAP_MS: u64 = 100;
/// What an attempt sends is sent again after so long.
pub const RESEND_MS: u64 = 100;
/// An attempt that isn't decided after so long is given up.
pub const ATTEMPT_MS: u64 = 1_000;
/// Longest wait after an attempt that was given up: it grows with the rank, so that members try again at
/// different times.
pub const BACKOFF_MAX_MS: u64 = 1_100;
/// A seal that no decision ended for so long is a reason to decide.
pub const SEAL_MS: u64 = 2_000;
/// When writes have been held for a hand-over for so long, its decision is late.
pub const HOLD_MS: u64 = 100;
/// From one `Hello`, report or `FetchTopology` to the next.
pub const REPEAT_MS: u64 = 500;
/// A joiner that wasn't heard for so long is forgotten.
pub const JOINER_MS: u64 = 1_500;
/// Nothing moves for so long after a node has joined: others that return with it say Hello, and keep what
/// they had.
pub const JOIN_GAP_MS: u64 = 600;
/// The same, after the first of several.
pub const JOIN_GAP_MAX_MS: u64 = 3_000;
/// After a restart of all, members wait for the missing ones at most so long.
pub const RESTART_WAIT_MS: u64 = 10_000;
/// A founder of a branch waits for the positions of its side so long.
pub const GATHER_MS: u64 = 200;
/// Time between a promotion and rebuilding lost copies elsewhere, by default.
pub const REBUILD_DELAY_MS: u64 = 60_000;
/// A node that wants to leave waits for others to take its ranges at most so long.
pub const LEAVE_MS: u64 = 30_000;

/// What an operator asked for is said to the other members for so long.
pub const STEER_MS: u64 = 10_000;

/// Reports go to so many of the most senior members that are heard.
pub const REPORT_FANOUT: usize = 3;
/// Most joiners that are remembered.
pub const JOINERS_MAX: usize = 64;
/// Most messages that wait for the disk; more are dropped, and sent again by those who want them.
pub const WAITING_MAX: usize = 64;

const _: () = assert!(PAUSE_MS < SILENT_MS);
const _: () = assert!(REPEAT_MS < JOIN_GAP_MS);
const _: () = assert!(HEARTBEAT_MS < QUIET_MS && QUIET_MS < SILENT_MS);
const _: () = assert!(SILENT_MS < QUORUM_LOST_MS);
const _: () = assert!(3 * HEARTBEAT_MS < SILENT_MS);
