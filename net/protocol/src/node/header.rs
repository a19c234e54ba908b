//! The 14 bytes before each body.
//!
//! ```text
//!  0       4        8        12     13      14
//! +-------+--------+--------+------+-------+
//! | crc32 | length | stream | kind | flags |
//! +-------+--------+--------+------+-------+
//! ```
//!
//! `length` is the body's; the CRC is of everything behind itself, the body included.

use super::{BATCH_BYTES_MAX, CONTROL_BYTES_MAX, DATA_BYTES_MAX, HELLO_BYTES_MAX, WireError};

/// Bytes before each body.
pub const HEADER_BYTES: usize = 14;

/// Where the CRC ends, and what it is of begins.
pub(super) const CRC_BYTES: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Hello = 1,
    HelloReply = 2,
    Proof = 3,
    Goodbye = 4,
    Ping = 5,
    Pong = 6,
    Control = 7,
    Forward = 16,
    Arguments = 17,
    Part = 18,
    Reply = 19,
    Status = 20,
    Batch = 32,
    Told = 33,
}

impl Kind {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::HelloReply,
            3 => Self::Proof,
            4 => Self::Goodbye,
            5 => Self::Ping,
            6 => Self::Pong,
            7 => Self::Control,
            16 => Self::Forward,
            17 => Self::Arguments,
            18 => Self::Part,
            19 => Self::Reply,
            20 => Self::Status,
            32 => Self::Batch,
            33 => Self::Told,
            _ => return None,
        })
    }

    /// Whether it may come before the greeting is over.
    pub(super) const fn is_greeting(self) -> bool {
        matches!(
            self,
            Self::Hello | Self::HelloReply | Self::Proof | Self::Goodbye
        )
    }

    /// Longest body.
    pub(super) const fn body_bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::HelloReply | Self::Proof | Self::Goodbye => HELLO_BYTES_MAX,
            Self::Control => CONTROL_BYTES_MAX,
            Self::Batch | Self::Told => BATCH_BYTES_MAX,
            _ => DATA_BYTES_MAX,
        }
    }

    /// The flags that it may have.
    const fn flags(self) -> Flags {
        match self {
            Self::Forward | Self::Arguments => Flags::LAST,
            Self::Part => Flags(Flags::LAST.0 | Flags::ABORTED.0),
            Self::Reply => Flags(Flags::LAST.0 | Flags::KEEP.0),
            _ => Flags::NONE,
        }
    }
}

/// What is special about a frame, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u8);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// It ends its message.
    pub(super) const LAST: Self = Self(1);
    /// Its message is void, and ends here.
    pub(super) const ABORTED: Self = Self(2);
    /// The reply may be kept for a while.
    pub(super) const KEEP: Self = Self(4);
    /// Whoever does not know the kind may pass the frame over.
    pub(super) const SKIPPABLE: Self = Self(0x80);

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) const fn with(self, other: Self, is_set: bool) -> Self {
        if is_set { Self(self.0 | other.0) } else { self }
    }
}

/// A header whose frame may not be there yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) crc: u32,
    pub(super) body_bytes: usize,
    pub(super) stream: u32,
    /// None: unknown, to be skipped.
    pub(super) kind: Option<Kind>,
    pub(super) flags: Flags,
}

impl Header {
    /// Reads a header and checks what can be checked without the body.
    #[inline]
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], is_open: bool) -> Result<Self, WireError> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let flags = Flags(bytes[13]);
        let kind = Kind::from_byte(bytes[12]);
        let body_bytes_max = match kind {
            Some(kind) if !is_open && !kind.is_greeting() => return Err(WireError::TooEarly),
            // None of this version's kinds may be skipped.
            Some(kind) if flags.0 & !kind.flags().0 != 0 => return Err(WireError::UnknownFlags),
            Some(kind) => kind.body_bytes_max(),
            None if !flags.contains(Flags::SKIPPABLE) => {
                return Err(WireError::UnknownKind(bytes[12]));
            }
            None if is_open => CONTROL_BYTES_MAX,
            None => HELLO_BYTES_MAX,
        };
        let body_bytes = word(4) as usize;
        if body_bytes > body_bytes_max {
            return Err(WireError::TooLong);
        }
        Ok(Self {
            crc: word(0),
            body_bytes,
            stream: word(8),
            kind,
            flags,
        })
    }

    /// All bytes of the frame.
    pub(super) const fn frame_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }
}

/// Writes a header into the room that was left for it, except for its CRC.
#[inline]
pub(super) fn write(room: &mut [u8], body_bytes: usize, stream: u32, kind: Kind, flags: Flags) {
    let length = u32::try_from(body_bytes).expect("bodies are bounded");
    room[4..8].copy_from_slice(&length.to_le_bytes());
    room[8..12].copy_from_slice(&stream.to_le_bytes());
    room[12] = kind as u8;
    room[13] = flags.0;
}
