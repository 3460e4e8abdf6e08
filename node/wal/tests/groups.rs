//! What a follower writes: several appends in one batch, each of hard state, membership, change, entries and
//! hint, with a cut at every operation.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, Model, append, at, batch, entry, guard_units, membership, open, restart};
use quorate_types::{HardState, Index, Position, Term};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{Record, WalError};

fn hard_state(term: u64) -> Record {
    Record::HardState(HardState { term: Term(term), vote: Some(IDENTITY.node) })
}

fn entries(term: u64, indexes: core::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Record> {
    indexes.map(|index| Record::Entry(entry(at(term, index), bytes, term))).collect()
}

fn truncate(last: Position, leader_term: u64) -> Vec<Record> {
    vec![Record::Truncate { last, leader_term: Term(leader_term) }]
}

/// One batch after the other, as group commit makes them of a follower's appends under changing leaders.
fn batches() -> Vec<Vec<Record>> {
    vec![
        // A first leader's entries, and its hard state before them.
        [vec![hard_state(1)], entries(1, 1..=6, 900)].concat(),
        // A term without entries: a vote.
        vec![hard_state(2)],
        // Entries of an older term than the hard state, then a new leader cuts into this very batch, twice.
        [
            vec![hard_state(4)],
            entries(1, 7..=9, 700),
            vec![Record::CommitHint(Index(5))],
            vec![hard_state(5)],
            truncate(at(1, 8), 5),
            entries(5, 9..=12, 300),
            vec![hard_state(6)],
            truncate(at(5, 9), 6),
            entries(6, 10..=11, 50),
            vec![Record::CommitHint(Index(9))],
        ]
        .concat(),
        // A change down to what an earlier batch wrote, in an earlier segment by then.
        [entries(6, 12..=19, 4_000), vec![Record::CommitHint(Index(9))]].concat(),
        [entries(6, 20..=27, 4_000), vec![Record::CommitHint(Index(9))]].concat(),
        [vec![hard_state(7), Record::Membership(membership("renamed"))], truncate(at(6, 11), 7)].concat(),
        [entries(7, 12..=14, 200), vec![hard_state(8)], truncate(at(7, 12), 8), truncate(at(6, 10), 9)]
            .concat(),
        // An image stands at 30: the log goes on after it, and is cut again behind it.
        [
            vec![hard_state(10), Record::Reset { position: at(10, 30) }],
            entries(10, 31..=33, 60),
            truncate(at(10, 31), 10),
            entries(10, 32..=32, 70),
            vec![Record::CommitHint(Index(31))],
        ]
        .concat(),
        [entries(10, 33..=34, 80), vec![Record::CommitHint(Index(33))]].concat(),
    ]
}

/// Writes them, with a restart in the middle; answers what was acknowledged and what was on its way.
fn history(disk: &SimDisk) -> (Model, Model, Option<WalError>) {
    let (mut model, mut pending) = (Model::founded(), Model::founded());
    let mut run = || -> Result<(), WalError> {
        let mut writer = restart(disk, None, 1)?;
        for (number, records) in batches().into_iter().enumerate() {
            if number == 4 {
                drop(writer);
                writer = restart(disk, None, 2)?;
            }
            pending.apply(&records);
            writer.write(&batch(&records))?;
            let synced = writer.sync()?;
            model = pending.clone();
            assert_eq!((synced.last, synced.hard_state), (model.last(), model.hard_state));
        }
        Ok(())
    };
    let error = run().err();
    (model, pending, error)
}

#[test]
fn groups_in_one_batch_are_recovered_whole_or_not_at_all() {
    let whole = SimDisk::new();
    guard_units(&whole);
    let (model, _, error) = history(&whole);
    assert_eq!(error, None);
    let indexes: Vec<(u64, u64)> =
        model.entries.iter().map(|entry| (entry.position.term.0, entry.position.index.0)).collect();
    assert_eq!(indexes, [(10, 31), (10, 32), (10, 33), (10, 34)]);
    let operations = whole.operations();
    let recovered = open(&whole, None, 3).unwrap();
    assert_eq!((Model::of(&recovered), recovered.commit_hint), (model, Index(33)));
    for operation in 0..operations {
        for pattern in 0..6_usize {
            let disk = SimDisk::new();
            guard_units(&disk);
            disk.cut_at(operation);
            let (acknowledged, pending, error) = history(&disk);
            assert!(error.is_some(), "the power went at operation {operation}");
            disk.power_cut(&mut |_, sector| match pattern {
                0 => false,
                1 => true,
                2 => sector % 2 == 0,
                3 => sector % 8 == 0,
                4 => sector % 3 != 0,
                _ => sector % 5 < 2,
            });
            check(&disk, &acknowledged, &pending);
        }
    }
}

/// As acknowledged or one batch longer; and what the next start begins with does not vanish any more.
fn check(disk: &SimDisk, acknowledged: &Model, pending: &Model) {
    let recovered = open(disk, None, 50).expect("a healthy card");
    let mut found = Model::of(&recovered);
    assert!(found == *acknowledged || found == *pending, "{found:?}\n{acknowledged:?}\n{pending:?}");
    let members = recovered.membership.unwrap_or_else(|| membership("n"));
    let mut writer = recovered.opener.begin(IDENTITY, members, recovered.hard_state).expect("a healthy card");
    let last = found.last();
    let term = found.hard_state.term.0.max(1);
    let records = [hard_state(term + 1), truncate(last, term + 1).remove(0)];
    let records = [&records[..], &entries(term, last.index.0 + 1..=last.index.0 + 1, 10)].concat();
    append(&mut writer, &records).expect("a healthy card");
    found.apply(&records);
    disk.power_cut(&mut |_, _| false);
    assert_eq!(Model::of(&open(disk, None, 51).expect("a healthy card")), found);
}

/// A reader sees all that is synced, in the segment being written too, and nothing that is not.
#[test]
fn a_reader_sees_what_is_synced_and_no_more() {
    let disk = SimDisk::new();
    let mut writer = restart(&disk, None, 1).unwrap();
    let mut model = Model::founded();
    assert_eq!(
        writer.reader().fetch(Index(1), Index(9), 100).err(),
        Some(WalError::Beyond { index: Index(1) })
    );
    for records in batches() {
        let before = writer.reader();
        writer.write(&batch(&records)).unwrap();
        let unsynced = writer.reader();
        writer.sync().unwrap();
        check_reader(&before, &model);
        check_reader(&unsynced, &model);
        model.apply(&records);
        check_reader(&writer.reader(), &model);
    }
    drop(writer);
    // The same after a restart, whose first batch holds a copy of the last one.
    let mut writer = restart(&disk, None, 2).unwrap();
    check_reader(&writer.reader(), &model);
    let more = entries(10, 35..=35, 9);
    append(&mut writer, &more).unwrap();
    model.apply(&more);
    check_reader(&writer.reader(), &model);
}

fn check_reader(reader: &quorate_wal::Reader<SimDisk>, model: &Model) {
    let positions: Vec<Position> =
        [model.base].into_iter().chain(model.entries.iter().map(|entry| entry.position)).collect();
    for (at, after) in positions.iter().enumerate() {
        for bytes_max in [0, 500, 5_000, usize::MAX] {
            let fetched = reader.fetch(after.index, Index(u64::MAX), bytes_max).expect("it is in the log");
            let entries = &model.entries[at..];
            let fits = fetched.entries.len();
            assert_eq!((fetched.after, &fetched.entries[..]), (*after, &entries[..fits]));
            let bytes =
                |count: usize| entries[..count].iter().map(|entry| entry.payload.len()).sum::<usize>();
            assert!(fits <= 1 || bytes(fits) <= bytes_max);
            assert!(fits == entries.len() || (fits > 0 && bytes(fits + 1) > bytes_max), "no more would fit");
        }
    }
    let next = model.last().index.next();
    assert_eq!(reader.fetch(next, Index(u64::MAX), 1).err(), Some(WalError::Beyond { index: next }));
    if model.base.index > Index(0) {
        let before = Index(model.base.index.0 - 1);
        assert!(matches!(reader.fetch(before, next, 1), Err(WalError::Trimmed { .. })));
    }
    reader.verify().expect("it is in the log");
}

/// A follower some MiB behind costs about what it is sent, not a segment for each piece.
#[test]
fn a_small_span_costs_little_reading() {
    let disk = SimDisk::new();
    let settings =
        quorate_wal::Settings { segment_bytes: 16 * 1024 * 1024, ..quorate_wal::Settings::default() };
    let open = |incarnation| quorate_wal::recover(disk.clone(), settings, None, None, incarnation).unwrap();
    let mut writer =
        open(1).opener.begin(IDENTITY, membership("n"), HardState { term: Term(1), vote: None }).unwrap();
    for number in 0..600 {
        append(&mut writer, &entries(1, number * 4 + 1..=number * 4 + 4, 2_000)).unwrap();
    }
    for start in 2..4 {
        let before = disk.counters().bytes_read;
        let reader = writer.reader();
        let mut after = Index(40);
        let mut bytes = 0;
        while after < Index(2_400) {
            let fetched = reader.fetch(after, Index(2_400), 256 * 1024).unwrap();
            after = fetched.entries.last().unwrap().position.index;
            bytes += fetched.entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
        }
        let read = disk.counters().bytes_read - before;
        assert_eq!(bytes, 2_360 * 2_000);
        assert!(read < 2 * bytes as u64, "{read} bytes read for {bytes} of payload");
        // After a restart the index is made of what recovery read.
        let recovered = open(start);
        writer = recovered.opener.begin(IDENTITY, membership("n"), recovered.hard_state).unwrap();
    }
}

#[test]
fn a_segment_that_is_used_again_answers_trimmed() {
    let disk = SimDisk::new();
    let mut writer = restart(&disk, None, 1).unwrap();
    for index in 1..=40 {
        append(&mut writer, &entries(1, index..=index, 3_000)).unwrap();
    }
    let old = writer.reader();
    writer.trim(at(1, 38)).unwrap();
    assert_eq!(old.fetch(Index(3), Index(40), 1).unwrap().entries.len(), 1, "nothing was overwritten yet");
    for index in 41..=100 {
        append(&mut writer, &entries(1, index..=index, 3_000)).unwrap();
        match old.fetch(Index(3), Index(40), 3_000) {
            Ok(fetched) => assert_eq!(fetched.entries, [entry(at(1, 4), 3_000, 1)]),
            Err(error) => assert_eq!(error, WalError::Trimmed { first: Index(4) }),
        }
    }
    assert_eq!(old.fetch(Index(3), Index(40), 1).err(), Some(WalError::Trimmed { first: Index(4) }));
    assert!(matches!(old.verify(), Err(WalError::Trimmed { .. })));
}

/// A payload is held by whoever wrote it, and by the log only while its batch is: nothing of it stays behind.
#[test]
fn the_log_holds_no_payload_once_it_is_written() {
    let disk = SimDisk::new();
    let mut writer = restart(&disk, None, 1).unwrap();
    let held = entry(at(1, 1), 5_000, 0);
    let mut one = batch(&[Record::Entry(held.clone())]);
    writer.write(&one).unwrap();
    assert_eq!(std::sync::Arc::strong_count(&held.payload), 2, "the batch and the test");
    one.clear();
    writer.sync().unwrap();
    let reader = writer.reader();
    assert_eq!(reader.fetch(Index(0), Index(1), 1).unwrap().entries.first(), Some(&held));
    assert_eq!(std::sync::Arc::strong_count(&held.payload), 1);
}
