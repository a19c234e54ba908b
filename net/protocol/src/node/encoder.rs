//! From what a node says to bytes.

use crc32fast::Hasher;

use super::blob::Blob;
use super::forward::{ForwardHead, Status};
use super::header::{self, CRC_BYTES, Flags, HEADER_BYTES, Kind};
use super::hello::{Goodbye, Hello, HelloReply, Proof};
use super::{ARGUMENTS_MAX, DATA_BYTES_MAX, KEEP_MS_MAX, PART_BYTES_MAX, varint};

/// Appends frames to a buffer; none is left half done.
///
/// What cannot be encoded is a programmer's error and panics: the bounds are this module's constants.
/// It allocates only where the buffer grows.
///
/// A command with a long value, the value as it comes:
///
/// ```
/// use fulmar_protocol::node::{
///     Blob, Encoder, Fence, ForwardHead, ForwardOptions, PART_BYTES_MAX, ReplyForm,
/// };
///
/// let fence = Fence { epoch: 3, sender_incarnation: 1, target_incarnation: 2 };
/// let options = ForwardOptions {
///     form: ReplyForm::Resp2,
///     hops: 1,
///     may_read_replica: false,
///     is_local: false,
/// };
/// let head = ForwardHead { fence, options, copy_reads: None };
/// let value = [7; 40_000];
/// let mut arguments =
///     [Blob::Whole(b"SET"), Blob::Whole(b"key"), Blob::InParts(value.len()), Blob::Whole(b"NX")]
///         .into_iter();
/// let mut out = Vec::new();
/// let mut encoder = Encoder::new(&mut out);
/// encoder.forward(9, &head, &mut arguments);
/// let mut offset = 0;
/// for part in value.chunks(PART_BYTES_MAX) {
///     encoder.part(9, offset, part, false);
///     offset += part.len() as u64;
/// }
/// encoder.arguments(9, &mut arguments);
/// ```
#[derive(Debug)]
pub struct Encoder<'o> {
    out: &'o mut Vec<u8>,
}

/// A frame under way, from `start` on.
#[derive(Debug)]
struct Draft<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> Draft<'o> {
    #[inline]
    fn new(out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        Self { out, start }
    }

    #[inline]
    fn body_bytes(&self) -> usize {
        self.out.len() - self.start - HEADER_BYTES
    }

    #[inline]
    fn finish(&mut self, kind: Kind, flags: Flags, stream: u32) {
        let body_bytes = self.body_bytes();
        assert!(body_bytes <= kind.body_bytes_max());
        let frame = &mut self.out[self.start..];
        header::write(frame, body_bytes, stream, kind, flags);
        let crc = crc32fast::hash(&frame[CRC_BYTES..]);
        frame[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    }

    /// Begins the next frame behind this one.
    fn next(self) -> Self {
        Self::new(self.out)
    }
}

impl<'o> Encoder<'o> {
    /// Appends to `out`.
    #[inline]
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Hello.
    pub fn hello(&mut self, hello: &Hello) {
        let mut draft = Draft::new(self.out);
        hello.encode(draft.out);
        draft.finish(Kind::Hello, Flags::NONE, 0);
    }

    /// The answer to Hello.
    pub fn hello_reply(&mut self, reply: &HelloReply) {
        let mut draft = Draft::new(self.out);
        reply.encode(draft.out);
        draft.finish(Kind::HelloReply, Flags::NONE, 0);
    }

    /// The end of the greeting.
    pub fn proof(&mut self, proof: &Proof) {
        let mut draft = Draft::new(self.out);
        draft.out.extend_from_slice(&proof.0);
        draft.finish(Kind::Proof, Flags::NONE, 0);
    }

    /// The end of the connection.
    pub fn goodbye(&mut self, reason: Goodbye) {
        let mut draft = Draft::new(self.out);
        draft.out.push(reason.to_byte());
        draft.finish(Kind::Goodbye, Flags::NONE, 0);
    }

    /// Asks whether the other side is there.
    pub fn ping(&mut self, nonce: u64) {
        self.nonce(Kind::Ping, nonce);
    }

    /// Says so.
    pub fn pong(&mut self, nonce: u64) {
        self.nonce(Kind::Pong, nonce);
    }

    fn nonce(&mut self, kind: Kind, nonce: u64) {
        let mut draft = Draft::new(self.out);
        draft.out.extend_from_slice(&nonce.to_le_bytes());
        draft.finish(kind, Flags::NONE, 0);
    }

    /// What members say to each other, at most [`CONTROL_BYTES_MAX`](super::CONTROL_BYTES_MAX) bytes.
    pub fn control(&mut self) -> PayloadEncoder<'_> {
        PayloadEncoder::new(self.out, Kind::Control)
    }

    /// What a core has for copies, at most [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX) bytes.
    pub fn batch(&mut self) -> PayloadEncoder<'_> {
        PayloadEncoder::new(self.out, Kind::Batch)
    }

    /// What the core of a copy says, at most [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX) bytes.
    pub fn told(&mut self) -> PayloadEncoder<'_> {
        PayloadEncoder::new(self.out, Kind::Told)
    }

    /// A command, up to its first long argument: then its parts follow, and then
    /// [`arguments`](Self::arguments) with what is left in the iterator, or, if nothing is, a last
    /// part.
    #[inline]
    pub fn forward<'a>(
        &mut self,
        request: u32,
        head: &ForwardHead,
        arguments: &mut impl ExactSizeIterator<Item = Blob<'a>>,
    ) {
        assert!((1..=ARGUMENTS_MAX).contains(&arguments.len()));
        let draft = Draft::new(self.out);
        head.encode(arguments.len(), draft.out);
        fill(draft, Kind::Forward, request, arguments);
    }

    /// More arguments of a command, up to its next long one.
    pub fn arguments<'a>(
        &mut self,
        request: u32,
        arguments: &mut impl ExactSizeIterator<Item = Blob<'a>>,
    ) {
        assert!(arguments.len() > 0);
        fill(Draft::new(self.out), Kind::Arguments, request, arguments);
    }

    /// A part of 1 to [`PART_BYTES_MAX`] bytes; the last one of a reply may be empty.
    pub fn part(&mut self, stream: u32, offset: u64, bytes: &[u8], is_last: bool) {
        self.part_header(stream, offset, is_last, std::iter::once(bytes));
        self.out.extend_from_slice(bytes);
    }

    /// All of a part but its bytes, which the caller sends behind it, from where they lie: the
    /// pieces are read for the checksum alone.
    pub fn part_header<'a>(
        &mut self,
        stream: u32,
        offset: u64,
        is_last: bool,
        pieces: impl Iterator<Item = &'a [u8]> + Clone,
    ) {
        let bytes_count: usize = pieces.clone().map(<[u8]>::len).sum();
        assert!(bytes_count <= PART_BYTES_MAX);
        assert!(is_last || bytes_count > 0);
        let draft = Draft::new(self.out);
        varint::encode(offset, draft.out);
        let body_bytes = draft.body_bytes() + bytes_count;
        let frame = &mut draft.out[draft.start..];
        let flags = Flags::NONE.with(Flags::LAST, is_last);
        header::write(frame, body_bytes, stream, Kind::Part, flags);
        let mut hasher = Hasher::new();
        hasher.update(&frame[CRC_BYTES..]);
        pieces.for_each(|piece| hasher.update(piece));
        frame[..CRC_BYTES].copy_from_slice(&hasher.finalize().to_le_bytes());
    }

    /// The message of a stream is void, and nothing more of it comes.
    pub fn abort(&mut self, stream: u32, offset: u64) {
        let mut draft = Draft::new(self.out);
        varint::encode(offset, draft.out);
        draft.finish(Kind::Part, Flags::ABORTED, stream);
    }

    /// The answer to a command, or its beginning: then parts follow, the first at offset 0. At most
    /// [`PART_BYTES_MAX`] bytes.
    #[inline]
    pub fn reply(&mut self, request: u32, keep_ms: Option<u16>, bytes: &[u8], is_last: bool) {
        assert!(bytes.len() <= PART_BYTES_MAX);
        let mut draft = Draft::new(self.out);
        if let Some(ms) = keep_ms {
            assert!((1..=KEEP_MS_MAX).contains(&ms));
            varint::encode(ms.into(), draft.out);
        }
        draft.out.extend_from_slice(bytes);
        let flags = Flags::NONE
            .with(Flags::LAST, is_last)
            .with(Flags::KEEP, keep_ms.is_some());
        draft.finish(Kind::Reply, flags, request);
    }

    /// The answer to a command, written in place and of any length. With `keep_ms`, of 1 to
    /// [`KEEP_MS_MAX`], the asker may give it again for so long.
    ///
    /// # Panics
    /// If `keep_ms` is out of its bounds.
    #[inline]
    pub fn reply_in_place(&mut self, request: u32, keep_ms: Option<u16>) -> ReplyEncoder<'_> {
        let draft = Draft::new(self.out);
        let mut flags = Flags::NONE;
        if let Some(ms) = keep_ms {
            assert!((1..=KEEP_MS_MAX).contains(&ms));
            varint::encode(ms.into(), draft.out);
            flags = Flags::KEEP;
        }
        ReplyEncoder {
            before_bytes: draft.body_bytes(),
            draft: Some(draft),
            flags,
            request,
        }
    }

    /// A command was not executed.
    pub fn status(&mut self, status: &Status) {
        let mut draft = Draft::new(self.out);
        status.encode(draft.out);
        draft.finish(Kind::Status, Flags::NONE, status.request);
    }
}

/// Puts arguments into frames, as many as they need, until one is long or there are no more.
#[inline]
fn fill<'a>(
    mut draft: Draft<'_>,
    mut kind: Kind,
    request: u32,
    arguments: &mut impl ExactSizeIterator<Item = Blob<'a>>,
) {
    for argument in arguments.by_ref() {
        if draft.body_bytes() + argument.wire_bytes() > DATA_BYTES_MAX {
            draft.finish(kind, Flags::NONE, request);
            draft = draft.next();
            kind = Kind::Arguments;
        }
        argument.encode(draft.out);
        if matches!(argument, Blob::InParts(_)) {
            return draft.finish(kind, Flags::NONE, request);
        }
    }
    draft.finish(kind, Flags::LAST, request);
}

/// A frame under way whose body somebody else writes where it will lie: append to
/// [`payload`](Self::payload), then [`finish`](Self::finish). Dropped before, it leaves no trace.
#[derive(Debug)]
#[must_use]
pub struct PayloadEncoder<'o> {
    /// None once it is finished.
    draft: Option<Draft<'o>>,
    kind: Kind,
}

impl<'o> PayloadEncoder<'o> {
    fn new(out: &'o mut Vec<u8>, kind: Kind) -> Self {
        Self {
            draft: Some(Draft::new(out)),
            kind,
        }
    }

    /// Where the body is appended. What lies there already is not to be touched.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        self.draft.as_mut().expect(UNFINISHED).out
    }

    /// The body so far.
    pub fn body_mut(&mut self) -> &mut [u8] {
        let draft = self.draft.as_mut().expect(UNFINISHED);
        &mut draft.out[draft.start + HEADER_BYTES..]
    }

    /// Completes the frame.
    ///
    /// # Panics
    /// If the body is longer than its kind may be.
    pub fn finish(mut self) {
        let mut draft = self.draft.take().expect(UNFINISHED);
        draft.finish(self.kind, Flags::NONE, 0);
    }
}

impl Drop for PayloadEncoder<'_> {
    fn drop(&mut self) {
        abandon(self.draft.take());
    }
}

/// The answer to a command under way: append RESP to [`payload`](Self::payload), then
/// [`finish`](Self::finish). Dropped before, it leaves no trace.
#[derive(Debug)]
#[must_use]
pub struct ReplyEncoder<'o> {
    /// None once it is finished.
    draft: Option<Draft<'o>>,
    /// Length of what stands before the answer in the first body.
    before_bytes: usize,
    flags: Flags,
    request: u32,
}

impl ReplyEncoder<'_> {
    /// Where the answer is appended. What lies there already is not to be touched.
    #[inline]
    pub fn payload(&mut self) -> &mut Vec<u8> {
        self.draft.as_mut().expect(UNFINISHED).out
    }

    /// Completes the frame, or as many as the answer needs: what is beyond the first is copied once.
    #[inline]
    pub fn finish(mut self) {
        let mut draft = self.draft.take().expect(UNFINISHED);
        let first_bytes_max = self.before_bytes + PART_BYTES_MAX;
        if draft.body_bytes() <= first_bytes_max {
            let flags = self.flags.with(Flags::LAST, true);
            return draft.finish(Kind::Reply, flags, self.request);
        }
        let rest = draft
            .out
            .split_off(draft.start + HEADER_BYTES + first_bytes_max);
        draft.finish(Kind::Reply, self.flags, self.request);
        let mut encoder = Encoder::new(draft.out);
        let mut offset = 0;
        while offset < rest.len() {
            let end = (offset + PART_BYTES_MAX).min(rest.len());
            let is_last = end == rest.len();
            encoder.part(self.request, offset as u64, &rest[offset..end], is_last);
            offset = end;
        }
    }
}

impl Drop for ReplyEncoder<'_> {
    fn drop(&mut self) {
        abandon(self.draft.take());
    }
}

/// Why a frame under way has its draft.
const UNFINISHED: &str = "only `finish` and `drop` take it";

fn abandon(draft: Option<Draft<'_>>) {
    if let Some(draft) = draft {
        draft.out.truncate(draft.start);
    }
}
