//! Every cut point of small histories, exhaustively: each operation, and each set of sectors that reached
//! the card.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, Model, SETTINGS, append, at, batch, entry, guard_units, membership, open, restart};
use quorate_types::{HardState, Position};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::disk::{Disk, DiskFile};
use quorate_wal::{Record, Settings, Tail, WalError, Writer, recover};

/// A log with some acknowledged batches, its model, and the writer to go on.
fn begun(batches: u64, bytes: usize) -> (SimDisk, Model, Writer<SimDisk>) {
    let disk = SimDisk::new();
    guard_units(&disk);
    let mut model = Model::founded();
    let mut writer = restart(&disk, None, 1).expect("a new folder");
    for index in 1..=batches {
        let records = [Record::Entry(entry(at(1, index), bytes, 0))];
        append(&mut writer, &records).expect("a healthy card");
        model.apply(&records);
    }
    (disk, model, writer)
}

/// Bytes 512 to 4,096 of a unit matter in three ways: the sector behind the tag, the next, and the rest.
/// All sets of {tag's, next, third, rest} for each unit written.
fn each_subset(disk: &SimDisk, check: &mut dyn FnMut(&SimDisk, u32)) -> u32 {
    let mut groups: Vec<(String, usize, usize)> =
        disk.unsynced().into_iter().map(|(path, sector)| (path, sector / 8, (sector % 8).min(3))).collect();
    groups.dedup();
    let bits = u32::try_from(groups.len()).expect("few");
    assert!((4..=12).contains(&bits), "one to three units are unsynced, not {bits} groups");
    for kept in 0..1_u32 << bits {
        let cut = disk.fork();
        guard_units(&cut);
        cut.power_cut(&mut |path, sector| {
            let group = (path.to_owned(), sector / 8, (sector % 8).min(3));
            groups.iter().position(|known| *known == group).is_none_or(|bit| kept & 1 << bit != 0)
        });
        check(&cut, kept);
    }
    bits
}

/// After a cut the log is as acknowledged, or one whole batch longer; and what a next start then
/// acknowledges survives a cut that loses everything it may.
fn check_cut(disk: &SimDisk, acknowledged: &Model, pending: &Model, kept: u32) {
    let recovered = open(disk, None, 50).unwrap_or_else(|error| panic!("cut {kept:b}: {error}"));
    let found = Model::of(&recovered);
    let is_longer = found == *pending;
    assert!(is_longer || found == *acknowledged, "cut {kept:b}: {found:?}");
    if is_longer && pending != acknowledged {
        assert_eq!(recovered.tail, Tail::Clean, "cut {kept:b}");
    }
    let members = recovered.membership.unwrap_or_else(|| membership("n"));
    let mut writer = recovered.opener.begin(IDENTITY, members, recovered.hard_state).expect("a healthy card");
    let mut model = found;
    let records = [Record::Entry(entry(at(3, model.last().index.0 + 1), 100, 9))];
    append(&mut writer, &records).expect("a healthy card");
    model.apply(&records);
    drop(writer);
    disk.power_cut(&mut |_, _| false);
    let again = open(disk, None, 51).unwrap_or_else(|error| panic!("cut {kept:b}, second: {error}"));
    assert_eq!(Model::of(&again), model, "cut {kept:b}, second");
    assert_eq!(again.tail, Tail::Clean, "what was torn before is marked void");
}

#[test]
fn a_batch_of_one_block_is_whole_or_not_there() {
    let (disk, model, mut writer) = begun(3, 600);
    let records = [Record::Entry(entry(at(1, 4), 3_000, 0))];
    writer.write(&batch(&records)).unwrap();
    let mut pending = model.clone();
    pending.apply(&records);
    assert_eq!(each_subset(&disk, &mut |cut, kept| check_cut(cut, &model, &pending, kept)), 4);
}

#[test]
fn a_batch_of_three_blocks_is_whole_or_not_there() {
    let (disk, model, mut writer) = begun(2, 600);
    let term = HardState { term: at(2, 0).term, vote: Some(IDENTITY.node) };
    let mut records =
        vec![Record::Truncate { last: at(1, 1), leader_term: term.term }, Record::HardState(term)];
    records.extend((2..6).map(|index| Record::Entry(entry(at(2, index), 2_300, 1))));
    writer.write(&batch(&records)).unwrap();
    let mut pending = model.clone();
    pending.apply(&records);
    assert_eq!(each_subset(&disk, &mut |cut, kept| check_cut(cut, &model, &pending, kept)), 12);
}

#[test]
fn a_rotation_into_a_used_file_is_whole_or_not_there() {
    let (disk, mut model, mut writer) = begun(28, 3_000);
    // Two segments are full; everything but the tail is trimmed, so that the next file is a used one.
    let position = model.last();
    assert!(writer.trim(position).unwrap() >= 1);
    let head = common::image(position, writer.start());
    let mut index = position.index.0;
    loop {
        index += 1;
        let records = [Record::Entry(entry(at(1, index), 3_000, 0))];
        writer.write(&batch(&records)).unwrap();
        if writer.segment_counts().0 == 2 {
            let mut pending = model.clone();
            pending.apply(&records);
            let expected = [model.with_image(Some(position)), pending.with_image(Some(position))];
            let bits = each_subset(&disk, &mut |cut, kept| {
                let recovered =
                    open(cut, Some(&head), 50).unwrap_or_else(|error| panic!("cut {kept:b}: {error}"));
                let found = Model::of(&recovered);
                assert!(expected.contains(&found), "cut {kept:b}: {found:?}");
                drop(recovered.opener.begin(IDENTITY, membership("n"), recovered.hard_state).unwrap());
                cut.power_cut(&mut |_, _| false);
                let again = open(cut, Some(&head), 51).unwrap();
                assert_eq!((Model::of(&again), again.tail), (found, Tail::Clean), "cut {kept:b}, second");
            });
            assert_eq!(bits, 8);
            return;
        }
        writer.sync().unwrap();
        model.apply(&records);
    }
}

#[test]
fn a_founding_is_whole_or_not_there() {
    let disk = SimDisk::new();
    guard_units(&disk);
    // The founding's own operations: create, allocate, fill, sync, sync folder, write, sync.
    disk.cut_at(disk.operations() + 6);
    assert!(matches!(restart(&disk, None, 1), Err(WalError::Disk(_))));
    let empty = Model::founded();
    each_subset(&disk, &mut |cut, kept| check_cut(cut, &empty, &empty, kept));
}

/// A history with rotations, a truncation, seals, spares and two restarts; answers what was acknowledged
/// and what was on its way when the first error came.
fn history(disk: &SimDisk) -> (Model, Model, Option<WalError>) {
    let mut model = Model::founded();
    let mut pending = model.clone();
    let mut run = || -> Result<(), WalError> {
        for start in 1..=3 {
            let mut writer = restart(disk, None, start)?;
            for step in 0..7 {
                let last = model.last();
                let mut records: Vec<Record> = (1..=3)
                    .map(|more| Record::Entry(entry(at(start, last.index.0 + more), 2_000, step)))
                    .collect();
                if step == 3 {
                    let to = model.entries[model.entries.len() - 2].position;
                    let leader_term = at(start, 0).term;
                    let hard_state = HardState { term: leader_term, vote: Some(IDENTITY.node) };
                    records = vec![
                        Record::Truncate { last: to, leader_term },
                        Record::HardState(hard_state),
                        Record::Entry(entry(at(start, to.index.0 + 1), 10, 77)),
                    ];
                }
                pending.apply(&records);
                append(&mut writer, &records)?;
                model = pending.clone();
            }
            if start == 2 {
                writer.seal()?;
            }
            if let Some(order) = writer.wants_spare() {
                let mut preparer = quorate_wal::Preparer::new(disk.clone(), order)?;
                let spare = loop {
                    if let Some(spare) = preparer.step()? {
                        break spare;
                    }
                };
                writer.give_spare(&spare);
            }
        }
        Ok(())
    };
    let error = run().err();
    (model, pending, error)
}

#[test]
fn a_cut_at_every_operation_keeps_what_was_acknowledged() {
    let whole = SimDisk::new();
    guard_units(&whole);
    let (_, _, error) = history(&whole);
    assert_eq!(error, None);
    let operations = whole.operations();
    assert!(operations > 60, "the history does something: {operations} operations");
    for operation in 0..operations {
        for pattern in 0..6_usize {
            let disk = SimDisk::new();
            guard_units(&disk);
            disk.cut_at(operation);
            let (acknowledged, pending, error) = history(&disk);
            assert!(error.is_some(), "the power went at operation {operation}");
            // Nothing, everything, every other sector, and three uneven mixtures.
            disk.power_cut(&mut |_, sector| match pattern {
                0 => false,
                1 => true,
                2 => sector % 2 == 0,
                3 => sector % 8 == 0,
                4 => sector % 3 != 0,
                _ => sector % 5 < 2,
            });
            check_cut(&disk, &acknowledged, &pending, u32::try_from(operation).unwrap());
        }
    }
}

#[test]
fn a_failure_at_every_operation_is_final_and_loses_nothing() {
    let whole = SimDisk::new();
    let (_, _, error) = history(&whole);
    assert_eq!(error, None);
    for operation in 0..whole.operations() {
        for kind in [quorate_wal::DiskErrorKind::Io, quorate_wal::DiskErrorKind::NoSpace] {
            for power_fails in [false, true] {
                let disk = SimDisk::new();
                guard_units(&disk);
                disk.fail_at(operation, kind);
                let (acknowledged, pending, error) = history(&disk);
                let Some(WalError::Disk(error)) = error else { panic!("operation {operation} failed") };
                assert_eq!(error.kind, kind);
                if power_fails {
                    disk.power_cut(&mut |_, sector| sector % 2 == 0);
                }
                check_cut(&disk, &acknowledged, &pending, u32::try_from(operation).unwrap());
            }
        }
    }
}

#[test]
fn the_first_failure_answers_every_later_call() {
    let (disk, model, mut writer) = begun(2, 100);
    let next = |index| [Record::Entry(entry(at(1, index), 100, 0))];
    writer.write(&batch(&next(3))).unwrap();
    disk.fail_at(disk.operations(), quorate_wal::DiskErrorKind::Io);
    let first = writer.sync().unwrap_err();
    assert!(first.to_string().contains("simulated failure"), "{first}");
    // The card is well again, and still nothing is acknowledged.
    assert_eq!(writer.sync(), Err(first.clone()));
    assert_eq!(writer.write(&batch(&next(4))), Err(first.clone()));
    assert_eq!(writer.seal(), Err(first.clone()));
    assert_eq!(writer.latched(), Some(&first));
    let operations = disk.operations();
    drop(writer);
    assert_eq!(disk.operations(), operations, "nothing was tried again");
    // Its bytes are readable and clean, and not on the card: the next start makes them durable first.
    let mut longer = model;
    longer.apply(&next(3));
    let writer = restart(&disk, None, 2).unwrap();
    drop(writer);
    disk.power_cut(&mut |_, _| false);
    assert_eq!(Model::of(&open(&disk, None, 3).unwrap()), longer);
}

#[test]
fn steady_state_is_one_write_and_one_sync_and_no_metadata() {
    let disk = SimDisk::new();
    disk.set_short_writes(false);
    let mut writer = restart(&disk, None, 1).unwrap();
    // Fill the pool, as the background thread would.
    while let Some(order) = writer.wants_spare() {
        let mut preparer = quorate_wal::Preparer::new(disk.clone(), order).unwrap();
        while !preparer.step().unwrap().is_some_and(|spare| {
            writer.give_spare(&spare);
            true
        }) {}
    }
    let mut index = 0;
    let mut put = |writer: &mut Writer<SimDisk>| {
        index += 1;
        append(writer, &[Record::Entry(entry(at(1, index), 512, 0))]).unwrap();
        index
    };
    for _ in 0..SETTINGS.segment_bytes / 4096 {
        put(&mut writer);
    }
    let before = disk.counters();
    for round in 1..=200 {
        let index = put(&mut writer);
        if round % 20 == 0 {
            writer.trim(at(1, index)).unwrap();
        }
    }
    let after = disk.counters();
    assert_eq!(after.metadata, before.metadata, "no metadata, across rotations into spare and used files");
    assert_eq!(after.writes - before.writes, 200);
    assert_eq!(after.syncs - before.syncs, 200);
    // One block each, and one header for each 15 batches; fewer in the founding's file, which stays short.
    assert!(after.bytes - before.bytes <= 4096 * (200 + 200 / 12), "{} bytes", after.bytes - before.bytes);
}

#[test]
fn short_writes_are_completed() {
    let disk = SimDisk::new();
    guard_units(&disk);
    disk.set_short_writes(true);
    let (model, _, error) = history(&disk);
    assert_eq!(error, None);
    disk.power_cut(&mut |_, _| false);
    assert_eq!(Model::of(&open(&disk, None, 9).unwrap()), model);
}

#[test]
fn starts_that_fail_one_after_the_other_lose_nothing() {
    for batches in 0..34 {
        failing_starts(batches, None);
    }
}

#[test]
fn starts_that_fail_behind_an_image_lose_nothing() {
    for batches in 2..34 {
        failing_starts(batches, Some(at(1, batches - 1)));
    }
}

/// Whatever the last segment holds, and however many starts fail to sync before the power goes: each
/// leaves its batch readable and not durable.
fn failing_starts(batches: u64, position: Option<Position>) {
    let (disk, model, writer) = begun(batches, 3_000);
    let head = position.map(|position| common::image(position, writer.start()));
    let image = head.as_ref();
    drop(writer);
    for failures in 0..4 {
        let disk = disk.fork();
        for failure in 0..failures {
            let whole = disk.fork();
            drop(restart(&whole, image, 2).expect("a healthy card"));
            // The sync of the start's first batch: the last of four operations, or before a seal's two.
            let operations = whole.operations() - disk.operations();
            let sync = if operations == 4 { operations - 1 } else { operations - 3 };
            disk.fail_at(disk.operations() + sync, quorate_wal::DiskErrorKind::Io);
            assert!(restart(&disk, image, 2 + failure).is_err());
        }
        // And then the power goes, during each operation of one more start.
        for operation in 2..7 {
            let disk = disk.fork();
            disk.cut_at(disk.operations() + operation);
            let cut = restart(&disk, image, 9);
            disk.power_cut(&mut |_, sector| sector % 8 == 1);
            let recovered =
                open(&disk, image, 10).unwrap_or_else(|error| panic!("{batches}, {failures}: {error}"));
            let expected = model.with_image(position);
            assert_eq!(
                Model::of(&recovered),
                expected,
                "{batches} batches, {failures} failures, {:?}",
                cut.err()
            );
        }
    }
}

#[test]
fn a_rotation_that_was_torn_is_reported_once() {
    // The long batch needs a new segment; the next start's short one would still fit the old.
    let (disk, model, mut writer) = begun(12, 3_000);
    let order = writer.wants_spare().unwrap();
    let mut preparer = quorate_wal::Preparer::new(disk.clone(), order).unwrap();
    let spare = (0..99).find_map(|_| preparer.step().unwrap()).unwrap();
    writer.give_spare(&spare);
    let records: Vec<Record> = (13..16).map(|index| Record::Entry(entry(at(1, index), 3_000, 0))).collect();
    writer.write(&batch(&records)).unwrap();
    assert_eq!(writer.segment_counts().0, 2);
    drop(writer);
    disk.power_cut(&mut |path, sector| path.is_empty() || sector < 8);
    for (start, tail) in [(2, "wal/segment-0002"), (3, "")] {
        let recovered = open(&disk, None, start).unwrap();
        assert_eq!(Model::of(&recovered), model);
        match &recovered.tail {
            Tail::Torn { file, .. } => assert_eq!(file, tail),
            Tail::Clean => assert_eq!(tail, ""),
            Tail::PossiblyAcknowledged { .. } => panic!("no block of its first batch is there"),
        }
        drop(recovered.opener.begin(IDENTITY, membership("n"), recovered.hard_state).unwrap());
    }
}

#[test]
fn a_torn_rotation_still_proves_what_came_before() {
    let (disk, _, mut writer) = begun(13, 3_000);
    writer.write(&batch(&[Record::Entry(entry(at(1, 14), 3_000, 0))])).unwrap();
    assert_eq!(writer.segment_counts().0, 2);
    drop(writer);
    disk.power_cut(&mut |path, sector| path.is_empty() || sector < 8);
    // Alone it would only be possible that the last batch of the first segment was acknowledged; the
    // header of the next one, torn as its batch is, was written after its sync.
    disk.flip("wal/segment-0001", (15 * 4096 + 1_000) * 8);
    let error = open(&disk, None, 2).err().unwrap();
    assert!(matches!(&error, WalError::Corrupt { offset: 61_440, .. }), "{error}");
}

#[test]
fn a_crash_loop_takes_no_more_files() {
    for batches in [0, 1, 14, 15, 16] {
        let (disk, model, writer) = begun(batches, 3_000);
        drop(writer);
        let files = disk.paths().len();
        for start in 2..60 {
            drop(restart(&disk, None, start).unwrap());
            disk.power_cut(&mut |_, sector| sector % 2 == 0);
        }
        // The starts' own blocks, and in a segment this small a seal with each second one.
        assert!(disk.paths().len() <= files + 10, "{files} files became {}", disk.paths().len());
        assert_eq!(Model::of(&open(&disk, None, 99).unwrap()), model);
    }
}

/// Without a spare the log fills a segment with zeros a step at a time, ahead of itself: most batches still
/// meet zeros and touch no metadata, and what was filled is used again as it is.
#[test]
fn a_segment_that_was_not_prepared_is_filled_ahead() {
    let disk = SimDisk::new();
    let settings = Settings { segment_bytes: 2 * 1024 * 1024, block_bytes: 4096, pool_count: 4 };
    let mut writer = recover(disk.clone(), settings, None, None, 1)
        .unwrap()
        .opener
        .begin(IDENTITY, membership("n"), HardState::default())
        .unwrap();
    let bytes = |path: &str| disk.open(path).unwrap().bytes().unwrap();
    let founded = bytes("wal/segment-0001");
    assert!(founded < 64 * 1024, "a first start waits for little");
    let before = disk.counters();
    let mut index = 0;
    while bytes("wal/segment-0001") < 2 * 1024 * 1024 {
        index += 1;
        append(&mut writer, &[Record::Entry(entry(at(1, index), 20_000, 1))]).unwrap();
    }
    let steps = disk.counters().metadata - before.metadata;
    assert!(steps * 3 <= index, "{steps} of {index} batches had to fill");
    let filled = writer.bytes_filled();
    while disk.list("wal").unwrap().len() < 2 {
        index += 1;
        append(&mut writer, &[Record::Entry(entry(at(1, index), 20_000, 1))]).unwrap();
    }
    let image = common::image(at(1, index), writer.start());
    writer.trim(at(1, index)).unwrap();
    let length = bytes("wal/segment-0002");
    drop(writer);
    let recovered = recover(disk.clone(), settings, None, Some(&image), 2).unwrap();
    let mut writer = recovered.opener.begin(IDENTITY, membership("n"), HardState::default()).unwrap();
    assert_eq!(bytes("wal/segment-0002"), length, "a restart goes on where zeros are");
    assert!(filled <= 2 * 1024 * 1024, "each byte once");
    append(&mut writer, &[Record::Entry(entry(at(1, index + 1), 100, 1))]).unwrap();
}

/// A founding's file is filled step by step only until a prepared one waits: then the log goes on there, and
/// zeros are no longer written beside the puts.
#[test]
fn the_log_goes_on_in_a_prepared_file_as_soon_as_one_waits() {
    let disk = SimDisk::new();
    let mut writer = restart(&disk, None, 1).unwrap();
    let order = writer.wants_spare().expect("there are none");
    let mut preparer = quorate_wal::Preparer::new(disk.clone(), order).unwrap();
    while !preparer.step().unwrap().is_some_and(|spare| {
        writer.give_spare(&spare);
        true
    }) {}
    let filled = writer.bytes_filled();
    for index in 1..=SETTINGS.segment_bytes / 4096 {
        append(&mut writer, &[Record::Entry(entry(at(1, index), 512, 0))]).unwrap();
        if writer.segment_counts().1 == 0 {
            assert_eq!(writer.bytes_filled(), filled, "no zeros before it went on");
            return;
        }
    }
    panic!("the prepared file was not used");
}

/// A spare that finds the disk full gives its room back: the log may need it.
#[test]
fn a_spare_that_cannot_be_made_leaves_nothing() {
    let (disk, _model, mut writer) = begun(1, 100);
    let order = writer.wants_spare().expect("there are none");
    let mut preparer = quorate_wal::Preparer::new(disk.clone(), order).unwrap();
    disk.fail_at(disk.operations(), quorate_wal::DiskErrorKind::NoSpace);
    assert!(preparer.step().is_err());
    assert!(disk.list("wal").unwrap().iter().any(|name| name.starts_with("spare")));
    preparer.abandon();
    writer.give_up_spare();
    assert!(!disk.list("wal").unwrap().iter().any(|name| name.starts_with("spare")));
}
