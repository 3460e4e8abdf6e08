//! What the tests of the log share: a small cast, a plain model, and a node that writes, dies and returns.

use quorate_types::{
    ClusterId, Entry, EntryKind, HardState, Identity, Index, Member, Membership, NodeId, PeerKey, Position,
    Start, Term,
};
use quorate_wal::disk::sim::SimDisk;
use quorate_wal::{Batch, ImageHead, Record, Recovered, Settings, WalError, Writer, recover};
use std::sync::Arc;

/// Who writes in all tests.
pub(crate) const IDENTITY: Identity = Identity { cluster: ClusterId(7), node: NodeId(1) };

/// Small segments, so that short histories rotate.
pub(crate) const SETTINGS: Settings = Settings { segment_bytes: 64 * 1024, block_bytes: 4096, pool_count: 4 };

/// A membership of one; `name` makes it long or short.
pub(crate) fn membership(name: &str) -> Membership {
    let name = name.to_owned();
    Membership::founded_by(Member {
        id: IDENTITY.node,
        name,
        peer_addresses: Vec::new(),
        client_urls: Vec::new(),
        key: PeerKey::default(),
        stays_learner: false,
    })
}

/// A position.
pub(crate) fn at(term: u64, index: u64) -> Position {
    Position { term: Term(term), index: Index(index) }
}

/// An entry whose payload nothing else has.
pub(crate) fn entry(position: Position, bytes: usize, salt: u64) -> Entry {
    let mut state = salt ^ position.index.0 << 20 ^ position.term.0 << 50;
    let payload: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        })
        .collect();
    Entry { position, kind: EntryKind::Command, payload: Arc::from(payload) }
}

/// A batch of these records.
pub(crate) fn batch(records: &[Record]) -> Batch {
    let mut batch = Batch::new();
    for record in records {
        batch.push(record.clone());
    }
    batch
}

/// An image head at a position.
pub(crate) fn image(position: Position, start: Start) -> ImageHead {
    let hard_state = HardState { term: position.term, vote: None };
    ImageHead { identity: IDENTITY, position, membership: membership("n"), hard_state, start, number: 1 }
}

/// The plainest log: what must be recovered.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Model {
    /// Term and vote.
    pub(crate) hard_state: HardState,
    /// Members.
    pub(crate) membership: Membership,
    /// Last position before the entries.
    pub(crate) base: Position,
    /// The log.
    pub(crate) entries: Vec<Entry>,
}

impl core::fmt::Debug for Model {
    /// Without payloads: positions and sizes tell most.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} base {} of {}:", self.hard_state, self.base.index, self.base.term)?;
        for entry in &self.entries {
            write!(f, " {}.{}({})", entry.position.term, entry.position.index, entry.payload.len())?;
        }
        Ok(())
    }
}

impl Model {
    /// A cluster just founded.
    pub(crate) fn founded() -> Model {
        Model {
            hard_state: HardState::default(),
            membership: membership("n"),
            base: at(0, 0),
            entries: Vec::new(),
        }
    }

    /// Last position.
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// Does what a batch says.
    pub(crate) fn apply(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Entry(entry) => self.entries.push(entry.clone()),
                Record::HardState(hard_state) => self.hard_state = *hard_state,
                Record::Membership(membership) => self.membership = membership.clone(),
                Record::Truncate { last, .. } => {
                    self.entries.retain(|entry| entry.position.index <= last.index)
                }
                Record::Reset { position } => {
                    self.entries.clear();
                    self.base = *position;
                }
                Record::CommitHint(_) | Record::ImageMark { .. } | Record::Start(_) | Record::Seal => {}
            }
        }
    }

    /// The same as seen with an image at `position`.
    pub(crate) fn with_image(&self, position: Option<Position>) -> Model {
        let mut model = self.clone();
        let Some(position) = position else { return model };
        let known = if position.index == self.base.index {
            Some(self.base)
        } else {
            self.entries.iter().map(|entry| entry.position).find(|found| found.index == position.index)
        };
        if known != Some(position) && position.term > model.hard_state.term {
            model.hard_state = HardState { term: position.term, vote: None };
        }
        model.base = position;
        model.entries.retain(|entry| known == Some(position) && entry.position.index > position.index);
        model
    }

    /// What was recovered, in the same form.
    pub(crate) fn of(recovered: &Recovered<SimDisk>) -> Model {
        let Some(membership) = recovered.membership.clone() else { return Model::founded() };
        Model {
            hard_state: recovered.hard_state,
            membership,
            base: recovered.base,
            entries: recovered.entries.clone(),
        }
    }
}

/// Recovers as start `incarnation`.
pub(crate) fn open(
    disk: &SimDisk,
    image: Option<&ImageHead>,
    incarnation: u64,
) -> Result<Recovered<SimDisk>, WalError> {
    recover(disk.clone(), SETTINGS, Some(IDENTITY), image, incarnation)
}

/// Recovers and begins, with what was recovered or as a founder.
pub(crate) fn restart(
    disk: &SimDisk,
    image: Option<&ImageHead>,
    incarnation: u64,
) -> Result<Writer<SimDisk>, WalError> {
    let recovered = open(disk, image, incarnation)?;
    let members = recovered.membership.unwrap_or_else(|| membership("n"));
    recovered.opener.begin(IDENTITY, members, recovered.hard_state)
}

/// Writes and syncs.
pub(crate) fn append(writer: &mut Writer<SimDisk>, records: &[Record]) -> Result<(), WalError> {
    writer.write(&batch(records))?;
    writer.sync()?;
    Ok(())
}

/// A use number never falls, and no unit is written twice under one, unless what stood there is the remain of a torn
/// batch that the start after it did not look for: of an earlier write, then, in a segment of which no write after it
/// went on from it.
pub(crate) fn guard_units(disk: &SimDisk) {
    disk.set_guard(Some(Box::new(|path, offset, old, new| {
        let unit_bytes = 4096;
        let from = usize::try_from(offset).expect("a small file");
        let first = from.next_multiple_of(unit_bytes) - from;
        for at in (first..new.len()).step_by(unit_bytes) {
            let number = |bytes: &[u8], from: usize, count: usize| {
                let tag = bytes.get(at + from..at + from + count).expect("tests write whole tags");
                tag.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
            };
            let (was, is) = (number(old, 0, 8), number(new, 0, 8));
            let sequence = |bytes: &[u8]| number(bytes, 8, 4) & !(1 << 31);
            let rising = path.starts_with("image/")
                || is > was
                || (is == 0 && was == 0)
                || (is == was && sequence(new) > sequence(old));
            assert!(rising, "{path}: byte {} of use {was} is overwritten by use {is}", from + at);
        }
    })));
}
