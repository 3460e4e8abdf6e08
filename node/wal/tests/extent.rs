//! What a start reads of the log's files, and that what it leaves out hides no damage: segments of the real size.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, append, at, batch, entry, guard_units, membership};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{
    DiskErrorKind, Preparer, Record, Recovered, Settings, Tail, WalError, Writer, crc32c, recover,
};

const UNIT: usize = 4096;
const WINDOW: usize = 256 * 1024;
const SEGMENT: usize = 16 * 1024 * 1024;
/// One block in each window.
const PROBES: usize = SEGMENT / WINDOW * UNIT;
/// What is looked at of each file.
const SURVEY: usize = 4 * UNIT;

/// Recovers; answers the bytes read too.
fn look(disk: &SimDisk, incarnation: u64) -> (Result<Recovered<SimDisk>, WalError>, usize) {
    let before = disk.counters().bytes_read;
    let recovered = recover(disk.clone(), Settings::default(), Some(IDENTITY), None, incarnation);
    (recovered, usize::try_from(disk.counters().bytes_read - before).expect("a small card"))
}

fn begin(recovered: Recovered<SimDisk>) -> Writer<SimDisk> {
    let members = recovered.membership.unwrap_or_else(|| membership("n"));
    recovered.opener.begin(IDENTITY, members, recovered.hard_state).expect("a healthy card")
}

fn start(disk: &SimDisk, incarnation: u64) -> Writer<SimDisk> {
    begin(look(disk, incarnation).0.expect("a log"))
}

fn refused(disk: &SimDisk) -> bool {
    matches!(look(disk, 77).0, Err(WalError::Corrupt { .. }))
}

/// A new log whose newest segment is a prepared file, with `spares` more beside it. Ends in that segment, with
/// index 2 as its first entry.
fn prepared(spares: usize) -> (SimDisk, Writer<SimDisk>) {
    let disk = SimDisk::new();
    guard_units(&disk);
    let mut writer = start(&disk, 1);
    for _ in 0..=spares {
        let order = writer.wants_spare().expect("the pool is not full yet");
        let mut preparer = Preparer::new(disk.clone(), order).expect("a healthy card");
        let spare = core::iter::repeat_with(|| preparer.step().expect("a healthy card"))
            .find_map(|spare| spare)
            .expect("it ends");
        writer.give_spare(&spare);
    }
    // More than the first segment is filled with zeros for: it goes to the next.
    append(&mut writer, &[Record::Entry(entry(at(1, 1), 1_000, 0))]).expect("a healthy card");
    append(&mut writer, &[Record::Entry(entry(at(1, 2), 300_000, 0))]).expect("a healthy card");
    assert_eq!(writer.segment_counts(), (2, spares));
    (disk, writer)
}

const NEWEST: &str = "wal/segment-0002";

/// Writes entries of 60 KiB until the newest segment is used up to that byte; answers the last index.
fn fill_to(writer: &mut Writer<SimDisk>, used: usize) -> u64 {
    let older = 64 * 1024;
    while writer.live_bytes() < u64::try_from(used + older).expect("small") {
        let index = writer.last().index.0 + 1;
        append(writer, &[Record::Entry(entry(at(1, index), 60_000, 0))]).expect("a healthy card");
    }
    assert_eq!(writer.segment_counts().0, 2, "one segment is being written");
    writer.last().index.0
}

/// Puts those bytes over the newest segment.
fn overwrite(disk: &SimDisk, from: usize, bytes: &[u8]) -> SimDisk {
    let damaged = disk.fork();
    let mut contents = damaged.contents(NEWEST).expect("it is there");
    contents[from..from + bytes.len()].copy_from_slice(bytes);
    damaged.plant(NEWEST, &contents);
    damaged
}

/// First byte behind everything written there.
fn end_of(disk: &SimDisk) -> usize {
    let contents = disk.contents(NEWEST).expect("it is there");
    contents.iter().rposition(|byte| *byte != 0).expect("a header").next_multiple_of(UNIT)
}

#[test]
fn a_start_reads_the_log_and_little_more() {
    let (disk, mut writer) = prepared(4);
    let fixed = WINDOW + PROBES + 6 * SURVEY;
    for used in [0, SEGMENT / 2, SEGMENT - 2 * WINDOW] {
        fill_to(&mut writer, used);
        writer.seal().unwrap();
        let live = usize::try_from(writer.live_bytes()).unwrap();
        drop(writer);
        let (recovered, read) = look(&disk, 2);
        assert!(read <= live + fixed, "{read} bytes read of {live} in use");
        assert!(read >= live, "{read} bytes read of {live} in use");
        writer = begin(recovered.unwrap());
    }
}

#[test]
fn a_young_log_costs_a_start_no_megabyte() {
    let (disk, writer) = prepared(4);
    drop(writer);
    assert_eq!(disk.contents(NEWEST).unwrap().len(), SEGMENT);
    let (_, read) = look(&disk, 2);
    assert!(read < 1024 * 1024, "{read} bytes");
}

#[test]
fn what_reads_as_never_written_hides_no_log_behind_it() {
    let (disk, mut writer) = prepared(0);
    fill_to(&mut writer, SEGMENT / 2);
    let end = end_of(&disk);
    // Blocks of an older use, as a card has them that went back to an older state: tag and nothing behind it.
    let mut older = [0; UNIT];
    older[0] = 1;
    older[8] = 9;
    let checksum = crc32c(&older[..12]);
    older[12..16].copy_from_slice(&checksum.to_le_bytes());
    for lost in [UNIT, WINDOW, 1024 * 1024, 4 * 1024 * 1024] {
        for from in [WINDOW + 20 * UNIT, 3 * 1024 * 1024] {
            assert!(refused(&overwrite(&disk, from, &vec![0; lost])), "{lost} bytes of zeros at {from}");
            let blocks = older.repeat(lost / UNIT);
            assert!(refused(&overwrite(&disk, from, &blocks)), "{lost} older bytes at {from}");
        }
        // Of what lies behind there is only little more than a window.
        let from = end - lost - WINDOW - UNIT;
        assert!(refused(&overwrite(&disk, from, &vec![0; lost])), "{lost} bytes of zeros at {from}");
    }
    // Less than a window is read through: a single batch behind it is enough.
    let from = end - WINDOW + UNIT;
    assert!(refused(&overwrite(&disk, from, &vec![0; WINDOW - 16 * UNIT - UNIT])));
}

#[test]
fn damage_of_any_length_is_read_through() {
    let (disk, mut writer) = prepared(0);
    fill_to(&mut writer, SEGMENT / 2);
    let end = end_of(&disk);
    let last_batch = 15 * UNIT;
    for lost in [UNIT, WINDOW, 1024 * 1024, 6 * 1024 * 1024] {
        let from = end - last_batch - lost;
        assert!(refused(&overwrite(&disk, from, &vec![0xa5; lost])), "{lost} bytes before the last batch");
    }
}

/// A long batch of which only the last block arrived, too far away to be seen: it leaves nothing but that.
#[test]
fn remains_beyond_the_window_are_overwritten_or_known() {
    for (missing, first_bytes) in [(1, 380_000), (1, 4_000), (70, 900_000)] {
        let (disk, mut writer) = prepared(0);
        append(&mut writer, &[Record::Entry(entry(at(1, 3), 100, 0))]).unwrap();
        let long: Vec<Record> = (4..7).map(|index| Record::Entry(entry(at(1, index), 500_000, 0))).collect();
        writer.write(&batch(&long)).unwrap();
        drop(writer);
        let arrived = disk.unsynced().last().unwrap().1 / 8 + 1 - missing;
        disk.power_cut(&mut |_, sector| sector / 8 == arrived);
        let (recovered, read) = look(&disk, 2);
        let recovered = recovered.unwrap();
        assert!(read < 2 * 1024 * 1024, "{read} bytes");
        assert_eq!((recovered.entries.len(), &recovered.tail), (3, &Tail::Clean));
        let mut writer = begin(recovered);
        assert_eq!(writer.segment_counts().0, 2);
        // Up to the remain and over it, with a cut after each batch near it.
        append(&mut writer, &[Record::Entry(entry(at(2, 4), first_bytes, 1))]).unwrap();
        let remain = arrived * UNIT;
        assert!(end_of(&disk) > remain, "it goes on in that segment, before the remain");
        let mut used = 300_000 + first_bytes;
        let mut cuts = 0;
        for index in 5.. {
            let bytes: usize = if used + 100_000 < remain { 60_000 } else { 9_000 };
            used += bytes.next_multiple_of(UNIT);
            append(&mut writer, &[Record::Entry(entry(at(2, index), bytes, 1))]).unwrap();
            if bytes == 60_000 {
                continue;
            }
            let cut = disk.fork();
            cut.power_cut(&mut |_, _| false);
            let recovered = look(&cut, 3).0.unwrap();
            assert_eq!(recovered.entries.last().unwrap().position, at(2, index));
            assert_eq!(recovered.tail, Tail::Clean, "index {index}");
            cuts += 1;
            if used > remain + 60_000 {
                break;
            }
        }
        assert!(cuts >= 5, "{cuts} cuts near the remain");
    }
}

/// As above, but the start sees the remain and has to stand behind it: not in this segment.
#[test]
fn a_start_far_behind_the_log_takes_another_segment() {
    let (disk, mut writer) = prepared(1);
    append(&mut writer, &[Record::Entry(entry(at(1, 3), 100, 0))]).unwrap();
    let long: Vec<Record> = (4..7).map(|index| Record::Entry(entry(at(1, index), 500_000, 0))).collect();
    writer.write(&batch(&long)).unwrap();
    drop(writer);
    let first = disk.unsynced()[0].1;
    disk.power_cut(&mut |_, sector| sector != first);
    let recovered = look(&disk, 2).0.unwrap();
    assert!(matches!(recovered.tail, Tail::Torn { .. }), "{:?}", recovered.tail);
    let mut writer = begin(recovered);
    assert_eq!(writer.segment_counts().0, 3);
    append(&mut writer, &[Record::Entry(entry(at(2, 4), 100, 1))]).unwrap();
    disk.power_cut(&mut |_, _| false);
    let recovered = look(&disk, 3).0.unwrap();
    assert_eq!((recovered.entries.len(), recovered.tail), (4, Tail::Clean));
}

/// Each start finds what the one before it wrote, in memory, whose sync failed: nothing of it is on the card. The one
/// that succeeds then stands behind a gap, and is found when that shows.
#[test]
fn a_start_behind_many_failed_ones_is_found() {
    let (disk, mut writer) = prepared(1);
    append(&mut writer, &[Record::Entry(entry(at(1, 3), 100, 0))]).unwrap();
    drop(writer);
    for incarnation in 2..90 {
        let recovered = look(&disk, incarnation).0.unwrap();
        // The first batch is one write and one sync.
        disk.fail_at(disk.operations() + 1, DiskErrorKind::Io);
        let begun = recovered.opener.begin(IDENTITY, membership("n"), recovered.hard_state);
        assert!(matches!(begun, Err(WalError::Disk(_))));
    }
    disk.fail_at(u64::MAX, DiskErrorKind::Io);
    let mut writer = start(&disk, 90);
    append(&mut writer, &[Record::Entry(entry(at(2, 4), 100, 1))]).unwrap();
    disk.power_cut(&mut |_, _| false);
    let recovered = look(&disk, 91).0.unwrap();
    assert_eq!((recovered.entries.len(), recovered.tail), (4, Tail::Clean));
}

/// Makes a segment one of format 2: its header, and the checksums by which each batch names the one before it.
fn as_format_2(contents: &mut [u8]) {
    let number =
        |contents: &[u8], at: usize| u32::from_le_bytes(contents[at..at + 4].try_into().expect("four bytes"));
    contents[16 + 8..16 + 10].copy_from_slice(&2_u16.to_le_bytes());
    let mut checksum = crc32c(&contents[16..16 + 28]);
    contents[16 + 28..16 + 32].copy_from_slice(&checksum.to_le_bytes());
    for unit in (UNIT..contents.len()).step_by(UNIT) {
        let is_first = number(contents, unit + 8) >> 31 == 1;
        if is_first {
            contents[unit + 16 + 32..unit + 16 + 36].copy_from_slice(&checksum.to_le_bytes());
            checksum = crc32c(&contents[unit + 16..unit + 16 + 84]);
            contents[unit + 16 + 84..unit + 16 + 88].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// Starts of format 2 may stand anywhere behind the log's end.
#[test]
fn a_segment_of_format_2_is_read_whole_and_not_gone_on_with() {
    let disk = SimDisk::new();
    let mut writer = start(&disk, 1);
    for index in 1..=20 {
        append(&mut writer, &[Record::Entry(entry(at(1, index), 9_000, 0))]).unwrap();
    }
    drop(writer);
    let path = "wal/segment-0001";
    let mut contents = disk.contents(path).unwrap();
    contents.resize(SEGMENT, 0);
    as_format_2(&mut contents);
    disk.plant(path, &contents);
    let (recovered, read) = look(&disk, 2);
    let recovered = recovered.unwrap();
    assert_eq!((recovered.entries.len(), &recovered.tail), (20, &Tail::Clean));
    assert!(read >= SEGMENT, "{read} bytes");
    let writer = begin(recovered);
    assert_eq!(writer.segment_counts().0, 2);
    drop(writer);
    let (recovered, read) = look(&disk, 3);
    assert_eq!(recovered.unwrap().entries.len(), 20);
    assert!(read < SEGMENT / 8, "{read} bytes: where format 2 ends is known now");
}
