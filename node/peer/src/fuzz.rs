//! What peers and strangers may say, read without a socket: the bodies of the fuzz targets in `tests/fuzz`,
//! which also run as short tests. They panic where an invariant breaks, and do nothing else.

use crate::frame::{self, FrameError, HEADER_BYTES, Header, Kind, MessageHead};
use crate::image::ImageOffer;
use crate::join::answer::check_lengths;
use crate::join::proof::Knock;
use crate::join::{JoinRefusal, JoinRequest};
use crate::token::Token;
use crate::wire::{AreYouThere, Hello, WireKnock, WireWelcome};
use quorate_raft::Message;
use quorate_types::{ClusterId, Index, Member, Membership, NodeId, PeerKey};

/// Reads bytes as a stream of frames. A message that reads is written and read again, and is the same.
pub fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(length)) = one_frame(rest) {
        rest = &rest[length..];
    }
    if let Ok(message) = frame::decode_datagram(bytes) {
        let chunks = frame::encode_message(&message).expect("what was read can be written");
        assert_eq!(frame::decode_datagram(&chunks.concat()), Ok(message));
    }
}

/// Reads text as a token. One that reads prints as the same text.
pub fn token(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if let Ok(token) = Token::parse(text) {
        assert_eq!(token.print(), text.trim());
    }
}

/// Reads bytes as all that is said at the join door, by strangers and to joiners.
pub fn join_request(bytes: &[u8]) {
    if let Ok(knock) = Knock::decode(bytes) {
        assert_eq!(knock.encode(), bytes);
        if let Ok(said) = frame::decode_head::<WireKnock>(knock.said) {
            // Nobody is asked about what is too long; the answer is words of a bounded length.
            if let Err(refusal) = check_lengths(&said) {
                assert!(refusal.to_string().len() < 512);
            }
        }
    }
    let answer = frame::decode_head::<Result<WireWelcome, JoinRefusal>>(bytes);
    if let Ok(Ok(welcome)) = answer {
        let written = frame::encode_head(Kind::KnockAnswer, &Ok::<_, JoinRefusal>(&welcome));
        let written = written.expect("what was read can be written");
        assert_eq!(frame::decode_head(&written[HEADER_BYTES..]), Ok(Ok::<_, JoinRefusal>(welcome.clone())));
        assert!(welcome.into_membership().members.len() <= quorate_types::limits::MEMBER_COUNT_MAX);
    }
    drop(postcard::from_bytes::<JoinRequest>(bytes));
}

/// Frames that mean something, for a fuzzer to begin with.
#[must_use]
pub fn seeds(messages: &[Message]) -> Vec<Vec<u8>> {
    messages.iter().filter_map(frame::encode_message).map(|chunks| chunks.concat()).collect()
}

/// Length of the frame at the front; none if there is not all of it.
fn one_frame(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let header = Header::decode(header)?;
    let Some((head, rest)) = rest.split_at_checked(header.head_bytes) else { return Ok(None) };
    let Some(tail) = rest.get(..header.tail_bytes) else { return Ok(None) };
    match header.kind {
        Kind::Message => one_message(head, tail)?,
        Kind::Forward => {
            assert_eq!(
                frame::forward_header(tail.len()).map(|header| header.to_vec()),
                Some(bytes[..HEADER_BYTES].to_vec())
            );
        }
        Kind::Hello => drop(frame::decode_head::<Hello>(head)),
        Kind::Knock | Kind::KnockAnswer => join_request(head),
        Kind::AreYouThere => drop(frame::decode_head::<AreYouThere>(head).is_ok()),
        Kind::ImageOffer => drop(frame::decode_head::<ImageOffer>(head).is_ok()),
        Kind::ImageAnswer => drop(frame::decode_head::<Option<u64>>(head).is_ok()),
        Kind::ImageVerdict => drop(frame::decode_head::<Result<(), String>>(head)),
    }
    Ok(Some(HEADER_BYTES + header.head_bytes + header.tail_bytes))
}

/// A message that reads is written and read again, and is the same.
fn one_message(head: &[u8], tail: &[u8]) -> Result<(), FrameError> {
    let message = read_message(head, tail)?;
    let written = frame::encode_message(&message).expect("what was read can be written").concat();
    let (header, rest) = written.split_first_chunk().expect("a header was written");
    let header = Header::decode(header).expect("what was written reads");
    let (head, tail) = rest.split_at(header.head_bytes);
    assert_eq!(tail.len(), header.tail_bytes);
    assert_eq!(read_message(head, tail), Ok(message));
    Ok(())
}

pub(crate) fn read_message(head: &[u8], mut tail: &[u8]) -> Result<Message, FrameError> {
    let append = match MessageHead::decode(head, tail.len())? {
        MessageHead::Whole(message) => return Ok(message),
        MessageHead::Append(append) => append,
    };
    let mut payloads = Vec::new();
    for length in append.payload_bytes() {
        let (payload, rest) = tail.split_at(length);
        tail = rest;
        payloads.push(payload.into());
    }
    assert!(tail.is_empty(), "the payloads are the whole tail");
    Ok(append.with_payloads(payloads))
}

/// A knock and its two answers, for a fuzzer to begin with.
#[must_use]
pub fn join_seeds() -> Vec<Vec<u8>> {
    let said = WireKnock {
        version: 1,
        cluster: ClusterId(7),
        name: "n2".into(),
        peer_addresses: vec!["n2:2380".into(), "[::1]:2380".into()],
        client_urls: vec!["http://n2:2379".into()],
        stays_learner: true,
    };
    let said = postcard::to_allocvec(&said).unwrap_or_default();
    let knock = Knock { invite: PeerKey([3; 32]), signature: [4; 64], said: &said }.encode();
    let member = Member {
        id: NodeId(1),
        name: "n1".into(),
        peer_addresses: vec!["n1:2380".into()],
        client_urls: vec![],
        key: PeerKey([1; 32]),
        stays_learner: false,
    };
    let welcome = WireWelcome::new(ClusterId(7), NodeId(2), Index(9), &Membership::founded_by(member));
    let refusal = JoinRefusal::NotReachedBack("n2:2380: nothing answers".into());
    let answers =
        [Ok(welcome), Err(refusal)].map(|answer| postcard::to_allocvec(&answer).unwrap_or_default());
    [vec![knock], answers.to_vec()].concat()
}
