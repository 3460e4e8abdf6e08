//! A card: what is synced survives, what is not may.

use quorate_raft::{Append, AppendNumber, LogChange, Restored};
use quorate_types::{Entry, HardState, Index, Membership, NodeId, Position, Start};
use std::collections::{BTreeMap, VecDeque};

/// One node's durable state, and appends on their way to it.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub membership: Membership,
    pub base: Position,
    pub entries: Vec<Entry>,
    pub committed: Index,
    pub image: Option<Image>,
    pub pending: VecDeque<Append>,
    pub seen: BTreeMap<NodeId, Start>,
    /// This node's starts on this card, oldest first.
    pub starts: Vec<Start>,
    /// Appends are acknowledged from then on.
    pub ready_at: u64,
}

/// The whole state at a position.
#[derive(Debug, Clone)]
pub struct Image {
    pub position: Position,
    pub membership: Membership,
    pub digest: u64,
}

impl Disk {
    /// Syncs the oldest append.
    pub fn sync_one(&mut self) -> Option<AppendNumber> {
        let append = self.pending.pop_front()?;
        self.write(&append);
        Some(append.number)
    }

    /// A power cut: of what was on its way the first `kept` appends made it.
    pub fn cut_power(&mut self, kept: usize) {
        for append in std::mem::take(&mut self.pending).into_iter().take(kept) {
            self.write(&append);
        }
    }

    fn write(&mut self, append: &Append) {
        self.hard_state = append.hard_state.unwrap_or(self.hard_state);
        if let Some(membership) = &append.membership {
            assert!(
                membership.version >= self.membership.version,
                "an older membership replaces a newer one"
            );
            self.membership = membership.clone();
        }
        match append.change {
            LogChange::None => {}
            LogChange::Truncate { last, .. } => {
                assert_eq!(self.term_at(last.index), Some(last.term), "the log is cut where it matches");
                let count = usize::try_from(last.index.0 - self.base.index.0).expect("64 bits are enough");
                self.entries.truncate(count);
            }
            LogChange::Reset { position } => {
                self.base = position;
                self.entries.clear();
            }
        }
        for entry in &append.entries {
            assert_eq!(entry.position.index, self.last().index.next(), "the card's log has no gap");
            assert!(entry.position.term <= self.hard_state.term, "a term precedes its entries");
            self.entries.push(entry.clone());
        }
        assert!(append.committed <= self.last().index, "a hint never precedes what it speaks of");
        self.committed = self.committed.max(append.committed);
    }

    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    pub fn term_at(&self, index: Index) -> Option<quorate_types::Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let offset = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.position.term)
    }

    /// Whether a restart would find that entry, or an image beyond it.
    pub fn holds(&self, position: Position) -> bool {
        let is_covered = self.image.as_ref().is_some_and(|image| image.position.index >= position.index);
        is_covered || self.term_at(position.index) == Some(position.term)
    }

    /// Entries after `after`, if the card still has them and the term there.
    pub fn read(&self, after: Index, last: Index) -> Option<(Position, Vec<Entry>)> {
        let term = self.term_at(after)?;
        let span =
            self.entries.iter().filter(|entry| entry.position.index > after && entry.position.index <= last);
        let entries: Vec<Entry> = span.take(3).cloned().collect();
        (!entries.is_empty()).then_some((Position { term, index: after }, entries))
    }

    /// An image was made or received.
    pub fn keep_image(&mut self, image: Image) {
        if self.image.as_ref().is_none_or(|old| old.position.index < image.position.index) {
            self.image = Some(image);
        }
    }

    /// Forgets the log up to the image.
    pub fn trim(&mut self) {
        let Some(image) = &self.image else { return };
        let upto = image.position.index;
        let is_known = self.term_at(upto) == Some(image.position.term);
        if is_known && upto > self.base.index {
            self.base = image.position;
            self.entries.retain(|entry| entry.position.index > upto);
        }
    }

    /// What a restart finds (protocol.md rule 5: an image may lead the log).
    pub fn recover(&self) -> Restored {
        let mut restored = Restored {
            hard_state: self.hard_state,
            membership: self.membership.clone(),
            base: self.base,
            entries: self.entries.clone(),
            committed: self.committed,
            applied: self.base.index,
            seen: self.seen.clone(),
            earlier: self.starts.clone(),
        };
        if let Some(image) = &self.image {
            if image.membership.version > restored.membership.version {
                restored.membership = image.membership.clone();
            }
            if self.term_at(image.position.index) != Some(image.position.term) {
                assert!(image.position.index >= self.base.index, "the log begins below the image");
                restored.base = image.position;
                restored.entries.clear();
            }
            restored.applied = image.position.index;
        }
        restored
    }
}
