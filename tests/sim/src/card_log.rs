//! What a card has of its node's log, kept apart from the node: from what the driver gave the wal thread and what that
//! said is durable. The core's own books are what the checkers judge by it.

use quorate_raft::{AppendNumber, Raft};
use quorate_types::{HardState, Index, NodeId, Position, Term};
use quorate_wal::Record;
use quorated::wal_worker::AppendRequest;
use std::collections::VecDeque;

/// A node's log as its card has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CardLog {
    hard_state: HardState,
    base: Position,
    /// Of the entries after the base, in order.
    terms: Vec<Term>,
    /// Given to the wal thread, and not said to be durable.
    given: VecDeque<Given>,
    /// The newest image on the card stands for everything up to there.
    pub(crate) image: Index,
}

/// A step of the log, as far as it matters here.
#[derive(Debug, Clone, Copy)]
enum Given {
    HardState(HardState),
    Truncate(Index),
    Reset(Position),
    Entry(Position),
    /// With the step before it that append is whole.
    End(AppendNumber),
}

impl CardLog {
    /// As a start found it.
    pub(crate) fn recovered(core: &Raft) -> CardLog {
        let base = core.base();
        let indexes = base.index.0 + 1..=core.last().index.0;
        let terms = indexes.map(|index| core.position_of(Index(index)).unwrap_or_default());
        CardLog {
            hard_state: core.hard_state(),
            base,
            terms: terms.collect(),
            given: VecDeque::new(),
            image: core.applied(),
        }
    }

    /// The wal thread is given that. If it takes back a tail: whether some of that is still on its way to the card.
    pub(crate) fn give(&mut self, request: &AppendRequest) -> Option<bool> {
        let mut taken_back = None;
        for record in request.records() {
            let step = match record {
                Record::HardState(hard_state) => Given::HardState(*hard_state),
                Record::Truncate { last, .. } => Given::Truncate(last.index),
                Record::Reset { position } => Given::Reset(*position),
                Record::Entry(entry) => Given::Entry(entry.position),
                Record::CommitHint(_)
                | Record::ImageMark { .. }
                | Record::Start(_)
                | Record::Membership(_)
                | Record::Seal => continue,
            };
            if let Given::Truncate(last) = step {
                taken_back =
                    Some(self.given.iter().any(|given| matches!(given, Given::Entry(at) if at.index > last)));
            }
            self.given.push_back(step);
        }
        self.given.extend(request.number().map(Given::End));
        taken_back
    }

    /// The wal thread says that all up to that append is durable.
    pub(crate) fn told(&mut self, number: AppendNumber) {
        while let Some(step) = self.given.pop_front() {
            match step {
                Given::HardState(hard_state) => self.hard_state = hard_state,
                Given::Truncate(last) => self.truncate(last),
                Given::Reset(position) => {
                    self.base = position;
                    self.terms.clear();
                }
                Given::Entry(at) => {
                    self.truncate(Index(at.index.0 - 1));
                    self.terms.push(at.term);
                }
                Given::End(ended) if ended >= number => return,
                Given::End(_) => {}
            }
        }
    }

    /// The term that is durable.
    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Whether that vote can never be forgotten: it is durable, or its term is over.
    pub(crate) fn keeps_vote(&self, term: Term, vote: NodeId) -> bool {
        self.hard_state.term > term || self.hard_state == HardState { term, vote: Some(vote) }
    }

    /// Whether that is on the card, in the log or in an image.
    pub(crate) fn holds(&self, at: Position) -> bool {
        at.index <= self.image || self.term_at(at.index) == Some(at.term)
    }

    /// Whether the card's log reaches so far, or an image does.
    pub(crate) fn reaches(&self, index: Index) -> bool {
        index <= self.image || index <= self.last()
    }

    /// What a start found on the card has all that was durable: nothing that was promised is forgotten.
    pub(crate) fn has_survived_in(&self, core: &Raft) -> Result<(), String> {
        let found = core.hard_state();
        let is_vote_kept = found.term > self.hard_state.term
            || found.term == self.hard_state.term
                && (self.hard_state.vote.is_none() || found.vote == self.hard_state.vote);
        if !is_vote_kept {
            return Err(format!(
                "term and vote were durable as {:?}, a start found {found:?}",
                self.hard_state
            ));
        }
        if core.last().index.max(core.applied()) < self.image {
            return Err(format!("an image up to {} was durable, a start found {}", self.image, core.last()));
        }
        let base = core.base();
        if self.term_at(base.index).is_none_or(|term| term != base.term) {
            // An image of others stands in the log's place.
            return Ok(());
        }
        // What was about to be taken back may be gone.
        let bound = |given: &Given| match given {
            Given::Truncate(last) => Some(*last),
            Given::Reset(_) => Some(Index(0)),
            Given::Entry(at) => Some(Index(at.index.0 - 1)),
            Given::HardState(_) | Given::End(_) => None,
        };
        let kept = self.given.iter().filter_map(bound).min().unwrap_or(Index(u64::MAX)).min(self.last());
        for index in (base.index.0 + 1..=kept.0).map(Index) {
            if core.position_of(index) != self.term_at(index) {
                return Err(format!(
                    "an entry of term {:?} was durable at {index}, a start found {:?} there",
                    self.term_at(index),
                    core.position_of(index)
                ));
            }
        }
        Ok(())
    }

    fn last(&self) -> Index {
        Index(self.base.index.0 + u64::try_from(self.terms.len()).expect("a log fits memory"))
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let place = index.0.checked_sub(self.base.index.0 + 1)?;
        self.terms.get(usize::try_from(place).ok()?).copied()
    }

    fn truncate(&mut self, last: Index) {
        let count = last.0.saturating_sub(self.base.index.0);
        self.terms.truncate(usize::try_from(count).expect("a log fits memory"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{Append, LogChange};
    use quorate_types::{Entry, EntryKind};

    fn at(index: u64, term: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }

    fn give(log: &mut CardLog, number: u64, change: LogChange, entries: &[Position]) -> Option<bool> {
        let entry = |position: &Position| Entry {
            position: *position,
            kind: EntryKind::Command,
            payload: std::sync::Arc::from([]),
        };
        let append = Append {
            number: AppendNumber(number),
            hard_state: Some(HardState { term: Term(number), vote: Some(NodeId(number)) }),
            membership: None,
            change,
            entries: entries.iter().map(entry).collect(),
            committed: Index(0),
        };
        AppendRequest::parts_of(append).iter().find_map(|part| log.give(part))
    }

    #[test]
    fn nothing_is_on_the_card_before_it_is_said_to_be() {
        let mut log = CardLog::default();
        assert_eq!(give(&mut log, 1, LogChange::None, &[at(1, 1), at(2, 1), at(3, 1)]), None);
        let back = LogChange::Truncate { last: at(1, 1), leader_term: Term(2) };
        assert_eq!(give(&mut log, 2, back, &[at(2, 2)]), Some(true), "it takes back what is on its way");
        assert!(!log.reaches(Index(1)) && log.term() == Term(0));
        log.told(AppendNumber(1));
        assert!(log.holds(at(3, 1)) && !log.holds(at(2, 2)), "a late ack covers what it was for");
        assert!(log.keeps_vote(Term(1), NodeId(1)) && !log.keeps_vote(Term(1), NodeId(2)));
        log.told(AppendNumber(2));
        assert!(log.holds(at(1, 1)) && log.holds(at(2, 2)) && !log.reaches(Index(3)));
        assert!(log.keeps_vote(Term(1), NodeId(9)), "that term is over");
        log.image = Index(7);
        assert!(log.holds(at(7, 9)) && !log.reaches(Index(8)));
    }

    #[test]
    fn an_image_in_the_logs_place_ends_it() {
        let mut log = CardLog::default();
        give(&mut log, 1, LogChange::None, &[at(1, 1), at(2, 1)]);
        give(&mut log, 2, LogChange::Reset { position: at(5, 2) }, &[at(6, 2)]);
        log.told(AppendNumber(2));
        assert!(log.holds(at(6, 2)) && log.holds(at(5, 2)) && !log.holds(at(2, 1)));
    }
}
