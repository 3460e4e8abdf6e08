//! What the log and images hold: every command comes back, and no bytes, however broken, panic.

#![allow(clippy::unwrap_used, reason = "a test's panic is its answer")]

use proptest::prelude::*;
use quorate_store::{
    AlarmKind, COMMAND_FORMAT, Command, Compare, CompareOperator, CompareTarget, DecodeError, DeleteRange,
    ImageError, ImageLoader, KeyRange, Put, RangeRequest, Stamped, Store, Txn, TxnOperation, decode, encode,
};
use quorate_types::{ClusterTime, Index, LeaseId, NodeId, PeerKey, ProposalId, Revision};

fn stamped(command: Command) -> Stamped {
    let id = ProposalId { node: NodeId(1), incarnation: u64::MAX, number: 300 };
    Stamped { id, time: ClusterTime(12_345), command }
}

fn put(key: &str, value: &str) -> Put {
    Put { key: key.into(), value: value.into(), lease: LeaseId(-5), prev_kv: true, ..Put::default() }
}

fn nested(depth: usize) -> Txn {
    (0..depth)
        .fold(Txn::default(), |inner, _| Txn { success: vec![TxnOperation::Txn(inner)], ..Txn::default() })
}

/// One of each kind.
fn commands() -> Vec<Command> {
    let range = KeyRange::Span { start: b"a".to_vec(), end: b"b".to_vec() };
    let delete = DeleteRange { range: range.clone(), prev_kv: true };
    let compare =
        Compare { range: range.clone(), operator: CompareOperator::Less, target: CompareTarget::Mod(-1) };
    let by_value = Compare {
        target: CompareTarget::Value(b"v".to_vec()),
        operator: CompareOperator::NotEqual,
        ..compare.clone()
    };
    let inner = Txn { failure: vec![TxnOperation::Put(put("x", ""))], ..Txn::default() };
    let txn = Txn {
        compares: vec![compare, by_value],
        success: vec![
            TxnOperation::Range(RangeRequest {
                limit: i64::MAX,
                ..RangeRequest::all(KeyRange::One(b"k".to_vec()))
            }),
            TxnOperation::Txn(inner),
            TxnOperation::DeleteRange(delete.clone()),
        ],
        failure: vec![TxnOperation::Put(put("k", "v"))],
    };
    vec![
        Command::Put(put("key", "value")),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::Compact(Revision(9)),
        Command::LeaseGrant { id: LeaseId(1), ttl_seconds: 60 },
        Command::LeaseRevoke(LeaseId(1)),
        Command::LeaseExpire { id: LeaseId(1), granted: 77 },
        Command::AlarmRaise { node: NodeId(3), kind: AlarmKind::NoSpace },
        Command::AlarmClear { node: NodeId(3), kind: AlarmKind::Corrupt },
        Command::InviteAdd { hash: [7; 32], ttl_ms: 600_000 },
        Command::InviteTake { hash: [7; 32], key: PeerKey([9; 32]) },
        Command::InviteRevoke { hash: [7; 32] },
    ]
}

#[test]
fn every_command_comes_back() {
    for command in commands() {
        let stamped = stamped(command);
        assert_eq!(decode(&encode(&stamped)), Ok(stamped));
    }
}

/// The log and images outlive releases: what these bytes mean never changes. A new kind adds a line.
#[test]
fn the_bytes_are_those_of_the_golden_file() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut text = String::new();
    for command in commands() {
        let kind = format!("{command:?}");
        let kind = kind.split(|character: char| !character.is_alphanumeric()).next().unwrap();
        text += &format!("{kind} {}\n", hex(&encode(&stamped(command.clone()))));
    }
    text += &format!("image {}\n", hex(&image()));
    assert_eq!(text, include_str!("golden/bytes.txt"), "got:\n{text}");
}

/// An image of format 1, from before there were invites.
#[test]
fn an_image_of_format_one_is_read() {
    let text = include_str!("golden/image-1.txt").trim();
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    let mut loader = ImageLoader::new();
    loader.push(&bytes).unwrap();
    let old = loader.finish().unwrap();
    assert_eq!((old.applied(), old.invites().count()), (Index(8), 0));
    // The same state of today, but for its invites.
    let mut today = store();
    for hash in [[7; 32], [8; 32]] {
        let revoke = Command::InviteRevoke { hash };
        today.apply(Index(today.applied().0 + 1), ClusterTime(0), &revoke).outcome.unwrap();
    }
    assert_eq!(old.hash_kv(0), today.hash_kv(0));
    assert_eq!((old.alarms(), old.leases().count()), (today.alarms(), today.leases().count()));
}

#[test]
fn no_prefix_of_a_command_is_one() {
    for command in commands() {
        let bytes = encode(&stamped(command));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
        assert_eq!(decode(&[bytes, vec![0]].concat()), Err(DecodeError::Trailing));
    }
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = encode(&stamped(Command::Compact(Revision(1))));
    bytes[0] = COMMAND_FORMAT + 1;
    assert_eq!(decode(&bytes), Err(DecodeError::Format(COMMAND_FORMAT + 1)));
    assert_eq!(decode(&[]), Err(DecodeError::Malformed));
}

#[test]
fn nesting_is_bounded_where_the_request_check_bounds_it() {
    let deepest = nested(128);
    assert_eq!(quorate_store::request_check::check_txn(&deepest), Ok(()));
    let deepest = stamped(Command::Txn(deepest));
    assert_eq!(decode(&encode(&deepest)), Ok(deepest));
    let too_deep = encode(&stamped(Command::Txn(nested(129))));
    assert_eq!(decode(&too_deep), Err(DecodeError::TooDeep));
    // Half a million levels, by hand: no compares, one operation, a transaction.
    let head = encode(&stamped(Command::Txn(Txn::default())));
    let mut bomb = head[..head.len() - 3].to_vec();
    bomb.extend([0_u8, 1, 3].repeat(500_000));
    assert_eq!(decode(&bomb), Err(DecodeError::TooDeep));
}

/// A store with all there is in an image: bases, history, leases, alarms, invites.
fn store() -> Store {
    let mut store = Store::new();
    let mut commands = vec![Command::LeaseGrant { id: LeaseId(-5), ttl_seconds: 60 }];
    commands.extend(["a", "b", "a", "c"].map(|key| Command::Put(put(key, "value"))));
    commands.push(Command::DeleteRange(DeleteRange { range: KeyRange::One(b"b".to_vec()), prev_kv: false }));
    commands.push(Command::Compact(Revision(4)));
    commands.push(Command::AlarmRaise { node: NodeId(2), kind: AlarmKind::NoSpace });
    commands.extend([7, 8].map(|byte| Command::InviteAdd { hash: [byte; 32], ttl_ms: 600_000 }));
    commands.push(Command::InviteTake { hash: [8; 32], key: PeerKey([9; 32]) });
    for (index, command) in (1..).zip(&commands) {
        store.apply(Index(index), ClusterTime(index), command).outcome.unwrap();
    }
    while store.sweep(10) {}
    store
}

fn image() -> Vec<u8> {
    let store = store();
    let (mut export, mut bytes) = (store.begin_export(), Vec::new());
    while store.export_next(&mut export, 64, &mut bytes) {}
    bytes
}

fn load(bytes: &[u8]) -> Result<Store, ImageError> {
    let mut loader = ImageLoader::new();
    loader.push(bytes)?;
    loader.finish()
}

#[test]
fn an_image_is_the_store() {
    let (loaded, original) = (load(&image()).unwrap(), store());
    assert_eq!(loaded.digest(), original.digest());
    assert_eq!(loaded.bytes_total(), original.bytes_total());
    assert_eq!((loaded.applied(), loaded.time()), (original.applied(), original.time()));
    assert_eq!(loaded.lease(LeaseId(-5), true), original.lease(LeaseId(-5), true));
    assert_eq!(loaded.alarms(), original.alarms());
}

#[test]
fn an_image_cut_short_is_incomplete() {
    let image = image();
    for length in 0..image.len() {
        assert_eq!(load(&image[..length]).err(), Some(ImageError::Incomplete), "cut at {length}");
    }
    assert!(load(&[image, vec![0; 5]].concat()).is_err(), "nothing follows the end");
}

#[test]
fn an_image_with_any_bit_changed_is_refused() {
    let image = image();
    for place in 0..image.len() {
        for bit in 0..8 {
            let mut broken = image.clone();
            broken[place] ^= 1 << bit;
            assert!(load(&broken).is_err(), "bit {bit} of byte {place}");
        }
    }
}

/// Frames of an image, each with its length.
fn frames(image: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut rest) = (Vec::new(), image);
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let (frame, later) = rest.split_at(4 + usize::try_from(u32::from_le_bytes(*length)).unwrap());
        frames.push(frame.to_vec());
        rest = later;
    }
    frames
}

/// An image of these frames, its end made to match.
fn image_of(frames: &[Vec<u8>]) -> Vec<u8> {
    let bytes = frames.concat();
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&bytes);
    let end = postcard::to_allocvec(&(5_u32, u64::try_from(frames.len()).unwrap(), checksum)).unwrap();
    let length = u32::try_from(end.len()).unwrap().to_le_bytes();
    [bytes.as_slice(), &length, &end].concat()
}

#[test]
fn an_image_that_contradicts_itself_is_refused() {
    // Head, lease, alarm, two invites, base of b, records from the compacted revision on, end.
    let mut frames = frames(&image());
    frames.pop();
    assert_eq!(load(&image_of(&frames)).unwrap().digest(), store().digest(), "the frames as they are");
    let without = |which: usize| {
        let mut frames = frames.clone();
        frames.remove(which);
        load(&image_of(&frames)).err()
    };
    assert_eq!(without(0), Some(ImageError::NotAnImage));
    assert_eq!(without(1), Some(ImageError::Inconsistent), "keys name a lease that is not there");
    let swapped = |a: usize, b: usize| {
        let mut frames = frames.clone();
        frames.swap(a, b);
        load(&image_of(&frames)).err()
    };
    let last = frames.len() - 1;
    assert_eq!(swapped(last, last - 1), Some(ImageError::Inconsistent), "revisions fall");
    assert_eq!(swapped(4, 5), Some(ImageError::Malformed), "an invite after a base");
    assert_eq!(swapped(0, 1), Some(ImageError::NotAnImage));
    let twice = |which: usize| {
        let mut frames = frames.clone();
        frames.insert(which, frames[which].clone());
        load(&image_of(&frames)).err()
    };
    assert_eq!(twice(0), Some(ImageError::Malformed));
    assert_eq!(twice(1), Some(ImageError::Inconsistent));
    assert_eq!(twice(3), Some(ImageError::Inconsistent), "an invite stands once");
    assert_eq!(twice(5), Some(ImageError::Inconsistent), "keys rise");
    assert_eq!(twice(last), Some(ImageError::Inconsistent));
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    assert_eq!(load(b"SQLite format 3\0 and more").err(), Some(ImageError::NotAnImage));
    assert_eq!(load(&[0; 64]).err(), Some(ImageError::NotAnImage));
    assert_eq!(load(&[0xff; 64]).err(), Some(ImageError::NotAnImage), "nor is that length believed");
    assert_eq!(load(&[]).err(), Some(ImageError::Incomplete));
}

#[test]
fn an_export_in_slices_keeps_to_their_size() {
    let mut store = Store::new();
    for index in 1..=500 {
        let key = format!("key {index:04}");
        store.apply(
            Index(index),
            ClusterTime(index),
            &Command::Put(Put { lease: LeaseId(0), ..put(&key, "v") }),
        );
    }
    store.apply(Index(501), ClusterTime(501), &Command::Compact(Revision(250)));
    while store.sweep(100) {}
    let (mut export, mut whole) = (store.begin_export(), Vec::new());
    loop {
        let mut slice = Vec::new();
        let more = store.export_next(&mut export, 1_000, &mut slice);
        assert!(slice.len() < 1_200, "{}", slice.len());
        whole.extend(slice);
        if !more {
            break;
        }
    }
    assert_eq!(load(&whole).unwrap().digest(), store.digest());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic_the_command_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let formatted = [vec![COMMAND_FORMAT], bytes].concat();
        if let Ok(stamped) = decode(&formatted) {
            assert_eq!(decode(&encode(&stamped)), Ok(stamped));
        }
    }

    #[test]
    fn no_broken_command_panics(which in 0_usize..9, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&stamped(commands()[which].clone()));
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(stamped) = decode(&bytes) {
            let mut store = store();
            let _applied = store.apply(Index(1_000), stamped.time, &stamped.command);
        }
    }

    #[test]
    fn no_broken_image_panics(
        breaks in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        slice in 1_usize..100,
    ) {
        let mut bytes = image();
        for (place, byte) in breaks {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let mut loader = ImageLoader::new();
        let _loaded = bytes.chunks(slice).try_for_each(|slice| loader.push(slice)).and_then(|()| loader.finish());
    }
}
