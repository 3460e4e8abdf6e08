//! The whole way on a real folder: found, write, rotate, trim, restart.

use quorate_types::{
    ClusterId, Entry, EntryKind, HardState, Identity, Index, Member, Membership, NodeId, PeerKey, Position,
    Start, Term,
};
use quorate_wal::{
    Batch, DiskErrorKind, ImageHead, ImageWriter, NewestImage, Preparer, RealDisk, Record, Settings, Tail,
    WalError, newest_image, recover,
};
use std::sync::Arc;

const IDENTITY: Identity = Identity { cluster: ClusterId(7), node: NodeId(1) };

fn membership() -> Membership {
    let name = "n1".to_owned();
    Membership::founded_by(Member {
        id: IDENTITY.node,
        name,
        peer_addresses: Vec::new(),
        client_urls: Vec::new(),
        key: PeerKey::default(),
        stays_learner: false,
    })
}

fn entry(index: u64, bytes: usize) -> Record {
    let position = Position { term: Term(1), index: Index(index) };
    let byte = u8::try_from(index % 251).expect("below 251");
    Record::Entry(Entry { position, kind: EntryKind::Command, payload: Arc::from(vec![byte; bytes]) })
}

#[test]
fn a_log_on_a_real_folder_survives_restarts_and_trims() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { segment_bytes: 256 * 1024, block_bytes: 4096, pool_count: 4 };
    let hard_state = HardState { term: Term(1), vote: Some(IDENTITY.node) };
    let mut next = 1;
    let mut image: Option<ImageHead> = None;
    for start in 1..=6_u64 {
        let disk = RealDisk::open(folder.path()).unwrap();
        let refused = RealDisk::open(folder.path()).err().unwrap();
        assert_eq!(refused.kind, DiskErrorKind::Locked, "{refused}");
        let NewestImage { image: found, damaged } = newest_image(&disk).unwrap();
        assert_eq!(found.map(|(head, _)| head), image);
        assert_eq!(damaged, []);
        let recovered = recover(disk.clone(), settings, None, image.as_ref(), 100 + start).unwrap();
        assert_eq!(recovered.start, Start { count: start, incarnation: 100 + start });
        assert_eq!(recovered.tail, Tail::Clean);
        let base = image.as_ref().map_or(0, |image| image.position.index.0);
        assert_eq!(recovered.base.index.0, base);
        let indexes: Vec<u64> = recovered.entries.iter().map(|entry| entry.position.index.0).collect();
        assert_eq!(indexes, (base + 1..next).collect::<Vec<_>>());
        let mut writer = recovered.opener.begin(IDENTITY, membership(), hard_state).unwrap();
        for _ in 0..40 {
            let mut batch = Batch::new();
            for _ in 0..3 {
                batch.push(entry(next, 5_000));
                next += 1;
            }
            writer.write(&batch).unwrap();
            assert_eq!(writer.sync().unwrap().last.index, Index(next - 1));
            if let Some(order) = writer.wants_spare() {
                let mut preparer = Preparer::new(disk.clone(), order).unwrap();
                let spare = loop {
                    if let Some(spare) = preparer.step().unwrap() {
                        break spare;
                    }
                };
                writer.give_spare(&spare);
            }
        }
        let read = writer.reader().fetch(Index(next - 80), Index(next - 70), usize::MAX).unwrap();
        assert_eq!(read.after.index, Index(next - 80));
        assert_eq!(read.entries.len(), 10);
        assert_eq!(read.entries[0].position.index, Index(next - 79));
        writer.seal().unwrap();
        if start % 2 == 0 {
            let position = Position { term: Term(1), index: Index(next - 10) };
            let start = writer.start();
            let head = ImageHead {
                identity: IDENTITY,
                position,
                membership: membership(),
                hard_state,
                start,
                number: start.count,
            };
            let mut images = ImageWriter::create(disk.clone(), &head).unwrap();
            images.write(&vec![7; 200_000]).unwrap();
            images.finish().unwrap();
            writer.trim(position).unwrap();
            assert!(matches!(writer.reader().fetch(Index(1), Index(2), 1), Err(WalError::Trimmed { .. })));
            image = Some(head);
        }
    }
    let files = std::fs::read_dir(folder.path().join("wal")).unwrap().count();
    assert!(files <= 12, "trimmed segments are used again: {files} files");
}

/// A reader on another thread while the log is written, rotated and trimmed: each answer is the log's own, or says
/// that it was trimmed.
#[test]
fn a_reader_on_another_thread_is_right_or_says_trimmed() {
    const COUNT: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(folder.path()).unwrap();
    let settings = Settings { segment_bytes: 64 * 1024, block_bytes: 4096, pool_count: 3 };
    let hard_state = HardState { term: Term(1), vote: Some(IDENTITY.node) };
    let recovered = recover(disk, settings, None, None, 1).unwrap();
    let mut writer = recovered.opener.begin(IDENTITY, membership(), hard_state).unwrap();
    let (readers, to_read) = std::sync::mpsc::channel::<(quorate_wal::Reader<RealDisk>, u64)>();
    let read = move || {
        let (mut right, mut trimmed) = (0_u64, 0_u64);
        while let Ok((reader, last)) = to_read.recv() {
            // One near the end of what was synced then, one that is about to be trimmed.
            for after in [last.saturating_sub(5), last.saturating_sub(40)] {
                match reader.fetch(Index(after), Index(last), 20_000) {
                    Ok(fetched) => {
                        right += 1;
                        assert_eq!(fetched.after.index, Index(after));
                        assert!(fetched.entries.len() >= 4, "{} entries", fetched.entries.len());
                        for (found, index) in fetched.entries.into_iter().zip(after + 1..) {
                            assert_eq!(Record::Entry(found), entry(index, 2_000));
                        }
                    }
                    Err(WalError::Trimmed { .. }) => trimmed += 1,
                    Err(error) => panic!("after {after} of {last}: {error}"),
                }
            }
        }
        (right, trimmed)
    };
    let (right, trimmed) = std::thread::scope(|scope| {
        let reading = scope.spawn(read);
        for index in 1..=COUNT {
            let mut batch = Batch::new();
            batch.push(entry(index, 2_000));
            writer.write(&batch).unwrap();
            writer.sync().unwrap();
            if index > 100 {
                readers.send((writer.reader(), index)).unwrap();
                if index % 30 == 0 {
                    writer.trim(Position { term: Term(1), index: Index(index - 10) }).unwrap();
                }
            }
        }
        drop(readers);
        reading.join().unwrap()
    });
    assert!(right > 0 && right + trimmed == 2 * (COUNT - 100), "{right} right, {trimmed} trimmed");
}
