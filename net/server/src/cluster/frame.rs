//! Temporary framing until the protocol crate's is there.

use bytes::{Buf, BufMut};
use fulmar_cluster::{Epoch, Incarnation, NodeId};
use fulmar_protocol::resp::RespVersion;

use super::links::Peer;
use super::shared::Shared;

pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello,
    HelloReply,
    Forward,
    Reply,
    ReplyPart,
    Refused,
    Control,
    Batch,
    Follower,
}

const KINDS: [Kind; 9] = [
    Kind::Hello,
    Kind::HelloReply,
    Kind::Forward,
    Kind::Reply,
    Kind::ReplyPart,
    Kind::Refused,
    Kind::Control,
    Kind::Batch,
    Kind::Follower,
];

pub(crate) fn begin(out: &mut Vec<u8>, kind: Kind, id: u32) -> usize {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind as u8);
    out.put_u32_le(id);
    start
}

pub(crate) fn end(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).expect("a frame");
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: u32,
    pub(crate) body: &'a [u8],
    pub(crate) length: usize,
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, ()> {
    let mut header = bytes;
    let Ok(length) = header.try_get_u32_le() else {
        return Ok(None);
    };
    let length = length as usize;
    if length < 9 {
        return Err(());
    }
    if bytes.len() < length {
        return Ok(None);
    }
    let kind = *KINDS.get(usize::from(bytes[4])).ok_or(())?;
    let id = u32::from_le_bytes(bytes[5..9].try_into().expect("four"));
    Ok(Some(Frame {
        kind,
        id,
        body: &bytes[9..length],
        length,
    }))
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardHeader {
    pub(crate) epoch: Epoch,
    pub(crate) incarnation: Incarnation,
    pub(crate) hops: u8,
    pub(crate) version: RespVersion,
}

pub(crate) fn put_forward(out: &mut Vec<u8>, id: u32, header: &ForwardHeader, args: &[&[u8]]) {
    let start = begin(out, Kind::Forward, id);
    out.put_u64_le(header.epoch.0);
    out.put_u64_le(header.incarnation.0);
    out.put_u8(header.hops);
    out.put_u8(match header.version {
        RespVersion::Resp2 => 2,
        RespVersion::Resp3 => 3,
    });
    out.put_u32_le(u32::try_from(args.len()).expect("bounded"));
    for arg in args {
        out.put_u32_le(u32::try_from(arg.len()).expect("bounded"));
        out.put_slice(arg);
    }
    end(out, start);
}

pub(crate) fn take_forward<'a>(
    mut body: &'a [u8],
    args: &mut Vec<&'a [u8]>,
) -> Option<ForwardHeader> {
    let header = ForwardHeader {
        epoch: Epoch(body.try_get_u64_le().ok()?),
        incarnation: Incarnation(body.try_get_u64_le().ok()?),
        hops: body.try_get_u8().ok()?,
        version: match body.try_get_u8().ok()? {
            2 => RespVersion::Resp2,
            _ => RespVersion::Resp3,
        },
    };
    let count = body.try_get_u32_le().ok()?;
    for _ in 0..count {
        let length = body.try_get_u32_le().ok()? as usize;
        let (arg, rest) = body.split_at_checked(length)?;
        args.push(arg);
        body = rest;
    }
    Some(header)
}

pub(crate) fn put_hello(out: &mut Vec<u8>, shared: &Shared) {
    let start = begin(out, Kind::Hello, 0);
    out.put_u64_le(shared.own.0);
    end(out, start);
}

pub(crate) fn put_hello_reply(out: &mut Vec<u8>, shared: &Shared) {
    let start = begin(out, Kind::HelloReply, 0);
    out.put_u64_le(shared.own.0);
    end(out, start);
}

pub(crate) fn take_hello(frame: &Frame<'_>, _shared: &Shared) -> Option<NodeId> {
    let mut body = frame.body;
    (frame.kind == Kind::Hello).then_some(NodeId(body.try_get_u64_le().ok()?))
}

pub(crate) fn is_hello_of(frame: &Frame<'_>, peer: Peer) -> bool {
    let mut body = frame.body;
    let node = body.try_get_u64_le();
    match peer {
        Peer::Node(expected) => node == Ok(expected.0),
        Peer::Seed(_) => node.is_ok(),
    }
}

pub(crate) fn put_refused(out: &mut Vec<u8>, id: u32) {
    let start = begin(out, Kind::Refused, id);
    end(out, start);
}

pub(crate) fn put_message(out: &mut Vec<u8>, kind: Kind, body: &[u8]) {
    let start = begin(out, kind, 0);
    out.put_slice(body);
    end(out, start);
}

/// Frames what was appended to `out` from `start` on as a reply.
pub(crate) fn frame_reply(out: &mut Vec<u8>, start: usize, id: u32) {
    if out.len() - start <= FRAME_BYTES_MAX {
        out.splice(start..start, [0; 9]);
        let length = u32::try_from(out.len() - start).expect("a frame");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4] = Kind::Reply as u8;
        out[start + 5..start + 9].copy_from_slice(&id.to_le_bytes());
        return;
    }
    let reply = out.split_off(start);
    let mut chunks = reply.chunks(FRAME_BYTES_MAX).peekable();
    while let Some(chunk) = chunks.next() {
        let kind = if chunks.peek().is_some() {
            Kind::ReplyPart
        } else {
            Kind::Reply
        };
        let start = begin(out, kind, id);
        out.put_slice(chunk);
        end(out, start);
    }
}
