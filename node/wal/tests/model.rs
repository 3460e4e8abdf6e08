//! Thousands of random histories against a plain model: appends, truncations, resets, images, trims,
//! rotations, kills, power cuts and failures, also during a restart.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{IDENTITY, Model, at, batch, entry, guard_units, image, membership, open};
use quorate_types::{HardState, Index, Position, Start, Term};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{DiskErrorKind, ImageHead, Preparer, Record, Tail, WalError, Writer};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// One node on one card, and what it may remember.
struct Node {
    disk: SimDisk,
    rng: SmallRng,
    /// Acknowledged.
    model: Model,
    /// Acknowledged, or on its way when the node died.
    pending: Model,
    image: Option<ImageHead>,
    incarnation: u64,
    start: Start,
    founded: bool,
    reached: Reached,
}

/// What happened, to see that the generator reaches it.
#[derive(Debug, Default)]
struct Reached {
    hard_state_only: u32,
    cut_in_its_batch: u32,
    reset_in_the_middle: u32,
    older_term: u32,
    image_ahead: u32,
    whole_batch_found: u32,
    fetched: u32,
}

impl Node {
    fn new(seed: u64) -> Node {
        let disk = SimDisk::new();
        guard_units(&disk);
        let rng = SmallRng::seed_from_u64(seed);
        let model = Model::founded();
        let start = Start { count: 0, incarnation: 0 };
        Node {
            disk,
            rng,
            pending: model.clone(),
            model,
            image: None,
            incarnation: 0,
            start,
            founded: false,
            reached: Reached::default(),
        }
    }

    /// Dies: killed with what memory holds kept, or with the power.
    fn die(&mut self) {
        if self.rng.random_bool(0.3) {
            // Killed; a card that failed once may have recovered.
            self.disk.fail_at(u64::MAX, DiskErrorKind::Io);
            if !self.disk_is_dead() {
                return;
            }
        }
        let keep: f64 = [0.0, 0.1, 0.5, 0.9, 1.0][self.rng.random_range(0..5)];
        let rng = &mut self.rng;
        self.disk.power_cut(&mut |_, _| rng.random_bool(keep));
    }

    fn disk_is_dead(&self) -> bool {
        use quorate_wal::Disk;
        self.disk.sync_dir("nothing").is_err()
    }

    /// Starts until a start comes through; each may be cut or fail as well.
    fn revive(&mut self) -> Writer<SimDisk> {
        loop {
            if self.rng.random_bool(0.3) {
                self.trouble(6);
            }
            self.incarnation += 1;
            match self.start() {
                Ok(writer) => return writer,
                Err(WalError::Disk(_)) => self.die(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn start(&mut self) -> Result<Writer<SimDisk>, WalError> {
        let recovered = open(&self.disk, self.image.as_ref(), self.incarnation)?;
        let position = self.image.as_ref().map(|image| image.position);
        let found = Model::of(&recovered);
        let acknowledged = self.model.with_image(position);
        let pending = self.pending.with_image(position);
        assert!(
            found == acknowledged || found == pending,
            "\nfound {found:?}\nacknowledged {acknowledged:?}\npending {pending:?}"
        );
        self.reached.whole_batch_found += u32::from(found == pending && pending != acknowledged);
        let is_ahead = position.is_some_and(|position| position.index > self.model.last().index);
        self.reached.image_ahead += u32::from(is_ahead);
        assert!(recovered.identity.is_some() || !self.founded);
        assert!(
            recovered.start.count > self.start.count,
            "a start that was acknowledged is never counted again"
        );
        assert!(recovered.commit_hint <= found.last().index);
        let members = recovered.membership.unwrap_or_else(|| membership("n"));
        let begun = recovered.start;
        // Until its first batch is acknowledged, what was found may still vanish with the power.
        let writer = recovered.opener.begin(IDENTITY, members, recovered.hard_state)?;
        self.founded = true;
        self.start = begun;
        self.model = found.clone();
        self.pending = found;
        Ok(writer)
    }

    /// Some operation from now on is the last.
    fn trouble(&mut self, soon: u64) {
        let operation = self.disk.operations() + self.rng.random_range(0..soon);
        match self.rng.random_range(0..4) {
            0 => self.disk.fail_at(operation, DiskErrorKind::Io),
            1 => self.disk.fail_at(operation, DiskErrorKind::NoSpace),
            _ => self.disk.cut_at(operation),
        }
    }

    fn live(&mut self, writer: &mut Writer<SimDisk>, steps: u32) -> Result<(), WalError> {
        for _ in 0..steps {
            match self.rng.random_range(0..20) {
                0 => writer.seal()?,
                1 => self.trim(writer)?,
                2 => self.spare(writer)?,
                3 => self.fetch(writer),
                _ => {
                    let records = self.records();
                    self.pending.apply(&records);
                    writer.write(&batch(&records))?;
                    let synced = writer.sync()?;
                    self.model = self.pending.clone();
                    assert_eq!((synced.last, synced.hard_state), (self.model.last(), self.model.hard_state));
                }
            }
        }
        Ok(())
    }

    /// One batch: the appends of one group commit, each in the order consensus hands them out.
    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut model = self.model.clone();
        let count = if self.rng.random_bool(0.3) { self.rng.random_range(2..6) } else { 1 };
        for _ in 0..count {
            // What a segment of the tests holds, with room for the header's membership and a start's.
            if batch(&records).payload_bytes() > 10_000 {
                break;
            }
            let group = self.group(&model);
            model.apply(&group);
            records.extend(group);
        }
        if records.is_empty() {
            records.push(Record::CommitHint(model.last().index));
        }
        self.count(&records);
        records
    }

    fn count(&mut self, records: &[Record]) {
        let first_entry = records.iter().position(|record| matches!(record, Record::Entry(_)));
        let after_entries = &records[first_entry.unwrap_or(records.len())..];
        let has = |records: &[Record], is: fn(&Record) -> bool| u32::from(records.iter().any(is));
        let reached = &mut self.reached;
        reached.cut_in_its_batch += has(after_entries, |record| matches!(record, Record::Truncate { .. }));
        reached.reset_in_the_middle += has(after_entries, |record| matches!(record, Record::Reset { .. }));
        reached.hard_state_only +=
            u32::from(records.iter().all(|record| matches!(record, Record::HardState(_))));
        let mut term = Term(0);
        for record in records {
            match record {
                Record::HardState(hard_state) => term = hard_state.term,
                Record::Entry(entry) => reached.older_term += u32::from(entry.position.term < term),
                Record::CommitHint(_)
                | Record::Truncate { .. }
                | Record::Reset { .. }
                | Record::ImageMark { .. }
                | Record::Start(_)
                | Record::Membership(_)
                | Record::Seal => {}
            }
        }
    }

    /// One append after what `model` holds: hard state, membership, change, entries, hint; any may miss.
    fn group(&mut self, model: &Model) -> Vec<Record> {
        let mut records = Vec::new();
        let mut last = model.last();
        let mut hard_state = model.hard_state;
        hard_state.term = hard_state.term.max(Term(1)).max(last.term);
        if self.rng.random_bool(0.2) {
            hard_state.term.0 += self.rng.random_range(1..3);
        }
        let change = if self.rng.random_bool(0.2) { self.change(model, &mut hard_state) } else { None };
        if hard_state != model.hard_state || self.rng.random_bool(0.1) {
            hard_state.vote = self.rng.random_bool(0.5).then_some(IDENTITY.node);
            records.push(Record::HardState(hard_state));
            if self.rng.random_bool(0.2) {
                return records;
            }
        }
        if self.rng.random_bool(0.05) {
            let length = self.rng.random_range(1..6_000);
            records.push(Record::Membership(membership(&"m".repeat(length))));
        }
        if let Some(change) = change {
            last = change.0;
            records.push(change.1);
        }
        // A new leader sends entries of older terms too.
        let mut term = Term(self.rng.random_range(last.term.0.max(1)..=hard_state.term.0));
        for _ in 0..self.rng.random_range(0..4) {
            if self.rng.random_bool(0.2) {
                term = hard_state.term;
            }
            last = Position { term, index: last.index.next() };
            let bytes = if self.rng.random_bool(0.1) { 12_000 } else { self.rng.random_range(0..1_500) };
            records.push(Record::Entry(entry(last, bytes, self.rng.random())));
        }
        if self.rng.random_bool(0.2) {
            records.push(Record::CommitHint(Index(self.rng.random_range(0..last.index.0 + 9))));
        }
        records
    }

    /// A truncation down to any entry that no image covers, or an image from elsewhere; with the log's last
    /// position after it.
    fn change(&mut self, model: &Model, hard_state: &mut HardState) -> Option<(Position, Record)> {
        let (last, covered) =
            (model.last(), self.image.as_ref().map_or(Index(0), |image| image.position.index));
        if self.rng.random_bool(0.2) {
            // It is durable before it is recorded, so a start may find it either way. Its entries replace some of
            // these, or lie beyond them.
            let index = Index(self.rng.random_range(covered.0..covered.0.max(last.index.0) + 5)).next();
            let position = Position { term: hard_state.term.max(Term(last.term.0 + 1)), index };
            hard_state.term = position.term;
            self.image = Some(image(position, self.start));
            return Some((position, Record::Reset { position }));
        }
        let floor = covered.max(model.base.index);
        if last.index < floor {
            return None;
        }
        let to = Index(self.rng.random_range(floor.0..=last.index.0));
        let known = model.entries.iter().map(|entry| entry.position).chain([model.base]);
        let last = known.into_iter().find(|position| position.index == to)?;
        hard_state.term.0 += 1;
        Some((last, Record::Truncate { last, leader_term: hard_state.term }))
    }

    /// An image of a part of the log is durable; older segments are used again.
    fn trim(&mut self, writer: &mut Writer<SimDisk>) -> Result<(), WalError> {
        let last = self.model.last();
        let floor = self.image.as_ref().map_or(at(0, 0), |image| image.position);
        let position = if self.rng.random_bool(0.5) || self.model.entries.is_empty() {
            last
        } else {
            let at = self.rng.random_range(0..self.model.entries.len());
            self.model.entries[at].position
        };
        if position.index > floor.index && position.index >= self.model.base.index {
            self.image = Some(image(position, self.start));
            writer.trim(position)?;
        }
        Ok(())
    }

    fn spare(&mut self, writer: &mut Writer<SimDisk>) -> Result<(), WalError> {
        let Some(order) = writer.wants_spare() else { return Ok(()) };
        let mut preparer = Preparer::new(self.disk.clone(), order)?;
        if self.rng.random_bool(0.2) {
            writer.give_up_spare();
            return Ok(());
        }
        loop {
            if let Some(spare) = preparer.step()? {
                writer.give_spare(&spare);
                return Ok(());
            }
        }
    }

    /// What a reader finds is what the model says: all of it that no image covers, up to the last batch.
    fn fetch(&mut self, writer: &Writer<SimDisk>) {
        let (base, last) = (self.model.base, self.model.last().index);
        let after = Index(self.rng.random_range(base.index.0..=last.0 + 1));
        let until = Index(self.rng.random_range(after.0..=last.0 + 1));
        let bytes_max = self.rng.random_range(0..9_000);
        let known = self.model.entries.iter().map(|entry| entry.position);
        let position = known.chain([base]).find(|position| position.index == after);
        let mut bytes = 0;
        let expected: Vec<_> = self
            .model
            .entries
            .iter()
            .filter(|entry| entry.position.index > after && entry.position.index <= until)
            .take_while(|entry| {
                bytes += entry.payload.len();
                bytes <= bytes_max || entry.position.index == after.next()
            })
            .cloned()
            .collect();
        let covered = self.image.as_ref().map_or(Index(0), |image| image.position.index);
        match (writer.reader().fetch(after, until, bytes_max), position) {
            (Ok(fetched), Some(position)) => {
                self.reached.fetched += u32::from(!expected.is_empty());
                assert_eq!((fetched.after, fetched.entries), (position, expected));
            }
            (Err(WalError::Trimmed { .. }), Some(_)) => assert!(after < covered, "{after} is in the log"),
            (Err(WalError::Beyond { .. }), None) => assert_eq!(after, last.next()),
            (other, _) => panic!("after {after} up to {until} of {base} to {last}: {other:?}"),
        }
        writer.reader().verify().unwrap_or_else(|error| panic!("{error}"));
    }
}

fn history(seed: u64) -> Reached {
    let mut node = Node::new(seed);
    node.disk.set_short_writes(seed.is_multiple_of(5));
    for _ in 0..8 {
        let mut writer = node.revive();
        if node.rng.random_bool(0.8) {
            node.trouble(60);
        }
        let steps = node.rng.random_range(1..40);
        match node.live(&mut writer, steps) {
            Ok(()) | Err(WalError::Disk(_)) => {}
            Err(error) => panic!("{error}"),
        }
        drop(writer);
        node.die();
    }
    node.disk.fail_at(u64::MAX, DiskErrorKind::Io);
    node.disk.power_cut(&mut |_, _| true);
    let recovered = open(&node.disk, node.image.as_ref(), 999).expect("a healthy card");
    assert!(matches!(recovered.tail, Tail::Clean | Tail::Torn { .. } | Tail::PossiblyAcknowledged { .. }));
    node.reached
}

/// `QUORATE_SEED=17` plays one seed again, `QUORATE_SEED_COUNT=100000` searches longer.
fn histories(part: u64) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("QUORATE_SEED") {
        println!("{:?}", history(seed));
        return;
    }
    let count = number("QUORATE_SEED_COUNT").unwrap_or(4_000) / 2;
    for seed in part * count..(part + 1) * count {
        if std::panic::catch_unwind(|| history(seed)).is_err() {
            panic!("seed {seed}");
        }
    }
}

#[test]
fn random_histories_keep_their_word() {
    histories(0);
}

#[test]
fn more_random_histories_keep_their_word() {
    histories(1);
}

#[test]
fn the_histories_meet_their_cases() {
    let mut all = Reached::default();
    for seed in 0..150 {
        let reached = history(seed);
        all.hard_state_only += reached.hard_state_only;
        all.cut_in_its_batch += reached.cut_in_its_batch;
        all.reset_in_the_middle += reached.reset_in_the_middle;
        all.older_term += reached.older_term;
        all.image_ahead += reached.image_ahead;
        all.whole_batch_found += reached.whole_batch_found;
        all.fetched += reached.fetched;
    }
    let least = [
        all.hard_state_only,
        all.cut_in_its_batch,
        all.reset_in_the_middle,
        all.older_term,
        all.image_ahead,
        all.whole_batch_found,
        all.fetched,
    ];
    assert!(least.iter().all(|count| *count >= 20), "{all:?}");
}
