//! Every row of recovery's decision table, on folders made for it.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{
    IDENTITY, Model, SETTINGS, append, at, batch, entry, guard_units, image, membership, open, restart,
};
use quorate_types::{ClusterId, HardState, Identity, Index, NodeId, Start};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{FORMAT, Record, Recovered, Tail, WalError, crc32c, recover};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const UNIT: usize = 4096;
const FIRST: &str = "wal/segment-0001";

/// A folder with `count` entries of 3,000 bytes, one a batch: a header, the start's batch, its seal, and
/// one unit each.
fn log(count: u64) -> (SimDisk, Model) {
    let disk = SimDisk::new();
    let mut model = Model::founded();
    let mut writer = restart(&disk, None, 1).expect("a new folder");
    for index in 1..=count {
        let records = [Record::Entry(entry(at(1, index), 3_000, 0))];
        append(&mut writer, &records).expect("a healthy card");
        model.apply(&records);
    }
    (disk, model)
}

/// Unit of the first segment where the entry stands.
fn unit_of(index: usize) -> usize {
    2 + index
}

fn refused(disk: &SimDisk) -> WalError {
    open(disk, None, 9).err().expect("the table says to refuse")
}

fn accepted(disk: &SimDisk) -> Recovered<SimDisk> {
    open(disk, None, 9).expect("the table says to go on")
}

fn change(disk: &SimDisk, path: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(path).expect("the file is there");
    edit(&mut bytes);
    disk.plant(path, &bytes);
}

#[test]
fn clean() {
    let (disk, model) = log(5);
    let recovered = accepted(&disk);
    assert_eq!((Model::of(&recovered), recovered.tail), (model, Tail::Clean));
    assert_eq!(recovered.start, Start { count: 2, incarnation: 9 });
    let empty = accepted(&SimDisk::new());
    assert_eq!((empty.identity, empty.tail, empty.start.count), (None, Tail::Clean, 1));
}

#[test]
fn torn() {
    let (disk, mut model) = log(5);
    model.entries.truncate(4);
    // One unit of the last batch never reached the card.
    let records = [Record::Entry(entry(at(1, 6), 9_000, 0))];
    let mut writer = restart(&disk, None, 2).unwrap();
    writer.write(&batch(&records)).unwrap();
    let last = disk.unsynced().last().unwrap().1 / 8;
    for missing in last - 2..=last {
        let cut = disk.fork();
        cut.power_cut(&mut |_, sector| sector / 8 != missing);
        let recovered = accepted(&cut);
        assert_eq!(recovered.entries.len(), 5);
        let offset = u64::try_from((last - 2) * UNIT).unwrap();
        assert_eq!(recovered.tail, Tail::Torn { file: FIRST.to_owned(), offset });
        assert!(
            recovered.report.iter().any(|line| line.contains("never acknowledged")),
            "{:?}",
            recovered.report
        );
    }
}

#[test]
fn possibly_acknowledged() {
    let (disk, mut model) = log(5);
    let unit = unit_of(5);
    disk.flip(FIRST, (unit * UNIT + 2_000) * 8);
    model.entries.pop();
    let recovered = accepted(&disk);
    assert_eq!(Model::of(&recovered), model);
    let tail = Tail::PossiblyAcknowledged {
        file: FIRST.to_owned(),
        offset: u64::try_from(unit * UNIT).unwrap(),
        first: Index(5),
    };
    assert_eq!(recovered.tail, tail);
    // It stays so until a start has gone on from there, which marks it void.
    assert_eq!(accepted(&disk).tail, tail);
    drop(recovered.opener.begin(IDENTITY, membership("n"), recovered.hard_state).unwrap());
    let next = accepted(&disk);
    assert_eq!((Model::of(&next), next.tail), (model, Tail::Clean));
}

#[test]
fn corrupt_before_a_later_batch() {
    let (disk, _) = log(5);
    disk.flip(FIRST, (unit_of(3) * UNIT + 700) * 8);
    let error = refused(&disk);
    let WalError::Corrupt { file, offset, after, .. } = &error else { panic!("{error}") };
    let expected = u64::try_from(unit_of(3) * UNIT).unwrap();
    assert_eq!((file.as_str(), *offset, *after), (FIRST, expected, Index(2)));
    assert!(error.to_string().contains("restore this node"), "{error}");
}

#[test]
fn corrupt_under_a_seal() {
    let (disk, model) = log(5);
    let mut writer = restart(&disk, None, 2).unwrap();
    append(&mut writer, &[Record::Entry(entry(at(1, 6), 100, 0))]).unwrap();
    let unsealed = disk.fork();
    writer.seal().unwrap();
    writer.seal().unwrap();
    // The same damage: covered by the seal it is certain, without it only possible.
    let bit = (unit_of(7) * UNIT + 150) * 8;
    disk.flip(FIRST, bit);
    unsealed.flip(FIRST, bit);
    assert!(matches!(refused(&disk), WalError::Corrupt { after: Index(5), .. }));
    let recovered = accepted(&unsealed);
    assert_eq!(Model::of(&recovered), model);
    assert!(matches!(recovered.tail, Tail::PossiblyAcknowledged { first: Index(6), .. }));
}

#[test]
fn a_damaged_seal_loses_nothing() {
    let (disk, model) = log(5);
    let mut writer = restart(&disk, None, 2).unwrap();
    writer.seal().unwrap();
    // Its body, behind tag and head.
    disk.flip(FIRST, (unit_of(7) * UNIT + 16 + 88) * 8);
    let recovered = accepted(&disk);
    assert_eq!(Model::of(&recovered), model);
    assert!(matches!(recovered.tail, Tail::Torn { .. }), "{:?}", recovered.tail);
}

#[test]
fn corrupt_before_a_later_segment() {
    let (disk, _) = log(20);
    // The last batch of the first segment: the second one says that it ends behind it.
    disk.flip(FIRST, (15 * UNIT + 30) * 8);
    let error = refused(&disk);
    assert!(matches!(&error, WalError::Corrupt { offset: 61_440, after: Index(12), .. }), "{error}");
}

#[test]
fn corrupt_header_of_the_newest_segment() {
    let (disk, _) = log(20);
    // Its tag alone, its header, or the whole of the first unit: the batches behind it are noticed.
    for bits in [0..1, 20..21, 0..UNIT] {
        let damaged = disk.fork();
        for byte in bits {
            damaged.flip("wal/segment-0002", byte * 8);
        }
        let result = open(&damaged, None, 9);
        if let Ok(recovered) = &result {
            assert_eq!(recovered.entries.len(), 20, "only a tag that nothing depends on may be damaged");
            continue;
        }
        let error = result.err().unwrap();
        assert!(matches!(&error, WalError::Corrupt { file, .. } if file == "wal/segment-0002"), "{error}");
    }
}

#[test]
fn corrupt_header_of_a_needed_segment() {
    let (disk, _) = log(40);
    disk.flip("wal/segment-0002", (16 + 40) * 8);
    let error = refused(&disk);
    assert!(
        matches!(&error, WalError::Corrupt { file, offset: 0, .. } if file == "wal/segment-0002"),
        "{error}"
    );
}

#[test]
fn a_file_of_garbage_is_no_segment() {
    let (disk, _) = log(2);
    disk.plant("wal/segment-0009", &[0x5a; 3 * UNIT]);
    assert!(matches!(refused(&disk), WalError::Corrupt { file, .. } if file == "wal/segment-0009"));
}

#[test]
fn gap() {
    // A segment between others is gone.
    let (disk, _) = log(40);
    let bytes = vec![0; usize::try_from(SETTINGS.segment_bytes).unwrap()];
    disk.plant("wal/segment-0002", &bytes);
    let error = refused(&disk);
    assert!(matches!(&error, WalError::Gap { .. }), "{error}");
    assert!(error.to_string().contains("was removed"), "{error}");
    // The log was trimmed after an image that is not there any more.
    let (disk, _) = log(20);
    let mut writer = restart(&disk, None, 2).unwrap();
    assert_eq!(writer.trim(at(1, 18)).unwrap(), 1);
    for index in 21..36 {
        append(&mut writer, &[Record::Entry(entry(at(1, index), 3_000, 0))]).unwrap();
    }
    assert!(matches!(refused(&disk), WalError::Gap { .. }));
    // There is an image and no log at all: the vote is lost with it.
    let head = image(at(1, 5), Start { count: 1, incarnation: 1 });
    assert!(matches!(
        open(&SimDisk::new(), Some(&head), 9).err(),
        Some(WalError::Gap { after: Index(5), .. })
    ));
}

#[test]
fn image_in_the_log() {
    let (disk, model) = log(20);
    let head = image(at(1, 12), Start { count: 1, incarnation: 1 });
    let recovered = open(&disk, Some(&head), 9).unwrap();
    assert_eq!(recovered.base, head.position);
    assert_eq!(recovered.entries, model.entries[12..]);
    assert_eq!(recovered.commit_hint, Index(12));
}

#[test]
fn image_ahead() {
    for position in [at(1, 25), at(3, 5)] {
        let (disk, _) = log(20);
        let head = image(position, Start { count: 1, incarnation: 1 });
        let recovered = open(&disk, Some(&head), 9).unwrap();
        assert_eq!((recovered.base, recovered.entries.len()), (position, 0));
        let hard_state = HardState { term: position.term, vote: None };
        let mut writer = recovered.opener.begin(IDENTITY, membership("n"), hard_state).unwrap();
        assert_eq!(writer.last(), position);
        let next = entry(at(position.term.0, position.index.0 + 1), 10, 0);
        append(&mut writer, &[Record::Entry(next.clone())]).unwrap();
        disk.power_cut(&mut |_, _| false);
        let again = open(&disk, Some(&head), 10).unwrap();
        assert_eq!((again.base, again.entries), (position, vec![next]));
    }
}

#[test]
fn foreign_cluster() {
    let (disk, _) = log(3);
    let other = Identity { cluster: ClusterId(8), node: NodeId(1) };
    let error = recover(disk.clone(), SETTINGS, Some(other), None, 9).err().unwrap();
    assert_eq!(error, WalError::Foreign { file: "wal".to_owned(), expected: other, found: IDENTITY });
    let mut head = image(at(1, 2), Start { count: 1, incarnation: 1 });
    head.identity = other;
    assert!(
        matches!(open(&disk, Some(&head), 9).err(), Some(WalError::Foreign { file, .. }) if file == "image")
    );
    // A newer segment of another cluster was put into the folder.
    let strange = SimDisk::new();
    let recovered = recover(strange.clone(), SETTINGS, None, None, 200).unwrap();
    let mut writer = recovered.opener.begin(other, membership("n"), HardState::default()).unwrap();
    for index in 1..20 {
        append(&mut writer, &[Record::Entry(entry(at(1, index), 3_000, 0))]).unwrap();
    }
    disk.plant("wal/segment-0077", &strange.contents("wal/segment-0002").unwrap());
    let error = recover(disk, SETTINGS, None, None, 9).err().unwrap();
    assert!(matches!(error, WalError::Foreign { .. }), "{error}");
}

#[test]
fn older_incarnation() {
    // The card is an older copy of itself: the image was written in a later life, or in another one.
    let (disk, _) = log(3);
    for start in [Start { count: 5, incarnation: 1 }, Start { count: 1, incarnation: 77 }] {
        let head = image(at(1, 2), start);
        let error = open(&disk, Some(&head), 9).err().unwrap();
        let found = Start { count: 1, incarnation: 1 };
        assert_eq!(error, WalError::OlderIncarnation { file: FIRST.to_owned(), known: start, found });
    }
}

#[test]
fn newer_format() {
    let (disk, _) = log(3);
    change(&disk, FIRST, |bytes| {
        let prefix = &mut bytes[16..16 + 32];
        prefix[8..10].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        let checksum = crc32c(&prefix[..28]);
        prefix[28..].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = refused(&disk);
    assert_eq!(error, WalError::NewerFormat { file: FIRST.to_owned(), found: FORMAT + 1, known: FORMAT });
    assert!(error.to_string().contains("newer release"), "{error}");
}

/// A log of three lives with rotations, sealed; its files, and what it holds.
fn flipped_log() -> (SimDisk, Model) {
    let disk = SimDisk::new();
    guard_units(&disk);
    let mut model = Model::founded();
    for start in 1..=3 {
        let mut writer = restart(&disk, None, start).expect("a healthy card");
        for step in 0..8 {
            let last = model.last().index.0;
            let bytes = [100, 3_000, 5_000][usize::try_from(step % 3).expect("small")];
            let records = [Record::Entry(entry(at(1, last + 1), bytes, step))];
            append(&mut writer, &records).expect("a healthy card");
            model.apply(&records);
        }
        if start == 3 {
            writer.seal().expect("a healthy card");
        }
    }
    (disk, model)
}

#[test]
fn no_flipped_bit_passes_as_other_data() {
    let (disk, model) = flipped_log();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut refusals = 0;
    for path in disk.paths() {
        let bytes = disk.contents(&path).unwrap();
        for unit in 0..bytes.len() / UNIT {
            if bytes[unit * UNIT..(unit + 1) * UNIT].iter().all(|byte| *byte == 0) && unit % 4 != 0 {
                continue;
            }
            // Every byte of tag and head, and some of the rest.
            let rest = (0..60).map(|_| rng.random_range(110..UNIT)).collect::<Vec<_>>();
            for byte in (0..110).chain(rest) {
                let bit = (unit * UNIT + byte) * 8 + rng.random_range(0..8);
                disk.flip(&path, bit);
                match open(&disk, None, 9) {
                    Ok(recovered) => assert_eq!(Model::of(&recovered), model, "{path} bit {bit}"),
                    Err(WalError::Corrupt { .. }) => refusals += 1,
                    Err(error) => panic!("{path} bit {bit}: {error}"),
                }
                disk.flip(&path, bit);
            }
        }
    }
    assert!(refusals > 3_000, "{refusals} flips were found");
}

#[test]
fn an_unsealed_last_batch_is_never_silently_dropped() {
    let (disk, model) = log(5);
    let mut shorter = model.clone();
    shorter.entries.pop();
    let unit = unit_of(5);
    for byte in 0..UNIT {
        let bit = (unit * UNIT + byte) * 8 + byte % 8;
        disk.flip(FIRST, bit);
        let recovered = accepted(&disk);
        let found = Model::of(&recovered);
        // Behind tag, head, record head and payload is padding.
        assert!(found == model || found == shorter, "byte {byte}");
        let reported = matches!(recovered.tail, Tail::PossiblyAcknowledged { first: Index(5), .. });
        assert_eq!(found == shorter, reported, "byte {byte}: {:?}", recovered.tail);
        assert!(reported || byte > 16 + 88 + 3_000, "byte {byte}");
        disk.flip(FIRST, bit);
    }
}
