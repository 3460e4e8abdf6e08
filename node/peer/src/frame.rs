//! Bytes between nodes: a header, a postcard head, and raw payloads behind it.
//!
//! ```text
//!  0  1  format
//!  1  1  kind
//!  2  4  head bytes, little-endian
//!  6  4  tail bytes, little-endian
//! 10  .  head (postcard), then tail (raw)
//! ```
//!
//! A datagram holds one whole frame. What a header claims is checked against the bounds of its kind before
//! anything is allocated for it.

use crate::peers::FORWARD_BYTES_MAX;
use crate::wire::{WireAppend, WireBody, WireEntry, WireMessage};
use bytes::{Bytes, BytesMut};
use core::fmt;
use quorate_raft::{AppendEntries, Body, Message};
use quorate_types::{Entry, Index, Position, Start, Term, limits};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Message = 1,
    Forward = 2,
    Hello = 3,
    Knock = 4,
    KnockAnswer = 5,
    AreYouThere = 6,
    ImageOffer = 7,
    ImageAnswer = 8,
    ImageVerdict = 9,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Message,
        Kind::Forward,
        Kind::Hello,
        Kind::Knock,
        Kind::KnockAnswer,
        Kind::AreYouThere,
        Kind::ImageOffer,
        Kind::ImageAnswer,
        Kind::ImageVerdict,
    ];

    const fn head_bytes_max(self) -> usize {
        match self {
            Kind::Message => HEAD_BYTES_MAX,
            Kind::Forward => 0,
            Kind::KnockAnswer => WELCOME_BYTES_MAX,
            Kind::Knock => KNOCK_BYTES_MAX,
            Kind::Hello => HELLO_BYTES_MAX,
            Kind::AreYouThere | Kind::ImageOffer | Kind::ImageAnswer => 256,
            Kind::ImageVerdict => 4 * 1024,
        }
    }

    const fn tail_bytes_max(self) -> usize {
        match self {
            Kind::Message => limits::ENTRY_BYTES_MAX,
            Kind::Forward => FORWARD_BYTES_MAX,
            Kind::Hello
            | Kind::Knock
            | Kind::KnockAnswer
            | Kind::AreYouThere
            | Kind::ImageOffer
            | Kind::ImageAnswer
            | Kind::ImageVerdict => 0,
        }
    }
}

/// The start of a frame, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) head_bytes: usize,
    pub(crate) tail_bytes: usize,
}

impl Header {
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let [format, kind, a, b, c, d, e, f, g, h] = *bytes;
        if format != FORMAT {
            return Err(FrameError::Format(format));
        }
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind).ok_or(FrameError::Kind(kind))?;
        let head_bytes =
            usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| FrameError::TooLong)?;
        let tail_bytes =
            usize::try_from(u32::from_le_bytes([e, f, g, h])).map_err(|_| FrameError::TooLong)?;
        if head_bytes > kind.head_bytes_max() || tail_bytes > kind.tail_bytes_max() {
            return Err(FrameError::TooLong);
        }
        Ok(Header { kind, head_bytes, tail_bytes })
    }

    fn encode(self) -> [u8; HEADER_BYTES] {
        let head = u32::try_from(self.head_bytes).expect("checked against the kind's bound");
        let tail = u32::try_from(self.tail_bytes).expect("checked against the kind's bound");
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = FORMAT;
        bytes[1] = self.kind as u8;
        bytes[2..6].copy_from_slice(&head.to_le_bytes());
        bytes[6..].copy_from_slice(&tail.to_le_bytes());
        bytes
    }
}

/// Bytes that mean nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Written by a release that speaks otherwise.
    Format(u8),
    /// No kind known, or not expected here.
    Kind(u8),
    /// Claims more than its kind may hold.
    TooLong,
    /// The head does not read.
    Head,
    /// Head and tail do not agree.
    Tail,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Format(format) => write!(f, "frame of format {format}, this release speaks {FORMAT}"),
            FrameError::Kind(kind) => write!(f, "frame of kind {kind} is not expected here"),
            FrameError::TooLong => f.write_str("frame longer than its kind may be"),
            FrameError::Head => f.write_str("the frame's head does not read"),
            FrameError::Tail => f.write_str("the frame's head and payloads do not agree"),
        }
    }
}

/// A frame without tail. None: what was to be said is longer than the bound.
pub(crate) fn encode_head<T: Serialize>(kind: Kind, head: &T) -> Option<Vec<u8>> {
    let mut bytes = postcard::to_extend(head, vec![0; HEADER_BYTES]).ok()?;
    seal(kind, &mut bytes, 0).then_some(bytes)
}

/// A frame without tail whose head is already bytes.
pub(crate) fn encode_raw_head(kind: Kind, head: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(head);
    seal(kind, &mut bytes, 0).then_some(bytes)
}

/// Reads a head to its last byte.
pub(crate) fn decode_head<T: DeserializeOwned>(head: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(head) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Head),
    }
}

/// Reads a head to which a later release may have added: where two releases must understand each other far
/// enough to say that they do not.
pub(crate) fn decode_open_head<T: DeserializeOwned>(head: &[u8]) -> Result<T, FrameError> {
    postcard::take_from_bytes(head).map(|(value, _)| value).map_err(|_| FrameError::Head)
}

/// The header of a forward; its bytes follow. None: too long.
pub(crate) fn forward_header(bytes: usize) -> Option<[u8; HEADER_BYTES]> {
    (bytes <= FORWARD_BYTES_MAX)
        .then(|| Header { kind: Kind::Forward, head_bytes: 0, tail_bytes: bytes }.encode())
}

/// A message as one or more byte strings; long payloads are shared with the log, not copied.
///
/// An append that is longer than one may be is cut: its first entries are an append too, and the rest is sent
/// again when the receiver says what it misses. None: even its first entry is too long, or its entries do
/// not follow each other; such an append is a mistake of the sender's and is told as one.
pub(crate) fn encode_message(message: &Message) -> Option<Vec<Bytes>> {
    let (head, payloads) = match &message.body {
        Body::AppendEntries(append) => append_head(message.start, message.term, append)?,
        Body::PreVoteRequest(_)
        | Body::PreVoteAnswer { .. }
        | Body::VoteRequest(_)
        | Body::VoteAnswer { .. }
        | Body::Heartbeat(_)
        | Body::HeartbeatAnswer(_)
        | Body::AppendAnswer(_)
        | Body::ReadRequest { .. }
        | Body::ReadAnswer { .. }
        | Body::CampaignNow
        | Body::StaleStart { .. } => (WireMessage::plain(message)?, [].as_slice()),
    };
    let tail_bytes = payloads.iter().map(|entry| entry.payload.len()).sum();
    let mut bytes = postcard::to_extend(&head, vec![0; HEADER_BYTES]).ok()?;
    if !seal(Kind::Message, &mut bytes, tail_bytes) {
        return None;
    }
    let mut chunks = Vec::new();
    let mut open = BytesMut::from(Bytes::from(bytes));
    for entry in payloads {
        if entry.payload.len() < SHARE_BYTES_MIN {
            open.extend_from_slice(&entry.payload);
        } else {
            chunks.push(open.split().freeze());
            chunks.push(Bytes::from_owner(Arc::clone(&entry.payload)));
        }
    }
    if !open.is_empty() {
        chunks.push(open.freeze());
    }
    Some(chunks)
}

/// What of an append may be sent: the head, and the entries it speaks of.
fn append_head(start: Start, term: Term, append: &AppendEntries) -> Option<(WireMessage, &[Entry])> {
    let mut entries = Vec::new();
    let (mut bytes, mut last) = (0, append.previous.index);
    for entry in &append.entries {
        let length = entry.payload.len();
        let is_next = last.0.checked_add(1) == Some(entry.position.index.0);
        if !is_next || length > limits::ENTRY_BYTES_MAX {
            return None;
        }
        let fits = entries.is_empty() || bytes + length <= limits::APPEND_BYTES_MAX;
        if !fits || entries.len() == limits::BATCH_ENTRY_COUNT_MAX {
            break;
        }
        entries.push(WireEntry {
            term: entry.position.term,
            kind: entry.kind,
            bytes: u32::try_from(length).ok()?,
        });
        bytes += length;
        last = entry.position.index;
    }
    let sent = &append.entries[..entries.len()];
    let body = WireBody::AppendEntries(WireAppend {
        previous: append.previous,
        committed: append.committed,
        entries,
    });
    Some((WireMessage { start, term, body }, sent))
}

/// A message whose payloads are still on their way.
#[derive(Debug)]
pub(crate) enum MessageHead {
    /// It has none.
    Whole(Message),
    /// They follow, each with its length.
    Append(AppendHead),
}

/// An append whose payloads follow.
#[derive(Debug)]
pub(crate) struct AppendHead {
    start: Start,
    term: Term,
    append: WireAppend,
}

impl MessageHead {
    /// Reads and checks a head against the tail's length.
    pub(crate) fn decode(head: &[u8], tail_bytes: usize) -> Result<MessageHead, FrameError> {
        let wire: WireMessage = decode_head(head)?;
        let (start, term) = (wire.start, wire.term);
        match wire.into_plain() {
            Ok(message) if tail_bytes == 0 => Ok(MessageHead::Whole(message)),
            Ok(_) => Err(FrameError::Tail),
            Err(append) => AppendHead { start, term, append }.checked(tail_bytes).map(MessageHead::Append),
        }
    }
}

impl AppendHead {
    /// Lengths of the payloads, in order; their sum is the tail's length.
    pub(crate) fn payload_bytes(&self) -> impl Iterator<Item = usize> + '_ {
        self.append.entries.iter().map(|entry| usize::try_from(entry.bytes).unwrap_or(usize::MAX))
    }

    /// The message, from the payloads in order.
    ///
    /// # Panics
    /// They are not as many as `payload_bytes` told.
    pub(crate) fn with_payloads(self, payloads: Vec<Arc<[u8]>>) -> Message {
        assert_eq!(payloads.len(), self.append.entries.len(), "one payload for each entry was read");
        let first = self.append.previous.index.0;
        // The indexes come last: asked for one more than there are entries, they could run over.
        let entries = self.append.entries.into_iter().zip(payloads).zip(first + 1..);
        let entries = entries
            .map(|((entry, payload), index)| Entry {
                position: Position { term: entry.term, index: Index(index) },
                kind: entry.kind,
                payload,
            })
            .collect();
        let append =
            AppendEntries { previous: self.append.previous, entries, committed: self.append.committed };
        Message { start: self.start, term: self.term, body: Body::AppendEntries(append) }
    }

    fn checked(self, tail_bytes: usize) -> Result<AppendHead, FrameError> {
        let count = self.append.entries.len();
        let has_room = u64::try_from(count).is_ok_and(|count| {
            // The last index has one after it, as every index of a log has.
            self.append.previous.index.0.checked_add(count).is_some_and(|last| last < u64::MAX)
        });
        if !has_room {
            return Err(FrameError::Head);
        }
        let mut sum = 0_usize;
        for bytes in self.payload_bytes() {
            sum = sum.saturating_add(bytes);
        }
        let bound = if count == 1 { limits::ENTRY_BYTES_MAX } else { limits::APPEND_BYTES_MAX };
        if sum != tail_bytes || sum > bound {
            return Err(FrameError::Tail);
        }
        Ok(self)
    }
}

/// Reads a whole frame that holds a message without payloads: what a datagram may carry.
pub(crate) fn decode_datagram(frame: &[u8]) -> Result<Message, FrameError> {
    let (header, head) = frame.split_first_chunk().ok_or(FrameError::Head)?;
    let header = Header::decode(header)?;
    if header.kind != Kind::Message {
        return Err(FrameError::Kind(header.kind as u8));
    }
    if header.tail_bytes != 0 || head.len() != header.head_bytes {
        return Err(FrameError::Tail);
    }
    match MessageHead::decode(head, 0)? {
        MessageHead::Whole(message) => Ok(message),
        MessageHead::Append(head) if head.payload_bytes().next().is_none() => {
            Ok(head.with_payloads(Vec::new()))
        }
        MessageHead::Append(_) => Err(FrameError::Tail),
    }
}

/// Writes the header into the room left for it; whether the frame keeps its bounds.
fn seal(kind: Kind, bytes: &mut [u8], tail_bytes: usize) -> bool {
    let head_bytes = bytes.len() - HEADER_BYTES;
    if head_bytes > kind.head_bytes_max() || tail_bytes > kind.tail_bytes_max() {
        return false;
    }
    bytes[..HEADER_BYTES].copy_from_slice(&Header { kind, head_bytes, tail_bytes }.encode());
    true
}

pub(crate) const HEADER_BYTES: usize = 10;
const FORMAT: u8 = 1;

/// Entries of an append cost at most 14 bytes each in the head: ten for the term, one for the kind, three for
/// the length.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A hello's head: its starts are most of it, at most twenty bytes each.
const HELLO_BYTES_MAX: usize = 256 + 20 * limits::EARLIER_STARTS_COUNT_MAX;

/// Invite key, proof, a name, and sixteen addresses.
const KNOCK_BYTES_MAX: usize = 16 * 1024;

/// Sixteen members with all their addresses.
const WELCOME_BYTES_MAX: usize = 256 * 1024;

/// From here on a payload is shared instead of copied: below, the copy is cheaper than the bookkeeping.
const SHARE_BYTES_MIN: usize = 4 * 1024;

const _: () = assert!(HEAD_BYTES_MAX > 14 * limits::BATCH_ENTRY_COUNT_MAX + 64);

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
