//! A folder that format 1 wrote (three starts, rotations, an image, a truncation): `tests/golden/format-1`.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, SETTINGS, append, at, entry};
use quorate_types::{HardState, Index, Membership, NodeId, PeerKey, Start, Term};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{FORMAT, ImageReader, Record, Settings, StdRead, Tail, newest_image, open_image, recover};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/format-1");

/// Of the size its files were written with.
const OLD_SETTINGS: Settings = Settings { segment_bytes: 24 * 1024, block_bytes: 4096, pool_count: 4 };

fn folder() -> SimDisk {
    let disk = SimDisk::new();
    for dir in ["wal", "image"] {
        for item in std::fs::read_dir(format!("{FOLDER}/{dir}")).expect("the test's data is there") {
            let name = item.expect("readable").file_name().into_string().expect("readable");
            let bytes = std::fs::read(format!("{FOLDER}/{dir}/{name}")).expect("readable");
            disk.plant(&format!("{dir}/{name}"), &bytes);
        }
    }
    disk
}

/// Format in the prefix of a segment file.
fn format_of(disk: &SimDisk, path: &str) -> u16 {
    let bytes = disk.contents(path).expect("the file is there");
    u16::from_le_bytes([bytes[16 + 8], bytes[16 + 9]])
}

fn check_membership(membership: &Membership) {
    let [member] = &membership.members[..] else { panic!("{membership:?}") };
    assert_eq!((member.id, member.key, member.stays_learner), (NodeId(1), PeerKey::default(), false));
    assert_eq!(member.peer_addresses, ["10.0.0.1:2380"]);
    assert_eq!(member.client_urls, ["http://10.0.0.1:2379"]);
    assert_eq!((&membership.voters[..], membership.learners.len()), (&[NodeId(1)][..], 0));
}

#[test]
fn a_folder_of_format_1_opens_and_goes_on_in_this_format() {
    for settings in [OLD_SETTINGS, SETTINGS] {
        let disk = folder();
        let before: Vec<(String, Option<Vec<u8>>)> =
            disk.paths().into_iter().map(|path| (path.clone(), disk.contents(&path))).collect();
        assert!(disk.paths().iter().filter(|path| path.starts_with("wal/")).count() >= 3);
        assert!(
            disk.paths().iter().all(|path| !path.starts_with("wal/") || format_of(&disk, path) == 1),
            "the data is of format 1"
        );
        let (head, path) = newest_image(&disk).unwrap().image.expect("an image of format 1");
        assert_eq!((head.position, head.number), (at(1, 2), 1));
        check_membership(&head.membership);
        let content = open_image(&disk, &path).unwrap().next_block().unwrap().map(<[u8]>::to_vec);
        assert_eq!(content.as_deref(), Some(&b"the whole state at index 2"[..]));
        let recovered = recover(disk.clone(), settings, Some(IDENTITY), Some(&head), 99).unwrap();
        assert_eq!(recovered.tail, Tail::Clean, "{:?}", recovered.report);
        assert_eq!(recovered.start, Start { count: 4, incarnation: 99 });
        let hard_state = HardState { term: Term(3), vote: Some(NodeId(1)) };
        assert_eq!((recovered.hard_state, recovered.image_number), (hard_state, 1));
        let positions: Vec<(u64, u64)> =
            recovered.entries.iter().map(|entry| (entry.position.term.0, entry.position.index.0)).collect();
        let terms = [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3];
        assert_eq!(positions, terms.into_iter().zip(3..).collect::<Vec<_>>());
        for entry in &recovered.entries {
            let index = entry.position.index.0;
            let bytes = if index >= 12 { 9 } else { 700 };
            assert_eq!(*entry.payload, vec![u8::try_from(index).unwrap(); bytes]);
        }
        let membership = recovered.membership.unwrap();
        check_membership(&membership);
        // It goes on in a segment of its own, though the newest one has room: what format 1 wrote stays as it is, for that release to come back to
        // while nothing new was acknowledged.
        let mut writer = recovered.opener.begin(IDENTITY, membership.clone(), hard_state).unwrap();
        append(&mut writer, &[Record::Entry(entry(at(3, 15), 100, 1))]).unwrap();
        let read = writer.reader().fetch(Index(4), Index(15), usize::MAX).unwrap();
        assert_eq!((read.after, read.entries.len()), (at(1, 4), 11), "across both formats");
        drop(writer);
        for (path, bytes) in &before {
            assert_eq!(&disk.contents(path), bytes, "{path}");
        }
        let newer = disk.paths().into_iter().filter(|path| before.iter().all(|(old, _)| old != path));
        let formats: Vec<u16> = newer.map(|path| format_of(&disk, &path)).collect();
        assert_eq!(formats, [FORMAT]);
        disk.power_cut(&mut |_, _| false);
        let again = recover(disk, settings, Some(IDENTITY), Some(&head), 100).unwrap();
        assert_eq!(again.entries.len(), 13);
        assert_eq!(again.membership, Some(membership));
        assert_eq!(again.start.count, 5);
    }
}

/// The first start after the upgrade may end at any point, and another begin.
#[test]
fn a_cut_during_the_first_start_of_this_format_loses_nothing() {
    let whole = folder();
    let begin = |disk: &SimDisk, incarnation| {
        let (head, _) = newest_image(disk)?.image.expect("it is never removed here");
        let recovered = recover(disk.clone(), OLD_SETTINGS, Some(IDENTITY), Some(&head), incarnation)?;
        let membership = recovered.membership.expect("there is a log");
        let count = recovered.entries.len();
        recovered.opener.begin(IDENTITY, membership, recovered.hard_state).map(|_| count)
    };
    assert_eq!(begin(&whole, 4), Ok(12));
    for operation in 0..whole.operations() {
        for pattern in 0..4 {
            let disk = folder();
            disk.cut_at(operation);
            let cut = begin(&disk, 4);
            assert!(cut.is_err(), "the power went at operation {operation}");
            disk.power_cut(&mut |_, sector| sector % 3 < pattern);
            for incarnation in 5..8 {
                assert_eq!(begin(&disk, incarnation), Ok(12), "operation {operation}, pattern {pattern}");
            }
        }
    }
}

#[test]
fn an_image_of_format_1_is_read_as_a_stream() {
    let bytes = std::fs::read(format!("{FOLDER}/image/image-00000000000000000002")).unwrap();
    let reader = ImageReader::open(StdRead(bytes.as_slice()), "stream").unwrap();
    check_membership(&reader.head().membership);
    assert_eq!(reader.verify(), Ok(26));
}
