//! A command for another node, and what it answers.

use super::blob::Blob;
use super::items::Items;
use super::varint::Reader;
use super::{ARGUMENTS_MAX, HOPS_MAX, KEEP_MS_MAX, PART_BYTES_MAX, WireError, varint};
use crate::resp::Slices;

/// What the sender knows, and whom it means: a command of an older epoch may be another's by now, and
/// one for an older incarnation is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The sender's epoch.
    pub epoch: u64,
    /// Which start of the sender speaks.
    pub sender_incarnation: u64,
    /// Which start of the receiver is meant.
    pub target_incarnation: u64,
}

/// How the answer to a command is to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// For a client that speaks RESP2, or HTTP: the sender translates.
    Resp2,
    /// For a client that speaks RESP3.
    Resp3,
}

/// How a command is to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardOptions {
    /// What the answer is encoded in.
    pub form: ReplyForm,
    /// How often it has been forwarded, this time included: 1 to [`HOPS_MAX`].
    pub hops: u8,
    /// A replica may answer, because the client sent READONLY.
    pub may_read_replica: bool,
    /// It is meant for this node alone, as a part of a command on all of them.
    pub is_local: bool,
}

impl ForwardOptions {
    const RESP3: u8 = 1;
    const HOPS_SHIFT: u32 = 1;
    const HOPS_MASK: u8 = 0b11;
    const MAY_READ_REPLICA: u8 = 1 << 3;
    const IS_LOCAL: u8 = 1 << 4;
    /// The reads of the sender's copy follow; the head's, not an option.
    const HAS_COPY_READS: u8 = 1 << 5;
    const ALL: u8 = (1 << 5) - 1;

    const fn to_byte(self) -> u8 {
        let form = match self.form {
            ReplyForm::Resp2 => 0,
            ReplyForm::Resp3 => Self::RESP3,
        };
        let replica = if self.may_read_replica {
            Self::MAY_READ_REPLICA
        } else {
            0
        };
        let local = if self.is_local { Self::IS_LOCAL } else { 0 };
        form | self.hops << Self::HOPS_SHIFT | replica | local
    }

    const fn from_byte(byte: u8) -> Result<Self, WireError> {
        let hops = byte >> Self::HOPS_SHIFT & Self::HOPS_MASK;
        if byte & !Self::ALL != 0 || hops == 0 || hops > HOPS_MAX {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            form: if byte & Self::RESP3 == 0 {
                ReplyForm::Resp2
            } else {
                ReplyForm::Resp3
            },
            hops,
            may_read_replica: byte & Self::MAY_READ_REPLICA != 0,
            is_local: byte & Self::IS_LOCAL != 0,
        })
    }
}

/// What stands before a forwarded command's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardHead {
    /// What the sender knows, and whom it means.
    pub fence: Fence,
    /// How to execute it.
    pub options: ForwardOptions,
    /// The sender may keep the answer for a while, if the owner says so, and has answered so many reads of
    /// this key by itself since it last told.
    pub copy_reads: Option<u32>,
}

/// Arguments in one frame, in order. A long one is the frame's last.
pub type Arguments<'a> = Items<'a, Blob<'a>>;

/// The beginning of a forwarded command, or all of it.
#[derive(Debug, PartialEq)]
pub struct Forward<'a> {
    /// Names the request among those of its connection; the answer has the same.
    pub request: u32,
    /// Who means whom, and how.
    pub head: ForwardHead,
    /// Number of arguments in all, the name included; at least 1.
    pub arguments_count: usize,
    /// The first ones, at least one.
    pub arguments: Arguments<'a>,
    /// These are all of them, and none is long.
    pub is_whole: bool,
}

/// More arguments of the command that began in this stream.
#[derive(Debug, PartialEq)]
pub struct MoreArguments<'a> {
    /// The request.
    pub request: u32,
    /// At least one.
    pub arguments: Arguments<'a>,
    /// The command ends with them.
    pub is_last: bool,
}

/// A part of what is too long for one frame: of an argument or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The stream of the message that it belongs to.
    pub stream: u32,
    /// Where it begins: the sum of the parts before.
    pub offset: u64,
    /// Not empty, unless it is the last or the message is aborted.
    pub bytes: &'a [u8],
    /// The message ends with it.
    pub is_last: bool,
    /// The message is void, and ends here.
    pub is_aborted: bool,
}

/// The beginning of the answer to a command, or all of it: RESP, as the client is to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request that it answers.
    pub request: u32,
    /// The key is hot: for so many milliseconds from when it was asked, the asker may give the
    /// answer again by itself. 1 to [`KEEP_MS_MAX`].
    pub keep_ms: Option<u16>,
    /// What is there so far, at most [`PART_BYTES_MAX`] bytes; parts follow unless it is the last.
    pub bytes: &'a [u8],
    /// The answer is complete.
    pub is_last: bool,
}

/// Why a command was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ForwardStatus {
    /// Another node serves the key, by the epoch that the answer names.
    Moved = 1,
    /// Not now: the range is changing hands, or the command was forwarded too often.
    TryAgain = 2,
    /// Too much is asked.
    Refused = 3,
    /// It was meant for an earlier incarnation.
    OtherIncarnation = 4,
    /// The node hears no quorum and does not serve.
    Down = 5,
}

/// The answer to a command that was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The request that it answers.
    pub request: u32,
    /// Why.
    pub status: ForwardStatus,
    /// The epoch that the answering node knows.
    pub epoch: u64,
}

impl Fence {
    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        varint::encode(self.epoch, out);
        varint::encode(self.sender_incarnation, out);
        varint::encode(self.target_incarnation, out);
    }

    #[inline]
    fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            epoch: body.varint()?,
            sender_incarnation: body.varint()?,
            target_incarnation: body.varint()?,
        })
    }
}

impl ForwardHead {
    #[inline]
    pub(super) fn encode(&self, arguments_count: usize, out: &mut Vec<u8>) {
        self.fence.encode(out);
        match self.copy_reads {
            None => out.push(self.options.to_byte()),
            Some(reads) => {
                out.push(self.options.to_byte() | ForwardOptions::HAS_COPY_READS);
                varint::encode(reads.into(), out);
            }
        }
        varint::encode(arguments_count as u64, out);
    }

    #[inline]
    fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let fence = Fence::decode(body)?;
        let byte = body.byte()?;
        let copy_reads = if byte & ForwardOptions::HAS_COPY_READS == 0 {
            None
        } else {
            let reads = u32::try_from(body.varint()?);
            Some(reads.map_err(|_| WireError::Malformed)?)
        };
        Ok(Self {
            fence,
            options: ForwardOptions::from_byte(byte & !ForwardOptions::HAS_COPY_READS)?,
            copy_reads,
        })
    }
}

impl<'a> Forward<'a> {
    #[inline]
    pub(super) fn decode(
        request: u32,
        mut body: Reader<'a>,
        is_last: bool,
    ) -> Result<Self, WireError> {
        let head = ForwardHead::decode(&mut body)?;
        let arguments_count = body.bounded(ARGUMENTS_MAX)?;
        let (arguments, seen) = decode_arguments(body, is_last)?;
        if seen.count > arguments_count || is_last != seen.ends_with(arguments_count) {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            request,
            head,
            arguments_count,
            arguments,
            is_whole: is_last,
        })
    }

    /// The arguments of a whole command as slices; up to 16 of them without an allocation.
    ///
    /// # Panics
    /// If the command is not whole.
    #[inline]
    pub fn collect(&self, slices: &mut Slices<'a>) {
        assert!(self.is_whole);
        slices.clear();
        for argument in self.arguments.clone() {
            let Blob::Whole(bytes) = argument else {
                unreachable!("a whole command has no long argument");
            };
            slices.push(bytes);
        }
    }
}

impl<'a> MoreArguments<'a> {
    pub(super) fn decode(request: u32, body: Reader<'a>, is_last: bool) -> Result<Self, WireError> {
        let (arguments, _) = decode_arguments(body, is_last)?;
        Ok(Self {
            request,
            arguments,
            is_last,
        })
    }
}

/// What was seen of a frame's arguments.
struct Seen {
    count: usize,
    is_long: bool,
}

impl Seen {
    /// Whether a command of so many arguments, counted from this frame, ends with them.
    fn ends_with(&self, count: usize) -> bool {
        self.count == count && !self.is_long
    }
}

/// At least one argument; a long one only at the end, and not at the end of the command.
#[inline]
fn decode_arguments<'a>(
    body: Reader<'a>,
    is_last: bool,
) -> Result<(Arguments<'a>, Seen), WireError> {
    let mut seen = Seen {
        count: 0,
        is_long: false,
    };
    let arguments = Items::decode_some(body, |argument, has_next| {
        seen.count += 1;
        seen.is_long = matches!(argument, Blob::InParts(_));
        !seen.is_long || !(has_next || is_last)
    })?;
    Ok((arguments, seen))
}

impl<'a> Part<'a> {
    #[inline]
    pub(super) fn decode(
        stream: u32,
        mut body: Reader<'a>,
        is_last: bool,
        is_aborted: bool,
    ) -> Result<Self, WireError> {
        let offset = body.varint()?;
        let bytes = body.rest();
        // What ends a message may be empty: a reply's length need not be known before.
        let is_right = if is_aborted {
            bytes.is_empty() && !is_last
        } else {
            bytes.len() <= PART_BYTES_MAX && (is_last || !bytes.is_empty())
        };
        if !is_right || offset.checked_add(bytes.len() as u64).is_none() {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            stream,
            offset,
            bytes,
            is_last,
            is_aborted,
        })
    }
}

impl<'a> Reply<'a> {
    #[inline]
    pub(super) fn decode(
        request: u32,
        mut body: Reader<'a>,
        is_last: bool,
        has_keep: bool,
    ) -> Result<Self, WireError> {
        let keep_ms = if has_keep {
            match u16::try_from(body.varint()?) {
                Ok(ms @ 1..=KEEP_MS_MAX) => Some(ms),
                _ => return Err(WireError::Malformed),
            }
        } else {
            None
        };
        let bytes = body.rest();
        if bytes.len() > PART_BYTES_MAX {
            return Err(WireError::Malformed);
        }
        Ok(Self {
            request,
            keep_ms,
            bytes,
            is_last,
        })
    }
}

impl Status {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.status as u8);
        varint::encode(self.epoch, out);
    }

    pub(super) fn decode(request: u32, mut body: Reader<'_>) -> Result<Self, WireError> {
        let status = match body.byte()? {
            1 => ForwardStatus::Moved,
            2 => ForwardStatus::TryAgain,
            3 => ForwardStatus::Refused,
            4 => ForwardStatus::OtherIncarnation,
            5 => ForwardStatus::Down,
            _ => return Err(WireError::Malformed),
        };
        let epoch = body.varint()?;
        body.finish()?;
        Ok(Self {
            request,
            status,
            epoch,
        })
    }
}
