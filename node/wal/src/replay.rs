//! What the records say, one after the other.

use crate::batch::span_of;
use crate::record::Record;
use crate::segment::Header;
use quorate_types::{Entry, HardState, Index, Membership, Position, Start};

/// The state that records lead to.
#[derive(Debug, Clone)]
pub(crate) struct Replay {
    pub(crate) hard_state: HardState,
    pub(crate) membership: Membership,
    /// Last position before the first of `entries`.
    pub(crate) base: Position,
    pub(crate) entries: Vec<Entry>,
    pub(crate) commit_hint: Index,
    pub(crate) start: Start,
    pub(crate) image_number: u64,
}

/// A record that cannot follow the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An entry's index or term does not follow, or a truncation names a position the log never had.
    Jump,
    /// A start that does not come after the one before (rule 12).
    OlderStart { known: Start, found: Start },
}

impl Replay {
    /// The state as a segment's header has it.
    pub(crate) fn from_header(header: &Header) -> Replay {
        Replay {
            hard_state: header.hard_state,
            membership: header.membership.clone(),
            base: header.base,
            entries: Vec::new(),
            commit_hint: Index(0),
            start: header.start,
            image_number: 0,
        }
    }

    /// Goes on with the next segment, whose header must agree.
    pub(crate) fn enter(&mut self, header: &Header) -> Result<(), Fault> {
        if header.base != self.last() {
            return Err(Fault::Jump);
        }
        self.started(header.start)?;
        self.hard_state = header.hard_state;
        self.membership = header.membership.clone();
        Ok(())
    }

    /// Applies a batch.
    pub(crate) fn apply(&mut self, records: Vec<Record>) -> Result<(), Fault> {
        self.entries.reserve(span_of(&records).map_or(0, |(_, _, count)| count as usize));
        for record in records {
            match record {
                Record::Entry(entry) => {
                    let last = self.last();
                    if entry.position.index != last.index.next() || entry.position.term < last.term {
                        return Err(Fault::Jump);
                    }
                    self.entries.push(entry);
                }
                Record::HardState(hard_state) => self.hard_state = hard_state,
                Record::CommitHint(index) => self.commit_hint = self.commit_hint.max(index),
                Record::Truncate { last, leader_term: _ } => self.truncate(last)?,
                Record::Reset { position } => {
                    self.entries.clear();
                    self.base = position;
                }
                Record::ImageMark { position: _, number } => {
                    self.image_number = self.image_number.max(number)
                }
                Record::Start(start) => self.started(start)?,
                Record::Membership(membership) => self.membership = membership,
                Record::Seal => {}
            }
        }
        Ok(())
    }

    /// Last position of the log.
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }

    /// Term and index of the entry at `index`, if the log knows them.
    pub(crate) fn position_at(&self, index: Index) -> Option<Position> {
        if index == self.base.index {
            return Some(self.base);
        }
        let at = usize::try_from(index.0.checked_sub(self.base.index.0 + 1)?).ok()?;
        self.entries.get(at).map(|entry| entry.position)
    }

    fn truncate(&mut self, last: Position) -> Result<(), Fault> {
        if last.index < self.base.index {
            // The log was read from a later segment on: what it cuts into lies before that.
            self.entries.clear();
            self.base = last;
            return Ok(());
        }
        if self.position_at(last.index) != Some(last) {
            return Err(Fault::Jump);
        }
        let keep = usize::try_from(last.index.0 - self.base.index.0)
            .expect("entries in memory are counted by usize");
        self.entries.truncate(keep);
        Ok(())
    }

    fn started(&mut self, found: Start) -> Result<(), Fault> {
        let known = self.start;
        if found.count < known.count || (found.count == known.count && found.incarnation != known.incarnation)
        {
            return Err(Fault::OlderStart { known, found });
        }
        self.start = found;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::{EntryKind, Term};
    use std::sync::Arc;

    fn at(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn entry(term: u64, index: u64) -> Record {
        Record::Entry(Entry { position: at(term, index), kind: EntryKind::Noop, payload: Arc::from([]) })
    }

    fn replay() -> Replay {
        Replay {
            hard_state: HardState::default(),
            membership: Membership::default(),
            base: at(2, 10),
            entries: Vec::new(),
            commit_hint: Index(0),
            start: Start { count: 4, incarnation: 40 },
            image_number: 0,
        }
    }

    #[test]
    fn what_cannot_follow_is_refused() {
        let jumps = [
            vec![entry(2, 12)],
            vec![entry(2, 10)],
            vec![entry(1, 11)],
            vec![entry(3, 11), entry(2, 12)],
            vec![Record::Truncate { last: at(2, 11), leader_term: Term(3) }],
            vec![entry(3, 11), Record::Truncate { last: at(2, 11), leader_term: Term(4) }],
        ];
        for records in jumps {
            assert_eq!(replay().apply(records.clone()), Err(Fault::Jump), "{records:?}");
        }
        let known = Start { count: 4, incarnation: 40 };
        for found in [Start { count: 3, incarnation: 30 }, Start { count: 4, incarnation: 41 }] {
            assert_eq!(replay().apply(vec![Record::Start(found)]), Err(Fault::OlderStart { known, found }));
        }
        assert_eq!(
            replay().apply(vec![Record::Start(known), Record::Start(Start { count: 9, incarnation: 1 })]),
            Ok(())
        );
    }

    #[test]
    fn a_truncation_may_reach_before_the_segments_read() {
        let mut replay = replay();
        let records =
            vec![entry(3, 11), Record::Truncate { last: at(2, 7), leader_term: Term(4) }, entry(4, 8)];
        replay.apply(records).unwrap();
        assert_eq!((replay.base, replay.last()), (at(2, 7), at(4, 8)));
        assert_eq!(replay.position_at(Index(7)), Some(at(2, 7)));
        assert_eq!(replay.position_at(Index(6)), None);
        replay.apply(vec![Record::Reset { position: at(5, 100) }]).unwrap();
        assert_eq!((replay.last(), replay.entries.len()), (at(5, 100), 0));
    }
}
