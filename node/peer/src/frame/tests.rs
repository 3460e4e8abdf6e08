use super::*;
use crate::fuzz;
use proptest::prelude::*;
use quorate_raft::{AppendAnswer, Card, Heartbeat, HeartbeatAnswer, VoteRequest};
use quorate_types::{EntryKind, NodeId, Start};

fn position(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

fn message(body: Body) -> Message {
    Message { start: Start { count: 300, incarnation: u64::MAX }, term: Term(9), body }
}

fn append(previous: u64, payloads: Vec<Vec<u8>>) -> AppendEntries {
    let entries = (previous + 1..).zip(payloads).map(|(index, payload)| Entry {
        position: position(8, index),
        kind: EntryKind::Command,
        payload: payload.into(),
    });
    AppendEntries { previous: position(7, previous), entries: entries.collect(), committed: Index(4) }
}

/// One of each kind.
fn each() -> Vec<Message> {
    let vote = VoteRequest { last: position(8, 100), is_hand_over: true };
    [
        Body::PreVoteRequest(vote),
        Body::PreVoteAnswer { granted: true },
        Body::VoteRequest(vote),
        Body::VoteAnswer { granted: false },
        Body::Heartbeat(Heartbeat { committed: Index(100), round: 12 }),
        Body::HeartbeatAnswer(HeartbeatAnswer {
            round: 12,
            verified: Index(99),
            persisted: Index(98),
            card: Card::Takes(40),
        }),
        Body::AppendEntries(append(5, vec![b"one".to_vec(), vec![], vec![3; 5_000], b"four".to_vec()])),
        Body::AppendEntries(append(0, vec![])),
        Body::AppendAnswer(AppendAnswer::Taken { verified: Index(9), persisted: Index(8) }),
        Body::AppendAnswer(AppendAnswer::Rejected { previous: Index(9), hint: position(2, 3) }),
        Body::AppendAnswer(AppendAnswer::Full),
        Body::ReadRequest { number: 77 },
        Body::ReadAnswer { number: 77, index: Some(Index(1)) },
        Body::ReadAnswer { number: 78, index: None },
        Body::CampaignNow,
        Body::StaleStart { seen: Start { count: 1, incarnation: 2 } },
    ]
    .map(message)
    .to_vec()
}

/// What a receiver makes of a whole frame.
fn decode(frame: &[u8]) -> Result<Message, FrameError> {
    let (header, rest) = frame.split_first_chunk().ok_or(FrameError::Head)?;
    let header = Header::decode(header)?;
    let (head, tail) = rest.split_at_checked(header.head_bytes).ok_or(FrameError::Head)?;
    fuzz::read_message(head, tail)
}

fn encode(message: &Message) -> Vec<u8> {
    encode_message(message).unwrap().concat()
}

#[test]
fn each_kind_reads_back() {
    for message in each() {
        assert_eq!(decode(&encode(&message)), Ok(message));
    }
}

#[test]
fn the_format_is_this() {
    // Format 1, kind 1, nine bytes of head, none of tail; then start, term, variant 11, number.
    let message = Message {
        start: Start { count: 2, incarnation: 3 },
        term: Term(5),
        body: Body::ReadAnswer { number: 300, index: Some(Index(7)) },
    };
    let bytes = [1, 1, 8, 0, 0, 0, 0, 0, 0, 0, 2, 3, 5, 11, 0xac, 0x02, 1, 7];
    assert_eq!(encode(&message), bytes);
    let append = append(5, vec![b"ab".to_vec(), b"c".to_vec()]);
    let message = Message {
        start: Start { count: 2, incarnation: 3 },
        term: Term(5),
        body: Body::AppendEntries(append),
    };
    let head = [2, 3, 5, 6, 7, 5, 4, 2, 8, 1, 2, 8, 1, 1];
    let bytes = [[1, 1, 14, 0, 0, 0, 3, 0, 0, 0].as_slice(), &head, b"abc"].concat();
    assert_eq!(encode(&message), bytes);
}

#[test]
fn a_long_payload_is_not_copied() {
    let append = append(5, vec![vec![1; 10], vec![2; SHARE_BYTES_MIN], vec![3; 10]]);
    let payload = Arc::clone(&append.entries[1].payload);
    let chunks = encode_message(&message(Body::AppendEntries(append))).unwrap();
    assert_eq!(chunks.len(), 3);
    assert_eq!(chunks[1].as_ptr(), payload.as_ptr());
}

#[test]
fn an_append_beyond_its_bounds_is_cut_to_its_first_entries() {
    let third = limits::APPEND_BYTES_MAX / 3;
    let long = append(5, vec![vec![1; third]; 4]);
    let mut sent = long.clone();
    sent.entries.truncate(3);
    assert_eq!(decode(&encode(&message(Body::AppendEntries(long)))), Ok(message(Body::AppendEntries(sent))));

    let many = append(5, vec![vec![]; limits::BATCH_ENTRY_COUNT_MAX + 5]);
    let mut sent = many.clone();
    sent.entries.truncate(limits::BATCH_ENTRY_COUNT_MAX);
    assert_eq!(decode(&encode(&message(Body::AppendEntries(many)))), Ok(message(Body::AppendEntries(sent))));

    let mut large = append(5, vec![vec![1; limits::ENTRY_BYTES_MAX], vec![2]]);
    let cut = decode(&encode(&message(Body::AppendEntries(large.clone())))).unwrap();
    large.entries.truncate(1);
    assert_eq!(cut, message(Body::AppendEntries(large)));
}

#[test]
fn an_append_that_makes_no_sense_is_not_written() {
    let too_long = append(5, vec![vec![1; limits::ENTRY_BYTES_MAX + 1]]);
    assert_eq!(encode_message(&message(Body::AppendEntries(too_long))), None);
    let mut with_gap = append(5, vec![vec![1], vec![2]]);
    with_gap.entries[1].position.index = Index(9);
    assert_eq!(encode_message(&message(Body::AppendEntries(with_gap))), None);
}

#[test]
fn the_widest_heads_fit() {
    let mut wide = append(
        u64::MAX - 1 - limits::BATCH_ENTRY_COUNT_MAX as u64,
        vec![vec![]; limits::BATCH_ENTRY_COUNT_MAX],
    );
    for entry in &mut wide.entries {
        entry.position.term = Term(u64::MAX);
    }
    let message = message(Body::AppendEntries(wide));
    assert_eq!(decode(&encode(&message)), Ok(message));
}

#[test]
fn a_header_that_claims_too_much_is_refused_unread() {
    let claim = |kind: Kind, head: u32, tail: u32| {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = FORMAT;
        bytes[1] = kind as u8;
        bytes[2..6].copy_from_slice(&head.to_le_bytes());
        bytes[6..].copy_from_slice(&tail.to_le_bytes());
        Header::decode(&bytes)
    };
    let bound = |bytes: usize| u32::try_from(bytes).unwrap();
    for kind in Kind::ALL {
        let (head, tail) = (bound(kind.head_bytes_max()), bound(kind.tail_bytes_max()));
        assert!(claim(kind, head, tail).is_ok());
        assert_eq!(claim(kind, head + 1, tail), Err(FrameError::TooLong));
        assert_eq!(claim(kind, head, tail + 1), Err(FrameError::TooLong));
        assert_eq!(claim(kind, u32::MAX, u32::MAX), Err(FrameError::TooLong));
    }
    assert_eq!(Header::decode(&[2, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Format(2)));
    assert_eq!(Header::decode(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Kind(0)));
    assert_eq!(Header::decode(&[1, 10, 0, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::Kind(10)));
}

#[test]
fn lengths_that_do_not_add_up_are_refused() {
    let frame = encode(&message(Body::AppendEntries(append(5, vec![b"one".to_vec(), b"two".to_vec()]))));
    assert_eq!(decode(&frame[..frame.len() - 1]), Err(FrameError::Tail));
    assert_eq!(decode(&[&frame, b"x".as_slice()].concat()), Err(FrameError::Tail));
    // A head with something behind it is no head.
    assert!(MessageHead::decode(&[2, 3, 5, 12], 0).is_ok());
    assert_eq!(MessageHead::decode(&[2, 3, 5, 12, 0], 0).unwrap_err(), FrameError::Head);
    assert_eq!(MessageHead::decode(&[2, 3, 5, 12], 1).unwrap_err(), FrameError::Tail);
}

#[test]
fn indexes_do_not_run_over() {
    let wire = |index: u64, count: usize| WireMessage {
        start: Start { count: 1, incarnation: 1 },
        term: Term(1),
        body: WireBody::AppendEntries(WireAppend {
            previous: position(1, index),
            committed: Index(0),
            entries: vec![WireEntry { term: Term(1), kind: EntryKind::Noop, bytes: 0 }; count],
        }),
    };
    let read = |index, count| MessageHead::decode(&postcard::to_allocvec(&wire(index, count)).unwrap(), 0);
    let Ok(MessageHead::Append(append)) = read(u64::MAX - 2, 1) else { panic!("the last index there is") };
    assert!(matches!(append.with_payloads(vec![[].into()]).body, Body::AppendEntries(_)));
    assert_eq!(read(u64::MAX - 1, 1).unwrap_err(), FrameError::Head);
    assert_eq!(read(u64::MAX, 0).unwrap_err(), FrameError::Head);
    assert!(read(1, limits::BATCH_ENTRY_COUNT_MAX).is_ok());
    assert_eq!(read(1, limits::BATCH_ENTRY_COUNT_MAX + 1).unwrap_err(), FrameError::Head);
}

#[test]
fn several_entries_are_held_to_the_appends_bound() {
    let half = u32::try_from(limits::APPEND_BYTES_MAX / 2).unwrap();
    let wire = |bytes: &[u32]| WireMessage {
        start: Start { count: 1, incarnation: 1 },
        term: Term(1),
        body: WireBody::AppendEntries(WireAppend {
            previous: position(1, 1),
            committed: Index(0),
            entries: bytes
                .iter()
                .map(|&bytes| WireEntry { term: Term(1), kind: EntryKind::Noop, bytes })
                .collect(),
        }),
    };
    let read = |bytes: &[u32]| {
        let sum = bytes.iter().map(|&bytes| usize::try_from(bytes).unwrap()).sum();
        MessageHead::decode(&postcard::to_allocvec(&wire(bytes)).unwrap(), sum)
    };
    assert!(read(&[half, half]).is_ok());
    assert_eq!(read(&[half, half, 1]).unwrap_err(), FrameError::Tail);
    assert!(read(&[3 * half]).is_ok());
}

#[test]
fn only_messages_without_payloads_come_as_datagrams() {
    for message in each() {
        let frame = encode(&message);
        let is_payload = matches!(&message.body, Body::AppendEntries(append) if !append.entries.is_empty());
        assert_eq!(decode_datagram(&frame).is_ok(), !is_payload);
        assert!(is_payload || decode_datagram(&frame[..frame.len() - 1]).is_err());
    }
    assert_eq!(decode_datagram(&forward_header(0).unwrap()), Err(FrameError::Kind(2)));
    assert_eq!(decode_datagram(b""), Err(FrameError::Head));
}

fn arbitrary_body() -> impl Strategy<Value = Body> {
    let position = (any::<u64>(), any::<u64>()).prop_map(|(term, index)| position(term, index));
    let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20);
    prop_oneof![
        (position.clone(), any::<bool>())
            .prop_map(|(last, is_hand_over)| Body::PreVoteRequest(VoteRequest { last, is_hand_over })),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(round, verified, persisted)| {
            Body::HeartbeatAnswer(HeartbeatAnswer {
                round,
                verified: Index(verified),
                persisted: Index(persisted),
                card: [Card::Unknown, Card::Takes(7), Card::StandsStill]
                    [usize::try_from(round % 3).expect("small")],
            })
        }),
        (any::<u64>(), position).prop_map(|(previous, hint)| Body::AppendAnswer(AppendAnswer::Rejected {
            previous: Index(previous),
            hint
        })),
        (0..u64::MAX / 2, payloads)
            .prop_map(|(previous, payloads)| Body::AppendEntries(append(previous, payloads))),
        (any::<u64>(), any::<u64>())
            .prop_map(|(count, incarnation)| Body::StaleStart { seen: Start { count, incarnation } }),
    ]
}

proptest! {
    #[test]
    fn any_message_reads_back(body in arbitrary_body(), count: u64, incarnation: u64, term: u64) {
        let message = Message { start: Start { count, incarnation }, term: Term(term), body };
        prop_assert_eq!(decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..11) {
        fuzz::frames(&bytes);
        fuzz::join_request(&bytes);
        fuzz::token(&bytes);
        // The same bytes as the head of each kind.
        let head = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        fuzz::frames(&[&[FORMAT, kind], head.as_slice(), &[0; 4], &bytes].concat());
    }

    #[test]
    fn a_rotten_frame_is_answered(at: prop::sample::Index, which: prop::sample::Index, byte: u8) {
        let mut frame = encode(which.get(&each()));
        let at = at.index(frame.len());
        frame[at] = byte;
        fuzz::frames(&frame);
    }
}

#[test]
fn a_node_id_of_any_size_fits_a_hello() {
    let hello = crate::wire::Hello {
        version: u16::MAX,
        cluster: quorate_types::ClusterId(u64::MAX),
        node: NodeId(u64::MAX),
        start: Start { count: u64::MAX, incarnation: u64::MAX },
        port: u16::MAX,
        earlier: vec![Start { count: u64::MAX, incarnation: u64::MAX }; limits::EARLIER_STARTS_COUNT_MAX],
    };
    let frame = encode_head(Kind::Hello, &hello).unwrap();
    assert_eq!(decode_head(&frame[HEADER_BYTES..]), Ok(hello.clone()));
    // A later release's hello says more; as much of it as is known here is read, its version first.
    let longer = [&frame[HEADER_BYTES..], b"more"].concat();
    assert_eq!(decode_open_head(&longer), Ok(hello));
}
