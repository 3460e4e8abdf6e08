//! The facts at the log's very end.

use crate::record::Record;
use quorate_types::{HardState, Identity, Membership, Position, Start};

/// What the log says at its very end: the facts a new segment's header needs.
pub(crate) struct Tip {
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    pub(crate) last: Position,
}

impl Tip {
    /// Goes on with some records.
    pub(super) fn follow(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Entry(entry) => {
                    let Position { term, index } = entry.position;
                    assert_eq!(index, self.last.index.next(), "an entry follows the last one");
                    assert!(term >= self.last.term, "terms never fall along the log");
                    self.last = entry.position;
                }
                Record::HardState(hard_state) => {
                    assert!(hard_state.term >= self.hard_state.term, "a term never falls");
                    self.hard_state = *hard_state;
                }
                Record::Truncate { last, leader_term: _ } => {
                    assert!(*last <= self.last, "a truncation does not lengthen the log");
                    self.last = *last;
                }
                Record::Reset { position } => self.last = *position,
                Record::Membership(membership) => self.membership = membership.clone(),
                Record::CommitHint(_) | Record::ImageMark { .. } | Record::Start(_) | Record::Seal => {}
            }
        }
    }

    /// What each start says first.
    pub(crate) fn restated(&self) -> Vec<Record> {
        vec![
            Record::Start(self.start),
            Record::HardState(self.hard_state),
            Record::Membership(self.membership.clone()),
        ]
    }
}
